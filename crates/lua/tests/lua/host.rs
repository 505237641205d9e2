//! A host without mail: accounts that note what they are to send, and events on demand.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared, join_all};
use postrider_config::SecretRef;
use postrider_lua::{
    AccountHandle, Activity, Backend, GatewayHook, GatewayHooks, HostEvent, Limits, Listener,
    Listeners, MessageHook, MessageHooks, Script, ScriptError, SendRequest, Sent, Token,
};
use postrider_lua::{Failure, SmtpFailure, request as http};
use postrider_schedule::{Clock, Draft, ManualClock, SystemClock};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

/// The host, and what happened in it.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) sent: Mutex<Vec<SendRequest>>,
    pub(crate) tables: Mutex<Vec<Value>>,
    pub(crate) settings: Mutex<Vec<(String, Value)>>,
    /// What scripts asked web servers for.
    pub(crate) requests: Mutex<Vec<Requested>>,
    /// Whether each event was heard, in the order they were raised.
    pub(crate) heard: Mutex<Vec<bool>>,
    pub(crate) listeners: Listeners,
    pub(crate) hooks: MessageHooks,
    pub(crate) gateway_hooks: GatewayHooks,
    pub(crate) activity: Activity,
    /// In place of the system's.
    pub(crate) clock: Mutex<Option<ManualClock>>,
    /// Where schedules go.
    pub(crate) draft: Mutex<Option<Draft>>,
    /// How often scripts wanted to hear what nobody heard before.
    pub(crate) reminders: AtomicUsize,
    /// Events on their way.
    raised: Mutex<Vec<Shared<BoxFuture<'static, ()>>>>,
    sending: AtomicUsize,
    /// The threads on which sends were worked on.
    pub(crate) sent_on: Mutex<Vec<String>>,
    /// The most sends that were under way at one time.
    pub(crate) most_sending: AtomicUsize,
}

/// A request as it would have gone out, its secrets in clear.
pub(crate) struct Requested {
    pub(crate) request: http::Request,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// One run of a script.
pub(crate) struct Run {
    pub(crate) host: Arc<Host>,
    pub(crate) printed: String,
    pub(crate) ended: Result<(), ScriptError>,
}

impl Run {
    /// What the script printed, having ended well.
    pub(crate) fn lines(&self) -> Vec<&str> {
        if let Err(error) = &self.ended {
            panic!("{error}");
        }
        self.printed.lines().collect()
    }

    pub(crate) fn error(&self) -> &ScriptError {
        self.ended.as_ref().expect_err(&self.printed)
    }

    /// The message and the line of the error that ended the script.
    pub(crate) fn failed(&self) -> (&str, &str) {
        let failure = &self.error().failure;
        (&failure.message, failure.at.as_deref().unwrap_or_default())
    }
}

/// Runs `script`, called `script.lua`, with default limits.
pub(crate) async fn run(script: &str) -> Run {
    run_within(script, Limits::default()).await
}

/// Runs `script` within `limits`.
pub(crate) async fn run_within(script: &str, limits: Limits) -> Run {
    run_beside(&[], script, limits).await
}

/// Runs `script` with other files beside it.
pub(crate) async fn run_beside(files: &[(&str, &str)], script: &str, limits: Limits) -> Run {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files.iter().chain(&[("script.lua", script)]) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let host = Arc::new(Host::default());
    let printed = Arc::new(Mutex::new(Vec::new()));
    let args = ["one".to_owned(), "two".to_owned()];
    let mut ended = Script::new(
        folder.path().join("script.lua"),
        Arc::new(Hands(Arc::clone(&host))),
    )
    .args(&args)
    .limits(limits)
    .output(Arc::<Mutex<Vec<u8>>>::clone(&printed) as Arc<Mutex<dyn Write + Send>>)
    .run()
    .await;
    // Places begin with the folder, which differs each time.
    let prefix = format!("{}/", folder.path().display());
    if let Err(error) = &mut ended {
        for text in error.trace.iter_mut().chain(&mut error.failure.at) {
            *text = text.replace(&prefix, "");
        }
        error.failure.message = error.failure.message.replace(&prefix, "");
    }
    let printed = String::from_utf8_lossy(&printed.lock().unwrap()).replace(&prefix, "");
    Run {
        host,
        printed,
        ended,
    }
}

struct Account {
    name: String,
    host: Arc<Host>,
}

/// Counts one more send for as long as it lives.
struct Sending<'a>(&'a Host);

