//! `postrider serve`: the daemon.

use std::process::ExitCode;

use clap::Args;

use super::output::Output;
use crate::app::AppSettings;
use crate::failure::Failure;
use crate::serve::{self, Ended};

/// What the daemon does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider serve               the scripts under [scripts], their schedules, fresh tokens
  postrider serve --check       load all of it as it would be loaded, and say what is wrong
  kill -HUP PID                 load the configuration and all scripts anew
  postrider status              what it does, and how the last reload went

SIGTERM and Ctrl-C end it in order, within shutdown_timeout (30 s); a second one ends it at once.")]
pub(super) struct Arguments {
    /// Load the configuration and the scripts, and end: nothing of them is started
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    if arguments.check {
        let scripts = serve::check(settings).await?;
        output.line(match scripts {
            1 => "ok: 1 script".to_owned(),
            n => format!("ok: {n} scripts"),
        });
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match serve::run(settings).await? {
        Ended::InOrder => ExitCode::SUCCESS,
        Ended::AtOnce(stop) => ExitCode::from(stop.exit_code()),
    })
}
