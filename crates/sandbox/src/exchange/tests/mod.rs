//! Exchange's dialogue, exact octets where `facts` give them, over TLS in memory.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::scenario::{
    Account, BasicAuth, Effect, Fault, FaultPoint, Mailbox, MailboxPermission, OverRate, Right,
    Scenario, Span,
};
use crate::state::testing::{StandingClock, app_only_claims, delegated_claims, token};
use crate::state::{Claims, Outcome, Random};

mod dialogue;
mod faults;
mod sign_in;
mod submission;

const USER: &str = "svc-mail@contoso.com";
const TRAILER: &str =
    "[SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM 2026-01-01T00:00:00.000Z 08DE000000000000]";
const HOSTNAME: &str = "[Hostname=SB0PR01MB0000.sbxprd01.prod.outlook.com]";
const MESSAGE: &str = "From: svc-mail@contoso.com\r\nMessage-ID: <1@contoso.com>\r\n\r\nhello\r\n";

/// Makes every name predictable.
struct Zeros;

impl Random for Zeros {
    fn fill(&self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

/// The service, and a certificate its clients trust.
struct World {
    service: Exchange,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl World {
    fn new(change: impl FnOnce(&mut Scenario)) -> Self {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        let authority = "https://localhost:4433/".parse().unwrap();
        let key = crate::jwt::tests::test_key();
        let state = State::new(
            scenario,
            authority,
            key,
            Arc::new(StandingClock),
            Arc::new(Zeros),
        );
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            service: Exchange::new(state, Inbox::new(None).unwrap()),
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
        }
    }

    fn state(&self) -> &State {
        &self.service.state
    }

    fn why(&self) -> String {
        let refused = |entry: &crate::state::LogEntry| entry.outcome == Outcome::Refused;
        self.state()
            .log_entries(0)
            .into_iter()
            .rfind(refused)
            .map(|entry| entry.why)
            .unwrap_or_default()
    }

    /// A connection, nothing read yet.
    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(1 << 16);
        let (service, acceptor) = (self.service.clone(), self.acceptor.clone());
        tokio::spawn(async move {
            let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
            service.connection(server, acceptor, client).await
        });
        client
    }

    /// A connection behind STARTTLS and a second EHLO.
    async fn secured(&self) -> TlsStream<DuplexStream> {
        let mut clear = self.connect();
        reply(&mut clear).await;
        ask(&mut clear, "EHLO client.example").await;
        ask(&mut clear, "STARTTLS").await;
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = self.connector.connect(name, clear).await.unwrap();
        ask(&mut tls, "EHLO client.example").await;
        tls
    }

    /// A connection that signed in as svc-mail.
    async fn signed_in(&self) -> TlsStream<DuplexStream> {
        let mut client = self.secured().await;
        let token = token(self.state(), &delegated_claims(self.state()));
        let said = ask(&mut client, &xoauth2(USER, &token)).await;
        assert_eq!(said, "235 2.7.0 Authentication successful");
        client
    }

    /// The answer to XOAUTH2 with these claims as this user.
    async fn signs_in(&self, user: &str, claims: &Claims) -> String {
        let token = token(self.state(), claims);
        ask(&mut self.secured().await, &xoauth2(user, &token)).await
    }

    /// The answer to a message sent with BDAT in a session of its own.
    async fn sends(&self, message: &str) -> String {
        send(&mut self.signed_in().await, message).await
    }
}

fn xoauth2(user: &str, token: &str) -> String {
    let blob = STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"));
    format!("AUTH XOAUTH2 {blob}")
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> String {
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    reply(stream).await
}

/// One reply, its lines joined by `\n`; empty when the connection ended.
async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut lines = String::new();
    let mut line = Vec::new();
    while let Ok(octet) = stream.read_u8().await {
        line.push(octet);
        if line.ends_with(b"\r\n") {
            lines.push_str(std::str::from_utf8(&line[..line.len() - 2]).unwrap());
            if line[3] == b' ' {
                return lines;
            }
            lines.push('\n');
            line.clear();
        }
    }
    lines
}

/// MAIL, RCPT and BDAT in one flight; the last reply, with the others checked.
async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), message: &str) -> String {
    let flight = format!(
        "MAIL FROM:<{USER}> SIZE={0}\r\nRCPT TO:<a@example.net>\r\nBDAT {0} LAST\r\n{message}",
        message.len()
    );
    stream.write_all(flight.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(reply(stream).await, "250 2.1.0 Sender OK");
    assert_eq!(reply(stream).await, "250 2.1.5 Recipient OK");
    reply(stream).await
}

fn from(address: &str) -> String {
    MESSAGE.replace(USER, address)
}
