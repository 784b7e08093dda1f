//! `wordsight cameras`: lists cameras, and the URI to write for each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wordsight_capture::cameras::{Camera, Rate, Size, cameras, name_of};

use super::print::print;

/// Lists the cameras of the kernel's (v4l2://): their formats, sizes and rates, and the source to write for each.
#[derive(Debug, Args)]
pub struct CamerasArgs {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct CameraLine<'a> {
    device: String,
    card: &'a str,
    driver: &'a str,
    bus: &'a str,
    uri: &'a str,
    problem: Option<&'a str>,
    formats: Vec<FormatLine>,
}

#[derive(Serialize)]
struct FormatLine {
    format: String,
    sizes: Vec<SizeLine>,
}

/// A size or, from `width` and `height` up to `max_width` and `max_height`, a range.
#[derive(Serialize)]
struct SizeLine {
    width: u32,
    height: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_height: Option<u32>,
    /// Frames a second; of a range its ends.
    fps: Vec<f64>,
}

impl CamerasArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let cameras = cameras();
        if self.json {
            let lines: Vec<CameraLine> = cameras.iter().map(line_of).collect();
            print(&(serde_json::to_string_pretty(&lines)? + "\n"))?;
        } else if cameras.is_empty() {
            print(
                &"There is no camera of the kernel's (no /dev/video* that gives pictures). Is it plugged in, and does `lsusb` \
                 or `dmesg` know it? Inside a container it has to be handed in: --device /dev/video0. A camera on a \
                 Jetson's CSI connector is csi://0.\n",
            )?;
        } else {
            print(&cameras.iter().map(text_of).collect::<String>())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line_of(camera: &Camera) -> CameraLine<'_> {
    let formats = camera.offers.iter().map(|offer| FormatLine {
        format: name_of(offer.fourcc),
        sizes: offer.sizes.iter().map(|offer| size_line(&offer.size, &offer.rates)).collect(),
    });
    CameraLine {
        device: camera.device.display().to_string(),
        card: &camera.card,
        driver: &camera.driver,
        bus: &camera.bus,
        uri: &camera.uri,
        problem: camera.problem.as_deref(),
        formats: formats.collect(),
    }
}

fn size_line(size: &Size, rates: &[Rate]) -> SizeLine {
    let fps = rates.iter().flat_map(|rate| match *rate {
        Rate::Range(least, best) => vec![least, best],
        Rate::Exact { .. } => vec![rate.best()],
    });
    let fps = fps.collect();
    match *size {
        Size::Exact(width, height) => SizeLine { width, height, max_width: None, max_height: None, fps },
        Size::Range { min, max, .. } => {
            SizeLine { width: min.0, height: min.1, max_width: Some(max.0), max_height: Some(max.1), fps }
        }
    }
}

/// A camera in a few lines: its name, what to write for it, and a line for formats that have the same sizes and rates.
fn text_of(camera: &Camera) -> String {
    let mut text = String::new();
    let Camera { device, card, driver, bus, uri, .. } = camera;
    let place: Vec<&str> = [driver.as_str(), bus].into_iter().filter(|part| !part.is_empty()).collect();
    let _ = writeln!(text, "{}  {card} ({})", device.display(), place.join(", "));
    match &camera.problem {
        Some(problem) => _ = writeln!(text, "    {problem}"),
        None => _ = writeln!(text, "    {uri}"),
    }
    let mut formats: BTreeMap<usize, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for offer in &camera.offers {
        let sizes: Vec<String> = offer
            .sizes
            .iter()
            .map(|offer| {
                let rates: Vec<String> = offer.rates.iter().map(Rate::to_string).collect();
                let at = if rates.is_empty() { "" } else { " at " };
                format!("{}{at}{}", offer.size, rates.join(", "))
            })
            .collect();
        let place = formats.values().position(|(_, others)| *others == sizes).unwrap_or(formats.len());
        formats.entry(place).or_insert_with(|| (Vec::new(), sizes)).0.push(name_of(offer.fourcc));
    }
    for (names, sizes) in formats.values() {
        let _ = writeln!(text, "    {}", names.join(", "));
        for size in sizes {
            let _ = writeln!(text, "        {size}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use wordsight_capture::cameras::{Offer, SizeOffer};

    #[test]
    fn a_camera_is_told_with_what_to_write_for_it_and_formats_of_the_same_sizes_together() {
        let sizes = |fps| {
            let rates = vec![Rate::Exact { numerator: 1, denominator: fps }];
            vec![SizeOffer { size: Size::Exact(640, 480), rates }]
        };
        let camera = Camera {
            device: "/dev/video0".into(),
            card: "Webcam".into(),
            driver: "uvcvideo".into(),
            bus: "usb-1".into(),
            offers: vec![
                Offer { fourcc: *b"MJPG", sizes: sizes(60) },
                Offer { fourcc: *b"YUYV", sizes: sizes(30) },
                Offer { fourcc: *b"NV12", sizes: sizes(30) },
            ],
            uri: "v4l2:///dev/video0?format=yuyv".into(),
            problem: None,
        };
        assert_eq!(
            text_of(&camera),
            "/dev/video0  Webcam (uvcvideo, usb-1)\n    v4l2:///dev/video0?format=yuyv\n    mjpg\n        640x480 at 60\n    \
             yuyv, nv12\n        640x480 at 30\n"
        );
        let line = serde_json::to_value(line_of(&camera)).unwrap();
        assert_eq!(line["formats"][1]["sizes"][0]["fps"][0], 30.0);
    }
}
