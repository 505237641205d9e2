//! One generation: a configuration and the scripts it names, loaded together.
//!
//! All of it is loaded and checked before any of it is live; then it is live at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use postrider_config::ScriptSettings;

use super::accounts::Accounts;
use super::scripts;
use super::watch::{Before, Watch};
use crate::app::{App, Moment};
use crate::control::{AccountStatus, ScriptStatus};
use crate::failure::Failure;
use crate::lua::{Loaded, Running, Script, ScriptError, Usage};
use crate::metrics::{Counted, Metrics};

/// A generation that is in force, or was.
pub(super) struct Generation {
    /// 1 is the first.
    pub(super) number: u64,
    pub(super) app: App,
    pub(super) loaded_at: Moment,
    scripts: Vec<LiveScript>,
    accounts: Accounts,
}

/// A script at work.
struct LiveScript {
    file: PathBuf,
    usage: Box<dyn Fn() -> Usage + Send + Sync>,
    state: Mutex<State>,
    /// Dropped with the generation, which is over when its scripts have ended.
    _counted: Counted,
}

/// Whether a script begins anything new.
enum State {
    /// It does.
    Live(Running),
    /// It does not; when this is ready, what it had begun has ended.
    Ending(BoxFuture<'static, ()>),
    /// It has ended.
    Ended,
}

/// A generation that is loaded and right, and of which nothing is live yet.
pub(super) struct Prepared {
    pub(super) app: App,
    scripts: Vec<(PathBuf, Loaded)>,
}

/// Why a generation is not fit to be one.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    /// The file that it is about: the configuration's, or a script's.
    pub(super) file: Option<PathBuf>,
}

/// What to look at for changes, whether the generation made of it is in force or was refused.
#[derive(Default)]
pub(super) struct Watched {
    watch: Watch,
    /// Where new scripts would appear.
    scripts: ScriptSettings,
}

impl Watched {
    /// Which files changed, once they stand still. Reads files.
    pub(super) fn look(&mut self) -> Vec<PathBuf> {
        self.watch.look(present(&self.scripts))
    }

    /// All files that may be read for the next generation, as far as they are known.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = present(&self.scripts);
        files.extend(self.watch.files().cloned());
        files
    }
}

/// A directory that cannot be read just now has lost nothing: what was loaded from it is watched
/// by itself.
fn present(settings: &ScriptSettings) -> Vec<PathBuf> {
    scripts::files(settings).unwrap_or_default()
}

/// Loads what is to follow `old`, or the first generation of `app`, and says what to watch from
/// now on.
pub(super) async fn prepare(
    origin: Origin<'_>,
    watched: &Watched,
) -> (Result<Prepared, Refused>, Watched) {
    let mut before = Before::reading(watched.files());
    let mut settings = watched.scripts.clone();
    let mut read = BTreeSet::new();
    let outcome = load(origin, &mut before, &mut settings, &mut read).await;
    let watch = match &outcome {
        Ok(_) => before.only(&read),
        // What mends it may be anywhere.
        Err(_) => before.and(read),
    };
    let watched = Watched {
        watch,
        scripts: settings,
    };
    (outcome, watched)
}

