//! `postrider secret set|list|remove`: what accounts refer to as `{ vault = "NAME" }`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use postrider_auth::days_left;
use postrider_config::{SecretRef, parse_expiry, secret_name};
use postrider_vault::Kind;
use serde::Serialize;
use serde_json::json;

use super::output::Output;
use super::unseen;
use crate::app::vault::{self, VaultSecret};
use crate::app::{App, Moment};
use crate::failure::Failure;
use crate::{suggest, when};

/// What to do with secrets in the vault.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Put a secret into the vault; one of that name is replaced
    #[command(after_help = "\
Examples:
  postrider secret set alerts/client_secret                  asks for it, without echo
  postrider secret set alerts/client_secret --expires 2027-03-01
  postrider secret set alerts/private_key < key.pem
  pass show mail/alerts | postrider secret set alerts/client_secret

An account refers to it as  client_secret = { vault = \"alerts/client_secret\" }.
It is never an argument: other users see those in the list of processes, and the shell keeps
them in its history.")]
    Set(SetArguments),
    /// List the secrets in the vault by name, and those that accounts miss; never their values
    #[command(after_help = "\
Examples:
  postrider secret list
  postrider secret list --json")]
    List,
    /// Take a secret out of the vault
    #[command(after_help = "\
Examples:
  postrider secret remove alerts/client_secret
  postrider secret remove alerts/client_secret --force    though accounts refer to it")]
    Remove {
        /// The secret's name
        name: String,
        /// Even if accounts refer to it
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct SetArguments {
    /// The secret's name: letters, digits and -_./@+:
    name: String,
    /// The day, or the time, from which its provider refuses it: 2027-03-01
    #[arg(long, value_name = "DATE", value_parser = |text: &str| parse_expiry(text))]
    expires: Option<SystemTime>,
    /// Refused: it is here to say so without repeating it.
    #[arg(hide = true, num_args = 0..)]
    value: Vec<OsString>,
}

pub(super) async fn run(command: Command, app: App, output: &Output) -> Result<ExitCode, Failure> {
    let output = output.clone();
    tokio::task::spawn_blocking(move || match command {
        Command::Set(arguments) => set(arguments, &app, &output),
        Command::List => list(&app, &output),
        Command::Remove { name, force } => remove(&name, force, &app, &output),
    })
    .await
    .map_err(|_| Failure::new("internal", "the command was interrupted"))?
}

fn set(arguments: SetArguments, app: &App, output: &Output) -> Result<ExitCode, Failure> {
    let SetArguments {
        name,
        expires,
        value,
    } = arguments;
    if !value.is_empty() {
        return Err(Failure::new(
            "usage.secret_in_arguments",
            "a secret is not taken from the command line: other users see it in the list of \
             processes, and the shell keeps it in its history",
        )
        .with_remedy(format!(
            "postrider secret set {} asks for it, or reads it from standard input; if this one \
             was real, clear it from the history, or have another one issued",
            named(&name)?
        )));
    }
    let name = named(&name)?;
    // What keeps the vault from opening is said before anybody types a secret.
    let vault = app.vault();
    vault.open()?;
    let before = vault.secret(&name);
    let value = unseen::ask("Value", false)?;
    let secret = VaultSecret {
        value,
        expires,
        set_at: SystemTime::now(),
    };
    vault.put_secret(&name, &secret)?;

    let replaced = !matches!(before, Ok(None));
    let used_by = references(app).remove(&name).unwrap_or_default();
    output.json(&json!({
        "name": name,
        "replaced": replaced,
        "set_at": Moment(secret.set_at),
        "expires": expires.map(Moment),
        "used_by": used_by,
    }));
    output.line(if replaced {
        format!("{name} is replaced")
    } else {
        format!("{name} is in the vault")
    });
    match (expires, before) {
        (Some(expires), _) => output.line(format!("it {}", expiry(expires, secret.set_at))),
        (
            None,
            Ok(Some(VaultSecret {
                expires: Some(_), ..
            })),
        ) => output.line(
            "the one before had a date on which it expires; this one has none: say it with \
             --expires",
        ),
        _ => {}
    }
    if used_by.is_empty() {
        output.line(format!(
            "no account refers to it yet: client_secret = {{ vault = \"{name}\" }}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> Result<String, Failure> {
    secret_name(name)
        .map(|()| name.to_owned())
        .map_err(|why| Failure::new("usage.secret_name", why))
}

/// One secret in the list.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Moment>,
    /// Days until then, as [`days_left`] counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i64>,
    used_by: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Failure>,
}

fn list(app: &App, output: &Output) -> Result<ExitCode, Failure> {
    let now = SystemTime::now();
    let mut references = references(app);
    let mut rows = Vec::new();
    if let Some(vault) = app.vault().existing()? {
        for entry in vault
            .list(Kind::Secret)
            .map_err(|error| vault::failure(&error))?
        {
            let used_by = references.remove(&entry.name).unwrap_or_default();
            let secret = match &entry.problem {
                Some(error) => Err(vault::failure(error)),
                None => app.vault().secret(&entry.name),
            };
            rows.push(match secret {
                // Removed in the meantime.
                Ok(None) => continue,
                Ok(Some(secret)) => Row {
                    name: entry.name,
                    set_at: Some(Moment(secret.set_at)),
                    expires: secret.expires.map(Moment),
                    days: secret.expires.map(|at| days_left(at, now)),
                    used_by,
                    problem: None,
                },
                Err(problem) => Row {
                    name: entry.name,
                    set_at: None,
                    expires: None,
                    days: None,
                    used_by,
                    problem: Some(problem),
                },
            });
        }
    }
    // What is left is in the configuration and not in the vault.
    let missing: Vec<_> = references
        .iter()
        .map(|(name, used_by)| json!({ "name": name, "used_by": used_by }))
        .collect();
    output.json(&json!({ "secrets": rows, "missing": missing }));
    print(&rows, output);
    for (name, used_by) in &references {
        output.line(format!(
            "{}  {name}, needed by {}\n  try: postrider secret set {name}",
            output.bad("missing"),
            joined(used_by)
        ));
    }
    let worst = rows.iter().find_map(|row| row.problem.as_ref());
    Ok(worst.map_or(ExitCode::SUCCESS, |failure| {
        ExitCode::from(failure.exit_code())
    }))
}

fn print(rows: &[Row], output: &Output) {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                row.name.clone(),
                or_dash(row.set_at.map(when::day)),
                or_dash(row.expires.map(when::day)),
                or_dash(row.days.map(|days| days.to_string())),
                or_dash((!row.used_by.is_empty()).then(|| joined(&row.used_by))),
            ]
        })
        .collect();
    output.table(
        &["NAME", "SET", "EXPIRES", "DAYS", "USED BY"],
        &cells,
        "no secrets in the vault: postrider secret set NAME",
    );
    for row in rows {
        if let Some(problem) = &row.problem {
            output.line(format!("{}  {}", output.bad("damaged"), row.name));
            output.line(problem.to_string());
        }
    }
}

fn remove(name: &str, force: bool, app: &App, output: &Output) -> Result<ExitCode, Failure> {
    let name = named(name)?;
    let used_by = references(app).remove(&name).unwrap_or_default();
    if !used_by.is_empty() && !force {
        return Err(Failure::new(
            "secret.in_use",
            format!("{name} is still needed, by {}", joined(&used_by)),
        )
        .with_remedy("change the configuration first, or say --force"));
    }
    let vault = app.vault().existing()?;
    let removed = match &vault {
        Some(vault) => vault
            .remove(Kind::Secret, &name)
            .map_err(|error| vault::failure(&error))?,
        None => false,
    };
    if !removed {
        let known = match &vault {
            Some(vault) => vault
                .names(Kind::Secret)
                .map_err(|error| vault::failure(&error))?,
            None => Vec::new(),
        };
        let failure = Failure::new("secret.missing", format!("the vault has no secret {name}"));
        return Err(
            match suggest::nearest(&name, known.iter().map(String::as_str)) {
                Some(near) => failure.with_remedy(format!("did you mean \"{near}\"?")),
                None => failure.with_remedy("postrider secret list shows those that it has"),
            },
        );
    }
    output.json(&json!({ "name": name, "removed": true, "used_by": used_by }));
    output.line(format!("{name} is removed"));
    if !used_by.is_empty() {
        output.line(format!("it is still needed, by {}", joined(&used_by)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings that refer to each name.
fn references(app: &App) -> BTreeMap<String, BTreeSet<String>> {
    let mut references: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for account in app.accounts() {
        for (setting, secret) in &account.auth.secrets {
            if let SecretRef::Vault(name) = secret {
                let place = format!("account.{}.auth.{setting}", account.name);
                references.entry(name.clone()).or_default().insert(place);
            }
        }
    }
    references
}

fn joined(places: &BTreeSet<String>) -> String {
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    places.join(", ")
}

/// `expires on 2027-03-01, in 5 d`.
fn expiry(expires: SystemTime, now: SystemTime) -> String {
    let on = when::day(Moment(expires));
    if expires <= now {
        format!("expired on {on} already")
    } else {
        format!("expires on {on}, {}", when::end(Moment(expires), now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_said_with_its_day_and_how_far_it_is() {
        let expires = parse_expiry("2027-03-01").unwrap();
        for (now, said) in [
            ("2027-02-01", "expires on 2027-03-01, in 28 d"),
            ("2027-02-26T00:00:01Z", "expires on 2027-03-01, in 3 d"),
            ("2027-02-28T12:00:00Z", "expires on 2027-03-01, in 12 h"),
            ("2027-03-01T00:00:00Z", "expired on 2027-03-01 already"),
            ("2027-03-03", "expired on 2027-03-01 already"),
        ] {
            assert_eq!(expiry(expires, parse_expiry(now).unwrap()), said, "{now}");
        }
    }
}
