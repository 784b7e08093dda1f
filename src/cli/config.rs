//! `wordsight config`: the effective configuration, and where each value comes from.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::print::print;
use crate::config::{Config, Effective, Origin};

/// Prints the configuration that holds: every key, with the value of the environment, the file, or else the built-in one.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML); without it the built-in one holds
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print it as JSON, with the origin of each value
    #[arg(long)]
    json: bool,
}

impl ConfigArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let effective = Config::effective(self.config.as_deref())?;
        if self.json {
            print(&(serde_json::to_string_pretty(&as_json(&effective))? + "\n"))?;
        } else {
            print(&as_toml(&effective, self.config))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_toml(effective: &[Effective], file: Option<PathBuf>) -> String {
    let mut text = match file {
        Some(file) => format!("# Values of {} are marked; all others are built in.\n", file.display()),
        None if effective.iter().all(|key| key.origin == Origin::BuiltIn) => {
            "# All values are built in.\n".to_owned()
        }
        None => "# Values of the environment are marked; all others are built in.\n".to_owned(),
    };
    let mut place = ("", None);
    // Writing to a string cannot fail.
    for key in effective {
        if (key.section, key.table) != place {
            place = (key.section, key.table);
            let _ = match key.table {
                None => writeln!(text, "\n[{}]", key.section),
                Some(_) => writeln!(text, "\n[[{}]]", key.section),
            };
        }
        let _ = match (&key.value, key.origin) {
            (Some(value), Origin::Environment) => {
                writeln!(text, "{} = {value}  # of the environment", key.name)
            }
            (Some(value), Origin::File) => writeln!(text, "{} = {value}  # of the file", key.name),
            (Some(value), Origin::BuiltIn) => writeln!(text, "{} = {value}", key.name),
            (None, _) => writeln!(text, "# {} is not set", key.name),
        };
    }
    text
}

fn as_json(effective: &[Effective]) -> serde_json::Value {
    let mut sections = serde_json::Map::new();
    for key in effective {
        let origin = match (key.origin, &key.value) {
            (_, None) => "not set",
            (Origin::Environment, _) => "environment",
            (Origin::File, _) => "file",
            (Origin::BuiltIn, _) => "built in",
        };
        let entry = json!({ "value": key.value, "from": origin });
        let place = match key.table {
            None if key.section.is_empty() => &mut sections,
            None => {
                let section = sections.entry(key.section).or_insert_with(|| json!({}));
                let serde_json::Value::Object(section) = section else { continue };
                section
            }
            Some(number) => {
                let tables = sections.entry(key.section).or_insert_with(|| json!([]));
                let serde_json::Value::Array(tables) = tables else { continue };
                tables.resize(tables.len().max(number + 1), json!({}));
                let serde_json::Value::Object(table) = &mut tables[number] else { continue };
                table
            }
        };
        place.insert(key.name.to_owned(), entry);
    }
    sections.into()
}
