//! How quickly a queue that is full gets empty.
//!
//! The queue is filled while the server greets nobody; from its first message to its last is
//! what counts. lettre has no queue: its pool sends from memory.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    transport::smtp::{
        PoolConfig,
        authentication::{Credentials, Mechanism},
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use postrider_smtp::TlsMode;
use serde_json::{Value, json};

use crate::{
    Options, RECIPIENT, SENDER,
    daemon::Daemon,
    median, message, number,
    postfix::{self, Postfix, Then},
    server::{Offer, Server},
    submit, wait_until,
};

const DELAYS_MS: [u64; 3] = [0, 20, 100];
const CONNECTIONS: [usize; 3] = [1, 3, 10];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sender {
    Postfix,
    Lettre,
    Data,
    Chunking,
}

impl Sender {
    const ALL: [Self; 4] = [Self::Postfix, Self::Lettre, Self::Data, Self::Chunking];

    fn name(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix",
            Self::Lettre => "lettre, pooled",
            Self::Data => "postrider, DATA",
            Self::Chunking => "postrider, BDAT",
        }
    }

    /// Enough for some seconds.
    fn messages(self, delay_ms: u64, connections: usize) -> u64 {
        let connections = connections as u64;
        // Without delay in all, or in a second on one connection with a delay of a millisecond.
        let (at_once, each) = match self {
            Self::Postfix => (3_000, 1_200),
            Self::Lettre => (60 * connections, 600),
            Self::Data => (10_000, 4_000),
            Self::Chunking => (10_000, 40_000),
        };
        match delay_ms {
            0 => at_once,
            delay => (connections * each / delay).max(20),
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    per_second: f64,
    round_trips: f64,
}

pub(crate) fn compare(options: &Options) -> Value {
    let server = Server::start(TlsMode::Implicit);
    let no_postfix = postfix::missing();
    options.say("\nfrom a full queue to a server, messages a second (round trips each)");
    options.say(&format!(
        "{:<10}{:<8}{:>17}{:>17}{:>17}{:>17}{:>11}{:>11}{:>11}{:>11}",
        "delay ms",
        "conns",
        "Postfix",
        "lettre",
        "DATA",
        "BDAT",
        "D/Postfix",
        "B/Postfix",
        "D/lettre",
        "B/lettre"
    ));
    let mut rows = Vec::new();
    for delay in DELAYS_MS {
        for connections in CONNECTIONS {
            server.delay(Duration::from_millis(delay));
            let mut runs: [Vec<Run>; 4] = Default::default();
            for _ in 0..options.rounds {
                for (sender, runs) in Sender::ALL.into_iter().zip(&mut runs) {
                    if sender == Sender::Postfix && no_postfix.is_some() {
                        continue;
                    }
                    let messages = options.count(sender.messages(delay, connections));
                    runs.push(run(options, &server, sender, connections, messages));
                }
            }
            let runs = runs.map(|runs| Run {
                per_second: median(runs.iter().map(|run| run.per_second)),
                round_trips: median(runs.iter().map(|run| run.round_trips)),
            });
            let shown = runs.map(|run| format!("{:.0} ({:.2})", run.per_second, run.round_trips));
            let [postfix, lettre, data, chunking] = runs.map(|run| run.per_second);
            options.say(&format!(
                "{delay:<10}{connections:<8}{:>17}{:>17}{:>17}{:>17}{:>11.1}{:>11.1}{:>11.1}{:>11.1}",
                shown[0],
                shown[1],
                shown[2],
                shown[3],
                data / postfix,
                chunking / postfix,
                data / lettre,
                chunking / lettre
            ));
            rows.extend(Sender::ALL.into_iter().zip(runs).map(|(sender, run)| {
                json!({
                    "delay_ms": delay, "connections": connections, "sender": sender.name(),
                    "messages_per_second": run.per_second, "round_trips_per_message": run.round_trips,
                    "times_postfix": run.per_second / postfix, "times_lettre": run.per_second / lettre,
                })
            }));
        }
    }
    Value::from(rows)
}

fn run(
    options: &Options,
    server: &Server,
    sender: Sender,
    connections: usize,
    messages: u64,
) -> Run {
    server.offer(if sender == Sender::Chunking {
        Offer::Chunking
    } else {
        Offer::Pipelining
    });
    if sender == Sender::Lettre {
        return lettre(server, connections, messages);
    }
    server.shut(true);
    server.forget();
    let answers = server.answers();
    if sender == Sender::Postfix {
        let postfix = Postfix::start(&Then::Relay(server, connections));
        submit::to_postfix(postfix.smtpd, 10, messages);
        empty(server, messages);
    } else {
        let daemon = Daemon::start(&options.postrider, server, connections);
        submit::to_postrider(&daemon.socket(), 10, messages);
        empty(server, messages);
    }
    let taken = server.taken();
    let took = taken
        .first
        .zip(taken.last)
        .map(|(first, last)| last - first);
    Run {
        per_second: number(messages - 1) / took.expect("all were taken").as_secs_f64(),
        round_trips: number(server.answers() - answers) / number(messages),
    }
}

fn empty(server: &Server, messages: u64) {
    server.shut(false);
    wait_until("the queue is empty", || server.taken().messages >= messages);
}

fn lettre(server: &Server, connections: usize, messages: u64) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let parameters = TlsParameters::builder("localhost".to_owned())
            .certificate_store(CertificateStore::None)
            .add_root_certificate(
                Certificate::from_der(server.certificate.to_vec()).expect("a certificate"),
            )
            .build_rustls()
            .expect("TLS parameters");
        let pool = PoolConfig::new().max_size(u32::try_from(connections).expect("a few"));
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("localhost")
            .port(server.address.port())
            .tls(Tls::Wrapper(parameters))
            .credentials(Credentials::new("a".to_owned(), "t".to_owned()))
            .authentication(vec![Mechanism::Xoauth2])
            .pool_config(pool)
            .build();
        let envelope = lettre::address::Envelope::new(
            Some(SENDER.parse().expect("an address")),
            vec![RECIPIENT.parse().expect("an address")],
        )
        .expect("an envelope");
        let message = message();
        let send = || async {
            let sent = transport.send_raw(&envelope, &message).await;
            sent.expect("the server takes everything");
        };
        join_all((0..connections).map(|_| send())).await;
        let (answers, begun, start) = (server.answers(), AtomicU64::new(0), Instant::now());
        join_all((0..connections).map(|_| async {
            while begun.fetch_add(1, Ordering::Relaxed) < messages {
                send().await;
            }
        }))
        .await;
        Run {
            per_second: number(messages) / start.elapsed().as_secs_f64(),
            round_trips: number(server.answers() - answers) / number(messages),
        }
    })
}
