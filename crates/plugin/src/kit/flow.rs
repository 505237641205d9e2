//! A flow: one future, polled once per call of the host, with no runtime behind it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use serde::de::DeserializeOwned;

use super::entry::HostLog;
use super::io::Shared;
use super::{Error, Plugin};
use crate::abi::ErrorKind;
use crate::wire::{Action, Empty, Event, Op, Tokens};

/// What a call into the plugin comes to.
pub(super) enum Outcome {
    Described(Box<crate::wire::Description>),
    Done(Output),
    Yield(Action),
    Failed(Error),
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The result of a flow.
pub(super) enum Output {
    Tokens(Tokens),
    Nothing(Empty),
}

type Running = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>;

/// One account's plugin value with what its flows share.
pub(super) struct Instance<P> {
    pub(super) plugin: Arc<P>,
    pub(super) features: Arc<BTreeSet<String>>,
    pub(super) log: HostLog,
    pub(super) poisoned: Arc<AtomicBool>,
}

/// One operation in progress.
pub(super) struct Flow {
    /// Gone once it finished.
    running: Option<Running>,
    shared: Arc<Shared>,
    pub(super) poisoned: Arc<AtomicBool>,
}

impl Flow {
    /// Sets the operation up; nothing of it runs yet.
    pub(super) fn start<P: Plugin>(
        instance: &Instance<P>,
        op: u32,
        input: &[u8],
    ) -> Result<Self, Error> {
        let op = Op::from_number(op).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("no operation has the number {op}"),
            )
        })?;
        let share = |now_ms| Shared::new(now_ms, Arc::clone(&instance.features), instance.log);
        let plugin = Arc::clone(&instance.plugin);
        let shared;
        let running: Running = match op {
            Op::Login => {
                let input: crate::wire::LoginInput = parse(input, "login input")?;
                shared = share(input.now_ms);
                let io = shared.io();
                Box::pin(async move { plugin.login(io, input).await.map(Output::Tokens) })
            }
            Op::Obtain => {
                let input: crate::wire::ObtainInput = parse(input, "obtain input")?;
                shared = share(input.now_ms);
                let io = shared.io();
                Box::pin(async move { plugin.obtain(io, input).await.map(Output::Tokens) })
            }
            Op::Sasl => {
                let input: crate::wire::SaslInput = parse(input, "sasl input")?;
                shared = share(input.now_ms);
                let io = shared.io();
                Box::pin(async move {
                    plugin
                        .sasl(io, input)
                        .await
                        .map(|()| Output::Nothing(Empty {}))
                })
            }
            Op::Revoke => {
                let input: crate::wire::RevokeInput = parse(input, "revoke input")?;
                shared = share(input.now_ms);
                let io = shared.io();
                Box::pin(async move {
                    plugin
                        .revoke(io, input)
                        .await
                        .map(|()| Output::Nothing(Empty {}))
                })
            }
        };
        let poisoned = Arc::clone(&instance.poisoned);
        Ok(Self {
            running: Some(running),
            shared,
            poisoned,
        })
    }

    /// Takes the host's answer in and runs on.
    pub(super) fn resume(&mut self, event: &[u8]) -> Outcome {
        match parse::<Event>(event, "event") {
            Ok(event) => {
                self.shared.answer(event.now_ms, event.answer);
                self.advance()
            }
            Err(error) => {
                self.running = None;
                error.into()
            }
        }
    }

    /// Runs to the next action, or to the end.
    pub(super) fn advance(&mut self) -> Outcome {
        let Some(running) = &mut self.running else {
            return Error::new(ErrorKind::Protocol, "the flow is already over").into();
        };
        let outcome = match running
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Ok(output)) => Outcome::Done(output),
            Poll::Ready(Err(error)) => error.into(),
            Poll::Pending => match self.shared.take_action() {
                Some(action) => return Outcome::Yield(action),
                None => Error::new(
                    ErrorKind::Internal,
                    "the plugin awaits something that is not the host's: nothing would wake it",
                )
                .into(),
            },
        };
        self.running = None;
        outcome
    }
}

/// Reads JSON of the host. The error names the place, and quotes nothing: the text may hold
/// secrets.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let why = match error.classify() {
            serde_json::error::Category::Data => "does not have the agreed shape",
            _ => "is not JSON",
        };
        let message = format!("the host's {what} {why} (line {line}, column {column})");
        Error::new(ErrorKind::Protocol, message)
    })
}
