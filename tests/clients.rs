//! The sandbox's submission server against clients nobody here wrote: msmtp and swaks.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use support::{Peer, files, find_program, postrider, run, skip, write_private};

#[test]
fn msmtp_and_swaks_submit_to_the_sandbox() {
    let (Some(msmtp), Some(swaks)) = (find_program("msmtp"), find_program("swaks")) else {
        return skip("msmtp or swaks is not installed");
    };
    let home = tempfile::tempdir().unwrap();
    let (_sandbox, announced) = Peer::announcing(postrider().current_dir(home.path()).args([
        "--state-dir",
        "state",
        "--json",
        "sandbox",
    ]));
    let ca_file = announced["ca_file"].as_str().unwrap();
    let port = announced["smtp"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1;
    let mail = home.path().join("state/sandbox");

    run(Command::new(swaks)
        .args(["--server", "localhost", "--port", port])
        .args(["--tls", "--tls-verify", "--tls-ca-path", ca_file])
        .args(["--auth", "LOGIN", "--auth-user", "svc-mail@contoso.com"])
        .args(["--auth-password", "svc-mail-password"])
        .args([
            "--from",
            "svc-mail@contoso.com",
            "--to",
            "admin@contoso.com",
        ]))
    .expect_status(0);
    assert_eq!(files(&mail, "eml").len(), 1);

    let config = home.path().join("msmtprc");
    write_private(
        &config,
        format!(
            "account default\nhost localhost\nport {port}\ntls on\ntls_starttls on\n\
             tls_trust_file {ca_file}\nauth login\nuser svc-mail@contoso.com\n\
             passwordeval echo svc-mail-password\nfrom svc-mail@contoso.com\n"
        ),
    );
    let mut sending = Command::new(msmtp)
        .arg("-C")
        .arg(&config)
        .arg("ceo@contoso.com")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut message = sending.stdin.take().unwrap();
    message.write_all(b"Subject: from msmtp\n\n.dot\n").unwrap();
    drop(message);
    assert!(sending.wait().unwrap().success());

    let arrived = files(&mail.join("mail/ceo@contoso.com"), "eml");
    let text = std::fs::read_to_string(&arrived[0]).unwrap();
    assert!(text.contains("\r\n.dot\r\n"), "{text}");
}
