//! Lua's library as a script finds it: nothing that reaches the system, nothing that hangs.

use postrider_lua::Limits;

use crate::host::{run, run_beside};

#[tokio::test]
async fn nothing_reaches_the_system() {
    let run = run(r#"
        for _, name in ipairs { "io", "package", "dofile", "loadfile", "warn" } do print(name, _G[name]) end
        print(os.execute, os.exit, os.remove, os.rename, os.tmpname, os.getenv, os.setlocale)
        print(string.dump, debug.getinfo, debug.sethook, debug.getregistry, debug.setmetatable)
        print(load("\27Lua"))
        print(load(string.char(27) .. "Lua", "x", "b"))
        print(load("return 1 +"))
        print(load("return x", "c", "t", { x = 7 })(), load("return type(pcall)")())
        print(pcall(load, function() end))
        print(pcall(setmetatable, {}, { __gc = print }))
        print(getmetatable("").__index == string)
    "#)
    .await;

    let nothing = "nil\tnil\tnil\tnil\tnil";
    assert_eq!(
        run.lines(),
        [
            "io\tnil",
            "package\tnil",
            "dofile\tnil",
            "loadfile\tnil",
            "warn\tnil",
            &format!("{nothing}\tnil\tnil"),
            nothing,
            "nil\tattempt to load a binary chunk (mode is 't')",
            "nil\tattempt to load a binary chunk (mode is 't')",
            "nil\t[string \"return 1 +\"]:1: unexpected symbol near <eof>",
            "7\tfunction",
            "false\tscript.lua:9: load: argument 1 must be a string, got function",
            "false\tscript.lua:10: setmetatable: '__gc' is not available; use a <close> variable",
            "true",
        ]
    );
}

#[tokio::test]
async fn string_functions_answer_as_luas_own() {
    let run = run(r##"
        local function show(...) print(select("#", ...), ...) end
        show(("hello world"):find("o w"))
        show(("hello"):find("xyz"))
        show(("a.b"):find(".", 1, true))
        show(("hello"):find("", 10))
        show(("hello"):find("", 6))
        show(("hello"):find("l", -2))
        show(("key=val"):find("(%w+)=(%w+)"))
        show(("THE (quick) fox"):find("%((%a+)%)"))
        show(string.find(123, 2))
        show(("2026-03-01"):match("^(%d+)-(%d+)-(%d+)$"))
        show(("  x "):match("^%s*(.-)%s*$"))
        show(("abc"):match("()b()"))
        show(("abc"):match("b", 3))
        for k, v in ("a=1, b=2"):gmatch("(%w+)=(%w+)") do show(k, v) end
        local out = {}
        for p in ("abc"):gmatch("()") do out[#out + 1] = p end
        for w in ("one two ^x"):gmatch("^?%a+", 5) do out[#out + 1] = w end
        show(table.concat(out, " "))
        show(("abc"):gsub("%w*", "x"))
        show(("hello world"):gsub("o", "0", 1))
        show(("abc"):gsub("", "-"))
        show(("hello"):gsub("(h)(e)", "%2%1%0%%"))
        show(("$a $b"):gsub("%$(%w+)", { a = "1" }))
        show(("abc"):gsub("%w", function(c) if c == "b" then return "B" end end))
        show(("x"):gsub("x", "%1"))
        show(("a,b,,c"):gsub(",", ";"))
        show(("^a^"):gsub("^%^", "x"))
        show(("aaa"):gsub("^a", "b"))
        show(("ab"):gsub("()", "%1"))
        show(string.rep(123, 2, "-"), ("x"):rep(0))
        show(("ab"):rep(3, "|"), ("héllo"):upper(), ("%d"):format(3))
    "##)
    .await;

    assert_eq!(
        run.lines(),
        [
            "2\t5\t7",
            "1\tnil",
            "2\t2\t2",
            "1\tnil",
            "2\t6\t5",
            "2\t4\t4",
            "4\t1\t7\tkey\tval",
            "3\t5\t11\tquick",
            "2\t2\t2",
            "3\t2026\t03\t01",
            "1\tx",
            "2\t2\t3",
            "1\tnil",
            "2\ta\t1",
            "2\tb\t2",
            "1\t1 2 3 4 two ^x",
            "2\tx\t1",
            "2\thell0 world\t1",
            "2\t-a-b-c-\t4",
            "2\tehhe%llo\t1",
            "2\t1 $b\t2",
            "2\taBc\t3",
            "2\tx\t1",
            "2\ta;b;;c\t3",
            "2\txa^\t1",
            "2\tbaa\t1",
            "2\t1a2b3\t3",
            "2\t123-123\t",
            "3\tab|ab|ab\tHéLLO\t3",
        ]
    );
}

#[tokio::test]
async fn string_misuse_is_said_at_the_callers_line() {
    for (call, message) in [
        (
            "('x'):find(nil)",
            "string.find: argument 2 (pattern) must be a string, got nil",
        ),
        (
            "('x'):find('[')",
            "string.find: malformed pattern (missing ']')",
        ),
        (
            "('x'):gsub('x', '%2')",
            "string.gsub: invalid capture index %2 in replacement string",
        ),
        (
            "('x'):gsub('x', '%a')",
            "string.gsub: invalid use of '%' in replacement string",
        ),
        (
            "('x'):gsub('x', true)",
            "string.gsub: argument 3 must be a string, a function or a table, got boolean",
        ),
        (
            "('x'):gsub('x', function() return {} end)",
            "string.gsub: invalid replacement value (a table)",
        ),
        (
            "for _ in string.gmatch(nil, 'x') do end",
            "string.gmatch: argument 1 (s) must be a string, got nil",
        ),
        (
            "string.rep()",
            "bad argument #1 to 'string.rep' (string expected, got nil)",
        ),
        (
            "table.concat({ {} })",
            "invalid value (table) at index 1 in table for 'concat'",
        ),
    ] {
        let run = run(&format!("\n{call}")).await;
        assert_eq!(run.failed(), (message, "script.lua:2"), "{call}");
    }
}

#[tokio::test]
async fn a_module_is_loaded_once_and_may_wait() {
    let files = [
        (
            "a.lua",
            "local pr = require 'postrider'\npr.sleep(0.001)\nprint('loading', ...)\nreturn { b = require 'lib.b' }",
        ),
        ("lib/b.lua", "return 'b'"),
        ("pkg/init.lua", "return 'init'"),
        ("nothing.lua", ""),
    ];
    let script = r"
        local a, path = require 'a'
        print(a.b, a == require 'a', path, (require 'pkg'), (require 'nothing'))
    ";
    let run = run_beside(&files, script, Limits::default()).await;

    assert_eq!(
        run.lines(),
        ["loading\ta\ta.lua", "b\ttrue\ta.lua\tinit\ttrue"]
    );
}

#[tokio::test]
async fn a_module_cannot_lie_outside_the_scripts_folder() {
    for name in [
        "../secrets",
        "/etc/passwd",
        "a/b",
        "..",
        "a..b",
        "",
        "a\\\\b",
        "a\\0b",
    ] {
        let run = run(&format!("require '{name}'")).await;
        assert!(
            run.failed().0.contains("is no module name"),
            "{name}: {:?}",
            run.failed()
        );
        assert_eq!(run.failed().1, "script.lua:1");
    }
    let run = run("require 'absent'").await;
    assert_eq!(
        run.failed().0,
        "require: there is no module 'absent': looked for absent.lua, absent/init.lua"
    );
}

#[tokio::test]
async fn modules_that_need_each_other_are_told_apart_from_hanging() {
    let files = [
        ("a.lua", "require 'b'"),
        ("b.lua", "\nrequire 'a'"),
        ("bad.lua", "x ="),
        ("c.lua", "error 'c'"),
    ];
    let script = r"
        print(pcall(require, 'a'))
        print(pcall(require, 'bad'))
        print(pcall(require, 'c'))
        print(pcall(require, 'c'))
    ";
    let run = run_beside(&files, script, Limits::default()).await;

    assert_eq!(
        run.lines(),
        [
            "false\tb.lua:2: require: module 'a' is being loaded: it requires itself",
            "false\tbad.lua:1: unexpected symbol near <eof>",
            "false\tc.lua:1: c",
            "false\tc.lua:1: c",
        ]
    );
}

#[tokio::test]
async fn a_shebang_and_a_byte_order_mark_do_no_harm() {
    let run = run("\u{feff}#!/usr/bin/env -S postrider run\nerror 'here'").await;

    assert_eq!(run.failed(), ("here", "script.lua:2"));
}
