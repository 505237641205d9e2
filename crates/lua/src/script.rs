//! A script from its file to its end: run at once, or loaded first and live later.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, pending, select};
use mlua::{MultiValue, Value};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::actor::{Actor, Callback, Invoker};
use crate::backend::Backend;
use crate::engine::{self, Core, Output, World};
use crate::event::{Handlers, Hearing};
use crate::fault::{self, ScriptError};
use crate::meter::{Kind, Meter};
use crate::schedule::Schedules;
use crate::shell::{self, Shell};
use crate::test::{self, TestMode};
use crate::{Failure, Limits};

/// How long the end of a script waits for what handlers are to hear: a webhook's patience.
const GRACE: Duration = Duration::from_secs(30);

/// A script about to run.
pub struct Script {
    path: PathBuf,
    args: Vec<String>,
    backend: Arc<dyn Backend>,
    limits: Limits,
    output: Output,
    until: Option<BoxFuture<'static, ()>>,
    test: Option<TestMode>,
    is_shell: bool,
    text: Option<String>,
}

/// What a script has used since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How long its Lua has run.
    pub cpu: Duration,
    /// What its Lua state holds now.
    pub memory_octets: usize,
    /// Calls begun: of handlers, schedules and hooks.
    pub calls: u64,
    /// Those that ended with an error.
    pub errors: u64,
    /// How often it had its turn on a thread.
    pub turns: u64,
}

/// The files a script consists of.
#[derive(Default)]
pub(crate) struct Files(Mutex<BTreeSet<PathBuf>>);

impl Files {
    /// Takes note of one.
    pub(crate) fn note(&self, path: &Path) {
        self.lock().insert(path.to_owned());
    }

