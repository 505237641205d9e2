//! The whole of it against the offline Microsoft 365: real tokens, real permissions, and what
//! was made is used to sign in.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postrider_graph::{Graph, Request, Response, Transport, TransportError, TransportErrorKind};
use postrider_sandbox::scenario::{App, GRAPH_COMMAND_LINE_TOOLS, Resource, Span};
use postrider_sandbox::{Sandbox, SandboxOptions, Scenario};
use postrider_setup::{
    CredentialKind, Done, Flow, Plan, SecretName, SetupError, Severity, Topic, Wanted, apply,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use url::Url;

use crate::record::{CERTIFICATE, Disk, OnDisk, SECRET, by_browser, on_its_own, wanted};
use crate::tenant::{End, Fate, Point};

const NAME: &str = "Postrider: alerts";
const AUTHORITY: &str = "contoso.onmicrosoft.com";
const SCOPES: &str = "https://graph.microsoft.com/Application.ReadWrite.All \
                      https://graph.microsoft.com/Directory.Read.All \
                      https://graph.microsoft.com/Policy.Read.All \
                      https://graph.microsoft.com/DelegatedPermissionGrant.ReadWrite.All \
                      https://graph.microsoft.com/AppRoleAssignment.ReadWrite.All";
const REDIRECT: &str = "http://localhost:49152";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A sandbox, a machine to run setup on, and its way to Graph.
struct Site {
    sandbox: Arc<Sandbox>,
    http: reqwest::Client,
    disk: Arc<Mutex<Disk>>,
    fate: Arc<Mutex<Fate>>,
    token: String,
}

/// The way to Graph, which a run's fate may cut; pauses pass at once, on the sandbox's clock.
struct Way {
    sandbox: Arc<Sandbox>,
    http: reqwest::Client,
    fate: Arc<Mutex<Fate>>,
}

impl Transport for Way {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        let point = self.fate.lock().unwrap().next();
        async move {
            let broken = || {
                TransportError::new(TransportErrorKind::Interrupted, "the connection was closed")
            };
            if point == Point::Never {
                return Err(broken());
            }
            let method = request.method.as_str().parse::<reqwest::Method>().unwrap();
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
            let answer = sent.send().await.unwrap();
            let response = Response {
                status: answer.status().as_u16(),
                body: answer.bytes().await.unwrap().to_vec(),
                ..Response::default()
            };
            if point == Point::HappensUnheard {
                return Err(broken());
            }
            Ok(response)
        }
        .boxed()
    }

    fn pause(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        self.sandbox.state().advance(how_long);
        async {}.boxed()
    }
}

impl Site {
    async fn start(change: impl FnOnce(&mut Scenario)) -> Self {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        let sandbox = Sandbox::start(SandboxOptions {
            scenario,
            ..SandboxOptions::default()
        })
        .await
        .unwrap();
        let mut site = Self {
            http: client(sandbox.ca_pem()),
            sandbox: Arc::new(sandbox),
            disk: Arc::default(),
            fate: Arc::default(),
            token: String::new(),
        };
        site.token = site.sign_in("admin@contoso.com").await;
        site
    }

    /// The tenant as it was at first, an empty disk, and this end.
    async fn anew(&mut self, scenario: &Scenario, end: End) {
        self.sandbox.reset(scenario.clone()).unwrap();
        *self.disk.lock().unwrap() = Disk::default();
        self.fated(Some(end));
        self.token = self.sign_in("admin@contoso.com").await;
    }

    fn fated(&self, end: Option<End>) {
        *self.fate.lock().unwrap() = Fate {
            end,
            ..Fate::default()
        };
    }

    fn url(&self, path: &str) -> Url {
        self.sandbox.authority().join(path).unwrap()
    }

