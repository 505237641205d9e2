//! What Python makes of it: a reader and a server that nobody here wrote.
//!
//! Skipped, saying so, where there is no `python3`.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use postrider_smtp::{
    Outgoing, Pool, PoolLimits, SendErrorKind, TlsFailure, TlsMode,
    message::{Attachment, Draft, Source},
};

use crate::{
    certificates::Certificates,
    support::{Dialogue, HOST, STARTTLS_AND_AUTH, Tokens},
};

const READER: &str = r#"
import base64, email, email.policy, hashlib, json, sys
parsed = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
def utf8(text):
    # A header that is UTF-8 as it is (RFC 6532) comes out of the bytes parser escaped.
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8")
def part(p):
    content = p.get_payload(decode=True)
    return {"type": p.get_content_type(), "name": p.get_filename(), "cid": p["Content-ID"],
            "sha256": hashlib.sha256(content).hexdigest(),
            "text": p.get_content() if p.get_content_maintype() == "text" and not p.get_filename() else None}
print(json.dumps({
    "subject": parsed["Subject"], "to": [utf8(a) for a in parsed["To"].addresses],
    "from": parsed["From"].addresses[0].display_name, "note": parsed["X-Note"],
    "id": parsed["Message-ID"], "date": parsed["Date"].datetime.isoformat(),
    "defects": [str(d) for d in parsed.defects], "bcc": parsed["Bcc"],
    "parts": [part(p) for p in parsed.walk() if not p.is_multipart()]}))
"#;

const TLS_1_1_SERVER: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.set_ciphers("ALL:@SECLEVEL=0")
context.minimum_version = ssl.TLSVersion.TLSv1
context.maximum_version = ssl.TLSVersion.TLSv1_1
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
try:
    context.wrap_socket(connection, server_side=True)
    print("secured", flush=True)
except (ssl.SSLError, OSError) as error:
    print("failed:", error, flush=True)
"#;

fn python(program: &str, arguments: &[&str]) -> Option<Child> {
    let child = Command::new("python3")
        .args(["-I", "-W", "ignore", "-c", program])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    if let Err(error) = &child {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: python3 cannot be started: {error}"
        );
    }
    child.ok()
}

fn read_back(message: &[u8]) -> Option<serde_json::Value> {
    let mut child = python(READER, &[])?;
    child.stdin.take().unwrap().write_all(message).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The octets that a server received for this message, by BDAT or by DATA.
async fn transmitted(message: &Outgoing, chunking: bool) -> Vec<u8> {
    let chunks = message.message().unwrap().len().div_ceil(1024 * 1024);
    let envelope =
        "C: MAIL *\nC: RCPT TO:<jörg@xn--exmple-cua.org>\nC: RCPT TO:<hidden@example.net>\n";
    let (strike, rest) = if chunking {
        let (sent, answers) = ("C: BDAT *\n".repeat(chunks), "S: 250 ok\n".repeat(chunks));
        (
            "none",
            format!("{envelope}S: 250 ok\nS: 250 ok\nS: 250 ok\n{sent}{answers}"),
        )
    } else {
        let data = "C: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: [message]\nS: 250 ok\n";
        ("S: 250-CHUNKING\n", format!("{envelope}{data}"))
    };
    let server = Dialogue::new(&(STARTTLS_AND_AUTH.replace(strike, "") + &rest));
    let pool = server.pool(TlsMode::Starttls);
    pool.send(message).await.unwrap();
    drop(pool);
    server.finish().await.remove(0).messages.remove(0)
}

/// 20 MB, no two places alike, with everything in it that transfer might change.
fn awkward_octets() -> Vec<u8> {
    let mut state = 1_u32;
    let mut octets = b".\r\n..\r\n\n.\n\r\r\n.\r\n\0From here\r\n".to_vec();
    while octets.len() < 20_000_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets
}

fn sha256(octets: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, octets);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"))
}

