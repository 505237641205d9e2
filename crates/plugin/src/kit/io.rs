//! What a flow may do: ask the host, one thing at a time.
//!
//! An [`Io`] and the flow that polls it share a slot. Awaiting a method puts an action into
//! the slot and is pending; the flow takes the action out, and puts the host's answer in
//! before it polls again.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::mem::{replace, take};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::entry::HostLog;
use super::error::Error;
use crate::abi::ErrorKind;
use crate::wire::{
    Action, Answer, DeviceCode, Failure, FailureKind, HttpRequest, HttpResponse, Listen, Octets,
    OpenUrl, Prompt, SaslStart, Secret,
};

/// How much a log line matters. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something may fail soon.
    Warn = 2,
    /// What happened, for an operator.
    Info = 3,
    /// What happened, for an author.
    Debug = 4,
    /// Every step.
    Trace = 5,
}

/// A flow's way to the host. Clones share the same flow.
///
/// Each `async` method yields to the host and resumes with its answer. When the host could
/// not do it, the error says why: [`ErrorKind::Transient`] when the other side was not
/// reached, [`ErrorKind::Denied`] when policy forbids it, [`ErrorKind::NeedsUser`] when
/// nobody is there to answer, [`ErrorKind::Unsupported`] when this host cannot.
#[derive(Clone)]
pub struct Io(Arc<Shared>);

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("now_ms", &self.now_ms())
            .finish_non_exhaustive()
    }
}

impl Io {
    /// The host's clock, in milliseconds since the Unix epoch, as of the last answer. It
    /// stands still between two awaits.
    pub fn now_ms(&self) -> u64 {
        self.0.slot().now_ms
    }

    /// Writes to the host's log. Never a secret.
    pub fn log(&self, level: Level, message: &str) {
        self.0.log.write(level, message);
    }

    /// Performs an HTTP request. Redirects come back as they are; so does every status.
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        match self.perform(Action::Http(request)).await? {
            Answer::Http(response) => Ok(response),
            other => Err(mismatch("http", &other)),
        }
    }

    /// Waits, without holding a thread. Whole milliseconds, rounded up.
    pub async fn sleep(&self, duration: Duration) -> Result<(), Error> {
        let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match self.perform(Action::SleepMs(ms)).await? {
            Answer::Slept(_) => Ok(()),
            other => Err(mismatch("sleep_ms", &other)),
        }
    }

    /// `n` random octets (1 to 1024) fit for secrets.
    pub async fn random(&self, n: u32) -> Result<Vec<u8>, Error> {
        match self.perform(Action::Random(n)).await? {
            Answer::Random(mut octets) if octets.0.len() == n as usize => Ok(take(&mut octets.0)),
            Answer::Random(octets) => Err(Error::new(
                ErrorKind::Protocol,
                format!("the host gave {} random octets for {n}", octets.0.len()),
            )),
            other => Err(mismatch("random", &other)),
        }
    }

    /// Listens on the loopback interface for one redirect (RFC 8252 §7.3); gives
    /// `redirect_uri` with the port that was free.
    pub async fn listen(&self, redirect_uri: &str) -> Result<String, Error> {
        let redirect_uri = redirect_uri.to_owned();
        match self
            .perform(Action::Listen(Listen { redirect_uri }))
            .await?
        {
            Answer::Listening(uri) => Ok(uri),
            other => Err(mismatch("listen", &other)),
        }
    }

    /// Sends a person's browser to `url` and waits for the redirect to the listener; gives
    /// the URL the browser came back to, query included.
    pub async fn open_url(&self, url: &str) -> Result<Secret, Error> {
        let url = url.to_owned();
        match self.perform(Action::OpenUrl(OpenUrl { url })).await? {
            Answer::Redirect(url) => Ok(url),
            other => Err(mismatch("open_url", &other)),
        }
    }

    /// Shows a person a code for another device; returns once it is shown.
    pub async fn device_code(&self, code: DeviceCode) -> Result<(), Error> {
        match self.perform(Action::DeviceCode(code)).await? {
            Answer::Shown(_) => Ok(()),
            other => Err(mismatch("device_code", &other)),
        }
    }

    /// Asks a person; `secret` answers are not echoed.
    pub async fn prompt(&self, label: &str, secret: bool) -> Result<Secret, Error> {
        let label = label.to_owned();
        match self
            .perform(Action::Prompt(Prompt { label, secret }))
            .await?
        {
            Answer::Text(text) => Ok(text),
            other => Err(mismatch("prompt", &other)),
        }
    }

    /// A secret setting, by its name in the schema. [`ErrorKind::Config`] when it is not
    /// set.
    pub async fn secret(&self, name: &str) -> Result<Secret, Error> {
        match self.perform(Action::SecretGet(name.to_owned())).await? {
            Answer::Secret(secret) => Ok(secret),
            other => Err(mismatch("secret_get", &other)),
        }
    }

    /// Sends `AUTH` with this mechanism; gives the server's challenge, decoded. Only in
    /// [`Plugin::sasl`](super::Plugin::sasl), and once.
    pub async fn sasl_start(
        &self,
        mechanism: &str,
        initial: Option<&[u8]>,
    ) -> Result<Vec<u8>, Error> {
        let start = SaslStart {
            mechanism: mechanism.to_owned(),
            initial_response: initial.map(|octets| Octets(octets.to_vec())),
        };
        self.challenge(Action::SaslStart(start)).await
    }

    /// Answers the challenge; gives the next one.
    pub async fn sasl_send(&self, response: &[u8]) -> Result<Vec<u8>, Error> {
        self.challenge(Action::SaslSend(Octets(response.to_vec())))
            .await
    }

    async fn challenge(&self, action: Action) -> Result<Vec<u8>, Error> {
        let name = action.name();
        match self.perform(action).await? {
            Answer::SaslChallenge(mut octets) => Ok(take(&mut octets.0)),
            other => Err(mismatch(name, &other)),
        }
    }

    async fn perform(&self, action: Action) -> Result<Answer, Error> {
        let name = action.name();
        if !self.0.features.contains(name) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("this host cannot perform `{name}`"),
            ));
        }
        let secret = match &action {
            Action::SecretGet(name) => Some(name.clone()),
            _ => None,
        };
        let step = Step {
            shared: Arc::clone(&self.0),
            state: StepState::New(action),
        };
        match step.await? {
            Answer::Failed(failure) => Err(failed(name, secret.as_deref(), &failure)),
            answer => Ok(answer),
        }
    }
}

