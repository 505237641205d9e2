//! The control socket: real commands, a real daemon, and curl.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use serde_json::{Value, json};
use support::curl::Curl;
use support::daemon::Daemon;
use support::home::Home;
use support::openmetrics::{read_by_a_stranger, samples};
use support::sandbox::{Sandbox, read_mail};
use support::{Ended, free_port, run_with, skip, write_private};

/// A daemon's home with the sandbox's accounts; the client secret is for the story to give away.
fn home(sandbox: &Sandbox, more: &str) -> Home {
    let home = Home::new(&config(sandbox, more));
    fs::create_dir(home.path().join("scripts.d")).unwrap();
    home
}

fn config(sandbox: &Sandbox, more: &str) -> String {
    format!(
        "[scripts]\ndir = \"scripts.d\"\n\n[serve]\nwatch = false\n\n{}\n{more}\n",
        sandbox.config()
    )
}

/// A daemon that alone has the client secret: what a command of its user gets done without it,
/// the daemon did.
fn only_the_daemon_knows(sandbox: &Sandbox, home: &Home) -> Daemon {
    let (name, value) = sandbox.client_secret();
    Daemon::started_by(home.postrider(["serve"]).env(name, value), home)
}

/// With what differs from one run to the next blotted out: words with a digit in them, and what
/// stands in angle brackets.
fn blotted(text: &str) -> String {
    let mut blotted = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_in_word = |c: char| c.is_ascii_alphanumeric();
        let length = match c {
            '<' => rest.find('>').unwrap_or(rest.len()),
            _ if is_in_word(c) => rest.find(|c| !is_in_word(c)).unwrap_or(rest.len()),
            _ => c.len_utf8(),
        };
        let (part, after) = rest.split_at(length);
        let differs = c == '<' || part.contains(|c: char| c.is_ascii_digit());
        blotted += if differs { "#" } else { part };
        rest = after;
    }
    blotted
}

#[test]
fn a_command_says_the_same_through_the_daemon_and_alone() {
    let sandbox = Sandbox::start();
    let mut home = home(&sandbox, "");
    home.set(sandbox.client_secret());
    let daemon = Daemon::start(&home);
    // So that both find the same.
    home.token("sandbox");

    let commands: [&[&str]; 14] = [
        &["token", "sandbox"],
        &["token", "sandbox", "--min-lifetime", "30m"],
        &["token", "sandbxo"],
        &["token", "sandbox-person"],
        &["account", "list"],
        &["account", "show", "sandbox"],
        &["account", "show", "a/../b?c#d %2e"],
        &["account", "test", "sandbox", "--no-send"],
        &["account", "test", "sandbox", "--to", "ops@contoso.com"],
        &["account", "test", "sandbox-person", "--no-send"],
        &["rotate", "sandbox"],
        &["rotate", "sandbox", "--force"],
        &["rotate", "--all"],
        &["rotate", "sandbox", "nobody"],
    ];
    for command in commands {
        for format in [&[][..], &["--json"]] {
            let arguments = || command.iter().chain(format).copied();
            let through = home.run(arguments());
            let alone = home.run(arguments().chain(["--no-daemon"]));
            same(command, &through, &alone);
        }
    }

    for (to, input) in [
        ("ops@contoso.com", "Grüße\n.\n"),
        ("nobody at all", "refused here"),
        ("ops@contoso.com", ""),
    ] {
        for format in [&[][..], &["--json"]] {
            let send = ["send", "--account", "sandbox", "--subject", "ü", "--to", to];
            let arguments = || send.iter().chain(format).copied();
            let through = run_with(&mut home.postrider(arguments()), input);
            let alone = home.postrider(arguments().chain(["--no-daemon"]));
            let alone = run_with(&mut { alone }, input);
            same(&send, &through, &alone);
        }
    }
    daemon.terminate().expect_status(0);
}

#[track_caller]
fn same(command: &[&str], through: &Ended, alone: &Ended) {
    assert_eq!(
        through.status, alone.status,
        "{command:?} {through:?} {alone:?}"
    );
    assert_eq!(
        (blotted(&through.stdout), blotted(&through.stderr)),
        (blotted(&alone.stdout), blotted(&alone.stderr)),
        "{command:?}"
    );
}

