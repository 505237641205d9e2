//! Whatever a server refuses and wherever a connection breaks: every message is delivered once
//! and said to be, or not delivered and said not to be, or not known, and that is said.

use std::{
    collections::VecDeque,
    future::ready,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{
    Address, BodyChecker, Connector, Envelope, Outgoing, Pool, PoolLimits, Receipt, SendError,
    SendErrorKind, ServerSettings, Source, Stream, Timeouts, TlsMode,
    server::{
        EnvelopeSoFar, Exchange, ExchangeEnd, Handler, Limits, MailCommand, Quirks, RcptCommand,
        ServerReply, Submission, TlsPolicy, serve,
    },
};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use crate::{
    streams::Stored,
    support::{HOST, Tokens, address},
};

/// What the server thinks of a sender, a recipient or a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Accepted,
    Later,
    Never,
    /// 421, and the connection closes, as it must.
    Closing,
}

impl Fate {
    fn reply(self, weather: &Weather) -> ServerReply {
        match self {
            Self::Accepted => ServerReply::new(250, "2.0.0 OK"),
            Self::Later => ServerReply::new(451, "4.3.0 later"),
            Self::Never => ServerReply::new(550, "5.7.1 never"),
            Self::Closing if weather.closes() => ServerReply::new(421, "4.3.2 closing").closing(),
            Self::Closing => ServerReply::new(421, "4.3.2 not really"),
        }
    }
}

#[derive(Clone, Debug)]
struct Letter {
    sender: Fate,
    recipients: Vec<Fate>,
    verdict: Fate,
    lines: usize,
    eight_bit: bool,
    all_or_nothing: bool,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Body {
    Memory,
    Streamed,
    /// Streamed, and so many octets of its end are gone.
    Broken(usize),
}

impl Letter {
    fn text(&self, number: usize) -> Vec<u8> {
        let line = if self.eight_bit { ".ü\r\n" } else { "..\r\n" };
        format!("Number: {number}\r\n\r\n{}", line.repeat(self.lines)).into_bytes()
    }

    fn outgoing(&self, number: usize) -> Outgoing {
        let envelope = Envelope {
            reverse_path: Some(address(&format!("s{number}@example.org"))),
            recipients: (0..self.recipients.len())
                .map(|index| recipient(number, index))
                .collect(),
        };
        let text = self.text(number);
        let mut checker = BodyChecker::default();
        checker.push(&text).unwrap();
        let facts = checker.finish().unwrap();
        let streamed = |gone: usize| {
            let stored = text[..text.len().saturating_sub(gone)].to_vec();
            let source = Arc::new(Stored(stored, text.len() as u64));
            Outgoing::streamed(envelope.clone(), source, facts, "<1@example.org>").unwrap()
        };
        let outgoing = match self.body {
            Body::Memory => Outgoing::new(envelope, text, "<1@example.org>").unwrap(),
            Body::Streamed => streamed(0),
            Body::Broken(gone) => streamed(gone),
        };
        if self.all_or_nothing {
            outgoing.all_or_nothing()
        } else {
            outgoing
        }
    }

    /// Those who get it when nothing breaks.
    fn readers(&self, number: usize, eight_bit_offered: bool) -> Vec<String> {
        let accepted: Vec<_> = (0..self.recipients.len())
            .filter(|&index| self.recipients[index] == Fate::Accepted)
            .map(|index| recipient(number, index).to_string())
            .collect();
        let refused = self.sender != Fate::Accepted
            || self.verdict != Fate::Accepted
            || self.eight_bit && self.lines > 0 && !eight_bit_offered
            || self.all_or_nothing && accepted.len() < self.recipients.len();
        if refused { Vec::new() } else { accepted }
    }
}

fn recipient(number: usize, index: usize) -> Address {
    address(&format!("r{index}@{number}.example.net"))
}

/// A server and its connections.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one thing a server does or does not"
)]
#[derive(Clone, Debug)]
struct Weather {
    letters: Vec<Letter>,
    at_a_time: usize,
    window: usize,
    pipelining: bool,
    chunking: bool,
    eight_bit: bool,
    closes: bool,
    /// Octets that come through, towards the server and back, connection by connection; those
    /// behind them hold.
    cuts: Vec<(usize, usize)>,
    /// What the network holds on its way.
    buffer: usize,
}

