//! A server that takes every message, after an adjustable delay, and keeps nothing of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use postrider_smtp::TlsMode;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Offer {
    /// Nothing, before TLS.
    Starttls,
    Pipelining,
    /// `BDAT` as well.
    Chunking,
}

/// Listens at `localhost`, until the process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) certificate_pem: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    delay_ms: AtomicU64,
    chunking: AtomicBool,
    answers: AtomicU64,
    shut: AtomicBool,
    taken: Mutex<Taken>,
}

/// Messages that were taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) messages: u64,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

impl Server {
    pub(crate) fn start(tls: TlsMode) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            state: Arc::default(),
        };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        continue;
                    };
                    tokio::spawn(session(stream, tls, acceptor.clone(), Arc::clone(&state)));
                }
            });
        });
        server
    }

    /// How long each answer waits from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("a short delay");
        self.state.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// What new sessions are offered from now on.
    pub(crate) fn offer(&self, offer: Offer) {
        let chunking = offer == Offer::Chunking;
        self.state.chunking.store(chunking, Ordering::Relaxed);
    }

    /// How often it has answered; the handshakes of TLS are neither counted nor delayed.
    pub(crate) fn answers(&self) -> u64 {
        self.state.answers.load(Ordering::Relaxed)
    }

    /// Greets nobody until it is opened again.
    #[allow(dead_code, reason = "one of two benches wants it")]
    pub(crate) fn shut(&self, shut: bool) {
        self.state.shut.store(shut, Ordering::Relaxed);
    }

    /// What it has taken since it was last asked to forget.
    #[allow(dead_code, reason = "one of two benches wants it")]
    pub(crate) fn taken(&self) -> Taken {
        *self.state.taken()
    }

    #[allow(dead_code, reason = "one of two benches wants it")]
    pub(crate) fn forget(&self) {
        *self.state.taken() = Taken::default();
    }
}

impl State {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, messages: u64) {
        if messages == 0 {
            return;
        }
        let now = Instant::now();
        let mut taken = self.taken();
        taken.messages += messages;
        taken.first.get_or_insert(now);
        taken.last = Some(now);
    }
}

/// `None` when the client has left.
async fn session(
    mut stream: TcpStream,
    tls: TlsMode,
    acceptor: TlsAcceptor,
    state: Arc<State>,
) -> Option<()> {
    const GREETING: &[u8] = b"220 bench\r\n";
    stream.set_nodelay(true).expect("a socket");
    let offer = if state.chunking.load(Ordering::Relaxed) {
        Offer::Chunking
    } else {
        Offer::Pipelining
    };
    let greeting = if tls == TlsMode::Implicit {
        GREETING
    } else {
        let mut peer = Peer::new(Offer::Starttls);
        converse(&mut stream, &mut peer, GREETING, &state).await?;
        b""
    };
    let mut stream = acceptor.accept(stream).await.ok()?;
    converse(&mut stream, &mut Peer::new(offer), greeting, &state).await
}

/// Answers until `STARTTLS` has been.
async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    peer: &mut Peer,
    first: &[u8],
    state: &State,
) -> Option<()> {
    let mut said = first.to_vec();
    let mut octets = vec![0; 64 * 1024];
    while state.shut.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    loop {
        if !said.is_empty() {
            state.answers.fetch_add(1, Ordering::Relaxed);
            let delay = state.delay_ms.load(Ordering::Relaxed);
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            state.take(std::mem::take(&mut peer.taken));
            stream.write_all(&said).await.ok()?;
            stream.flush().await.ok()?;
        }
        if peer.starts_tls {
            return Some(());
        }
        match stream.read(&mut octets).await {
            Ok(n) if n > 0 => said = peer.hear(&octets[..n]),
            _ => return None,
        }
        // The rest of a flight, which TLS gives in records.
        while let Some(Ok(n @ 1..)) = stream.read(&mut octets).now_or_never() {
            said.extend(peer.hear(&octets[..n]));
        }
    }
}

/// The server's half of one session.
struct Peer {
    offer: Offer,
    place: Place,
    /// The beginning of what is not complete.
    unread: Vec<u8>,
    starts_tls: bool,
    /// Messages taken, not yet counted.
    taken: u64,
}

/// What comes next from the client.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Command,
    Data,
    Chunk { left: usize, last: bool },
}

impl Peer {
    fn new(offer: Offer) -> Self {
        Self {
            offer,
            place: Place::Command,
            unread: Vec::new(),
            starts_tls: false,
            taken: 0,
        }
    }

    /// The answers to all that is complete.
    fn hear(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(octets);
        let mut rest = &unread[..];
        let mut said = Vec::new();
        loop {
            match self.place {
                Place::Chunk { left, last } => {
                    let here = left.min(rest.len());
                    rest = &rest[here..];
                    let left = left - here;
                    self.place = Place::Chunk { left, last };
                    if left > 0 {
                        break;
                    }
                    self.taken += u64::from(last);
                    self.place = Place::Command;
                    said.extend_from_slice(b"250 taken\r\n");
                }
                Place::Data => {
                    let end = rest.windows(5).position(|octets| octets == b"\r\n.\r\n");
                    let Some(end) = end else {
                        rest = &rest[rest.len().saturating_sub(4)..];
                        break;
                    };
                    rest = &rest[end + 5..];
                    self.taken += 1;
                    self.place = Place::Command;
                    said.extend_from_slice(b"250 taken\r\n");
                }
                Place::Command => {
                    let Some(end) = rest.iter().position(|&octet| octet == b'\n') else {
                        break;
                    };
                    let line = rest[..end].to_ascii_uppercase();
                    rest = &rest[end + 1..];
                    said.extend_from_slice(self.answer(&line));
                }
            }
        }
        self.unread = rest.to_vec();
        said
    }

    fn answer(&mut self, line: &[u8]) -> &'static [u8] {
        match &line[..4.min(line.len())] {
            b"EHLO" => match self.offer {
                Offer::Starttls => b"250-bench\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
                Offer::Pipelining => b"250-bench\r\n250-PIPELINING\r\n250 AUTH PLAIN XOAUTH2\r\n",
                Offer::Chunking => {
                    b"250-bench\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN XOAUTH2\r\n"
                }
            },
            b"STAR" => {
                self.starts_tls = true;
                b"220 go on\r\n"
            }
            b"QUIT" => b"221 bye\r\n",
            b"AUTH" => b"235 ok\r\n",
            b"DATA" => {
                self.place = Place::Data;
                b"354 go on\r\n"
            }
            b"BDAT" => {
                let digits = line[4..].trim_ascii_start().iter();
                let digits = digits.take_while(|octet| octet.is_ascii_digit());
                self.place = Place::Chunk {
                    left: digits.fold(0, |size, digit| size * 10 + usize::from(digit - b'0')),
                    last: line.trim_ascii_end().ends_with(b"LAST"),
                };
                b""
            }
            _ => b"250 ok\r\n",
        }
    }
}
