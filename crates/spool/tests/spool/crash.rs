//! A process killed at any step: what it had acknowledged is there, what it was sending is
//! unknown, and nothing is sent twice.
//!
//! One queue outlives thousands of processes. Each accepts, sends and settles, and dies at a step
//! drawn by lot. What it says it did stands in a file: a line before and after each deed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use postrider_spool::{
    Begin, Body, Filter, HolderId, NewMessage, Pace, QueueId, Select, SpoolSettings, SqliteSpool,
    StateKind, Store,
};

use crate::support::{ask, at, deferred, delivered, directory, message, octets, settings, told};

/// How many processes each queue outlives, or most of them.
const DEATHS: u64 = 1000;

/// Beyond the steps that one life has.
const STEPS: u64 = 90;

fn say(log: &mut File, line: &str) {
    log.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn lasting() -> SpoolSettings {
    SpoolSettings {
        retention: crate::support::seconds(5),
        ..settings()
    }
}

/// One life.
async fn live(dir: &Path, life: i64) {
    let mut log = OpenOptions::new()
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    let now = at(life);
    let spool = SqliteSpool::open(&dir.join("queue"), lasting()).unwrap();
    let me = spool.join("one", now).await.unwrap();
    spool.recover(now).await.unwrap();
    for n in 0..3 {
        let size = if n == 1 { 70_000 } else { 500 };
        let name = format!("<{life}.{n}@contoso.com>");
        let body = Body::from(name.repeat(size / name.len()).into_bytes());
        let new = NewMessage {
            body,
            message_id: name.clone(),
            idempotency_key: Some(name.clone()),
            ..message(&["x@example.org", "y@example.org"])
        };
        let accepted = spool.accept(new, now).await.unwrap();
        say(&mut log, &format!("accepted {name} {}", accepted.id));
    }
    for _ in 0..2 {
        let few = Begin {
            at_most: 2,
            recipients_per_message: Some(1),
            pace: Pace {
                per_minute: Some(1_000_000),
                recipients_per_day: Some(100_000_000),
            },
            ..ask(me.id(), now)
        };
        let began = spool.begin(few).await.unwrap();
        let mut ends = Vec::new();
        for claim in &began.claims {
            let body = octets(&claim.body).await.unwrap();
            assert!(body.starts_with(claim.message_id.as_bytes()));
            let put_off = claim.attempts == 1 && claim.id.number() % 5 == 0;
            let outcome = if put_off { deferred(now) } else { delivered() };
            // The server's own log: it took the message.
            if !put_off {
                say(
                    &mut log,
                    &format!("sent {} {}", claim.message_id, claim.recipients[0].address),
                );
            }
            ends.push(told(claim, &outcome));
        }
        let settled = spool.settle(ends, now).await.unwrap();
        assert!(settled.iter().all(|settled| settled.fenced.is_empty()));
    }
    spool.tidy(now).await.unwrap();
    drop(me);
}

/// What was said, over all lives.
#[derive(Default)]
struct Said {
    accepted: BTreeMap<String, QueueId>,
    sent: BTreeMap<(String, String), u32>,
}

fn said(log: &Path) -> Said {
    let mut said = Said::default();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let pair = (words[1].to_owned(), words[2].to_owned());
        match words[0] {
            "accepted" => {
                let before = said.accepted.insert(pair.0, words[2].parse().unwrap());
                assert_eq!(before, None, "{line}");
            }
            "sent" => *said.sent.entry(pair).or_default() += 1,
            other => panic!("{other}?"),
        }
    }
    said
}

#[test]
fn killed_at_any_step_nothing_acknowledged_is_lost_nor_sent_twice() {
    many_lives(
        "crash::killed_at_any_step_nothing_acknowledged_is_lost_nor_sent_twice",
        0x9E37_79B9_7F4A_7C15,
    );
}

#[test]
fn killed_at_other_steps_it_is_no_different() {
    many_lives("crash::killed_at_other_steps_it_is_no_different", 1);
}

