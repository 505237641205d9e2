use std::fs;
use std::ops::Deref;
use std::sync::{Arc, MutexGuard};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::row::{Ask, Claim, later};
use crate::store::MemoryStore;

/// The connection of a store, which does nothing meanwhile.
struct Lock<'s>(MutexGuard<'s, Option<Opened>>);

impl Deref for Lock<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0.as_ref().unwrap().connection
    }
}

impl SqliteStore {
    fn lock(&self) -> Lock<'_> {
        let mut opened = self.opened.lock().unwrap();
        opened.get_or_insert_with(|| Opened::at(&self.path).unwrap());
        Lock(opened)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedules.db");
    (directory, path)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn new_row() -> Row {
    Row::new("report.lua", "every 1m", None, at(0))
}

fn ask(holder: &str, slot: i64) -> Ask {
    Ask {
        holder: holder.to_owned(),
        now: at(slot),
        slot: at(slot),
        reason: Reason::Tick,
        attempt: 1,
        missed: 0,
        alone: true,
        by_the_clock: false,
    }
}

/// Claims `slot` of the schedule "daily" for `holder`.
fn claim(store: &dyn Store, holder: &str, slot: i64) -> Result<Claim, StoreError> {
    let mut claim = Claim::Taken;
    store.change("daily", at(slot), &mut |row| {
        claim = row.get_or_insert_with(new_row).claim(&ask(holder, slot));
    })?;
    Ok(claim)
}

fn past(number: u64, slot: i64, result: Result<(), JobError>) -> PastRun {
    PastRun {
        number,
        scheduled_at: at(slot),
        started_at: at(slot),
        ended_at: at(slot + 1),
        reason: Reason::Tick,
        attempt: 1,
        missed: 0,
        result,
    }
}

fn finish(store: &dyn Store, past: &PastRun) {
    let change = &mut |row: &mut Option<Row>| {
        row.as_mut().unwrap().finish(past.clone(), None);
    };
    store.change("daily", past.ended_at, change).unwrap();
}

#[test]
fn what_was_written_is_there_when_the_file_is_opened_again() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(claim(&store, "one", 60), Ok(Claim::Mine(1)));
    let error = JobError {
        code: "smtp.refused".to_owned(),
        message: "432 4.3.2".to_owned(),
        at: Some("report.lua:7".to_owned()),
    };
    finish(&store, &past(1, 60, Err(error)));
    assert_eq!(claim(&store, "one", 120), Ok(Claim::Mine(2)));
    let row = store.load("daily", at(130)).unwrap();
    let history = store.history("daily", 10).unwrap();
    drop(store);

    let store = SqliteStore::open(&path).unwrap();

    assert!(row.is_some());
    assert_eq!(store.load("daily", at(130)).unwrap(), row);
    assert_eq!(store.history("daily", 10).unwrap(), history);
    let names: Vec<String> = store
        .all(at(0))
        .unwrap()
        .into_iter()
        .map(|kept| kept.0)
        .collect();
    assert_eq!(names, ["daily"]);
    assert_eq!(store.load("weekly", at(0)).unwrap(), None);

    store
        .change("daily", at(0), &mut |row| *row = None)
        .unwrap();
    assert_eq!(store.load("daily", at(0)).unwrap(), None);
    assert_eq!(store.history("daily", 10).unwrap(), []);
}

#[test]
fn of_many_handles_on_one_file_one_gets_each_slot() {
    let (_directory, path) = directory();
    let path = Arc::new(path);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let path = Arc::clone(&path);
            std::thread::spawn(move || {
                // They make the file at the same moment, too.
                let store = SqliteStore::open(&path).unwrap();
                let holder = thread.to_string();
                let mine = (1..=50).filter(|minute| {
                    let mut ask = ask(&holder, minute * 60);
                    ask.alone = false;
                    let mut claim = Claim::Taken;
                    let change = &mut |row: &mut Option<Row>| {
                        claim = row.get_or_insert_with(new_row).claim(&ask);
                    };
                    store.change("daily", ask.now, change).unwrap();
                    matches!(claim, Claim::Mine(_))
                });
                mine.collect::<Vec<i64>>()
            })
        })
        .collect();

    let claimed = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap());
    let mut claimed: Vec<i64> = claimed.collect();
    claimed.sort_unstable();

    // A slot that another handle had passed is lost to the slower ones, none comes twice.
    let mut once = claimed.clone();
    once.dedup();
    assert_eq!(claimed, once);
    let store = SqliteStore::open(&path).unwrap();
    let row = store.load("daily", at(0)).unwrap().unwrap();
    assert_eq!(row.fence, u64::try_from(claimed.len()).unwrap());
    assert_eq!(row.open.len(), claimed.len());
    assert_eq!(row.cursor, at(50 * 60));
}

