//! One account's sessions: no more at a time than it may have, kept while they are useful.
//!
//! A session is in exactly one place: waiting in the pool, clean, or owned by the call that
//! uses it. It comes back only when it is clean again; a call that is dropped takes its session
//! with it. Calls wait in the order they came.

use std::{
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use lettre::Address;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{
    Authenticator, Capabilities, Connector, Outgoing, PoolLimits, Receipt, Reply, SendError,
    SendErrorKind, SentAll, ServerSettings, Source, Stage, TcpConnector,
    session::{OpenError, Session, server_name},
    tls,
    window::{Carried, Work},
};

/// An account's way to its server. Cheap to clone; the clones share the sessions.
///
/// Dropping the last clone closes the waiting sessions without a word; [`Pool::close`] takes leave.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// How long a step of [`Pool::check`] may take.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);

struct Inner {
    settings: Arc<ServerSettings>,
    authenticator: Arc<dyn Authenticator>,
    connector: Arc<dyn Connector>,
    limits: PoolLimits,
    /// One permit for each session in use. A session is made only with a permit and only when
    /// none waits, so waiting and used ones together stay within the limit.
    permits: Semaphore,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// The one used last comes last.
    sessions: Vec<(Session, Instant)>,
    /// The newest credential any session was authenticated with.
    generation: u64,
    reaper_runs: bool,
    closed: bool,
}

/// How one stage of [`Pool::check`] went.
#[derive(Debug)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// How long it took.
    pub elapsed: Duration,
    /// What was found, or why there are no further stages.
    pub outcome: Result<StageDetail, SendError>,
}

/// What a stage found.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum StageDetail {
    /// The address that answered.
    Connected {
        /// Address and port.
        peer: SocketAddr,
    },
    /// What the server said, where that is all there is to see.
    Said(Reply),
    /// The server's capabilities.
    Offers(Capabilities),
    /// The TLS session.
    Secured(tls::Session),
    /// The account signed in.
    Authenticated {
        /// With this mechanism.
        mechanism: String,
        /// The server's welcome.
        reply: Reply,
    },
}

/// Stages as they pass.
pub(crate) struct Trace {
    since: Instant,
    reports: Vec<StageReport>,
}

impl Trace {
    fn start() -> Self {
        Self {
            since: Instant::now(),
            reports: Vec::new(),
        }
    }

    pub(crate) fn done(&mut self, stage: Stage, detail: StageDetail) {
        self.push(stage, Ok(detail));
    }

    fn push(&mut self, stage: Stage, outcome: Result<StageDetail, SendError>) {
        let now = Instant::now();
        self.reports.push(StageReport {
            stage,
            elapsed: now - self.since,
            outcome,
        });
        self.since = now;
    }
}

impl Pool {
    /// A pool over TCP; connects when it first has something to send.
    pub fn new(
        settings: ServerSettings,
        authenticator: Arc<dyn Authenticator>,
        limits: PoolLimits,
    ) -> Self {
        Self::with_connector(settings, authenticator, limits, Arc::new(TcpConnector))
    }

