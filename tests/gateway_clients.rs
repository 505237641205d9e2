//! Clients nobody here wrote send through the gateway, with what their settings page has room for:
//! a host, a port, a user and a password. What arrives went through OAuth.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use support::gateway::{DEVICE, PASSWORD, Site, Tls};
use support::postfix::{self, Postfix, Relay};
use support::{find_program, root, run, run_with, skip, write_private};

const FROM: &str = "alerts@contoso.com";
const TO: &str = "admin@contoso.com";

/// Every way in: how TLS begins, and how the password is said.
const WAYS: [(Tls, &str); 4] = [
    (Tls::Starttls, "PLAIN"),
    (Tls::Starttls, "LOGIN"),
    (Tls::Implicit, "PLAIN"),
    (Tls::Implicit, "LOGIN"),
];

fn peer(name: &str) -> PathBuf {
    root().join("tests/peers").join(name)
}

/// What the scripts beside this test read.
fn wanted(site: &Site, tls: Tls, mechanism: &str, subject: &str, messages: usize) -> Value {
    json!({
        "host": "localhost",
        "port": site.port(tls),
        "implicit": tls == Tls::Implicit,
        "ca": site.ca(tls),
        "mechanism": mechanism,
        "user": DEVICE,
        "password": PASSWORD,
        "from": FROM,
        "to": TO,
        "subject": subject,
        "messages": messages,
    })
}

/// `SUBJECT 0`, `SUBJECT 1`…
fn numbered(subject: &str, messages: usize) -> BTreeSet<String> {
    (0..messages).map(|n| format!("{subject} {n}")).collect()
}

#[test]
fn smtplib_sends_in_every_way_and_from_many_threads() {
    let Some(python) = find_program("python3") else {
        return skip("python3 is not installed");
    };
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        for initial in [true, false] {
            // Without it smtplib answers LOGIN's first prompt with the password (bpo-27820).
            if mechanism == "LOGIN" && !initial {
                continue;
            }
            let subject = format!("smtplib {tls:?} {mechanism} {initial}");
            let mut wanted = wanted(&site, tls, mechanism, &subject, 3);
            wanted["threads"] = json!(4);
            wanted["initial"] = json!(initial);
            let mut client = Command::new(&python);
            client.arg(peer("smtplib_client.py"));
            let failures = run_with(&mut client, &wanted.to_string()).expect_status(0);
            assert_eq!(failures.json(), json!([]), "{subject}");
            for thread in 0..4 {
                sent.extend((0..3).map(|number| format!("{subject} {thread}.{number}")));
            }
        }
    }
    site.await_mail(&sent);
    let first = site.message("smtplib Starttls PLAIN true 0.0");
    assert!(first.contains(" with ESMTPSA "), "{first}");
}

#[test]
fn nodemailer_sends_over_four_connections_at_once() {
    let Some(node) = find_program("node") else {
        return skip("node is not installed");
    };
    if !peer("node_modules/nodemailer").exists() {
        return skip("nodemailer is not installed: (cd tests/peers && npm ci)");
    }
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        let subject = format!("nodemailer {tls:?} {mechanism}");
        let wanted = wanted(&site, tls, mechanism, &subject, 8);
        let mut client = Command::new(&node);
        client.arg(peer("nodemailer.js")).arg(wanted.to_string());
        let replies = run(&mut client).expect_status(0).json();
        for reply in replies.as_array().unwrap() {
            let reply = reply.as_str().unwrap();
            assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        }
        sent.extend(numbered(&subject, 8));
    }
    site.await_mail(&sent);
}

#[test]
fn phpmailer_sends_several_messages_over_one_connection() {
    let Some(php) = find_program("php") else {
        return skip("php is not installed");
    };
    if !Path::new("/usr/share/php/libphp-phpmailer").exists() {
        return skip("PHPMailer is not installed (libphp-phpmailer)");
    }
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        let subject = format!("PHPMailer {tls:?} {mechanism}");
        let wanted = wanted(&site, tls, mechanism, &subject, 2);
        let mut client = Command::new(&php);
        client.arg(peer("phpmailer.php"));
        run_with(&mut client, &wanted.to_string()).expect_status(0);
        sent.extend(numbered(&subject, 2));
    }
    site.await_mail(&sent);
}

