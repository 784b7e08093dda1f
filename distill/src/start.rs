//! The student before any training: its region head is the backbone's own classifier with the names of its classes.

use anyhow::{Result, ensure};
use burn::tensor::Device;
use wordsight_standin::class_names;
use wordsight_standin::efficientnet::{EfficientNetLite, Weights};
use wordsight_teacher::{EmbedCaptions, TextTeacher, words};

use crate::student::{Head, Student, StudentConfig};

/// A student as it is before training. Its region head mixes the teacher's text embeddings of the
/// 1,000 ImageNet class names, so it speaks the language of whichever teacher embeds them.
pub fn untrained(
    backbone: &Weights,
    sizes: &StudentConfig,
    teacher: &mut TextTeacher,
    device: &Device,
) -> Result<Student> {
    let classifier = EfficientNetLite::LITE0.classifier(backbone)?;
    let names = class_names();
    ensure!(
        names.len() == classifier.classes,
        "the backbone knows {} classes, the list names {}",
        classifier.classes,
        names.len()
    );
    let embeddings = embed_names(&names, teacher)?;
    Student::new(sizes, backbone, &embeddings, device)
}

/// The student with a region head that starts from nothing instead of its own; `words`: how many a
/// supervised one learns vectors of.
pub fn with_fresh_head(
    student: Student,
    config: &StudentConfig,
    backbone: &Weights,
    head: Head,
    words: usize,
) -> Result<Student> {
    let convolution = EfficientNetLite::LITE0.head_convolution(backbone)?;
    let device = student.device();
    Ok(student.with_fresh_head(config, &convolution, head, words, &device))
}

/// Text embeddings of names by the default prompts, in their order, L2-normalised.
pub fn embed_names(names: &[String], teacher: &mut TextTeacher) -> Result<Vec<Vec<f32>>> {
    let names: Vec<(&str, &[String])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    Ok(teacher.embed_words(&words::default_prompts(), &names)?)
}
