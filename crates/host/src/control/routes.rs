//! What can be asked at the control socket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use hyper::body::Body as _;
use postrider_config::Gateway;
use postrider_schedule::HISTORY;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::message::{self, MessageRequest};
use super::schedules::{self, ScheduleStatus, Switch};
use super::work::{self, CheckRequest, RotateRequest};
use super::{
    API, AccountStatus, Daemon, Hello, NextRun, QueueStanding, Refusal, Standing, canonical,
};
use crate::app::queue::report::Stats;
use crate::failure::{Failure, exit};
use crate::sendmail::door;

/// The largest request that carries no message.
const CAP: usize = 64 * 1024;

/// How long a request's body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);

/// The longest `min_lifetime` that makes sense: more is the same.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24 * 365);

/// How many schedules the status names.
const NEXT_RUNS: usize = 5;

type Answer = Result<Response, Refused>;

/// A failure on its way out.
struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = status(&self.0);
        (status, Json(Refusal::from(self.0))).into_response()
    }
}

/// The HTTP status that goes with a failure. The body says more.
fn status(failure: &Failure) -> StatusCode {
    match failure.code.as_str() {
        "config.no_such_account" | "schedule.unknown" | "usage.no_such_path" => {
            StatusCode::NOT_FOUND
        }
        "schedule.running" => StatusCode::CONFLICT,
        "usage.method" => StatusCode::METHOD_NOT_ALLOWED,
        "usage.too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "usage.too_slow" => StatusCode::REQUEST_TIMEOUT,
        _ => match failure.exit_code() {
            exit::USAGE => StatusCode::BAD_REQUEST,
            exit::DATAERR | exit::NOINPUT => StatusCode::UNPROCESSABLE_ENTITY,
            // The account or the configuration is not in a state to do it; somebody has to act.
            exit::CONFIG | exit::NOPERM => StatusCode::CONFLICT,
            exit::UNAVAILABLE => StatusCode::BAD_GATEWAY,
            exit::PROTOCOL => StatusCode::GATEWAY_TIMEOUT,
            exit::TEMPFAIL => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

/// Everything that can be asked.
pub(super) fn router(daemon: Arc<dyn Daemon>) -> Router {
    Router::new()
        .route("/v1/hello", get(hello))
        .route("/v1/status", get(standing))
        .route("/v1/reload", post(reload))
        .route("/v1/accounts", get(accounts))
        .route("/v1/accounts/{name}", get(account))
        .route("/v1/accounts/{name}/token", post(token))
        .route("/v1/accounts/{name}/rotate", post(rotate_one))
        .route("/v1/accounts/{name}/check", post(check))
        .route("/v1/accounts/{name}/test", post(send_test))
        .route("/v1/rotate", post(rotate))
        .route("/v1/messages", post(send))
        .route("/v1/schedules", get(all_schedules))
        .route("/v1/schedules/{name}/run", post(run_schedule))
        .route("/v1/schedules/{name}/pause", post(pause))
        .route("/v1/schedules/{name}/resume", post(resume))
        .route("/v1/schedules/{name}/history", get(history))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&daemon))
        .merge(door::routes(daemon))
}

type Host = State<Arc<dyn Daemon>>;

/// What a path names: an account, or a schedule.
struct Name(String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name))
            .map_err(|_| Failure::new("usage.request", "the name in the path is no text").into())
    }
}

async fn hello(State(daemon): Host) -> Json<Hello> {
    let status = daemon.status();
    Json(Hello {
        api: API,
        version: status.version.into_owned(),
        pid: status.pid,
        config: daemon.app().config_path().map(canonical),
        state_dir: status.state_dir,
    })
}

