//! A server that follows a script, and everything around a client that meets it.
//!
//! The script is a dialogue in the RFCs' notation:
//!
//! ```text
//! S: 220 mx.example          sent, with the S: lines next to it, in one write
//! C: EHLO client.example     must be heard, exactly; a final * matches any rest
//! C: BDAT *                  with its octets, which become a message
//! C: [message]               octets up to the lone dot, unstuffed, become a message
//! T:                         a TLS handshake
//! R: 1000                    reads this many octets, whatever they are
//! P:                         the client has its turn; what follows is another write
//! P: 200                     the same, after so many seconds
//! X:                         the server closes
//! W:                         the server waits for ever
//! LOOP:                      the rest is played again and again until the client leaves
//! ---                        the next connection
//! ```
//!
//! Since the server says nothing before it has heard every `C:` line above, a dialogue that
//! succeeds shows what the client sent without waiting. Each answer, and each handshake, is
//! one round trip.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{
    Authenticator, Connector, Envelope, Outgoing, Pool, PoolLimits, SaslError, SaslExchange,
    ServerSettings, Stream, TcpConnector, Timeouts, TlsMode,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::certificates::Certificates;

pub(crate) const HOST: &str = "mx.example";
pub(crate) const GREETING: &str = "S: 220 mx.example ESMTP\nC: EHLO client.example\n";
/// A TLS session up to where messages begin, with everything Exchange Online offers.
pub(crate) const STARTTLS_AND_AUTH: &str = "S: 220 mx.example ESMTP
C: EHLO client.example
S: 250-mx.example
S: 250-PIPELINING
S: 250 STARTTLS
C: STARTTLS
S: 220 2.0.0 ready
T:
C: EHLO client.example
S: 250-mx.example
S: 250-SIZE 157286400
S: 250-PIPELINING
S: 250-DSN
S: 250-AUTH LOGIN XOAUTH2
S: 250-8BITMIME
S: 250-CHUNKING
S: 250 SMTPUTF8
C: AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHQxAQE=
S: 235 2.7.0 Authentication successful
";

/// A session in clear, with these extensions, up to where messages begin.
pub(crate) fn session(extensions: &str) -> String {
    let offers: Vec<_> = extensions
        .split_whitespace()
        .map(|word| format!("S: 250-{word}\n"))
        .collect();
    let offers = offers.concat();
    format!(
        "{GREETING}S: 250-mx.example\n{offers}S: 250 AUTH XOAUTH2\nC: AUTH XOAUTH2 *\nS: 235 ok\n"
    )
}

/// What one connection came to.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Every octet the client sent, after TLS where there was TLS.
    pub(crate) octets: Vec<u8>,
    /// The messages in them.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Answers and handshakes.
    pub(crate) round_trips: usize,
}

/// The scripted server, as the client's way to connect.
pub(crate) struct Dialogue {
    scripts: Mutex<VecDeque<Vec<String>>>,
    certificates: Arc<Certificates>,
    connections: Mutex<Vec<JoinHandle<Result<Heard, String>>>>,
    /// Writes the client made, on all connections.
    pub(crate) writes: Arc<AtomicUsize>,
    pub(crate) opened: AtomicUsize,
}

impl Dialogue {
    pub(crate) fn new(script: &str) -> Arc<Self> {
        Self::with(Certificates::good(), script)
    }

    pub(crate) fn with(certificates: Certificates, script: &str) -> Arc<Self> {
        let lines = script
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect();
        let scripts = lines
            .split(|line| line == "---")
            .map(<[_]>::to_vec)
            .collect();
        Arc::new(Self {
            scripts: Mutex::new(scripts),
            certificates: Arc::new(certificates),
            connections: Mutex::default(),
            writes: Arc::default(),
            opened: AtomicUsize::new(0),
        })
    }

    /// A pool of one session that authenticates with the token `t1`.
    pub(crate) fn pool(self: &Arc<Self>, tls: TlsMode) -> Pool {
        self.pool_with(tls, Arc::new(Tokens::new("a", &["t1"])), 1)
    }