#[test]
fn another_handle_sees_a_change_at_once_and_waits_for_one_under_way() {
    let (_directory, path) = directory();
    let first = SqliteStore::open(&path).unwrap();
    let second = SqliteStore::open(&path).unwrap();
    assert_eq!(claim(&first, "one", 60), Ok(Claim::Mine(1)));
    assert_eq!(claim(&second, "two", 60), Ok(Claim::Taken));
    let busy = claim(&second, "two", 120).unwrap();
    assert_eq!(busy, Claim::Busy(later(at(60), Duration::from_mins(1))));

    let held = first.lock();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    second
        .lock()
        .busy_timeout(Duration::from_millis(1))
        .unwrap();
    let error = claim(&second, "two", 180).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Busy);
    assert!(
        error
            .message
            .contains("schedules.db: another process holds it")
    );
    // Who only looks does not wait.
    assert!(second.load("daily", at(60)).unwrap().is_some());
    held.execute_batch("ROLLBACK").unwrap();
    drop(held);
    assert!(claim(&second, "two", 180).is_ok());
}

#[test]
fn only_the_owner_reads_any_of_its_files() {
    let (directory, path) = directory();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();

    let store = SqliteStore::open(&path).unwrap();
    claim(&store, "one", 60).unwrap();

    let files: Vec<PathBuf> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_change_is_on_the_disk_when_it_returns() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    let connection = store.lock();
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
            .unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    assert_eq!(pragma("synchronous"), 2_i64.into());
    assert_eq!(pragma("busy_timeout"), 5000_i64.into());
}

#[test]
fn what_a_newer_version_wrote_is_left_alone() {
    let (_directory, path) = directory();
    drop(SqliteStore::open(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    drop(newer);
    let before = fs::read(&path).unwrap();

    let error = SqliteStore::open(&path).unwrap_err();

    assert_eq!(error.kind, StoreErrorKind::Newer);
    let file = path.display();
    assert_eq!(
        error.to_string(),
        format!("{file}: a newer postrider wrote it (schema 2, this one knows 1)")
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let (directory, path) = directory();
    let text = "this is somebody's letter, and no database\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(
        error
            .message
            .ends_with("schedules.db: file is not a database"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let other = directory.path().join("other.db");
    let theirs = Connection::open(&other).unwrap();
    theirs
        .execute_batch("CREATE TABLE letters (text TEXT)")
        .unwrap();
    let error = SqliteStore::open(&other).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(
        error
            .message
            .ends_with("other.db: a database of something else"),
        "{error}"
    );
    let error = SqliteStore::open(directory.path()).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Io);
    let nowhere = directory.path().join("no/such/schedules.db");
    let error = SqliteStore::open(&nowhere).unwrap_err();
    assert!(error.message.contains("no/such/schedules.db: "), "{error}");
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    claim(&store, "one", 60).unwrap();
    let damage = |sql: &str| store.lock().execute_batch(sql).unwrap();
    let kind = || {
        let error = store.load("daily", at(60)).unwrap_err();
        assert!(error.message.contains("schedules.db: "), "{error}");
        error.kind
    };

    damage("UPDATE open_run SET reason = 'because'");
    assert_eq!(kind(), StoreErrorKind::Corrupt);
    damage("UPDATE open_run SET reason = 'tick'; UPDATE schedule SET fence = -1");
    assert_eq!(kind(), StoreErrorKind::Corrupt);
    damage("UPDATE schedule SET fence = 1, cursor = 9223372036854775807");
    assert_eq!(kind(), StoreErrorKind::Corrupt);
    damage("DROP TABLE open_run; UPDATE schedule SET cursor = 0");
    assert_eq!(kind(), StoreErrorKind::Corrupt);
}

#[test]
fn a_full_disk_and_a_file_that_cannot_be_written_are_told_apart_and_lose_nothing() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    claim(&store, "one", 60).unwrap();
    let before = store.load("daily", at(60)).unwrap();
    let pages: i64 = store
        .lock()
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    store
        .lock()
        .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .unwrap();
    let large = &mut |row: &mut Option<Row>| {
        row.as_mut().unwrap().plan = "x".repeat(100_000);
    };

    let error = store.change("daily", at(60), large).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Full);
    assert!(
        error
            .message
            .contains("schedules.db: database or disk is full"),
        "{error}"
    );
    assert_eq!(store.load("daily", at(60)).unwrap(), before);

    store
        .lock()
        .pragma_update(None, "query_only", true)
        .unwrap();
    let error = claim(&store, "one", 120).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::ReadOnly);
    store
        .lock()
        .pragma_update(None, "query_only", false)
        .unwrap();
    assert_eq!(claim(&store, "one", 120), Ok(Claim::Mine(2)));
}