#[tokio::test]
async fn a_message_with_everything_arrives_as_it_was_written() {
    let text = format!(".\n..\n.dot\nFrom here\nü\n{}\n\nlast", "x".repeat(998));
    let html = format!("<p>.</p>\n.\n<img src=\"cid:logo\">{}", "y".repeat(2_000));
    let file = awkward_octets();
    let attachment = |name: &str, octets: &[u8], cid: Option<&str>| Attachment {
        source: Source::Bytes(octets.to_vec()),
        name: Some(name.to_owned()),
        mime_type: None,
        content_id: cid.map(str::to_owned),
    };
    let subject =
        "Ünïcödé 📮 subject, which is longer than one line of a header may be, so it is folded";
    let draft = Draft {
        from: "Jörg Müller <a@example.org>".to_owned(),
        to: vec!["\"Ö, Jörg\" <jörg@exämple.org>".to_owned()],
        bcc: vec!["hidden@example.net".to_owned()],
        subject: subject.to_owned(),
        text: Some(text.clone()),
        html: Some(html.clone()),
        attachments: vec![
            attachment("logo.png", b"not really a png", Some("logo")),
            attachment("größe \"1\"; x.bin", &file, None),
        ],
        headers: vec![("X-Note".to_owned(), "ein Gruß".to_owned())],
        ..Draft::default()
    };
    let message = draft
        .build(UNIX_EPOCH + Duration::from_secs(1_700_000_000), "u1")
        .unwrap();

    for chunking in [true, false] {
        let received = transmitted(&message, chunking).await;
        assert!(
            *received == **message.message().unwrap(),
            "the wire changed the message, chunking: {chunking}"
        );
        let Some(read) = read_back(&received) else {
            return;
        };

        assert_eq!(read["subject"], subject);
        assert_eq!(read["to"][0], "\"Ö, Jörg\" <jörg@xn--exmple-cua.org>");
        assert_eq!(read["from"], "Jörg Müller");
        assert_eq!(read["note"], "ein Gruß");
        assert_eq!(read["id"], "<u1@example.org>");
        assert_eq!(read["date"], "2023-11-14T22:13:20+00:00");
        assert_eq!(
            read["defects"].as_array().unwrap().len(),
            0,
            "{}",
            read["defects"]
        );
        assert!(read["bcc"].is_null());
        let parts = read["parts"].as_array().unwrap();
        let types: Vec<_> = parts
            .iter()
            .map(|part| part["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            types,
            [
                "text/plain",
                "text/html",
                "image/png",
                "application/octet-stream"
            ]
        );
        assert_eq!(
            parts[0]["text"]
                .as_str()
                .unwrap()
                .replace("\r\n", "\n")
                .trim_end(),
            text
        );
        assert_eq!(
            parts[1]["text"]
                .as_str()
                .unwrap()
                .replace("\r\n", "\n")
                .trim_end(),
            html
        );
        assert_eq!(parts[2]["cid"], "<logo>");
        assert_eq!(parts[3]["name"], "größe \"1\"; x.bin");
        assert_eq!(parts[3]["sha256"], sha256(&file));
    }
}

#[tokio::test]
async fn a_server_with_tls_1_1_alone_is_refused_in_so_many_words() {
    let certificates = Certificates::good();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    let pem = |label: &str, der: &[u8]| {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            BASE64.encode(der)
        )
    };
    std::fs::write(
        &certificate,
        pem("CERTIFICATE", &certificates.server_certificate),
    )
    .unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &certificates.server_key)).unwrap();
    let arguments = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let Some(mut server) = python(TLS_1_1_SERVER, &arguments) else {
        return;
    };
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let Some(port) = lines.next() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: this python3 cannot offer TLS 1.1"
        );
        server.wait().unwrap();
        return;
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap().parse().unwrap()));
    let dialogue = Dialogue::with(certificates, "");
    let settings = dialogue.settings(TlsMode::Implicit);
    let tokens = Arc::new(Tokens::new("a", &["t1"]));
    let pool = Pool::with_connector(
        settings,
        Arc::clone(&tokens) as _,
        PoolLimits::default(),
        Arc::new(crate::support::Tcp(address)),
    );

    let error = pool.send(&crate::support::message()).await.unwrap_err();

    let SendErrorKind::Tls(failure) = &*error.kind else {
        panic!("{error}")
    };
    assert_eq!(failure, &TlsFailure::OldVersion);
    assert_eq!(failure.to_string(), "the server offers no TLS 1.2 or later");
    assert!(error.server.starts_with(HOST));
    assert_eq!(tokens.begun.load(std::sync::atomic::Ordering::Relaxed), 0);
    drop(pool);
    assert!(lines.next().unwrap().unwrap().starts_with("failed:"));
    server.wait().unwrap();
}
