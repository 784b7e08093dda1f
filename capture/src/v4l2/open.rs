//! Opens a camera's device file, and puts the driver's errors into words.

use std::io;
use std::path::{Path, PathBuf};

use super::device::Device;
use super::offers::list;

/// Opens a device file and makes sure that pictures of one plane come out of it.
pub(super) fn open_device(path: &Path) -> Result<Device, String> {
    let device = Device::open(path).map_err(|error| why_not_opened(path, &error))?;
    let capability = device.capability().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL) => format!("it is no camera; {}", others(path)),
        _ => why_lost(&error),
    })?;
    if capability.captures() && capability.streams() {
        return Ok(device);
    }
    Err(if capability.captures() {
        "its driver has no buffers that can be mapped; try it with gst:v4l2src".to_owned()
    } else if capability.captures_in_planes() {
        format!(
            "its driver gives pictures in several planes, which only GStreamer reads here: \
             gst:v4l2src device={} ! videoconvert ! appsink",
            path.display()
        )
    } else if capability.is_metadata() {
        format!("it carries what a camera tells about its pictures, not the pictures; {}", others(path))
    } else {
        format!("no pictures come out of it; {}", others(path))
    })
}

/// What to try in place of a device.
fn others(path: &Path) -> String {
    let devices = device_files().into_iter().filter(|(device, _)| device != path);
    let devices: Vec<String> =
        devices.map(|(device, name)| format!("{} ({name})", device.display())).collect();
    if devices.is_empty() {
        return "there is no other /dev/video* either: is a camera plugged in?".to_owned();
    }
    format!("there are {}; `wordsight cameras` tells more", list(devices.into_iter()))
}

pub(super) fn why_not_opened(path: &Path, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => format!("there is no such device; {}", others(path)),
        Some(libc::ENODEV | libc::ENXIO) => format!("the device is gone; {}", others(path)),
        Some(libc::EACCES | libc::EPERM) => {
            "it may not be opened by this user: add them to the group `video` (sudo usermod -aG video NAME) and log in \
             again"
                .to_owned()
        }
        Some(libc::EBUSY) => busy(),
        _ => error.to_string(),
    }
}

fn busy() -> String {
    "another program is using it (`fuser -v /dev/video*` names it)".to_owned()
}

pub(super) fn why_not_set_up(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => busy(),
        _ => why_lost(error),
    }
}

pub(super) fn why_not_started(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => busy(),
        Some(libc::ENOSPC) => {
            "its USB port has no room left for these pictures (ENOSPC): ask for smaller ones or for format=mjpg, or plug \
             it in elsewhere"
                .to_owned()
        }
        Some(libc::ENOLINK | libc::EPIPE) => {
            "the parts that its pictures go through are not linked, or not set to one format (see `media-ctl -p`)"
                .to_owned()
        }
        _ => why_lost(error),
    }
}

pub(super) fn why_lost(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENODEV) => "it was unplugged, or its driver was unloaded (ENODEV)".to_owned(),
        Some(libc::EIO) => "its driver has failed (EIO): the camera, its cable or its power".to_owned(),
        Some(libc::EPIPE) => "its driver has ended the stream (EPIPE)".to_owned(),
        Some(libc::EPROTO) => "it doesn't answer as it should (EPROTO): its cable or its power".to_owned(),
        Some(libc::ETIMEDOUT) => "it doesn't answer (ETIMEDOUT)".to_owned(),
        _ => format!("its driver says: {error}"),
    }
}

/// The device files of video, in their order, with what the kernel calls them.
pub(super) fn device_files() -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()).collect();
    numbers.sort_unstable();
    let name = |number| std::fs::read_to_string(format!("/sys/class/video4linux/video{number}/name"));
    let file = |number| {
        let name = name(number).unwrap_or_default();
        (PathBuf::from(format!("/dev/video{number}")), name.trim().to_owned())
    };
    numbers.into_iter().map(file).collect()
}