#[test]
fn a_change_that_panics_changes_nothing_and_the_next_one_works() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    claim(&store, "one", 60).unwrap();
    let before = store.load("daily", at(60)).unwrap();

    let panicking = std::panic::AssertUnwindSafe(|| {
        store.change("daily", at(60), &mut |row| {
            *row = None;
            panic!("a mistake");
        })
    });
    assert!(std::panic::catch_unwind(panicking).is_err());

    assert_eq!(store.load("daily", at(60)).unwrap(), before);
    assert_eq!(claim(&store, "one", 120), Ok(Claim::Mine(2)));
}

#[test]
fn the_history_keeps_the_latest_runs_of_each_schedule() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    store
        .change("weekly", at(0), &mut |row| *row = Some(new_row()))
        .unwrap();
    let all = i64::try_from(HISTORY).unwrap() + 5;
    for minute in 1..=all {
        let mine = claim(&store, "one", minute * 60).unwrap();
        let number = u64::try_from(minute).unwrap();
        assert_eq!(mine, Claim::Mine(number));
        finish(&store, &past(number, minute * 60, Ok(())));
    }

    let history = store.history("daily", usize::MAX).unwrap();

    assert_eq!(history.len(), HISTORY);
    assert_eq!(history[0].scheduled_at, at(all * 60));
    assert_eq!(history[HISTORY - 1].scheduled_at, at(6 * 60));
    assert_eq!(store.history("daily", 3).unwrap(), history[..3]);
    assert_eq!(store.history("weekly", 3).unwrap(), []);
    assert_eq!(
        store.load("daily", at(0)).unwrap().unwrap().runs,
        u64::try_from(all).unwrap()
    );
}

/// One step of somebody who uses a store.
#[derive(Clone, Debug)]
enum Step {
    Claim {
        slot: i64,
        reason: Reason,
        holder: u8,
    },
    Finish {
        number: u64,
        fails: bool,
        retry: bool,
    },
    Renew {
        number: u64,
        at: i64,
    },
    Sweep(i64),
    Pause(bool, i64),
    Attach(String, Option<String>, i64),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let second = -100_i64..100_000;
    let reason = prop_oneof![
        4 => Just(Reason::Tick),
        1 => Just(Reason::Missed),
        1 => Just(Reason::Manual),
        1 => Just(Reason::Retry),
    ];
    prop_oneof![
        6 => (second.clone(), reason, 0..3_u8)
            .prop_map(|(slot, reason, holder)| Step::Claim { slot, reason, holder }),
        4 => (0..20_u64, any::<bool>(), any::<bool>())
            .prop_map(|(number, fails, retry)| Step::Finish { number, fails, retry }),
        1 => (0..20_u64, second.clone()).prop_map(|(number, at)| Step::Renew { number, at }),
        1 => second.clone().prop_map(Step::Sweep),
        1 => (any::<bool>(), second.clone()).prop_map(|(paused, at)| Step::Pause(paused, at)),
        1 => ("[a-c']{1,2}", proptest::option::of("[a-c\u{e9}]"), second)
            .prop_map(|(plan, zone, at)| Step::Attach(plan, zone, at)),
        1 => Just(Step::Forget),
    ]
}