#[test]
fn jakarta_mail_sends_several_messages_over_one_connection() {
    let jars = ["jakarta-mail.jar", "jakarta-activation.jar"];
    let jars = jars.map(|jar| format!("/usr/share/java/{jar}"));
    let Some(java) = find_program("java") else {
        return skip("java is not installed");
    };
    if jars.iter().any(|jar| !Path::new(jar).exists()) {
        return skip("Jakarta Mail is not installed (libjakarta-mail-java)");
    }
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        let subject = format!("Jakarta Mail {tls:?} {mechanism}");
        let how = if tls == Tls::Implicit {
            "implicit"
        } else {
            "starttls"
        };
        let mut client = Command::new(&java);
        client
            .args(["-cp", &jars.join(":")])
            .arg(peer("JakartaMail.java"))
            .args([
                "localhost",
                &site.port(tls).to_string(),
                how,
                mechanism,
                DEVICE,
            ])
            .arg(site.ca(tls))
            .args([FROM, TO, &subject, "2"]);
        run_with(&mut client, &format!("{PASSWORD}\n")).expect_status(0);
        sent.extend(numbered(&subject, 2));
    }
    site.await_mail(&sent);
}

#[test]
fn msmtp_swaks_and_curl_send() {
    let programs = ["msmtp", "swaks", "curl"].map(find_program);
    let [Some(msmtp), Some(swaks), Some(curl)] = programs else {
        return skip("msmtp, swaks or curl is not installed");
    };
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        let (port, implicit) = (site.port(tls).to_string(), tls == Tls::Implicit);
        let of = |program: &str| format!("{program} {tls:?} {mechanism}");

        let config = site
            .home()
            .path()
            .join(format!("msmtprc-{port}-{mechanism}"));
        let starttls = if implicit { "off" } else { "on" };
        let auth = mechanism.to_lowercase();
        let (ca, password) = (site.ca(tls).display().to_string(), PASSWORD);
        write_private(
            &config,
            format!(
                "account default\nhost localhost\nport {port}\ntls on\ntls_starttls {starttls}\n\
                 tls_trust_file {ca}\nauth {auth}\nuser {DEVICE}\npassword {password}\n\
                 from {FROM}\nset_msgid_header auto\n"
            ),
        );
        let mut client = Command::new(&msmtp);
        client.arg("-C").arg(&config).arg(TO);
        let message = format!(
            "From: {FROM}\nTo: {TO}\nSubject: {}\n\n.\n..\n",
            of("msmtp")
        );
        run_with(&mut client, &message).expect_status(0);

        let mut client = Command::new(&swaks);
        client
            .args(["--server", "localhost", "--port", &port])
            .arg(if implicit {
                "--tls-on-connect"
            } else {
                "--tls"
            })
            .args(["--tls-verify", "--tls-ca-path", &ca, "--pipeline"])
            .args(["--auth", mechanism, "--auth-user", DEVICE])
            .args(["--auth-password", password, "--from", FROM, "--to", TO])
            .arg("--header")
            .arg(format!("Subject: {}", of("swaks")));
        run(client.stdin(Stdio::null())).expect_status(0);

        let message = site
            .home()
            .path()
            .join(format!("curl-{port}-{mechanism}.eml"));
        write_private(
            &message,
            format!(
                "From: {FROM}\r\nTo: {TO}\r\nSubject: {}\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\
                 Message-ID: <{port}.{mechanism}@curl.example>\r\n\r\n.\r\n..\r\n",
                of("curl")
            ),
        );
        let scheme = if implicit { "smtps" } else { "smtp" };
        let mut client = Command::new(&curl);
        client
            .args(["--silent", "--show-error", "--ssl-reqd", "--cacert", &ca])
            .args(["--user", &format!("{DEVICE}:{password}")])
            .args(["--login-options", &format!("AUTH={mechanism}")])
            .args(["--mail-from", FROM, "--mail-rcpt", TO, "--upload-file"])
            .arg(&message)
            .arg(format!("{scheme}://localhost:{port}/client.example"));
        run(&mut client).expect_status(0);
        sent.extend([of("msmtp"), of("swaks"), of("curl")]);
    }
    site.await_mail(&sent);
    for subject in sent.iter().filter(|subject| !subject.starts_with("swaks")) {
        let message = site.message(subject);
        assert!(message.ends_with("\r\n\r\n.\r\n..\r\n"), "{message:?}");
    }
}