fn weather() -> impl Strategy<Value = Weather> {
    let fate = || {
        prop_oneof![
            8 => Just(Fate::Accepted),
            1 => Just(Fate::Later),
            1 => Just(Fate::Never),
        ]
    };
    let fate_or_end = move || prop_oneof![40 => fate(), 1 => Just(Fate::Closing)];
    let letter = (
        fate_or_end(),
        proptest::collection::vec(fate_or_end(), 1..4),
        fate_or_end(),
        prop_oneof![8 => 0usize..200, 1 => 10_000usize..30_000, 1 => 262_000usize..300_000],
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop_oneof![6 => Just(Body::Memory), 3 => Just(Body::Streamed),
                    1 => (1usize..1000).prop_map(Body::Broken)],
    )
        .prop_map(
            |(sender, recipients, verdict, lines, eight_bit, all_or_nothing, body)| Letter {
                sender,
                recipients,
                verdict,
                lines,
                eight_bit,
                all_or_nothing,
                body,
            },
        );
    let cut = prop_oneof![
        (100usize..4_000, Just(usize::MAX)),
        (Just(usize::MAX), 200usize..3_000),
        (1_000usize..2_000_000, Just(usize::MAX)),
    ];
    (
        proptest::collection::vec(letter, 1..14),
        1usize..20,
        1usize..12,
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.6),
        prop::bool::weighted(0.8),
        any::<bool>(),
        proptest::collection::vec(cut, 0..4),
        500usize..100_000,
    )
        .prop_map(
            |(
                letters,
                at_a_time,
                window,
                pipelining,
                chunking,
                eight_bit,
                closes,
                cuts,
                buffer,
            )| Weather {
                letters,
                at_a_time,
                window,
                pipelining,
                chunking,
                eight_bit,
                closes,
                cuts,
                buffer,
            },
        )
}

impl Weather {
    /// A server may go on behind a 421; then it is to be heard, so it must not be lost as well.
    fn closes(&self) -> bool {
        self.closes || !self.cuts.is_empty()
    }

    /// Nothing in it ends a session.
    fn is_calm(&self) -> bool {
        self.letters.iter().all(|letter| {
            let mut fates = letter
                .recipients
                .iter()
                .chain([&letter.sender, &letter.verdict]);
            !matches!(letter.body, Body::Broken(_)) && fates.all(|fate| *fate != Fate::Closing)
        })
    }
}

/// Who got which octets under which sender.
type Delivered = Arc<Mutex<Vec<(String, Vec<String>, Vec<u8>)>>>;

struct Postmaster {
    weather: Arc<Weather>,
    delivered: Delivered,
}

impl Postmaster {
    fn letter(&self, number: &str) -> &Letter {
        &self.weather.letters[number.parse::<usize>().unwrap()]
    }
}

impl Handler for Postmaster {
    type Body = Vec<u8>;

    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "mx.example")
    }

    fn hello(&mut self, _: &str) -> String {
        HOST.to_owned()
    }

    fn capabilities(&mut self, _: bool) -> Vec<String> {
        let offers = [
            (self.weather.pipelining, "PIPELINING"),
            (self.weather.chunking, "CHUNKING"),
            (self.weather.eight_bit, "8BITMIME"),
            (true, "AUTH XOAUTH2"),
        ];
        let offered = offers.iter().filter(|(offered, _)| *offered);
        offered.map(|(_, word)| (*word).to_owned()).collect()
    }

    async fn auth(
        &mut self,
        _: &str,
        _: Option<Vec<u8>>,
        _: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        Ok(ServerReply::new(235, "2.7.0 OK"))
    }

    async fn mail(&mut self, mail: &MailCommand) -> ServerReply {
        let user = mail.reverse_path.split('@').next().unwrap();
        self.letter(&user[1..]).sender.reply(&self.weather)
    }

    async fn rcpt(&mut self, rcpt: &RcptCommand) -> ServerReply {
        let (user, domain) = rcpt.forward_path.split_once('@').unwrap();
        let letter = self.letter(domain.split('.').next().unwrap());
        letter.recipients[user[1..].parse::<usize>().unwrap()].reply(&self.weather)
    }

    async fn body(&mut self, _: &EnvelopeSoFar<'_>) -> Result<Vec<u8>, ServerReply> {
        Ok(Vec::new())
    }

    async fn message(&mut self, submission: Submission) -> ServerReply {
        let sender = submission.mail.reverse_path.clone();
        let number = sender.split('@').next().unwrap()[1..].to_owned();
        let verdict = self.letter(&number).verdict;
        if verdict == Fate::Accepted {
            let readers = submission.recipients.iter();
            let readers = readers.map(|rcpt| rcpt.forward_path.clone()).collect();
            let mut delivered = self.delivered.lock().unwrap();
            delivered.push((number, readers, submission.body));
        }
        verdict.reply(&self.weather)
    }
}

