//! What a gateway proves itself with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_gateway::credential::Verifier;
use postrider_gateway::{Certificate, Event, Gateway, GatewayError, Settings, TlsMode};

use crate::support::{Client, Desk, Host, MESSAGE, PASSWORD, settings};

fn bind(settings: Settings, desk: &Arc<Desk>) -> Result<Gateway, GatewayError> {
    let backend = Arc::new(Host(Arc::clone(desk)));
    Gateway::bind(settings, backend, Verifier::new().unwrap())
}

#[tokio::test]
async fn a_self_made_certificate_is_kept_used_again_and_believed() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let file = dir.path().join("gateway/office.pem");
    let mut seen = Vec::new();
    for tls in [TlsMode::Starttls, TlsMode::Implicit] {
        let mut settings = settings(dir.path());
        settings.tls = tls;
        let gateway = bind(settings, &desk).unwrap();
        let facts = gateway.certificate().unwrap();
        assert!(facts.self_made && facts.file == file);
        assert_eq!(facts.fingerprint.len(), 95);
        seen.push(facts.fingerprint);

        let mut client = Client::dial(gateway.addresses()[0]).await;
        if tls == TlsMode::Starttls {
            client.expect("220").await;
            client.say("EHLO mfp.lan").await;
            assert!(client.say("STARTTLS").await.starts_with("220"));
            client = client.secure(&file).await;
        } else {
            client = client.secure(&file).await;
            client.expect("220").await;
        }
        let reply = client.say("EHLO mfp.lan").await;
        assert!(
            reply.contains("AUTH PLAIN LOGIN") && !reply.contains("STARTTLS"),
            "{reply}"
        );
        let reply = client.plain("printer-2", PASSWORD).await;
        assert!(reply.starts_with("235"), "{reply}");
        let reply = client.submit("scans@contoso.com", MESSAGE).await;
        assert!(reply.starts_with("250"), "{reply}");
        let sent = desk.messages.lock().unwrap().pop().unwrap();
        assert_eq!(sent.arrival.tls, Some("TLSv1.3"));
        assert!(sent.text.contains(" with ESMTPSA id "), "{}", sent.text);
    }
    assert_eq!(seen[0], seen[1]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
}

/// A certificate and its key, where a settings' files are; the certificate alone in `alone`.
fn write(certificate: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(certificate, made.cert.pem()).unwrap();
    fs::write(key, made.signing_key.serialize_pem()).unwrap();
}

fn with_files(dir: &Path) -> (Settings, PathBuf, PathBuf) {
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let mut settings = settings(dir);
    settings.tls = TlsMode::Implicit;
    settings.certificate = Certificate::Files {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    (settings, certificate, key)
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let (settings, certificate, key) = with_files(dir.path());
    write(&certificate, &key);
    let gateway = bind(settings, &desk).unwrap();
    let first = gateway.certificate().unwrap();
    assert!(!first.self_made);

    // A new certificate whose key is not there yet.
    let old_key = fs::read(&key).unwrap();
    write(&certificate, &key);
    let new_key = fs::read(&key).unwrap();
    fs::write(&key, &old_key).unwrap();
    gateway.look_at_certificate();
    assert_eq!(gateway.certificate().unwrap(), first);
    let problems = || {
        desk.told(|event| match event {
            Event::CertificateFailed { problem, .. } => Some(problem.clone()),
            _ => None,
        })
    };
    assert_eq!(problems().len(), 1);
    assert!(
        problems()[0].ends_with("the key is not this certificate's"),
        "{:?}",
        problems()
    );
    // It is said once.
    gateway.look_at_certificate();
    assert_eq!(problems().len(), 1);

    fs::write(dir.path().join("new"), &new_key).unwrap();
    fs::rename(dir.path().join("new"), &key).unwrap();
    gateway.look_at_certificate();
    let second = gateway.certificate().unwrap();
    assert_ne!(second.fingerprint, first.fingerprint);
    let loaded = desk.told(|event| match event {
        Event::CertificateLoaded { fingerprint, .. } => Some(fingerprint.clone()),
        _ => None,
    });
    assert_eq!(loaded, std::slice::from_ref(&second.fingerprint));
    // New connections are shown it.
    let mut client = Client::dial(gateway.addresses()[0]).await;
    client = client.secure(&certificate).await;
    client.expect("220").await;

    fs::remove_file(&key).unwrap();
    gateway.look_at_certificate();
    assert_eq!(gateway.certificate().unwrap(), second);
    assert_eq!(problems().len(), 2);
}

#[tokio::test]
async fn a_gateway_does_not_begin_with_files_it_cannot_use() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let (settings, certificate, key) = with_files(dir.path());
    let error = bind(settings.clone(), &desk).unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    write(&certificate, &key);
    let swapped = fs::read(&key).unwrap();
    fs::write(&key, "nothing").unwrap();
    let error = bind(settings.clone(), &desk).unwrap_err().to_string();
    assert!(
        error.contains("key.pem: there is no private key"),
        "{error}"
    );
    fs::write(&key, fs::read(&certificate).unwrap()).unwrap();
    fs::write(&certificate, swapped).unwrap();
    let error = bind(settings, &desk).unwrap_err().to_string();
    assert!(
        error.contains("cert.pem: there is no certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn who_signed_in_in_clear_has_to_do_so_again_under_tls() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let mut settings = settings(dir.path());
    settings.tls = TlsMode::Offered;
    settings.hostname = "gateway-\u{fc}".to_owned();
    let gateway = bind(settings, &desk).unwrap();
    let mut client = Client::dial(gateway.addresses()[0]).await;
    client.expect("220").await;
    client.say("EHLO mfp.lan").await;
    assert!(client.plain("printer-2", PASSWORD).await.starts_with("235"));
    assert!(client.say("STARTTLS").await.starts_with("220"));
    let mut client = client.secure(&dir.path().join("gateway/office.pem")).await;
    client.say("EHLO mfp.lan").await;
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("530 5.7.0"), "{reply}");
    assert!(client.plain("printer-2", PASSWORD).await.starts_with("235"));
    let reply = client.submit("scans@contoso.com", MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
}
