//! Many messages through one session with Dovecot's submission service, which relays them to
//! Postfix's smtp-sink.
//!
//! Dovecot wants root, to run as its own users. Skipped, saying so, where there is none.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{Authenticator, Pool, PoolLimits, SaslError, SaslExchange, TlsMode};
use tempfile::TempDir;

use crate::{
    postfix::{free, skip},
    queue::Queue,
    support::{Dialogue, Tcp, message_to},
};

const DOVECOT: &str = "/usr/sbin/dovecot";
const SINK: &str = "/usr/sbin/smtp-sink";

struct World {
    home: TempDir,
    address: SocketAddr,
    peers: Vec<Child>,
}

impl World {
    fn start() -> Result<Self, String> {
        for program in [DOVECOT, SINK, "/usr/lib/dovecot/submission-login"] {
            if !Path::new(program).exists() {
                return Err(format!(
                    "there is no {program} (packages dovecot-submissiond, postfix)"
                ));
            }
        }
        if !rustix::process::geteuid().is_root() {
            return Err("Dovecot's own users can only be taken on by root".into());
        }
        let home = tempfile::tempdir().unwrap();
        for directory in ["sink", "mail"] {
            fs::create_dir(home.path().join(directory)).unwrap();
        }
        for directory in ["", "sink", "mail"] {
            let everybody = fs::Permissions::from_mode(0o777);
            fs::set_permissions(home.path().join(directory), everybody).unwrap();
        }
        let (address, sink) = (free(), free());
        let config = home.path().join("dovecot.conf");
        fs::write(
            &config,
            configuration(home.path(), address.port(), sink.port()),
        )
        .unwrap();
        let dump = home.path().join("sink/%M.");
        let mut sink_command = Command::new(SINK);
        sink_command.args(["-u", "nobody", "-d"]).arg(dump);
        sink_command.args([&sink.to_string(), "16"]);
        let mut dovecot_command = Command::new(DOVECOT);
        dovecot_command.args(["-F", "-c"]).arg(config);
        let mut world = Self {
            home,
            address,
            peers: Vec::new(),
        };
        for (command, address) in [(&mut sink_command, sink), (&mut dovecot_command, address)] {
            world.peers.push(command.spawn().unwrap());
            let deadline = Instant::now() + Duration::from_secs(30);
            while TcpStream::connect(address).is_err() {
                assert!(Instant::now() < deadline, "nobody listens at {address}");
                std::thread::yield_now();
            }
        }
        Ok(world)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            let pid = rustix::process::Pid::from_child(peer);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = peer.wait();
        }
    }
}

fn configuration(home: &Path, port: u16, sink_port: u16) -> String {
    let home = home.display();
    format!(
        "protocols = submission
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
listen = 127.0.0.1
ssl = no
auth_mechanisms = plain
disable_plaintext_auth = no
hostname = localhost
mail_location = maildir:{home}/mail/%u
first_valid_uid = 1
submission_relay_host = 127.0.0.1
submission_relay_port = {sink_port}
submission_relay_trusted = no
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={home}/mail/%u
}}
"
    )
}

/// `PLAIN`, with any password.
struct Plain;

impl Authenticator for Plain {
    fn begin<'a>(
        &'a self,
        _: &'a [String],
        _: &'a str,
        _: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        async { Ok(Box::new(Self) as Box<dyn SaslExchange>) }.boxed()
    }

    fn rejected(&self, _: u64) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

impl SaslExchange for Plain {
    fn mechanism(&self) -> &'static str {
        "PLAIN"
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        Some(b"\0a@example.org\0any".to_vec())
    }

    fn generation(&self) -> u64 {
        1
    }

    fn respond<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

#[tokio::test]
async fn many_messages_go_through_one_session_with_dovecot() {
    const MESSAGES: usize = 60;
    let world = match World::start() {
        Ok(world) => world,
        Err(why) => return skip(&why),
    };
    let pool = Pool::with_connector(
        Dialogue::new("").settings(TlsMode::DangerPlaintext),
        Arc::new(Plain),
        PoolLimits {
            connections: 1,
            ..PoolLimits::default()
        },
        Arc::new(Tcp(world.address)),
    );
    let letters = (0..MESSAGES).map(|number| {
        let text = format!("Number: {number}.\r\n\r\n{}", "..a line\r\n".repeat(number));
        message_to(&[&format!("r{number}@example.net")], text.as_bytes())
    });
    let mut queue = Queue::of(letters);

    let sent = pool.send_all(&mut queue, 10).await.unwrap();

    assert_eq!((sent.messages, sent.drained), (MESSAGES as u64, true));
    assert!(
        queue.ended.iter().all(|(_, word)| word == "sent"),
        "{:?}",
        queue.ended
    );
    pool.close().await;
    let mut numbers: Vec<usize> = fs::read_dir(world.home.path().join("sink"))
        .unwrap()
        .map(|file| {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let number = text
                .split_once("Number: ")
                .unwrap()
                .1
                .split('.')
                .next()
                .unwrap();
            assert!(
                text.contains(&format!("r{number}@example.net")),
                "{number}: not its envelope"
            );
            number.parse().unwrap()
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
}
