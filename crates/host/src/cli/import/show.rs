//! What will be written, what is left out, and what to do next, as a person reads it.

use std::path::Path;

use postrider_config::edit::Change;
use postrider_import::{Imported, ImportedAccount};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::app::AppSettings;
use crate::cli::output::Output;

/// Everything that comes of the file.
pub(super) fn plan(
    file: &Path,
    path: &Path,
    imported: &Imported,
    changes: &[Change],
    output: &Output,
) {
    output.line(format!("From {}, in {}:", file.display(), path.display()));
    for account in &imported.accounts {
        let key = format!("account.{}", account.name);
        output.line(format!("\n  {} [{key}]", mark(&key, changes, output)));
        leaves("", &account.settings, output);
        for secret in &account.secrets {
            output.line(format!("           in the vault: {}", secret.name));
        }
        if account.tokens.is_some() {
            output.line("           in the vault: its sign-in");
        }
    }
    for gateway in &imported.gateways {
        let key = format!("gateway.{}", gateway.name);
        output.line(format!("\n  {} [{key}]", mark(&key, changes, output)));
        leaves("", &gateway.settings, output);
        for device in &gateway.devices {
            let password = match device.password {
                Some(_) => "the password that it has",
                None => "a new password",
            };
            output.line(format!(
                "           device {}, with {password}",
                device.name
            ));
        }
    }
}

fn mark(key: &str, changes: &[Change], output: &Output) -> String {
    let new = changes
        .iter()
        .any(|change| matches!(change, Change::Set { key: set, .. } if set == key));
    if new {
        output.good("set    ")
    } else {
        output.faint("exists ")
    }
}

/// Each setting on a line; of secrets there are references only.
fn leaves(above: &str, settings: &serde_json::Map<String, Value>, output: &Output) {
    for (name, value) in settings {
        let key = format!("{above}{name}");
        match value {
            Value::Object(below) => leaves(&format!("{key}."), below, output),
            value => output.line(format!("           {key} = {value}")),
        }
    }
}

/// What could not be carried over.
pub(super) fn left(imported: &Imported, output: &Output) {
    if imported.not_carried.is_empty() {
        return;
    }
    output.line("\nNot carried over, or not as it was:");
    for left in &imported.not_carried {
        output.line(format!("  {}  {}", left.place, left.what));
        output.line(format!("      {}", left.why));
        if let Some(instead) = &left.instead {
            output.line(format!("      try: {instead}"));
        }
    }
}

/// Passwords that were made here.
pub(super) fn passwords(made: &[(&str, &str, SecretString)], output: &Output) {
    if made.is_empty() {
        return;
    }
    output.line("\nNew passwords, which are not shown again:");
    for (gateway, device, password) in made {
        output.line(format!(
            "  gateway {gateway}  user {device}  password {}",
            password.expose_secret()
        ));
    }
}

/// What to do next.
pub(super) fn next(imported: &Imported, waiting: &[&str], given: &AppSettings, output: &Output) {
    let mut postrider = "postrider".to_owned();
    let options = [
        ("--config", &given.config),
        ("--state-dir", &given.state_dir),
    ];
    for (option, path) in options {
        if let Some(path) = path {
            postrider = format!("{postrider} {option} {}", word(&path.display().to_string()));
        }
    }
    output.line("\nNext:");
    output.line(format!("  {postrider} check"));
    for ImportedAccount { name, .. } in &imported.accounts {
        if waiting.contains(&name.as_str()) {
            output.line(format!("  {postrider} login {name}"));
        } else {
            output.line(format!("  {postrider} doctor {name}"));
        }
    }
    if !imported.gateways.is_empty() {
        output.line(format!("  {postrider} serve"));
    }
}

/// A path as one word of a shell's.
fn word(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if path.chars().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}
