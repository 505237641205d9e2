//! OAuth settings that make no sense together are refused, and why.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use postrider_config::{Account, Presets};
use serde_json::{Value, json};

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
#[allow(clippy::too_many_lines, reason = "a table")]
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
        (
            "device_code",
            "contoso.com",
            json!([
                "https://outlook.office.com/IMAP.AccessAsUser.All",
                "offline_access"
            ]),
            "nothing here lets the account send; write \"https://outlook.office.com/SMTP.Send\"",
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
fn an_authority_holds_neither_path_nor_query() {
    let with = |authority: &str| {
        let mut value = on_preset("microsoft365", "client_credentials");
        value["auth"]["tenant"] = json!("contoso.com");
        value["auth"]["authority"] = json!(authority);
        value
    };
    for base in [
        "https://login.microsoftonline.com",
        "https://login.microsoftonline.com/",
        "http://localhost:8443",
    ] {
        Account::from_value("ops", with(base), &Presets::builtin()).unwrap();
    }
    for more in [
        "https://login.microsoftonline.com/contoso.com",
        "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
        "https://login.microsoftonline.com/?tenant=contoso.com",
        "https://login.microsoftonline.com//",
    ] {
        assert_eq!(
            problems(with(more)),
            [
                "account.ops.auth.authority: holds more than the service's base URL; \
              write \"https://login.microsoftonline.com\" and the tenant as `tenant`"
            ],
            "{more}"
        );
    }
}

#[test]
fn a_graph_scope_is_refused_however_the_provider_is_named() {
    for provider in [
        json!({ "issuer": "https://login.microsoftonline.com/contoso.com/v2.0" }),
        json!({ "token_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token" }),
    ] {
        for scope in [
            "https://graph.microsoft.com/.default",
            "https://graph.microsoft.us/Mail.Send",
            "00000003-0000-0000-c000-000000000000/.default",
        ] {
            let mut value = json!({
                "username": "svc-mail@contoso.com",
                "server": { "host": "smtp.office365.com" },
                "auth": {
                    "plugin": "oauth", "flow": "client_credentials", "client_id": "0f1e",
                    "client_secret": { "env": "S" }, "scopes": [scope],
                },
            });
            for (key, url) in provider.as_object().unwrap() {
                value["auth"][key] = url.clone();
            }
            let found = problems(value);
            assert!(
                found.len() == 1 && found[0].contains("tokens for Microsoft Graph"),
                "{scope}: {found:?}"
            );
        }
    }
}