fn perform(row: &mut Option<Row>, step: &Step) {
    if matches!(step, Step::Forget) {
        *row = None;
        return;
    }
    let row = row.get_or_insert_with(new_row);
    match step.clone() {
        Step::Claim {
            slot,
            reason,
            holder,
        } => {
            let mut ask = ask(&holder.to_string(), slot);
            ask.reason = reason;
            row.claim(&ask);
        }
        Step::Finish {
            number,
            fails,
            retry,
        } => {
            let error = JobError {
                code: "x".to_owned(),
                message: "it's \"wrong\"".to_owned(),
                at: None,
            };
            let slot = i64::try_from(number).unwrap() * 60;
            let retry = retry.then_some(RetryDue {
                at: at(slot),
                slot: at(slot),
                attempt: 2,
            });
            row.finish(
                past(number, slot, if fails { Err(error) } else { Ok(()) }),
                retry,
            );
        }
        Step::Renew { number, at: second } => row.renew(number, at(second)),
        Step::Sweep(second) => row.sweep(at(second), |_| false),
        Step::Pause(true, _) => row.pause(),
        Step::Pause(false, second) => row.resume(at(second)),
        Step::Attach(plan, zone, second) => {
            row.attach(&Row::new("other.lua", &plan, zone, at(second)));
        }
        Step::Forget => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_file_keeps_what_memory_keeps(steps in proptest::collection::vec(step(), 1..40)) {
        let (_directory, path) = directory();
        let file = SqliteStore::open(&path).unwrap();
        let memory = MemoryStore::new();
        for step in &steps {
            for store in [&file as &dyn Store, &memory] {
                store.change("daily", at(500), &mut |row| perform(row, step)).unwrap();
            }
            prop_assert_eq!(file.load("daily", at(500)), memory.load("daily", at(500)));
            prop_assert_eq!(file.history("daily", 7), memory.history("daily", 7));
        }
        prop_assert_eq!(file.all(at(0)), memory.all(at(0)));
    }
}

#[test]
fn a_file_that_is_moved_away_while_it_is_open_is_let_go() {
    let (directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(claim(&store, "one", 60), Ok(Claim::Mine(1)));
    let aside = directory.path().join("aside");
    fs::create_dir(&aside).unwrap();
    for file in ["schedules.db", "schedules.db-wal", "schedules.db-shm"] {
        fs::rename(directory.path().join(file), aside.join(file)).unwrap();
    }

    // Another process makes a new one: both see the same.
    let other = SqliteStore::open(&path).unwrap();
    assert_eq!(claim(&other, "other", 120), Ok(Claim::Mine(1)));
    assert!(matches!(claim(&store, "one", 150), Ok(Claim::Busy(_))));
    assert_eq!(mode(&path), 0o600);

    // And what was moved away can be put back.
    drop(other);
    for file in ["schedules.db", "schedules.db-wal", "schedules.db-shm"] {
        let _ = fs::remove_file(directory.path().join(file));
        let _ = fs::rename(aside.join(file), directory.path().join(file));
    }
    let row = store.load("daily", at(60)).unwrap().unwrap();
    assert_eq!(row.open[0].holder, "one");
}

#[test]
fn a_damaged_file_works_again_once_it_is_mended() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    claim(&store, "one", 60).unwrap();
    store
        .lock()
        .execute_batch("ALTER TABLE open_run RENAME TO lost")
        .unwrap();
    let error = store.load("daily", at(60)).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    store
        .lock()
        .execute_batch("ALTER TABLE lost RENAME TO open_run")
        .unwrap();
    assert!(store.load("daily", at(60)).unwrap().is_some());
}

#[test]
fn a_file_that_is_ready_is_opened_and_read_while_another_process_holds_it() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path).unwrap();
    claim(&store, "one", 60).unwrap();
    let held = store.lock();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();

    let other = SqliteStore::open(&path).unwrap();
    assert!(other.load("daily", at(60)).unwrap().is_some());

    assert!(began.elapsed() < PATIENCE);
    held.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn what_is_no_file_is_called_so() {
    let (_directory, path) = directory();
    fs::create_dir(&path).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Io);
    assert!(
        error.message.ends_with("schedules.db: it is not a file"),
        "{error}"
    );
}
