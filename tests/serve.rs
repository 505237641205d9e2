//! `postrider serve`: the real binary, its service manager, its signals, and the sandbox.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;
use support::daemon::{Daemon, holds};
use support::home::Home;
use support::sandbox::{Sandbox, read_mail};
use support::scripted::{config, home, run_now, run_to_its_end, schedules, script};
use support::{find_program, root, run, skip, write_private};

#[test]
fn it_is_ready_when_all_is_loaded_runs_schedules_and_ends_in_order() {
    let sandbox = Sandbox::start();
    let mut home = home(sandbox.config());
    home.set(sandbox.client_secret());
    script(
        &home,
        "report.lua",
        r#"
        local pr = require "postrider"
        pr.on("host.started", function(event) pr.log.info("started as " .. event.pid) end)
        pr.on("host.stopping", function() pr.log.info("it is stopping") end)
        pr.every("1h", function(run)
            local receipt, err = pr.account("sandbox"):send {
                to = "ops@contoso.com", subject = "Report", text = run.reason,
            }
            pr.log.info(receipt and "report sent" or err.message)
        end, { name = "report" })
        "#,
    );

    let daemon = Daemon::begin(&mut home.postrider(["serve"]), &home);
    let ready = daemon.told("READY=1");
    assert!(ready.contains("STATUS=generation 1, 1 script"), "{ready}");
    daemon.says(&format!("started as {}", daemon.id()));
    assert_eq!(schedules(&daemon), ["report"]);

    run_now(&daemon, "report");
    daemon.says("report sent");
    let mail = sandbox.mail("ops@contoso.com");
    assert_eq!(mail.len(), 1);
    assert!(read_mail(&mail[0]).contains("manual"));
    let status = daemon.status();
    assert_eq!(status["pid"], daemon.id(), "{status}");
    assert_eq!(status["generation"], 1, "{status}");
    assert_eq!(status["scripts"][0]["name"], "report.lua", "{status}");
    assert!(
        status["scripts"][0]["calls"].as_u64() >= Some(2),
        "{status}"
    );
    assert_eq!(status["schedules"]["total"], 1, "{status}");

    daemon.signal(Signal::TERM);
    daemon.told("STOPPING=1");
    let ended = daemon.end().expect_status(0);
    let mut rest = ended.stderr.as_str();
    for step in [
        "ready: generation 1",
        "SIGTERM: stops, within 30s",
        "no schedule runs any more",
        "no script runs any more",
        "servers were taken leave of",
        "\"stopped\"",
    ] {
        let (_, after) = rest
            .split_once(step)
            .unwrap_or_else(|| panic!("{step}: {}", ended.stderr));
        rest = after;
    }
    // A handler of the end is no schedule, and waits for none.
    let (before, _) = ended.stderr.split_once("no script runs").unwrap();
    assert!(before.contains("it is stopping"), "{}", ended.stderr);
    assert!(!home.state().join("control.sock").exists());
}

#[test]
fn after_a_crash_the_next_one_goes_on() {
    let home = home("");
    script(
        &home,
        "a.lua",
        "local pr = require 'postrider'
         pr.every('1h', function() pr.log.info('ran') end, { name = 'hourly' })",
    );
    let next = |daemon: &Daemon| {
        let (_, answer) = daemon.ask("GET", "/v1/schedules");
        let list = answer.as_array().or(answer["schedules"].as_array());
        list.unwrap()[0]["next"].clone()
    };
    let first = Daemon::start(&home);
    run_to_its_end(&first, "hourly");
    assert_eq!(first.said("\"ran\"").len(), 1);
    let due = next(&first);
    assert!(due.is_string() || due.is_number(), "{due}");
    first.kill();

    let second = Daemon::start(&home);

    // It kept its time, and what became of its last run.
    assert_eq!(next(&second), due);
    let (_, history) = second.ask("GET", "/v1/schedules/hourly/history");
    assert!(history.to_string().contains("manual"), "{history}");
    second.terminate().expect_status(0);
}

#[test]
fn a_second_daemon_in_the_same_state_directory_is_told_of_the_first() {
    let home = home("");
    let daemon = Daemon::start(&home);

    let second = home.run(["serve"]).expect_status(78);

    let pid = daemon.id().to_string();
    for part in ["another postrider serve", &pid, "--state-dir"] {
        assert!(second.stderr.contains(part), "{part}: {}", second.stderr);
    }
    assert_eq!(daemon.status()["state"], "running");
    daemon.terminate().expect_status(0);
}

