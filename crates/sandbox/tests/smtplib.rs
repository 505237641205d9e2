//! The whole sandbox as Python's standard library sees it: token, STARTTLS, XOAUTH2, mail.

use std::io::Write as _;
use std::process::Command;

use postrider_sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn pythons_smtplib_gets_a_token_and_its_message_arrives_octet_for_octet() {
    if Command::new("python3").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: there is no python3 here");
        return;
    }
    let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
    let mut python = tokio::process::Command::new("python3");
    python
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/smtplib_client.py"
        ))
        .arg(sandbox.authority().as_str())
        .arg(sandbox.smtp_addr().port().to_string())
        .arg(sandbox.ca_file())
        .arg(sandbox.dir().join("mail"))
        // Whatever proxy this machine has, loopback is not behind it.
        .env("NO_PROXY", "localhost")
        .env("no_proxy", "localhost")
        .kill_on_drop(true);
    let output = python.output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let saw: Value = serde_json::from_slice(&output.stdout).unwrap();

    let offered = [
        "8bitmime",
        "binarymime",
        "chunking",
        "dsn",
        "enhancedstatuscodes",
        "pipelining",
        "size",
        "smtputf8",
        "starttls",
    ];
    assert_eq!(saw["clear"], json!(offered));
    assert_eq!(saw["auth"], json!(["LOGIN", "XOAUTH2"]));
    assert_eq!(saw["challenge"], json!([334, ""]));
    assert_eq!(
        saw["authenticated"],
        json!([235, "2.7.0 Authentication successful"])
    );
    assert_eq!(saw["refused"], json!({}));
    assert_eq!(saw["send_as"][0], 554);
    let denied = saw["send_as"][1].as_str().unwrap();
    assert!(denied.starts_with(
        "5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as ceo@contoso.com;"
    ));

    let arrived = sandbox.inbox().wait_for(1).await;
    assert_eq!(arrived.len(), 1);
    let octets = arrived[0].octets();
    assert_eq!(json!(octets.len()), saw["octets"]);
    assert_eq!(json!(sha256(octets)), saw["sha256"]);
    assert_eq!(
        saw["files"],
        json!(["a@example.net/000001.eml", "b@example.net/000001.eml"])
    );
    assert_eq!(saw["subject"], "Grüße, 日本");
    assert_eq!(
        (&saw["text"], &saw["attachment"]),
        (&json!(true), &json!(true)),
        "parsed back from the file"
    );
    sandbox.stop().await;
}

fn sha256(octets: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, octets);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |hex, octet| format!("{hex}{octet:02x}"))
}
