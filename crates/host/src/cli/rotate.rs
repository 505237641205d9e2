//! `postrider rotate`: what is due is refreshed, and what ends soon is said.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use futures_util::stream::StreamExt as _;

use super::host::Host;
use super::output::Output;
use super::renew;
use crate::control::work::{Report, RotateRequest};
use crate::failure::{Failure, exit};
use crate::when;

/// Of more accounts than these, a terminal sees how far it has come.
const MANY: usize = 20;

/// Which accounts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider rotate alerts            refresh its token if it is due
  postrider rotate --all             each account's; run it daily, and no sign-in lapses unused
  postrider rotate alerts --force    now, due or not
  postrider rotate --client-secret alerts
                                     a new client secret or certificate: made at Entra ID, tried,
                                     put into the vault; the old one is kept for a day
  postrider rotate --client-secret alerts --finish
                                     remove the old one now

With --client-secret the same command again goes on from wherever it was broken off, and removes
the old one when its time has come; --abort goes back.

Exit status: 0 every account has what it needs, 75 some could not be refreshed for now, 77 somebody
has to sign in.")]
pub(super) struct Arguments {
    /// The accounts' names
    #[arg(value_name = "ACCOUNT", required_unless_present = "all")]
    accounts: Vec<String>,
    /// All accounts of the configuration
    #[arg(long, conflicts_with = "accounts")]
    all: bool,
    /// Refresh what is not due, too
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    renewal: renew::RenewalArguments,
}

impl Arguments {
    /// How the application's own secret is to be replaced, and of which accounts, where that is
    /// what is wanted.
    pub(super) fn renewal(&self) -> Option<(&renew::RenewalArguments, &[String])> {
        let wanted = self.renewal.is_wanted();
        wanted.then_some((&self.renewal, &*self.accounts))
    }
}

pub(super) async fn run(
    arguments: Arguments,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let request = RotateRequest {
        all: arguments.all,
        accounts: arguments.accounts,
        force: arguments.force,
    };
    let (total, mut reports) = host.rotate(&request).await?;
    let progress = Progress::new(total);

    let mut done: BTreeMap<String, Report> = BTreeMap::new();
    let mut broken_off = None;
    while let Some(report) = reports.next().await {
        progress.clear();
        let report = match report {
            Ok(report) => report,
            Err(failure) => {
                broken_off = Some(failure);
                break;
            }
        };
        let line = line(&report, output);
        // Cron mails what is printed, not the status: what is wrong shows even where the
        // rest goes to /dev/null.
        if report.error.is_some() {
            output.note(&line);
        } else {
            output.line(line);
        }
        done.insert(report.account.clone(), report);
        progress.show(done.len());
    }
    drop(reports);
    progress.clear();
    if total == 0 {
        output.line("no accounts: add an [account.NAME] table to postrider.toml");
    }
    host.close().await;
    if let Some(failure) = broken_off {
        return Err(failure);
    }
    let reports: Vec<&Report> = done.values().collect();
    output.json(&reports);
    let status = worst(reports.iter().filter_map(|report| report.error.as_ref()));
    Ok(ExitCode::from(status))
}

/// What is said of one account.
fn line(report: &Report, output: &Output) -> String {
    let now = SystemTime::now();
    let mut line = match (&report.rotated, &report.error) {
        (_, Some(failure)) => {
            let mut text = format!("{}: {}", output.bad("failed"), failure.message);
            if let Some(remedy) = &failure.remedy {
                text = format!("{text}\n  try: {remedy}");
            }
            text
        }
        (Some(rotated), None) => {
            let next = rotated.next_refresh.map_or_else(String::new, |at| {
                format!(", next {}", when::relative(at, now))
            });
            match &*rotated.outcome {
                "refreshed" => format!("{}{next}", output.good("rotated")),
                "fresh" => format!("{}{next}", output.good("still fresh")),
                _ => output.faint("has no tokens"),
            }
        }
        (None, None) => String::new(),
    };
    if let Some(other) = &report.shares_grant_of {
        line = format!("{line} (shares the grant of {other})");
    }
    for expiry in &report.expires_soon {
        line = format!("{line}\n  warning: {}", expiry.in_words(now));
    }
    format!("{}: {line}", report.account)
}

/// The exit status of everything: what waits for a person counts more than what passes by
/// itself, and what waits for an operator most.
fn worst<'a>(failures: impl Iterator<Item = &'a Failure>) -> u8 {
    let weight = |status: &u8| match *status {
        0 => 0,
        exit::TEMPFAIL => 1,
        exit::NOPERM => 2,
        _ => 3,
    };
    failures
        .map(Failure::exit_code)
        .max_by_key(weight)
        .unwrap_or(0)
}

/// How far it has come, on a terminal, for many accounts.
struct Progress {
    total: usize,
    shown: bool,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self {
            total,
            shown: total > MANY && io::stderr().is_terminal(),
        }
    }

    fn show(&self, done: usize) {
        if self.shown && done < self.total {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "{done} of {} accounts …", self.total);
            let _ = stderr.flush();
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_counts_more_than_patience_and_an_operator_most() {
        let transient = Failure::new("auth.unavailable", "x").retryable();
        let person = Failure::new("auth.sign_in_needed", "x");
        let operator = Failure::new("config.auth", "x");

        assert_eq!(worst([].iter()), 0);
        assert_eq!(worst([&transient].into_iter()), 75);
        assert_eq!(worst([&person, &transient].into_iter()), 77);
        assert_eq!(worst([&transient, &operator, &person].into_iter()), 78);
    }
}
