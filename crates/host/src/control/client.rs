//! The command's side of the control socket.
//!
//! A daemon that is not there, belongs to somebody else, uses other settings, speaks another
//! version or does not answer is no error: the command then works alone. Only where a message may
//! have been sent already there is no second try.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use futures_util::stream::{Stream, StreamExt as _};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::client::conn::http1::{self, SendRequest as Sender};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use postrider_config::{self as config, Surroundings};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::MessageRequest;
use super::schedules::{RunReport, ScheduleStatus, Switch};
use super::work::{CheckAnswer, CheckRequest, Listed, Report, RotateRequest, TokenAnswer};
use super::{API, Hello, Refusal, Reloaded, SOCKET, Standing, canonical, socket};
use crate::app::{AppSettings, Queued, SendOutcome};
use crate::failure::Failure;
use crate::lua::SendRequest;
use crate::state;

/// How long a daemon that is alive may take to say so.
const GREETING: Duration = Duration::from_secs(2);
/// How long what it knows may take.
const KNOWN: Duration = Duration::from_secs(30);
/// How long what it has to ask others for may take, each time: longer than any attempt of its own.
const ASKED: Duration = Duration::from_mins(5);
/// How long a message may take, which may wait for its turn. Nothing is lost by giving up then but
/// the answer.
const SENT: Duration = Duration::from_hours(1);
/// How long a run of a schedule may take; nothing is lost by giving up then but the answer.
const RAN: Duration = Duration::from_hours(24);
/// The largest answer.
const CAP: usize = 64 * 1024 * 1024;

/// Why there is no answer to use.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The daemon did not do it and never will: the command may.
    NotDone(String),
    /// The daemon's answer is that it failed; or nobody knows.
    Failed(Box<Failure>),
}

/// What to do about a daemon that is there and cannot be asked.
pub(crate) const UNREACHABLE: &str = "ask as the user that it runs as, with its --config and \
     --state-dir; one that hangs: systemctl restart postrider";

/// A daemon that is there and uses the same settings.
pub(crate) struct Client {
    sender: tokio::sync::Mutex<Sender<Handed>>,
    hello: Hello,
}

/// Where the daemon's socket would be.
///
/// # Errors
/// There is no state directory for this user, and the configuration names no socket.
pub(crate) fn socket_path(settings: &AppSettings) -> Result<PathBuf, Failure> {
    let file = config_file(settings);
    let configured = file.as_deref().and_then(|file| {
        // What else is wrong with the file is the command's to say, or the daemon's.
        let socket = config::edit::get(file, "serve.socket").ok()??;
        let base = file.parent()?;
        socket.as_str().map(|socket| base.join(socket))
    });
    match configured {
        Some(path) => Ok(path),
        None => Ok(state::directory(settings.state_dir.as_deref())?.join(SOCKET)),
    }
}

fn config_file(settings: &AppSettings) -> Option<PathBuf> {
    let file = config::find(settings.config.as_deref(), &Surroundings::of_process())?;
    Some(std::path::absolute(&file).unwrap_or(file))
}

impl Client {
    /// The daemon of these settings, if it runs and answers.
    pub(crate) async fn find(settings: &AppSettings) -> Option<Self> {
        match Self::look(settings).await {
            Ok(client) => Some(client),
            // No daemon, which is nothing to speak of.
            Err(None) => None,
            Err(Some(why)) => {
                tracing::info!("works without the daemon: {why}");
                None
            }
        }
    }

    /// The same, or why there is none; `None` where nobody listens.
    pub(crate) async fn look(settings: &AppSettings) -> Result<Self, Option<String>> {
        let path = socket_path(settings).map_err(|failure| Some(failure.message))?;
        let Ok(found) = timeout(GREETING, Self::connect(&path)).await else {
            let why = "it does not answer: it is stopped, hangs, or is very busy";
            return Err(Some(why.to_owned()));
        };
        let client = found?;
        match client.is_of_another(settings) {
            Some(why) => Err(Some(why)),
            None => Ok(client),
        }
    }

