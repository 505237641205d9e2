//! What the stories share: the real binary, and programs nobody here wrote.
#![allow(dead_code, reason = "each story uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

pub(crate) mod browser;
pub(crate) mod clock;
pub(crate) mod crowd;
pub(crate) mod curl;
pub(crate) mod cut;
pub(crate) mod daemon;
pub(crate) mod deaf;
pub(crate) mod device;
pub(crate) mod gate;
pub(crate) mod gateway;
pub(crate) mod home;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod needles;
pub(crate) mod office;
pub(crate) mod openid;
pub(crate) mod openmetrics;
pub(crate) mod person;
pub(crate) mod postfix;
pub(crate) mod sandbox;
pub(crate) mod scripted;
pub(crate) mod talk;
pub(crate) mod webhook;
pub(crate) mod worlds;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("crates/host lies two below the root")
}

/// The `postrider` binary, with its plugins built beside it, and an environment that no
/// setting of the machine reaches.
pub(crate) fn postrider() -> Command {
    static PLUGINS: OnceLock<()> = OnceLock::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_postrider"));
    PLUGINS.get_or_init(|| match env::var("NEXTEST_RUN_ID") {
        Ok(run) => once_a_run(&run, || build_plugins(binary)),
        Err(_) => build_plugins(binary),
    });
    let mut command = Command::new(binary);
    command.stdin(Stdio::null());
    // Never the machine's own state.
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    command.env("POSTRIDER_STATE_DIR", state);
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "POSTRIDER_CONFIG",
        "POSTRIDER_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// Cargo, as somebody at the root of the workspace would run it.
///
/// What cargo tells a test of its package does not reach this one: ring's build script looks at
/// it, so ring and all that is linked with it would be compiled anew, now and for the next cargo
/// that somebody runs by hand.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
    cargo
}

fn build_plugins(binary: &Path) {
    let mut build = cargo();
    build
        .args(["build", "--quiet"])
        .args(["--package", "postrider-plugin-oauth"])
        .args(["--package", "postrider-plugin-basic"]);
    if binary
        .components()
        .any(|part| part.as_os_str() == "release")
    {
        build.arg("--release");
    }
    assert!(
        build.status().unwrap().success(),
        "the plugins do not build"
    );
}

/// Does `work` in the first of the processes that nextest starts for its `run`, one for each
/// test; the others wait for that. Cargo takes seconds to see that there is nothing to build.
fn once_a_run(run: &str, work: impl FnOnce()) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("last-run");
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap();
    file.lock().unwrap();
    let mut last = String::new();
    file.read_to_string(&mut last).unwrap();
    if last != run {
        work();
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(run.as_bytes()).unwrap();
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status; -1 if a signal ended it.
    pub(crate) status: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Ended::new(status, stdout, stderr)
}

/// Runs `command` with `input` on its standard input.
pub(crate) fn run_with(command: &mut Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ended::new(output.status, output.stdout, output.stderr)
}

impl Ended {
    pub(crate) fn new(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self {
            status: status.code().unwrap_or(-1),
            signal: status.signal(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// The same, if it ended with `status`; otherwise shows what it said.
    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("JSON on standard output")
    }

    /// The only line of standard output: a token.
    #[track_caller]
    pub(crate) fn token(&self) -> &str {
        let token = self.stdout.strip_suffix('\n').expect("a line");
        assert!(
            !token.is_empty() && !token.contains(char::is_whitespace),
            "{self:?}"
        );
        token
    }
}

/// All of `parts` stand in what was said.
#[track_caller]
pub(crate) fn says(ended: &Ended, parts: &[&str]) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

/// A program that runs beside the story and ends with it.
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts `command`; what it prints goes nowhere.
    pub(crate) fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Starts `command` and reads the first JSON object that it prints.
    pub(crate) fn announcing(command: &mut Command) -> (Self, Value) {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Self(child);
        let mut announced = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            // A program's own chatter before the announcement is not part of it.
            if announced.is_empty() && !line.starts_with('{') {
                continue;
            }
            announced += &line;
            if let Ok(announced) = serde_json::from_str(&announced) {
                // Nor is what comes after it; but it must have somewhere to go.
                std::thread::spawn(move || lines.count());
                return (peer, announced);
            }
        }
        let status = peer.0.wait();
        panic!("{command:?} ended with {status:?} before it was ready");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Between two looks at what another process is doing: whoever looks all the time takes the
/// processor from it.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Waits until something listens on `port`: for programs that do not say when they do.
pub(crate) fn await_port(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on port {port}");
        pause();
    }
}

/// A port that was free a moment ago: for programs that cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .unwrap()
}

/// The path of an installed program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Says that a story is skipped and why, past the harness, which hides what a passing test
/// prints. Where every peer must be there (`POSTRIDER_REQUIRE_PEERS=1`, as in CI) it fails.
#[track_caller]
pub(crate) fn skip(reason: &str) {
    assert!(
        env::var_os("POSTRIDER_REQUIRE_PEERS").is_none(),
        "must not be skipped here: {reason}"
    );
    let _ = writeln!(io::stderr(), "skipped: {reason}");
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A file's text; octets that are no UTF-8 are replaced.
pub(crate) fn read_to_string(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// Parses a message with Python's `email` package: subject, addresses, text and the SHA-256
/// of each attachment.
pub(crate) fn parse_with_python(message: &Path) -> Option<Value> {
    let python = find_program("python3")?;
    let output = Command::new(python)
        .arg(root().join("tests/support/parse.py"))
        .arg(message)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The only file in a directory that ends in `extension`, once it is there.
pub(crate) fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if extension.is_empty() || path.extension() == Some(OsStr::new(extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
