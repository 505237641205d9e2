//! Which settings make an account, and what is said of those that do not.

use postrider_oauth::OAuth;
use postrider_plugin::ErrorKind;
use postrider_plugin::kit::testing::Driver;
use postrider_plugin::wire::Op;
use serde_json::{Value, json};

use crate::host::*;

#[test]
fn the_description_names_operations_mechanisms_and_hosts() {
    let description = Driver::<OAuth>::describe();
    assert_eq!(description.name, "oauth");
    assert_eq!(
        description.ops,
        [Op::Login, Op::Obtain, Op::Sasl, Op::Revoke]
    );
    assert_eq!(description.mechanisms, ["XOAUTH2", "OAUTHBEARER"]);
    assert!(description.hosts.contains(&"{authority}".to_owned()));
}

#[test]
fn the_schema_marks_secrets_and_describes_every_setting() {
    let schema = Driver::<OAuth>::describe().config_schema;
    let properties = schema.pointer("/properties").unwrap().as_object().unwrap();
    let mut secrets: Vec<_> = properties
        .iter()
        .filter(|(_, property)| property.get("x-postrider-secret") == Some(&Value::Bool(true)))
        .map(|(name, _)| name.as_str())
        .collect();
    secrets.sort_unstable();
    assert_eq!(
        secrets,
        ["assertion", "certificate", "client_secret", "private_key"]
    );
    for (name, property) in properties {
        assert!(property["description"].is_string(), "{name}");
    }
    assert_eq!(
        schema.pointer("/required"),
        Some(&json!(["flow", "client_id"]))
    );
}

#[test]
fn an_applications_own_token_is_the_same_for_all_its_accounts() {
    let schema = Driver::<OAuth>::describe().config_schema;
    assert_eq!(
        schema.pointer("/x-postrider-shared-grant"),
        Some(&json!({ "flow": "client_credentials" }))
    );
}

#[test]
fn what_tells_grants_and_clients_apart_are_settings_and_no_secrets() {
    let schema = Driver::<OAuth>::describe().config_schema;
    let properties = schema.pointer("/properties").unwrap();
    for (keyword, expected) in [
        (
            "/x-postrider-grant",
            json!([
                "authority",
                "tenant",
                "issuer",
                "token_endpoint",
                "client_id",
                "scopes"
            ]),
        ),
        (
            "/x-postrider-client",
            json!([
                "authority",
                "tenant",
                "issuer",
                "token_endpoint",
                "client_id"
            ]),
        ),
    ] {
        let names = schema.pointer(keyword).unwrap();
        assert_eq!(*names, expected);
        for name in names.as_array().unwrap() {
            let property = &properties[name.as_str().unwrap()];
            assert!(property.is_object(), "{name}");
            assert!(property.get("x-postrider-secret").is_none(), "{name}");
        }
    }
}

