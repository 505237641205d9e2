//! Configurations in the shapes that people publish: what of them goes on by itself, and what
//! the list says of the rest.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use postrider_import::{
    Files, Imported, Options, emailproxy, msmtp, needs_password, postfix, sasl_xoauth2,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

struct Memory(BTreeMap<&'static str, &'static str>);

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Zeroizing<String>>, String> {
        let text = self.0.get(path).map(|text| (*text).to_owned());
        Ok(text.map(Zeroizing::new))
    }
}

fn files<const N: usize>(files: [(&'static str, &'static str); N]) -> Memory {
    Memory(files.into_iter().collect())
}

/// A `main.cf` with tables beside it.
fn relay<const N: usize>(
    main: &'static str,
    tables: [(&'static str, &'static str); N],
) -> Imported {
    relay_of(None, main, tables)
}

fn relay_of<const N: usize>(
    sender: Option<&str>,
    main: &'static str,
    tables: [(&'static str, &'static str); N],
) -> Imported {
    let mut files = files(tables);
    files.0.insert("/etc/postfix/main.cf", main);
    let options = Options {
        sender: sender.map(str::to_owned),
        ..Options::default()
    };
    postfix("/etc/postfix/main.cf", &files, &options).unwrap()
}

/// The settings of the only account.
#[track_caller]
fn account(imported: &Imported) -> Value {
    let [account] = &imported.accounts[..] else {
        panic!("{imported:#?}");
    };
    Value::Object(account.settings.clone())
}

fn passwords(imported: &Imported) -> Vec<&str> {
    let secrets = imported.accounts.iter().flat_map(|it| &it.secrets);
    secrets.map(|it| it.value.expose_secret()).collect()
}

#[track_caller]
fn left<'i>(imported: &'i Imported, what: &str) -> &'i postrider_import::NotCarried {
    let mut all = imported.not_carried.iter();
    let found = all.find(|left| left.what.contains(what));
    found.unwrap_or_else(|| panic!("{what} in {:#?}", imported.not_carried))
}

fn is_left(imported: &Imported, what: &str) -> bool {
    let mut all = imported.not_carried.iter();
    all.any(|left| left.what.contains(what))
}

// ---- Postfix

#[test]
fn a_certificate_that_is_not_taken_over_is_listed_whatever_the_reason() {
    let listens = |files| {
        format!(
            "relayhost = [smtp.office365.com]:587\nmynetworks = 192.168.1.0/24\n\
             smtp_sasl_auth_enable = yes\n\
             smtp_sasl_password_maps = inline:{{ {{ smtp.office365.com = a@contoso.com:x }} }}\n\
             {files}"
        )
    };
    for (named, file, why) in [
        (
            "smtpd_tls_cert_file = /etc/ssl/gone.pem\n",
            "/etc/ssl/gone.pem",
            "no such file",
        ),
        (
            "smtpd_tls_cert_file = /etc/ssl/certs/ssl-cert-snakeoil.pem\n\
             smtpd_tls_key_file = /etc/ssl/private/ssl-cert-snakeoil.key\n",
            "/etc/ssl/certs/ssl-cert-snakeoil.pem",
            "no device trusts",
        ),
        (
            "smtpd_tls_chain_files = /etc/ssl/gone.pem\n",
            "/etc/ssl/gone.pem",
            "no such file",
        ),
    ] {
        let imported = relay(String::leak(listens(named)), []);
        let said = left(&imported, &format!("the certificate file {file}"));
        assert!(said.why.contains(why), "{}", said.why);
        let instead = said.instead.as_deref().unwrap();
        assert!(
            instead.contains("gateway.postfix-smtp.certificate"),
            "{instead}"
        );
        assert!(!imported.gateways[0].settings.contains_key("certificate"));
    }
}

#[test]
fn a_relay_that_rewrites_every_sender_keeps_that_sender() {
    let imported = relay(
        "\
relayhost = [smtp.office365.com]:587
inet_interfaces = all
mynetworks = 127.0.0.0/8 10.1.0.0/16
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_use_tls = yes
smtp_tls_security_level = may
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
sender_canonical_classes = envelope_sender, header_sender
sender_canonical_maps = regexp:/etc/postfix/sender_canonical
smtp_header_checks = regexp:/etc/postfix/header_check
",
        [
            (
                "/etc/postfix/sasl_passwd",
                "[smtp.office365.com]:587 relay@contoso.com:hunter2",
            ),
            (
                "/etc/postfix/sender_canonical",
                "/.+/  noreply@contoso.com\n",
            ),
            (
                "/etc/postfix/header_check",
                "/^From:[[:space:]]+(.*)/ REPLACE From: Contoso Alerts <noreply@contoso.com>",
            ),
        ],
    );
    assert_eq!(
        account(&imported),
        json!({
            "provider": "microsoft365",
            "username": "relay@contoso.com",
            "sender": "Contoso Alerts <noreply@contoso.com>",
            "auth": { "plugin": "basic", "password": { "vault": "relay/password" } },
        })
    );
    assert_eq!(imported.gateways[0].settings["rewrite_from"], true);
    for carried in ["sender_canonical", "smtp_header_checks", "the other"] {
        assert!(!is_left(&imported, carried), "{carried}");
    }
    // Without the name in front, which a shell would take apart.
    let setup = left(&imported, "the password of").instead.clone().unwrap();
    assert!(setup.ends_with("--sender noreply@contoso.com"), "{setup}");
}

