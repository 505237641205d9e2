//! What a script asks for is what the host gets.

use postrider_lua::{Priority, Queueing, SendRequest, Source};
use serde_json::json;

use crate::host::run;
use crate::logged::Log;

#[tokio::test(start_paused = true)]
async fn a_message_arrives_as_it_was_written() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        local receipt = assert(alerts:send {
          from = "alerts@contoso.com", sender = "svc@contoso.com", reply_to = "desk@contoso.com",
          to = { "a@example.org", "Bee <b@example.org>" }, cc = "c@example.org", bcc = { "d@example.org" },
          subject = "Übung", text = "one\ntwo", html = "<p>one</p>", priority = "high",
          attach = { "df.txt", { data = "\0\255.\r\n", name = "x.bin", type = "application/x", inline = "pic" },
                     { path = "b.pdf" } },
          headers = { ["X-Two"] = { "1", "2" }, ["X-One"] = "0" },
          in_reply_to = "<q@x>", references = { "<p@x>", "<q@x>" }, message_id = "<r@x>",
        })
        print(receipt.message_id, #receipt.recipients, receipt.recipients[2], receipt.queued)
    "#)
    .await;

    assert_eq!(
        run.lines(),
        ["<Übung@contoso.com>\t2\tBee <b@example.org>\tnil"]
    );
    let sent = run.host.sent.lock().unwrap();
    let [message] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(message.to, ["a@example.org", "Bee <b@example.org>"]);
    assert_eq!(
        (message.cc.as_slice(), message.bcc.as_slice()),
        (
            &["c@example.org".to_owned()][..],
            &["d@example.org".to_owned()][..]
        )
    );
    assert_eq!(message.from.as_deref(), Some("alerts@contoso.com"));
    assert_eq!(message.sender.as_deref(), Some("svc@contoso.com"));
    assert_eq!(message.reply_to, ["desk@contoso.com"]);
    assert_eq!(message.subject.as_deref(), Some("Übung"));
    assert_eq!(message.text.as_deref(), Some("one\ntwo"));
    assert_eq!(message.html.as_deref(), Some("<p>one</p>"));
    assert_eq!(message.priority, Some(Priority::High));
    let headers: Vec<_> = message
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(headers, [("X-One", "0"), ("X-Two", "1"), ("X-Two", "2")]);
    assert_eq!(message.in_reply_to.as_deref(), Some("<q@x>"));
    assert_eq!(message.references, ["<p@x>", "<q@x>"]);
    assert_eq!(message.message_id.as_deref(), Some("<r@x>"));
    assert_eq!(message.attach.len(), 3);
    assert_eq!(message.attach[0].source, Source::Path("df.txt".into()));
    assert_eq!(
        message.attach[1].source,
        Source::Octets(b"\0\xff.\r\n".to_vec())
    );
    assert_eq!(message.attach[1].name.as_deref(), Some("x.bin"));
    assert_eq!(
        message.attach[1].mime_type.as_deref(),
        Some("application/x")
    );
    assert_eq!(message.attach[1].inline.as_deref(), Some("pic"));
    assert_eq!(message.attach[2].source, Source::Path("b.pdf".into()));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_queued_as_it_was_asked_for_whatever_a_hook_makes_of_it() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts = pr.account "alerts"
        pr.on("message.before_send", function(message)
          assert(message.wait ~= "queued" or message.send_at == 1772352000)
          message.subject = "[ops] " .. message.subject
          return message
        end)
        assert(alerts:send { to = "a@example.org", subject = "x", text = "x", wait = "accepted" })
        assert(alerts:send {
          to = "a@example.org", subject = "x", text = "x", wait = "queued", idempotency_key = "disk-91",
          send_at = "2026-03-01T08:00:00Z", expires_at = 1772355600,
        })
    "#)
    .await;

    let sent = run.host.sent.lock().unwrap();
    assert_eq!(sent[0].queue, None);
    let time = |text: &str| Some(text.parse().unwrap());
    let queueing = Queueing {
        idempotency_key: Some("disk-91".to_owned()),
        send_at: time("2026-03-01T08:00:00Z"),
        expires_at: time("2026-03-01T09:00:00Z"),
    };
    assert_eq!(sent[1].queue, Some(queueing));
    assert_eq!(sent[1].subject.as_deref(), Some("[ops] x"));
}