#[test]
fn the_schema_takes_good_settings_and_refuses_unknown_ones() {
    let schema = Driver::<OAuth>::describe().config_schema;
    let validator = jsonschema::validator_for(schema.as_value()).unwrap();
    let good = json!({
        "flow": "authorization_code", "authority": "https://login.microsoftonline.com",
        "tenant": "contoso.com", "client_id": "id", "scopes": ["a"],
        "client_auth": "private_key_jwt", "assertion_alg": "RS256",
        "mechanisms": ["XOAUTH2"], "private_key": "placeholder", "certificate": "placeholder",
    });
    assert!(validator.is_valid(&good));
    for wrong in [
        json!({ "client_sceret": "x" }),
        json!({ "flow": "implicit" }),
        json!({ "flow": null }),
        json!({ "client_id": null }),
        json!({ "client_id": 7 }),
        json!({ "scopes": "a b" }),
        json!({ "mechanisms": ["PLAIN"] }),
        json!({ "client_auth": "digest" }),
        json!({ "assertion_alg": "none" }),
    ] {
        let mut settings = good.clone();
        merge(&mut settings, wrong.clone());
        assert!(!validator.is_valid(&settings), "{wrong}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table, a row for each fault")]
fn faults_are_named_by_their_setting() {
    let ms = "client_credentials";
    let rows: &[(&str, Value, &[&str], &str)] = &[
        // which provider
        (
            ms,
            json!({ "authority": null, "tenant": null }),
            &["client_secret"],
            "no provider",
        ),
        (
            ms,
            json!({ "tenant": null }),
            &["client_secret"],
            "tenant is missing",
        ),
        (
            ms,
            json!({ "tenant": "" }),
            &["client_secret"],
            "tenant is missing",
        ),
        (
            ms,
            json!({ "authority": null }),
            &["client_secret"],
            "authority is missing",
        ),
        (
            ms,
            json!({ "issuer": "https://id.example.org" }),
            &["client_secret"],
            "authority and issuer exclude",
        ),
        (
            ms,
            json!({ "token_endpoint": "https://id.example.org/t" }),
            &["client_secret"],
            "authority and token_endpoint exclude",
        ),
        (
            ms,
            json!({ "authority": null, "tenant": null, "issuer": "https://a.example", "revocation_endpoint": "https://a.example/r" }),
            &["client_secret"],
            "issuer and revocation_endpoint exclude",
        ),
        (
            ms,
            json!({ "authority": null, "tenant": null, "revocation_endpoint": "https://a.example/r" }),
            &["client_secret"],
            "token_endpoint is missing",
        ),
        (
            "authorization_code",
            json!({ "authority": null, "tenant": null, "token_endpoint": "https://a.example/t" }),
            &[],
            "authorization_endpoint is missing",
        ),
        (
            "device_code",
            json!({ "authority": null, "tenant": null, "token_endpoint": "https://a.example/t" }),
            &[],
            "device_authorization_endpoint is missing",
        ),
        // what a tenant and a URL are
        (
            ms,
            json!({ "tenant": "common" }),
            &["client_secret"],
            "tenant: client_credentials needs",
        ),
        (
            ms,
            json!({ "tenant": "contoso.com/../evil" }),
            &["client_secret"],
            "tenant is neither",
        ),
        (
            ms,
            json!({ "tenant": ".." }),
            &["client_secret"],
            "tenant is neither",
        ),
        (
            ms,
            json!({ "authority": "login.microsoftonline.com" }),
            &["client_secret"],
            "authority is not an absolute URL",
        ),
        (
            ms,
            json!({ "authority": "ftp://login.microsoftonline.com" }),
            &["client_secret"],
            "authority is not an https URL",
        ),
        (
            ms,
            json!({ "authority": "https://u:p@login.microsoftonline.com" }),
            &["client_secret"],
            "authority must not hold a user",
        ),
        (
            ms,
            json!({ "authority": "https://login.microsoftonline.com/#x" }),
            &["client_secret"],
            "authority must not hold a fragment",
        ),
        // how the application proves itself
        (ms, json!({}), &[], "client_credentials needs client_secret"),
        (
            ms,
            json!({ "client_auth": "post" }),
            &[],
            "client_secret is missing",
        ),
        (
            ms,
            json!({ "client_auth": "basic" }),
            &[],
            "client_secret is missing",
        ),
        (
            ms,
            json!({ "client_auth": "none" }),
            &["client_secret"],
            "client_secret is given",
        ),
        (
            ms,
            json!({ "client_auth": "post" }),
            &["client_secret", "private_key"],
            "private_key is only used with",
        ),
        (ms, json!({}), &["private_key"], "certificate is missing"),
        (ms, json!({}), &["certificate"], "private_key is missing"),
        (
            ms,
            json!({ "client_auth": "private_key_jwt" }),
            &[],
            "private_key is missing",
        ),
        (
            ms,
            json!({}),
            &["private_key", "certificate", "assertion"],
            "assertion and private_key exclude",
        ),
        (
            ms,
            json!({}),
            &["private_key", "certificate", "client_secret"],
            "client_secret is not used",
        ),
        // the rest
        (
            ms,
            json!({ "client_id": "" }),
            &["client_secret"],
            "client_id is empty",
        ),
        (
            ms,
            json!({ "client_id": "a\nb" }),
            &["client_secret"],
            "client_id is empty or holds",
        ),
        (
            ms,
            json!({ "scopes": ["a b"] }),
            &["client_secret"],
            "scopes: each item",
        ),
        (
            ms,
            json!({ "scopes": [""] }),
            &["client_secret"],
            "scopes: each item",
        ),
        (
            ms,
            json!({ "scopes": ["ä"] }),
            &["client_secret"],
            "scopes: each item",
        ),
        (
            ms,
            json!({ "mechanisms": [] }),
            &["client_secret"],
            "mechanisms is empty",
        ),
        (
            "authorization_code",
            json!({ "redirect_uri": "https://localhost/" }),
            &[],
            "redirect_uri must be http",
        ),
        (
            "authorization_code",
            json!({ "redirect_uri": "http://contoso.com/" }),
            &[],
            "redirect_uri must be http",
        ),
        (
            "authorization_code",
            json!({ "redirect_uri": "http://localhost/?a=b" }),
            &[],
            "redirect_uri must be http",
        ),
        (ms, json!({ "client_sceret": "x" }), &[], "client_sceret"),
    ];
    for (flow, change, secrets, words) in rows {
        let mut settings = Value::Object(microsoft(flow, &[]).settings);
        merge(&mut settings, change.clone());
        let error = Driver::<OAuth>::create(&with_secrets(settings, secrets))
            .err()
            .unwrap_or_else(|| panic!("{change} with {secrets:?} was taken"));
        assert_eq!(error.kind, ErrorKind::Config, "{change}: {error}");
        assert!(
            error.detail.message.contains(words),
            "{change} with {secrets:?}: {error}"
        );
    }
}

#[test]
fn people_may_sign_in_at_a_shared_tenant() {
    for tenant in ["common", "organizations", "consumers"] {
        let mut config = microsoft("device_code", &[]);
        config.settings.insert("tenant".into(), tenant.into());
        let flow = obtain(&driver(&config), Some("r"));
        assert_eq!(
            request(&flow).url,
            format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token")
        );
    }
}

#[test]
fn an_authority_with_a_port_and_a_slash_is_one_url() {
    let mut config = microsoft("device_code", &[]);
    config
        .settings
        .insert("authority".into(), "https://localhost:8443/".into());
    let flow = obtain(&driver(&config), Some("r"));
    assert_eq!(
        request(&flow).url,
        "https://localhost:8443/contoso.onmicrosoft.com/oauth2/v2.0/token"
    );
}
