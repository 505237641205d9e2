//! Disks that are full, locked, damaged or of another time.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use postrider_spool::{
    Body, Filter, NewMessage, SpoolErrorKind, SpoolSettings, SqliteSpool, StateKind, Store,
};

use crate::support::{
    ask, at, delivered, directory, kinds, message, octets, open, settings, settle, written_back,
};

fn of(size: usize) -> NewMessage {
    NewMessage {
        body: Body::from(vec![b'x'; size]),
        ..message(&["x@example.org"])
    }
}

#[tokio::test]
async fn only_its_owner_can_look_into_a_queue() {
    let dir = directory();
    let path = dir.path().join("queue");
    let spool = SqliteSpool::open(&path, settings()).unwrap();
    spool.accept(of(100_000), at(0)).await.unwrap();
    let me = spool.join("one", at(0)).await.unwrap();
    let mut waiting = vec![path.clone()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        let found = path.metadata().unwrap();
        assert_eq!(found.mode() & 0o077, 0, "{}", path.display());
        seen += 1;
        if found.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    assert!(seen >= 7, "{seen}");
    drop((me, spool));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    SqliteSpool::open(&path, settings()).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_newer_queue_is_left_alone_and_so_is_what_is_none() {
    let dir = directory();
    drop(open(&dir));
    let path = dir.path().join("spool.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = SqliteSpool::open(dir.path(), settings()).unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Newer);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 0).unwrap();
    drop(connection);
    let error = SqliteSpool::open(dir.path(), settings()).unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Corrupt);
    fs::write(
        &path,
        "this is a shopping list, and not a short one".repeat(100),
    )
    .unwrap();
    let error = SqliteSpool::open(dir.path(), settings()).unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Corrupt);
}

#[tokio::test]
async fn a_queue_that_another_process_holds_says_so() {
    let dir = directory();
    let spool = open(&dir);
    let connection = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = spool.accept(of(10), at(0)).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Busy);
    // Looking needs nobody's leave.
    assert_eq!(spool.stats().await.unwrap().messages, 0);
    connection.execute_batch("ROLLBACK").unwrap();
    spool.accept(of(10), at(0)).await.unwrap();
}

#[tokio::test]
async fn one_damaged_page_costs_what_is_on_it() {
    let dir = directory();
    let mut ids = Vec::new();
    {
        let spool = open(&dir);
        for n in 0..30 {
            let new = NewMessage {
                account: format!("account{n}"),
                ..of(20_000)
            };
            ids.push(spool.accept(new, at(0)).await.unwrap().id);
        }
    }
    // A page in the midst of one body.
    let path = written_back(&dir);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    drop(connection);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut page = vec![0; 4096];
    let pages = u64::try_from(pages).unwrap();
    let body = (pages / 2..pages).find(|n| {
        file.read_exact_at(&mut page, n * 4096).unwrap();
        page[4..].iter().all(|octet| *octet == b'x')
    });
    file.write_all_at(&[0xFF; 4096], body.unwrap() * 4096)
        .unwrap();
    let spool = open(&dir);
    let me = spool.join("one", at(1)).await.unwrap();
    let mut held = 0;
    for (n, id) in ids.iter().enumerate() {
        let ask_for = postrider_spool::Begin {
            account: format!("account{n}"),
            ..ask(me.id(), at(1))
        };
        let began = spool.begin(ask_for).await.unwrap();
        if let Some(claim) = began.claims.first() {
            assert!(octets(&claim.body).await.unwrap() == vec![b'x'; 20_000]);
        } else {
            assert_eq!(kinds(&spool, *id).await, [StateKind::Held]);
            held += 1;
        }
    }
    assert_eq!(held, 1);
    // New mail is taken.
    spool.accept(of(20_000), at(2)).await.unwrap();
}

const FULL: &str = "disk::a_full_disk_refuses_what_is_new_and_loses_nothing";

