//! `/metrics` and `/healthz`, on an address of this machine.
//!
//! Whoever is on the machine may read them, so they hold names and counts and nothing else. A web
//! page must not: a browser that was led here by a name of the page's own says so in `Host`, and
//! is refused (DNS rebinding).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Metrics;
use crate::app::queue::report::Stats;
use crate::control::Daemon;
use crate::control::http::{self, Door};
use crate::control::work;

/// How old what is shown of accounts may be: whoever is on the machine may ask again and again, and
/// each look reads as many files as there are accounts.
const FRESH: Duration = Duration::from_secs(1);

/// The same of what waits: it is counted message by message.
const COUNTED: Duration = Duration::from_secs(10);

/// How long the scheduler may take to give a sign of life.
const PULSE: Duration = Duration::from_secs(5);

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

type Host = State<Arc<Shown>>;

/// What is shown.
struct Shown {
    daemon: Arc<dyn Daemon>,
    metrics: Metrics,
    /// How many accounts there are in each state, when that was last looked up.
    accounts: Mutex<Option<(Instant, BTreeMap<String, usize>)>>,
    /// What waits, when that was last looked up.
    queue: Mutex<Option<(Instant, Stats)>>,
}

impl Shown {
    fn new(daemon: Arc<dyn Daemon>, metrics: Metrics) -> Self {
        Self {
            daemon,
            metrics,
            accounts: Mutex::default(),
            queue: Mutex::default(),
        }
    }

    /// What waits, a few moments ago at most; nothing where the queue cannot be read.
    async fn queue(&self) -> Stats {
        let mut known = self.queue.lock().await;
        if let Some((at, stats)) = &*known
            && at.elapsed() < COUNTED
        {
            return stats.clone();
        }
        let stats = self.daemon.app().queue_stats().await.unwrap_or_default();
        *known = Some((Instant::now(), stats.clone()));
        stats
    }

    /// How many accounts there are in each state of their credential, a moment ago at most. One
    /// looks it up for all who ask.
    async fn accounts(&self) -> BTreeMap<String, usize> {
        let mut known = self.accounts.lock().await;
        if let Some((at, accounts)) = &*known
            && at.elapsed() < FRESH
        {
            return accounts.clone();
        }
        let accounts = work::tokens_by_state(&self.daemon.app()).await;
        *known = Some((Instant::now(), accounts.clone()));
        accounts
    }
}

fn router(daemon: Arc<dyn Daemon>, metrics: Metrics, loopback: bool) -> Router {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(health))
        .with_state(Arc::new(Shown::new(daemon, metrics)));
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

async fn scrape(State(shown): Host) -> Response {
    let (accounts, queue) = tokio::join!(shown.accounts(), shown.queue());
    let status = shown.daemon.status();
    let text = shown.metrics.render(&status, &accounts, &queue);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// 200 where the daemon does its work, 503 where it needs to be looked at or restarted.
///
/// That this is answered shows that the event loop turns; the scheduler is asked itself. An account that waits for a person is
/// told of, and is no reason for 503: restarting the daemon would not help it.
async fn health(State(shown): Host) -> Response {
    let status = shown.daemon.status();
    let app = shown.daemon.app();
    let is_running = status.state != "stopping";
    let (vault, accounts, schedules) = tokio::join!(
        work::vault_problem(&app),
        shown.accounts(),
        timeout(PULSE, app.scheduler().answers()),
    );
    let waiting = accounts.get(work::SIGN_IN_NEEDED).copied();
    let ok = is_running && vault.is_none() && schedules.is_ok();
    let code = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ok": ok,
        "checks": {
            "running": { "ok": is_running, "state": status.state },
            "scheduler": { "ok": schedules.is_ok() },
            "vault": { "ok": vault.is_none(), "code": vault.map(|failure| failure.code) },
        },
        "accounts_waiting_for_a_person": waiting.unwrap_or_default(),
    });
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::to_bytes;
    use futures_util::future::{BoxFuture, FutureExt as _, pending};
    use postrider_config::Config;
    use serde_json::Value;

    use super::*;
    use crate::app::{App, AppSettings, Moment, World};
    use crate::control::{Reloaded, ScheduleCounts, Status};
    use crate::failure::Failure;

    /// A daemon whose scheduler nobody drives yet.
    struct Idle {
        app: App,
        state: &'static str,
    }

    impl Daemon for Idle {
        fn app(&self) -> App {
            self.app.clone()
        }

        fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Failure>> {
            pending().boxed()
        }

        fn status(&self) -> Status {
            let now = Moment(self.app.clock().now().into());
            Status {
                version: "0".into(),
                pid: 0,
                state: self.state.into(),
                started_at: now,
                generation: 1,
                loaded_at: now,
                config: None,
                state_dir: String::new(),
                scripts: Vec::new(),
                last_reload: None,
                restart_needed: Vec::new(),
                accounts: Vec::new(),
                schedules: ScheduleCounts::default(),
                gateways: Vec::new(),
                ledger: None,
            }
        }
    }

    /// Counts how often its accounts are looked at.
    struct Counting(Arc<AtomicUsize>);

    impl Daemon for Counting {
        fn app(&self) -> App {
            self.0.fetch_add(1, Ordering::Relaxed);
            App::with_config(&AppSettings::default(), Config::default(), World::outside())
        }

        fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Failure>> {
            pending().boxed()
        }

        fn status(&self) -> Status {
            unreachable!("nobody asks")
        }
    }

    async fn health_of(app: &App, state: &'static str) -> (u16, Value) {
        let daemon = Idle {
            app: app.clone(),
            state,
        };
        let shown = Shown::new(Arc::new(daemon), Metrics::default());
        let answer = health(State(Arc::new(shown))).await;
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_is_told_what_was_looked_up_a_moment_ago() {
        let looks = Arc::new(AtomicUsize::new(0));
        let shown = Shown::new(Arc::new(Counting(Arc::clone(&looks))), Metrics::default());
        for _ in 0..50 {
            shown.accounts().await;
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);

        tokio::time::advance(FRESH).await;
        shown.accounts().await;
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_is_well_while_its_scheduler_gives_signs_of_life() {
        let state = tempfile::tempdir().unwrap();
        let settings = AppSettings {
            state_dir: Some(state.path().to_owned()),
            ..AppSettings::default()
        };
        let app = App::with_config(&settings, Config::default(), World::outside());

        // Nobody drives it.
        let (status, body) = health_of(&app, "running").await;
        assert_eq!((status, &body["ok"]), (503, &json!(false)), "{body}");
        assert_eq!(body["checks"]["scheduler"]["ok"], false, "{body}");
        assert_eq!(body["checks"]["vault"]["ok"], true, "{body}");

        let scheduler = app.scheduler().clone();
        let driver = tokio::spawn(async move { scheduler.run().await });
        let (status, body) = health_of(&app, "running").await;
        assert_eq!((status, &body["ok"]), (200, &json!(true)), "{body}");
        let (status, _) = health_of(&app, "stopping").await;
        assert_eq!(status, 503);

        driver.abort();
        assert!(driver.await.is_err());
        assert_eq!(health_of(&app, "running").await.0, 503);
    }
}
