//! One refresh, from the first look at the store to giving its lock back.
//!
//! A flight is a task: it lands even if everybody who waited has gone. What it finds and
//! does is in the record, so that another process can go on where this one ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postrider_plugin::wire::Secret;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::event::Event;
use super::grant::{Grant, token};
use super::lease::Wait;
use super::mutation::mutated;
use super::record::{Intent, Record};
use super::schedule::{Fitness, Life};
use super::step::Step;
use super::store::{StoreError, StoreLock};
use super::token::{AccessToken, NotObtained, Obtained, TokenSource};
use crate::clock::unix_ms;
use crate::error::{AuthError, AuthErrorKind};

/// The longest pause between two attempts to write what the provider sent.
const WRITE_PAUSE: Duration = Duration::from_secs(30);

/// What a flight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A token that is not due.
    Need,
    /// The same, but not the one of this generation: it is known to be no good.
    Newer(u64),
    /// The same, and a person asks for it: they may be asking because they put right what
    /// was wrong.
    Forced(u64),
}

impl Purpose {
    /// Whether this is a token that is wanted.
    pub(super) fn accepts(self, token: &AccessToken) -> bool {
        match self {
            Self::Need => true,
            Self::Newer(old) | Self::Forced(old) => token.generation != old,
        }
    }
}

/// How far a flight has come, for those who wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// What can be served already.
    pub(super) served: Option<Served>,
    /// What came of it.
    pub(super) landed: Option<Result<Landed, AuthError>>,
}

/// A token to be served while the next one is fetched.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) token: AccessToken,
    pub(super) until: SystemTime,
}

/// A flight that brought a token.
#[derive(Clone, Debug)]
pub(super) struct Landed {
    pub(super) token: AccessToken,
    /// Whether it comes from the provider, and not from another process.
    pub(super) refreshed: bool,
}

/// One flight.
pub(super) struct Flight<'a> {
    pub(super) grant: &'a Arc<Grant>,
    source: &'a dyn TokenSource,
    purpose: Purpose,
    began_at: SystemTime,
    progress: &'a watch::Sender<Progress>,
}

impl Grant {
    /// Begins a flight.
    pub(super) fn depart(
        self: &Arc<Self>,
        source: Arc<dyn TokenSource>,
        purpose: Purpose,
    ) -> watch::Receiver<Progress> {
        let (progress, seen) = watch::channel(Progress::default());
        let landing = Landing(Arc::clone(self));
        let task = async move {
            let flight = Flight {
                grant: &landing.0,
                source: &*source,
                purpose,
                began_at: landing.0.shared.now(),
                progress: &progress,
            };
            let result = flight.run().await;
            // The next flight may depart before those who waited for this one look.
            drop(landing);
            progress.send_modify(|progress| progress.landed = Some(result));
        };
        drop(self.shared.tasks.spawn(task));
        seen
    }

    /// The provider's token had expired when it came.
    pub(super) fn dead_on_arrival(&self) -> AuthError {
        self.error(
            AuthErrorKind::Protocol,
            "the provider sent an access token that has expired already",
        )
    }

    pub(super) fn tell_refreshed(self: &Arc<Self>, record: &Record) {
        let Some(access) = &record.access else { return };
        let token = token(access, record, &self.outlook(record));
        let seconds = |at: SystemTime| {
            at.duration_since(access.issued_at)
                .unwrap_or_default()
                .as_secs()
        };
        tracing::info!(
            account = &*self.identity.account,
            generation = token.generation,
            expires_in_seconds = seconds(token.expires_at),
            next_in_seconds = seconds(token.next_refresh),
            "access token refreshed"
        );
        self.emit(Event::TokenRefreshed {
            account: self.identity.account.to_string(),
            generation: token.generation,
            expires_at: token.expires_at,
            next_refresh: token.next_refresh,
        });
    }

    /// Tells of `event`, on nobody's time.
    pub(super) fn emit(self: &Arc<Self>, event: Event) {
        let events = Arc::clone(&self.shared.events);
        drop(
            self.shared
                .tasks
                .spawn(async move { events.emit(&event).await }),
        );
    }
}

