//! Each limit ends what exceeds it, with its own error, and the host lives.

use std::time::Duration;

use postrider_lua::Limits;

use crate::host::{run, run_within};

fn quick() -> Limits {
    Limits {
        cpu: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[test]
fn what_holds_where_nothing_is_set_is_what_the_reference_says() {
    let usual = Limits::default();
    let none = |wall: Option<Duration>| wall.map_or("none".to_owned(), |wall| format!("{wall:?}"));
    let (mebioctets, cpu) = (usual.memory_octets >> 20, usual.cpu.as_secs());
    let (wall, load) = (none(usual.wall), usual.load_timeout.as_secs());
    let (calls, timers) = (usual.calls, usual.timers);
    let reference = postrider_config::reference();
    let book = include_str!("../../../../docs/src/scripting.md");
    let (_, book) = book.split_once("## Limits").unwrap();
    for (key, default, in_the_book) in [
        (
            "memory",
            format!("{mebioctets}MiB"),
            format!("{mebioctets} MiB"),
        ),
        ("cpu", format!("{cpu}s"), format!("{cpu} s")),
        ("timeout", wall.clone(), wall),
        ("calls", calls.to_string(), calls.to_string()),
        ("timers", timers.to_string(), timers.to_string()),
        ("load_timeout", format!("{load}s"), format!("{load} s")),
    ] {
        let name = format!("scripts.limits.{key}");
        let known = reference.iter().find(|known| known.key == name).unwrap();
        let default = format!(" Default: {default}.");
        assert!(known.doc.ends_with(&default), "{key}: {}", known.doc);

        let name = format!("| `{key}`");
        let row = book.lines().find(|line| line.starts_with(&name)).unwrap();
        assert!(row.ends_with(&format!("| {in_the_book} |")), "{row}");
    }
}

#[tokio::test]
async fn no_loop_outlives_the_cpu_limit() {
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do pcall(function() while true do end end) end end) co()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "local function f() local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end end while true do pcall(f) end",
        "local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end end) while true do coroutine.resume(co) coroutine.close(co) end",
        "local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() while true do end end }) coroutine.yield() end) coroutine.resume(co) while true do coroutine.close(co) end",
        "table.sort({ 1, 2, 3 }, function() while true do end end)",
        "while true do table.sort({ 1, 2, 3 }, function() pcall(function() while true do end end) end) end",
        "('x'):gsub('x', function() while true do end end)",
        "local t = setmetatable({}, { __index = function() while true do end end }) local _ = t.x",
        "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
        "error(setmetatable({}, { __tostring = function() while true do end end }))\nwhile true do end",
        "while true do load('while true do end')() end",
        "require('postrider').join(function() while true do pcall(function() while true do end end) end end, function() while true do end end)",
        "local s = ('x'):rep(100) while true do pcall(string.find, s, 'x*x*y') end",
        "local t = {} for i = 1, 100000 do t[i] = i end while true do pcall(table.concat, t) end",
    ] {
        let run = run_within(script, quick()).await;

        let failure = &run.error().failure;
        if script.starts_with("error") {
            assert_eq!(failure.code, "script.raised");
            continue;
        }
        assert_eq!(failure.code, "script.cpu_limit", "{script}: {failure:?}");
        assert_eq!(
            run.failed(),
            ("the script ran Lua for more than its 100ms", "script.lua:1"),
            "{script}"
        );
        assert_eq!(run.error().exit_code(), 70);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_does_not_count_as_running() {
    let run = run_within("require 'postrider'.sleep '2h' print 'rested'", quick()).await;

    assert_eq!(run.lines(), ["rested"]);
}

#[tokio::test]
async fn memory_has_an_end_that_names_its_line() {
    let limits = Limits {
        memory_octets: 16 << 20,
        ..Limits::default()
    };
    for script in [
        "\nlocal t = {} while true do t[#t + 1] = {} end",
        "\nlocal s = 'x' while true do s = s .. s end",
        "\nlocal t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
        "\ncoroutine.wrap(function() local s = 'x' while true do s = s .. s end end)()",
        "\nlocal t = {} while true do t[#t + 1] = require('postrider').json.array() end",
    ] {
        let run = run_within(script, limits.clone()).await;

        assert_eq!(
            run.failed(),
            (
                "the script needs more than its 16 MiB of memory",
                "script.lua:2"
            ),
            "{script}"
        );
        assert_eq!(run.error().failure.code, "script.memory_limit");
        assert_eq!(run.error().exit_code(), 70);
    }
}

/// The text unfolds to far more than it is: each list of two octets is a table. What is wrong
/// at its end is never reached.
#[tokio::test]
async fn memory_has_an_end_while_json_is_read() {
    let limits = Limits {
        memory_octets: 16 << 20,
        ..Limits::default()
    };
    let run = run_within(
        r#"local pr = require "postrider"
print(pr.json.decode("[" .. ("[],"):rep(1000000) .. "oops"))"#,
        limits,
    )
    .await;

    assert_eq!(run.error().failure.code, "script.memory_limit");
    assert_eq!(run.failed().1, "script.lua:2");
}

/// A long text is there once for Lua, and once more for each message that it is attached to.
#[tokio::test(start_paused = true)]
async fn what_messages_hold_outside_of_lua_is_bounded_as_well() {
    let limits = Limits {
        memory_octets: 16 << 20,
        ..Limits::default()
    };
    let run = run_within(
        r#"local pr = require "postrider"
        local alerts, data = pr.account "alerts", ("x"):rep(1 << 20)
        local sends = {}
        for i = 1, 50 do
          sends[i] = function()
            assert(alerts:send { to = "a@example.org", subject = "x", attach = { { data = data, name = "a" } } })
          end
        end
        pr.join(sends)
        print((select(2, pcall(alerts.send, alerts, { to = 1, text = data }))))"#,
        limits,
    )
    .await;

    assert_eq!(
        run.lines(),
        [
            "script.lua:10: account:send: field 'to' must be a string or a list of strings, got a number"
        ]
    );
    assert_eq!(run.host.sent.lock().unwrap().len(), 50);
    let most = run
        .host
        .most_sending
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at a time");
}

#[tokio::test]
async fn lists_without_end_are_refused_where_they_are_given() {
    let limits = Limits {
        memory_octets: 1 << 30,
        ..Limits::default()
    };
    let run = run_within(
        r#"local pr = require "postrider"
        local function refused(f, t) print((select(2, pcall(f, t)):gsub("^[^ ]* ", ""))) end
        local t, list, names = { 1 }, {}, {}
        for i = 1, 1000001 do list[i], names["k" .. i] = t, t end
        refused(pr.csv.encode, list)
        refused(pr.join, list)
        refused(pr.json.encode, names)
        refused(pr.json.encode, ("\0"):rep(11 << 20))"#,
        limits,
    )
    .await;

    assert_eq!(
        run.lines(),
        [
            "csv.encode: there are more than 500000 rows",
            "join: there are more than 100000 functions",
            "json.encode: value has more than 1000000 values",
            "json.encode: the text would be longer than 67108864 octets",
        ]
    );
}

#[tokio::test]
async fn a_script_may_survive_its_own_excess() {
    let limits = Limits {
        memory_octets: 128 << 20,
        ..Limits::default()
    };
    let run = run_within(
        r#"
        print(pcall(function() local s = "x" while true do s = s .. s end end))
        print(pcall(function() local function f() return 1 + f() end return f() end))
        print(pcall(string.rep, "x", 1e12))
        print(pcall(string.rep, "", 1e18))
        print(pcall(table.move, {}, 1, math.maxinteger - 1, 2))
        print(pcall(table.concat, setmetatable({}, { __index = table.concat }), "", 1, 1e18))
        print(pcall(table.insert, setmetatable({}, { __len = function() return 1 << 60 end }), 1, "x"))
        print(pcall(string.find, ("a"):rep(200), ("a*"):rep(20) .. "b"))
        print "alive"
    "#,
        limits,
    )
    .await;

    let lines = run.lines();
    assert_eq!(lines[0], "false\tnot enough memory");
    assert!(
        lines[1].starts_with("false\tscript.lua:3: stack overflow"),
        "{}",
        lines[1]
    );
    let too_long = "script.lua:LINE: string.rep: the result would be longer than 33554432 octets";
    assert_eq!(
        lines[lines.len() - 7],
        format!("false\t{}", too_long.replace("LINE", "4"))
    );
    assert_eq!(
        lines[lines.len() - 6],
        format!("false\t{}", too_long.replace("LINE", "5"))
    );
    assert_eq!(
        lines[lines.len() - 5],
        "false\tscript.lua:6: table.move: more than 10000000 items"
    );
    assert_eq!(
        lines[lines.len() - 4],
        "false\tscript.lua:7: table.concat: more than 10000000 items"
    );
    assert_eq!(
        lines[lines.len() - 3],
        "false\tscript.lua:8: table.insert: the table claims more than 10000000 items"
    );
    assert!(
        lines[lines.len() - 2].starts_with(
            "false\tscript.lua:9: string.find: the match takes more than 5000000 steps"
        ),
        "{}",
        lines[lines.len() - 2]
    );
    assert_eq!(lines[lines.len() - 1], "alive");
}

#[tokio::test]
async fn recursion_has_an_end() {
    let run = run("local function f()\n  return 1 + f()\nend\nf()").await;

    assert_eq!(
        run.failed(),
        ("calls nest too deep (stack overflow)", "script.lua:2")
    );
    assert_eq!(run.error().failure.code, "script.stack_limit");

    for script in [
        "local function f() return pcall(f) end print(f())",
        "local function f() local co = coroutine.wrap(f) co() end f()",
        "local function f() local t = setmetatable({}, { __index = f }) return t.x end f()",
        "local pr = require 'postrider' local function f() pr.join(f) end f()",
        "local function f(s) return (s:gsub('.', f)) end f('x')",
        "local t = {} for i = 1, 1e5 do t = { t } end print(pcall(require('postrider').json.encode, t))",
        "print(load(('('):rep(1e5)))",
        "print(pcall(string.find, 'x', ('('):rep(300)))",
    ] {
        // It ends, one way or the other.
        let _ = crate::host::run(script).await.ended;
    }
}

#[tokio::test]
async fn depth_and_memory_have_one_error_each_however_they_are_used_up() {
    for (script, code) in [
        (
            "local t = setmetatable({}, {})
             getmetatable(t).__index = function(t, k) return t[k + 1] end
             print(t[1])",
            "script.stack_limit",
        ),
        (
            "local function f(s) return (string.gsub(s, '.', f)) end f 'abc'",
            "script.stack_limit",
        ),
        (
            "local t = {} while true do t[#t + 1] = string.rep('x', 1e6) .. #t end",
            "script.memory_limit",
        ),
    ] {
        let run = run(script).await;
        let error = run.error();
        assert_eq!(error.failure.code, code, "{error}");
        assert_eq!(error.exit_code(), 70, "{error}");
        assert!(error.trace.len() < 8, "{error}");
    }
}
