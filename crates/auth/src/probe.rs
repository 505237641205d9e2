//! For tests: a plugin that does whatever its settings say, and a world around it.
//!
//! The plugin is indiscreet: it logs and reports every secret it sees.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use postrider_plugin::wire::{
    Config, Description, DeviceCode, HttpRequest, LoginInput, LoginMethod, ObtainInput, Octets,
    Prompt, SaslInput, Secret, Tokens,
};
use postrider_plugin::{Error, ErrorKind, Io, Level, Plugin, kit};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::call::DEADLINE;
use crate::{
    CallOutcome, Clock, Credential, Environment, GrantPolicy, Http, HttpSettings, InstanceSettings,
    Interaction, Keeper, LoadedPlugin, ProxySetting, SecretSource, Tally, Unattended,
};

/// The plugin.
pub(crate) struct Probe {
    settings: Map<String, Value>,
}

impl Plugin for Probe {
    fn describe() -> Description {
        let description = json!({
            "name": "probe", "version": "1",
            "ops": ["login", "obtain", "sasl"],
            "mechanisms": ["XOAUTH2"],
            "hosts": ["{endpoint}", "localhost:4"],
            "config_schema": {
                "type": "object",
                "additionalProperties": false,
                "x-postrider-shared-grant": {"flow": "app"},
                "x-postrider-grant": ["endpoint", "url", "flow"],
                "x-postrider-client": ["endpoint"],
                "properties": {
                    "endpoint": {"type": "string"},
                    "url": {"type": "string"},
                    "flow": {"enum": ["app", "user"]},
                    "mechanism": {"type": "string"},
                    "act": {"type": "string"},
                    "client_secret": {"type": "string", "x-postrider-secret": true}
                }
            }
        });
        serde_json::from_value(description).unwrap()
    }

    fn create(config: Config) -> Result<Self, Error> {
        Ok(Self {
            settings: config.settings,
        })
    }

    async fn login(&self, io: Io, input: LoginInput) -> Result<Tokens, Error> {
        match input.method {
            LoginMethod::Browser => {
                let state = format!("{:02x?}", io.random(4).await?).replace([',', ' '], "");
                let uri = io.listen("http://localhost/back").await?;
                let authorize = format!(
                    "https://login.example/authorize?redirect_uri={uri}&state={}",
                    state.trim_matches(['[', ']'])
                );
                let back = io.open_url(&authorize).await?;
                io.log(Level::Info, &format!("came back with {}", back.expose()));
                self.token(&io, &format!("back={}", back.expose())).await
            }
            LoginMethod::DeviceCode => {
                io.device_code(DeviceCode {
                    user_code: "ABCD\u{1b}[2J".into(),
                    verification_uri: "https://login.example/device".into(),
                    verification_uri_complete: None,
                    expires_in: 900,
                    message: Some("go\nthere".into()),
                })
                .await?;
                let pin = io.prompt("PIN?\u{7}", true).await?;
                io.sleep(Duration::from_secs(5)).await?;
                io.log(Level::Info, &format!("the pin is {}", pin.expose()));
                self.token(&io, &format!("pin={}", pin.expose())).await
            }
        }
    }

    async fn obtain(&self, io: Io, input: ObtainInput) -> Result<Tokens, Error> {
        match self.setting("act") {
            "endless" => loop {
                io.random(1).await?;
            },
            "sleep" => io.sleep(Duration::from_hours(1)).await?,
            "undeclared" => drop(io.secret("endpoint").await?),
            "sasl" => drop(io.sasl_send(b"x").await?),
            "empty" => return Ok(Tokens::default()),
            "control" => {
                return Ok(Tokens {
                    access_token: "a\u{1}b".to_owned().into(),
                    ..Tokens::default()
                });
            }
            "loud" => io.log(Level::Info, &"x".repeat((1 << 20) + 1)),
            _ => {}
        }
        let refresh = input
            .refresh_token
            .unwrap_or_else(|| Secret::new("no-refresh-token"));
        self.token(&io, &format!("refresh_token={}", refresh.expose()))
            .await
    }

    async fn sasl(&self, io: Io, input: SaslInput) -> Result<(), Error> {
        let token = input.access_token.unwrap_or_default();
        io.log(Level::Debug, &format!("the token is {}", token.expose()));
        match self.setting("act") {
            "finish" => return Ok(()),
            "send" => drop(io.sasl_send(b"early").await?),
            _ => {}
        }
        let response = format!("user={};token={}", input.authcid, token.expose());
        let mechanism = match self.setting("mechanism") {
            "" => "XOAUTH2",
            mechanism => mechanism,
        };
        let challenge = io.sasl_start(mechanism, Some(response.as_bytes())).await?;
        let refusal = String::from_utf8_lossy(&challenge).into_owned();
        io.sasl_send(b"").await?;
        Err(Error::new(
            ErrorKind::Denied,
            format!("server said {refusal} to {}", token.expose()),
        ))
    }
}

