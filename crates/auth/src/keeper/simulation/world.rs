//! A run: processes that come and go, callers, a provider, one disk; and its history.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_plugin::wire::Secret;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::canary::Listener;
use super::chance::below;
use super::disk::{Disk, Hold, key};
use super::history::{Entry, History, Life, TokenKind, Verdict, What, serial, token};
use super::invariants::Rules;
use super::life::Body;
use super::provider::{Answer, Custom, Fault, Provider};
use super::scenario::{Act, Scenario};
use super::time::Time;
use crate::clock::Clock;
use crate::error::{AuthError, AuthErrorKind};
use crate::keeper::step::Gate;
use crate::keeper::{
    ClientKey, Event, EventSink, Grant, GrantIdentity, GrantPolicy, Keeper, KeeperSettings,
    NotObtained, Obtained, Parameters, ReuseGrace, Tended, TokenSource,
};

/// How often somebody wants a token while things recover.
const CUSTOM: Duration = Duration::from_mins(5);

/// Puts the keeper through `scenario`.
pub(super) fn run(scenario: &Scenario) -> Vec<Entry> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let listener = Listener::new();
    let history = tracing::subscriber::with_default(listener.subscriber(), || {
        let world = runtime.block_on(World::play(scenario, &listener));
        // What still runs ends while somebody listens.
        drop(runtime);
        world
    });
    for text in listener.leaks() {
        history.add(What::Leaked { text });
    }
    history.take()
}

/// What the checks need to know of `scenario`.
pub(super) fn rules(scenario: &Scenario) -> Rules {
    Rules {
        terms: scenario.grants.iter().map(|grant| grant.terms).collect(),
        inflight: scenario.caps.0,
        rate: scenario.caps.1 as usize,
    }
}

/// All that there is in a run.
struct World {
    scenario: Scenario,
    start: Instant,
    time: Arc<Time>,
    history: Arc<History>,
    provider: Provider,
    disk: Arc<Disk>,
    listener: Listener,
    calls: AtomicU32,
    requests: AtomicU32,
    /// What lives now in each process's place.
    living: Mutex<Vec<Option<Arc<Living>>>>,
    recovering: Mutex<bool>,
}

