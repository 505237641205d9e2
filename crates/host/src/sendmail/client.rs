//! The program's side: to a daemon that takes mail, or into the queue itself.
//!
//! A message has a key, so that it can be handed in again where an answer was lost, to the same
//! daemon or past it, and is queued once.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request as HttpRequest, StatusCode, header};
use hyper_util::rt::TokioIo;
use postrider_config::{self as config, Surroundings};
use postrider_delivery::Flush;
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::accept::accept;
use super::door::{Hello, PATH};
use super::gather::{Gathered, too_large};
use super::peer::Peer;
use super::plan::Request;
use crate::app::{App, AppSettings, Queued, queue};
use crate::control::{API, Client, Refusal, socket_path};
use crate::failure::Failure;
use crate::state;

/// Where a daemon of the whole machine takes mail.
pub(crate) const USUAL_SOCKET: &str = "/run/postrider/submit.sock";
/// Names another place.
pub(crate) const SOCKET_VARIABLE: &str = "POSTRIDER_SUBMIT_SOCKET";

/// How long a daemon may take to say that it is there.
const GREETING: Duration = Duration::from_secs(5);
/// How long it may take to have a message on the disk.
const QUEUED: Duration = Duration::from_mins(5);
/// The largest answer.
const CAP: usize = 1024 * 1024;
/// How long is waited before each further attempt: some six seconds in all.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(3200),
];

/// How a message is handed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Past any daemon.
    pub(crate) alone: bool,
    /// Where no daemon delivers it, this process does.
    pub(crate) deliver: bool,
}

/// Where a message is handed in.
pub(crate) enum Way {
    /// At a daemon's socket.
    Daemon(PathBuf),
    /// In the queue itself.
    Queue(App),
}

/// Why it was not queued.
enum Trouble {
    /// Another attempt may do it.
    Passing(String),
    /// None will.
    Lasting(Box<Failure>),
}

/// Queues a message; it is on the disk when this answers.
///
/// # Errors
/// It is not queued; or, where that is what the failure says, nobody knows.
pub(crate) async fn submit(
    settings: &AppSettings,
    manner: Manner,
    request: &Request,
    message: &Gathered,
) -> Result<Queued, Failure> {
    let mut pauses = PAUSES.iter();
    loop {
        let trouble = match Way::find(settings, manner.alone).await? {
            Way::Daemon(socket) => match hand_over(&socket, request, message).await {
                Ok(queued) => return Ok(queued),
                Err(Trouble::Lasting(failure)) => return Err(*failure),
                Err(Trouble::Passing(why)) => format!("{}: {why}", socket.display()),
            },
            Way::Queue(app) => {
                let octets = message.octets();
                let octets = octets.map_err(|problem| unreadable(&problem));
                let queued = accept(&app, request, &Peer::own(), octets).await;
                if let Ok(queued) = &queued {
                    follow(&app, queued, manner.deliver).await;
                }
                app.close().await;
                return queued;
            }
        };
        match pauses.next() {
            Some(pause) => sleep(*pause).await,
            None => {
                return Err(Failure::new(
                    "sendmail.no_answer",
                    format!("the daemon did not take the message: {trouble}"),
                )
                .with_remedy("see whether `postrider serve` is well, then send it again")
                .retryable());
            }
        }
    }
}

/// Delivers what was queued past the daemon, or says that somebody has to. It is safe in any case.
async fn follow(app: &App, queued: &Queued, deliver: bool) {
    if !deliver {
        tracing::warn!(
            id = queued.id,
            "queued, and no daemon delivers it: start `postrider serve`, or run `postrider queue flush`"
        );
        return;
    }
    let flushed = async {
        let delivery = app.delivery().await?;
        let account = Some(queued.account.clone());
        let flush = Flush {
            account,
            now: false,
        };
        delivery
            .flush(flush)
            .await
            .map_err(|error| queue::failure(&error))
    };
    if let Err(failure) = flushed.await {
        tracing::warn!(id = queued.id, "it stays in the queue: {}", failure.message);
    }
}

impl Way {
    /// The daemon of these settings, else the machine's, else the queue of this user. A program
    /// that may not read the configuration needs none.
    ///
    /// # Errors
    /// There is none of them.
    pub(crate) async fn find(settings: &AppSettings, alone: bool) -> Result<Self, Failure> {
        if !alone && let Some(socket) = named_socket() {
            return Ok(Self::Daemon(socket));
        }
        if !alone
            && Client::find(settings).await.is_some()
            && let Ok(socket) = socket_path(settings)
        {
            return Ok(Self::Daemon(socket));
        }
        let file = config::find(settings.config.as_deref(), &Surroundings::of_process());
        let configured = file.as_deref().and_then(door_of);
        if !alone
            && let Some(socket) = &configured
            && UnixStream::connect(socket).await.is_ok()
        {
            return Ok(Self::Daemon(socket.clone()));
        }
        let is_ours = settings.config.is_some() || file.as_deref().is_some_and(is_own);
        if is_ours && is_queue_ours(settings) {
            return App::open(settings).map(Self::Queue);
        }
        let usual = Path::new(USUAL_SOCKET);
        if !alone && usual.exists() {
            return Ok(Self::Daemon(usual.to_owned()));
        }
        let is_away = is_ours || configured.is_some();
        Err(nobody_there(is_away))
    }
}

