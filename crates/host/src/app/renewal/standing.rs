//! Which renewals are under way and which have failed, for whoever looks at the daemon.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_config as config;
use serde::{Deserialize, Serialize};

use super::journal::Phase;
use super::machine::Keep as _;
use super::{App, Moment, Renewed, Target};
use crate::failure::Failure;

/// Where the renewal of one secret stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RenewalStanding {
    /// The account; of several that share the secret, the first.
    pub(crate) account: String,
    /// `client_secret` or `certificate`, where the account has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) setting: Option<Cow<'static, str>>,
    /// `begun`: a new one is made or about to be, and not in use; `switched`: it is, and the old
    /// one is kept; `reverting`: it is being given up; `none`: nothing is under way.
    pub(crate) state: Cow<'static, str>,
    /// Since when it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) began: Option<Moment>,
    /// From when the old one may be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remove_after: Option<Moment>,
    /// When it failed last, if it has got no further since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed_at: Option<Moment>,
    /// Why it gets no further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Box<Failure>>,
}

/// What failed in this process, by the vault's name of the secret.
#[derive(Default)]
pub(in crate::app) struct FailedRenewals(Mutex<HashMap<String, Failed>>);

#[derive(Clone)]
struct Failed {
    at: Moment,
    why: Failure,
    /// How far it had come: who has got further since, in whatever process, fails no more.
    step: Option<(Phase, String)>,
}

impl FailedRenewals {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Failed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, secret: &str) {
        self.lock().remove(secret);
    }
}

impl App {
    /// Every renewal that is under way, and every one that gets no further.
    pub(crate) async fn renewals(&self) -> Vec<RenewalStanding> {
        let app = self.clone();
        let look = move || {
            let mut seen = HashSet::new();
            let accounts = app.config().accounts.values();
            accounts
                .filter_map(|settings| app.renewal_of(settings, &mut seen))
                .collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Remembers how a run ended. Reads the vault.
    pub(super) fn note_renewal(
        &self,
        settings: &config::Account,
        outcome: &Result<Renewed, Failure>,
    ) {
        let Ok(target) = Target::of(settings) else {
            return;
        };
        let failed = &self.0.lasting.failed_renewals;
        match outcome {
            Ok(_) => failed.forget(&target.secret),
            Err(failure) if failure.code == "secret.busy" => {}
            Err(failure) => {
                let journal = self.keep_of(&target).journal().ok().flatten();
                let noted = Failed {
                    at: Moment(self.clock().now().into()),
                    why: failure.clone(),
                    step: journal.map(|journal| (journal.phase, journal.mark)),
                };
                failed.lock().insert(target.secret, noted);
            }
        }
    }

    fn renewal_of(
        &self,
        settings: &config::Account,
        seen: &mut HashSet<String>,
    ) -> Option<RenewalStanding> {
        let mut standing = RenewalStanding {
            account: settings.name.clone(),
            setting: None,
            state: "none".into(),
            began: None,
            remove_after: None,
            failed_at: None,
            failure: None,
        };
        let target = match Target::of(settings) {
            Ok(target) => target,
            // It is to be renewed, and cannot be.
            Err(failure) if settings.renewal.is_some() => {
                standing.failure = Some(Box::new(failure));
                return Some(standing);
            }
            Err(_) => return None,
        };
        if !seen.insert(target.secret.clone()) {
            return None;
        }
        standing.setting = Some(target.what.setting().into());
        // A vault that cannot be read says so elsewhere.
        let journal = self.keep_of(&target).journal().ok().flatten();
        let failed = self.0.lasting.failed_renewals.lock();
        if let Some(failed) = failed.get(&target.secret) {
            let step = journal
                .as_ref()
                .map(|journal| (journal.phase, journal.mark.clone()));
            if failed.step == step {
                standing.failed_at = Some(failed.at);
                standing.failure = Some(Box::new(failed.why.clone()));
            }
        }
        drop(failed);
        if let Some(journal) = journal.filter(|journal| journal.phase != Phase::Rest) {
            standing.state = match journal.phase {
                Phase::Switched => "switched",
                Phase::Reverting => "reverting",
                Phase::Rest | Phase::Intended | Phase::Made | Phase::Proved => "begun",
            }
            .into();
            standing.began = Some(Moment(journal.began.into()));
            standing.remove_after = journal.remove_after.map(|at| Moment(at.into()));
        }
        (standing.state != "none" || standing.failure.is_some()).then_some(standing)
    }
}
