//! The same over SMTP's own sessions: what one hands the other, and in whose hands a message is
//! when a connection breaks.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postrider_delivery::{
    Delivery, DeliverySettings, Flush, Limits, Policy, Report, Route, RouteFailure, Routes,
};
use postrider_schedule::SystemClock;
use postrider_smtp::server::{
    self, EnvelopeSoFar, Exchange, ExchangeEnd, Handler, MailCommand, Quirks, RcptCommand,
    ServerReply, Submission, TlsPolicy,
};
use postrider_smtp::{
    Authenticator, Connector, Pool, PoolLimits, SaslError, SaslExchange, ServerSettings, Source,
    Stream, Timeouts, TlsMode, tls,
};
use postrider_spool::{
    Body, Notify, Pace, Recipient, SpoolSettings, SqliteSpool, StateKind, Store as _,
};
use tokio::sync::Notify as Notified;

use crate::support::{Heard, World, message};

/// What the servers of a test have in common.
#[derive(Default)]
struct Office {
    /// Messages taken, by `Message-ID`: their octets.
    taken: Mutex<Vec<(String, Vec<u8>)>>,
    seen: Mutex<usize>,
    /// Each message whose number divides by this is followed by a lost connection.
    breaks: Option<usize>,
    chunking: bool,
    dsn: bool,
    /// It never answers `MAIL`.
    is_silent: bool,
    /// `MAIL` was heard.
    asked: Notified,
    /// The last envelope.
    envelope: Mutex<(MailCommand, Vec<RcptCommand>)>,
}

struct Desk(Arc<Office>);

impl Handler for Desk {
    type Body = Vec<u8>;

    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "office.example.net ESMTP")
    }

    fn hello(&mut self, name: &str) -> String {
        format!("office.example.net greets {name}")
    }

    fn capabilities(&mut self, _tls: bool) -> Vec<String> {
        let mut offer = vec!["PIPELINING".to_owned(), "AUTH PLAIN".to_owned()];
        if self.0.chunking {
            offer.push("CHUNKING".to_owned());
        }
        if self.0.dsn {
            offer.push("DSN".to_owned());
        }
        offer
    }

    async fn auth(
        &mut self,
        _mechanism: &str,
        _initial: Option<Vec<u8>>,
        _exchange: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        Ok(ServerReply::new(235, "2.7.0 Authenticated"))
    }

    async fn mail(&mut self, _mail: &MailCommand) -> ServerReply {
        self.0.asked.notify_one();
        if self.0.is_silent {
            pending::<()>().await;
        }
        ServerReply::new(250, "2.1.0 Sender OK")
    }

    async fn rcpt(&mut self, _rcpt: &RcptCommand) -> ServerReply {
        ServerReply::new(250, "2.1.5 Recipient OK")
    }

    async fn body(&mut self, _: &EnvelopeSoFar<'_>) -> Result<Vec<u8>, ServerReply> {
        Ok(Vec::new())
    }

    async fn message(&mut self, submission: Submission) -> ServerReply {
        let envelope = (submission.mail.clone(), submission.recipients.clone());
        *self.0.envelope.lock().unwrap() = envelope;
        let text = String::from_utf8_lossy(&submission.body[..submission.body.len().min(500)]);
        let id = text.split("Message-ID: ").nth(1).unwrap();
        let id = id.split("\r\n").next().unwrap().to_owned();
        let mut seen = self.0.seen.lock().unwrap();
        *seen += 1;
        let breaks = self
            .0
            .breaks
            .is_some_and(|every| seen.is_multiple_of(every));
        // Every other lost reply is to a message that was not taken.
        if !breaks || seen.is_multiple_of(2) {
            self.0.taken.lock().unwrap().push((id, submission.body));
        }
        if breaks {
            ServerReply::vanish()
        } else {
            ServerReply::new(250, "2.0.0 OK")
        }
    }
}

struct Wires(Arc<Office>);

impl Connector for Wires {
    fn connect(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let desk = Desk(Arc::clone(&self.0));
        tokio::spawn(async move {
            let policy = TlsPolicy::DangerPlaintext;
            let (limits, quirks) = (server::Limits::default(), Quirks::default());
            server::serve(far, None, policy, desk, limits, quirks).await
        });
        ready(Ok(Box::new(near) as Box<dyn Stream>)).boxed()
    }

    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        ready(Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])).boxed()
    }
}

