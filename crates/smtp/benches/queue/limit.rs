//! What this machine's disk allows: rows in SQLite and octets in a file, flushed in groups.

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use rusqlite::Connection;

const FOR: Duration = Duration::from_secs(1);

/// Messages a second, where each transaction has `group` rows of 2 KB and nothing else.
pub(crate) fn sqlite(group: usize) -> f64 {
    let home = crate::directory(None);
    let connection = Connection::open(home.path().join("rows.db")).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE message (id INTEGER PRIMARY KEY, body BLOB);",
        )
        .expect("a table");
    let body = crate::message();
    per_second(group, || {
        connection.execute_batch("BEGIN").expect("a transaction");
        for _ in 0..group {
            let mut insert = connection
                .prepare_cached("INSERT INTO message (body) VALUES (?1)")
                .expect("a statement");
            insert.execute([&body]).expect("a row");
        }
        connection.execute_batch("COMMIT").expect("room");
    })
}

/// Messages a second, appended to one file that is flushed after each `group`.
pub(crate) fn append(group: usize) -> f64 {
    let home = crate::directory(None);
    let mut log = File::create(home.path().join("log")).expect("a file");
    let bodies = crate::message().repeat(group);
    per_second(group, || {
        log.write_all(&bodies).expect("room");
        log.sync_data().expect("a disk");
    })
}

fn per_second(group: usize, mut write: impl FnMut()) -> f64 {
    let (began, mut groups) = (Instant::now(), 0);
    while began.elapsed() < FOR {
        write();
        groups += 1;
    }
    crate::number(groups * group as u64) / began.elapsed().as_secs_f64()
}
