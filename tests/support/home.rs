//! A user's files for a story: a configuration and Postrider's state, and nothing of the
//! machine's.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::browser::Browser;
use super::{Ended, postrider, run, write_private};

/// The files of one user.
pub(crate) struct Home {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

impl Home {
    /// A home with this `postrider.toml`.
    pub(crate) fn new(config: &str) -> Self {
        let home = Self {
            directory: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        };
        home.configure(config);
        home
    }

    /// A home with nothing in it, and where `postrider.toml` is to be written.
    pub(crate) fn empty() -> (Self, PathBuf) {
        let mut home = Self::new("");
        let config = home.path().join("postrider.toml");
        fs::remove_file(&config).unwrap();
        home.set(("POSTRIDER_CONFIG", config.to_str().unwrap()));
        (home, config)
    }

    /// Another `postrider.toml` instead.
    pub(crate) fn configure(&self, config: &str) {
        write_private(&self.path().join("postrider.toml"), config);
    }

    /// Sets a variable for all of this user's commands.
    pub(crate) fn set(&mut self, (name, value): (&str, &str)) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Postrider's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// `postrider`, run by this user.
    pub(crate) fn postrider<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = postrider();
        command
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            .env("NO_COLOR", "1")
            .env("POSTRIDER_STATE_DIR", self.state())
            .args(arguments);
        for name in [
            "CREDENTIALS_DIRECTORY",
            "DBUS_SESSION_BUS_ADDRESS",
            "DISPLAY",
            "BROWSER",
        ] {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// Runs `postrider` to its end.
    pub(crate) fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ended {
        run(&mut self.postrider(arguments))
    }

    /// What a command that must succeed prints, as JSON.
    #[track_caller]
    pub(crate) fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        let ended = run(self.postrider(arguments).arg("--json")).expect_status(0);
        ended.json()
    }

    /// The access token that `postrider token` prints.
    #[track_caller]
    pub(crate) fn token(&self, account: &str) -> String {
        let ended = self.run(["token", account]).expect_status(0);
        ended.token().to_owned()
    }

    /// Signs `person` in with `browser`, at the URL that `postrider login` prints.
    #[track_caller]
    pub(crate) fn login(
        &self,
        account: &str,
        browser: &mut Browser,
        person: (&str, &str),
    ) -> (Ended, Value) {
        let arguments = ["login", account, "--no-browser", PATIENCE];
        let mut login = Login::begin(&mut self.postrider(arguments));
        let url = login.url();
        let page = browser.sign_in(&url, person);
        (login.end(), page)
    }
}

/// So that a sign-in that went astray ends.
pub(crate) const PATIENCE: &str = "--timeout=1m";

/// A `postrider login` under way.
pub(crate) struct Login {
    process: Child,
    said: BufReader<ChildStderr>,
    stderr: String,
}

impl Login {
    /// Starts it.
    pub(crate) fn begin(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            said: BufReader::new(process.stderr.take().unwrap()),
            process,
            stderr: String::new(),
        }
    }

    /// The first line that is a URL.
    #[track_caller]
    pub(crate) fn url(&mut self) -> String {
        self.line(|line| line.starts_with("https://") || line.starts_with("http://"))
    }

    /// The first line that is a code to type in.
    #[track_caller]
    pub(crate) fn code(&mut self) -> String {
        self.line(|line| {
            (8..=9).contains(&line.len())
                && line
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-')
        })
    }

    /// Waits for a line that holds `part`.
    #[track_caller]
    pub(crate) fn says(&mut self, part: &str) {
        self.line(|line| line.contains(part));
    }

    /// Types a line.
    pub(crate) fn type_in(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let process = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    }

    #[track_caller]
    fn line(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            let octets = self.said.read_line(&mut line).unwrap();
            assert_ne!(octets, 0, "it ended with {}", self.stderr);
            self.stderr += &line;
            if fits(line.trim()) {
                return line.trim().to_owned();
            }
        }
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.process.stdin.take());
        self.said.read_to_string(&mut self.stderr).unwrap();
        let mut stdout = Vec::new();
        let mut output = self.process.stdout.take().unwrap();
        output.read_to_end(&mut stdout).unwrap();
        let status = self.process.wait().unwrap();
        let stderr = std::mem::take(&mut self.stderr);
        Ended::new(status, stdout, stderr.into_bytes())
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        // A story that failed halfway leaves nobody waiting.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A request to [`Browser::act`]: `person` types a device's `code`.
pub(crate) fn device(url: &str, code: &str, (user, password): (&str, &str)) -> Value {
    json!({ "url": url, "code": code, "user": user, "password": password })
}
