//! Edits of a settings file: what stays, what is refused, and that none is lost.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use postrider_config::edit::{self, Change, EditError};
use postrider_config::{Config, Presets};
use serde_json::{Value, json};
use tempfile::TempDir;

const SETTINGS: &str = r#"# Mail of the operations team.

[account.ops]   # do not rename: scripts use it
provider = "microsoft365"
username = "svc-mail@contoso.com"
# Send As was granted on 2026-05-04.
sender = "alerts@contoso.com"   # From

[account.ops.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.onmicrosoft.com"
client_id = "0f1e"
client_secret = { env = "OPS_SECRET" } # rotated yearly

# The printer on the second floor.
[account.printer]
username = "printer@example.org"
server = { host = "smtp.example.org", port = 587 }  # submission
auth = { plugin = "basic", password = { file = "/etc/printer" } }
"#;

fn settings(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postrider.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn set(path: &Path, key: &str, value: Value) -> Result<(), EditError> {
    edit::set(path, key, value, &Presets::builtin())
}

#[test]
fn a_new_value_leaves_every_other_character_alone() {
    let (_dir, path) = settings(SETTINGS);
    set(&path, "account.ops.sender", json!("noreply@contoso.com")).unwrap();
    set(&path, "account.printer.server.port", json!(465)).unwrap();
    let expected = SETTINGS
        .replace("alerts@contoso.com", "noreply@contoso.com")
        .replace("587", "465");
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn a_new_key_joins_its_table() {
    let (_dir, path) = settings(SETTINGS);
    set(&path, "account.ops.messages_per_minute", json!(10)).unwrap();
    set(&path, "account.printer.server.tls", json!("starttls")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("# From\nmessages_per_minute = 10\n\n[account.ops.auth]"),
        "{text}"
    );
    let server =
        r#"server = { host = "smtp.example.org", port = 587, tls = "starttls" }  # submission"#;
    assert!(text.contains(server), "{text}");
}

#[test]
fn a_whole_account_is_added_in_one_step() {
    let (_dir, path) = settings(SETTINGS);
    let account = json!({
        "provider": "microsoft365",
        "username": "reports@contoso.com",
        "auth": {
            "plugin": "oauth",
            "flow": "device_code",
            "tenant": "contoso.com",
            "client_id": "0f1e",
            "client_secret": { "credential": "reports" },
        },
    });
    set(&path, "account.reports", account).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let added = text.strip_prefix(SETTINGS).unwrap();
    assert_eq!(
        added,
        r#"
[account.reports]
provider = "microsoft365"
username = "reports@contoso.com"

[account.reports.auth]
plugin = "oauth"
flow = "device_code"
tenant = "contoso.com"
client_id = "0f1e"
client_secret = { credential = "reports" }
"#
    );
}

#[test]
fn removing_takes_the_key_and_what_is_below() {
    let (_dir, path) = settings(SETTINGS);
    let presets = Presets::builtin();
    assert!(edit::remove(&path, "account.printer", &presets).unwrap());
    assert!(!edit::remove(&path, "account.printer", &presets).unwrap());
    let end = SETTINGS.find("\n# The printer").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), SETTINGS[..end]);
}

#[test]
fn what_would_not_be_valid_is_not_written() {
    let (_dir, path) = settings(SETTINGS);
    for (key, value) in [
        ("account.ops.sender", json!("nobody")),
        ("account.ops.sendr", json!("a@contoso.com")),
        ("account.new.username", json!("a@contoso.com")),
        ("account.ops.auth.tenant", json!("common")),
        ("account.ops.auth.client_secret", json!("hunter2")),
        (
            "account.printer.auth",
            json!({ "plugin": "basic", "password": "hunter2" }),
        ),
        ("account.ops.username.x", json!(1)),
        ("account.ops.connections", json!(null)),
        ("account.ops.connections", json!(u64::MAX)),
        ("account..ops", json!(1)),
        ("", json!(1)),
    ] {
        let error = set(&path, key, value).expect_err(key);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let presets = Presets::builtin();
    edit::remove(&path, "account.ops.username", &presets).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), SETTINGS);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn several_changes_are_made_together_or_not_at_all() {
    let (_dir, path) = settings(SETTINGS);
    let presets = Presets::builtin();
    let change = |key: &str, value| Change::Set {
        key: key.to_owned(),
        value,
    };
    let good = [
        change("account.printer.server.host", json!("192.0.2.1")),
        change("account.printer.server.tls", json!("danger_plaintext")),
        change(
            "account.printer.server.danger_send_credentials_in_clear",
            json!(true),
        ),
        Change::Remove {
            key: "account.printer.server.port".to_owned(),
        },
    ];
    // The second alone is refused.
    edit::apply(&path, &good[..2], &presets).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), SETTINGS);
    edit::apply(&path, &good, &presets).unwrap();
    let config = Config::load(&path, &presets).unwrap();
    assert_eq!(config.accounts["printer"].server.host, "192.0.2.1");
}

#[test]
fn a_preview_is_what_would_be_written_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deeper/postrider.toml");
    let set = |value| Change::Set {
        key: "account.printer".to_owned(),
        value,
    };
    let server = json!({ "host": "smtp.example.org", "port": 587, "tls": "starttls" });
    let auth = json!({ "plugin": "basic", "password": { "env": "X" } });
    let right = set(json!({ "username": "a@example.org", "server": server, "auth": auth }));
    let wrong = set(json!({ "username": "a@example.org" }));
    let presets = Presets::builtin();

    let config = edit::preview(&path, &[right], &presets).unwrap();
    assert!(config.accounts.contains_key("printer"));
    assert!(matches!(
        edit::preview(&path, &[wrong], &presets),
        Err(EditError::Invalid(_))
    ));
    assert!(!path.parent().unwrap().exists());
}

