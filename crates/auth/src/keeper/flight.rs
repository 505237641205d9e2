//! One refresh, from the first look at the store to giving its lock back.
//!
//! A flight is a task: it lands even if everybody who waited has gone. What it finds and
//! does is in the record, so that another process can go on where this one ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postrider_plugin::wire::Secret;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::event::Event;
use super::grant::{Grant, State, Trouble, token};
use super::parameters::Parameters;
use super::record::{Access, Failed, Intent, Record, Refresh, Retired, Why};
use super::schedule::{Fitness, Life, backoff, lapses_at};
use super::status::Reason;
use super::step::Step;
use super::store::{Shelf, StoreError, StoreLock};
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

/// What a record calls for.
enum Decision {
    /// Its token is what is wanted.
    Adopt,
    /// The provider is not to be asked.
    Refuse(AuthError),
    /// The provider is to be asked; the token serves meanwhile, if there is one.
    Request,
}

/// One flight.
struct Flight<'a> {
    grant: &'a Arc<Grant>,
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

    /// Takes the grant's lock; waits for it as long as another process is believed to work.
    pub(super) async fn acquire(&self) -> Result<StoreLock, AuthError> {
        let mut wait = Wait::new(&self.shared.parameters);
        loop {
            if let Some(lock) = self.try_acquire(&mut wait).await? {
                return Ok(lock);
            }
        }
    }

    /// Takes the grant's lock, or else waits a little.
    async fn try_acquire(&self, wait: &mut Wait) -> Result<Option<StoreLock>, AuthError> {
        let locked = self.shared.try_lock(Shelf::Grant, self.key).await;
        let locked = locked.map_err(|error| self.store_failed(&error))?;
        if locked.is_none() && !wait.again().await {
            let message = "another process has been refreshing for too long";
            return Err(self.error(AuthErrorKind::Transient, message));
        }
        Ok(locked)
    }

    /// Makes `record` the one of `generation` with what a flow brought.
    pub(super) fn renew(&self, record: &mut Record, generation: u64, obtained: Obtained) {
        let issued_at = obtained.requested_at;
        let after = |wait: Duration| issued_at.checked_add(wait);
        let old = record.refresh.take();
        let replaced = obtained.refresh.is_some();
        let grace = self.identity.policy.reuse_grace;
        record.previous_refresh = old
            .as_ref()
            .filter(|_| replaced && grace.permits(issued_at, issued_at))
            .map(|old| old.token.clone());
        // RFC 6749 §6: without a new refresh token the old one stays.
        let kept_until = old.as_ref().and_then(|old| old.lapses_at);
        let token = obtained.refresh.or(old.map(|old| old.token));
        record.refresh = token.map(|token| Refresh {
            token,
            issued_at,
            lapses_at: obtained
                .refresh_lifetime
                .and_then(after)
                .or(kept_until.filter(|_| !replaced)),
        });
        record.generation = generation;
        record.access = after(obtained.lifetime).map(|expires_at| Access {
            token: Secret::new(secrecy::ExposeSecret::expose_secret(&obtained.access)),
            token_type: obtained.token_type,
            issued_at,
            expires_at,
            refresh_at: obtained.refresh_in.and_then(after),
        });
        record.refreshed_at = Some(issued_at);
        record.scope = obtained.scope.or(record.scope.take());
        record.identity = obtained.identity.or(record.identity.take());
        record.intent = None;
        record.spoilt = false;
        record.failure = None;
        record.retired = None;
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
    fn emit(self: &Arc<Self>, event: Event) {
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
        let result = match self.settle(&record, false) {
            Some(settled) => settled,
            None => self.fetch(&record).await,
        };
        result.inspect_err(|error| self.last_resort(&record, error))
    }

    /// Steps 2 to 7; `record` is what a first look found.
    async fn fetch(&self, record: &Record) -> Result<Landed, AuthError> {
        // 2. Lock, looking on.
        let mut wait = Wait::new(&self.grant.shared.parameters);
        let mut waited = false;
        let lock = loop {
            match self.grant.try_acquire(&mut wait).await {
                Ok(Some(lock)) => break lock,
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

    /// Ends the flight here if the record says so; lets it serve if that is possible.
    fn settle(&self, record: &Record, waited: bool) -> Option<Result<Landed, AuthError>> {
        match self.decide(record, waited) {
            Decision::Adopt => {
                let token = self.publish(record)?;
                self.grant.lock().trouble = None;
                Some(Ok(Landed {
                    token,
                    refreshed: false,
                }))
            }
            Decision::Refuse(error) => {
                self.publish(record);
                if record.retired.as_ref().is_some_and(|retired| !retired.told) {
                    self.grant.announce();
                }
                Some(Err(error))
            }
            Decision::Request => {
                let outlook = self.grant.outlook(record);
                let due = outlook.fitness(self.now()) == Fitness::Due;
                if due
                    && self.moved(record)
                    && let Some(token) = self.publish(record)
                {
                    self.serve(token, outlook.life);
                }
                None
            }
        }
    }

    /// `waited`: whether another process was at it meanwhile.
    fn decide(&self, record: &Record, waited: bool) -> Decision {
        let account = &self.grant.identity.account;
        let now = self.now();
        if let Some(retired) = &record.retired {
            return Decision::Refuse(retired.why.error(account, None));
        }
        let moved = self.moved(record);
        let fitness = self.grant.outlook(record).fitness(now);
        let forced = matches!(self.purpose, Purpose::Forced(_));
        if moved && (fitness == Fitness::Fresh || forced && fitness.is_fit()) {
            return Decision::Adopt;
        }
        let refusal = self.refusal(record, forced, waited).or_else(|| {
            // What only this process knows.
            let state = self.grant.lock();
            let trouble = state.trouble.as_ref().filter(|_| !forced)?;
            let left = trouble.until.duration_since(Instant::now());
            (!left.is_zero()).then(|| AuthError {
                retry_after: Some(left),
                ..trouble.error.clone()
            })
        });
        match refusal {
            Some(_) if moved && fitness == Fitness::Due => Decision::Adopt,
            Some(error) => Decision::Refuse(error),
            None => Decision::Request,
        }
    }

    /// Why the provider is not to be asked now, by the last failure that was written down.
    fn refusal(&self, record: &Record, forced: bool, waited: bool) -> Option<AuthError> {
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
        match self.purpose {
            Purpose::Need => true,
            Purpose::Newer(old) | Purpose::Forced(old) => record.generation != old,
        }
    }

    /// Steps 4 to 7, with the grant locked.
    async fn refresh(&self, mut record: Record) -> Result<Landed, AuthError> {
        let grant = self.grant;
        // 4. Wait for a turn, and say what is about to happen.
        let turn = grant.issuer.turn().await;
        let forced = matches!(self.purpose, Purpose::Forced(_));
        let pass = grant.client.enter(forced).inspect_err(|error| {
            let mut state = grant.lock();
            let attempts = state.trouble.as_ref().map_or(0, |trouble| trouble.attempts);
            self.trouble(&mut state, error, attempts, error.retry_after);
        })?;
        let found = record
            .intent
            .clone()
            .filter(|intent| intent.concerns(&record));
        if let Some(refresh) = &record.refresh {
            let intent = Intent::new(record.generation, &refresh.token, self.now());
            record.intent = found.clone().or(Some(intent));
            self.write_intent(&record).await?;
        }
        self.pass(Step::AfterIntent).await;
        // 5. Ask.
        self.pass(Step::BeforeRequest).await;
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
                    pass.refused(&failed.error, &grant.shared.parameters)
                } else {
                    drop(pass);
                    true
                };
                Err(self.fail(record, failed, found.as_ref(), news).await)
            }
        }
    }

    async fn write_intent(&self, record: &Record) -> Result<(), AuthError> {
        let Err(error) = self.grant.save(record).await else {
            return Ok(());
        };
        let error = self.grant.store_failed(&error);
        self.tell_failed(record, &error, None);
        let mut state = self.grant.lock();
        let attempts = state.trouble.as_ref().map_or(0, |trouble| trouble.attempts);
        self.trouble(&mut state, &error, attempts + 1, None);
        Err(error)
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
                self.ask_once(Some(previous.clone())).await
            }
            _ => answer,
        }
    }

    async fn ask_once(&self, refresh: Option<Secret>) -> Result<Obtained, NotObtained> {
        let limit = self.grant.shared.parameters.attempt_timeout;
        timeout(limit, self.source.obtain(refresh))
            .await
            .unwrap_or_else(|_| {
                let message = format!("no token came within {} s", limit.as_secs());
                Err(NotObtained {
                    error: self.grant.error(AuthErrorKind::Transient, message),
                    unheard: true,
                })
            })
    }

    /// Makes what came durable, then hands it out.
    async fn land(&self, mut record: Record, obtained: Obtained) -> Result<Landed, AuthError> {
        let grant = self.grant;
        let attempts = record.failure.as_ref().map_or(0, |failed| failed.attempts);
        let generation = grant.newest(&record) + 1;
        grant.renew(&mut record, generation, obtained);
        let usable = grant.outlook(&record).fitness(self.now()) != Fitness::Unfit;
        if !usable {
            let error = grant.dead_on_arrival();
            record.access = None;
            record.failure = Some(self.failed(&record, &error, attempts + 1, true));
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
        match token {
            Some(token) => {
                grant.tell_refreshed(&record);
                Ok(Landed {
                    token,
                    refreshed: true,
                })
            }
            None => {
                let error = grant.dead_on_arrival();
                self.tell_failed(&record, &error, None);
                Err(error)
            }
        }
    }

    /// Writes what must not be lost, however long it takes. Those who wait do not.
    async fn write_at_last(&self, record: &Record) {
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

    /// Draws the consequence of a failure: the error for those who wait.
    async fn fail(
        &self,
        mut record: Record,
        failed: NotObtained,
        found: Option<&Intent>,
        news: bool,
    ) -> AuthError {
        let NotObtained { mut error, unheard } = failed;
        if let Some(reason) = self.reason(&record, &error, found) {
            return self.retire(record, reason, error).await;
        }
        if !unheard && found.is_none() {
            record.intent = None;
        }
        if is_local(&error) && !unheard {
            // Nothing was asked of anybody: it may be tried again at any moment.
            if record.refresh.is_some() {
                self.write_down(&record).await;
            }
            self.publish(&record);
            return error;
        }
        let shared = matches!(
            error.kind,
            AuthErrorKind::Transient | AuthErrorKind::Protocol
        );
        let before = {
            let state = self.grant.lock();
            let here = state.trouble.as_ref();
            let here = here.map(|trouble| (trouble.attempts, trouble.error.kind));
            let kept = record.failure.as_ref();
            here.or(kept.map(|kept| (kept.attempts, kept.why.error("", None).kind)))
        };
        let attempts = before.map_or(0, |(attempts, _)| attempts) + 1;
        let kept = self.failed(&record, &error, attempts, shared);
        let wait = self.wait(&record, &error, attempts);
        if shared {
            error.retry_after = error.retry_after.or(Some(wait));
        }
        record.failure = Some(kept);
        let written = self.write_down(&record).await;
        {
            let mut state = self.grant.lock();
            if shared && written {
                state.trouble = None;
            } else {
                self.trouble(&mut state, &error, attempts, Some(wait));
            }
        }
        self.publish(&record);
        if news && before.is_none_or(|(_, kind)| kind != error.kind) {
            self.tell_failed(&record, &error, Some(wait));
        }
        error
    }

    /// Whether, and why, only a person can help.
    fn reason(&self, record: &Record, error: &AuthError, found: Option<&Intent>) -> Option<Reason> {
        let policy = self.grant.identity.policy;
        let now = self.now();
        let says = |text: &str| {
            let description = error.oauth_description.as_deref();
            error.message.contains(text) || description.is_some_and(|told| told.contains(text))
        };
        let code = |code: &str| {
            [&error.oauth_error, &error.oauth_suberror]
                .into_iter()
                .any(|field| field.as_deref() == Some(code))
        };
        match (&record.refresh, error.kind) {
            (Some(refresh), AuthErrorKind::InvalidGrant) => {
                let lapsed = lapses_at(refresh, policy).is_some_and(|at| at <= now);
                // Microsoft's numbers for a sign-in that is over: unused for too long, or by
                // policy. They are what its prose begins with.
                let over = [
                    "AADSTS70008:",
                    "AADSTS700082",
                    "AADSTS700084",
                    "AADSTS70043",
                ];
                Some(match found {
                    Some(intent) if !policy.reuse_grace.permits(intent.at, now) => {
                        Reason::LostRotation
                    }
                    _ if lapsed || code("token_expired") || over.into_iter().any(says) => {
                        Reason::Expired
                    }
                    _ => Reason::Revoked,
                })
            }
            (Some(_), AuthErrorKind::NeedsUser) if error.oauth_error.is_some() => {
                Some(if code("consent_required") || says("AADSTS65001") {
                    Reason::ConsentRequired
                } else {
                    Reason::InteractionRequired
                })
            }
            // The sign-in brought no refresh token, and what it brought is over.
            (None, AuthErrorKind::NeedsUser) if record.access.is_some() => Some(Reason::Expired),
            _ => None,
        }
    }

    async fn retire(&self, mut record: Record, reason: Reason, error: AuthError) -> AuthError {
        let error = match reason {
            Reason::LostRotation => AuthError {
                message: one_message(
                    "a refresh was cut short, and the provider no longer accepts the refresh token from before it",
                    &error.message,
                ),
                ..error
            },
            _ => error,
        };
        tracing::warn!(
            account = &*self.grant.identity.account,
            reason = reason.name(),
            "somebody must sign in again: {}",
            error.message
        );
        record.retired = Some(Retired {
            reason,
            since: self.now(),
            told: false,
            why: Why::new(&error),
        });
        record.intent = None;
        record.failure = None;
        self.write_at_last(&record).await;
        self.grant.lock().trouble = None;
        self.publish(&record);
        self.grant.announce();
        error
    }

    /// An application's token where the store cannot be read: it is kept in memory alone.
    async fn without_store(&self, error: &StoreError) -> Result<Landed, AuthError> {
        let error = self.grant.store_failed(error);
        if !self.grant.identity.app_only {
            return Err(error);
        }
        tracing::warn!(account = &*self.grant.identity.account, "{}", error.message);
        let paused = {
            let state = self.grant.lock();
            let trouble = state.trouble.as_ref();
            trouble
                .filter(|trouble| Instant::now() < trouble.until)
                .map(|trouble| trouble.error.clone())
        };
        match paused {
            Some(error) => Err(error),
            None => self.refresh(Record::default()).await,
        }
    }

    /// A token of which the clock cannot tell how long it lives is better than none.
    fn last_resort(&self, record: &Record, error: &AuthError) {
        let outlook = self.grant.outlook(record);
        let doubtful = outlook.fitness(self.now()) == Fitness::Doubtful && self.moved(record);
        let transient = matches!(
            error.kind,
            AuthErrorKind::Transient | AuthErrorKind::Protocol
        );
        if let Some(access) = record.access.as_ref().filter(|_| doubtful && transient) {
            self.serve(token(access, record, &outlook), outlook.life);
        }
    }

    /// What is written down of a failure; `shared`: whether other processes heed it.
    fn failed(&self, record: &Record, error: &AuthError, attempts: u32, shared: bool) -> Failed {
        let now = self.now();
        let wait = self.wait(record, error, attempts);
        Failed {
            at: now,
            attempts,
            retry_at: shared.then(|| now.checked_add(wait)).flatten(),
            asked: error.retry_after.is_some(),
            why: Why::new(error),
        }
    }

    /// How long to leave the provider in peace.
    fn wait(&self, record: &Record, error: &AuthError, attempts: u32) -> Duration {
        let parameters = &self.grant.shared.parameters;
        match error.retry_after {
            Some(asked) => asked.clamp(Duration::from_secs(1), parameters.retry_after_cap),
            None => backoff(&self.grant.key, record.generation, attempts, parameters),
        }
    }

    /// Remembers a failure that is only this process's business.
    fn trouble(&self, state: &mut State, error: &AuthError, attempts: u32, wait: Option<Duration>) {
        let generation = state.outlook.map_or(0, |outlook| outlook.generation);
        let parameters = &self.grant.shared.parameters;
        let wait =
            wait.unwrap_or_else(|| backoff(&self.grant.key, generation, attempts, parameters));
        state.trouble = Some(Box::new(Trouble {
            at: self.now(),
            error: error.clone(),
            attempts,
            until: Instant::now() + wait,
        }));
        self.grant.plan(state);
    }

    /// Writes what may be lost; whether that succeeded.
    async fn write_down(&self, record: &Record) -> bool {
        let written = self.grant.save(record).await;
        if let Err(error) = &written {
            tracing::warn!(
                account = &*self.grant.identity.account,
                "a failed refresh was not written down: {error}"
            );
        }
        written.is_ok()
    }

    fn tell_failed(&self, record: &Record, error: &AuthError, wait: Option<Duration>) {
        let now = self.now();
        let outlook = self.grant.outlook(record);
        let usable = outlook.fitness(now).is_fit();
        let usable_until = outlook.life.map(|life| life.floor).filter(|_| usable);
        let account = &*self.grant.identity.account;
        tracing::warn!(
            account,
            usable_for_seconds = usable_until
                .and_then(|until| until.duration_since(now).ok())
                .map(|left| left.as_secs()),
            "access token not refreshed: {}",
            error.message
        );
        self.grant.emit(Event::TokenRefreshFailed {
            account: account.to_owned(),
            error: error.clone(),
            retry_at: wait.and_then(|wait| now.checked_add(wait)),
            usable_until,
        });
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

    fn publish(&self, record: &Record) -> Option<AccessToken> {
        let mut state = self.grant.lock();
        self.grant.publish(&mut state, record)
    }

    fn now(&self) -> SystemTime {
        self.grant.shared.now()
    }

    async fn pass(&self, step: Step) {
        self.grant.shared.gate.pass(step, self.grant.key).await;
    }
}

/// Waiting for a lock that another process has.
struct Wait {
    pause: Duration,
    longest: Duration,
    deadline: Instant,
}

impl Wait {
    fn new(parameters: &Parameters) -> Self {
        let (pause, longest) = parameters.lock_poll;
        Self {
            pause,
            longest,
            deadline: Instant::now() + parameters.lease,
        }
    }

    /// Waits a little; false once it has been long enough.
    async fn again(&mut self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause + self.pause / 2).min(self.longest);
        true
    }
}

/// Whether nobody outside has said so: a setting is missing, nobody has signed in.
fn is_local(error: &AuthError) -> bool {
    error.oauth_error.is_none()
        && matches!(
            error.kind,
            AuthErrorKind::Config | AuthErrorKind::NeedsUser | AuthErrorKind::Unsupported
        )
}

fn one_message(what: &str, why: &str) -> String {
    format!("{what} ({why})")
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
