//! The daemon's state, and how one generation follows another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_config::{Config, QueueSettings, ServeSettings};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::generation::{self, Generation, Origin, Prepared, Refused, Watched};
use super::systemd;
use crate::app::gateway::{Change, Gateways};
use crate::app::{App, Moment};
use crate::control::{Daemon, LastReload, Reloaded, ScheduleCounts, Status};
use crate::failure::Failure;

/// How many files a log line names.
const NAMED: usize = 3;

/// A daemon with a generation in force. Clones are the same.
#[derive(Clone)]
pub(super) struct Server(Arc<Shared>);

struct Shared {
    state_dir: PathBuf,
    gateways: Gateways,
    started_at: Moment,
    /// What cannot change while it runs.
    fixed: Fixed,
    current: Mutex<Arc<Generation>>,
    /// Held by the one reload that is under way.
    reloading: tokio::sync::Mutex<()>,
    is_reloading: AtomicBool,
    is_stopping: AtomicBool,
    /// Held while a generation takes effect, and while the end begins: nothing takes effect then.
    swapping: Mutex<()>,
    last_reload: Mutex<Option<LastReload>>,
    watched: Mutex<Watched>,
    /// Generations that come to their end.
    retiring: Mutex<JoinSet<()>>,
}

/// Why a reload is tried.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// `SIGHUP`.
    Signal,
    /// Somebody asked on the control socket.
    Request,
    /// These files changed.
    Files(Vec<PathBuf>),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("SIGHUP"),
            Self::Request => f.write_str("asked on the control socket"),
            Self::Files(files) => {
                for (index, file) in files.iter().take(NAMED).enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", file.display())?;
                }
                match files.len().saturating_sub(NAMED) {
                    0 => f.write_str(" changed"),
                    more => write!(f, " and {more} more changed"),
                }
            }
        }
    }
}

impl Server {
    /// Loads the first generation, and makes it live.
    ///
    /// # Errors
    /// What is wrong with a script, with its place.
    pub(super) async fn start(app: &App, state_dir: &Path) -> Result<Self, Failure> {
        let (prepared, watched) =
            generation::prepare(Origin::First(app), &Watched::default()).await;
        let prepared = prepared.map_err(|refused| refused.failure)?;
        let gateways = Gateways::of(app)?;
        let change = gateways.change(app).await?;
        let first = prepared.take_effect(1, None);
        // There were none that could be gone.
        drop(change.take_effect());
        Ok(Self(Arc::new(Shared {
            state_dir: state_dir.to_owned(),
            gateways,
            started_at: first.loaded_at,
            fixed: Fixed::of(app.config()),
            current: Mutex::new(Arc::new(first)),
            reloading: tokio::sync::Mutex::default(),
            is_reloading: AtomicBool::default(),
            is_stopping: AtomicBool::default(),
            swapping: Mutex::default(),
            last_reload: Mutex::default(),
            watched: Mutex::new(watched),
            retiring: Mutex::default(),
        })))
    }

    /// The generation in force.
    pub(super) fn current(&self) -> Arc<Generation> {
        Arc::clone(&lock(&self.0.current))
    }

    /// What the configuration in force says of the daemon.
    pub(super) fn settings(&self) -> ServeSettings {
        self.current().app.config().serve.clone()
    }

    /// Which files changed since they were loaded, once they stand still. Reads files.
    pub(super) fn changed_files(&self) -> Vec<PathBuf> {
        lock(&self.0.watched).look()
    }

    /// Loads everything anew, in a task of its own: whoever asked may go away.
    ///
    /// # Errors
    /// What is wrong, with its place; what was in force stays so.
    pub(super) async fn reload(&self, cause: Cause) -> Result<Reloaded, Failure> {
        let server = self.clone();
        let reload = tokio::spawn(async move { server.reload_here(&cause).await });
        let outcome = reload.await;
        outcome.map_err(|_| Failure::new("internal", "the reload was interrupted"))?
    }