/// What an [`Io`] and its flow share.
pub(super) struct Shared {
    slot: Mutex<Slot>,
    features: Arc<BTreeSet<String>>,
    log: Arc<HostLog>,
}

struct Slot {
    now_ms: u64,
    state: SlotState,
}

enum SlotState {
    /// Nothing is asked.
    Idle,
    /// The plugin asks; the flow has not looked yet.
    Asked(Action),
    /// The host is at work.
    Waiting,
    /// The host answered; the plugin has not looked yet.
    Answered(Answer),
}

impl Shared {
    pub(super) fn new(
        now_ms: u64,
        features: Arc<BTreeSet<String>>,
        log: Arc<HostLog>,
    ) -> Arc<Self> {
        let slot = Mutex::new(Slot {
            now_ms,
            state: SlotState::Idle,
        });
        Arc::new(Self {
            slot,
            features,
            log,
        })
    }

    pub(super) fn io(self: &Arc<Self>) -> Io {
        Io(Arc::clone(self))
    }

    /// The action asked for since the last look.
    pub(super) fn take_action(&self) -> Option<Action> {
        let mut slot = self.slot();
        match replace(&mut slot.state, SlotState::Waiting) {
            SlotState::Asked(action) => Some(action),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Hands the host's answer to whoever waits for it.
    pub(super) fn answer(&self, now_ms: u64, answer: Answer) {
        let mut slot = self.slot();
        slot.now_ms = now_ms;
        if matches!(slot.state, SlotState::Waiting) {
            slot.state = SlotState::Answered(answer);
        }
    }

    /// A panic in the plugin while it held the lock is impossible: no code of the plugin
    /// runs under it. So a poisoned lock means nothing here.
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One action, from asking to its answer.
struct Step {
    shared: Arc<Shared>,
    state: StepState,
}

enum StepState {
    New(Action),
    Waiting,
    Over,
}

impl Future for Step {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Arc::clone(&self.shared);
        let mut slot = shared.slot();
        match replace(&mut self.state, StepState::Over) {
            StepState::New(action) => {
                if !matches!(slot.state, SlotState::Idle) {
                    return Poll::Ready(Err(Error::new(
                        ErrorKind::Internal,
                        "the plugin asked the host for two things at once",
                    )));
                }
                slot.state = SlotState::Asked(action);
            }
            StepState::Waiting | StepState::Over => {
                match replace(&mut slot.state, SlotState::Idle) {
                    SlotState::Answered(answer) => return Poll::Ready(Ok(answer)),
                    other => slot.state = other,
                }
            }
        }
        self.state = StepState::Waiting;
        Poll::Pending
    }
}

impl Drop for Step {
    /// Whoever stops waiting frees the slot: its answer, if it still comes, is dropped.
    fn drop(&mut self) {
        if matches!(self.state, StepState::Waiting) {
            self.shared.slot().state = SlotState::Idle;
        }
    }
}

fn failed(action: &str, secret: Option<&str>, failure: &Failure) -> Error {
    let kind = match (failure.kind, secret) {
        (FailureKind::Unreachable, _) => ErrorKind::Transient,
        (FailureKind::Refused, _) => ErrorKind::Denied,
        (FailureKind::NoUser, _) => ErrorKind::NeedsUser,
        (FailureKind::Missing, Some(_)) => ErrorKind::Config,
        (FailureKind::Missing, None) => ErrorKind::Unsupported,
    };
    let message = match secret {
        Some(name) => format!("secret setting `{name}`: {}", failure.message),
        None => format!("{action}: {}", failure.message),
    };
    Error::new(kind, message)
}

fn mismatch(action: &str, answer: &Answer) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the host answered `{action}` with `{}`", answer.name()),
    )
}
