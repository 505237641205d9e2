//! Against servers that answer as they please.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// In every part of a request that an error must not repeat.
const CANARY: &str = "canary-7f3b";

fn request(method: Method, url: &str) -> Request {
    Request {
        method,
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: TIMEOUT,
        max_octets: RESPONSE_OCTETS,
        ca_file: None,
        danger_plaintext: false,
    }
}

fn get(url: &str) -> Request {
    request(Method::Get, url)
}

fn anywhere() -> Client {
    Client::new(Reach::Anywhere)
}

/// A server that reads one request from each connection, answers `reply` and closes; and
/// what it read, in the end.
async fn answering(reply: impl Into<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let reply = reply.into();
    let serving = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            stream.write_all(&reply).await.unwrap();
            seen.push(request);
            if seen.last().is_some_and(|request| request.contains("last")) {
                return seen;
            }
        }
    });
    (url, serving)
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    loop {
        let mut octets = [0; 4096];
        let count = stream.read(&mut octets).await.unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&octets[..count]);
        let seen = String::from_utf8_lossy(&text);
        if let Some((head, body)) = seen.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() == length {
                return seen.into_owned();
            }
        }
    }
}

#[tokio::test]
async fn a_request_arrives_whole_and_so_does_the_response() {
    let reply = "HTTP/1.1 418 Teapot\r\nX-A: 1\r\nContent-Length: 3\r\nX-a: 2\r\n\r\n\0\u{fc}";
    let (url, seen) = answering(reply).await;
    let mut request = request(Method::Post, &format!("{}/last?q=1#f", with_user(&url)));
    request.headers = vec![
        ("X-Key".to_owned(), "k1".into()),
        ("X-Key".to_owned(), "k2".into()),
        ("Content-Type".to_owned(), "text/plain".into()),
    ];
    request.body = b"ping".to_vec();

    let response = anywhere().send(request).await.unwrap();

    assert_eq!(response.status, 418);
    assert_eq!(response.body, "\0\u{fc}".as_bytes());
    let fields: Vec<_> = response
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    for field in [("x-a", "1"), ("x-a", "2"), ("content-length", "3")] {
        assert!(fields.contains(&field), "{fields:?}");
    }
    let seen = seen.await.unwrap().remove(0);
    assert!(seen.starts_with("POST /last?q=1 HTTP/1.1\r\n"), "{seen}");
    for line in [
        "x-key: k1",
        "x-key: k2",
        "content-type: text/plain",
        "user-agent: postrider/0.1",
        // user:secret
        "authorization: Basic dXNlcjpzZWNyZXQ=",
    ] {
        assert!(seen.contains(&format!("{line}\r\n")), "{line}: {seen}");
    }
    assert!(seen.ends_with("\r\n\r\nping"), "{seen}");
    assert!(!seen.contains("referer"), "{seen}");
}

fn with_user(url: &str) -> String {
    url.replace("http://", "http://user:secret@")
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let (url, seen) = answering(
        "HTTP/1.1 302 Found\r\nLocation: /last\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    let client = anywhere();

    let response = client.send(get(&format!("{url}/first"))).await.unwrap();
    client.send(get(&format!("{url}/last"))).await.unwrap();

    assert_eq!(response.status, 302);
    assert!(
        response
            .headers
            .contains(&("location".to_owned(), "/last".to_owned()))
    );
    assert_eq!(seen.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_response_is_bounded_however_it_is_framed() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n3\r\n345\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n12345",
    ] {
        let (url, _serving) = answering(reply).await;
        let within = |max_octets| Request {
            max_octets,
            ..get(&url)
        };
        let client = anywhere();

        let whole = client.send(within(5)).await.unwrap();
        assert_eq!(whole.body, b"12345", "{reply}");
        let failure = client.send(within(4)).await.unwrap_err();
        assert_eq!(failure.code, "http.response_too_large", "{reply}");
        assert!(!failure.retryable);
    }
}

#[tokio::test]
async fn a_request_is_bounded_before_anything_is_connected() {
    let (url, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let with_body = |octets| Request {
        body: vec![b'x'; octets],
        ..request(Method::Post, &format!("{url}/last"))
    };
    let client = anywhere();

    let failure = client
        .send(with_body(REQUEST_OCTETS + 1))
        .await
        .unwrap_err();
    assert_eq!(failure.code, "http.request_too_large");
    client.send(with_body(REQUEST_OCTETS)).await.unwrap();
    assert_eq!(seen.await.unwrap().len(), 1);

    let long = format!("{url}/{}", "x".repeat(URL_OCTETS));
    assert_eq!(
        client.send(get(&long)).await.unwrap_err().code,
        "http.invalid"
    );
    for (count, octets) in [(HEADER_FIELDS + 1, 1), (2, HEADER_OCTETS / 2)] {
        let mut request = get(&url);
        request.headers = vec![("x-a".to_owned(), "x".repeat(octets).into()); count];
        let failure = client.send(request).await.unwrap_err();
        assert_eq!(failure.code, "http.invalid", "{count}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/{CANARY}", listener.local_addr().unwrap());
    // Half an answer does not keep the clock from running.
    let _serving = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1";
            stream.write_all(half).await.unwrap();
            open.push(stream);
        }
    });
    for (method, retryable) in [(Method::Get, true), (Method::Post, false)] {
        let request = Request {
            timeout: Duration::from_millis(100),
            ..request(method, &url)
        };

        let failure = anywhere().send(request).await.unwrap_err();

        assert_eq!(failure.code, "network.timeout");
        // What was posted may have arrived.
        assert_eq!(failure.retryable, retryable, "{method:?}");
        assert!(failure.message.contains("100ms"), "{failure}");
    }
}

