//! Octets go in as they come and out as they went in.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use postrider_spool::{
    Body, NewMessage, Select, SpoolErrorKind, SpoolSettings, SqliteSpool, StateKind, Store,
};

use crate::support::{
    ask, at, delivered, directory, kinds, message, octets, open, seconds, settings, settle,
    written_back,
};

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| u8::try_from(n * 31 % 251).unwrap())
        .collect()
}

fn segments(dir: &tempfile::TempDir) -> Vec<(std::path::PathBuf, u64)> {
    let mut found: Vec<_> = fs::read_dir(dir.path().join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), path.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

fn of(body: impl Into<Body>) -> NewMessage {
    NewMessage {
        body: body.into(),
        ..message(&["x@example.org"])
    }
}

#[tokio::test]
async fn bodies_of_any_size_come_back_as_they_were() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let sizes = [0, 1, 65_536, 65_537, 262_144, 262_145, 3_000_000];
    for size in sizes {
        spool.accept(of(pattern(size)), at(0)).await.unwrap();
        let mut writer = spool.body();
        for piece in pattern(size).chunks(99_991) {
            writer.write(piece).await.unwrap();
        }
        let body = writer.finish().await.unwrap();
        assert_eq!(body.len(), u64::try_from(size).unwrap());
        spool.accept(of(body), at(0)).await.unwrap();
    }
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    assert_eq!(claims.len(), 2 * sizes.len());
    for (pair, size) in claims.chunks(2).zip(sizes) {
        for claim in pair {
            assert!(
                octets(&claim.body).await.unwrap() == pattern(size),
                "{size}"
            );
            assert_eq!(claim.body.bytes().is_some(), size <= 65_536);
        }
        let mut exported = Vec::new();
        let count = spool.export(pair[0].id, &mut exported).await.unwrap();
        assert_eq!(count, u64::try_from(size).unwrap());
        assert!(exported == pattern(size));
    }
    // All of the large ones went to one file.
    assert_eq!(segments(&dir).len(), 1);
    assert_eq!(
        segments(&dir)[0].0.metadata().unwrap().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn what_is_not_accepted_leaves_nothing() {
    let dir = directory();
    let small = SpoolSettings {
        max_message: 1_000_000,
        ..settings()
    };
    let spool = SqliteSpool::open(dir.path(), small).unwrap();
    let mut kept = spool.body();
    kept.write(&pattern(400_000)).await.unwrap();
    let kept = kept.finish().await.unwrap();
    spool.accept(of(kept.clone()), at(0)).await.unwrap();
    let before = segments(&dir);

    let mut writer = spool.body();
    writer.write(&pattern(300_000)).await.unwrap();
    assert!(segments(&dir) > before);
    drop(writer);
    assert_eq!(segments(&dir), before);
    let mut writer = spool.body();
    writer.write(&pattern(300_000)).await.unwrap();
    drop(writer.finish().await.unwrap());
    assert_eq!(segments(&dir), before);
    let mut writer = spool.body();
    let error = writer.write(&pattern(1_000_001)).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::TooLarge);
    drop(writer);
    let error = spool
        .accept(of(pattern(1_000_001)), at(0))
        .await
        .unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::TooLarge);
    assert_eq!(segments(&dir), before);
    // A duplicate's octets go, and those of the first stay.
    let keyed = |body: Body| NewMessage {
        idempotency_key: Some("k".to_owned()),
        ..of(body)
    };
    let first = spool.accept(keyed(kept.clone()), at(0)).await.unwrap();
    let second = spool.accept(keyed(kept), at(0)).await.unwrap();
    assert!(second.duplicate && second.id == first.id);
    assert_eq!(segments(&dir), before);
    let body = spool.stored(first.id).await.unwrap();
    assert!(octets(&body).await.unwrap() == pattern(400_000));
}

#[tokio::test]
async fn damaged_octets_are_never_sent_whole() {
    let dir = directory();
    let spool = open(&dir);
    let me = spool.join("one", at(0)).await.unwrap();
    let id = spool.accept(of(pattern(500_000)), at(0)).await.unwrap().id;
    let (path, _) = segments(&dir).remove(0);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", 77_777).unwrap();
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    let error = octets(&claims[0].body).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let mut sink = Vec::new();
    let error = spool.export(id, &mut sink).await.unwrap_err();
    assert_eq!(error.kind, SpoolErrorKind::Corrupt);
    assert!(sink.len() < 500_000);

    // A file cut short is found out at once, and a person is asked.
    let other = spool.accept(of(pattern(500_000)), at(2)).await.unwrap().id;
    file.set_len(600_000).unwrap();
    let began = spool.begin(ask(me.id(), at(3))).await.unwrap();
    assert_eq!((began.claims.len(), began.given_up.len()), (0, 1));
    assert_eq!(kinds(&spool, other).await, [StateKind::Held]);
}

