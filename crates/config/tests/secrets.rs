//! When secrets and refresh tokens lapse, and where the vault's key is.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use postrider_config::{
    Account, Config, Presets, ReuseGrace, Rotation, SecretRef, edit, parse_expiry,
};
use serde_json::{Value, json};

fn parse(text: &str) -> Result<Config, String> {
    let path = Path::new("/etc/postrider/postrider.toml");
    Config::parse(text, Some(path), &Presets::builtin()).map_err(|errors| errors.to_string())
}

fn script(value: Value) -> Result<Account, String> {
    Account::from_value("ops", value, &Presets::builtin())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn with_password(password: &str) -> String {
    format!(
        "[account.a]\nusername = \"u@example.org\"\nserver = {{ host = \"smtp.example.org\" }}\n\
         [account.a.auth]\nplugin = \"basic\"\npassword = {password}\n"
    )
}

#[test]
fn a_reference_may_say_when_its_secret_lapses() {
    for (written, expected) in [
        ("\"2027-03-01\"", "2027-03-01"),
        ("2027-03-01", "2027-03-01"),
        ("2027-03-01T09:00:00Z", "2027-03-01T09:00:00Z"),
        ("2027-03-01 09:00:00.5+01:00", "2027-03-01T08:00:00.5Z"),
        ("\"2019-03-01\"", "2019-03-01"),
    ] {
        for form in ["vault = \"a/b\"", "env = \"A\"", "command = [\"pass\"]"] {
            for reference in [
                format!("{{ {form}, expires = {written} }}"),
                format!("{{ expires = {written}, {form} }}"),
            ] {
                let config = parse(&with_password(&reference)).unwrap();
                let auth = &config.accounts["a"].auth;
                assert_eq!(
                    auth.expires["password"],
                    parse_expiry(expected).unwrap(),
                    "{reference}"
                );
                assert_eq!(auth.secrets.len(), 1);
            }
        }
    }
    let config = parse(&with_password("{ env = \"A\" }")).unwrap();
    assert!(config.accounts["a"].auth.expires.is_empty());
}

#[test]
fn what_is_no_day_is_refused_with_its_place() {
    for (written, said) in [
        ("\"soon\"", "\"soon\" is neither a day like"),
        ("2027-03-01T09:00:00", "is neither a day like"),
        ("90", "expected a day, found an integer"),
    ] {
        let text = with_password(&format!("{{ env = \"A\", expires = {written} }}"));
        let said_now = parse(&text).unwrap_err();
        assert!(
            said_now.contains(said) && said_now.contains("account.a.auth.password.expires"),
            "{said_now}"
        );
    }
    let alone = parse(&with_password("{ expires = \"2027-03-01\" }")).unwrap_err();
    assert!(alone.contains("a reference has one form"), "{alone}");
}

#[test]
fn a_script_and_another_plugin_may_say_it_too() {
    let account = |auth: Value| {
        script(json!({
            "username": "u@example.org", "server": { "host": "smtp.example.org" }, "auth": auth,
        }))
    };
    let day = parse_expiry("2027-03-01").unwrap();
    for (secret, form) in [
        (
            json!({ "inline": "hunter2", "expires": "2027-03-01" }),
            "inline",
        ),
        (json!({ "vault": "ops", "expires": "2027-03-01" }), "vault"),
    ] {
        let basic = account(json!({ "plugin": "basic", "password": secret.clone() })).unwrap();
        assert_eq!(basic.auth.expires["password"], day);
        assert_eq!(basic.auth.secrets["password"].form(), form);
        let third = account(json!({ "plugin": "acme", "badge": secret })).unwrap();
        assert_eq!(third.auth.expires["badge"], day);
        assert!(third.auth.settings.is_empty());
    }
    let inline = json!({ "plugin": "basic", "password": { "inline": "hunter2", "expires": "x" } });
    let said = account(inline).unwrap_err();
    assert!(
        said.contains("neither a day") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn a_secrets_name_in_the_vault_needs_no_quotes_in_a_shell() {
    for name in [
        "a",
        "alerts/client_secret",
        "ops@contoso.com",
        "a.b:c-d+e",
        "_x",
    ] {
        assert_eq!(postrider_config::secret_name(name), Ok(()), "{name}");
        let reference = format!("{{ vault = \"{name}\" }}");
        assert!(parse(&with_password(&reference)).is_ok(), "{name}");
    }
    for name in [
        "",
        "a b",
        "-x",
        "/x",
        "../x",
        "a$b",
        "ä",
        "a\\nb",
        &"a".repeat(129),
    ] {
        assert!(postrider_config::secret_name(name).is_err(), "{name}");
        let reference = format!("{{ vault = \"{name}\" }}");
        assert!(parse(&with_password(&reference)).is_err(), "{name}");
    }
}

#[test]
fn microsofts_refresh_tokens_last_ninety_days_and_survive_their_successors() {
    let entra = Rotation {
        refresh_token_lifetime: Some(Duration::from_hours(90 * 24)),
        reuse_grace: ReuseGrace::Forever,
    };
    let account = |provider: &str, auth: Value, rotation: Option<Value>| {
        let mut value = json!({
            "provider": provider, "username": "u@contoso.com", "auth": auth,
        });
        if provider == "custom" {
            value["server"] = json!({ "host": "smtp.example.org" });
        }
        if let Some(rotation) = rotation {
            value["rotation"] = rotation;
        }
        script(value).unwrap().rotation
    };
    let oauth = json!({
        "plugin": "oauth", "flow": "authorization_code", "client_id": "0f1e", "tenant": "contoso.com",
    });
    assert_eq!(account("microsoft365", oauth.clone(), None), entra);
    let mut own = oauth.clone();
    own["authority"] = json!("https://login.example.org");
    own["scopes"] = json!(["https://outlook.office.com/SMTP.Send", "offline_access"]);
    assert_eq!(account("custom", own, None), entra);
    let rotation = json!({ "reuse_grace": "30s" });
    assert_eq!(
        account("microsoft365", oauth, Some(rotation)),
        Rotation {
            reuse_grace: ReuseGrace::For(Duration::from_secs(30)),
            ..entra
        }
    );

    let password = json!({ "plugin": "basic", "password": { "env": "P" } });
    let nothing_known = Rotation::default();
    assert_eq!(account("microsoft365", password, None), nothing_known);
    let gmail = json!({ "plugin": "oauth", "flow": "authorization_code", "client_id": "0f1e" });
    assert_eq!(account("gmail", gmail.clone(), None), nothing_known);
    assert_eq!(nothing_known.reuse_grace, ReuseGrace::For(Duration::ZERO));
    let rotation = json!({ "refresh_token_lifetime": "180d", "reuse_grace": "forever" });
    assert_eq!(
        account("gmail", gmail, Some(rotation)),
        Rotation {
            refresh_token_lifetime: Some(Duration::from_hours(180 * 24)),
            reuse_grace: ReuseGrace::Forever,
        }
    );
}

#[test]
fn rotation_is_checked_like_everything_else() {
    let said = |rotation: Value| {
        script(json!({
            "username": "u@example.org", "server": { "host": "smtp.example.org" },
            "rotation": rotation, "auth": { "plugin": "basic", "password": { "env": "P" } },
        }))
        .map(|account| account.rotation)
    };
    assert!(said(json!({ "reuse_grace": "0s" })).is_ok());
    assert!(said(json!({ "reuse_grace": 30, "refresh_token_lifetime": 86_400 })).is_ok());
    for bad in [
        json!({ "reuse_grace": "always" }),
        json!({ "reuse_grace": true }),
        json!({ "refresh_token_lifetime": "0s" }),
        json!({ "refresh_token_lifetime": "forever" }),
        json!({ "refresh_token_lifetime": "4000d" }),
        json!({ "lifetime": "90d" }),
        json!("forever"),
    ] {
        let problems = said(bad.clone());
        assert!(problems.is_err(), "{bad} became {problems:?}");
    }
}

#[test]
fn the_vaults_key_has_one_place() {
    assert!(parse("").unwrap().vault.key_file.is_none());
    let vault = |text: &str| parse(&format!("[vault]\n{text}\n")).map(|config| config.vault);
    assert_eq!(
        vault("key_file = \"kek\"").unwrap().key_file.as_deref(),
        Some(Path::new("/etc/postrider/kek"))
    );
    assert!(vault("keyring = true").unwrap().keyring);
    assert!(vault("keyring = false\nkey_file = \"/kek\"").is_ok());
    let passphrase = vault("passphrase = { credential = \"vault\" }")
        .unwrap()
        .passphrase;
    assert!(matches!(passphrase, Some(SecretRef::Credential(name)) if name == "vault"));

    for (text, said) in [
        ("keyring = true\nkey_file = \"/kek\"", "exclude each other"),
        (
            "passphrase = { env = \"P\" }\nkey_file = \"/kek\"",
            "exclude each other",
        ),
        (
            "passphrase = { vault = \"kek\" }",
            "cannot lie in the vault",
        ),
        (
            "passphrase = { env = \"P\", expires = 2027-03-01 }",
            "does not expire",
        ),
        ("passphrase = \"hunter2\"", "does not stand in the settings"),
        ("kek_file = \"/kek\"", "did you mean `key_file`?"),
    ] {
        let said_now = vault(text).unwrap_err();
        assert!(said_now.contains(said), "{said_now}");
        assert!(!said_now.contains("hunter2"), "{said_now}");
    }
}

#[test]
fn a_program_writes_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postrider.toml");
    fs::write(&path, with_password("{ env = \"A\" }")).unwrap();
    let set = |key: &str, value: Value| edit::set(&path, key, value, &Presets::builtin());
    let secret = json!({ "vault": "a/password", "expires": "2027-03-01" });
    set("account.a.auth.password", secret.clone()).unwrap();
    set("account.a.rotation.reuse_grace", json!("30s")).unwrap();
    set(
        "account.a.rotation",
        json!({ "refresh_token_lifetime": "90d" }),
    )
    .unwrap();
    set("vault.key_file", json!("kek")).unwrap();
    set("account.a.auth.password.expires", json!("2028-03-01")).unwrap();

    let config = Config::load(&path, &Presets::builtin()).unwrap();
    let account = &config.accounts["a"];
    assert_eq!(
        account.auth.expires["password"],
        parse_expiry("2028-03-01").unwrap()
    );
    assert_eq!(
        account.rotation.refresh_token_lifetime,
        Some(Duration::from_hours(90 * 24))
    );
    assert_eq!(config.vault.key_file, Some(dir.path().join("kek")));
    assert_eq!(
        edit::get(&path, "account.a.auth.password").unwrap(),
        Some(json!({ "vault": "a/password", "expires": "2028-03-01" }))
    );
    assert!(
        edit::remove(
            &path,
            "account.a.auth.password.expires",
            &Presets::builtin()
        )
        .unwrap()
    );
    set("vault.passphrase", json!("hunter2")).unwrap_err();
    set("account.a.auth.password.expires", json!("soon")).unwrap_err();
}
