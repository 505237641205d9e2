//! `postrider logout`: a sign-in is revoked and forgotten.

use std::process::ExitCode;

use clap::Args;

use super::output::Output;
use crate::app::App;
use crate::failure::Failure;

/// Whose sign-in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider logout alerts
  postrider logout alerts --local     when the provider cannot be reached, or must not hear of it")]
pub(super) struct Arguments {
    /// The account's name
    account: String,
    /// Forget it here only; the provider is not told
    #[arg(long)]
    local: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    app: App,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let account = app.account(&arguments.account).await?;
    let done = account.logout(arguments.local).await?;
    output.json(&done);
    if !done.signed_in {
        output.line(format!(
            "Account \"{}\": nobody was signed in.",
            done.account
        ));
    } else if done.revoked {
        output.line(format!(
            "Account \"{}\": signed out; the provider has revoked the sign-in.",
            done.account
        ));
    } else if arguments.local {
        output.line(format!(
            "Account \"{}\": forgotten here; the provider was not told.",
            done.account
        ));
    } else {
        output.line(format!(
            "Account \"{}\": forgotten here, and not revoked: {}.",
            done.account,
            done.not_revoked.as_deref().unwrap_or_default()
        ));
        output.line(format!(
            "To end it at the provider: {}.",
            account.how_to_revoke(&done.username)
        ));
    }
    drop(account);
    app.close().await;
    Ok(ExitCode::SUCCESS)
}
