//! What each provider's preset makes of an account, and what a sandbox makes of the preset.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::path::Path;

use postrider_config::{Account, Presets, SandboxAddress, TlsMode};
use serde_json::{Value, json};

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
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_preset_loads_and_says_what_the_fact_table_says() {
    // Server, and what the preset adds for a user and for an application; `None`: it needs more.
    let microsoft = |authority: &str, scopes: &[&str]| {
        Some(json!({ "authority": authority, "scopes": scopes }))
    };
    let global = "https://login.microsoftonline.com";
    // A person signs in: a refresh token, and an id token that says who it was.
    let signed_in = |scope| [scope, "offline_access", "openid", "profile"];
    let delegated = signed_in("https://outlook.office.com/SMTP.Send");
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
                &signed_in("https://outlook.office365.us/SMTP.Send"),
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
                &signed_in("https://partner.outlook.cn/SMTP.Send"),
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
fn under_a_sandbox_only_a_host_of_its_own_keeps_an_accounts_port() {
    let mut presets = Presets::builtin();
    presets.point_microsoft365_at(SandboxAddress {
        smtp_host: "localhost".to_owned(),
        smtp_port: 2525,
        authority: "https://localhost:8443/".parse().unwrap(),
        ca_file: "/tmp/ca.pem".into(),
    });
    for (server, expected) in [
        (json!({ "port": 25 }), "localhost:2525"),
        (json!({ "host": "127.0.0.1", "port": 25 }), "127.0.0.1:25"),
    ] {
        let mut value = on_preset("microsoft365", "client_credentials");
        value["auth"]["tenant"] = json!("contoso.com");
        value["server"] = server;
        let server = Account::from_value("ops", value, &presets).unwrap().server;
        assert_eq!(format!("{}:{}", server.host, server.port), expected);
    }
}

#[test]
fn each_cloud_has_its_graph_and_another_sign_in_service_none_that_is_known() {
    let account = |provider: &str, tenant: &str, authority: Option<&str>| {
        let mut table = on_preset(provider, "authorization_code");
        let auth = table["auth"].as_object_mut().unwrap();
        auth.insert("tenant".to_owned(), tenant.into());
        if provider == "microsoft365-dod" {
            let scopes = json!(["https://outlook.example/SMTP.Send", "offline_access"]);
            auth.insert("scopes".to_owned(), scopes);
        }
        if let Some(authority) = authority {
            auth.insert("authority".to_owned(), authority.into());
        }
        Account::from_value("a", table, &Presets::builtin()).unwrap()
    };
    let graph = |provider: &str, authority| {
        let graph = account(provider, "contoso.com", authority).graph();
        graph.map(|url| url.host_str().unwrap().to_owned())
    };

    for (provider, host) in [
        ("microsoft365", "graph.microsoft.com"),
        ("microsoft365-gcchigh", "graph.microsoft.us"),
        ("microsoft365-dod", "dod-graph.microsoft.us"),
        ("microsoft365-china", "microsoftgraph.chinacloudapi.cn"),
    ] {
        assert_eq!(graph(provider, None).as_deref(), Some(host), "{provider}");
    }
    let elsewhere = Some("https://localhost:8443");
    assert_eq!(graph("microsoft365", elsewhere), None);
}