#[test]
fn values_are_read_back_as_written() {
    let (_dir, path) = settings(SETTINGS);
    let get = |key| edit::get(&path, key).unwrap();
    assert_eq!(get("account.ops.sender"), Some(json!("alerts@contoso.com")));
    assert_eq!(
        get("account.printer.server"),
        Some(json!({ "host": "smtp.example.org", "port": 587 }))
    );
    assert_eq!(
        get("account.ops.auth.client_secret"),
        Some(json!({ "env": "OPS_SECRET" }))
    );
    assert_eq!(
        get("account.ops.auth.client_secret.env"),
        Some(json!("OPS_SECRET"))
    );
    assert_eq!(get("account.ops.test_recipient"), None);
    assert_eq!(get("account.ops.sender.x"), None);
    assert_eq!(
        edit::get(&path.with_extension("none"), "account").unwrap(),
        None
    );
}

#[test]
fn a_secret_that_stands_in_the_file_is_not_read_out() {
    let (_dir, path) = settings(
        "[account.x.auth]\npassword = \"hunter2\"\n[account.y.auth]\nplugin = \"basic\"\n\
         logins = [{ password = \"hunter2\" }]\n",
    );
    for key in [
        "account.x.auth.password",
        "account.x.auth",
        "account",
        "account.y.auth.logins",
        "account.y",
    ] {
        let error = edit::get(&path, key).unwrap_err();
        assert!(matches!(error, EditError::Secret { .. }), "{error:?}");
    }
    assert_eq!(
        edit::get(&path, "account.y.auth.plugin").unwrap(),
        Some(json!("basic"))
    );
}

#[test]
fn a_gateways_certificate_is_a_file_and_no_secret() {
    let (_dir, path) = settings(
        "[gateway.x]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n\
         [gateway.y]\npassword = \"hunter2\"\n[gateway.z.device.d]\ncertificate = \"hunter2\"\n",
    );
    let files = json!({ "certificate": "a.pem", "key": "a.key" });
    assert_eq!(edit::get(&path, "gateway.x").unwrap(), Some(files));
    assert_eq!(
        edit::get(&path, "gateway.x.certificate").unwrap(),
        Some(json!("a.pem"))
    );
    for key in ["gateway", "gateway.y", "gateway.z.device.d.certificate"] {
        let error = edit::get(&path, key).unwrap_err();
        assert!(matches!(error, EditError::Secret { .. }), "{error:?}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_reported_with_its_place_and_without_secrets() {
    let (_dir, path) = settings("[account.x.auth]\npassword = \"hunter2\n");
    let EditError::Invalid(errors) = set(&path, "account.x.username", json!("u")).unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!(errors.problems[0].line(), Some(2));
    assert!(!format!("{errors} {errors:?}").contains("hunter2"));
}

#[test]
fn the_mode_stays_and_a_new_file_is_private() {
    let (dir, path) = settings(SETTINGS);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let owner = fs::metadata(&path).unwrap().uid();
    set(&path, "account.ops.connections", json!(2)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o640, owner));

    let new = dir.path().join("a/b/postrider.toml");
    let account = json!({
        "username": "printer@example.org",
        "server": { "host": "smtp.example.org" },
        "auth": { "plugin": "basic", "password": { "env": "P" } },
    });
    set(&new, "account.printer", account).unwrap();
    assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777,
        0o700
    );
    assert!(Config::load(&new, &Presets::builtin()).is_ok());
}

#[test]
fn a_link_stays_a_link_and_leads_to_the_new_text() {
    let (dir, path) = settings(SETTINGS);
    let link = dir.path().join("link.toml");
    symlink("postrider.toml", &link).unwrap();
    set(&link, "account.ops.connections", json!(2)).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains("connections = 2")
    );

    let dangling = dir.path().join("dangling.toml");
    symlink("nowhere.toml", &dangling).unwrap();
    set(&dangling, "account.ops.connections", json!(2)).unwrap_err();
    let around = dir.path().join("around.toml");
    symlink("around.toml", &around).unwrap();
    set(&around, "account.ops.connections", json!(2)).unwrap_err();
    set(dir.path(), "account.ops.connections", json!(2)).unwrap_err();
}

#[test]
fn edits_at_the_same_time_all_survive() {
    const WRITERS: usize = 8;
    const EDITS: usize = 5;
    let (_dir, path) = settings(SETTINGS);
    let start = Barrier::new(WRITERS);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                start.wait();
                for edit in 0..EDITS {
                    let pin = format!("plugins.pins.p{writer}-{edit}");
                    set(path, &pin, json!("a".repeat(64))).unwrap();
                }
            });
        }
        // Whoever reads in the meantime sees a whole file.
        start_reading(&path);
    });
    let config = Config::load(&path, &Presets::builtin()).unwrap();
    assert_eq!(config.plugins.pins.len(), WRITERS * EDITS);
}

fn start_reading(path: &Path) {
    for _ in 0..50 {
        Config::load(path, &Presets::builtin()).unwrap();
    }
}

#[test]
fn files_made_at_the_same_time_become_one() {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postrider.toml");
    let start = Barrier::new(WRITERS);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                start.wait();
                set(
                    path,
                    &format!("plugins.pins.p{writer}"),
                    json!("a".repeat(64)),
                )
                .unwrap();
            });
        }
    });
    let config = Config::load(&path, &Presets::builtin()).unwrap();
    assert_eq!(config.plugins.pins.len(), WRITERS);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