impl<'a> Sending<'a> {
    fn new(host: &'a Host) -> Self {
        let now = host.sending.fetch_add(1, Ordering::SeqCst) + 1;
        host.most_sending.fetch_max(now, Ordering::SeqCst);
        Self(host)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Host {
    /// Raises an event and goes on, as what works in the background does.
    pub(crate) fn raise(self: &Arc<Self>, event: HostEvent) {
        let place = {
            let mut heard = self.heard.lock().unwrap();
            heard.push(false);
            heard.len() - 1
        };
        let host = Arc::clone(self);
        let telling = tokio::spawn(async move {
            let was_heard = host.listeners.hear(event).await;
            host.heard.lock().unwrap()[place] = was_heard;
        });
        let told = telling.map(Result::unwrap).boxed().shared();
        self.raised.lock().unwrap().push(told);
    }

    /// Waits until everybody was told of everything.
    pub(crate) async fn settled(&self) {
        let raised = self.raised.lock().unwrap().clone();
        join_all(raised).await;
    }

    /// How many sends are under way.
    pub(crate) fn sending(&self) -> usize {
        self.sending.load(Ordering::SeqCst)
    }
}

impl Account {
    fn handle(name: &str, host: Arc<Host>) -> Arc<dyn AccountHandle> {
        Arc::new(Self {
            name: name.to_owned(),
            host,
        })
    }
}

impl AccountHandle for Account {
    fn name(&self) -> &str {
        &self.name
    }

    /// Takes 50 ms, and refuses the CEO.
    fn send(&self, message: SendRequest) -> BoxFuture<'_, Result<Sent, Failure>> {
        Box::pin(async move {
            let message = self.host.hooks.before_send(&self.name, message).await?;
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            self.host.sent_on.lock().unwrap().push(thread);
            let _sending = Sending::new(&self.host);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if message.from.as_deref() == Some("ceo@contoso.com") {
                let mut failure = Failure::new("smtp.send_as_denied", "the sender was refused")
                    .with_account(&self.name)
                    .with_remedy("grant Send As")
                    .at("smtp.office365.com:587, MAIL FROM");
                failure.smtp = Some(SmtpFailure {
                    code: 554,
                    enhanced: Some("5.2.252".to_owned()),
                    text: "SendAsDenied".to_owned(),
                });
                failure.details = json!({ "recipients": ["a@example.org"] });
                return Err(failure);
            }
            let receipt = json!({
                "message_id": format!("<{}@contoso.com>", message.subject.as_deref().unwrap_or("none")),
                "recipients": message.to.clone(),
                "queued": null,
            });
            let refused = message
                .cc
                .contains(&"nobody@contoso.com".to_owned())
                .then(|| Failure::new("smtp.partial", "1 of 2 recipients refused"));
            self.host.sent.lock().unwrap().push(message);
            Ok(Sent { receipt, refused })
        })
    }

    fn check(&self) -> BoxFuture<'_, Value> {
        Box::pin(async { json!({ "ok": true, "stages": [{ "name": "tcp", "result": "ok" }] }) })
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Failure>> {
        Box::pin(async {
            if self.name == "printer" {
                return Err(Failure::new("usage.no_tokens", "the plugin uses no tokens"));
            }
            Ok(Token {
                secret: "ey.token.\u{fc}".into(),
                details: json!({ "expires_at": 1_800_000_000, "scope": null, "token_type": "Bearer" }),
            })
        })
    }

    /// Raises `token.refreshed`, also where nothing happened.
    fn rotate(&self, force: bool) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            if self.name == "printer" {
                return Err(Failure::new("usage.no_tokens", "the plugin uses no tokens"));
            }
            self.host.raise(HostEvent::new(
                "token.refreshed",
                json!({ "account": self.name, "generation": 2, "gone": null }),
            ));
            Ok(json!({ "outcome": if force { "refreshed" } else { "fresh" }, "generation": 2 }))
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async {
            Ok(json!({
                "state": "fresh", "reason": null,
                "expires": [{ "secret": "client_secret", "days": 13 }],
            }))
        })
    }
}

