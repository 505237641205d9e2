//! `postrider serve`: the real binary, its service manager, its signals, and the sandbox.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::daemon::{Daemon, holds};
use support::gate::Gate;
use support::home::Home;
use support::sandbox::{Sandbox, read_mail};
use support::scripted::{config, home, run_now, run_to_its_end, script};
use support::{find_program, root, run, skip, write_private};

/// The names of the schedules, as the daemon lists them.
fn schedules(daemon: &Daemon) -> Vec<String> {
    let (status, answer) = daemon.ask("GET", "/v1/schedules");
    assert_eq!(status, 200, "{answer}");
    let list = answer.as_array().or(answer["schedules"].as_array());
    let names = list
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

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
fn a_reload_takes_all_of_the_new_or_nothing_of_it() {
    let home = home("");
    let good = |version: u32| {
        format!(
            "local pr = require 'postrider'
             pr.on('app.ask', function() pr.log.info('version {version}') end)
             pr.every('1h', function() pr.emit('app.ask', {{}}) end, {{ name = 'v{version}' }})
             pr.every('1h', function() pr.emit('app.ask', {{}}) end, {{ name = 'ask' }})"
        )
    };
    script(&home, "a.lua", &good(1));
    script(&home, "z.lua", "local pr = require 'postrider'");
    let daemon = Daemon::start(&home);
    assert_eq!(schedules(&daemon), ["ask", "v1"]);

    // A whole new one.
    script(&home, "a.lua", &good(2));
    let ready = daemon.hang_up();
    assert!(ready.contains("generation 2"), "{ready}");
    assert_eq!(schedules(&daemon), ["ask", "v2"]);

    // The first script is right, the last is not: nothing of either is live.
    script(&home, "a.lua", &good(3));
    let broken = script(
        &home,
        "z.lua",
        "local pr = require 'postrider'\n\nerror('not today')",
    );
    let ready = daemon.hang_up();
    let reason = format!("{}:3: not today", broken.display());
    assert!(
        ready.contains("generation 2") && ready.contains("not today"),
        "{ready}"
    );
    let status = daemon.status();
    assert_eq!(status["generation"], 2, "{status}");
    assert_eq!(status["last_reload"]["ok"], false, "{status}");
    let told = status["last_reload"]["message"].as_str().unwrap();
    assert!(told.contains(&reason), "{told} is not {reason}");
    assert_eq!(schedules(&daemon), ["ask", "v2"]);
    run_now(&daemon, "ask");
    daemon.says("version 2");
    let (code, answer) = daemon.ask("POST", "/v1/reload");
    assert!(
        code >= 400 && answer.to_string().contains("not today"),
        "{code} {answer}"
    );

    daemon.told("READY=1");

    // A configuration that is none.
    fs::remove_file(&broken).unwrap();
    home.configure("[scripts]\ndirr = \"scripts.d\"");
    daemon.hang_up();
    let status = daemon.status();
    assert_eq!(status["generation"], 2, "{status}");
    let told = status["last_reload"]["message"].as_str().unwrap();
    assert!(told.contains("dirr"), "{told}");

    home.configure(&config("watch = false\nsocket = \"other.sock\"", ""));
    let ready = daemon.hang_up();
    assert!(ready.contains("generation 3"), "{ready}");
    let status = daemon.status();
    assert_eq!(status["last_reload"]["ok"], true, "{status}");
    assert_eq!(status["restart_needed"][0], "serve.socket", "{status}");
    assert_eq!(schedules(&daemon), ["ask", "v3"]);
    run_now(&daemon, "ask");
    daemon.says("version 3");

    assert!(daemon.said("version 1").is_empty());
    assert_eq!(daemon.said("\"version 2\"").len(), 1);
    assert_eq!(daemon.said("\"version 3\"").len(), 1);
    daemon.terminate().expect_status(0);
}

#[test]
fn what_is_changed_is_picked_up_once_it_is_whole() {
    let home = home("");
    home.configure(&config("watch_interval = \"100ms\"", ""));
    script(
        &home,
        "a.lua",
        "local pr = require 'postrider' require 'module'",
    );
    let module = script(&home, "module.lua", "return 1");
    fs::create_dir(home.path().join("lib")).unwrap();
    // A module is no script.
    let dir = home.path().join("scripts.d");
    fs::create_dir(dir.join("parts")).unwrap();
    fs::rename(&module, dir.join("parts/module.lua")).unwrap();
    let module = dir.join("parts/module.lua");
    script(&home, "a.lua", "require 'parts.module'");
    let daemon = Daemon::start(&home);

    // A module of a script.
    write_private(&module, "return 2");
    daemon.told("READY=1\nSTATUS=generation 2");
    assert!(daemon.says("reloads: ").to_string().contains("module.lua"));

    // One that breaks, and is mended.
    write_private(&module, "return )");
    let told = daemon.told("last reload failed");
    assert!(told.contains("module.lua:1"), "{told}");
    write_private(&module, "return 3");
    daemon.told("READY=1\nSTATUS=generation 3");

    // A new script; the configuration itself.
    script(&home, "b.lua", "local pr = require 'postrider'");
    daemon.told("READY=1\nSTATUS=generation 4, 2 scripts");
    home.configure(&config(
        "watch_interval = \"100ms\"",
        "[plugins]\ndirs = []",
    ));
    daemon.told("READY=1\nSTATUS=generation 5");

    // A test beside the scripts, and a touch, change nothing.
    script(&home, "b_test.lua", "error 'no script'");
    let text = fs::read(&module).unwrap();
    write_private(&module, text);
    fs::remove_file(home.path().join("scripts.d/b.lua")).unwrap();
    daemon.told("READY=1\nSTATUS=generation 6, 1 script");
    daemon.terminate().expect_status(0);
}

/// How many times it is reloaded; at the first of these its memory is what it stays.
const RELOADS: [u32; 2] = [100, 500];

/// What it may hold more after the last of them, in octets: a generation that is not freed holds
/// two Lua states.
const GROWTH: u64 = 16 << 20;

#[test]
fn reloaded_500_times_under_load_nothing_is_lost_doubled_or_half_there() {
    let home = home("");
    generation_of_two(&home, 1);
    let daemon = Daemon::start(&home);
    let done = AtomicBool::new(false);
    let mut memory = Vec::new();

    let (looks, asked) = thread::scope(|scope| {
        let looks = scope.spawn(|| until(&done, || look(&daemon)));
        let asked = scope.spawn(|| until(&done, || run_to_its_end(&daemon, "ask")));
        for number in 1..=RELOADS[1] {
            generation_of_two(&home, number + 1);
            let (status, answer) = daemon.ask("POST", "/v1/reload");
            assert_eq!(
                (status, &answer["generation"]),
                (200, &(number + 1).into()),
                "{answer}"
            );
            if number % 50 == 0 {
                let broken = script(&home, "z.lua", "error 'half of it'");
                let (status, answer) = daemon.ask("POST", "/v1/reload");
                assert!(
                    status >= 400 && holds(&answer, "half of it"),
                    "{status} {answer}"
                );
                fs::remove_file(broken).unwrap();
            }
            if RELOADS.contains(&number) {
                memory.push(daemon.memory());
            }
        }
        done.store(true, Ordering::Relaxed);
        (looks.join().unwrap(), asked.join().unwrap())
    });

    // What it had to say is all said once it has ended: handlers run after the runs that emit.
    let told_to_end = Instant::now();
    let ended = daemon.terminate().expect_status(0);
    assert!(told_to_end.elapsed() < PROMPT, "{}", ended.stderr);
    let log: Vec<Value> = (ended.stderr.lines())
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let failed: Vec<_> = saying(&log, "run failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let ticks = ticks(&log);
    let answers = answers(&log);
    assert!(answers >= asked, "{asked} were asked, {answers} answered");
    eprintln!(
        "{looks} looks, {asked} runs asked for, {ticks} ticks, octets after {RELOADS:?}: {memory:?}"
    );
    let [early, late] = memory[..] else {
        unreachable!()
    };
    assert!(late < early + GROWTH, "{early} octets became {late}");
}

/// The lines of a log that hold `part`.
fn saying<'a>(log: &'a [Value], part: &'a str) -> impl Iterator<Item = &'a Value> {
    log.iter().filter(move |line| holds(line, part))
}

/// How many ticks there were: one for each second, and none twice.
fn ticks(log: &[Value]) -> usize {
    let at = |line: &Value| fields(line)["at"].as_f64().unwrap();
    let mut times: Vec<f64> = saying(log, "\"tick\"").map(at).collect();
    times.sort_by(f64::total_cmp);
    for pair in times.windows(2) {
        assert!((pair[1] - pair[0] - 1.0).abs() < 1e-3, "{times:?}");
    }
    times.len()
}

/// How many asks were answered: each once by both scripts, of one generation.
fn answers(log: &[Value]) -> u32 {
    let mut answers = BTreeMap::<String, Vec<(String, u64)>>::new();
    for line in saying(log, "\"answer\"") {
        let line = fields(line);
        let answer = answers.entry(line["ask"].to_string()).or_default();
        let script = line["script"].as_str().unwrap().to_owned();
        answer.push((script, line["generation"].as_u64().unwrap()));
    }
    for (ask, answer) in &mut answers {
        answer.sort();
        let number = answer[0].1;
        assert_eq!(
            *answer,
            [("a".to_owned(), number), ("z".to_owned(), number)],
            "{ask}"
        );
    }
    u32::try_from(answers.len()).unwrap()
}

/// Nothing is under way that the end would wait for: less than it waits then.
const PROMPT: Duration = Duration::from_secs(20);

/// Two scripts that name their generation wherever they can be seen.
fn generation_of_two(home: &Home, number: u32) {
    let text = |letter: char, more: &str| {
        format!(
            "local pr = require 'postrider'
             pr.on('app.ask', function(ask)
                 pr.log.info('answer', {{ ask = ask.id, script = '{letter}', generation = {number} }})
             end)
             pr.every('1h', function() end, {{ name = '{letter}-{number}' }})
             pr.cron('0 8 * * *', function() end, {{ name = '{letter}-daily', tz = 'Europe/Paris' }})
             {more}"
        )
    };
    let asking = format!(
        "local asked = 0
         pr.every('1h', function()
             asked = asked + 1
             pr.emit('app.ask', {{ id = '{number}/' .. asked }})
         end, {{ name = 'ask', overlap = 'allow' }})"
    );
    let ticking = "pr.every('1s', function(run)
            pr.log.info('tick', { at = run.scheduled_at })
        end, { name = 'tick', missed = 'all', overlap = 'queue' })";
    script(home, "a.lua", &text('a', &asking));
    script(home, "z.lua", &text('z', ticking));
}

/// What a script logged beside a message.
fn fields(line: &Value) -> Value {
    serde_json::from_str(line["fields"].as_str().unwrap()).unwrap()
}

/// All schedules are those of one generation.
fn look(daemon: &Daemon) {
    let names = schedules(daemon);
    let a = names
        .iter()
        .find_map(|name| name.strip_prefix("a-").filter(|n| *n != "daily"));
    let number = a.unwrap_or_default();
    let mut expected = ["a-daily", "z-daily", "ask", "tick"]
        .map(str::to_owned)
        .to_vec();
    expected.extend([format!("a-{number}"), format!("z-{number}")]);
    expected.sort();
    assert_eq!(names, expected);
}

/// Does it again and again, and says how often.
fn until(done: &AtomicBool, mut work: impl FnMut()) -> u32 {
    let mut times = 0;
    while !done.load(Ordering::Relaxed) {
        work();
        times += 1;
    }
    times
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
fn a_reload_asked_for_while_it_starts_follows_the_start() {
    let home = home("");
    let gate = Gate::new();
    let path = script(
        &home,
        "a.lua",
        &format!("require('postrider').http.get('{}')", gate.url()),
    );
    let daemon = Daemon::begin(&mut home.postrider(["serve"]), &home);
    let answer = gate.knock();
    write_private(&path, "require 'postrider'");
    daemon.signal(Signal::HUP);
    answer();

    daemon.told("READY=1\nSTATUS=generation 1");
    daemon.told("READY=1\nSTATUS=generation 2");
    daemon.terminate().expect_status(0);
}

/// What somebody does to the files of a daemon that runs.
struct Mishap {
    what: &'static str,
    happens: fn(&Home),
    /// What the reload then says.
    told: &'static [&'static str],
}

const MISHAPS: [Mishap; 7] = [
    Mishap {
        what: "the configuration is removed, and there is another",
        happens: |home| {
            fs::rename(home.path().join("postrider.toml"), home.path().join("kept")).unwrap();
            let theirs = home.path().join(".config/postrider");
            fs::create_dir_all(&theirs).unwrap();
            write_private(&theirs.join("postrider.toml"), "");
        },
        told: &["postrider.toml", "No such file"],
    },
    Mishap {
        what: "the configuration is written in pieces",
        happens: |home| home.configure("[scripts]\ndir = \"scripts.d\"\n\n[serve]\nwatch = fal"),
        told: &["postrider.toml: line 5, column 9", "expected `false`"],
    },
    Mishap {
        what: "the scripts are removed",
        happens: |home| {
            fs::rename(home.path().join("scripts.d"), home.path().join("away")).unwrap();
        },
        told: &[
            "scripts.d: the directory of scripts cannot be read",
            "No such file",
        ],
    },
    Mishap {
        what: "a script becomes a pipe",
        happens: |home| {
            let path = replaced(home);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
        },
        told: &["a.lua: the script is a named pipe, not a file"],
    },
    Mishap {
        what: "a script becomes a link to itself",
        happens: |home| {
            let path = replaced(home);
            std::os::unix::fs::symlink(&path, &path).unwrap();
        },
        told: &["a.lua", "Too many levels of symbolic links"],
    },
    Mishap {
        what: "a script becomes a device without end",
        happens: |home| std::os::unix::fs::symlink("/dev/zero", replaced(home)).unwrap(),
        told: &["a.lua: the script is a device, not a file"],
    },
    Mishap {
        what: "a script is no text",
        happens: |home| drop(script(home, "a.lua", "\u{1b}Lua\u{0}\u{0}")),
        told: &["a.lua"],
    },
];

/// Where the script was.
fn replaced(home: &Home) -> PathBuf {
    let path = home.path().join("scripts.d/a.lua");
    fs::remove_file(&path).unwrap();
    path
}

#[test]
fn whatever_becomes_of_its_files_the_daemon_goes_on_and_says_what_is_wrong() {
    for Mishap {
        what,
        happens,
        told,
    } in MISHAPS
    {
        let home = home("");
        home.configure(&config("watch_interval = \"100ms\"", ""));
        script(
            &home,
            "a.lua",
            "require('postrider').every('1h', function() end, { name = 'hourly' })",
        );
        let daemon = Daemon::start(&home);

        eprintln!("{what}");
        happens(&home);

        // It notices by itself, and says the same to who asks.
        let noticed = daemon.told("last reload failed");
        let (_, answer) = daemon.ask("POST", "/v1/reload");
        let status = daemon.status();
        let message = status["last_reload"]["message"].as_str().unwrap();
        for part in told {
            assert!(message.contains(part), "{what}: {part} is not in {message}");
        }
        let asked = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(asked), "{what}: {answer}");
        assert!(
            noticed.contains("generation 1, 1 script, 1 schedule"),
            "{what}: {noticed}"
        );
        run_to_its_end(&daemon, "hourly");

        // And takes up what is put right.
        let _ = fs::remove_dir_all(home.path().join("scripts.d"));
        fs::create_dir(home.path().join("scripts.d")).unwrap();
        script(&home, "b.lua", "require 'postrider'");
        home.configure(&config("watch = false", ""));
        daemon.told("READY=1\nSTATUS=generation 2, 1 script, 0 schedules");
        daemon.terminate().expect_status(0);
    }
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
