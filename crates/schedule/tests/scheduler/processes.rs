//! Two processes on one store that stop, crash, freeze and see the clock jump.

use std::collections::BTreeSet;
use std::sync::Arc;

use postrider_schedule::{
    MemoryStore, Missed, Overlap, PastRun, Plan, Reason, Row, SqliteStore, Store, StoreError,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{Host, Log, START, World, cron, hours, minutes, seconds, time};

#[test]
fn two_processes_share_the_slots() {
    let world = World::new();
    let hosts = [world.host(), world.host()];
    for host in &hosts {
        for (name, plan) in [
            ("often", Plan::Every(minutes(1))),
            ("wall", cron("* * * * *", "UTC")),
        ] {
            host.add(host.work(Some(name), plan).schedule()).unwrap();
        }
    }
    world.pass(&[&hosts[0], &hosts[1]], minutes(30));

    for name in ["often", "wall"] {
        let mut slots = BTreeSet::new();
        let mut runs = 0;
        for host in &hosts {
            for run in host.log.runs() {
                if run.name.as_deref() == Some(name) {
                    runs += 1;
                    slots.insert(run.scheduled_at);
                }
            }
        }
        assert_eq!((slots.len(), runs), (30, 30), "{name}");
        assert_eq!(world.store.history(name, 100).unwrap().len(), 30);
    }
}

#[test]
fn a_process_that_starts_beside_another_passes_over_nothing() {
    let world = World::new();
    let make = |host: &Host| {
        let work = host.work(Some("all"), cron("*/10 * * * *", "UTC"));
        let work = work
            .takes(seconds(20))
            .missed(Missed::All)
            .overlap(Overlap::Queue);
        host.add(work.schedule()).unwrap();
    };
    let first = world.host();
    make(&first);
    world.clock.set(time("2026-03-02T00:20:00Z"));
    let second = world.host();
    // Neither has told the store of it yet.
    make(&second);
    world.pass(&[&first, &second], minutes(5));
    let mut slots = [first.log.slots(), second.log.slots()].concat();
    slots.sort_unstable();
    assert_eq!(slots, [600, 1200]);
}

#[test]
fn what_does_not_overlap_does_not_in_another_process_either() {
    for (overlap, slots) in [
        (Overlap::Skip, vec![60, 240]),
        (Overlap::Queue, vec![60, 120]),
    ] {
        let world = World::new();
        let hosts = [world.host(), world.host()];
        for host in &hosts {
            let work = host.work(Some("long"), Plan::Every(minutes(1)));
            let work = work.takes(seconds(150)).overlap(overlap);
            host.add(work.schedule()).unwrap();
        }
        world.pass(&[&hosts[0], &hosts[1]], seconds(300));
        let mut begun: Vec<i64> = hosts.iter().flat_map(|host| host.log.slots()).collect();
        begun.sort_unstable();
        assert_eq!(begun, slots, "{overlap:?}");
    }
}

#[test]
fn a_run_whose_process_crashed_is_recorded_as_interrupted_and_not_begun_again() {
    let world = World::new();
    let make = |host: &Host| {
        let work = host
            .work(Some("long"), Plan::Every(minutes(10)))
            .takes(minutes(5));
        host.add(work.schedule()).unwrap();
    };
    let host = world.host();
    make(&host);
    world.pass(&[&host], minutes(11));
    drop(host);
    assert_eq!(world.kept()[0].running, 1);

    let host = world.host();
    make(&host);
    world.pass(&[&host], minutes(10));

    assert_eq!(host.log.slots(), [1200]);
    assert_eq!(host.log.codes(), ["schedule.interrupted"]);
    let history = world.store.history("long", 10).unwrap();
    let error = history[0].result.clone().unwrap_err();
    assert_eq!(
        error.message,
        "the run was interrupted: the process that ran it is gone"
    );
}

#[test]
fn a_process_that_froze_during_a_run_does_not_lose_its_result() {
    let world = World::new();
    let hosts = [world.host(), world.host()];
    for host in &hosts {
        let work = host
            .work(Some("long"), Plan::Every(minutes(10)))
            .takes(minutes(1));
        host.add(work.schedule()).unwrap();
    }
    world.pass(&[&hosts[0]], seconds(605));
    assert_eq!(hosts[0].log.slots(), [600]);

    // The other one takes it for dead.
    world.pass(&[&hosts[1]], minutes(15));
    assert_eq!(hosts[1].log.codes(), ["schedule.interrupted", "ok"]);
    world.pass(&[&hosts[0], &hosts[1]], seconds(1));

    let history = world.store.history("long", 10).unwrap();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|run| run.result.is_ok()), "{history:?}");
    let standing = &world.kept()[0];
    assert_eq!((standing.runs, standing.failures), (2, 0));
}

