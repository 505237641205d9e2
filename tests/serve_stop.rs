//! The end of `postrider serve`: in order, within its time, and at once where it is asked twice.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::daemon::Daemon;
use support::gate::Gate;
use support::home::Home;
use support::office::TO;
use support::scripted::{config, home, run_now, script};

/// A schedule `slow` whose call lasts until the gate answers.
fn slow(home: &Home) -> Gate {
    let gate = Gate::new();
    let text = format!(
        "local pr = require 'postrider'
         pr.every('1h', function()
             pr.http.get('{}')
             pr.log.info('finished')
         end, {{ name = 'slow' }})",
        gate.url()
    );
    script(home, "a.lua", &text);
    gate
}

#[test]
fn a_call_under_way_ends_before_the_daemon_does() {
    let home = home("");
    let gate = slow(&home);
    let daemon = Daemon::start(&home);
    run_now(&daemon, "slow");
    let answer = gate.knock();

    daemon.signal(Signal::TERM);
    daemon.told("STOPPING=1");
    daemon.says("SIGTERM: stops");
    answer();

    let ended = daemon.end().expect_status(0);
    let (before, after) = ended.stderr.split_once("\"finished\"").unwrap();
    assert!(
        !before.contains("no schedule runs any more"),
        "{}",
        ended.stderr
    );
    assert!(after.contains("\"stopped\""), "{}", ended.stderr);
}

#[test]
fn a_call_that_does_not_end_is_cut_off_in_time_and_a_second_signal_does_not_wait() {
    let home = home("");
    home.configure(&config("watch = false\nshutdown_timeout = \"1s\"", ""));
    script(
        &home,
        "a.lua",
        "local pr = require 'postrider'
         pr.every('1h', function() pr.log.info('asleep') pr.sleep('1h') end, { name = 'slow' })",
    );
    let daemon = Daemon::start(&home);
    run_now(&daemon, "slow");
    daemon.says("\"asleep\"");

    let asked = Instant::now();
    daemon.terminate().expect_status(0);
    assert!(asked.elapsed() < Duration::from_secs(10));

    home.configure(&config("watch = false\nshutdown_timeout = \"1h\"", ""));
    let daemon = Daemon::start(&home);
    run_now(&daemon, "slow");
    daemon.says("\"asleep\"");
    daemon.signal(Signal::TERM);
    daemon.told("STOPPING=1");
    daemon.signal(Signal::TERM);
    daemon.end().expect_status(143);
}

#[test]
fn the_watchdog_hears_of_life_to_the_end() {
    let home = home("");
    let gate = slow(&home);
    let mut serve = home.postrider(["serve"]);
    let daemon = Daemon::started_by(serve.env("WATCHDOG_USEC", "200000"), &home);
    run_now(&daemon, "slow");
    let answer = gate.knock();
    daemon.signal(Signal::TERM);
    daemon.told("STOPPING=1");

    for _ in 0..3 {
        daemon.told("WATCHDOG=1");
    }
    answer();
    let ended = daemon.end().expect_status(0);
    assert!(
        !ended.stderr.contains("does not answer itself"),
        "{}",
        ended.stderr
    );
}

/// Takes a message as a server does, up to the verdict on it, which is left to the story.
fn takes_a_message(mut stream: &TcpStream) {
    stream.write_all(b"220 slow.example ESMTP\r\n").unwrap();
    for line in BufReader::new(stream).lines() {
        let reply = match line.unwrap().split(' ').next().unwrap() {
            "EHLO" => "250-slow.example\r\n250 AUTH PLAIN",
            "AUTH" => "235 2.7.0 OK",
            "MAIL" | "RCPT" => "250 2.0.0 OK",
            "DATA" => "354 go on",
            "." => return,
            _ => continue,
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).unwrap();
    }
}

#[test]
fn a_server_that_never_greets_is_not_waited_for_and_one_that_has_a_message_is() {
    let [silent, slow] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let account = |name: &str, listener: &TcpListener| {
        format!(
            "[account.{name}]\nusername = \"svc@contoso.com\"\n\
             server = {{ host = \"localhost\", port = {}, tls = \"danger_plaintext\" }}\n\
             auth = {{ plugin = \"basic\", password = {{ env = \"PASSWORD\" }} }}\n",
            listener.local_addr().unwrap().port()
        )
    };
    let accounts = [account("silent", &silent), account("slow", &slow)];
    let mut home = home(&accounts.concat());
    home.set(("PASSWORD", "correct-horse-battery-9"));
    let [waits, goes] = ["silent", "slow"].map(|account| {
        let message = ["--to", TO, "--subject", account, "--text", "x"];
        let send = ["send", "--queue", "--account", account].into_iter();
        let queued = home.json(send.chain(message));
        queued["id"].as_str().unwrap().to_owned()
    });
    let daemon = Daemon::start(&home);
    let (mut silent, _) = silent.accept().unwrap();
    let (mut slow, _) = slow.accept().unwrap();
    takes_a_message(&slow);

    daemon.signal(Signal::TERM);
    // It is left before the verdict on the other's message, and was told nothing.
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).unwrap();
    assert!(heard.is_empty(), "{}", heard.escape_ascii());
    slow.write_all(b"250 2.0.0 taken\r\n").unwrap();
    drop(slow);
    let ended = daemon.end().expect_status(0);
    assert!(!ended.stderr.contains("was cut short"), "{}", ended.stderr);

    let state = |id: &str| home.json(["queue", "show", id])["recipients"][0]["state"].clone();
    assert_eq!(
        (state(&waits), state(&goes)),
        ("queued".into(), "delivered".into())
    );
}
