//! `postrider check`: configuration and scripts, without a connection.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::Output;
use crate::app::{App, AppSettings};
use crate::failure::Failure;
use crate::lua;

/// What to check.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider check                      the configuration, each account's plugin settings
  postrider check notify.lua           and whether the script would load
  postrider --config new.toml check    before it replaces the old one")]
pub(super) struct Arguments {
    /// Lua scripts to check as well
    #[arg(value_name = "SCRIPT")]
    scripts: Vec<PathBuf>,
}

pub(super) fn run(
    arguments: &Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let app = App::open(settings)?;
    let mut problems: Vec<Failure> = app
        .accounts()
        .iter()
        .filter_map(|account| app.check_settings(account).err())
        .collect();
    problems.extend(
        arguments
            .scripts
            .iter()
            .filter_map(|script| lua::check(script).err().map(|error| error.failure)),
    );

    output.json(&json!({
        "ok": problems.is_empty(),
        "config": app.config_path(),
        "accounts": app.accounts().len(),
        "problems": problems,
    }));
    for problem in &problems {
        output.line(problem.to_string());
    }
    if let Some(worst) = problems.first() {
        return Ok(ExitCode::from(worst.exit_code()));
    }
    let config = app
        .config_path()
        .map_or("no configuration file".to_owned(), |path| {
            path.display().to_string()
        });
    let seen = [
        count(app.accounts().len(), "account"),
        count(arguments.scripts.len(), "script"),
        Some(output.good("no problems")),
    ];
    let seen: Vec<String> = seen.into_iter().flatten().collect();
    output.line(format!("{config}: {}", seen.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// `2 accounts`; nothing for none.
fn count(number: usize, what: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    }
}
