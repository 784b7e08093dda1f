//! GStreamer pipelines for cameras, streams and files.
//!
//! Turns a camera, an address or a file into a [`Description`]: pipelines that end in an appsink, the best one first.
//!
//! On a Jetson one stream has several pipelines to try. decodebin there leaves h264parse out for MP4 files
//! (voyager-sdk#11), and nvvidconv refuses some of what software decoders give: RGB, 4:4:4 and 10 bits. So NVIDIA's
//! decoder is named with its parser first, decodebin follows for what that doesn't take, and videoconvert for what
//! nvvidconv doesn't.

use std::fmt::Write as _;
use std::path::Path;

use super::start::has_element;
use crate::secret::{Secret, StreamUrl};
use crate::uri::CameraRequest;

/// Of what is decoded only the newest is kept, so that a slow stream doesn't hold its decoder up.
const NEWEST: &str = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0";
/// What reads NVIDIA's memory, and gives one of our formats.
const NVVIDCONV: &str = "nvvidconv ! video/x-raw,format=NV12";

/// Pipelines, and what is set on their elements apart: text of a user's needs no quoting there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    /// The first that gives a frame is taken. Each has the same element with the name `source`.
    pub(crate) launches: Vec<String>,
    /// Of the element with the name `source`.
    pub(crate) properties: Vec<(&'static str, Secret)>,
    /// What it takes that a machine may not have: an element, and where it comes from.
    pub(crate) needs: Option<(&'static str, &'static str)>,
}

impl Description {
    fn of(launches: Vec<String>) -> Self {
        Self { launches, properties: Vec::new(), needs: None }
    }
}

/// Which of NVIDIA's elements are there.
#[derive(Debug, Clone, Copy, Default)]
struct Nvidia {
    decodes: bool,
    converts: bool,
}

impl Nvidia {
    fn here() -> Self {
        Self { decodes: has_element("nvv4l2decoder"), converts: has_element("nvvidconv") }
    }
}

/// The codecs that cameras and files mostly have, by the names of their caps, RTP and elements.
const CODECS: [(&str, &str); 2] = [("h264", "H264"), ("h265", "H265")];

/// A user's own pipeline.
pub(crate) fn own_pipeline(launch: &str) -> Description {
    Description::of(vec![launch.to_owned()])
}

/// A network camera. The newest frame is worth more than a whole one: what comes too late is dropped.
pub(crate) fn rtsp_pipeline(url: &StreamUrl, latency_ms: u32) -> Description {
    // Apart from the location, in which some characters would end them.
    let user = url.user.clone().map(|user| ("user-id", user.into()));
    let password = url.password.clone().map(|password| ("user-pw", password));
    Description {
        properties: [Some(("location", url.location.clone())), user, password]
            .into_iter()
            .flatten()
            .collect(),
        needs: Some(("rtspsrc", "Debian's gstreamer1.0-plugins-good")),
        ..Description::of(rtsp_launches(latency_ms, Nvidia::here()))
    }
}

fn rtsp_launches(latency_ms: u32, nvidia: Nvidia) -> Vec<String> {
    let source = format!(
        "rtspsrc name=source latency={latency_ms} drop-on-latency=true timeout=3000000 tcp-timeout=3000000 \
         ! application/x-rtp,media=video"
    );
    let parsed =
        CODECS.map(|(codec, rtp)| format!("{source},encoding-name={rtp} ! rtp{codec}depay ! {codec}parse"));
    launches(&parsed, &source, Some(NEWEST), nvidia)
}

/// A camera on a Jetson's CSI connector, by way of NVIDIA's camera daemon.
pub(crate) fn csi_pipeline(sensor: u32, request: &CameraRequest) -> Description {
    let mut caps = "video/x-raw(memory:NVMM),format=NV12".to_owned();
    push_size_and_rate(&mut caps, request);
    let launch = format!("nvarguscamerasrc sensor-id={sensor} ! {caps} ! {NVVIDCONV} ! {NEWEST} ! appsink");
    let needs = "NVIDIA's L4T, its package nvidia-l4t-gstreamer: a CSI camera needs a Jetson";
    Description { needs: Some(("nvarguscamerasrc", needs)), ..Description::of(vec![launch]) }
}

