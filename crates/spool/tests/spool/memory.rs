//! Memory does not grow with the queue.

use postrider_spool::{Body, NewMessage, Outcome, SqliteSpool, Store};

use crate::support::{ask, at, directory, message, settings, told};

/// Octets of memory that this process has.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Measured in a process of its own, since other tests of this one need memory, too.
const TEST: &str = "memory::a_long_queue_takes_no_more_memory_than_a_short_one";

async fn grow(dir: &std::path::Path) {
    let spool = SqliteSpool::open(dir, settings()).unwrap();
    let me = spool.join("one", at(0)).await.unwrap();
    let mut short = 0;
    for thousand in 0..100 {
        let all = (0..1000).map(|_| {
            let new = NewMessage {
                body: Body::from(vec![b'x'; 2048]),
                ..message(&["x@example.org"])
            };
            spool.accept(new, at(thousand))
        });
        futures_util::future::try_join_all(all).await.unwrap();
        let claims = spool
            .begin(ask(me.id(), at(thousand)))
            .await
            .unwrap()
            .claims;
        let put_off = Outcome::Deferred {
            until: at(10_000),
            why: "451".to_owned(),
        };
        let ends = claims.iter().map(|claim| told(claim, &put_off));
        spool.settle(ends.collect(), at(thousand)).await.unwrap();
        if thousand == 4 {
            short = resident();
        }
    }
    assert_eq!(spool.stats().await.unwrap().messages, 100_000);
    let page = spool
        .list(postrider_spool::Filter::default())
        .await
        .unwrap();
    assert_eq!(page.len(), 1000);
    // 25 MiB in pieces, of which little is kept.
    let mut writer = spool.body();
    let piece = vec![b'y'; 65_536];
    for _ in 0..400 {
        writer.write(&piece).await.unwrap();
    }
    let body = writer.finish().await.unwrap();
    let new = NewMessage {
        body,
        ..message(&["x@example.org"])
    };
    let id = spool.accept(new, at(200)).await.unwrap().id;
    let mut sink = tokio::io::sink();
    assert_eq!(spool.export(id, &mut sink).await.unwrap(), 400 * 65_536);
    let long = resident();
    println!("from {short} to {long}");
    assert!(long < short + 8 * 1024 * 1024, "from {short} to {long}");
    assert!(long < 64 * 1024 * 1024, "{long}");
}

#[test]
fn a_long_queue_takes_no_more_memory_than_a_short_one() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    if let Some(dir) = std::env::var_os("SPOOL_DIR") {
        return runtime.block_on(grow(std::path::Path::new(&dir)));
    }
    let dir = directory();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture"])
        .env("SPOOL_DIR", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
