//! `postrider serve`: scripts, schedules and tokens for as long as the machine is up.
//!
//! What is in force at any moment is one whole [generation](generation): a configuration and the
//! scripts it names, loaded together. A reload makes another beside it and swaps the two, or
//! leaves everything as it was and says why. The keeper of tokens, the vault and the store of
//! schedules outlive generations.
//!
//! Not here: what a script may do (`postrider-lua`), when it runs (`postrider-schedule`), and how
//! commands talk to the daemon (`control`).

mod accounts;
mod descriptors;
mod generation;
mod heartbeat;
mod lock;
mod once;
mod reload;
mod scripts;
mod shutdown;
mod systemd;
mod watch;

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::OptionFuture;
use postrider_config::{self as config, Surroundings};
use postrider_delivery::Delivery;
use postrider_schedule::{Clock, Scheduler};
use postrider_spool::SpoolError;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch as flag};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep;

use self::generation::{Origin, Watched};
use self::heartbeat::Beat;
use self::lock::DaemonLock;
use self::reload::{Cause, Server};
use self::shutdown::Deadline;
use crate::app::{App, AppSettings, gateway, queue, renewal};
use crate::control::{self, ControlListener};
use crate::failure::Failure;
use crate::metrics;
use crate::sendmail::door::SubmitDoor;
use crate::signals::{Signals, Stop, Told};
use crate::state;

pub(crate) use once::{Once, run_once};

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// In order.
    InOrder,
    /// At once, for it was asked twice.
    AtOnce(Stop),
}

/// Runs until it is told to stop.
///
/// # Errors
/// It could not start, or something without which it cannot go on has ended.
pub(crate) async fn run(settings: &AppSettings) -> Result<Ended, Failure> {
    let mut signals = Signals::to_stop_and_reload()?;
    let state_dir = state::directory(settings.state_dir.as_deref())?;
    state::prepare(&state_dir)?;
    let _lock = DaemonLock::take(&state_dir)?;
    descriptors::raise_limit();
    let app = open(settings)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        config = app.config_path().map(|path| path.display().to_string()),
        state_dir = %state_dir.display(),
        "starts"
    );
    let socket = socket(&app, &state_dir);
    let listener = ControlListener::bind(&socket)?;
    let mail = match &app.config().sendmail.socket {
        Some(path) => Some(SubmitDoor::bind(path)?),
        None => None,
    };
    let scrapes = match app.config().serve.metrics {
        Some(address) => Some(bind_metrics(address).await?),
        None => None,
    };
    app.keep_fresh();

    let reload = Arc::new(Notify::new());
    let starting = Server::start(&app, &state_dir);
    let server = tokio::select! {
        server = starting => server?,
        stop = stop_or_note(&mut signals, &reload) => {
            tracing::info!("{} before it was ready", stop.name());
            return Ok(Ended::AtOnce(stop));
        }
    };
    let (scheduler, clock) = (app.scheduler().clone(), Arc::clone(app.clock()));
    let metrics = app.metrics().clone();
    drop(app);

    let delivery = server.current().app.delivery().await?;
    let mut delivering = tokio::spawn({
        let delivery = delivery.clone();
        async move { delivery.run().await }
    });
    let (stopping, stopped) = flag::channel(false);
    let daemon = Arc::new(server.clone());
    if let Some(scrapes) = scrapes {
        // To the very end: it is asked whether the daemon is stopping.
        tokio::spawn(metrics::serve(scrapes, daemon.clone(), metrics, pending()));
    }
    let doors = tokio::spawn(async move {
        let control = control::serve(listener, daemon.clone(), is_set(stopped.clone()));
        let mail = mail.map(|door| door.serve(daemon, is_set(stopped)));
        tokio::join!(control, OptionFuture::from(mail));
    });
    let mut running = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.run().await }
    });
    let (beat, mut beats) = mpsc::channel(1);
    let helpers = [
        tokio::spawn(watch_files(server.clone())),
        tokio::spawn(reload_on(server.clone(), Arc::clone(&reload))),
        tokio::spawn(renewal::look_after({
            let server = server.clone();
            move || server.current().app.clone()
        })),
        tokio::spawn(look_after_certificates(server.clone())),
        tokio::spawn(keep_alive(beat, scheduler.clone(), clock)),
    ];

    announce_ready(&server, &socket);
    let stop = tokio::select! {
        stop = stop_or_note(&mut signals, &reload) => stop,
        never = answer(&mut beats) => match never {},
        _ = &mut running => return Err(Failure::new("internal", "the scheduler has ended")),
        ended = &mut delivering => return Err(delivery_ended(ended)),
    };
    // Whoever waits for them to end has less time than they may take.
    for helper in &helpers[..4] {
        helper.abort();
    }
    let ending = Ending {
        server,
        scheduler,
        delivery,
        delivering,
        stopping,
        doors,
    };
    let ended = tokio::select! {
        () = ending.in_order(stop) => Ended::InOrder,
        never = answer(&mut beats) => match never {},
        again = signals.stop() => {
            tracing::warn!("{} again: ends at once", again.name());
            Ended::AtOnce(again)
        }
    };
    Ok(ended)
}

/// The signal to stop; one to reload before it is noted.
async fn stop_or_note(signals: &mut Signals, reload: &Notify) -> Stop {
    loop {
        match signals.next().await {
            Told::Stop(stop) => return stop,
            Told::Reload => reload.notify_one(),
        }
    }
}

/// Lets the watchdog know that the main loop turns, for ever.
async fn answer(beats: &mut mpsc::Receiver<Beat>) -> Infallible {
    while let Some(beat) = beats.recv().await {
        let _ = beat.send(());
    }
    // Nobody listens for signs of life.
    pending().await
}

