//! `check`: what is wrong is found at its line, and what is right is left alone.

use std::fs;
use std::path::Path;

use postrider_lua_api::{Finding, SECRET_SETTING, Setting, Type, Validators, check, items};
use proptest::prelude::*;

fn checked(source: &str) -> Vec<Finding> {
    checked_for(source, None)
}

/// A few of the keys that the configuration has.
fn settings() -> Vec<Setting> {
    const TEXTS: Type = Type::List(&Type::Text);
    let setting = |key: &str, plugin, what, words: &[&'static str]| Setting {
        key: key.to_owned(),
        plugin,
        what,
        words: words.to_vec(),
        doc: "",
    };
    let flows = &["client_credentials", "device_code"];
    vec![
        setting("provider", None, Type::Text, &["microsoft365", "custom"]),
        setting("username", None, Type::Text, &[]),
        setting("sender", None, Type::Text, &[]),
        setting("connections", None, Type::Integer, &[]),
        setting("server", None, Type::Table, &[]),
        setting("server.host", None, Type::Text, &[]),
        setting("server.tls", None, Type::Text, &["starttls", "implicit"]),
        setting("timeouts", None, Type::Table, &[]),
        setting("timeouts.connect", None, Type::Duration, &[]),
        setting("auth", None, Type::Table, &[]),
        setting("auth.plugin", None, Type::Text, &[]),
        setting("auth.flow", Some("oauth"), Type::Text, flows),
        setting("auth.tenant", Some("oauth"), Type::Text, &[]),
        setting("auth.client_id", Some("oauth"), Type::Text, &[]),
        setting("auth.client_secret", Some("oauth"), SECRET_SETTING, &[]),
        setting("auth.client_secret.env", Some("oauth"), Type::Text, &[]),
        setting("auth.password", Some("basic"), SECRET_SETTING, &[]),
        setting("auth.mechanisms", Some("basic"), TEXTS, &["PLAIN", "LOGIN"]),
    ]
}

fn checked_for(source: &str, accounts: Option<&[String]>) -> Vec<Finding> {
    let zones = ["Europe/Paris".to_owned(), "UTC".to_owned()];
    let validators = Validators {
        duration: &|text| text.ends_with(['s', 'm', 'h', 'd']),
        cron: &|text| match text.split(' ').count() {
            5 => Ok(()),
            count => Err(format!("{count} fields")),
        },
        zone: &|text| zones.iter().any(|zone| zone == text),
        zones: &zones,
        time: &|text| text.contains('T'),
        accounts,
        settings: &settings(),
    };
    check(source, &validators)
}

/// The mistake in the third line is found there, and is the only one.
#[track_caller]
fn finds(mistake: &str, code: &str, near: Option<&str>) {
    let source = format!(
        "local pr = require \"postrider\"\nlocal account = pr.account \"alerts\"\n{mistake}\n"
    );
    let accounts = ["alerts".to_owned(), "ops".to_owned()];
    let findings = checked_for(&source, Some(&accounts));
    assert_eq!(findings.len(), 1, "{mistake}: {findings:?}");
    assert_eq!(findings[0].line, 3, "{mistake}: {findings:?}");
    assert_eq!(findings[0].code, code, "{mistake}: {findings:?}");
    assert_eq!(
        findings[0].suggestion.as_deref(),
        near,
        "{mistake}: {findings:?}"
    );
}