#[test]
fn schedules_are_kept_in_a_file_that_is_written_beside_the_driver() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedules.db");
    let world = World::new();
    for expected in [[60, 120], [180, 240]] {
        let host = world.host_on(Arc::new(SqliteStore::open(&path).unwrap()));
        let work = host.work(Some("pulse"), Plan::Every(minutes(1)));
        host.add(work.schedule()).unwrap();
        host.settle();
        for ended in 1..=2 {
            world.clock.set(world.now() + minutes(1));
            host.settle();
            // Its end is written by another thread.
            while host.log.outcomes().len() < ended {
                host.breathe();
            }
        }
        assert_eq!(host.log.slots(), expected);
        assert_eq!(host.block_on(host.scheduler.drain(seconds(1))), 0);
    }
    let store = SqliteStore::open(&path).unwrap();
    let slots: Vec<_> = store.history("pulse", 10).unwrap();
    assert_eq!(slots.len(), 4);
    assert!(
        slots
            .iter()
            .all(|run| run.result.is_ok() && run.reason == Reason::Tick)
    );
}

/// What happens to two processes.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes for both.
    Pass(u64),
    /// Time passes, and only one of them is not frozen.
    PassFor(Index, u64),
    /// The machine sleeps, or its clock is set forward.
    Jump(u64),
    Back(u64),
    /// One gets a little further with what it does.
    Falter(Index, u8),
    Crash(Index),
    Start(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..2000_u64).prop_map(Step::Pass),
        2 => (any::<Index>(), 1..2000_u64).prop_map(|(host, span)| Step::PassFor(host, span)),
        2 => (1..7200_u64).prop_map(Step::Jump),
        1 => (1..3000_u64).prop_map(Step::Back),
        3 => (any::<Index>(), 0..6_u8).prop_map(|(host, polls)| Step::Falter(host, polls)),
        2 => any::<Index>().prop_map(Step::Crash),
        3 => any::<Index>().prop_map(Step::Start),
    ]
}

/// Two processes, each with a way of its own to the store.
struct Pair {
    world: World,
    stores: [Arc<dyn Store>; 2],
    hosts: [Option<Host>; 2],
    logs: Vec<Arc<Log>>,
    latest: jiff::Timestamp,
}

impl Pair {
    fn new(stores: [Arc<dyn Store>; 2]) -> Self {
        let mut pair = Self {
            world: World::new(),
            stores,
            hosts: [None, None],
            logs: Vec::new(),
            latest: time(START),
        };
        pair.start(0);
        // From now on the store knows of the plans: nothing may be lost.
        pair.hosts.iter().flatten().for_each(Host::settle);
        pair
    }

    fn start(&mut self, which: usize) {
        if self.hosts[which].is_some() {
            return;
        }
        let host = self.world.host_on(Arc::clone(&self.stores[which]));
        for (name, missed, overlap) in [
            ("all", Missed::All, Overlap::Queue),
            ("beside", Missed::All, Overlap::Allow),
            ("once", Missed::Once, Overlap::Queue),
            ("skip", Missed::Skip, Overlap::Skip),
        ] {
            let work = host.work(Some(name), cron("*/10 * * * *", "UTC"));
            let work = work.takes(seconds(20)).missed(missed).overlap(overlap);
            host.add(work.schedule()).unwrap();
        }
        self.logs.push(Arc::clone(&host.log));
        self.hosts[which] = Some(host);
    }

