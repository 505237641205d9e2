//! What scripts schedule, on a clock that the test moves.

use std::future::pending;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use postrider_lua::{Limits, Loaded, Script, ScriptError};
use postrider_schedule::{
    LeftOut, ManualClock, MemoryStore, Outcome, Scheduler, SchedulerSettings, Sink, Standing,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::host::{Hands, Host, run};

/// A Monday.
const START: &str = "2026-03-02T06:00:00Z";

/// Notes how runs end.
#[derive(Default)]
struct Notes(Mutex<Vec<Outcome>>);

impl Sink for Notes {
    fn ended(&self, outcome: &Outcome) {
        self.0.lock().unwrap().push(outcome.clone());
    }

    fn left_out(&self, _: &LeftOut) {}

    fn trouble(&self, message: &str) {
        panic!("{message}");
    }
}

/// A host with a scheduler at work.
struct Stage {
    host: Arc<Host>,
    clock: ManualClock,
    scheduler: Scheduler,
    notes: Arc<Notes>,
    printed: Arc<Mutex<Vec<u8>>>,
    folder: tempfile::TempDir,
    driver: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Stage {
    fn new() -> Self {
        let clock = ManualClock::new(START.parse().unwrap());
        let notes = Arc::<Notes>::default();
        let scheduler = Scheduler::new(SchedulerSettings {
            clock: Arc::new(clock.clone()),
            store: Arc::new(MemoryStore::new()),
            sink: Arc::clone(&notes) as Arc<dyn Sink>,
        });
        let driven = scheduler.clone();
        let host = Arc::new(Host::default());
        *host.clock.lock().unwrap() = Some(clock.clone());
        Self {
            host,
            clock,
            scheduler,
            notes,
            printed: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
            driver: tokio::spawn(async move { driven.run().await }),
        }
    }

    fn script(&self, text: &str) -> Script {
        let path = self.folder.path().join("script.lua");
        std::fs::write(&path, text).unwrap();
        let hands = Arc::new(Hands(Arc::clone(&self.host)));
        let printed = Arc::clone(&self.printed) as Arc<Mutex<dyn Write + Send>>;
        Script::new(path, hands).output(printed)
    }

    /// Runs a script, whose schedules are in force at once, until it has ended or waits.
    async fn run(&self, text: &str) -> JoinHandle<Result<(), ScriptError>> {
        self.run_until(text, pending()).await
    }

    async fn run_until(
        &self,
        text: &str,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<Result<(), ScriptError>> {
        let draft = self.scheduler.generation();
        self.scheduler.install(&draft);
        *self.host.draft.lock().unwrap() = Some(draft);
        let running = tokio::spawn(self.script(text).until(stop).run());
        self.rest().await;
        running
    }

    /// Time that passes only when nothing else can happen.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Moves the clock from wake to wake.
    async fn at(&self, time: &str) {
        let time: Timestamp = time.parse().unwrap();
        while let Some(wake) = self.clock.next_wake()
            && wake <= time
        {
            self.clock.set(wake);
            self.rest().await;
        }
        self.clock.set(time);
        self.rest().await;
    }

    /// What was printed since the last time.
    #[track_caller]
    fn printed(&self, expected: &[&str]) {
        let printed = std::mem::take(&mut *self.printed.lock().unwrap());
        let printed = self.plain(&String::from_utf8(printed).unwrap());
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    }

    /// Without the folder, which differs each time.
    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.notes.0.lock().unwrap().clone()
    }

    fn standing(&self, name: &str) -> Standing {
        let named = |standing: &Standing| standing.name.as_deref() == Some(name);
        self.scheduler.list().into_iter().find(named).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_lives_on_for_its_schedules_and_ends_with_the_last() {
    let stage = Stage::new();
    let script = stage
        .run(
            r#"
            local pr = require "postrider"
            local runs = 0
            local every
            every = pr.every("5m", function(run)
              runs = runs + 1
              print(runs, run.reason, run.attempt, run.missed, run.name, pr.time.format(run.scheduled_at))
              if runs == 3 then every:cancel() end
            end)
            print "script ends"
            "#,
        )
        .await;
    stage.printed(&["script ends"]);

    stage.at("2026-03-02T06:04:59Z").await;
    stage.printed(&[]);
    stage.at("2026-03-02T06:10:00Z").await;
    stage.printed(&[
        "1\ttick\t1\t0\tnil\t2026-03-02T06:05:00Z",
        "2\ttick\t1\t0\tnil\t2026-03-02T06:10:00Z",
    ]);
    assert!(!script.is_finished());

    stage.at("2026-03-02T06:15:00Z").await;
    stage.printed(&["3\ttick\t1\t0\tnil\t2026-03-02T06:15:00Z"]);
    script.await.unwrap().unwrap();
    assert!(stage.scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn cron_goes_by_the_wall_clock_of_its_zone() {
    let stage = Stage::new();
    let script = stage
        .run(
            r#"
            local pr = require "postrider"
            pr.cron("0 8 * * mon-fri", function(run)
              print(run.name, pr.time.format(run.scheduled_at, "Europe/Paris"))
            end, { name = "morning", tz = "Europe/Paris" })
            "#,
        )
        .await;

    stage.at("2026-03-02T06:59:59Z").await;
    stage.printed(&[]);
    // Past a weekend on which the clocks are set forward.
    stage.at("2026-03-02T07:00:00Z").await;
    stage.printed(&["morning\t2026-03-02T08:00:00+01:00"]);
    stage.at("2026-03-27T07:00:00Z").await;
    stage.printed.lock().unwrap().clear();
    stage.at("2026-03-30T06:00:00Z").await;
    stage.printed(&["morning\t2026-03-30T08:00:00+02:00"]);
    assert!(!script.is_finished());
    assert_eq!(
        stage.standing("morning").zone.as_deref(),
        Some("Europe/Paris")
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_told_of_with_its_line_and_tried_again() {
    let stage = Stage::new();
    let script = stage
        .run(
            r#"
            local pr = require "postrider"
            local alerts = pr.account "alerts"
            pr.every("1h", function(run)
              print(run.reason, run.attempt)
              if run.attempt == 1 then error "no report" end
              return alerts:send { from = "ceo@contoso.com", to = "a@example.org", subject = "x" }
            end, {
              name = "report", retry = { attempts = 2, backoff = "10s" },
              on_error = function(err, run)
                print(err.code, err.message, err.smtp and err.smtp.enhanced, run.attempt)
                error "on_error itself"
              end,
            })
            "#,
        )
        .await;

    stage.at("2026-03-02T07:30:00Z").await;

    stage.printed(&[
        "tick\t1",
        "script.raised\tno report\tnil\t1",
        "retry\t2",
        "smtp.send_as_denied\tthe sender was refused\t5.2.252\t2",
        "retry\t3",
        "smtp.send_as_denied\tthe sender was refused\t5.2.252\t3",
    ]);
    let outcomes = stage.outcomes();
    let first = outcomes[0].result.as_ref().unwrap_err();
    assert_eq!(first.code, "script.raised");
    assert_eq!(stage.plain(first.at.as_ref().unwrap()), "script.lua:6");
    let last = outcomes[2].result.as_ref().unwrap_err();
    assert_eq!(last.code, "smtp.send_as_denied");
    // What returns the answer of another function has no line any more: it is the schedule's.
    assert_eq!(
        stage.plain(last.at.as_ref().unwrap()),
        "script.lua:4, smtp.office365.com:587, MAIL FROM"
    );
    assert_eq!(outcomes[2].retry_at, None);

    // It goes on at its time.
    assert_eq!(
        stage.standing("report").next,
        "2026-03-02T08:00:00Z".parse().ok()
    );
    assert!(!script.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_ends_and_others_go_on() {
    let stage = Stage::new();
    let script = stage
        .run(
            r#"
            local pr = require "postrider"
            pr.after("1m", function() pr.sleep "1h" print "never" end, {
              timeout = "90s", on_error = function(err) print(err.code, err.message) end,
            })
            pr.after("2m", function() pr.sleep "5m" print "done" end)
            "#,
        )
        .await;

    stage.at("2026-03-02T06:20:00Z").await;

    stage.printed(&[
        "schedule.timeout\tthe schedule after 1m took longer than its 90s",
        "done",
    ]);
    script.await.unwrap().unwrap();
    let error = stage.outcomes()[0].result.clone().unwrap_err();
    assert_eq!(stage.plain(&error.at.unwrap()), "script.lua:3");
}

#[tokio::test(start_paused = true)]
async fn a_handle_tells_how_its_schedule_stands() {
    let stage = Stage::new();
    let script = stage
        .run(
            r#"
            local pr = require "postrider"
            local hourly = pr.every("1h", function(run)
              pr.sleep "30s"
              if run.reason == "manual" then error "by hand" end
            end, { name = "hourly" })
            print(hourly, hourly.name, pr.time.format(hourly:next()), hourly:last())
            print(pr.after("1s", function() end).name)
            pr.sleep "61m"
            local last = hourly:last()
            print(last.ok, last.took, pr.time.format(last.at), last.error)
            print(hourly:run_now())
            pr.sleep "10s"
            print(select(2, hourly:run_now()).code)
            pr.sleep "1m"
            last = hourly:last()
            print(last.ok, last.error.code, last.error.message, last.error.at)
            print(hourly:cancel(), hourly:cancel(), hourly:next())
            print(select(2, hourly:run_now()).code)
            print(pcall(function() return hourly.nxt end))
            "#,
        )
        .await;

    stage.at("2026-03-02T07:10:00Z").await;

    stage.printed(&[
        "the schedule hourly\thourly\t2026-03-02T07:00:00Z\tnil",
        "nil",
        "true\t30.0\t2026-03-02T07:00:00Z\tnil",
        "true",
        "schedule.running",
        "false\tscript.raised\tby hand\tscript.lua:5",
        "true\tfalse\tnil",
        "schedule.ended",
        "false\tscript.lua:20: a schedule has no 'nxt' (did you mean 'next'?)",
    ]);
    script.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_once_may_be_scheduled_at_any_time_and_the_rest_only_while_loading() {
    let stage = Stage::new();
    let script = stage
        .run(
            r#"
            local pr = require "postrider"
            pr.at("2026-03-02T07:30:00+01:00", function()
              pr.after("1m", function() print "then" end)
              pr.at(pr.time.now() + 30, function() print "first" end)
              for _, try in ipairs {
                function() pr.every("1m", print) end,
                function() pr.cron("* * * * *", print) end,
                function() pr.after("1m", print, { name = "late" }) end,
              } do
                print(select(2, pcall(try)))
              end
            end)
            local none, err = pr.at("2026-03-02T05:59:00Z", print)
            print(none, err.code, err.message)
            "#,
        )
        .await;
    stage.printed(&["nil\tschedule.past\t2026-03-02T05:59:00Z is over"]);

    stage.at("2026-03-02T07:00:00Z").await;

    stage.printed(&[
        "script.lua:7: every: only while the script loads, from its own top level; pr.at and pr.after without a name work at any time",
        "script.lua:8: cron: only while the script loads, from its own top level; pr.at and pr.after without a name work at any time",
        "script.lua:9: after: only while the script loads, from its own top level; a schedule with a name is known from the start",
        "first",
        "then",
    ]);
    script.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_told_at_their_line_with_what_was_probably_meant() {
    let stage = Stage::new();
    let cases = [
        (
            r#"pr.every("5 minutes", f)"#,
            "every: '5 minutes' is no span of time: write \"500ms\", \"90s\", \"45m\" or \"1h30m\"",
        ),
        (
            r#"pr.every("500ms", f)"#,
            "every: an interval is one second or more",
        ),
        (
            r#"pr.every("5m")"#,
            "every: argument 2 (function) must be a function, got nil",
        ),
        (
            r#"pr.every("5m", f, { jiter = "5s" })"#,
            "every: unknown field 'jiter' (did you mean 'jitter'?)",
        ),
        (
            r#"pr.every("5m", f, { tz = "Europe/Paris" })"#,
            "every: unknown field 'tz'",
        ),
        (
            r#"pr.every("5m", f, { overlap = "skp" })"#,
            "every: overlap is one of \"skip\", \"queue\", \"allow\", not 'skp' (did you mean 'skip'?)",
        ),
        (
            r#"pr.every("5m", f, { missed = "al" })"#,
            "every: missed is one of \"skip\", \"once\", \"all\", not 'al' (did you mean 'all'?)",
        ),
        (
            r#"pr.every("5m", f, { timeout = 0 })"#,
            "every: timeout: no time at all lets nothing run",
        ),
        (
            r#"pr.every("5m", f, { retry = "2" })"#,
            "every: field 'retry' must be a number or a table, got a string",
        ),
        (
            r#"pr.every("5m", f, { retry = { backoff = "1m" } })"#,
            "every: retry.attempts says how often, and is missing",
        ),
        (
            r#"pr.every("5m", f, { retry = { atempts = 1 } })"#,
            "every: unknown field 'retry.atempts' (did you mean 'attempts'?)",
        ),
        (
            r#"pr.every("5m", f, { retry = 101 })"#,
            "every: field 'retry' must be a number up to 100",
        ),
        (
            r#"pr.every("5m", f, { on_error = "log" })"#,
            "every: field 'on_error' must be a function, got a string",
        ),
        (
            r#"pr.cron("0 8 * * mon-fri", f, { tz = "Europe/Pariss" })"#,
            "cron: tz: there is no time zone \"Europe/Pariss\" (did you mean \"Europe/Paris\"?)",
        ),
        (
            r#"pr.at("tomorrow", f)"#,
            "at: 'tomorrow' is no time: write \"2026-03-01T08:00:00Z\" or \"2026-03-01T08:00:00+01:00\"",
        ),
        (
            r#"pr.every("5m", f, { name = "one" })"#,
            "every: two schedules are called \"one\": script.lua:3 and script.lua:5",
        ),
    ];
    for (call, expected) in cases {
        let text = format!(
            "local pr = require 'postrider'\nlocal f = print\npr.every('1h', f, {{ name = 'one' }})\n\n{call}"
        );
        let ended = stage.run(&text).await.await.unwrap();
        let failure = ended.unwrap_err().failure;
        assert_eq!(stage.plain(&failure.message), expected, "{call}");
        assert_eq!(stage.plain(&failure.at.unwrap()), "script.lua:5", "{call}");
        assert!(stage.scheduler.list().is_empty(), "{call}");
    }
    let text = "local pr = require 'postrider'\npr.cron('0 25 * * *', print)";
    let failure = stage.run(text).await.await.unwrap().unwrap_err().failure;
    assert!(
        failure
            .message
            .starts_with("cron: cron expression \"0 25 * * *\": "),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_makes_timers_ends_at_the_limit() {
    let stage = Stage::new();
    let limits = Limits {
        timers: 3,
        ..Limits::default()
    };
    let draft = stage.scheduler.generation();
    stage.scheduler.install(&draft);
    *stage.host.draft.lock().unwrap() = Some(draft);
    let text = r#"
        local pr = require "postrider"
        -- Those that have fired do not count.
        for i = 1, 5 do pr.after("1s", print) pr.sleep "2s" end
        for i = 1, 3 do pr.after("1h", print) end
        print(select(2, pr.at(pr.time.now() + 60, print)).code)
        pr.after("1h", print)
    "#;
    let script = tokio::spawn(stage.script(text).limits(limits).run());
    stage.rest().await;
    stage.at("2026-03-02T06:00:30Z").await;

    let failure = script.await.unwrap().unwrap_err().failure;
    assert_eq!(failure.code, "script.timer_limit");
    assert_eq!(
        stage.plain(&failure.message),
        "script.lua has 3 timers to fire, which is its limit"
    );
    assert_eq!(stage.plain(&failure.at.unwrap()), "script.lua:7");
    assert!(stage.scheduler.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_a_script_waits_for_runs_under_way_and_lets_none_begin() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let text = r#"
        local pr = require "postrider"
        pr.every("1m", function() print "begins" pr.sleep "10s" print "ends" end)
        pr.every("65s", function() print "never" end)
        pr.on("token.refreshed", function() end)
    "#;
    let stopped = async move { drop(stopped.await) };
    let script = stage.run_until(text, stopped).await;
    stage.at("2026-03-02T06:01:02Z").await;
    stage.printed(&["begins"]);

    stop.send(()).unwrap();
    stage.rest().await;
    assert!(!script.is_finished());
    stage.at("2026-03-02T06:30:00Z").await;

    stage.printed(&["ends"]);
    script.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loaded_script_schedules_nothing_before_its_generation_is_in_force() {
    let stage = Stage::new();
    let draft = stage.scheduler.generation();
    *stage.host.draft.lock().unwrap() = Some(draft.clone());
    let text = r#"
        local pr = require "postrider"
        pr.every("1m", function() print "tick" end, { name = "minutely" })
        pr.after("30s", function() print "once" end)
    "#;
    let loaded: Loaded = stage.script(text).load().await.unwrap();
    let running = loaded.start();
    stage.at("2026-03-02T06:00:40Z").await;
    stage.printed(&[]);

    stage.scheduler.install(&draft);
    stage.rest().await;
    stage.printed(&["once"]);
    stage.at("2026-03-02T06:01:00Z").await;
    stage.printed(&["tick"]);

    // The next generation has the name, and keeps it when the old script goes.
    let next = stage.scheduler.generation();
    *stage.host.draft.lock().unwrap() = Some(next.clone());
    let successor = stage.script(text).load().await.unwrap().start();
    stage.scheduler.install(&next);
    running.stop(Duration::from_secs(1)).await;
    assert_eq!(stage.standing("minutely").runs, 1);
    stage.at("2026-03-02T06:02:00Z").await;
    stage.printed(&["once", "tick"]);

    drop(successor);
    stage.rest().await;
    assert!(stage.scheduler.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_script_that_ended_is_freed_with_what_it_scheduled() {
    let stage = Stage::new();
    let script = stage
        .run("local pr = require 'postrider' local t = {} pr.every('1m', function() t.x = t end, { name = 'n' })")
        .await;
    assert_eq!(stage.scheduler.list().len(), 1);

    script.abort();
    assert!(script.await.unwrap_err().is_cancelled());

    assert!(stage.scheduler.list().is_empty());
    // The state, and all it knew of the host, is gone.
    assert_eq!(Arc::strong_count(&stage.host), 1);
}

#[tokio::test]
async fn where_nothing_runs_schedules_a_script_is_told() {
    let run = run("local pr = require 'postrider'\npr.every('1m', print)").await;

    assert_eq!(run.error().failure.code, "schedule.unavailable");
    assert_eq!(
        run.failed(),
        ("nothing runs schedules here", "script.lua:2")
    );
}
