//! `postrider token`: an access token for another program.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use secrecy::ExposeSecret as _;

use super::host::Host;
use super::output::Output;
use crate::failure::Failure;

/// Whose token.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  msmtp:  auth oauthbearer
          passwordeval \"postrider token alerts\"
  mutt:   set smtp_authenticators = \"xoauth2\"
          set smtp_oauth_refresh_command = \"postrider token alerts\"

Standard output is the token and nothing else. It is refreshed when it is due, however many ask at
once. Exit status 77 means that somebody has to run: postrider login ACCOUNT")]
pub(super) struct Arguments {
    /// The account's name
    account: String,
    /// Refresh a token that has less life left
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    min_lifetime: Option<Duration>,
}

pub(super) async fn run(
    arguments: Arguments,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let at_least = arguments.min_lifetime.unwrap_or_default();
    let token = host.token(&arguments.account, at_least).await?;
    output.line(token.access_token.expose_secret());
    output.json(&token);
    host.close().await;
    Ok(ExitCode::SUCCESS)
}