struct Plain;

impl Authenticator for Plain {
    fn begin<'a>(
        &'a self,
        _offered: &'a [String],
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        ready(Ok(Box::new(Self) as Box<dyn SaslExchange>)).boxed()
    }

    fn rejected(&self, _generation: u64) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

impl SaslExchange for Plain {
    fn mechanism(&self) -> &'static str {
        "PLAIN"
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        Some(b"\0user\0password".to_vec())
    }

    fn generation(&self) -> u64 {
        1
    }

    fn respond<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        ready(Err(SaslError::new("nothing was asked"))).boxed()
    }
}

struct Way(Pool);

impl Route for Way {
    fn limits(&self) -> Limits {
        Limits {
            sessions: 2,
            window: WINDOW,
            recipients_per_message: 100,
            pace: Pace::default(),
            linger: Duration::ZERO,
        }
    }

    fn run<'a>(&'a self, source: &'a mut dyn Source) -> BoxFuture<'a, Result<(), RouteFailure>> {
        async move {
            self.0.send_all(source, WINDOW).await?;
            Ok(())
        }
        .boxed()
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }
}

const WINDOW: usize = 10;

impl Routes for Way {
    fn route(&self, _account: &str) -> Option<Arc<dyn Route>> {
        Some(Arc::new(Way(self.0.clone())))
    }
}

fn way(office: &Arc<Office>) -> Way {
    let trust = tls::client_config_trusting(rustls::RootCertStore::empty()).unwrap();
    let settings = ServerSettings {
        host: "office.example.net".to_owned(),
        port: 587,
        tls: TlsMode::DangerPlaintext,
        tls_config: Arc::new(trust),
        ehlo_name: "client.example.net".parse().unwrap(),
        timeouts: Timeouts::default(),
    };
    let limits = PoolLimits {
        connections: 2,
        ..PoolLimits::default()
    };
    let wires = Arc::new(Wires(Arc::clone(office)));
    Way(Pool::with_connector(
        settings,
        Arc::new(Plain),
        limits,
        wires,
    ))
}

async fn deliver(store: &SqliteSpool, office: &Arc<Office>) -> postrider_delivery::Flushed {
    let delivery = Delivery::new(DeliverySettings {
        name: "test".to_owned(),
        store: Arc::new(store.clone()),
        clock: Arc::new(SystemClock),
        routes: Arc::new(way(office)),
        sink: Arc::<Heard>::default(),
        policy: Policy {
            report: Report::None,
            ..Policy::default()
        },
        random: postrider_delivery::random(),
    });
    delivery.flush(Flush::default()).await.unwrap()
}

async fn three_hundred(chunking: bool, breaks: Option<usize>, unknown_each: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSpool::open(dir.path(), SpoolSettings::default()).unwrap();
    let mut ids = BTreeMap::new();
    for number in 0..300 {
        let message = message("alerts", &format!("m{number}"));
        let message_id = message.message_id.clone();
        let now = jiff::Timestamp::now();
        ids.insert(message_id, store.accept(message, now).await.unwrap().id);
    }
    let office = Arc::new(Office {
        breaks,
        chunking,
        ..Office::default()
    });
    let flushed = deliver(&store, &office).await;

    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for (id, _) in office.taken.lock().unwrap().iter() {
        *taken.entry(id.clone()).or_default() += 1;
    }
    assert_eq!(flushed.failed + flushed.held, 0);
    let mut unknown = 0;
    for (message_id, id) in ids {
        let shown = store.show(id).await.unwrap().unwrap();
        let times = taken.get(&message_id).copied().unwrap_or(0);
        match shown.recipients[0].state.kind() {
            StateKind::Delivered => assert_eq!(times, 1, "{message_id}"),
            // Those may have arrived, and nobody asks for them again.
            StateKind::Unknown => {
                unknown += 1;
                assert!(times <= 1, "{message_id}");
            }
            StateKind::Deferred => assert_eq!(times, 0, "{message_id}"),
            other => panic!("{message_id} is {}", other.name()),
        }
    }
    let lost = breaks.map_or(0, |every| *office.seen.lock().unwrap() / every);
    assert!(unknown <= lost * unknown_each, "{unknown} of {lost}");
    assert_eq!(unknown > 0, breaks.is_some());
}

