//! What a checked account holds: presets, defaults, secrets as references.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_config::{Account, Config, Presets, SandboxAddress, SecretRef, TlsMode};
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

/// The smallest account on a preset, with that flow.
fn on_preset(provider: &str, flow: &str) -> Value {
    json!({
        "provider": provider,
        "username": "svc-mail@contoso.com",
        "auth": {
            "plugin": "oauth", "flow": flow, "client_id": "0f1e",
            "client_secret": { "env": "S" },
        },
    })
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
            "scopes": ["https://outlook.office.com/SMTP.Send", "offline_access"],
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

/// Server and what the preset adds to a flow's settings; `None`: the flow needs more.
#[test]
fn each_preset_loads_and_says_what_the_fact_table_says() {
    let microsoft = |authority: &str, scopes: &[&str]| {
        Some(json!({ "authority": authority, "scopes": scopes }))
    };
    let global = "https://login.microsoftonline.com";
    let delegated = ["https://outlook.office.com/SMTP.Send", "offline_access"];
    let app = ["https://outlook.office365.com/.default"];
    let endpoints = |authorization: &str, token: &str, scope: &str| {
        Some(json!({
            "authorization_endpoint": authorization, "token_endpoint": token, "scopes": [scope],
        }))
    };
    let gmail = endpoints(
        "https://accounts.google.com/o/oauth2/auth",
        "https://oauth2.googleapis.com/token",
        "https://mail.google.com/",
    );
    let yahoo = endpoints(
        "https://api.login.yahoo.com/oauth2/request_auth",
        "https://api.login.yahoo.com/oauth2/get_token",
        "mail-w",
    );
    let fastmail = endpoints(
        "https://api.fastmail.com/oauth/authorize",
        "https://api.fastmail.com/oauth/refresh",
        "https://www.fastmail.com/dev/protocol-smtp",
    );
    let cases = [
        (
            "microsoft365",
            "smtp.office365.com:587 starttls",
            microsoft(global, &delegated),
            microsoft(global, &app),
        ),
        (
            "microsoft365-gcchigh",
            "smtp.office365.us:587 starttls",
            microsoft(
                "https://login.microsoftonline.us",
                &["https://outlook.office365.us/SMTP.Send", "offline_access"],
            ),
            None,
        ),
        (
            "microsoft365-dod",
            "outlook-dod.office365.us:587 starttls",
            None,
            None,
        ),
        (
            "microsoft365-china",
            "smtp.partner.outlook.cn:587 starttls",
            microsoft(
                "https://login.partner.microsoftonline.cn",
                &["https://partner.outlook.cn/SMTP.Send", "offline_access"],
            ),
            None,
        ),
        (
            "microsoft365-hve",
            "smtp-hve.office365.com:587 starttls",
            None,
            microsoft(global, &app),
        ),
        (
            "outlook",
            "smtp-mail.outlook.com:587 starttls",
            microsoft(global, &delegated),
            None,
        ),
        ("gmail", "smtp.gmail.com:465 implicit", gmail.clone(), gmail),
        (
            "yahoo",
            "smtp.mail.yahoo.com:465 implicit",
            yahoo.clone(),
            yahoo,
        ),
        (
            "fastmail",
            "smtp.fastmail.com:465 implicit",
            fastmail.clone(),
            fastmail,
        ),
        (
            "azure-communication-services",
            "smtp.azurecomm.net:587 starttls",
            None,
            None,
        ),
    ];
    let known: Vec<&str> = Presets::all().iter().map(|preset| preset.name).collect();
    let mut tested: Vec<&str> = cases.iter().map(|case| case.0).collect();
    tested.push("custom"); // has no server of its own
    assert_eq!(known, tested);

    for (provider, server, for_user, for_app) in cases {
        let basic = json!({
            "provider": provider, "username": "svc-mail@contoso.com",
            "auth": { "plugin": "basic", "password": { "env": "P" } },
        });
        let account = Account::from_value("ops", basic, &Presets::builtin()).unwrap();
        let shown = format!(
            "{}:{} {}",
            account.server.host, account.server.port, account.server.tls
        );
        assert_eq!(shown, server);

        for (flow, expected) in [
            ("authorization_code", for_user),
            ("client_credentials", for_app),
        ] {
            let mut value = on_preset(provider, flow);
            if provider.starts_with("microsoft365") {
                value["auth"]["tenant"] = json!("contoso.com");
            }
            let account = Account::from_value("ops", value, &Presets::builtin());
            match expected {
                None => assert!(account.is_err(), "{provider} {flow}"),
                Some(expected) => {
                    let settings = account.unwrap().auth.settings;
                    for (key, value) in expected.as_object().unwrap() {
                        assert_eq!(settings[key], *value, "{provider} {flow} {key}");
                    }
                }
            }
        }
    }
}

#[test]
fn where_no_scope_is_documented_it_is_asked_for() {
    let mut value = on_preset("microsoft365-dod", "device_code");
    value["auth"]["tenant"] = json!("contoso.com");
    assert_eq!(
        problems(value.clone()),
        [
            "account.ops.auth: `scopes` is missing, and none is documented for microsoft365-dod with device_code; \
          write the mail service's own scope, with its resource"
        ]
    );
    value["auth"]["scopes"] = json!(["https://mail.example.mil/SMTP.Send", "offline_access"]);
    assert!(Account::from_value("ops", value, &Presets::builtin()).is_ok());
}

#[test]
fn scopes_and_tenants_that_microsoft_would_refuse_are_refused_here() {
    let send = "https://outlook.office.com/SMTP.Send";
    for (flow, tenant, scopes, expected) in [
        (
            "device_code",
            "contoso.com",
            json!([send]),
            "without offline_access",
        ),
        (
            "device_code",
            "contoso.com",
            json!(["SMTP.Send", "offline_access"]),
            "means Microsoft Graph",
        ),
        (
            "device_code",
            "contoso.com",
            json!(["https://Graph.Microsoft.com/SMTP.Send", "offline_access"]),
            "refuses tokens for Microsoft Graph",
        ),
        (
            "device_code",
            "contoso.com",
            json!([
                send,
                "https://outlook.office365.com/SMTP.Send",
                "offline_access"
            ]),
            "a token is for one resource",
        ),
        (
            "device_code",
            "contoso.com",
            json!([
                send,
                "https://outlook.office.com/.default",
                "offline_access"
            ]),
            "cannot be mixed",
        ),
        (
            "device_code",
            "contoso.com",
            json!(["openid", "offline_access"]),
            "nothing here lets the account send",
        ),
        ("device_code", "contoso.com", json!([]), "is empty"),
        (
            "device_code",
            "contoso.com",
            json!("x"),
            "expected an array of strings, found a string; put it in brackets",
        ),
        (
            "client_credentials",
            "common",
            json!(["https://outlook.office365.com/.default"]),
            "needs one tenant, and \"common\" is none",
        ),
        (
            "client_credentials",
            "Organizations",
            json!(["https://outlook.office365.com/.default"]),
            "needs one tenant",
        ),
        (
            "client_credentials",
            "9188040d-6c67-4c5b-b112-36a304b66dad",
            json!(["https://outlook.office365.com/.default"]),
            "needs one tenant",
        ),
        (
            "client_credentials",
            "contoso.com",
            json!([send]),
            "takes a resource's `/.default` only; write \"https://outlook.office365.com/.default\"",
        ),
        (
            "client_credentials",
            "contoso.com",
            json!(["https://outlook.office365.com/.default", "offline_access"]),
            "yields no refresh token",
        ),
        (
            "device_code",
            "contoso com",
            json!([send, "offline_access"]),
            "is not a tenant",
        ),
    ] {
        let mut value = on_preset("microsoft365", flow);
        value["auth"]["tenant"] = json!(tenant);
        value["auth"]["scopes"] = scopes;
        let problems = problems(value);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{problems:?}");
    }
    let mut missing = on_preset("microsoft365", "device_code");
    assert!(problems(missing.clone())[0].contains("`tenant` is missing"));
    missing["auth"]["tenant"] = json!("common");
    assert!(Account::from_value("ops", missing, &Presets::builtin()).is_ok());
}

#[test]
fn an_application_proves_itself_in_one_way() {
    let secret = json!({ "env": "S" });
    for (extra, expected) in [
        (json!({}), Some("client_credentials needs")),
        (json!({ "client_secret": secret }), None),
        (
            json!({ "certificate": secret, "private_key": secret }),
            None,
        ),
        (json!({ "assertion": secret }), None),
        (
            json!({ "private_key": secret }),
            Some("Microsoft finds the key by its certificate"),
        ),
        (
            json!({ "certificate": secret }),
            Some("needs `private_key`"),
        ),
        (
            json!({ "assertion": secret, "certificate": secret, "private_key": secret }),
            Some("exclude each other"),
        ),
        (
            json!({ "client_secret": secret, "assertion": secret }),
            Some("is not used with a signed assertion"),
        ),
        (
            json!({ "client_secret": secret, "client_auth": "none" }),
            Some("is not used with client_auth = \"none\""),
        ),
        (
            json!({ "client_auth": "none" }),
            Some("client_credentials needs"),
        ),
        (
            json!({ "client_auth": "basic" }),
            Some("\"basic\" needs `client_secret`"),
        ),
        (
            json!({ "client_auth": "post", "assertion": secret }),
            Some("private_key_jwt\" only"),
        ),
        (
            json!({ "client_secret": "hunter2" }),
            Some("a secret does not stand in the settings"),
        ),
        (
            json!({ "client_secret": { "env": "A", "file": "/b" } }),
            Some("a reference has one form"),
        ),
        (
            json!({ "client_secret": { "enw": "A" } }),
            Some("enw: unknown key; did you mean `env`?"),
        ),
        (
            json!({ "client_secret": { "credential": "../x" } }),
            Some("may not hold \"/\""),
        ),
        (
            json!({ "client_secret": { "command": [] } }),
            Some("is empty"),
        ),
        (json!({ "client_secret": { "inline": "hunter2" } }), None),
    ] {
        let mut value = on_preset("microsoft365", "client_credentials");
        let auth = value["auth"].as_object_mut().unwrap();
        auth.insert("tenant".to_owned(), json!("contoso.com"));
        auth.shift_remove("client_secret");
        auth.extend(extra.as_object().unwrap().clone());
        match expected {
            None => {
                let account = Account::from_value("ops", value, &Presets::builtin()).unwrap();
                let shown = format!("{account:?} {}", serde_json::to_string(&account).unwrap());
                assert!(!shown.contains("hunter2"), "{shown}");
            }
            Some(expected) => {
                let problems = problems(value);
                assert!(
                    problems.iter().any(|problem| problem.contains(expected)),
                    "{problems:?}"
                );
                assert!(!format!("{problems:?}").contains("hunter2"));
            }
        }
    }
}

#[test]
fn another_provider_needs_its_endpoints() {
    let account = |extra: Value| {
        let mut value = json!({
            "username": "u@example.org", "server": { "host": "smtp.example.org" },
            "auth": { "plugin": "oauth", "flow": "authorization_code", "client_id": "x" },
        });
        value["auth"]
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        value
    };
    for good in [
        json!({ "issuer": "https://id.example.org" }),
        json!({ "authorization_endpoint": "https://id.example.org/a", "token_endpoint": "http://127.0.0.1:80/t" }),
        json!({ "authority": "https://login.microsoftonline.com", "tenant": "contoso.com",
                "scopes": ["https://outlook.office.com/SMTP.Send", "offline_access"] }),
    ] {
        Account::from_value("ops", account(good), &Presets::builtin()).unwrap();
    }
    for (bad, expected) in [
        (
            json!({}),
            "needs `authorization_endpoint` and `token_endpoint`",
        ),
        (
            json!({ "token_endpoint": "https://x.example/t" }),
            "needs `authorization_endpoint`",
        ),
        (
            json!({ "issuer": "https://id.example.org", "tenant": "contoso.com" }),
            "a tenant means nothing",
        ),
        (
            json!({ "issuer": "https://id.example.org", "token_endpoint": "https://x.example/" }),
            "exclude each other",
        ),
        (
            json!({ "authority": "https://login.microsoftonline.com", "tenant": "contoso.com" }),
            "`scopes` is missing",
        ),
    ] {
        let problems = problems(account(bad));
        assert!(problems[0].contains(expected), "{problems:?}");
    }
    let mut microsoft = on_preset("microsoft365", "device_code");
    microsoft["auth"]["tenant"] = json!("contoso.com");
    microsoft["auth"]["issuer"] = json!("https://id.example.org");
    assert!(problems(microsoft)[0].contains("has endpoints of its own"));
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
fn a_sandbox_stands_in_for_microsoft365_and_for_nothing_else() {
    let mut presets = Presets::builtin();
    presets.point_microsoft365_at(SandboxAddress {
        smtp_host: "localhost".to_owned(),
        smtp_port: 2525,
        authority: "https://localhost:8443/".parse().unwrap(),
        ca_file: "/tmp/ca.pem".into(),
    });
    let account = |provider: &str| {
        let mut value = on_preset(provider, "authorization_code");
        if provider != "gmail" {
            value["auth"]["tenant"] = json!("contoso.com");
        }
        Account::from_value("ops", value, &presets).unwrap()
    };
    for provider in ["microsoft365", "microsoft365-china"] {
        let account = account(provider);
        assert_eq!(
            (account.server.host.as_str(), account.server.port),
            ("localhost", 2525)
        );
        assert_eq!(account.server.tls, TlsMode::Starttls);
        assert_eq!(account.ca_file.as_deref(), Some(Path::new("/tmp/ca.pem")));
        assert_eq!(account.server.ca_file, account.ca_file);
        assert_eq!(account.auth.settings["authority"], "https://localhost:8443");
    }
    let gmail = account("gmail");
    assert_eq!(
        (gmail.server.host.as_str(), gmail.ca_file),
        ("smtp.gmail.com", None)
    );
}

#[test]
fn a_shown_account_holds_places_of_secrets_only() {
    let value = json!({
        "name": "ops", "username": "u@example.org", "sender": "Alerts <alerts@example.org>",
        "server": { "host": "smtp.example.org" }, "timeouts": { "connect": "90s" },
        "auth": { "plugin": "basic", "password": { "command": ["pass", "show", "hunter2"] } },
    });
    let account = Account::from_value("ops", value, &Presets::builtin()).unwrap();
    assert_eq!(
        serde_json::to_value(&account).unwrap(),
        json!({
            "name": "ops", "provider": "custom", "username": "u@example.org",
            "sender": "Alerts <alerts@example.org>", "test_recipient": null,
            "server": { "host": "smtp.example.org", "port": 587, "tls": "starttls", "ca_file": null, "ehlo_name": null },
            "limits": { "connections": 3, "messages_per_minute": null, "recipients_per_message": 100 },
            "timeouts": {
                "connect": "1m30s", "tls": null, "greeting": null, "command": null, "mail": null,
                "rcpt": null, "data_start": null, "data_block": null, "data_end": null,
            },
            "auth": { "plugin": "basic", "settings": {}, "secrets": { "password": { "command": "pass" } }, "allow_hosts": [] },
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
