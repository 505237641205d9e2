//! `postrider token`: an access token for another program.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::output::Output;
use crate::app::App;
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
    app: App,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let account = app.account(&arguments.account).await?;
    let token = account
        .token(arguments.min_lifetime.unwrap_or_default())
        .await?;
    output.line(token.value.expose_secret());
    let left = token.expires_at.0.duration_since(SystemTime::now());
    output.json(&json!({
        "access_token": token.value.expose_secret(),
        "token_type": token.token_type,
        "expires_at": token.expires_at,
        "expires_in": left.unwrap_or_default().as_secs(),
        "scope": token.scope,
        "account": account.settings().name,
        "username": account.settings().username,
    }));
    drop(account);
    app.close().await;
    Ok(ExitCode::SUCCESS)
}
