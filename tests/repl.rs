//! `postrider repl`, fed through a pipe.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;

use support::home::Home;
use support::sandbox::{Sandbox, read_mail};
use support::{Ended, run, run_with};

/// What the sandbox that the session starts knows.
const ALERTS: &str = r#"
[account.alerts]
provider = "microsoft365"
username = "svc-mail@contoso.com"
sender = "alerts@contoso.com"

[account.alerts.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.onmicrosoft.com"
client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f"
client_secret = { env = "ALERTS_CLIENT_SECRET" }

[account.printer]
username = "printer@example.org"
sender = "printer@example.org"
server = { host = "smtp.example.org", port = 587, tls = "starttls" }
auth = { plugin = "basic", password = { env = "PRINTER_PASSWORD" } }
"#;

fn session(home: &Home, lines: &str) -> Ended {
    run_with(&mut home.postrider(["repl"]), lines)
}

#[test]
fn results_are_printed_and_globals_stay_where_locals_end() {
    let home = Home::new("");

    let ended = session(&home, "1 + 1\nx = { a = 1, \"b\\n\" }\nlocal y = 2\nx, y\n");

    let ended = ended.expect_status(0);
    assert_eq!(ended.stdout, "2\n{ \"b\\n\", a = 1 }\tnil\n");
    assert_eq!(ended.stderr, "");
}

#[test]
fn what_a_line_leaves_open_goes_on_in_the_next() {
    let home = Home::new("");

    let ended = session(&home, "for i = 1, 2 do\n  print(i)\nend\n[[a\nb]]\n");

    assert_eq!(ended.expect_status(0).stdout, "1\n2\n\"a\\nb\"\n");
}

#[test]
fn a_line_that_fails_is_told_with_its_number_and_the_next_one_runs() {
    let home = Home::new("");

    let ended = session(&home, "x = 1\n\nerror \"boom\"\nx = = 2\nfor i = 1 do\n");

    let ended = ended.expect_status(1);
    let told: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(told[0], "error: repl:3: boom");
    assert!(told[1].starts_with("error: repl:4: "), "{told:?}");
    assert!(told[2].starts_with("error: repl:5: "), "{told:?}");
    assert_eq!(
        session(&home, "error \"a\"\n7").expect_status(1).stdout,
        "7\n"
    );
}

#[test]
fn a_line_can_wait_handlers_hear_and_schedules_run_meanwhile() {
    let home = Home::new("");
    let lines = "\
        pr.on(\"app.x\", function(e) print(\"heard\", e.n) end) and nil\n\
        pr.emit(\"app.x\", { n = 3 })\n\
        pr.after(\"10ms\", function() done = true end) and nil\n\
        while not done do pr.sleep \"5ms\" end\n\
        done\n";

    let ended = session(&home, lines).expect_status(0);

    assert!(ended.stdout.contains("heard\t3\n"), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("true\n"), "{}", ended.stdout);
}

#[test]
fn the_globals_of_the_script_are_there() {
    let home = Home::new("");
    fs::write(
        home.path().join("a.lua"),
        "local pr = require 'postrider'\nf = function() return pr.version end\n",
    )
    .unwrap();

    let ended = run_with(
        &mut home.postrider(["repl", "a.lua"]),
        "f() == pr.version\n",
    );

    assert_eq!(ended.expect_status(0).stdout, "true\n");
}

#[test]
fn a_script_that_fails_ends_the_session_before_it_begins() {
    let home = Home::new("");
    fs::write(home.path().join("a.lua"), "\nerror 'no'\n").unwrap();

    let ended = run_with(&mut home.postrider(["repl", "a.lua"]), "1\n").expect_status(1);

    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, "error: a.lua:2: no\n");
}

#[test]
fn nothing_leaves_the_machine_unless_that_is_asked_for() {
    let home = Home::new(&format!("[scripts]\nrun = [\"/bin/touch\"]\n{ALERTS}"));
    let lines = "\
        select(2, pr.run { \"/bin/touch\", \"made\" })\n\
        select(2, pr.http.get \"https://example.org/\")\n\
        account, why = pcall(pr.account, \"printer\")\n\
        account, why\n";

    let ended = session(&home, lines).expect_status(0);

    let told: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].contains("in the sandbox no program is started: /bin/touch"),
        "{told:?}"
    );
    assert!(!home.path().join("made").exists());
    assert!(
        told[1].contains("example.org:443 is not this machine"),
        "{told:?}"
    );
    assert!(told[2].contains("smtp.example.org:587"), "{told:?}");
    for line in told {
        assert!(line.contains("the repl with --live"), "{line}");
    }
}

#[test]
fn what_is_sent_in_a_dry_run_is_shown() {
    let home = Home::new(&ALERTS.replace("ALERTS_CLIENT_SECRET", "SANDBOX_CLIENT_SECRET"));
    let lines = "\
        a = pr.account \"alerts\"\n\
        a:send { to = { \"Ada <ada@example.org>\", \"bo@example.net\" }, subject = \"Disk\", text = \"x\" }.complete\n\
        after = pr.after(\"10ms\", function() a:send { to = \"late@example.org\", subject = \"Later\", text = \"x\" } done = true end)\n\
        while not done do pr.sleep \"5ms\" end\n";

    let ended = session(&home, lines).expect_status(0);

    assert_eq!(
        ended.stdout,
        "true\n\
         outbox: alerts@contoso.com → ada@example.org, bo@example.net: Disk\n\
         outbox: alerts@contoso.com → late@example.org: Later\n"
    );
}

#[test]
fn what_is_sent_live_arrives() {
    let sandbox = Sandbox::start();
    let mut home = Home::new(sandbox.config());
    home.set(sandbox.client_secret());
    let lines = "pr.account(\"sandbox\"):send { to = \"ada@example.org\", subject = \"Disk\", text = \"Full.\" }.complete\n";

    let ended = run_with(&mut home.postrider(["repl", "--live"]), lines).expect_status(0);

    assert_eq!(ended.stdout, "true\n");
    let mail = sandbox.mail("ada@example.org");
    assert_eq!(mail.len(), 1);
    assert!(read_mail(&mail[0]).contains("Subject: Disk"));
}

#[test]
fn live_and_a_dry_run_are_not_both_asked_for() {
    let home = Home::new("");
    for both in [["--live", "--dry-run"], ["--live", "--scenario=a.toml"]] {
        let ended = run(&mut home.postrider(["repl"].into_iter().chain(both))).expect_status(64);
        assert!(ended.stderr.contains("--live"), "{}", ended.stderr);
    }
}

#[test]
fn examples_are_in_the_help() {
    let home = Home::new("");
    let ended = run(&mut home.postrider(["repl", "--help"])).expect_status(0);
    assert!(ended.stdout.contains("postrider repl report.lua"));
}