    /// `Err(None)` where nobody listens.
    async fn connect(path: &Path) -> Result<Self, Option<String>> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(problem)
                if matches!(
                    problem.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Err(None);
            }
            Err(problem) if problem.kind() == io::ErrorKind::PermissionDenied => {
                let path = path.display();
                return Err(Some(format!(
                    "only its own user comes to {path}: {problem}"
                )));
            }
            Err(problem) => return Err(Some(problem.to_string())),
        };
        if !socket::is_trusted(&stream).unwrap_or(false) {
            return Err(Some("another user listens there".to_owned()));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|problem| Some(problem.to_string()))?;
        tokio::spawn(connection);
        let mut client = Self {
            sender: tokio::sync::Mutex::new(sender),
            hello: Hello::default(),
        };
        let hello: Value = client
            .ask(Method::GET, "/v1/hello", Vec::new(), GREETING)
            .await
            .map_err(|trouble| {
                Some(match trouble {
                    Trouble::NotDone(why) => why,
                    Trouble::Failed(failure) => failure.message,
                })
            })?;
        if hello["api"] != API {
            return Err(Some(format!(
                "it is Postrider {}, which speaks otherwise",
                hello["version"].as_str().unwrap_or("of another version")
            )));
        }
        client.hello =
            serde_json::from_value(hello).map_err(|_| Some("it speaks otherwise".to_owned()))?;
        Ok(client)
    }

    /// Why this daemon is not the one for these settings.
    fn is_of_another(&self, settings: &AppSettings) -> Option<String> {
        let ours = config_file(settings).map(|file| canonical(&file));
        if ours != self.hello.config {
            let theirs = self.hello.config.as_deref().unwrap_or("no file");
            return Some(format!("its configuration is {theirs}"));
        }
        let state = settings.state_dir.as_deref()?;
        (canonical(state) != self.hello.state_dir)
            .then(|| format!("its state is in {}", self.hello.state_dir))
    }

    /// A token.
    pub(crate) async fn token(
        &self,
        account: &str,
        at_least: Duration,
    ) -> Result<TokenAnswer, Trouble> {
        let body = json!({ "min_lifetime": at_least.as_secs_f64() });
        self.post(&account_path(account, "token"), &body, ASKED)
            .await
    }

    /// Sends a message, once: where it is not known what became of it, that is the answer.
    pub(crate) async fn send(
        &self,
        account: &str,
        request: &SendRequest,
    ) -> Result<SendOutcome, Trouble> {
        self.submit(account, request, unknown).await
    }

    /// Queues a message, once: where it is not known whether it is queued, that is the answer.
    pub(crate) async fn enqueue(
        &self,
        account: &str,
        request: &SendRequest,
    ) -> Result<Queued, Trouble> {
        self.submit(account, request, perhaps_queued).await
    }

    async fn submit<T: DeserializeOwned>(
        &self,
        account: &str,
        request: &SendRequest,
        lost: fn(&str, &str) -> Trouble,
    ) -> Result<T, Trouble> {
        let Some(body) = MessageRequest::to_json(account, request) else {
            return Err(Trouble::NotDone(
                "the message is too large for it, or a file cannot be read".to_owned(),
            ));
        };
        self.ask_once("/v1/messages", body, SENT, |why| lost(account, why))
            .await
    }

    /// The accounts and how they stand.
    pub(crate) async fn accounts(&self) -> Result<Vec<Listed>, Trouble> {
        self.get("/v1/accounts").await
    }

    /// An account's settings.
    pub(crate) async fn account(&self, account: &str) -> Result<Value, Trouble> {
        self.get(&format!("/v1/accounts/{}", segment(account)))
            .await
    }

    /// Checks an account.
    pub(crate) async fn check(
        &self,
        account: &str,
        request: &CheckRequest,
    ) -> Result<CheckAnswer, Trouble> {
        self.post(&account_path(account, "check"), request, ASKED)
            .await
    }

    /// Sends the test message, once.
    pub(crate) async fn send_test(&self, account: &str, to: &str) -> Result<SendOutcome, Trouble> {
        let body = json!({ "to": to }).to_string().into_bytes();
        let path = account_path(account, "test");
        self.ask_once(&path, body, SENT, |why| unknown(account, why))
            .await
    }

    /// How many accounts it will be, and each one as soon as it is done.
    pub(crate) async fn rotate(
        &self,
        request: &RotateRequest,
    ) -> Result<(usize, impl Stream<Item = Result<Report, Failure>> + use<>), Trouble> {
        let body = serde_json::to_vec(request).unwrap_or_default();
        let handed = Handed::new(body);
        let response = self
            .request(Method::POST, "/v1/rotate", handed, ASKED)
            .await;
        let response = response.map_err(Trouble::NotDone)?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let mut lines = Box::pin(lines(response.into_body()));
        let count = match lines.next().await {
            Some(Ok(line)) => line["accounts"].as_u64(),
            _ => None,
        };
        let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else {
            return Err(Trouble::NotDone("it broke off".to_owned()));
        };
        let reports = lines.map(|line| {
            line.and_then(|line| serde_json::from_value(line).map_err(|_| broke_off()))
        });
        Ok((count, reports))
    }

    /// The schedules in force.
    pub(crate) async fn schedules(&self) -> Result<Vec<ScheduleStatus>, Trouble> {
        self.get("/v1/schedules").await
    }

    /// Pauses a schedule, or lets it go on.
    pub(crate) async fn switch_schedule(
        &self,
        name: &str,
        switch: Switch,
    ) -> Result<ScheduleStatus, Trouble> {
        let action = match switch {
            Switch::Pause => "pause",
            Switch::Resume => "resume",
        };
        self.post(&schedule_path(name, action), &json!({}), KNOWN)
            .await
    }

    /// The latest runs of a schedule.
    pub(crate) async fn history(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Vec<RunReport>, Trouble> {
        let path = schedule_path(name, "history");
        self.get(&format!("{path}?limit={limit}")).await
    }

    /// Runs a schedule to its end, once.
    pub(crate) async fn run_schedule(&self, name: &str) -> Result<RunReport, Trouble> {
        let body = json!({ "wait": true }).to_string().into_bytes();
        let lost = |why: &str| {
            let failure = Failure::new(
                "schedule.lost",
                format!("the daemon took the run and did not say what became of it: {why}"),
            )
            .with_remedy(format!("look: postrider schedule history {name}"));
            Trouble::Failed(Box::new(failure))
        };
        self.ask_once(&schedule_path(name, "run"), body, RAN, lost)
            .await
    }

    /// How the daemon stands.
    pub(crate) async fn status(&self) -> Result<Standing, Trouble> {
        self.get("/v1/status").await
    }

    /// Has everything loaded anew.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Trouble> {
        self.post("/v1/reload", &json!({}), ASKED).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.ask(Method::GET, path, Vec::new(), KNOWN).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.ask(Method::POST, path, body, patience).await
    }

    /// Asks for what may be asked for twice.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<T, Trouble> {
        let response = self
            .request(method, path, Handed::new(body), patience)
            .await
            .map_err(Trouble::NotDone)?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        match timeout(patience, to_bytes(response.into_body(), CAP)).await {
            Ok(Ok(body)) => serde_json::from_slice(&body)
                .map_err(|_| Trouble::NotDone("its answer is of another version".to_owned())),
            _ => Err(Trouble::NotDone("it broke off".to_owned())),
        }
    }

    /// Asks for what must not be done twice. Once the request is out of hand and the answer is not
    /// there, it is `lost`.
    async fn ask_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        patience: Duration,
        lost: impl Fn(&str) -> Trouble,
    ) -> Result<T, Trouble> {
        let handed = Handed::new(body);
        let is_out_of_hand = Arc::clone(&handed.is_out_of_hand);
        let response = match self.request(Method::POST, path, handed, patience).await {
            Ok(response) => response,
            Err(why) if !is_out_of_hand.load(Ordering::Acquire) => {
                return Err(Trouble::NotDone(why));
            }
            Err(why) => return Err(lost(&why)),
        };
        let is_done = response.status().is_success();
        let body = timeout(KNOWN, to_bytes(response.into_body(), CAP)).await;
        let Ok(Ok(body)) = body else {
            return Err(lost("it broke off"));
        };
        let answer = if is_done {
            serde_json::from_slice(&body).map_err(|_| None)
        } else {
            Err(serde_json::from_slice::<Refusal>(&body).ok())
        };
        answer.map_err(|refusal| match refusal {
            Some(refusal) => Trouble::Failed(Box::new(refusal.into())),
            None => lost("its answer is of another version"),
        })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Handed,
        patience: Duration,
    ) -> Result<Response<Body>, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "postrider")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|problem| problem.to_string())?;
        let answer = async {
            let mut sender = self.sender.lock().await;
            sender.ready().await?;
            sender.send_request(request).await
        };
        match timeout(patience, answer).await {
            Ok(Ok(response)) => Ok(response.map(Body::new)),
            Ok(Err(problem)) => Err(crate::failure::with_sources(&problem)),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }
}

