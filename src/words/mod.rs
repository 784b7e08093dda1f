//! Vocabularies made on the device, from words.
//!
//! Makes a vocabulary of words (a words.toml, or a list in the configuration) with the text half of a teacher. What a
//! teacher has embedded once is kept, caption by caption, in the state directory: a second start and a change of
//! thresholds take no teacher at all, and one more word takes that word's captions. Beside a stream the teacher runs in
//! a process of its own, which gives all of its memory back and is the first to go where memory runs out.

mod captions;
mod elsewhere;
mod make;
mod packs;
mod teacher_folder;

pub use elsewhere::answer;
pub use make::{make_beside, make_here};
pub use packs::Pack;
pub use teacher_folder::teacher_folder;
