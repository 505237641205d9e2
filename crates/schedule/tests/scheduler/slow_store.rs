//! A store that takes its time, because another process holds it: what happens meanwhile.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use postrider_schedule::{
    MemoryStore, Overlap, PastRun, Plan, Row, ScheduleError, Store, StoreError,
};

use crate::support::{Host, World, hours, minutes, seconds, time};

/// It does what it is asked, and says so when it is let go.
#[derive(Default)]
struct Slow {
    store: MemoryStore,
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    is_held: bool,
    waiting: usize,
}

impl Slow {
    fn hold(&self) {
        self.held.lock().unwrap().is_held = true;
    }

    fn release(&self) {
        self.held.lock().unwrap().is_held = false;
        self.changed.notify_all();
    }

    fn waiting(&self) -> usize {
        self.held.lock().unwrap().waiting
    }

    fn pass(&self) {
        let mut held = self.held.lock().unwrap();
        held.waiting += 1;
        let patience = Duration::from_mins(1);
        let wait = self
            .changed
            .wait_timeout_while(held, patience, |held| held.is_held);
        wait.unwrap().0.waiting -= 1;
    }
}

impl Store for Slow {
    fn load(&self, name: &str, now: jiff::Timestamp) -> Result<Option<Row>, StoreError> {
        self.pass();
        self.store.load(name, now)
    }

    fn all(&self, now: jiff::Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        self.pass();
        self.store.all(now)
    }

    fn change(
        &self,
        name: &str,
        now: jiff::Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        let changed = self.store.change(name, now, change);
        self.pass();
        changed
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        self.pass();
        self.store.history(name, limit)
    }
}

/// Lets the host work until `is_so`.
#[track_caller]
fn until(host: &Host, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        host.falter(1);
        std::thread::yield_now();
        assert!(began.elapsed() < Duration::from_mins(1), "it never is");
    }
}

fn slow() -> (World, Arc<Slow>, Host) {
    let world = World::new();
    let slow = Arc::new(Slow::default());
    let host = world.host_on(Arc::clone(&slow) as Arc<dyn Store>);
    (world, slow, host)
}

/// A schedule each minute, and the store asked for its first run, which answers when released.
fn asked_for_a_run() -> (World, Arc<Slow>, Host) {
    let (world, slow, host) = slow();
    let pulse = host.work(Some("pulse"), Plan::Every(minutes(1)));
    host.add(pulse.schedule()).unwrap();
    world.pass(&[&host], seconds(59));
    slow.hold();
    world.clock.set(world.now() + seconds(1));
    until(&host, || slow.waiting() == 1);
    (world, slow, host)
}

fn open_runs(world: &World, slow: &Slow) -> u32 {
    let store: &dyn Store = &slow.store;
    let standings = store.standings(world.now()).unwrap();
    standings.iter().map(|standing| standing.running).sum()
}

#[test]
fn a_run_is_given_back_when_its_schedule_is_withdrawn_while_the_store_is_asked() {
    let (world, slow, host) = asked_for_a_run();
    host.scheduler.install(&host.scheduler.generation());
    slow.release();
    host.settle();

    assert_eq!(host.log.count(), 0);
    assert_eq!(host.log.codes(), [""; 0]);
    assert_eq!(open_runs(&world, &slow), 0);
    assert!(host.history("pulse", 10).unwrap().is_empty());

    // The schedule is there again: nobody has run that slot.
    let pulse = host.work(Some("pulse"), Plan::Every(minutes(1)));
    host.add(pulse.schedule()).unwrap();
    host.settle();
    assert_eq!(host.log.slots(), [60]);
}

#[test]
fn a_run_that_the_store_was_asked_for_does_not_begin_when_the_host_stops() {
    let (world, slow, host) = asked_for_a_run();
    let scheduler = host.scheduler.clone();
    let drained = host.spawn(async move { scheduler.drain(minutes(1)).await });
    host.falter(20);
    // It waits for the answer, or something might begin after the end.
    assert!(!drained.is_finished());
    slow.release();

    assert_eq!(host.block_on(drained).unwrap(), 0);
    assert_eq!(host.log.count(), 0);
    assert_eq!(open_runs(&world, &slow), 0);
    assert_eq!(
        host.scheduler.run_now("pulse"),
        Err(ScheduleError::Stopping)
    );
}

#[test]
fn a_new_plan_that_comes_while_the_store_is_asked_for_a_run_of_the_old_one_is_not_lost() {
    let (world, slow, host) = asked_for_a_run();
    let draft = host.scheduler.generation();
    let pulse = host.work(Some("pulse"), Plan::Every(minutes(10)));
    let handle = draft.add(pulse.schedule()).unwrap();
    host.scheduler.install(&draft);
    slow.release();
    host.settle();

    assert_eq!(host.log.count(), 0);
    let store: &dyn Store = &slow.store;
    let kept = &store.standings(world.now()).unwrap()[0];
    assert_eq!((kept.plan.as_str(), kept.running), ("every 10m", 0));
    assert_eq!(handle.next(), Some(time("2026-03-02T00:11:00Z")));
    assert_eq!(kept.next, handle.next());
}

