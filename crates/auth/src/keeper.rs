//! Keeping grants: every token is refreshed before it matters, by one process at a time,
//! across crashes, for as long as the provider allows.
//!
//! A grant is what a provider gave one person, or one application ([`GrantKey`]). Its
//! refresh is a flight ([`flight`]): a task of its own, one at a time for each grant in this
//! process, and, by the store's lock, in all processes. A flight
//!
//! 1. looks at the store: another process may have been quicker;
//! 2. takes the grant's lock ([`lease`]), looking again while it waits;
//! 3. reads the record again and stops at what is newer;
//! 4. waits for its turn at the provider ([`limits`], [`breaker`]) and writes an intent,
//!    which also proves that the store can be written;
//! 5. asks the provider;
//! 6. makes what came durable and only then hands it out, or draws the consequence of a
//!    failure ([`failure`]);
//! 7. gives the lock back. The record of step 6 no longer has the intent.
//!
//! A refresh token whose use was not followed by an answer is tried once more; if the
//! provider then refuses it, the rotation is lost ([`Reason::LostRotation`]).
//!
//! Not here: what a provider says and how it is asked; that is a `TokenSource`.

mod agenda;
mod aside;
mod breaker;
mod event;
mod failure;
mod flight;
mod grant;
mod kept;
mod lease;
mod limits;
mod mutation;
mod notice;
mod outlook;
mod parameters;
mod pool;
mod record;
mod schedule;
#[cfg(test)]
mod simulation;
mod status;
mod step;
mod store;
mod tasks;
mod tend;
mod token;
mod vault_store;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::credential::Credential;
use agenda::Agenda;
use breaker::Breaker;
pub use event::{Event, EventSink, NoEvents};
pub(crate) use grant::{Grant, Revoked};
pub use grant::{Rotation, RotationOutcome};
pub use kept::KeptGrant;
use limits::Issuer;
pub(crate) use notice::Expiry;
pub use parameters::{GrantPolicy, KnownExpiry, Parameters, ReuseGrace, days_left};
use pool::Pool;
pub use status::{FailureStatus, GrantState, GrantStatus, Reason, RefreshTokenStatus};
use step::{Gate, Step, StoreCall};
pub use store::{GrantKey, GrantStore, MemoryStore, Shelf, StoreError, StoreLock};
use tasks::Tasks;
pub(crate) use tend::Tended;
pub use token::AccessToken;
pub(crate) use token::{NotObtained, Obtained, TokenSource};
pub use vault_store::VaultStore;

/// What a keeper works with.
pub struct KeeperSettings {
    /// Where grants are kept.
    pub store: Arc<dyn GrantStore>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Hears of what happens.
    pub events: Arc<dyn EventSink>,
    /// The numbers.
    pub parameters: Parameters,
}

impl fmt::Debug for KeeperSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperSettings")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// Keeps grants. Clones are the same keeper.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

/// What all grants of one keeper share.
struct Shared {
    store: Arc<dyn GrantStore>,
    clock: Arc<dyn Clock>,
    events: Arc<dyn EventSink>,
    parameters: Parameters,
    grants: Mutex<HashMap<GrantKey, Weak<Grant>>>,
    issuers: Mutex<Pool<Arc<str>, Issuer>>,
    clients: Mutex<Pool<ClientKey, Breaker>>,
    tasks: Tasks,
    agenda: Agenda,
    /// Thresholds of expiries that are in the log: they are looked at again and again.
    logged: Mutex<HashSet<(GrantKey, u32)>>,
    /// Held by who works off the agenda.
    tending: tokio::sync::Mutex<()>,
    gate: Gate,
}

/// What tells one OAuth client from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(pub(crate) [u8; 32]);

/// What a grant is, besides its key.
#[derive(Clone, Debug)]
pub(crate) struct GrantIdentity {
    /// An account that uses it, for messages.
    pub(crate) account: Arc<str>,
    /// Whose it is; none where it is an application's.
    pub(crate) username: Option<Arc<str>>,
    /// Whether it is an application's: then there is no refresh token, and what is lost can
    /// be fetched again.
    pub(crate) app_only: bool,
    pub(crate) policy: GrantPolicy,
    /// The provider: requests at one are counted together.
    pub(crate) issuer: Arc<str>,
    pub(crate) client: ClientKey,
}

impl Keeper {
    /// A keeper with these settings.
    pub fn new(settings: KeeperSettings) -> Self {
        Self::with_gate(settings, Gate::default())
    }

