//! `postrider account list|show|test`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;

use super::doctor;
use super::host::Host;
use super::output::Output;
use super::send::print_receipt;
use crate::app::{Moment, Standing, is_near};
use crate::control::work::{CheckAnswer, CheckRequest, ListedCredential};
use crate::failure::Failure;
use crate::when;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the configured accounts: how their credentials stand, and what ends when
    #[command(after_help = "\
Nothing is connected and nothing is changed. STATE is one of
  fresh, due, refreshing   there is a token; it is refreshed by itself
  degraded                 the last attempt failed; it is tried again by itself
  sign in                  somebody has to run: postrider login NAME
  no token yet             the first one is fetched when it is needed
  password                 the account has no tokens
  unknown                  what is kept cannot be read; the reason stands below")]
    List,
    /// Show one account as it is understood, presets filled in, secrets by reference only
    Show {
        /// The account's name
        name: String,
    },
    /// Check every step up to MAIL FROM, with a token fetched now, then send a test message
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

pub(super) async fn run(
    command: Command,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let outcome = match command {
        Command::List => list(host, output).await,
        Command::Show { name } => show(&name, host, output).await,
        Command::Test(arguments) => test(&arguments, host, output).await,
    };
    host.close().await;
    outcome
}

async fn show(name: &str, host: &Host, output: &Output) -> Result<ExitCode, Failure> {
    let settings = host.account(name).await?;
    output.json(&settings);
    output.tree(&settings);
    Ok(ExitCode::SUCCESS)
}

async fn list(host: &Host, output: &Output) -> Result<ExitCode, Failure> {
    let accounts = host.accounts().await?;
    let now = SystemTime::now();

    let mut rows = Vec::new();
    let mut problems: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for account in &accounts {
        let (state, next, ends) = match &account.credential {
            ListedCredential::Known(standing) => {
                if let Some(why) = why(&account.name, standing, now) {
                    problems.entry(why).or_default().push(&account.name);
                }
                (state(standing), next(standing, now), ends(standing, now))
            }
            ListedCredential::Unknown { problem, .. } => {
                let names = problems.entry(problem.message.clone()).or_default();
                names.push(&account.name);
                ("unknown".to_owned(), String::new(), String::new())
            }
        };
        rows.push(vec![
            account.name.clone(),
            account.username.clone(),
            account.server.clone(),
            account.plugin.clone(),
            state,
            next,
            ends,
        ]);
    }
    output.json(&accounts);
    output.table(
        &[
            "NAME",
            "USERNAME",
            "SERVER",
            "AUTH",
            "STATE",
            "NEXT REFRESH",
            "EXPIRES",
        ],
        &rows,
        "no accounts: add an [account.NAME] table to postrider.toml",
    );
    for (problem, names) in problems {
        output.line(format!("\n{}: {problem}", names.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

fn state(standing: &Standing) -> String {
    match &*standing.state {
        _ if standing.sign_in_needed => "sign in",
        "absent" => "no token yet",
        "none" => "password",
        state => state,
    }
    .to_owned()
}

/// What is wrong, and what helps, where something is.
fn why(account: &str, standing: &Standing, now: SystemTime) -> Option<String> {
    if let Some(message) = &standing.message {
        return Some(format!("{message}\n  try: postrider login {account}"));
    }
    let failure = standing.last_failure.as_ref()?;
    let again = match failure.retry_at {
        Some(at) if at.0 > now => format!("the next attempt is due {}", when::relative(at, now)),
        _ => "it is tried again when a token is needed".to_owned(),
    };
    Some(format!("{}; {again}", failure.message))
}

fn next(standing: &Standing, now: SystemTime) -> String {
    match standing.next_refresh {
        _ if standing.sign_in_needed || standing.state == "absent" => String::new(),
        Some(at) if at.0 <= now => "due".to_owned(),
        Some(at) => when::relative(at, now),
        None => String::new(),
    }
}

/// `client_secret in 12 d!, sign-in in 89 d`
fn ends(standing: &Standing, now: SystemTime) -> String {
    let lapse = standing.refresh_token.and_then(|token| token.lapses_at);
    let mut ends: Vec<(&str, Moment)> = standing
        .expires
        .iter()
        .map(|one| (one.secret.as_str(), one.expires_at))
        .chain(
            lapse
                .filter(|_| !standing.sign_in_needed)
                .map(|at| ("sign-in", at)),
        )
        .collect();
    ends.sort_by_key(|(_, at)| *at);
    let described: Vec<String> = ends
        .into_iter()
        .map(|(what, at)| {
            let mark = if is_near(at.0, now) { "!" } else { "" };
            format!("{what} {}{mark}", when::end(at, now))
        })
        .collect();
    described.join(", ")
}

async fn test(
    arguments: &TestArguments,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let request = CheckRequest {
        send: !arguments.no_send,
        to: arguments.to.clone(),
        offline: false,
    };
    let CheckAnswer {
        check: report,
        recipient,
    } = host.check(&arguments.name, &request).await?;
    doctor::print(&report, output);
    let Some(recipient) = recipient.filter(|_| report.ok) else {
        output.json(&json!({ "check": report }));
        return Ok(doctor::exit_code([&report]));
    };
    let receipt = host.send_test(&arguments.name, &recipient).await?;
    output.json(&json!({ "check": report, "receipt": receipt }));
    print_receipt(&receipt, output);
    Ok(ExitCode::SUCCESS)
}
