//! Opens a source and prints its first frames:
//!
//!     cargo run -p wordsight-capture --example frames -- 'test://bars?width=640&height=480'
#![allow(missing_docs)]

use wordsight_capture::{CaptureError, Captured, Frame, SourceUri, StreamSettings};

fn main() -> Result<(), CaptureError> {
    let uri = std::env::args().nth(1).unwrap_or("test://bars".to_owned());
    let uri = SourceUri::parse(&uri)?;
    let mut source = uri.open(&StreamSettings { latency_ms: 100 })?;
    let mut frame = Frame::default();
    let mut count = 0;
    while count < 5 {
        match source.capture(&mut frame) {
            Ok(Captured::Frame) => {
                count += 1;
                println!("{} {}x{} {:?}", frame.source, frame.width, frame.height, frame.format);
            }
            Ok(Captured::NotYet) => {}
            Ok(Captured::End) => break,
            Err(error @ CaptureError::Lost { .. }) => return Err(error),
            // Of this frame alone.
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
