//! A Postfix of its own. It wants root, to run as its own users.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{process, server::Server, write};

const DAEMONS: &str = "/usr/lib/postfix/sbin";

pub(crate) struct Postfix {
    home: TempDir,
    pub(crate) smtpd: SocketAddr,
    /// Of a master that was started in the foreground, to count its flushes.
    traced: Option<Child>,
    pub(crate) started_in: Duration,
}

/// What becomes of mail.
pub(crate) enum Then<'a> {
    /// It is kept.
    Hold,
    /// It goes to this server, over so many connections.
    Relay(&'a Server, usize),
}

/// Why there can be none here.
pub(crate) fn missing() -> Option<String> {
    let needed = [format!("{DAEMONS}/smtpd"), "/usr/sbin/smtp-source".into()];
    if let Some(path) = needed.iter().find(|path| !Path::new(path).exists()) {
        return Some(format!("there is no {path} (package postfix)"));
    }
    let root = rustix::process::geteuid().is_root();
    (!root).then(|| "Postfix's own users can only be taken on by root".to_owned())
}

impl Postfix {
    pub(crate) fn start(then: &Then<'_>) -> Self {
        Self::started(None, then, false)
    }

    /// The same with its queue in a directory there.
    pub(crate) fn start_in(place: Option<&Path>, then: &Then<'_>) -> Self {
        Self::started(place, then, false)
    }

    /// The same, and every flush to the disk is counted.
    pub(crate) fn traced(then: &Then<'_>) -> Self {
        Self::started(None, then, true)
    }

    fn started(place: Option<&Path>, then: &Then<'_>, traced: bool) -> Self {
        let home = crate::directory(place);
        let smtpd = free();
        configure(home.path(), smtpd, then);
        let mut postfix = Self {
            home,
            smtpd,
            traced: None,
            started_in: Duration::ZERO,
        };
        postfix.run(Command::new("/usr/sbin/postfix"), &["check"]);
        let began = Instant::now();
        let master = PathBuf::from(DAEMONS).join("master");
        if traced {
            let mut command = process::counting_syncs(&postfix.path("trace"), &master);
            let child = command
                .args(["-d", "-c"])
                .arg(postfix.path("conf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            postfix.traced = Some(child);
            crate::wait_until("Postfix", || {
                std::net::TcpStream::connect(smtpd).is_ok() && postfix.master().is_some()
            });
        } else {
            // Returns when it listens; ends by itself should this process be killed.
            postfix.run(Command::new(&master), &["-e", "900", "-w"]);
        }
        postfix.started_in = began.elapsed();
        postfix
    }

    fn run(&self, mut program: Command, arguments: &[&str]) {
        let ran = program
            .arg("-c")
            .arg(self.path("conf"))
            .args(arguments)
            .stderr(File::create(self.path("stderr")).expect("a file"))
            .status()
            .expect("Postfix starts");
        let said = fs::read_to_string(self.path("stderr")).unwrap_or_default();
        assert!(ran.success(), "{arguments:?}: {ran}: {said}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn master(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.path("spool/pid/master.pid")).ok()?;
        pid.trim().parse().ok()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.master().expect("Postfix runs")
    }

    /// Its `sendmail`.
    pub(crate) fn sendmail(&self) -> Command {
        let mut command = Command::new("/usr/sbin/sendmail");
        command.arg("-C").arg(self.path("conf"));
        command
    }

    /// Ends it; how often it flushed.
    pub(crate) fn syncs(mut self) -> Option<u64> {
        let mut counter = self.traced.take()?;
        self.end();
        let _ = counter.wait();
        process::syncs(&self.path("trace"))
    }

    fn end(&self) {
        let Some(master) = self.master() else { return };
        process::terminate(master);
        let proc = format!("/proc/{master}");
        let began = Instant::now();
        while Path::new(&proc).exists() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.end();
        if let Some(counter) = &mut self.traced {
            let _ = counter.wait();
        }
    }
}

fn configure(home: &Path, smtpd: SocketAddr, then: &Then<'_>) {
    let at = home.display();
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("a mode");
    for directory in ["conf", "spool", "data"] {
        fs::create_dir(home.join(directory)).expect("a directory");
    }
    let postfix = id("postfix").expect("a user named postfix");
    chown(home.join("data"), Some(postfix), None).expect("root");
    let then = match then {
        Then::Hold => {
            write(&home.join("conf/hold"), "/^Subject:/ HOLD\n");
            format!("header_checks = regexp:{at}/conf/hold\n")
        }
        // As quick as it can be made: connections are kept, with TLS too, and nothing is slowed
        // down on purpose.
        Then::Relay(server, connections) => format!(
            "relayhost = [127.0.0.1]:{}
smtp_dns_support_level = disabled
smtp_tls_wrappermode = yes
smtp_tls_security_level = encrypt
smtp_tls_connection_reuse = yes
smtp_connection_cache_destinations = [127.0.0.1]:{}, 127.0.0.1
initial_destination_concurrency = {connections}
default_destination_concurrency_limit = {connections}
",
            server.address.port(),
            server.address.port()
        ),
    };
    write(
        &home.join("conf/main.cf"),
        &format!(
            "compatibility_level = 3.6
queue_directory = {at}/spool
data_directory = {at}/data
daemon_directory = {DAEMONS}
maillog_file = {at}/log
maillog_file_prefixes = {at}
myhostname = mx.example
mydestination =
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_peername_lookup = no
in_flow_delay = 0s
{then}"
        ),
    );
    write(
        &home.join("conf/master.cf"),
        &format!(
            "{smtpd} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
tlsproxy unix - - n - 0 tlsproxy
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
"
        ),
    );
}

fn id(user: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let prefix = format!("{user}:");
    let line = users.lines().find(|line| line.starts_with(&prefix))?;
    line.split(':').nth(2)?.parse().ok()
}

/// An address that nobody listens at.
pub(crate) fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}
