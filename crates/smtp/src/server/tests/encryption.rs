//! Before, at and behind TLS.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_follows_starttls_in_clear_is_never_used() {
    let tls = Tls::new();
    let handler = Recorder::default();
    let server = served(
        Some(tls.acceptor),
        TlsPolicy::Starttls,
        handler.clone(),
        Limits::default(),
    );
    let input = b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<evil@b>\r\n";
    let said = heard(server, input).await;
    assert_eq!(codes(&said), [220, 250, 503]);
    assert!(handler.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tls_starts_the_session_anew_and_allows_auth() {
    let tls = Tls::new();
    let handler = Recorder::default();
    let (mut client, serving) = served(
        Some(tls.acceptor),
        TlsPolicy::Starttls,
        handler.clone(),
        Limits::default(),
    );
    assert_eq!(codes(&read_reply(&mut client).await), [220]);
    for (command, code) in [
        ("EHLO a", 250),
        ("AUTH PLAIN YWI=", 538),
        ("MAIL FROM:<a@b>", 250),
        ("STARTTLS", 220),
    ] {
        assert_eq!(ask(&mut client, command).await, code, "{command}");
    }
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = tls.connector.connect(name, client).await.unwrap();
    for (command, code) in [
        ("RCPT TO:<c@d>", 503),
        ("MAIL FROM:<a@b>", 503),
        ("EHLO a", 250),
        ("RCPT TO:<c@d>", 503),
        ("STARTTLS", 503),
        ("AUTH PLAIN YWI=", 235),
        ("QUIT", 221),
    ] {
        assert_eq!(ask(&mut client, command).await, code, "{command}");
    }
    drop(client);
    serving.await.unwrap().unwrap();
    assert_eq!(handler.events(), ["reset", "tls TLSv1_3", "PLAIN ab"]);
}

#[tokio::test(start_paused = true)]
async fn implicit_tls_greets_inside_and_offers_no_more() {
    let tls = Tls::new();
    let (client, _) = served(
        Some(tls.acceptor),
        TlsPolicy::Implicit,
        Recorder::default(),
        Limits::default(),
    );
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = tls.connector.connect(name, client).await.unwrap();
    assert_eq!(codes(&read_reply(&mut client).await), [220]);
    client.write_all(b"EHLO a\r\n").await.unwrap();
    let hello = read_reply(&mut client).await;
    assert!(
        hello.contains("AUTH PLAIN") && !hello.contains("STARTTLS"),
        "{hello}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_nobody_authenticates() {
    let (mut client, _) = served(
        None,
        TlsPolicy::Starttls,
        Recorder::default(),
        Limits::default(),
    );
    read_reply(&mut client).await;
    assert_eq!(ask(&mut client, "EHLO a").await, 250);
    assert_eq!(ask(&mut client, "STARTTLS").await, 502);
    assert_eq!(ask(&mut client, "AUTH PLAIN YWI=").await, 538);
}

/// A throw-away certificate for `localhost`, and a client that trusts it.
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key =
            rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
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
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
        }
    }
}
