//! Requests on loopback: what leaves, what comes back, what is refused.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

use super::*;
use crate::probe::{read_request, respond, tls, trusting};

fn request(url: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        url: url.into(),
        headers: vec![],
        body: None,
    }
}

fn direct() -> HttpSettings {
    HttpSettings {
        proxy: ProxySetting::Direct,
        ..HttpSettings::new(tls())
    }
}

async fn perform(http: &Http, request: &HttpRequest) -> Result<HttpResponse, Failure> {
    let url = Url::parse(&request.url).unwrap();
    let performed = http.perform(request, url, Reach::Anywhere).await;
    performed.map_err(|unperformed| unperformed.failure)
}

/// Answers one request; returns its head.
async fn serve(listener: TcpListener, status: u16, headers: &str, body: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (head, _) = read_request(&mut stream).await;
    respond(&mut stream, status, headers, body).await;
    head
}

async fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?q=1", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn a_redirect_comes_back_as_it_is() {
    let (listener, url) = bound().await;
    let http = Http::new(direct()).unwrap();
    let asked = request(&url);
    let (response, head) = tokio::join!(
        perform(&http, &asked),
        serve(
            listener,
            302,
            "Location: https://elsewhere.example/\r\n",
            "gone"
        )
    );

    let response = response.unwrap();
    assert_eq!(
        (response.status, response.body.0.as_slice()),
        (302, &b"gone"[..])
    );
    assert_eq!(
        response.header("location"),
        Some("https://elsewhere.example/")
    );
    assert!(head.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("user-agent: postrider/0.1"), "{head}");
}

#[tokio::test]
async fn a_body_over_the_cap_is_refused() {
    for (body, fits) in [("x".repeat(100), true), ("x".repeat(101), false)] {
        let (listener, url) = bound().await;
        let http = Http::new(HttpSettings {
            body_cap: 100,
            ..direct()
        })
        .unwrap();
        let asked = request(&url);
        let (response, _) = tokio::join!(perform(&http, &asked), serve(listener, 200, "", &body));

        match response {
            Ok(response) => assert!(fits && response.body.0.len() == 100),
            Err(failure) => assert!(!fits && failure.kind == FailureKind::Refused),
        }
    }
}

#[tokio::test]
async fn a_request_a_plugin_may_not_make_never_leaves() {
    let http = Http::new(direct()).unwrap();
    let plain = || request("http://127.0.0.1:1/");
    let header = |name: &str, value: &str| HttpRequest {
        headers: vec![(name.into(), value.into())],
        ..plain()
    };
    for (asked, told) in [
        (header("X-A", "b\r\nX-C: d"), "header field x-a"),
        (header("X-A", "b\0"), "header field x-a"),
        (header("X A", "b"), "no header field name"),
        (header("X-A: b\r\nX-C", "d"), "no header field name"),
        (header("Host", "other.example"), "the host's to set"),
        (header("Content-Length", "0"), "the host's to set"),
        (header("TRANSFER-ENCODING", "chunked"), "the host's to set"),
        (header("User-Agent", "me"), "the host's to set"),
        (header("X-A", &"b".repeat(HEADER_OCTETS)), "too many header"),
        (
            HttpRequest {
                headers: vec![("A".into(), "b".into()); 65],
                ..plain()
            },
            "too many header",
        ),
        (
            HttpRequest {
                method: "CONNECT".into(),
                ..plain()
            },
            "method",
        ),
        (
            HttpRequest {
                method: "GET /x".into(),
                ..plain()
            },
            "method",
        ),
        (
            HttpRequest {
                body: Some(Octets(vec![0; BODY_OCTETS + 1])),
                ..plain()
            },
            "1 MiB",
        ),
        (request("http://u:p@127.0.0.1:1/"), "user name"),
        (
            request(&format!("http://127.0.0.1:1/{}", "x".repeat(URL_OCTETS))),
            "too long",
        ),
    ] {
        let failure = perform(&http, &asked).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
        assert!(failure.message.contains(told), "{failure:?}");
    }
}

