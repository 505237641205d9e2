//! A keeper with a provider that says what it is told, at a time of day that stands still
//! unless moved.

mod aside;
mod events;
mod failing;
mod refreshing;
mod serving;
mod tending;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_plugin::wire::Secret;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use super::record::Record;
use super::*;
use crate::error::{AuthError, AuthErrorKind};
use crate::probe::HandClock;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const KEY: GrantKey = GrantKey([7; 32]);

/// What the provider does next.
enum Reply {
    Error(NotObtained),
    Silence,
}

/// A provider.
struct Provider {
    clock: Arc<HandClock>,
    replies: Mutex<VecDeque<Reply>>,
    /// The refresh tokens it saw.
    seen: Mutex<Vec<Option<String>>>,
    /// Answers pass through here.
    gate: Arc<Semaphore>,
    lifetime: Mutex<Duration>,
    made: AtomicUsize,
    rotates: AtomicBool,
}

/// One process.
struct Process {
    keeper: Keeper,
    grant: Arc<Grant>,
    source: Arc<dyn TokenSource>,
}

/// A machine with one grant.
struct World {
    clock: Arc<HandClock>,
    store: Arc<dyn GrantStore>,
    provider: Arc<Provider>,
    heard: Arc<Heard>,
}

/// Who hears of events, or does not.
#[derive(Default)]
struct Heard {
    deaf: AtomicBool,
    events: Mutex<Vec<Event>>,
    attempts: Mutex<Vec<&'static str>>,
}

impl EventSink for Heard {
    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, bool> {
        async move {
            lock(&self.events).push(event.clone());
            !self.deaf.load(Ordering::SeqCst)
        }
        .boxed()
    }

    fn attempted(&self, outcome: Result<(), AuthErrorKind>) {
        lock(&self.attempts).push(outcome.map_or_else(AuthErrorKind::name, |()| "ok"));
    }
}

impl Heard {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.events))
    }

    /// What was heard, by name.
    fn names(&self) -> Vec<String> {
        let name = |event: Event| match event {
            Event::TokenRefreshed { generation, .. } => format!("refreshed {generation}"),
            Event::TokenRefreshFailed { error, .. } => format!("failed {:?}", error.kind),
            Event::ReauthorizationRequired { reason, .. } => format!("sign in: {}", reason.name()),
            Event::SecretExpiring { days, .. } => format!("{days} days"),
        };
        self.take().into_iter().map(name).collect()
    }
}

impl World {
    fn new() -> Self {
        Self::with_store(Arc::new(MemoryStore::default()))
    }

    fn with_store(store: Arc<dyn GrantStore>) -> Self {
        let clock = Arc::new(HandClock::default());
        Self {
            provider: Arc::new(Provider {
                clock: Arc::clone(&clock),
                replies: Mutex::default(),
                seen: Mutex::default(),
                gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
                lifetime: Mutex::new(HOUR),
                made: AtomicUsize::new(0),
                rotates: AtomicBool::new(true),
            }),
            clock,
            store,
            heard: Arc::default(),
        }
    }

    /// A further process with the grant of a person.
    fn process(&self) -> Process {
        self.process_with(|_| {})
    }

    fn process_with(&self, change: impl FnOnce(&mut GrantIdentity)) -> Process {
        let keeper = Keeper::new(KeeperSettings {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            events: Arc::clone(&self.heard) as Arc<dyn EventSink>,
            parameters: Parameters::default(),
        });
        let mut identity = GrantIdentity {
            account: "ops".into(),
            username: Some("ops@example.org".into()),
            app_only: false,
            policy: GrantPolicy::default(),
            issuer: "login.example:443".into(),
            client: ClientKey([1; 32]),
        };
        change(&mut identity);
        Process {
            grant: keeper.grant(KEY, identity),
            keeper,
            source: Arc::new(Line(Arc::clone(&self.provider))),
        }
    }

    /// A process where somebody has signed in.
    async fn signed_in(&self) -> Process {
        let process = self.process();
        let login = self.provider.tokens();
        process.grant.adopt(login).await.unwrap();
        process.keeper.settle(HOUR).await;
        self.heard.take();
        process
    }

