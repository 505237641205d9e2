//! Delivery against peers on one server: warm TLS sessions against lettre's pooled transport, one
//! message after another and with many waiting, then one-shot `postrider send` against msmtp.
//!
//! The server answers after an adjustable delay, once for everything it has heard by then, and
//! counts those answers: they are the round trips. It runs on a thread of its own, so that the
//! client's CPU time can be told apart. Runs alternate and each figure is the median of them.
//!
//! `cargo bench -p postrider-smtp --bench delivery -- [--json] [--seconds N] [--rounds N]`

mod one_shot;
mod server;

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt, join_all};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    transport::smtp::{
        PoolConfig,
        authentication::{Credentials, Mechanism},
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use postrider_smtp::{
    Authenticator, EhloName, Envelope, Outgoing, Pool, PoolLimits, Receipt, SaslError,
    SaslExchange, SendError, ServerSettings, Source, Timeouts, TlsMode, tls,
};
use server::{Offer, Server};

const MESSAGE_OCTETS: usize = 2_000;
const RECIPIENT: &str = "b@example.net";
const SENDER: &str = "a@example.org";
/// Delay of each answer in milliseconds, and sessions at a time.
const SITUATIONS: [(u64, usize); 6] = [(0, 1), (0, 10), (20, 1), (20, 10), (100, 1), (100, 10)];
/// Messages in flight on a session, where many wait.
const WINDOW: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sender {
    Lettre,
    OursData,
    OursChunks,
    ManyData,
    ManyChunks,
}

impl Sender {
    const ALL: [Self; 5] = [
        Self::Lettre,
        Self::OursData,
        Self::OursChunks,
        Self::ManyData,
        Self::ManyChunks,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lettre => "lettre, pooled",
            Self::OursData => "postrider, DATA",
            Self::OursChunks => "postrider, BDAT",
            Self::ManyData => "many, DATA",
            Self::ManyChunks => "many, BDAT",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Run {
    per_second: f64,
    round_trips: f64,
    /// Of the client, per message; `None` where the system does not tell.
    cpu_microseconds: Option<f64>,
}

struct Options {
    json: bool,
    seconds: f64,
    rounds: usize,
}

impl Options {
    /// To people, not programs.
    fn say(&self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }
}

fn main() {
    let options = options();
    let server = Server::start(TlsMode::Implicit);
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut rows = Vec::new();
    for (delay, sessions) in SITUATIONS {
        server.delay(Duration::from_millis(delay));
        let mut runs: [Vec<Run>; 5] = Default::default();
        for _ in 0..options.rounds {
            for (sender, runs) in Sender::ALL.into_iter().zip(&mut runs) {
                runs.push(client.block_on(measure(&server, sender, sessions, options.seconds)));
            }
        }
        let runs = runs.map(|runs| median(&runs));
        if !options.json {
            print_situation(delay, sessions, &runs);
        }
        rows.extend(Sender::ALL.into_iter().zip(runs).map(|(sender, run)| {
            serde_json::json!({
                "delay_ms": delay, "sessions": sessions, "sender": sender.name(),
                "messages_per_second": run.per_second, "round_trips_per_message": run.round_trips,
                "cpu_microseconds_per_message": run.cpu_microseconds,
                "times_lettre": run.per_second / runs[0].per_second,
            })
        }));
    }
    let one_shot = one_shot::compare(&options);
    if options.json {
        println!(
            "{}",
            serde_json::json!({
                "message_octets": MESSAGE_OCTETS, "rows": rows, "one_shot": one_shot,
            })
        );
    }
}

fn options() -> Options {
    let mut options = Options {
        json: false,
        seconds: 1.0,
        rounds: 5,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments
                .next()
                .and_then(|text| text.parse::<f64>().ok())
                .filter(|n| *n > 0.0)
        };
        match argument.as_str() {
            "--json" => options.json = true,
            "--seconds" => options.seconds = number().expect("--seconds takes a number"),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and small"
            )]
            "--rounds" => {
                options.rounds = number().expect("--rounds takes a number").ceil() as usize;
            }
            // cargo's own
            "--bench" => {}
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn print_situation(delay: u64, sessions: usize, runs: &[Run; 5]) {
    println!(
        "\n{delay} ms per answer, {sessions} session{}",
        if sessions == 1 { "" } else { "s" }
    );
    println!(
        "{:<18}{:>12}{:>14}{:>12}{:>12}",
        "", "messages/s", "round trips", "CPU µs", "× lettre"
    );
    for (sender, run) in Sender::ALL.into_iter().zip(runs) {
        let cpu = run
            .cpu_microseconds
            .map_or("-".to_owned(), |cpu| format!("{cpu:.0}"));
        println!(
            "{:<18}{:>12.1}{:>14.2}{cpu:>12}{:>12.1}",
            sender.name(),
            run.per_second,
            run.round_trips,
            run.per_second / runs[0].per_second
        );
    }
}

fn median(runs: &[Run]) -> Run {
    let mut runs = runs.to_vec();
    runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    runs[runs.len() / 2]
}

/// Sends on `sessions` warm sessions until the time is over.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
async fn measure(server: &Server, sender: Sender, sessions: usize, seconds: f64) -> Run {
    server.offer(
        if matches!(sender, Sender::OursChunks | Sender::ManyChunks) {
            Offer::Chunking
        } else {
            Offer::Pipelining
        },
    );
    let client = Client::new(server, sender, sessions);
    join_all((0..sessions).map(|_| client.send())).await;
    let sent = AtomicU64::new(0);
    let (trips, cpu, start) = (server.answers(), cpu_time(), Instant::now());
    let deadline = start + Duration::from_secs_f64(seconds);
    join_all((0..sessions).map(|_| async {
        if matches!(sender, Sender::ManyData | Sender::ManyChunks) {
            let many = client.send_many(deadline).await;
            sent.fetch_add(many, Ordering::Relaxed);
            return;
        }
        while Instant::now() < deadline {
            client.send().await;
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }))
    .await;
    let elapsed = start.elapsed();
    let cpu = cpu
        .zip(cpu_time())
        .map(|(before, after)| after.saturating_sub(before));
    let trips = server.answers() - trips;
    let sent = sent.into_inner() as f64;
    Run {
        per_second: sent / elapsed.as_secs_f64(),
        round_trips: trips as f64 / sent,
        cpu_microseconds: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / sent),
    }
}

/// This thread's time on a processor, where Linux tells it.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ')
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

enum Client {
    Ours(Pool, Box<Outgoing>),
    Lettre(
        AsyncSmtpTransport<Tokio1Executor>,
        lettre::address::Envelope,
        Vec<u8>,
    ),
}

impl Client {
    fn new(server: &Server, sender: Sender, sessions: usize) -> Self {
        let message = message();
        if sender == Sender::Lettre {
            let parameters = TlsParameters::builder("localhost".to_owned())
                .certificate_store(CertificateStore::None)
                .add_root_certificate(
                    Certificate::from_der(server.certificate.to_vec()).expect("a certificate"),
                )
                .build_rustls()
                .expect("TLS parameters");
            let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("localhost")
                .port(server.address.port())
                .tls(Tls::Wrapper(parameters))
                .credentials(Credentials::new("a".to_owned(), "t".to_owned()))
                .authentication(vec![Mechanism::Xoauth2])
                .pool_config(PoolConfig::new().max_size(u32::try_from(sessions).expect("a few")))
                .build();
            let envelope = lettre::address::Envelope::new(
                Some(SENDER.parse().expect("an address")),
                vec![RECIPIENT.parse().expect("an address")],
            );
            return Self::Lettre(transport, envelope.expect("an envelope"), message);
        }
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(server.certificate.clone())
            .expect("a certificate");
        let settings = ServerSettings {
            host: "localhost".to_owned(),
            port: server.address.port(),
            tls: TlsMode::Implicit,
            tls_config: Arc::new(tls::client_config_trusting(roots).expect("a configuration")),
            ehlo_name: EhloName::default(),
            timeouts: Timeouts::default(),
        };
        let envelope = Envelope {
            reverse_path: Some(SENDER.parse().expect("an address")),
            recipients: vec![RECIPIENT.parse().expect("an address")],
        };
        let outgoing = Outgoing::new(envelope, message, "<1@example.org>").expect("a message");
        let limits = PoolLimits {
            connections: sessions,
            ..PoolLimits::default()
        };
        Self::Ours(
            Pool::new(settings, Arc::new(Token), limits),
            Box::new(outgoing),
        )
    }

    /// On one session, as long as there is time.
    async fn send_many(&self, deadline: Instant) -> u64 {
        let Self::Ours(pool, outgoing) = self else {
            return 0;
        };
        let mut source = Endless { outgoing, deadline };
        let sent = pool.send_all(&mut source, WINDOW).await;
        sent.expect("the server is there").messages
    }

    async fn send(&self) {
        match self {
            Self::Ours(pool, outgoing) => {
                pool.send(outgoing)
                    .await
                    .expect("the server takes everything");
            }
            Self::Lettre(transport, envelope, message) => {
                transport
                    .send_raw(envelope, message)
                    .await
                    .expect("the server takes everything");
            }
        }
    }
}

/// The same message until the time is over.
struct Endless<'a> {
    outgoing: &'a Outgoing,
    deadline: Instant,
}

impl Source for Endless<'_> {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Vec<Outgoing>> {
        let over = Instant::now() >= self.deadline;
        let room = if over { 0 } else { room };
        ready(vec![self.outgoing.clone(); room]).boxed()
    }

    fn ended(&mut self, _: u64, outcome: Result<Receipt, SendError>) {
        outcome.expect("the server takes everything");
    }
}

fn message() -> Vec<u8> {
    let mut message =
        format!("From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: bench\r\n\r\n").into_bytes();
    while message.len() < MESSAGE_OCTETS {
        message.extend_from_slice(b"A line of a message that is like many others before it.\r\n");
    }
    message
}

struct Token;

impl Authenticator for Token {
    fn begin<'a>(
        &'a self,
        _: &'a [String],
        _: &'a str,
        _: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        async { Ok(Box::new(Token) as Box<dyn SaslExchange>) }.boxed()
    }

    fn rejected(&self, _: u64) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

impl SaslExchange for Token {
    fn mechanism(&self) -> &'static str {
        "XOAUTH2"
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        Some(b"user=a\x01auth=Bearer t\x01\x01".to_vec())
    }

    fn generation(&self) -> u64 {
        1
    }

    fn respond<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
