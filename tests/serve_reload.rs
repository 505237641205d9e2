//! `postrider serve` reloads: all of the new or nothing of it, however often and under whatever load.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::daemon::{Daemon, holds};
use support::gate::Gate;
use support::home::Home;
use support::scripted::{config, home, run_now, run_to_its_end, schedules, script};
use support::write_private;

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