/// A camera of the kernel's, where this program was built without v4l2, or the camera sends H.264.
pub(crate) fn v4l2_pipeline(request: &CameraRequest) -> Result<Description, String> {
    if !request.controls.is_empty() {
        return Err("controls need a wordsight built with `--features v4l2`".to_owned());
    }
    Ok(Description {
        properties: vec![("device", request.device.display().to_string().into())],
        needs: Some(("v4l2src", "Debian's gstreamer1.0-plugins-good")),
        ..Description::of(v4l2_launches(request, Nvidia::here())?)
    })
}

fn v4l2_launches(request: &CameraRequest, nvidia: Nvidia) -> Result<Vec<String>, String> {
    let mut caps = match request.format.as_deref() {
        None => "video/x-raw".to_owned(),
        Some("mjpg" | "mjpeg" | "jpeg") => "image/jpeg".to_owned(),
        Some("h264") => "video/x-h264".to_owned(),
        Some(raw) => {
            let named = match raw {
                "yuyv" => "YUY2",
                "uyvy" => "UYVY",
                "nv12" => "NV12",
                "yu12" | "i420" => "I420",
                "grey" => "GRAY8",
                "rgb" | "rgb3" => "RGB",
                other => {
                    return Err(format!(
                        "format={other} is none of yuyv, uyvy, nv12, i420, grey, rgb, mjpg, h264"
                    ));
                }
            };
            format!("video/x-raw,format={named}")
        }
    };
    push_size_and_rate(&mut caps, request);
    let source = format!("v4l2src name=source ! {caps}");
    let is_h264 = request.format.as_deref() == Some("h264");
    let parsed: Vec<String> = is_h264.then(|| format!("{source} ! h264parse")).into_iter().collect();
    Ok(launches(&parsed, &source, Some(NEWEST), nvidia))
}

/// A video file, of which no frame is lost.
pub(crate) fn file_pipeline(path: &Path) -> Description {
    let launches = file_launches(path, Nvidia::here());
    let launches = if has_element("videoflip") {
        launches.iter().map(|launch| upright(launch)).collect()
    } else {
        launches
    };
    Description {
        properties: vec![("location", path.display().to_string().into())],
        ..Description::of(launches)
    }
}

/// The same pipeline with frames turned as the file says: a phone records as it is held, and notes how.
fn upright(launch: &str) -> String {
    launch.replace(" ! appsink", " ! videoflip video-direction=auto ! appsink")
}

fn file_launches(path: &Path, nvidia: Nvidia) -> Vec<String> {
    let source = "filesrc name=source";
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let container = match extension.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" | "mov" => Some("qtdemux"),
        "mkv" | "webm" => Some("matroskademux"),
        _ => None,
    };
    let of = |demux| CODECS.map(|(codec, _)| format!("{source} ! {demux} ! video/x-{codec} ! {codec}parse"));
    launches(container.map(of).as_ref().map_or(&[], |parsed| parsed), source, None, nvidia)
}

/// Pipelines for a stream that comes out of `source` in any codec, and out of each of `parsed` in one that NVIDIA's
/// decoder takes. `queue`: what stands behind the decoder.
fn launches(parsed: &[String], source: &str, queue: Option<&str>, nvidia: Nvidia) -> Vec<String> {
    let queue = queue.map_or(String::new(), |queue| format!("{queue} ! "));
    let by_hardware = parsed
        .iter()
        .filter(|_| nvidia.decodes && nvidia.converts)
        .map(|parsed| format!("{parsed} ! nvv4l2decoder ! {queue}{NVVIDCONV} ! appsink"));
    let converters = [NVVIDCONV, "videoconvert"].into_iter().skip(usize::from(!nvidia.converts));
    let by_decodebin =
        converters.map(|converter| format!("{source} ! decodebin ! {queue}{converter} ! appsink"));
    by_hardware.chain(by_decodebin).collect()
}

