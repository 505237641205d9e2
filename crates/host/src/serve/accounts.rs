//! Every account of the configuration, set up so that its tokens are kept fresh.
//!
//! One that cannot be set up (its secret is not there yet, say) keeps nobody else from working:
//! it is tried again, ever more rarely, for as long as its generation is in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::app::App;
use crate::control::{AccountStatus, work};
use crate::failure::Failure;

/// Before the second attempt; each wait is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Accounts that are set up at once: each reads files on a thread of its own.
const AT_ONCE: usize = 4;

/// The accounts of one generation, until it is dropped.
pub(super) struct Accounts {
    missing: Arc<Mutex<Missing>>,
    names: Vec<String>,
    task: JoinHandle<()>,
}

/// Accounts that are not set up, each with what kept it from being so the last time.
type Missing = BTreeMap<String, Option<Failure>>;

impl Accounts {
    /// Begins to set up all accounts of `app`.
    pub(super) fn set_up(app: &App) -> Self {
        let names: Vec<String> = app.accounts().iter().map(|one| one.name.clone()).collect();
        let missing = names.iter().map(|name| (name.clone(), None)).collect();
        let missing = Arc::new(Mutex::new(missing));
        let task = tokio::spawn(set_up(app.clone(), Arc::clone(&missing)));
        Self {
            missing,
            names,
            task,
        }
    }

    /// How each stands.
    pub(super) fn status(&self) -> Vec<AccountStatus> {
        let missing = lock(&self.missing);
        let status = |name: &String| match missing.get(name) {
            None => AccountStatus::new(name, "ready", None),
            Some(None) => AccountStatus::new(name, "setting_up", None),
            Some(Some(failure)) => AccountStatus::new(name, "failed", Some(failure)),
        };
        self.names.iter().map(status).collect()
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn set_up(app: App, missing: Arc<Mutex<Missing>>) {
    let mut wait = FIRST_WAIT;
    loop {
        let names: Vec<String> = lock(&missing).keys().cloned().collect();
        let attempts = names.into_iter().map(|name| {
            let app = app.clone();
            async move {
                let outcome = app.account(&name).await;
                if outcome.is_ok()
                    && let Some(failure) = work::missing_secret_of(&app, &name).await
                {
                    say(&name, &failure, "is set up, and needs a secret");
                }
                (name, outcome)
            }
        });
        let mut attempts = stream::iter(attempts).buffer_unordered(AT_ONCE);
        while let Some((name, outcome)) = attempts.next().await {
            let mut missing = lock(&missing);
            match outcome {
                Ok(_) => {
                    let before = missing.remove(&name).flatten();
                    if before.is_some() {
                        tracing::info!(account = name, "set up");
                    }
                }
                Err(failure) => {
                    let before = missing.insert(name.clone(), Some(failure.clone()));
                    complain(&name, &failure, before.flatten().as_ref());
                }
            }
        }
        if lock(&missing).is_empty() {
            return;
        }
        sleep(wait).await;
        wait = LONGEST_WAIT.min(wait * 2);
    }
}

/// Says why an account is not there, once for each reason.
fn complain(account: &str, failure: &Failure, before: Option<&Failure>) {
    if before.is_some_and(|before| before.message == failure.message) {
        return;
    }
    say(account, failure, "not set up, and tried again");
}

fn say(account: &str, failure: &Failure, what: &str) {
    tracing::warn!(
        account,
        code = failure.code,
        at = failure.at,
        remedy = failure.remedy,
        "{what}: {}",
        failure.message
    );
}

fn lock(missing: &Mutex<Missing>) -> MutexGuard<'_, Missing> {
    missing.lock().unwrap_or_else(PoisonError::into_inner)
}
