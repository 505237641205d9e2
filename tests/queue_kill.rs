//! `kill -9` between the acceptance of a message and the last word on it: what was acknowledged
//! is delivered once, or is listed as unknown, and then nobody heard the server's answer.
//!
//! The points are those that the queue itself passes (`POSTRIDER_SPOOL_CRASH_AT` counts them),
//! and any octet of any session: the wire to the server is cut there as the process dies.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::cut::Wire;
use support::daemon::Daemon;
use support::office::{Office, TO, hurried, send, until};
use support::run;

/// Lives of a daemon; each ends before its time.
const LIVES: u64 = 160;
/// Messages that are handed in during each, by two at once.
const MESSAGES: u64 = 12;
/// About the steps that the queue passes in such a life.
const STEPS: u64 = 120;
/// About the octets that pass on the wire in such a life.
const OCTETS: u64 = 40_000;
/// What a session may have in flight, and how many sessions there may be.
const IN_FLIGHT: usize = 10 * 3;

/// Numbers that are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// An office whose mail passes a wire.
fn wired() -> (Office, Wire) {
    let mut wire = None;
    let office = Office::at(|sandbox| {
        let port = sandbox.smtp_port();
        let wire = wire.insert(Wire::to(port.parse().unwrap()));
        let wired = format!("port = {}", wire.port());
        hurried(sandbox.config()).replace(&format!("port = {port}"), &wired)
    });
    // What died may still be there for the server when the next one comes.
    let patch = json!({ "limits": { "connections": 0 } });
    office.sandbox.control("PATCH", "scenario", Some(&patch));
    (office, wire.unwrap())
}

/// Where each message's recipient stands, by Message-ID.
fn states(office: &Office) -> BTreeMap<String, String> {
    let all = office
        .home
        .json(["queue", "list", "--all", "--limit", "100000"]);
    let all = all.as_array().unwrap().iter();
    let state = |message: &Value| {
        let id = message["message_id"].as_str().unwrap().to_owned();
        let states = message["states"].as_object().unwrap();
        (id, states.keys().next().unwrap().clone())
    };
    all.map(state).collect()
}

/// What was acknowledged is delivered once, or unknown. How many are.
#[track_caller]
fn nothing_is_lost_nor_sent_twice(office: &Office, acknowledged: &BTreeSet<String>) -> usize {
    let (states, arrivals) = (states(office), office.arrivals());
    let mut unknown = 0;
    for (id, state) in &states {
        let arrived = arrivals.get(id).copied().unwrap_or_default();
        match state.as_str() {
            "delivered" => assert_eq!(arrived, 1, "{id} is delivered"),
            "unknown" => {
                assert!(arrived <= 1, "{id} is unknown, and arrived {arrived} times");
                unknown += 1;
            }
            other => panic!("{id} is {other}"),
        }
    }
    for id in acknowledged {
        assert!(states.contains_key(id), "{id} is lost");
    }
    for (id, times) in &arrivals {
        assert_eq!(*times, 1, "{id}");
        assert!(states.contains_key(id), "{id} was sent by nobody");
    }
    unknown
}

#[test]
fn a_daemon_killed_anywhere_loses_nothing_and_sends_nothing_twice() {
    let (office, wire) = wired();
    let acknowledged = Mutex::<BTreeSet<String>>::default();
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let (mut at_steps, mut on_the_wire) = (0, 0);
    for life in 0..LIVES {
        let by_step = life % 2 == 0;
        let mut serve = office.home.postrider(["serve"]);
        if by_step {
            let step = chance.below(STEPS) + 1;
            serve.env("POSTRIDER_SPOOL_CRASH_AT", step.to_string());
        }
        let daemon = Daemon::begin(&mut serve, &office.home);
        let process = Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
        if !by_step {
            let octets = usize::try_from(chance.below(OCTETS)).unwrap() + 1;
            wire.cut_after(octets, move || {
                kill_process(process, Signal::KILL).unwrap();
            });
        }
        let before = office.sandbox.mail(TO).len();
        thread::scope(|scope| {
            for who in 0..2 {
                let (daemon, acknowledged) = (&daemon, &acknowledged);
                scope.spawn(move || {
                    for number in 0..MESSAGES / 2 {
                        let name = format!("{life}.{who}.{number}");
                        if let Some(id) = hand_in(daemon, &name) {
                            acknowledged.lock().unwrap().insert(id);
                        }
                    }
                });
            }
        });
        // It dies by itself, or when it has nothing left to do.
        until("it is dead or done", || {
            let all = before + usize::try_from(MESSAGES).unwrap();
            let done = || office.sandbox.mail(TO).len() >= all;
            (daemon.is_gone() || done()).then_some(())
        });
        if daemon.is_gone() {
            assert_eq!(daemon.end().signal, Some(9));
            *(if by_step {
                &mut at_steps
            } else {
                &mut on_the_wire
            }) += 1;
        } else if by_step {
            // Its last steps may be where it dies.
            let ended = daemon.terminate();
            at_steps += u64::from(ended.signal == Some(9));
            assert!(ended.signal == Some(9) || ended.status == 0, "{ended:?}");
        } else {
            // Whatever it has heard by now.
            daemon.kill();
        }
        wire.mend();
    }
    let all_alive = Daemon::start(&office.home);
    until("nothing waits", || {
        let list = states(&office);
        let done = |state: &String| ["delivered", "unknown"].contains(&state.as_str());
        list.values().all(done).then_some(())
    });
    all_alive.terminate().expect_status(0);

    let acknowledged = acknowledged.into_inner().unwrap();
    let unknown = nothing_is_lost_nor_sent_twice(&office, &acknowledged);
    let _ = writeln!(
        io::stderr(),
        "{} messages acknowledged in {LIVES} lives; {at_steps} ended at a step of the queue and \
         {on_the_wire} at an octet of a session; {unknown} unknown",
        acknowledged.len(),
    );
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    assert!(
        at_steps > LIVES / 8 && on_the_wire > LIVES / 8,
        "{at_steps} {on_the_wire}"
    );
    let most = usize::try_from(LIVES).unwrap() * IN_FLIGHT;
    assert!(unknown > 0 && unknown <= most, "{unknown}");
    assert!(acknowledged.len() > unknown, "{unknown}");
}