/// A third line, what is found there, and what was meant.
const MISTAKES: &[(&str, &str, Option<&str>)] = &[
    ("local x = = 3", "script.syntax", None),
    ("break", "script.syntax", None),
    ("local x = `a`", "script.syntax", None),
    ("pr.slep \"1s\"", "script.unknown_name", Some("sleep")),
    (
        "pr.http.psot \"https://example.org\"",
        "script.unknown_name",
        Some("post"),
    ),
    (
        "account:sned { to = 'a@example.org' }",
        "script.unknown_method",
        Some("send"),
    ),
    ("account.check()", "script.unknown_name", None),
    (
        "account:send { to = 'a@example.org', subjct = 'x' }",
        "script.unknown_field",
        Some("subject"),
    ),
    (
        "account:send { attach = { { nmae = 'x' } } }",
        "script.unknown_field",
        Some("name"),
    ),
    (
        "account:send { attach = { name = 'x', data = 'y' } }; local _",
        "script.unknown_field",
        None,
    ),
    ("account:send { subject = true }", "script.wrong_type", None),
    (
        "account:send { priority = 'hihg' }",
        "script.unknown_word",
        Some("high"),
    ),
    (
        "account:rotate { forse = true }",
        "script.unknown_field",
        Some("force"),
    ),
    (
        "pr.http.get('https://example.org', { timeout = 'a while' })",
        "script.wrong_duration",
        None,
    ),
    (
        "pr.on('token.refreshd', function() end)",
        "script.unknown_event",
        Some("token.refreshed"),
    ),
    (
        "pr.on('ap.done', function() end)",
        "script.unknown_event",
        Some("app.done"),
    ),
    (
        "pr.time.format(0, 'Europe/Pariss')",
        "script.unknown_zone",
        Some("Europe/Paris"),
    ),
    (
        "pr.account 'alrets'",
        "script.unknown_account",
        Some("alerts"),
    ),
    ("pritn 'x'", "script.unknown_global", Some("print")),
    (
        "local function f() counter = 1 end f()",
        "script.global_assignment",
        None,
    ),
    ("pr.sleep('1s', 2)", "script.argument_count", None),
    ("pr.sleep()", "script.argument_count", None),
    ("local f = io.open 'x'", "script.unavailable", None),
    ("os.execute 'ls'", "script.unavailable", None),
    (
        "print(string.fromat('x'))",
        "script.unknown_global",
        Some("format"),
    ),
    (
        "print(('x'):fromat())",
        "script.unknown_global",
        Some("format"),
    ),
    (
        "pr.on('token.refreshed', function(event) print(event.acount) end)",
        "script.unknown_field",
        Some("account"),
    ),
    (
        "pr.on('token.refreshed', function() pr.on('token.refreshed', print) end)",
        "script.registration",
        None,
    ),
    (
        "local r = assert(account:send {}) print(r.mesage_id)",
        "script.unknown_field",
        Some("message_id"),
    ),
    (
        "for _, a in ipairs(pr.accounts()) do a:chekc() end",
        "script.unknown_method",
        Some("check"),
    ),
    ("pr:sleep '1s'", "script.unknown_method", None),
];

#[test]
fn a_mistake_of_each_kind_is_found_at_its_line() {
    for (mistake, code, near) in MISTAKES {
        finds(mistake, code, *near);
    }
}

