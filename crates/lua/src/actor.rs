//! Who runs a script's Lua: one actor per script polls all its calls, never two at once.
//!
//! Calls come in from anywhere through an [`Invoker`], take their turn where too many are under
//! way, and end alone when they exceed a limit: the actor lets go of them where they stand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use mlua::{Function, Lua, MultiValue};
use tokio::sync::{mpsc, oneshot};

use crate::activity::Activity;
use crate::engine::Core;
use crate::fault::{Fault, ScriptError};
use crate::meter::{Kind, Meter};
use crate::{Failure, Usage};

/// How many calls may wait for their turn, for each that may be under way.
const WAITING: usize = 100;

/// A function of the script, in anybody's hands.
#[derive(Clone)]
pub(crate) struct Callback(Arc<Held>);

/// Lua lets go of a value only where it does not run at that moment: so the actor drops it.
struct Held {
    function: Option<Function>,
    released: mpsc::UnboundedSender<Function>,
}

impl Callback {
    pub(crate) fn function(&self) -> Option<Function> {
        self.0.function.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(function) = self.function.take() {
            // Where the actor is gone, so is the state.
            let _ = self.released.send(function);
        }
    }
}

/// What is to be called, and within what time.
pub(crate) struct Call {
    /// As in `the schedule daily took longer than its 10s`.
    pub(crate) what: String,
    pub(crate) function: Callback,
    /// In place of the script's own limit.
    pub(crate) timeout: Option<Duration>,
    /// How many events of scripts led to it.
    pub(crate) chain: u32,
    pub(crate) lane: Lane,
    /// It goes on also if nobody waits for its answer any more.
    pub(crate) detached: bool,
}

/// Which calls take turns with each other: a handler that sends waits for hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The script itself, which waits for nobody.
    Main,
    Calls,
    Hooks,
}

impl Lane {
    /// Which of the two that wait: nothing waits in the script's own.
    fn index(self) -> usize {
        usize::from(self == Self::Hooks)
    }
}

/// What a call gives the function, made while Lua is at hand; nothing where it is not wanted
/// any more.
type Give = Box<dyn FnOnce(&Lua) -> mlua::Result<Option<MultiValue>> + Send>;
/// What a call makes of the script's answer, while Lua is at hand.
type Finish<T> = Box<dyn FnOnce(&Lua, MultiValue) -> Result<T, Fault> + Send>;
/// A call on its way to the actor.
type Request = Box<dyn FnOnce(&Arc<Core>) -> BoxFuture<'static, ()> + Send>;

/// The way into a script, from any thread. Clones are the same; it does not keep the script.
#[derive(Clone)]
pub(crate) struct Invoker(Arc<Desk>);

struct Desk {
    script: String,
    meter: Arc<Meter>,
    activity: Activity,
    requests: mpsc::UnboundedSender<(Lane, Request)>,
    released: mpsc::UnboundedSender<Function>,
    /// Calls not yet begun, of either lane: many events keep no message from its hooks.
    waiting: [AtomicUsize; 2],
    calls: AtomicU64,
    errors: AtomicU64,
    memory_octets: AtomicUsize,
}

/// The other end of an [`Invoker`].
pub(crate) struct Inbox {
    requests: mpsc::UnboundedReceiver<(Lane, Request)>,
    released: mpsc::UnboundedReceiver<Function>,
}

impl Invoker {
    /// The way into the script called `script`.
    pub(crate) fn new(script: &str, meter: &Arc<Meter>, activity: Activity) -> (Self, Inbox) {
        let (requests, incoming) = mpsc::unbounded_channel();
        let (released, to_release) = mpsc::unbounded_channel();
        let desk = Desk {
            script: script.to_owned(),
            meter: Arc::clone(meter),
            activity,
            requests,
            released,
            waiting: Default::default(),
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            memory_octets: AtomicUsize::new(0),
        };
        let inbox = Inbox {
            requests: incoming,
            released: to_release,
        };
        (Self(Arc::new(desk)), inbox)
    }