impl Probe {
    fn setting(&self, name: &str) -> &str {
        self.settings
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Asks the endpoint and says everything it learns aloud.
    async fn token(&self, io: &Io, grant: &str) -> Result<Tokens, Error> {
        let secret = io.secret("client_secret").await?;
        io.log(Level::Warn, &format!("using {}", secret.expose()));
        let url = match self.setting("url") {
            "" => format!("{}/token", self.setting("endpoint")),
            url => url.to_owned(),
        };
        let response = io
            .http(HttpRequest {
                method: "POST".into(),
                url,
                headers: vec![("Accept".into(), "application/json".into())],
                body: Some(Octets(
                    format!("{grant}&client_secret={}", secret.expose()).into_bytes(),
                )),
            })
            .await?;
        let body = String::from_utf8_lossy(&response.body.0).into_owned();
        io.log(Level::Error, &format!("got {body}"));
        let kind = match response.status {
            200 => {
                return serde_json::from_str(&body)
                    .map_err(|_| Error::new(ErrorKind::Protocol, format!("strange: {body}")));
            }
            400 => ErrorKind::InvalidGrant,
            401 => ErrorKind::Config,
            _ => ErrorKind::Transient,
        };
        Err(Error::new(
            kind,
            format!("{} with {} for {grant}", response.status, secret.expose()),
        )
        .with_oauth_error("invalid_grant")
        .with_oauth_description(format!("your secret {} is bad", secret.expose()))
        .with_user_url("https://help.example/")
        .with_retry_after(Duration::from_secs(7)))
    }
}

/// The probe, as if loaded.
pub(crate) fn probe() -> Arc<LoadedPlugin> {
    static TABLE: postrider_plugin::abi::AuthV1 = kit::table::<Probe>();
    LoadedPlugin::from_table(&TABLE, 30 * DEADLINE)
}

/// A clock that moves when told to.
#[derive(Default)]
pub(crate) struct HandClock(Mutex<Duration>, Mutex<Duration>);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub(crate) fn set_back(&self, by: Duration) {
        *self.1.lock().unwrap() += by;
    }
}

impl Clock for HandClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + *self.0.lock().unwrap()
            - *self.1.lock().unwrap()
    }
}

/// Secrets from a table.
#[derive(Default)]
pub(crate) struct Secrets(pub(crate) BTreeMap<String, String>);

impl SecretSource for Secrets {
    fn secret(&self, name: &str) -> Result<SecretString, String> {
        let secret = self.0.get(name).ok_or("it is not set")?;
        Ok(SecretString::from(secret.as_str()))
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn identity(&self, name: &str) -> String {
        let value = self.0.get(name).map_or("", String::as_str);
        format!("test={value}")
    }
}

/// A person who does as they are asked.
#[derive(Default)]
pub(crate) struct Person {
    /// What they were shown.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Person {
    /// Waits until they were shown so much.
    pub(crate) async fn saw(&self, n: usize) {
        while self.seen.lock().unwrap().len() < n {
            tokio::task::yield_now().await;
        }
    }
}

impl Interaction for Person {
    fn device_code(&self, account: &str, code: &DeviceCode) -> bool {
        let message = code.message.as_deref().unwrap_or_default();
        let shown = format!("{account}: {} {message}", code.user_code);
        self.seen.lock().unwrap().push(shown);
        true
    }

    fn open_url<'a>(&'a self, _: &'a str, url: &'a str) -> BoxFuture<'a, Option<Secret>> {
        async move {
            let url = url::Url::parse(url).unwrap();
            let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
            let back = url::Url::parse(&query["redirect_uri"]).unwrap();
            let port = back.port().unwrap();
            let mut browser = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let request = format!(
                "GET {}?code=authorization-code-canary&state={} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n",
                back.path(),
                query["state"]
            );
            browser.write_all(request.as_bytes()).await.unwrap();
            let seen = Arc::clone(&self.seen);
            tokio::spawn(async move {
                let mut page = String::new();
                browser.read_to_string(&mut page).await.unwrap();
                seen.lock().unwrap().push(page);
            });
            pending().await
        }
        .boxed()
    }

    fn prompt<'a>(&'a self, _: &'a str, prompt: &'a Prompt) -> BoxFuture<'a, Option<Secret>> {
        async move {
            self.seen.lock().unwrap().push(prompt.label.clone());
            Some(Secret::new("pin-canary-4711"))
        }
        .boxed()
    }
}