#[tokio::test(start_paused = true)]
async fn a_finished_message_goes_with_an_envelope_and_nothing_else() {
    let run = run(r#"
        local alerts = require "postrider".account "alerts"
        assert(alerts:send { raw = "Subject: x\r\n\r\n\xff", to = "a@example.org" })
        assert(alerts:send { raw_file = "m.eml" })
        print(pcall(alerts.send, alerts, { raw = "x", subject = "y" }))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "false\tscript.lua:5: account:send: field 'subject' cannot go with a finished message in 'raw' or 'raw_file'"
        ]
    );
    let sent = run.host.sent.lock().unwrap();
    let expected = SendRequest {
        to: vec!["a@example.org".to_owned()],
        raw: Some(Source::Octets(b"Subject: x\r\n\r\n\xff".to_vec())),
        script: sent[0].script.clone(),
        ..SendRequest::default()
    };
    assert!(sent[0] == expected);
    let script = sent[0].script.as_deref();
    assert!(script.is_some_and(|script| script.ends_with("script.lua")));
    assert_eq!(sent[1].raw, Some(Source::Path("m.eml".into())));
}

#[tokio::test]
async fn an_account_may_be_a_table_whose_secrets_stay_references() {
    let run = run(r#"
        local pr = require "postrider"
        local ops = pr.account {
          name = "ops", username = "svc@contoso.com", auth = {
            plugin = "oauth", scopes = { "a", "b" }, client_secret = pr.secret.env "OPS_SECRET",
            private_key = pr.secret.file "/k.pem", assertion = pr.secret.command { "get", "token" },
            other = pr.secret.credential "c", kept = pr.secret.vault "ops/x",
          },
        }
        print(ops, ops.name, pr.secret.env "OPS_SECRET", pr.secret.command { "get", "--pin=1234" })
        local report = ops:check()
        print(report.ok, report.stages[1].name)
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "account \"ops\"\tops\tsecret (env OPS_SECRET)\tsecret (command get)",
            "true\ttcp"
        ]
    );
    assert_eq!(
        run.host.tables.lock().unwrap().as_slice(),
        [json!({
            "name": "ops", "username": "svc@contoso.com",
            "auth": {
                "plugin": "oauth", "scopes": ["a", "b"], "client_secret": { "env": "OPS_SECRET" },
                "private_key": { "file": "/k.pem" }, "assertion": { "command": ["get", "token"] },
                "other": { "credential": "c" }, "kept": { "vault": "ops/x" },
            },
        })]
    );
}

