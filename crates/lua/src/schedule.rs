//! `pr.every`, `pr.cron`, `pr.at` and `pr.after`: functions that run at their time.
//!
//! When that is, and whether it was missed, the host's scheduler knows; here a run becomes a call
//! of the script, and an error of the call becomes the run's. What is scheduled ends with the
//! script.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::tz::TimeZone;
use mlua::{
    Function, Lua, MetaMethod, MultiValue, Table, UserData, UserDataFields, UserDataMethods, Value,
};
use postrider_schedule::{
    Clock, Cron, Draft, Handle, Job, JobError, Missed, Options, Overlap, Plan, Retry, Run,
    Schedule, ScheduleError, time_zone,
};

use crate::Failure;
use crate::actor::{Call, Callback, Invoker, Lane};
use crate::call::{Args, Fields, Registrar, number, only_while_loading, suggestion};
use crate::engine::World;
use crate::fault::{self, Fault};
use crate::meter::Meter;
use crate::time;
use postrider_lua_api as api;

/// Where the prelude keeps what a handle's fields are.
pub(crate) const INDEX: &str = "postrider.index.schedule";

/// How long `on_error` may take where the script has no limit.
const PATIENCE: Duration = Duration::from_mins(10);

/// The most retries there are.
const ATTEMPTS: usize = 100;

/// The schedules of one script, which end with it.
pub(crate) struct Schedules {
    draft: Option<Draft>,
    handles: Mutex<Vec<Handle>>,
}

impl Schedules {
    /// Those of a script that is about to run, which go into `draft`.
    pub(crate) fn new(draft: Option<Draft>) -> Self {
        Self {
            draft,
            handles: Mutex::default(),
        }
    }

    /// Learns what is kept of schedules with a name, before the script makes some.
    pub(crate) async fn read(&self) {
        if let Some(draft) = &self.draft {
            draft.read().await;
        }
    }

    fn add(&self, schedule: Schedule, most: usize) -> Result<Handle, Refused> {
        let mut handles = self.lock();
        if handles.len() >= most {
            handles.retain(|handle| !handle.is_over());
        }
        if handles.len() >= most {
            return Err(Refused::TooMany);
        }
        let draft = self.draft.as_ref().ok_or(Refused::Nowhere)?;
        let handle = draft.add(schedule).map_err(Refused::Because)?;
        handles.push(handle.clone());
        Ok(handle)
    }

    /// Nothing more is begun; runs under way go on.
    pub(crate) fn cancel(&self) {
        for handle in &*self.lock() {
            handle.cancel();
        }
    }

