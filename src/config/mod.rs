//! The configuration: a user's TOML over the built-in one, as values of the stages' own types.
//!
//! The defaults are not in this code: they are `demo/wordsight.toml`, which is compiled in and documents every key, so that
//! what is documented is what holds. The user's table is laid over that one, and the result deserialised once; a flag puts
//! its value into a field. What a section's keys mean stands with the stage that reads them.
//!
//! Between the file and the flags stands the environment ([`Environment`]), and in the place of secrets the names of
//! systemd's credentials may stand (`credentials`).
//!
//! A path is relative to the file it stands in. For the built-in file that is the `demo` folder of a checkout, looked for
//! under the current directory and above the executable.

mod cameras;
mod credentials;
mod effective;
mod environment;
mod error;
mod keys;
mod load;
mod paths;
mod secrets;
mod values;

pub use cameras::ChosenCameras;
pub use effective::{Effective, Origin};
pub use environment::Environment;
pub use error::ConfigError;
pub use values::Config;

#[cfg(test)]
mod tests;
