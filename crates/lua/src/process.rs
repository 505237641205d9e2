//! `pr.run`: programs that `[scripts] run` names, without a shell.
//!
//! A program gets an environment of its own and nothing of ours that is open: at the time-out,
//! or when nobody waits for it any more, it is killed with its [`kin`], all that it started. A
//! call lasts until the program has ended and its output is closed. What a program may do is not
//! restricted: who allows an interpreter allows everything.

mod kin;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use mlua::{Lua, Table, Value};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::Failure;
use crate::backend::Backend;
use crate::call::{Args, Fields, Registrar, Reply, Work, kind};
use crate::fault::Fault;
use crate::secret::SecretRef;
use crate::time;
use kin::Kin;
use postrider_lua_api::{self as api, RUN_FIELDS};

/// How long a program may take, unless the script says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most that a program may print, on either stream, unless the script says otherwise.
const OUTPUT_OCTETS: usize = 1 << 20;
/// The most that a script may ask for.
const OUTPUT_OCTETS_MAX: usize = 16 << 20;
/// How many programs one script runs at once; more wait.
const AT_ONCE: usize = 8;
/// Where a program finds others, if we have no path ourselves.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program about to be started.
#[derive(Clone)]
pub struct Program {
    /// The program itself; an absolute path.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What stands in its environment besides `PATH`, `LANG` and `HOME`, or in their place.
    pub env: Vec<(String, SecretString)>,
    /// What it reads from its standard input.
    pub stdin: SecretSlice<u8>,
    /// The directory it begins in; ours where absent.
    pub cwd: Option<PathBuf>,
    /// How long it may take.
    pub timeout: Duration,
    /// The most it may print, on either stream.
    pub max_octets: usize,
}

/// Says which program, never what it is told.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("arguments", &self.arguments.len())
            .finish_non_exhaustive()
    }
}

/// How a program ended, and what it printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, if it ended by itself.
    pub status: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
}

impl Program {
    /// Runs it to its end.
    ///
    /// Dropping the future kills it, with all that it started.
    ///
    /// # Errors
    /// `program.failed` where it does not run, `program.timeout` and
    /// `program.output_too_large` where it was killed.
    pub async fn run(self) -> Result<Ended, Failure> {
        run(self).await
    }
}

async fn run(program: Program) -> Result<Ended, Failure> {
    let failed = |what: &str, error: &io::Error| {
        let path = program.path.display();
        Failure::new("program.failed", format!("{path} {what}: {error}"))
    };
    let mark = kin::mark();
    let mut child = command(&program, &mark)
        .spawn()
        .map_err(|error| failed("cannot be started", &error))?;
    // Dropped before `child`, which has not been waited for until then: its number is its own.
    let mut kin = Kin::of(&child, mark);
    let finished = tokio::time::timeout(program.timeout, finish(&mut child, &program)).await;
    match finished {
        Ok(Ok(ended)) => {
            kin.release();
            Ok(ended)
        }
        Ok(Err(Trouble::TooMuch)) => {
            let most = program.max_octets;
            let message = format!("{} printed more than {most} octets", program.path.display());
            Err(Failure::new("program.output_too_large", message)
                .with_remedy("raise `max_octets` if so much is expected"))
        }
        Ok(Err(Trouble::Io(error))) => Err(failed("cannot be heard", &error)),
        Err(_) => Err(Failure::new(
            "program.timeout",
            format!(
                "{} was stopped after {:?}",
                program.path.display(),
                program.timeout
            ),
        )
        .with_remedy("raise `timeout` if it needs longer; what it had done by then is done")),
    }
}