struct Network {
    weather: Arc<Weather>,
    delivered: Delivered,
    connections: AtomicUsize,
    cuts: Arc<AtomicUsize>,
}

impl Connector for Network {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        async move {
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            let cut = self.weather.cuts.get(number).copied();
            let (client, near) = tokio::io::duplex(self.weather.buffer);
            let (far, server) = tokio::io::duplex(self.weather.buffer);
            let postmaster = Postmaster {
                weather: Arc::clone(&self.weather),
                delivered: Arc::clone(&self.delivered),
            };
            let limits = Limits::default();
            tokio::spawn(serve(
                server,
                None,
                TlsPolicy::DangerPlaintext,
                postmaster,
                limits,
                Quirks::default(),
            ));
            tokio::spawn(relay(near, far, cut, Arc::clone(&self.cuts)));
            Ok(Box::new(client) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) }.boxed()
    }
}

/// Carries octets both ways until one end leaves or the cable is cut.
async fn relay(
    near: DuplexStream,
    far: DuplexStream,
    cut: Option<(usize, usize)>,
    cuts: Arc<AtomicUsize>,
) {
    let (up, down) = cut.unwrap_or((usize::MAX, usize::MAX));
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    let was_cut = tokio::select! {
        was_cut = carry(near_read, far_write, up) => was_cut,
        was_cut = carry(far_read, near_write, down) => was_cut,
    };
    if was_cut {
        cuts.fetch_add(1, Ordering::Relaxed);
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut left: usize,
) -> bool {
    let mut octets = vec![0; 4096];
    while left > 0 {
        let most = left.min(octets.len());
        let Ok(read @ 1..) = from.read(&mut octets[..most]).await else {
            return false;
        };
        if to.write_all(&octets[..read]).await.is_err() {
            return false;
        }
        left -= read;
    }
    true
}

/// What was said of each letter.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Sent(Vec<String>),
    Refused,
    NotSent,
    Unknown,
}

struct Letters {
    waiting: VecDeque<(usize, Outgoing)>,
    /// So many are there at a time, then none: the next ones meet a session that waited.
    at_a_time: usize,
    given: Vec<usize>,
    said: Vec<Option<Said>>,
}

impl Source for Letters {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Vec<Outgoing>> {
        let here = self.at_a_time.saturating_sub(self.given.len());
        let room = room.min(here).min(self.waiting.len());
        let taken = self.waiting.drain(..room);
        let given = &mut self.given;
        let taken = taken.map(|(number, outgoing)| {
            given.push(number);
            outgoing
        });
        ready(taken.collect()).boxed()
    }

    fn ended(&mut self, index: u64, outcome: Result<Receipt, SendError>) {
        let number = self.given[usize::try_from(index).unwrap()];
        let said = match outcome {
            Ok(receipt) => {
                let accepted = receipt.recipients.iter();
                let accepted = accepted.filter(|(_, verdict)| verdict.is_accepted());
                Said::Sent(accepted.map(|(address, _)| address.to_string()).collect())
            }
            Err(error) => match *error.kind {
                SendErrorKind::Unknown(_) => Said::Unknown,
                SendErrorKind::Refused(_) => Said::Refused,
                SendErrorKind::NotOffered(_) | SendErrorKind::Lost(_) | SendErrorKind::Body(_) => {
                    Said::NotSent
                }
                other => panic!("{other:?}"),
            },
        };
        let before = self.said[number].replace(said);
        assert_eq!(before, None, "a message ends once");
    }
}