#[test]
fn postfix_relays_all_its_mail() {
    if let Some(why) = postfix::missing() {
        return skip(why);
    }
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        let postfix = Postfix::start(&Relay {
            host: &format!("[localhost]:{}", site.port(tls)),
            implicit: tls == Tls::Implicit,
            ca: &site.ca(tls),
            user: DEVICE,
            password: PASSWORD,
            mechanism,
        });
        let subject = format!("Postfix {tls:?} {mechanism}");
        for number in 0..5 {
            let message = format!("From: {FROM}\nTo: {TO}\nSubject: {subject} {number}\n\n.\n");
            postfix.sendmail(FROM, TO, &message);
        }
        postfix.await_empty();
        sent.extend(numbered(&subject, 5));
        let log = postfix.log();
        assert_eq!(log.matches("status=sent (250 2.0.0 ").count(), 5, "{log}");
    }
    site.await_mail(&sent);
}

#[test]
fn exim_relays_all_its_mail() {
    let beside = peer("exim/usr/sbin/exim4");
    let Some(exim) = find_program("exim4").or_else(|| beside.exists().then_some(beside)) else {
        return skip("exim4 is not installed");
    };
    if !rustix::process::geteuid().is_root() {
        return skip("Exim takes its configuration from root only");
    }
    let site = Site::start();
    let mut sent = BTreeSet::new();
    for (tls, mechanism) in WAYS {
        let directory = exims_own();
        let directory = directory.path();
        // It delivers as its own user, whom nobody else's files are for.
        std::fs::copy(site.ca(tls), directory.join("ca.pem")).unwrap();
        open_to(&directory.join("ca.pem"), 0o644);
        let config = directory.join("exim.conf");
        write_private(&config, exim_conf(&exim, &site, tls, mechanism, directory));
        open_to(&config, 0o644);
        let subject = format!("Exim {tls:?} {mechanism}");
        for number in 0..3 {
            let message = format!("From: {FROM}\nTo: {TO}\nSubject: {subject} {number}\n\n.\n");
            let mut client = Command::new(&exim);
            client.arg("-C").arg(&config);
            client.args(["-i", "-odf", "-f", FROM, "--", TO]);
            run_with(&mut client, &message).expect_status(0);
        }
        let log = support::read_to_string(&directory.join("mainlog"));
        assert_eq!(log.matches(" => ").count(), 3, "{log}");
        assert!(log.contains("A=client"), "{log}");
        sent.extend(numbered(&subject, 3));
    }
    site.await_mail(&sent);
}

/// A directory that Exim's user may write to.
fn exims_own() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    open_to(directory.path(), 0o777);
    directory
}

fn open_to(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn exim_conf(exim: &Path, site: &Site, tls: Tls, mechanism: &str, directory: &Path) -> String {
    let (at, port, password) = (directory.display(), site.port(tls), PASSWORD);
    let exim = exim.display();
    let protocol = if tls == Tls::Implicit {
        "smtps"
    } else {
        "smtp"
    };
    let said = match mechanism {
        "PLAIN" => format!("^{DEVICE}^{password}"),
        _ => format!(": {DEVICE} : {password}"),
    };
    format!(
        "primary_hostname = relay.contoso.com
exim_path = {exim}
exim_user = Debian-exim
exim_group = Debian-exim
keep_environment =
spool_directory = {at}/spool
log_file_path = {at}/%slog
begin routers
all:
  driver = manualroute
  transport = gateway
  route_list = * localhost byname
  self = send
begin transports
gateway:
  driver = smtp
  port = {port}
  protocol = {protocol}
  allow_localhost
  hosts_require_auth = *
  hosts_require_tls = *
  tls_verify_hosts = *
  tls_verify_certificates = {at}/ca.pem
begin authenticators
client:
  driver = plaintext
  public_name = {mechanism}
  client_send = {said}
begin retry
* * F,1h,1m
"
    )
}
