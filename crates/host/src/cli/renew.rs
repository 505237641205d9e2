//! `postrider rotate --client-secret`: an application's own secret or certificate is replaced.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use postrider_auth::LoginMethod;

use super::output::{Output, complain};
use crate::app::renewal::{Action, Options, Progress, Renewed};
use crate::app::{App, AppSettings};
use crate::failure::Failure;
use crate::terminal::{Person, Way};
use crate::when;

/// How.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub(super) struct RenewalArguments {
    /// Replace the application's client secret or certificate at Entra ID, or go on with what an
    /// earlier run of this began
    #[arg(long, conflicts_with_all = ["all", "force"])]
    client_secret: bool,
    /// Remove the old one now, without waiting for the overlap to pass
    #[arg(long, requires = "client_secret")]
    finish: bool,
    /// Go back to the old one and remove the new one
    #[arg(long, requires = "client_secret", conflicts_with = "finish")]
    abort: bool,
    /// How long the old one is kept beside the new one [default: renewal.overlap, else 1d]
    #[arg(long, value_name = "TIME", requires = "client_secret", value_parser = super::duration)]
    overlap: Option<Duration>,
    /// How long the new one is to last [default: renewal.lifetime, else 180d]
    #[arg(long, value_name = "TIME", requires = "client_secret", value_parser = super::duration)]
    lifetime: Option<Duration>,
    /// An Entra administrator signs in for it; without, the application uses its own right
    #[arg(long, requires = "client_secret")]
    admin: bool,
    /// With --admin: show a code to be entered on another device
    #[arg(long, requires = "admin")]
    device_code: bool,
    /// With --admin: read the address that a browser on another machine ended at
    #[arg(long, requires = "admin", conflicts_with = "device_code")]
    paste: bool,
    /// With --admin: only print the address to open on this machine
    #[arg(long, requires = "admin", conflicts_with_all = ["device_code", "paste"])]
    no_browser: bool,
}

impl RenewalArguments {
    /// Whether it is this that is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.client_secret
    }
}

pub(super) async fn run(
    arguments: &RenewalArguments,
    accounts: &[String],
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let [account] = accounts else {
        return Err(Failure::new(
            "usage.one_account",
            "--client-secret takes one account",
        ));
    };
    let person = Person::new(if arguments.paste {
        Way::Paste
    } else if arguments.no_browser {
        Way::Show
    } else {
        Way::Browser
    });
    let app = App::open_for(settings, Arc::new(person))?;
    let method = if arguments.device_code {
        LoginMethod::DeviceCode
    } else {
        LoginMethod::Browser
    };
    let options = Options {
        action: if arguments.finish {
            Action::Finish
        } else if arguments.abort {
            Action::Abort
        } else {
            Action::Renew
        },
        lifetime: arguments.lifetime,
        overlap: arguments.overlap,
        administrator: arguments.admin.then_some(method),
    };
    if arguments.admin {
        complain("Sign in as an administrator of the application.\n");
    }
    let quiet = output.is_json();
    let listener = Arc::new(move |progress: Progress| {
        if !quiet {
            complain(&says(&progress));
        }
    });
    let outcome = app.renew(account, &options, listener).await;
    app.close().await;
    let renewed = outcome?;
    show(&renewed, arguments, output);
    Ok(ExitCode::SUCCESS)
}

/// How it goes.
fn says(progress: &Progress) -> String {
    match progress {
        Progress::Making => "a new one is being made at Entra ID …".to_owned(),
        Progress::Proving => "the new one is tried: a token, and AUTH with it …".to_owned(),
        Progress::NotAccepted(pause) => format!(
            "Entra ID does not accept it yet; tried again in {} s …",
            pause.as_secs()
        ),
        Progress::Switched => "it works, and is in use from now on".to_owned(),
        Progress::Removing => "the old one is being removed …".to_owned(),
    }
}

fn show(renewed: &Renewed, arguments: &RenewalArguments, output: &Output) {
    output.json(renewed);
    let now = SystemTime::now();
    let (name, setting) = (&renewed.account, renewed.setting);
    let ends = renewed
        .expires_at
        .map_or_else(String::new, |at| format!(", good until {}", when::day(at)));
    let mut line = match (renewed.state, renewed.remove_after) {
        ("switched", Some(at)) => {
            let due = when::relative(at, now);
            format!("{name}: a new {setting} is in use{ends}\n  the old one may be removed {due}")
        }
        ("finished", _) => {
            format!("{name}: the new {setting} is in use{ends}, and the old one is removed")
        }
        ("aborted", _) => {
            format!("{name}: the old {setting} is in use, and the new one is removed")
        }
        _ if arguments.finish => format!("{name}: no renewal is under way: nothing to finish"),
        _ => format!("{name}: no renewal is under way: nothing to undo"),
    };
    for id in &renewed.orphans_removed {
        line = format!(
            "{line}\n  removed at Entra ID: {setting} {id}, which a broken-off renewal had left"
        );
    }
    for note in &renewed.notes {
        line = format!("{line}\n  note: {note}");
    }
    if let Some(next) = &renewed.next {
        line = format!("{line}\n  next: {next}");
    }
    output.line(line);
}