    pub(crate) fn pool_with(
        self: &Arc<Self>,
        tls: TlsMode,
        tokens: Arc<Tokens>,
        connections: usize,
    ) -> Pool {
        let limits = PoolLimits {
            connections,
            ..PoolLimits::default()
        };
        Pool::with_connector(
            self.settings(tls),
            tokens,
            limits,
            Arc::new(Arc::clone(self).connector()),
        )
    }

    pub(crate) fn settings(&self, tls: TlsMode) -> ServerSettings {
        ServerSettings {
            host: HOST.to_owned(),
            port: 587,
            tls,
            tls_config: self.certificates.client_config(),
            ehlo_name: "client.example".parse().unwrap(),
            timeouts: Timeouts::default(),
        }
    }

    pub(crate) fn connector(self: Arc<Self>) -> DialogueConnector {
        DialogueConnector(self)
    }

    /// What was heard, connection by connection; fails if the client left the script, or if a
    /// connection in it was never made. Drop the pool first, or the server waits for it.
    pub(crate) async fn finish(self: &Arc<Self>) -> Vec<Heard> {
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        let mut all = Vec::new();
        for (i, connection) in connections.into_iter().enumerate() {
            match connection.await.unwrap() {
                Ok(heard) => all.push(heard),
                Err(error) => panic!("connection {}: {error}", i + 1),
            }
        }
        let left = self.scripts.lock().unwrap().len();
        assert_eq!(left, 0, "{left} connections of the script were never made");
        all
    }
}

pub(crate) struct DialogueConnector(Arc<Dialogue>);

impl Connector for DialogueConnector {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let script = self
                .0
                .scripts
                .lock()
                .unwrap()
                .pop_front()
                .ok_or_else(refused)?;
            self.0.opened.fetch_add(1, Ordering::Relaxed);
            let (client, server) = tokio::io::duplex(256 * 1024);
            let acceptor = self.0.certificates.acceptor();
            let connection = Connection {
                stream: Side::Plain(server),
                acceptor,
                heard: Heard::default(),
                unread: Vec::new(),
            };
            let task = tokio::spawn(connection.follow(script));
            self.0.connections.lock().unwrap().push(task);
            Ok(Box::new(Counted {
                inner: client,
                writes: Arc::clone(&self.0.writes),
            }) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) }.boxed()
    }
}

/// A real TCP connection to this address, whatever the server is called.
pub(crate) struct Tcp(pub SocketAddr);

impl Connector for Tcp {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        async move { TcpConnector.connect(address).await }.boxed()
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async { Ok(vec![self.0]) }.boxed()
    }
}

/// The client's end, counting how often it writes.
pub(crate) struct Counted<S> {
    pub(crate) inner: S,
    pub(crate) writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for Counted<S> {}

impl<S> Counted<S> {
    fn count(&self, written: &Poll<io::Result<usize>>) {
        if written.is_ready() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, octets);
        self.count(&written);
        written
    }

    // As TCP has it, which TLS makes use of.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, octets)
    }
}

enum Side {
    Plain(DuplexStream),
    Tls(Box<TlsStream<DuplexStream>>),
    Gone,
}

struct Connection {
    stream: Side,
    acceptor: TlsAcceptor,
    heard: Heard,
    unread: Vec<u8>,
}

impl Connection {
    async fn follow(mut self, script: Vec<String>) -> Result<Heard, String> {
        let (once, again) = match script.iter().position(|line| line == "LOOP:") {
            Some(at) => (script[..at].to_vec(), script[at + 1..].to_vec()),
            None => (script, Vec::new()),
        };
        if !self.play(once).await? {
            return Ok(self.heard);
        }
        while !again.is_empty() && (!self.unread.is_empty() || self.read().await? > 0) {
            if !self.play(again.clone()).await? {
                return Ok(self.heard);
            }
        }
        // Whatever the client has left to say is recorded: credentials must not be in it.
        while self.read().await? > 0 {}
        if !self.unread.is_empty() {
            return Err(format!("not in the script: {}", shown(&self.unread)));
        }
        Ok(self.heard)
    }

