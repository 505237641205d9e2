//! The ways out, as delivery sees them: an account's limits, a session that takes messages, and
//! word that a token may be had again.

use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use futures_util::future::BoxFuture;
use postrider_smtp::{SendError, Source};
use postrider_spool::Pace;

/// The accounts there are, by name.
pub trait Routes: Send + Sync + 'static {
    /// The account's way out. Asked anew for each session, so that a changed configuration holds
    /// from the next one on. Mail of an account that has none is held.
    fn route(&self, account: &str) -> Option<Arc<dyn Route>>;
}

/// One account's way to its server.
pub trait Route: Send + Sync + 'static {
    /// What the account may do.
    fn limits(&self) -> Limits;

    /// One session, a waiting one or a new one, that sends what `source` gives until it gives
    /// nothing. Each message given is answered by [`Source::ended`], whatever comes of it.
    fn run<'a>(&'a self, source: &'a mut dyn Source) -> BoxFuture<'a, Result<(), RouteFailure>>;

    /// Resolves when a credential may be had; at once, if it may be had now, or where there is no
    /// way to tell. Asked for after [`RouteFailure::Token`] and after a credential was refused.
    ///
    /// An account whose trouble goes on although this resolved is tried less and less often.
    fn ready(&self) -> BoxFuture<'static, ()>;

    /// Whether the route sees to it itself that all processes together have no more sessions than
    /// [`Limits::sessions`]. Otherwise delivery does, for the sessions that it runs.
    fn counts_sessions(&self) -> bool {
        false
    }

    /// The address that failure reports to senders are from; servers refuse many others. `None`
    /// stands for `postmaster` at the domain of whoever gets the report.
    fn reporter(&self) -> Option<String> {
        None
    }
}

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once, over all processes; at least 1.
    pub sessions: u32,
    /// Messages in flight on one session where the server has `CHUNKING` and `PIPELINING`.
    pub window: usize,
    /// Recipients in one envelope; at least 1.
    pub recipients_per_message: u32,
    /// Messages a minute and recipients a day, over all processes.
    pub pace: Pace,
    /// How long the route keeps a session open after [`Route::run`] has returned. It counts as
    /// one of `sessions` until then.
    pub linger: Duration,
}

/// Why there was no session, or why it ended before its source was empty.
#[derive(Debug)]
pub enum RouteFailure {
    /// No credential is to be had now: mail waits for [`Route::ready`].
    Token(String),
    /// The session failed.
    Smtp(Box<SendError>),
    /// The account cannot be used as it is set up.
    Unusable(String),
    /// Other processes have all of the account's sessions: it is tried again in a moment, and
    /// nobody else waits for that.
    Busy(String),
}

impl From<SendError> for RouteFailure {
    fn from(error: SendError) -> Self {
        Self::Smtp(Box::new(error))
    }
}

impl fmt::Display for RouteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(why) => write!(f, "no token: {why}"),
            Self::Smtp(error) => error.fmt(f),
            Self::Unusable(why) => write!(f, "the account cannot be used: {why}"),
            Self::Busy(why) => write!(f, "no session is free: {why}"),
        }
    }
}

impl error::Error for RouteFailure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Smtp(error) => error::Error::source(&**error),
            Self::Token(_) | Self::Unusable(_) | Self::Busy(_) => None,
        }
    }
}
