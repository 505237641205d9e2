//! The ways out of the queue: the accounts of the configuration in force, and those that scripts
//! hold.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_config as config;
use postrider_delivery::{Limits, Route, RouteFailure, Routes};
use postrider_smtp::{SendError, SendErrorKind, Source};
use postrider_spool::Pace;
use tokio::sync::watch;

use crate::app::account::{Account, IDLE};
use crate::app::{App, Inner};
use crate::lua::Activity;

/// Messages in flight on one session: a lost connection leaves no more than these unknown.
const WINDOW: usize = 10;

/// Where delivery finds accounts, whatever generation is in force.
pub(crate) struct Ways {
    current: Mutex<Weak<Inner>>,
    /// Accounts that scripts described.
    scripted: Mutex<HashMap<String, Weak<Account>>>,
    /// Those of them that live until the end, whatever becomes of the script.
    kept: Mutex<HashMap<String, Arc<Account>>>,
    /// Counts what may let a parked account go on: a token was fetched, a configuration read.
    changes: watch::Sender<u64>,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            current: Mutex::new(Weak::new()),
            scripted: Mutex::default(),
            kept: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Ways {
    /// From now on the accounts are those of this generation.
    pub(in crate::app) fn lead_to(&self, app: &App) {
        *lock(&self.current) = Arc::downgrade(&app.0);
        self.try_again();
    }

    /// The generation in force, if there is one.
    pub(in crate::app) fn current(&self) -> Option<App> {
        lock(&self.current).upgrade().map(App)
    }

    /// A script holds this account.
    fn also_to(&self, account: &Arc<Account>) {
        let mut scripted = lock(&self.scripted);
        scripted.retain(|_, known| known.strong_count() > 0);
        let name = account.settings().name.clone();
        scripted.insert(name, Arc::downgrade(account));
    }

    /// The same to the end: in a sandbox nobody else will know the account when the script is gone.
    fn keep(&self, account: &Arc<Account>) {
        self.also_to(account);
        let name = account.settings().name.clone();
        lock(&self.kept).insert(name, Arc::clone(account));
    }

    /// Nothing is delivered any more.
    pub(in crate::app) fn end(&self) {
        lock(&self.kept).clear();
    }

    /// What waits for a token, or for a person, may go on.
    pub(in crate::app) fn try_again(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether another process would find an account with these settings, too.
    pub(super) fn is_configured(&self, settings: &config::Account) -> bool {
        let app = lock(&self.current).upgrade();
        app.is_some_and(|app| app.config.accounts.get(&settings.name) == Some(settings))
    }
}

impl App {
    /// A script described this account, and may queue mail of it.
    pub(crate) fn lead_also_to(&self, account: &Arc<Account>) {
        let lasting = &self.0.lasting;
        if lasting.world.confined_to.is_some() {
            lasting.ways.keep(account);
        } else {
            lasting.ways.also_to(account);
        }
    }
}

impl Routes for Ways {
    fn route(&self, account: &str) -> Option<Arc<dyn Route>> {
        let way = |settings: &config::Account, to| -> Arc<dyn Route> {
            Arc::new(Way {
                limits: settings.limits,
                sender: settings.sender.email.to_string(),
                changes: self.changes.subscribe(),
                to,
            })
        };
        if let Some(app) = lock(&self.current).upgrade().map(App)
            && let Some(settings) = app.0.config.accounts.get(account)
        {
            let to = To::Configured(app.clone(), account.to_owned());
            return Some(way(settings, to));
        }
        let scripted = lock(&self.scripted).get(account)?.upgrade()?;
        Some(way(
            scripted.settings(),
            To::Scripted(Arc::clone(&scripted)),
        ))
    }
}

/// One account's way to its server.
struct Way {
    limits: config::Limits,
    sender: String,
    changes: watch::Receiver<u64>,
    to: To,
}

enum To {
    /// By name: it is set up when it is first used.
    Configured(App, String),
    Scripted(Arc<Account>),
}

impl To {
    fn activity(&self) -> &Activity {
        match self {
            Self::Configured(app, _) => &app.0.lasting.world.activity,
            Self::Scripted(account) => &account.around.activity,
        }
    }
}

impl Route for Way {
    fn limits(&self) -> Limits {
        Limits {
            sessions: self.limits.connections.into(),
            window: WINDOW,
            recipients_per_message: self.limits.recipients_per_message,
            pace: pace(&self.limits),
            linger: IDLE,
        }
    }

    fn run<'a>(&'a self, source: &'a mut dyn Source) -> BoxFuture<'a, Result<(), RouteFailure>> {
        async move {
            let _busy = self.to.activity().begin();
            let account = match &self.to {
                To::Scripted(account) => Arc::clone(account),
                To::Configured(app, name) => app
                    .account(name)
                    .await
                    .map_err(|failure| RouteFailure::Unusable(failure.message))?,
            };
            match account.pool.send_all(source, WINDOW).await {
                Ok(_) => Ok(()),
                Err(error) => Err(route_failure(&account, error)),
            }
        }
        .boxed()
    }

    /// Of this process: what another one fetched is found when the parked time is over. What came
    /// since this way was asked for counts, for delivery lets some time pass before it listens.
    fn ready(&self) -> BoxFuture<'static, ()> {
        let mut changes = self.changes.clone();
        async move {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    /// Each connection has its place, whoever asked for it.
    fn counts_sessions(&self) -> bool {
        true
    }

    fn reporter(&self) -> Option<String> {
        Some(self.sender.clone())
    }
}

/// The pace that an account's limits set.
pub(crate) fn pace(limits: &config::Limits) -> Pace {
    Pace {
        per_minute: limits.messages_per_minute,
        recipients_per_day: limits.recipients_per_day,
    }
}

/// A credential that is not to be had says more than the session that went without it, and a
/// place that others have is no trouble of the server's.
fn route_failure(account: &Account, error: SendError) -> RouteFailure {
    if let SendErrorKind::Connect(why) = &*error.kind
        && why.kind() == io::ErrorKind::WouldBlock
    {
        return RouteFailure::Busy(why.to_string());
    }
    if matches!(*error.kind, SendErrorKind::Sasl(_)) {
        let failure = account.send_failure("", &error);
        return RouteFailure::Token(failure.message);
    }
    RouteFailure::Smtp(Box::new(error))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
