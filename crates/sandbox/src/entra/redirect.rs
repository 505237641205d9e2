//! Redirect URIs: which of a request's match a registered one, and how an answer rides on it.

use url::Url;

use crate::scenario::App;

/// A redirect URI that the app has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// As the client wrote it: the token request must repeat it.
    pub(crate) as_written: String,
    /// Where the browser goes; a URI without a path returns with `/`.
    pub(crate) url: Url,
    /// Registered for a single-page app.
    pub(crate) spa: bool,
    /// Registered for a mobile or desktop app.
    pub(crate) public: bool,
}

impl Redirect {
    /// The registered redirect that `requested` matches.
    pub(crate) fn find(app: &App, requested: &str) -> Option<Self> {
        let url = Url::parse(requested).ok()?;
        if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let among = |registered: &[String]| registered.iter().any(|r| matches(r, &url));
        let spa = among(&app.spa_redirect_uris);
        let web = among(&app.redirect_uris);
        let public = !web && among(&app.public_redirect_uris);
        (spa || web || public).then(|| Self {
            as_written: requested.to_owned(),
            url,
            spa,
            public,
        })
    }
}

/// Scheme, host, path (its case too) and query must be equal; the port of a loopback name
/// is ignored (RFC 8252 §7.3).
fn matches(registered: &str, requested: &Url) -> bool {
    let Ok(registered) = Url::parse(registered) else {
        return false;
    };
    let loopback = matches!(requested.host_str(), Some("localhost" | "127.0.0.1"));
    registered.scheme() == requested.scheme()
        && registered.host() == requested.host()
        && registered.path() == requested.path()
        && registered.query() == requested.query()
        && (loopback || registered.port_or_known_default() == requested.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn accepts(registered: &str, requested: &str) -> bool {
        let mut app = Scenario::default().apps[0].clone();
        app.redirect_uris = vec![registered.to_owned()];
        Redirect::find(&app, requested).is_some()
    }

    #[test]
    fn only_the_port_of_localhost_is_free() {
        assert!(accepts("http://localhost", "http://localhost"));
        assert!(accepts("http://localhost", "http://localhost/"));
        assert!(accepts("http://localhost", "http://localhost:49152"));
        assert!(accepts(
            "http://localhost:5000/cb",
            "http://localhost:6000/cb"
        ));
        assert!(accepts("http://127.0.0.1/cb", "http://127.0.0.1:6000/cb"));
        assert!(accepts(
            "https://app.example/cb",
            "https://app.example:443/cb"
        ));

        assert!(!accepts("http://localhost", "http://127.0.0.1"));
        assert!(!accepts("http://localhost", "https://localhost"));
        assert!(!accepts("http://localhost", "http://[::1]"));
        assert!(!accepts("http://localhost/cb", "http://localhost/CB"));
        assert!(!accepts("http://localhost/cb", "http://localhost/cb/"));
        assert!(!accepts("http://localhost/cb", "http://localhost/cb?x=1"));
        assert!(!accepts(
            "https://app.example/cb",
            "https://app.example:444/cb"
        ));
        assert!(!accepts(
            "http://localhost",
            "http://localhost.evil.example"
        ));
        assert!(!accepts("http://localhost", "http://user@localhost"));
        assert!(!accepts("http://localhost", "http://localhost/#f"));
        assert!(!accepts("http://localhost", "not a uri"));
    }

    #[test]
    fn a_pathless_uri_returns_with_a_slash() {
        let app = &Scenario::default().apps[1];
        let redirect = Redirect::find(app, "http://localhost:1234").unwrap();
        assert_eq!(redirect.url.as_str(), "http://localhost:1234/");
        assert_eq!(redirect.as_written, "http://localhost:1234");
    }
}