    /// A token for Graph of this person, by the command-line client that every tenant has.
    async fn sign_in(&self, upn: &str) -> String {
        let mut url = self.url(&format!("/{AUTHORITY}/oauth2/v2.0/authorize"));
        url.query_pairs_mut().extend_pairs([
            ("client_id", GRAPH_COMMAND_LINE_TOOLS),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", SCOPES),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let landed = self.sandbox.sign_in(&url, upn).unwrap();
        let code = landed
            .query_pairs()
            .find(|(name, _)| name == "code")
            .unwrap();
        let answer = self
            .token(&[
                ("grant_type", "authorization_code"),
                ("client_id", GRAPH_COMMAND_LINE_TOOLS),
                ("code", &code.1),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
            ])
            .await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn token(&self, form: &[(&str, &str)]) -> Value {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let answer = self
            .http
            .post(self.url(&format!("/{AUTHORITY}/oauth2/v2.0/token")))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    fn graph(&self) -> Graph {
        let way = Way {
            sandbox: self.sandbox.clone(),
            http: self.http.clone(),
            fate: self.fate.clone(),
        };
        Graph::new(
            self.sandbox.authority().clone(),
            self.token.clone().into(),
            Arc::new(way),
        )
        .unwrap()
    }

    async fn plan(&self, wanted: &Wanted) -> Result<Plan, SetupError> {
        let wanted = Wanted {
            known: self.disk.lock().unwrap().known.clone(),
            now: self.sandbox.state().now(),
            ..wanted.clone()
        };
        Plan::make(&self.graph(), &wanted).await
    }

    async fn run(&self, wanted: &Wanted) -> Result<(Plan, Done), SetupError> {
        let plan = self.plan(wanted).await?;
        let mut record = OnDisk {
            disk: self.disk.clone(),
            fate: self.fate.clone(),
        };
        let done = apply(&self.graph(), &plan, &mut record, &mut |_| {}).await?;
        Ok((plan, done))
    }

    fn apps(&self) -> Vec<App> {
        let scenario = self.sandbox.state().scenario();
        scenario
            .apps
            .iter()
            .filter(|app| app.name == NAME)
            .cloned()
            .collect()
    }

    fn secret(&self, name: SecretName) -> String {
        let disk = self.disk.lock().unwrap();
        let kept = disk.secrets.iter().find(|(kept, _)| *kept == name);
        kept.unwrap().1.clone()
    }

    /// One application, one service principal, one credential, which is recorded and works.
    async fn is_whole(&self, wanted: &Wanted, done: &Done) {
        let apps = self.apps();
        assert_eq!(apps.len(), 1, "one application");
        let app = &apps[0];
        assert!(app.service_principal);
        assert_eq!(app.client_id.to_string(), done.client_id);
        assert_eq!(app.object_id.to_string(), done.service_principal_id);
        let known = self.disk.lock().unwrap().known.clone();
        assert!(known.finished);
        assert_eq!(known.credential, done.credential);
        match wanted.credential {
            CredentialKind::None => assert!(app.secrets.is_empty()),
            CredentialKind::Secret { .. } => {
                assert_eq!(app.secrets.len(), 1, "one secret");
                let recorded = known.credential.unwrap().key_id;
                assert_eq!(app.secrets[0].key_id.to_string(), recorded);
            }
            CredentialKind::Certificate { .. } => {
                assert_eq!((app.secrets.len(), app.certificates.len()), (0, 1));
                let pem = self.secret(SecretName::Certificate);
                let kept = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
                let there = &app.certificates[0].pem;
                assert_eq!(
                    CertificateDer::from_pem_slice(there.as_bytes()).unwrap(),
                    kept
                );
            }
        }
        if wanted.flow == Flow::ClientCredentials && app.certificates.is_empty() {
            let answer = self
                .token(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", &done.client_id),
                    ("client_secret", &self.secret(SecretName::ClientSecret)),
                    ("scope", "https://outlook.office365.com/.default"),
                ])
                .await;
            let token = answer["access_token"].as_str();
            let token = token.unwrap_or_else(|| panic!("{answer}"));
            let state = self.sandbox.state();
            let claims = state.verify_token(token, Resource::Exchange).unwrap();
            assert!(claims.has_role("SMTP.SendAsApp"));
        }
    }

    /// The client ids of applications, and the key ids of credentials, that there are.
    fn remains(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for app in self.apps() {
            ids.push(app.client_id.to_string());
            ids.extend(app.secrets.iter().map(|secret| secret.key_id.to_string()));
        }
        ids
    }
}

/// A client that trusts this authority alone.
fn client(ca_pem: &str) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .build()
        .unwrap()
}

async fn ends_anywhere(wanted: &Wanted) {
    let mut site = Site::start(|_| {}).await;
    let (_, done) = site.run(wanted).await.unwrap();
    site.is_whole(wanted, &done).await;
    let points = site.fate.lock().unwrap().points;
    assert!(points > 15, "{points} points");
    let scenario = Scenario::default();

    for at in 0..points {
        for after in [false, true] {
            site.anew(&scenario, End { at, after }).await;
            site.run(wanted).await.unwrap_err();
            let before = site.remains();

            site.fated(None);
            let (_, done) = site.run(wanted).await.unwrap();

            site.is_whole(wanted, &done).await;
            for id in before {
                let mentioned = done.orphans.iter().any(|orphan| orphan.id == id);
                let used = id == done.client_id
                    || done.credential.as_ref().is_some_and(|c| c.key_id == id);
                assert!(
                    mentioned || used,
                    "ended at {at}, after {after}: {id} unmentioned"
                );
            }
            let before = site.sandbox.state().scenario();
            let (plan, _) = site.run(wanted).await.unwrap();
            assert!(plan.is_done(), "ended at {at}: {:#?}", plan.steps);
            assert_eq!(site.sandbox.state().scenario().apps, before.apps);
        }
    }
}

#[tokio::test]
async fn an_application_on_its_own_may_end_anywhere_and_signs_in_at_last() {
    ends_anywhere(&on_its_own()).await;
}

#[tokio::test]
async fn a_person_with_a_browser_may_end_anywhere() {
    ends_anywhere(&by_browser()).await;
}

#[tokio::test]
async fn a_certificate_is_where_it_belongs() {
    let wanted = wanted(Flow::ClientCredentials, CERTIFICATE);
    let site = Site::start(|_| {}).await;

    let (_, done) = site.run(&wanted).await.unwrap();
    let (again, _) = site.run(&wanted).await.unwrap();

    site.is_whole(&wanted, &done).await;
    assert!(again.is_done(), "{:#?}", again.steps);
}

#[tokio::test]
async fn objects_that_take_a_while_to_show_are_waited_for() {
    let site = Site::start(|scenario| scenario.graph.propagation_requests = Some(2)).await;

    let (_, done) = site.run(&on_its_own()).await.unwrap();

    assert_eq!(site.apps().len(), 1);
    assert_eq!(site.apps()[0].secrets.len(), 1);
    let (again, second) = site.run(&on_its_own()).await.unwrap();
    assert!(again.is_done(), "{:#?}", again.steps);
    assert_eq!(second.client_id, done.client_id);
}

#[tokio::test]
async fn a_tenants_policy_may_shorten_a_secret() {
    let site = Site::start(|scenario| {
        scenario.tenants[0].secret_lifetime = Some(Span::days(30));
    })
    .await;

    let (_, done) = site
        .run(&wanted(Flow::ClientCredentials, SECRET))
        .await
        .unwrap();

    let left = done
        .credential
        .unwrap()
        .ends
        .duration_since(site.sandbox.state().now());
    assert!(left.as_hours() <= 24 * 30, "{left:#}");
}

#[tokio::test]
async fn who_may_not_is_told_before_anything_is_made() {
    let site = Site::start(|_| {}).await;
    let demote = |scenario: &mut Scenario| {
        let admin = scenario.users.iter_mut().find(|user| user.admin);
        admin.unwrap().admin = false;
    };
    site.sandbox.state().change(demote).unwrap();

    let plan = site.plan(&by_browser()).await.unwrap();
    let error = site.run(&by_browser()).await.unwrap_err();

    let roles = plan
        .findings
        .iter()
        .find(|f| f.topic == Topic::Roles)
        .unwrap();
    assert_eq!(roles.severity, Severity::Blocks, "{roles:?}");
    assert!(!error.to_string().is_empty());
    assert!(site.apps().is_empty());
}

#[tokio::test]
async fn users_and_mailboxes_are_told_apart() {
    let site = Site::start(|_| {}).await;
    let of = |username: &str, flow| Wanted {
        username: username.to_owned(),
        ..wanted(flow, SECRET)
    };
    let cases = [
        ("svc-mail@contoso.com", Flow::AuthorizationCode, false),
        ("alerts@contoso.com", Flow::AuthorizationCode, true),
        ("alerts@contoso.com", Flow::ClientCredentials, false),
        ("nobody@contoso.com", Flow::ClientCredentials, true),
        ("svc-mail@example.org", Flow::ClientCredentials, true),
    ];
    for (username, flow, blocked) in cases {
        let plan = site.plan(&of(username, flow)).await.unwrap();
        assert_eq!(
            plan.blocked().is_some(),
            blocked,
            "{username}, {flow:?}: {:#?}",
            plan.findings
        );
    }
}
