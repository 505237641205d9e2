//! The daemon's socket for mail, and nothing else: for users of the machine who may not control it.
//!
//! HTTP/1.1 as on the control socket. `GET /v1/sendmail` says that somebody is there; `POST
//! /v1/sendmail` takes a line of JSON with what the command line said (a [`Request`]), then the
//! message as it is. The kernel says who is at the other end, and the message's origin keeps it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures_util::{Stream, StreamExt as _, stream};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::accept::accept;
use super::ledger::{Ledger, Place};
use super::peer::Peer;
use super::plan::Request;
use crate::app::Queued;
use crate::control::http::{self, Door};
use crate::control::{API, Daemon, Purpose, Refusal, SocketFile};
use crate::failure::{Failure, exit};

/// Where it answers.
pub(super) const PATH: &str = "/v1/sendmail";

/// Who may hand in mail is asked at the kernel: anybody may connect.
const SUBMISSION: Purpose = Purpose {
    name: "the socket for mail",
    setting: "sendmail.socket",
    mode: 0o666,
    directory_mode: 0o755,
};

/// How long the next octets may take. The client has all of them before it connects.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of what the command line said is too much: some ten thousand recipients.
const MAX_LINE_OCTETS: usize = 1024 * 1024;

/// How much of a refused message is read, for its answer to be read.
const DISCARDED_OCTETS: usize = 256 * 1024 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    peer: Peer,
    /// `None` where they have too many already.
    place: Option<Arc<Place>>,
}

impl Visitor {
    /// As the kernel says. Others than root and the daemon's user need a place.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn of(stream: &UnixStream, ledger: Option<&Ledger>) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let peer = Peer::new(credentials.uid(), credentials.gid());
        let place = ledger.and_then(|ledger| ledger.place(peer.uid()));
        let place = place.map(Arc::new);
        Ok(Self { peer, place })
    }
}

/// The answer to `GET`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// What is spoken.
    pub(super) api: u32,
    /// The longest message that is taken.
    pub(super) max_message: u64,
}

/// The routes of handing in mail.
pub(crate) fn routes(daemon: Arc<dyn Daemon>) -> Router {
    Router::new()
        .route(PATH, get(hello).post(submit))
        .with_state(daemon)
}

async fn hello(
    State(daemon): State<Arc<dyn Daemon>>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    match admit(&daemon, &visitor) {
        Ok(_) => {
            let at_most = daemon.app().config().queue.max_message_octets;
            Json(Hello {
                api: API,
                max_message: at_most as u64,
            })
            .into_response()
        }
        Err(failure) => refuse(failure),
    }
}

async fn submit(
    State(daemon): State<Arc<dyn Daemon>>,
    Extension(visitor): Extension<Visitor>,
    request: HttpRequest,
) -> Response {
    let peer = match admit(&daemon, &visitor) {
        Ok(peer) => peer,
        Err(failure) => return refuse(failure),
    };
    // Nothing is too much of those who could do worse.
    let place = visitor.place.as_deref().filter(|_| !peer.is_trusted());
    let mut arriving = Arriving::new(request.into_body());
    match take(&daemon, &peer, place, &mut arriving).await {
        Ok(queued) => Json(queued).into_response(),
        Err(failure) => {
            // Whoever is writing still is to read the answer.
            arriving.discard().await;
            refuse(failure)
        }
    }
}

/// Whoever may hand in mail.
fn admit(daemon: &Arc<dyn Daemon>, visitor: &Visitor) -> Result<Peer, Failure> {
    let peer = &visitor.peer;
    if peer.is_trusted() {
        return Ok(peer.clone());
    }
    let app = daemon.app();
    if !peer.is_welcome(&app.config().sendmail) {
        let place = visitor.place.as_ref();
        if place.is_some_and(|place| place.is_first_refusal()) {
            tracing::warn!(origin = %peer, "a user who may not hand in mail was turned away");
        }
        return Err(denied(peer));
    }
    if visitor.place.is_none() {
        let why = "the daemon is busy with other mail of this user";
        return Err(Failure::new("sendmail.busy", why).retryable());
    }
    Ok(peer.clone())
}

fn denied(peer: &Peer) -> Failure {
    Failure::new("sendmail.denied", "this user may not hand in mail here").with_remedy(format!(
        "add the user ({}) to users, or one of its groups to groups, under [sendmail]",
        peer.uid()
    ))
}

