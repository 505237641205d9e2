//! `/metrics` and `/healthz`, on an address of this machine.
//!
//! Whoever is on the machine may read them, so they hold names and counts and nothing else. A web
//! page must not: a browser that was led here by a name of the page's own says so in `Host`, and
//! is refused (DNS rebinding).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::Metrics;
use crate::control::Daemon;
use crate::control::http::{self, Door};
use crate::control::work;

/// The type of `OpenMetrics` text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `GET /metrics` and `GET /healthz` until `stop` is there.
pub async fn serve(
    listener: TcpListener,
    daemon: Arc<dyn Daemon>,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send,
) {
    let loopback = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    http::serve(
        Network(listener),
        router(daemon, metrics, loopback),
        http::METRICS,
        stop,
    )
    .await;
}

struct Network(TcpListener);

impl Door for Network {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Option<TcpStream>> {
        self.0.accept().await.map(|(stream, _)| Some(stream))
    }
}

type Host = State<(Arc<dyn Daemon>, Metrics)>;

fn router(daemon: Arc<dyn Daemon>, metrics: Metrics, loopback: bool) -> Router {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(health))
        .with_state((daemon, metrics));
    if loopback {
        router.layer(middleware::from_fn(refuse_foreign_names))
    } else {
        // Where other machines may ask, they may ask by any name.
        router
    }
}

async fn refuse_foreign_names(request: Request, next: Next) -> Response {
    if is_own_name(request.headers()) {
        next.run(request).await
    } else {
        (
            StatusCode::MISDIRECTED_REQUEST,
            "ask for it by the address\n",
        )
            .into_response()
    }
}

/// Whether `Host` is a loopback address or `localhost`.
fn is_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || address
            .unwrap_or(name)
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

async fn scrape(State((daemon, metrics)): Host) -> Response {
    let status = daemon.status();
    let tokens = work::tokens_by_state(&daemon.app()).await;
    let text = metrics.render(&status, &tokens);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// 200 where the daemon does its work, 503 where it needs to be looked at or restarted.
///
/// That this is answered shows that the event loop turns. An account that waits for a person is
/// told of, and is no reason for 503: restarting the daemon would not help it.
async fn health(State((daemon, _)): Host) -> Response {
    let status = daemon.status();
    let app = daemon.app();
    let vault = work::vault_problem(&app).await;
    let waiting = work::waiting_for_a_person(&app).await;
    let is_running = status.state != "stopping";
    let ok = is_running && vault.is_none();
    let code = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ok": ok,
        "checks": {
            "running": { "ok": is_running, "state": status.state },
            "vault": { "ok": vault.is_none(), "code": vault.map(|failure| failure.code) },
        },
        "accounts_waiting_for_a_person": waiting,
    });
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
