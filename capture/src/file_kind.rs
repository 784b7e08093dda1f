//! Motion-JPEG by a file's extension.

use std::path::Path;

/// Whether a file's name says that it is a Motion-JPEG stream.
pub fn is_motion_jpeg(path: &Path) -> bool {
    has_extension(path, &["mjpeg", "mjpg"])
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}
