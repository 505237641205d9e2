//! `postrider run`: a script to its end.
//!
//! In the sandbox it delivers what the script queues, for there is nobody else; outside, that is
//! the daemon's.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use postrider_sandbox::inbox::StoredMessage;
use tokio::sync::oneshot;

use super::delivering::Delivering;
use super::output::Output;
use crate::app::{App, AppSettings, sandbox::Embedded};
use crate::control::Client;
use crate::failure::Failure;
use crate::lua::Script;
use crate::signals::Signals;

/// More messages than this are counted, not listed.
const SHOWN: usize = 20;

/// Which script, and where it sends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider run report.lua
  postrider run report.lua weekly ops@example.org     pr.args = { \"weekly\", \"ops@example.org\" }
  postrider run --sandbox report.lua                  send nothing to the outside: the embedded
                                                      sandbox stands in for Microsoft 365")]
pub(super) struct Arguments {
    /// Start the offline Microsoft 365 and point the microsoft365 providers at it
    #[arg(long)]
    sandbox: bool,
    /// The sandbox's scenario [default: the built-in one]
    #[arg(long, value_name = "FILE", requires = "sandbox")]
    scenario: Option<PathBuf>,
    /// The script
    script: PathBuf,
    /// What the script finds in `pr.args`
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    args: Vec<String>,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let embedded = if arguments.sandbox {
        Some(Embedded::start(settings, arguments.scenario.as_deref()).await?)
    } else {
        None
    };
    let app = match &embedded {
        Some(embedded) => App::open_in(settings, embedded)?,
        None => App::open(settings)?,
    };
    app.keep_fresh();
    let delivering = embedded.is_some().then(|| Delivering::begin(&app));

    let mut signals = Signals::to_stop()?;
    let (stop, stopped) = oneshot::channel();
    let script = Script::new(&arguments.script, Arc::new(app.clone()))
        .args(&arguments.args)
        .until(async move {
            // Nobody says stop any more: then it ends by itself.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
    let mut running = pin!(script.run());
    let (outcome, stopped_by) = tokio::select! {
        outcome = &mut running => (outcome, None),
        by = signals.stop() => {
            // What is under way ends; a second signal does not wait for it.
            let _ = stop.send(());
            tokio::select! {
                outcome = &mut running => (outcome, Some(by)),
                again = signals.stop() => return Ok(ExitCode::from(again.exit_code())),
            }
        }
    };
    let undelivered = match delivering {
        Some(delivering) => tokio::select! {
            ended = delivering.end(&app) => ended,
            by = signals.stop() => return Ok(ExitCode::from(by.exit_code())),
        },
        None => Ok(Vec::new()),
    };
    app.close().await;

    match embedded {
        Some(embedded) => {
            show_inbox(&embedded.messages(), output);
            show_undelivered(&undelivered?, output);
            embedded.stop().await;
        }
        None => say_what_waits(app.queued_here(), settings, output).await,
    }
    Ok(match outcome {
        _ if let Some(by) = stopped_by => ExitCode::from(by.exit_code()),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.failure(&script_line_first(error.failure.clone()));
            for call in &error.trace {
                output.note(&format!("from: {call}"));
            }
            ExitCode::from(error.exit_code())
        }
    })
}

fn show_undelivered(lines: &[String], output: &Output) {
    if lines.is_empty() {
        return;
    }
    output.line("\nNot delivered, and gone with the sandbox:");
    for line in lines.iter().take(SHOWN) {
        output.line(format!("  {line}"));
    }
    if lines.len() > SHOWN {
        output.line(format!("  … and {} more", lines.len() - SHOWN));
    }
}

/// What the script queued is safe; where no daemon runs, somebody has to deliver it.
async fn say_what_waits(queued: u64, settings: &AppSettings, output: &Output) {
    if queued == 0 || Client::find(settings).await.is_some() {
        return;
    }
    let what = match queued {
        1 => "1 message was queued".to_owned(),
        n => format!("{n} messages were queued"),
    };
    output.note(&format!(
        "{what} and no daemon runs: `postrider serve` or `postrider queue flush` delivers"
    ));
}

/// What the sandbox received, and where it lies.
fn show_inbox(messages: &[Arc<StoredMessage>], output: &Output) {
    output.line(format!(
        "\nThe sandbox received {}:",
        match messages.len() {
            1 => "1 message".to_owned(),
            n => format!("{n} messages"),
        }
    ));
    for message in messages.iter().take(SHOWN) {
        let recipients: Vec<&str> = message.recipients().collect();
        output.line(format!(
            "  {} → {}: {}",
            message.summary.from,
            recipients.join(", "),
            message.summary.subject,
        ));
        for file in &message.files {
            output.line(format!("    {}", output.faint(&file.display().to_string())));
        }
    }
    if messages.len() > SHOWN {
        output.line(format!("  … and {} more", messages.len() - SHOWN));
    }
}

/// Whoever reads it wants to go to the line: it comes before anything else.
pub(super) fn script_line_first(mut failure: Failure) -> Failure {
    if let Some(account) = failure.account.take() {
        failure.message = format!("account \"{account}\": {}", failure.message);
    }
    if let Some(line) = failure.at.take() {
        failure.message = format!("{line}: {}", failure.message);
    }
    failure
}
