//! A Postfix of a story's own, which sends all mail to one host with a password. It wants root, to
//! run as its own users.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{run_with, write_private};

const DAEMONS: &str = "/usr/lib/postfix/sbin";

/// More than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running Postfix.
pub(crate) struct Postfix {
    home: TempDir,
}

/// Where it sends mail.
pub(crate) struct Relay<'a> {
    /// As `relayhost` has it: `[localhost]:2525`.
    pub(crate) host: &'a str,
    /// From the first octet, or by STARTTLS.
    pub(crate) implicit: bool,
    pub(crate) ca: &'a Path,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) mechanism: &'a str,
}

/// Why there can be none here.
pub(crate) fn missing() -> Option<&'static str> {
    if !Path::new(DAEMONS).join("smtpd").exists() {
        return Some("postfix is not installed");
    }
    let root = rustix::process::geteuid().is_root();
    (!root).then_some("Postfix's own users can only be taken on by root")
}

impl Postfix {
    pub(crate) fn start(relay: &Relay<'_>) -> Self {
        let postfix = Self {
            home: tempfile::tempdir().unwrap(),
        };
        postfix.configure(relay);
        let ended = Command::new(Path::new(DAEMONS).join("master"))
            .arg("-c")
            .arg(postfix.path("conf"))
            // Should the story be killed, it ends by itself.
            .args(["-e", "600", "-w"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}{}", postfix.log());
        postfix
    }

    /// Hands in a message by its `sendmail`.
    pub(crate) fn sendmail(&self, from: &str, to: &str, message: &str) {
        let mut sendmail = Command::new("/usr/sbin/sendmail");
        sendmail.arg("-C").arg(self.path("conf"));
        sendmail.args(["-i", "-f", from, "--", to]);
        run_with(&mut sendmail, message).expect_status(0);
    }

    /// Waits until its queue is empty.
    pub(crate) fn await_empty(&self) {
        let began = Instant::now();
        loop {
            let queue = Command::new("/usr/sbin/postqueue")
                .arg("-c")
                .arg(self.path("conf"))
                .arg("-j")
                .output()
                .unwrap();
            if queue.status.success() && queue.stdout.is_empty() {
                return;
            }
            let left = String::from_utf8_lossy(&queue.stdout);
            assert!(began.elapsed() < PATIENCE, "{left}{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn configure(&self, relay: &Relay<'_>) {
        let (home, at) = (self.home.path(), self.home.path().display());
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["conf", "spool", "data"] {
            fs::create_dir(home.join(directory)).unwrap();
        }
        chown(home.join("data"), Some(id("postfix")), None).unwrap();
        // Its client may not look into other directories.
        fs::copy(relay.ca, home.join("conf/ca.pem")).unwrap();
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(home.join("conf/ca.pem"), mode).unwrap();
        let Relay {
            host,
            user,
            password,
            mechanism,
            ..
        } = relay;
        write_private(
            &home.join("conf/passwords"),
            format!("{host} {user}:{password}\n"),
        );
        let wrapper = if relay.implicit { "yes" } else { "no" };
        fs::write(
            home.join("conf/main.cf"),
            format!(
                "compatibility_level = 3.6
queue_directory = {at}/spool
data_directory = {at}/data
daemon_directory = {DAEMONS}
maillog_file = {at}/log
maillog_file_prefixes = {at}
myhostname = relay.contoso.com
myorigin = contoso.com
mydestination =
local_recipient_maps =
alias_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
relayhost = {host}
smtp_tls_wrappermode = {wrapper}
smtp_host_lookup = native
smtp_tls_security_level = secure
smtp_tls_CAfile = {at}/conf/ca.pem
smtp_tls_secure_cert_match = localhost
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = {mechanism}
smtp_sasl_password_maps = texthash:{at}/conf/passwords
"
            ),
        )
        .unwrap();
        fs::write(home.join("conf/master.cf"), SERVICES).unwrap();
        let ended = Command::new("/usr/sbin/postfix")
            .arg("-c")
            .arg(home.join("conf"))
            .arg("check")
            .output()
            .unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }
}

const SERVICES: &str = "\
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
postlog unix-dgram n - n - 1 postlogd
";

impl Drop for Postfix {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("spool/pid/master.pid")).unwrap_or_default();
        let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) else {
            return;
        };
        let _ = kill_process(pid, Signal::TERM);
        let process = format!("/proc/{}", pid.as_raw_nonzero());
        let began = Instant::now();
        while Path::new(&process).exists() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The user of that name on this machine.
fn id(user: &str) -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let prefix = format!("{user}:");
    let line = users.lines().find(|line| line.starts_with(&prefix));
    line.unwrap().split(':').nth(2).unwrap().parse().unwrap()
}