fn push_size_and_rate(caps: &mut String, request: &CameraRequest) {
    // Writing to a string can't fail.
    if let (Some(width), Some(height)) = (request.width, request.height) {
        let _ = write!(caps, ",width={width},height={height}");
    }
    if let Some(fps) = request.fps {
        // 29.97 is 30000/1001 to a camera: whatever is within a hundredth will do.
        let thousandths = |fps: f64| (fps * 1000.0).round() as u64;
        let (least, most) = (thousandths(fps * 0.99), thousandths(fps * 1.01));
        let _ = write!(caps, ",framerate=[{least}/1000,{most}/1000]");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const JETSON: Nvidia = Nvidia { decodes: true, converts: true };
    const PC: Nvidia = Nvidia { decodes: false, converts: false };

    #[test]
    fn cameras_are_asked_for_their_size_rate_and_format() {
        let request = CameraRequest {
            device: "/dev/video3".into(),
            width: Some(1280),
            height: Some(720),
            fps: Some(29.97),
            format: Some("mjpg".to_owned()),
            controls: Vec::new(),
        };
        let v4l2 = v4l2_pipeline(&request).unwrap();
        assert!(
            v4l2.launches[0]
                .contains("image/jpeg,width=1280,height=720,framerate=[29670/1000,30270/1000] ! decodebin")
        );
        assert_eq!(v4l2.properties, [("device", "/dev/video3".to_owned().into())]);
        let csi = csi_pipeline(1, &request).launches;
        assert!(csi[0].starts_with(
            "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=[29670/1000,30270/1000]"
        ));
        let wrong = CameraRequest { format: Some("h265x".to_owned()), ..request.clone() };
        assert!(v4l2_pipeline(&wrong).unwrap_err().contains("h265x"));
        let controlled = CameraRequest { controls: vec![("gain".to_owned(), 1)], ..request };
        assert!(v4l2_pipeline(&controlled).unwrap_err().contains("--features v4l2"));
    }

    #[test]
    fn without_nvidias_elements_decodebin_is_the_one_way() {
        assert_eq!(
            file_launches(Path::new("a.mp4"), PC),
            ["filesrc name=source ! decodebin ! videoconvert ! appsink"]
        );
        let rtsp = rtsp_launches(100, PC);
        assert!(rtsp.len() == 1 && rtsp[0].contains("media=video ! decodebin ! queue "), "{rtsp:?}");
    }

    #[test]
    fn nvidias_decoder_is_named_with_its_parser_for_each_codec_and_decodebin_comes_behind() {
        let rtsp = rtsp_launches(100, JETSON);
        assert_eq!(rtsp.len(), 4);
        for (launch, codec) in rtsp.iter().zip(["264", "265"]) {
            let way = format!(
                "encoding-name=H{codec} ! rtph{codec}depay ! h{codec}parse ! nvv4l2decoder ! {NEWEST} ! {NVVIDCONV} ! appsink"
            );
            assert!(launch.ends_with(&way), "{launch}");
        }
        assert!(rtsp[2].ends_with(&format!("decodebin ! {NEWEST} ! {NVVIDCONV} ! appsink")), "{}", rtsp[2]);
        assert!(rtsp[3].ends_with(&format!("decodebin ! {NEWEST} ! videoconvert ! appsink")), "{}", rtsp[3]);

        let mp4 = file_launches(Path::new("A.MP4"), JETSON);
        assert!(
            mp4[0].starts_with("filesrc name=source ! qtdemux ! video/x-h264 ! h264parse ! nvv4l2decoder")
        );
        assert!(
            file_launches(Path::new("a.mkv"), JETSON)[1].contains("matroskademux ! video/x-h265 ! h265parse")
        );
        assert_eq!(file_launches(Path::new("a.avi"), JETSON).len(), 2, "of an unknown container: decodebin");

        let h264 = CameraRequest { format: Some("h264".to_owned()), ..CameraRequest::default() };
        let camera = v4l2_launches(&h264, JETSON).unwrap();
        assert!(camera[0].contains("video/x-h264 ! h264parse ! nvv4l2decoder"), "{}", camera[0]);
        assert_eq!(v4l2_launches(&CameraRequest::default(), JETSON).unwrap().len(), 2);
    }
}
