//! Postfix's generator of load, `smtp-source`, at one, ten and fifty sessions: every message that
//! the gateway took arrives, and once.
//!
//! It cannot sign in, and nobody sends through a gateway who has not. Someone at the door signs each
//! of its connections in, and passes on what is said from then on.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use support::gateway::{DEVICE, PASSWORD, Site, Tls};
use support::talk::Talk;
use support::{find_program, run, skip};

const LOADS: [(usize, usize); 3] = [(1, 100), (10, 300), (50, 500)];

#[test]
fn whatever_smtp_source_hands_in_arrives_once() {
    let Some(source) = find_program("smtp-source") else {
        return skip("Postfix's smtp-source is not installed");
    };
    let site = Site::with("connections_per_client = 100");
    let door = doorkeeper(site.port(Tls::Offered));
    let mut sent = 0;
    for (sessions, messages) in LOADS {
        for kept in [true, false] {
            let mut load = Command::new(&source);
            // Kept connections, or one for each message.
            load.args(kept.then_some("-d"));
            load.args(["-s", &sessions.to_string()]);
            load.args(["-m", &messages.to_string(), "-l", "2000"]);
            load.args(["-f", "alerts@contoso.com", "-t", "admin@contoso.com"]);
            run(load.arg(format!("127.0.0.1:{door}"))).expect_status(0);
            sent += messages;
        }
    }
    site.until_idle();
    let mut arrivals = BTreeMap::<String, u32>::new();
    for message in site.messages() {
        *arrivals.entry(message_id(&message)).or_default() += 1;
        // Its own body, which ends as it was handed in.
        assert!(message.ends_with("X\r\n"), "{message}");
    }
    assert_eq!(arrivals.len(), sent);
    let twice: Vec<_> = arrivals.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

fn message_id(message: &str) -> String {
    let field = |line: &str| line.strip_prefix("Message-Id: ").map(str::to_owned);
    message.lines().find_map(field).unwrap()
}

/// Listens there for clients that cannot sign in.
fn doorkeeper(gateway: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            thread::spawn(move || lead_in(client, gateway));
        }
    });
    port
}

fn lead_in(client: TcpStream, gateway: u16) {
    let inside = Talk::signed_in(gateway, DEVICE, PASSWORD).into_stream();
    (&client).write_all(b"220 come in\r\n").unwrap();
    let (from_client, to_gateway) = (client.try_clone().unwrap(), inside.try_clone().unwrap());
    let inwards = thread::spawn(move || pass_on(from_client, to_gateway));
    pass_on(inside, client);
    inwards.join().unwrap();
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    // Whoever leaves first has heard what there was.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