    /// Waits until nothing will ever run any more, and nothing runs.
    pub(crate) async fn finished(&self) {
        loop {
            let next = self.lock().iter().find(|handle| !handle.is_over()).cloned();
            match next {
                Some(handle) => handle.over().await,
                None => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Schedules {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Why a schedule was not taken.
enum Refused {
    TooMany,
    Nowhere,
    Because(ScheduleError),
}

/// A schedule in the script's hands.
#[derive(Clone)]
struct Scheduled {
    handle: Handle,
    /// What messages call it.
    what: Arc<str>,
}

impl UserData for Scheduled {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "schedule");
        fields.add_meta_field_with("__index", |lua| lua.named_registry_value::<Function>(INDEX));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(this.what.to_string())
        });
    }
}

/// What all four functions need.
#[derive(Clone)]
struct Desk {
    schedules: Arc<Schedules>,
    invoker: Invoker,
    clock: Arc<dyn Clock>,
    meter: Arc<Meter>,
}

/// Registers the four functions and the methods of a handle.
pub(crate) fn register(registrar: &Registrar<'_>, world: &World) -> mlua::Result<()> {
    let desk = Desk {
        schedules: Arc::clone(&world.schedules),
        invoker: world.invoker.clone(),
        clock: world.backend.clock(),
        meter: Arc::clone(registrar.meter),
    };
    let again = desk.clone();
    registrar.add("every", move |lua, mut args| {
        only_while_loading(&again.meter, TIMERS)?;
        let span = time::duration(&args.next()).map_err(Fault::Misuse)?;
        again.schedule(lua, Plan::Every(span), args).map_err(raised)
    })?;
    let by_the_clock = desk.clone();
    registrar.add("cron", move |lua, mut args| {
        only_while_loading(&by_the_clock.meter, TIMERS)?;
        let text = args.text("cron")?;
        let cron = Cron::parse(&text).map_err(|error| Fault::Misuse(error.to_string()))?;
        let plan = Plan::Cron(cron, TimeZone::system());
        by_the_clock.schedule(lua, plan, args).map_err(raised)
    })?;
    let then = desk.clone();
    registrar.add("at", move |lua, mut args| {
        let at = time::point(&args.next())?;
        then.schedule(lua, Plan::At(at), args)
    })?;
    registrar.add("after", move |lua, mut args| {
        let span = time::duration(&args.next()).map_err(Fault::Misuse)?;
        desk.schedule(lua, Plan::After(span), args).map_err(raised)
    })?;
    methods(registrar)
}

/// What to do where a schedule must not be made.
const TIMERS: &str = "pr.at and pr.after without a name work at any time";

fn methods(registrar: &Registrar<'_>) -> mlua::Result<()> {
    registrar.add("schedule.name", |_, mut args| {
        let this: Scheduled = args.this()?;
        Ok(this.handle.name().map(str::to_owned))
    })?;
    registrar.add("schedule:cancel", |_, mut args| {
        let this: Scheduled = args.this()?;
        args.end()?;
        Ok(this.handle.cancel())
    })?;
    registrar.add("schedule:next", |_, mut args| {
        let this: Scheduled = args.this()?;
        args.end()?;
        Ok(this.handle.next().map(time::seconds))
    })?;
    registrar.add("schedule:run_now", |_, mut args| {
        let this: Scheduled = args.this()?;
        args.end()?;
        match this.handle.run_now() {
            Ok(()) => Ok(true),
            Err(ScheduleError::Running(_)) => {
                let message = format!("{} is running already", this.what);
                Err(Fault::failed(
                    Failure::new("schedule.running", message).retryable(),
                ))
            }
            Err(_) => {
                let message = format!("{} has ended", this.what);
                Err(Fault::failed(Failure::new("schedule.ended", message)))
            }
        }
    })?;
    registrar.add("schedule:last", |lua, mut args| {
        let this: Scheduled = args.this()?;
        args.end()?;
        let Some(last) = this.handle.last() else {
            return Ok(None);
        };
        let table = lua.create_table()?;
        table.raw_set("at", time::seconds(last.started_at))?;
        table.raw_set("took", last.took().as_secs_f64())?;
        table.raw_set("ok", last.result.is_ok())?;
        if let Err(error) = &last.result {
            let failure = Failure::new(error.code.as_str(), error.message.as_str());
            let error = fault::error_table(lua, &failure, error.at.as_deref())?;
            table.raw_set("error", error)?;
        }
        Ok(Some(table))
    })
}

/// Only `pr.at` may find that its time is over; all else is the script's mistake.
fn raised(fault: Fault) -> Fault {
    match fault {
        Fault::Failed(failure) => Fault::Raised(failure),
        other => other,
    }
}

impl Desk {
    fn schedule(&self, lua: &Lua, mut plan: Plan, mut args: Args) -> Result<Scheduled, Fault> {
        let function = match args.next() {
            Value::Function(function) => function,
            other => return Err(args.wrong("function", "a function", &other)),
        };
        let table = args.options("options")?;
        args.end()?;
        let chosen = match &table {
            Some(table) => Chosen::read(table, &mut plan)?,
            None => Chosen::default(),
        };
        if chosen.options.name.is_some() {
            only_while_loading(
                &self.meter,
                "a schedule with a name is known from the start",
            )?;
        }
        let at = fault::here(lua).unwrap_or_else(|| self.invoker.script().to_owned());
        let what = match &chosen.options.name {
            Some(name) => format!("the schedule {name}"),
            None => format!("the schedule {plan}"),
        };
        let task = Task {
            invoker: self.invoker.clone(),
            clock: Arc::clone(&self.clock),
            what: what.as_str().into(),
            at: at.clone(),
            function: self.invoker.callback(function),
            on_error: chosen.on_error.map(|f| self.invoker.callback(f)),
            timeout: chosen.timeout,
        };
        let schedule = Schedule {
            plan,
            options: chosen.options,
            job: Arc::new(task),
            script: self.invoker.script().to_owned(),
            at,
        };
        let most = self.meter.limits().timers;
        let handle = self
            .schedules
            .add(schedule, most)
            .map_err(|refused| self.refusal(refused, most))?;
        Ok(Scheduled {
            handle,
            what: what.into(),
        })
    }