#[test]
fn a_password_in_main_cf_is_carried_over_and_never_shown() {
    let imported = relay(
        "\
relayhost = [email-smtp.eu-central-1.amazonaws.com]:465
smtp_tls_wrappermode = yes
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:AKIAEXAMPLE:hunter2/x+y
smtp_sasl_mechanism_filter = plain, login
sender_canonical_maps = static:noreply@contoso.com
inet_interfaces = loopback-only
",
        [],
    );
    assert_eq!(
        account(&imported),
        json!({
            "server": {
                "host": "email-smtp.eu-central-1.amazonaws.com",
                "port": 465,
                "tls": "implicit",
            },
            "username": "AKIAEXAMPLE",
            "sender": "noreply@contoso.com",
            "auth": { "plugin": "basic", "password": { "vault": "noreply/password" } },
        })
    );
    assert_eq!(passwords(&imported), ["hunter2/x+y"]);
    assert!(!format!("{imported:?}").contains("hunter2"));

    let imported = relay(
        "\
relayhost = [smtp.example.org]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{ { [smtp.example.org]:587 = joe@example.org:pass word }, other=x }
smtp_tls_security_level = encrypt
inet_interfaces = loopback-only
",
        [],
    );
    assert_eq!(account(&imported)["username"], "joe@example.org");
    assert_eq!(passwords(&imported), ["pass word"]);
}

#[test]
fn a_user_that_is_no_mailbox_wants_a_sender_and_gets_it_from_the_command_line() {
    const MAIN: &str = "\
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:apikey:SG.hunter2
smtp_tls_security_level = encrypt
relayhost = [smtp.sendgrid.net]:587
inet_interfaces = loopback-only
";
    let imported = relay(MAIN, []);
    assert!(imported.accounts.is_empty());
    let instead = left(&imported, "apikey").instead.as_deref();
    assert_eq!(instead, Some("import with --sender ADDRESS"));

    let imported = relay_of(Some("noreply@contoso.com"), MAIN, []);
    let account = account(&imported);
    assert_eq!(account["username"], "apikey");
    assert_eq!(account["sender"], "noreply@contoso.com");
}

#[test]
fn a_key_that_is_a_host_alone_has_the_port_that_postfix_connects_to() {
    let imported = relay(
        "\
relayhost = mail.example.org:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = proxy:lmdb:/etc/postfix/sasl_passwd
smtp_tls_security_level = encrypt
inet_interfaces = loopback-only
",
        [(
            "/etc/postfix/sasl_passwd",
            "mail.example.org joe@example.org:x",
        )],
    );
    assert_eq!(account(&imported)["server"]["port"], 587);
    assert!(
        left(&imported, "relayhost mail.example.org")
            .why
            .contains("MX")
    );
}

#[test]
fn a_table_without_its_text_is_one_complaint_with_the_way_out() {
    let imported = relay(
        "\
relayhost = [mail.example.org]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
inet_interfaces = loopback-only
",
        [],
    );
    let instead = left(&imported, "hash:/etc/postfix/sasl_passwd")
        .instead
        .clone();
    assert!(
        instead
            .unwrap()
            .contains("postmap -s hash:/etc/postfix/sasl_passwd")
    );
    assert!(!is_left(&imported, "relayhost"));
}

