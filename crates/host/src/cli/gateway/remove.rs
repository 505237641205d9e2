//! `postrider gateway remove NAME`.

use std::process::ExitCode;

use clap::Args;
use postrider_config::Presets;
use postrider_config::edit::{self, EditError};
use postrider_vault::Kind;
use serde_json::{Value, json};

use super::{chosen, confirm};
use crate::app::gateway::{credential_name, devices};
use crate::app::{App, AppSettings, config_failure, edit_failure, vault};
use crate::cli::output::Output;
use crate::failure::Failure;

/// Which gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider gateway remove office
  postrider gateway remove office --yes

Its table goes out of the configuration with those of its devices, and its devices' passwords out
of the vault. What they have submitted stays in the queue.")]
pub(in crate::cli) struct Arguments {
    /// The gateway
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(
    arguments: &Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let app = App::open(settings)?;
    let gateway = chosen(&app, Some(&arguments.name))?;
    let Some(path) = app.config_path() else {
        return Err(Failure::new(
            "config.no_gateway",
            "there is no configuration file",
        ));
    };
    // What keeps the vault from opening is said before anything is changed.
    let vault = app.vault().existing()?;
    let mut devices = match &vault {
        Some(vault) => devices(vault)?,
        None => Vec::new(),
    };
    devices.retain(|(at, _)| *at == gateway.name);
    let what = match devices.len() {
        0 => format!("the gateway {}", gateway.name),
        1 => format!("the gateway {} and its device's password", gateway.name),
        some => format!(
            "the gateway {} and the passwords of its {some} devices",
            gateway.name
        ),
    };
    confirm(arguments.yes, &what)?;
    let key = format!("gateway.{}", Value::from(gateway.name.as_str()));
    edit::remove(path, &key, &Presets::builtin()).map_err(|error| match error {
        EditError::Invalid(errors) => config_failure(&errors),
        error => edit_failure(&error),
    })?;
    if let Some(vault) = &vault {
        for (gateway, device) in &devices {
            vault
                .remove(Kind::Device, &credential_name(gateway, device))
                .map_err(|error| vault::failure(&error))?;
        }
    }
    output.json(&json!({
        "name": gateway.name,
        "removed": true,
        "config": path,
        "credentials": devices.len(),
    }));
    output.line(format!("{what}: removed"));
    Ok(ExitCode::SUCCESS)
}
