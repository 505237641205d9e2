//! What a checked account holds: defaults, other plugins, secrets as references.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_config::{Account, Config, Presets, SecretRef, TlsMode};
use serde_json::{Value, json};

fn parse(text: &str) -> Config {
    let path = Path::new("/etc/postrider/postrider.toml");
    Config::parse(text, Some(path), &Presets::builtin()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn problems(value: Value) -> Vec<String> {
    match Account::from_value("ops", value, &Presets::builtin()) {
        Ok(account) => panic!("accepted: {account:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_of_the_design_is_an_account() {
    let config = parse(
        r#"
        [account.alerts]
        provider = "microsoft365"
        username = "svc-mail@contoso.com"
        sender = "alerts@contoso.com"
        test_recipient = "admin@contoso.com"

        [account.alerts.auth]
        plugin = "oauth"
        flow = "authorization_code"
        tenant = "contoso.onmicrosoft.com"
        client_id = "0f1e"
        client_secret = { vault = "alerts/client_secret" }

        [account.printer]
        username = "printer@example.org"
        server = { host = "smtp.example.org", port = 587, tls = "starttls" }
        auth = { plugin = "basic", password = { env = "PRINTER_PASSWORD" } }
        "#,
    );
    let alerts = &config.accounts["alerts"];
    assert_eq!(alerts.server.host, "smtp.office365.com");
    assert_eq!(
        (alerts.server.port, alerts.server.tls),
        (587, TlsMode::Starttls)
    );
    assert!(alerts.sends_as_other());
    assert_eq!(
        (alerts.limits.connections, alerts.limits.messages_per_minute),
        (3, Some(30))
    );
    assert_eq!(alerts.limits.recipients_per_message, 500);
    assert_eq!(
        Value::Object(alerts.auth.settings.clone()),
        json!({
            "flow": "authorization_code",
            "tenant": "contoso.onmicrosoft.com",
            "client_id": "0f1e",
            "authority": "https://login.microsoftonline.com",
            "scopes": ["https://outlook.office.com/SMTP.Send", "offline_access", "openid", "profile"],
        })
    );
    assert!(
        matches!(&alerts.auth.secrets["client_secret"], SecretRef::Vault(name) if name == "alerts/client_secret")
    );

    let printer = &config.accounts["printer"];
    assert_eq!(printer.provider, "custom");
    assert_eq!(printer.sender.to_string(), "printer@example.org");
    assert!(!printer.sends_as_other());
    assert_eq!(
        (
            printer.limits.messages_per_minute,
            printer.limits.recipients_per_message
        ),
        (None, 100)
    );
    assert!(printer.auth.settings.is_empty());
}

#[test]
fn port_and_tls_follow_each_other() {
    for (server, expected) in [
        (json!({ "host": "smtp.example.org" }), "587 starttls"),
        (
            json!({ "host": "smtp.example.org", "port": 465 }),
            "465 implicit",
        ),
        (
            json!({ "host": "smtp.example.org", "tls": "implicit" }),
            "465 implicit",
        ),
        (
            json!({ "host": "smtp.example.org", "port": 25 }),
            "25 starttls",
        ),
        (
            json!({ "host": "smtp.example.org", "port": 587, "tls": "implicit" }),
            "587 implicit",
        ),
        (
            json!({ "host": "127.0.0.1", "port": 2525, "tls": "danger_plaintext" }),
            "2525 danger_plaintext",
        ),
        (
            json!({ "host": "10.0.0.1", "tls": "danger_plaintext", "danger_send_credentials_in_clear": true }),
            "587 danger_plaintext",
        ),
    ] {
        let value = json!({
            "username": "u@example.org", "server": server,
            "auth": { "plugin": "basic", "password": { "env": "P" } },
        });
        let account = Account::from_value("ops", value, &Presets::builtin()).unwrap();
        assert_eq!(
            format!("{} {}", account.server.port, account.server.tls),
            expected
        );
    }
    // A preset's port belongs to its host.
    let value = json!({
        "provider": "gmail", "username": "u@example.org", "server": { "host": "relay.example.org" },
        "auth": { "plugin": "basic", "password": { "env": "P" } },
    });
    let account = Account::from_value("ops", value, &Presets::builtin()).unwrap();
    assert_eq!(
        (account.server.port, account.server.tls),
        (587, TlsMode::Starttls)
    );
}

#[test]
fn control_characters_and_excess_are_refused_in_every_field() {
    let long = "a".repeat(5000);
    let base = json!({
        "username": "u", "sender": "u@example.org",
        "server": { "host": "smtp.example.org" },
        "auth": { "plugin": "third-party", "user": "x", "nested": { "list": ["x"] } },
    });
    assert!(Account::from_value("ops", base.clone(), &Presets::builtin()).is_ok());
    for pointer in [
        "/username",
        "/sender",
        "/test_recipient",
        "/ehlo_name",
        "/ca_file",
        "/provider",
        "/server/host",
        "/server/tls",
        "/server/ca_file",
        "/auth/plugin",
        "/auth/user",
        "/auth/nested/list/0",
    ] {
        for bad in [
            "u@example.org\r\nRCPT TO:<x@example.org>",
            "u\0@example.org",
            "u\u{7f}",
            &long,
        ] {
            let mut value = base.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match value.pointer_mut(parent).unwrap() {
                Value::Array(list) => list[0] = json!(bad),
                parent => parent[key] = json!(bad),
            }
            let problems = problems(value);
            assert!(
                problems
                    .iter()
                    .all(|problem| problem.len() < 500 && !problem.contains(['\r', '\n', '\0'])),
                "{problems:?}"
            );
            assert!(
                problems[0].contains(key) || pointer.contains("list"),
                "{pointer}: {problems:?}"
            );
        }
    }
    for name in ["", "a b", "a\n", "a.b", &long] {
        Account::from_value(name, base.clone(), &Presets::builtin()).unwrap_err();
    }
}

#[test]
fn another_plugin_keeps_its_settings_and_its_secrets_stay_references() {
    let account = |auth: Value| {
        let value = json!({ "username": "u@example.org", "server": { "host": "smtp.example.org" }, "auth": auth });
        Account::from_value("ops", value, &Presets::builtin())
    };
    let auth = account(json!({
        "plugin": "acme", "allow_hosts": ["id.example.org:8443"],
        "region": "eu", "depth": 3, "list": [1, "x"], "badge": { "file": "badge.pem" },
    }))
    .unwrap()
    .auth;
    assert_eq!(
        Value::Object(auth.settings),
        json!({ "region": "eu", "depth": 3, "list": [1, "x"] })
    );
    assert!(
        matches!(&auth.secrets["badge"], SecretRef::File(path) if path == Path::new("badge.pem"))
    );
    assert_eq!(auth.allow_hosts, ["id.example.org:8443"]);
    for bad in [
        json!({ "plugin": "acme", "api_key": "hunter2" }),
        json!({ "plugin": "acme", "login": { "password": "hunter2" } }),
        json!({ "plugin": "acme", "logins": [{ "password": "hunter2" }] }),
        json!({ "plugin": "acme", "login": { "password": { "env": "P" } } }),
        json!({ "plugin": "acme", "allow_hosts": ["x/y"] }),
        json!({ "plugin": "../acme" }),
        json!({ "region": "eu" }),
    ] {
        let problems = account(bad).unwrap_err();
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}

#[test]
fn paths_are_relative_to_the_file_and_trust_anchors_are_inherited() {
    let config = parse(
        r#"
        [plugins]
        dirs = ["plugins", "/opt/postrider"]
        pins = { acme = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef" }
        [account.a]
        username = "u@example.org"
        ca_file = "ca.pem"
        server = { host = "smtp.example.org" }
        timeouts = { connect = "1m30s", data_end = 600 }
        auth = { plugin = "basic", password = { file = "secrets/a" } }
        [account.b]
        username = "u@example.org"
        ca_file = "ca.pem"
        server = { host = "smtp.example.org", ca_file = "/own.pem" }
        auth = { plugin = "basic", password = { file = "/secrets/b" } }
        "#,
    );
    assert_eq!(config.base_dir(), Path::new("/etc/postrider"));
    assert_eq!(
        config.plugins.dirs,
        [
            PathBuf::from("/etc/postrider/plugins"),
            PathBuf::from("/opt/postrider")
        ]
    );
    assert_eq!(
        config.plugins.pins["acme"],
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    );
    let (a, b) = (&config.accounts["a"], &config.accounts["b"]);
    assert_eq!(
        a.ca_file.as_deref(),
        Some(Path::new("/etc/postrider/ca.pem"))
    );
    assert_eq!(a.server.ca_file, a.ca_file);
    assert_eq!(b.server.ca_file.as_deref(), Some(Path::new("/own.pem")));
    assert_eq!(a.timeouts.connect, Some(Duration::from_secs(90)));
    assert_eq!(a.timeouts.data_end, Some(Duration::from_mins(10)));
    assert_eq!(a.timeouts.rcpt, None);
    assert!(
        matches!(&a.auth.secrets["password"], SecretRef::File(path) if path == Path::new("/etc/postrider/secrets/a"))
    );
}

#[test]
fn a_shown_account_holds_places_of_secrets_only() {
    let value = json!({
        "name": "ops", "username": "u@example.org", "sender": "Alerts <alerts@example.org>",
        "server": { "host": "smtp.example.org" }, "timeouts": { "connect": "90s" },
        "auth": { "plugin": "basic", "password": { "command": ["pass", "show", "hunter2"], "expires": "2027-03-01" } },
    });
    let account = Account::from_value("ops", value, &Presets::builtin()).unwrap();
    assert_eq!(
        serde_json::to_value(&account).unwrap(),
        json!({
            "name": "ops", "provider": "custom", "username": "u@example.org",
            "sender": "Alerts <alerts@example.org>", "on_behalf": false, "test_recipient": null,
            "server": { "host": "smtp.example.org", "port": 587, "tls": "starttls", "ca_file": null, "ehlo_name": null },
            "limits": { "connections": 3, "messages_per_minute": null, "recipients_per_day": null, "recipients_per_message": 100 },
            "timeouts": {
                "connect": "1m30s", "tls": null, "greeting": null, "command": null, "mail": null,
                "rcpt": null, "data_start": null, "data_block": null, "data_end": null,
            },
            "auth": {
                "plugin": "basic", "settings": {}, "secrets": { "password": { "command": "pass" } },
                "expires": { "password": "2027-03-01T00:00:00Z" }, "allow_hosts": [],
            },
            "rotation": { "refresh_token_lifetime": null, "reuse_grace": "0s" },
            "ca_file": null,
        })
    );
    assert!(!format!("{account:?}").contains("hunter2"));
}

#[test]
fn what_is_found_later_gets_its_place() {
    let config = parse(
        "[account.a]\nusername = \"u@example.org\"\nserver = { host = \"smtp.example.org\" }\n\
         [account.a.auth]\nplugin = \"acme\"\nregion = \"xx\"\n",
    );
    let problem = config.problem(
        "account.a.auth.region",
        "no such region",
        Some("use \"eu\""),
    );
    assert_eq!((problem.line(), problem.column()), (Some(6), Some(10)));
    assert_eq!(
        problem.to_string(),
        "line 6, column 10: account.a.auth.region: no such region; use \"eu\""
    );
    let around = config.problem("account.a.auth.zone", "is missing", None);
    assert_eq!(around.line(), Some(4));
    assert_eq!(config.problem("x", "y", None).location, None);
}

#[test]
fn the_user_stands_in_the_sender_field_only_on_behalf_of_another() {
    let account = |username: &str, on_behalf: bool| {
        let value = json!({
            "username": username, "sender": "alerts@example.org", "on_behalf": on_behalf,
            "server": { "host": "smtp.example.org" },
            "auth": { "plugin": "basic", "password": { "env": "P" } },
        });
        Account::from_value("ops", value, &Presets::builtin())
    };
    let named = |username: &str, on_behalf: bool| {
        let account = account(username, on_behalf).unwrap();
        account
            .sender_field(&account.sender.email)
            .map(str::to_owned)
    };
    assert_eq!(
        named("u@example.org", true).as_deref(),
        Some("u@example.org")
    );
    assert_eq!(named("Alerts@example.org", true), None);
    assert_eq!(named("u@example.org", false), None);
    assert_eq!(named("u", false), None);
    let problems = account("u", true).unwrap_err();
    assert!(
        problems[0].to_string().contains("on_behalf"),
        "{problems:?}"
    );
}