fn command(program: &Program, mark: &str) -> Command {
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .env_clear()
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| PATH.into()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    for name in ["LANG", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for (name, value) in &program.env {
        command.env(name, value.expose_secret());
    }
    command.env(kin::VARIABLE, mark);
    if let Some(cwd) = &program.cwd {
        command.current_dir(cwd);
    }
    leave_open_nothing(&mut command);
    command
}

/// What we have open is ours: Rust says so of each file it opens, a C library may not.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "std runs this between fork and exec")]
fn leave_open_nothing(command: &mut Command) {
    // SAFETY: the closure makes one system call, which is async-signal-safe, allocates nothing
    // and touches no memory of ours. Descriptors are marked to be closed by exec, not closed:
    // the pipe by which std reports a failed exec is among them.
    unsafe {
        command.pre_exec(|| {
            // Before Linux 5.11 there is no such call, and nothing is lost.
            let _unknown = libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn leave_open_nothing(_: &mut Command) {}

enum Trouble {
    TooMuch,
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Talks with the program until it has ended.
async fn finish(child: &mut Child, program: &Program) -> Result<Ended, Trouble> {
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // It need not read all of it.
            let _unread = stdin.write_all(program.stdin.expose_secret()).await;
        }
        Ok(())
    };
    let most = program.max_octets;
    let stdout = listen(child.stdout.take(), most);
    let stderr = listen(child.stderr.take(), most);
    let ((), stdout, stderr) = tokio::try_join!(feed, stdout, stderr)?;
    let status = child.wait().await?;
    Ok(Ended {
        status: status.code(),
        signal: status.signal(),
        stdout,
        stderr,
    })
}

async fn listen(from: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, Trouble> {
    let mut octets = Vec::new();
    if let Some(from) = from {
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        from.take(limit).read_to_end(&mut octets).await?;
    }
    if octets.len() > most {
        return Err(Trouble::TooMuch);
    }
    Ok(octets)
}

/// Registers `pr.run`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let allowed: Arc<[PathBuf]> = backend.permissions().run.into();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let backend = Arc::clone(backend);
    registrar.add_waiting("run", move |lua, args| {
        let described = Described::read(lua, args)?;
        described.allowed(&allowed).map_err(Fault::failed)?;
        Ok(described.perform(&backend, &turns))
    })
}

/// A program as the script wrote it: its secrets are still references.
struct Described {
    program: Program,
    stdin: Option<SecretRef>,
    env: Vec<(String, SecretRef)>,
}

impl Described {
    fn read(lua: &Lua, mut args: Args) -> Result<Self, Fault> {
        let table = args.table("program")?;
        args.end()?;
        let (words, named) = apart(lua, &table)?;
        let fields = Fields::new(&named, "", &api::names(RUN_FIELDS))?;
        let mut words = words.into_iter();
        let Some(path) = words.next().map(PathBuf::from) else {
            return Err(Fault::misuse(
                "no program is named: write pr.run { \"/usr/bin/df\", \"-h\" }",
            ));
        };
        let cwd = fields.text("cwd")?.map(PathBuf::from);
        if cwd.as_ref().is_some_and(|cwd| !cwd.is_absolute()) {
            return Err(Fault::misuse("field 'cwd' must be an absolute path"));
        }
        let (stdin, secret_stdin) = match fields.value("stdin")? {
            Value::Nil => (Vec::new(), None),
            Value::String(octets) => (octets.as_bytes().to_vec(), None),
            Value::UserData(data) if data.is::<SecretRef>() => {
                (Vec::new(), Some(data.borrow::<SecretRef>()?.clone()))
            }
            other => return Err(fields.wrong("stdin", "a string or a pr.secret", &other)),
        };
        let (env, secret_env) = environment(&fields)?;
        Ok(Self {
            program: Program {
                path,
                arguments: words.collect(),
                env,
                stdin: stdin.into(),
                cwd,
                timeout: match fields.value("timeout")? {
                    Value::Nil => TIMEOUT,
                    span => time::duration(&span).map_err(Fault::Misuse)?,
                },
                max_octets: fields
                    .count("max_octets", OUTPUT_OCTETS_MAX)?
                    .unwrap_or(OUTPUT_OCTETS),
            },
            stdin: secret_stdin,
            env: secret_env,
        })
    }

    fn allowed(&self, allowed: &[PathBuf]) -> Result<(), Failure> {
        let path = &self.program.path;
        // Compared as it is written: `/usr/bin/../bin/df` is another name.
        if allowed
            .iter()
            .any(|known| known.as_os_str() == path.as_os_str())
        {
            return Ok(());
        }
        let shown: String = path.to_string_lossy().chars().take(200).collect();
        let shown = shown.replace(char::is_control, "\u{fffd}");
        let near = allowed
            .iter()
            .find(|known| known.file_name() == path.file_name());
        let remedy = match near {
            Some(near) => format!("write {}, as the configuration has it", near.display()),
            None => format!("allow it in the configuration: [scripts] run = [\"{shown}\"]"),
        };
        let message = format!("scripts may not run {shown}");
        Err(Failure::new("program.not_allowed", message).with_remedy(remedy))
    }

    fn perform(self, backend: &Arc<dyn Backend>, turns: &Arc<Semaphore>) -> Work {
        let (backend, turns) = (Arc::clone(backend), Arc::clone(turns));
        async move {
            let _turn = turns.acquire_owned().await;
            let ended = self.run(&*backend).await.map_err(Fault::failed)?;
            Ok(Reply::made(move |lua| answer(lua, &ended)))
        }
        .boxed()
    }

    async fn run(self, backend: &dyn Backend) -> Result<Ended, Failure> {
        let mut program = self.program;
        if let Some(reference) = self.stdin {
            let secret = backend.secret(reference.into()).await?;
            program.stdin = secret.expose_secret().as_bytes().to_vec().into();
        }
        for (name, reference) in self.env {
            program
                .env
                .push((name, backend.secret(reference.into()).await?));
        }
        backend.run(program).await
    }
}

/// The words of a command line, and the named fields beside them.
fn apart(lua: &Lua, table: &Table) -> Result<(Vec<OsString>, Table), Fault> {
    let named = lua.create_table()?;
    let mut count = 0;
    for pair in table.pairs::<Value, Value>() {
        match pair? {
            (Value::Integer(_), _) => count += 1,
            (name, value) => named.raw_set(name, value)?,
        }
    }
    let length = table.raw_len();
    if count != length {
        return Err(Fault::misuse(
            "the program and its arguments are a list without holes",
        ));
    }
    let mut words = Vec::with_capacity(length);
    for index in 1..=length {
        match table.raw_get::<Value>(index)? {
            Value::String(word) if word.as_bytes().contains(&0) => {
                return Err(Fault::Misuse(format!("word {index} holds a NUL")));
            }
            Value::String(word) => words.push(OsStr::from_bytes(&word.as_bytes()).to_owned()),
            Value::UserData(data) if data.is::<SecretRef>() => {
                return Err(Fault::Misuse(format!(
                    "word {index} is a secret, and everybody on this machine can read what a program is started with: give it by 'stdin' or 'env'"
                )));
            }
            other => {
                let kind = kind(&other);
                return Err(Fault::Misuse(format!(
                    "word {index} must be a string, got a {kind}"
                )));
            }
        }
    }
    Ok((words, named))
}

type Environment = (Vec<(String, SecretString)>, Vec<(String, SecretRef)>);

/// What is given, and what is to be looked up.
fn environment(fields: &Fields<'_>) -> Result<Environment, Fault> {
    let (mut given, mut secret) = (Vec::new(), Vec::new());
    let table = match fields.value("env")? {
        Value::Nil => return Ok((given, secret)),
        Value::Table(table) => table,
        other => return Err(fields.wrong("env", "a table", &other)),
    };
    for (name, value) in fields.named("env", &table)? {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(fits)
        {
            return Err(Fault::Misuse(format!(
                "field 'env' has '{name:.60}', which is no name of a variable"
            )));
        }
        // The dynamic linker would run whatever file they name.
        if name.starts_with("LD_") || name.starts_with("DYLD_") {
            return Err(Fault::Misuse(format!(
                "field 'env' may not set {name:.60}, which changes what a program is"
            )));
        }
        match value {
            Value::String(text) if !text.as_bytes().contains(&0) => {
                let text = fields.utf8(&format!("env.{name}"), &text)?;
                given.push((name, text.into()));
            }
            Value::UserData(data) if data.is::<SecretRef>() => {
                secret.push((name, data.borrow::<SecretRef>()?.clone()));
            }
            other => {
                let key = format!("env.{name}");
                return Err(fields.wrong(&key, "text without a NUL, or a pr.secret", &other));
            }
        }
    }
    Ok((given, secret))
}

fn answer(lua: &Lua, ended: &Ended) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("ok", ended.status == Some(0))?;
    table.raw_set("status", ended.status)?;
    table.raw_set("signal", ended.signal)?;
    table.raw_set("stdout", lua.create_string(&ended.stdout)?)?;
    table.raw_set("stderr", lua.create_string(&ended.stderr)?)?;
    Ok(table)
}
