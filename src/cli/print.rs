//! Printing to the standard output.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints to the standard output. A reader who has seen enough is no error.
pub(super) fn print(what: &impl Display) -> io::Result<()> {
    match write!(io::stdout(), "{what}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
