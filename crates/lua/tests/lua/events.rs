//! What happens in the host, and the handlers of scripts.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_lua::{HostEvent, Limits};
use serde_json::json;

use crate::host::{Run, run, run_within};
use crate::logged::Log;

/// Whether each event was heard.
#[track_caller]
fn heard(run: &Run, expected: &[bool]) {
    assert_eq!(*run.host.heard.lock().unwrap(), expected, "{}", run.printed);
}

#[tokio::test(start_paused = true)]
async fn handlers_begin_in_order_each_as_a_task_with_a_table_of_its_own() {
    let started = tokio::time::Instant::now();
    let run = run(r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function(event)
          print("first", event.account, event.generation, event.gone)
          event.account = "changed"
          pr.sleep "1s"
          print "first ends"
        end)
        pr.on("token.refreshed", function(event) print("second", event.account) end)
        pr.on("secret.expiring", function() print "never" end)
        pr.account "alerts":rotate()
        print "script ends"
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "script ends",
            "first\talerts\t2\tnil",
            "second\talerts",
            "first ends"
        ]
    );
    heard(&run, &[true]);
    assert_eq!(started.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn handlers_run_while_the_script_goes_on() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        pr.on("token.refreshed", function(event)
          assert(alerts:send { to = "a@example.org", subject = event.account })
          pr.join(function() pr.sleep "1s" end)
          print "told"
        end)
        alerts:rotate()
        pr.sleep "2s"
        print "script ends"
    "#)
    .await;

    assert_eq!(run.lines(), ["told", "script ends"]);
    assert_eq!(
        run.host.sent.lock().unwrap()[0].subject.as_deref(),
        Some("alerts")
    );
    heard(&run, &[true]);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_raises_is_logged_with_its_line_and_counted_and_ends_nothing_else() {
    let log = Log::start();
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local broken = pr.on("token.refreshed", function(event)
          error("no answer for " .. event.account)
        end)
        alerts:rotate()
        pr.sleep(1)
        alerts:rotate()
        pr.sleep(1)
        pr.on("token.refreshed", function() print "told" end)
        alerts:rotate()
        pr.sleep(1)
        broken:off()
        pr.on("token.refreshed", function() assert(alerts:send { to = "a@example.org", from = "ceo@contoso.com" }) end)
        alerts:rotate()
    "#)
    .await;

    assert_eq!(run.lines(), ["told", "told"]);
    // Heard means that at least one handler ran to its end.
    heard(&run, &[false, false, true, true]);
    let logged = log.of_scripts();
    let errors: Vec<_> = logged
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            let at = fields["at"].as_str().unwrap();
            (
                line["level"].as_str().unwrap(),
                at.split('/').next_back().unwrap(),
                fields["event"].as_str().unwrap(),
                fields["errors"].as_u64().unwrap(),
                fields["message"].as_str().unwrap(),
            )
        })
        .collect();
    let broken = |count| {
        let message = "a handler failed: no answer for alerts";
        ("ERROR", "script.lua:5", "token.refreshed", count, message)
    };
    assert_eq!(errors[..3], [broken(1), broken(2), broken(3)]);
    assert_eq!(errors.len(), 4);
    assert_eq!(errors[3].3, 1, "each handler counts its own");
    assert_eq!(logged[0]["fields"]["code"], "script.raised");
    assert_eq!(logged[3]["fields"]["code"], "smtp.send_as_denied");
    assert_eq!(logged[3]["fields"]["remedy"], "grant Send As");
    assert!(errors[3].1.starts_with("script.lua:15"), "{:?}", errors[3]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_taken_away_hears_no_more_but_ends_what_it_began() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local handler
        handler = pr.on("token.refreshed", function()
          print(handler)
          handler:off()
          handler:off()
          pr.sleep "1s"
          print "ends"
        end)
        alerts:rotate()
        pr.sleep "1ms"
        alerts:rotate()
        print(pcall(function() return handler.of end))
        print(pcall(handler.off))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "handler of token.refreshed",
            "false\tscript.lua:15: a handler has no 'of' (did you mean 'off'?)",
            "false\tscript.lua:16: handler:off: call it with a colon, as in `handle:off(…)`",
            "ends",
        ]
    );
    run.host.settled().await;
    heard(&run, &[true, false]);
}

