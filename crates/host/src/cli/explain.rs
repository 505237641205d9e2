//! `postrider explain`: what a pasted refusal means, without asking anybody.

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::Args;
use postrider_diagnose::{Explained, Kind, Subject, explain};
use serde_json::json;

use super::output::{Output, complain};
use crate::app::{App, AppSettings, subject_of};
use crate::failure::Failure;

/// What to explain.
#[derive(Debug, Args)]
#[command(after_help = "\
The text may be a reply of a mail server, an AADSTS code, the JSON of a token endpoint or of Graph, a
line of a log, or a whole bounce. Every refusal in its first 64 KiB is explained. Nothing is sent
anywhere, and no configuration is read but for --account. What looks like a secret is not shown.

Examples:
  postrider explain '535 5.7.3 Authentication unsuccessful'
  postrider explain --account alerts AADSTS7000215
  postrider explain < bounce.eml
  journalctl -u postfix -n 50 | postrider explain --json -

Exit status: 0 explained, 1 nothing in it is known, 66 it cannot be read, 78 --account names none.")]
pub(super) struct Arguments {
    /// What was said; - or nothing reads standard input
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
    /// Fill in the names of this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

/// As much of standard input is read; no more of it is looked at.
const STDIN_OCTETS: u64 = 64 * 1024;

/// The exit status where nothing is known.
const UNKNOWN: u8 = 1;

pub(super) fn run(
    arguments: &Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let text = match arguments.text.as_slice() {
        [] => standard_input()?,
        [dash] if dash == "-" => standard_input()?,
        words => words.join(" "),
    };
    let found = match &arguments.account {
        None => explain(&text, Subject::default()),
        Some(name) => {
            let app = App::open(settings)?;
            let account = app.settings_of(name)?;
            let server = format!("{}:{}", account.server.host, account.server.port);
            let subject = Subject {
                server: &server,
                ..subject_of(account)
            };
            explain(&text, subject)
        }
    };
    let known = found.iter().any(|one| one.diagnosis.known);
    output.json(&json!({ "known": known, "found": found }));
    for (index, one) in found.iter().enumerate() {
        if index > 0 {
            output.line("");
        }
        print(one, output);
    }
    Ok(ExitCode::from(if known { 0 } else { UNKNOWN }))
}

fn print(one: &Explained, output: &Output) {
    let Explained {
        kind,
        original,
        diagnosis,
    } = one;
    output.line(if original.is_empty() {
        "(nothing)"
    } else {
        original
    });
    let unknown = !diagnosis.known && *kind != Kind::Unknown;
    let mark = if unknown {
        "not in the catalogue; "
    } else {
        ""
    };
    output.line(format!(" means: {mark}{}", diagnosis.cause));
    output.line(format!("   try: {}", diagnosis.remedy));
    if *kind == Kind::Unknown {
        return;
    }
    output.line(format!("   who: {}", diagnosis.who));
    let fresh = if diagnosis.fresh_token {
        ", unless a fresh token does"
    } else {
        ""
    };
    output.line(format!("  then: {}{fresh}", diagnosis.verdict));
    output.line(output.faint(&format!(
        "  code: {}, known from {}",
        diagnosis.code, diagnosis.source
    )));
}

fn standard_input() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        complain("Paste the text, then Ctrl-D.");
    }
    let mut octets = Vec::new();
    io::stdin()
        .lock()
        .take(STDIN_OCTETS)
        .read_to_end(&mut octets)
        .map_err(|problem| Failure::new("file.unreadable", format!("standard input: {problem}")))?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}