#[test]
fn what_keeps_it_from_starting_is_told_with_its_place_and_what_to_do() {
    let deep = format!("socket = \"{}/control.sock\"", "d".repeat(120));
    for (serve, status, told) in [
        (
            deep.as_str(),
            78,
            &[
                "the path of the control socket is too long",
                "set serve.socket to a shorter path",
            ][..],
        ),
        (
            "socket = \"scripts.d\"",
            78,
            &[
                "something else is in its place",
                "scripts.d",
                "set serve.socket to another path",
            ],
        ),
        (
            "metrics = \"0.0.0.0:9464\"",
            78,
            &[
                "serve.metrics",
                "postrider.toml:5:11",
                "danger_metrics_anywhere",
            ],
        ),
        ("metrics = 9464", 78, &["postrider.toml:5:11", "metrics"]),
        (
            "shutdwn_timeout = \"1s\"",
            78,
            &["postrider.toml:5:1", "shutdown_timeout"],
        ),
    ] {
        let home = home("");
        home.configure(&config(serve, ""));
        let ended = home.run(["serve"]).expect_status(status);
        for part in told {
            assert!(
                ended.stderr.contains(part),
                "{serve}: {part} is not in {}",
                ended.stderr
            );
        }
        assert!(!home.state().join("control.sock").exists());
    }

    // The state directory is a file, and then one that anybody may write to.
    let home = home("");
    write_private(&home.state(), "");
    let ended = home.run(["serve"]).expect_status(78);
    let state = home.state().display().to_string();
    assert!(ended.stderr.contains(&state), "{}", ended.stderr);
    fs::remove_file(home.state()).unwrap();
    fs::create_dir(home.state()).unwrap();
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o777)).unwrap();
    let ended = home.run(["serve"]).expect_status(78);
    assert!(ended.stderr.contains("chmod"), "{}", ended.stderr);
}

#[test]
fn a_script_that_does_not_load_keeps_the_daemon_from_starting() {
    let home = home("");
    let path = script(
        &home,
        "a.lua",
        "local pr = require 'postrider'\npr.evry('1h')",
    );

    for arguments in [&["serve", "--check"][..], &["serve"]] {
        let ended = home.run(arguments.iter().copied()).expect_status(65);
        let place = format!("{}:2", path.display());
        assert!(ended.stderr.contains(&place), "{}", ended.stderr);
    }

    script(
        &home,
        "a.lua",
        "local pr = require 'postrider'\npr.log.warn('checked')",
    );
    let ended = home.run(["serve", "--check"]).expect_status(0);
    assert_eq!(ended.stdout, "ok: 1 script\n");
    // A daemon that runs is not in the way.
    let daemon = Daemon::start(&home);
    home.run(["serve", "--check"]).expect_status(0);
    daemon.terminate().expect_status(0);
}

