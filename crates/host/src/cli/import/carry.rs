//! What is written, and in which order.

use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_config::edit::Change;
use postrider_gateway::credential::{check_chosen, grouped, new_password};
use postrider_import::{Imported, ImportedAccount, ImportedDevice, ImportedGateway};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::show;
use crate::app::gateway::{StoredCredential, credential, keep_credential};
use crate::app::vault::VaultSecret;
use crate::app::{App, AppSettings, setup};
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
    /// What the configuration lacks of it.
    pub(super) changes: &'a [Change],
    /// What the command line says of where settings and state are.
    pub(super) given: &'a AppSettings,
    pub(super) output: &'a Output,
}

/// A device's password that is to be kept.
struct DevicePassword<'a> {
    gateway: &'a str,
    device: &'a ImportedDevice,
    password: SecretString,
    /// It was made here.
    new: bool,
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
        // What keeps the vault from opening is said before anything is written.
        let vault = if dry_run {
            None
        } else {
            Some(self.app.vault().open()?)
        };
        let secrets = self.secrets()?;
        let passwords = self.passwords()?;
        show::plan(
            self.file,
            self.path,
            self.imported,
            self.changes,
            self.output,
        );
        show::left(self.imported, self.output);
        if dry_run {
            self.output.json(&self.json(&[], &[], false));
            self.output.line("\nNothing was changed (--dry-run).");
            return Ok(());
        }
        let is_new = !self.changes.is_empty() || !secrets.is_empty() || !passwords.is_empty();
        if is_new {
            confirm(yes)?;
        }
        setup::write(self.path, self.changes)?;
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
        self.output.json(&self.json(&taken, &shown, wrote));
        if wrote {
            self.output
                .line(format!("\nWritten: {}", self.path.display()));
        } else {
            self.output
                .line("\nNothing to change: everything is there already.");
        }
        show::passwords(&shown, self.output);
        let waiting = self.waiting().await;
        show::next(self.imported, &waiting, self.given, self.output);
        Ok(())
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

    fn json(&self, taken: &[&str], passwords: &[(&str, &str, SecretString)], wrote: bool) -> Value {
        let is_new = |key: &str| {
            self.changes
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