/// What became of a message that the daemon took and said nothing of.
fn unknown(account: &str, why: &str) -> Trouble {
    let failure = Failure::new(
        "smtp.unknown",
        format!("the daemon took the message and did not say what became of it: {why}"),
    )
    .with_account(account)
    .with_remedy("look for it in the daemon's log before sending it again");
    Trouble::Failed(Box::new(failure))
}

fn perhaps_queued(account: &str, why: &str) -> Trouble {
    let failure = Failure::new(
        "queue.unknown",
        format!("the daemon took the message and did not say whether it is queued: {why}"),
    )
    .with_account(account)
    .with_remedy(
        "`postrider queue list --all` shows whether it is there; with the same --idempotency-key \
         it may be queued again safely",
    );
    Trouble::Failed(Box::new(failure))
}

fn broke_off() -> Failure {
    Failure::new(
        "internal.daemon",
        "the daemon broke off in the middle of its answer",
    )
    .with_remedy("run the command again: what is fresh already stays as it is")
    .retryable()
}

/// The failure in an answer.
async fn refusal(response: Response<Body>) -> Trouble {
    let status = response.status();
    let body = timeout(KNOWN, to_bytes(response.into_body(), CAP)).await;
    let refusal = match body {
        Ok(Ok(body)) => serde_json::from_slice::<Refusal>(&body).ok(),
        _ => None,
    };
    match refusal.map(Failure::from) {
        // An older daemon, which does not know of this.
        Some(failure) if failure.code == "usage.no_such_path" => Trouble::NotDone(failure.message),
        Some(failure) => Trouble::Failed(Box::new(failure)),
        None => Trouble::NotDone(format!("it answers with {status}")),
    }
}

