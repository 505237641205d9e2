//! `postrider sandbox`: the offline Microsoft 365 on its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::Output;
use crate::app::{AppSettings, sandbox};
use crate::failure::Failure;

/// Which scenario, where.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider sandbox                              ports are chosen and printed
  postrider sandbox --smtp-port 2587 --control-port 8025
  postrider sandbox --scenario broken.toml       start with faults in place

Everything listens on 127.0.0.1 only. Stop it with Ctrl-C.")]
pub(super) struct Arguments {
    /// Tenants, users, apps, permissions, limits and faults [default: a small Contoso]
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Where its CA and the messages are kept [default: `sandbox` in the state directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the submission server, 0 for any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    smtp_port: u16,
    /// Port of Entra ID (HTTPS), 0 for any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    entra_port: u16,
    /// Port of the inbox page and control API, 0 for any
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    control_port: u16,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let sandbox = sandbox::start(
        settings,
        sandbox::Options {
            scenario: arguments.scenario,
            dir: arguments.dir,
            smtp_port: arguments.smtp_port,
            entra_port: arguments.entra_port,
            control_port: arguments.control_port,
        },
    )
    .await?;
    output.json(&json!({
        "smtp": sandbox.smtp_addr().to_string(),
        "authority": sandbox.authority().as_str(),
        "inbox": sandbox.control_url().as_str(),
        "ca_file": sandbox.ca_file(),
        "config": sandbox.config_snippet(),
        "environment": sandbox.environment().into_iter().collect::<BTreeMap<_, _>>(),
    }));
    output.line(format!("submission  {} (STARTTLS)", sandbox.smtp_addr()));
    output.line(format!("Entra ID    {}", sandbox.authority()));
    output.line(format!("inbox       {}", sandbox.control_url()));
    output.line(format!("CA          {}", sandbox.ca_file().display()));
    output.line("\nTo use it, put this into postrider.toml:\n");
    output.line(sandbox.config_snippet());
    output.line("\nCtrl-C stops it.");

    let stopped = tokio::signal::ctrl_c().await;
    sandbox.stop().await;
    stopped
        .map(|()| ExitCode::SUCCESS)
        .map_err(|problem| Failure::new("internal", format!("cannot wait for Ctrl-C: {problem}")))
}