    fn perform(&mut self, step: &Step) {
        let both: Vec<&Host> = self.hosts.iter().flatten().collect();
        match step {
            Step::Pass(span) => self.world.pass(&both, seconds(*span)),
            Step::PassFor(host, span) => {
                let one: Vec<&Host> = self.hosts[host.index(2)].iter().collect();
                self.world.pass(&one, seconds(*span));
            }
            Step::Jump(span) => self.world.clock.set(self.world.now() + seconds(*span)),
            Step::Back(span) => self.world.clock.set(self.world.now() - seconds(*span)),
            Step::Falter(host, polls) => {
                if let Some(host) = &self.hosts[host.index(2)] {
                    host.falter(*polls);
                }
            }
            Step::Crash(host) => self.hosts[host.index(2)] = None,
            Step::Start(host) => self.start(host.index(2)),
        }
        self.latest = self.latest.max(self.world.now());
    }

    /// Everything goes well for a while.
    fn calm(&mut self) {
        self.start(0);
        self.start(1);
        let until = self.latest + hours(9);
        let both: Vec<&Host> = self.hosts.iter().flatten().collect();
        self.world.pass_until(&both, until);
    }

    /// The slots of `name` that a plan began, each as often as it did.
    fn begun(&self, name: &str) -> Vec<jiff::Timestamp> {
        let runs = self.logs.iter().flat_map(|log| log.runs());
        let by_plan = runs.filter(|run| {
            run.name.as_deref() == Some(name) && matches!(run.reason, Reason::Tick | Reason::Missed)
        });
        let mut slots: Vec<_> = by_plan.map(|run| run.scheduled_at).collect();
        slots.sort_unstable();
        slots
    }

    /// The slots of `name` that were begun by a process that is gone, whether or not the job
    /// itself got so far.
    fn interrupted(&self, name: &str) -> BTreeSet<jiff::Timestamp> {
        let outcomes = self.logs.iter().flat_map(|log| log.outcomes());
        let interrupted = outcomes.filter(|outcome| {
            outcome.name.as_deref() == Some(name)
                && outcome
                    .result
                    .as_ref()
                    .is_err_and(|error| error.code == "schedule.interrupted")
        });
        interrupted.map(|outcome| outcome.scheduled_at).collect()
    }
}

fn no_slot_comes_twice_and_none_is_lost(stores: [Arc<dyn Store>; 2], steps: &[Step]) {
    let mut pair = Pair::new(stores);
    for step in steps {
        pair.perform(step);
    }
    pair.calm();
    for name in ["all", "beside", "once", "skip"] {
        let begun = pair.begun(name);
        let once: BTreeSet<_> = begun.iter().copied().collect();
        assert_eq!(begun.len(), once.len(), "{name}: {begun:?}");
        // Each is the last word on its time: the latest slot was run.
        let last = pair.world.now() - minutes(11);
        assert!(
            once.last().is_some_and(|slot| *slot > last),
            "{name}: {once:?}"
        );
    }
    for name in ["all", "beside"] {
        let mut dealt_with: BTreeSet<_> = pair.begun(name).into_iter().collect();
        dealt_with.extend(pair.interrupted(name));
        let mut slot = time(START) + minutes(10);
        while slot < pair.world.now() - minutes(10) {
            assert!(dealt_with.contains(&slot), "{name}: {slot} is lost");
            slot += minutes(10);
        }
    }
}

/// An SQLite file that is read and written on the spot.
struct OnTheSpot(SqliteStore);

impl Store for OnTheSpot {
    fn load(&self, name: &str, now: jiff::Timestamp) -> Result<Option<Row>, StoreError> {
        self.0.load(name, now)
    }

    fn all(&self, now: jiff::Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        self.0.all(now)
    }

    fn change(
        &self,
        name: &str,
        now: jiff::Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        self.0.change(name, now, change)
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        self.0.history(name, limit)
    }

    fn is_quick(&self) -> bool {
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_slot_comes_twice_and_none_is_lost(
        steps in proptest::collection::vec(step(), 1..30)
    ) {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        no_slot_comes_twice_and_none_is_lost([Arc::clone(&store), store], &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_holds_for_two_handles_on_one_file(
        steps in proptest::collection::vec(step(), 10..20)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("schedules.db");
        let open = || Arc::new(OnTheSpot(SqliteStore::open(&path).unwrap())) as Arc<dyn Store>;
        no_slot_comes_twice_and_none_is_lost([open(), open()], &steps);
    }
}
