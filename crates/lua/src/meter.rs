//! How long Lua has run, and which calls must stop.
//!
//! Only the time in which Lua itself runs counts: waiting does not, and neither does the Rust
//! code behind an API function. [`Counted`] wraps each future to say which of the two it is, and
//! which call it works for. Once stopped, a call stays stopped: its future is never ready again,
//! and whoever began it lets go of it where it stands.
//!
//! What counts is the processor's time, so that a busy machine stops no script. Its clock is a
//! system call, and costs as much as Lua often runs: it is read when a turn begins to run Lua
//! and after what took longer than a slice. Anything shorter counts as long as it took.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};

use crate::Limits;
use crate::call::Reply;
use crate::fault::Fault;
use crate::room::Room;

/// How long Lua runs before it lets other tasks run.
const SLICE: Duration = Duration::from_millis(1);
/// How often Lua may be told to pause in one turn: where C called it, it cannot, and goes on for
/// thousands of instructions each time. Tens of milliseconds in all.
const PAUSES: u32 = 200;

/// The clock of one script.
pub(crate) struct Meter {
    limits: Limits,
    clocks: Clocks,
    room: Room,
    state: Mutex<State>,
}

/// What time is told by; each counts from a moment of its own.
#[derive(Clone, Copy)]
struct Clocks {
    /// Time as it passes.
    wall: fn() -> Duration,
    /// Time for which this thread had the processor.
    processor: fn() -> Duration,
}

impl Clocks {
    const SYSTEM: Self = Self {
        wall: || read(ClockId::Monotonic),
        processor: || read(ClockId::ThreadCPUTime),
    };
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().unwrap_or_default()
}

#[derive(Default)]
struct State {
    /// The call whose Lua runs or whose work is done.
    current: Option<Arc<Budget>>,
    running_since: Option<Duration>,
    /// When the present turn began; pauses are reckoned from there.
    turn_since: Option<Duration>,
    /// What the processor's clock said when it was last read in the present turn.
    processor: Option<Duration>,
    /// How often Lua was to pause in the present turn, and went on.
    pauses: u32,
    /// How many tasks are being polled, each within the one before.
    depth: usize,
    /// The time of all calls.
    spent: Duration,
    /// Turns taken.
    turns: u64,
}

/// What a call is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The script itself, from its first line to its last.
    Main,
    /// A handler, or a run of a schedule.
    Call,
    /// A hook.
    Hook,
}

/// What one call may use, and what it has used.
pub(crate) struct Budget {
    /// As in `the handler of token.refreshed took too long`.
    pub(crate) what: String,
    pub(crate) kind: Kind,
    /// How many events of scripts led to it, one raised by a handler of the one before.
    pub(crate) chain: u32,
    cpu: Duration,
    wall: Option<Duration>,
    deadline: Option<tokio::time::Instant>,
    state: Mutex<Spent>,
    waits: Mutex<BTreeMap<u64, Arc<Slot>>>,
}

#[derive(Default)]
struct Spent {
    cpu: Duration,
    stopped: Option<Stop>,
    /// The line of the script that last paused or began to wait.
    seen: Option<String>,
    ended: bool,
    waits: u64,
}

/// Which limit stopped a call, and where it was.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) limit: Limit,
    pub(crate) at: Option<String>,
}