#[test]
fn senders_with_relays_of_their_own_are_accounts_and_a_relay_without_a_password_is_said() {
    let imported = relay(
        "\
relayhost = [smtp.gmail.com]:587
smtp_sender_dependent_authentication = yes
sender_dependent_relayhost_maps = pcre:/etc/postfix/relays
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd
smtp_tls_security_level = encrypt
inet_interfaces = loopback-only
",
        [
            (
                "/etc/postfix/relays",
                r"/^joe@contoso\.com$/ [smtp.office365.com]:587
/@example\.org$/ [mail.example.org]:587
/^(a|b)@example\.net$/ [mail.example.net]:587
",
            ),
            (
                "/etc/postfix/sasl_passwd",
                "joe@contoso.com joe@contoso.com:a\n[smtp.gmail.com]:587 me@gmail.com:b\nlone user\n",
            ),
        ],
    );
    let names: Vec<_> = imported
        .accounts
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["me", "joe"], "the relayhost's comes first");
    assert_eq!(imported.accounts[1].settings["provider"], "microsoft365");
    assert_eq!(
        left(&imported, "the relay of @example.org").place.line,
        Some(2)
    );
    assert_eq!(left(&imported, "a pattern").place.line, Some(3));
    assert_eq!(left(&imported, "a row").place.line, Some(3));
}

#[test]
fn what_no_password_opens_is_said_as_that() {
    let imported = relay(
        "\
relayhost = [smtp.example.org]:465
smtp_tls_wrappermode = yes
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{ smtp.example.org=-:- }
smtp_sasl_mechanism_filter = gssapi
",
        [],
    );
    assert!(
        left(&imported, "-")
            .why
            .contains("smtp_sasl_mechanism_filter")
    );

    let imported = relay(
        "\
relayhost = [smtp.office365.com]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:joe@contoso.com:eyJ0eXAi.hunter2
smtp_sasl_mechanism_filter = xoauth2
",
        [],
    );
    assert!(imported.accounts.is_empty());
    assert!(
        left(&imported, "joe@contoso.com")
            .why
            .contains("access token")
    );
    assert!(!format!("{imported:?}").contains("hunter2"));

    let imported = relay(
        "\
relayhost = [smtp.example.org]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = mysql:/etc/postfix/sasl.cf, joe@example.org:hunter2
",
        [],
    );
    assert!(is_left(&imported, "mysql:/etc/postfix/sasl.cf"));
    assert!(!format!("{imported:?}").contains("hunter2"));
}

#[test]
fn tables_in_main_cf_say_what_postfix_itself_finds_in_them() {
    for (table, key) in [
        ("static:joe@example.org:pa:ss", "[h]:587"),
        ("static:{ joe@example.org:pa ss }", "[h]:587"),
        (
            "inline:{ [h]:587=joe@example.org:a, [h]:587=joe@example.org:b=c }",
            "[h]:587",
        ),
        ("inline:{{[h]:587 = joe@example.org:pa ss } x=y}", "[h]:587"),
    ] {
        let main = format!(
            "relayhost = [h]:587\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = {table}\n"
        );
        let files = files([("f", main.leak())]);
        let imported = postfix("f", &files, &Options::default()).unwrap();
        let found = format!("joe@example.org:{}", passwords(&imported)[0]);
        let Ok(asked) = Command::new("postmap").args(["-q", key, table]).output() else {
            eprintln!("skipped: postfix is not installed");
            return;
        };
        let asked = String::from_utf8(asked.stdout).unwrap();
        assert_eq!(asked.trim_end(), found, "{table}");
    }
}

// ---- msmtp

#[test]
fn commands_for_passwords_are_carried_over_with_what_a_daemon_lacks() {
    let text = "\
defaults
auth on
tls on
tls_trust_file /nix/store/0abc-nss-cacert-3.9/etc/ssl/certs/ca-bundle.crt

account notifications
host smtp.example.com
port 587
from notifications@example.com
user notifications@example.com
passwordeval \"cat /etc/msmtp/notifications.password\"

account bridge
host 127.0.0.1
port 1025
tls off
auth plain
from joe@proton.me
user joe
passwordeval \"pass show email/proton/bridge\"

account shown
host smtp.example.com
port 587
user joe@example.com
passwordeval echo hunter2

account key
host smtp.example.com
user 12345
password 67890
";
    let options = Options {
        sender: Some("joe@example.com".to_owned()),
        ..Options::default()
    };
    let imported = msmtp("f", &files([("f", text)]), &options).unwrap();
    let settings = |at: usize| Value::Object(imported.accounts[at].settings.clone());
    assert_eq!(
        settings(0),
        json!({
            "server": { "host": "smtp.example.com", "port": 587, "tls": "starttls" },
            "username": "notifications@example.com",
            "auth": {
                "plugin": "basic",
                "password": { "command": ["cat", "/etc/msmtp/notifications.password"] },
            },
        })
    );
    assert_eq!(settings(1)["server"]["tls"], "danger_plaintext");
    let of_user = left(&imported, "passwordeval");
    assert_eq!(of_user.place.line, Some(20));
    assert!(
        of_user
            .instead
            .as_ref()
            .unwrap()
            .contains("secret set bridge/password")
    );
    assert_eq!(
        settings(2)["auth"]["password"],
        json!({ "vault": "shown/password" })
    );
    assert!(!format!("{imported:?}").contains("hunter2"));
    assert_eq!(settings(3)["sender"], "joe@example.com");
}