    /// `function` for whoever calls it later.
    pub(crate) fn callback(&self, function: Function) -> Callback {
        Callback(Arc::new(Held {
            function: Some(function),
            released: self.0.released.clone(),
        }))
    }

    /// The script's name, as messages have it.
    pub(crate) fn script(&self) -> &str {
        &self.0.script
    }

    /// Where it is counted what the script is doing.
    pub(crate) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// How long a call may take: the script's limit, or `most` where that is shorter or missing.
    pub(crate) fn patience(&self, most: Duration) -> Duration {
        let wall = self.0.meter.limits().wall;
        wall.map_or(most, |wall| wall.min(most))
    }

    /// What the script has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            cpu: self.0.meter.spent(),
            memory_octets: self.0.memory_octets.load(Ordering::Relaxed),
            calls: self.0.calls.load(Ordering::Relaxed),
            errors: self.0.errors.load(Ordering::Relaxed),
            turns: self.0.meter.turns(),
        }
    }

    /// Calls the function with what `give` makes and answers what `finish` makes of its answer.
    ///
    /// Whoever drops this ends the call, unless it is detached.
    pub(crate) async fn perform<T: Send + 'static>(
        &self,
        call: Call,
        give: Give,
        finish: Finish<T>,
    ) -> Result<Option<T>, ScriptError> {
        let desk = &self.0;
        let place = Place::take(desk, call.lane, &call.what)?;
        let busy = desk.activity.begin();
        let (mut answer, answered) = oneshot::channel();
        let lane = call.lane;
        let request = move |core: &Arc<Core>| {
            let counts = Arc::clone(&place.desk);
            drop(place);
            counts.calls.fetch_add(1, Ordering::Relaxed);
            let detached = call.detached;
            let ended = carry_out(core, call, give, finish);
            async move {
                let _busy = busy;
                let ended = if detached {
                    ended.await
                } else {
                    // One that nobody waits for any more when its turn comes does not begin.
                    tokio::select! {
                        biased;
                        () = answer.closed() => return,
                        ended = ended => ended,
                    }
                };
                counts
                    .errors
                    .fetch_add(u64::from(ended.is_err()), Ordering::Relaxed);
                // Whoever began it may have lost interest.
                let _ = answer.send(ended);
            }
            .boxed()
        };
        if desk.requests.send((lane, Box::new(request))).is_err() {
            return Err(self.gone());
        }
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> ScriptError {
        let message = format!("the script {} has ended", self.0.script);
        ScriptError::new(Failure::new("script.ended", message).retryable())
    }
}

/// A place among those who wait for their turn.
struct Place {
    desk: Arc<Desk>,
    lane: Lane,
}

