//! A machine whose `sendmail` is Postrider's, for a story.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::home::Home;
use super::sandbox::Sandbox;
use super::{Ended, pause, postrider, read_to_string};

/// A machine whose `sendmail` is Postrider's.
pub(crate) struct Machine {
    pub(crate) sandbox: Sandbox,
    pub(crate) home: Home,
}

impl Machine {
    /// With more lines for its configuration, under `[sendmail]`.
    pub(crate) fn new(more: &str) -> Self {
        let sandbox = Sandbox::start();
        let config = format!(
            "{}\n[sendmail]\naccount = 'sandbox'\nlocal_to = 'admin@contoso.com'\n{more}\n",
            sandbox.config()
        );
        let mut home = Home::new(&config);
        home.set(sandbox.client_secret());
        install(home.path());
        Self { sandbox, home }
    }

    pub(crate) fn program(&self, program: impl AsRef<Path>) -> Command {
        self.home.program(program.as_ref())
    }

    pub(crate) fn sendmail(&self) -> PathBuf {
        self.home.path().join("bin/sendmail")
    }

    /// Waits for a message with this subject in somebody's mailbox.
    #[track_caller]
    pub(crate) fn arrived(&self, mailbox: &str, subject: &str) -> String {
        let line = format!("Subject: {subject}\r\n");
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let mail = self.sandbox.mail(mailbox);
            let mut texts = mail.iter().map(|path| read_to_string(path));
            if let Some(text) = texts.find(|text| text.contains(&line)) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "{subject:?} did not arrive at {mailbox}"
            );
            pause();
        }
    }
}

/// Puts `sendmail` and its other names into `bin`.
fn install(home: &Path) {
    fs::create_dir(home.join("bin")).unwrap();
    // The plugins are built.
    let _ = postrider();
    for name in ["sendmail", "mailq", "newaliases"] {
        symlink(env!("CARGO_BIN_EXE_postrider"), home.join("bin").join(name)).unwrap();
    }
}

pub(crate) trait Programs {
    /// Any program, in this user's environment.
    fn program(&self, program: &Path) -> Command;
}

impl Programs for Home {
    fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let own = self.postrider([]);
        let variables = own.get_envs();
        command.env_clear();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        let path = format!("{}:/usr/bin:/bin", self.path().join("bin").display());
        command.env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.env("LOGNAME", "root").env("USER", "root");
        command.env("POSTRIDER_CONFIG", self.path().join("postrider.toml"));
        command.current_dir(self.path());
        command
    }
}

/// Nothing is said where all went well.
#[track_caller]
pub(crate) fn silent(ended: Ended) {
    let ended = ended.expect_status(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
}

/// A home with one account whose server is not there: what is queued stays.
pub(crate) fn queue_only(more: &str) -> Home {
    let home = Home::new(&format!(
        "[account.alerts]\nusername = 'alerts@contoso.com'\n\
         server = {{ host = 'localhost', port = 1, tls = 'implicit' }}\n\
         auth = {{ plugin = 'basic', password = {{ env = 'P' }} }}\n[sendmail]\n{more}\n"
    ));
    install(home.path());
    home
}
