//! One grant in this process: what it serves at once, and whom it lets wait for a flight.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use postrider_plugin::wire::Secret;
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::flight::{Landed, Progress, Purpose};
use super::limits::Issuer;
use super::mutation::mutated;
use super::outlook::Outlook;
use super::record::{Access, Owner, Record, Refresh};
use super::schedule::{Fitness, lapses_at};
use super::status::{FailureStatus, GrantState, GrantStatus, RefreshTokenStatus};
use super::store::{GrantKey, Shelf, StoreError};
use super::tend::Planned;
use super::token::{AccessToken, Obtained, TokenSource};
use super::{GrantIdentity, Shared, lock};
use crate::error::{AuthError, AuthErrorKind};

/// What [`Credential::rotate`](crate::Credential::rotate) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// What was done.
    pub outcome: RotationOutcome,
    /// When the access token expires.
    pub expires_at: Option<SystemTime>,
    /// When the next one is fetched.
    pub next_refresh: Option<SystemTime>,
    /// Which token of its grant it is.
    pub generation: u64,
}

/// What a rotation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationOutcome {
    /// There is a new token.
    Refreshed,
    /// The token at hand is fresh: nothing was done.
    Fresh,
    /// The plugin uses no tokens.
    NoTokens,
}

/// What came of telling a provider to forget; none where there was nothing to tell.
pub(crate) type Revoked = Option<Result<(), AuthError>>;

/// One grant in this process.
pub(crate) struct Grant {
    pub(super) key: GrantKey,
    pub(super) identity: GrantIdentity,
    pub(super) issuer: Arc<Issuer>,
    pub(super) client: Arc<Breaker>,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// What the store said last.
    pub(super) outlook: Option<Outlook>,
    /// The token to serve, once somebody here wanted one: most grants of a large
    /// installation are only looked after.
    pub(super) held: Option<Box<Held>>,
    pub(super) wanted: bool,
    pub(super) flight: Option<watch::Receiver<Progress>>,
    /// The provider is being asked.
    pub(super) asking: bool,
    /// What went wrong here, and is nobody else's business.
    pub(super) trouble: Option<Box<Trouble>>,
    /// Its number in the agenda, if somebody tends it.
    pub(super) item: Option<usize>,
    pub(super) planned: Option<Planned>,
    /// When somebody here was last told that a person must sign in.
    pub(super) announced: Option<Instant>,
}

/// A token at hand.
pub(super) struct Held {
    pub(super) token: AccessToken,
    /// By a clock that does not jump: due, and no longer to be handed out.
    due: Instant,
    over: Instant,
}

/// A failure that only this process knows of.
pub(super) struct Trouble {
    pub(super) at: SystemTime,
    pub(super) error: AuthError,
    pub(super) attempts: u32,
    pub(super) until: Instant,
}

impl Trouble {
    /// The failure, as long as nothing is to be tried.
    pub(super) fn error_now(&self) -> Option<AuthError> {
        let left = self.until.duration_since(Instant::now());
        (!left.is_zero()).then(|| AuthError {
            retry_after: Some(left),
            ..self.error.clone()
        })
    }
}

