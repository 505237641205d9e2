//! The Test Anything Protocol, version 13.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::Reporter;
use crate::testing::{CaseResult, FileResult, Problem};

/// Writes TAP as it goes.
pub struct Tap<W> {
    out: W,
    number: usize,
}

impl Tap<io::Stdout> {
    /// To standard output.
    pub fn new() -> Self {
        Self::to(io::stdout())
    }
}

impl Default for Tap<io::Stdout> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write> Tap<W> {
    /// To `out`.
    pub fn to(out: W) -> Self {
        Self { out, number: 0 }
    }

    fn say(&mut self, text: &str) {
        // A reader that went away has seen enough.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    fn point(&mut self, ok: bool, description: &str, problem: Option<(&str, &Problem)>) {
        self.number += 1;
        let not = if ok { "" } else { "not " };
        let mut text = format!("{not}ok {} - {}\n", self.number, escaped(description));
        if let Some((at, problem)) = problem {
            diagnose(&mut text, at, problem);
        }
        self.say(&text);
    }
}

fn diagnose(text: &mut String, at: &str, problem: &Problem) {
    let failure = &problem.failure;
    let place = failure.at.as_deref().unwrap_or(at);
    let mut lines = vec![format!("{place}: {}", failure.message)];
    for key in ["expected", "got"] {
        if let Some(value) = failure.details.get(key).and_then(|value| value.as_str()) {
            lines.push(format!("{key}: {value}"));
        }
    }
    lines.extend(failure.remedy.iter().map(|remedy| format!("try: {remedy}")));
    lines.extend(problem.log.iter().map(|line| format!("log: {line}")));
    for line in lines.iter().flat_map(|line| line.lines()) {
        let _ = writeln!(text, "# {line}");
    }
}

/// A `#` would begin a directive, and a line break another line.
fn escaped(description: &str) -> String {
    let one_line = description.replace(['\n', '\r'], " ");
    one_line.replace('\\', "\\\\").replace('#', "\\#")
}

impl<W: Write> Reporter for Tap<W> {
    fn plan(&mut self, cases: usize) {
        self.say(&format!("TAP version 13\n1..{cases}\n"));
    }

    fn case(&mut self, file: &str, case: &CaseResult) {
        let description = format!("{file}: {}", case.name);
        let problem = case
            .problem
            .as_ref()
            .map(|problem| (case.at.as_str(), problem));
        self.point(problem.is_none(), &description, problem);
    }

    fn broken(&mut self, file: &FileResult) {
        let name = file.file.display().to_string();
        let problem = file.broken.as_ref().map(|problem| (name.as_str(), problem));
        self.point(false, &format!("{name}: can be run"), problem);
    }

    fn end(&mut self, _: &[FileResult]) {}
}
