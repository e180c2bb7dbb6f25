//! Printing: tables for people, JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::CliError;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// JSON: one object, or an array.
    Json,
}

/// Where a command prints.
pub struct Output {
    pub format: Format,
    out: Box<dyn Write>,
}

impl Output {
    /// Prints on standard output.
    pub fn stdout(format: Format) -> Self {
        Self { format, out: Box::new(io::stdout()) }
    }

    /// Prints `value`: as JSON, or as the text that `text` makes of it.
    pub fn show<T: Serialize + ?Sized>(&mut self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        let text = match self.format {
            Format::Table => text(value),
            Format::Json => serde_json::to_string_pretty(value).map_err(|error| CliError::Output(error.into()))?,
        };
        self.line(&text)
    }

    /// Prints one line of JSON, for outputs that go on.
    pub fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
        self.line(&text)
    }

    /// Says that `what` was done; programs get an empty object.
    pub fn done(&mut self, what: &str) -> Result<(), CliError> {
        match self.format {
            Format::Table => self.line(what),
            Format::Json => self.line("{}"),
        }
    }

    /// Prints text and a line's end; an empty text prints nothing.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(CliError::Output)
    }
}

/// Aligned columns under `headers`. Cells are never wrapped, so that a row is a line.
pub fn table<const N: usize>(headers: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(headers);
    for row in rows {
        table.add_row(row);
    }
    trimmed(&table)
}

/// One thing: a label and a value on each line.
pub fn fields<const N: usize>(fields: [(&str, String); N]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (label, value) in fields {
        table.add_row([format!("{label}:"), value]);
    }
    trimmed(&table)
}

/// The table's lines without the space around them.
fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().strip_prefix(' ').unwrap_or_default().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// What there is, or a dash.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The items, separated by commas, or a dash.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}