async fn take(
    daemon: &Arc<dyn Daemon>,
    peer: &Peer,
    place: Option<&Place>,
    arriving: &mut Arriving,
) -> Result<Queued, Failure> {
    if let Some(place) = place {
        place.begin_message()?;
    }
    let line = arriving.line().await?;
    let request: Request = serde_json::from_slice(&line)
        .map_err(|problem| Failure::new("usage.request", format!("the first line: {problem}")))?;
    let app = daemon.app();
    let octets = arriving.octets().map(|octets| {
        let octets = octets?;
        if let Some(place) = place {
            place.add_octets(octets.len())?;
        }
        Ok(octets)
    });
    accept(&app, &request, peer, octets).await
}

/// The HTTP status is for people; the body says it all.
fn refuse(failure: Failure) -> Response {
    let status = match failure.code.as_str() {
        "sendmail.denied" => StatusCode::FORBIDDEN,
        "message.too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        _ => match failure.exit_code() {
            exit::USAGE => StatusCode::BAD_REQUEST,
            exit::DATAERR => StatusCode::UNPROCESSABLE_ENTITY,
            exit::TEMPFAIL => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    };
    (status, Json(Refusal::from(failure))).into_response()
}

/// The socket's file, and who comes in there.
pub(crate) struct SubmitDoor {
    socket: SocketFile,
    ledger: Ledger,
}

impl SubmitDoor {
    /// Makes the socket, in place of one that a dead daemon left behind. Everybody may connect, and
    /// is asked for at the kernel.
    ///
    /// # Errors
    /// As for the control socket.
    pub(crate) fn bind(path: &Path) -> Result<Self, Failure> {
        let socket = SocketFile::bind(path, SUBMISSION)?;
        if is_in_user_namespace() {
            tracing::warn!(
                "this process has a user namespace of its own (PrivateUsers= in its unit), where it \
                 sees no user of the machine: nobody but root and itself can hand in mail"
            );
        }
        Ok(Self {
            socket,
            ledger: Ledger::default(),
        })
    }

    /// Takes mail until `stop` is there, then lets what is under way end.
    pub(crate) async fn serve(
        self,
        daemon: Arc<dyn Daemon>,
        stop: impl Future<Output = ()> + Send,
    ) {
        http::serve(self, routes(daemon), http::SUBMISSION, stop).await;
    }
}

impl Door for SubmitDoor {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        self.socket.accept().await.map(Some)
    }

    fn router(&self, router: &Router, stream: &UnixStream) -> io::Result<Router> {
        // The place is free again with the connection, which owns its router.
        let visitor = Visitor::of(stream, Some(&self.ledger))?;
        Ok(router.clone().layer(Extension(visitor)))
    }
}

/// Whether users of the machine have other numbers here, or none.
fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut fields = map.split_whitespace();
    let whole = ["0", "0", "4294967295"];
    !map.is_empty() && !whole.iter().all(|field| fields.next() == Some(field))
}

/// A request's body.
struct Arriving {
    data: BodyDataStream,
    /// What came behind the first line.
    held: Bytes,
}

impl Arriving {
    fn new(body: Body) -> Self {
        Self {
            data: body.into_data_stream(),
            held: Bytes::new(),
        }
    }

    /// The next octets; none at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if !self.held.is_empty() {
            return Some(Ok(std::mem::take(&mut self.held)));
        }
        let broke_off = |why: &str| Failure::new("usage.request", why).retryable();
        match timeout(PATIENCE, self.data.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(octets))) => Some(Ok(octets)),
            Ok(Some(Err(_))) => Some(Err(broke_off("the message broke off"))),
            Err(_) => Some(Err(broke_off("the message did not arrive in time"))),
        }
    }

    /// The first line.
    async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        while let Some(octets) = self.next().await {
            let mut octets = octets?;
            if let Some(end) = octets.iter().position(|&octet| octet == b'\n') {
                line.extend_from_slice(&octets.split_to(end));
                self.held = octets.split_off(1);
                return Ok(line);
            }
            line.extend_from_slice(&octets);
            if line.len() > MAX_LINE_OCTETS {
                let why = format!("the first line has more than {MAX_LINE_OCTETS} octets");
                return Err(Failure::new("usage.request", why)
                    .with_remedy("hand the message in for fewer recipients at a time"));
            }
        }
        Err(Failure::new(
            "usage.request",
            "there is no message behind a line of JSON",
        ))
    }

    /// What follows.
    fn octets(&mut self) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
        stream::unfold(self, async |this| {
            this.next().await.map(|octets| (octets, this))
        })
    }

    /// Reads what is left, within bounds.
    async fn discard(&mut self) {
        let mut left = DISCARDED_OCTETS;
        while let Some(Ok(octets)) = self.next().await {
            left = left.saturating_sub(octets.len());
            if left == 0 {
                return;
            }
        }
    }
}