fn settings() -> ServerSettings {
    static TLS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let tls_config = TLS.get_or_init(|| {
        let roots = rustls::RootCertStore::empty();
        Arc::new(postrider_smtp::tls::client_config_trusting(roots).unwrap())
    });
    ServerSettings {
        host: HOST.to_owned(),
        port: 587,
        tls: TlsMode::DangerPlaintext,
        tls_config: Arc::clone(tls_config),
        ehlo_name: "client.example".parse().unwrap(),
        timeouts: Timeouts::default(),
    }
}

/// Sends everything, over as many sessions as that takes.
async fn weathered(weather: Weather) {
    let weather = Arc::new(weather);
    let (delivered, cuts) = (Delivered::default(), Arc::<AtomicUsize>::default());
    let network = Network {
        weather: Arc::clone(&weather),
        delivered: Arc::clone(&delivered),
        connections: AtomicUsize::new(0),
        cuts: Arc::clone(&cuts),
    };
    let limits = PoolLimits {
        connections: 1,
        ..PoolLimits::default()
    };
    let tokens = Arc::new(Tokens::new("a", &["t1"]));
    let pool = Pool::with_connector(settings(), tokens, limits, Arc::new(network));
    let numbered = weather.letters.iter().enumerate();
    let mut letters = Letters {
        waiting: numbered
            .map(|(number, letter)| (number, letter.outgoing(number)))
            .collect(),
        at_a_time: weather.at_a_time,
        given: Vec::new(),
        said: vec![None; weather.letters.len()],
    };
    loop {
        letters.given.clear();
        let sent = pool.send_all(&mut letters, weather.window).await;
        let said = |number: &usize| letters.said[*number].clone();
        let unknown = letters
            .given
            .iter()
            .filter(|number| said(number) == Some(Said::Unknown));
        let unknown = unknown.count();
        assert!(unknown <= weather.window, "{unknown} unknown");
        match sent {
            Ok(sent) => {
                assert!(letters.given.iter().all(|number| said(number).is_some()));
                assert_eq!(sent.messages, letters.given.len() as u64);
                if sent.drained && letters.waiting.is_empty() {
                    break;
                }
            }
            // No session: what was taken has not left.
            Err(_) => {
                for number in std::mem::take(&mut letters.given) {
                    letters.said[number].get_or_insert(Said::NotSent);
                }
            }
        }
    }
    let delivered = delivered.lock().unwrap();
    for (number, letter) in weather.letters.iter().enumerate() {
        let copies: Vec<_> = delivered
            .iter()
            .filter(|(of, ..)| *of == number.to_string())
            .collect();
        let readers = letter.readers(number, weather.eight_bit);
        for (_, recipients, octets) in &copies {
            assert!(*octets == letter.text(number), "not the octets of {number}");
            assert_eq!(*recipients, readers, "{number}");
        }
        let said = letters.said[number].clone().unwrap();
        match &said {
            Said::Sent(to) => assert_eq!((copies.len(), to), (1, &readers), "{number}"),
            Said::Refused | Said::NotSent => assert_eq!(copies.len(), 0, "{number} {said:?}"),
            Said::Unknown => {
                assert!(copies.len() <= 1, "{number}");
                assert!(
                    cuts.load(Ordering::Relaxed) > 0,
                    "only a loss leaves it open"
                );
            }
        }
        if weather.is_calm() && cuts.load(Ordering::Relaxed) == 0 {
            let sent = matches!(said, Said::Sent(_));
            assert_eq!(sent, !readers.is_empty(), "{number} {said:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn no_message_is_lost_or_sent_twice_unknown_to_its_sender(weather in weather()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(weathered(weather));
    }
}
