//! `postrider setup`: an account, from nothing to a delivered message.
//!
//! With a provider, or a file of answers, it asks nothing but what only a person can do; without,
//! it asks the fields of a mail-server settings page. Secrets go into the vault, never into a
//! file.

pub(in crate::cli) mod administrator;
mod answers;
pub(in crate::cli) mod ask;
mod finish;
mod generic;
mod microsoft365;
mod show;
mod wizard;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use postrider_config::{Config, Presets};
use url::Url;

use self::administrator::AdminArguments;
use self::answers::Answers;
use self::generic::Generic;
use self::microsoft365::{Manner, Microsoft365};
use super::output::Output;
use crate::app::{App, AppSettings, World, config_failure, setup};
use crate::failure::Failure;

/// What to set up.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[command(after_help = "\
Examples:
  postrider setup                        asks, with the usual values filled in
  postrider setup microsoft365 --account alerts --username svc-mail@contoso.com
                                         an administrator signs in; the plan is shown first
  postrider setup microsoft365 --account alerts --username svc-mail@contoso.com \\
      --flow client_credentials --credential certificate --powershell rest.ps1
                                         nobody signs in later; the key stays in the vault
  postrider setup microsoft365 … --dry-run
                                         only the plan
  postrider setup microsoft365 … --print-manual
                                         the portal's steps with this tenant's values
  postrider setup gmail --account me --username me@gmail.com
                                         with an app password, which is asked for
  postrider setup --answers alerts.toml --yes
                                         unattended; the fields are these options, with _ for -

Run it again whenever you like: what is as it should be stays, and what an interrupted run left is
found again. Exit status 0 means that the account can send.")]
pub(super) struct Arguments {
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    admin: AdminArguments,
    /// A file with the answers (TOML)
    #[arg(long = "answers", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show the plan, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what to do by hand in the portal; nobody signs in
    #[arg(long, conflicts_with = "dry_run")]
    print_manual: bool,
    /// Write the lines for Exchange PowerShell to a script, too
    #[arg(long, value_name = "FILE.ps1")]
    powershell: Option<PathBuf>,
    /// Do not ask whether to go on
    #[arg(long, short)]
    yes: bool,
    /// Send no test message
    #[arg(long)]
    no_send: bool,
    /// A running sandbox in place of Microsoft 365: the address of its inbox
    #[arg(long, value_name = "URL")]
    sandbox: Option<Url>,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let mut answers = arguments.answers;
    if let Some(file) = &arguments.file {
        answers = answers.or(Answers::read(file)?);
    } else if answers.provider.is_none() {
        answers = wizard::ask(answers)?;
    }
    let provider = answers.provider.as_deref().unwrap_or_default();
    let preset = answers::preset(provider)?;
    let admin = arguments.admin.or(answers.admin_login);
    let person = admin.person();
    let path = setup::config_path(settings);
    let config = if path.exists() {
        Config::load(&path, &Presets::builtin()).map_err(|errors| config_failure(&errors))?
    } else {
        Config::default()
    };
    let settings = AppSettings {
        config: Some(path.clone()),
        state_dir: settings.state_dir.clone(),
    };
    let world = World {
        interaction: Arc::clone(&person) as _,
        ..World::outside()
    };
    let app = App::with_config(&settings, config, world);
    let manner = Manner {
        dry_run: arguments.dry_run,
        print_manual: arguments.print_manual,
        powershell: arguments.powershell,
        yes: arguments.yes,
        no_send: arguments.no_send,
        sandbox: arguments.sandbox,
    };
    let status = if answers.is_for_graph() {
        let run = Microsoft365 {
            app: &app,
            person: &person,
            admin: &admin,
            answers: &answers,
            manner: &manner,
            output,
            path: &path,
        };
        Box::pin(run.run()).await
    } else {
        let run = Generic {
            app: &app,
            person: &person,
            answers: &answers,
            preset,
            manner: &manner,
            output,
            path: &path,
        };
        Box::pin(run.run()).await
    };
    app.close().await;
    status.map(ExitCode::from)
}