/// A table for `pr.account`, what is found in it, and what was meant.
const ACCOUNTS: &[(&str, &str, Option<&str>)] = &[
    (
        "{ name = 'a', usernam = 'x' }",
        "script.unknown_field",
        Some("username"),
    ),
    (
        "{ nmae = 'a', name = 'b' }",
        "script.unknown_field",
        Some("name"),
    ),
    ("{ username = 'x' }", "script.missing_field", None),
    ("{ name = 'a', username = 5 }", "script.wrong_type", None),
    (
        "{ name = 'a', connections = 'many' }",
        "script.wrong_type",
        None,
    ),
    (
        "{ name = 'a', provider = 'microsft365' }",
        "script.unknown_word",
        Some("microsoft365"),
    ),
    (
        "{ name = 'a', server = 'smtp.example.org' }",
        "script.wrong_type",
        None,
    ),
    (
        "{ name = 'a', server = { hots = 'x' } }",
        "script.unknown_field",
        Some("host"),
    ),
    (
        "{ name = 'a', server = { tls = 'startls' } }",
        "script.unknown_word",
        Some("starttls"),
    ),
    (
        "{ name = 'a', timeouts = { connect = 'a while' } }",
        "script.wrong_duration",
        None,
    ),
    (
        "{ name = 'a', auth = { flow = 'device_code' } }",
        "script.missing_field",
        None,
    ),
    (
        "{ name = 'a', auth = { plugin = 'oauth', flw = 'x' } }",
        "script.unknown_field",
        Some("flow"),
    ),
    (
        "{ name = 'a', auth = { plugin = 'oauth', password = 'x' } }",
        "script.unknown_field",
        None,
    ),
    (
        "{ name = 'a', auth = { plugin = 'oauth', flow = 'device' } }",
        "script.unknown_word",
        Some("device_code"),
    ),
    (
        "{ name = 'a', auth = { plugin = 'basic', password = 'x' } }",
        "script.wrong_type",
        None,
    ),
    (
        "{ name = 'a', auth = { plugin = 'oauth', client_secret = { envv = 'X' } } }",
        "script.unknown_field",
        Some("env"),
    ),
    (
        "{ name = 'a', auth = { plugin = 'basic', mechanisms = { 'PLAIN', 'LOGN' } } }",
        "script.unknown_word",
        Some("LOGIN"),
    ),
    ("{ 'a', name = 'a' }", "script.unknown_field", None),
    (
        "pr.args[1] or { name = 'a', usernam = 'x' }",
        "script.unknown_field",
        Some("username"),
    ),
];

#[test]
fn the_keys_of_an_account_are_those_of_the_configuration() {
    for (table, code, near) in ACCOUNTS {
        finds(&format!("pr.account({table})"), code, *near);
    }
    for table in [
        "{ name = 'a', username = 'x', auth = { plugin = 'mine', flw = 5 } }",
        "{ name = 'a', auth = { plugin = PLUGIN, flw = 5 } }",
        "{ name = 'a', ['user' .. 'name'] = 'x' }",
        "{ [KEY] = 'a' }",
        "{ name = 'a', auth = { plugin = 'basic', password = pr.secret.env 'X' } }",
        "{ name = 'a', auth = { plugin = 'basic', password = { from = 'here' } } }",
        "{ name = 'a', timeouts = { connect = 30 }, auth = SETTINGS }",
        "make()",
    ] {
        let source = format!(
            "local KEY, SETTINGS, PLUGIN = ...\nlocal make, pr = load(KEY), require 'postrider'\npr.account({table})"
        );
        assert_eq!(checked(&source), [], "{table}");
    }
}

#[test]
fn a_field_that_no_result_has_is_found() {
    for (mistake, near) in [
        ("local x = account:status() print(x.usernam)", None),
        (
            "local x = account:status() print(x.signed_in.usernam)",
            Some("usernames"),
        ),
        (
            "local r, e = account:send {} print(e.mesage)",
            Some("message"),
        ),
        ("local r, e = account:send {} print(e.smtp.status)", None),
        (
            "pr.on('message.before_send', function(m) m.subjct = 'x' return m end)",
            Some("subject"),
        ),
        (
            "pr.on('gateway.auth', function(t) print(t.devise) end)",
            Some("device"),
        ),
        (
            "pr.on('gateway.mail', function(t) return t.acount ~= 'x' end)",
            Some("account"),
        ),
        (
            "pr.on('gateway.message', function(m) m.subjct = 'x' return m end)",
            Some("subject"),
        ),
        (
            "pr.on('message.before_send', function(m) print(m.sender_name) end)",
            Some("sender"),
        ),
        (
            "for _, r in pairs(account:check().stages) do print(r.time) end",
            None,
        ),
    ] {
        finds(mistake, "script.unknown_field", near);
    }
    for right in [
        "pr.on('message.before_send', function(m) m.subject = 'x' .. m.account return m end)",
        "pr.on('gateway.message', function(m) m.headers['x-a'] = nil m.text = m.subject .. m.device return m end)",
        "local x = account:status() x.mine = 1 print(x.mine)",
        "local x = account:status() x['mine'] = 1 print(x.mine)",
        "local x = account:status() function x.mine() end x.mine()",
        "require 'mine'.adorn(account) print(account:status().mine)",
    ] {
        let source =
            format!("local pr = require 'postrider'\nlocal account = pr.account 'alerts'\n{right}");
        assert_eq!(checked(&source), [], "{right}");
    }
}