    fn record(&self) -> Record {
        let octets = self.store.load(Shelf::Grant, &KEY).unwrap().unwrap();
        Record::decode(&octets).unwrap()
    }

    fn keep(&self, record: &Record) {
        let octets = record.encode().unwrap();
        self.store.save(Shelf::Grant, &KEY, &octets).unwrap();
    }

    /// Time passes, for every clock.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }
}

impl Process {
    async fn token(&self) -> Result<String, AuthErrorKind> {
        let token = self.grant.token(&self.source).await;
        token
            .map(|token| token.value().expose_secret().to_owned())
            .map_err(|error| error.kind)
    }

    /// Waits for what goes on in the background.
    async fn settle(&self) {
        self.keeper.settle(HOUR).await;
    }

    async fn state(&self) -> GrantState {
        self.grant.status().await.unwrap().state
    }
}

impl Provider {
    /// The next tokens, numbered.
    fn tokens(&self) -> Obtained {
        let n = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        Obtained {
            access: SecretString::from(format!("access-{n}")),
            token_type: Some("Bearer".into()),
            refresh: self
                .rotates
                .load(Ordering::SeqCst)
                .then(|| Secret::new(format!("refresh-{n}"))),
            refresh_lifetime: None,
            scope: None,
            requested_at: self.clock.now(),
            lifetime: *lock(&self.lifetime),
            refresh_in: None,
            identity: None,
        }
    }

    fn next(&self, reply: Reply) {
        lock(&self.replies).push_back(reply);
    }

    fn fails(&self, kind: AuthErrorKind) {
        self.next(Reply::Error(refusal(kind)));
    }

    fn requests(&self) -> usize {
        lock(&self.seen).len()
    }

    fn seen(&self) -> Vec<Option<String>> {
        lock(&self.seen).clone()
    }

    /// Holds answers back until [`Provider::open`].
    fn close(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    fn open(&self) {
        self.gate.add_permits(1000);
    }

    async fn asked(&self, n: usize) {
        while self.requests() < n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A process's way to the provider.
struct Line(Arc<Provider>);

impl TokenSource for Line {
    fn obtain(&self, refresh: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> {
        let provider = Arc::clone(&self.0);
        async move {
            let refresh = refresh.map(|token| token.expose().to_owned());
            lock(&provider.seen).push(refresh);
            let _passed = provider.gate.acquire().await.unwrap();
            let reply = lock(&provider.replies).pop_front();
            match reply {
                None => Ok(provider.tokens()),
                Some(Reply::Error(error)) => Err(error),
                Some(Reply::Silence) => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// What a provider says with its error of this kind.
fn refusal(kind: AuthErrorKind) -> NotObtained {
    let says = match kind {
        AuthErrorKind::InvalidGrant => Some("invalid_grant"),
        AuthErrorKind::NeedsUser => Some("interaction_required"),
        AuthErrorKind::Config => Some("invalid_client"),
        AuthErrorKind::Denied => Some("access_denied"),
        _ => None,
    };
    NotObtained {
        error: AuthError {
            oauth_error: says.map(str::to_owned),
            ..AuthError::new("ops", kind, "no")
        },
        unheard: kind == AuthErrorKind::Transient,
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_remembers_no_provider_and_client_that_nobody_uses() {
    let world = World::new();
    let process = world.process();
    for n in 0..1000_u16 {
        let [high, low] = n.to_be_bytes();
        let mut identity = process.grant.identity.clone();
        identity.issuer = format!("login-{n}.example:443").into();
        identity.client = ClientKey([high, low].repeat(16).try_into().unwrap());
        let mut key = [0; 32];
        key[..2].copy_from_slice(&[high, low]);
        let grant = process.keeper.grant(GrantKey(key), identity);
        if n % 2 == 0 {
            world.provider.fails(AuthErrorKind::Config);
        }
        let _ = grant.token(&process.source).await;
        process.settle().await;
        world.pass(MINUTE).await;
    }
    let shared = &process.keeper.shared;
    assert_eq!(lock(&shared.grants).len(), 1);
    assert!(lock(&shared.issuers).len() < 100);
    assert!(lock(&shared.clients).len() < 100);
}