#[tokio::test]
async fn a_refusal_is_explained_however_long_the_text_and_whatever_its_octets() {
    let run = run(r#"
        local pr = require "postrider"
        local found = pr.explain "535 5.7.3"
        print(#found, found[1].kind, found[1].original)
        print(pr.explain(("x"):rep(100000))[1].original, pr.explain("\xff")[1].original)
        print(select(2, pcall(pr.explain)))
    "#)
    .await;

    let lines = run.lines();
    assert_eq!(lines[..2], ["1\tsmtp\t9", "65536\t3"]);
    assert!(lines[2].contains("(text) must be a string"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn all_accounts_are_listed_and_a_broken_one_says_so_when_it_is_used() {
    let run = run(r#"
        local pr = require "postrider"
        local accounts = pr.accounts()
        for _, account in ipairs(accounts) do print(account, account.name) end
        local alerts, broken = accounts[1], accounts[2]
        print(assert(alerts:send { to = "a@example.org" }).message_id, alerts:check().ok)
        print(select(2, broken:send { to = "a@example.org" }).code, select(2, broken:status()).code)
        print(select(2, broken:rotate()).code, select(2, broken:token()).code)
        local report = broken:check()
        print(report.ok, #report.stages, report.stages[1].name, report.stages[1].failure.code)
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "account \"alerts\"\talerts",
            "account \"broken\"\tbroken",
            "account \"printer\"\tprinter",
            "<none@contoso.com>\ttrue",
            "config.unknown_account\tconfig.unknown_account",
            "config.unknown_account\tconfig.unknown_account",
            "false\t1\tconfig\tconfig.unknown_account",
        ]
    );
}

#[tokio::test]
async fn a_script_rotates_looks_at_the_state_and_may_have_the_token() {
    let run = run(r#"
        local pr = require "postrider"
        local alerts, printer = pr.account "alerts", pr.account "printer"
        print(alerts:rotate().outcome, alerts:rotate({}).outcome, alerts:rotate({ force = false }).outcome)
        print(alerts:rotate({ force = true }).outcome, alerts:rotate({ force = true }).generation)
        local status = alerts:status()
        print(status.state, status.reason, status.expires[1].secret, status.expires[1].days)
        local token, details = alerts:token()
        print(token == "ey.token.ü", details.expires_at, details.scope, details.token_type)
        print(select('#', alerts:token()), printer:token())
        print(pcall(alerts.rotate, alerts, { forse = true }))
        print(pcall(alerts.rotate, alerts, { force = 1 }))
        print(pcall(alerts.rotate, alerts, true))
        print(pcall(alerts.token))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "fresh\tfresh\tfresh",
            "refreshed\t2",
            "fresh\tnil\tclient_secret\t13",
            "true\t1800000000\tnil\tBearer",
            "2\tnil\tscript.lua:10: the plugin uses no tokens",
            "false\tscript.lua:11: account:rotate: unknown field 'forse' (did you mean 'force'?)",
            "false\tscript.lua:12: account:rotate: field 'force' must be true or false, got a number",
            "false\tscript.lua:13: account:rotate: argument 2 (options) must be a table, got boolean",
            "false\tscript.lua:14: account:token: call it with a colon, as in `handle:token(…)`",
        ]
    );
}

#[tokio::test]
async fn a_secret_cannot_be_had_from_a_script() {
    let run = run(r#"
        local pr = require "postrider"
        local secret = pr.secret.env "PATH"
        print(pcall(pr.json.encode, { a = { secret } }))
        print(pcall(function() return secret.value end))
        print(getmetatable(secret), pcall(function() return secret .. "" end))
    "#)
    .await;

    let path = std::env::var("PATH").unwrap();
    let lines = run.lines();
    assert_eq!(
        lines[0],
        "false\tscript.lua:4: json.encode: value.a[1] is a secret"
    );
    assert!(
        lines[1].starts_with("false\tscript.lua:5: attempt to index a secret value"),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with("false\tfalse\tscript.lua:6: attempt to concatenate"),
        "{}",
        lines[2]
    );
    assert!(!run.printed.contains(&path));
}

#[tokio::test]
async fn settings_are_read_and_written() {
    let run = run(r#"
        local pr = require "postrider"
        print(pr.config.get "account.alerts.sender", pr.config.get "account.alerts.limit")
        print(select(2, pr.config.get "broken").code)
        print(pr.config.set("account.alerts.auth.client_secret", pr.secret.env "S"))
        print(pr.config.set("account.alerts.cc", { "a", "b" }))
        print(select(2, pr.config.set("account.alerts.colour", "red")))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "alerts@contoso.com\tnil",
            "config.unreadable",
            "true",
            "true",
            "script.lua:7: no such key"
        ]
    );
    assert_eq!(
        run.host.settings.lock().unwrap().as_slice(),
        [
            (
                "account.alerts.auth.client_secret".to_owned(),
                json!({ "env": "S" })
            ),
            ("account.alerts.cc".to_owned(), json!(["a", "b"])),
        ]
    );
}

#[tokio::test]
async fn json_keeps_arrays_nulls_and_integers() {
    let run = run(r#"
        local json = require "postrider".json
        local text = '{"a":[],"b":{},"c":[1,null,2.5],"d":9007199254740993,"e":"\\u00fc"}'
        local value = assert(json.decode(text))
        print(json.encode(value))
        print(#value.a, value.c[2] == json.null, tostring(json.null), math.type(value.d), value.e)
        print(json.encode { z = 1, a = { 1, 2 }, m = json.array {} })
        print(select(2, json.decode "{"))
        local deep = {}; deep.self = deep
        for _, wrong in ipairs { deep, { 1, nil, 3 }, { 1, x = 2 }, { print }, { 0/0 }, { "\xff" }, { [true] = 1 } } do
          print(select(2, pcall(json.encode, wrong)))
        end
        local wide = {}
        for i = 1, 40 do wide = { wide, wide } end
        print(select(2, pcall(json.encode, wide)):match "%] (.*)")
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            r#"{"a":[],"b":{},"c":[1,null,2.5],"d":9007199254740993,"e":"ü"}"#,
            "0\ttrue\tnull\tinteger\tü",
            r#"{"a":[1,2],"m":[],"z":1}"#,
            "script.lua:8: not JSON: EOF while parsing an object at line 1 column 1",
            "script.lua:11: json.encode: the value nests deeper than 127: does a table contain itself?",
            "script.lua:11: json.encode: value is a list with holes",
            "script.lua:11: json.encode: value has both a list and named fields",
            "script.lua:11: json.encode: value[1] is a function",
            "script.lua:11: json.encode: value[1] is NaN, which JSON cannot say",
            "script.lua:11: json.encode: value[1] is not UTF-8 text",
            "script.lua:11: json.encode: value has a boolean as a key",
            "has more than 1000000 values",
        ]
    );
}

#[tokio::test]
async fn times_are_seconds_and_rfc_3339() {
    let run = run(r#"
        local time = require "postrider".time
        local t = assert(time.parse "2026-12-31T08:00:00.250+01:00")
        print(t, time.format(t), time.format(t, "Europe/Paris"))
        print(time.duration "1h30m", time.duration(2.5), math.abs(time.now() - os.time()) < 2)
        print(select(2, time.parse "yesterday").code)
        print(pcall(time.format, t, "Mars/Olympus"))
        print(pcall(time.duration, "soon"))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "1798700400.25\t2026-12-31T07:00:00.25Z\t2026-12-31T08:00:00.25+01:00",
            "5400.0\t2.5\ttrue",
            "time.invalid",
            "false\tscript.lua:7: time.format: no time zone is called 'Mars/Olympus'",
            "false\tscript.lua:8: time.duration: 'soon' is no span of time: write \"500ms\", \"90s\", \"45m\" or \"1h30m\"",
        ]
    );
}

#[tokio::test]
async fn a_script_gets_its_arguments() {
    let run = run(r#"
        local pr = require "postrider"
        print(select('#', ...), (...), #pr.args, pr.args[2], pr.version)
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [format!("2\tone\t2\ttwo\t{}", env!("CARGO_PKG_VERSION"))]
    );
}

#[tokio::test]
async fn a_log_line_has_its_level_its_place_and_its_fields() {
    let log = Log::start();

    let run = run(r#"
        local pr = require "postrider"
        pr.log.warn("full", { disk = "/", used = 91, key = pr.secret.env "K" })
        pr.log.debug "plain"
    "#)
    .await;

    assert!(run.lines().is_empty());
    let logged = log.of_scripts();
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert_eq!(logged[0]["level"], "WARN");
    assert_eq!(logged[0]["fields"]["message"], "full");
    assert!(
        logged[0]["fields"]["at"]
            .as_str()
            .unwrap()
            .ends_with("script.lua:3")
    );
    assert_eq!(
        logged[0]["fields"]["fields"],
        r#"{"disk":"/","key":"secret (env K)","used":91}"#
    );
    assert_eq!(logged[1]["level"], "DEBUG");
    assert_eq!(logged[1]["fields"].get("fields"), None);
}
