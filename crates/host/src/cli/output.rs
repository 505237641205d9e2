//! Printing: text for people, JSON for programs, never both.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

use crate::failure::{Failure, exit};

/// Where a command's answer goes.
#[derive(Clone, Debug)]
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// Text, or JSON if `json`. Colour only on a terminal and without `NO_COLOR`.
    pub fn new(json: bool) -> Self {
        let colour = !json
            && io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour }
    }

    /// Whether the answer is to be JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text; nothing in JSON mode.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            print_line(text.as_ref());
        }
    }

    /// The answer as JSON; nothing in text mode.
    pub fn json(&self, value: &impl Serialize) {
        if self.json {
            let text = serde_json::to_string_pretty(value)
                .unwrap_or_else(|problem| format!("{{\"error\":\"{problem}\"}}"));
            print_line(&text);
        }
    }

    /// What went wrong: as text on standard error, or as JSON on standard output.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.json(&serde_json::json!({ "error": failure }));
        } else {
            complain(&failure.to_string());
        }
    }

    /// One more line on what went wrong, for people only.
    pub fn note(&self, text: &str) {
        if !self.json {
            complain(text);
        }
    }

    /// `text` in green where colour is wanted.
    pub fn good(&self, text: &str) -> String {
        self.paint(text, "32")
    }

    /// `text` in red where colour is wanted.
    pub fn bad(&self, text: &str) -> String {
        self.paint(text, "31")
    }

    /// `text` dimmed where colour is wanted.
    pub fn faint(&self, text: &str) -> String {
        self.paint(text, "2")
    }

    /// A value as indented `key: value` lines; nothing in JSON mode.
    pub fn tree(&self, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            self.branch(&value, 0);
        }
    }

    fn branch(&self, value: &Value, depth: usize) {
        let Value::Object(entries) = value else {
            return;
        };
        for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
            let indent = "  ".repeat(depth);
            match value {
                Value::Object(inner) if inner.values().all(Value::is_null) => {}
                Value::Object(_) => {
                    self.line(format!("{indent}{key}:"));
                    self.branch(value, depth + 1);
                }
                Value::String(text) => self.line(format!("{indent}{key}: {text}")),
                other => self.line(format!("{indent}{key}: {other}")),
            }
        }
    }

    /// A table with aligned columns; an empty one prints `empty` instead.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>], empty: &str) {
        if rows.is_empty() {
            self.line(empty);
            return;
        }
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .chain([head[column].chars().count()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let render = |cells: Vec<&str>| -> String {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        self.line(self.faint(&render(head.to_vec())));
        for row in rows {
            self.line(render(row.iter().map(String::as_str).collect()));
        }
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes to standard output. A reader that went away (`| head`) ends the program quietly; an
/// answer that cannot be kept (a full disk) is an error.
fn print_line(text: &str) {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(problem) if problem.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(problem) => {
            complain(&format!(
                "error: cannot write to standard output: {problem}"
            ));
            std::process::exit(i32::from(exit::IOERR));
        }
    }
}

/// Writes to standard error, where nothing is left to be done if that fails.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
