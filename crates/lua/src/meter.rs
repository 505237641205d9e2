//! How long Lua has run, and whether it must stop.
//!
//! Only the time in which Lua itself runs counts: waiting does not, and neither does the Rust
//! code behind an API function. [`Counted`] wraps each future to say which of the two it is.
//! Once stopped, a script stays stopped: its future is never ready again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::Limits;

/// How long Lua runs before it lets other tasks run.
const SLICE: Duration = Duration::from_millis(1);

/// The clock of one script.
pub(crate) struct Meter {
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    spent: Duration,
    running_since: Option<Instant>,
    /// How many tasks are being polled, each within the one before.
    depth: usize,
    deadline: Option<tokio::time::Instant>,
    stopped: Option<Stop>,
    /// The line of the script that last paused or began to wait.
    seen: Option<String>,
}

/// Which limit stopped a script, and where it was.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) limit: Limit,
    pub(crate) at: Option<String>,
}

/// A limit on time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Cpu,
    Wall,
}

/// What the hook is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    Go,
    Pause,
    Stop,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        let deadline = limits
            .wall
            .and_then(|wall| tokio::time::Instant::now().checked_add(wall));
        Self {
            limits,
            state: Mutex::new(State {
                spent: Duration::ZERO,
                running_since: None,
                depth: 0,
                deadline,
                stopped: None,
                seen: None,
            }),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Checks the limits; `at` says where the script is, if one is exceeded.
    pub(crate) fn tick(&self, at: impl FnOnce() -> Option<String>) -> Tick {
        let mut state = self.state();
        if state.stopped.is_some() {
            return Tick::Stop;
        }
        let slice = state
            .running_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let limit = if state.spent + slice > self.limits.cpu {
            Limit::Cpu
        } else if state
            .deadline
            .is_some_and(|deadline| deadline <= tokio::time::Instant::now())
        {
            Limit::Wall
        } else if slice > SLICE {
            state.seen = at().or(state.seen.take());
            return Tick::Pause;
        } else {
            return Tick::Go;
        };
        let at = at().or_else(|| state.seen.clone());
        state.stopped = Some(Stop { limit, at });
        Tick::Stop
    }

    /// The time is up while the script waits.
    pub(crate) fn expire(&self) -> Stop {
        let mut state = self.state();
        let at = state.seen.clone();
        let limit = Limit::Wall;
        state.stopped.get_or_insert(Stop { limit, at }).clone()
    }

    /// Notes where the script is.
    pub(crate) fn saw(&self, at: Option<&str>) {
        if let Some(at) = at {
            self.state().seen = Some(at.to_owned());
        }
    }

    pub(crate) fn seen(&self) -> Option<String> {
        self.state().seen.clone()
    }

    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.state().stopped.clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped.is_some()
    }

    /// Begins or ends a stretch of running; answers what was the case before.
    fn switch(&self, running: bool) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let since = std::mem::replace(&mut state.running_since, running.then_some(now));
        if let Some(since) = since {
            state.spent += now.duration_since(since);
        }
        since.is_some()
    }

    /// How many tasks are being polled, each within the one before.
    pub(crate) fn depth(&self) -> usize {
        self.state().depth
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future whose polls count as running Lua, or do not. Once stopped, Lua runs no more.
pub(crate) struct Counted<F> {
    meter: Arc<Meter>,
    running: bool,
    future: F,
}

impl<F> Counted<F> {
    /// This future runs Lua.
    pub(crate) fn running(meter: &Arc<Meter>, future: F) -> Self {
        Self {
            meter: Arc::clone(meter),
            running: true,
            future,
        }
    }

    /// This future works or waits on behalf of Lua.
    pub(crate) fn waiting(meter: &Arc<Meter>, future: F) -> Self {
        Self {
            meter: Arc::clone(meter),
            running: false,
            future,
        }
    }
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.running && self.meter.is_stopped() {
            return Poll::Pending;
        }
        let before = self.meter.switch(self.running);
        self.meter.state().depth += usize::from(self.running);
        let answer = Pin::new(&mut self.future).poll(context);
        self.meter.state().depth -= usize::from(self.running);
        self.meter.switch(before);
        answer
    }
}