/// Hands a message in at the daemon's socket as soon as it listens; its Message-ID, if the daemon
/// acknowledged it.
fn hand_in(daemon: &Daemon, subject: &str) -> Option<String> {
    let message = json!({
        "account": "sandbox", "to": TO, "subject": subject, "text": "x", "wait": "queued",
    });
    loop {
        match daemon.try_to_tell("/v1/messages", &message) {
            Some((202, queued)) => return Some(queued["message_id"].as_str().unwrap().to_owned()),
            Some((status, answer)) => panic!("{status} {answer}"),
            None if daemon.is_gone() => return None,
            // An answer that was cut off acknowledges nothing, and is not asked for again: the
            // message may be there.
            None => thread::yield_now(),
        }
    }
}

#[test]
fn a_flush_killed_at_each_of_its_steps_leaves_the_rest_to_the_next() {
    let (office, _wire) = wired();
    let mut steps = 0;
    let mut killed = true;
    let mut acknowledged = BTreeSet::new();
    while killed {
        steps += 1;
        for name in ["a", "b"] {
            let queued = office.home.json(send(TO, &format!("{name}{steps}")));
            acknowledged.insert(queued["message_id"].as_str().unwrap().to_owned());
        }
        let mut flush = office.home.postrider(["queue", "flush"]);
        let ended = run(flush.env("POSTRIDER_SPOOL_CRASH_AT", steps.to_string()));
        killed = ended.signal == Some(9);
        assert!(killed || ended.status == 0, "{steps}: {ended:?}");
        let rest = office.home.run(["queue", "flush"]);
        assert!([0, 76].contains(&rest.status), "{steps}: {rest:?}");
        nothing_is_lost_nor_sent_twice(&office, &acknowledged);
    }
    let unknown = nothing_is_lost_nor_sent_twice(&office, &acknowledged);
    let _ = writeln!(
        io::stderr(),
        "killed at {} steps; {unknown} unknown",
        steps - 1
    );
    // It begins, and it settles: a transaction each.
    assert!(steps > 4 && unknown > 0, "{steps} {unknown}");
}

#[test]
fn a_command_killed_while_it_queues_may_be_run_again() {
    let office = Office::new();
    let (mut step, mut there) = (0, 0);
    let mut killed = true;
    while killed {
        step += 1;
        let key = format!("step-{step}");
        let arguments = || {
            let keyed = ["--idempotency-key", &key, "--json"];
            send(TO, &key)
                .into_iter()
                .chain(keyed)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut first = office.home.postrider([]);
        first
            .args(arguments())
            .env("POSTRIDER_SPOOL_CRASH_AT", step.to_string());
        let first = run(&mut first);
        killed = first.signal == Some(9);
        assert!(killed || first.status == 0, "{step}: {first:?}");
        let again = run(office.home.postrider([]).args(arguments())).expect_status(0);
        // What was acknowledged is there; what was not may be, but once.
        let duplicate = again.json()["duplicate"].as_bool().unwrap();
        assert!(killed || duplicate, "{step}");
        there += u32::from(killed && duplicate);
        let listed = office.home.json(["queue", "list", "--key", &key]);
        assert_eq!(listed.as_array().unwrap().len(), 1, "{step}: {listed}");
    }
    assert!(step > 2 && there > 0, "{step} {there}");
    office.run(&["flush"], 0);
    assert_eq!(office.arrivals().len(), step);
    assert!(office.arrivals().values().all(|times| *times == 1));
}