#[test]
fn all_syntax_errors_are_told_with_their_places() {
    let lines: Vec<usize> = checked("local x = = 3\nlocal y = 'a\nif z then\n")
        .iter()
        .map(|finding| finding.line)
        .collect();
    assert!(lines.contains(&1) && lines.contains(&2), "{lines:?}");
}

#[test]
fn what_may_be_right_is_left_alone() {
    for source in [
        "local pr = require 'postrider'\nlocal a = pr.account 'alerts'\na = { sned = print }\na:sned()",
        "if jit then print 'jit' end",
        "local x = foo and 1",
        "total = 0\nlocal function add() total = total + 1 end\nadd()",
        "function helper() end\nhelper()",
        "string.trim = function(s) return s end\nprint(string.trim 'x', ('x'):trim())",
        "local m = require 'mine'\nsomething_of_mine(m)",
        "_G.made = 1\nprint(made)",
        "local pr = require 'postrider'\npr.time.duration(...)\npr.sleep(table.unpack { '1s' })",
        "#!/usr/bin/env -S postrider run\nprint 'x'",
        "\u{feff}print 'x'",
        "for i = 1, 3 do goto continue ::continue:: end",
        "local x <const>, y <close> = 1, nil print(x, y)",
        "local function f(...) return select('#', ...) end f()",
        "pritn 'x' -- postrider: ignore",
        "-- postrider: ignore\npritn 'x'",
    ] {
        assert_eq!(checked(source), [], "{source}");
    }
}

#[test]
fn the_scripts_and_the_examples_are_right() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    let mut seen = 0;
    for entry in fs::read_dir(scripts).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lua") {
            assert_eq!(
                checked(&fs::read_to_string(&path).unwrap()),
                [],
                "{}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0);
    for item in items() {
        let source = format!(
            "local pr = require 'postrider'\nlocal account = pr.account 'alerts'\n{}",
            item.example
        );
        assert_eq!(checked(&source), [], "{}: {source}", item.name);
    }
}

#[test]
fn what_is_nested_without_end_is_refused_and_not_followed() {
    for open in [
        "(",
        "{",
        "do ",
        "f(function() ",
        "not ",
        "x = {",
        "if a then ",
        "a[",
        "1 .. ",
    ] {
        let findings = checked(&format!("x = {}", open.repeat(100_000)));
        assert_eq!(findings[0].code, "script.syntax", "{open}");
    }
    assert_eq!(
        checked(&format!("x = {}1{}", "(".repeat(150), ")".repeat(150))),
        []
    );
    assert_eq!(checked(&format!("x = 1{}", " + 1".repeat(1500))), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_it_panic(source in any::<String>()) {
        let _ = checked(&source);
    }

    #[test]
    fn no_order_of_lua_words_makes_it_panic(words in prop::collection::vec(prop::sample::select(vec![
        "local", "pr", "=", "require", "'postrider'", ".", ":", "on", "(", ")", "{", "}", "[", "]",
        "function", "end", "if", "then", "else", "do", "while", "repeat", "until", "for", "in",
        ",", ";", "return", "break", "goto", "::", "not", "-", "..", "...", "1", "0x", "'a", "\"",
        "[[", "]]", "--", "\n", "and", "or", "account", "send", "<const>", "\u{e9}", "\u{0}",
    ]), 0..80)) {
        let _ = checked(&words.join(" "));
    }
}
