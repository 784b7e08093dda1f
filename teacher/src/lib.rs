//! The teacher: pictures and words into one embedding space.

pub mod efficientnet;
pub mod pth;