#[tokio::test]
async fn octets_in_the_database_that_were_damaged_are_not_sent_either() {
    let dir = directory();
    let marked = b"a mark that is nowhere else in the whole file";
    let id = {
        let spool = open(&dir);
        spool.accept(of(&marked[..]), at(0)).await.unwrap().id
    };
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(written_back(&dir))
        .unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    let place = all
        .windows(marked.len())
        .position(|found| found == marked)
        .unwrap();
    file.seek(SeekFrom::Start(u64::try_from(place).unwrap()))
        .unwrap();
    file.write_all(b"A").unwrap();
    drop(file);
    let spool = open(&dir);
    let me = spool.join("one", at(1)).await.unwrap();
    let began = spool.begin(ask(me.id(), at(1))).await.unwrap();
    assert_eq!((began.claims.len(), began.given_up.len()), (0, 1));
    assert_eq!(kinds(&spool, id).await, [StateKind::Held]);
}

#[tokio::test]
async fn files_that_nobody_needs_go_and_what_is_needed_moves_together() {
    let dir = directory();
    let brief = SpoolSettings {
        retention: seconds(10),
        ..settings()
    };
    let mut last = None;
    for n in 0..12 {
        // A process each: a file each.
        let spool = SqliteSpool::open(dir.path(), brief.clone()).unwrap();
        let id = spool
            .accept(of(pattern(100_000 + n)), at(0))
            .await
            .unwrap()
            .id;
        last = Some(id);
    }
    assert_eq!(segments(&dir).len(), 12);
    let spool = SqliteSpool::open(dir.path(), brief).unwrap();
    let me = spool.join("one", at(1)).await.unwrap();
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    let tidied = spool.tidy(at(2)).await.unwrap();
    assert!(tidied.more && tidied.moved > 1_200_000, "{tidied:?}");
    while spool.tidy(at(2)).await.unwrap().more {}
    assert_eq!(segments(&dir).len(), 1);
    // Those who read them before still do.
    for (n, claim) in claims.iter().enumerate() {
        assert!(octets(&claim.body).await.unwrap() == pattern(100_000 + n));
        if Some(claim.id) != last {
            settle(&spool, claim, &delivered(), at(3)).await;
        }
    }
    let mut messages = 0;
    loop {
        let tidied = spool.tidy(at(14)).await.unwrap();
        messages += tidied.messages;
        if !tidied.more {
            break;
        }
    }
    assert_eq!(messages, 11);
    let body = spool.stored(last.unwrap()).await.unwrap();
    assert!(octets(&body).await.unwrap() == pattern(100_011));
    assert_eq!(segments(&dir).len(), 1);
    assert_eq!(segments(&dir)[0].1, 100_011);
    settle(&spool, claims.last().unwrap(), &delivered(), at(15)).await;
    assert_eq!(
        spool
            .remove(Select::Ids(vec![last.unwrap()]))
            .await
            .unwrap(),
        1
    );
    drop(body);
    while spool.tidy(at(16)).await.unwrap().more {}
    assert_eq!(segments(&dir), []);
}

#[tokio::test]
async fn a_queue_in_memory_takes_bodies_of_any_size() {
    let spool = SqliteSpool::in_memory(settings()).unwrap();
    let me = spool.join("one", at(0)).await.unwrap();
    let mut writer = spool.body();
    writer.write(&pattern(500_000)).await.unwrap();
    let body = writer.finish().await.unwrap();
    spool.accept(of(body), at(0)).await.unwrap();
    let claims = spool.begin(ask(me.id(), at(1))).await.unwrap().claims;
    assert!(octets(&claims[0].body).await.unwrap() == pattern(500_000));
}

#[tokio::test]
async fn many_large_bodies_under_way_are_not_in_memory() {
    let resident = || {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages = pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        pages * 4096
    };
    let dir = directory();
    let spool = open(&dir);
    let before = resident();
    let mut bodies: Vec<_> = (0..200).map(|_| spool.body()).collect();
    for _ in 0..32 {
        for body in &mut bodies {
            body.write(&[b'x'; 16 * 1024]).await.unwrap();
        }
    }
    // A hundred MiB were written; other tests of this process have their share in what it grew by.
    let grown = resident().saturating_sub(before);
    assert!(grown < 50 << 20, "{grown}");
    let finished = bodies.pop().unwrap().finish().await.unwrap();
    assert_eq!(finished.len(), 512 * 1024);
    assert!(matches!(finished, Body::Staged(_)));
}

#[tokio::test]
async fn sessions_that_finish_together_are_flushed_together() {
    let dir = directory();
    let spool = open(&dir);
    let before = spool.counters();
    let each = (0..50).map(|_| async {
        let mut body = spool.body();
        for _ in 0..4 {
            body.write(&[b'x'; 500]).await.unwrap();
        }
        let body = body.finish().await.unwrap();
        assert!(matches!(body, Body::Bytes(_)));
        spool.accept(of(body), at(0)).await.unwrap();
    });
    futures_util::future::join_all(each).await;
    let after = spool.counters();
    let commits = after.commits - before.commits;
    // Three where nothing else runs; a machine that is busy makes the groups smaller.
    assert!(commits <= 25, "{commits}");
    assert_eq!(after.segment_syncs, before.segment_syncs);
}