/// The lines of JSON in an answer.
fn lines(body: Body) -> impl Stream<Item = Result<Value, Failure>> {
    let state = (body.into_data_stream(), Vec::<u8>::new());
    futures_util::stream::unfold(Some(state), |state| async move {
        let (mut data, mut kept) = state?;
        loop {
            if let Some(end) = kept.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = kept.drain(..=end).collect();
                return match serde_json::from_slice(&line) {
                    Ok(value) => Some((Ok(value), Some((data, kept)))),
                    Err(_) => Some((Err(broke_off()), None)),
                };
            }
            match timeout(ASKED, data.next()).await {
                Ok(None) if kept.is_empty() => return None,
                Ok(Some(Ok(octets))) if kept.len() + octets.len() <= CAP => {
                    kept.extend_from_slice(&octets);
                }
                _ => return Some((Err(broke_off()), None)),
            }
        }
    })
}

fn account_path(account: &str, action: &str) -> String {
    format!("/v1/accounts/{}/{action}", segment(account))
}

fn schedule_path(name: &str, action: &str) -> String {
    format!("/v1/schedules/{}/{action}", segment(name))
}

/// A name as part of a path.
fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// A request's body that knows whether it was taken.
struct Handed {
    octets: Option<Bytes>,
    is_out_of_hand: Arc<AtomicBool>,
}

impl Handed {
    fn new(octets: Vec<u8>) -> Self {
        Self {
            octets: Some(Bytes::from(octets)).filter(|octets| !octets.is_empty()),
            is_out_of_hand: Arc::default(),
        }
    }
}

impl hyper::body::Body for Handed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        // Whoever takes it may write it: from here on it counts as written.
        this.is_out_of_hand.store(true, Ordering::Release);
        Poll::Ready(this.octets.take().map(|octets| Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        self.octets.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.octets.as_ref().map_or(0, |octets| octets.len() as u64))
    }
}