/// A token endpoint on loopback.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
}

impl Endpoint {
    /// Answers request `n`, from 1, with what `answer` says: status and body.
    pub(crate) async fn start(
        answer: impl Fn(usize) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            bodies: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        };
        let (requests, bodies) = (Arc::clone(&this.requests), Arc::clone(&this.bodies));
        let (gate, answer) = (Arc::clone(&this.gate), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (requests, bodies) = (Arc::clone(&requests), Arc::clone(&bodies));
                let (gate, answer) = (Arc::clone(&gate), Arc::clone(&answer));
                tokio::spawn(async move {
                    let body = read_request(&mut stream).await.1;
                    bodies.lock().unwrap().push(body);
                    let n = requests.fetch_add(1, Ordering::SeqCst) + 1;
                    let _pass = gate.acquire().await.unwrap();
                    let (status, body) = answer(n);
                    respond(&mut stream, status, "", &body.to_string()).await;
                });
            }
        });
        this
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The bodies of the requests so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    /// Holds answers back until [`Endpoint::open`].
    pub(crate) fn close(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    pub(crate) fn open(&self) {
        self.gate.add_permits(1000);
    }

    pub(crate) async fn asked(&self, n: usize) {
        while self.requests() < n {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Head and body of a request.
pub(crate) async fn read_request(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> (String, String) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return (head.to_owned(), body.to_owned());
            }
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return (String::new(), String::new());
        }
    }
}

pub(crate) async fn respond(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    status: u16,
    headers: &str,
    body: &str,
) {
    let response = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Everything around a credential.
pub(crate) struct World {
    pub(crate) clock: Arc<HandClock>,
    pub(crate) environment: Arc<Environment>,
    calls: Arc<Calls>,
}

/// How calls of plugins ended, as `obtain: ok`.
#[derive(Default)]
struct Calls(Mutex<Vec<String>>);

impl Tally for Calls {
    fn called(&self, plugin: &str, operation: &'static str, outcome: CallOutcome) {
        assert_eq!(plugin, "probe");
        let mut calls = self.0.lock().unwrap();
        calls.push(format!("{operation}: {}", outcome.name()));
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Arc::new(Unattended))
    }

    pub(crate) fn with(interaction: Arc<dyn Interaction>) -> Self {
        let clock = Arc::new(HandClock::default());
        let calls = Arc::<Calls>::default();
        let environment = Arc::new(Environment {
            http: Http::new(HttpSettings {
                proxy: ProxySetting::Direct,
                ..HttpSettings::new(tls())
            })
            .unwrap(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            interaction,
            keeper: Keeper::in_memory(Arc::clone(&clock) as Arc<dyn Clock>),
            tally: Arc::clone(&calls) as Arc<dyn Tally>,
        });
        Self {
            clock,
            environment,
            calls,
        }
    }

    /// How calls of the probe ended since this was last asked, the making of instances aside.
    pub(crate) fn calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.calls.0.lock().unwrap());
        calls.retain(|call| call != "create: ok");
        calls
    }

    /// A credential of the probe.
    pub(crate) fn credential(&self, account: &str, endpoint: &str, more: Value) -> Credential {
        Credential::new(
            probe(),
            settings(account, endpoint, more, "client-secret-canary"),
            Arc::clone(&self.environment),
        )
        .unwrap()
    }
}

/// An account's settings for the probe, `more` among them.
pub(crate) fn settings(
    account: &str,
    endpoint: &str,
    more: Value,
    client_secret: &str,
) -> InstanceSettings {
    let Value::Object(mut settings) = more else {
        panic!("an object")
    };
    settings.insert("endpoint".into(), endpoint.into());
    InstanceSettings {
        account: account.into(),
        username: format!("{account}@example.org"),
        settings,
        secrets: Arc::new(Secrets(BTreeMap::from([(
            "client_secret".into(),
            client_secret.into(),
        )]))),
        allow_hosts: vec![endpoint.into()],
        policy: GrantPolicy::default(),
        expiries: Vec::new(),
    }
}

/// TLS that trusts nobody.
pub(crate) fn tls() -> rustls::ClientConfig {
    trusting(rustls::RootCertStore::empty())
}

pub(crate) fn trusting(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
