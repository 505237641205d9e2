//! Very many grants: what they cost, and that a provider is asked no more than it may be.
//!
//! As tests they are few. `cargo xtask bench keeper` runs each with
//! `POSTRIDER_KEEPER_GRANTS=100000`, optimised and in a process of its own, and shows what it
//! prints.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_plugin::wire::Secret;
use postrider_vault::{KeyOptions, Options, Vault};
use secrecy::SecretString;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::chance::{below, roll};
use super::time::Time;
use crate::clock::Clock;
use crate::keeper::record::{Access, Record, Refresh};
use crate::keeper::schedule::Life;
use crate::keeper::store::{GrantStore, Shelf, StoreError, StoreLock};
use crate::keeper::{
    ClientKey, GrantIdentity, GrantKey, GrantPolicy, Keeper, KeeperSettings, MemoryStore, NoEvents,
    NotObtained, Obtained, Parameters, Tended, TokenSource, VaultStore,
};

/// In which every grant comes due once.
const HOUR: Duration = Duration::from_hours(1);
/// So long that no new token comes due in that hour: two fifths of it are longer.
const LIFETIME: Duration = Duration::from_mins(160);
/// About what Microsoft sends.
const ACCESS_OCTETS: usize = 1800;
const REFRESH_OCTETS: usize = 1100;

/// How many grants; few unless somebody measures.
fn grants() -> usize {
    let wished = std::env::var("POSTRIDER_KEEPER_GRANTS").ok();
    wished.map_or(400, |number| {
        number.parse().expect("POSTRIDER_KEEPER_GRANTS is a number")
    })
}

fn key(number: usize) -> GrantKey {
    let mut key = [0; 32];
    for (part, octets) in key.chunks_mut(8).enumerate() {
        octets.copy_from_slice(&roll(part as u64, &[number as u64]).to_be_bytes());
    }
    GrantKey(key)
}

fn secret(octets: usize, number: usize) -> Secret {
    Secret::new(format!("{number:0octets$}"))
}

/// The record of a grant that comes due this long after `clock`'s now, and how long its token
/// can be used.
fn record(number: usize, due_in: Duration, clock: &Time) -> (Record, Duration) {
    let now = clock.now();
    let issued = |at| Access {
        token: secret(ACCESS_OCTETS, number),
        token_type: None,
        issued_at: at,
        expires_at: at + LIFETIME,
        refresh_at: None,
    };
    let life = |access: &Access| Life::new(access, &key(number), 1, &Parameters::default());
    let early = life(&issued(now)).soft.duration_since(now).unwrap();
    let access = issued(now + due_in - early);
    let usable = life(&access).floor.duration_since(now).unwrap();
    let record = Record {
        generation: 1,
        refresh: Some(Refresh {
            token: secret(REFRESH_OCTETS, number),
            issued_at: access.issued_at,
            lapses_at: None,
        }),
        refreshed_at: Some(access.issued_at),
        access: Some(access),
        ..Record::default()
    };
    (record, usable)
}

/// A provider, counting.
struct Issuer {
    clock: Arc<Time>,
    inflight: AtomicUsize,
    most_inflight: AtomicUsize,
    /// When each request came.
    asked: Mutex<Vec<Duration>>,
    /// Requests that came when the token before could no longer be used.
    late: AtomicUsize,
}