#[tokio::test]
async fn a_broken_exchange_is_told_from_one_that_never_began() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/{CANARY}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
        }
    });
    for (method, retryable) in [(Method::Get, true), (Method::Post, false)] {
        let failure = anywhere().send(request(method, &url)).await.unwrap_err();
        assert_eq!(failure.code, "network.lost", "{failure}");
        assert_eq!(failure.retryable, retryable, "{method:?}");
    }
    serving.await.unwrap();

    // Nobody listens there any more.
    let failure = anywhere()
        .send(request(Method::Post, &url))
        .await
        .unwrap_err();
    assert_eq!(failure.code, "network.connect", "{failure}");
    assert!(failure.retryable);

    let failure = anywhere()
        .send(get(&format!("https://no-such-host.invalid/{CANARY}")))
        .await
        .unwrap_err();
    assert_eq!(failure.code, "network.dns", "{failure}");
    assert!(failure.retryable);
}

#[tokio::test]
async fn without_tls_nothing_leaves_this_machine() {
    let client = anywhere();
    for elsewhere in [
        "http://hooks.example.org/x",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://127.0.0.1@hooks.example.org/",
        "http://10.0.0.1/",
        "http://[2001:db8::1]/",
        "http://0.0.0.0/",
    ] {
        let failure = client.send(get(elsewhere)).await.unwrap_err();
        assert_eq!(failure.code, "http.plaintext", "{elsewhere}");
    }
    // Allowed, such an address is asked for, and here not found.
    let allowed = Request {
        danger_plaintext: true,
        ..get("http://no-such-host.invalid/")
    };
    let failure = client.send(allowed).await.unwrap_err();
    assert_eq!(failure.code, "network.dns", "{failure}");

    let (url, _serving) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    for here in [
        url.clone(),
        url.replace("127.0.0.1", "localhost"),
        url.replace("127.0.0.1", "127.1"),
        url.replace("127.0.0.1", "a.localhost"),
    ] {
        let answer = client.send(get(&here)).await;
        // Not every resolver knows names below localhost; none may lead elsewhere.
        match answer {
            Ok(response) => assert_eq!(response.status, 204, "{here}"),
            Err(failure) => assert_eq!(failure.code, "network.dns", "{here}"),
        }
    }
}

#[tokio::test]
async fn inside_the_sandbox_nothing_leaves_this_machine_at_all() {
    let client = Client::new(Reach::Loopback);
    for url in ["https://hooks.example.org/x", "http://10.0.0.1/"] {
        let request = Request {
            danger_plaintext: true,
            ..get(url)
        };
        let failure = client.send(request).await.unwrap_err();
        assert_eq!(failure.code, "config.outside_sandbox", "{url}");
    }
    let (url, _serving) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.send(get(&url)).await.unwrap().status, 204);
}

#[tokio::test]
async fn a_name_of_this_machine_leads_nowhere_else() {
    let find = |reach, name: &str| Resolver(reach).resolve(name.parse().unwrap());

    assert!(find(Reach::Loopback, "192.0.2.1").await.is_err());
    assert!(find(Reach::Anywhere, "192.0.2.1").await.is_ok());
    let found = find(Reach::Loopback, "localhost").await;
    assert!(found.is_ok_and(|mut found| found.all(|address| address.ip().is_loopback())));
}

