//! Scripts that are loaded first and live later, and the calls of one that others may make.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use postrider_lua::{
    HostEvent, Limits, Listener as _, Loaded, MessageHook as _, Script, ScriptError, SendRequest,
};
use serde_json::json;

use crate::host::{Hands, Host, run, run_beside, run_within};
use crate::logged::Log;

/// A folder with a script, the host it lives in, and what it printed.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) host: Arc<Host>,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Place {
    pub(crate) fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.lua"), script).unwrap();
        Self {
            folder,
            host: Arc::default(),
            printed: Arc::default(),
        }
    }

    pub(crate) async fn load(&self, limits: Limits) -> Result<Loaded, ScriptError> {
        let hands = Arc::new(Hands(Arc::clone(&self.host)));
        Script::new(self.script(), hands)
            .limits(limits)
            .output(Arc::<Mutex<Vec<u8>>>::clone(&self.printed) as Arc<Mutex<dyn Write + Send>>)
            .load()
            .await
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("script.lua")
    }

    /// Raises an event and waits until it is dealt with: whether it was heard.
    pub(crate) async fn tell(&self, name: &'static str) -> bool {
        let event = HostEvent::new(name, json!({ "account": "alerts" }));
        self.host.listeners.hear(event).await
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let printed = String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned();
        printed.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_loaded_script_is_live_before_it_is_started_nor_after_it_is_stopped() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function(event) print("heard", event.account) end)
        pr.on("message.before_send", function(message) message.subject = "changed" return message end)
        print "loaded"
    "#,
    );
    let loaded = place.load(Limits::default()).await.unwrap();
    assert_eq!(loaded.files(), [place.script()]);
    assert!(!place.tell("token.refreshed").await);
    assert_eq!(
        (place.host.listeners.count(), place.host.hooks.count()),
        (0, 0)
    );

    let running = loaded.start();
    assert!(place.tell("token.refreshed").await);
    assert_eq!(
        (place.host.listeners.count(), place.host.hooks.count()),
        (1, 1)
    );
    let usage = running.usage();
    assert_eq!((usage.calls, usage.errors), (1, 0));
    assert!(usage.memory_octets > 0 && usage.cpu > Duration::ZERO);

    running.stop(Duration::from_secs(1)).await;
    assert!(!place.tell("token.refreshed").await);
    assert_eq!(
        (place.host.listeners.count(), place.host.hooks.count()),
        (0, 0)
    );
    assert_eq!(place.lines(), ["loaded", "heard\talerts"]);
    assert_eq!(
        Arc::strong_count(&place.host),
        1,
        "the state outlived its script"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_generations_leave_nothing_behind() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pr.sleep(1) end)
        pr.on("message.before_send", function() end)
    "#,
    );
    let mut before: Option<postrider_lua::Running> = None;
    for _ in 0..100 {
        let loaded = place.load(Limits::default()).await.unwrap();
        let running = loaded.start();
        if let Some(before) = before.replace(running) {
            before.stop(Duration::from_secs(1)).await;
        }
        assert!(place.tell("token.refreshed").await);
        assert_eq!(
            (place.host.listeners.count(), place.host.hooks.count()),
            (1, 1)
        );
    }
    drop(before);
    tokio::task::yield_now().await;
    assert_eq!(
        (place.host.listeners.count(), place.host.hooks.count()),
        (0, 0)
    );
    assert_eq!(Arc::strong_count(&place.host), 1);
    assert_eq!(place.host.activity.busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_loading_ends_what_the_script_has_begun() {
    let place = Place::new(
        r#"require "postrider".account "alerts":send { to = "a@example.org", subject = "x" }"#,
    );
    let sending = async {
        while place.host.sending() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = place.load(Limits::default()) => panic!("it was to be given up"),
        () = sending => {}
    }

    // The clock stands while anybody is busy: the send cannot come to its end.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(place.host.sending(), 0);
    assert_eq!(Arc::strong_count(&place.host), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_calls_under_way_and_no_longer_than_it_may() {
    for (at_most, heard, took) in [(10, true, 5), (2, false, 2)] {
        let place = Place::new(
            r#"
            local pr = require "postrider"
            pr.on("token.refreshed", function() pr.sleep "5s" print "done" end)
        "#,
        );
        let running = place.load(Limits::default()).await.unwrap().start();
        let began = tokio::time::Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            running.stop(Duration::from_secs(at_most)).await;
        };

        let (was_heard, ()) = tokio::join!(place.tell("token.refreshed"), stop);

        assert_eq!(was_heard, heard);
        assert_eq!(began.elapsed().as_secs(), took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_that_cannot_be_loaded_says_why_and_what_was_read() {
    let place = Place::new("require 'broken'");
    let module = place.folder.path().join("broken.lua");
    std::fs::write(&module, "local x =").unwrap();

    let error = place.load(Limits::default()).await.map(drop).unwrap_err();

    assert!(
        error
            .failure
            .at
            .as_deref()
            .unwrap()
            .ends_with("broken.lua:1"),
        "{error}"
    );
    assert_eq!(error.files, [module, place.script()]);

    std::fs::write(place.script(), "require 'postrider'.sleep '1h'").unwrap();
    let error = place.load(Limits::default()).await.map(drop).unwrap_err();
    assert_eq!(error.failure.code, "script.time_limit");
    assert_eq!(error.failure.message, "the script took longer than its 60s");
}

#[tokio::test]
async fn a_script_has_a_thread_of_its_own_and_the_hosts_work_is_done_elsewhere() {
    /// Where it was written from.
    #[derive(Default)]
    struct Names(Vec<String>);

    impl Write for Names {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            let name = thread::current().name().unwrap_or_default().to_owned();
            self.0.push(name);
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("host")
        .enable_all()
        .build()
        .unwrap();
    let place = Place::new(
        r#"
        local pr = require "postrider"
        print "loads"
        pr.account "alerts":send { to = "a@example.org" }
        pr.on("token.refreshed", function() print "hears" end)
    "#,
    );
    let names = Arc::new(Mutex::new(Names::default()));
    let sent_on = {
        let (host, names, script) = (Arc::clone(&place.host), Arc::clone(&names), place.script());
        let task = runtime.spawn(async move {
            let hands = Arc::new(Hands(Arc::clone(&host)));
            let script = Script::new(script, hands).output(names as Arc<Mutex<dyn Write + Send>>);
            let running = script.load().await.unwrap().start();
            let event = HostEvent::new("token.refreshed", json!({}));
            assert!(host.listeners.hear(event).await);
            running.stop(Duration::from_secs(5)).await;
            host.sent_on.lock().unwrap().clone()
        });
        task.await.unwrap()
    };
    runtime.shutdown_background();

    assert_eq!(names.lock().unwrap().0, ["postrider-lua", "postrider-lua"]);
    assert_eq!(sent_on, ["host"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_over_its_budget_ends_alone_and_the_rest_of_the_script_goes_on() {
    let log = Log::start();
    let limits = Limits {
        cpu: Duration::from_millis(400),
        memory_octets: 24 << 20,
        ..Limits::default()
    };
    let run = run_within(
        r#"
        local pr = require "postrider"
        local told, how = 0, {
          function() while true do pcall(function() while true do end end) end end,
          function() local t = {} while true do t[#t + 1] = ("x"):rep(4000000) .. #t end end,
          function() pr.join(function() while true do end end, function() pr.sleep "1h" end) end,
          function()
            shared = coroutine.create(function()
              local x <close> = setmetatable({}, { __close = function() while true do end end })
              xpcall(error, function() while true do pcall(function() end) end end)
              while true do end
            end)
            coroutine.resume(shared)
          end,
          function() coroutine.close(shared) end,
          function() error(setmetatable({}, { __tostring = function() while true do end end })) end,
        }
        pr.on("app.run", function(event) how[event.i]() end)
        pr.on("app.run", function() told = told + 1 end)
        for i = 1, #how do
          pr.emit("app.run", { i = i })
          pr.sleep "1s"
        end
        print(told, collectgarbage "count" < 20000)
    "#,
        limits,
    )
    .await;

    assert_eq!(run.lines(), ["6\ttrue"]);
    let codes: Vec<_> = log
        .of_scripts()
        .iter()
        .map(|line| line["fields"]["code"].as_str().unwrap().to_owned())
        .collect();
    let (cpu, memory) = ("script.cpu_limit", "script.memory_limit");
    // What another call left behind can be closed, and does not end that one.
    assert_eq!(codes, [cpu, memory, cpu, cpu, "script.raised"]);
}

#[tokio::test(start_paused = true)]
async fn events_of_scripts_reach_all_handlers_and_chains_of_them_have_an_end() {
    let log = Log::start();
    let run = run(r#"
        local pr = require "postrider"
        local heard, last = 0, nil
        pr.on("app.round.again", function(event)
          heard = heard + 1
          local _, err = pr.emit("app.round.again", { turn = event.turn + 1 })
          last = err and err.code or last
        end)
        print(pr.emit("app.round.again", { turn = 1 }))
        print(heard)
        pr.sleep "1s"
        print(heard, last)
        print(pcall(pr.emit, "round", {}))
        print(pcall(pr.emit, "app.Round"))
        print(pcall(pr.emit, "app.x", { 1, 2 }))
        print(pcall(pr.emit, "app.x", { f = print }))
        print(pcall(pr.emit, "app.x", { s = ("x"):rep(2 << 20) }))
        print(pcall(pr.on, "app.", print))
    "#)
    .await;

    let lines = run.lines();
    assert_eq!(
        lines[..3],
        ["true", "0", "16\tevent.chain_limit"],
        "{lines:?}"
    );
    let own = "is no name for an event of a script";
    for (line, part) in lines[3..].iter().zip([
        own,
        own,
        "the payload has named fields",
        "value.f is a function",
        "octets long as JSON",
        own,
    ]) {
        assert!(
            line.starts_with("false\tscript.lua:") && line.contains(part),
            "{line}"
        );
    }
    let logged = log.of_scripts();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0]["fields"]["event"], "app.round.again");
}

/// A hook that raises an event, and a handler of it that sends.
#[tokio::test(start_paused = true)]
async fn a_chain_that_leads_through_messages_has_an_end_too() {
    let log = Log::start();
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        pr.on("app.sent", function(event) alerts:send { to = "a@example.org", subject = "again" } end)
        pr.on("message.before_send", function(message) pr.emit "app.sent" return message end)
        pr.on("message.before_send", function() pr.emit "app.noted" end)
        alerts:send { to = "a@example.org", subject = "first" }
        pr.sleep "1h"
    "#)
    .await;

    run.lines();
    assert_eq!(run.host.sent.lock().unwrap().len(), 17);
    assert_eq!(log.of_scripts().len(), 2, "one for either event");
}

#[tokio::test(start_paused = true)]
async fn a_hook_whose_message_was_given_up_while_it_waited_does_not_run() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("message.before_send", function(message)
          print(message.subject)
          pr.sleep "10s"
        end)
    "#,
    );
    let limits = Limits {
        calls: 1,
        ..Limits::default()
    };
    let running = place.load(limits).await.unwrap().start();
    let ask = |subject: &str| {
        let message = SendRequest {
            subject: Some(subject.to_owned()),
            ..SendRequest::default()
        };
        place.host.hooks.before_send("alerts", message)
    };
    let first = ask("first");
    let given_up = tokio::time::timeout(Duration::from_secs(1), ask("given up"));
    let third = ask("third");

    let (first, given_up, third) = tokio::join!(first, given_up, third);

    assert!(first.is_ok() && given_up.is_err() && third.is_ok());
    assert_eq!(place.lines(), ["first", "third"]);
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn however_many_events_wait_a_message_finds_its_hook() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pr.sleep "1s" end)
        pr.on("message.before_send", function() end)
    "#,
    );
    let limits = Limits {
        calls: 1,
        ..Limits::default()
    };
    let running = place.load(limits).await.unwrap().start();
    let mut flood = std::pin::pin!(join_all((0..200).map(|_| place.tell("token.refreshed"))));
    assert!((&mut flood).now_or_never().is_none());

    let asked = place
        .host
        .hooks
        .before_send("alerts", SendRequest::default());

    assert!(asked.await.is_ok());
    let heard = flood.await.into_iter().filter(|heard| *heard).count();
    assert_eq!(heard, 100, "as many as may wait");
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn handlers_are_registered_while_the_script_loads_and_not_later() {
    let run = run(r#"
        local pr = require "postrider"
        pr.on("app.x", function() print(pcall(pr.on, "app.y", print)) end)
        pr.emit "app.x"
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "false\tscript.lua:3: on: only while the script loads, from its own top level; a handler stays for as long as the script is live"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn hooks_change_refuse_or_fail_a_message_one_after_the_other() {
    let log = Log::start();
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local function send(subject)
          local receipt, err = alerts:send {
            to = "a@example.org", subject = subject, priority = "high", headers = { ["X-A"] = { "1", "2" } },
            attach = { { data = "octets", name = "a.bin" }, "b.txt" },
          }
          if receipt then print(receipt.message_id) else print(err.code, err.message, err.place, err.retryable) end
        end
        pr.on("message.before_send", function(message)
          if message.subject == "as it is" then return end
          if message.subject == "no" then return false, "not on a Sunday" end
          if message.subject == "boom" then error "broken" end
          if message.subject == "typo" then message.subjct = "x" return message end
          if message.subject == "odd" then return 42 end
          if message.subject == "slow" then pr.sleep "1h" end
          if message.subject == "sends" then assert(pr.account "alerts":send { to = "b@example.org", subject = "no" }) end
          message.subject = message.subject .. " via " .. message.account
          return message
        end)
        pr.on("message.before_send", function(message)
          if message.subject:find " via " then message.subject = message.subject .. ", twice" return message end
        end)
        for _, subject in ipairs { "as it is", "x", "no", "boom", "typo", "odd", "slow", "sends" } do send(subject) end
    "#)
    .await;

    let failed = "hook.failed\ta hook failed, so the message is not sent: ";
    let lines: Vec<String> = run.lines().iter().map(|&line| line.to_owned()).collect();
    assert_eq!(
        lines,
        [
            "<as it is@contoso.com>".to_owned(),
            "<x via alerts, twice@contoso.com>".to_owned(),
            "hook.refused\ta script refused the message: not on a Sunday\tscript.lua:11\tfalse"
                .to_owned(),
            format!("{failed}broken\tscript.lua:14\ttrue"),
            format!(
                "{failed}unknown field 'subjct' (did you mean 'subject'?)\tscript.lua:11\ttrue"
            ),
            format!(
                "{failed}a hook of message.before_send returns nothing, the message, or false and a reason, not a number\tscript.lua:11\ttrue"
            ),
            format!(
                "{failed}the hook message.before_send took longer than its 30s\tscript.lua:17\ttrue"
            ),
            "<sends via alerts, twice@contoso.com>".to_owned(),
        ]
    );
    let sent = run.host.sent.lock().unwrap();
    assert_eq!(sent[1].headers.len(), 2);
    assert_eq!(sent[1].attach.len(), 2);
    assert_eq!(sent[0].attach, sent[1].attach);
    assert_eq!(log.of_scripts().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn modules_may_wait_and_tasks_wait_for_each_others_modules() {
    let run = run_beside(
        &[
            (
                "slow.lua",
                "loads = (loads or 0) + 1 require 'postrider'.sleep '1s' return { name = 'slow' }",
            ),
            ("circle.lua", "local c = require 'circle' return c"),
        ],
        r#"
        local pr = require "postrider"
        local results = pr.join(
          function() return require "slow".name end,
          function() return require "slow".name end,
          function() return coroutine.wrap(function() return require "slow".name end)() end)
        for _, result in ipairs(results) do print(result[1]) end
        print(loads, pcall(require, "circle"))
    "#,
        Limits::default(),
    )
    .await;

    assert_eq!(
        run.lines(),
        [
            "slow",
            "slow",
            "slow",
            "1\tfalse\tcircle.lua:1: require: module 'circle' is being loaded: it requires itself",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn comparators_and_metamethods_may_wait() {
    let run = run(r#"
        local pr = require "postrider"
        local t = { 3, 1, 2 }
        table.sort(t, function(a, b) pr.sleep(1) return a < b end)
        print(table.concat(t, " "))
        local slow = setmetatable({}, { __tostring = function() pr.sleep(1) return "text" end })
        print(slow, ("%s!"):format(slow))
        local list = setmetatable({}, {
          __len = function() return 3 end,
          __index = function(_, k) pr.sleep(1) if k <= 3 then return k end end,
        })
        print(table.concat(list, ","), table.unpack(list))
        for i, v in ipairs(list) do io = (io or "") .. i .. v end
        print(io)
    "#)
    .await;

    assert_eq!(
        run.lines(),
        ["1 2 3", "text\ttext!", "1,2,3\t1\t2\t3", "112233"]
    );
}

#[tokio::test]
async fn it_is_known_when_everything_waits_for_the_clock() {
    use futures_util::FutureExt as _;
    use postrider_schedule::ManualClock;

    let clock = ManualClock::new("2026-03-02T07:00:00Z".parse().unwrap());
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function()
          pr.join(function() pr.sleep "1h" end, function() pr.sleep "2h" end)
          print(pr.time.format(pr.time.now()))
        end)
    "#,
    );
    *place.host.clock.lock().unwrap() = Some(clock.clone());
    let running = place.load(Limits::default()).await.unwrap().start();
    let mut told = Box::pin(place.tell("token.refreshed"));
    assert!((&mut told).now_or_never().is_none());

    for hours in [1, 2] {
        tokio::select! {
            biased;
            () = place.host.activity.quiet(&clock) => {}
            _ = &mut told => panic!("it did not wait"),
        }
        assert_eq!(place.lines(), Vec::<String>::new());
        let wake = clock.next_wake().unwrap();
        assert_eq!(
            wake.to_string(),
            format!("2026-03-02T0{}:00:00Z", 7 + hours)
        );
        clock.set(wake);
    }
    assert!(told.await);
    assert_eq!(place.lines(), ["2026-03-02T09:00:00Z"]);
    place.host.activity.quiet(&clock).await;
    running.stop(Duration::from_secs(1)).await;
}
