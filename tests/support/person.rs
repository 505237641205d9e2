//! A person with a browser that is just good enough for the sandbox's forms.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::sandbox::Sandbox;

/// Somebody at a browser. Keeps its cookies; follows redirects within the sandbox, and stops
/// where one leaves it.
pub(crate) struct Person {
    runtime: Arc<Runtime>,
    http: reqwest::Client,
    authority: Url,
    cookie: Option<String>,
}

/// What the browser shows.
#[derive(Debug)]
pub(crate) struct Page {
    /// The status of its response.
    pub(crate) status: u16,
    /// Its text.
    pub(crate) html: String,
    /// Where the browser was sent to, outside the sandbox.
    pub(crate) landed: Option<Url>,
}

impl Page {
    /// What the page is called.
    pub(crate) fn title(&self) -> &str {
        between(&self.html, "<title>", "</title>").unwrap_or_default()
    }

    /// Where the sign-in ended.
    #[track_caller]
    pub(crate) fn landed(&self) -> &Url {
        self.landed
            .as_ref()
            .unwrap_or_else(|| panic!("the sign-in did not end: {self:?}"))
    }
}

impl Person {
    /// Somebody whose browser trusts `sandbox`.
    pub(crate) fn at(sandbox: &Sandbox) -> Self {
        let ca = fs::read(sandbox.ca_file()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&ca).unwrap())
            .unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
        Self {
            runtime: Arc::new(Builder::new_current_thread().enable_all().build().unwrap()),
            http: reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                // Nothing looks after a connection between two requests.
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
            authority: sandbox.authority().parse().unwrap(),
            cookie: None,
        }
    }

    /// The same sandbox, and a browser where nobody is signed in.
    pub(crate) fn another(&self) -> Self {
        Self {
            runtime: Arc::clone(&self.runtime),
            http: self.http.clone(),
            authority: self.authority.clone(),
            cookie: None,
        }
    }

    /// Opens `url`.
    pub(crate) fn open(&mut self, url: &str) -> Page {
        self.go(self.http.get(url))
    }

    /// Fills in the form of `page` and sends it.
    #[track_caller]
    pub(crate) fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let hidden = "<input type=\"hidden\" name=\"ctx\" value=\"";
        let ctx = between(&page.html, hidden, "\"")
            .unwrap_or_else(|| panic!("no form in {page:?}"))
            .to_owned();
        let mut form = vec![("ctx", ctx.as_str())];
        form.extend_from_slice(fields);
        self.post("sign-in", &form)
    }

    /// Signs in on `page`, unless this browser is signed in already, and accepts what is asked
    /// for.
    pub(crate) fn sign_in(&mut self, page: Page, user: &str, password: &str) -> Page {
        if page.landed.is_some() {
            return page;
        }
        let page = self.submit(&page, &[("login", user), ("passwd", password)]);
        if page.title() == "Permissions requested" {
            return self.submit(&page, &[("decision", "accept")]);
        }
        page
    }

    /// Enters a device's code.
    pub(crate) fn enter_code(&mut self, code: &str) -> Page {
        self.post("device", &[("user_code", code)])
    }

    fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = self
            .http
            .post(self.authority.join(path).unwrap())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.go(request)
    }

    fn go(&mut self, mut request: reqwest::RequestBuilder) -> Page {
        loop {
            if let Some(cookie) = &self.cookie {
                request = request.header("cookie", cookie);
            }
            let (status, headers, html) = self.runtime.block_on(async {
                let response = request.send().await.unwrap();
                let (status, headers) = (response.status(), response.headers().clone());
                (status, headers, response.text().await.unwrap())
            });
            if let Some(cookie) = headers.get("set-cookie") {
                let cookie = cookie.to_str().unwrap();
                self.cookie = cookie.split(';').next().map(str::to_owned);
            }
            let next: Option<Url> = headers
                .get("location")
                .map(|location| self.authority.join(location.to_str().unwrap()).unwrap());
            match next {
                Some(url) if url.origin() == self.authority.origin() => {
                    request = self.http.get(url);
                }
                landed => {
                    return Page {
                        status: status.as_u16(),
                        html,
                        landed,
                    };
                }
            }
        }
    }
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}
