//! Lists the V4L2 cameras of this machine.
//!
//! Looks at the device files and gives [`Camera`]s. A webcam has several device files, and pictures come out of only
//! one of them; the others are left out here. A camera that can't be
//! opened is listed with the reason.

use std::path::{Path, PathBuf};

use super::device::Device;
use super::offers::{Offer, Rate, choose};
use super::open::{device_files, open_device, why_not_opened, why_not_set_up};
use crate::uri::CameraRequest;

/// A camera of this machine.
#[derive(Debug)]
pub struct Camera {
    /// Its device file.
    pub device: PathBuf,
    /// What its driver calls it.
    pub card: String,
    /// The driver.
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// What it has; none when it can't be used.
    pub offers: Vec<Offer>,
    /// What to write for it: its present size in the format that is taken for it, at the best rate of that.
    pub uri: String,
    /// Why it can't be used.
    pub problem: Option<String>,
}

/// The cameras of this machine, those that can't be used too.
pub fn cameras() -> Vec<Camera> {
    device_files().into_iter().filter_map(|(path, name)| camera(&path, &name)).collect()
}

fn camera(path: &Path, name: &str) -> Option<Camera> {
    let uri = format!("v4l2://{}", path.display());
    let unknown = Camera {
        device: path.to_path_buf(),
        card: name.to_owned(),
        driver: String::new(),
        bus: String::new(),
        offers: Vec::new(),
        uri,
        problem: None,
    };
    match Device::open(path).map(|device| device.capability()) {
        Ok(Ok(found)) if found.captures() || found.captures_in_planes() => {
            let known = Camera { card: found.card, driver: found.driver, bus: found.bus, ..unknown };
            Some(match open_device(path) {
                Ok(device) => with_offers(known, &device),
                Err(problem) => Camera { problem: Some(problem), ..known },
            })
        }
        // Out of these come no pictures.
        Ok(_) => None,
        Err(error) => Some(Camera { problem: Some(why_not_opened(path, &error)), ..unknown }),
    }
}

fn with_offers(camera: Camera, device: &Device) -> Camera {
    let now = match device.format() {
        Ok(now) => (now.width, now.height),
        Err(error) => return Camera { problem: Some(why_not_set_up(&error)), ..camera },
    };
    let offers = device.offers(Some(now));
    match choose(&offers, now, &CameraRequest::default()) {
        Ok(choice) => {
            let (width, height) = choice.size;
            let of_format = offers.iter().filter(|offer| offer.fourcc == choice.format.fourcc);
            let of_size =
                of_format.flat_map(|offer| &offer.sizes).filter(|offer| offer.size.holds(choice.size));
            let best = of_size.flat_map(|offer| &offer.rates).map(|rate: &Rate| rate.best()).reduce(f64::max);
            let fps = best.map_or(String::new(), |best| format!("&fps={}", (best * 100.0).round() / 100.0));
            let format = choice.format.name();
            let uri = format!("{}?format={format}&width={width}&height={height}{fps}", camera.uri);
            Camera { offers, uri, ..camera }
        }
        Err(problem) => Camera { offers, problem: Some(problem), ..camera },
    }
}
