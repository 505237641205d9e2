//! `postrider gateway credential add|list|remove`: the passwords that devices sign in with.
//!
//! A password is shown once, when it is made; what is kept is a hash in the vault. A daemon looks
//! it up at each sign-in, so that what is done here counts at once.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use postrider_config::edit::Change;
use postrider_config::{Gateway, check_device_name};
use postrider_gateway::credential::{CredentialError, check_chosen, grouped, new_password};
use postrider_vault::Kind;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::Page;
use super::{chosen, confirm, write};
use crate::app::gateway::{
    StoredCredential, credential, credential_name, devices as stored_devices, keep_credential,
};
use crate::app::{App, AppSettings, Moment, setup, vault};
use crate::cli::output::{Output, complain};
use crate::cli::unseen;
use crate::failure::Failure;
use crate::{suggest, when};

/// What to do with devices' passwords.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a password for a device, and print what to type into its settings page
    Add(AddArguments),
    /// List the devices with a password; never the passwords
    #[command(after_help = "\
Examples:
  postrider gateway credential list
  postrider gateway credential list --gateway office --json")]
    List {
        /// Of this gateway only
        #[arg(long, short, value_name = "NAME")]
        gateway: Option<String>,
    },
    /// Take a device's password away: it cannot sign in any more
    #[command(after_help = "\
Examples:
  postrider gateway credential remove printer-2
  postrider gateway credential remove printer-2 --gateway office --yes")]
    Remove {
        /// The device
        device: String,
        /// Its gateway [default: the only one that has a password for it]
        #[arg(long, short, value_name = "NAME")]
        gateway: Option<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider gateway credential add printer-2
  postrider gateway credential add scanner@contoso.com --gateway office --account scans
  postrider gateway credential add ups --sender ups@contoso.com --note 'rack 3'
  postrider gateway credential add printer-2 --replace          another password
  postrider gateway credential add old-copier --password-stdin < password
                                                                the one that it has

DEVICE is the user name that it signs in with: a word, or a mail address where its settings page
wants one. The password is printed once and kept as a hash; capitals, dashes and spaces in it make
no difference. It opens this gateway and nothing else.")]
pub(in crate::cli) struct AddArguments {
    /// The device: letters, digits and -_.@+
    device: String,
    /// The gateway that it submits to [default: the only one there is]
    #[arg(long, short, value_name = "NAME")]
    gateway: Option<String>,
    /// The account that its mail is sent through [default: the gateway's]
    #[arg(long, short, value_name = "NAME")]
    account: Option<String>,
    /// Whom its messages may come from: an address, or @contoso.com; may be given several times
    /// [default: the gateway's]
    #[arg(long = "sender", value_name = "ADDRESS")]
    senders: Vec<String>,
    /// Something to remember it by
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Take the password from standard input: one that the device has already
    #[arg(long)]
    password_stdin: bool,
    /// Though it has one, which does not work any more from then on
    #[arg(long)]
    replace: bool,
    /// Refused: it is here to say so without repeating it.
    #[arg(hide = true, num_args = 0..)]
    password: Vec<OsString>,
}

pub(super) fn run(
    command: Command,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Add(arguments) => add(&arguments, settings, output),
        Command::List { gateway } => list(gateway.as_deref(), &App::open(settings)?, output),
        Command::Remove {
            device,
            gateway,
            yes,
        } => remove(
            &device,
            gateway.as_deref(),
            yes,
            &App::open(settings)?,
            output,
        ),
    }
}