    fn refusal(&self, refused: Refused, most: usize) -> Fault {
        let failure = match refused {
            Refused::TooMany => {
                let script = self.invoker.script();
                let message = format!("{script} has {most} timers to fire, which is its limit");
                let remedy = "look for a loop that makes them, or raise scripts.limits.timers";
                Failure::new("script.timer_limit", message).with_remedy(remedy)
            }
            Refused::Nowhere => Failure::new("schedule.unavailable", "nothing runs schedules here"),
            Refused::Because(error @ ScheduleError::Past(_)) => {
                Failure::new("schedule.past", error.to_string())
            }
            Refused::Because(error @ ScheduleError::Superseded) => {
                Failure::new("schedule.superseded", error.to_string())
            }
            Refused::Because(error @ ScheduleError::TooMany(_)) => {
                Failure::new("schedule.limit", error.to_string())
            }
            Refused::Because(error) => return Fault::Misuse(error.to_string()),
        };
        Fault::failed(failure)
    }
}

/// The options as the script gave them.
#[derive(Default)]
struct Chosen {
    options: Options,
    on_error: Option<Function>,
    /// Kept here, so that `on_error` hears of it.
    timeout: Option<Duration>,
}

impl Chosen {
    fn read(table: &Table, plan: &mut Plan) -> Result<Self, Fault> {
        let known = match plan {
            Plan::Cron(..) => api::CRON_FIELDS,
            _ => api::SCHEDULE_FIELDS,
        };
        let fields = Fields::new(table, "", &api::names(known))?;
        if let Plan::Cron(_, zone) = plan
            && let Some(name) = fields.text("tz")?
        {
            *zone = time_zone(&name).map_err(|error| Fault::Misuse(format!("tz: {error}")))?;
        }
        let on_error = match fields.value("on_error")? {
            Value::Nil => None,
            Value::Function(function) => Some(function),
            other => return Err(fields.wrong("on_error", "a function", &other)),
        };
        let timeout = time::span(&fields, "timeout")?;
        if timeout.is_some_and(|span| span.is_zero()) {
            return Err(Fault::misuse("timeout: no time at all lets nothing run"));
        }
        let options = Options {
            name: fields.text("name")?,
            jitter: time::span(&fields, "jitter")?.unwrap_or_default(),
            overlap: word(&fields, "overlap", &Overlap::NAMES)?,
            missed: word(&fields, "missed", &Missed::NAMES)?,
            timeout: None,
            retry: retry(&fields)?,
        };
        Ok(Self {
            options,
            on_error,
            timeout,
        })
    }
}

fn word<T: Copy + Default>(
    fields: &Fields<'_>,
    key: &str,
    words: &[(&'static str, T)],
) -> Result<T, Fault> {
    let Some(text) = fields.text(key)? else {
        return Ok(T::default());
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known = || words.iter().map(|(word, _)| *word);
    let listed: Vec<String> = known().map(|word| format!("\"{word}\"")).collect();
    let suggestion = suggestion(&text, known());
    Err(Fault::Misuse(format!(
        "{key} is one of {}, not '{text:.40}'{suggestion}",
        listed.join(", ")
    )))
}

/// How often, or a table that says more.
fn retry(fields: &Fields<'_>) -> Result<Retry, Fault> {
    let usual = Retry::default();
    match fields.value("retry")? {
        Value::Nil => Ok(usual),
        Value::Table(table) => {
            let own = Fields::new(&table, "retry.", &api::names(api::RETRY_FIELDS))?;
            let Some(attempts) = attempts(&own, "attempts")? else {
                return Err(Fault::misuse(
                    "retry.attempts says how often, and is missing",
                ));
            };
            Ok(Retry {
                attempts,
                backoff: time::span(&own, "backoff")?.unwrap_or(usual.backoff),
                longest: time::span(&own, "longest")?.unwrap_or(usual.longest),
            })
        }
        value if number(&value).is_some() => Ok(Retry {
            attempts: attempts(fields, "retry")?.unwrap_or_default(),
            ..usual
        }),
        other => Err(fields.wrong("retry", "a number or a table", &other)),
    }
}

fn attempts(fields: &Fields<'_>, key: &str) -> Result<Option<u32>, Fault> {
    let count = fields.count(key, ATTEMPTS)?;
    Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
}

/// What a schedule of a script runs. It does not keep the script.
#[derive(Clone)]
struct Task {
    invoker: Invoker,
    clock: Arc<dyn Clock>,
    what: Arc<str>,
    /// The line that asked for it.
    at: String,
    function: Callback,
    on_error: Option<Callback>,
    timeout: Option<Duration>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({} at {})", self.what, self.at)
    }
}

impl Job for Task {
    fn run(&self, run: Run) -> BoxFuture<'static, Result<(), JobError>> {
        let task = self.clone();
        async move {
            let Err(failure) = task.attempt(&run).await else {
                return Ok(());
            };
            if let Some(on_error) = &task.on_error {
                task.complain(on_error, &run, &failure).await;
            }
            Err(JobError {
                code: failure.code,
                message: failure.message,
                at: failure.at,
            })
        }
        .boxed()
    }
}

impl Task {
    /// Calls the function; `nil, err` from it is a failure as much as an error that it raises.
    async fn attempt(&self, run: &Run) -> Result<(), Failure> {
        let call = call(self.what.to_string(), &self.function, None);
        let run = run.clone();
        let give = move |lua: &Lua| {
            let context = context(lua, &run)?;
            Ok(Some(MultiValue::from_iter([Value::Table(context)])))
        };
        let at = self.at.clone();
        let finish = move |_: &Lua, mut answer: MultiValue| {
            let first = answer.pop_front().unwrap_or_default();
            let error = answer.pop_front().unwrap_or_default();
            if error.is_nil() || !matches!(first, Value::Nil | Value::Boolean(false)) {
                return Ok(());
            }
            // A function that returns the answer of another one is gone by then: its line is ours.
            if let Value::Table(error) = &error
                && error.raw_get::<Value>("at")?.is_nil()
            {
                error.raw_set("at", at)?;
            }
            Err(Fault::Rethrown(error))
        };
        let called = self.invoker.perform(call, Box::new(give), Box::new(finish));
        let called =
            called.map(|ended| ended.map(drop).map_err(|error| self.placed(error.failure)));
        let Some(timeout) = self.timeout else {
            return called.await;
        };
        tokio::select! {
            biased;
            ended = called => ended,
            () = self.clock.sleep(timeout) => {
                let message = format!("{} took longer than its {timeout:?}", self.what);
                Err(Failure::new("schedule.timeout", message).at(&self.at).retryable())
            }
        }
    }

    /// The failure, with the line of the schedule if it has none of its own.
    fn placed(&self, mut failure: Failure) -> Failure {
        if failure.at.as_deref().is_none_or(|at| at == "?") {
            failure.at = Some(self.at.clone());
        }
        failure
    }

    /// Tells the script's `on_error`.
    async fn complain(&self, on_error: &Callback, run: &Run, failure: &Failure) {
        let what = format!("on_error of {}", self.what);
        let patience = self.invoker.patience(PATIENCE);
        let call = call(what.clone(), on_error, Some(patience));
        let (run, failure) = (run.clone(), failure.clone());
        let give = move |lua: &Lua| {
            let error = fault::error_table(lua, &failure, failure.at.as_deref())?;
            let args = [Value::Table(error), Value::Table(context(lua, &run)?)];
            Ok(Some(MultiValue::from_iter(args)))
        };
        let told = self
            .invoker
            .perform(call, Box::new(give), Box::new(|_, _| Ok(())));
        if let Err(error) = told.await {
            let failure = error.failure;
            tracing::error!(
                target: "postrider::script",
                at = failure.at,
                code = failure.code,
                remedy = failure.remedy,
                "{what} failed: {}",
                failure.message
            );
        }
    }
}

fn call(what: String, function: &Callback, timeout: Option<Duration>) -> Call {
    Call {
        what,
        function: function.clone(),
        timeout,
        chain: 0,
        lane: Lane::Calls,
        detached: false,
    }
}

/// What a run is told of itself.
fn context(lua: &Lua, run: &Run) -> mlua::Result<Table> {
    let context = lua.create_table()?;
    context.raw_set("name", run.name.as_deref())?;
    context.raw_set("scheduled_at", time::seconds(run.scheduled_at))?;
    context.raw_set("reason", run.reason.name())?;
    context.raw_set("attempt", run.attempt)?;
    context.raw_set("missed", run.missed)?;
    Ok(context)
}