    /// `false` when the connection is over.
    async fn play(&mut self, script: Vec<String>) -> Result<bool, String> {
        let mut lines = script.into_iter().peekable();
        while let Some(line) = lines.next() {
            match line.split_at(2.min(line.len())) {
                ("S:", text) => {
                    let mut said = format!("{}\r\n", text.trim_start());
                    while let Some(more) = lines.next_if(|line| line.starts_with("S:")) {
                        said.push_str(more[2..].trim_start());
                        said.push_str("\r\n");
                    }
                    self.heard.round_trips += 1;
                    self.say(said.as_bytes()).await?;
                }
                ("C:", text) if text.trim() == "[message]" => self.hear_data().await?,
                ("C:", text) => self.hear(text.trim_start()).await?,
                ("T:", _) => {
                    self.heard.round_trips += 1;
                    if !self.secure().await? {
                        return Ok(false);
                    }
                }
                ("R:", octets) => {
                    let octets = octets
                        .trim()
                        .parse()
                        .map_err(|_| format!("not a number: {line}"))?;
                    while self.unread.len() < octets {
                        self.read_more("more octets").await?;
                    }
                    self.unread.drain(..octets);
                }
                ("P:", "") => tokio::task::yield_now().await,
                ("P:", seconds) => {
                    let seconds = seconds
                        .trim()
                        .parse()
                        .map_err(|_| format!("not a number: {line}"))?;
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                ("X:", _) => return Ok(false),
                ("W:", _) => std::future::pending().await,
                _ => return Err(format!("not a line of a dialogue: {line}")),
            }
        }
        Ok(true)
    }

    async fn hear(&mut self, wanted: &str) -> Result<(), String> {
        let line = self.line(wanted).await?;
        let same = match wanted.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == wanted,
        };
        if !same {
            return Err(format!("wanted: {wanted}\n heard: {line}"));
        }
        if let Some(rest) = line.strip_prefix("BDAT ") {
            let (octets, last) = rest
                .split_once(' ')
                .map_or((rest, false), |(n, last)| (n, last == "LAST"));
            let octets: usize = octets.parse().map_err(|_| format!("not a size: {line}"))?;
            while self.unread.len() < octets {
                self.read_more("the chunk's octets").await?;
            }
            let chunk: Vec<u8> = self.unread.drain(..octets).collect();
            match self.heard.messages.last_mut() {
                Some(message) if message.ends_with(b"[more]") => {
                    message.truncate(message.len() - 6);
                    message.extend(chunk);
                }
                _ => self.heard.messages.push(chunk),
            }
            if !last && let Some(message) = self.heard.messages.last_mut() {
                message.extend(b"[more]");
            }
        }
        Ok(())
    }

    /// A line that starts with a dot loses it; a lone dot ends the message.
    async fn hear_data(&mut self) -> Result<(), String> {
        let mut message = Vec::new();
        let mut done = 0;
        loop {
            while let Some(octets) = self.unread[done..]
                .windows(2)
                .position(|two| two == b"\r\n")
            {
                let line = &self.unread[done..done + octets + 2];
                done += line.len();
                if line == b".\r\n" {
                    self.unread.drain(..done);
                    self.heard.messages.push(message);
                    return Ok(());
                }
                message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            }
            self.unread.drain(..std::mem::take(&mut done));
            self.read_more("the end of the message").await?;
        }
    }

