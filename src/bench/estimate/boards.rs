//! Peak figures of boards, from NVIDIA's data sheets.
//!
//! A multiprocessor of an Orin's GPU multiplies and adds so much a clock without sparsity, on tensor cores: 2048 in INT8
//! (an AGX Orin's 85 TOPS without sparsity are 2 x 2048 x 16 x 1.3 GHz), half in FP16, half of that in TF32; on its own
//! arithmetic: 128 in FP32, twice in FP16, four times in INT8.

use clap::ValueEnum;
use serde::Serialize;

use super::kernels::Unit;

/// A board with its clocks locked at their highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Board {
    /// Jetson Orin Nano 8GB in 15W
    OrinNano,
    /// Jetson Orin Nano 8GB in MAXN_SUPER
    OrinNanoSuper,
    /// Jetson Orin NX 16GB in MAXN
    OrinNx,
    /// Jetson AGX Orin 64GB in MAXN
    AgxOrin,
}

/// What it can do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Its name.
    pub name: &'static str,
    /// The GPU's multiprocessors.
    pub multiprocessors: u32,
    /// The GPU's clock, MHz.
    pub gpu_mhz: u32,
    /// The memory's bandwidth, GB/s.
    pub memory_gb_s: f64,
}

impl Board {
    /// What it can do.
    pub fn limits(self) -> Limits {
        let of = |name, multiprocessors, gpu_mhz, memory_gb_s| Limits {
            name,
            multiprocessors,
            gpu_mhz,
            memory_gb_s,
        };
        match self {
            Self::OrinNano => of("Jetson Orin Nano 8GB, 15W", 8, 625, 68.0),
            Self::OrinNanoSuper => of("Jetson Orin Nano 8GB, MAXN_SUPER", 8, 1020, 102.0),
            Self::OrinNx => of("Jetson Orin NX 16GB, MAXN", 8, 918, 102.4),
            Self::AgxOrin => of("Jetson AGX Orin 64GB, MAXN", 16, 1300, 204.8),
        }
    }
}

/// What a student computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Precision {
    /// FP32, whose products tensor cores take in TF32.
    #[serde(rename = "tf32")]
    Tf32,
    /// FP16.
    #[serde(rename = "fp16")]
    Fp16,
    /// INT8, everywhere.
    #[serde(rename = "int8")]
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tf32, Self::Fp16, Self::Int8];

    /// What a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tf32 => "FP32 (TF32)",
            Self::Fp16 => "FP16",
            Self::Int8 => "INT8, if all fuses",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Tf32 => 4,
            Self::Fp16 => 2,
            Self::Int8 => 1,
        }
    }
}

impl Limits {
    /// Multiplications a second, at most.
    pub fn macs_per_second(&self, unit: Unit, precision: Precision) -> f64 {
        let a_clock: u32 = match (unit, precision) {
            (Unit::Tensor, Precision::Tf32) => 512,
            (Unit::Tensor, Precision::Fp16) => 1024,
            (Unit::Tensor, Precision::Int8) => 2048,
            (Unit::Vector, Precision::Tf32) => 128,
            (Unit::Vector, Precision::Fp16) => 256,
            (Unit::Vector, Precision::Int8) => 512,
        };
        f64::from(a_clock) * f64::from(self.multiprocessors) * f64::from(self.gpu_mhz) * 1e6
    }
}