#[tokio::test]
async fn no_header_field_smuggles_another() {
    let (url, seen) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let client = anywhere();
    for (name, value) in [
        ("x-a", "canary-7f3b\r\nx-b: c"),
        ("x-a", "canary-7f3b\nx-b: c"),
        ("x-a", "canary-7f3b\0"),
        ("x-a\r\nx-b", "canary-7f3b"),
        ("x a", "canary-7f3b"),
        ("", "canary-7f3b"),
        ("Host", "canary-7f3b"),
        ("Content-Length", "canary-7f3b"),
        ("transfer-encoding", "canary-7f3b"),
        ("Connection", "canary-7f3b"),
    ] {
        let mut request = get(&url);
        request.headers = vec![(name.to_owned(), value.into())];

        let failure = client.send(request).await.unwrap_err();

        assert_eq!(failure.code, "http.invalid", "{name}");
        let said = failure.to_string();
        assert!(!said.contains(CANARY) && !said.contains('\r'), "{said}");
    }
    client.send(get(&format!("{url}/last"))).await.unwrap();
    assert_eq!(seen.await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_failure_repeats_the_address() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let client = anywhere();
    for url in [
        format!("http://{CANARY}:{CANARY}@{closed}/{CANARY}?{CANARY}"),
        format!("https://{CANARY}:{CANARY}@{closed}/{CANARY}?{CANARY}"),
        format!("https://{CANARY}@no-such-host.invalid/{CANARY}"),
        format!("http://{CANARY}@hooks.example.org/{CANARY}"),
        format!("ftp://{CANARY}@hooks.example.org/{CANARY}"),
        format!("https://hooks.example.org:{CANARY}/"),
        format!("https://hooks.example.org /{CANARY}"),
        CANARY.to_owned(),
        String::new(),
    ] {
        let request = get(&url);
        let shown = format!("{request:?}");

        let failure = client.send(request).await.unwrap_err();

        let said = format!("{failure} {failure:?} {shown}");
        assert!(!said.contains(CANARY), "{said}");
    }
}

/// Connections open at one time, and the most there were.
#[derive(Default)]
struct Crowd {
    open: AtomicUsize,
    most: AtomicUsize,
    answered: AtomicUsize,
}

#[tokio::test]
async fn requests_beyond_sixteen_take_turns() {
    const REQUESTS: usize = 50;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let crowd = Arc::new(Crowd::default());
    let seen = Arc::clone(&crowd);
    let _serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let crowd = Arc::clone(&seen);
            tokio::spawn(async move {
                read_request(&mut stream).await;
                let open = crowd.open.fetch_add(1, Ordering::SeqCst) + 1;
                crowd.most.fetch_max(open, Ordering::SeqCst);
                // All that may come at once have come, or all that are left.
                loop {
                    let left = REQUESTS - crowd.answered.load(Ordering::SeqCst);
                    let crowded = crowd.most.load(Ordering::SeqCst) >= AT_ONCE;
                    if crowded || left < AT_ONCE {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                // One too many would come now.
                for _ in 0..1000 {
                    tokio::task::yield_now().await;
                }
                crowd.open.fetch_sub(1, Ordering::SeqCst);
                crowd.answered.fetch_add(1, Ordering::SeqCst);
                let reply = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                stream.write_all(reply).await.unwrap();
            });
        }
    });
    let client = anywhere();

    let sends = (0..REQUESTS).map(|_| client.send(get(&url)));
    for answer in futures_util::future::join_all(sends).await {
        assert_eq!(answer.unwrap().status, 204);
    }

    assert_eq!(crowd.most.load(Ordering::SeqCst), AT_ONCE);
}

/// An authority of the test's own and a server certificate for `name`.
fn certificates(name: &str) -> (tempfile::NamedTempFile, rustls::ServerConfig) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority_certificate.pem().as_bytes())
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (file, config)
}

/// A server with TLS; answers 204.
async fn secured(config: rustls::ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answer(&mut stream).await;
            }
        }
    });
    port
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    read_request(stream).await;
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn a_server_has_to_prove_its_name() {
    let (ca_file, config) = certificates("localhost");
    let port = secured(config).await;
    let trusting = |url: String| Request {
        ca_file: Some(ca_file.path().to_owned()),
        ..get(&url)
    };
    let client = anywhere();

    let localhost = format!("https://localhost:{port}/");
    let response = client.send(trusting(localhost.clone())).await.unwrap();
    assert_eq!(response.status, 204);

    let failure = client.send(get(&localhost)).await.unwrap_err();
    assert_eq!(failure.code, "tls.failed", "{failure}");
    assert!(!failure.retryable);
    assert!(
        failure.remedy.as_ref().unwrap().contains("ca_file"),
        "{failure}"
    );

    let failure = client
        .send(trusting(format!("https://127.0.0.1:{port}/")))
        .await
        .unwrap_err();
    assert_eq!(failure.code, "tls.failed", "{failure}");
    assert!(failure.message.contains("not for"), "{failure}");

    let failure = client
        .send(Request {
            ca_file: Some("/nonexistent/ca.pem".into()),
            ..get(&localhost)
        })
        .await
        .unwrap_err();
    assert_eq!(failure.code, "config.trust", "{failure}");
}