/// Where `POSTRIDER_SUBMIT_SOCKET` says.
fn named_socket() -> Option<PathBuf> {
    let socket = std::env::var_os(SOCKET_VARIABLE)?;
    (!socket.is_empty()).then(|| socket.into())
}

/// Another user's queue is that user's daemon's alone: root's files would be in its way.
fn is_queue_ours(settings: &AppSettings) -> bool {
    let directory = state::directory(settings.state_dir.as_deref());
    directory.is_ok_and(|directory| !directory.exists() || is_own(&directory))
}

fn nobody_there(is_away: bool) -> Failure {
    let failure = Failure::new(
        "config.no_daemon",
        format!("no daemon takes mail of this user, neither at {USUAL_SOCKET} nor elsewhere"),
    );
    if is_away {
        failure.with_remedy("start `postrider serve`").retryable()
    } else {
        failure.with_remedy(format!(
            "start `postrider serve` with socket = \"{USUAL_SOCKET}\" under [sendmail], or set \
             {SOCKET_VARIABLE}"
        ))
    }
}

/// `[sendmail] socket`.
fn door_of(file: &Path) -> Option<PathBuf> {
    // What else is wrong with the file is the daemon's to say.
    let socket = config::edit::get(file, "sendmail.socket").ok()??;
    let base = file.parent()?;
    socket.as_str().map(|socket| base.join(socket))
}

/// With somebody else's configuration, mail would be queued where nobody ever looks.
fn is_own(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.uid() == geteuid().as_raw())
}

async fn hand_over(
    socket: &Path,
    request: &Request,
    message: &Gathered,
) -> Result<Queued, Trouble> {
    let passing = |problem: &dyn std::error::Error| Trouble::Passing(problem.to_string());
    let connecting = timeout(GREETING, UnixStream::connect(socket));
    let stream = connecting.await.map_err(|problem| passing(&problem))?;
    let stream = stream.map_err(|problem| match problem.kind() {
        io::ErrorKind::PermissionDenied => Trouble::Lasting(Box::new(not_for_us(socket))),
        _ => passing(&problem),
    })?;
    let handshake = http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|problem| passing(&problem))?;
    tokio::spawn(connection);

    let hello: Hello = ask(&mut sender, Method::GET, Body::empty(), GREETING).await?;
    if hello.api != API {
        let failure = Failure::new(
            "config.version",
            "the daemon is another version of Postrider",
        );
        return Err(Trouble::Lasting(Box::new(
            failure.with_remedy("restart it"),
        )));
    }
    let octets = message
        .len()
        .map_err(|problem| Trouble::Lasting(Box::new(unreadable(&problem))))?;
    if octets > hello.max_message {
        return Err(Trouble::Lasting(Box::new(too_large(hello.max_message))));
    }
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    let line = stream::iter([Ok::<_, io::Error>(Bytes::from(line))]);
    let body = Body::from_stream(line.chain(message.octets()));
    ask(&mut sender, Method::POST, body, QUEUED).await
}

async fn ask<T: DeserializeOwned>(
    sender: &mut SendRequest<Body>,
    method: Method,
    body: Body,
    patience: Duration,
) -> Result<T, Trouble> {
    let request = HttpRequest::builder()
        .method(method)
        .uri(PATH)
        .header(header::HOST, "postrider")
        .body(body)
        .map_err(|problem| Trouble::Passing(problem.to_string()))?;
    let answer = async {
        sender.ready().await?;
        sender.send_request(request).await
    };
    let lost = |why: String| Trouble::Passing(format!("no answer: {why}"));
    let response = match timeout(patience, answer).await {
        Ok(Ok(response)) => response.map(Body::new),
        Ok(Err(problem)) => return Err(lost(crate::failure::with_sources(&problem))),
        Err(_) => return Err(lost("it took too long".to_owned())),
    };
    let is_done = response.status() == StatusCode::OK;
    let body = match timeout(GREETING, to_bytes(response.into_body(), CAP)).await {
        Ok(Ok(body)) => body,
        Ok(Err(problem)) => return Err(lost(problem.to_string())),
        Err(_) => return Err(lost("it took too long".to_owned())),
    };
    if is_done {
        return serde_json::from_slice(&body).map_err(|problem| lost(problem.to_string()));
    }
    match serde_json::from_slice::<Refusal>(&body).map(Failure::from) {
        Ok(failure) if failure.code == "sendmail.busy" => Err(Trouble::Passing(failure.message)),
        Ok(failure) => Err(Trouble::Lasting(Box::new(failure))),
        Err(problem) => Err(lost(problem.to_string())),
    }
}

fn not_for_us(socket: &Path) -> Failure {
    Failure::new("sendmail.denied", "this user may not hand in mail here")
        .at(socket.display().to_string())
        .with_remedy("add it to users under [sendmail], or one of its groups to groups")
}

fn unreadable(problem: &io::Error) -> Failure {
    Failure::new(
        "io.temporary",
        format!("the message cannot be read again: {problem}"),
    )
    .retryable()
}
