//! `postrider repl`: Lua a line at a time, in one live script.
//!
//! Unless `--live` is given, accounts send into the embedded sandbox and requests go nowhere.
//! From a pipe it reads the same lines without a word of its own.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::delivering::Delivering;
use super::output::Output;
use super::run::script_line_first;
use crate::app::{App, AppSettings, sandbox::Embedded};
use crate::failure::Failure;
use crate::lua::{Limits, Script, ScriptError, is_incomplete};
use crate::signals::Signals;
use crate::state;

/// Where what was typed is kept, in the state directory.
const HISTORY: &str = "repl-history";
const HISTORY_LINES: usize = 1000;

/// How long handlers and schedules under way may take when the session ends.
const FAREWELL: Duration = Duration::from_secs(5);

const BANNER: &str = "\
`pr` is there. A line's locals end with it; globals stay. Tab completes, ^C stops a line, ^D ends.";

/// What is there from the start, and where it sends.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is sent unless you say --live: the embedded sandbox takes what accounts send, and HTTP
requests go to this machine only. Files are written, and programs started, as the configuration's
[scripts] allows.

A line's results are printed. What a line leaves open (`for … do`) goes on in the next one.

Examples:
  postrider repl                         try things out
  postrider repl report.lua              with the globals of a script, which runs first
  postrider repl --live                  what is sent arrives
  echo 'pr.accounts()' | postrider repl  from a pipe: exit status 1 if a line failed")]
pub(super) struct Arguments {
    /// Send for real
    #[arg(long, conflicts_with = "dry_run")]
    live: bool,
    /// Send into the embedded sandbox, and print what it received [the default]
    #[arg(long)]
    dry_run: bool,
    /// The sandbox's scenario [default: the built-in one]
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    scenario: Option<PathBuf>,
    /// A script to run first
    #[arg(value_name = "FILE")]
    script: Option<PathBuf>,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let embedded = if arguments.live {
        None
    } else {
        Some(Embedded::start(settings, arguments.scenario.as_deref()).await?)
    };
    let app = match &embedded {
        Some(embedded) => App::open_in(settings, embedded)?,
        None => App::open(settings)?,
    };
    app.keep_fresh();
    let _delivering = embedded.is_some().then(|| Delivering::begin(&app));
    let ended = converse(&arguments, settings, output, &app, embedded.as_ref()).await;
    app.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    ended
}

async fn converse(
    arguments: &Arguments,
    settings: &AppSettings,
    output: &Output,
    app: &App,
    embedded: Option<&Embedded>,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::to_stop()?;
    let path = arguments.script.clone();
    let script = match path {
        Some(path) => Script::new(path, Arc::new(app.clone())),
        None => Script::new("repl", Arc::new(app.clone())).text(""),
    };
    // Whoever waits for it can stop it.
    let limits = Limits {
        load_timeout: Duration::from_hours(24),
        ..Limits::default()
    };
    let script = script.limits(limits);
    let mut outbox = Outbox { embedded, seen: 0 };
    let opened = tokio::select! {
        opened = script.shell() => opened,
        by = signals.stop() => return Ok(ExitCode::from(by.exit_code())),
    };
    outbox.show(output);
    let mut shell = match opened {
        Ok(shell) => shell,
        Err(error) => {
            complain(output, &error);
            return Ok(ExitCode::from(error.exit_code()));
        }
    };
    let mut lines = Lines::open(settings, embedded.is_none())?;
    let mut failed = false;
    loop {
        let read;
        (lines, read) = lines.next().await?;
        let Some(source) = read else { break };
        let ended = tokio::select! {
            ended = shell.eval(&source) => Some(ended),
            by = signals.stop() => {
                if !lines.are_typed() {
                    shell.stop(FAREWELL).await;
                    return Ok(ExitCode::from(by.exit_code()));
                }
                None
            }
        };
        match ended {
            Some(Ok(Some(result))) => output.line(result),
            Some(Ok(None)) => {}
            Some(Err(error)) => {
                failed = true;
                complain(output, &error);
            }
            None => output.note("stopped"),
        }
        outbox.show(output);
    }
    shell.stop(FAREWELL).await;
    outbox.show(output);
    Ok(ExitCode::from(u8::from(failed && !lines.are_typed())))
}