    /// A pool over connections made otherwise: through a proxy, or in a test.
    pub fn with_connector(
        settings: ServerSettings,
        authenticator: Arc<dyn Authenticator>,
        limits: PoolLimits,
        connector: Arc<dyn Connector>,
    ) -> Self {
        let inner = Inner {
            settings: Arc::new(settings),
            authenticator,
            connector,
            limits,
            permits: Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Sends one message, on a waiting session or a new one.
    ///
    /// A waiting session that turns out to be dead before any of the message has left, or whose
    /// server answers `RSET` or `MAIL` with 421, is replaced once. Nothing else is tried twice: a refusal is reported, and a lost verdict is
    /// [`SendErrorKind::Unknown`]. Dropping the future closes its connection.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Receipt, SendError> {
        let mut one = One {
            outgoing: Some(outgoing.clone()),
            outcome: None,
        };
        self.send_all(&mut one, 1).await?;
        one.outcome.unwrap_or_else(|| {
            Err(SendError::new(
                Stage::Connect,
                server_name(&self.inner.settings),
                SendErrorKind::Closed,
            ))
        })
    }

    /// Sends what the source gives, on one session: a waiting one or a new one.
    ///
    /// With `PIPELINING` and `CHUNKING` up to `window` messages are in flight at a time, so that
    /// a lost connection leaves no more than these [`SendErrorKind::Unknown`]; with `PIPELINING`
    /// alone two, one of them as an envelope. Verdicts are told as they come. A waiting session
    /// that is over before it took anything is replaced as for [`Pool::send`]; nothing else is
    /// tried twice. A session whose credential has become an old one takes no more messages.
    /// Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// There is no session. What the source gave and was not told the end of has not left.
    pub async fn send_all(
        &self,
        source: &mut dyn Source,
        window: usize,
    ) -> Result<SentAll, SendError> {
        let permit = self.inner.permit().await?;
        let mut work = Work::new(source, window);
        let more = |session: &Session| self.inner.is_wanted(session);
        if let Some(mut session) = self.inner.take().await
            && session.carry(&mut work, true, &more).await == Carried::All
        {
            self.give_back(session, permit).await;
            return Ok(work.sent());
        }
        let settings = &self.inner.settings;
        let mut session = self.inner.open(settings, &mut Trace::start()).await?;
        session.carry(&mut work, false, &more).await;
        self.give_back(session, permit).await;
        Ok(work.sent())
    }

    /// Connects, signs in and names `sender` on a new session, without sending anything.
    ///
    /// The stages that passed, in order, then the one that did not. Somebody waits for it, so no
    /// step may take longer than half a minute.
    pub async fn check(&self, sender: &Address) -> Vec<StageReport> {
        let mut trace = Trace::start();
        if let Err(error) = self.check_stages(sender, &mut trace).await {
            trace.push(error.stage, Err(error));
        }
        trace.reports
    }

    async fn check_stages(&self, sender: &Address, trace: &mut Trace) -> Result<(), SendError> {
        let permit = self.inner.permit().await?;
        if let Some(waiting) = self.inner.take().await {
            waiting.quit().await;
        }
        *trace = Trace::start();
        let mut settings = ServerSettings::clone(&self.inner.settings);
        settings.timeouts = settings.timeouts.at_most(CHECK_PATIENCE);
        let mut session = self.inner.open(&Arc::new(settings), trace).await?;
        let result = session.try_sender(sender).await;
        // What is sent over it has all the time that it may need.
        session.settings = Arc::clone(&self.inner.settings);
        self.give_back(session, permit).await;
        trace.done(Stage::MailFrom, StageDetail::Said(result?));
        Ok(())
    }

    /// Takes leave of waiting sessions; those in use follow when they are done, and whoever
    /// wants one from now on gets [`SendErrorKind::Closed`].
    pub async fn close(&self) {
        self.inner.permits.close();
        let sessions = {
            let mut waiting = self.inner.waiting();
            waiting.closed = true;
            std::mem::take(&mut waiting.sessions)
        };
        futures_util::future::join_all(sessions.into_iter().map(|(session, _)| session.quit()))
            .await;
    }

    /// Puts a session where it belongs; the permit goes last, for whoever gets it looks here.
    async fn give_back(&self, session: Session, permit: SemaphorePermit<'_>) {
        if let Some(unwanted) = self.inner.keep(session)
            && unwanted.is_clean()
        {
            unwanted.quit().await;
        }
        drop(permit);
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("server", &server_name(&self.inner.settings))
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while it was held cannot have left it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, SendError> {
        let closed = |_| {
            SendError::new(
                Stage::Connect,
                server_name(&self.settings),
                SendErrorKind::Closed,
            )
        };
        self.permits.acquire().await.map_err(closed)
    }

    /// A waiting session that may be used; those that may not are let go.
    async fn take(&self) -> Option<Session> {
        loop {
            let (mut session, since) = self.waiting().sessions.pop()?;
            if !session.is_usable() {
                continue;
            }
            if since.elapsed() < self.limits.idle && self.is_current(&session) {
                return Some(session);
            }
            session.quit().await;
        }
    }

    /// Whether no newer credential is known than the one the session signed in with.
    fn is_current(&self, session: &Session) -> bool {
        let newest = self
            .waiting()
            .generation
            .max(self.authenticator.generation().unwrap_or(0));
        session.generation() >= newest
    }

    /// Whether another message may go on this session.
    fn is_wanted(&self, session: &Session) -> bool {
        self.is_current(session) && !self.waiting().closed
    }

    /// Keeps a session for the next message, or gives it back.
    fn keep(self: &Arc<Self>, session: Session) -> Option<Session> {
        if !session.is_clean() || !self.is_current(&session) {
            return Some(session);
        }
        let mut waiting = self.waiting();
        if waiting.closed {
            return Some(session);
        }
        waiting.sessions.push((session, Instant::now()));
        if !std::mem::replace(&mut waiting.reaper_runs, true) {
            tokio::spawn(reap(Arc::downgrade(self), self.limits.idle));
        }
        None
    }

    async fn open(
        &self,
        settings: &Arc<ServerSettings>,
        trace: &mut Trace,
    ) -> Result<Session, SendError> {
        let result = self.open_once(settings, None, trace).await;
        let (error, rejected, offered) = match result {
            Ok(session) => return Ok(session),
            Err(OpenError::Other(error)) => return Err(error),
            Err(OpenError::Rejected {
                error,
                generation,
                offered,
            }) => (error, generation, offered),
        };
        self.authenticator.rejected(rejected).await;
        let (host, port) = (&self.settings.host, self.settings.port);
        let exchange = self
            .authenticator
            .begin(&offered, host, port)
            .await
            .map_err(|sasl| {
                SendError::new(
                    Stage::Auth,
                    server_name(&self.settings),
                    SendErrorKind::Sasl(sasl),
                )
            })?;
        if exchange.generation() == rejected {
            return Err(error);
        }
        *trace = Trace::start();
        match self.open_once(settings, Some(exchange), trace).await {
            Ok(session) => Ok(session),
            Err(OpenError::Rejected { error, .. } | OpenError::Other(error)) => Err(error),
        }
    }

    async fn open_once(
        &self,
        settings: &Arc<ServerSettings>,
        exchange: Option<Box<dyn crate::SaslExchange>>,
        trace: &mut Trace,
    ) -> Result<Session, OpenError> {
        let settings = Arc::clone(settings);
        let (connector, authenticator) = (self.connector.as_ref(), self.authenticator.as_ref());
        let session = Session::open(settings, connector, authenticator, exchange, trace).await?;
        let mut waiting = self.waiting();
        waiting.generation = waiting.generation.max(session.generation());
        Ok(session)
    }
}

/// One message, and what became of it.
struct One {
    outgoing: Option<Outgoing>,
    outcome: Option<Result<Receipt, SendError>>,
}

impl Source for One {
    fn next(&mut self, _: usize) -> BoxFuture<'_, Vec<Outgoing>> {
        ready(self.outgoing.take().into_iter().collect()).boxed()
    }

    fn ended(&mut self, _: u64, outcome: Result<Receipt, SendError>) {
        self.outcome = Some(outcome);
    }
}

/// Lets go of sessions that have waited too long; ends when none waits.
async fn reap(pool: Weak<Inner>, idle: Duration) {
    loop {
        let Some(inner) = pool.upgrade() else { return };
        // Until it is gone it is one of the account's sessions, so it takes a permit to close it.
        let Ok(permit) = inner.permits.acquire().await else {
            return;
        };
        let (expired, next) = {
            let mut waiting = inner.waiting();
            let oldest = waiting.sessions.first().map(|(_, since)| *since + idle);
            let expired = oldest.is_some_and(|end| end <= Instant::now());
            waiting.reaper_runs = oldest.is_some();
            (expired.then(|| waiting.sessions.remove(0)), oldest)
        };
        if let Some((session, _)) = expired {
            session.quit().await;
            continue;
        }
        drop(permit);
        drop(inner);
        let Some(next) = next else { return };
        tokio::time::sleep_until(next).await;
    }
}