/// A limit on time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Cpu(Duration),
    Wall(Duration),
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
        Self::by(Clocks::SYSTEM, limits)
    }

    fn by(clocks: Clocks, limits: Limits) -> Self {
        Self {
            room: Room::new(limits.memory_octets),
            limits,
            clocks,
            state: Mutex::default(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Room for what calls hold outside the state; nothing where the current one must not wait
    /// for any.
    pub(crate) fn room(&self) -> Option<&Room> {
        let is_hook = |call: Arc<Budget>| call.kind == Kind::Hook;
        (!self.current().is_some_and(is_hook)).then_some(&self.room)
    }

    /// What a call may use that begins now; `wall` in place of the script's own limit.
    pub(crate) fn budget(
        &self,
        what: impl Into<String>,
        kind: Kind,
        wall: Option<Duration>,
    ) -> Budget {
        let wall = wall.or(self.limits.wall);
        Budget {
            what: what.into(),
            kind,
            chain: 0,
            cpu: self.limits.cpu,
            wall,
            deadline: wall.and_then(|wall| tokio::time::Instant::now().checked_add(wall)),
            state: Mutex::default(),
            waits: Mutex::default(),
        }
    }

    /// Checks the limits of the current call; `at` says where the script is, if one is exceeded.
    pub(crate) fn tick(&self, at: impl FnOnce() -> Option<String>) -> Tick {
        let state = self.state();
        let Some(budget) = state.current.clone() else {
            return Tick::Go;
        };
        let now = (self.clocks.wall)();
        let since =
            |then: Option<Duration>| then.map_or(Duration::ZERO, |then| now.saturating_sub(then));
        let (running, turn) = (since(state.running_since), since(state.turn_since));
        let read = state.processor;
        drop(state);
        let mut spent = budget.state();
        if spent.stopped.is_some() || spent.ended {
            return Tick::Stop;
        }
        let is_over = |running| spent.cpu + running > budget.cpu;
        let limit = if is_over(running) && is_over(self.used(running, read).0) {
            Limit::Cpu(budget.cpu)
        } else if turn <= SLICE {
            return Tick::Go;
        } else if budget
            .deadline
            .is_some_and(|deadline| deadline <= tokio::time::Instant::now())
        {
            Limit::Wall(budget.wall.unwrap_or_default())
        } else {
            spent.seen = at().or(spent.seen.take());
            return Tick::Pause;
        };
        let at = at().or_else(|| spent.seen.clone());
        spent.stopped = Some(Stop { limit, at });
        Tick::Stop
    }

    /// Notes that Lua is told to pause; false if it was told so too often in this turn.
    pub(crate) fn pause(&self) -> bool {
        let mut state = self.state();
        state.pauses += 1;
        state.pauses <= PAUSES
    }

    /// The call whose Lua is running.
    pub(crate) fn current(&self) -> Option<Arc<Budget>> {
        self.state().current.clone()
    }

    /// Whether the current call is stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.current().is_some_and(|budget| budget.is_over())
    }

    /// How many tasks are being polled, each within the one before.
    pub(crate) fn depth(&self) -> usize {
        self.state().depth
    }

    /// The time that Lua ran, in all calls.
    pub(crate) fn spent(&self) -> Duration {
        self.state().spent
    }

    /// How many turns Lua has had.
    pub(crate) fn turns(&self) -> u64 {
        self.state().turns
    }

    /// Lets everything within `poll` share one turn of [`SLICE`].
    pub(crate) fn turn<T>(&self, poll: impl FnOnce() -> T) -> T {
        {
            let mut state = self.state();
            state.turn_since = Some((self.clocks.wall)());
            state.processor = None;
            state.turns += 1;
            state.pauses = 0;
        }
        let answer = poll();
        self.state().turn_since = None;
        answer
    }

    /// Whether the present turn has lasted its time.
    pub(crate) fn is_turn_over(&self) -> bool {
        let since = self.state().turn_since;
        since.is_some_and(|since| (self.clocks.wall)().saturating_sub(since) > SLICE)
    }

    /// How much of a stretch that took `wall` the thread had the processor, and what the
    /// processor's clock says now; `read` is what it said at the latest before.
    fn used(&self, wall: Duration, read: Option<Duration>) -> (Duration, Option<Duration>) {
        match read {
            Some(before) if wall > SLICE => {
                let now = (self.clocks.processor)();
                (wall.min(now.saturating_sub(before)), Some(now))
            }
            read => (wall, read),
        }
    }

    /// Begins a stretch for `budget`, of running or not; answers what was the case before.
    fn switch(&self, budget: Option<Arc<Budget>>, running: bool) -> (Option<Arc<Budget>>, bool) {
        let mut state = self.state();
        if running && state.processor.is_none() {
            state.processor = Some((self.clocks.processor)());
        }
        let now = (self.clocks.wall)();
        let since = std::mem::replace(&mut state.running_since, running.then_some(now));
        let before = std::mem::replace(&mut state.current, budget);
        if let Some(since) = since {
            let (used, read) = self.used(now.saturating_sub(since), state.processor);
            state.processor = read;
            state.spent += used;
            if let Some(before) = &before {
                before.state().cpu += used;
            }
        }
        (before, since.is_some())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    /// The same, begun by the `chain`th event of a chain.
    pub(crate) fn within_chain(mut self, chain: u32) -> Self {
        self.chain = chain;
        self
    }

    /// Whether it is the script itself.
    pub(crate) fn is_main(&self) -> bool {
        self.kind == Kind::Main
    }

    /// When its time is up.
    pub(crate) fn deadline(&self) -> Option<tokio::time::Instant> {
        self.deadline
    }

    /// The time is up while the call waits.
    pub(crate) fn expire(&self) -> Stop {
        let mut spent = self.state();
        let at = spent.seen.clone();
        let limit = Limit::Wall(self.wall.unwrap_or_default());
        spent.stopped.get_or_insert(Stop { limit, at }).clone()
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

    /// Whether it is stopped or has ended.
    pub(crate) fn is_over(&self) -> bool {
        let spent = self.state();
        spent.stopped.is_some() || spent.ended
    }

    /// Ends it for good. What it still waits for is given up here: the coroutines that hold it
    /// stay until Lua collects them.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        let waits = std::mem::take(&mut *self.waits());
        for slot in waits.into_values() {
            slot.lock().take();
        }
    }

    /// `future` as something the call waits for, and that ends with it.
    pub(crate) fn wait(self: &Arc<Self>, future: BoxFuture<'static, Result<Reply, Fault>>) -> Wait {
        let slot = Arc::new(Slot(Mutex::new(Some(future))));
        let id = {
            let mut spent = self.state();
            spent.waits += 1;
            spent.waits
        };
        self.waits().insert(id, Arc::clone(&slot));
        Wait {
            budget: Arc::clone(self),
            id,
            slot,
            waker: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, Spent> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Slot>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a future stays that Lua holds and its call may take away.
struct Slot(Mutex<Option<BoxFuture<'static, Result<Reply, Fault>>>>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<BoxFuture<'static, Result<Reply, Fault>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something a call waits for.
pub(crate) struct Wait {
    budget: Arc<Budget>,
    id: u64,
    slot: Arc<Slot>,
    /// Who is to be told.
    waker: Option<Waker>,
}

impl Future for Wait {
    type Output = Result<Reply, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut *self.slot.lock() {
            Some(future) => future.as_mut().poll(context),
            // A coroutine that another call resumes.
            None => Poll::Ready(Err(Fault::misuse(
                "the call that began to wait was stopped",
            ))),
        };
        if answer.is_ready() {
            self.budget.waits().remove(&self.id);
            self.waker = None;
        } else {
            self.waker = Some(context.waker().clone());
        }
        answer
    }
}

/// The coroutine that waited is gone, closed by another one: nobody wants the answer, and whoever
/// waits for the coroutine is to look after it.
impl Drop for Wait {
    fn drop(&mut self) {
        let slot = self.budget.waits().remove(&self.id);
        // Not before the lock is released: what it holds may be waiting too.
        drop(slot);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A future whose polls count as running Lua for a call, or do not. Once the call is stopped, its
/// Lua runs no more.
pub(crate) struct Counted<F> {
    meter: Arc<Meter>,
    budget: Arc<Budget>,
    running: bool,
    future: F,
}

impl<F> Counted<F> {
    /// This future runs Lua.
    pub(crate) fn running(meter: &Arc<Meter>, budget: &Arc<Budget>, future: F) -> Self {
        Self {
            meter: Arc::clone(meter),
            budget: Arc::clone(budget),
            running: true,
            future,
        }
    }

    /// This future works or waits on behalf of Lua.
    pub(crate) fn waiting(meter: &Arc<Meter>, budget: &Arc<Budget>, future: F) -> Self {
        Self {
            meter: Arc::clone(meter),
            budget: Arc::clone(budget),
            running: false,
            future,
        }
    }
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.running {
            if self.budget.is_over() {
                return Poll::Pending;
            }
            if self.meter.is_turn_over() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let budget = Some(Arc::clone(&self.budget));
        let (before, was_running) = self.meter.switch(budget, self.running);
        self.meter.state().depth += usize::from(self.running);
        let answer = Pin::new(&mut self.future).poll(context);
        self.meter.state().depth -= usize::from(self.running);
        self.meter.switch(before, was_running);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static WALL: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static PROCESSOR: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    const BY_HAND: Clocks = Clocks {
        wall: || WALL.get(),
        processor: || PROCESSOR.get(),
    };

    /// Lua that takes so long, and has the processor for a part of it: what the hook says then.
    fn run(meter: &Arc<Meter>, budget: &Arc<Budget>, wall: Duration, processor: Duration) -> Tick {
        let asked = Arc::clone(meter);
        let lua = std::future::poll_fn(move |_| {
            WALL.set(WALL.get() + wall);
            PROCESSOR.set(PROCESSOR.get() + processor);
            Poll::Ready(asked.tick(|| None))
        });
        let mut lua = Counted::running(meter, budget, lua);
        let mut context = Context::from_waker(Waker::noop());
        match meter.turn(|| Pin::new(&mut lua).poll(&mut context)) {
            Poll::Ready(tick) => tick,
            Poll::Pending => Tick::Stop,
        }
    }

    #[test]
    fn time_that_others_have_the_processor_does_not_count() {
        let cpu = Duration::from_millis(100);
        let limits = Limits {
            cpu,
            ..Limits::default()
        };
        let meter = Arc::new(Meter::by(BY_HAND, limits));
        let budget = Arc::new(meter.budget("the script", Kind::Main, None));
        let (second, some) = (Duration::from_secs(1), Duration::from_millis(40));

        assert_eq!(run(&meter, &budget, second, some), Tick::Pause);
        // Whatever the thread does between turns is none of the script's.
        PROCESSOR.set(PROCESSOR.get() + second);
        assert_eq!(run(&meter, &budget, second, some), Tick::Pause);
        assert_eq!(meter.spent(), 2 * some);
        assert_eq!(run(&meter, &budget, second, some), Tick::Stop);
        assert_eq!(
            budget.stopped().map(|stop| stop.limit),
            Some(Limit::Cpu(cpu))
        );
    }

    #[test]
    fn what_is_shorter_than_a_slice_counts_as_long_as_it_took() {
        let meter = Arc::new(Meter::by(BY_HAND, Limits::default()));
        let budget = Arc::new(meter.budget("the script", Kind::Main, None));

        assert_eq!(run(&meter, &budget, SLICE / 2, SLICE / 4), Tick::Go);

        assert_eq!(meter.spent(), SLICE / 2);
    }
}
