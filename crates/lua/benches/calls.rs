//! What it costs to call a script: handlers of events, and a hook in the way of a message.
//!
//! `cargo bench -p postrider-lua`
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "../tests/lua/host.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod host;

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use postrider_lua::{HostEvent, Listener as _, MessageHook as _, Script, SendRequest};
use serde_json::json;

use host::{Hands, Host};

const CALLS: usize = 100_000;
/// Calls under way at one time.
const AT_ONCE: usize = 64;

const SCRIPT: &str = r#"
local pr = require "postrider"
local heard = 0
pr.on("token.refreshed", function(event) heard = heard + event.generation end)
pr.on("message.before_send", function(message)
  message.subject = message.subject .. " [" .. message.account .. "]"
  return message
end)
"#;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script.lua");
        std::fs::write(&path, SCRIPT).unwrap();
        let host = Arc::<Host>::default();
        let hands = Arc::new(Hands(Arc::clone(&host)));
        let running = Script::new(path, hands).load().await.unwrap().start();

        let tell = || {
            let payload = json!({ "account": "alerts", "generation": 2, "expires_at": 1.5e9 });
            host.listeners
                .hear(HostEvent::new("token.refreshed", payload))
        };
        let message = SendRequest {
            to: vec!["ops@example.org".to_owned()],
            subject: Some("disk space".to_owned()),
            text: Some("x".repeat(2000)),
            ..SendRequest::default()
        };
        let ask = || host.hooks.before_send("alerts", message.clone());

        for (what, at_once) in [("one after the other", 1), ("64 at a time", AT_ONCE)] {
            let began = Instant::now();
            for _ in 0..CALLS / at_once {
                join_all((0..at_once).map(|_| tell())).await;
            }
            report("handler calls", what, began);
            let began = Instant::now();
            for _ in 0..CALLS / at_once {
                join_all((0..at_once).map(|_| ask())).await;
            }
            report("before_send hooks", what, began);
        }
        let usage = running.usage();
        println!(
            "{} calls, Lua ran {:?}, {} errors",
            usage.calls, usage.cpu, usage.errors
        );
    });
}

#[allow(clippy::cast_precision_loss, reason = "a rate")]
fn report(calls: &str, how: &str, began: Instant) {
    let took = began.elapsed();
    println!(
        "{calls}, {how}: {:.0} per second, {:?} each",
        CALLS as f64 / took.as_secs_f64(),
        took / u32::try_from(CALLS).unwrap()
    );
}
