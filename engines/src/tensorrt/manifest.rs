//! A plan's manifest: what the plan was built from and for, checked before TensorRT reads the plan.
//!
//! A plan works with one version of TensorRT, one kind of GPU and one model. TensorRT reports a wrong plan vaguely,
//! late, or by crashing. So everything is compared here first, and the error says what differs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Decided, Library, PlanPort, TensorRtError};
use crate::nvidia;

/// The layout of the file that this code writes and reads.
const FORMAT: u32 = 2;

/// Everything that must be equal for a plan to be of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanKey {
    /// Which TensorRT: `TensorRT`, `TensorRT for RTX`.
    pub flavour: String,
    /// Its version, `10.3.0`.
    pub version: String,
    /// Compute capability of the GPU that it is for, `8.7`.
    pub gpu: String,
    /// Operating system and processor, `linux-aarch64`.
    pub platform: String,
    /// The GPU itself and the board that it is on, of a plan whose kernels were chosen by timing them there: plans of one
    /// board are slow or refused on another of the same compute capability. TensorRT for RTX times nothing.
    pub board: Option<String>,
    /// SHA-256 of the model's file.
    pub model_sha256: String,
    /// What it computes in: `fp32`, `tf32`, `fp16`, `int8`.
    pub precision: String,
}

impl PlanKey {
    /// The key of a model's plan, built by `library` for `gpu` (87 for 8.7).
    pub fn new(library: &Library, model: &[u8], precision: &str, gpu: u32) -> Self {
        Self {
            flavour: library.flavour().to_owned(),
            version: library.version(),
            gpu: capability(gpu),
            platform: platform(),
            board: board_for(library),
            model_sha256: sha256(model),
            precision: precision.to_owned(),
        }
    }

    /// The key that this machine would give the same model: of its TensorRT, its platform and, where
    /// there is one, its GPU.
    pub fn here(&self, library: &Library, gpu: Option<u32>) -> Self {
        Self {
            flavour: library.flavour().to_owned(),
            version: library.version(),
            gpu: gpu.map_or_else(|| self.gpu.clone(), capability),
            platform: platform(),
            board: if gpu.is_some() { board_for(library) } else { self.board.clone() },
            ..self.clone()
        }
    }

    /// A short name for a file.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let board = self.board.clone().unwrap_or_default();
        let parts = [
            &self.flavour,
            &self.version,
            &self.gpu,
            &board,
            &self.platform,
            &self.model_sha256,
            &self.precision,
        ];
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hex::encode(&hash.finalize()[..6])
    }

    /// What differs, each with what the plan is and what is wanted.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let board = |key: &Self| key.board.clone().unwrap_or_else(|| "any board".to_owned());
        let pairs = [
            ("it was built by", &self.flavour, &wanted.flavour),
            ("it was built by version", &self.version, &wanted.version),
            ("it is for compute capability", &self.gpu, &wanted.gpu),
            ("it is for", &self.platform, &wanted.platform),
            ("its model's SHA-256 is", &self.model_sha256, &wanted.model_sha256),
            ("it is for the board", &board(self), &board(wanted)),
            ("it computes in", &self.precision, &wanted.precision),
        ];
        pairs
            .into_iter()
            .filter(|(_, is, wanted)| is != wanted)
            .map(|(what, is, wanted)| format!("{what} {is}, not {wanted}"))
            .collect()
    }
}

/// 87 as 8.7.
fn capability(gpu: u32) -> String {
    format!("{}.{}", gpu / 10, gpu % 10)
}

/// The board that a library's plans are bound to.
fn board_for(library: &Library) -> Option<String> {
    if library.builds_for_other_gpus() { None } else { nvidia::board() }
}

fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// The file beside a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// What must be equal for the plan to be of use.
    pub key: PlanKey,
    /// The model's file name.
    pub model: String,
    /// Why it computes in what its key says.
    pub precision_because: String,
    /// The most memory that it may use for scratch, MiB.
    pub workspace_mib: u32,
    /// The plan's inputs.
    pub inputs: Vec<PlanPort>,
    /// The plan's outputs.
    pub outputs: Vec<PlanPort>,
    /// The plan's length in bytes.
    pub plan_bytes: u64,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Which program built it.
    pub built_by: String,
    /// How long that took, seconds.
    pub build_seconds: f64,
}

impl Manifest {
    /// What is known once a plan is built.
    pub(super) fn new(
        key: PlanKey,
        (model, decided): (&str, &Decided),
        workspace_mib: u32,
        (inputs, outputs): (&[PlanPort], &[PlanPort]),
        plan: &[u8],
        build_seconds: f64,
    ) -> Self {
        Self {
            format: FORMAT,
            key,
            model: model.to_owned(),
            precision_because: decided.because.clone(),
            workspace_mib,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            plan_bytes: plan.len() as u64,
            plan_sha256: sha256(plan),
            built_by: concat!("wordsight ", env!("CARGO_PKG_VERSION")).to_owned(),
            build_seconds,
        }
    }

    /// Where a plan's manifest lies: `x.plan.json`.
    pub fn path_of(plan: &Path) -> PathBuf {
        let mut name = plan.as_os_str().to_owned();
        name.push(".json");
        name.into()
    }

    /// Reads the manifest of a plan.
    ///
    /// # Errors
    /// When the plan or its manifest is missing or is not one.
    pub fn read(plan: &Path) -> Result<Self, TensorRtError> {
        let damaged = |reason| TensorRtError::DamagedPlan { path: plan.to_owned(), reason };
        File::open(plan).map_err(|reason| TensorRtError::Unreadable { path: plan.to_owned(), reason })?;
        let path = Self::path_of(plan);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| damaged(format!("its manifest {} cannot be read ({error})", path.display())))?;
        Self::parse(&text, plan)
    }

    /// The manifest that this text is, of a plan that lies there.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str, plan: &Path) -> Result<Self, TensorRtError> {
        let damaged = |reason| TensorRtError::DamagedPlan { path: plan.to_owned(), reason };
        let path = Self::path_of(plan);
        let manifest: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
            .map_err(|error| damaged(format!("{} is no manifest ({error})", path.display())))?;
        match manifest.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(damaged(format!(
                    "its manifest has the format {format}, and this version of wordsight reads {FORMAT}"
                )));
            }
            None => return Err(damaged(format!("{} is no manifest", path.display()))),
        }
        serde_json::from_str(text).map_err(|error| damaged(format!("{} is wrong ({error})", path.display())))
    }

    /// Reads a plan whole and holds it against its manifest's length and hash.
    ///
    /// # Errors
    /// When it can't be read or is another.
    pub fn read_plan(&self, path: &Path) -> Result<Vec<u8>, TensorRtError> {
        let damaged = |reason| TensorRtError::DamagedPlan { path: path.to_owned(), reason };
        let plan = std::fs::read(path)
            .map_err(|reason| TensorRtError::Unreadable { path: path.to_owned(), reason })?;
        if plan.len() as u64 != self.plan_bytes {
            return Err(damaged(format!(
                "it has {} bytes, and its manifest says {}",
                plan.len(),
                self.plan_bytes
            )));
        }
        if sha256(&plan) != self.plan_sha256 {
            return Err(damaged("its bytes are not those that its manifest was written for".to_owned()));
        }
        Ok(plan)
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