#[tokio::test]
async fn only_events_that_exist_can_be_waited_for() {
    let run = run(r#"
        local pr = require "postrider"
        print(pcall(pr.on, "token.refreshd", print))
        print(pcall(pr.on, "boom", print))
        print(pcall(pr.on, "token.refreshed"))
        print(pcall(pr.on, "token.refreshed", print, 1))
        for _ = 1, 1000 do pr.on("token.refreshed", print) end
        print(pcall(pr.on, "token.refreshed", print))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "false\tscript.lua:3: on: there is no event 'token.refreshd' (did you mean 'token.refreshed'?)",
            "false\tscript.lua:4: on: there is no event 'boom'",
            "false\tscript.lua:5: on: argument 2 (handler) must be a function, got nil",
            "false\tscript.lua:6: on: takes 2 arguments, got 3",
            "false\tscript.lua:8: on: a script has at most 1000 handlers: is it called in a loop?",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_script_with_nothing_to_hear_ends() {
    let started = tokio::time::Instant::now();
    let run =
        run(r#"require "postrider".on("secret.expiring", function() print "never" end)"#).await;

    assert!(run.lines().is_empty());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_half_a_minute_for_handlers_and_then_says_so() {
    let log = Log::start();
    let started = tokio::time::Instant::now();
    let run = run(r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pr.sleep "1h" end)
        pr.account "alerts":rotate()
        print "script ends"
    "#)
    .await;

    assert_eq!(run.lines(), ["script ends"]);
    assert_eq!(started.elapsed(), Duration::from_secs(30));
    run.host.settled().await;
    heard(&run, &[false]);
    let logged = log.of_scripts();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0]["level"], "WARN");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_stopped_and_has_heard_nothing() {
    let log = Log::start();
    let run = run(r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pr.sleep "1h" print "never" end)
        local alerts = pr.account "alerts"
        for _ = 1, 64 do alerts:rotate() end
        pr.sleep "1s"
        pr.on("token.refreshed", function() print "told" end)
        alerts:rotate()
        pr.sleep "21m"
    "#)
    .await;

    // The 64 that hang leave their places to whoever waits.
    assert_eq!(run.lines(), ["told"]);
    let mut expected = vec![false; 64];
    expected.push(true);
    heard(&run, &expected);
    let logged = log.of_scripts();
    assert_eq!(logged.len(), 65, "{logged:?}");
    assert_eq!(logged[0]["fields"]["code"], "script.time_limit");
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_to_listen_is_told_what_nobody_heard() {
    let run = run(r#"
        local pr = require "postrider"
        pr.on("token.reauthorization_required", print)
        pr.on("secret.expiring", print)
        pcall(pr.on, "boom", print)
    "#)
    .await;

    assert!(run.lines().is_empty());
    assert_eq!(run.host.reminders.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_scripts_limits_hold_for_each_handler_alone() {
    let log = Log::start();
    let limits = Limits {
        wall: Some(Duration::from_secs(5)),
        ..Limits::default()
    };
    let run = run_within(
        r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pr.sleep "1h" end)
        pr.account "alerts":rotate()
    "#,
        limits,
    )
    .await;

    assert!(run.lines().is_empty());
    run.host.settled().await;
    heard(&run, &[false]);
    let stopped = |lines: &[serde_json::Value]| {
        let fields = &lines[0]["fields"];
        let at = fields["at"].as_str().unwrap();
        (
            fields["code"].as_str().unwrap().to_owned(),
            fields["message"].as_str().unwrap().to_owned(),
            at.split('/').next_back().unwrap().to_owned(),
        )
    };
    assert_eq!(
        stopped(&log.of_scripts()),
        (
            "script.time_limit".to_owned(),
            "a handler failed: the handler of token.refreshed took longer than its 5s".to_owned(),
            "script.lua:3".to_owned()
        )
    );

    let log = Log::start();
    let limits = Limits {
        cpu: Duration::from_millis(50),
        ..Limits::default()
    };
    let run = run_within(
        r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pcall(function() while true do end end) end)
        pr.account "alerts":rotate()
    "#,
        limits,
    )
    .await;

    assert!(run.lines().is_empty());
    assert_eq!(
        stopped(&log.of_scripts()),
        (
            "script.cpu_limit".to_owned(),
            "a handler failed: the handler of token.refreshed ran Lua for more than its 50ms"
                .to_owned(),
            "script.lua:3".to_owned()
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_script_that_fails_still_tells_what_happened() {
    let run = run(r#"
        local pr = require "postrider"
        pr.on("token.refreshed", function() pr.sleep "1s" print "told" end)
        pr.account "alerts":rotate()
        error "and then"
    "#)
    .await;

    assert_eq!(run.failed(), ("and then", "script.lua:5"));
    assert_eq!(run.printed, "told\n");
    heard(&run, &[true]);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_once_the_script_has_ended() {
    let run = run(r#"require "postrider".on("secret.expiring", print)"#).await;
    assert!(run.lines().is_empty());

    run.host.raise(HostEvent::new("secret.expiring", json!({})));
    run.host.settled().await;

    heard(&run, &[false]);
}

#[tokio::test(start_paused = true)]
async fn many_events_at_once_take_turns() {
    let started = tokio::time::Instant::now();
    let run = run(r#"
        local pr = require "postrider"
        local alerts, now, most, all = pr.account "alerts", 0, 0, 0
        pr.on("token.refreshed", function()
          now, all = now + 1, all + 1
          most = math.max(most, now)
          pr.sleep "1s"
          now = now - 1
          if all == 200 and now == 0 then print(all, most) end
        end)
        for _ = 1, 200 do alerts:rotate() end
    "#)
    .await;

    assert_eq!(run.lines(), ["200\t64"]);
    heard(&run, &[true; 200]);
    assert_eq!(started.elapsed(), Duration::from_secs(4));
}
