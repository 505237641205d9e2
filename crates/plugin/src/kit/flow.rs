//! A flow: one future, polled once per call of the host, with no runtime behind it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::HostLog;
use super::io::Shared;
use super::{Error, Io, Plugin};
use crate::abi::ErrorKind;
use crate::wire::{
    Action, Description, Empty, Event, LoginInput, ObtainInput, Op, RevokeInput, SaslInput, Tokens,
};

/// What a call into the plugin comes to.
pub(super) enum Outcome {
    Done(Output),
    Yield(Action),
    Failed(Error),
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a call ends with, as it is written.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Output {
    Description(Box<Description>),
    Tokens(Box<Tokens>),
    Nothing(Empty),
}

impl Output {
    pub(super) const NOTHING: Self = Self::Nothing(Empty {});
}

/// One account's plugin value with what its flows share.
pub(super) struct Instance<P> {
    pub(super) plugin: Arc<P>,
    pub(super) features: Arc<BTreeSet<String>>,
    pub(super) log: Arc<HostLog>,
    pub(super) poisoned: Arc<AtomicBool>,
}

type Running = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>;

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
        let Some(op) = Op::from_number(op) else {
            let message = format!("no operation has the number {op}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        Ok(match op {
            Op::Login => {
                let input: LoginInput = parse(input, "login input")?;
                Self::of(instance, input.now_ms, |plugin, io| async move {
                    let tokens = plugin.login(io, input).await?;
                    Ok(Output::Tokens(Box::new(tokens)))
                })
            }
            Op::Obtain => {
                let input: ObtainInput = parse(input, "obtain input")?;
                Self::of(instance, input.now_ms, |plugin, io| async move {
                    let tokens = plugin.obtain(io, input).await?;
                    Ok(Output::Tokens(Box::new(tokens)))
                })
            }
            Op::Sasl => {
                let input: SaslInput = parse(input, "sasl input")?;
                Self::of(instance, input.now_ms, |plugin, io| async move {
                    plugin.sasl(io, input).await.map(|()| Output::NOTHING)
                })
            }
            Op::Revoke => {
                let input: RevokeInput = parse(input, "revoke input")?;
                Self::of(instance, input.now_ms, |plugin, io| async move {
                    plugin.revoke(io, input).await.map(|()| Output::NOTHING)
                })
            }
        })
    }

    /// The future owns the plugin's value, so it outlives every borrow of the instance.
    fn of<P, F>(instance: &Instance<P>, now_ms: u64, run: impl FnOnce(Arc<P>, Io) -> F) -> Self
    where
        F: Future<Output = Result<Output, Error>> + Send + 'static,
    {
        let shared = Shared::new(
            now_ms,
            Arc::clone(&instance.features),
            Arc::clone(&instance.log),
        );
        let future = run(Arc::clone(&instance.plugin), shared.io());
        Self {
            running: Some(Box::pin(future)),
            shared,
            poisoned: Arc::clone(&instance.poisoned),
        }
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
