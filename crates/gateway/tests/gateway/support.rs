//! The host, in memory, and a client that says what it is told.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use postrider_gateway::credential::{self, Verifier};
use postrider_gateway::{
    AccountSender, Arrival, Backend, Certificate, Decision, Entry, Event, Finished, Gateway, Mode,
    Network, Policy, Queued, Quirks, Refusal, Settings, TlsMode,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

/// Every device's.
pub(crate) const PASSWORD: &str = "kbzw-4fhm-q7tx-93vr-dpnc";
/// A message that nothing is wrong with.
pub(crate) const MESSAGE: &str = "From: Scans <scans@contoso.com>\r\nTo: <boss@example.org>\r\n\
     Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@mfp.contoso.com>\r\nSubject: a scan\r\n\
     \r\nsee there\r\n";

static HASH: LazyLock<SecretString> =
    LazyLock::new(|| credential::hash(&SecretString::from(PASSWORD)).unwrap());

/// What reached the queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) account: String,
    pub(crate) arrival: Arrival,
    pub(crate) text: String,
    pub(crate) finished: Finished,
}

/// The program around the gateway.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) devices: Mutex<Vec<String>>,
    pub(crate) messages: Mutex<Vec<Message>>,
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) seconds: Mutex<i64>,
    /// What is stored for everybody, where it is not the hash of [`PASSWORD`].
    pub(crate) hash: Mutex<Option<SecretString>>,
    /// How long the vault takes.
    pub(crate) lookup: Mutex<Duration>,
    /// What the vault, the scripts, the queue say, where it is no.
    pub(crate) credential: Mutex<Option<Refusal>>,
    pub(crate) on_auth: Mutex<Decision>,
    pub(crate) on_mail: Mutex<Decision>,
    pub(crate) write: Mutex<Option<Refusal>>,
    pub(crate) finish: Mutex<Option<Refusal>>,
    /// The largest piece of a message that was written.
    pub(crate) largest: Mutex<usize>,
    /// Messages are counted and forgotten.
    pub(crate) forgets: Mutex<bool>,
    /// A message's fsync waits for this.
    pub(crate) disk: Option<Arc<Notify>>,
    pub(crate) dropped: Arc<Mutex<u32>>,
}

impl Desk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::open())
    }

    pub(crate) fn open() -> Self {
        Self {
            devices: Mutex::new(vec!["printer-2".to_owned(), "scanner".to_owned()]),
            ..Self::default()
        }
    }

    pub(crate) fn only_message(&self) -> Message {
        let messages = self.messages.lock().unwrap();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].clone()
    }

    /// The events that this finds something in.
    pub(crate) fn told<T>(&self, find: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events
            .lock()
            .unwrap()
            .iter()
            .filter_map(find)
            .collect()
    }
}

struct Writing {
    desk: Arc<Desk>,
    account: String,
    arrival: Arrival,
    octets: Vec<u8>,
    is_done: bool,
}

impl Entry for Writing {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            if let Some(refusal) = self.desk.write.lock().unwrap().clone() {
                return Err(refusal);
            }
            let mut largest = self.desk.largest.lock().unwrap();
            *largest = (*largest).max(octets.len());
            if !*self.desk.forgets.lock().unwrap() {
                self.octets.extend_from_slice(octets);
            }
            Ok(())
        }
        .boxed()
    }

    fn finish(
        mut self: Box<Self>,
        finished: Finished,
    ) -> BoxFuture<'static, Result<Queued, Refusal>> {
        async move {
            if let Some(disk) = &self.desk.disk {
                disk.notified().await;
            }
            if let Some(refusal) = self.desk.finish.lock().unwrap().clone() {
                return Err(refusal);
            }
            self.is_done = true;
            let mut messages = self.desk.messages.lock().unwrap();
            messages.push(Message {
                account: self.account.clone(),
                arrival: self.arrival.clone(),
                text: String::from_utf8(std::mem::take(&mut self.octets)).unwrap(),
                finished,
            });
            Ok(Queued {
                id: format!("q{}", messages.len()),
            })
        }
        .boxed()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_done {
            *self.desk.dropped.lock().unwrap() += 1;
        }
    }
}

/// A clone of the desk's pointer is what an entry holds.
pub(crate) struct Host(pub(crate) Arc<Desk>);

impl Backend for Host {
    fn credential<'a>(
        &'a self,
        gateway: &'a str,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<SecretString>, Refusal>> {
        assert_eq!(gateway, "office");
        async move {
            let lookup = *self.0.lookup.lock().unwrap();
            tokio::time::sleep(lookup).await;
            if let Some(refusal) = self.0.credential.lock().unwrap().clone() {
                return Err(refusal);
            }
            let devices = self.0.devices.lock().unwrap();
            let hash = self.0.hash.lock().unwrap().clone();
            let is_known = devices.iter().any(|one| one == device);
            Ok(is_known.then(|| hash.unwrap_or_else(|| HASH.clone())))
        }
        .boxed()
    }

    fn sender(&self, account: &str) -> Option<AccountSender> {
        let address = match account {
            "alerts" => "alerts@contoso.com",
            "basic" | "other" => "other@contoso.com",
            _ => return None,
        };
        Some(AccountSender {
            address: address.parse().unwrap(),
            display_name: Some("Alerts".to_owned()),
            username: "svc@contoso.com".to_owned(),
        })
    }

    fn entry<'a>(
        &'a self,
        account: &'a str,
        arrival: &'a Arrival,
    ) -> BoxFuture<'a, Result<Box<dyn Entry>, Refusal>> {
        let entry: Box<dyn Entry> = Box::new(Writing {
            desk: Arc::clone(&self.0),
            account: account.to_owned(),
            arrival: arrival.clone(),
            octets: Vec::new(),
            is_done: false,
        });
        std::future::ready(Ok(entry)).boxed()
    }

    fn on_auth<'a>(&'a self, _: &'a Arrival) -> BoxFuture<'a, Result<Decision, Refusal>> {
        std::future::ready(Ok(self.0.on_auth.lock().unwrap().clone())).boxed()
    }

    fn on_mail<'a>(&'a self, _: &'a Arrival) -> BoxFuture<'a, Result<Decision, Refusal>> {
        std::future::ready(Ok(self.0.on_mail.lock().unwrap().clone())).boxed()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_795_400_000 + *self.0.seconds.lock().unwrap()).unwrap()
    }

    fn tell(&self, event: Event) {
        self.0.events.lock().unwrap().push(event);
    }
}

