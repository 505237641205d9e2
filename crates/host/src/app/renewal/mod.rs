//! An application's secret or certificate is replaced before it ends: by one command, or in time
//! by the daemon.
//!
//! The new one is made at Entra ID, seen to work, put into the vault in one step, and only after
//! an overlap is the old one removed. `machine` has the steps and `journal` what the vault
//! remembers of them; the rest is what they work on.

mod apart;
mod due;
mod in_use;
mod journal;
mod keep;
mod machine;
mod prover;
mod registry;
#[cfg(test)]
mod simulation;
mod standing;

pub(crate) use due::look_after;
pub(crate) use in_use::{Renewals, hold};
pub(in crate::app) use standing::FailedRenewals;
pub(crate) use standing::RenewalStanding;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::{SignedDuration, Timestamp};
use postrider_auth::LoginMethod;
use postrider_config::{self as config, Renewal, SecretRef};
use postrider_schedule::Clock;
use postrider_vault::crash_point;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use self::keep::VaultKeep;
use self::machine::{Machine, Order, Outcome, Reached, Time};
use self::prover::AccountProver;
use self::registry::GraphRegistry;
use super::{App, Moment};
use crate::failure::Failure;

pub use journal::Renewable;
pub use machine::Progress;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Renew, or go on with what is under way.
    #[default]
    Renew,
    /// Remove the old one now, the overlap cut short.
    Finish,
    /// Go back to the old one and remove the new one.
    Abort,
    /// Go on with what is under way and begin nothing.
    GoOn,
}

/// How.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What.
    pub action: Action,
    /// How long the new one is to last; else as the account's settings say.
    pub lifetime: Option<Duration>,
    /// How long the old one is kept beside it; else as the account's settings say.
    pub overlap: Option<Duration>,
    /// An administrator signs in for it, in this way; else the application acts by itself.
    pub administrator: Option<LoginMethod>,
}

/// Where a renewal stands.
#[derive(Clone, Debug, Serialize)]
pub struct Renewed {
    /// The account.
    pub account: String,
    /// `client_secret` or `certificate`.
    pub setting: &'static str,
    /// `switched`, `finished`, `aborted` or `none`.
    pub state: &'static str,
    /// The id at Entra ID of the new one.
    pub key_id: Option<String>,
    /// When the new one ends.
    pub expires_at: Option<Moment>,
    /// The id of the old one.
    pub old_key_id: Option<String>,
    /// From when the old one may be removed.
    pub remove_after: Option<Moment>,
    /// Ids of secrets that a broken-off attempt had left at Entra ID; they were removed.
    pub orphans_removed: Vec<String>,
    /// What remains to be known or done.
    pub notes: Vec<String>,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Hears how a run goes.
pub type Listener = Arc<dyn Fn(Progress) + Send + Sync>;

/// What is renewed, and where it lies.
struct Target {
    what: Renewable,
    /// The vault's name of it.
    secret: String,
    /// The vault's name of the private key that belongs to it.
    private_key: Option<String>,
}

impl App {
    /// Renews the client secret or certificate of the account called `name`, or goes on with
    /// what an earlier run began. A caller that goes away does not stop it.
    ///
    /// # Errors
    /// Why it came no further. What is in use works all the same, and the same call goes on.
    pub async fn renew(
        &self,
        name: &str,
        options: &Options,
        listener: Listener,
    ) -> Result<Renewed, Failure> {
        let (app, options) = (self.clone(), *options);
        let settings = self.settings_of(name)?.clone();
        let runtime = Handle::current();
        // The vault blocks, and a step that has begun is to be written down.
        let work = move || {
            let (outcome, switched) = runtime.block_on(app.carry_out(&settings, options, listener));
            app.note_renewal(&settings, &outcome);
            (outcome, switched)
        };
        let (outcome, switched) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Failure::new("internal", "the renewal was interrupted"))?;
        if switched {
            self.set_up_anew(name).await;
        }
        match &outcome {
            Ok(renewed) if switched => {
                self.metrics().renewal(true);
                self.announce(
                    "secret.renewed",
                    json!({
                        "account": name,
                        "secret": renewed.setting,
                        "expires_at": renewed.expires_at.map(seconds),
                        "remove_after": renewed.remove_after.map(seconds),
                    }),
                );
            }
            Err(failure) if failure.code != "secret.busy" => {
                self.metrics().renewal(false);
                self.announce(
                    "secret.renewal_failed",
                    json!({
                        "account": name,
                        "code": failure.code,
                        "message": failure.message,
                        "remedy": failure.remedy,
                        "retryable": failure.retryable,
                    }),
                );
            }
            _ => {}
        }
        outcome
    }