/// What a daemon would serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) gateways: usize,
    pub(crate) scripts: usize,
}

/// Loads everything as [`run`] would, and starts nothing. Whether addresses are free is not known
/// before somebody listens.
///
/// # Errors
/// What is wrong, with its place.
pub(crate) async fn check(settings: &AppSettings) -> Result<Checked, Failure> {
    let app = open(settings)?;
    for account in app.accounts() {
        app.check_settings(account)?;
    }
    let gateways = &app.config().gateways;
    for gateway in gateways.values() {
        gateway::check(gateway, &app, settings)?;
    }
    let (prepared, _) = generation::prepare(Origin::First(&app), &Watched::default()).await;
    let prepared = prepared.map_err(|refused| refused.failure)?;
    Ok(Checked {
        gateways: gateways.len(),
        scripts: prepared.scripts(),
    })
}

/// The configuration; a daemon without one has nothing to do.
fn open(settings: &AppSettings) -> Result<App, Failure> {
    let found = config::find(settings.config.as_deref(), &Surroundings::of_process());
    let Some(file) = found else {
        return Err(Failure::new(
            "config.no_file",
            "there is no configuration file to serve by",
        )
        .with_remedy("name one with --config, or create ./postrider.toml"));
    };
    // This one for as long as it runs: a file that is gone is no reason to take up another.
    let app = App::open(&AppSettings {
        config: Some(std::path::absolute(&file).unwrap_or(file)),
        ..settings.clone()
    })?;
    app.hold();
    Ok(app)
}

fn socket(app: &App, state_dir: &Path) -> PathBuf {
    let set = app.config().serve.socket.clone();
    set.unwrap_or_else(|| state_dir.join(control::SOCKET))
}

async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, Failure> {
    let refused = |problem| {
        Failure::new(
            "config.metrics",
            format!("metrics cannot be served on {address}: {problem}"),
        )
        .at("serve.metrics")
        .with_remedy("name another address as metrics under [serve], or end what uses this one")
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    // Port 0 is any that is free.
    let address = listener.local_addr().map_err(refused)?;
    tracing::info!(%address, "serves metrics");
    Ok(listener)
}

fn announce_ready(server: &Server, socket: &Path) {
    let summary = server.summary();
    tracing::info!(socket = %socket.display(), "ready: {summary}");
    systemd::ready(&summary);
    server.announce("host.started", json!({ "pid": std::process::id() }));
}

/// Reloads whenever files changed, until it is aborted.
async fn watch_files(server: Server) {
    loop {
        let settings = server.settings();
        sleep(settings.watch_interval).await;
        if !settings.watch {
            continue;
        }
        let of = server.clone();
        let looking = tokio::task::spawn_blocking(move || of.changed_files());
        let changed = looking.await.unwrap_or_default();
        if !changed.is_empty() {
            // Said and kept by whoever reloads.
            let _ = server.reload(Cause::Files(changed)).await;
        }
    }
}

/// Reloads at each `SIGHUP`, once for those that come meanwhile.
async fn reload_on(server: Server, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        let _ = server.reload(Cause::Signal).await;
    }
}

async fn look_after_certificates(server: Server) {
    gateway::look_after(server.gateways(), || server.current().app.clone()).await;
}

async fn keep_alive(main_loop: mpsc::Sender<Beat>, scheduler: Scheduler, clock: Arc<dyn Clock>) {
    if let Some(every) = systemd::heartbeat() {
        heartbeat::keep(every, main_loop, scheduler, clock).await;
    }
}

fn delivery_ended(ended: Result<Result<(), SpoolError>, JoinError>) -> Failure {
    match ended {
        Ok(Err(error)) => queue::failure(&error),
        _ => Failure::new("internal", "delivery of queued mail has ended"),
    }
}

/// Ready when the flag is set.
async fn is_set(mut flag: flag::Receiver<bool>) {
    let _ = flag.wait_for(|set| *set).await;
}

/// What is ended, step by step.
struct Ending {
    server: Server,
    scheduler: Scheduler,
    delivery: Delivery,
    delivering: JoinHandle<Result<(), SpoolError>>,
    stopping: flag::Sender<bool>,
    doors: JoinHandle<()>,
}

impl Ending {
    async fn in_order(self, stop: Stop) {
        let patience = self.server.settings().shutdown_timeout;
        let deadline = Deadline::within(patience);
        tracing::info!("{}: stops, within {patience:?}", stop.name());
        self.server.begin_to_stop();
        systemd::stopping(patience);
        self.server.announce("host.stopping", json!({}));

        // Nothing new from outside, nothing new by itself; what is under way goes on.
        let _ = self.stopping.send(true);
        self.delivery.stop();
        // Scripts have their say about every message that a device is still sending.
        tokio::join!(
            self.server.gateways().stop(deadline.for_calls()),
            self.scheduler.drain(deadline.for_calls()),
        );
        tracing::info!("no schedule runs any more");
        self.server.stop_scripts(deadline.for_calls()).await;
        tracing::info!("no script runs any more");
        deadline
            .allow("answering the sockets", async {
                let _ = self.doors.await;
            })
            .await;
        deadline
            .allow("ending messages in mid-delivery", async {
                let _ = self.delivering.await;
            })
            .await;
        let app = self.server.current().app.clone();
        deadline
            .allow("keeping tokens and taking leave of servers", app.close())
            .await;
        tracing::info!("tokens are kept, servers were taken leave of");
        tracing::info!("stopped");
    }
}
