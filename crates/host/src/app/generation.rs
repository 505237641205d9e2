//! How one generation of the configuration follows another in a running process.
//!
//! What is new is made beside what is old, and counts from one moment on; accounts that did not
//! change go over as they are.

use std::sync::{Arc, PoisonError, RwLockWriteGuard};

use serde_json::json;

use super::{App, load_config};
use crate::failure::Failure;

impl App {
    /// Reads the configuration anew. The keeper, the vault, the clock and whoever listens stay the
    /// same, and so do accounts whose settings did not change: their sessions stay warm and their
    /// pace is kept. The keeper tends the others from [`App::take_over_from`] on.
    ///
    /// # Errors
    /// Everything wrong with the configuration, or a change that a running process cannot follow.
    pub fn next_generation(&self) -> Result<Self, Failure> {
        let lasting = &self.0.lasting;
        let config = load_config(&lasting.settings, &lasting.world.presets)?;
        if config.vault != self.0.config.vault {
            return Err(Failure::new(
                "config.restart_needed",
                "[vault] has changed, and the vault that is open stays open",
            )
            .with_remedy("restart the daemon"));
        }
        let next = Self::assemble(config, Arc::clone(lasting), false);
        next.inherit(self);
        Ok(next)
    }

    /// Takes along the accounts of `old` that a new one would be no different from.
    fn inherit(&self, old: &Self) {
        if self.0.config.plugins != old.0.config.plugins {
            return;
        }
        let known = old.lock_accounts();
        for (name, account) in &*known {
            if self.0.config.accounts.get(name) == Some(account.settings())
                && account.trust_is_unchanged()
            {
                let mut ours = self.lock_credentials();
                ours.all.push(account.credential().clone());
                self.lock_accounts()
                    .insert(name.clone(), Arc::clone(account));
            }
        }
    }

    /// From now on this generation counts, and `old` no more: its accounts still send what they
    /// have begun, and the keeper tends these.
    pub fn take_over_from(&self, old: &Self) {
        old.lock_credentials().in_force = false;
        let everybody = {
            let mut ours = self.lock_credentials();
            ours.in_force = true;
            ours.all.clone()
        };
        for account in self.0.config.accounts.values() {
            self.0.lasting.events.know(account);
        }
        self.0.lasting.ways.lead_to(self);
        self.tell_changes_since(old);
        if let Some(tending) = &*self.0.lasting.tending() {
            tending.replace(everybody);
        }
        self.ask_again(old);
    }

    /// Whoever reloads may have mended what kept an account from its token, such as a secret in a
    /// file: it is asked for now, and not when the pause after the last failure is over.
    fn ask_again(&self, old: &Self) {
        let set_up: Vec<String> = old.lock_accounts().keys().cloned().collect();
        for name in set_up {
            let app = self.clone();
            tokio::spawn(async move {
                let Ok(account) = app.account(&name).await else {
                    return;
                };
                let standing = account.standing().await;
                if standing.is_ok_and(|standing| standing.state == "degraded") {
                    // What comes of it is told as an event, and by the account's standing.
                    let _ = account.rotate(true).await;
                }
            });
        }
    }

    /// Tells of the accounts that came, went or changed.
    fn tell_changes_since(&self, old: &Self) {
        let (before, now) = (&old.0.config.accounts, &self.0.config.accounts);
        let tell = |account: &str, change: &str| {
            let payload = json!({ "account": account, "change": change });
            self.0.lasting.events.tell("account.changed", payload);
        };
        for (name, settings) in now {
            match before.get(name) {
                None => tell(name, "added"),
                Some(earlier) if earlier != settings => tell(name, "changed"),
                Some(_) => {}
            }
        }
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            tell(name, "removed");
        }
    }

    /// Nothing of it counts before [`App::begin`]: a daemon loads everything first.
    pub(crate) fn hold(&self) {
        self.lock_credentials().in_force = false;
    }

    /// While the answer lives no message is looked at by hooks, and no event is handed over.
    pub(crate) fn swap_hooks(&self) -> RwLockWriteGuard<'_, ()> {
        let swap = &self.0.lasting.swap;
        swap.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this first generation counts.
    pub(crate) fn begin(&self) {
        self.take_over_from(self);
    }
}
