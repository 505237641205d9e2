//! A `postrider serve` of its own.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{SENDER, process, server::Server, write};

pub(crate) struct Daemon {
    home: TempDir,
    process: Child,
    /// Where syncs are counted.
    traced: Option<PathBuf>,
    pub(crate) started_in: Duration,
}

impl Daemon {
    /// Started, and ready. Its one account has so many sessions to `server`.
    pub(crate) fn start(postrider: &Path, server: &Server, connections: usize) -> Self {
        Self::started(None, postrider, server, connections, false)
    }

    /// The same with its state in a directory there.
    pub(crate) fn start_in(
        place: Option<&Path>,
        postrider: &Path,
        server: &Server,
        connections: usize,
    ) -> Self {
        Self::started(place, postrider, server, connections, false)
    }

    /// The same, and every flush to the disk is counted.
    pub(crate) fn traced(postrider: &Path, server: &Server, connections: usize) -> Self {
        Self::started(None, postrider, server, connections, true)
    }

    fn started(
        place: Option<&Path>,
        postrider: &Path,
        server: &Server,
        connections: usize,
        traced: bool,
    ) -> Self {
        let home = crate::directory(place);
        let at = home.path();
        let port = server.address.port();
        let ca = at.join("ca.pem");
        write(&ca, &server.certificate_pem);
        write(&at.join("password"), "secret\n");
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(at.join("password"), mode).expect("a mode");
        write(
            &at.join("postrider.toml"),
            &format!(
                r#"[account.bench]
username = "{SENDER}"
sender = "{SENDER}"
ca_file = "{}"
server = {{ host = "localhost", port = {port}, tls = "implicit" }}
connections = {connections}
auth = {{ plugin = "basic", password = {{ file = "password" }} }}

[serve]
# a server that greets nobody is not waited for
shutdown_timeout = "1s"
"#,
                ca.display()
            ),
        );
        let trace = at.join("trace");
        let ready = UnixDatagram::bind(at.join("notify")).expect("a socket");
        ready
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        let mut command = if traced {
            process::counting_syncs(&trace, postrider)
        } else {
            Command::new(postrider)
        };
        let began = Instant::now();
        let process = command
            .arg("--config")
            .arg(at.join("postrider.toml"))
            .arg("--state-dir")
            .arg(at.join("state"))
            .arg("serve")
            .env("NOTIFY_SOCKET", at.join("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at.join("log")).expect("a log"))
            .spawn()
            .expect("postrider starts");
        let mut daemon = Self {
            process,
            traced: traced.then_some(trace),
            started_in: Duration::ZERO,
            home,
        };
        let mut said = [0; 4096];
        loop {
            let Ok(length) = ready.recv(&mut said) else {
                panic!("the daemon is not ready: {}", daemon.log());
            };
            if String::from_utf8_lossy(&said[..length]).contains("READY=1") {
                break;
            }
        }
        daemon.started_in = began.elapsed();
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("state/control.sock")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A command that talks to it.
    pub(crate) fn command(&self, postrider: &Path) -> Command {
        let mut command = Command::new(postrider);
        command
            .arg("--config")
            .arg(self.home.path().join("postrider.toml"))
            .arg("--state-dir")
            .arg(self.home.path().join("state"));
        command
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Ends it; how often it flushed.
    pub(crate) fn syncs(mut self) -> Option<u64> {
        process::terminate_child_of(self.process.id());
        let _ = self.process.wait();
        process::syncs(self.traced.as_deref()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.traced.is_some() {
            process::terminate_child_of(self.process.id());
        } else {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
