//! The options by which an administrator signs in, and the sign-in itself, for every command
//! that needs one.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use postrider_auth::LoginMethod;
use serde::Deserialize;

use crate::app::App;
use crate::app::setup::{AdminSignIn, Administrator};
use crate::cli::output::complain;
use crate::failure::Failure;
use crate::terminal::{Person, Way, cancelled};
use crate::when;

/// The longest that is waited for an administrator; a device code lives for fifteen minutes.
const PATIENCE: Duration = Duration::from_mins(20);

/// How an administrator signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum AdminLogin {
    /// Your browser is opened here, or you open one on this machine
    Browser,
    /// A code is typed on another device; some tenants forbid it
    DeviceCode,
    /// The browser is on another machine; you bring back the address it ends at
    Paste,
}

/// Who the administrator signs in through, and how.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct AdminArguments {
    /// How the administrator signs in [default: browser where there is a desktop, else
    /// device-code]
    #[arg(long, value_enum, value_name = "WAY")]
    admin_login: Option<AdminLogin>,
    /// The public client to sign the administrator in with [default: Microsoft Graph Command
    /// Line Tools]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
}

impl AdminArguments {
    /// The same, and `way` where these options name none.
    pub(super) fn or(mut self, way: Option<AdminLogin>) -> Self {
        self.admin_login = self.admin_login.or(way);
        self
    }

    /// How the administrator signs in.
    pub(in crate::cli) fn way(&self) -> AdminLogin {
        self.admin_login.unwrap_or_else(|| {
            let variables = ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_INTEROP"];
            let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
            if !cfg!(target_os = "linux") || variables.into_iter().any(set) {
                AdminLogin::Browser
            } else {
                AdminLogin::DeviceCode
            }
        })
    }

    /// The client that the administrator signs in with, if one was named.
    pub(in crate::cli) fn client_id(&self) -> Option<String> {
        self.client_id.clone()
    }

    /// The method that goes with the way.
    pub(in crate::cli) fn method(&self) -> LoginMethod {
        match self.way() {
            AdminLogin::DeviceCode => LoginMethod::DeviceCode,
            AdminLogin::Browser | AdminLogin::Paste => LoginMethod::Browser,
        }
    }

    /// Whoever signs in that way, for [`App::open_for`].
    pub(in crate::cli) fn person(&self) -> Arc<Person> {
        let way = match self.way() {
            AdminLogin::Browser => Way::Browser,
            AdminLogin::DeviceCode | AdminLogin::Paste => Way::Paste,
        };
        let otherwise = "use --admin-login paste or --admin-login device-code";
        Arc::new(Person::new(way).otherwise(otherwise))
    }
}

/// Until an administrator has signed in, the time is up, or Ctrl-C. `app` was opened for
/// `person`.
pub(in crate::cli) async fn sign_in(
    app: &App,
    person: &Person,
    wanted: &AdminSignIn,
) -> Result<Administrator, Failure> {
    complain(&format!(
        "Sign in as an administrator of {}. Asked for, until this command ends: {}.\n",
        wanted.tenant,
        wanted.purpose.permissions().join(", ")
    ));
    let outcome = tokio::select! {
        outcome = app.administrator(wanted) => {
            // The plugin only heard that the person did not answer.
            outcome.map_err(|failure| person.take_trouble().unwrap_or(failure))
        }
        () = tokio::time::sleep(PATIENCE) => Err(Failure::new(
            "auth.login_timeout",
            format!("no administrator signed in within {}", when::span(PATIENCE)),
        )
        .with_remedy("run the command again")),
        _ = tokio::signal::ctrl_c() => Err(cancelled()),
    };
    match &outcome {
        Ok(administrator) => person.tell(
            "Signed in",
            &[
                &format!(
                    "{} is signed in as the administrator.",
                    administrator.username().unwrap_or("Somebody")
                ),
                "Go on at the terminal. You may close this window.",
            ],
        ),
        Err(failure) => person.tell(
            "Not signed in",
            &[&failure.message, "You may close this window."],
        ),
    }
    outcome
}