    /// A keeper that forgets everything with the process, and tells nobody.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        Self::new(KeeperSettings {
            store: Arc::new(MemoryStore::default()),
            clock,
            events: Arc::new(NoEvents),
            parameters: Parameters::default(),
        })
    }

    fn with_gate(settings: KeeperSettings, gate: Gate) -> Self {
        Self {
            shared: Arc::new(Shared {
                store: settings.store,
                clock: settings.clock,
                events: settings.events,
                parameters: settings.parameters,
                grants: Mutex::default(),
                issuers: Mutex::default(),
                clients: Mutex::default(),
                tasks: Tasks::default(),
                agenda: Agenda::default(),
                logged: Mutex::default(),
                tending: tokio::sync::Mutex::default(),
                gate,
            }),
        }
    }

    /// Looks after the grants of these credentials for ever: refreshes what falls due, keeps
    /// refresh tokens that nobody uses from lapsing, and tells of expiries in time.
    ///
    /// A token that was dead before is fetched when somebody needs it, not here. One call
    /// works at a time; another waits.
    pub async fn tend(&self, credentials: Vec<Credential>) {
        let tended = credentials.iter().filter_map(Credential::tended);
        let tended = tended.collect();
        let expiries = credentials.iter().flat_map(Credential::known_ends);
        let expiries = expiries.collect();
        drop(credentials);
        self.tend_grants(tended, expiries).await;
    }

    /// When [`Keeper::tend`] has something to do next: for who moves the clock by hand.
    pub fn next_attention(&self) -> Option<SystemTime> {
        self.shared.agenda.first()
    }

    /// Waits, for so long at most, until no refresh is under way and every event is told: a
    /// process that ends before may lose what a provider is just sending.
    pub async fn settle(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.shared.tasks.idle()).await;
    }

    /// The grant with this key: one for each, whoever asks.
    pub(crate) fn grant(&self, key: GrantKey, identity: GrantIdentity) -> Arc<Grant> {
        let shared = &self.shared;
        let issuer = lock(&shared.issuers).get(
            Arc::clone(&identity.issuer),
            || Issuer::new(&shared.parameters),
            Issuer::is_idle,
        );
        let client = lock(&shared.clients).get(identity.client, Breaker::default, Breaker::is_idle);
        let mut grants = lock(&shared.grants);
        let entry = grants.entry(key).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let grant = Arc::new(Grant::new(
                key,
                identity,
                issuer,
                client,
                Arc::clone(shared),
            ));
            *entry = Arc::downgrade(&grant);
            grant
        })
    }

    /// Ends every task of this keeper where it stands, as a crash would.
    #[cfg(test)]
    #[allow(dead_code, reason = "for the simulation")]
    pub(crate) fn kill(&self) {
        self.shared.tasks.kill();
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Shared {
    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Calls the store, on a thread of its own where it may take its time.
    async fn on_store<T: Send + 'static>(
        &self,
        call: StoreCall,
        kind: Shelf,
        key: GrantKey,
        run: impl FnOnce(&dyn GrantStore, Shelf, &GrantKey) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.gate.pass(Step::Store(call, kind), key).await;
        if !self.store.blocks() {
            return run(&*self.store, kind, &key);
        }
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || run(&*store, kind, &key))
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::new(
                    "the call into the store was stopped",
                    false,
                ))
            })
    }

    async fn load(
        &self,
        kind: Shelf,
        key: GrantKey,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.on_store(StoreCall::Load, kind, key, |store, kind, key| {
            store.load(kind, key)
        })
        .await
    }

    async fn save(
        &self,
        kind: Shelf,
        key: GrantKey,
        record: Zeroizing<Vec<u8>>,
    ) -> Result<(), StoreError> {
        self.on_store(StoreCall::Save, kind, key, move |store, kind, key| {
            store.save(kind, key, &record)
        })
        .await
    }

    async fn remove(&self, kind: Shelf, key: GrantKey) -> Result<bool, StoreError> {
        self.on_store(StoreCall::Remove, kind, key, |store, kind, key| {
            store.remove(kind, key)
        })
        .await
    }

    async fn try_lock(&self, kind: Shelf, key: GrantKey) -> Result<Option<StoreLock>, StoreError> {
        self.on_store(StoreCall::TryLock, kind, key, |store, kind, key| {
            store.try_lock(kind, key)
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