#[test]
fn the_daemon_does_the_work_where_it_runs_and_the_command_where_it_was_killed() {
    let sandbox = Sandbox::start();
    let mut home = home(&sandbox, "");
    let daemon = only_the_daemon_knows(&sandbox, &home);

    let file = home.path().join("attached.txt");
    write_private(&file, "attached");
    home.run(["rotate", "sandbox", "--force"]).expect_status(0);
    home.run(["rotate", "sandbox", "--force", "--no-daemon"])
        .expect_status(78);
    let test = ["account", "test", "sandbox", "--to", "ops@contoso.com"];
    home.run(test).expect_status(0);
    home.run([
        "send",
        "--account",
        "sandbox",
        "--to",
        "ops@contoso.com",
        "--text",
        "x",
        "--attach",
        "attached.txt",
    ])
    .expect_status(0);
    let mail = sandbox.mail("ops@contoso.com");
    assert_eq!(mail.len(), 2);
    assert!(
        mail.iter()
            .any(|mail| read_mail(mail).contains("attached.txt"))
    );
    home.run(["status"]).expect_status(0);

    daemon.kill();

    // Its socket is there, and nobody listens.
    assert!(home.state().join("control.sock").exists());
    let ended = home.run(["rotate", "sandbox", "--force"]).expect_status(78);
    assert!(ended.stderr.contains("SANDBOX_CLIENT_SECRET"), "{ended:?}");
    home.run(["status"]).expect_status(69);
    home.run(["reload"]).expect_status(69);
    home.set(sandbox.client_secret());
    home.run(["rotate", "sandbox", "--force"]).expect_status(0);
    let ended = home.run(["--log", "info", "token", "sandbox"]);
    // A daemon that is not there is nothing to speak of.
    assert!(!ended.stderr.contains("daemon"), "{ended:?}");

    // The next one takes its place.
    let daemon = Daemon::start(&home);
    home.run(["status"]).expect_status(0);
    daemon.terminate().expect_status(0);
    assert!(!home.state().join("control.sock").exists());
}

#[test]
fn a_daemon_that_hangs_keeps_nobody_waiting() {
    let sandbox = Sandbox::start();
    let mut home = home(&sandbox, "");
    home.set(sandbox.client_secret());
    let daemon = Daemon::start(&home);
    let token = home.token("sandbox");
    daemon.signal(Signal::STOP);
    // Some of its threads go on for a moment.
    let process = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    let stopped = waitpid(process, WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(stopped.1.stopped(), "{stopped:?}");

    let ended = home
        .run(["--log", "info", "token", "sandbox"])
        .expect_status(0);
    assert_eq!(ended.token(), token);
    assert!(ended.stderr.contains("it does not answer"), "{ended:?}");
    let status = home.run(["status"]).expect_status(69);
    // It is not absent.
    let said = "cannot be asked: it does not answer";
    assert!(status.stdout.contains(said), "{status:?}");
    let reload = home.run(["reload"]).expect_status(69);
    assert!(!reload.stderr.contains("start one"), "{reload:?}");

    daemon.signal(Signal::CONT);
    home.run(["status"]).expect_status(0);
    daemon.terminate().expect_status(0);
}

#[test]
fn a_command_with_other_settings_works_alone() {
    let sandbox = Sandbox::start();
    let mut home = home(&sandbox, "");
    home.set(sandbox.client_secret());
    let daemon = Daemon::start(&home);
    write_private(&home.path().join("other.toml"), config(&sandbox, ""));
    let directory = home.path().join("here");
    std::os::unix::fs::symlink(home.path(), &directory).unwrap();

    let other = ["--log", "info", "--config", "other.toml", "account", "list"];
    let ended = home.run(other).expect_status(0);
    assert!(ended.stderr.contains("its configuration is"), "{ended:?}");
    let status = home
        .run(["--config", "other.toml", "status"])
        .expect_status(69);
    assert!(status.stdout.contains("its configuration is"), "{status:?}");

    let elsewhere = [
        "--log",
        "info",
        "--state-dir",
        "elsewhere",
        "account",
        "list",
    ];
    let ended = home.run(elsewhere).expect_status(0);
    assert!(!ended.stderr.contains("daemon"), "{ended:?}");

    // The same file by another name.
    let same = ["--config", "here/postrider.toml", "status"];
    home.run(same).expect_status(0);
    daemon.terminate().expect_status(0);
}

#[test]
fn a_message_that_the_daemon_took_with_it_is_told_of_and_not_sent_again() {
    let sandbox = Sandbox::start();
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let account = format!(
        "[account.slow]\nusername = \"slow@example.org\"\n\
         server = {{ host = \"localhost\", port = {}, tls = \"implicit\" }}\n\
         auth = {{ plugin = \"basic\", password = {{ env = \"SLOW_PASSWORD\" }} }}\n",
        gate.local_addr().unwrap().port()
    );
    let mut home = home(&sandbox, &account);
    home.set(("SLOW_PASSWORD", "slow"));
    let daemon = Daemon::start(&home);

    let send = [
        "send",
        "--account",
        "slow",
        "--to",
        "a@example.org",
        "--text",
        "x",
    ];
    let mut send = home.postrider(send);
    let send = send.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let (_connection, _) = gate.accept().unwrap();
    daemon.kill();

    let ended = send.unwrap().wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(76), "{said}");
    assert!(said.contains("look for it in the daemon's log"), "{said}");
    gate.set_nonblocking(true).unwrap();
    assert!(gate.accept().is_err(), "it was sent again");
}