/// What a first gateway has: STARTTLS, loopback, one account.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        name: "office".to_owned(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        tls: TlsMode::Starttls,
        certificate: Certificate::SelfMade {
            file: dir.join("gateway/office.pem"),
        },
        hostname: "gw.contoso.com".to_owned(),
        clients: Network::LOOPBACK.to_vec(),
        policy: policy(),
        devices: std::collections::BTreeMap::new(),
        hide_client: false,
        quirks: Quirks::default(),
        connections: 100,
        connections_per_client: 100,
        idle_timeout: Duration::from_mins(5),
        session_timeout: Duration::from_hours(1),
        mode: Mode::Submit,
        rehearse: None,
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        account: "alerts".to_owned(),
        senders: vec![postrider_gateway::Sender::new("scans@contoso.com")],
        rewrite_from: false,
        clients: Vec::new(),
        recipient_domains: Vec::new(),
        messages_per_minute: None,
        messages_per_day: None,
        max_message: 1_000_000,
        recipients_per_message: 5,
    }
}

/// A gateway in clear, as most of these stories have nothing to hide.
pub(crate) fn plain(desk: &Arc<Desk>, change: impl FnOnce(&mut Settings)) -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.tls = TlsMode::DangerPlaintext;
    change(&mut settings);
    let backend = Arc::new(Host(Arc::clone(desk)));
    Gateway::bind(settings, backend, Verifier::new().unwrap()).unwrap()
}

trait Octets: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Octets for T {}

/// Says lines and hears replies.
pub(crate) struct Client {
    stream: BufReader<Pin<Box<dyn Octets>>>,
}

impl Client {
    /// Connected; nothing heard yet.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self {
            stream: BufReader::new(Box::pin(stream)),
        }
    }

    /// Connected, greeted, and `EHLO` said.
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        let mut client = Self::dial(gateway.addresses()[0]).await;
        client.expect("220 gw.contoso.com ESMTP Postrider").await;
        client.say("EHLO mfp.lan").await;
        client
    }

    /// And signed in as `printer-2`.
    pub(crate) async fn signed_in(gateway: &Gateway) -> Self {
        let mut client = Self::connect(gateway).await;
        let reply = client.plain("printer-2", PASSWORD).await;
        assert!(reply.starts_with("235 2.7.0"), "{reply}");
        client
    }

    pub(crate) async fn secure(self, file: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(file).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let stream = self.stream.into_inner();
        let stream = connector.connect(name, stream).await.unwrap();
        Self {
            stream: BufReader::new(Box::pin(stream)),
        }
    }

    pub(crate) async fn send(&mut self, octets: &str) {
        self.stream.write_all(octets.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The whole reply; empty: the connection is closed.
    pub(crate) async fn hear(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            // A reset is an end, too.
            let read = self.stream.read_line(&mut line).await.unwrap_or(0);
            let _ = writeln!(reply, "{}", line.trim_end());
            if read == 0 || line.as_bytes().get(3) != Some(&b'-') {
                return reply.trim_end().to_owned();
            }
        }
    }

    pub(crate) async fn say(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.hear().await
    }

    pub(crate) async fn expect(&mut self, start: &str) {
        let reply = self.hear().await;
        assert!(reply.starts_with(start), "{reply:?} and not {start:?}");
    }

    pub(crate) async fn plain(&mut self, name: &str, password: &str) -> String {
        let response = STANDARD.encode(format!("\0{name}\0{password}"));
        self.say(&format!("AUTH PLAIN {response}")).await
    }

    /// `MAIL`, one `RCPT` and `DATA` up to the 354; else the refusal.
    pub(crate) async fn begin(&mut self, sender: &str) -> Result<(), String> {
        for line in [
            &format!("MAIL FROM:<{sender}>"),
            "RCPT TO:<boss@example.org>",
            "DATA",
        ] {
            let reply = self.say(line).await;
            if !reply.starts_with(['2', '3']) {
                return Err(reply);
            }
        }
        Ok(())
    }

    /// A whole message: the reply to it, or the first refusal.
    pub(crate) async fn submit(&mut self, sender: &str, message: &str) -> String {
        match self.begin(sender).await {
            Ok(()) => {
                self.send(message).await;
                self.say(".").await
            }
            Err(reply) => {
                self.say("RSET").await;
                reply
            }
        }
    }
}