/// One life of a process, with its keeper.
struct Living {
    body: Arc<Body>,
    keeper: Keeper,
    grants: Vec<(Arc<Grant>, Arc<dyn TokenSource>)>,
    /// Its callers and its tending, which die with it.
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Living {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(task).abort_handle();
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    fn end(&self) {
        self.body.kill();
        self.keeper.kill();
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl World {
    async fn play(scenario: &Scenario, listener: &Listener) -> Arc<History> {
        let time = Arc::new(Time::new());
        let history = Arc::new(History::new(Arc::clone(&time)));
        let terms: Vec<_> = scenario.grants.iter().map(|grant| grant.terms).collect();
        let world = Arc::new(Self {
            scenario: scenario.clone(),
            start: Instant::now(),
            time,
            history: Arc::clone(&history),
            provider: Provider::new(&terms, scenario.weather.clone()),
            disk: Arc::default(),
            listener: listener.clone(),
            calls: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            living: Mutex::new(vec![None; scenario.processes.len()]),
            recovering: Mutex::new(false),
        });
        world.prepare().await;
        for process in 0..scenario.processes.len() {
            let world = Arc::clone(&world);
            tokio::spawn(world.supervise(process));
        }
        tokio::task::yield_now().await;
        for action in &scenario.actions {
            sleep_until(world.start + action.at).await;
            world.act(action.act);
        }
        sleep_until(world.start + scenario.until).await;
        world.recover().await;
        world.finish().await;
        history
    }

    /// Before the run, somebody signs in.
    async fn prepare(self: &Arc<Self>) {
        let life = Life {
            process: self.scenario.processes.len(),
            number: 0,
        };
        let living = self.begin(life, None);
        for (grant, plan) in self.scenario.grants.iter().enumerate() {
            if plan.signed_in && plan.terms.custom != Custom::AppOnly {
                Arc::clone(self).sign_in(Arc::clone(&living), grant).await;
            }
        }
        living.end();
        self.disk.bury(life);
    }

    /// One process's lives, one after the other.
    async fn supervise(self: Arc<Self>, process: usize) {
        let ends = self.scenario.processes[process].ends.clone();
        let mut ends = ends.into_iter();
        for number in 0.. {
            let life = Life { process, number };
            let end = ends.next().filter(|_| !self.is_recovering());
            let living = self.begin(life, end);
            if self.scenario.processes[process].tends || self.is_recovering() {
                Self::tend(&living);
            }
            self.living.lock().unwrap()[process] = Some(Arc::clone(&living));
            living.body.died.notified().await;
            self.living.lock().unwrap()[process] = None;
            living.end();
            self.disk.bury(life);
            let down = below(
                60_000,
                self.scenario.seed,
                &[1, process as u64, u64::from(number)],
            );
            sleep(Duration::from_millis(down)).await;
        }
    }

    fn begin(self: &Arc<Self>, life: Life, end: Option<(u64, bool)>) -> Arc<Living> {
        let history = Arc::clone(&self.history);
        let body = Arc::new(Body::new(life, history, self.scenario.seed, end));
        let parameters = Parameters {
            issuer_inflight: self.scenario.caps.0,
            issuer_rate: self.scenario.caps.1,
            // Seldom, to save time: what is looked at is the same.
            lock_poll: (Duration::from_millis(50), Duration::from_millis(800)),
            ..Parameters::default()
        };
        let keeper = Keeper::with_gate(
            KeeperSettings {
                store: Arc::new(Hold::new(Arc::clone(&self.disk), Arc::clone(&body))),
                clock: Arc::clone(&self.time) as Arc<dyn Clock>,
                events: Arc::new(Ear {
                    world: Arc::clone(self),
                    body: Arc::clone(&body),
                }),
                parameters,
            },
            Gate {
                keeper: Some(Arc::clone(&body) as _),
            },
        );
        let grants = (0..self.scenario.grants.len()).map(|grant| {
            let source = Source {
                world: Arc::clone(self),
                body: Arc::clone(&body),
                grant,
            };
            let identity = self.identity(grant);
            (keeper.grant(key(grant), identity), Arc::new(source) as _)
        });
        let grants = grants.collect();
        Arc::new(Living {
            body,
            keeper,
            grants,
            tasks: Mutex::default(),
        })
    }

    fn identity(&self, grant: usize) -> GrantIdentity {
        let custom = self.scenario.grants[grant].terms.custom;
        let reuse_grace = match custom {
            Custom::AppOnly | Custom::Static | Custom::Lenient => ReuseGrace::Forever,
            Custom::Strict { grace } => ReuseGrace::For(grace),
        };
        GrantIdentity {
            account: format!("account-{grant}").into(),
            username: None,
            app_only: custom == Custom::AppOnly,
            policy: GrantPolicy {
                refresh_token_lifetime: None,
                reuse_grace,
            },
            issuer: "login.example.org".into(),
            client: ClientKey([u8::from(grant == 0); 32]),
        }
    }

    fn tend(living: &Arc<Living>) {
        let tended = living.grants.iter().map(|(grant, source)| Tended {
            grant: Arc::clone(grant),
            source: Arc::clone(source),
        });
        let (keeper, tended) = (living.keeper.clone(), tended.collect());
        living.spawn(async move { keeper.tend_grants(tended, Vec::new()).await });
    }

    fn alive(&self, process: usize) -> Option<Arc<Living>> {
        self.living.lock().unwrap()[process].clone()
    }

    fn act(self: &Arc<Self>, act: Act) {
        match act {
            Act::Call {
                process,
                grant,
                crowd,
                patience,
            } => {
                for _ in 0..crowd {
                    self.call(process, grant, patience);
                }
            }
            Act::Refuse {
                process,
                grant,
                old,
            } => {
                let newest = self.disk.generation(grant);
                let generation = if old {
                    newest.saturating_sub(1)
                } else {
                    newest
                };
                let Some(living) = self.alive(process).filter(|_| generation > 0) else {
                    return;
                };
                let by = living.body.life;
                self.history.add(What::Invalidated {
                    by,
                    grant,
                    generation,
                });
                let grant = Arc::clone(&living.grants[grant].0);
                living.spawn(async move { grant.invalidate(generation).await });
            }
            Act::SignIn { process, grant } => {
                if self.scenario.grants[grant].terms.custom == Custom::AppOnly {
                    return;
                }
                if let Some(living) = self.alive(process) {
                    living.spawn(Arc::clone(self).sign_in(Arc::clone(&living), grant));
                }
            }
            Act::FullDisk { lasting } => {
                let disk = Arc::clone(&self.disk);
                disk.set_full(true);
                tokio::spawn(async move {
                    sleep(lasting).await;
                    disk.set_full(false);
                });
            }
            Act::Jump { seconds } => {
                self.time.jump(seconds);
                self.history.add(What::Jumped(seconds));
            }
            Act::Kill { process } => {
                if let Some(living) = self.alive(process) {
                    living.end();
                }
            }
        }
    }

    async fn sign_in(self: Arc<Self>, living: Arc<Living>, grant: usize) {
        let (access, refresh) = self.provider.sign_in(grant);
        let by = living.body.life;
        self.history.add(What::SignedIn {
            by,
            grant,
            access,
            refresh,
        });
        let obtained = Obtained {
            requested_at: self.time.now(),
            ..self.obtained(grant, access, refresh)
        };
        let kept = living.grants[grant].0.adopt(obtained).await;
        if living.body.is_dead() {
            return;
        }
        match kept {
            Ok(_) => self.history.add(What::Kept { grant, refresh }),
            Err(error) => self.listener.hear(&format!("{error} {error:?}")),
        }
    }

    fn obtained(&self, grant: usize, access: u32, refresh: Option<u32>) -> Obtained {
        let refresh = refresh.map(|serial| Secret::new(token(TokenKind::Refresh, grant, serial)));
        Obtained {
            access: SecretString::from(token(TokenKind::Access, grant, access)),
            token_type: Some("Bearer".into()),
            refresh,
            refresh_lifetime: None,
            scope: None,
            requested_at: self.time.now(),
            lifetime: self.scenario.grants[grant].terms.lifetime,
            refresh_in: None,
            identity: None,
        }
    }

    fn call(self: &Arc<Self>, process: usize, grant: usize, patience: Option<Duration>) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let Some(living) = self.alive(process) else {
            return;
        };
        let world = Arc::clone(self);
        let this = Arc::clone(&living);
        living.spawn(async move { world.wait(&this, number, grant, patience).await });
    }

    async fn wait(&self, living: &Living, call: u32, grant: usize, patience: Option<Duration>) {
        if living.body.is_dead() {
            return;
        }
        let by = living.body.life;
        self.history.add(What::Called { call, by, grant });
        let (kept, source) = &living.grants[grant];
        let token = kept.token(source);
        let outcome = match patience {
            Some(patience) => timeout(patience, token).await.ok(),
            None => Some(token.await),
        };
        if living.body.is_dead() {
            return;
        }
        self.history.add(match outcome {
            None => What::Left { call },
            Some(Ok(token)) => {
                self.listener.hear(&format!("{token:?}"));
                What::Served {
                    call,
                    access: serial(token.value().expose_secret()),
                    generation: token.generation(),
                    expires_at: token.expires_at(),
                }
            }
            Some(Err(error)) => {
                self.listener.hear(&format!("{error} {error:?}"));
                What::Failed {
                    call,
                    kind: error.kind,
                    retry_after: error.retry_after,
                }
            }
        });
    }

    fn is_recovering(&self) -> bool {
        *self
            .recovering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The provider is well, the disk is writable, nobody dies, and somebody wants tokens.
    async fn recover(self: &Arc<Self>) {
        *self.recovering.lock().unwrap() = true;
        self.disk.set_full(false);
        let living: Vec<_> = self
            .living
            .lock()
            .unwrap()
            .iter()
            .flatten()
            .cloned()
            .collect();
        for living in living {
            living.body.spare();
        }
        let over = Instant::now() + self.scenario.recovery;
        while Instant::now() < over {
            self.everybody_calls();
            sleep(CUSTOM).await;
        }
    }

    fn everybody_calls(self: &Arc<Self>) {
        for process in 0..self.scenario.processes.len() {
            for grant in 0..self.scenario.grants.len() {
                self.call(process, grant, None);
            }
        }
    }

    /// How every grant stands in every process. What happens to be due just now is looked at
    /// again.
    async fn finish(self: &Arc<Self>) {
        for process in 0..self.scenario.processes.len() {
            for grant in 0..self.scenario.grants.len() {
                let mut state = "dead";
                for _ in 0..3 {
                    self.call(process, grant, None);
                    sleep(Duration::from_secs(45)).await;
                    let Some(living) = self.alive(process) else {
                        break;
                    };
                    state = self.state(&living, grant).await;
                    if !matches!(state, "due" | "refreshing") {
                        break;
                    }
                }
                self.history.add(What::Ends {
                    grant,
                    process,
                    state,
                });
            }
        }
    }

    async fn state(&self, living: &Living, grant: usize) -> &'static str {
        let status = living.grants[grant].0.status().await;
        self.listener
            .hear(&format!("{status:?} {:?}", living.keeper));
        status.map_or("unreadable", |status| status.state.name())
    }
}

/// Where a process's grant gets its tokens: over the network, from the provider.
struct Source {
    world: Arc<World>,
    body: Arc<Body>,
    grant: usize,
}

impl TokenSource for Source {
    fn obtain(&self, refresh: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> {
        let exchange = Exchange {
            request: self.world.requests.fetch_add(1, Ordering::Relaxed),
            world: Arc::clone(&self.world),
            body: Arc::clone(&self.body),
            grant: self.grant,
            refresh: refresh.map(|token| serial(token.expose())),
        };
        exchange.go().boxed()
    }
}

/// One request and its answer.
struct Exchange {
    request: u32,
    world: Arc<World>,
    body: Arc<Body>,
    grant: usize,
    refresh: Option<u32>,
}

impl Exchange {
    async fn go(self) -> Result<Obtained, NotObtained> {
        if self.body.is_dead() {
            return pending().await;
        }
        let requested_at = self.world.time.now();
        let custom = self.world.scenario.grants[self.grant].terms.custom;
        if self.refresh.is_none() && custom != Custom::AppOnly {
            // The plugin knows that without asking anybody.
            let error = AuthError::new("account", AuthErrorKind::NeedsUser, "no sign-in yet");
            let unheard = false;
            return Err(NotObtained { error, unheard });
        }
        self.world.history.add(What::Asked {
            request: self.request,
            by: self.body.life,
            grant: self.grant,
            refresh: self.refresh,
        });
        let mut waiting = Waiting {
            exchange: &self,
            answered: false,
        };
        // What was sent arrives, whatever becomes of the sender.
        let arrival = tokio::spawn(Self::arrive(
            Arc::clone(&self.world),
            self.request,
            self.grant,
            self.refresh,
        ));
        let answer = arrival.await.unwrap();
        if matches!(answer.fault, Some(Fault::Hang | Fault::LostSlowly)) {
            pending::<()>().await;
        }
        sleep(self.world.latency(self.request, 2)).await;
        self.body.step(key(self.grant), 0).await;
        if answer.fault == Some(Fault::Lost) {
            return Err(NotObtained {
                error: AuthError::new(
                    "account",
                    AuthErrorKind::Transient,
                    "the connection broke before the answer",
                ),
                unheard: true,
            });
        }
        waiting.answered = true;
        drop(waiting);
        match self.read(answer) {
            Ok(obtained) => Ok(Obtained {
                requested_at,
                ..obtained
            }),
            Err(error) => Err(NotObtained {
                error,
                unheard: false,
            }),
        }
    }

    async fn arrive(world: Arc<World>, request: u32, grant: usize, refresh: Option<u32>) -> Answer {
        sleep(world.latency(request, 1)).await;
        let answer = world.provider.ask(grant, refresh, world.time.elapsed());
        world.history.add(What::Decided {
            request,
            verdict: answer.verdict,
        });
        answer
    }

    /// What the OAuth plugin makes of such an answer.
    fn read(&self, answer: Answer) -> Result<Obtained, AuthError> {
        use AuthErrorKind as Kind;
        let refused = |kind, code: Option<&str>| {
            let message = format!("the provider refused: {}", code.unwrap_or("nonsense"));
            Err(AuthError {
                oauth_error: code.map(str::to_owned),
                ..AuthError::new("account", kind, message)
            })
        };
        match (answer.verdict, answer.fault) {
            (
                Verdict::Tokens {
                    access,
                    refresh,
                    lifetime,
                },
                _,
            ) => Ok(Obtained {
                lifetime,
                refresh_in: answer.refresh_in,
                ..self.world.obtained(self.grant, access, refresh)
            }),
            (Verdict::Over, Some(Fault::Interaction)) => {
                refused(Kind::NeedsUser, Some("interaction_required"))
            }
            (Verdict::Over, _) => refused(Kind::InvalidGrant, Some("invalid_grant")),
            (Verdict::Failure, Some(Fault::InvalidRequest)) => {
                refused(Kind::Config, Some("invalid_request"))
            }
            (Verdict::Failure, Some(Fault::InvalidClient)) => {
                refused(Kind::Config, Some("invalid_client"))
            }
            (Verdict::Failure, Some(Fault::Revoked)) => {
                refused(Kind::InvalidGrant, Some("invalid_grant"))
            }
            (Verdict::Failure, Some(Fault::TooMany { retry_after })) => {
                refused(Kind::Transient, None).map_err(|error| AuthError {
                    retry_after: retry_after.map(Duration::from_secs),
                    ..error
                })
            }
            (Verdict::Failure, Some(Fault::Broken)) => refused(Kind::Transient, None),
            (Verdict::Failure, _) => refused(Kind::Protocol, None),
        }
    }
}

impl World {
    fn latency(&self, request: u32, leg: u64) -> Duration {
        let about = [2, u64::from(request), leg];
        Duration::from_millis(10 + below(1500, self.scenario.seed, &about))
    }
}

/// While the client waits for its answer.
struct Waiting<'a> {
    exchange: &'a Exchange,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let exchange = self.exchange;
        if !exchange.body.is_dead() {
            exchange.world.history.add(What::Ended {
                request: exchange.request,
                answered: self.answered,
            });
        }
    }
}

/// The operator's ear, which does not always hear.
struct Ear {
    world: Arc<World>,
    body: Arc<Body>,
}

impl EventSink for Ear {
    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, bool> {
        self.world.listener.hear(&format!("{event:?}"));
        async move { !self.body.is_dead() }.boxed()
    }
}
