//! For people: a line for each case, then everything about those that failed.

use std::fmt::Write as _;

use super::Reporter;
use super::diff::diff;
use crate::cli::output::Output;
use crate::testing::{CaseResult, FileResult, Problem};

/// Lines of a case's log that are shown; the last ones.
const LOG_LINES: usize = 20;

/// Prints as it goes.
pub struct Pretty<'o> {
    output: &'o Output,
    file: Option<String>,
}

impl<'o> Pretty<'o> {
    /// Prints to `output`.
    pub fn new(output: &'o Output) -> Self {
        Self { output, file: None }
    }

    fn heading(&mut self, file: &str) {
        if self.file.as_deref() != Some(file) {
            self.output.line(file);
            self.file = Some(file.to_owned());
        }
    }

    fn explain(&self, title: &str, at: &str, problem: &Problem) {
        let output = self.output;
        output.line(format!("\n{} {title}", output.bad("FAILED")));
        let failure = &problem.failure;
        let place = failure.at.as_deref().unwrap_or(at);
        let account = failure.account.as_deref();
        let account = account.map_or_else(String::new, |name| format!("account \"{name}\": "));
        output.line(format!("  {place}: {account}{}", failure.message));
        let text = |key: &str| failure.details.get(key).and_then(|value| value.as_str());
        if let (Some(expected), Some(got)) = (text("expected"), text("got")) {
            if expected.contains('\n') && got.contains('\n') {
                output.line("  expected (-) and got (+):");
                for line in diff(expected, got) {
                    let painted = match line.as_bytes().first() {
                        Some(b'-') => output.bad(&line),
                        Some(b'+') => output.good(&line),
                        _ => line,
                    };
                    output.line(format!("    {painted}"));
                }
            } else {
                output.line(format!("  expected  {}", indented(expected)));
                output.line(format!("  got       {}", indented(got)));
            }
        }
        if let Some(remedy) = &failure.remedy {
            output.line(format!("  try: {remedy}"));
        }
        for call in &problem.trace {
            output.line(output.faint(&format!("  from: {call}")));
        }
        if !problem.log.is_empty() {
            let skipped = problem.log.len().saturating_sub(LOG_LINES);
            let more = if skipped > 0 { ", the last lines" } else { "" };
            output.line(format!("  logged and printed{more}:"));
            for line in &problem.log[skipped..] {
                output.line(output.faint(&format!("    {line}")));
            }
        }
    }
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n            ")
}

impl Reporter for Pretty<'_> {
    fn plan(&mut self, _: usize) {}

    fn case(&mut self, file: &str, case: &CaseResult) {
        self.heading(file);
        let mark = match case.problem {
            None => self.output.good("ok    "),
            Some(_) => self.output.bad("FAILED"),
        };
        let took = self
            .output
            .faint(&format!("({} ms)", case.took.as_millis()));
        self.output.line(format!("  {mark} {} {took}", case.name));
    }

    fn broken(&mut self, file: &FileResult) {
        self.heading(&file.file.display().to_string());
        self.output.line(format!("  {}", self.output.bad("BROKEN")));
    }

    fn end(&mut self, files: &[FileResult]) {
        let (mut passed, mut failed, mut broken) = (0, 0, 0);
        for file in files {
            let name = file.file.display().to_string();
            if let Some(problem) = &file.broken {
                broken += 1;
                self.explain(&name, &name, problem);
            }
            for case in &file.cases {
                match &case.problem {
                    None => passed += 1,
                    Some(problem) => {
                        failed += 1;
                        self.explain(&format!("{name}: {}", case.name), &case.at, problem);
                    }
                }
            }
        }
        let mut summary = format!("\n{passed} passed");
        if failed > 0 {
            let _ = write!(summary, ", {failed} failed");
        }
        if broken > 0 {
            let _ = write!(summary, ", {broken} broken");
        }
        self.output.line(summary);
    }
}
