//! Scripts that wait, and do things at the same time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_lua::Limits;

use crate::host::{Hands, Host, run, run_within};

#[tokio::test(start_paused = true)]
async fn a_thousand_sends_go_at_once_and_answer_in_order() {
    let started = tokio::time::Instant::now();
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local sends = {}
        for i = 1, 1000 do
          sends[i] = function() return alerts:send { to = "a@example.org", subject = tostring(i) } end
        end
        local results = pr.join(sends)
        for i, result in ipairs(results) do assert(result[1].message_id == "<" .. i .. "@contoso.com>") end
        print(#results)
    "#)
    .await;

    assert_eq!(run.lines(), ["1000"]);
    assert_eq!(run.host.sent.lock().unwrap().len(), 1000);
    assert_eq!(run.host.most_sending.load(Ordering::SeqCst), 1000);
    assert_eq!(started.elapsed(), Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn join_keeps_each_functions_results() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local results = pr.join(
          function() pr.sleep "2s" return "slow", nil, 3 end,
          function() return alerts:send { from = "ceo@contoso.com", to = "a@example.org" } end,
          function() end)
        print(results[1].n, results[1][1], results[1][3])
        print(results[2].n, results[2][1], results[2][2].code)
        print(results[3].n, #pr.join {})
    "#)
    .await;

    assert_eq!(
        run.lines(),
        ["3\tslow\t3", "2\tnil\tsmtp.send_as_denied", "0\t0"]
    );
}

#[tokio::test(start_paused = true)]
async fn join_lets_all_end_before_it_raises() {
    let run = run(r#"
        local pr = require "postrider"
        local ended = 0
        print(pcall(pr.join, {
          function() pr.sleep "1s" ended = ended + 1 end,
          function() error "broken" end,
          function() error { message = "second" } end,
        }))
        print(ended)
    "#)
    .await;

    assert_eq!(run.lines(), ["false\tscript.lua:6: broken", "1"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_works_in_coroutines_protected_calls_and_callbacks() {
    let started = tokio::time::Instant::now();
    let run = run(r#"
        local pr = require "postrider"
        local function outer()
          local inner = coroutine.wrap(function()
            pr.sleep "1s"
            coroutine.yield("first")
            return pcall(function() pr.sleep "1s" return "second" end)
          end)
          coroutine.yield(inner())
          return inner()
        end
        local co = coroutine.create(outer)
        print(coroutine.resume(co))
        print(coroutine.status(co), coroutine.resume(co))
        print(coroutine.status(co), coroutine.resume(co))
        print(("a b"):gsub("%w", function(c) pr.sleep "1s" return c:upper() end))
        local t = setmetatable({}, { __index = function(_, k) pr.sleep "1s" return k end })
        print(t.x)
        for n in coroutine.wrap(function() for i = 1, 2 do pr.sleep "1s" coroutine.yield(i) end end) do print(n) end
        print(xpcall(function() pr.sleep "1s" error "e" end, function(e) return "handled " .. e end))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "true\tfirst",
            "suspended\ttrue\ttrue\tsecond",
            "dead\tfalse\tcannot resume dead coroutine",
            "A B\t2",
            "x",
            "1",
            "2",
            "false\thandled script.lua:20: e",
        ]
    );
    assert_eq!(started.elapsed(), Duration::from_secs(8));
}

#[tokio::test]
async fn a_busy_script_lets_other_tasks_run() {
    for busy in [
        "while not done() do end",
        "coroutine.wrap(function() while not done() do end end)()",
        "pcall(function() coroutine.wrap(function() pcall(function() while not done() do end end) end)() end)",
    ] {
        // One thread: the sleeper wakes up only because the loop makes room.
        let run = run(&format!(
            r#"
            local pr = require "postrider"
            local woken = false
            function done() return woken end
            pr.join(function() {busy} end, function() pr.sleep "1ms" woken = true end)
            print "both"
        "#
        ))
        .await;

        assert_eq!(run.lines(), ["both"], "{busy}");
    }
}

#[tokio::test]
async fn no_wake_up_is_lost_between_waiting_and_running() {
    // A pause at the wrong instruction would leave the script asleep for good: some thousand
    // pauses, in coroutines within coroutines, go through all of them.
    let run = run(r#"
        local pr = require "postrider"
        local stop = pr.time.now() + 2
        local function busy()
          while pr.time.now() < stop do
            for _ = 1, 1000 do end
          end
        end
        for _ = 1, 5 do
          local inner = busy
          busy = function() coroutine.wrap(inner)() end
        end
        pr.join(busy, busy)
        print "awake"
    "#);

    let run = tokio::time::timeout(Duration::from_secs(20), run)
        .await
        .unwrap();
    assert_eq!(run.lines(), ["awake"]);
}

#[tokio::test]
async fn being_made_to_wait_is_not_seen_by_coroutines() {
    // Long enough for many pauses, with values that a bogus yield would lose.
    let run = run(r"
        local function count(n) local sum = 0 for i = 1, n do sum = sum + i end return sum end
        local co = coroutine.create(function(a)
          local total = a
          for i = 1, 20 do total = total + count(200000) + (coroutine.yield(i) or 0) end
          return total
        end)
        local seen, ok, value = {}, nil, nil
        for i = 1, 20 do
          ok, value = coroutine.resume(co, 1)
          seen[#seen + 1] = value
        end
        ok, value = coroutine.resume(co)
        print(ok, value == 1 + 20 * count(200000) + 19, table.concat(seen, ' '))
    ")
    .await;

    assert_eq!(
        run.lines(),
        ["true\ttrue\t1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_ends_a_script_that_waits_and_its_sends() {
    let limits = Limits {
        wall: Some(Duration::from_millis(20)),
        ..Limits::default()
    };
    let run = run_within(
        r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        co = coroutine.create(function() alerts:send { to = "a@example.org" } end)
        pr.join(
          function() coroutine.resume(co) end,
          function() alerts:send { to = "b@example.org" } end)
    "#,
        limits,
    )
    .await;

    assert_eq!(
        run.failed(),
        ("the script took longer than its 20ms", "script.lua:7")
    );
    assert_eq!(run.error().exit_code(), 70);
    assert_eq!(run.host.most_sending.load(Ordering::SeqCst), 2);
    tokio::task::yield_now().await;
    assert_eq!(run.host.sending(), 0, "a send outlived its script");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_ends_the_script() {
    let host = Arc::new(Host::default());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script.lua");
    std::fs::write(
        &path,
        "require 'postrider'.account 'alerts':send { to = 'a@example.org' }",
    )
    .unwrap();
    let backend = Arc::new(Hands(Arc::clone(&host)));
    let run = postrider_lua::run(&path, &[], backend, Limits::default());

    tokio::time::timeout(Duration::from_millis(10), run)
        .await
        .unwrap_err();

    assert_eq!(host.most_sending.load(Ordering::SeqCst), 1);
    tokio::task::yield_now().await;
    assert_eq!(host.sending(), 0);
    assert_eq!(Arc::strong_count(&host), 1, "the state outlived its script");
}

#[tokio::test]
async fn a_message_that_only_some_got_answers_a_receipt_and_an_error() {
    let run = run(r#"
        local pr = require "postrider"
        local receipt, err = pr.account("alerts"):send {
          to = "a@contoso.com", cc = "nobody@contoso.com", subject = "s", text = "t",
        }
        print(receipt.message_id, err.code)
    "#)
    .await;

    assert_eq!(run.lines(), ["<s@contoso.com>\tsmtp.partial"]);
}

/// Sending takes 50 ms.
#[tokio::test(start_paused = true)]
async fn a_coroutine_that_is_closed_while_it_waits_gives_up_what_it_waits_for() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local co = coroutine.create(function() alerts:send { to = "a@example.org", subject = "x" } end)
        pr.join(
          function() print(coroutine.resume(co)) end,
          function()
            pr.sleep(0.01)
            print(coroutine.close(co))
            co = nil
            collectgarbage()
            pr.sleep "1s"
          end
        )
    "#)
    .await;

    let lines = run.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "true");
    assert!(lines[1].starts_with("false"), "{lines:?}");
    assert_eq!(run.host.sent.lock().unwrap().len(), 0);
    assert_eq!(run.host.sending(), 0);
}
