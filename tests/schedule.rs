//! Schedules by hand: two who want the same run, Ctrl-C, a crash, and a file that cannot be used.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::clock::Later;
use support::daemon::Daemon;
use support::gate::Gate;
use support::home::{Home, Login as Started};
use support::{run, skip, write_private};

/// A home whose one script has a schedule that waits at the gate.
fn home(gate: &Gate) -> Home {
    let home = Home::new("[scripts]\ndir = \"scripts.d\"\n\n[serve]\nwatch = false\n");
    fs::create_dir(home.path().join("scripts.d")).unwrap();
    let script = format!(
        "local pr = require 'postrider'
         pr.every('1h', function() return pr.http.get('{}') end, {{ name = 'long' }})\n",
        gate.url()
    );
    write_private(&home.path().join("scripts.d/plan.lua"), script);
    home
}

fn start(home: &Home, arguments: &[&str]) -> Started {
    Started::begin(&mut home.postrider(arguments.iter().copied()))
}

fn terminate(process: &Started) {
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
}

/// How the runs ended, the latest first: `ok` or the error's code.
fn history(home: &Home) -> Vec<String> {
    let runs = home.json(["schedule", "history", "long", "--no-daemon"]);
    let result = |run: &Value| match run["error"]["code"].as_str() {
        None => "ok".to_owned(),
        Some(code) => code.to_owned(),
    };
    runs.as_array().unwrap().iter().map(result).collect()
}

#[test]
fn what_runs_already_is_refused_with_75() {
    let gate = Gate::new();
    let home = home(&gate);
    let refused = |arguments: &[&str]| {
        let refused = home.run(arguments.iter().copied()).expect_status(75);
        let why = "schedule \"long\" is running already";
        assert!(refused.stderr.contains(why), "{refused:?}");
        assert!(refused.stderr.contains("wait for its end"), "{refused:?}");
    };

    // Two who know nothing of each other but the file.
    let first = start(&home, &["schedule", "run", "long"]);
    let answer = gate.knock();
    refused(&["schedule", "run", "long"]);
    let list = home.json(["schedule", "list"]);
    assert_eq!(list[0]["running"], 1, "{list}");
    answer();
    first.end().expect_status(0);

    // Through the daemon, and beside it.
    let daemon = Daemon::start(&home);
    let first = start(&home, &["schedule", "run", "long"]);
    let answer = gate.knock();
    refused(&["schedule", "run", "long"]);
    refused(&["schedule", "run", "long", "--no-daemon"]);
    answer();
    first.end().expect_status(0);
    daemon.terminate().expect_status(0);
    assert_eq!(history(&home), ["ok", "ok"]);
}

#[test]
fn ctrl_c_waits_for_the_end_of_a_run_and_a_second_one_does_not() {
    let gate = Gate::new();
    let home = home(&gate);
    let mut first = start(&home, &["schedule", "run", "long"]);
    let answer = gate.knock();
    first.interrupt();
    first.says("SIGINT: waits for the end of long, 30s at most");
    answer();
    first.end().expect_status(130);
    assert_eq!(history(&home), ["ok"]);

    let mut second = start(&home, &["schedule", "run", "long"]);
    let _answer = gate.knock();
    terminate(&second);
    second.says("SIGTERM: waits for the end of long");
    second.interrupt();
    second.end().expect_status(143);
    assert_eq!(history(&home), ["schedule.interrupted", "ok"]);

    // It is over, and nobody need wait for it.
    let third = start(&home, &["schedule", "run", "long"]);
    gate.knock()();
    third.end().expect_status(0);
}

#[test]
fn a_script_with_schedules_ends_in_order_when_it_is_told_to() {
    let gate = Gate::new();
    let home = Home::new("");
    let script = |then: &str| {
        let text = format!(
            "local pr = require 'postrider'
             local long = pr.every('1h', function()
                 local answer, err = pr.http.get('{}')
                 pr.log.warn('it ended')
                 return answer, err
             end, {{ name = 'long' }})
             {then}\n",
            gate.url()
        );
        write_private(&home.path().join("watch.lua"), text);
    };

    // In a run, which ends before the process does.
    script("long:run_now()");
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let process = start(&home, &["run", "watch.lua"]);
        let answer = gate.knock();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        answer();
        let ended = process.end().expect_status(status);
        assert!(ended.stderr.contains("it ended"), "{ended:?}");
    }
    assert_eq!(history(&home), ["ok", "ok"]);

    // And at rest.
    script("pr.log.warn('it waits')");
    let mut process = start(&home, &["run", "watch.lua"]);
    process.says("it waits");
    process.interrupt();
    process.end().expect_status(130);
    assert_eq!(history(&home), ["ok", "ok"]);
    assert!(!gate.is_knocked_at());
}

