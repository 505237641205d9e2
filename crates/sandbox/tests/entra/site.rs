//! A running sandbox with an HTTP client, and a browser just good enough for its forms.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_sandbox::scenario::Resource;
use postrider_sandbox::{Claims, Clock, Sandbox, SandboxOptions, Scenario};
use reqwest::{Response, StatusCode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use url::Url;

pub(crate) const TENANT: &str = "contoso.onmicrosoft.com";
pub(crate) const DAEMON: &str = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f";
pub(crate) const PUBLIC: &str = "2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801";
pub(crate) const SECRET: &str = "daemon-client-secret";
pub(crate) const OUTLOOK: &str = "https://outlook.office.com/SMTP.Send";
pub(crate) const OUTLOOK_DEFAULT: &str = "https://outlook.office365.com/.default";

/// Stands still unless the test moves it: what takes how long on this machine never matters.
struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 56)
    }
}

/// A sandbox, and a client that trusts it.
pub(crate) struct Site {
    pub(crate) sandbox: Sandbox,
    pub(crate) http: reqwest::Client,
}

/// An answer of the token endpoint.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Self {
        let status = response.status();
        for (name, expected) in [
            ("cache-control", "no-store, no-cache"),
            ("pragma", "no-cache"),
        ] {
            assert_eq!(response.headers()[name], expected);
        }
        Self {
            status,
            json: serde_json::from_str(&response.text().await.unwrap()).unwrap(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.json[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {}", self.json))
    }

    /// It is this error; and its body is shaped as every error's.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, error: &str, code: u32) {
        assert_eq!(
            (self.status.as_u16(), self.json["error"].as_str()),
            (status, Some(error)),
            "{}",
            self.json
        );
        assert_eq!(self.json["error_codes"], serde_json::json!([code]));
        let description = self.text("error_description");
        let trailer = format!(
            " Trace ID: {} Correlation ID: {} Timestamp: {}",
            self.text("trace_id"),
            self.text("correlation_id"),
            self.text("timestamp")
        );
        assert!(
            description.starts_with(&format!("AADSTS{code}: ")),
            "{description}"
        );
        assert!(description.ends_with(&trailer), "{description}");
        assert!(
            self.text("error_uri")
                .ends_with(&format!("/error?code={code}"))
        );
    }

    #[track_caller]
    pub(crate) fn is_ok(&self) {
        assert_eq!(self.status, 200, "{}", self.json);
        assert_eq!(self.json["token_type"], "Bearer");
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Over the default scenario, changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Scenario)) -> Self {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        let sandbox = Sandbox::start(SandboxOptions {
            scenario,
            clock: Arc::new(StandingClock),
            ..SandboxOptions::default()
        })
        .await
        .unwrap();
        let http = client(sandbox.ca_pem());
        Self { sandbox, http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.authority())
    }

    pub(crate) fn token_endpoint(&self) -> String {
        self.url(&format!("{TENANT}/oauth2/v2.0/token"))
    }

    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Answer {
        self.token_at(TENANT, form).await
    }

    pub(crate) async fn token_at(&self, tenant: &str, form: &[(&str, &str)]) -> Answer {
        self.post(&format!("{tenant}/oauth2/v2.0/token"), form)
            .await
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self
            .http
            .post(self.url(path))
            .header("content-type", FORM)
            .body(encoded(form));
        Answer::read(request.send().await.unwrap()).await
    }

    /// The claims, if Exchange accepts the token.
    pub(crate) fn outlook_claims(&self, answer: &Answer) -> Claims {
        answer.is_ok();
        self.sandbox
            .state()
            .verify_token(answer.text("access_token"), Resource::Exchange)
            .unwrap()
    }

    /// Signs svc-mail in to the public client and redeems the code.
    pub(crate) async fn person(&self, scope: &str) -> Answer {
        let landed = Browser::new(self)
            .arrive_as(
                "svc-mail@contoso.com",
                "svc-mail-password",
                &[("scope", scope)],
            )
            .await;
        self.redeem(landed.param("code"), &[]).await
    }

    /// Redeems a code of [`Browser::arrive_as`].
    pub(crate) async fn redeem(&self, code: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", PUBLIC),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        for pair in more {
            form.retain(|(name, _)| *name != pair.0);
            form.push(*pair);
        }
        self.token(&form).await
    }

    pub(crate) async fn refresh(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", PUBLIC),
            ("refresh_token", token),
        ];
        form.extend_from_slice(more);
        self.token(&form).await
    }
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const REDIRECT: &str = "http://localhost:49152";
/// RFC 7636 appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A client that trusts this authority alone and follows no redirects.
pub(crate) fn client(ca_pem: &str) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