#[test]
fn an_account_that_is_not_there_is_told_of_before_the_message_is_read() {
    let sandbox = Sandbox::start();
    let home = home(&sandbox, "");
    for daemon in [None, Some(())] {
        let daemon = daemon.map(|()| only_the_daemon_knows(&sandbox, &home));
        let mut send = home.postrider(["send", "--account", "nobody", "--to", "a@example.org"]);
        let mut send = send
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody types anything, nor says that nothing will come.
        let kept = send.stdin.take();

        let mut said = String::new();
        let mut stderr = send.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();

        assert_eq!(send.wait().unwrap().code(), Some(78), "{said}");
        assert!(said.contains("nobody"), "{said}");
        drop((kept, daemon));
    }
}

#[test]
fn curl_asks_for_everything() {
    if Curl::is_missing() {
        return;
    }
    let sandbox = Sandbox::start();
    let home = home(&sandbox, "");
    let daemon = only_the_daemon_knows(&sandbox, &home);
    let curl = Curl::over(&home.state().join("control.sock"));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(home.state().join("control.sock")), 0o600);
    assert_eq!(mode(home.state()), 0o700);

    let hello = curl.get("/v1/hello");
    assert_eq!(hello["pid"], daemon.id());
    let status = curl.get("/v1/status");
    assert_eq!(status["state"], "running");
    assert_eq!(status["generation"], 1);
    let accounts = curl.get("/v1/accounts");
    assert_eq!(accounts[0]["name"], "sandbox");
    let shown = curl.get("/v1/accounts/sandbox");
    assert!(
        shown.to_string().contains("SANDBOX_CLIENT_SECRET"),
        "{shown}"
    );
    assert!(!shown.to_string().contains(sandbox.client_secret().1));

    let token = curl.ask(&["--request", "POST"], "/v1/accounts/sandbox/token");
    assert_eq!(token.status, 200, "{}", token.body);
    assert_eq!(token.json()["token_type"], "Bearer");
    assert_eq!(token.json()["access_token"], home.token("sandbox"));
    let (status, rotated) = curl.post("/v1/accounts/sandbox/rotate", &json!({ "force": true }));
    assert_eq!((status, &rotated["outcome"]), (200, &json!("refreshed")));
    let (status, checked) = curl.post("/v1/accounts/sandbox/check", &json!({}));
    assert_eq!((status, &checked["check"]["ok"]), (200, &json!(true)));
    let message = json!({
        "account": "sandbox", "to": "ops@contoso.com", "subject": "curl", "text": "by hand",
    });
    let (status, sent) = curl.post("/v1/messages", &message);
    assert_eq!((status, &sent["complete"]), (200, &json!(true)), "{sent}");
    assert_eq!(sandbox.mail("ops@contoso.com").len(), 1);
    let (status, reloaded) = curl.post("/v1/reload", &json!({}));
    assert_eq!((status, &reloaded["generation"]), (200, &json!(2)));

    let post = |body: &'static str| ["--data", body];
    curl.refused(&[], "/v1/nothing", 404, "usage.no_such_path");
    curl.refused(&post("{}"), "/v1/status", 405, "usage.method");
    curl.refused(&[], "/v1/accounts/nobody", 404, "config.no_such_account");
    let token = "/v1/accounts/sandbox/token";
    curl.refused(&post("no JSON"), token, 400, "usage.request");
    curl.refused(&post(r#"{"mni_lifetime": 1}"#), token, 400, "usage.request");
    curl.refused(
        &post(r#"{"min_lifetime": -1}"#),
        token,
        400,
        "usage.request",
    );
    let large = home.path().join("large");
    write_private(&large, vec![b'1'; 100_000]);
    let large = format!("@{}", large.display());
    curl.refused(&["--data-binary", &large], token, 413, "usage.too_large");
    // Announced, and never sent; and longer than announced, of which the rest is no request.
    let announced = ["--header", "Content-Length: 99999999999", "--data", "{}"];
    curl.refused(&announced, token, 413, "usage.too_large");
    let short = ["--header", "Content-Length: 1", "--data", "{}"];
    curl.refused(&short, token, 400, "usage.request");
    curl.refused(&post("{}"), "/v1/accounts/%ff/token", 400, "usage.request");
    let person = "/v1/accounts/sandbox-person/token";
    curl.refused(&post("{}"), person, 409, "auth.sign_in_needed");
    daemon.terminate().expect_status(0);
}

const SCHEDULES: &str = r#"
local pr = require "postrider"
pr.every("1h", function(run)
    pr.fs.write("HOME/" .. run.name .. "-" .. run.reason, "ran")
end, { name = "good", overlap = "allow" })
pr.cron("0 8 * * mon-fri", function()
    error("the report cannot be made")
end, { name = "bad/one two", tz = "Europe/Paris" })
pr.every("2h", function() end)
"#;

/// A home whose daemon has schedules: a good one, a bad one, and one without a name.
fn with_schedules(sandbox: &Sandbox) -> Home {
    let home = home(sandbox, "");
    let file = home.path().join("postrider.toml");
    let config = fs::read_to_string(&file).unwrap();
    let fs = format!(
        "[scripts]\nfs = {{ write = [\"{}\"] }}\n",
        home.path().display()
    );
    write_private(&file, config.replacen("[scripts]\n", &fs, 1));
    let script = SCHEDULES.replace("HOME", &home.path().display().to_string());
    write_private(&home.path().join("scripts.d/plan.lua"), script);
    home
}

#[test]
fn schedules_are_listed_run_paused_and_resumed_through_the_daemon() {
    let sandbox = Sandbox::start();
    let home = with_schedules(&sandbox);
    let daemon = only_the_daemon_knows(&sandbox, &home);

    let list = home.json(["schedule", "list"]);
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, [&json!("bad/one two"), &json!("good"), &Value::Null]);
    assert_eq!(list[0]["zone"], "Europe/Paris");
    assert_eq!(list[1]["plan"], "every 1h");
    let listed = home.run(["schedule", "list"]).expect_status(0);
    assert!(
        listed.stdout.contains("0 8 * * mon-fri Europe/Paris"),
        "{listed:?}"
    );
    let status = home.run(["status"]).expect_status(0);
    assert!(status.stdout.contains("good in "), "{status:?}");

    let ran = home.run(["schedule", "run", "good"]).expect_status(0);
    assert!(ran.stdout.starts_with("ok good ran for "), "{ran:?}");
    assert!(home.path().join("good-manual").exists());
    let ran = home
        .run(["schedule", "run", "bad/one two"])
        .expect_status(1);
    assert!(
        ran.stderr.contains("plan.lua:7: the report cannot be made"),
        "{ran:?}"
    );
    let ran = home
        .run(["--json", "schedule", "run", "bad/one two"])
        .expect_status(1);
    assert_eq!(ran.json()["error"]["code"], "script.raised");
    let unknown = home.run(["schedule", "run", "goof"]).expect_status(66);
    assert!(
        unknown.stderr.contains("did you mean \"good\"?"),
        "{unknown:?}"
    );
    let listed = home.run(["schedule", "list"]).expect_status(0);
    assert!(listed.stdout.contains("bad/one two: "), "{listed:?}");

    let history = home.json(["schedule", "history", "bad/one two"]);
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(history[0]["reason"], "manual");
    assert_eq!(history[0]["ok"], false);
    let history = home.json(["schedule", "history", "bad/one two", "--limit", "1"]);
    assert_eq!(history.as_array().unwrap().len(), 1);
    home.run(["schedule", "history", "goof"]).expect_status(66);

    home.run(["schedule", "pause", "good"]).expect_status(0);
    assert_eq!(home.json(["schedule", "list"])[1]["paused"], true);
    assert_eq!(daemon.status()["schedules"]["paused"], 1);
    home.run(["schedule", "resume", "good"]).expect_status(0);
    assert_eq!(home.json(["schedule", "list"])[1]["paused"], false);
    home.run(["schedule", "pause", "goof"]).expect_status(66);
    daemon.terminate().expect_status(0);
}

#[test]
fn schedules_are_seen_and_run_without_a_daemon() {
    let sandbox = Sandbox::start();
    let mut home = with_schedules(&sandbox);
    home.set(sandbox.client_secret());

    // Looking leaves nothing behind.
    assert_eq!(home.json(["schedule", "list"]), json!([]));
    home.run(["schedule", "history", "good"]).expect_status(66);
    assert!(!home.state().join("schedules.db").exists());

    let ran = home.run(["schedule", "run", "good"]).expect_status(0);
    assert!(ran.stdout.starts_with("ok good ran for "), "{ran:?}");
    assert!(home.path().join("good-manual").exists());
    let ran = home
        .run(["schedule", "run", "bad/one two"])
        .expect_status(1);
    assert!(
        ran.stderr.contains("plan.lua:7: the report cannot be made"),
        "{ran:?}"
    );
    let unknown = home.run(["schedule", "run", "goof"]).expect_status(66);
    assert!(
        unknown.stderr.contains("did you mean \"good\"?"),
        "{unknown:?}"
    );

    // What was done alone the daemon knows, and the other way round.
    home.run(["schedule", "pause", "good"]).expect_status(0);
    let alone = home.json(["schedule", "list", "--no-daemon"]);
    let daemon = Daemon::start(&home);
    let through = home.json(["schedule", "list"]);
    assert_eq!(through[1]["paused"], true);
    for (name, number) in [("bad/one two", 0), ("good", 1)] {
        assert_eq!(alone[number]["name"], name);
        assert_eq!(alone[number]["last"], through[number]["last"]);
        let history = ["schedule", "history", name];
        let [through, alone] = [&[][..], &["--no-daemon"]].map(|more| {
            home.run(history.iter().chain(more).copied())
                .expect_status(0)
        });
        assert_eq!(through.stdout, alone.stdout);
        assert!(through.stdout.contains("manual"), "{through:?}");
    }
    daemon.terminate().expect_status(0);

    // A script that is wrong is told of with its place.
    write_private(&home.path().join("scripts.d/wrong.lua"), "local x =\n");
    let wrong = home.run(["schedule", "run", "good"]).expect_status(65);
    assert!(wrong.stderr.contains("wrong.lua:"), "{wrong:?}");
}

/// A home with schedules, whose daemon is asked for metrics.
fn with_metrics(sandbox: &Sandbox) -> (Home, Curl) {
    let home = with_schedules(sandbox);
    let file = home.path().join("postrider.toml");
    let address = format!("127.0.0.1:{}", free_port());
    let serve = format!("[serve]\nmetrics = \"{address}\"\n");
    let config = fs::read_to_string(&file).unwrap();
    write_private(&file, config.replacen("[serve]\n", &serve, 1));
    (home, Curl::at(&address))
}

#[test]
fn what_the_daemon_counts_can_be_scraped() {
    if Curl::is_missing() {
        return;
    }
    let sandbox = Sandbox::start();
    let (home, curl) = with_metrics(&sandbox);
    let daemon = only_the_daemon_knows(&sandbox, &home);

    let token = home.token("sandbox");
    home.run(["rotate", "sandbox", "--force"]).expect_status(0);
    let send = [
        "send",
        "--account",
        "sandbox",
        "--to",
        "ops@contoso.com",
        "--text",
        "x",
    ];
    home.run(send).expect_status(0);
    home.run(["schedule", "run", "good"]).expect_status(0);
    home.run(["schedule", "run", "bad/one two"])
        .expect_status(1);
    home.run(["schedule", "pause", "good"]).expect_status(0);
    let before = samples(&curl.ask(&[], "/metrics").body);
    home.run(["reload"]).expect_status(0);

    let scraped = curl.ask(&[], "/metrics");
    let (status, kind, text) = (scraped.status, scraped.content_type, scraped.body);
    assert_eq!(status, 200, "{text}");
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let found = samples(&text);
    for (sample, value) in [
        (
            r#"postrider_sends_total{account="sandbox",verdict="accepted"}"#,
            1.0,
        ),
        (r#"postrider_refreshes_total{result="ok"}"#, 2.0),
        (
            r#"postrider_plugin_calls_total{plugin="oauth",operation="create",result="ok"}"#,
            1.0,
        ),
        (
            r#"postrider_plugin_calls_total{plugin="oauth",operation="obtain",result="ok"}"#,
            2.0,
        ),
        (
            r#"postrider_plugin_calls_total{plugin="oauth",operation="sasl",result="ok"}"#,
            1.0,
        ),
        (
            r#"postrider_schedule_runs_total{schedule="good",result="ok"}"#,
            1.0,
        ),
        (
            r#"postrider_schedule_runs_total{schedule="bad/one two",result="failed"}"#,
            1.0,
        ),
        (r#"postrider_reloads_total{result="ok"}"#, 1.0),
        ("postrider_generation", 2.0),
        ("postrider_schedules", 3.0),
        ("postrider_schedules_paused", 1.0),
        (r#"postrider_accounts{state="fresh"}"#, 1.0),
        (r#"postrider_lua_calls_total{script="plan.lua"}"#, 2.0),
        (r#"postrider_lua_errors_total{script="plan.lua"}"#, 1.0),
    ] {
        assert_eq!(found.get(sample), Some(&value), "{sample} in {text}");
    }
    // Though everything was loaded anew, no counter went back.
    let counters = before
        .iter()
        .filter(|(sample, _)| sample.contains("_total"));
    for (sample, value) in counters {
        assert!(found.get(sample) >= Some(value), "{sample} in {text}");
    }
    let memory = found.get(r#"postrider_lua_memory_bytes{script="plan.lua"}"#);
    assert!(memory.is_some_and(|octets| *octets > 1000.0), "{text}");
    match read_by_a_stranger(&text) {
        Ok(theirs) => {
            assert_eq!(theirs.len(), found.len(), "{theirs:?}");
            let sends = theirs
                .iter()
                .find(|one| one["name"] == "postrider_sends_total");
            let sends = sends.unwrap();
            assert_eq!(
                (&sends["type"], sends["value"].as_f64()),
                (&json!("counter"), Some(1.0))
            );
        }
        Err(reason) => skip(&reason),
    }

    let (_, secret) = sandbox.client_secret();
    let status = home.run(["status", "--json"]).expect_status(0).stdout;
    for said in [text, status] {
        assert!(!said.contains(secret) && !said.contains(&token), "{said}");
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn its_health_is_told_to_who_asks_by_the_address() {
    if Curl::is_missing() {
        return;
    }
    let sandbox = Sandbox::start();
    let (home, curl) = with_metrics(&sandbox);
    let daemon = only_the_daemon_knows(&sandbox, &home);

    let health = curl.get("/healthz");
    assert_eq!(health["ok"], true, "{health}");
    for check in ["running", "scheduler", "vault"] {
        assert_eq!(health["checks"][check]["ok"], true, "{health}");
    }
    let again = curl.ask(&["--header", "Host: localhost:1"], "/metrics");
    assert_eq!(again.status, 200);
    // A page in a browser, led here by a name of its own.
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
    ] {
        for path in ["/metrics", "/healthz"] {
            let answer = curl.ask(&["--header", &format!("Host: {host}")], path);
            assert_eq!(answer.status, 421, "{host} {}", answer.body);
            assert!(!answer.body.contains("postrider"), "{}", answer.body);
        }
    }
    assert_eq!(curl.ask(&[], "/v1/status").status, 404);
    assert_eq!(curl.ask(&["--data", "x"], "/metrics").status, 405);
    daemon.terminate().expect_status(0);
}
