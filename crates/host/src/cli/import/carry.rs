//! What is written, in which order, and what stands there already.

use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_config::Presets;
use postrider_config::edit::{self, Change};
use postrider_gateway::credential::{check_chosen, grouped, new_password};
use postrider_import::{Imported, ImportedAccount, ImportedDevice, ImportedGateway, NotCarried};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::show;
use crate::app::gateway::{StoredCredential, credential, keep_credential};
use crate::app::vault::VaultSecret;
use crate::app::{App, edit_failure, setup};
use crate::cli::output::Output;
use crate::cli::setup::ask;
use crate::failure::Failure;
use crate::terminal::cancelled;

/// One run.
pub(super) struct Carrier<'a> {
    pub(super) app: &'a App,
    /// The file that the settings go to.
    pub(super) path: &'a Path,
    /// The file that they come from.
    pub(super) file: &'a Path,
    pub(super) imported: &'a Imported,
    pub(super) output: &'a Output,
}

/// How a table that is to be written stands in the configuration.
pub(super) enum Standing {
    New(Change),
    Same,
}

/// A device's password that is to be kept.
struct DevicePassword<'a> {
    gateway: &'a str,
    device: &'a ImportedDevice,
    password: SecretString,
    /// It was made here.
    new: bool,
}

/// Takes out accounts that the configuration would not take, and says so. One account in want of
/// something keeps no other from being imported.
pub(super) fn leave_out_what_is_wrong(imported: &mut Imported) {
    let presets = Presets::builtin();
    let mut gone = Vec::new();
    let (accounts, left) = (&mut imported.accounts, &mut imported.not_carried);
    accounts.retain(|account| {
        let value = Value::Object(account.settings.clone());
        let Err(failure) = setup::check(&account.name, &value, &presets) else {
            return true;
        };
        left.push(NotCarried {
            place: account.place.clone(),
            what: format!("account {}", account.name),
            why: failure.message,
            instead: Some(
                failure
                    .remedy
                    .unwrap_or_else(|| "postrider setup".to_owned()),
            ),
        });
        gone.push(account.name.clone());
        false
    });
    let is_gone = |settings: &Map<String, Value>| {
        let account = settings.get("account").and_then(Value::as_str);
        account.is_some_and(|account| gone.iter().any(|it| it == account))
    };
    imported.gateways.retain_mut(|gateway| {
        gateway.devices.retain(|device| !is_gone(&device.settings));
        let keep = !is_gone(&gateway.settings);
        if !keep {
            left.push(NotCarried {
                place: gateway.place.clone(),
                what: format!("gateway {}", gateway.name),
                why: "its account was not imported".to_owned(),
                instead: None,
            });
        }
        keep
    });
}