#[tokio::test]
async fn a_name_that_leads_into_the_network_is_refused_where_only_the_plugin_names_it() {
    let (listener, _) = bound().await;
    let port = listener.local_addr().unwrap().port();
    let asked = request(&format!("http://localhost:{port}/"));
    let url = Url::parse(&asked.url).unwrap();
    let http = Http::new(direct()).unwrap();

    let unperformed = http.perform(&asked, url, Reach::Public).await.unwrap_err();
    let failure = unperformed.failure;
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.contains("no public address"), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_its_query_is_not_told() {
    let (listener, _) = bound().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let asked = request(&format!("http://{address}/?code=canary"));

    let failure = perform(&Http::new(direct()).unwrap(), &asked)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(
        failure.message.contains(&address.to_string()),
        "{failure:?}"
    );
    assert!(!failure.message.contains("canary"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_unreachable_in_time() {
    let (listener, url) = bound().await;
    let http = Http::new(direct()).unwrap();
    let asked = request(&url);
    let silent = async {
        let (stream, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    };
    let failure = tokio::select! {
        result = perform(&http, &asked) => result.unwrap_err(),
        () = silent => unreachable!(),
    };

    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.message.contains("within 30 s"), "{failure:?}");
}

struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn certificate(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    Certificate {
        chain: vec![made.cert.der().clone()],
        key: PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()),
    }
}

fn trust(certificate: &Certificate) -> HttpSettings {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.chain[0].clone()).unwrap();
    HttpSettings {
        tls: trusting(roots),
        ..direct()
    }
}

fn acceptor(certificate: Certificate) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificate.chain, certificate.key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted_and_names_the_host() {
    let good = certificate("localhost");
    let trusts_good = trust(&good);
    for (served, trusted) in [
        (good, true),
        (certificate("localhost"), false),
        (certificate("other.example"), false),
    ] {
        let (listener, _) = bound().await;
        let port = listener.local_addr().unwrap().port();
        let acceptor = acceptor(served);
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.ok()?;
            let (head, _) = read_request(&mut stream).await;
            respond(&mut stream, 200, "", "secure").await;
            Some(head)
        };
        let http = Http::new(trusts_good.clone()).unwrap();
        let asked = request(&format!("https://localhost:{port}/"));
        let (response, head) = tokio::join!(perform(&http, &asked), server);

        match response {
            Ok(response) => assert!(trusted && response.body.0 == b"secure"),
            Err(failure) => {
                assert!(!trusted && failure.kind == FailureKind::Unreachable);
                assert!(failure.message.contains("certificate"), "{failure:?}");
                assert!(head.is_none_or(|head| head.is_empty()), "nothing was sent");
            }
        }
    }
}

#[tokio::test]
async fn https_goes_through_the_proxy_and_plain_http_and_exceptions_do_not() {
    let (proxy, _) = bound().await;
    let settings = HttpSettings {
        proxy: ProxySetting::Explicit {
            url: format!("http://user:hunter2@{}", proxy.local_addr().unwrap()),
            no_proxy: "direct.invalid".into(),
        },
        ..direct()
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
    let http = Http::new(settings).unwrap();
    assert!(!format!("{http:?}").contains("hunter2"));

    // Even for hosts that must be public, the proxy itself may be anywhere.
    let asked = request("https://login.invalid/token?secret");
    let url = Url::parse(&asked.url).unwrap();
    let (response, head) = tokio::join!(
        http.perform(&asked, url, Reach::Public),
        serve(proxy, 403, "", "")
    );
    let failure = response.unwrap_err().failure;
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(!failure.message.contains("hunter2"), "{failure:?}");
    assert!(head.starts_with("CONNECT login.invalid:443 "), "{head}");
    assert!(
        head.to_lowercase().contains("proxy-authorization: basic"),
        "{head}"
    );

    let (listener, url) = bound().await;
    let asked = request(&url);
    let (response, _) = tokio::join!(perform(&http, &asked), serve(listener, 200, "", ""));
    assert_eq!(response.unwrap().status, 200);

    let failure = perform(&http, &request("https://direct.invalid/"))
        .await
        .unwrap_err();
    assert!(failure.message.contains("direct.invalid"), "{failure:?}");
}

#[test]
fn the_environment_names_the_proxy_in_upper_or_lower_case() {
    let from = |variables: &'static [(&str, &str)]| {
        proxy_address(ProxySetting::Environment, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    };
    let pair = |url: &str, except: &str| Some((url.to_owned(), except.to_owned()));

    assert_eq!(from(&[]), None);
    assert_eq!(from(&[("HTTPS_PROXY", "")]), None);
    assert_eq!(from(&[("HTTP_PROXY", "http://p")]), None);
    assert_eq!(from(&[("https_proxy", "http://p")]), pair("http://p", ""));
    assert_eq!(
        from(&[
            ("HTTPS_PROXY", "http://p"),
            ("https_proxy", "http://q"),
            ("no_proxy", "a,b")
        ]),
        pair("http://p", "a,b")
    );
    assert_eq!(
        host_of("http://u:p@proxy.example:3128").as_deref(),
        Some("proxy.example")
    );
    assert_eq!(
        host_of("proxy.example:3128").as_deref(),
        Some("proxy.example")
    );
}

#[test]
fn a_proxy_that_is_no_url_is_an_error_that_does_not_repeat_it() {
    let error = Http::new(HttpSettings {
        proxy: ProxySetting::Explicit {
            url: "http://user:hunter2@[".into(),
            no_proxy: String::new(),
        },
        ..direct()
    })
    .unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
