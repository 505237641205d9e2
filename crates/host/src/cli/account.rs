//! `postrider account list|show|test`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use futures_util::stream::{self, StreamExt as _};
use postrider_config as config;
use serde_json::{Value, json};

use super::output::Output;
use super::send::print_receipt;
use crate::app::{App, CheckReport, Freshness, Moment, Standing, is_near};
use crate::failure::{Failure, exit};
use crate::when;

/// Accounts set up at a time.
const AT_A_TIME: usize = 16;

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

pub(super) async fn run(command: Command, app: App, output: &Output) -> Result<ExitCode, Failure> {
    match command {
        Command::List => {
            list(&app, output).await;
            app.close().await;
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

async fn list(app: &App, output: &Output) {
    let accounts = app.accounts();
    let standings: Vec<Result<Standing, Failure>> = stream::iter(&accounts)
        .map(|settings| async move { app.account(&settings.name).await?.standing().await })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let now = SystemTime::now();

    let mut listed = Vec::new();
    let mut rows = Vec::new();
    let mut problems: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (settings, standing) in accounts.iter().zip(&standings) {
        let server = format!("{}:{}", settings.server.host, settings.server.port);
        let mut facts = json!({
            "name": settings.name,
            "provider": settings.provider,
            "username": settings.username,
            "sender": settings.sender.to_string(),
            "server": server,
            "plugin": settings.auth.plugin,
        });
        let credential = match standing {
            Ok(standing) => json!(standing),
            Err(failure) => json!({ "state": "unknown", "problem": failure }),
        };
        if let (Value::Object(facts), Value::Object(credential)) = (&mut facts, credential) {
            facts.extend(credential);
        }
        listed.push(facts);

        let (state, next, ends) = match standing {
            Ok(standing) => {
                if let Some(why) = why(settings, standing, now) {
                    problems.entry(why).or_default().push(&settings.name);
                }
                (state(standing), next(standing, now), ends(standing, now))
            }
            Err(failure) => {
                let names = problems.entry(failure.message.clone()).or_default();
                names.push(&settings.name);
                ("unknown".to_owned(), String::new(), String::new())
            }
        };
        rows.push(vec![
            settings.name.clone(),
            settings.username.clone(),
            server,
            settings.auth.plugin.clone(),
            state,
            next,
            ends,
        ]);
    }
    output.json(&listed);
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
}

fn state(standing: &Standing) -> String {
    match standing.state {
        _ if standing.sign_in_needed => "sign in",
        "absent" => "no token yet",
        "none" => "password",
        state => state,
    }
    .to_owned()
}

/// What is wrong, and what helps, where something is.
fn why(settings: &config::Account, standing: &Standing, now: SystemTime) -> Option<String> {
    if let Some(message) = &standing.message {
        return Some(format!(
            "{message}\n  try: postrider login {}",
            settings.name
        ));
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

async fn test(arguments: &TestArguments, app: &App, output: &Output) -> Result<ExitCode, Failure> {
    let account = app.account(&arguments.name).await?;
    let recipient = if arguments.no_send {
        None
    } else {
        Some(account.test_recipient(arguments.to.as_deref())?)
    };

    let report = account.check(Freshness::Now).await;
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