async fn standing(State(daemon): Host) -> Json<Standing> {
    let app = daemon.app();
    let (accounts, missing, queue, renewals) = tokio::join!(
        work::accounts(&app),
        work::missing_secrets(&app),
        app.queue_stats(),
        app.renewals()
    );
    let mut status = daemon.status();
    for account in &mut status.accounts {
        let secret = missing.get(&account.name);
        if let Some(failure) = secret.filter(|_| account.state == "ready") {
            *account = AccountStatus::new(&account.name, "needs_secret", Some(failure));
        }
    }
    let waiting = work::waiting_for_a_person(&accounts);
    let config = app.config();
    for gateway in &mut status.gateways {
        let settings = config.gateways.get(&gateway.name);
        for name in settings.into_iter().flat_map(accounts_in_use) {
            // Whoever signs in, or puts a secret in its place, sees the mail go on.
            let own = status.accounts.iter().find(|account| account.name == name);
            let own = own.filter(|account| ["needs_secret", "failed"].contains(&&*account.state));
            gateway.waiting.extend(own.or(waiting.get(name)).cloned());
        }
    }
    Json(Standing {
        status,
        tokens: work::by_state(&accounts),
        next_runs: next_runs(schedules::list(app.scheduler())),
        renewals,
        queue: match queue {
            Ok(counted) => QueueStanding {
                stats: counted,
                problem: None,
            },
            Err(failure) => QueueStanding {
                stats: Stats::default(),
                problem: Some(Box::new(failure)),
            },
        },
    })
}

/// Those that mail of this gateway goes through now.
fn accounts_in_use(gateway: &Gateway) -> BTreeSet<&str> {
    if let Some(observed) = &gateway.observe {
        return [observed.as_str()].into();
    }
    let own = gateway.devices.values();
    let all = own.chain([&gateway.defaults]);
    all.map(|device| device.account.as_str()).collect()
}

/// The few that are asked about.
fn next_runs(list: Vec<ScheduleStatus>) -> Vec<NextRun> {
    let mut next: Vec<NextRun> = list
        .into_iter()
        .filter_map(|one| {
            Some(NextRun {
                at: one.next?,
                schedule: one.name.unwrap_or(one.plan),
                script: one.script,
            })
        })
        .collect();
    next.sort_by_key(|run| run.at);
    next.truncate(NEXT_RUNS);
    next
}

async fn reload(State(daemon): Host) -> Answer {
    // Whoever asked may leave; what was begun is ended.
    let reloaded = finish(async move { daemon.reload().await }).await?;
    Ok(Json(reloaded).into_response())
}

async fn accounts(State(daemon): Host) -> Answer {
    let app = daemon.app();
    let listed = work::accounts(&app).await;
    Ok(Json(listed).into_response())
}

