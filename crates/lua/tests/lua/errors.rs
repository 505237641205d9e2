//! What goes wrong is said with the script's line.

use postrider_lua::Limits;

use crate::host::{Hands, run, run_beside};

#[tokio::test(start_paused = true)]
async fn a_refused_send_answers_nil_and_a_table() {
    let run = run(r#"
        local alerts = require "postrider".account "alerts"
        local receipt, err = alerts:send { from = "ceo@contoso.com", to = "a@example.org" }
        print(receipt, type(err), err.code, err.retryable, err.account, err.at, err.place)
        print(err.smtp.code, err.smtp.enhanced, err.smtp.text, err.details.recipients[1])
        print(err)
        print("not sent: " .. err)
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "nil\ttable\tsmtp.send_as_denied\tfalse\talerts\tscript.lua:3\tsmtp.office365.com:587, MAIL FROM",
            "554\t5.2.252\tSendAsDenied\ta@example.org",
            "script.lua:3: account \"alerts\": the sender was refused (fix: grant Send As)",
            "not sent: script.lua:3: account \"alerts\": the sender was refused (fix: grant Send As)",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_asserted_failure_ends_the_script_in_our_style() {
    let run = run(r#"
        local alerts = require "postrider".account "alerts"
        local function notify()
          assert(alerts:send { from = "ceo@contoso.com", to = "a@example.org" })
        end
        notify()
    "#)
    .await;

    assert_eq!(
        run.error().to_string(),
        "error: account \"alerts\": the sender was refused\n   at: script.lua:4, smtp.office365.com:587, MAIL FROM\n  try: grant Send As\n from: script.lua:6: in main chunk"
    );
    assert_eq!(run.error().exit_code(), 69);
    assert_eq!(run.error().failure.smtp.as_ref().unwrap().code, 554);
}

#[tokio::test]
async fn an_account_that_is_not_there_is_raised_with_advice() {
    let run = run("local pr = require 'postrider'\nlocal x = pr.account 'alrets'").await;

    let failure = &run.error().failure;
    assert_eq!(failure.code, "config.unknown_account");
    assert_eq!(failure.at.as_deref(), Some("script.lua:2"));
    assert_eq!(failure.remedy.as_deref(), Some("postrider account list"));
    assert_eq!(run.error().exit_code(), 78);
}

#[tokio::test]
async fn misuse_is_raised_at_the_callers_line_with_a_suggestion() {
    let cases = [
        (
            "alerts:send { subjekt = 'x' }",
            "account:send: unknown field 'subjekt' (did you mean 'subject'?)",
        ),
        (
            "alerts:send { to = 1 }",
            "account:send: field 'to' must be a string or a list of strings, got a number",
        ),
        (
            "alerts:send { to = { 'a', 2 } }",
            "account:send: field 'to[2]' must be a string, got a number",
        ),
        (
            "alerts:send { to = { a = 'b' } }",
            "account:send: field 'to' must be a list without holes or named fields",
        ),
        (
            "alerts:send { attach = { { nmae = 'x' } } }",
            "account:send: unknown field 'attach[1].nmae' (did you mean 'name'?)",
        ),
        (
            "alerts:send { attach = { { name = 'x' } } }",
            "account:send: field 'attach[1]' needs a 'path' or 'data'",
        ),
        (
            "alerts:send { attach = { { path = 'x', data = 'y' } } }",
            "account:send: give 'data' or 'path', not both",
        ),
        (
            "alerts:send { subject = '\\xff' }",
            "account:send: field 'subject' is not UTF-8 text",
        ),
        (
            "alerts:send { wait = 'delivered' }",
            "account:send: field 'wait' is \"accepted\" or \"queued\", not \"delivered\"",
        ),
        (
            "alerts:send { send_at = 0 }",
            "account:send: field 'send_at' is for messages that are queued: add wait = \"queued\"",
        ),
        (
            "alerts:send { priority = 'urgent' }",
            "account:send: field 'priority' is \"high\", \"normal\" or \"low\", not \"urgent\"",
        ),
        (
            "alerts:send { 'x' }",
            "account:send: {…} has named fields, got a number key",
        ),
        (
            "alerts:send 'x'",
            "account:send: argument 2 (message) must be a table, got string",
        ),
        (
            "alerts.send { to = 'x' }",
            "account:send: call it with a colon, as in `handle:send(…)`",
        ),
        (
            "alerts:sned {}",
            "an account has no 'sned' (did you mean 'send'?)",
        ),
        (
            "pr.acount 'x'",
            "there is no 'pr.acount' (did you mean 'account'?)",
        ),
        (
            "pr.json.encoed {}",
            "there is no 'pr.json.encoed' (did you mean 'encode'?)",
        ),
        (
            "pr.account()",
            "account: argument 1 (account) must be a name or a table, got nil",
        ),
        ("pr.sleep(-1)", "sleep: a span of time cannot be -1 seconds"),
        ("pr.join(1)", "join: item 1 must be a function, got number"),
        (
            "pr.log.info()",
            "log.info: argument 1 (message) must be a string, got nil",
        ),
        (
            "pr.config.set('a')",
            "config.set: argument 2 (value) must be something other than nil, got nil",
        ),
        ("pr.secret.env ''", "secret.env: the name is empty"),
        (
            "pr.secret.command 'pass mail'",
            "secret.command: argument 1 (command) must be a list such as {\"pass\", \"mail\"}, got string",
        ),
        ("pr.time.now(1)", "time.now: takes no arguments, got 1"),
    ];
    for (call, message) in cases {
        let script = format!(
            "local pr = require 'postrider'\nlocal alerts = pr.account 'alerts'\n\n{call}\n"
        );
        let run = run(&script).await;

        assert_eq!(run.failed(), (message, "script.lua:4"), "{call}");
        assert_eq!(run.error().exit_code(), 1, "{call}");
    }
}

#[tokio::test]
async fn what_the_script_raises_is_told_with_its_calls() {
    let run =
        run("local function f()\n  error 'no disk'\nend\nlocal function g()\n  f()\nend\ng()\n")
            .await;

    assert_eq!(
        run.error().to_string(),
        "error: no disk\n   at: script.lua:2\n from: script.lua:5: in local 'g'\n from: script.lua:7: in main chunk"
    );
    assert_eq!(run.error().exit_code(), 1);
}

#[tokio::test]
async fn any_value_can_be_raised() {
    for (raise, message) in [
        ("error { message = 'm', code = 'internal' }", "m"),
        ("error { 1 }", "the script raised a table"),
        ("error()", "nil"),
        ("error(42)", "42"),
        ("assert(false)", "assertion failed!"),
        (
            "local t = nil; t.x = 1",
            "attempt to index a nil value (local 't')",
        ),
        (
            "coroutine.yield(1)",
            "attempt to yield from outside a coroutine",
        ),
    ] {
        let run = run(raise).await;
        assert_eq!(run.failed(), (message, "script.lua:1"), "{raise}");
        assert_eq!(run.error().exit_code(), 1, "{raise}");
    }
}

#[tokio::test]
async fn no_rust_value_reaches_a_script() {
    let run = run(r#"
        local pr = require "postrider"
        local function check(ok, e) print(ok, type(e), e) end
        check(pcall(pr.sleep, "soon"))
        check(xpcall(pr.sleep, function(e) return type(e) .. "!" end, "soon"))
        check(coroutine.resume(coroutine.create(function() pr.sleep "soon" end)))
        check(pcall(coroutine.wrap(function() pr.sleep "soon" end)))
        check(pcall(pr.account, "nobody"))
    "#)
    .await;

    let soon = "sleep: 'soon' is no span of time: write \"500ms\", \"90s\", \"45m\" or \"1h30m\"";
    assert_eq!(
        run.lines(),
        [
            format!("false\tstring\tscript.lua:4: {soon}"),
            "false\tstring\tstring!".to_owned(),
            format!("false\tstring\tscript.lua:6: {soon}"),
            format!("false\tstring\tscript.lua:7: {soon}"),
            "false\ttable\tscript.lua:8: no account is called \"nobody\" (fix: postrider account list)".to_owned(),
        ]
    );
}

#[tokio::test]
async fn text_that_is_no_lua_is_a_data_error() {
    let run = run("local x = \nprint(").await;

    assert_eq!(
        run.failed(),
        ("unexpected symbol near <eof>", "script.lua:2")
    );
    assert_eq!(run.error().failure.code, "script.syntax");
    assert_eq!(run.error().exit_code(), 65);
}

#[tokio::test]
async fn bytecode_is_refused() {
    let run = run("\x1bLua").await;

    assert_eq!(run.error().failure.code, "script.syntax");
    assert!(
        run.failed().0.contains("compiled Lua"),
        "{:?}",
        run.failed()
    );
}

#[tokio::test]
async fn a_script_that_is_not_there_is_named() {
    let error = postrider_lua::run(
        std::path::Path::new("/nonexistent/nightly.lua"),
        &[],
        std::sync::Arc::new(Hands(std::sync::Arc::default())),
        Limits::default(),
    )
    .await
    .unwrap_err();

    assert!(
        error.failure.message.contains("/nonexistent/nightly.lua"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 66);
}

#[tokio::test]
async fn an_error_in_a_module_names_the_module() {
    let files = [(
        "lib/disk.lua",
        "local M = {}\nfunction M.check()\n  error 'full'\nend\nreturn M\n",
    )];
    let run = run_beside(&files, "require('lib.disk').check()", Limits::default()).await;

    assert_eq!(run.failed(), ("full", "lib/disk.lua:3"));
    assert_eq!(
        run.error().trace.last().unwrap(),
        "script.lua:1: in main chunk"
    );
}
