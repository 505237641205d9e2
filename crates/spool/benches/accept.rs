//! How many messages a second are accepted durably, against what the machine allows: the same
//! octets appended to a file and flushed, and as rows of SQLite, in groups of the same size.
//!
//! `cargo bench -p postrider-spool --bench accept [DIRECTORY]`

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postrider_spool::{
    Begin, Body, NewMessage, Outcome, Pace, Settlement, SpoolSettings, SqliteSpool, Store,
};

/// Octets of a message.
const SIZE: usize = 2048;

/// How long each is measured.
const SPAN: Duration = Duration::from_secs(3);

type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Done {
    let given = std::env::args()
        .skip(1)
        .find(|given| !given.starts_with('-'));
    let dir = given.map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(dir)?;
    println!("{SIZE} octets each, in {}", dir.path().display());
    println!("submitters | file, flushed | SQLite | accepted | of SQLite | syncs a message");
    for submitters in [1, 10, 50] {
        let file = appended(dir.path(), submitters)?;
        let rows = inserted(dir.path(), submitters)?;
        let (accepted, syncs) = accepted(dir.path(), submitters)?;
        println!(
            "{submitters:>10} | {file:>11.0}/s | {rows:>6.0}/s | {accepted:>6.0}/s | {:>9.2} | {syncs:.3}",
            accepted / rows
        );
    }
    through(dir.path())?;
    queued(dir.path())
}

/// Messages a second, in groups of so many, until the time is over.
fn rate(group: usize, mut write: impl FnMut(usize) -> Done) -> Done<f64> {
    let began = Instant::now();
    let mut written: u32 = 0;
    while began.elapsed() < SPAN {
        write(group)?;
        written += u32::try_from(group)?;
    }
    Ok(f64::from(written) / began.elapsed().as_secs_f64())
}

fn appended(dir: &Path, group: usize) -> Done<f64> {
    let mut file = File::create(dir.join("appended"))?;
    let octets = vec![b'x'; SIZE];
    rate(group, |group| {
        file.write_all(&octets.repeat(group))?;
        file.sync_data()?;
        Ok(())
    })
}

fn inserted(dir: &Path, group: usize) -> Done<f64> {
    let connection = rusqlite::Connection::open(dir.join(format!("rows{group}.db")))?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch("CREATE TABLE message (id INTEGER PRIMARY KEY, octets BLOB)")?;
    let octets = vec![b'x'; SIZE];
    let mut insert = connection.prepare("INSERT INTO message (octets) VALUES (?)")?;
    rate(group, |group| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            insert.execute([&octets])?;
        }
        connection.execute_batch("COMMIT")?;
        Ok(())
    })
}

fn message() -> NewMessage {
    let to = vec!["somebody@example.org".to_owned()];
    let body = Body::from(vec![b'x'; SIZE]);
    NewMessage::new("bench", to, "<0123456789@contoso.com>", body)
}

fn runtime() -> Done<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    Ok(runtime)
}

/// Messages a second, and flushes for each.
fn accepted(dir: &Path, submitters: usize) -> Done<(f64, f64)> {
    let spool = SqliteSpool::open(
        &dir.join(format!("spool{submitters}")),
        SpoolSettings::default(),
    )?;
    let began = Instant::now();
    let before = spool.counters().commits;
    let count: u32 = runtime()?.block_on(async {
        let submitters: Vec<_> = (0..submitters)
            .map(|_| {
                let spool = spool.clone();
                tokio::spawn(async move {
                    let mut count: u32 = 0;
                    while began.elapsed() < SPAN {
                        spool.accept(message(), Timestamp::now()).await?;
                        count += 1;
                    }
                    Ok::<u32, postrider_spool::SpoolError>(count)
                })
            })
            .collect();
        let mut all = 0;
        for submitter in submitters {
            all += submitter.await??;
        }
        Ok::<u32, Box<dyn std::error::Error>>(all)
    })?;
    let commits = u32::try_from(spool.counters().commits - before)?;
    let count = f64::from(count);
    Ok((
        count / began.elapsed().as_secs_f64(),
        f64::from(commits) / count,
    ))
}

/// Everything that was accepted is begun and settled, as one session would.
fn through(dir: &Path) -> Done {
    let spool = SqliteSpool::open(&dir.join("spool50"), SpoolSettings::default())?;
    runtime()?.block_on(async {
        let me = spool.join("bench", Timestamp::now()).await?;
        let began = Instant::now();
        let mut count: u32 = 0;
        while began.elapsed() < SPAN {
            let wanted = Begin {
                holder: me.id(),
                account: "bench".to_owned(),
                at_most: 50,
                recipients_per_message: Some(500),
                pace: Pace::default(),
                now: Timestamp::now(),
            };
            let claims = spool.begin(wanted).await?.claims;
            if claims.is_empty() {
                break;
            }
            count += u32::try_from(claims.len())?;
            let ends = claims.into_iter().map(|claim| Settlement {
                id: claim.id,
                lease: claim.lease,
                recipients: claim
                    .recipients
                    .into_iter()
                    .map(|to| {
                        (
                            to.address,
                            Outcome::Delivered {
                                reply: "250 OK".to_owned(),
                            },
                        )
                    })
                    .collect(),
            });
            spool.settle(ends.collect(), Timestamp::now()).await?;
        }
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        println!("begun and settled, 50 at once: {rate:.0}/s");
        Ok(())
    })
}

/// A hundred thousand wait: what that takes of memory and of time.
fn queued(dir: &Path) -> Done {
    let spool = SqliteSpool::open(&dir.join("long"), SpoolSettings::default())?;
    runtime()?.block_on(async {
        let before = resident()?;
        for _ in 0..100 {
            let all = (0..1000).map(|_| spool.accept(message(), Timestamp::now()));
            futures_util::future::try_join_all(all).await?;
        }
        let after = resident()?;
        let began = Instant::now();
        let stats = spool.stats().await?;
        println!(
            "{} queued: {:.1} MiB resident, {:.1} MiB before; stats in {} ms",
            stats.messages,
            after,
            before,
            began.elapsed().as_millis()
        );
        Ok(())
    })
}

/// Mebibytes of memory that this process has.
fn resident() -> Done<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).ok_or("no statm")?;
    Ok(f64::from(pages.parse::<u32>()?) * 4096.0 / 1_048_576.0)
}