    /// One run, and whether it put a new one in use.
    async fn carry_out(
        &self,
        settings: &config::Account,
        options: Options,
        listener: Listener,
    ) -> (Result<Renewed, Failure>, bool) {
        let switched = Mutex::new(false);
        let heard = |progress: Progress| {
            if progress == Progress::Switched {
                *switched.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
            listener(progress);
        };
        let outcome = self.run(settings, options, &heard).await;
        let named = |failure: Failure| match failure.account {
            Some(_) => failure,
            None => failure.with_account(&settings.name),
        };
        let switched = *switched.lock().unwrap_or_else(PoisonError::into_inner);
        (outcome.map_err(named), switched)
    }

    async fn run(
        &self,
        settings: &config::Account,
        options: Options,
        heard: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Renewed, Failure> {
        let target = Target::of(settings)?;
        let keep = self.keep_of(&target);
        let Some(_lock) = keep.lock()? else {
            return Err(keep::busy());
        };
        let reservations = Arc::new(Mutex::new(None));
        let machine = Machine {
            registry: &GraphRegistry {
                app: self.clone(),
                settings: settings.clone(),
                what: target.what,
                administrator: options.administrator,
                opened: OnceCell::new(),
            },
            prover: &AccountProver {
                app: self.clone(),
                settings: settings.clone(),
                what: target.what,
                reservations: Arc::clone(&reservations),
            },
            keep: &keep,
            time: &Timepiece(Arc::clone(self.clock())),
            what: target.what,
            fresh_mark: mark(&settings.name)?,
            progress: heard,
            step: &|step| crash_point(&format!("renewal.{step}")),
        };
        let outcome = machine.run(order(settings, options)).await?;
        for orphan in &outcome.orphans {
            tracing::warn!(
                account = settings.name,
                key_id = orphan,
                "a {} that a broken-off renewal had left at Entra ID was removed",
                target.what.setting()
            );
        }
        let reservation = reservations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Ok(told(settings, &target, outcome, reservation))
    }

    fn keep_of(&self, target: &Target) -> VaultKeep {
        VaultKeep {
            vault: self.vault().clone(),
            name: target.secret.clone(),
            private_key: target.private_key.clone(),
            clock: Arc::clone(self.clock()),
        }
    }

    /// What is known of an account's secrets is looked up again, in time for whoever forecasts
    /// their end; every account that has the same one.
    async fn set_up_anew(&self, name: &str) {
        let secrets = |name: &str| {
            let settings = self.settings_of(name).ok()?;
            Target::of(settings).ok().map(|target| target.secret)
        };
        let changed = secrets(name);
        let set_up: Vec<String> = self.lock_accounts().keys().cloned().collect();
        for name in set_up {
            if secrets(&name) == changed {
                self.lock_accounts().remove(&name);
                // What keeps it from being set up shows when it is used.
                let _ = self.account(&name).await;
            }
        }
    }
}

impl Target {
    /// What there is to renew.
    fn of(settings: &config::Account) -> Result<Self, Failure> {
        let auth = &settings.auth;
        let refusal = |code: &str, message: String| {
            Failure::new(code.to_owned(), message).with_account(&settings.name)
        };
        if auth.plugin != "oauth" || !auth.settings.contains_key("authority") {
            return Err(refusal(
                "usage.not_renewable",
                "only an application's secret at Entra ID can be renewed".to_owned(),
            ));
        }
        let found = [Renewable::ClientSecret, Renewable::Certificate]
            .into_iter()
            .find_map(|what| Some((what, auth.secrets.get(what.setting())?)));
        let Some((what, reference)) = found else {
            return Err(refusal(
                "usage.not_renewable",
                "this account has no client_secret and no certificate".to_owned(),
            ));
        };
        let (name, setting) = (&settings.name, what.setting());
        let outside = |setting: &str, reference: &SecretRef| {
            refusal(
                "secret.not_in_vault",
                format!("{setting} is at {reference}, where a renewal cannot replace it"),
            )
            .with_remedy(format!(
                "put it into the vault first: postrider secret set {name}/{setting}, then write \
                 {setting} = {{ vault = \"{name}/{setting}\" }} under [account.{name}.auth]"
            ))
        };
        let SecretRef::Vault(secret) = reference else {
            return Err(outside(setting, reference));
        };
        let private_key = match (what, auth.secrets.get("private_key")) {
            (Renewable::ClientSecret, _) | (_, None) => None,
            (Renewable::Certificate, Some(SecretRef::Vault(name))) => Some(name.clone()),
            (Renewable::Certificate, Some(other)) => return Err(outside("private_key", other)),
        };
        Ok(Self {
            what,
            secret: secret.clone(),
            private_key,
        })
    }
}

/// The machine's order: what was not said, the account's settings say.
fn order(settings: &config::Account, options: Options) -> Order {
    let usual: Renewal = settings.renewal.unwrap_or_default();
    let span = |given: Option<Duration>, usual: Duration| {
        SignedDuration::try_from(given.unwrap_or(usual)).unwrap_or(SignedDuration::MAX)
    };
    match options.action {
        Action::Renew => Order::Renew {
            lifetime: span(options.lifetime, usual.lifetime),
            overlap: span(options.overlap, usual.overlap),
        },
        Action::Finish => Order::Finish,
        Action::Abort => Order::Abort,
        Action::GoOn => Order::GoOn,
    }
}

/// A display name that nobody else has: whose it is, and something of its own.
fn mark(account: &str) -> Result<String, Failure> {
    let mut octets = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut octets)
        .map_err(|_| Failure::new("internal", "the system has no randomness"))?;
    Ok(format!(
        "postrider {account} {:016x}",
        u64::from_be_bytes(octets)
    ))
}

/// What is said of it.
fn told(
    settings: &config::Account,
    target: &Target,
    outcome: Outcome,
    reservation: Option<&'static str>,
) -> Renewed {
    let (name, setting) = (&settings.name, target.what.setting());
    let mut notes = Vec::new();
    if let Some(why) = reservation {
        notes.push(format!(
            "the new {setting} was proved by a token of the application alone, for {why}"
        ));
    }
    if outcome.old_is_left {
        notes.push(format!(
            "which {setting} of the registration is the old one could not be told: it is still \
             there; remove it under Certificates & secrets of the app registration"
        ));
    }
    let (state, remove_after, next) = match outcome.reached {
        Reached::Nothing => ("none", None, None),
        Reached::Finished => ("finished", None, None),
        Reached::Aborted => ("aborted", None, None),
        Reached::Switched(due) => {
            let next = if settings.renewal.is_some() {
                format!(
                    "postrider serve removes the old one then; or now: postrider rotate \
                     --client-secret {name} --finish"
                )
            } else {
                format!("after that, remove it: postrider rotate --client-secret {name}")
            };
            ("switched", Some(Moment(due.into())), Some(next))
        }
    };
    Renewed {
        account: name.clone(),
        setting,
        state,
        key_id: outcome.key_id,
        expires_at: outcome.ends.map(|at| Moment(at.into())),
        old_key_id: outcome.old_key_id,
        remove_after,
        orphans_removed: outcome.orphans,
        notes,
        next,
    }
}

fn seconds(moment: Moment) -> f64 {
    let since = moment.0.duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// The process's clock as the machine sees it.
struct Timepiece(Arc<dyn Clock>);

impl Time for Timepiece {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        self.0.sleep(how_long).boxed()
    }
}
