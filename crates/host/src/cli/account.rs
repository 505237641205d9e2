//! `postrider account list|show|test`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use super::send::print_receipt;
use crate::app::{App, CheckReport};
use crate::failure::{Failure, exit};

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the configured accounts
    List,
    /// Show one account as it is understood, presets filled in, secrets by reference only
    Show {
        /// The account's name
        name: String,
    },
    /// Check every step up to MAIL FROM, then send a test message
    #[command(after_help = "\
Examples:
  postrider account test alerts
  postrider account test alerts --to me@example.org
  postrider account test alerts --no-send --json")]
    Test(TestArguments),
}

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// The account's name
    name: String,
    /// Who gets the test message [default: the account's `test_recipient`]
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Check only, send nothing
    #[arg(long, conflicts_with = "to")]
    no_send: bool,
}

pub(super) async fn run(command: Command, app: App, output: &Output) -> Result<ExitCode, Failure> {
    match command {
        Command::List => {
            list(&app, output);
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { name } => {
            let settings = app.settings_of(&name)?;
            output.json(&settings);
            output.tree(settings);
            Ok(ExitCode::SUCCESS)
        }
        Command::Test(arguments) => {
            let outcome = test(&arguments, &app, output).await;
            app.close().await;
            outcome
        }
    }
}

fn list(app: &App, output: &Output) {
    let accounts = app.accounts();
    output.json(
        &accounts
            .iter()
            .map(|account| {
                json!({
                    "name": account.name,
                    "provider": account.provider,
                    "username": account.username,
                    "sender": account.sender.to_string(),
                    "server": format!("{}:{}", account.server.host, account.server.port),
                    "plugin": account.auth.plugin,
                })
            })
            .collect::<Vec<_>>(),
    );
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|account| {
            vec![
                account.name.clone(),
                account.provider.clone(),
                account.username.clone(),
                account.sender.to_string(),
                format!("{}:{}", account.server.host, account.server.port),
                account.auth.plugin.clone(),
            ]
        })
        .collect();
    output.table(
        &["NAME", "PROVIDER", "USERNAME", "SENDER", "SERVER", "AUTH"],
        &rows,
        "no accounts: add an [account.NAME] table to postrider.toml",
    );
}

async fn test(arguments: &TestArguments, app: &App, output: &Output) -> Result<ExitCode, Failure> {
    let account = app.account(&arguments.name).await?;
    let recipient = if arguments.no_send {
        None
    } else {
        Some(account.test_recipient(arguments.to.as_deref())?)
    };

    let report = account.check().await;
    print_report(&report, output);
    let Some(recipient) = recipient.filter(|_| report.ok) else {
        output.json(&json!({ "check": report }));
        return Ok(if report.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(
                report
                    .failure()
                    .map_or(exit::UNAVAILABLE, Failure::exit_code),
            )
        });
    };
    let receipt = account.send_test(&recipient).await?;
    output.json(&json!({ "check": report, "receipt": receipt }));
    print_receipt(&receipt, output);
    Ok(ExitCode::SUCCESS)
}

/// The stages of a check, one line each, and under a failed one what to do.
pub(super) fn print_report(report: &CheckReport, output: &Output) {
    for stage in &report.stages {
        let mark = match (&stage.failure, stage.skipped) {
            (Some(_), _) => output.bad("failed"),
            (None, true) => output.faint("—     "),
            (None, false) => output.good("ok    "),
        };
        output.line(format!("{mark}  {:<9} {}", stage.name, stage.detail));
        if let Some(failure) = &stage.failure {
            for line in failure.to_string().lines() {
                output.line(format!("        {line}"));
            }
        }
    }
}