fn many_lives(test: &str, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    if let Some(life) = std::env::var_os("SPOOL_LIFE") {
        let dir = std::env::var_os("SPOOL_DIR").unwrap();
        let life = life.to_string_lossy().parse().unwrap();
        runtime.block_on(live(Path::new(&dir), life));
        return;
    }
    let dir = directory();
    let log = dir.path().join("log");
    File::create(&log).unwrap();
    let mut chance = seed;
    let mut killed = 0;
    for life in 0..DEATHS {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let step = (chance >> 33) % STEPS + 1;
        let status = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env("SPOOL_LIFE", life.to_string())
            .env("SPOOL_DIR", dir.path())
            .env("POSTRIDER_SPOOL_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        let dead = status.status.signal() == Some(9);
        assert!(dead || status.status.success(), "step {step}: {status:?}");
        killed += u64::from(dead);
    }
    assert!(killed > DEATHS / 2, "{killed}");
    runtime.block_on(look_back(dir.path(), &said(&log)));
}

async fn look_back(dir: &Path, said: &Said) {
    let now = at(1_000_000);
    let spool = SqliteSpool::open(&dir.join("queue"), lasting()).unwrap();
    let me = spool.join("last", now).await.unwrap();
    spool.recover(now).await.unwrap();
    // Nothing that the server took was given to it again.
    for (pair, times) in &said.sent {
        assert_eq!(*times, 1, "{pair:?}");
    }
    // What is left, by page. What is unknown stays until somebody decides.
    let mut left: BTreeMap<String, QueueId> = BTreeMap::new();
    let mut unknown: BTreeSet<(String, String)> = BTreeSet::new();
    let mut filter = Filter::default();
    loop {
        let page = spool.list(filter.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        for listed in page {
            let shown = spool.show(listed.id).await.unwrap().unwrap();
            for to in shown.recipients {
                if to.state.kind() == StateKind::Unknown {
                    unknown.insert((listed.message_id.clone(), to.address));
                }
            }
            left.insert(listed.message_id, listed.id);
        }
    }
    let mut lost = 0;
    for (message_id, id) in &said.accepted {
        for to in ["x@example.org", "y@example.org"] {
            let pair = (message_id.clone(), to.to_owned());
            let there = left.contains_key(message_id);
            // Its retention may be over, after the server took it.
            assert!(there || said.sent.contains_key(&pair), "{pair:?} is lost");
            lost += u64::from(unknown.contains(&pair));
        }
        if let Some(found) = left.get(message_id) {
            assert_eq!(found, id);
        }
    }
    assert!(lost > 0, "no process died while it was sending");
    // What the server took is delivered or unknown, never queued.
    for pair in said.sent.keys() {
        let Some(id) = left.get(&pair.0) else {
            continue;
        };
        let shown = spool.show(*id).await.unwrap().unwrap();
        let to = shown
            .recipients
            .iter()
            .find(|to| to.address == pair.1)
            .unwrap();
        let kind = to.state.kind();
        assert!(
            kind == StateKind::Delivered || kind == StateKind::Unknown,
            "{pair:?} is {kind:?}"
        );
    }
    let sent = send_the_rest(&spool, me.id(), said).await;
    for message_id in said.accepted.keys() {
        for to in ["x@example.org", "y@example.org"] {
            let pair = (message_id.clone(), to.to_owned());
            assert!(sent.contains(&pair) || unknown.contains(&pair), "{pair:?}");
        }
    }
    // Nothing is left under way, and what nobody needs goes.
    let state = spool.account_state("a", now).await.unwrap();
    assert_eq!((state.under_way, state.sessions), (0, 0));
    let stuck = Filter {
        state: Some(StateKind::Unknown),
        ..Filter::default()
    };
    spool.remove(Select::Matching(stuck)).await.unwrap();
    while spool.tidy(at(2_000_000)).await.unwrap().more {}
    assert_eq!(spool.stats().await.unwrap().messages, 0);
    let segments = std::fs::read_dir(dir.join("queue/segments"))
        .unwrap()
        .count();
    let locks = std::fs::read_dir(dir.join("queue/holders"))
        .unwrap()
        .count();
    assert_eq!((segments, locks), (0, 1));
}

/// The rest still goes out, each octet as it was, once; all that was ever sent.
async fn send_the_rest(
    spool: &SqliteSpool,
    me: HolderId,
    said: &Said,
) -> BTreeSet<(String, String)> {
    let now = at(1_000_000);
    spool
        .retry(
            Select::Matching(Filter {
                state: Some(StateKind::Deferred),
                ..Filter::default()
            }),
            now,
        )
        .await
        .unwrap();
    let mut sent = said.sent.clone();
    loop {
        let began = spool.begin(ask(me, now)).await.unwrap();
        assert!(began.given_up.is_empty(), "{:?}", began.given_up);
        if began.claims.is_empty() {
            assert_eq!(began.next, None);
            break;
        }
        for claim in &began.claims {
            let body = octets(&claim.body).await.unwrap();
            assert!(body.starts_with(claim.message_id.as_bytes()));
            for to in &claim.recipients {
                let times = sent
                    .entry((claim.message_id.clone(), to.address.clone()))
                    .or_default();
                *times += 1;
                assert_eq!(*times, 1);
            }
        }
        let ends = began.claims.iter().map(|claim| told(claim, &delivered()));
        spool.settle(ends.collect(), now).await.unwrap();
    }
    sent.into_keys().collect()
}