fn add(
    arguments: &AddArguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let device = arguments.device.as_str();
    check_device_name(device)
        .map_err(|why| Failure::new("usage.device", format!("{device:?}: {why}")))?;
    if !arguments.password.is_empty() {
        return Err(Failure::new(
            "usage.secret_in_arguments",
            "a password is not taken from the command line: other users see it in the list of \
             processes, and the shell keeps it in its history",
        )
        .with_remedy(
            "--password-stdin asks for it, or reads it from standard input; if this one was \
             real, clear it from the history",
        ));
    }
    let app = App::open(settings)?;
    let gateway = chosen(&app, arguments.gateway.as_deref())?;
    let name = gateway.name.clone();
    if let Some(account) = &arguments.account {
        app.settings_of(account)?;
    }
    // What keeps the vault from opening is said before anything is changed.
    let vault = app.vault().open()?;
    let before = match credential(&vault, &name, device) {
        Ok(None) => None,
        Ok(Some(_)) | Err(_) if !arguments.replace => return Err(exists(&name, device)),
        Ok(before) => before,
        // A damaged one is replaced.
        Err(failure) if failure.code == "vault.malformed" => None,
        Err(failure) => return Err(failure),
    };
    let password = if arguments.password_stdin {
        let password = unseen::ask("Password", false)?;
        check_chosen(&password).map_err(|error| failure(&error))?;
        password
    } else {
        new_password().map_err(|error| failure(&error))?
    };
    let replaced = before.is_some();
    let now = app.clock().now();
    let note = arguments.note.clone();
    let stored = match before {
        Some(before) => before
            .rotated(&password, now)
            .map(|stored| StoredCredential {
                note: note.or(stored.note.clone()),
                ..stored
            }),
        None => StoredCredential::new(&password, note, now),
    };
    let stored = stored.map_err(|error| failure(&error))?;

    // The settings first: they are checked, and a password that came before them could do more.
    let changes = changes(gateway, arguments);
    let app = if changes.is_empty() {
        app
    } else {
        write(&setup::config_path(settings), &changes)?;
        App::open(settings)?
    };
    keep_credential(&vault, &name, device, &stored)?;

    let gateway = chosen(&app, Some(&name))?;
    let page = Page::of(gateway, device, settings);
    let shown = (!arguments.password_stdin).then(|| grouped(&password));
    output.json(&page.json(shown.as_ref(), replaced));
    for line in page.lines(shown.as_ref()) {
        output.line(line);
    }
    if replaced && !output.is_json() {
        complain(&format!("\nThe password that {device} had works no more."));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the command line says of the device, as changes of the configuration.
fn changes(gateway: &Gateway, arguments: &AddArguments) -> Vec<Change> {
    let quoted = |text: &str| Value::from(text).to_string();
    let table = format!(
        "gateway.{}.device.{}",
        quoted(&gateway.name),
        quoted(&arguments.device)
    );
    let account = arguments.account.as_ref().map(|account| json!(account));
    let senders = (!arguments.senders.is_empty()).then(|| json!(arguments.senders));
    [("account", account), ("senders", senders)]
        .into_iter()
        .filter_map(|(key, value)| {
            Some(Change::Set {
                key: format!("{table}.{key}"),
                value: value?,
            })
        })
        .collect()
}

fn exists(gateway: &str, device: &str) -> Failure {
    Failure::new(
        "config.credential_exists",
        format!(
            "{device} has a password at gateway {gateway} already, which cannot be shown again"
        ),
    )
    .with_remedy("say --replace to give it another; the one that it has works no more from then on")
}

fn failure(error: &CredentialError) -> Failure {
    let code = match error {
        CredentialError::Short { .. } | CredentialError::Long { .. } | CredentialError::Control => {
            "secret.malformed"
        }
        _ => "internal",
    };
    let failure = Failure::new(code, error.to_string());
    match error {
        CredentialError::Short { .. } => failure.with_remedy(
            "leave --password-stdin out: a password that cannot be guessed is made and printed",
        ),
        _ => failure,
    }
}

/// One device in the list.
#[derive(Serialize)]
struct Row {
    gateway: String,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_rotated_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// The account that it sends through; nothing where its gateway is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Failure>,
}

fn list(only: Option<&str>, app: &App, output: &Output) -> Result<ExitCode, Failure> {
    if let Some(name) = only {
        chosen(app, Some(name))?;
    }
    let gateways = &app.config().gateways;
    let mut rows = Vec::new();
    for (gateway, device) in devices(app)? {
        if only.is_some_and(|only| only != gateway) {
            continue;
        }
        let account = gateways
            .get(&gateway)
            .map(|settings| settings.device(&device).account.clone());
        let vault = app.vault().open()?;
        let (stored, problem) = match credential(&vault, &gateway, &device) {
            // Removed in the meantime.
            Ok(None) => continue,
            Ok(stored) => (stored, None),
            Err(problem) => (None, Some(problem)),
        };
        let moment = |at: Timestamp| Moment(at.into());
        rows.push(Row {
            created_at: stored.as_ref().map(|stored| moment(stored.created_at)),
            last_rotated_at: stored
                .as_ref()
                .and_then(|stored| stored.last_rotated_at.map(moment)),
            note: stored.and_then(|stored| stored.note),
            gateway,
            device,
            account,
            problem,
        });
    }
    // Written down in the configuration, and unable to sign in.
    let missing: Vec<(&str, &str)> = gateways
        .values()
        .filter(|gateway| only.is_none_or(|only| only == gateway.name))
        .flat_map(|gateway| {
            let devices = gateway.devices.keys();
            devices.map(move |device| (gateway.name.as_str(), device.as_str()))
        })
        .filter(|missing| {
            let has = |row: &Row| (row.gateway.as_str(), row.device.as_str()) == *missing;
            !rows.iter().any(has)
        })
        .collect();
    let named: Vec<Value> = missing
        .iter()
        .map(|(gateway, device)| json!({ "gateway": gateway, "device": device }))
        .collect();
    output.json(&json!({ "credentials": rows, "missing": named }));
    print(&rows, &missing, output);
    let worst = rows.iter().find_map(|row| row.problem.as_ref());
    Ok(worst.map_or(ExitCode::SUCCESS, |failure| {
        ExitCode::from(failure.exit_code())
    }))
}

fn print(rows: &[Row], missing: &[(&str, &str)], output: &Output) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                row.gateway.clone(),
                row.device.clone(),
                or_dash(row.created_at.map(when::day)),
                or_dash(row.last_rotated_at.map(when::day)),
                row.account
                    .clone()
                    .unwrap_or_else(|| "no such gateway".to_owned()),
                row.note.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output.table(
        &["GATEWAY", "DEVICE", "MADE", "REPLACED", "ACCOUNT", "NOTE"],
        &cells,
        "no device has a password: postrider gateway credential add DEVICE",
    );
    for row in rows {
        if let Some(problem) = &row.problem {
            output.line(format!(
                "{}  {}/{}",
                output.bad("damaged"),
                row.gateway,
                row.device
            ));
            output.line(problem.to_string());
        }
    }
    for (gateway, device) in missing {
        output.line(format!(
            "{}  {device} has settings at gateway {gateway}, and no password\n  try: postrider \
             gateway credential add {device} --gateway {gateway}",
            output.bad("missing"),
        ));
    }
}

fn remove(
    device: &str,
    gateway: Option<&str>,
    yes: bool,
    app: &App,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let all = devices(app)?;
    let found: Vec<&str> = all
        .iter()
        .filter(|(at, name)| name == device && gateway.is_none_or(|gateway| gateway == at))
        .map(|(at, _)| at.as_str())
        .collect();
    let gateway = match found.as_slice() {
        [only] => *only,
        [] => {
            let failure = Failure::new(
                "usage.no_such_device",
                match gateway {
                    Some(gateway) => format!("{device} has no password at gateway {gateway}"),
                    None => format!("{device} has no password at any gateway"),
                },
            );
            let names = all.iter().map(|(_, name)| name.as_str());
            return Err(match suggest::nearest(device, names) {
                Some(near) if near != device => {
                    failure.with_remedy(format!("did you mean \"{near}\"?"))
                }
                _ => failure.with_remedy("postrider gateway credential list shows who has one"),
            });
        }
        several => {
            return Err(Failure::new(
                "usage.which_gateway",
                format!(
                    "{device} has a password at several gateways: {}",
                    several.join(", ")
                ),
            )
            .with_remedy("say --gateway NAME"));
        }
    };
    confirm(
        yes,
        &format!("the password of {device} at gateway {gateway}"),
    )?;
    let removed = app
        .vault()
        .open()?
        .remove(Kind::Device, &credential_name(gateway, device))
        .map_err(|error| vault::failure(&error))?;
    output.json(&json!({ "gateway": gateway, "device": device, "removed": removed }));
    output.line(format!(
        "{device} cannot sign in to gateway {gateway} any more"
    ));
    let settings = app.config().gateways.get(gateway);
    if settings.is_some_and(|settings| settings.devices.contains_key(device)) {
        let table = format!("[gateway.{gateway}.device.{}]", Value::from(device));
        output.line(format!("its settings stay in the configuration: {table}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Gateway and device of every password there is.
pub(super) fn devices(app: &App) -> Result<Vec<(String, String)>, Failure> {
    match app.vault().existing()? {
        Some(vault) => stored_devices(&vault),
        None => Ok(Vec::new()),
    }
}