impl Carrier<'_> {
    pub(super) async fn run(&self, dry_run: bool, yes: bool) -> Result<(), Failure> {
        let Imported {
            accounts, gateways, ..
        } = self.imported;
        if accounts.is_empty() && gateways.is_empty() {
            show::left(self.imported, self.output);
            let mut failure = Failure::new(
                "config.import",
                "nothing in it could be carried over; nothing was changed",
            )
            .at(self.file.display().to_string());
            failure.details = json!({ "not_carried": self.imported.not_carried });
            return Err(failure);
        }
        let changes = self.changes()?;
        // What keeps the vault from opening is said before anything is written.
        let vault = if dry_run {
            None
        } else {
            Some(self.app.vault().open()?)
        };
        let secrets = self.secrets()?;
        let passwords = self.passwords()?;
        show::plan(self.file, self.path, self.imported, &changes, self.output);
        show::left(self.imported, self.output);
        if dry_run {
            self.output.json(&self.json(&changes, &[], &[], false));
            self.output.line("\nNothing was changed (--dry-run).");
            return Ok(());
        }
        let is_new = !changes.is_empty() || !secrets.is_empty() || !passwords.is_empty();
        if is_new {
            confirm(yes)?;
        }
        setup::write(self.path, &changes)?;
        for (name, value) in &secrets {
            let kept = VaultSecret {
                value: (*value).clone(),
                expires: None,
                set_at: SystemTime::now(),
            };
            self.app.vault().put_secret(name, &kept)?;
        }
        if let Some(vault) = &vault {
            let now = Timestamp::now();
            for one in &passwords {
                let note = Some(format!("imported from {}", self.file.display()));
                let stored = StoredCredential::new(&one.password, note, now)
                    .map_err(|error| Failure::new("internal", error.to_string()))?;
                keep_credential(vault, one.gateway, &one.device.name, &stored)?;
            }
        }
        let taken = self.sign_ins().await?;
        let wrote = is_new || !taken.is_empty();
        let shown: Vec<_> = passwords
            .iter()
            .filter(|one| one.new)
            .map(|one| {
                let password = grouped(&one.password);
                (one.gateway, one.device.name.as_str(), password)
            })
            .collect();
        self.output
            .json(&self.json(&changes, &taken, &shown, wrote));
        if wrote {
            self.output
                .line(format!("\nWritten: {}", self.path.display()));
        } else {
            self.output
                .line("\nNothing to change: everything is there already.");
        }
        show::passwords(&shown, self.output);
        let waiting = self.waiting().await;
        show::next(self.imported, &waiting, self.output);
        Ok(())
    }

    /// What the configuration lacks.
    fn changes(&self) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        let accounts = self.imported.accounts.iter().map(|account| {
            let value = Value::Object(account.settings.clone());
            ("account", account.name.as_str(), value)
        });
        let gateways = self.imported.gateways.iter().map(|gateway| {
            let mut settings = gateway.settings.clone();
            let devices: Map<String, Value> = gateway
                .devices
                .iter()
                .filter(|device| !device.settings.is_empty())
                .map(|device| (device.name.clone(), Value::Object(device.settings.clone())))
                .collect();
            if !devices.is_empty() {
                settings.insert("device".to_owned(), Value::Object(devices));
            }
            ("gateway", gateway.name.as_str(), Value::Object(settings))
        });
        for (table, name, value) in accounts.chain(gateways) {
            if let Standing::New(change) = self.standing(table, name, value)? {
                changes.push(change);
            }
        }
        Ok(changes)
    }

    /// Whether `value` is to be written as `[table.name]`, or stands there.
    fn standing(&self, table: &str, name: &str, value: Value) -> Result<Standing, Failure> {
        let key = format!("{table}.{name}");
        let there = edit::get(self.path, &key).map_err(|error| edit_failure(&error))?;
        let Some(there) = there else {
            return Ok(Standing::New(Change::Set { key, value }));
        };
        let mut differing = Vec::new();
        differences(&key, &there, &value, &mut differing);
        if differing.is_empty() {
            return Ok(Standing::Same);
        }
        Err(Failure::new(
            "config.exists",
            format!(
                "[{key}] is there already, and its {} is another; nothing was changed",
                differing.join(", ")
            ),
        )
        .with_remedy("import under other names: --account-prefix old-"))
    }

    /// Secrets that the vault lacks.
    fn secrets(&self) -> Result<Vec<(&str, &SecretString)>, Failure> {
        let mut missing = Vec::new();
        for account in &self.imported.accounts {
            for secret in &account.secrets {
                match self.app.vault().secret(&secret.name)? {
                    None => missing.push((secret.name.as_str(), &secret.value)),
                    // Of an account that is there already: somebody has set a newer one.
                    Some(_) if self.is_there(account) => {}
                    Some(there) if there.value.expose_secret() == secret.value.expose_secret() => {}
                    Some(_) => {
                        return Err(Failure::new(
                            "config.exists",
                            format!(
                                "the vault has another secret named {}; nothing was changed",
                                secret.name
                            ),
                        )
                        .with_remedy(format!(
                            "import under other names: --account-prefix old-, or: postrider \
                             secret remove {}",
                            secret.name
                        )));
                    }
                }
            }
        }
        Ok(missing)
    }

    fn is_there(&self, account: &ImportedAccount) -> bool {
        self.app.config().accounts.contains_key(&account.name)
    }

    /// Passwords for devices that have none.
    fn passwords(&self) -> Result<Vec<DevicePassword<'_>>, Failure> {
        let vault = self.app.vault().existing()?;
        let mut missing = Vec::new();
        for ImportedGateway { name, devices, .. } in &self.imported.gateways {
            for device in devices {
                if let Some(vault) = &vault
                    && credential(vault, name, &device.name)?.is_some()
                {
                    continue;
                }
                // One that cannot be taken over is replaced, and the new one shown.
                let kept = device.password.as_ref();
                let kept = kept.filter(|password| check_chosen(password).is_ok());
                let password = match kept {
                    Some(password) => password.clone(),
                    None => new_password()
                        .map_err(|error| Failure::new("internal", error.to_string()))?,
                };
                missing.push(DevicePassword {
                    gateway: name,
                    device,
                    password,
                    new: kept.is_none(),
                });
            }
        }
        Ok(missing)
    }

    /// Goes on with sign-ins; the names of the accounts that have theirs now.
    async fn sign_ins(&self) -> Result<Vec<&str>, Failure> {
        let mut taken = Vec::new();
        let app = self.app.next_generation()?;
        for account in &self.imported.accounts {
            let Some(tokens) = &account.tokens else {
                continue;
            };
            let opened = app.account(&account.name).await;
            let outcome = match &opened {
                Ok(opened) => opened.take_in(&tokens.refresh_token).await,
                Err(failure) => Err(failure.clone()),
            };
            match outcome {
                Ok(true) => taken.push(account.name.as_str()),
                Ok(false) => {}
                Err(failure) => {
                    app.close().await;
                    return Err(failure);
                }
            }
        }
        app.close().await;
        Ok(taken)
    }

    /// The accounts that nobody is signed in to.
    async fn waiting(&self) -> Vec<&str> {
        let Ok(app) = self.app.next_generation() else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        for account in self.imported.accounts.iter().filter(|it| it.needs_person()) {
            let standing = match app.account(&account.name).await {
                Ok(opened) => opened.standing().await.ok(),
                Err(_) => None,
            };
            if standing.is_some_and(|standing| standing.sign_in_needed) {
                waiting.push(account.name.as_str());
            }
        }
        app.close().await;
        waiting
    }

    fn json(
        &self,
        changes: &[Change],
        taken: &[&str],
        passwords: &[(&str, &str, SecretString)],
        wrote: bool,
    ) -> Value {
        let is_new = |key: &str| {
            changes
                .iter()
                .any(|change| matches!(change, Change::Set { key: set, .. } if set == key))
        };
        let accounts = self.imported.accounts.iter().map(|account| {
            json!({
                "name": account.name,
                "new": is_new(&format!("account.{}", account.name)),
                "settings": account.settings,
                "secrets": account.secrets.iter().map(|it| &it.name).collect::<Vec<_>>(),
                "tokens": account.tokens.is_some(),
            })
        });
        let gateways = self.imported.gateways.iter().map(|gateway| {
            json!({
                "name": gateway.name,
                "new": is_new(&format!("gateway.{}", gateway.name)),
                "settings": gateway.settings,
                "devices": gateway.devices.iter().map(|it| &it.name).collect::<Vec<_>>(),
            })
        });
        let passwords = passwords.iter().map(|(gateway, device, password)| {
            json!({ "gateway": gateway, "device": device, "password": password.expose_secret() })
        });
        json!({
            "changed": wrote,
            "accounts": accounts.collect::<Vec<_>>(),
            "gateways": gateways.collect::<Vec<_>>(),
            "sign_ins": taken,
            "passwords": passwords.collect::<Vec<_>>(),
            "not_carried": self.imported.not_carried,
        })
    }
}