async fn account(State(daemon): Host, Name(name): Name) -> Answer {
    let app = daemon.app();
    Ok(Json(work::account(&app, &name)?).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TokenRequest {
    /// Seconds.
    min_lifetime: f64,
}

async fn token(State(daemon): Host, Name(name): Name, request: Request) -> Answer {
    let request: TokenRequest = read(request, CAP).await?;
    let at_least = Duration::try_from_secs_f64(request.min_lifetime)
        .map_err(|_| Failure::new("usage.request", "\"min_lifetime\" is a number of seconds"))?
        .min(LONGEST_LIFETIME);
    let app = daemon.app();
    let token = work::token(&app, &name, at_least).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(token)).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RotateOneRequest {
    force: bool,
}

async fn rotate_one(State(daemon): Host, Name(name): Name, request: Request) -> Answer {
    let request: RotateOneRequest = read(request, CAP).await?;
    let app = daemon.app();
    let rotated = app.account(&name).await?.rotate(request.force).await?;
    Ok(Json(rotated).into_response())
}

/// A line of JSON with their number, then one for each account as soon as it is done.
async fn rotate(State(daemon): Host, request: Request) -> Answer {
    let request: RotateRequest = read(request, CAP).await?;
    let app = daemon.app();
    let names = work::names(&app, &request)?;
    let count = line(&json!({ "accounts": names.len() }));
    let reports = work::rotate(app, names, request.force).map(|report| line(&report));
    let lines = futures_util::stream::iter([count]).chain(reports);
    let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}

async fn check(State(daemon): Host, Name(name): Name, request: Request) -> Answer {
    let request: CheckRequest = read(request, CAP).await?;
    let app = daemon.app();
    let found = work::check(&app, &name, &request).await?;
    Ok(Json(found).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestRequest {
    to: String,
}

async fn send_test(State(daemon): Host, Name(name): Name, request: Request) -> Answer {
    let request: TestRequest = read(request, CAP).await?;
    let app = daemon.app();
    let sent = finish(async move { work::send_test(&app, &name, &request.to).await }).await?;
    Ok(Json(sent).into_response())
}

/// What messages on their way in may hold of the memory together, in KiB: the longest one, or
/// many of the usual kind. Further ones wait.
static ROOM: Semaphore = Semaphore::const_new(message::CAP / 1024);

/// Room for a message of this length, if it is known.
async fn room(announced: Option<u64>) -> Option<SemaphorePermit<'static>> {
    const ALL: u64 = message::CAP as u64 / 1024;
    let kib = announced.map_or(ALL, |octets| octets / 1024 + 1).min(ALL);
    // Nobody closes it.
    ROOM.acquire_many(u32::try_from(kib).ok()?).await.ok()
}

async fn send(State(daemon): Host, request: Request) -> Answer {
    let _room = room(request.body().size_hint().exact()).await;
    let request: MessageRequest = read(request, message::CAP).await?;
    let account = request.account.clone();
    let message = request.into_request()?;
    let app = daemon.app();
    if message.queue.is_some() {
        let origin = "the control socket";
        let queued = finish(async move { app.enqueue(&account, message, origin).await }).await?;
        return Ok((StatusCode::ACCEPTED, Json(queued)).into_response());
    }
    let sent = finish(async move { work::send(&app, &account, message).await }).await?;
    Ok(Json(sent).into_response())
}

async fn all_schedules(State(daemon): Host) -> Json<Vec<ScheduleStatus>> {
    Json(schedules::list(daemon.app().scheduler()))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RunRequest {
    /// Whether the answer is how it ended.
    wait: bool,
}

/// Runs it, and goes on with that though whoever asked may leave.
async fn run_schedule(State(daemon): Host, Name(name): Name, request: Request) -> Answer {
    let request: RunRequest = read(request, CAP).await?;
    let app = daemon.app();
    if request.wait {
        let ran = schedules::run(app.scheduler(), &name).await?;
        return Ok(Json(ran).into_response());
    }
    schedules::begin(app.scheduler(), &name)?;
    let begun = Json(json!({ "schedule": name, "begun": true }));
    Ok((StatusCode::ACCEPTED, begun).into_response())
}

async fn pause(State(daemon): Host, Name(name): Name) -> Answer {
    let standing = schedules::switch(daemon.app().scheduler(), &name, Switch::Pause).await?;
    Ok(Json(standing).into_response())
}

async fn resume(State(daemon): Host, Name(name): Name) -> Answer {
    let standing = schedules::switch(daemon.app().scheduler(), &name, Switch::Resume).await?;
    Ok(Json(standing).into_response())
}

/// `?limit=20`
async fn history(State(daemon): Host, Name(name): Name, uri: Uri) -> Answer {
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut limit = HISTORY;
    for (key, value) in url::form_urlencoded::parse(query) {
        let ("limit", Ok(count)) = (&*key, value.parse()) else {
            let why = "only \"limit\" can be asked for, a number";
            return Err(Failure::new("usage.request", why).into());
        };
        limit = count;
    }
    let runs = schedules::history(daemon.app().scheduler(), &name, limit).await?;
    Ok(Json(runs).into_response())
}

/// Carries it out to its end, though whoever asked for it may leave: half a message is worse
/// than one.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(work)
        .await
        .map_err(|_| Failure::new("internal", "the daemon could not finish it"))?
}

async fn no_such_path(method: Method, uri: Uri) -> Refused {
    Refused(
        Failure::new(
            "usage.no_such_path",
            format!("there is no {method} {}", uri.path()),
        )
        .with_remedy("see `postrider serve --help` for what can be asked"),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refused {
    Refused(Failure::new(
        "usage.method",
        format!("{} is not asked with {method}", uri.path()),
    ))
}

/// The body as JSON; without one, nothing is said.
async fn read<T: DeserializeOwned>(request: Request, cap: usize) -> Result<T, Failure> {
    let too_large = || {
        let message = format!("the request has more than {cap} octets");
        Failure::new("usage.too_large", message)
    };
    // What is announced is not waited for.
    if request.body().size_hint().lower() > cap as u64 {
        return Err(too_large());
    }
    let body = tokio::time::timeout(ARRIVAL, to_bytes(request.into_body(), cap))
        .await
        .map_err(|_| Failure::new("usage.too_slow", "the request did not arrive in time"))?
        .map_err(|problem| {
            let text = crate::failure::with_sources(&problem);
            if text.contains("length limit") {
                too_large()
            } else {
                Failure::new("usage.request", "the request broke off")
            }
        })?;
    let json: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(json)
        .map_err(|problem| Failure::new("usage.request", format!("the request: {problem}")))
}
