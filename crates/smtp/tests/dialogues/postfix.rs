//! Hundreds of messages through one session with Postfix's own server, refusals among them.
//!
//! Postfix wants root, to run as its own users. Skipped, saying so, where there is none.

use std::{
    env, fs, io,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{Connector, Outgoing, Pool, PoolLimits, Stream, TcpConnector, TlsMode};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

use crate::{
    queue::Queue,
    support::{Counted, Dialogue, Tokens, address, message_to},
};

const DAEMONS: &str = "/usr/lib/postfix/sbin";

/// A Postfix of its own, which holds what it takes.
struct Postfix {
    home: TempDir,
    chunking: SocketAddr,
    pipelining: SocketAddr,
}

impl Postfix {
    /// Starts it, or says what is missing. `auth` must be served before a client connects.
    fn start() -> Result<Self, String> {
        if !Path::new(DAEMONS).join("smtpd").exists() {
            return Err(format!("there is no {DAEMONS}/smtpd (package postfix)"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("Postfix's own users can only be taken on by root".into());
        }
        let home = tempfile::tempdir().unwrap();
        let at = home.path().display();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["conf", "spool", "data"] {
            fs::create_dir(home.path().join(directory)).unwrap();
        }
        let user = |name: &str| id(name).ok_or(format!("there is no user {name}"));
        chown(home.path().join("data"), Some(user("postfix")?), None).unwrap();
        let (chunking, pipelining) = (free(), free());
        fs::write(
            home.path().join("conf/main.cf"),
            format!(
                "compatibility_level = 3.6
queue_directory = {at}/spool
data_directory = {at}/data
daemon_directory = {DAEMONS}
maillog_file = {at}/log
maillog_file_prefixes = {at}
myhostname = mx.example
mydestination =
local_recipient_maps =
alias_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {at}/auth
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_delay_reject = no
smtpd_end_of_data_restrictions = check_client_access static:HOLD
smtpd_recipient_restrictions =
    check_recipient_access inline:{{{{nobody@example.net = REJECT}}}}, permit_sasl_authenticated
smtpd_sender_restrictions =
    check_sender_access inline:{{{{refused@example.org = REJECT}}}}, permit_sasl_authenticated
"
            ),
        )
        .unwrap();
        fs::write(
            home.path().join("conf/master.cf"),
            format!(
                "{chunking} inet n - n - - smtpd
{pipelining} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=chunking
cleanup unix n - n - 0 cleanup
proxymap unix - - n - - proxymap
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
qmgr unix n - n 300 1 qmgr
"
            ),
        )
        .unwrap();
        let postfix = Self {
            home,
            chunking,
            pipelining,
        };
        postfix.run("/usr/sbin/postfix", &["check"]);
        // Returns when it listens; ends by itself should this process be killed.
        postfix.run(&format!("{DAEMONS}/master"), &["-e", "120", "-w"]);
        Ok(postfix)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let ran = Command::new(program)
            .arg("-c")
            .arg(self.home.path().join("conf"))
            .args(arguments)
            .status()
            .unwrap();
        assert!(ran.success(), "{program} {arguments:?}: {ran}");
    }

    /// What it has taken, each as it is on its disk.
    fn held(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(self.home.path().join("spool/hold")).unwrap();
        files
            .map(|file| fs::read(file.unwrap().path()).unwrap())
            .collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.home.path().join("spool/pid/master.pid"));
        let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

fn id(user: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users
        .lines()
        .find(|line| line.starts_with(&format!("{user}:")))?;
    line.split(':').nth(2)?.parse().ok()
}

/// A port that was free a moment ago: for programs that cannot choose one themselves.
pub(crate) fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Says why a story is not told. Where every peer must be there (`POSTRIDER_REQUIRE_PEERS=1`, as
/// in CI) it fails.
pub(crate) fn skip(why: &str) {
    let required = env::var_os("POSTRIDER_REQUIRE_PEERS").is_some();
    assert!(!required, "must not be skipped here: {why}");
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// The other side of `smtpd_sasl_type = dovecot`: every token is good.
async fn serve_tokens(listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(believe(stream));
    }
}

async fn believe(stream: UnixStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let hello = "VERSION\t1\t1\nMECH\tXOAUTH2\nSPID\t1\nCUID\t1\n\
                 COOKIE\t00112233445566778899aabbccddeeff\nDONE\n";
    stream.write_all(hello.as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let mut words = line.trim_end().split('\t');
        if words.next() == Some("AUTH") {
            let id = words.next().unwrap_or_default();
            stream
                .write_all(format!("OK\t{id}\tuser=a\n").as_bytes())
                .await?;
        }
        line.clear();
    }
    Ok(())
}

/// Counts what leaves in how many writes.
struct Counting(SocketAddr, Arc<AtomicUsize>);

impl Connector for Counting {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        async move {
            let inner = TcpConnector.connect(address).await?;
            let writes = Arc::clone(&self.1);
            Ok(Box::new(Counted { inner, writes }) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async { Ok(vec![self.0]) }.boxed()
    }
}

/// Every 13th from somebody it does not want, every 7th to nobody, every 11th to nobody too.
fn letter(number: usize) -> Outgoing {
    let reader = format!("r{number}@example.net");
    let recipients: &[&str] = match number {
        _ if number % 7 == 3 => &["nobody@example.net"],
        _ if number % 11 == 5 => &["nobody@example.net", &reader],
        _ => &[&reader],
    };
    let text = format!("Number: {number}.\r\n\r\n{}", "..a line\r\n".repeat(number));
    let letter = message_to(recipients, text.as_bytes());
    let mut envelope = letter.envelope().clone();
    if number % 13 == 8 {
        envelope.reverse_path = Some(address("refused@example.org"));
    } else {
        envelope.reverse_path = Some(address(&format!("s{number}@example.org")));
    }
    Outgoing::new(envelope, text, "<1@example.org>").unwrap()
}

fn expected(number: usize) -> &'static str {
    match number {
        _ if number % 13 == 8 => "refused MAIL FROM 554",
        _ if number % 7 == 3 => "refused RCPT TO 554",
        _ if number % 11 == 5 => "sent but 1",
        _ => "sent",
    }
}

#[tokio::test]
async fn hundreds_of_messages_go_through_one_session_with_postfix() {
    const MESSAGES: usize = 200;
    let postfix = match Postfix::start() {
        Ok(postfix) => postfix,
        Err(why) => return skip(&why),
    };
    let socket = postfix.home.path().join("auth");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    tokio::spawn(serve_tokens(listener));

    // Writes to each message at most, the beginning and half windows considered.
    for (server, most) in [(postfix.chunking, 0.25), (postfix.pipelining, 1.2)] {
        let before = postfix.held().len();
        let writes = Arc::<AtomicUsize>::default();
        let pool = Pool::with_connector(
            Dialogue::new("").settings(TlsMode::DangerPlaintext),
            Arc::new(Tokens::new("a", &["t1"])),
            PoolLimits {
                connections: 1,
                ..PoolLimits::default()
            },
            Arc::new(Counting(server, Arc::clone(&writes))),
        );
        let mut queue = Queue::of((0..MESSAGES).map(letter));

        let sent = pool.send_all(&mut queue, 10).await.unwrap();

        assert_eq!((sent.messages, sent.drained), (MESSAGES as u64, true));
        let said: Vec<_> = queue.ended.iter().map(|(_, word)| word.as_str()).collect();
        let wanted: Vec<_> = (0..MESSAGES).map(expected).collect();
        assert_eq!(said, wanted);
        #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
        let per_message = writes.load(Ordering::Relaxed) as f64 / MESSAGES as f64;
        assert!(per_message < most, "{per_message} writes a message");
        let taken = wanted
            .iter()
            .filter(|word| word.starts_with("sent"))
            .count();
        assert_eq!(postfix.held().len() - before, taken);
        pool.close().await;
    }
    let log = fs::read_to_string(postfix.home.path().join("log")).unwrap();
    assert!(log.contains("connect from"), "{log}");
    assert!(!log.contains("pipelining"), "said out of turn: {log}");
    for file in postfix.held() {
        let text = String::from_utf8_lossy(&file);
        let number = text
            .split_once("Number: ")
            .unwrap()
            .1
            .split('.')
            .next()
            .unwrap();
        for address in [
            format!("s{number}@example.org"),
            format!("r{number}@example.net"),
        ] {
            assert!(
                text.contains(&address),
                "{number} is not in its own envelope"
            );
        }
    }
}