/// The keys of `wanted` that `there` has otherwise. What it has besides, somebody added.
fn differences(key: &str, there: &Value, wanted: &Value, found: &mut Vec<String>) {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            for (name, value) in wanted {
                let key = format!("{key}.{name}");
                match there.get(name) {
                    Some(other) => differences(&key, other, value, found),
                    None => found.push(key),
                }
            }
        }
        (there, wanted) if there == wanted => {}
        _ => found.push(key.to_owned()),
    }
}

fn confirm(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !ask::is_attended() {
        return Err(Failure::new(
            "usage.not_confirmed",
            "nothing was changed: there is no terminal to ask at",
        )
        .with_remedy("look at the list above, then run it again with --yes"));
    }
    if ask::yes("\nWrite this?", false)? {
        return Ok(());
    }
    Err(cancelled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_no_difference_and_what_was_changed_is() {
        let wanted = json!({ "username": "a", "auth": { "plugin": "basic" } });
        let mut found = Vec::new();
        let more = json!({ "username": "a", "sender": "b", "auth": { "plugin": "basic" } });
        differences("account.x", &more, &wanted, &mut found);
        assert!(found.is_empty(), "{found:?}");
        let other = json!({ "auth": { "plugin": "oauth" } });
        differences("account.x", &other, &wanted, &mut found);
        assert_eq!(found, ["account.x.username", "account.x.auth.plugin"]);
    }
}