    async fn line(&mut self, wanted: &str) -> Result<String, String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|octets| octets == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.read_more(wanted).await?;
        }
    }

    async fn read_more(&mut self, wanted: &str) -> Result<(), String> {
        if self.read().await? == 0 {
            return Err(format!(
                "wanted: {wanted}\n heard: the end, after {}",
                shown(&self.unread)
            ));
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<usize, String> {
        let mut octets = vec![0; 64 * 1024];
        let read = match &mut self.stream {
            Side::Plain(stream) => stream.read(&mut octets).await,
            Side::Tls(stream) => stream.read(&mut octets).await,
            Side::Gone => Ok(0),
        };
        // A client that hangs up on a TLS session it does not trust is no failure of the script.
        let n = read.unwrap_or(0);
        self.unread.extend_from_slice(&octets[..n]);
        self.heard.octets.extend_from_slice(&octets[..n]);
        Ok(n)
    }

    async fn say(&mut self, octets: &[u8]) -> Result<(), String> {
        let said = match &mut self.stream {
            Side::Plain(stream) => stream.write_all(octets).await,
            Side::Tls(stream) => match stream.write_all(octets).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            },
            Side::Gone => Err(io::ErrorKind::NotConnected.into()),
        };
        said.map_err(|error| format!("could not say {}: {error}", shown(octets)))
    }

    /// `false` when the client would not go through with it.
    async fn secure(&mut self) -> Result<bool, String> {
        let Side::Plain(stream) = std::mem::replace(&mut self.stream, Side::Gone) else {
            return Err("TLS inside TLS".to_owned());
        };
        if !self.unread.is_empty() {
            return Err("the client did not wait for TLS".to_owned());
        }
        match self.acceptor.accept(stream).await {
            Ok(stream) => self.stream = Side::Tls(Box::new(stream)),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

fn shown(octets: &[u8]) -> String {
    octets[..octets.len().min(300)].escape_ascii().to_string()
}

/// XOAUTH2 with the tokens given, the next one after each refusal.
pub(crate) struct Tokens {
    user: &'static str,
    values: Vec<String>,
    generation: AtomicU64,
    pub(crate) begun: AtomicUsize,
}

impl Tokens {
    pub(crate) fn new(user: &'static str, tokens: &[&str]) -> Self {
        let values = tokens.iter().map(|&token| token.to_owned()).collect();
        Self {
            user,
            values,
            generation: AtomicU64::new(1),
            begun: AtomicUsize::new(0),
        }
    }

    pub(crate) fn rotate(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Authenticator for Tokens {
    fn begin<'a>(
        &'a self,
        offered: &'a [String],
        _: &'a str,
        _: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        async move {
            self.begun.fetch_add(1, Ordering::Relaxed);
            if !offered.iter().any(|mechanism| mechanism == "XOAUTH2") {
                return Err(SaslError::new("no mechanism in common"));
            }
            let generation = self.generation.load(Ordering::Relaxed);
            let index = usize::try_from(generation - 1)
                .unwrap()
                .min(self.values.len() - 1);
            let response = format!(
                "user={}\x01auth=Bearer {}\x01\x01",
                self.user, self.values[index]
            );
            Ok(Box::new(XOAuth2 {
                response,
                generation,
            }) as Box<dyn SaslExchange>)
        }
        .boxed()
    }

    fn rejected(&self, generation: u64) -> BoxFuture<'_, ()> {
        async move {
            let more = usize::try_from(generation).unwrap() < self.values.len();
            if more && self.generation.load(Ordering::Relaxed) == generation {
                self.rotate();
            }
        }
        .boxed()
    }

    fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Relaxed))
    }
}

struct XOAuth2 {
    response: String,
    generation: u64,
}

impl SaslExchange for XOAuth2 {
    fn mechanism(&self) -> &'static str {
        "XOAUTH2"
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        Some(self.response.clone().into_bytes())
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn respond<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

pub(crate) fn address(text: &str) -> postrider_smtp::Address {
    text.parse().unwrap()
}

/// A message from `a@example.org` to these.
pub(crate) fn message_to(recipients: &[&str], text: &[u8]) -> Outgoing {
    let recipients = recipients.iter().map(|text| address(text)).collect();
    let envelope = Envelope {
        reverse_path: Some(address("a@example.org")),
        recipients,
    };
    Outgoing::new(envelope, text, "<1@example.org>").unwrap()
}

pub(crate) fn message() -> Outgoing {
    message_to(&["b@example.net"], b"Subject: x\r\n\r\n.\r\nbody\r\n")
}