#[test]
fn the_watchdog_hears_of_life() {
    let home = home("");
    let mut serve = home.postrider(["serve"]);
    let daemon = Daemon::started_by(serve.env("WATCHDOG_USEC", "200000"), &home);
    for _ in 0..3 {
        daemon.told("WATCHDOG=1");
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn an_account_whose_files_are_not_there_yet_is_tried_again_and_keeps_nobody_from_working() {
    let sandbox = Sandbox::start();
    let mut home = home(&with_an_account_more(sandbox.config()));
    home.set(sandbox.client_secret());
    script(&home, "a.lua", "require 'postrider'");

    let daemon = Daemon::start(&home);
    let waiting = daemon.says("not set up, and tried again");
    assert_eq!(waiting["account"], "later", "{waiting}");
    let later = || daemon.status()["accounts"][0].clone();
    let standing = later();
    assert_eq!(
        (&standing["name"], &standing["state"]),
        (&"later".into(), &"failed".into())
    );
    assert!(standing["message"].as_str().is_some(), "{standing}");
    let (status, answer) = daemon.ask("POST", "/v1/accounts/sandbox/token");
    assert_eq!(status, 200, "{answer}");

    // Its authority: the account is there, and can sign in no sooner than its secret is.
    fs::copy(sandbox.ca_file(), home.path().join("later.pem")).unwrap();
    let there = daemon.says("set up\"");
    assert_eq!(there["account"], "later", "{there}");
    let needs = daemon.says("is set up, and needs a secret: client_secret: ");
    assert_eq!(needs["account"], "later", "{needs}");
    assert_eq!(
        daemon.said("not set up, and tried again").len(),
        1,
        "said once"
    );
    let standing = later();
    assert_eq!(standing["state"], "needs_secret", "{standing}");
    let why = standing["message"].as_str().unwrap();
    assert!(why.starts_with("client_secret: "), "{why}");
    assert!(why.contains("later.secret"), "{why}");
    let shown = home.run(["status"]).expect_status(0);
    assert!(
        shown
            .stdout
            .contains("later: needs secret: client_secret: "),
        "{shown:?}"
    );
    assert!(shown.stdout.contains("\n  try: "), "{shown:?}");
    let (status, answer) = daemon.ask("POST", "/v1/accounts/later/token");
    assert!(
        status >= 400 && holds(&answer, "later.secret"),
        "{status} {answer}"
    );

    write_private(&home.path().join("later.secret"), sandbox.client_secret().1);
    assert_eq!(later()["state"], "ready");
    let (status, answer) = daemon.ask("POST", "/v1/accounts/later/token");
    assert_eq!(status, 200, "{answer}");
    daemon.terminate().expect_status(0);
}

/// The sandbox's account again, as `later`: its secret and its authority are in files that are
/// not there.
fn with_an_account_more(config: &str) -> String {
    let mut config: toml_edit::DocumentMut = config.parse().unwrap();
    let mut later = config["account"]["sandbox"].clone();
    later["ca_file"] = toml_edit::value("later.pem");
    later["auth"]["client_secret"]["file"] = toml_edit::value("later.secret");
    let secret = later["auth"]["client_secret"].as_inline_table_mut();
    secret.unwrap().remove("env");
    config["account"]["later"] = later;
    config.to_string()
}

#[test]
fn metrics_are_served_where_the_configuration_says_and_count_reloads() {
    let home = home("");
    home.configure(&config("watch = false\nmetrics = \"127.0.0.1:0\"", ""));
    let broken = script(&home, "a.lua", "require 'postrider'");
    let daemon = Daemon::start(&home);
    let address = daemon.says("serves metrics")["address"]
        .as_str()
        .unwrap()
        .to_owned();

    daemon.hang_up();
    write_private(&broken, "error 'not today'");
    daemon.hang_up();

    let text = scrape(&address, "/metrics");
    for line in [
        "reloads_total{result=\"ok\"} 1",
        "reloads_total{result=\"failed\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(scrape(&address, "/healthz").starts_with("HTTP/1.1 200"));

    // Somebody else has the address.
    let other = Home::new(&config(&format!("metrics = \"{address}\""), ""));
    fs::create_dir(other.path().join("scripts.d")).unwrap();
    let ended = other.run(["serve"]).expect_status(78);
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
    daemon.terminate().expect_status(0);
}

fn scrape(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_unit_is_right_and_confined() {
    let unit = fs::read_to_string(root().join("dist/systemd/postrider.service")).unwrap();
    is_right(&unit, 20);
}

#[test]
fn the_unit_of_a_gateway_on_a_low_port_is_right_and_hardly_less_confined() {
    let unit = fs::read_to_string(root().join("dist/systemd/postrider.service")).unwrap();
    let (_, drop_in) = unit.split_once("needs, in a drop-in,").unwrap();
    let settings = |line: &&str| line.starts_with('#') && line.contains('=');
    let lines = drop_in.lines().filter(settings).take(3);
    let lines: Vec<&str> = lines.map(|line| line.trim_start_matches('#')).collect();
    let settings = format!("{}\n", lines.join("\n"));
    assert!(
        settings.contains("\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"),
        "{settings}"
    );
    let (service, install) = unit.split_once("[Install]").unwrap();
    is_right(&format!("{service}{settings}[Install]{install}"), 30);
}

/// Whether systemd takes the unit as it is meant, and finds it exposed to tenths of at most this.
#[track_caller]
fn is_right(unit: &str, tenths: u32) {
    let Some(analyze) = find_program("systemd-analyze") else {
        return skip("systemd-analyze is not installed (package systemd)");
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.service");
    let binary = env!("CARGO_BIN_EXE_postrider");
    fs::write(&path, unit.replace("/usr/local/bin/postrider", binary)).unwrap();

    let verified = run(Command::new(&analyze).arg("verify").arg(&path)).expect_status(0);
    for line in verified.stderr.lines() {
        // Before 253 that type is not known, and the line above it is used.
        let known = line.contains("service type, ignoring: notify-reload");
        assert!(known, "{}", verified.stderr);
    }

    let security = ["security", "--offline=true", "--no-pager"];
    let threshold = format!("--threshold={tenths}");
    let mut judge = Command::new(&analyze);
    let judged = run(judge.args(security).arg(threshold).arg(&path));
    judged.expect_status(0);
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_before_a_start_and_by_a_daemon_that_keeps_the_last_one()
 {
    let home = home(
        "[account.alerts]\nusername = \"alerts@contoso.com\"\n\
         server = { host = \"smtp.contoso.com\" }\n\
         auth = { plugin = \"basic\", password = { env = \"P\" } }\n\
         [gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"alerts\"\n\
         certificate = \"office.pem\"\nkey = \"office.key\"\n",
    );
    let made = rcgen::generate_simple_self_signed(["mail.contoso.com".to_owned()]).unwrap();
    let certificate = home.path().join("office.pem");
    write_private(&certificate, made.cert.pem());
    for arguments in [&["serve", "--check"][..], &["serve"]] {
        let ended = home.run(arguments.iter().copied()).expect_status(78);
        assert!(ended.stderr.contains("office.key"), "{}", ended.stderr);
    }

    write_private(
        &home.path().join("office.key"),
        made.signing_key.serialize_pem(),
    );
    let checked = home.run(["serve", "--check"]).expect_status(0).stdout;
    assert_eq!(checked, "ok: 1 gateway, 0 scripts\n");

    let daemon = Daemon::start(&home);
    let before = daemon.gateway("office")["certificate_expires_at"].clone();
    fs::remove_file(&certificate).unwrap();
    home.run(["reload"]).expect_status(0);
    let told = daemon.says("the one before stays in use");
    assert!(holds(&told, "office.pem"), "{told}");
    let office = daemon.gateway("office");
    assert_eq!(office["certificate_expires_at"], before, "{office}");
    let problem = office["certificate_problem"].as_str().unwrap();
    assert!(problem.contains("office.pem"), "{office}");
    home.run(["serve", "--check"]).expect_status(78);
    daemon.terminate().expect_status(0);
}
