//! Telling people in time: that they must sign in, that a secret comes to its end.
//!
//! What somebody heard is remembered in the store, so that it is told once, whichever
//! process finds it out, and again until somebody hears it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::event::Event;
use super::grant::Grant;
use super::parameters::{KnownExpiry, days_left};
use super::record::{Notice, Record};
use super::store::{GrantKey, Shelf};
use super::{Keeper, Shared, lock};
use crate::clock::unix_ms;
use crate::credential::Credential;

/// After nobody heard it, it is told again after so long at the soonest, unless somebody asks.
const AGAIN: Duration = Duration::from_mins(1);
/// The same for an expiry, which is days away.
const AGAIN_EXPIRY: Duration = Duration::from_hours(1);

const DAY: Duration = Duration::from_hours(24);

impl Keeper {
    /// Tells now what a person has to know of this credential, unless somebody heard it
    /// before; [`Keeper::settle`] waits for it. A process that ends soon would not get round
    /// to it by [`Keeper::tend`].
    pub fn remind(&self, credential: &Credential) {
        let grant = credential.tended().map(|tended| tended.grant);
        self.remind_of(grant, credential.known_ends());
    }

    pub(super) fn remind_of(&self, grant: Option<Arc<Grant>>, expiries: Vec<Expiry>) {
        let tasks = &self.shared.tasks;
        if let Some(grant) = grant {
            drop(tasks.spawn(async move {
                grant.lock().announced = None;
                grant.look().await;
            }));
        }
        for expiry in expiries {
            let shared = Arc::clone(&self.shared);
            drop(tasks.spawn(async move { shared.tell_expiry(&expiry).await }));
        }
    }
}

impl Grant {
    /// Tells that a person must sign in, unless somebody heard it before.
    pub(super) fn announce(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            let recent = |at: Instant| at.elapsed() < AGAIN;
            if state.announced.is_some_and(recent) {
                return;
            }
            state.announced = Some(Instant::now());
        }
        let this = Arc::clone(self);
        drop(
            self.shared
                .tasks
                .spawn(async move { this.tell_retired().await }),
        );
    }

    async fn tell_retired(&self) {
        // Whoever has this lock is telling it.
        let Ok(Some(_telling)) = self.shared.try_lock(Shelf::Notice, self.key).await else {
            return;
        };
        let Ok(Record {
            retired: Some(retired),
            ..
        }) = self.load().await
        else {
            return;
        };
        if retired.told {
            return;
        }
        let event = Event::ReauthorizationRequired {
            account: self.identity.account.to_string(),
            reason: retired.reason,
            message: retired.why.message.clone(),
            since: retired.since,
        };
        if !self.shared.events.emit(&event).await {
            return;
        }
        let Ok(_lock) = self.acquire().await else {
            return;
        };
        if let Ok(mut record) = self.load().await
            && let Some(now_retired) = &mut record.retired
            && now_retired.since == retired.since
        {
            now_retired.told = true;
            if let Err(error) = self.save(&record).await {
                tracing::warn!(
                    account = &*self.identity.account,
                    "it may be told again that somebody must sign in: {error}"
                );
            }
        }
    }
}

/// A secret of an account with its known end.
#[derive(Clone, Debug)]
pub(crate) struct Expiry {
    account: Arc<str>,
    secret: String,
    expires_at: SystemTime,
    /// Accounts that refer to the same secret are told of it once.
    key: GrantKey,
}

impl Expiry {
    /// `identity` tells the secret from others.
    pub(crate) fn new(account: Arc<str>, known: &KnownExpiry, identity: &str) -> Self {
        let mut digest = Sha256::new();
        for part in ["postrider-expiry-1", &known.secret, identity] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(unix_ms(known.expires_at).to_be_bytes());
        Self {
            account,
            secret: known.secret.clone(),
            expires_at: known.expires_at,
            key: GrantKey(digest.finalize().into()),
        }
    }

    /// What is the same for all accounts that have this secret.
    pub(super) fn key(&self) -> GrantKey {
        self.key
    }
}

impl Shared {
    /// Tells of `expiry` what is to be told now; when to look again, if ever.
    pub(super) async fn tell_expiry(&self, expiry: &Expiry) -> Option<SystemTime> {
        let now = self.now();
        let left = expiry.expires_at.duration_since(now).unwrap_or_default();
        let thresholds = self.parameters.notice_days;
        let reached = |days: &&u32| left <= DAY * **days;
        let next = thresholds
            .iter()
            .filter(|days| !reached(days))
            .max()
            .map(|days| now + left.saturating_sub(DAY * *days));
        let Some(threshold) = thresholds.iter().filter(reached).min().copied() else {
            return next;
        };
        if self.tell_threshold(expiry, threshold).await {
            next
        } else {
            let again = now + AGAIN_EXPIRY;
            Some(next.map_or(again, |next| next.min(again)))
        }
    }

    /// Whether `threshold` needs telling no more.
    async fn tell_threshold(&self, expiry: &Expiry, threshold: u32) -> bool {
        let Ok(Some(_telling)) = self.try_lock(Shelf::Notice, expiry.key).await else {
            return false;
        };
        let kept = match self.load(Shelf::Notice, expiry.key).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(
                    account = &*expiry.account,
                    "what was told of expiries: {error}"
                );
                return false;
            }
        };
        let notice = kept
            .and_then(|octets| Notice::decode(&octets).ok())
            .unwrap_or_default();
        if notice.told.is_some_and(|told| told <= threshold) {
            return true;
        }
        let days = days_left(expiry.expires_at, self.now());
        if lock(&self.logged).insert((expiry.key, threshold)) {
            tracing::warn!(
                account = &*expiry.account,
                secret = expiry.secret,
                days,
                "a secret comes to its end"
            );
        }
        let event = Event::SecretExpiring {
            account: expiry.account.to_string(),
            secret: expiry.secret.clone(),
            expires_at: expiry.expires_at,
            days,
        };
        if !self.events.emit(&event).await {
            return false;
        }
        let told = Notice {
            told: Some(threshold),
        };
        let Ok(octets) = told.encode() else {
            return true;
        };
        if let Err(error) = self.save(Shelf::Notice, expiry.key, octets).await {
            tracing::warn!(
                account = &*expiry.account,
                "an expiry may be told again: {error}"
            );
        }
        true
    }
}
