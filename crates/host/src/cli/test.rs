//! `postrider test`: the tests of scripts.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::Output;
use crate::app::AppSettings;
use crate::failure::{Failure, exit};
use crate::lua::Case;
use crate::testing::report::{Pretty, Reporter, Silent, Tap, junit};
use crate::testing::{FileResult, LOOK_EVERY, Problem, Runner, Settings, Watch, test_files};

/// Which tests, and how they are told of.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  postrider test                             every *_test.lua below the working directory
  postrider test scripts/report_test.lua     these
  postrider test --filter 'tried again'      cases whose name holds this
  postrider test --watch                     again after each change
  postrider test --tap | tappy               for other programs; --junit FILE for CI

A test file:
  local pr = require \"postrider\"
  pr.test.case(\"the report goes to three people\", function(t)
    t:load \"report.lua\"
    t.clock:advance \"24h\"
    t.eq(#t.outbox, 1)
  end)

Each case has a clock that only it moves, the sandbox behind every provider, and nothing leaves
the machine. Exit status: 0 all passed, 1 some failed, 65 a test file is broken, 66 there is none.")]
pub(super) struct Arguments {
    /// Test files, and directories to look for *_test.lua in [default: .]
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Only cases whose name holds this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How long one case may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = super::duration)]
    timeout: Duration,
    /// Print TAP, the Test Anything Protocol
    #[arg(long, conflicts_with_all = ["json", "list"])]
    tap: bool,
    #[arg(
        long,
        value_name = "FILE",
        help = "Also write the results as JUnit XML"
    )]
    junit: Option<PathBuf>,
    /// Only list the cases
    #[arg(long)]
    list: bool,
    /// Run them again when a test, a script or a configuration changes; Ctrl-C ends
    #[arg(long, conflicts_with_all = ["json", "tap", "list"])]
    watch: bool,
}

/// Tests have a runtime of their own, on a thread of their own: this one waits for Ctrl-C.
pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let (config, output) = (settings.config.clone(), output.clone());
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("tests".to_owned())
        .spawn(move || {
            // Ctrl-C may have come first.
            let _ = ended.send(work(&arguments, config, &output));
        })
        .map_err(|problem| Failure::new("internal", format!("no thread: {problem}")))?;
    tokio::select! {
        ended = end => ended.map_err(|_| Failure::new("internal", "the tests broke off"))?,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(exit::INTERRUPTED)),
    }
}

fn work(
    arguments: &Arguments,
    config: Option<PathBuf>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let config = config.or_else(|| super::variable("POSTRIDER_CONFIG").map(PathBuf::from));
    let runner = Runner::new(Settings {
        config: config.clone(),
        filter: arguments.filter.clone(),
        timeout: arguments.timeout,
    })?;
    if !arguments.watch {
        return once(arguments, &runner, output);
    }
    let mut files = test_files(&arguments.named())?;
    loop {
        let mut watch = Watch::new(&files, config.as_deref());
        if std::io::stdout().is_terminal() {
            let mut out = std::io::stdout();
            let _ = write!(out, "\x1b[2J\x1b[3J\x1b[H").and_then(|()| out.flush());
        }
        if let Err(failure) = once(arguments, &runner, output) {
            output.failure(&failure);
        }
        output.line(output.faint("waiting for a change; Ctrl-C ends"));
        let changed = loop {
            std::thread::sleep(LOOK_EVERY);
            if let Some(changed) = watch.changed() {
                break changed;
            }
        };
        output.line(format!("{} has changed", changed.display()));
        // While the only test is being replaced there is none, for a moment.
        files = test_files(&arguments.named()).unwrap_or(files);
    }
}

impl Arguments {
    fn named(&self) -> Vec<PathBuf> {
        if self.paths.is_empty() {
            vec![PathBuf::from(".")]
        } else {
            self.paths.clone()
        }
    }
}

/// A file's cases, or why it has none.
type Known = (PathBuf, Result<Vec<(usize, Case)>, Problem>);

fn once(arguments: &Arguments, runner: &Runner, output: &Output) -> Result<ExitCode, Failure> {
    let files = test_files(&arguments.named())?;
    let known: Vec<Known> = files
        .into_iter()
        .map(|file| {
            let cases = runner.cases(&file);
            (file, cases)
        })
        .collect();
    let count = |(_, cases): &Known| cases.as_ref().map_or(1, Vec::len);
    let planned: usize = known.iter().map(count).sum();
    if planned == 0 {
        let why = match &arguments.filter {
            Some(filter) => format!("no case is called \"{filter}\""),
            None => "the test files have no case".to_owned(),
        };
        return Err(Failure::new("file.no_tests", why)
            .with_remedy("a case is pr.test.case(\"what it shows\", function(t) … end)"));
    }
    if arguments.list {
        return Ok(list(&known, output));
    }
    let mut reporter: Box<dyn Reporter + '_> = if arguments.tap {
        Box::new(Tap::new())
    } else if output.is_json() {
        Box::new(Silent)
    } else {
        Box::new(Pretty::new(output))
    };
    reporter.plan(planned);
    let mut results = Vec::new();
    for (file, cases) in known {
        let mut result = FileResult {
            file,
            cases: Vec::new(),
            broken: None,
        };
        match cases {
            Ok(cases) => {
                let name = result.file.display().to_string();
                for (index, case) in cases {
                    let case = runner.run(&result.file, index, case);
                    reporter.case(&name, &case);
                    result.cases.push(case);
                }
            }
            Err(problem) => {
                result.broken = Some(problem);
                reporter.broken(&result);
            }
        }
        results.push(result);
    }
    reporter.end(&results);
    output.json(&json!({ "files": results }));
    if let Some(file) = &arguments.junit {
        std::fs::write(file, junit(&results)?).map_err(|error| {
            Failure::new(
                "file.unwritable",
                format!("cannot write {}: {error}", file.display()),
            )
        })?;
    }
    Ok(verdict(&results))
}

fn verdict(results: &[FileResult]) -> ExitCode {
    if results.iter().any(|file| file.broken.is_some()) {
        ExitCode::from(exit::DATAERR)
    } else if results.iter().any(|file| file.failed() > 0) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn list(known: &[Known], output: &Output) -> ExitCode {
    let mut listed = Vec::new();
    let mut status = ExitCode::SUCCESS;
    for (file, cases) in known {
        match cases {
            Ok(cases) => {
                for (_, case) in cases {
                    output.line(format!("{}: {}", case.at, case.name));
                    listed.push(json!({ "file": file, "at": case.at, "name": case.name }));
                }
            }
            Err(problem) => {
                output.failure(&problem.failure);
                status = ExitCode::from(exit::DATAERR);
            }
        }
    }
    output.json(&json!({ "cases": listed }));
    status
}