/// The host in the engine's hands.
pub(crate) struct Hands(pub(crate) Arc<Host>);

impl Backend for Hands {
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
        Box::pin(async move {
            if ["alerts", "printer"].contains(&name) {
                return Ok(Account::handle(name, Arc::clone(&self.0)));
            }
            let message = format!("no account is called \"{name}\"");
            Err(Failure::new("config.unknown_account", message)
                .with_remedy("postrider account list"))
        })
    }

    fn account_from_table(
        &self,
        table: Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
        Box::pin(async move {
            let account = Account::handle(
                table["name"].as_str().unwrap_or_default(),
                Arc::clone(&self.0),
            );
            self.0.tables.lock().unwrap().push(table);
            Ok(account)
        })
    }

    fn check<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Value> {
        Box::pin(async move {
            match self.account_from_config(name).await {
                Ok(account) => account.check().await,
                Err(failure) => json!({
                    "ok": false,
                    "stages": [{
                        "name": "config", "result": "failed", "failure": { "code": failure.code },
                    }],
                }),
            }
        })
    }

    /// How much of the text came.
    fn explain(&self, text: &str) -> Value {
        json!([{ "kind": "smtp", "original": text.len() }])
    }

    fn account_names(&self) -> Vec<String> {
        ["alerts", "broken", "printer"].map(str::to_owned).into()
    }

    fn config_get(&self, key: &str) -> Result<Option<Value>, Failure> {
        match key {
            "account.alerts.sender" => Ok(Some(json!("alerts@contoso.com"))),
            "broken" => Err(Failure::new("config.unreadable", "the file is gone")),
            _ => Ok(None),
        }
    }

    fn config_set<'a>(&'a self, key: &'a str, value: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if key == "account.alerts.colour" {
                return Err(Failure::new("config.unknown_key", "no such key"));
            }
            self.0
                .settings
                .lock()
                .unwrap()
                .push((key.to_owned(), value));
            Ok(())
        })
    }

    /// The environment holds addresses of webhooks.
    fn secret(&self, reference: SecretRef) -> BoxFuture<'_, Result<SecretString, Failure>> {
        Box::pin(async move {
            match reference {
                SecretRef::Env(name) => Ok(format!("https://hooks.example.org/{name}").into()),
                _ => Err(Failure::new("secret.missing", "it is not there")),
            }
        })
    }

    /// Answers with the status that the url ends in; nobody answers 0.
    fn http(&self, request: http::Request) -> BoxFuture<'_, Result<http::Response, Failure>> {
        Box::pin(async move {
            let url = request.url.expose_secret().to_owned();
            let status = url.rsplit('/').next().and_then(|end| end.parse().ok());
            let headers = request
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
                .collect();
            self.0.requests.lock().unwrap().push(Requested {
                request,
                url,
                headers,
            });
            if status == Some(0) {
                return Err(Failure::new("network.timeout", "nobody answered"));
            }
            Ok(http::Response {
                status: status.unwrap_or(200),
                headers: [("x-a", "1"), ("via", "p"), ("x-a", "2")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                body: b"{\"a\":1}\xff\0".to_vec(),
            })
        })
    }

    fn subscribe(&self, listener: &Arc<dyn Listener>) {
        self.0.listeners.add(listener);
    }

    fn emit(&self, event: HostEvent) {
        self.0.raise(event);
    }

    fn add_hook(&self, hook: &Arc<dyn MessageHook>) {
        self.0.hooks.add(hook);
    }

    fn add_gateway_hook(&self, hook: &Arc<dyn GatewayHook>) {
        self.0.gateway_hooks.add(hook);
    }

    fn clock(&self) -> Arc<dyn Clock> {
        match &*self.0.clock.lock().unwrap() {
            Some(clock) => Arc::new(clock.clone()),
            None => Arc::new(SystemClock),
        }
    }

    fn draft(&self) -> Option<Draft> {
        self.0.draft.lock().unwrap().clone()
    }

    fn activity(&self) -> Activity {
        self.0.activity.clone()
    }

    fn remind(&self) {
        self.0.reminders.fetch_add(1, Ordering::SeqCst);
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.settled())
    }
}