/// As for a script that fails.
fn complain(output: &Output, error: &ScriptError) {
    output.failure(&script_line_first(error.failure.clone()));
    for call in &error.trace {
        output.note(&format!("from: {call}"));
    }
}

/// What the sandbox received, and how much of it was told.
struct Outbox<'a> {
    embedded: Option<&'a Embedded>,
    seen: usize,
}

impl Outbox<'_> {
    fn show(&mut self, output: &Output) {
        let Some(embedded) = self.embedded else {
            return;
        };
        let messages = embedded.messages();
        for message in messages.iter().skip(self.seen) {
            let recipients: Vec<&str> = message.recipients().collect();
            let summary = &message.summary;
            output.line(output.faint(&format!(
                "outbox: {} → {}: {}",
                summary.from,
                recipients.join(", "),
                summary.subject
            )));
        }
        self.seen = messages.len();
    }
}

/// Where lines come from.
enum Lines {
    Typed(Box<Terminal>),
    Piped,
}

struct Terminal {
    editor: Editor<Assistant, FileHistory>,
    history: PathBuf,
}

impl Lines {
    fn open(settings: &AppSettings, live: bool) -> Result<Self, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Piped);
        }
        let whereto = if live {
            "LIVE: what is sent arrives"
        } else {
            "dry run: the sandbox takes what is sent (--live sends it)"
        };
        println!(
            "Postrider {}, {whereto}.\n{BANNER}",
            env!("CARGO_PKG_VERSION")
        );
        let directory = state::directory(settings.state_dir.as_deref())?;
        state::prepare(&directory)?;
        let history = directory.join(HISTORY);
        keep_private(&history).map_err(|error| {
            Failure::new("file.failed", format!("{}: {error}", history.display()))
        })?;
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_LINES)
            .and_then(|config| config.history_ignore_dups(true))
            .map(|config| config.history_ignore_space(true).build())
            .map_err(|error| unreadable(&error))?;
        let mut editor = Editor::with_config(config).map_err(|error| unreadable(&error))?;
        editor.set_helper(Some(Assistant));
        // A history that cannot be read begins anew.
        let _ = editor.load_history(&history);
        Ok(Self::Typed(Box::new(Terminal { editor, history })))
    }

    fn are_typed(&self) -> bool {
        matches!(self, Self::Typed(_))
    }

    /// The next whole piece of Lua; nothing once there are no more. Reading blocks, so that it has
    /// a thread of its own.
    async fn next(self) -> Result<(Self, Option<String>), Failure> {
        let reading = tokio::task::spawn_blocking(move || match self {
            Self::Typed(mut terminal) => {
                let line = terminal.next()?;
                Ok((Self::Typed(terminal), line))
            }
            Self::Piped => Ok((Self::Piped, piped()?)),
        });
        reading
            .await
            .unwrap_or_else(|error| Err(Failure::new("internal", format!("the terminal: {error}"))))
    }
}

impl Terminal {
    fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            match self.editor.readline("> ") {
                Ok(line) => {
                    let kept = self.editor.add_history_entry(line.as_str());
                    if matches!(kept, Ok(true)) && self.editor.save_history(&self.history).is_ok() {
                        let _ = keep_private(&self.history);
                    }
                    return Ok(Some(line));
                }
                // What was begun is dropped, as in a shell.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(unreadable(&error)),
            }
        }
    }
}

/// Lines of standard input, until they are whole.
fn piped() -> Result<Option<String>, Failure> {
    let mut source = String::new();
    loop {
        let read = io::stdin().lock().read_line(&mut source);
        match read.map_err(|error| unreadable(&error))? {
            0 if source.is_empty() => return Ok(None),
            0 => return Ok(Some(source)),
            _ if is_incomplete(&source) => {}
            _ => return Ok(Some(source)),
        }
    }
}

/// A file that only its owner reads: lines may hold addresses, or worse.
fn keep_private(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        "file.unreadable",
        format!("cannot read what is typed: {error}"),
    )
}

/// What the line editor asks about Lua.
struct Assistant;

impl Helper for Assistant {}
impl Highlighter for Assistant {}
impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..at];
        let start = postrider_lua_api::word(typed);
        Ok((start, postrider_lua_api::complete(&typed[start..])))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_incomplete(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}
