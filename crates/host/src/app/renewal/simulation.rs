//! A provider, a vault and a process that dies: a renewal is cut at every step, before it and
//! after it, and every answer is lost once; then the same order is given again.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};

use super::journal::{Journal, New, Phase, Renewable};
use super::machine::{
    Keep, Listed, Machine, Order, Outcome, Prover, Reached, Registered, Registry, Time, Unproved,
};
use crate::failure::Failure;

/// What Entra ID has.
#[derive(Clone, Debug)]
struct Key {
    id: String,
    mark: Option<String>,
    text: String,
    /// From when it is accepted: not at once everywhere.
    accepted_from: Timestamp,
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process dies before the Nth call does anything.
    DiesBefore(usize),
    /// It dies when the Nth call has done what it does, and nobody hears the answer.
    DiesAfter(usize),
    /// The Nth call fails and does nothing; the process goes on.
    Fails(usize),
    /// The Nth call does what it does and its answer is lost; the process goes on.
    Loses(usize),
}

/// All there is. Shared by the processes of one story.
#[derive(Clone)]
struct World(Arc<Mutex<State>>);

struct State {
    what: Renewable,
    keys: Vec<Key>,
    vault: Option<String>,
    /// How often something was put in the place of what was in use.
    replaced: usize,
    settled: bool,
    journal: Option<Vec<u8>>,
    now: Timestamp,
    made: usize,
    /// How long a new one is not accepted.
    delay: SignedDuration,
    /// Ids that were removed although the vault's was among them or nothing else worked.
    wrongs: Vec<String>,
    // Of the process that runs.
    calls: usize,
    fault: Option<Fault>,
    dead: bool,
}

const OLD: &str = "old-text";

