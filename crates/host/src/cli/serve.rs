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
  postrider serve --check       load all of it as it would be loaded, certificates of gateways
                                too, and say what is wrong
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
        let checked = serve::check(settings).await?;
        let scripts = counted(checked.scripts, "script");
        output.line(match checked.gateways {
            0 => format!("ok: {scripts}"),
            gateways => format!("ok: {}, {scripts}", counted(gateways, "gateway")),
        });
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match serve::run(settings).await? {
        Ended::InOrder => ExitCode::SUCCESS,
        Ended::AtOnce(stop) => ExitCode::from(stop.exit_code()),
    })
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