    pub(crate) fn all(&self) -> Vec<PathBuf> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    /// The script at `path`, with the default limits, printing to standard output.
    pub fn new(path: impl Into<PathBuf>, backend: Arc<dyn Backend>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            backend,
            limits: Limits::default(),
            output: Arc::new(Mutex::new(std::io::stdout())),
            until: None,
            test: None,
            is_shell: false,
            text: None,
        }
    }

    /// With these arguments.
    #[must_use]
    pub fn args(mut self, args: &[String]) -> Self {
        self.args = args.to_vec();
        self
    }

    /// Within these limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Printing there.
    #[must_use]
    pub fn output(mut self, output: Arc<Mutex<dyn Write + Send>>) -> Self {
        self.output = output;
        self
    }

    /// As a test file.
    #[must_use]
    pub fn test(mut self, mode: TestMode) -> Self {
        self.test = Some(mode);
        self
    }

    /// With this text, whatever the file has, which need not be there.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Only until `stop`, for [`Script::run`]: then nothing new begins.
    #[must_use]
    pub fn until(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(stop.boxed());
        self
    }

    /// Runs the script to its end, with its handlers and hooks live from the start. It ends
    /// with its last line, and once nothing that was scheduled will run any more.
    ///
    /// Dropping the future ends the script where it waits.
    ///
    /// # Errors
    /// What the script raised, or the limit it exceeded.
    pub async fn run(self) -> Result<(), ScriptError> {
        let files = Arc::<Files>::default();
        let ended = self.run_from(&files).await;
        ended.map_err(|error| error.of_files(&files))
    }

    async fn run_from(mut self, files: &Arc<Files>) -> Result<(), ScriptError> {
        let stop = self.until.take();
        let mut stop = stop.unwrap_or_else(|| pending().boxed());
        let Assembled {
            mut stage,
            chunk,
            args,
        } = self.assemble(files)?;
        let hearing = stage.handlers.listen(&stage.backend, &stage.invoker);
        let wall = stage.core.meter.limits().wall;
        let main = stage.actor.begin(stage.main(chunk, args, wall));
        let playing = async {
            tokio::select! {
                biased;
                ended = main => ended.unwrap_or_else(|| Err(cancelled())),
                () = &mut stop => Err(cancelled()),
            }
        };
        let ended = stage.actor.meanwhile(playing).await;
        if ended.is_ok() {
            let schedules = Arc::clone(&stage.schedules);
            let finished = pin!(schedules.finished());
            stage.actor.meanwhile(select(finished, stop)).await;
        }
        stage.wind_down(hearing).await;
        ended
    }

    /// Runs the script's own lines and takes note of what they register; nothing of it is live
    /// before [`Loaded::start`]. Dropping the future ends the script where it waits.
    ///
    /// # Errors
    /// What the script raised, or the limit it exceeded.
    pub async fn load(self) -> Result<Loaded, ScriptError> {
        let files = Arc::<Files>::default();
        let loaded = self.load_from(Arc::clone(&files)).await;
        loaded.map_err(|error| error.of_files(&files))
    }

    /// Runs the script's own lines, and lets whoever asks run more in the same state: live from
    /// the start.
    ///
    /// # Errors
    /// What the script raised, or the limit it exceeded.
    pub async fn shell(mut self) -> Result<Shell, ScriptError> {
        self.is_shell = true;
        let mut running = self.load().await?.start();
        let evaluate = running.evaluate.take().ok_or_else(cancelled)?;
        Ok(Shell::new(running, evaluate))
    }

    async fn load_from(self, files: Arc<Files>) -> Result<Loaded, ScriptError> {
        let is_shell = self.is_shell;
        let Assembled {
            mut stage,
            chunk,
            args,
        } = self.assemble(&files)?;
        let (invoker, handlers) = (stage.invoker.clone(), Arc::clone(&stage.handlers));
        let backend = Arc::clone(&stage.backend);
        let evaluate = is_shell.then(|| shell::evaluator(&stage.core.lua, &invoker));
        let evaluate = evaluate.transpose()?;
        let (mut loaded, loading) = oneshot::channel();
        let (order, orders) = oneshot::channel::<Duration>();
        let (ended, end) = oneshot::channel();
        let live = async move {
            let limit = stage.core.meter.limits().load_timeout;
            let main = stage.main(chunk, args, Some(limit));
            let main = stage.actor.begin(main);
            let main = tokio::select! {
                biased;
                () = loaded.closed() => return,
                main = stage.actor.meanwhile(main) => main.unwrap_or_else(|| Err(cancelled())),
            };
            let failed = main.is_err();
            if loaded.send(main).is_err() || failed {
                return;
            }
            // Whoever drops the script does not wait for what it has begun.
            if let Ok(at_most) = stage.actor.meanwhile(orders).await {
                let ending = async {
                    stage.schedules.cancel();
                    // A run that was begun and has not called yet is let in.
                    let schedules = Arc::clone(&stage.schedules);
                    stage.actor.meanwhile(schedules.finished()).await;
                    stage.actor.close();
                    stage.actor.finish().await;
                };
                let _ = tokio::time::timeout(at_most, ending).await;
            }
            drop(stage);
            let _ = ended.send(());
        };
        perform(invoker.script(), live)?;
        loading.await.unwrap_or_else(|_| Err(cancelled()))?;
        Ok(Loaded(Running {
            invoker,
            files,
            handlers,
            backend,
            hearing: None,
            evaluate,
            order,
            end,
        }))
    }

    fn assemble(self, files: &Arc<Files>) -> Result<Assembled, ScriptError> {
        let name = self.path.display().to_string();
        let source = if let Some(text) = self.text {
            text.into_bytes()
        } else {
            files.note(&self.path);
            read(&self.path)?
        };
        let meter = Arc::new(Meter::new(self.limits));
        let (invoker, inbox) = Invoker::new(&name, &meter, self.backend.activity());
        let handlers = Arc::<Handlers>::default();
        let schedules = Arc::new(Schedules::new(self.backend.draft()));
        let world = World {
            directory: self.path.parent().unwrap_or(Path::new("")).to_owned(),
            args: self.args.clone(),
            backend: Arc::clone(&self.backend),
            output: self.output,
            invoker: invoker.clone(),
            handlers: Arc::clone(&handlers),
            schedules: Arc::clone(&schedules),
            files: Arc::clone(files),
            test: self.test.clone(),
        };
        let core = Core::new(world, &meter).map_err(|error| {
            let message = format!("lua cannot start: {}", fault::plain(&error));
            ScriptError::new(Failure::new("script.internal", message))
        })?;
        let chunk = engine::compile(&core.lua, &source, &name)
            .map_err(|error| ScriptError::syntax(&error, &name))?;
        let chunk = match self.test {
            Some(_) => test::with_case(&core.lua, &chunk).map_err(|error| {
                let message = format!("lua failed: {}", fault::plain(&error));
                ScriptError::new(Failure::new("script.internal", message))
            })?,
            None => chunk,
        };
        let core = Arc::new(core);
        Ok(Assembled {
            stage: Stage {
                actor: Actor::new(Arc::clone(&core), invoker.clone(), inbox),
                core,
                invoker,
                handlers,
                schedules,
                backend: self.backend,
            },
            chunk,
            args: self.args,
        })
    }
}

