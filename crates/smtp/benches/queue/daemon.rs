//! A `postrider serve` of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
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
    /// Where devices hand in mail, if they may.
    gateway: Option<SocketAddr>,
    pub(crate) started_in: Duration,
}

/// Who signs in at a gateway, and how.
pub(crate) const DEVICE: &str = "printer";
pub(crate) const PASSWORD: &str = "kbzw-4fhm-q7tx-93vr-dpnc";

/// What a daemon is to be like.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Where its directory is; where temporary files are, if nothing is said.
    pub(crate) place: Option<&'a Path>,
    /// Every flush to the disk is counted.
    pub(crate) traced: bool,
    /// It has a gateway.
    pub(crate) gateway: bool,
}

impl Daemon {
    /// Started, and ready. Its one account has so many sessions to `server`.
    pub(crate) fn start(postrider: &Path, server: &Server, connections: usize) -> Self {
        Self::with(&Setup::default(), postrider, server, connections)
    }

    /// The same with its state in a directory there.
    pub(crate) fn start_in(
        place: Option<&Path>,
        postrider: &Path,
        server: &Server,
        connections: usize,
    ) -> Self {
        let setup = Setup {
            place,
            ..Setup::default()
        };
        Self::with(&setup, postrider, server, connections)
    }

    /// The same, and every flush to the disk is counted.
    pub(crate) fn traced(postrider: &Path, server: &Server, connections: usize) -> Self {
        let setup = Setup {
            traced: true,
            ..Setup::default()
        };
        Self::with(&setup, postrider, server, connections)
    }

    pub(crate) fn with(
        setup: &Setup<'_>,
        postrider: &Path,
        server: &Server,
        connections: usize,
    ) -> Self {
        let home = crate::directory(setup.place);
        let at = home.path();
        let port = server.address.port();
        let gateway = setup.gateway.then(crate::postfix::free);
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
{}"#,
                ca.display(),
                gateway.map(listening).unwrap_or_default()
            ),
        );
        if gateway.is_some() {
            admit_device(at, postrider);
        }
        let trace = at.join("trace");
        let ready = UnixDatagram::bind(at.join("notify")).expect("a socket");
        ready
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        let mut command = if setup.traced {
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
            traced: setup.traced.then_some(trace),
            gateway,
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

    /// Where its gateway listens.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.gateway.expect("a daemon with a gateway")
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

/// A gateway that does not encrypt, for this machine.
fn listening(at: SocketAddr) -> String {
    format!(
        r#"
[gateway.bench]
listen = "{at}"
tls = "danger_plaintext"
clients = ["127.0.0.0/8"]
account = "bench"
connections_per_client = 100
"#
    )
}

/// Gives the device its password.
fn admit_device(home: &Path, postrider: &Path) {
    let mut process = Command::new(postrider)
        .arg("--config")
        .arg(home.join("postrider.toml"))
        .arg("--state-dir")
        .arg(home.join("state"))
        .args(["gateway", "credential", "add", DEVICE, "--gateway", "bench"])
        .arg("--password-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(home.join("log")).expect("a log"))
        .spawn()
        .expect("postrider starts");
    let mut password = process.stdin.take().expect("a pipe");
    password.write_all(PASSWORD.as_bytes()).expect("it reads");
    drop(password);
    let ended = process.wait().expect("it ends");
    let said = fs::read_to_string(home.join("log")).unwrap_or_default();
    assert!(ended.success(), "{said}");
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