impl World {
    fn new(what: Renewable) -> Self {
        let now: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        let old = Key {
            id: "k-old".to_owned(),
            mark: Some("by hand".to_owned()),
            text: OLD.to_owned(),
            accepted_from: now,
        };
        let other = Key {
            id: "k-other".to_owned(),
            mark: Some("postrider somebody-else".to_owned()),
            text: "not ours".to_owned(),
            accepted_from: now,
        };
        Self(Arc::new(Mutex::new(State {
            what,
            keys: vec![other, old],
            vault: Some(OLD.to_owned()),
            replaced: 0,
            settled: false,
            journal: None,
            now,
            made: 0,
            delay: SignedDuration::from_secs(20),
            wrongs: Vec::new(),
            calls: 0,
            fault: None,
            dead: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// One call of the process that runs.
    fn call<T>(&self, act: impl FnOnce(&mut State) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut state = self.lock();
        let lost = |why: &str| Err(Failure::new("test.cut", why.to_owned()).retryable());
        if state.dead {
            return lost("the process is dead");
        }
        state.calls += 1;
        let here = state.calls;
        match state.fault {
            Some(Fault::DiesBefore(at)) if at == here => {
                state.dead = true;
                return lost("dies");
            }
            Some(Fault::Fails(at)) if at == here => return lost("fails"),
            _ => {}
        }
        let done = act(&mut state);
        state.check();
        match state.fault {
            Some(Fault::DiesAfter(at)) if at == here => {
                state.dead = true;
                lost("died")
            }
            Some(Fault::Loses(at)) if at == here => lost("its answer was lost"),
            _ => done,
        }
    }

    /// A process of its own carries an order out. How many calls it made, and what came of it.
    fn run(&self, order: Order, fault: Option<Fault>) -> (usize, Result<Outcome, Failure>) {
        {
            let mut state = self.lock();
            state.calls = 0;
            state.fault = fault;
            state.dead = false;
        }
        let made = self.lock().made;
        let what = self.lock().what;
        let machine = Machine {
            registry: self,
            prover: self,
            keep: self,
            time: self,
            what,
            fresh_mark: format!("postrider ops {made}"),
            progress: &|_| {},
            step: &|_| {},
        };
        let outcome = machine.run(order).now_or_never().expect("nothing waits");
        (self.lock().calls, outcome)
    }

    /// The same order again, until it is carried out: a few times at most.
    fn again(&self, order: Order) -> Outcome {
        for _ in 0..3 {
            if let Ok(outcome) = self.run(order, None).1 {
                return outcome;
            }
        }
        panic!("{:?}", self.run(order, None).1);
    }

    fn pass(&self, span: SignedDuration) {
        let mut state = self.lock();
        state.now = state.now.checked_add(span).unwrap();
    }

    fn in_use_id(&self) -> String {
        let state = self.lock();
        let in_use = state.vault.as_deref();
        let key = state.keys.iter().find(|key| Some(&*key.text) == in_use);
        key.expect("what is in use is registered").id.clone()
    }
}

impl State {
    fn accepts(&self, text: &str) -> bool {
        let known = self.keys.iter().find(|key| key.text == text);
        known.is_some_and(|key| key.accepted_from <= self.now)
    }

    /// What holds at every moment.
    fn check(&mut self) {
        let in_use = self.vault.clone().unwrap_or_default();
        if !self.accepts(&in_use) {
            self.wrongs
                .push(format!("{in_use} is in use and not accepted"));
        }
        if !self.keys.iter().any(|key| key.id == "k-other") {
            self.wrongs.push("somebody else's was removed".to_owned());
        }
    }
}

impl Registry for World {
    fn list<'a>(&'a self, value: &'a SecretString) -> BoxFuture<'a, Result<Listed, Failure>> {
        let listed = self.call(|state| {
            let all = state.keys.iter().map(|key| Registered {
                key_id: key.id.clone(),
                mark: key.mark.clone(),
            });
            let known = state
                .keys
                .iter()
                .find(|key| key.text == value.expose_secret());
            Ok(Listed {
                all: all.collect(),
                known: known.map(|key| key.id.clone()),
            })
        });
        ready(listed).boxed()
    }

    fn prepare(
        &self,
        _: Timestamp,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<Option<SecretString>, Failure>> {
        let prepared = self.call(|state| {
            state.made += 1;
            let text = format!("certificate-{}", state.made);
            Ok((state.what == Renewable::Certificate).then(|| SecretString::from(text)))
        });
        ready(prepared).boxed()
    }

    fn add<'a>(
        &'a self,
        mark: &'a str,
        ends: Timestamp,
        prepared: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<New, Failure>> {
        let added = self.call(|state| {
            let text = if let Some(prepared) = prepared {
                prepared.expose_secret().to_owned()
            } else {
                state.made += 1;
                format!("text-{}", state.made)
            };
            let there = state.keys.iter().find(|key| key.text == text);
            let id = if let Some(there) = there {
                there.id.clone()
            } else {
                let id = format!("k-{text}");
                let accepted_from = state.now.checked_add(state.delay).unwrap();
                state.keys.push(Key {
                    id: id.clone(),
                    mark: Some(mark.to_owned()),
                    text: text.clone(),
                    accepted_from,
                });
                id
            };
            Ok(New {
                key_id: Some(id),
                value: SecretString::from(text),
                ends,
            })
        });
        ready(added).boxed()
    }

    fn remove<'a>(&'a self, key_id: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        let removed = self.call(|state| {
            state.keys.retain(|key| key.id != key_id);
            Ok(())
        });
        ready(removed).boxed()
    }
}

impl Prover for World {
    fn prove<'a>(&'a self, value: &'a SecretString) -> BoxFuture<'a, Result<(), Unproved>> {
        let accepted = self.call(|state| Ok(state.accepts(value.expose_secret())));
        let proved = match accepted {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unproved::Refused(Failure::new(
                "auth.client",
                "AADSTS7000215",
            ))),
            Err(failure) => Err(Unproved::Failed(failure)),
        };
        ready(proved).boxed()
    }
}

impl Keep for World {
    fn journal(&self) -> Result<Option<Journal>, Failure> {
        self.call(|state| {
            let octets = state.journal.as_deref();
            octets.map(Journal::decode).transpose()
        })
    }

    fn write(&self, journal: &Journal) -> Result<(), Failure> {
        let octets = journal.encode()?;
        self.call(|state| {
            state.journal = Some(octets.to_vec());
            Ok(())
        })
    }

    fn in_use(&self) -> Result<Option<(SecretString, Option<Timestamp>)>, Failure> {
        self.call(|state| Ok(state.vault.clone().map(|text| (text.into(), None))))
    }

    fn replace(&self, value: &SecretString, _: Option<Timestamp>) -> Result<(), Failure> {
        self.call(|state| {
            state.vault = Some(value.expose_secret().to_owned());
            state.replaced += 1;
            Ok(())
        })
    }

    fn settle(&self, _: &SecretString, _: Option<Timestamp>) -> Result<(), Failure> {
        self.call(|state| {
            state.settled = true;
            Ok(())
        })
    }
}

impl Time for World {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        self.pass(how_long.try_into().unwrap());
        ready(()).boxed()
    }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn renew() -> Order {
    Order::Renew {
        lifetime: SignedDuration::from_hours(24 * 180),
        overlap: DAY,
    }
}

fn every_fault(calls: usize) -> impl Iterator<Item = Fault> {
    (1..=calls).flat_map(|at| {
        [
            Fault::DiesBefore(at),
            Fault::DiesAfter(at),
            Fault::Fails(at),
            Fault::Loses(at),
        ]
    })
}

/// What holds when everything is over: one of ours is registered, the one in use, and whatever
/// was removed without having been in use was mentioned.
fn check_end(world: &World, before: &[Key], mentioned: &[String], story: &str) {
    let state = world.lock();
    assert_eq!(state.wrongs, Vec::<String>::new(), "{story}");
    let in_use = state.vault.clone().unwrap();
    let ours: Vec<&Key> = state
        .keys
        .iter()
        .filter(|key| key.id != "k-other" && key.text != in_use)
        .collect();
    assert!(ours.is_empty(), "{story}: left {ours:?}");
    for key in before {
        let gone = !state.keys.iter().any(|one| one.id == key.id);
        let was_used = key.text == OLD || key.text == in_use;
        assert!(
            !gone || was_used || mentioned.contains(&key.id),
            "{story}: {} is gone and unmentioned",
            key.id
        );
    }
    let journal = Journal::decode(state.journal.as_deref().unwrap()).unwrap();
    assert_eq!(journal.phase, Phase::Rest, "{story}");
    assert!(journal.old.is_none() && journal.new.is_none(), "{story}");
}

#[test]
fn an_undisturbed_renewal_switches_waits_and_removes() {
    for what in [Renewable::ClientSecret, Renewable::Certificate] {
        let world = World::new(what);

        let first = world.run(renew(), None).1.unwrap();
        let due = world.lock().now.checked_add(DAY).unwrap();
        assert_eq!(first.reached, Reached::Switched(due));
        assert_eq!(world.lock().replaced, 1);
        assert_eq!(first.old_key_id.as_deref(), Some("k-old"));
        assert_eq!(first.key_id, Some(world.in_use_id()));
        let accepted = |text: &str| world.lock().accepts(text);
        assert!(accepted(OLD), "the old one still works");

        // Before its time nothing happens.
        let again = world.run(renew(), None).1.unwrap();
        assert_eq!(again.reached, Reached::Switched(due));
        assert_eq!(world.lock().replaced, 1);

        world.pass(DAY);
        let last = world.run(Order::GoOn, None).1.unwrap();
        assert_eq!(last.reached, Reached::Finished);
        assert!(!accepted(OLD) && world.lock().settled);
        check_end(&world, &[], &last.orphans, "undisturbed");
        assert_eq!(last.orphans, Vec::<String>::new());
        assert_eq!(
            world.run(Order::GoOn, None).1.unwrap().reached,
            Reached::Nothing
        );
    }
}

#[test]
fn whatever_is_cut_or_lost_the_same_order_again_completes_it() {
    for what in [Renewable::ClientSecret, Renewable::Certificate] {
        let mut orphans = 0;
        let calls = World::new(what).run(renew(), None).0;
        for fault in every_fault(calls) {
            let world = World::new(what);
            let story = format!("{what:?} {fault:?}");
            let first = world.run(renew(), Some(fault)).1;
            let mut mentioned = first.map(|outcome| outcome.orphans).unwrap_or_default();
            let before = world.lock().keys.clone();

            let outcome = world.again(renew());
            assert!(
                matches!(outcome.reached, Reached::Switched(_)),
                "{story}: {outcome:?}"
            );
            mentioned.extend(outcome.orphans);
            orphans += mentioned.len();
            assert!(world.lock().accepts(OLD), "{story}");

            let finish = World::calls_of_finish(&world);
            for second in every_fault(finish) {
                let world = world.copy();
                let story = format!("{story}, then {second:?}");
                let first = world.run(Order::Finish, Some(second)).1;
                let mut mentioned = mentioned.clone();
                mentioned.extend(first.map(|outcome| outcome.orphans).unwrap_or_default());
                let last = world.again(Order::Finish);
                mentioned.extend(last.orphans);
                check_end(&world, &before, &mentioned, &story);
                assert_ne!(world.lock().vault.as_deref(), Some(OLD), "{story}");
            }
        }
        // A secret that is made and not heard of has lost its text; a certificate's key is here.
        assert_eq!(orphans > 0, what == Renewable::ClientSecret, "{orphans}");
    }
}

#[test]
fn a_renewal_that_is_cut_twice_completes_too() {
    let what = Renewable::ClientSecret;
    let calls = World::new(what).run(renew(), None).0;
    for first in every_fault(calls) {
        for second in every_fault(calls + 6) {
            let world = World::new(what);
            let story = format!("{first:?}, {second:?}");
            let mut mentioned = Vec::new();
            let mut before = Vec::new();
            for fault in [first, second] {
                let ended = world.run(renew(), Some(fault)).1;
                mentioned.extend(ended.map(|outcome| outcome.orphans).unwrap_or_default());
                before.extend(world.lock().keys.clone());
            }
            mentioned.extend(world.again(renew()).orphans);
            mentioned.extend(world.again(Order::Finish).orphans);
            check_end(&world, &before, &mentioned, &story);
        }
    }
}

#[test]
fn giving_up_restores_the_old_one_wherever_it_was_cut() {
    for what in [Renewable::ClientSecret, Renewable::Certificate] {
        let calls = World::new(what).run(renew(), None).0;
        // The last one cuts nothing: the new one is in use when it is given up.
        for fault in every_fault(calls + 1) {
            let world = World::new(what);
            let _ = world.run(renew(), Some(fault));
            let begun = world.copy().run(Order::Abort, None).0;
            for second in every_fault(begun + 1) {
                let world = world.copy();
                let story = format!("{what:?} {fault:?}, given up with {second:?}");
                let _ = world.run(Order::Abort, Some(second));
                let outcome = world.again(Order::Abort);
                assert!(
                    matches!(outcome.reached, Reached::Aborted | Reached::Nothing),
                    "{story}: {outcome:?}"
                );
                let state = world.lock();
                assert_eq!(state.wrongs, Vec::<String>::new(), "{story}");
                assert_eq!(state.vault.as_deref(), Some(OLD), "{story}");
                let ids: Vec<_> = state.keys.iter().map(|key| &*key.id).collect();
                assert_eq!(ids, ["k-other", "k-old"], "{story}");
            }
        }
    }
}

#[test]
fn an_answer_that_comes_true_late_is_swept_the_next_time() {
    let world = World::new(Renewable::ClientSecret);
    world.again(renew());
    world.again(Order::Finish);
    // Nobody saw it when the renewal ended.
    let mark = {
        let state = world.lock();
        Journal::decode(state.journal.as_deref().unwrap())
            .unwrap()
            .mark
    };
    let now = world.lock().now;
    world.lock().keys.push(Key {
        id: "k-late".to_owned(),
        mark: Some(mark),
        text: "late".to_owned(),
        accepted_from: now,
    });

    let outcome = world.again(renew());

    assert_eq!(outcome.orphans, ["k-late"]);
    assert!(!world.lock().keys.iter().any(|key| key.id == "k-late"));
}

#[test]
fn one_that_is_never_accepted_leaves_the_old_one_in_use_and_says_what_to_do() {
    let world = World::new(Renewable::ClientSecret);
    world.lock().delay = DAY;

    let failure = world.run(renew(), None).1.unwrap_err();

    assert_eq!(failure.code, "secret.not_accepted");
    assert!(failure.retryable);
    assert!(failure.remedy.unwrap().contains("--abort"));
    assert_eq!(world.lock().vault.as_deref(), Some(OLD));
    assert_eq!(world.lock().keys.len(), 3);
    // Somebody removes it there: another is made.
    world.lock().keys.pop();
    let failure = world.run(renew(), None).1.unwrap_err();
    assert!(
        failure.message.contains("no longer registered"),
        "{failure:?}"
    );
    world.lock().delay = SignedDuration::ZERO;
    let outcome = world.run(renew(), None).1.unwrap();
    assert!(matches!(outcome.reached, Reached::Switched(_)));
}

#[test]
fn a_secret_that_somebody_else_changed_is_left_alone() {
    let world = World::new(Renewable::ClientSecret);
    world.again(renew());
    let now = world.lock().now;
    world.lock().keys.push(Key {
        id: "k-third".to_owned(),
        mark: None,
        text: "third".to_owned(),
        accepted_from: now,
    });
    world.lock().vault = Some("third".to_owned());

    let failure = world.run(Order::Finish, None).1.unwrap_err();
    assert_eq!(failure.code, "secret.changed");
    assert!(world.lock().accepts(OLD), "nothing was removed");

    let outcome = world.run(Order::Abort, None).1.unwrap();
    assert_eq!(outcome.reached, Reached::Aborted);
    assert_eq!(world.lock().vault.as_deref(), Some("third"));
    assert_eq!(world.in_use_id(), "k-third");
}

impl World {
    fn calls_of_finish(world: &World) -> usize {
        world.copy().run(Order::Finish, None).0
    }

    /// Another world like this one.
    fn copy(&self) -> Self {
        let state = self.lock();
        Self(Arc::new(Mutex::new(State {
            what: state.what,
            keys: state.keys.clone(),
            vault: state.vault.clone(),
            replaced: state.replaced,
            settled: state.settled,
            journal: state.journal.clone(),
            now: state.now,
            made: state.made,
            delay: state.delay,
            wrongs: state.wrongs.clone(),
            calls: 0,
            fault: None,
            dead: false,
        })))
    }
}