/// A script that was read, and is about to run.
struct Assembled {
    stage: Stage,
    chunk: mlua::Function,
    args: Vec<String>,
}

/// Where a script runs.
struct Stage {
    core: Arc<Core>,
    actor: Actor,
    invoker: Invoker,
    handlers: Arc<Handlers>,
    schedules: Arc<Schedules>,
    backend: Arc<dyn Backend>,
}

impl Stage {
    /// The script's own lines.
    fn main(
        &self,
        chunk: mlua::Function,
        args: Vec<String>,
        wall: Option<Duration>,
    ) -> impl Future<Output = Result<(), ScriptError>> + use<> {
        let core = Arc::clone(&self.core);
        let schedules = Arc::clone(&self.schedules);
        async move {
            schedules.read().await;
            let budget = Arc::new(core.meter.budget("the script", Kind::Main, wall));
            let args = args
                .iter()
                .map(|arg| Ok(Value::String(core.lua.create_string(arg)?)))
                .collect::<mlua::Result<MultiValue>>()
                .map_err(|error| core.lua_failed(&budget, &error))?;
            core.run(&budget, chunk, args).await.map(drop)
        }
    }

    /// What handlers are still to hear, however the script ended.
    async fn wind_down(&mut self, hearing: Hearing) {
        let schedules = Arc::clone(&self.schedules);
        let heard = async {
            // Runs under way go on, and what comes of them is heard.
            schedules.cancel();
            self.actor.meanwhile(schedules.finished()).await;
            // Without a handler nobody hears what is still to come.
            if !self.handlers.is_empty() {
                self.actor.meanwhile(self.backend.settle()).await;
            }
            drop(hearing);
            self.actor.finish().await;
        };
        if tokio::time::timeout(GRACE, heard).await.is_err() {
            tracing::warn!(
                target: "postrider::script",
                "the script ended before its handlers did: what they were told counts as not heard"
            );
        }
    }
}

/// A script whose own lines have run, and of which nothing is live.
pub struct Loaded(Running);

impl Loaded {
    /// The script, as messages name it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The script and what it required.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.files()
    }

    /// From now on its handlers hear and its hooks see what happens.
    pub fn start(mut self) -> Running {
        let running = &mut self.0;
        running.hearing = Some(running.handlers.listen(&running.backend, &running.invoker));
        if !running.handlers.is_empty() {
            running.backend.remind();
        }
        self.0
    }
}

/// A script that is live. Dropping it ends it where it stands.
pub struct Running {
    invoker: Invoker,
    files: Arc<Files>,
    handlers: Arc<Handlers>,
    backend: Arc<dyn Backend>,
    hearing: Option<Hearing>,
    evaluate: Option<Callback>,
    order: oneshot::Sender<Duration>,
    end: oneshot::Receiver<()>,
}

impl Running {
    /// The script, as messages name it.
    pub fn name(&self) -> &str {
        self.invoker.script()
    }

    /// The script and what it required.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.all()
    }

    /// The way into it.
    pub(crate) fn invoker(&self) -> &Invoker {
        &self.invoker
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        self.invoker.usage()
    }

    /// The same at any time, also once it has ended.
    pub fn meter(&self) -> impl Fn() -> Usage + Send + Sync + use<> {
        let invoker = self.invoker.clone();
        move || invoker.usage()
    }

    /// Ends it: it hears and begins nothing new, and what is under way has `at_most` this long.
    pub async fn stop(self, at_most: Duration) {
        drop(self.hearing);
        if self.order.send(at_most).is_ok() {
            // It ends also where its thread fails.
            let _ = self.end.await;
        }
    }
}

/// Polls `live` where it holds up nobody else: on a thread of its own, which the system takes
/// the processor from, whatever a call into C may take. A runtime of one thread has no other.
fn perform(name: &str, live: impl Future<Output = ()> + Send + 'static) -> Result<(), ScriptError> {
    let runtime = Handle::current();
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        runtime.spawn(live);
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("postrider-lua".to_owned());
    match thread.spawn(move || runtime.block_on(live)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("no thread for the script {name}: {error}");
            Err(ScriptError::new(Failure::new("script.internal", message)))
        }
    }
}

fn cancelled() -> ScriptError {
    ScriptError::new(Failure::new("cancelled", "the script was stopped"))
}

/// The text of a script.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ScriptError> {
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the script {}: {error}", path.display());
        ScriptError::new(Failure::new("file.unreadable", message))
    })
}
