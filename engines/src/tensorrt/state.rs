//! The folder of plans, and who owns what is in it.
//!
//! An engineer builds a plan as root, and the service that runs it is another user. So root's commands use the
//! service's folder, and files that they write there belong to the service's user.

use std::fs::{Metadata, metadata};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// The state directory of the installed service (systemd/wordsight.service).
const SERVICE: &str = "/var/lib/wordsight";

/// The state directory ([`super::PlanStore::default_state`]).
pub(super) fn default_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let executable = std::env::current_exe().unwrap_or_default();
    let user = metadata("/proc/self").map_or(u32::MAX, |own| own.uid());
    variable("STATE_DIRECTORY")
        .or_else(|| of_service(&executable, user, Path::new(SERVICE)))
        .or_else(|| variable("XDG_STATE_HOME").map(|home| home.join("wordsight")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/wordsight")))
        .unwrap_or_else(|| PathBuf::from(SERVICE))
}

/// The service's folder, for those who may write to it, where this program came with the service.
fn of_service(executable: &Path, user: u32, folder: &Path) -> Option<PathBuf> {
    let is_installed = executable.starts_with("/usr/bin");
    let owner = metadata(folder).ok().filter(Metadata::is_dir)?.uid();
    (is_installed && (user == 0 || user == owner)).then(|| folder.to_owned())
}

/// Gives a file to the owner of the folder that it lies in: root's commands write into the service's.
pub(super) fn give_to_owner(path: &Path) {
    let Some(folder) = path.parent().and_then(|folder| metadata(folder).ok()) else { return };
    let is_another_s = metadata(path).is_ok_and(|own| (own.uid(), own.gid()) != (folder.uid(), folder.gid()));
    if is_another_s && let Err(error) = chown(path, Some(folder.uid()), Some(folder.gid())) {
        tracing::debug!(path = %path.display(), %error, "it stays its maker's");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_service_s_folder_is_for_its_installed_program_and_those_who_may_write_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, owner) = (folder.path(), metadata(folder.path()).unwrap().uid());
        let installed = Path::new("/usr/bin/wordsight");
        assert_eq!(of_service(installed, 0, path), Some(path.to_owned()));
        assert_eq!(of_service(installed, owner, path), Some(path.to_owned()));
        assert_eq!(of_service(installed, owner + 1, path), None);
        assert_eq!(of_service(Path::new("/root/wordsight/target/release/wordsight"), 0, path), None);
        assert_eq!(of_service(installed, 0, Path::new("/nowhere")), None);
    }

    #[test]
    fn what_root_writes_is_the_folder_s_owner_s() {
        let folder = tempfile::tempdir().unwrap();
        if chown(folder.path(), Some(1234), Some(1235)).is_err() {
            // Only root gives files away; the others own what they write.
            return;
        }
        let file = folder.path().join("a.plan");
        std::fs::write(&file, "plan").unwrap();
        give_to_owner(&file);
        let owner = metadata(&file).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (1234, 1235));
    }
}