#[tokio::test]
async fn three_hundred_messages_arrive_once_by_windows() {
    three_hundred(true, None, 0).await;
}

#[tokio::test]
async fn three_hundred_messages_arrive_once_by_data() {
    three_hundred(false, None, 0).await;
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_a_window_unknown_at_most_and_doubles_nothing() {
    three_hundred(true, Some(37), WINDOW).await;
}

#[tokio::test]
async fn a_connection_that_breaks_on_data_leaves_one_unknown_and_doubles_nothing() {
    three_hundred(false, Some(37), 1).await;
}

#[tokio::test]
async fn what_is_cut_off_goes_back_to_the_queue_where_none_of_its_text_has_left() {
    for (chunking, state) in [(false, StateKind::Queued), (true, StateKind::Unknown)] {
        let office = Arc::new(Office {
            chunking,
            is_silent: true,
            ..Office::default()
        });
        let mut world = World::new();
        let id = world.queue("alerts", "m").await;
        world.run_by(Arc::new(way(&office)));
        office.asked.notified().await;
        let before = world.now();
        world.stop().await;
        assert_eq!(world.now().duration_since(before).as_secs(), 20);
        assert_eq!(world.ends(id).await[0].0, state, "CHUNKING: {chunking}");
    }
}

#[tokio::test]
async fn a_large_message_goes_from_the_disk_to_the_wire_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSpool::open(dir.path(), SpoolSettings::default()).unwrap();
    let mut octets = b"Subject: large\r\nMessage-ID: <large@contoso.com>\r\n\r\n".to_vec();
    for line in 0..60_000 {
        octets.extend_from_slice(format!("..{line} {}\r\n", "x".repeat(60)).as_bytes());
    }
    for chunking in [true, false] {
        let mut large = message("alerts", "large");
        large.body = Body::from(octets.clone());
        let now = jiff::Timestamp::now();
        store.accept(large, now).await.unwrap();
        let office = Arc::new(Office {
            chunking,
            ..Office::default()
        });
        assert_eq!(deliver(&store, &office).await.delivered, 1);
        let taken = office.taken.lock().unwrap();
        assert!(taken[0].1 == octets, "the octets differ");
    }
}

#[tokio::test]
async fn what_was_asked_of_each_recipient_reaches_a_server_that_knows_what_it_means() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteSpool::open(dir.path(), SpoolSettings::default()).unwrap();
    let mut asked = message("alerts", "m");
    asked.dsn.envid = Some("job 7".to_owned());
    for (notify, orcpt) in [
        (Some(Notify::default()), None),
        (None, None),
        (
            Some(Notify {
                success: true,
                delay: true,
                ..Notify::default()
            }),
            Some("rfc822;x+2By@example.org"),
        ),
    ] {
        asked.recipients.push(Recipient {
            notify,
            orcpt: orcpt.map(str::to_owned),
            address: format!("r{}@example.net", asked.recipients.len()),
        });
    }
    for dsn in [true, false] {
        let now = jiff::Timestamp::now();
        store.accept(asked.clone(), now).await.unwrap();
        let office = Arc::new(Office {
            dsn,
            ..Office::default()
        });
        assert_eq!(deliver(&store, &office).await.delivered, 4);
        let (mail, recipients) = office.envelope.lock().unwrap().clone();
        let heard: Vec<_> = recipients
            .iter()
            .map(|rcpt| {
                let notify = rcpt.notify.map(|one| (one.success, one.failure, one.delay));
                (notify, rcpt.orcpt.as_deref())
            })
            .collect();
        if dsn {
            assert_eq!(mail.envid.as_deref(), Some("job 7"));
            let expected = [
                (None, None),
                (Some((false, false, false)), Some("rfc822;r1@example.net")),
                (None, None),
                (Some((true, false, true)), Some("rfc822;x+2By@example.org")),
            ];
            assert_eq!(heard, expected);
        } else {
            assert_eq!(mail.envid, None);
            assert_eq!(heard, [(None, None); 4]);
        }
    }
}