/// What a generation is made from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// A configuration that was just read.
    First(&'a App),
    /// What will be read now, in place of this.
    After(&'a App),
}

async fn load(
    origin: Origin<'_>,
    before: &mut Before,
    settings: &mut ScriptSettings,
    read: &mut BTreeSet<PathBuf>,
) -> Result<Prepared, Refused> {
    let (app, old) = match origin {
        Origin::First(app) => (app.clone(), None),
        Origin::After(old) => {
            let app = old.next_generation().map_err(|failure| Refused {
                failure,
                file: old.config_path().map(Path::to_owned),
            })?;
            (app, Some(old))
        }
    };
    let about_config = |failure| Refused {
        failure,
        file: app.config_path().map(Path::to_owned),
    };
    read.extend(app.config_path().map(Path::to_owned));
    settings.clone_from(&app.config().scripts);
    let files = scripts::files(settings).map_err(about_config)?;
    before.also(files.iter().cloned());
    read.extend(files.iter().cloned());
    if let Some(old) = old {
        check_accounts(&app, old).await.map_err(about_config)?;
    }
    let mut loaded = Vec::with_capacity(files.len());
    for file in files {
        if let Err(failure) = scripts::check(&file) {
            return Err(Refused {
                failure,
                file: Some(file),
            });
        }
        let limits = scripts::limits(settings, &file);
        let script = Script::new(&file, Arc::new(app.clone())).limits(limits);
        match script.load().await {
            Ok(script) => {
                read.extend(script.files());
                loaded.push((file, script));
            }
            Err(error) => {
                read.extend(error.files.iter().cloned());
                return Err(Refused {
                    failure: explained(&file, error),
                    file: Some(file),
                });
            }
        }
    }
    Ok(Prepared {
        app,
        scripts: loaded,
    })
}

/// A script's failure has its line; what has none is said of the file.
fn explained(file: &Path, error: ScriptError) -> Failure {
    let mut failure = error.failure;
    failure.at.get_or_insert_with(|| file.display().to_string());
    failure
}

/// Whether every account is right that is not as it was before: one that was wrong already does
/// not keep the rest from being changed.
async fn check_accounts(app: &App, old: &App) -> Result<(), Failure> {
    let (app, old) = (app.clone(), old.clone());
    let checking = tokio::task::spawn_blocking(move || {
        let before = &old.config().accounts;
        for account in app.accounts() {
            if before.get(&account.name) != Some(account) {
                app.check_settings(account)?;
            }
        }
        Ok(())
    });
    let checked = checking.await;
    checked.map_err(|_| Failure::new("internal", "checking the accounts was interrupted"))?
}

impl Prepared {
    /// How many scripts it has.
    pub(super) fn scripts(&self) -> usize {
        self.scripts.len()
    }

    /// Makes all of it live, in place of `old`. Nothing waits in between: no event reaches both,
    /// and no schedule is missing for a moment.
    pub(super) fn take_effect(self, number: u64, old: Option<&Generation>) -> Generation {
        // Before the old scripts end, for theirs end with them.
        self.app.install_schedules();
        let hooks = self.app.swap_hooks();
        if let Some(old) = old {
            let patience = old.app.config().serve.shutdown_timeout;
            old.begin_to_end(patience);
        }
        let metrics = self.app.metrics();
        let scripts = self.scripts.into_iter();
        let scripts = scripts
            .map(|(file, loaded)| LiveScript::new(file, loaded.start(), metrics))
            .collect();
        drop(hooks);
        match old {
            Some(old) => self.app.take_over_from(&old.app),
            None => self.app.begin(),
        }
        Generation {
            number,
            loaded_at: Moment(self.app.clock().now().into()),
            accounts: Accounts::set_up(&self.app),
            app: self.app,
            scripts,
        }
    }
}

impl Generation {
    /// How its scripts stand.
    pub(super) fn scripts(&self) -> Vec<ScriptStatus> {
        self.scripts.iter().map(LiveScript::status).collect()
    }

    /// How its accounts stand.
    pub(super) fn accounts(&self) -> Vec<AccountStatus> {
        self.accounts.status()
    }

    /// From now on its scripts begin nothing new, and what they have begun has this long to end.
    fn begin_to_end(&self, at_most: Duration) {
        for script in &self.scripts {
            script.begin_to_end(at_most);
        }
    }

    /// Ends its scripts.
    pub(super) async fn end_scripts(&self, at_most: Duration) {
        self.begin_to_end(at_most);
        join_all(self.scripts.iter().map(LiveScript::ended)).await;
    }

    /// The rest of its life, once another is in force.
    pub(super) async fn retire(self: Arc<Self>, at_most: Duration) {
        self.end_scripts(at_most).await;
        self.app.retire().await;
        tracing::debug!(generation = self.number, "the generation has ended");
    }
}

impl LiveScript {
    fn new(file: PathBuf, running: Running, metrics: &Metrics) -> Self {
        Self {
            usage: Box::new(running.meter()),
            _counted: metrics.script(name(&file), running.meter()),
            file,
            state: Mutex::new(State::Live(running)),
        }
    }

    fn status(&self) -> ScriptStatus {
        let usage = (self.usage)();
        ScriptStatus {
            name: name(&self.file),
            file: self.file.display().to_string(),
            cpu: usage.cpu.as_secs_f64(),
            memory: usage.memory_octets as u64,
            calls: usage.calls,
            errors: usage.errors,
        }
    }

    fn begin_to_end(&self, at_most: Duration) {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Live(running) => {
                let mut ending = running.stop(at_most).boxed();
                // The first poll closes it; whoever waits for the rest polls it on.
                if (&mut ending).now_or_never().is_none() {
                    *state = State::Ending(ending);
                }
            }
            other => *state = other,
        }
    }

    async fn ended(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Ended);
        if let State::Ending(ending) = state {
            ending.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a script is called: as its file is.
fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
