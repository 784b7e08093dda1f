//! JSON with indented objects and lists on one line.
//!
//! Objects are indented and lists are not. A report has columns of thousands of numbers, and a line for each would bury
//! what one looks for in the file.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Writes a value to a file, whole or not at all, or for `-` to the standard output.
pub(super) fn write(value: &impl Serialize, path: &Path) -> io::Result<()> {
    crate::files::write_result(path, |output| write_to(output, value))
}

fn write_to(output: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let layout = ObjectsOnly(PrettyFormatter::new());
    value.serialize(&mut Serializer::with_formatter(&mut *output, layout))?;
    output.write_all(b"\n")
}

/// Indents objects; lists are as serde_json writes them by default, on one line.
struct ObjectsOnly(PrettyFormatter<'static>);

impl Formatter for ObjectsOnly {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_are_indented_and_lists_stay_on_a_line() {
        let mut text = Vec::new();
        write_to(&mut text, &serde_json::json!({ "a": { "b": [1, 2, 3], "c": {} }, "d": [] })).unwrap();
        let expected = "{\n  \"a\": {\n    \"b\": [1,2,3],\n    \"c\": {}\n  },\n  \"d\": []\n}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
