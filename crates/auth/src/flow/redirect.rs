//! The loopback listener that a sign-in in the browser comes back to (RFC 8252 §7.3).
//!
//! It lives for one redirect. Whoever can reach a loopback port can talk to it, so it takes
//! only a `GET` for its own host and path that answers the request that was made (the same
//! `state`), and says nothing of what it was sent.
//!
//! The browser that brought the redirect waits: only whoever signs in knows whether the code
//! was good for anything, so the page comes from there ([`ReturnedBrowser`]).

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown};
use std::time::Duration;

use postrider_plugin::wire::Secret;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::scrub::one_line;

/// The largest request head; an authorization code is 2 KB at most.
const HEAD_OCTETS: usize = 16 << 10;
/// Browsers open connections ahead and leave them silent: several at once, none for long.
const CONNECTIONS: usize = 16;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often another port is tried when only one of the two families has it free.
const PORTS_TRIED: usize = 16;
/// The longest paragraph of a page, in characters.
const PARAGRAPH_CHARS: usize = 1000;

/// A listener for one redirect.
#[derive(Debug)]
pub(crate) struct Listener {
    redirect_uri: Url,
    /// The same as it was given but for the port: providers compare it with what is
    /// registered, and to some of them `http://localhost` is not `http://localhost/`.
    as_given: String,
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Listens where the redirect URI `given` says, on a free port if it names none.
    pub(crate) async fn bind(given: &str) -> Result<Self, String> {
        let url = Url::parse(given).map_err(|_| "the redirect uri is not a url".to_owned())?;
        if url.scheme() != "http" || !url.username().is_empty() || url.password().is_some() {
            return Err("the redirect uri is not a plain http url".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the redirect uri has a query or fragment".into());
        }
        let addresses: Vec<IpAddr> = match url.host() {
            Some(Host::Domain("localhost")) => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Some(Host::Ipv4(address)) if address.is_loopback() => vec![address.into()],
            Some(Host::Ipv6(address)) if address.is_loopback() => vec![address.into()],
            _ => return Err("the redirect uri does not lead to this machine's loopback".into()),
        };
        let sockets = bind_all(&addresses, url.port())
            .await
            .map_err(|error| format!("cannot listen for the redirect: {error}"))?;
        let port = sockets
            .first()
            .and_then(|socket| socket.local_addr().ok())
            .map(|address| address.port());
        let mut redirect_uri = url;
        if redirect_uri.set_port(port).is_err() || port.is_none() {
            return Err("cannot listen for the redirect".into());
        }
        let as_given = match redirect_uri.as_str() {
            with if given.ends_with('/') => with,
            with => with.trim_end_matches('/'),
        };
        Ok(Self {
            as_given: as_given.to_owned(),
            redirect_uri,
            sockets,
        })
    }

    /// The redirect URI with its port.
    pub(crate) fn redirect_uri(&self) -> &str {
        &self.as_given
    }

    /// The URL the browser comes back to, for a request made with this `state`, and the
    /// browser, which waits for a page.
    pub(crate) async fn redirected(&self, state: Option<&str>) -> (Secret, ReturnedBrowser) {
        let mut visits = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.accept(), if visits.len() < CONNECTIONS => {
                    let visit = visit(stream, self.redirect_uri.clone(), state.map(str::to_owned));
                    visits.spawn(timeout(HEAD_TIMEOUT, visit));
                }
                Some(visit) = visits.join_next(), if !visits.is_empty() => {
                    if let Ok(Ok(Some(redirect))) = visit {
                        return redirect;
                    }
                }
            }
        }
    }

    async fn accept(&self) -> TcpStream {
        loop {
            let accepts = self.sockets.iter().map(|socket| Box::pin(socket.accept()));
            let (accepted, ..) = futures_util::future::select_all(accepts).await;
            match accepted {
                Ok((stream, _)) => return stream,
                // Out of descriptors, or the peer is gone already: neither ends the wait.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// Listens on all of `addresses` at one port, which is free on each of them.
///
/// A browser may try either family of `localhost`, and what listens on the other one would
/// receive the code.
async fn bind_all(addresses: &[IpAddr], port: Option<u16>) -> io::Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut sockets: Vec<TcpListener> = Vec::new();
        let mut chosen = port.unwrap_or(0);
        let mut taken = None;
        for address in addresses {
            match TcpListener::bind((*address, chosen)).await {
                Ok(socket) => {
                    chosen = socket.local_addr()?.port();
                    sockets.push(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    taken = Some(error);
                    break;
                }
                // This machine lacks the family.
                Err(_) if !sockets.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        match taken {
            None => return Ok(sockets),
            Some(error) if port.is_some() || tries == PORTS_TRIED => return Err(error),
            Some(_) => {}
        }
    }
}

/// A browser that came back from a sign-in and waits for the page that says how it went.
///
/// Dropped without one, it is told where to look.
pub struct ReturnedBrowser(Option<std::net::TcpStream>);

impl ReturnedBrowser {
    /// Ends its wait with a page: a heading and paragraphs of plain text.
    pub fn show(mut self, heading: &str, paragraphs: &[&str]) {
        self.answer("200 OK", heading, paragraphs);
    }

    fn answer(&mut self, status: &str, heading: &str, paragraphs: &[&str]) {
        let Some(mut stream) = self.0.take() else {
            return;
        };
        // A page fits into the socket's buffer, so nothing here waits. Whether the browser is
        // still there to read it changes nothing.
        let _ = stream.write_all(response(status, heading, paragraphs).as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
    }
}

impl Drop for ReturnedBrowser {
    fn drop(&mut self) {
        self.answer(
            "200 OK",
            "Back to Postrider",
            &["Postrider says where it was started how the sign-in went. You may close this window."],
        );
    }
}

impl fmt::Debug for ReturnedBrowser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReturnedBrowser")
    }
}

/// One connection: the redirected URL, if that is what it brought.
async fn visit(
    mut stream: TcpStream,
    redirect_uri: Url,
    state: Option<String>,
) -> Option<(Secret, ReturnedBrowser)> {
    let head = read_head(&mut stream).await?;
    let verdict = judge(&head, &redirect_uri, state.as_deref());
    let mut browser = ReturnedBrowser(stream.into_std().ok());
    let (status, heading, text) = match verdict {
        Verdict::Redirect(url) => return Some((url, browser)),
        Verdict::NotFound => ("404 Not Found", STRAY, STRAY_TEXT),
        Verdict::Bad => ("400 Bad Request", STRAY, STRAY_TEXT),
        Verdict::Another => {
            tracing::warn!(
                "a browser came back from another sign-in than the one waited for: an older \
                 window, or somebody else's; still waiting"
            );
            (
                "400 Bad Request",
                "Another sign-in",
                "This window is not of the sign-in that Postrider waits for, so nothing came of \
                 it. Finish the newest one: its address is where Postrider was started.",
            )
        }
    };
    browser.answer(status, heading, &[text]);
    None
}

/// The page as an HTTP response: it loads nothing, runs nothing, and is kept nowhere.
fn response(status: &str, heading: &str, paragraphs: &[&str]) -> String {
    let heading = escaped(heading);
    let paragraphs: Vec<String> = paragraphs.iter().map(|text| escaped(text)).collect();
    let text = format!("<p>{}</p>", paragraphs.join("</p><p>"));
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{heading}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:1.1rem/1.5 \
         system-ui,sans-serif;margin:20vh auto 0;max-width:32rem;padding:0 1rem;color-scheme:\
         light dark;overflow-wrap:anywhere}}</style><h1>{heading}</h1>{text}</html>\n"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}

/// `text` as HTML shows it, on one line and not too long.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in one_line(text, PARAGRAPH_CHARS).chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

/// The request's head, up to and including its empty line.
async fn read_head(stream: &mut TcpStream) -> Option<Zeroizing<Vec<u8>>> {
    let mut head = Zeroizing::new(Vec::with_capacity(HEAD_OCTETS));
    while head.len() < HEAD_OCTETS {
        let mut chunk = Zeroizing::new([0; 2048]);
        let room = chunk.len().min(HEAD_OCTETS - head.len());
        let length = stream.read(&mut chunk[..room]).await.ok()?;
        if length == 0 {
            return None;
        }
        head.extend_from_slice(&chunk[..length]);
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Some(head);
        }
    }
    Some(head)
}

enum Verdict {
    /// The sign-in came back; it may have failed.
    Redirect(Secret),
    /// A sign-in came back, and not this one.
    Another,
    /// Something else a browser asks for, such as an icon.
    NotFound,
    /// Nothing a browser sends here.
    Bad,
}

/// What a request head is for.
fn judge(head: &[u8], redirect_uri: &Url, state: Option<&str>) -> Verdict {
    let Ok(head) = std::str::from_utf8(head) else {
        return Verdict::Bad;
    };
    let Some((head, _)) = head.split_once("\r\n\r\n") else {
        return Verdict::Bad;
    };
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (Some("GET"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) = (
        request.next(),
        request.next(),
        request.next(),
        request.next(),
    ) else {
        return Verdict::Bad;
    };
    // A page elsewhere whose name leads to loopback would say its own name here.
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then_some(value.trim())
    });
    let ours = &redirect_uri[url::Position::BeforeHost..url::Position::AfterPort];
    if !host.is_some_and(|host| host.eq_ignore_ascii_case(ours)) {
        return Verdict::Bad;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != redirect_uri.path() || query.is_empty() {
        return Verdict::NotFound;
    }
    let mut url = redirect_uri.clone();
    url.set_query(Some(query));
    let parameter = |wanted: &str| {
        url.query_pairs()
            .find_map(|(name, value)| (name == wanted).then_some(value))
    };
    if parameter("error").is_none() && parameter("code").is_none() {
        return Verdict::NotFound;
    }
    if state.is_some() && parameter("state").as_deref() != state {
        return Verdict::Another;
    }
    Verdict::Redirect(Secret::new(url.as_str()))
}

const STRAY: &str = "Nothing here";
const STRAY_TEXT: &str = "Postrider waits here for a sign-in to come back, and this was not it.";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn get(uri: &str, target: &str, host: Option<&str>) -> String {
        let url = Url::parse(uri).unwrap();
        let authority = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        let mut stream = TcpStream::connect(&authority).await.unwrap();
        let host = host.unwrap_or(&authority);
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn the_redirect_arrives_whatever_the_browser_asks_before() {
        let listener = Listener::bind("http://localhost").await.unwrap();
        let uri = listener.redirect_uri().to_owned();

        let browser = async {
            // Opened ahead, and silent.
            let port = Url::parse(&uri).unwrap().port().unwrap();
            let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let icon = get(&uri, "/favicon.ico", None).await;
            assert!(icon.starts_with("HTTP/1.1 404"), "{icon}");
            let forged = get(&uri, "/?code=evil&state=other", None).await;
            assert!(forged.starts_with("HTTP/1.1 400"), "{forged}");
            let rebound = get(&uri, "/?code=evil&state=s", Some("evil.example")).await;
            assert!(rebound.starts_with("HTTP/1.1 400"), "{rebound}");
            let page = get(&uri, "/?code=c-1&state=s", None).await;
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
            assert!(
                page.contains("<h1>Signed in</h1><p>as &lt;b&gt;</p>"),
                "{page}"
            );
            assert!(!page.contains("c-1"), "{page}");
        };
        let host = async {
            let (url, browser) = listener.redirected(Some("s")).await;
            browser.show("Signed in", &["as <b>"]);
            url
        };
        let (url, ()) = tokio::join!(host, browser);

        assert_eq!(url.expose(), format!("{uri}/?code=c-1&state=s"));
    }

    #[tokio::test]
    async fn a_browser_that_nobody_answers_is_told_where_to_look() {
        let listener = Listener::bind("http://localhost").await.unwrap();
        let uri = listener.redirect_uri().to_owned();

        let host = async { drop(listener.redirected(None).await) };
        let (page, ()) = tokio::join!(get(&uri, "/?code=1", None), host);

        assert!(page.contains("<h1>Back to Postrider</h1>"), "{page}");
    }

    #[test]
    fn a_page_shows_text_as_text_and_loads_nothing() {
        let evil = "<script>alert('x')</script>\r\nSet-Cookie: \"a\" & b";
        let page = response("200 OK", evil, &[evil, &"x".repeat(5000)]);

        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("Set-Cookie"), "{head}");
        assert!(head.contains("default-src 'none'"), "{head}");
        assert!(!body.contains("<script"), "{body}");
        assert!(!body.contains("http"), "{body}");
        assert!(
            body.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            "{body}"
        );
        assert!(body.contains("&quot;a&quot; &amp; b"), "{body}");
        assert!(body.len() < 4000, "{}", body.len());
    }

    #[tokio::test]
    async fn the_redirect_uri_is_as_it_was_registered_but_for_the_port() {
        for registered in [
            "http://localhost",
            "http://localhost/",
            "http://127.0.0.1/Back",
            "http://localhost/back/",
        ] {
            let listener = Listener::bind(registered).await.unwrap();
            let uri = listener.redirect_uri();
            let port = listener.sockets[0].local_addr().unwrap().port();
            assert_eq!(uri.replace(&format!(":{port}"), ""), registered);
            assert_ne!(uri, registered);
        }
    }

    #[tokio::test]
    async fn both_families_of_localhost_are_listened_on() {
        let listener = Listener::bind("http://localhost/done").await.unwrap();
        let ports: Vec<_> = listener
            .sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap())
            .collect();

        assert!(ports.iter().all(|address| address.ip().is_loopback()));
        assert!(
            ports
                .iter()
                .all(|address| address.port() == ports[0].port())
        );
        let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        assert_eq!(ports.len(), if has_v6 { 2 } else { 1 });
    }

    #[cfg(target_os = "linux")] // elsewhere 127.0.0.1 is the only address there is
    #[tokio::test]
    async fn an_address_is_listened_on_itself_and_not_another_one() {
        let listener = Listener::bind("http://127.0.0.2/").await.unwrap();
        let address = listener.sockets[0].local_addr().unwrap();
        assert_eq!(
            listener.redirect_uri(),
            format!("http://127.0.0.2:{}/", address.port())
        );
        assert_eq!(address.ip().to_string(), "127.0.0.2");
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        for bad in [
            "https://localhost/",
            "http://example.org/",
            "http://192.0.2.1/",
            "http://localhost.example/",
            "http://u@localhost/",
            "http://localhost/?x",
            "nonsense",
        ] {
            assert!(Listener::bind(bad).await.is_err(), "{bad}");
        }
    }

    fn judged(head: &str, state: Option<&str>) -> &'static str {
        let uri = Url::parse("http://localhost:4000/cb").unwrap();
        match judge(head.as_bytes(), &uri, state) {
            Verdict::Redirect(_) => "redirect",
            Verdict::Another => "another",
            Verdict::NotFound => "not found",
            Verdict::Bad => "bad",
        }
    }

    #[test]
    fn only_a_get_of_our_path_and_state_is_the_redirect() {
        const HOST: &str = "HTTP/1.1\r\nHost: localhost:4000\r\n\r\n";
        for (start, state, verdict) in [
            ("GET /cb?code=1&state=s", Some("s"), "redirect"),
            ("GET /cb?code=1", None, "redirect"),
            ("GET /cb?error=access_denied&state=s", Some("s"), "redirect"),
            ("GET /cb?code=1&state=t", Some("s"), "another"),
            ("GET /cb?code=1", Some("s"), "another"),
            ("GET /cb?other=1", Some("s"), "not found"),
            ("GET /cb", None, "not found"),
            ("GET /?code=1", None, "not found"),
            ("GET /cb/?code=1", None, "not found"),
            ("POST /cb?code=1", None, "bad"),
            ("GET  /cb?code=1", None, "bad"),
        ] {
            assert_eq!(
                judged(&format!("{start} {HOST}"), state),
                verdict,
                "{start}"
            );
        }
        for head in [
            "",
            "GET /cb?code=1 HTTP/1.1\r\n\r\n",
            "GET /cb?code=1 HTTP/1.1\r\nHost: localhost:4000",
        ] {
            assert_eq!(judged(head, None), "bad", "{head}");
        }
    }
}