/// On a file system of 3 MiB, or with files that cannot grow beyond 2 MiB.
async fn fill(dir: &std::path::Path, reserve: u64) {
    let limited = std::env::var_os("SPOOL_LIMITED").is_some();
    let settings = SpoolSettings {
        reserve,
        ..settings()
    };
    let spool = SqliteSpool::open(dir, settings.clone()).unwrap();
    let me = spool.join("one", at(0)).await.unwrap();
    let mut accepted = Vec::new();
    let mut refused = 0;
    let mut n = 0;
    while refused < 30 {
        // Large ones and small ones, some together.
        let sizes = [2_000, 300_000, 60_000, 2_000, 2_000];
        let all = (0..4).map(|k| spool.accept(of(sizes[(n + k) % sizes.len()]), at(0)));
        for outcome in futures_util::future::join_all(all).await {
            match outcome {
                Ok(message) => accepted.push(message.id),
                Err(error) => {
                    // For SQLite a file that may not grow is no full disk.
                    let other = limited.then_some(SpoolErrorKind::Io);
                    let full = error.kind == SpoolErrorKind::Full;
                    assert!(full || Some(error.kind) == other, "{error}");
                    refused += 1;
                }
            }
        }
        n += 1;
        assert!(n < 10_000);
    }
    let mut writer = spool.body();
    let mut error = None;
    for _ in 0..100 {
        if let Err(found) = writer.write(&vec![b'y'; 100_000]).await {
            error = Some(found);
            break;
        }
    }
    assert_eq!(error.unwrap().kind, SpoolErrorKind::Full);
    drop(writer);
    assert!(!accepted.is_empty());
    // All that was accepted is there, and with a reserve it can be sent and settled.
    let mut filter = Filter::default();
    let mut found = Vec::new();
    loop {
        let page = spool.list(filter.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        found.extend(page.into_iter().map(|listed| listed.id));
    }
    accepted.sort_unstable();
    assert_eq!(found, accepted);
    for id in &accepted {
        let body = spool.stored(*id).await.unwrap();
        assert!(
            octets(&body)
                .await
                .unwrap()
                .iter()
                .all(|octet| *octet == b'x')
        );
    }
    if reserve > 0 {
        let mut sent = 0;
        loop {
            let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
            if claims.is_empty() {
                break;
            }
            for claim in &claims {
                assert!(settle(&spool, claim, &delivered(), at(2)).await.finished);
                sent += 1;
            }
        }
        assert_eq!(sent, accepted.len());
        while spool.tidy(at(1_000_000)).await.unwrap().more {}
        spool.accept(of(2_000), at(3)).await.unwrap();
    }
    println!("filled with {}", accepted.len());
}

#[test]
fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    if let Some(dir) = std::env::var_os("SPOOL_DIR") {
        let reserve = std::env::var("SPOOL_RESERVE").unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        return runtime.block_on(fill(std::path::Path::new(&dir), reserve));
    }
    let own = std::env::current_exe().unwrap();
    let again = format!("exec {} {FULL} --exact --nocapture", own.display());
    // Files that cannot grow, which anybody can have.
    let dir = directory();
    let limited = Command::new("sh")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f 4096; {again}")])
        .env("SPOOL_DIR", dir.path())
        .env("SPOOL_RESERVE", "0")
        .env("SPOOL_LIMITED", "yes")
        .output()
        .unwrap();
    assert!(limited.status.success(), "{limited:?}");
    // A small file system of its own, where one may be mounted.
    let mount = "mount -t tmpfs -o size=3m queue \"$SPOOL_DIR\"";
    let may = Command::new("unshare")
        .args(["-Urm", "sh", "-c", mount])
        .env("SPOOL_DIR", dir.path())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("no file system can be mounted here");
        return;
    }
    for reserve in ["0", "1000000"] {
        let full = Command::new("unshare")
            .args(["-Urm", "sh", "-c", &format!("{mount} && {again}")])
            .env("SPOOL_DIR", dir.path())
            .env("SPOOL_RESERVE", reserve)
            .output()
            .unwrap();
        assert!(full.status.success(), "reserve {reserve}: {full:?}");
        let said = String::from_utf8(full.stdout).unwrap();
        assert!(said.contains("filled with"), "{said}");
    }
}

const READ_ONLY: &str = "disk::a_file_system_that_became_read_only_is_said_and_costs_nothing";

/// Opens a queue on a file system that is read-only, and one on which it became so meanwhile.
fn refuse(dir: &std::path::Path) {
    let remount = |how: &str| {
        let mounted = Command::new("mount")
            .args(["-o", &format!("remount,{how}"), dir.to_str().unwrap()])
            .status();
        assert!(mounted.unwrap().success(), "{how}");
    };
    let kept = to_its_end(async {
        let spool = SqliteSpool::open(dir, settings()).unwrap();
        spool.accept(of(2_000), at(0)).await.unwrap().id
    });
    remount("ro");
    let error = SqliteSpool::open(dir, settings()).unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::ReadOnly, "{error}");
    remount("rw");
    to_its_end(async {
        let spool = SqliteSpool::open(dir, settings()).unwrap();
        let body = spool.stored(kept).await.unwrap();
        assert_eq!(octets(&body).await.unwrap().len(), 2_000);
        spool.accept(of(2_000), at(1)).await.unwrap();
    });
    println!("refused");
}

/// With a runtime of its own, whose end waits for the writer's, which has files open.
fn to_its_end<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

#[test]
fn a_file_system_that_became_read_only_is_said_and_costs_nothing() {
    if let Some(dir) = std::env::var_os("SPOOL_DIR") {
        return refuse(std::path::Path::new(&dir));
    }
    let own = std::env::current_exe().unwrap();
    let dir = directory();
    let mount = "mount -t tmpfs -o size=8m queue \"$SPOOL_DIR\"";
    let in_it = |script: &str| {
        Command::new("unshare")
            .args(["-Urm", "sh", "-c", script])
            .env("SPOOL_DIR", dir.path())
            .output()
    };
    let may = format!("{mount} && mount -o remount,ro \"$SPOOL_DIR\"");
    if !in_it(&may).is_ok_and(|ran| ran.status.success()) {
        eprintln!("no file system can be mounted here");
        return;
    }
    let again = format!("exec {} {READ_ONLY} --exact --nocapture", own.display());
    let ran = in_it(&format!("{mount} && {again}")).unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(String::from_utf8(ran.stdout).unwrap().contains("refused"));
}
