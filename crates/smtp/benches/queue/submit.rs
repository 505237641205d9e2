//! Many who hand in mail at once.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{MESSAGE_OCTETS, RECIPIENT, SENDER, message};

/// Hands `messages` in at the control socket, each submitter on a connection of its own and one
/// after another; how long it took until the last was safe.
pub(crate) fn to_postrider(socket: &Path, submitters: usize, messages: u64) -> Duration {
    let request = request();
    let handed_in = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..submitters {
            scope.spawn(|| {
                let stream = UnixStream::connect(socket).expect("the daemon listens");
                let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
                let mut stream = stream;
                while handed_in.fetch_add(1, Ordering::Relaxed) < messages {
                    stream.write_all(&request).expect("the daemon reads");
                    read_accepted(&mut answers);
                }
            });
        }
    });
    began.elapsed()
}

fn request() -> Vec<u8> {
    let body = json!({
        "account": "bench", "wait": "queued", "sender": SENDER, "to": [RECIPIENT],
        "raw": base64(&message()),
    })
    .to_string();
    format!(
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn base64(octets: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(octets)
}

/// Reads one answer, which has to say that the message is safe.
fn read_accepted(answers: &mut BufReader<UnixStream>) {
    let mut line = String::new();
    let mut length = 0;
    let mut status = String::new();
    loop {
        line.clear();
        let octets = answers.read_line(&mut line).expect("an answer");
        assert!(octets > 0, "the daemon hung up");
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if status.is_empty() {
            text.clone_into(&mut status);
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).expect("the answer's body");
    assert!(
        status.contains(" 202 "),
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
}

/// The same by SMTP, with Postfix's own generator of load.
pub(crate) fn to_postfix(smtpd: SocketAddr, submitters: usize, messages: u64) -> Duration {
    let began = Instant::now();
    let ran = Command::new("/usr/sbin/smtp-source")
        .args(["-d", "-f", SENDER, "-t", RECIPIENT])
        .args(["-l", &MESSAGE_OCTETS.to_string()])
        .args(["-s", &submitters.to_string()])
        .args(["-m", &messages.to_string()])
        .arg(smtpd.to_string())
        .stdin(Stdio::null())
        .status()
        .expect("smtp-source starts");
    assert!(ran.success(), "smtp-source: {ran}");
    began.elapsed()
}