impl Issuer {
    fn new(clock: &Arc<Time>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            inflight: AtomicUsize::new(0),
            most_inflight: AtomicUsize::new(0),
            asked: Mutex::default(),
            late: AtomicUsize::new(0),
        })
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The most requests within any second.
    fn most_a_second(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        let mut first = 0;
        let mut most = 0;
        for (last, at) in asked.iter().enumerate() {
            while asked[first] + Duration::from_secs(1) <= *at {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most
    }

    fn last(&self) -> Duration {
        self.asked
            .lock()
            .unwrap()
            .last()
            .copied()
            .unwrap_or_default()
    }
}

struct Source {
    issuer: Arc<Issuer>,
    number: usize,
    usable: Duration,
}

impl TokenSource for Source {
    fn obtain(&self, refresh: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> {
        assert!(refresh.is_some());
        let (issuer, number, usable) = (Arc::clone(&self.issuer), self.number, self.usable);
        async move {
            let requested_at = issuer.clock.now();
            let at = issuer.clock.elapsed();
            issuer.asked.lock().unwrap().push(at);
            if at > usable {
                issuer.late.fetch_add(1, Ordering::Relaxed);
            }
            let inflight = issuer.inflight.fetch_add(1, Ordering::Relaxed) + 1;
            issuer.most_inflight.fetch_max(inflight, Ordering::Relaxed);
            let ms = 100 + below(1400, 1, &[number as u64]);
            sleep(Duration::from_millis(ms)).await;
            issuer.inflight.fetch_sub(1, Ordering::Relaxed);
            Ok(Obtained {
                access: SecretString::from(secret(ACCESS_OCTETS, number).expose()),
                token_type: None,
                refresh: Some(secret(REFRESH_OCTETS, number)),
                refresh_lifetime: None,
                scope: None,
                requested_at,
                lifetime: LIFETIME,
                refresh_in: None,
                identity: None,
            })
        }
        .boxed()
    }
}

/// A store that says when every record was read.
struct Counting<S> {
    store: S,
    loads: AtomicUsize,
    /// As many as there are records, and who waits for that.
    all: usize,
    seen: Notify,
}

impl<S: GrantStore> GrantStore for Counting<S> {
    fn load(&self, kind: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let record = self.store.load(kind, key);
        if self.loads.fetch_add(1, Ordering::Relaxed) + 1 == self.all {
            self.seen.notify_one();
        }
        record
    }

    fn save(&self, kind: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        self.store.save(kind, key, record)
    }

    fn remove(&self, kind: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        self.store.remove(kind, key)
    }

    fn try_lock(&self, kind: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        self.store.try_lock(kind, key)
    }

    fn blocks(&self) -> bool {
        self.store.blocks()
    }
}

/// A keeper with its grants, before it looks after them.
struct Load<S> {
    clock: Arc<Time>,
    store: Arc<Counting<S>>,
    issuers: Vec<Arc<Issuer>>,
    keeper: Keeper,
    tended: Vec<Tended>,
}

impl<S: GrantStore + 'static> Load<S> {
    fn new(store: S, grants: usize, issuers: usize) -> Self {
        let clock = Arc::new(Time::new());
        let usable: Vec<Duration> = (0..grants)
            .map(|number| {
                let due_in = HOUR * u32::try_from(number).unwrap() / u32::try_from(grants).unwrap();
                let (record, usable) = record(number, due_in, &clock);
                let octets = record.encode().unwrap();
                store.save(Shelf::Grant, &key(number), &octets).unwrap();
                usable
            })
            .collect();
        let store = Arc::new(Counting {
            store,
            loads: AtomicUsize::new(0),
            all: grants,
            seen: Notify::new(),
        });
        let keeper = Keeper::new(KeeperSettings {
            store: Arc::clone(&store) as Arc<dyn GrantStore>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            events: Arc::new(NoEvents),
            parameters: Parameters::default(),
        });
        let issuers: Vec<_> = (0..issuers).map(|_| Issuer::new(&clock)).collect();
        let names: Vec<Arc<str>> = (0..issuers.len())
            .map(|number| format!("login{number}.example.org").into())
            .collect();
        let tended = usable.into_iter().enumerate().map(|(number, usable)| {
            let issuer = number % issuers.len();
            let identity = GrantIdentity {
                account: format!("account-{number}").into(),
                username: None,
                app_only: false,
                policy: GrantPolicy::default(),
                issuer: Arc::clone(&names[issuer]),
                client: ClientKey([u8::try_from(issuer).unwrap(); 32]),
            };
            Tended {
                grant: keeper.grant(key(number), identity),
                source: Arc::new(Source {
                    issuer: Arc::clone(&issuers[issuer]),
                    number,
                    usable,
                }),
            }
        });
        let tended = tended.collect();
        Self {
            clock,
            store,
            issuers,
            keeper,
            tended,
        }
    }

    /// Looks after the grants for `time`; says what it cost.
    async fn tend(&mut self, time: Duration) {
        let (keeper, tended) = (self.keeper.clone(), std::mem::take(&mut self.tended));
        let tending = tokio::spawn(async move { keeper.tend_grants(tended, Vec::new()).await });
        sleep(time).await;
        tending.abort();
    }

    fn requests(&self) -> usize {
        self.issuers.iter().map(|issuer| issuer.requests()).sum()
    }

    /// Sees that no provider was asked more than it may be, and says how much it was.
    fn within_caps(&self) {
        let parameters = Parameters::default();
        for (number, issuer) in self.issuers.iter().enumerate() {
            let rate = issuer.most_a_second();
            let inflight = issuer.most_inflight.load(Ordering::Relaxed);
            println!(
                "  provider {number}: {} requests until {:.0?}, {rate} a second and {inflight} in flight at most, {} for a token no longer usable",
                issuer.requests(),
                issuer.last(),
                issuer.late.load(Ordering::Relaxed)
            );
            assert!(rate <= parameters.issuer_rate as usize);
            assert!(inflight <= parameters.issuer_inflight);
        }
    }
}

fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Resident memory in octets, now (`VmRSS`) or at its most (`VmHWM`).
fn resident(which: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(which));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "octets of memory, to a tenth of a megabyte"
)]
fn mib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

