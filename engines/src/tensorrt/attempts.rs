//! Notices builds of a plan that were killed: a marker file lies beside a plan while it is built, and a marker that is
//! still there belongs to a build that never finished.
//!
//! On a small Jetson a build is killed when memory runs out, and the next start of the service would build with the
//! same settings and be killed again. So the second build gets little workspace, and a third is not tried before the
//! next boot.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TensorRtError;
use super::state::give_to_owner;

/// Scratch memory of a build after one that was killed, MiB.
const SECOND_WORKSPACE_MIB: u32 = 256;
/// Killed builds after which there is no other.
const MOST: u32 = 2;

/// What the mark says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Builds that have begun and not ended.
    begun: u32,
    /// The system's run that they were in.
    boot: String,
}

/// A build that has begun. Its mark goes when this does, however the build ends, unless the process is killed.
pub(super) struct Attempt {
    mark: PathBuf,
    /// Scratch memory that it is to get, MiB.
    pub workspace_mib: u32,
}

impl Attempt {
    /// Begins a build of the plan at `plan`; the folder's lock is held. `again` is a user's wish that goes before what
    /// was killed.
    ///
    /// # Errors
    /// When too many builds were killed already; when the mark can't be written.
    pub fn begin(plan: &Path, workspace_mib: u32, again: bool, model: &Path) -> Result<Self, TensorRtError> {
        let mark = path_of(plan);
        let killed = if again { 0 } else { killed(&mark) };
        if killed >= MOST {
            let build = format!("wordsight plan build {} --rebuild --workspace 128", model.display());
            return Err(TensorRtError::BuildsKilled { model: model.to_owned(), times: killed, build });
        }
        let workspace_mib = if killed == 0 { workspace_mib } else { workspace_mib.min(SECOND_WORKSPACE_MIB) };
        if killed > 0 {
            tracing::warn!(
                model = %model.display(), workspace_mib,
                "the last build of this plan was killed, most likely for lack of memory: building it with less"
            );
        }
        let text = serde_json::to_vec(&Mark { begun: killed + 1, boot: boot() });
        text.map_err(std::io::Error::from)
            .and_then(|text| fs::write(&mark, text))
            .map_err(|reason| TensorRtError::Unwritable { path: plan.to_owned(), reason })?;
        give_to_owner(&mark);
        Ok(Self { mark, workspace_mib })
    }

    /// A caller that stops the build may not wait for it: then the process wasn't killed for lack of memory.
    pub fn is_to_stop(&self) {
        let _ = fs::remove_file(&self.mark);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.mark);
    }
}

/// How many builds were killed. Those of another boot count for one: it may have been a power cut, and there may be
/// more memory now.
fn killed(mark: &Path) -> u32 {
    let found: Option<Mark> = fs::read(mark).ok().and_then(|text| serde_json::from_slice(&text).ok());
    found.map_or(0, |found| if found.boot == boot() { found.begun } else { found.begun.min(1) })
}

/// This run of the system.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Where the mark of a plan lies: `.x.plan.building`.
fn path_of(plan: &Path) -> PathBuf {
    let name = plan.file_name().unwrap_or_default().to_string_lossy();
    plan.with_file_name(format!(".{name}.building"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn begin(plan: &Path, again: bool) -> Result<Attempt, TensorRtError> {
        Attempt::begin(plan, 512, again, Path::new("student.onnx"))
    }

    #[test]
    fn a_second_build_gets_less_and_a_third_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("a.plan");
        for wanted in [512, SECOND_WORKSPACE_MIB] {
            let attempt = begin(&plan, false).unwrap();
            assert_eq!(attempt.workspace_mib, wanted);
            // As the process is killed.
            std::mem::forget(attempt);
        }
        let told = begin(&plan, false).err().unwrap().to_string();
        assert!(told.contains("2 builds") && told.contains("--rebuild --workspace 128"), "{told}");
        // One that was told to stop counts for nothing, though its process was ended before it did.
        let stopped = begin(&plan, true).unwrap();
        stopped.is_to_stop();
        std::mem::forget(stopped);
        assert_eq!(begin(&plan, false).unwrap().workspace_mib, 512);
        // A user's own wish is tried, and what ends leaves nothing behind.
        drop(begin(&plan, true).unwrap());
        assert_eq!(begin(&plan, false).unwrap().workspace_mib, 512);
    }

    #[test]
    fn killed_builds_of_another_boot_count_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("a.plan");
        fs::write(path_of(&plan), r#"{"begun":2,"boot":"another"}"#).unwrap();
        assert_eq!(begin(&plan, false).unwrap().workspace_mib, SECOND_WORKSPACE_MIB);
        fs::write(path_of(&plan), "cut o").unwrap();
        assert_eq!(begin(&plan, false).unwrap().workspace_mib, 512);
    }
}
