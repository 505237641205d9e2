//! `postrider gateway add|list|remove|certificate|credential|report`: where devices that only
//! know a password submit their mail, who may, and what they did.
//!
//! Settings go into the configuration, passwords as hashes into the vault; a daemon that runs
//! reads both anew.

mod add;
mod credential;
mod list;
mod page;
mod remove;
mod report;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use postrider_config::edit::{self, Change, EditError};
use postrider_config::{Gateway, Presets, Quirk};

use super::output::Output;
use super::setup::ask;
use crate::app::{App, AppSettings, edit_failure};
use crate::failure::Failure;
use crate::terminal::cancelled;
use crate::{state, suggest};

/// What to do with gateways.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a gateway to the configuration
    Add(Box<add::Arguments>),
    /// List the gateways: where they listen, for whom, and what they send through
    #[command(after_help = "\
Examples:
  postrider gateway list
  postrider gateway list --json")]
    List,
    /// Take a gateway out of the configuration, and its passwords out of the vault
    Remove(remove::Arguments),
    /// Print a gateway's certificate (PEM), for devices that are to trust it
    #[command(after_help = "\
Example:
  postrider gateway certificate office > office.pem

Only the certificate: its key is not printed. One that the gateway makes itself is made now if it
was not yet.")]
    Certificate {
        /// The gateway [default: the only one there is]
        name: Option<String>,
    },
    /// The passwords that devices sign in with
    #[command(subcommand)]
    Credential(credential::Command),
    /// Who sends what from where, what was refused, and who is ready for OAuth
    Report(report::Arguments),
}

pub(super) async fn run(
    command: Command,
    settings: &AppSettings,
    alone: bool,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let (own, told) = (settings.clone(), output.clone());
    match command {
        Command::Add(arguments) => apart(move || add::run(&arguments, &own, &told)).await,
        Command::List => apart(move || list::run(&own, &told)).await,
        Command::Remove(arguments) => apart(move || remove::run(&arguments, &own, &told)).await,
        Command::Certificate { name } => {
            apart(move || list::certificate(name.as_deref(), &own, &told)).await
        }
        Command::Credential(command) => apart(move || credential::run(command, &own, &told)).await,
        Command::Report(arguments) => report::run(&arguments, settings, alone, output).await,
    }
}

/// Where files, a person and a hash may be waited for.
async fn apart(
    work: impl FnOnce() -> Result<ExitCode, Failure> + Send + 'static,
) -> Result<ExitCode, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::new("internal", "the command was interrupted"))?
}

/// The gateway of that name; without a name, the only one.
pub(super) fn chosen<'a>(app: &'a App, name: Option<&str>) -> Result<&'a Gateway, Failure> {
    let gateways = &app.config().gateways;
    let names = || gateways.keys().map(String::as_str);
    let Some(name) = name else {
        let mut all = gateways.values();
        return match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(
                Failure::new("config.no_gateway", "the configuration has no gateway")
                    .with_remedy("postrider gateway add NAME"),
            ),
            _ => Err(Failure::new(
                "usage.which_gateway",
                format!(
                    "there are several gateways: {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            )
            .with_remedy("say --gateway NAME")),
        };
    };
    gateways.get(name).ok_or_else(|| {
        let failure = Failure::new(
            "config.no_such_gateway",
            format!("there is no gateway {name:?}"),
        );
        match suggest::nearest(name, names()) {
            Some(near) => failure.with_remedy(format!("did you mean \"{near}\"?")),
            None => failure.with_remedy("postrider gateway list shows those that there are"),
        }
    })
}

/// Changes settings that are right as they are. What is wrong with the change is said without its
/// line, which is in no file.
fn write(path: &Path, changes: &[Change]) -> Result<(), Failure> {
    edit::apply(path, changes, &Presets::builtin()).map_err(|error| {
        let mut failure = edit_failure(&error);
        if let EditError::Invalid(errors) = &error
            && let [first, more @ ..] = errors.problems.as_slice()
        {
            failure.message = format!("{}: {}", first.key, first.message);
            if !more.is_empty() {
                failure.message = format!("{} (and {} more)", failure.message, more.len());
            }
            failure.remedy.clone_from(&first.suggestion);
        }
        failure
    })
}

/// Where the state of gateways is.
fn state_dir(settings: &AppSettings) -> Result<PathBuf, Failure> {
    state::directory(settings.state_dir.as_deref())
}

/// Asks whether `what` is to go, unless it was said already.
///
/// # Errors
/// It is to stay, or nobody can be asked.
fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !ask::is_attended() {
        return Err(Failure::new(
            "usage.not_confirmed",
            format!("nobody is there to be asked whether {what} is to be removed"),
        )
        .with_remedy("say --yes"));
    }
    if ask::yes(&format!("Remove {what}?"), false)? {
        Ok(())
    } else {
        Err(cancelled())
    }
}

/// `office`'s TLS in words that settings pages use.
fn encryption(gateway: &Gateway) -> &'static str {
    use postrider_config::GatewayTls::{DangerPlaintext, Implicit, Offered, Starttls};
    match gateway.tls {
        Starttls | Offered => "STARTTLS",
        Implicit => "SSL/TLS",
        DangerPlaintext => "none",
    }
}

/// Who may connect.
fn clients(gateway: &Gateway) -> String {
    if gateway
        .clients
        .iter()
        .all(|network| network.address().is_loopback())
    {
        "this machine alone".to_owned()
    } else {
        joined(&gateway.clients)
    }
}

fn joined<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(", ")
}

/// Quirks by their names.
fn quirks<'q>(quirks: impl IntoIterator<Item = &'q Quirk>) -> String {
    joined(quirks.into_iter().map(|quirk| quirk.as_str()))
}
