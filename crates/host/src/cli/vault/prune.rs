//! `postrider vault prune`: what no account refers to any more is removed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use crate::app::{App, Orphan};
use crate::cli::output::Output;
use crate::failure::Failure;
use crate::when;

#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArguments {
    /// Only list them
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before removing sign-ins that may still work
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

pub(super) async fn run(
    arguments: &PruneArguments,
    app: &App,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let orphans = app.orphans().await?;
    for orphan in &orphans {
        output.line(describe(orphan));
    }
    let living = orphans.iter().filter(|orphan| orphan.living).count();
    let all = living == 0
        || arguments.yes
        || !arguments.dry_run && !output.is_json() && confirmed(living)?;
    let (mut removed, mut kept) = (Vec::new(), Vec::new());
    for orphan in orphans {
        let wanted = !arguments.dry_run && (all || !orphan.living);
        if wanted && app.discard(&orphan).await? {
            removed.push(orphan);
        } else {
            kept.push(orphan);
        }
    }
    output.json(&json!({ "removed": removed, "kept": kept }));
    if removed.is_empty() && kept.is_empty() {
        output.line("an account refers to every sign-in: there is nothing to remove");
    } else if !arguments.dry_run {
        output.line(format!("removed {}, kept {}", removed.len(), kept.len()));
        if !all {
            output.line("those kept may still work: --yes removes them, too");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `sign-in of alerts@example.org, account alerts, last refreshed 3 d ago`.
fn describe(orphan: &Orphan) -> String {
    let mut parts = vec![match &orphan.username {
        Some(username) => format!("sign-in of {username}"),
        None => "tokens".to_owned(),
    }];
    if let Some(account) = &orphan.account {
        parts.push(format!("account {account}"));
    }
    if let Some(at) = orphan.last_refreshed {
        let ago = when::relative(at, SystemTime::now());
        parts.push(format!("last refreshed {ago}"));
    }
    if orphan.living {
        parts.push("may still work".to_owned());
    }
    if let Some(why) = &orphan.unreadable {
        parts.push(format!("named {}, cannot be read: {why}", orphan.name));
    }
    parts.join(", ")
}

/// Asks whether so many sign-ins are to go; no where nobody can be asked.
fn confirmed(living: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    let what = match living {
        1 => "the sign-in that may still work".to_owned(),
        living => format!("the {living} sign-ins that may still work"),
    };
    let unasked = |problem: io::Error| Failure::new("usage.no_terminal", problem.to_string());
    write!(io::stderr(), "Remove {what}, too? [y/N] ").map_err(unasked)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(unasked)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