impl Place {
    fn take(desk: &Arc<Desk>, lane: Lane, what: &str) -> Result<Self, ScriptError> {
        let calls = desk.meter.limits().calls;
        let desk = Arc::clone(desk);
        let place = Self { desk, lane };
        let desk = &place.desk;
        let before = desk.waiting[lane.index()].fetch_add(1, Ordering::Relaxed);
        if before < calls.saturating_mul(WAITING) {
            return Ok(place);
        }
        let message = format!(
            "{what} is not called: {calls} calls are under way, which is the limit, and {before} wait"
        );
        let remedy = "look for handlers that hang, or raise scripts.limits.calls";
        let failure = Failure::new("script.call_limit", message).with_remedy(remedy);
        Err(ScriptError::new(failure.at(&desk.script).retryable()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.waiting[self.lane.index()].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The call itself, from where it has its turn.
fn carry_out<T: 'static>(
    core: &Arc<Core>,
    call: Call,
    give: Give,
    finish: Finish<T>,
) -> impl Future<Output = Result<Option<T>, ScriptError>> + use<T> {
    let kind = match call.lane {
        Lane::Main => Kind::Main,
        Lane::Calls => Kind::Call,
        Lane::Hooks => Kind::Hook,
    };
    let budget = core.meter.budget(call.what, kind, call.timeout);
    let budget = Arc::new(budget.within_chain(call.chain));
    let core = Arc::clone(core);
    async move {
        let args = match give(&core.lua) {
            Ok(Some(args)) => args,
            Ok(None) => return Ok(None),
            Err(error) => return Err(core.lua_failed(&budget, &error)),
        };
        let Some(function) = call.function.function() else {
            return Ok(None);
        };
        let values = core.run(&budget, function, args).await?;
        drop(call.function);
        finish(&core.lua, values)
            .map(Some)
            .map_err(|fault| core.faulted(&budget, fault))
    }
}

/// Who polls the calls of one script.
pub(crate) struct Actor {
    core: Arc<Core>,
    invoker: Invoker,
    inbox: Inbox,
    /// Calls for which there is no room yet.
    waiting: [VecDeque<Request>; 2],
    /// How many of either kind are under way.
    counts: [usize; 2],
    under_way: FuturesUnordered<BoxFuture<'static, Lane>>,
}

impl Actor {
    pub(crate) fn new(core: Arc<Core>, invoker: Invoker, inbox: Inbox) -> Self {
        Self {
            core,
            invoker,
            inbox,
            waiting: [VecDeque::new(), VecDeque::new()],
            counts: [0; 2],
            under_way: FuturesUnordered::new(),
        }
    }

    /// Begins `task`, which is the script itself, and answers how it ends; it runs where calls run.
    pub(crate) fn begin<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &mut self,
        task: F,
    ) -> impl Future<Output = Option<T>> + use<T, F> {
        let (ended, ending) = oneshot::channel();
        let busy = self.invoker.activity().begin();
        let task = async move {
            let _busy = busy;
            let mut ended = ended;
            tokio::select! {
                biased;
                end = task => { let _ = ended.send(end); }
                () = ended.closed() => {}
            }
            Lane::Main
        };
        self.under_way.push(task.boxed());
        ending.map(Result::ok)
    }

    /// Waits for `task` and lets calls run meanwhile.
    pub(crate) async fn meanwhile<T>(&mut self, task: impl Future<Output = T>) -> T {
        let mut task = std::pin::pin!(task);
        std::future::poll_fn(|context| {
            self.turn(context);
            task.as_mut().poll(context)
        })
        .await
    }

    /// Waits until every call there is has ended.
    pub(crate) async fn finish(&mut self) {
        std::future::poll_fn(|context| {
            self.turn(context);
            let is_idle = self.under_way.is_empty() && self.waiting.iter().all(VecDeque::is_empty);
            if is_idle {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Takes no more calls.
    pub(crate) fn close(&mut self) {
        self.inbox.requests.close();
    }

    /// Lets every call run that can, for about one slice of time.
    fn turn(&mut self, context: &mut Context<'_>) {
        let meter = Arc::clone(&self.core.meter);
        meter.turn(|| {
            while let Poll::Ready(Some(function)) = self.inbox.released.poll_recv(context) {
                drop(function);
            }
            loop {
                while let Poll::Ready(Some((lane, request))) =
                    self.inbox.requests.poll_recv(context)
                {
                    self.waiting[lane.index()].push_back(request);
                }
                self.admit();
                if meter.is_turn_over() {
                    context.waker().wake_by_ref();
                    break;
                }
                match self.under_way.poll_next_unpin(context) {
                    Poll::Ready(Some(Lane::Main)) => {}
                    Poll::Ready(Some(lane)) => self.counts[lane.index()] -= 1,
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
        });
        let memory = self.core.lua.used_memory();
        self.invoker
            .0
            .memory_octets
            .store(memory, Ordering::Relaxed);
    }

    /// Begins what there is room for.
    fn admit(&mut self) {
        let most = self.core.meter.limits().calls.max(1);
        for lane in [Lane::Calls, Lane::Hooks] {
            let index = lane.index();
            while self.counts[index] < most
                && let Some(request) = self.waiting[index].pop_front()
            {
                self.counts[index] += 1;
                self.under_way
                    .push(request(&self.core).map(move |()| lane).boxed());
            }
        }
    }
}