impl Grant {
    pub(super) fn new(
        key: GrantKey,
        identity: GrantIdentity,
        issuer: Arc<Issuer>,
        client: Arc<Breaker>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            key,
            identity,
            issuer,
            client,
            shared,
            state: Mutex::default(),
        }
    }

    pub(crate) fn key(&self) -> GrantKey {
        self.key
    }

    /// A usable token: the one at hand if it has life enough, else one that is waited for.
    /// What is due is fetched in the background.
    pub(crate) async fn token(
        self: &Arc<Self>,
        source: &Arc<dyn TokenSource>,
    ) -> Result<AccessToken, AuthError> {
        loop {
            let (progress, purpose) = {
                let mut state = self.lock();
                state.wanted = true;
                let (fitness, purpose) = state.fitness(self.shared.now());
                let held = state.held.as_ref().map(|held| held.token.clone());
                match (held, fitness) {
                    (Some(token), Fitness::Fresh) => return Ok(token),
                    (Some(token), Fitness::Due) => {
                        if !self.is_paused(&state) {
                            drop(self.fly(&mut state, source, purpose));
                        }
                        return Ok(token);
                    }
                    _ => (self.fly(&mut state, source, purpose), purpose),
                }
            };
            if let Some(token) = self.served(progress, purpose).await? {
                return Ok(token);
            }
        }
    }

    /// What a flight serves to somebody with this purpose, perhaps before it lands; none if
    /// it set out for another.
    async fn served(
        &self,
        mut progress: watch::Receiver<Progress>,
        purpose: Purpose,
    ) -> Result<Option<AccessToken>, AuthError> {
        let early = |progress: &Progress| {
            let served = progress.served.as_ref()?;
            let good = self.shared.now() < served.until && purpose.accepts(&served.token);
            good.then(|| served.token.clone())
        };
        let seen = progress
            .wait_for(|progress| progress.landed.is_some() || early(progress).is_some())
            .await;
        let progress = seen.map_err(|_| self.stopped())?;
        if let Some(token) = early(&progress) {
            return Ok(Some(token));
        }
        match &progress.landed {
            Some(Ok(landed)) => Ok(Some(landed.token.clone()).filter(|it| purpose.accepts(it))),
            Some(Err(error)) => Err(error.clone()),
            None => Err(self.stopped()),
        }
    }

    /// Fetches a new token: by force, or if one is due.
    pub(crate) async fn rotate(
        self: &Arc<Self>,
        source: &Arc<dyn TokenSource>,
        force: bool,
    ) -> Result<Rotation, AuthError> {
        let purpose = if force {
            Purpose::Forced(match self.load().await {
                Ok(record) => record.generation,
                // What an application has can be fetched again.
                Err(_) if self.identity.app_only => self.newest(&Record::default()),
                Err(error) => return Err(self.store_failed(&error)),
            })
        } else {
            Purpose::Need
        };
        loop {
            let progress = self.fly(&mut self.lock(), source, purpose);
            let landed = landed(progress).await?;
            // Whoever asks by force may have come upon a flight that only looked.
            if purpose.accepts(&landed.token) {
                return Ok(Rotation {
                    outcome: if landed.refreshed {
                        RotationOutcome::Refreshed
                    } else {
                        RotationOutcome::Fresh
                    },
                    expires_at: Some(landed.token.expires_at),
                    next_refresh: Some(landed.token.next_refresh),
                    generation: landed.token.generation,
                });
            }
        }
    }

    /// Looks after the grant on nobody's behalf.
    pub(super) async fn upkeep(
        self: &Arc<Self>,
        source: &Arc<dyn TokenSource>,
    ) -> Result<(), AuthError> {
        let progress = {
            let mut state = self.lock();
            let (_, purpose) = state.fitness(self.shared.now());
            self.fly(&mut state, source, purpose)
        };
        landed(progress).await.map(drop)
    }

    /// Takes in what a login brought, in place of everything from before: that may be
    /// another person's.
    pub(crate) async fn adopt(
        self: &Arc<Self>,
        obtained: Obtained,
    ) -> Result<AccessToken, AuthError> {
        let this = Arc::clone(self);
        let task = self.shared.tasks.spawn(async move {
            let lock = this.acquire().await?;
            // A record that cannot be read is replaced: that is what mends it.
            let old = this.load().await.unwrap_or_default();
            let mut record = Record::default();
            let grace = this.identity.policy.reuse_grace;
            let before = if mutated!(CountsAnew) {
                0
            } else {
                this.newest(&old)
            };
            record.renew(before + 1, obtained, grace);
            record.owner = Some(this.owner());
            this.save(&record)
                .await
                .map_err(|error| this.store_failed(&error))?;
            this.client.close();
            let mut state = this.lock();
            state.wanted = true;
            state.trouble = None;
            state.announced = None;
            let token = this.publish(&mut state, &record);
            drop(state);
            this.tell_refreshed(&record);
            drop(lock);
            token.ok_or_else(|| this.dead_on_arrival())
        });
        task.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Takes in a refresh token that another program had; not where there is or was one, which
    /// is newer. Whether it was taken.
    pub(crate) async fn take_in(self: &Arc<Self>, token: Secret) -> Result<bool, AuthError> {
        let this = Arc::clone(self);
        let task = self.shared.tasks.spawn(async move {
            let lock = this.acquire().await?;
            let old = this
                .load()
                .await
                .map_err(|error| this.store_failed(&error))?;
            if old.refresh.is_some() || old.retired.is_some() {
                return Ok(false);
            }
            let record = Record {
                generation: this.newest(&old) + 1,
                refresh: Some(Refresh {
                    token,
                    issued_at: this.shared.now(),
                    lapses_at: None,
                }),
                owner: Some(this.owner()),
                ..Record::default()
            };
            this.save(&record)
                .await
                .map_err(|error| this.store_failed(&error))?;
            let mut state = this.lock();
            state.trouble = None;
            state.announced = None;
            this.publish(&mut state, &record);
            drop(state);
            drop(lock);
            Ok(true)
        });
        task.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Stops serving the token of `generation`, which a mail server refused; does nothing
    /// where a newer one is there, or where this happened a minute ago.
    pub(crate) async fn invalidate(self: &Arc<Self>, generation: u64) {
        let this = Arc::clone(self);
        let task = self.shared.tasks.spawn(async move {
            let newest = this.outlook_or_load().await.generation;
            let generation = if mutated!(BlamesTheNewest) {
                newest
            } else {
                generation
            };
            if newest != generation {
                return;
            }
            {
                let mut state = this.lock();
                let now = this.shared.now();
                let Some(outlook) = state.outlook.as_mut() else {
                    return;
                };
                let interval = this.shared.parameters.min_force_interval;
                let recently = outlook
                    .forced_at
                    .is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < interval));
                if outlook.generation != generation || outlook.spoilt || recently {
                    return;
                }
                outlook.spoilt = true;
                outlook.forced_at = Some(now);
                this.plan(&mut state);
            }
            if let Err(error) = this.write_down_refusal(generation).await {
                tracing::warn!(
                    account = &*this.identity.account,
                    "that a server refused the access token is known to this process alone: {error}"
                );
            }
        });
        // It goes on even if nobody waits.
        let _ = task.await;
    }

    async fn write_down_refusal(self: &Arc<Self>, generation: u64) -> Result<(), AuthError> {
        let _lock = self.acquire().await?;
        let mut record = self
            .load()
            .await
            .map_err(|error| self.store_failed(&error))?;
        if record.generation != generation || record.spoilt {
            return Ok(());
        }
        record.spoilt = true;
        record.forced_at = Some(self.shared.now());
        self.save(&record)
            .await
            .map_err(|error| self.store_failed(&error))
    }

    /// Tells the provider to forget, by `revoke`, and forgets. Whether there was anything.
    pub(crate) async fn forget(
        self: &Arc<Self>,
        revoke: impl FnOnce(Option<Secret>, Option<Secret>) -> BoxFuture<'static, Revoked>
        + Send
        + 'static,
    ) -> Result<(Revoked, bool), AuthError> {
        let this = Arc::clone(self);
        let task = self.shared.tasks.spawn(async move {
            let _lock = this.acquire().await?;
            let record = match this.load().await {
                Ok(record) => record,
                Err(error) if error.lasting => Record::default(),
                Err(error) => return Err(this.store_failed(&error)),
            };
            let refresh = record.refresh.map(|refresh| refresh.token);
            let access = record.access.map(|access| access.token);
            let revoked = if refresh.is_some() || access.is_some() {
                revoke(refresh, access).await
            } else {
                None
            };
            let had = this
                .shared
                .remove(Shelf::Grant, this.key)
                .await
                .map_err(|error| this.store_failed(&error))?;
            let mut state = this.lock();
            state.outlook = None;
            state.held = None;
            state.trouble = None;
            Ok((revoked, had))
        });
        task.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// How the grant stands, by the store and by what this process knows.
    pub(crate) async fn status(&self) -> Result<GrantStatus, AuthError> {
        let record = self
            .load()
            .await
            .map_err(|error| self.store_failed(&error))?;
        let outlook = self.outlook(&record);
        let now = self.shared.now();
        let state = self.lock();
        let trouble = state.trouble.as_deref();
        let hard = outlook.life.is_some_and(|life| now >= life.hard);
        let failing = trouble.is_some() || outlook.failing;
        let standing = match outlook.fitness(now) {
            _ if record.retired.is_some() => {
                let retired = record.retired.as_ref();
                retired.map_or(GrantState::Absent, |retired| {
                    GrantState::ReauthorizationRequired {
                        reason: retired.reason,
                        message: retired.why.message.clone(),
                        since: retired.since,
                    }
                })
            }
            _ if state.asking => GrantState::Refreshing,
            _ if failing || (hard && record.refresh.is_some()) => GrantState::Degraded,
            Fitness::Fresh => GrantState::Fresh,
            Fitness::Unfit if record.refresh.is_none() && !record.spoilt => GrantState::Absent,
            _ => GrantState::Due,
        };
        let own = trouble.map(|trouble| FailureStatus {
            at: trouble.at,
            message: trouble.error.message.clone(),
            retry_at: trouble
                .error_now()
                .and_then(|error| now.checked_add(error.retry_after?)),
        });
        let kept = record.failure.as_ref().map(|failed| FailureStatus {
            at: failed.at,
            message: failed.why.message.clone(),
            retry_at: failed.retry_at,
        });
        Ok(GrantStatus {
            state: standing,
            generation: record.generation,
            expires_at: record.access.as_ref().map(|access| access.expires_at),
            next_refresh: outlook.due_at().filter(|_| record.retired.is_none()),
            last_refreshed: record.refreshed_at,
            refresh_token: record.refresh.as_ref().map(|refresh| RefreshTokenStatus {
                issued_at: refresh.issued_at,
                lapses_at: lapses_at(refresh, self.identity.policy),
            }),
            last_failure: kept.or(own),
            scope: record.scope,
            identity: record.identity,
        })
    }

    /// Joins the flight under way, or begins one.
    fn fly(
        self: &Arc<Self>,
        state: &mut State,
        source: &Arc<dyn TokenSource>,
        purpose: Purpose,
    ) -> watch::Receiver<Progress> {
        if let Some(progress) = &state.flight {
            return progress.clone();
        }
        let progress = self.depart(Arc::clone(source), purpose);
        state.flight.insert(progress).clone()
    }

    /// Whether an attempt now would be one too many.
    fn is_paused(&self, state: &State) -> bool {
        let now = self.shared.now();
        let here = state.trouble.as_ref();
        here.is_some_and(|trouble| Instant::now() < trouble.until)
            || self.client.refusal().is_some()
            || state
                .outlook
                .is_some_and(|outlook| outlook.pause(now, &self.shared.parameters).is_some())
    }

    /// Takes in what the store says: this is what is served from here on. The token in it,
    /// if it is fit to be served.
    pub(super) fn publish(&self, state: &mut State, record: &Record) -> Option<AccessToken> {
        let mut outlook = self.outlook(record);
        let newer_here = state
            .outlook
            .is_some_and(|old| old.generation > outlook.generation);
        if newer_here && self.identity.app_only {
            // The store could not be written.
            return None;
        }
        let same = state
            .outlook
            .filter(|old| old.generation == outlook.generation);
        if let Some(old) = same {
            // A refusal may be known here before it is written down.
            outlook.spoilt |= old.spoilt;
            outlook.forced_at = outlook.forced_at.max(old.forced_at);
        }
        state.outlook = Some(outlook);
        self.plan(state);
        let now = self.shared.now();
        let fitness = outlook.fitness(now);
        let Some(access) = record.access.as_ref().filter(|_| fitness.is_fit()) else {
            state.held = None;
            return None;
        };
        let token = token(access, record, &outlook);
        // What is at hand already has been counted down since it came.
        if state.wanted && !(same.is_some() && state.held.is_some()) {
            state.held = Some(Box::new(Held::new(token.clone(), &outlook, now)));
        }
        Some(token)
    }

    pub(super) fn outlook(&self, record: &Record) -> Outlook {
        Outlook::new(
            record,
            &self.key,
            self.identity.policy,
            &self.shared.parameters,
        )
    }

    /// What is known of the grant, from the store if need be.
    async fn outlook_or_load(&self) -> Outlook {
        if let Some(outlook) = self.lock().outlook {
            return outlook;
        }
        let record = self.load().await.unwrap_or_default();
        let mut state = self.lock();
        self.publish(&mut state, &record);
        self.outlook(&record)
    }

    /// For whom it is kept.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            account: self.identity.account.to_string(),
            username: self.identity.username.as_deref().map(str::to_owned),
        }
    }

    /// The newest generation there is, also where the store could not be written.
    pub(super) fn newest(&self, record: &Record) -> u64 {
        let here = self.lock().outlook.map_or(0, |outlook| outlook.generation);
        here.max(record.generation)
    }

    pub(super) async fn load(&self) -> Result<Record, StoreError> {
        match self.shared.load(Shelf::Grant, self.key).await? {
            Some(octets) => Record::decode(&octets),
            None => Ok(Record::default()),
        }
    }

    pub(super) async fn save(&self, record: &Record) -> Result<(), StoreError> {
        let octets = record.encode()?;
        self.shared.save(Shelf::Grant, self.key, octets).await
    }

    pub(super) fn error(&self, kind: AuthErrorKind, message: impl Into<String>) -> AuthError {
        AuthError::new(&self.identity.account, kind, message)
    }

    pub(super) fn stopped(&self) -> AuthError {
        self.error(AuthErrorKind::Transient, "the refresh was stopped")
    }

    pub(super) fn store_failed(&self, error: &StoreError) -> AuthError {
        let kind = if error.lasting {
            AuthErrorKind::Config
        } else {
            AuthErrorKind::Transient
        };
        AuthError {
            cause: error.cause.clone(),
            ..self.error(kind, format!("the token store: {error}"))
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Grant {
    /// Makes room in the keeper, unless another grant of this key has come.
    fn drop(&mut self) {
        let mut grants = lock(&self.shared.grants);
        if grants
            .get(&self.key)
            .is_some_and(|entry| entry.strong_count() == 0)
        {
            grants.remove(&self.key);
        }
    }
}

impl State {
    /// What the token at hand is good for, and what a flight must bring that is better.
    fn fitness(&self, now: SystemTime) -> (Fitness, Purpose) {
        let Some(outlook) = &self.outlook else {
            return (Fitness::Unfit, Purpose::Need);
        };
        let newer = Purpose::Newer(outlook.generation);
        let by_wall = outlook.fitness(now);
        let Some(held) = &self.held else {
            let purpose = if outlook.spoilt { newer } else { Purpose::Need };
            return (by_wall, purpose);
        };
        if outlook.spoilt {
            return (Fitness::Unfit, newer);
        }
        // Whichever clock says that more time has passed is believed: the time of day may
        // have been set back, and the other one may have stood still while the machine slept.
        let steady = Instant::now();
        match by_wall {
            Fitness::Unfit => (Fitness::Unfit, Purpose::Need),
            _ if steady >= held.over => (Fitness::Unfit, newer),
            Fitness::Fresh if steady < held.due => (Fitness::Fresh, Purpose::Need),
            Fitness::Due => (Fitness::Due, Purpose::Need),
            Fitness::Fresh | Fitness::Doubtful => (Fitness::Due, newer),
        }
    }
}

impl Held {
    fn new(token: AccessToken, outlook: &Outlook, now: SystemTime) -> Self {
        let steady = Instant::now();
        let from_now = |at: SystemTime| steady + at.duration_since(now).unwrap_or_default();
        Self {
            due: from_now(token.next_refresh),
            over: from_now(outlook.life.map_or(now, |life| life.floor)),
            token,
        }
    }
}

/// The access token of `record`.
pub(super) fn token(access: &Access, record: &Record, outlook: &Outlook) -> AccessToken {
    AccessToken {
        value: access.token.expose().into(),
        token_type: access.token_type.clone().unwrap_or_else(|| "Bearer".into()),
        expires_at: access.expires_at,
        next_refresh: outlook.due_at().unwrap_or(access.expires_at),
        scope: record.scope.clone(),
        generation: record.generation,
    }
}

/// What came of a flight.
async fn landed(mut progress: watch::Receiver<Progress>) -> Result<Landed, AuthError> {
    let seen = progress
        .wait_for(|progress| progress.landed.is_some())
        .await;
    let landed = seen.map(|progress| progress.landed.clone());
    landed.ok().flatten().unwrap_or_else(|| Err(stopped()))
}

fn stopped() -> AuthError {
    AuthError::new("", AuthErrorKind::Transient, "the refresh was stopped")
}