pub(crate) fn encoded(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

/// The claims of a JWT, unchecked.
pub(crate) fn peek(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// A browser: keeps its cookie, fills in forms, follows nothing by itself.
pub(crate) struct Browser<'a> {
    site: &'a Site,
    cookie: Option<String>,
}

/// What the browser shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) status: u16,
    pub(crate) html: String,
    /// Where it was sent, if it was.
    pub(crate) location: Option<Url>,
}

impl Shown {
    pub(crate) fn title(&self) -> &str {
        between(&self.html, "<title>", "</title>").unwrap_or_default()
    }

    /// The page's error, if it shows one.
    pub(crate) fn alert(&self) -> Option<&str> {
        between(&self.html, "<p role=\"alert\" id=\"error\">", "</p>")
    }

    #[track_caller]
    pub(crate) fn shows_error(&self, code: u32) {
        let expected = format!("AADSTS{code}: ");
        assert!(
            self.alert().is_some_and(|a| a.starts_with(&expected)),
            "not {expected}: {self:?}"
        );
    }

    /// A parameter of the redirect.
    #[track_caller]
    pub(crate) fn param(&self, name: &str) -> &str {
        self.maybe(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn maybe(&self, name: &str) -> Option<&str> {
        let query = self.location.as_ref()?.query()?;
        // Codes and states of these tests need no decoding.
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
    }

    /// The redirect's `error_description`, decoded.
    pub(crate) fn description(&self) -> String {
        let location = self.location.as_ref().unwrap();
        location
            .query_pairs()
            .find(|(n, _)| n == "error_description")
            .map(|(_, v)| v.into_owned())
            .unwrap_or_default()
    }

    fn hidden(&self, name: &str) -> Option<&str> {
        between(
            &self.html,
            &format!("<input type=\"hidden\" name=\"{name}\" value=\""),
            "\"",
        )
    }
}

impl<'a> Browser<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        Self { site, cookie: None }
    }

    pub(crate) async fn get(&mut self, url: &str) -> Shown {
        let request = self.site.http.get(url);
        self.send(request).await
    }

    pub(crate) async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Shown {
        let request = self
            .site
            .http
            .post(self.site.url(path))
            .header("content-type", FORM)
            .body(encoded(form));
        self.send(request).await
    }

    /// Fills in the form of a page: its hidden field, and these.
    pub(crate) async fn submit(&mut self, page: &Shown, form: &[(&str, &str)]) -> Shown {
        let ctx = page
            .hidden("ctx")
            .unwrap_or_else(|| panic!("no form in {page:?}"));
        let mut fields = vec![("ctx", ctx)];
        fields.extend_from_slice(form);
        self.post("sign-in", &fields).await
    }

    /// Opens the authorization endpoint; `more` replaces or adds parameters.
    pub(crate) async fn authorize(&mut self, more: &[(&str, &str)]) -> Shown {
        self.authorize_at(TENANT, more).await
    }

    pub(crate) async fn authorize_at(&mut self, tenant: &str, more: &[(&str, &str)]) -> Shown {
        let mut query = vec![
            ("client_id", PUBLIC),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", OUTLOOK),
            ("state", "xyz"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for pair in more {
            query.retain(|(name, _)| *name != pair.0);
            query.push(*pair);
        }
        self.get(&self.site.url(&format!(
            "{tenant}/oauth2/v2.0/authorize?{}",
            encoded(&query)
        )))
        .await
    }

    /// From the authorization endpoint through sign-in and consent, back to the client.
    pub(crate) async fn arrive_as(
        &mut self,
        upn: &str,
        password: &str,
        more: &[(&str, &str)],
    ) -> Shown {
        let page = self.authorize(more).await;
        assert_eq!(page.title(), "Sign in", "{page:?}");
        let mut page = self
            .submit(&page, &[("login", upn), ("passwd", password)])
            .await;
        if page.title() == "Permissions requested" {
            page = self.submit(&page, &[("decision", "accept")]).await;
        }
        page
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Shown {
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        };
        let response = request.send().await.unwrap();
        if let Some(cookie) = response.headers().get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(
                cookie.contains("; Secure; HttpOnly; SameSite=Lax"),
                "{cookie}"
            );
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let location = response
            .headers()
            .get("location")
            .map(|l| l.to_str().unwrap().parse().unwrap());
        Shown {
            status: response.status().as_u16(),
            location,
            html: response.text().await.unwrap(),
        }
    }
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}
