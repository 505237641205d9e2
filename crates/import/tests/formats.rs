//! Each format as people write it, and as nobody should.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use postrider_import::{
    Files, ImportError, ImportErrorKind, Imported, Options, emailproxy, msmtp, needs_password,
    postfix, sasl_xoauth2,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use zeroize::Zeroizing;

struct Memory(BTreeMap<&'static str, String>);

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Zeroizing<String>>, String> {
        Ok(self.0.get(path).cloned().map(Zeroizing::new))
    }
}

fn files<const N: usize>(files: [(&'static str, &str); N]) -> Memory {
    let files = files.map(|(path, text)| (path, text.to_owned()));
    Memory(files.into_iter().collect())
}

fn settings(imported: &Imported, name: &str) -> Value {
    let mut accounts = imported.accounts.iter();
    let account = accounts.find(|account| account.name == name).unwrap();
    Value::Object(account.settings.clone())
}

/// Whether something about `what` was left, at this line.
#[track_caller]
fn assert_left(imported: &Imported, line: Option<usize>, what: &str) {
    let found = imported
        .not_carried
        .iter()
        .any(|left| left.what.contains(what) && left.place.line == line);
    assert!(found, "{what} in {:#?}", imported.not_carried);
}

fn secret(imported: &Imported, name: &str) -> String {
    let secrets = imported.accounts.iter().flat_map(|it| &it.secrets);
    let mut named = secrets.filter(|it| it.name == name);
    named.next().unwrap().value.expose_secret().to_owned()
}

// ---- Email OAuth 2.0 Proxy

/// Encrypted by emailproxy 2026.7.3 itself, with the password `hunter2hunter2`.
const ENCRYPTED: &str = "\
token_salt = imphqPO+VeegVUUeKDsUyQ==
token_iterations = 1200000
refresh_token = gAAAAABrBJ0h_CxFrkTcsh6Pq9k0QMC863p_mfGSMdVH4VfEe6OJ0_crvM2ENMHzkpZ5pPXns875OLdSZUtwlvtlRLEIcLJ6VQ==
access_token = gAAAAABrBJ0h-xSyBPUetFNIQeVSIidx4dpt0ynhugDDe6Awh6THIr54yOUZpbiNfQlw8PSFODHtGGxgf6CRN9RxuKvl7v-q0A==
access_token_expiry = 1793480000
";

fn proxy() -> String {
    format!(
        "\
[Email OAuth 2.0 Proxy configuration file]
documentation = nothing
\tmore of it

[IMAP-1993]
server_address = outlook.office365.com
server_port = 993

[SMTP-1587]
server_address = smtp.office365.com
server_port = 587
server_starttls = True

[SMTP-1465]
local_address = 0.0.0.0
server_address = smtp.gmail.com
server_port = 465

[alerts@contoso.com]
permission_url = https://login.microsoftonline.com/contoso.com/oauth2/v2.0/authorize
token_url = https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token
oauth2_scope = https://outlook.office365.com/IMAP.AccessAsUser.All https://outlook.office365.com/SMTP.Send offline_access
redirect_uri = http://localhost:8080
client_id = 0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f
client_secret = app-secret
{ENCRYPTED}
[me@gmail.com]
permission_url = https://accounts.google.com/o/oauth2/auth
token_url = https://oauth2.googleapis.com/token
oauth2_scope = https://mail.google.com/
redirect_uri = http://localhost
client_id = 123.apps.googleusercontent.com
client_secret = *** your client secret here ***

[daemon@contoso.com]
token_url = https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token
oauth2_scope = https://outlook.office365.com/.default
oauth2_flow = client_credentials
client_id = 1f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f
jwt_certificate_path = /etc/proxy/app.pem
jwt_key_path = app.key

[@example.org]
token_url = https://login.microsoftonline.com/example.org/oauth2/v2.0/token
client_id = 2f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f

[emailproxy]
delete_account_token_on_password_error = False
"
    )
}

fn import_proxy(text: &str, password: Option<&str>) -> Result<Imported, ImportError> {
    let password = password.map(SecretString::from);
    emailproxy(
        "/etc/proxy/emailproxy.config",
        None,
        &files([("/etc/proxy/emailproxy.config", text)]),
        password.as_ref(),
        &Options::default(),
    )
}

#[test]
fn a_proxys_mailboxes_become_accounts_and_its_ports_gateways() {
    let imported = import_proxy(&proxy(), Some("hunter2hunter2")).unwrap();

    assert_eq!(
        settings(&imported, "alerts"),
        json!({
            "provider": "microsoft365",
            "username": "alerts@contoso.com",
            "auth": {
                "plugin": "oauth",
                "flow": "authorization_code",
                "tenant": "contoso.com",
                "client_id": "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
                "redirect_uri": "http://localhost:8080",
                "client_secret": { "vault": "alerts/client_secret" },
            },
        })
    );
    assert_eq!(secret(&imported, "alerts/client_secret"), "app-secret");
    let tokens = imported.accounts[0].tokens.as_ref().unwrap();
    assert_eq!(tokens.refresh_token.expose_secret(), "r-1");
    assert!(tokens.access_expires_at.is_some());

    assert_eq!(settings(&imported, "me")["provider"], "gmail");
    assert_eq!(
        settings(&imported, "daemon")["auth"],
        json!({
            "plugin": "oauth",
            "flow": "client_credentials",
            "tenant": "contoso.com",
            "client_id": "1f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
            "certificate": { "file": "/etc/proxy/app.pem" },
            "private_key": { "file": "/etc/proxy/app.key" },
        })
    );

    let office = &imported.gateways[0];
    assert_eq!(
        Value::Object(office.settings.clone()),
        json!({ "listen": "127.0.0.1:1587", "tls": "offered", "account": "alerts" })
    );
    let devices: Vec<_> = office.devices.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(devices, ["alerts@contoso.com", "daemon@contoso.com"]);
    let kept = office.devices[0].password.as_ref().unwrap();
    assert_eq!(kept.expose_secret(), "hunter2hunter2");
    assert_eq!(office.devices[1].settings["account"], "daemon");

    assert_left(&imported, Some(5), "[IMAP-1993]");
    assert_left(&imported, Some(15), "local_address");
    assert_left(&imported, Some(38), "client_secret");
    assert_left(&imported, Some(48), "[@example.org]");
    assert_left(
        &imported,
        Some(53),
        "delete_account_token_on_password_error",
    );
}

#[test]
fn a_proxys_listener_for_a_network_wants_to_know_which() {
    let options = Options {
        prefix: "old-".to_owned(),
        clients: vec!["192.168.1.0/24".to_owned()],
        sender: None,
    };
    let text = proxy();
    let files = files([("f", text.as_str())]);
    let imported = emailproxy("f", None, &files, None, &options).unwrap();
    let gmail = &imported.gateways[1];
    assert_eq!(gmail.name, "old-smtp-1465");
    assert_eq!(
        Value::Object(gmail.settings.clone()),
        json!({
            "listen": "0.0.0.0:1465",
            "clients": ["192.168.1.0/24"],
            "tls": "offered",
            "account": "old-me",
        })
    );
}

#[test]
fn tokens_stay_shut_without_the_right_password() {
    let imported = import_proxy(&proxy(), None).unwrap();
    assert!(imported.accounts.iter().all(|it| it.tokens.is_none()));
    assert!(imported.gateways[0].devices[0].password.is_none());
    assert_left(&imported, Some(28), "the tokens");

    let error = import_proxy(&proxy(), Some("wrong")).unwrap_err();
    assert_eq!(error.kind, ImportErrorKind::Password);
    let text = proxy();
    assert!(needs_password("f", None, &files([("f", text.as_str())])).unwrap());
    assert!(!needs_password("f", None, &files([("f", "[SMTP-1587]\n")])).unwrap());
}

#[test]
fn options_of_a_catch_all_are_the_mailboxes_where_that_is_on() {
    let text = "\
[SMTP-2525]
server_address = smtp.example.org
server_port = 465
[@example.org]
token_url = https://id.example.org/token
permission_url = https://id.example.org/authorize
oauth2_scope = smtp offline_access
client_id = proxy
[a@example.org]
redirect_uri = http://localhost
[emailproxy]
allow_catch_all_accounts = True
";
    let imported = import_proxy(text, None).unwrap();
    assert_eq!(
        settings(&imported, "a"),
        json!({
            "server": { "host": "smtp.example.org", "port": 465, "tls": "implicit" },
            "username": "a@example.org",
            "auth": {
                "plugin": "oauth",
                "flow": "authorization_code",
                "token_endpoint": "https://id.example.org/token",
                "authorization_endpoint": "https://id.example.org/authorize",
                "client_id": "proxy",
                "scopes": ["smtp", "offline_access"],
            },
        })
    );
    let off = text.replace("True", "False");
    assert!(import_proxy(&off, None).unwrap().accounts.is_empty());
}

// ---- msmtp

const MSMTPRC: &str = "\
# mine
defaults
tls on
auth on
logfile ~/.msmtp.log

account office
host smtp.office365.com
port 587
user svc-mail@contoso.com
from alerts@contoso.com
password \"pass word\"

account private
host mail.example.org
port 465
tls_starttls off
tls_trust_file /etc/msmtp/ca.pem
user joe
from joe@example.org
passwordeval gpg2 --no-tty -q -d ~/.pw.gpg

account private-2 : private
host mail2.example.org
passwordeval pass mail/joe
from joe2@example.org

account token : office
auth xoauth2
passwordeval oama access svc-mail@contoso.com

account relay
host relay.example.org
auth off

account default : office
";

fn import_msmtp(text: &str) -> Result<Imported, ImportError> {
    msmtp("msmtprc", &files([("msmtprc", text)]), &Options::default())
}

#[test]
fn accounts_of_msmtp_are_carried_over_with_what_they_inherit() {
    let imported = import_msmtp(MSMTPRC).unwrap();
    let names: Vec<_> = imported
        .accounts
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["office", "private", "private-2"]);
    assert_eq!(
        settings(&imported, "office"),
        json!({
            "provider": "microsoft365",
            "username": "svc-mail@contoso.com",
            "sender": "alerts@contoso.com",
            "auth": { "plugin": "basic", "password": { "vault": "office/password" } },
        })
    );
    assert_eq!(secret(&imported, "office/password"), "pass word");
    assert_eq!(
        settings(&imported, "private"),
        json!({
            "server": { "host": "mail.example.org", "port": 465, "tls": "implicit" },
            "username": "joe",
            "sender": "joe@example.org",
            "ca_file": "/etc/msmtp/ca.pem",
            "auth": {
                "plugin": "basic",
                "password": { "command": ["/bin/sh", "-c", "gpg2 --no-tty -q -d ~/.pw.gpg"] },
            },
        })
    );
    let other = settings(&imported, "private-2");
    assert_eq!(other["server"]["host"], "mail2.example.org");
    assert_eq!(
        other["auth"]["password"]["command"],
        json!(["pass", "mail/joe"])
    );

    assert_left(&imported, Some(5), "logfile");
    assert_left(&imported, Some(7), "the password of account \"office\"");
    assert_left(&imported, Some(28), "account token");
    assert_left(&imported, Some(32), "account relay");
    assert_left(&imported, Some(36), "account default");
    let token = imported
        .not_carried
        .iter()
        .find(|it| it.what == "account token");
    let token = token.unwrap();
    assert!(token.why.contains("oama"), "{token:?}");
    assert!(
        token
            .instead
            .as_ref()
            .unwrap()
            .contains("postrider setup microsoft365")
    );
}

#[test]
fn what_msmtp_would_not_take_is_refused_and_never_repeated() {
    for (text, line) in [
        ("account a\nhost h\nhunter2\n", 3),
        ("account a : b\n", 1),
        ("account a\naccount a\n", 2),
        ("account\n", 1),
    ] {
        let error = import_msmtp(text).unwrap_err();
        assert_eq!(error.kind, ImportErrorKind::Malformed);
        assert_eq!(error.place.line, Some(line), "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

// ---- sasl-xoauth2

const XOAUTH2: &str = r#"{
  "client_id": "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
  "client_secret": "app-secret",
  "token_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
  "log_to_syslog_on_failure": "yes"
}"#;

#[test]
fn token_files_become_accounts_that_go_on() {
    let files = files([
        ("/etc/sasl-xoauth2.conf", XOAUTH2),
        (
            "/etc/postfix/sasl_passwd",
            "[smtp.office365.com]:587 alerts@contoso.com:/etc/tokens/alerts\n\
             [smtp.gmail.com]:587 me@gmail.com:/etc/tokens/me\n\
             [smtp.example.org]:587 joe:password\n\
             [smtp.office365.com]:587 gone@contoso.com:/etc/tokens/gone\n",
        ),
        (
            "/var/spool/postfix/etc/tokens/alerts",
            r#"{"access_token":"a","expiry":"1793480000","refresh_token":"r-1"}"#,
        ),
        (
            "/etc/tokens/me",
            r#"{"client_id":"g","client_secret":"s","refresh_token":"r-2",
                "token_endpoint":"https://accounts.google.com/o/oauth2/token"}"#,
        ),
    ]);
    let config = "/etc/sasl-xoauth2.conf";
    let passwords = "/etc/postfix/sasl_passwd";
    let imported = sasl_xoauth2(config, passwords, &files, &Options::default()).unwrap();

    assert_eq!(
        settings(&imported, "alerts"),
        json!({
            "provider": "microsoft365",
            "username": "alerts@contoso.com",
            "auth": {
                "plugin": "oauth",
                "flow": "authorization_code",
                "tenant": "contoso.com",
                "client_id": "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
                "client_secret": { "vault": "alerts/client_secret" },
            },
        })
    );
    let refresh = |at: usize| {
        let tokens = imported.accounts[at].tokens.as_ref().unwrap();
        tokens.refresh_token.expose_secret().to_owned()
    };
    assert_eq!((refresh(0).as_str(), refresh(1).as_str()), ("r-1", "r-2"));
    let me = settings(&imported, "me");
    assert_eq!(
        (&me["provider"], &me["auth"]["client_id"]),
        (&json!("gmail"), &json!("g"))
    );
    assert_eq!(me["server"]["port"], 587);
    assert_left(&imported, None, "log_to_syslog_on_failure");
    assert_left(&imported, Some(3), "joe");
    assert_left(&imported, Some(4), "/etc/tokens/gone");
}

// ---- Postfix

const MAIN_CF: &str = "\
compatibility_level = 3.6
myhostname = relay.contoso.com
inet_interfaces = all
mynetworks = 127.0.0.0/8 [::1]/128
    192.168.1.0/24
relayhost = [smtp.office365.com]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:${config_directory}/sasl_passwd
smtp_sender_dependent_authentication = yes
sender_dependent_relayhost_maps = hash:$config_directory/relays
smtp_tls_security_level = encrypt
smtpd_tls_cert_file = /etc/ssl/relay.pem
smtpd_tls_key_file = /etc/ssl/relay.key
message_size_limit = 26214400
smtp_generic_maps = hash:/etc/postfix/generic
biff = no
";

const MASTER_CF: &str = "\
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
  -o smtpd_sasl_auth_enable=yes
smtps     inet  n       -       y       -       -       smtpd
  -o smtpd_tls_wrappermode=yes
127.0.0.1:10025 inet n  -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
";

fn postfix_files() -> Memory {
    files([
        ("/etc/postfix/main.cf", MAIN_CF),
        ("/etc/postfix/master.cf", MASTER_CF),
        (
            "/etc/postfix/sasl_passwd",
            "sales@contoso.com sales@gmail.com:google-password\n\
             [smtp.office365.com]:587 svc-mail@contoso.com:pass:word\n",
        ),
        (
            "/etc/postfix/relays",
            "sales@contoso.com [smtp.gmail.com]:587\n",
        ),
        ("/etc/ssl/relay.pem", "pem"),
        ("/etc/ssl/relay.key", "key"),
    ])
}

#[test]
fn a_relay_becomes_accounts_and_gateways() {
    let imported = postfix(
        "/etc/postfix/main.cf",
        &postfix_files(),
        &Options::default(),
    )
    .unwrap();
    assert_eq!(
        settings(&imported, "svc-mail"),
        json!({
            "provider": "microsoft365",
            "username": "svc-mail@contoso.com",
            "auth": { "plugin": "basic", "password": { "vault": "svc-mail/password" } },
        })
    );
    assert_eq!(secret(&imported, "svc-mail/password"), "pass:word");
    let sales = settings(&imported, "sales");
    assert_eq!(sales["provider"], "gmail");
    assert_eq!(sales["sender"], "sales@contoso.com");

    let names: Vec<_> = imported
        .gateways
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["postfix-smtp", "postfix-submission", "postfix-smtps"]
    );
    assert_eq!(
        Value::Object(imported.gateways[0].settings.clone()),
        json!({
            "listen": "0.0.0.0:25",
            "clients": ["127.0.0.0/8", "::1/128", "192.168.1.0/24"],
            "tls": "starttls",
            "certificate": "/etc/ssl/relay.pem",
            "key": "/etc/ssl/relay.key",
            "account": "svc-mail",
            "max_message": 26_214_400,
        })
    );
    assert_eq!(imported.gateways[2].settings["tls"], "implicit");
    assert_left(&imported, Some(2), "the password of account \"svc-mail\"");
    assert_left(&imported, Some(4), "permit_mynetworks");
    assert_left(&imported, Some(15), "smtp_generic_maps");
    assert_left(&imported, Some(2), "smtpd_sasl_auth_enable");
    assert_left(&imported, Some(6), "the service 10025");
    assert_left(&imported, None, "the other parameters");
}

#[test]
fn a_relay_for_this_machine_alone_makes_no_gateway() {
    let mut files = postfix_files();
    let text = MAIN_CF.replace("inet_interfaces = all", "inet_interfaces = loopback-only");
    files.0.insert("/etc/postfix/main.cf", text);
    let imported = postfix("/etc/postfix/main.cf", &files, &Options::default()).unwrap();
    assert!(imported.gateways.is_empty());
    assert_left(&imported, Some(3), "port 25");
}

#[test]
fn a_relay_that_signs_in_by_token_reads_the_plugins_files() {
    let mut files = postfix_files();
    let text = format!("{MAIN_CF}smtp_sasl_mechanism_filter = xoauth2\n");
    files.0.insert("/etc/postfix/main.cf", text);
    files.0.insert("/etc/sasl-xoauth2.conf", XOAUTH2.to_owned());
    let passwords = "[smtp.office365.com]:587 alerts@contoso.com:/etc/tokens/alerts\n";
    files
        .0
        .insert("/etc/postfix/sasl_passwd", passwords.to_owned());
    let token = r#"{"refresh_token":"r-1"}"#;
    files.0.insert("/etc/tokens/alerts", token.to_owned());
    let imported = postfix("/etc/postfix/main.cf", &files, &Options::default()).unwrap();
    assert_eq!(settings(&imported, "alerts")["auth"]["plugin"], "oauth");
    assert!(imported.accounts[0].tokens.is_some());
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let proxy = import_proxy(&proxy(), Some("hunter2hunter2")).unwrap();
    let msmtp = import_msmtp(MSMTPRC).unwrap();
    let postfix = postfix(
        "/etc/postfix/main.cf",
        &postfix_files(),
        &Options::default(),
    )
    .unwrap();
    for imported in [proxy, msmtp, postfix] {
        let shown = format!("{imported:?}");
        for secret in [
            "hunter2",
            "app-secret",
            "r-1\"",
            "pass word",
            "pass:word",
            "google-password",
        ] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
