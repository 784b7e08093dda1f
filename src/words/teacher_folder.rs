//! Where the teacher's text half lies.

use std::path::{Path, PathBuf};

/// The folder of a package's teacher, under `share/wordsight` of the prefix.
const FOLDER: &str = "teacher";

/// No teacher, where one is needed.
#[derive(Debug, thiserror::Error)]
#[error(
    "words are embedded by a teacher's text model, and none is installed: install the package \
     wordsight-teacher-standin, or name the folder of your student's teacher as `teacher` in the configuration or by \
     `--teacher`"
)]
pub struct NoTeacher;

/// A folder that a package has installed beside this program: `../share/wordsight/NAME` of the executable.
pub(super) fn installed(name: &str) -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let folder = executable.ancestors().nth(2)?.join("share/wordsight").join(name);
    folder.is_dir().then_some(folder)
}

/// The teacher's folder that is named, or else the installed one.
///
/// # Errors
/// When none is named and none is installed.
pub fn teacher_folder(named: Option<&Path>) -> Result<PathBuf, NoTeacher> {
    named.map(Path::to_owned).or_else(|| installed(FOLDER)).ok_or(NoTeacher)
}