impl Flight<'_> {
    async fn run(&self) -> Result<Landed, AuthError> {
        // 1. Look.
        let record = match self.grant.load().await {
            Ok(record) => record,
            Err(error) => return self.without_store(&error).await,
        };
        let last_resort = self.last_resort(&record);
        let result = match self.settle(&record, false) {
            Some(settled) => settled,
            None => self.fetch(&record).await,
        };
        if let (Err(error), Some((token, life))) = (&result, last_resort)
            && matches!(
                error.kind,
                AuthErrorKind::Transient | AuthErrorKind::Protocol
            )
        {
            self.serve(token, Some(life));
        }
        result
    }

    /// Steps 2 to 7; `record` is what a first look found.
    async fn fetch(&self, record: &Record) -> Result<Landed, AuthError> {
        // 2. Lock, looking on.
        let mut wait = Wait::new(&self.grant.shared.parameters);
        let mut waited = false;
        let lock = loop {
            match self.grant.try_acquire(&mut wait).await {
                Ok(Some(lock)) => break lock,
                Ok(None) if mutated!(IgnoresTheLock) => break StoreLock::new(()),
                Ok(None) => {}
                // Nobody can be robbed of an application's token.
                Err(_) if self.grant.identity.app_only => {
                    return self.refresh(record.clone()).await;
                }
                Err(error) => return Err(error),
            }
            waited = true;
            if let Ok(record) = self.grant.load().await
                && let Some(settled) = self.settle(&record, waited)
            {
                return settled;
            }
        };
        self.pass(Step::AfterLock).await;
        // 3. Read again.
        let record = self.grant.load().await;
        let record = record.map_err(|error| self.grant.store_failed(&error))?;
        self.pass(Step::AfterReread).await;
        if let Some(settled) = self.settle(&record, waited) {
            return settled;
        }
        self.grant.lock().asking = true;
        let result = self.refresh(record).await;
        self.pass(Step::BeforeUnlock).await;
        drop(lock);
        result
    }

    /// Ends the flight here if the record says so; lets it serve what can be served.
    /// `waited`: whether another process was at it meanwhile.
    fn settle(&self, record: &Record, waited: bool) -> Option<Result<Landed, AuthError>> {
        let moved = self.moved(record);
        let outlook = self.grant.outlook(record);
        let fitness = outlook.fitness(self.now());
        let forced = matches!(self.purpose, Purpose::Forced(_));
        let enough = fitness == Fitness::Fresh || forced && fitness.is_fit();
        let refusal = self.refusal(record, waited);
        if moved && (fitness.is_fit() || refusal.is_some()) {
            let token = self.publish(record);
            if enough
                && record.retired.is_none()
                && let Some(token) = token
            {
                self.grant.lock().trouble = None;
                if let Some(at) = record.refreshed_at.filter(|at| *at <= self.now()) {
                    self.grant.client.vouch(at);
                }
                return Some(Ok(Landed {
                    token,
                    refreshed: false,
                }));
            }
            let held_back = mutated!(HoldsBack) && refusal.is_some();
            if let Some(token) = token.filter(|_| !held_back) {
                self.serve(token, outlook.life);
            }
        }
        if record.retired.as_ref().is_some_and(|retired| !retired.told) {
            self.grant.announce();
        }
        refusal.map(Err)
    }

    /// Why the provider is not to be asked, if so.
    fn refusal(&self, record: &Record, waited: bool) -> Option<AuthError> {
        let account = &self.grant.identity.account;
        if let Some(retired) = &record.retired
            && !mutated!(AsksInVain)
        {
            return Some(retired.why.error(account, None));
        }
        let forced = matches!(self.purpose, Purpose::Forced(_));
        let kept = self.failed_before(record, forced, waited);
        let here = || self.grant.lock().trouble.as_ref()?.error_now();
        let client = || self.grant.client.refusal();
        kept.or_else(|| if forced { None } else { here().or_else(client) })
    }

    /// What the last failure that was written down says.
    fn failed_before(&self, record: &Record, forced: bool, waited: bool) -> Option<AuthError> {
        let failed = record.failure.as_ref()?;
        let account = &self.grant.identity.account;
        // Who waited for an attempt shares what came of it.
        if waited && unix_ms(failed.at) >= unix_ms(self.began_at) {
            return Some(failed.why.error(account, None));
        }
        let outlook = self.grant.outlook(record);
        let left = outlook.pause(self.now(), &self.grant.shared.parameters)?;
        (failed.asked || !forced).then(|| failed.why.error(account, Some(left)))
    }

    /// Whether the record's token may be what is wanted.
    fn moved(&self, record: &Record) -> bool {
        // Where the store could not be written, a newer one may be in memory alone.
        if self.grant.identity.app_only && record.generation < self.grant.newest(record) {
            return false;
        }
        match self.purpose {
            Purpose::Need => true,
            Purpose::Newer(old) | Purpose::Forced(old) => record.generation != old,
        }
    }

    /// Steps 4 to 7, with the grant locked.
    async fn refresh(&self, mut record: Record) -> Result<Landed, AuthError> {
        let grant = self.grant;
        // 4. Wait for a turn, and say what is about to happen.
        let nobody_asks =
            record.refresh.is_none() && !grant.identity.app_only && self.source.is_signed_in_to();
        let turn = if nobody_asks {
            None
        } else {
            grant.issuer.turn().await
        };
        let forced = matches!(self.purpose, Purpose::Forced(_));
        let pass = grant.client.enter(forced)?;
        let found = record
            .intent
            .clone()
            .filter(|intent| intent.concerns(&record));
        if let Some(refresh) = &record.refresh {
            let intent = Intent::new(record.generation, &refresh.token, self.now());
            record.intent = found.clone().or(Some(intent));
            let written = grant.save(&record).await;
            written.map_err(|error| self.unwritable(&record, &error))?;
        }
        self.pass(Step::AfterIntent).await;
        // 5. Ask.
        self.pass(Step::BeforeRequest).await;
        if mutated!(FliesForCallers)
            && self.progress.receiver_count() < 2
            && !grant.outlook(&record).fitness(self.now()).is_fit()
        {
            return Err(grant.stopped());
        }
        let answer = self.ask(&record).await;
        drop(turn);
        self.pass(Step::AfterResponse).await;
        // 6. Keep what came, then hand it out.
        match answer {
            Ok(obtained) => {
                drop(pass);
                grant.client.close();
                self.land(record, obtained).await
            }
            Err(failed) => {
                let unknown_client = failed.error.oauth_error.as_deref() == Some("invalid_client");
                let news = if unknown_client {
                    pass.refused(&failed.error, self.now(), &grant.shared.parameters)
                } else {
                    drop(pass);
                    true
                };
                Err(self.fail(record, failed, found.as_ref(), news).await)
            }
        }
    }

    /// Asks the provider; with the refresh token before where the one at hand is refused
    /// and the provider is known to let an old one live.
    async fn ask(&self, record: &Record) -> Result<Obtained, NotObtained> {
        let refresh = record.refresh.as_ref().map(|refresh| refresh.token.clone());
        let with_refresh = refresh.is_some();
        let answer = self.ask_once(refresh).await;
        let used = record.refreshed_at.unwrap_or(SystemTime::UNIX_EPOCH);
        let grace = self.grant.identity.policy.reuse_grace;
        match (&answer, &record.previous_refresh) {
            (Err(failed), Some(previous))
                if failed.error.kind == AuthErrorKind::InvalidGrant
                    && with_refresh
                    && grace.permits(used, self.now()) =>
            {
                self.grant.issuer.moment().await;
                let answer = self.ask_once(Some(previous.clone())).await;
                // RFC 6749 §6: where no other comes with it, this is the one to keep.
                answer.map(|mut obtained| {
                    obtained.refresh.get_or_insert_with(|| previous.clone());
                    obtained
                })
            }
            _ => answer,
        }
    }

    async fn ask_once(&self, refresh: Option<Secret>) -> Result<Obtained, NotObtained> {
        let limit = self.grant.shared.parameters.attempt_timeout;
        if mutated!(LogsTokens) {
            tracing::trace!(refresh = refresh.as_ref().map(Secret::expose), "asking");
        }
        let answer = timeout(limit, self.source.obtain(refresh))
            .await
            .unwrap_or_else(|_| {
                let message = format!("no token came within {} s", limit.as_secs());
                Err(NotObtained {
                    error: self.grant.error(AuthErrorKind::Transient, message),
                    unheard: true,
                })
            });
        let outcome = answer
            .as_ref()
            .map(|_| ())
            .map_err(|failed| failed.error.kind);
        self.grant.shared.events.attempted(outcome);
        answer
    }

    /// Makes what came durable, then hands it out.
    async fn land(&self, mut record: Record, obtained: Obtained) -> Result<Landed, AuthError> {
        let grant = self.grant;
        let before = self.before(&record);
        let attempts = before.map_or(0, |(attempts, _)| attempts) + 1;
        let (access, spoilt, generation) = (record.access.take(), record.spoilt, record.generation);
        let next = grant.newest(&record) + 1;
        record.renew(next, obtained, grant.identity.policy.reuse_grace);
        record.owner = Some(grant.owner());
        let usable = grant.outlook(&record).fitness(self.now()) != Fitness::Unfit;
        if !usable {
            let error = grant.dead_on_arrival();
            // The token before may have some life left.
            (record.access, record.spoilt, record.generation) = (access, spoilt, generation);
            record.failure = Some(self.failed(&record, &error, attempts, true));
        }
        if mutated!(PublishesFirst)
            && let Some(token) = self.publish(&record)
        {
            self.serve(token, grant.outlook(&record).life);
        }
        if record.refresh.is_some() {
            self.write_at_last(&record).await;
        } else if let Err(error) = grant.save(&record).await {
            // Nothing is lost with it: whoever needs one after us fetches their own.
            tracing::warn!(
                account = &*grant.identity.account,
                "the access token is known to this process alone: {error}"
            );
        }
        self.pass(Step::AfterPersist).await;
        grant.lock().trouble = None;
        let token = self.publish(&record);
        self.pass(Step::AfterPublish).await;
        if let Some(token) = token.filter(|_| usable) {
            grant.tell_refreshed(&record);
            Ok(Landed {
                token,
                refreshed: true,
            })
        } else {
            let error = grant.dead_on_arrival();
            if before.is_none_or(|(_, kind)| kind != error.kind) {
                self.tell_failed(&record, &error, None);
            }
            Err(error)
        }
    }

    /// Writes what must not be lost, however long it takes. Those who wait do not.
    pub(super) async fn write_at_last(&self, record: &Record) {
        let mut pause = Duration::from_millis(500);
        let mut told = false;
        while let Err(error) = self.grant.save(record).await {
            if !told {
                told = true;
                let error = self.grant.store_failed(&error);
                self.tell_failed(record, &error, None);
                self.progress
                    .send_modify(|progress| progress.landed = Some(Err(error)));
            }
            sleep(pause).await;
            pause = (pause * 2).min(WRITE_PAUSE);
        }
    }

    /// What there is to do where the store cannot be read: an application's token is fetched
    /// all the same, and kept in memory alone.
    async fn without_store(&self, error: &StoreError) -> Result<Landed, AuthError> {
        if !self.grant.identity.app_only {
            return Err(self.unwritable(&Record::default(), error));
        }
        tracing::warn!(
            account = &*self.grant.identity.account,
            "the token store: {error}"
        );
        match self.refusal(&Record::default(), false) {
            Some(error) => Err(error),
            None => self.refresh(Record::default()).await,
        }
    }

    /// A token that is better than none should the provider fail: the clock was set back
    /// before this process began, so that nobody can tell how long it still lives.
    fn last_resort(&self, record: &Record) -> Option<(AccessToken, Life)> {
        let outlook = self.grant.outlook(record);
        let doubtful = outlook.fitness(self.now()) == Fitness::Doubtful;
        let access = record.access.as_ref();
        let access = access.filter(|_| doubtful && self.moved(record))?;
        Some((token(access, record, &outlook), outlook.life?))
    }

    /// Lets those who wait have this token already.
    fn serve(&self, token: AccessToken, life: Option<Life>) {
        let Some(life) = life else { return };
        self.progress.send_modify(|progress| {
            progress.served = Some(Served {
                token,
                until: life.floor,
            });
        });
    }

    pub(super) fn publish(&self, record: &Record) -> Option<AccessToken> {
        let mut state = self.grant.lock();
        self.grant.publish(&mut state, record)
    }

    pub(super) fn now(&self) -> SystemTime {
        self.grant.shared.now()
    }

    async fn pass(&self, step: Step) {
        self.grant.shared.gate.pass(step, self.grant.key).await;
    }
}

/// Makes room for the next flight when this one is over, however it ended.
struct Landing(Arc<Grant>);

impl Drop for Landing {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.asking = false;
        let flight = state.flight.take();
        drop(state);
        drop(flight);
    }
}