    async fn reload_here(&self, cause: &Cause) -> Result<Reloaded, Failure> {
        let shared = &*self.0;
        let _one_at_a_time = shared.reloading.lock().await;
        if shared.is_stopping.load(Ordering::Relaxed) {
            return Err(stopping());
        }
        tracing::info!("reloads: {cause}");
        shared.is_reloading.store(true, Ordering::Relaxed);
        systemd::reloading();
        let began = Instant::now();

        let watched = std::mem::take(&mut *lock(&shared.watched));
        let old = self.current();
        let (prepared, watched) = generation::prepare(Origin::After(&old.app), &watched).await;
        *lock(&shared.watched) = watched;
        let outcome = match self.open_gateways(prepared).await {
            Ok((prepared, change)) => self.swap(prepared, change, old, began),
            Err(refused) => Err(self.keep(refused, &old)),
        };
        self.current().app.metrics().reload(outcome.is_ok());
        shared.is_reloading.store(false, Ordering::Relaxed);
        // Who stops is not ready any more.
        let _swapped = lock(&shared.swapping);
        if !shared.is_stopping.load(Ordering::Relaxed) {
            systemd::ready(&self.summary());
        }
        outcome
    }

    /// The last thing that can be wrong with a generation: that it cannot listen.
    async fn open_gateways(
        &self,
        prepared: Result<Prepared, Refused>,
    ) -> Result<(Prepared, Change<'_>), Refused> {
        let prepared = prepared?;
        match self.0.gateways.change(&prepared.app).await {
            Ok(change) => Ok((prepared, change)),
            Err(failure) => Err(Refused {
                failure,
                file: prepared.app.config_path().map(Path::to_owned),
            }),
        }
    }

    /// # Errors
    /// The end has begun meanwhile.
    fn swap(
        &self,
        prepared: Prepared,
        gateways: Change<'_>,
        old: Arc<Generation>,
        began: Instant,
    ) -> Result<Reloaded, Failure> {
        let swapping = lock(&self.0.swapping);
        if self.0.is_stopping.load(Ordering::Relaxed) {
            return Err(stopping());
        }
        let scripts = prepared.scripts();
        let restart_needed = restart_needed(&self.0.fixed, prepared.app.config());
        let new = Arc::new(prepared.take_effect(old.number + 1, Some(&old)));
        *lock(&self.0.current) = Arc::clone(&new);
        let gone = gateways.take_effect();

        let patience = old.app.config().serve.shutdown_timeout;
        let mut retiring = lock(&self.0.retiring);
        while retiring.try_join_next().is_some() {}
        retiring.spawn(async move {
            gone.stop(patience).await;
        });
        retiring.spawn(old.retire(patience));
        drop(retiring);
        drop(swapping);

        let took = began.elapsed();
        tracing::info!(
            generation = new.number,
            scripts,
            took = took.as_secs_f64(),
            "reloaded"
        );
        for what in &restart_needed {
            tracing::warn!("{what} takes effect with the next start");
        }
        let message = format!("generation {} is in force", new.number);
        self.note(&new, Ok(message));
        self.announce(
            "reload.done",
            json!({ "generation": new.number, "scripts": scripts, "took": took.as_secs_f64() }),
        );
        Ok(Reloaded {
            generation: new.number,
            scripts,
            took: took.as_secs_f64(),
            restart_needed,
        })
    }

    /// The old generation goes on.
    fn keep(&self, refused: Refused, old: &Generation) -> Failure {
        let Refused { failure, file } = refused;
        let message = match &failure.at {
            Some(at) => format!("{at}: {}", failure.message),
            None => failure.message.clone(),
        };
        tracing::error!(
            code = failure.code,
            remedy = failure.remedy,
            generation = old.number,
            "not reloaded, the old generation goes on: {message}"
        );
        self.note(old, Err((message.clone(), failure.remedy.clone())));
        let files: Vec<String> = file.iter().map(|path| path.display().to_string()).collect();
        self.announce(
            "reload.failed",
            json!({ "message": message, "files": files }),
        );
        failure
    }