#[test]
fn a_host_that_stops_does_not_wait_for_a_store_that_gives_no_answer() {
    let (world, slow, host) = slow();
    let long = host.work(Some("long"), Plan::Every(minutes(1)));
    host.add(long.takes(hours(1)).schedule()).unwrap();
    world.pass(&[&host], minutes(1));
    assert_eq!(host.log.count(), 1);
    slow.hold();
    let scheduler = host.scheduler.clone();
    let drained = host.spawn(async move { scheduler.drain(seconds(1)).await });
    host.breathe();
    world.clock.set(world.now() + seconds(1));
    until(&host, || slow.waiting() == 1);
    assert!(!drained.is_finished());

    world.clock.set(world.now() + seconds(10));
    assert_eq!(host.block_on(drained).unwrap(), 1);
    slow.release();
}

#[test]
fn schedules_without_a_name_do_not_wait_for_the_store() {
    let (world, slow, host) = asked_for_a_run();
    let second = host.work(None, Plan::Every(seconds(1)));
    host.add(second.schedule()).unwrap();
    host.block_on(host.scheduler.answers());
    for _ in 0..5 {
        world.clock.set(world.now() + seconds(1));
        host.block_on(host.scheduler.answers());
        host.breathe();
    }
    assert_eq!(host.log.slots(), [61, 62, 63, 64, 65]);
    slow.release();
}

#[test]
fn nobody_waits_for_the_store_who_holds_a_thread() {
    let (_world, slow, host) = asked_for_a_run();
    host.block_on(async {
        // Each is polled once; a call that asked the store on the spot would stand here.
        assert!(host.scheduler.pause("pulse").now_or_never().is_none());
        assert!(host.scheduler.resume("pulse").now_or_never().is_none());
        assert!(host.scheduler.history("pulse", 1).now_or_never().is_none());
        let another = host.work(Some("another"), Plan::Every(minutes(1)));
        assert!(
            host.scheduler
                .add(another.schedule())
                .now_or_never()
                .is_none()
        );
        let draft = host.scheduler.generation();
        assert!(draft.read().now_or_never().is_none());
        let another = host.work(Some("another"), Plan::Every(minutes(1)));
        assert!(draft.add(another.schedule()).is_ok());
    });
    slow.release();
}

#[test]
fn what_begins_after_the_store_took_long_began_then() {
    let (world, slow, host) = slow();
    for name in ["first", "second"] {
        let work = host.work(Some(name), Plan::Every(minutes(1)));
        host.add(work.schedule()).unwrap();
    }
    world.pass(&[&host], seconds(59));
    slow.hold();
    world.clock.set(world.now() + seconds(1));
    until(&host, || slow.waiting() == 1);
    // Longer than a run counts as under way without a word from its process.
    world.clock.set(world.now() + seconds(90));
    slow.release();
    // Recorded, too, which is done beside.
    until(&host, || host.log.outcomes().len() == 2);

    let began = |name| host.history(name, 1).unwrap()[0].started_at;
    assert_eq!(began("first"), time("2026-03-02T00:01:00Z"));
    assert_eq!(began("second"), time("2026-03-02T00:02:30Z"));
}

#[test]
fn who_asks_for_a_run_hears_how_it_ended_or_why_it_did_not_begin() {
    let world = World::new();
    let [one, other] = [world.host(), world.host()];
    for host in [&one, &other] {
        let work = host.work(Some("long"), Plan::Every(minutes(10)));
        host.add(work.takes(minutes(2)).schedule()).unwrap();
    }
    let ask = |host: &Host| {
        let scheduler = host.scheduler.clone();
        host.spawn(async move { scheduler.run_to_its_end("long").await })
    };
    let first = ask(&one);
    world.pass(&[&one, &other], seconds(1));
    assert_eq!(one.scheduler.list()[0].running, 1);

    // Another process runs it.
    let second = ask(&other);
    world.pass(&[&one, &other], seconds(1));
    let refused = ScheduleError::Running("long".to_owned());
    assert_eq!(other.block_on(second).unwrap(), Err(refused.clone()));
    assert_eq!(other.scheduler.list()[0].running, 1);
    // And so does this one.
    assert_eq!(one.block_on(ask(&one)).unwrap(), Err(refused));

    world.pass(&[&one, &other], minutes(3));
    let ended = one.block_on(first).unwrap().unwrap();
    assert_eq!((ended.number, ended.took()), (1, minutes(2)));
    assert_eq!(other.log.count(), 0);

    // Withdrawn before it began, and asked for at the end.
    let withdrawn = other.block_on(async {
        let mut late = Box::pin(other.scheduler.run_to_its_end("long"));
        assert!((&mut late).now_or_never().is_none());
        other.scheduler.install(&other.scheduler.generation());
        late.await
    });
    let unknown = ScheduleError::Unknown("long".to_owned());
    assert_eq!(withdrawn, Err(unknown));
    one.block_on(one.scheduler.drain(seconds(1)));
    assert_eq!(
        one.block_on(ask(&one)).unwrap(),
        Err(ScheduleError::Stopping)
    );
}

#[test]
fn a_run_that_waits_for_another_process_is_not_refused_where_it_may_queue() {
    let world = World::new();
    let [one, other] = [world.host(), world.host()];
    for host in [&one, &other] {
        let work = host.work(Some("long"), Plan::Every(minutes(10)));
        let work = work.takes(minutes(2)).overlap(Overlap::Queue);
        host.add(work.schedule()).unwrap();
    }
    one.scheduler.run_now("long").unwrap();
    world.pass(&[&one, &other], seconds(1));
    let scheduler = other.scheduler.clone();
    let second = other.spawn(async move { scheduler.run_to_its_end("long").await });
    world.pass(&[&one, &other], minutes(5));
    assert_eq!(other.block_on(second).unwrap().unwrap().number, 2);
}