#[test]
fn a_run_that_a_crash_cut_short_is_told_of_and_not_begun_again() {
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(missing) => return skip(&missing),
    };
    let gate = Gate::new();
    let home = home(&gate);
    let daemon = Daemon::start(&home);
    let run = start(&home, &["schedule", "run", "long"]);
    let _answer = gate.knock();
    daemon.kill();
    let lost = run.end().expect_status(70);
    assert!(
        lost.stderr.contains("postrider schedule history long"),
        "{lost:?}"
    );

    // Half of its messages may be out. For a minute nobody knows that it is over.
    let ended = home.run(["schedule", "run", "long"]).expect_status(75);
    assert!(
        ended.stderr.contains("if its process was killed"),
        "{ended:?}"
    );
    later.pass(Duration::from_secs(90));
    let daemon = Daemon::started_by(later.tell(&mut home.postrider(["serve"])), &home);
    let told = daemon.says("the run was interrupted: the process that ran it is gone");
    assert!(told.to_string().contains("plan.lua"), "{told}");
    daemon.terminate().expect_status(0);
    assert_eq!(history(&home), ["schedule.interrupted"]);
    assert!(!gate.is_knocked_at());
}

#[test]
fn a_test_that_asks_for_an_unknown_schedule_is_told_of_the_nearest() {
    let home = Home::new("");
    write_private(
        &home.path().join("report.lua"),
        "require('postrider').every('1h', function() end, { name = 'daily-report' })\n",
    );
    write_private(
        &home.path().join("report_test.lua"),
        "local pr = require 'postrider'
         pr.test.case('misspelt', function(t)
             t:load 'report.lua'
             t.schedule('dayly-report'):run_now()
         end)\n",
    );
    let ended = home.run(["test", "report_test.lua"]).expect_status(1);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for part in [
        "report_test.lua:4",
        "no script has a schedule called \"dayly-report\"",
        "did you mean \"daily-report\"?",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_damaged_file_is_named_and_stops_no_schedule() {
    let gate = Gate::new();
    let home = home(&gate);
    let first = start(&home, &["schedule", "run", "long"]);
    gate.knock()();
    first.end().expect_status(0);
    let path = home.state().join("schedules.db");
    let mut octets = fs::read(&path).unwrap();
    // All pages but the first, which says that it is a database.
    octets[4096..].fill(0xa5);
    fs::write(&path, &octets).unwrap();

    for arguments in [
        &["schedule", "list"][..],
        &["schedule", "history", "long"],
        &["schedule", "pause", "long"],
    ] {
        let ended = home.run(arguments.iter().copied());
        assert_ne!(ended.status, 0, "{ended:?}");
        for part in ["schedules.db", "malformed", "move it away"] {
            assert!(ended.stderr.contains(part), "{part}: {ended:?}");
        }
    }
    let second = start(&home, &["schedule", "run", "long"]);
    gate.knock()();
    let ended = second.end().expect_status(0);
    let told = "schedules go on from memory until it works again";
    assert!(ended.stderr.contains(told), "{ended:?}");
    assert_eq!(fs::read(&path).unwrap(), octets);

    fs::remove_file(&path).unwrap();
    let third = start(&home, &["schedule", "run", "long"]);
    gate.knock()();
    third.end().expect_status(0);
    assert_eq!(history(&home), ["ok"]);
}

#[test]
fn a_full_disk_stops_no_schedule_and_loses_nothing_old() {
    // A small disk of the story's own.
    let small = "mount -t tmpfs -o size=128k,mode=0700 tmpfs \"$1\"";
    let disk = tempfile::tempdir().unwrap();
    let in_it = |then: &str, home: &Home| {
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("{small} && {then}"))
            .arg("sh")
            .arg(disk.path())
            .arg(home.postrider([]).get_program());
        for (name, value) in home.postrider([]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .current_dir(home.path())
            .env("POSTRIDER_STATE_DIR", disk.path());
        command
    };
    let gate = Gate::new();
    let home = home(&gate);
    let ready = run(&mut in_it("true", &home));
    if ready.status != 0 {
        return skip("no mount of one's own (unshare --map-root-user --mount)");
    }
    let script = r#"
        "$2" schedule run long || exit 1
        cat /dev/zero > "$1/filler" 2> /dev/null
        "$2" schedule run long || exit 2
        "$2" schedule pause long
        echo "pause: $?"
        rm "$1/filler"
        "$2" schedule history long
    "#;
    let story = Started::begin(&mut in_it(script, &home));
    gate.knock()();
    gate.knock()();
    let ended = story.end().expect_status(0);
    for part in [
        "schedules go on from memory until it works again",
        "schedules.db",
        "full",
        "make room on its disk",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
    // The first run is there still.
    assert!(ended.stdout.contains("manual"), "{ended:?}");
    assert!(!ended.stdout.contains("pause: 0"), "{ended:?}");
}