    /// What is in force; or why it is not, and what to do.
    fn note(&self, generation: &Generation, done: Result<String, (String, Option<String>)>) {
        let ok = done.is_ok();
        let (message, remedy) = done.map_or_else(|failed| failed, |message| (message, None));
        *lock(&self.0.last_reload) = Some(LastReload {
            at: Moment(generation.app.clock().now().into()),
            ok,
            message,
            remedy,
        });
    }

    /// Tells the scripts in force, without waiting for what they make of it.
    pub(super) fn announce(&self, name: &'static str, payload: Value) {
        self.current().app.announce(name, payload);
    }

    /// Where devices submit mail.
    pub(super) fn gateways(&self) -> &Gateways {
        &self.0.gateways
    }

    /// A line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let current = self.current();
        let failed = match &*lock(&self.0.last_reload) {
            Some(last) if !last.ok => format!("; last reload failed: {}", last.message),
            _ => String::new(),
        };
        format!(
            "generation {}, {}, {}, {}{failed}",
            current.number,
            counted(current.scripts().len(), "script"),
            counted(current.app.scheduler().list().len(), "schedule"),
            counted(current.app.config().accounts.len(), "account"),
        )
    }

    /// From now on nothing is reloaded, and what is in force stays so to the end.
    pub(super) fn begin_to_stop(&self) {
        let _swapped = lock(&self.0.swapping);
        self.0.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Ends the scripts: those in force, and those of generations that others have followed.
    pub(super) async fn stop_scripts(&self, at_most: Duration) {
        let mut retiring = std::mem::take(&mut *lock(&self.0.retiring));
        let retired = async { while retiring.join_next().await.is_some() {} };
        let retired = tokio::time::timeout(at_most, retired);
        let current = self.current();
        let (_, ()) = tokio::join!(retired, current.end_scripts(at_most));
    }
}

impl Daemon for Server {
    fn app(&self) -> App {
        self.current().app.clone()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Failure>> {
        Server::reload(self, Cause::Request).boxed()
    }

    fn status(&self) -> Status {
        let current = self.current();
        let config = current.app.config();
        let schedules = current.app.scheduler().list();
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let state = match &*self.0 {
            shared if is(&shared.is_stopping) => "stopping",
            shared if is(&shared.is_reloading) => "reloading",
            _ => "running",
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            state: state.into(),
            started_at: self.0.started_at,
            generation: current.number,
            loaded_at: current.loaded_at,
            config: config.path.as_ref().map(|path| path.display().to_string()),
            state_dir: self.0.state_dir.display().to_string(),
            scripts: current.scripts(),
            last_reload: lock(&self.0.last_reload).clone(),
            restart_needed: restart_needed(&self.0.fixed, config),
            accounts: current.accounts(),
            schedules: ScheduleCounts {
                total: schedules.len(),
                running: schedules.iter().filter(|one| one.running > 0).count(),
                paused: schedules.iter().filter(|one| one.paused).count(),
            },
            gateways: self.0.gateways.status(&current.app),
            ledger: self.0.gateways.ledger_status(),
        }
    }
}

/// What of the configuration is used at the start only.
struct Fixed {
    serve: ServeSettings,
    mail_socket: Option<PathBuf>,
    queue: QueueSettings,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            serve: config.serve.clone(),
            mail_socket: config.sendmail.socket.clone(),
            queue: config.queue.clone(),
        }
    }
}

/// What of it differs now.
fn restart_needed(fixed: &Fixed, now: &Config) -> Vec<String> {
    let settings = [
        ("serve.socket", fixed.serve.socket != now.serve.socket),
        ("serve.metrics", fixed.serve.metrics != now.serve.metrics),
        ("sendmail.socket", fixed.mail_socket != now.sendmail.socket),
        ("queue", fixed.queue != now.queue),
    ];
    let changed = settings.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name.to_owned()).collect()
}

fn stopping() -> Failure {
    Failure::new("serve.stopping", "the daemon is shutting down").retryable()
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
