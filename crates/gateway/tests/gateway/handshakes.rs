//! Devices that are set up for another encryption than their gateway: what they hear they cannot
//! read, so whoever set them up is told.

use std::sync::Arc;
use std::time::Duration;

use postrider_gateway::credential::Verifier;
use postrider_gateway::{Event, Gateway, TlsMode};
use rustls::{AlertDescription, ContentType, ProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{Desk, Host, settings};

/// A record of TLS, as its head has it.
fn record(kind: ContentType, version: ProtocolVersion, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let mut octets = vec![u8::from(kind)];
    octets.extend(u16::from(version).to_be_bytes());
    octets.extend(length.to_be_bytes());
    octets.extend(content);
    octets
}

/// The first words of a client that knows TLS 1.0 and one cipher suite of its time.
fn old_hello() -> Vec<u8> {
    let mut hello = u16::from(ProtocolVersion::TLSv1_0).to_be_bytes().to_vec();
    hello.extend([7; 32]);
    // No session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression, no extension.
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    let handshake = [&[1, 0, 0, length], &hello[..]].concat();
    record(ContentType::Handshake, ProtocolVersion::TLSv1_0, &handshake)
}

/// What is told of a client that says this, so long after it came, and waits for the end.
async fn told_of(tls: TlsMode, after: Duration, says: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let mut settings = settings(dir.path());
    settings.tls = tls;
    let backend = Arc::new(Host(Arc::clone(&desk)));
    let gateway = Gateway::bind(settings, backend, Verifier::new().unwrap()).unwrap();
    let mut client = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
    tokio::time::sleep(after).await;
    client.write_all(says).await.unwrap();
    let mut heard = Vec::new();
    // It may be cut off.
    let _ = client.read_to_end(&mut heard).await;
    while gateway.connections() > 0 {
        tokio::task::yield_now().await;
    }
    desk.told(|event| match event {
        Event::NotEncrypted {
            gateway,
            client,
            problem,
        } => {
            assert!(&**gateway == "office" && client.is_loopback());
            Some(problem.clone())
        }
        _ => None,
    })
}

#[tokio::test]
async fn what_a_device_does_wrong_is_told_with_what_helps() {
    let no_trust = [2, u8::from(AlertDescription::UnknownCA)];
    let alert = record(ContentType::Alert, ProtocolVersion::TLSv1_2, &no_trust);
    let clear = b"EHLO scanner\r\n".to_vec();
    for (tls, says, part) in [
        (TlsMode::Starttls, old_hello(), "STARTTLS has to be chosen"),
        (TlsMode::Implicit, old_hello(), "1.2 and 1.3"),
        (TlsMode::Implicit, clear, "does not speak TLS"),
        (TlsMode::Implicit, alert, "does not trust"),
    ] {
        let told = told_of(tls, Duration::ZERO, &says).await;
        assert!(
            matches!(&told[..], [only] if only.contains(part)),
            "{tls:?}: {told:?} and not {part:?}"
        );
    }
    // Whoever only looks whether somebody is there does nothing wrong.
    let told = told_of(TlsMode::Starttls, Duration::ZERO, b"QUIT\r\n").await;
    assert_eq!(told, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_late_has_no_more_time_for_the_rest() {
    let came = Instant::now();
    let told = told_of(TlsMode::Implicit, Duration::from_secs(20), &[0x16]).await;
    assert!(
        came.elapsed() < Duration::from_secs(40),
        "{:?}",
        came.elapsed()
    );
    assert!(
        matches!(&told[..], [only] if only.contains("did not go on")),
        "{told:?}"
    );
}
