//! The command line as its users meet it: exit statuses, words, JSON.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Peer, postrider, root, run, write_private};

/// The binary in `home`, where nothing but `postrider.toml` configures it.
fn in_home(home: &Path) -> Command {
    let mut command = postrider();
    command.current_dir(home).args(["--state-dir", "state"]);
    command
}

const CONFIG: &str = r#"
[account.alerts]
provider = "microsoft365"
username = "svc-mail@contoso.com"
sender = "alerts@contoso.com"
test_recipient = "admin@contoso.com"

[account.alerts.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.onmicrosoft.com"
client_id = "0f1e2d3c-0000-0000-0000-000000000000"
client_secret = { env = "ALERTS_SECRET" }

[account.printer]
username = "printer@example.org"
sender = "printer@example.org"
server = { host = "smtp.example.org", port = 587, tls = "starttls" }
auth = { plugin = "basic", password = { env = "PRINTER_PASSWORD" } }
"#;

#[test]
fn a_right_configuration_checks_and_lists() {
    let home = tempfile::tempdir().unwrap();
    write_private(&home.path().join("postrider.toml"), CONFIG);

    let checked = run(in_home(home.path()).arg("check")).expect_status(0);
    assert!(checked.stdout.contains("2 accounts"), "{}", checked.stdout);

    let listed = run(in_home(home.path()).args(["account", "list", "--json"])).expect_status(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["name"], "alerts");
    assert_eq!(listed[0]["server"], "smtp.office365.com:587");
    assert_eq!(listed[1]["plugin"], "basic");

    let shown = run(in_home(home.path()).args(["account", "show", "alerts"])).expect_status(0);
    assert!(shown.stdout.contains("ALERTS_SECRET"), "{}", shown.stdout);
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    let home = tempfile::tempdir().unwrap();
    write_private(&home.path().join("postrider.toml"), CONFIG);
    let mut command = postrider();
    command.current_dir(home.path()).arg("check");
    for name in ["POSTRIDER_CONFIG", "POSTRIDER_STATE_DIR", "POSTRIDER_LOG"] {
        command.env(name, "");
    }

    let checked = run(&mut command).expect_status(0);

    assert!(checked.stdout.contains("2 accounts"), "{}", checked.stdout);
}

#[test]
fn every_mistake_of_a_file_is_shown_at_once() {
    let home = tempfile::tempdir().unwrap();
    let broken = CONFIG
        .replace("username = \"svc-mail", "usrname = \"svc-mail")
        .replace("port = 587", "port = 70000")
        .replace("client_credentials", "client_credential");
    write_private(&home.path().join("postrider.toml"), broken);

    let ended = run(in_home(home.path()).arg("check")).expect_status(78);

    for expected in [
        "usrname",
        "username",
        "70000",
        "client_credentials",
        "postrider.toml:4:",
    ] {
        assert!(
            ended.stderr.contains(expected),
            "{expected}: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_setting_the_plugin_does_not_know_is_named() {
    let home = tempfile::tempdir().unwrap();
    write_private(
        &home.path().join("postrider.toml"),
        CONFIG.replace(
            "plugin = \"basic\",",
            "plugin = \"basic\", passwort = \"x\",",
        ),
    );

    let ended = run(in_home(home.path()).arg("check"));

    assert_eq!(ended.status, 78, "{}{}", ended.stdout, ended.stderr);
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("passwort"), "{said}");
}

#[test]
fn a_mistyped_account_finds_its_neighbour() {
    let home = tempfile::tempdir().unwrap();
    write_private(&home.path().join("postrider.toml"), CONFIG);

    let ended = run(in_home(home.path()).args(["account", "show", "alrets"])).expect_status(78);
    assert!(
        ended.stderr.contains("did you mean \"alerts\"?"),
        "{}",
        ended.stderr
    );

    let ended =
        run(in_home(home.path()).args(["--json", "account", "show", "alrets"])).expect_status(78);
    let error: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(error["error"]["code"], "config.no_such_account");
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    run(postrider().arg("--no-such-flag")).expect_status(64);
    run(postrider().arg("send")).expect_status(64);
    for command in [
        "run",
        "send",
        "account",
        "check",
        "plugin",
        "sandbox",
        "completions",
    ] {
        let help = run(postrider().args([command, "--help"])).expect_status(0);
        assert!(help.stdout.contains("Usage: postrider"), "{command}");
    }
    let completions = run(postrider().args(["completions", "bash"])).expect_status(0);
    assert!(
        completions.stdout.contains("complete"),
        "{}",
        completions.stdout
    );
}

#[test]
fn a_server_that_is_not_there_is_a_temporary_failure_with_advice() {
    let home = tempfile::tempdir().unwrap();
    let port = support::free_port();
    write_private(
        &home.path().join("postrider.toml"),
        CONFIG.replace(
            "smtp.example.org\", port = 587",
            &format!("localhost\", port = {port}"),
        ),
    );

    let ended = run(in_home(home.path()).env("PRINTER_PASSWORD", "x").args([
        "send",
        "--account",
        "printer",
        "--to",
        "a@example.org",
        "--text",
        "t",
    ]))
    .expect_status(75);

    assert!(
        ended.stderr.contains("could not be reached"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("try: "), "{}", ended.stderr);
}

#[test]
fn a_secret_that_is_not_there_is_named_by_its_reference() {
    let home = tempfile::tempdir().unwrap();
    let (_sandbox, announced) = Peer::announcing(in_home(home.path()).args(["--json", "sandbox"]));
    let config = announced["config"].as_str().unwrap();
    write_private(&home.path().join("postrider.toml"), config);

    let ended = run(in_home(home.path())
        .env_remove("SANDBOX_CLIENT_SECRET")
        .args(["account", "test", "--no-send"])
        .arg(account_in(config)));

    assert_eq!(ended.status, 78, "{}{}", ended.stdout, ended.stderr);
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("SANDBOX_CLIENT_SECRET"), "{said}");
}

#[test]
fn what_the_sandbox_prints_is_a_working_configuration() {
    let home = tempfile::tempdir().unwrap();
    let (_sandbox, announced) = Peer::announcing(in_home(home.path()).args(["--json", "sandbox"]));
    let config = announced["config"].as_str().unwrap();
    write_private(&home.path().join("postrider.toml"), config);
    let secret = announced["environment"]["SANDBOX_CLIENT_SECRET"]
        .as_str()
        .unwrap();

    let tested = run(in_home(home.path())
        .env("SANDBOX_CLIENT_SECRET", secret)
        .args(["account", "test"])
        .arg(account_in(config)))
    .expect_status(0);

    for stage in [
        "dns", "tcp", "tls", "ehlo", "token", "claims", "auth", "sender", "accepted",
    ] {
        assert!(tested.stdout.contains(stage), "{stage}: {}", tested.stdout);
    }
    assert_eq!(
        support::files(&home.path().join("state/sandbox"), "eml").len(),
        1
    );
}

#[test]
fn sandboxes_do_not_disturb_each_other() {
    let home = tempfile::tempdir().unwrap();
    let (_first, announced) = Peer::announcing(in_home(home.path()).args(["--json", "sandbox"]));
    let config = announced["config"].as_str().unwrap();
    write_private(&home.path().join("postrider.toml"), config);
    fs::write(home.path().join("nothing.lua"), "").unwrap();

    run(in_home(home.path()).args(["run", "--sandbox", "nothing.lua"])).expect_status(0);
    let second = run(in_home(home.path()).arg("sandbox")).expect_status(69);

    assert!(
        second.stderr.contains("another sandbox"),
        "{}",
        second.stderr
    );
    run(in_home(home.path())
        .env(
            "SANDBOX_CLIENT_SECRET",
            announced["environment"]["SANDBOX_CLIENT_SECRET"]
                .as_str()
                .unwrap(),
        )
        .args(["account", "test", "--no-send"])
        .arg(account_in(config)))
    .expect_status(0);
}

#[test]
fn a_script_that_fails_says_where_and_never_shows_a_backtrace() {
    let home = tempfile::tempdir().unwrap();
    for (script, status, expected) in [
        ("local x = = 1", 65, "broken.lua:1:"),
        ("\nerror('on purpose')", 1, "broken.lua:2: on purpose"),
        (
            "local pr = require 'postrider'\npr.acount {}",
            1,
            "broken.lua:2:",
        ),
        (
            "while true do pcall(function() while true do end end) end",
            70,
            "broken.lua:1:",
        ),
    ] {
        fs::write(home.path().join("broken.lua"), script).unwrap();
        let ended = run(in_home(home.path()).args(["run", "broken.lua"])).expect_status(status);
        assert!(
            ended.stderr.contains(expected),
            "{script}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("RUST_BACKTRACE"), "{}", ended.stderr);
    }
    let ended = run(in_home(home.path()).args(["run", "not-there.lua"])).expect_status(66);
    assert!(ended.stderr.contains("not-there.lua"), "{}", ended.stderr);
}

#[test]
fn the_shipped_plugins_are_found_and_described() {
    let home = tempfile::tempdir().unwrap();

    let listed = run(in_home(home.path()).args(["plugin", "list", "--json"])).expect_status(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert!(names.iter().any(|name| **name == "oauth"), "{names:?}");

    let inspected = run(in_home(home.path()).args(["plugin", "inspect", "oauth"])).expect_status(0);
    for expected in ["XOAUTH2", "OAUTHBEARER", "client_secret", "(secret)"] {
        assert!(
            inspected.stdout.contains(expected),
            "{expected}: {}",
            inspected.stdout
        );
    }
}

#[test]
fn every_script_that_ships_would_load() {
    let scripts = support::files(&root().join("scripts"), "lua");
    assert!(!scripts.is_empty());
    let home = tempfile::tempdir().unwrap();
    run(in_home(home.path()).arg("check").args(scripts)).expect_status(0);
}

#[test]
fn a_check_notices_files_that_are_not_there() {
    let home = tempfile::tempdir().unwrap();
    for (missing, expected) in [
        (
            "auth = { plugin = \"basic\", password = { file = \"gone.secret\" } }",
            "gone.secret",
        ),
        (
            "ca_file = \"gone.pem\"\nauth = { plugin = \"basic\", password = { env = \"P\" } }",
            "gone.pem",
        ),
    ] {
        let config = CONFIG.replace(
            "auth = { plugin = \"basic\", password = { env = \"PRINTER_PASSWORD\" } }",
            missing,
        );
        write_private(&home.path().join("postrider.toml"), config);

        let ended = run(in_home(home.path()).arg("check")).expect_status(78);

        assert!(ended.stdout.contains(expected), "{}", ended.stdout);
        assert!(ended.stdout.contains("printer"), "{}", ended.stdout);
    }
}

#[test]
fn with_a_sandbox_nothing_goes_to_the_outside() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = CONFIG.replace(
        "flow = \"client_credentials\"",
        "flow = \"client_credentials\"\nauthority = \"https://login.example.org\"",
    );
    write_private(&home.path().join("postrider.toml"), elsewhere);
    for (account, place) in [
        ("printer", "smtp.example.org:587"),
        ("alerts", "https://login.example.org"),
    ] {
        fs::write(
            home.path().join("script.lua"),
            format!(
                "require 'postrider'.account '{account}':send {{ to = 'a@example.org', text = 't' }}"
            ),
        )
        .unwrap();

        let ended = run(in_home(home.path()).args(["run", "--sandbox", "script.lua"]));

        assert_eq!(ended.status, 78, "{}", ended.stderr);
        assert!(ended.stderr.contains(place), "{}", ended.stderr);
    }
}

/// The name of the first account in a configuration.
fn account_in(config: &str) -> String {
    config
        .lines()
        .find_map(|line| line.strip_prefix("[account.")?.strip_suffix(']'))
        .unwrap()
        .to_owned()
}
