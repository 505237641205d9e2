//! Clients nobody here wrote: msmtp and swaks submit to the sandbox, msmtp with tokens of
//! `postrider token`.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use support::home::Home;
use support::sandbox::{PERSON, Sandbox, read_mail};
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

#[test]
fn msmtp_sends_with_tokens_of_postrider() {
    let Some(msmtp) = find_program("msmtp") else {
        return skip("msmtp is not installed");
    };
    let version = run(Command::new(&msmtp).arg("--version")).expect_status(0);
    if !version.stdout.contains("xoauth2") {
        return skip("this msmtp knows no XOAUTH2");
    }
    let sandbox = Sandbox::start();
    let mut home = Home::new(sandbox.config());
    home.set(sandbox.client_secret());
    let config = home.path().join("msmtprc");
    write_private(
        &config,
        format!(
            "account default\nhost localhost\nport {port}\ntls on\ntls_starttls on\n\
             tls_trust_file {ca_file}\nauth xoauth2\nuser {user}\nfrom {user}\n\
             passwordeval \"{postrider} token sandbox\"\n",
            port = sandbox.smtp_port(),
            ca_file = sandbox.ca_file(),
            user = PERSON.0,
            postrider = env!("CARGO_BIN_EXE_postrider"),
        ),
    );

    for number in 1..=2 {
        // msmtp runs `postrider` in the environment that this user's commands have.
        let own = home.postrider([]);
        let mut sending = Command::new(&msmtp);
        sending.current_dir(home.path()).env_clear();
        let variables = own
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        sending.envs(variables).env("PATH", "/usr/bin:/bin");
        sending.arg("-C").arg(&config).arg("ceo@contoso.com");
        let mut sending = sending.stdin(Stdio::piped()).spawn().unwrap();
        let mut message = sending.stdin.take().unwrap();
        write!(message, "Subject: number {number}\n\nby XOAUTH2\n").unwrap();
        drop(message);
        assert!(sending.wait().unwrap().success());
    }

    let arrived = sandbox.mail("ceo@contoso.com");
    assert_eq!(arrived.len(), 2);
    assert!(read_mail(&arrived[0]).contains("Subject: number 1"));
    assert_eq!(
        sandbox.token_requests(),
        1,
        "the token is kept: {:?}",
        sandbox.token_log()
    );
}

#[test]
fn asking_for_more_life_than_tokens_have_costs_no_request_each_time() {
    let sandbox = Sandbox::start();
    let mut home = Home::new(sandbox.config());
    home.set(sandbox.client_secret());
    let token = home.token("sandbox");
    sandbox.count_from_zero();

    for _ in 0..2 {
        let long = ["token", "sandbox", "--min-lifetime", "30h"];
        let ended = home.run(long).expect_status(0);
        assert_eq!(ended.token(), token);
        assert!(ended.stderr.contains("108000 s"), "{}", ended.stderr);
    }

    assert_eq!(sandbox.token_requests(), 0);
}
