//! The daemon renews what falls due, and ends what was begun.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use postrider_auth::KnownExpiry;
use postrider_config as config;

use super::journal::Phase;
use super::machine::Keep as _;
use super::{Action, App, Options, Target};
use crate::app::expiries;

/// How often it is looked whether anything is due: what is due is due for days.
const LOOK: Duration = Duration::from_mins(10);
/// After a failure the first pause…
const FIRST_PAUSE: Duration = Duration::from_hours(1);
/// …which doubles up to the longest.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// What failed, and when it is tried again.
#[derive(Default)]
pub(crate) struct Round {
    failed: HashMap<String, (Duration, Timestamp)>,
}

/// What is to be done about one secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Renew,
    GoOn,
}

/// Looks after the secrets of the configuration in force, for ever.
pub(crate) async fn look_after(current: impl Fn() -> App) {
    let mut round = Round::default();
    loop {
        let app = current();
        round.look(&app).await;
        let clock = Arc::clone(app.clock());
        drop(app);
        clock.sleep(LOOK).await;
    }
}

impl Round {
    /// Looks once.
    pub(crate) async fn look(&mut self, app: &App) {
        app.notice_new_secrets().await;
        let mut seen = HashSet::new();
        for settings in app.config().accounts.values() {
            let Some(renewal) = settings.renewal else {
                continue;
            };
            let Ok(target) = Target::of(settings) else {
                continue;
            };
            if !seen.insert(target.secret.clone()) {
                continue;
            }
            let now = app.clock().now();
            let held_back = |(_, until): &(Duration, Timestamp)| now < *until;
            if self.failed.get(&target.secret).is_some_and(held_back) {
                continue;
            }
            let Some(due) = app.due(settings, &target, renewal.before, now).await else {
                self.failed.remove(&target.secret);
                app.0.lasting.failed_renewals.forget(&target.secret);
                continue;
            };
            let options = Options {
                action: match due {
                    Due::Renew => Action::Renew,
                    Due::GoOn => Action::GoOn,
                },
                ..Options::default()
            };
            match app.renew(&settings.name, &options, Arc::new(|_| {})).await {
                Ok(renewed) => {
                    self.failed.remove(&target.secret);
                    tracing::info!(
                        account = renewed.account,
                        secret = renewed.setting,
                        state = renewed.state,
                        notes = renewed.notes.join("; "),
                        "renewal"
                    );
                }
                Err(failure) => {
                    let pause = self
                        .failed
                        .get(&target.secret)
                        .map_or(FIRST_PAUSE, |(pause, _)| (*pause * 2).min(LONGEST_PAUSE));
                    let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
                    tracing::warn!(
                        account = settings.name,
                        code = failure.code,
                        "the secret was not renewed: {}",
                        failure.message
                    );
                    self.failed.insert(target.secret, (pause, until));
                }
            }
        }
    }
}

impl App {
    async fn due(
        &self,
        settings: &config::Account,
        target: &Target,
        before: Duration,
        now: Timestamp,
    ) -> Option<Due> {
        let (app, settings, keep) = (self.clone(), settings.clone(), self.keep_of(target));
        let setting = target.what.setting();
        let look = move || {
            // What cannot be read shows where it is used, and in `postrider vault status`.
            let journal = keep.journal().ok()?;
            let ends = app
                .known_expiries(&settings)
                .into_iter()
                .find(|known| known.secret == setting);
            match journal {
                Some(journal) if journal.phase == Phase::Switched => {
                    let due = journal.remove_after?;
                    (now >= due).then_some(Due::GoOn)
                }
                Some(journal) if journal.phase != Phase::Rest => Some(Due::GoOn),
                _ => {
                    let left = ends?.expires_at.duration_since(SystemTime::from(now));
                    (left.unwrap_or_default() <= before).then_some(Due::Renew)
                }
            }
        };
        tokio::task::spawn_blocking(look).await.ok()?
    }

    fn known_expiries(&self, settings: &config::Account) -> Vec<KnownExpiry> {
        let (vault, base_dir) = (self.vault(), self.config().base_dir());
        expiries::known(
            settings,
            |reference| vault.resolve(reference, base_dir).ok(),
            |name| vault.expiry(name),
        )
    }

    /// Accounts whose secrets another process has replaced are set up anew: their end is another,
    /// and a token that was refused may be had now.
    async fn notice_new_secrets(&self) {
        let set_up: Vec<_> = self.lock_accounts().values().cloned().collect();
        for account in set_up {
            let (app, known) = (self.clone(), Arc::clone(&account));
            let look = move || app.known_expiries(known.settings());
            let Ok(now_known) = tokio::task::spawn_blocking(look).await else {
                continue;
            };
            if now_known == account.credential().expiries() {
                continue;
            }
            let name = account.settings().name.clone();
            drop(account);
            self.lock_accounts().remove(&name);
            let Ok(account) = self.account(&name).await else {
                continue;
            };
            let standing = account.standing().await;
            if standing.is_ok_and(|standing| standing.state == "degraded") {
                // What comes of it is told as an event, and by the account's standing.
                let _ = account.rotate(true).await;
            }
        }
    }
}
