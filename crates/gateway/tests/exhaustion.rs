//! A process that has no files left. Alone in its binary: what it does, it does to all of it.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![allow(dead_code, reason = "other stories need more of it")]

#[path = "gateway/support.rs"]
mod support;

use postrider_gateway::Event;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Client, Desk, plain};

fn allow_files(current: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(current);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[tokio::test]
async fn without_files_the_gateway_waits_until_there_are_some() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut first = Client::connect(&gateway).await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    // Room for this end of a connection, and none for the other.
    let mut fillers = Vec::new();
    allow_files(open + 8);
    while let Ok(file) = std::fs::File::open("/dev/null") {
        fillers.push(file);
    }
    fillers.pop();
    let mut waiting = Client::dial(gateway.addresses()[0]).await;
    let failed = |event: &Event| matches!(event, Event::AcceptFailed { .. }).then_some(());
    while desk.told(failed).is_empty() {
        tokio::task::yield_now().await;
    }
    // Who is in is served.
    assert!(first.say("NOOP").await.starts_with("250"));
    allow_files(open + 100);
    tokio::time::pause();
    waiting.expect("220 gw.contoso.com").await;
    assert_eq!(desk.told(failed).len(), 1);
}
