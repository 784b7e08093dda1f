//! What a training runs on: the processor, or with the feature `cuda` an NVIDIA GPU. The code is the same.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use burn::tensor::Device;
use wordsight_engines::Placement;

/// Where a training computes; `cpu`, `cuda` or `cuda:N` on a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainDevice {
    /// All cores of the processor.
    #[default]
    Cpu,
    /// One NVIDIA GPU, by its number.
    Cuda(usize),
}

impl TrainDevice {
    /// The device, with gradients.
    ///
    /// # Errors
    ///
    /// When it is a GPU and the program was built without the feature `cuda`, or the machine lacks the CUDA driver,
    /// NVRTC, CUDA's headers or a GPU of that number.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex().autodiff()),
            Self::Cuda(number) => cuda(number),
        }
    }
}

/// Workers that share a GPU: one decodes while the other's picture is computed.
const WORKERS_ON_GPU: usize = 2;

impl TrainDevice {
    /// Where ONNX Runtime computes for each of some workers: on a thread of the processor each, or on a GPU together.
    pub fn placements(self, workers: usize) -> Vec<Placement> {
        match self {
            Self::Cpu => vec![Placement::Processor { threads: 1 }; workers],
            Self::Cuda(device) => vec![Placement::Cuda { device }; WORKERS_ON_GPU],
        }
    }
}

impl fmt::Display for TrainDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl FromStr for TrainDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.split_once(':') {
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => Some(0),
            Some(("cuda", number)) => number.parse().ok(),
            _ => None,
        };
        number.map(Self::Cuda).ok_or_else(|| "it is cpu, cuda or cuda:N with the GPU's number".to_owned())
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_number: usize) -> Result<Device> {
    bail!("this program was built without CUDA: build it with `--features cuda`, or train with --device cpu")
}

/// Burn panics without a driver, and again for every tensor after: so everything is looked for beforehand.
#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device> {
    let devices = wordsight_engines::nvidia::gpus()
        .map_err(|error| anyhow::anyhow!("{error}: install it, or train with --device cpu"))?
        .len();
    if number >= devices {
        bail!("there is no GPU {number}: the CUDA driver sees {devices}; name another with --device cuda:N");
    }
    let nvrtc = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"];
    // SAFETY: NVRTC's initialisers have no demands.
    if nvrtc.iter().all(|name| unsafe { libloading::Library::new(*name) }.is_err()) {
        bail!(
            "NVRTC (libnvrtc.so) is not on the loader's path: install CUDA's toolkit, or train with --device cpu"
        );
    }
    let toolkit =
        std::env::var_os("CUDA_PATH").map_or_else(|| "/usr/local/cuda".into(), std::path::PathBuf::from);
    if !toolkit.join("include/cuda_runtime.h").is_file() {
        bail!(
            "CUDA's headers are not in {}: install CUDA's toolkit and set CUDA_PATH to its folder, or train with \
             --device cpu",
            toolkit.join("include").display()
        );
    }
    Ok(Device::cuda(number).autodiff())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [TrainDevice::Cpu, TrainDevice::Cuda(0), TrainDevice::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(TrainDevice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "cuda:0:1"] {
            assert!(wrong.parse::<TrainDevice>().is_err(), "{wrong}");
        }
    }
}
