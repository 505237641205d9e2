//! Test files, case by case, each in a world of its own.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::find::config_for;
use super::log::Log;
use super::stage::Stage;
use super::world::World;
use crate::failure::Failure;
use crate::lua::{Backend, Bench, Case, Script, ScriptError, TestMode};

/// When it is where a case begins: a Monday, nine o'clock.
const BEGINNING: &str = "2026-01-05T09:00:00Z";

/// How tests are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configuration for all of them; the nearest to each test if there is none.
    pub config: Option<PathBuf>,
    /// Only cases whose name holds this.
    pub filter: Option<String>,
    /// How long a case may take, by a real clock.
    pub timeout: Duration,
}

/// What became of the cases of one file.
#[derive(Debug, Serialize)]
pub struct FileResult {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Its cases, in their order; none where the file itself is broken.
    pub cases: Vec<CaseResult>,
    /// Why the file could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Problem>,
}

/// What became of one case.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// What it shows.
    pub name: String,
    /// Where it begins: `report_test.lua:3`.
    pub at: String,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub took: Duration,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Why something failed.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// What happened.
    pub failure: Failure,
    /// The calls that led there, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
    /// What was logged and printed before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl FileResult {
    /// How many of its cases failed.
    pub fn failed(&self) -> usize {
        self.cases
            .iter()
            .filter(|case| case.problem.is_some())
            .count()
    }
}

fn milliseconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((span.as_secs_f64() * 1e6).round() / 1e3)
}

/// Runs test files, one after the other, on the thread that made it.
pub struct Runner {
    runtime: Runtime,
    stage: Arc<Stage>,
    settings: Settings,
    log: Log,
    _listening: tracing::subscriber::DefaultGuard,
}

impl Runner {
    /// Starts the sandbox.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let log = Log::default();
        let listening = log.listen();
        let (runtime, stage) = Stage::build()?;
        Ok(Self {
            runtime,
            stage,
            settings,
            log,
            _listening: listening,
        })
    }

    /// The cases of `file` that the filter lets through, each with its place among all.
    ///
    /// # Errors
    /// The file, or its configuration, is broken.
    pub fn cases(&self, file: &Path) -> Result<Vec<(usize, Case)>, Problem> {
        self.log.clear();
        let cases = self.enter(file, None);
        let cases = cases
            .map_err(|error| self.problem(error))?
            .into_iter()
            .enumerate();
        let wanted = |case: &Case| {
            let filter = self.settings.filter.as_deref();
            filter.is_none_or(|filter| case.name.contains(filter))
        };
        Ok(cases.filter(|(_, case)| wanted(case)).collect())
    }

    /// Runs one of the cases of `file`.
    pub fn run(&self, file: &Path, index: usize, case: Case) -> CaseResult {
        self.log.clear();
        let began = Instant::now();
        let ended = self.enter(file, Some(index));
        CaseResult {
            name: case.name,
            at: case.at,
            took: began.elapsed(),
            problem: ended.err().map(|error| self.problem(error)),
        }
    }

    /// Runs all cases of `file`, and tells of each as it ends.
    pub fn run_file(&self, file: &Path, mut ended: impl FnMut(&CaseResult)) -> FileResult {
        let mut result = FileResult {
            file: file.to_owned(),
            cases: Vec::new(),
            broken: None,
        };
        match self.cases(file) {
            Ok(cases) => {
                for (index, case) in cases {
                    let case = self.run(file, index, case);
                    ended(&case);
                    result.cases.push(case);
                }
            }
            Err(problem) => result.broken = Some(problem),
        }
        result
    }

    fn problem(&self, error: ScriptError) -> Problem {
        Problem {
            failure: error.failure,
            trace: error.trace,
            log: self.log.lines(),
        }
    }

    /// Runs the file in a new world, and the case that is wanted; answers all cases.
    fn enter(&self, file: &Path, wanted: Option<usize>) -> Result<Vec<Case>, ScriptError> {
        let config = config_for(file, self.settings.config.as_deref());
        let now: Timestamp = BEGINNING.parse().unwrap_or_default();
        let beside = file.parent().unwrap_or(Path::new(""));
        self.runtime.block_on(async {
            let world = World::open(
                &self.stage,
                now,
                beside,
                config.as_deref(),
                self.log.clone(),
            );
            let world = world?;
            let bench = Arc::new(world.clone()) as Arc<dyn Bench>;
            let mode = TestMode::new(bench, wanted);
            let ended = self.play(file, &world, &mode).await;
            world.close().await;
            ended.map(|()| mode.cases())
        })
    }

    async fn play(&self, file: &Path, world: &World, mode: &TestMode) -> Result<(), ScriptError> {
        let script = Script::new(file, Arc::new(world.clone()) as Arc<dyn Backend>)
            .output(Arc::new(Mutex::new(self.log.clone())))
            .test(mode.clone());
        let (_timer, up) = timer(self.settings.timeout);
        tokio::select! {
            biased;
            ended = script.run() => ended?,
            () = mode.done() => {}
            Ok(()) = up => return Err(self.too_long().into()),
        }
        world.rest().await?;
        world
            .unscripted()
            .map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn too_long(&self) -> Failure {
        Failure::new(
            "test.timeout",
            format!("the case took longer than {:?}", self.settings.timeout),
        )
        .with_remedy("give it more by --timeout, or look for what never ends")
    }
}

/// A real clock: the runtime's own goes where the test moves it. Dropping the sender ends it.
fn timer(span: Duration) -> (mpsc::Sender<()>, oneshot::Receiver<()>) {
    let (cancel, ended) = mpsc::channel();
    let (ring, bell) = oneshot::channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(span) == Err(mpsc::RecvTimeoutError::Timeout) {
            // The case may have ended meanwhile.
            let _ = ring.send(());
        }
    });
    (cancel, bell)
}
