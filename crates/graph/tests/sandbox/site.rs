//! A running sandbox, and the way to its Graph: HTTPS as a program would speak it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postrider_graph::{Graph, Request, Response, Transport, TransportError, TransportErrorKind};
use postrider_sandbox::scenario::GRAPH_COMMAND_LINE_TOOLS;
use postrider_sandbox::{Sandbox, SandboxOptions, Scenario};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

pub(crate) const TENANT: &str = "contoso.onmicrosoft.com";
pub(crate) const ADMIN: &str = "admin@contoso.com";
pub(crate) const SOMEBODY: &str = "svc-mail@contoso.com";
const REDIRECT: &str = "http://localhost:49152";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// What an administrator's tools ask for.
pub(crate) const EVERYTHING: &str = "Application.ReadWrite.All Directory.Read.All Policy.Read.All \
    DelegatedPermissionGrant.ReadWrite.All AppRoleAssignment.ReadWrite.All User.Read.All";

/// A sandbox, and a client that trusts it.
pub(crate) struct Site {
    pub(crate) sandbox: Arc<Sandbox>,
    http: reqwest::Client,
    pauses: Arc<Mutex<Vec<u64>>>,
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
            ..SandboxOptions::default()
        })
        .await
        .unwrap();
        let http = client(sandbox.ca_pem());
        Self {
            sandbox: Arc::new(sandbox),
            http,
            pauses: Arc::default(),
        }
    }

    /// Graph, on behalf of this person through the command-line tools' client.
    pub(crate) async fn graph_as(&self, upn: &str, scope: &str) -> Graph {
        let mut authorize = self.entra("authorize");
        authorize.query_pairs_mut().extend_pairs([
            ("client_id", GRAPH_COMMAND_LINE_TOOLS),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("state", "xyz"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let landed = self.sandbox.sign_in(&authorize, upn).unwrap();
        let code = landed.query_pairs().find(|(name, _)| name == "code");
        let code = code.unwrap_or_else(|| panic!("no code in {landed}")).1;
        let token = self
            .token(&[
                ("grant_type", "authorization_code"),
                ("client_id", GRAPH_COMMAND_LINE_TOOLS),
                ("code", &code),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
            ])
            .await;
        self.graph(&token)
    }

    /// Graph with this token.
    pub(crate) fn graph(&self, token: &Value) -> Graph {
        let text = token["access_token"].as_str();
        let token = text.unwrap_or_else(|| panic!("no token: {token}"));
        let transport = Https {
            http: self.http.clone(),
            sandbox: Arc::clone(&self.sandbox),
            pauses: Arc::clone(&self.pauses),
        };
        Graph::new(
            self.sandbox.authority().join("/").unwrap(),
            SecretString::from(token),
            Arc::new(transport),
        )
        .unwrap()
    }

    /// What the token endpoint answers.
    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Value {
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let response = self
            .http
            .post(self.entra("token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    /// The pauses up to now, in seconds; nobody waited for them.
    pub(crate) fn pauses(&self) -> Vec<u64> {
        self.pauses.lock().unwrap().clone()
    }

    fn entra(&self, endpoint: &str) -> Url {
        let path = format!("/{TENANT}/oauth2/v2.0/{endpoint}");
        self.sandbox.authority().join(&path).unwrap()
    }
}

/// Carries requests; a pause moves the sandbox's clock instead of the test's.
struct Https {
    http: reqwest::Client,
    sandbox: Arc<Sandbox>,
    pauses: Arc<Mutex<Vec<u64>>>,
}

impl Https {
    async fn exchange(&self, request: Request) -> Result<Response, reqwest::Error> {
        let method = request.method.as_str().parse().unwrap();
        let mut sent = self
            .http
            .request(method, request.url)
            .bearer_auth(request.bearer.expose_secret());
        for (name, value) in request.headers {
            sent = sent.header(name, value);
        }
        if let Some(body) = request.body {
            sent = sent
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = sent.send().await?;
        let field = |name| response.headers().get(name)?.to_str().ok();
        Ok(Response {
            status: response.status().as_u16(),
            retry_after: field("retry-after")
                .map(|seconds| Duration::from_secs(seconds.parse().unwrap())),
            request_id: field("request-id").map(str::to_owned),
            body: response.bytes().await?.to_vec(),
        })
    }
}

impl Transport for Https {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        async move {
            self.exchange(request).await.map_err(|error| {
                let kind = if error.is_connect() {
                    TransportErrorKind::NotSent
                } else {
                    TransportErrorKind::Interrupted
                };
                TransportError::new(kind, "the sandbox did not answer").caused_by(error)
            })
        }
        .boxed()
    }

    fn pause(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        self.pauses.lock().unwrap().push(how_long.as_secs());
        self.sandbox.state().advance(how_long);
        async {}.boxed()
    }
}

/// A client that trusts this authority alone and follows no redirects.
fn client(ca_pem: &str) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let ring = rustls::crypto::ring::default_provider();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring))
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