#[test]
fn four_providers_see_an_hour_of_grants_within_their_caps() {
    let grants = grants();
    paused().block_on(async {
        let memory = MemoryStore::default();
        let empty = resident("VmRSS");
        let mut load = Load::new(memory, grants, 4);
        let stored = resident("VmRSS");
        let (began, cpu_before) = (Instant::now(), cpu());
        load.tend(HOUR + Duration::from_mins(1)).await;

        println!("{grants} grants due over an hour, 4 providers");
        load.within_caps();
        let used = cpu().checked_sub(cpu_before).unwrap_or_default();
        println!(
            "  {used:.1?} CPU ({:.0?} a refresh), {:.1?} real; resident: {:.0} MiB with records and grants, {:.0} MiB at most, {} octets a grant with its record",
            used / u32::try_from(grants).unwrap(),
            began.elapsed(),
            mib(stored),
            mib(resident("VmHWM")),
            (resident("VmRSS").saturating_sub(empty)) / grants as u64,
        );
        assert_eq!(load.requests(), grants, "each once");
        let late: usize = load
            .issuers
            .iter()
            .map(|issuer| issuer.late.load(Ordering::Relaxed))
            .sum();
        assert_eq!(late, 0, "no token came to its end");
    });
}

#[test]
fn one_provider_gets_no_more_than_its_cap_however_much_is_due() {
    let grants = grants();
    paused().block_on(async {
        let mut load = Load::new(MemoryStore::default(), grants, 1);
        println!("{grants} grants due over an hour, one provider");
        load.tend(HOUR).await;
        println!("  {} refreshed within the hour", load.requests());
        assert!(load.requests() <= 36_000);
        load.within_caps();
    });
}

/// Memory of the grants alone: their records stay where they are.
#[test]
fn starting_looks_at_each_record_once() {
    let grants = grants();
    // In memory where there is such a place: a disk takes its time to write so many.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.unwrap();
    let vault = Vault::open(&Options {
        dir: directory.path().join("vault"),
        keys: KeyOptions::default(),
        now: SystemTime::now(),
    })
    .unwrap();
    let began = Instant::now();
    paused().block_on(async {
        let empty = resident("VmRSS");
        let mut load = Load::new(VaultStore::new(vault), grants, 4);
        println!(
            "{grants} records in the vault, written in {:.1?}",
            began.elapsed()
        );
        let (began, cpu_before) = (Instant::now(), cpu());
        let (keeper, tended) = (load.keeper.clone(), std::mem::take(&mut load.tended));
        let tending = tokio::spawn(async move { keeper.tend_grants(tended, Vec::new()).await });
        load.store.seen.notified().await;
        let used = cpu().checked_sub(cpu_before).unwrap_or_default();
        println!(
            "  started in {:.1?} ({used:.1?} CPU); resident: {:.0} MiB, {} octets a grant",
            began.elapsed(),
            mib(resident("VmRSS")),
            (resident("VmRSS").saturating_sub(empty)) / grants as u64,
        );
        tending.abort();
        assert!(load.clock.elapsed() < Duration::from_secs(1));
    });
}