// ---- Email OAuth 2.0 Proxy

#[test]
fn a_mailbox_of_a_person_is_outlooks_and_one_of_a_tenant_is_not() {
    let text = "\
[SMTP-1587]
server_address = smtp.office365.com
server_port = 587
starttls = True

[SMTP-1588]
server_address = smtp-mail.outlook.com
server_port = 587
server_starttls = True

[app@contoso.com]
token_url = https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token
oauth2_scope = https://outlook.office365.com/.default
oauth2_flow = client_credentials
client_id = 0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f
client_secret = hunter2

[me@outlook.com]
permission_url = https://login.microsoftonline.com/consumers/oauth2/v2.0/devicecode
token_url = https://login.microsoftonline.com/consumers/oauth2/v2.0/token
oauth2_scope = https://outlook.office.com/SMTP.Send offline_access
oauth2_flow = device
client_id = 1f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f

[emailproxy]
gAAAAABhunter2 = the next line of a broken token
";
    let files = files([("f", text)]);
    let imported = emailproxy("f", None, &files, None, &Options::default()).unwrap();
    let providers: Vec<_> = imported
        .accounts
        .iter()
        .map(|it| &it.settings["provider"])
        .collect();
    assert_eq!(providers, ["microsoft365", "outlook"]);
    assert_eq!(left(&imported, "an option").place.line, Some(26));
    assert!(!format!("{imported:?}").contains("hunter2"));
}

#[test]
fn mailboxes_of_a_catch_all_are_those_whose_tokens_are_kept() {
    let config = "\
[SMTP-1587]
server_address = smtp-mail.outlook.com
server_port = 587
server_starttls = True

[@]
permission_url = https://login.microsoftonline.com/common/oauth2/v2.0/devicecode
token_url = https://login.microsoftonline.com/common/oauth2/v2.0/token
oauth2_scope = https://outlook.office.com/SMTP.Send offline_access
oauth2_flow = device
client_id = 0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f

[emailproxy]
allow_catch_all_accounts = True
";
    // As the proxy writes it; a key that it does not look for there is none.
    let kept = "\
[one@outlook.com]
token_salt = imphqPO+VeegVUUeKDsUyQ==
refresh_token = gAAAAAhunter2
client_id = another

[two@outlook.com]
last_activity = 1793480000
";
    let files = files([("f", config), ("/data/tokens", kept)]);
    let options = Options::default();
    assert!(!needs_password("f", None, &files).unwrap());
    assert!(needs_password("f", Some("/data/tokens"), &files).unwrap());

    let imported = emailproxy("f", Some("/data/tokens"), &files, None, &options).unwrap();

    let names: Vec<_> = imported
        .accounts
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(
        imported.accounts[0].settings["auth"],
        json!({
            "plugin": "oauth",
            "flow": "device_code",
            "client_id": "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
        })
    );
    assert_eq!(imported.gateways[0].devices.len(), 2);
    let tokens = left(&imported, "the tokens");
    assert_eq!(tokens.place.to_string(), "/data/tokens:3");
    assert!(!format!("{imported:?}").contains("hunter2"));
}

// ---- sasl-xoauth2

#[test]
fn a_public_client_has_no_secret_and_a_row_for_a_sender_leads_to_main_cf() {
    let files = files([
        (
            "/etc/sasl-xoauth2.conf",
            r#"{ "client_id": "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f", "client_secret": "",
                 "token_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
                 "log_full_trace_on_failure": "no", "refresh_window": 10 }"#,
        ),
        (
            "/etc/postfix/sasl_passwd",
            "joe@contoso.com joe@contoso.com:/etc/tokens/joe\n\
             [smtp.office365.com]:587 joe@contoso.com:/etc/tokens/joe\n",
        ),
        (
            "/etc/tokens/joe",
            r#"{ "access_token": "", "refresh_token": "1.abc", "expiry": "0" }"#,
        ),
    ]);
    let imported = sasl_xoauth2(
        "/etc/sasl-xoauth2.conf",
        "/etc/postfix/sasl_passwd",
        &files,
        &Options::default(),
    )
    .unwrap();
    let account = account(&imported);
    assert_eq!(account["auth"].get("client_secret"), None, "{account}");
    assert_eq!(imported.accounts[0].name, "joe");
    let row = left(&imported, "joe@contoso.com");
    assert!(row.instead.as_ref().unwrap().contains("import postfix"));
}
