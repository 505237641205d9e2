//! Devices in, a server out, and the disk between: the durable relay, by SMTP on both sides.
//!
//! Postfix's own generator of load cannot sign in, and a gateway takes nothing from whoever has
//! not. So one client speaks to both: lockstep, one message after another on each connection, as
//! `smtp-source -d` does. With the gateway it signs in once on each connection; Postfix takes it
//! for one of its networks. Neither encrypts on the way in.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use base64::Engine as _;
use postrider_smtp::TlsMode;
use serde_json::{Value, json};

use crate::{
    Options, RECIPIENT, SENDER,
    daemon::{DEVICE, Daemon, PASSWORD, Setup},
    message, number,
    postfix::{self, Postfix, Then},
    relay::{Run, medians, observe},
    server::{Offer, Server},
    wait_until,
};

const SESSIONS: [usize; 3] = [1, 10, 50];
const CONNECTIONS: usize = 10;
/// Messages of a run in which Postfix's flushes are counted: one each.
const COUNTED: u64 = 2_000;

pub(crate) fn compare(options: &Options) -> Value {
    let server = Server::start(TlsMode::Implicit);
    options.say("\nfrom SMTP sessions to a server, TLS and 10 connections out, no delay");
    options.say(&format!(
        "{:<8}{:<10}{:<10}{:>12}{:>13}{:>10}{:>10}{:>10}{:>12}",
        "disk",
        "sessions",
        "",
        "messages/s",
        "CPU s/1,000",
        "peak MiB",
        "idle MiB",
        "ready ms",
        "syncs each"
    ));
    let mut rows = Vec::new();
    let mut disks = vec![("TMPDIR", None)];
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        disks.push(("tmpfs", Some(memory)));
    }
    for (disk, path) in disks {
        for sessions in options.at_once(&SESSIONS) {
            let mut runs: [Vec<Run>; 3] = Default::default();
            for _ in 0..options.rounds {
                if postfix::missing().is_none() {
                    runs[0].push(postfix(options, &server, sessions, path));
                }
                for (runs, offer) in runs[1..]
                    .iter_mut()
                    .zip([Offer::Pipelining, Offer::Chunking])
                {
                    server.offer(offer);
                    runs.push(gateway(options, &server, sessions, path));
                }
            }
            for (name, runs) in ["Postfix", "DATA", "BDAT"].into_iter().zip(runs) {
                let Some(all) = medians(&runs) else { continue };
                // What is flushed does not depend on the disk, nor on what the server offers.
                let syncs = match (path, name) {
                    (None, "Postfix") => postfix_syncs(options, &server, sessions),
                    (None, "BDAT") => syncs(options, &server, sessions),
                    _ => None,
                };
                let shown = syncs.map_or("-".to_owned(), |syncs| format!("{syncs:.3}"));
                let [rate, cpu, peak, idle, ready] = all;
                options.say(&format!(
                    "{disk:<8}{sessions:<10}{name:<10}{rate:>12.0}{cpu:>13.3}{peak:>10.1}{idle:>10.1}{ready:>10.1}{shown:>12}"
                ));
                let mut row = json!({
                    "disk": disk, "sessions": sessions, "relay": name, "syncs_per_message": syncs,
                });
                for (name, figure) in Run::NAMES.into_iter().zip(all) {
                    row[name] = figure.into();
                }
                rows.push(row);
            }
        }
    }
    Value::from(rows)
}

fn postfix(options: &Options, server: &Server, sessions: usize, disk: Option<&Path>) -> Run {
    server.forget();
    let postfix = Postfix::start_in(disk, &Then::Relay(server, CONNECTIONS));
    let submit = |messages| submit(postfix.smtpd, false, sessions, messages);
    let messages = options.count(3_000);
    observe(server, postfix.pid(), postfix.started_in, messages, &submit)
}

fn gateway(options: &Options, server: &Server, sessions: usize, disk: Option<&Path>) -> Run {
    server.forget();
    let setup = Setup {
        place: disk,
        gateway: true,
        ..Setup::default()
    };
    let daemon = Daemon::with(&setup, &options.postrider, server, CONNECTIONS);
    let submit = |messages| submit(daemon.gateway(), true, sessions, messages);
    let messages = options.count(10_000);
    observe(server, daemon.pid(), daemon.started_in, messages, &submit)
}

/// Flushes for each message, from its arrival until it is delivered and that is written down.
fn syncs(options: &Options, server: &Server, sessions: usize) -> Option<f64> {
    let setup = Setup {
        traced: true,
        gateway: true,
        ..Setup::default()
    };
    let start = || Daemon::with(&setup, &options.postrider, server, CONNECTIONS);
    let idle = start().syncs()?;
    server.forget();
    let daemon = start();
    let messages = options.count(10_000);
    submit(daemon.gateway(), true, sessions, messages);
    wait_until("all is delivered", || server.taken().messages >= messages);
    Some(number(daemon.syncs()?.saturating_sub(idle)) / number(messages))
}

fn postfix_syncs(options: &Options, server: &Server, sessions: usize) -> Option<f64> {
    server.forget();
    let postfix = Postfix::traced(&Then::Relay(server, CONNECTIONS));
    let messages = options.count(COUNTED);
    submit(postfix.smtpd, false, sessions, messages);
    wait_until("all is delivered", || server.taken().messages >= messages);
    Some(number(postfix.syncs()?) / number(messages))
}

/// Hands `messages` in; how long it took until the last was taken.
fn submit(to: SocketAddr, signs_in: bool, sessions: usize, messages: u64) -> Duration {
    // A gateway sends nothing on without them.
    let mut octets = b"Date: Mon, 23 Nov 2026 20:00:00 +0000\r\n\
        Message-ID: <1@client.example>\r\n"
        .to_vec();
    octets.extend_from_slice(&message());
    octets.extend_from_slice(b".\r\n");
    let handed_in = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..sessions {
            scope.spawn(|| {
                let mut session = Session::open(to, signs_in);
                while handed_in.fetch_add(1, Ordering::Relaxed) < messages {
                    session.say(&format!("MAIL FROM:<{SENDER}>\r\n"), 250);
                    session.say(&format!("RCPT TO:<{RECIPIENT}>\r\n"), 250);
                    session.say("DATA\r\n", 354);
                    session.write(&octets);
                    session.hear(250);
                }
                session.say("QUIT\r\n", 221);
            });
        }
    });
    began.elapsed()
}

struct Session {
    out: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Session {
    fn open(to: SocketAddr, signs_in: bool) -> Self {
        let out = TcpStream::connect(to).expect("it listens");
        out.set_nodelay(true).expect("an option");
        let replies = BufReader::new(out.try_clone().expect("a socket"));
        let mut session = Self { out, replies };
        session.hear(220);
        session.say("EHLO client.example\r\n", 250);
        if signs_in {
            let plain = format!("\0{DEVICE}\0{PASSWORD}");
            let plain = base64::engine::general_purpose::STANDARD.encode(plain);
            session.say(&format!("AUTH PLAIN {plain}\r\n"), 235);
        }
        session
    }

    fn say(&mut self, command: &str, expected: u16) {
        self.write(command.as_bytes());
        self.hear(expected);
    }

    fn write(&mut self, octets: &[u8]) {
        self.out.write_all(octets).expect("it reads");
    }

    /// The last line of the next reply has to have this code.
    fn hear(&mut self, expected: u16) {
        let mut line = String::new();
        loop {
            line.clear();
            let octets = self.replies.read_line(&mut line).expect("a reply");
            assert!(octets > 0, "hung up in place of {expected}");
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        assert!(line.starts_with(&expected.to_string()), "{line}");
    }
}
