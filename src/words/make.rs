//! Makes a vocabulary of a list of words.

use std::path::Path;

use wordsight_detection::Vocabulary;
use wordsight_teacher::words::{WordList, make};
use wordsight_teacher::{Caption, EmbedCaptions, TeacherError, TextTeacher};

use super::captions::Captions;
use super::elsewhere::embed_elsewhere;
use super::teacher_folder::teacher_folder;
use crate::threads::Stop;

/// A vocabulary in the space of `teacher`, a student's, beside a stream: what isn't known yet is embedded by another
/// process. `named` is the teacher's folder; without one it is the installed one's. Where all is known, none is needed.
///
/// # Errors
/// When something is to be embedded and there is no teacher, another than the student's, or one that knows nothing of a
/// word.
pub fn make_beside(
    list: &WordList,
    teacher: &str,
    named: Option<&Path>,
    stop: &Stop,
) -> Result<Vocabulary, TeacherError> {
    let folder = teacher_folder(named);
    let mut embed = |captions: &[Caption]| match &folder {
        Ok(folder) => embed_elsewhere(captions, folder, stop),
        Err(none) => Err(TeacherError::Elsewhere(none.to_string())),
    };
    make(list, &mut Captions::of(teacher, folder.as_deref().ok(), &mut embed))
}

/// A vocabulary by the teacher in `folder`, in this process and on all cores.
///
/// # Errors
/// When the teacher can't be opened, or knows nothing of a word.
pub fn make_here(list: &WordList, folder: &Path) -> Result<Vocabulary, TeacherError> {
    let mut teacher = TextTeacher::open(folder)?;
    let id = teacher.id().to_owned();
    let mut embed = |captions: &[Caption]| teacher.vocabulary_of(captions);
    make(list, &mut Captions::of(&id, Some(folder), &mut embed))
}
