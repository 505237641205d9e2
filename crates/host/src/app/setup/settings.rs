//! An account's settings as setup writes them: what differs is changed, what somebody added
//! stays.

use std::path::{Path, PathBuf};

use postrider_config::edit::{self, Change};
use postrider_config::{Account, Presets, Surroundings, candidates};
use postrider_setup::{CredentialKind, SecretName, Wanted};
use serde_json::{Map, Value, json};

use super::journal::Journal;
use super::place::Place;
use crate::app::{AppSettings, edit_failure, problems_failure};
use crate::failure::Failure;

/// What an application may prove itself with: of these an account keeps what setup says, and no
/// other.
const CREDENTIALS: [&str; 4] = ["client_secret", "certificate", "private_key", "assertion"];

/// The file that setup writes to: the one that there is; else, where the user's settings are, or
/// the system's for root.
pub fn config_path(settings: &AppSettings) -> PathBuf {
    let surroundings = Surroundings::of_process();
    let explicit = settings.config.as_deref();
    let found = postrider_config::find(explicit, &surroundings);
    let is_root = rustix::process::geteuid().is_root();
    let path = found.unwrap_or_else(|| {
        let mut places = candidates(explicit, &surroundings);
        let system = places.pop().unwrap_or_default();
        match surroundings.user_dir {
            Some(_) if !is_root => places.pop().unwrap_or(system),
            _ => system,
        }
    });
    std::path::absolute(&path).unwrap_or(path)
}

/// The table of a Microsoft 365 account.
///
/// `client_id` is a stand-in until the application is known. Secrets are referred to by their
/// names in the vault.
pub fn microsoft365(
    wanted: &Wanted,
    place: &Place,
    tenant: &str,
    client_id: &str,
    test_recipient: Option<&str>,
    scopes: &[String],
) -> Value {
    let mut account = Map::new();
    let mut set = |name: &str, value: Value| account.insert(name.to_owned(), value);
    set("provider", place.provider.into());
    set("username", wanted.username.as_str().into());
    if let Some(sender) = &wanted.sender {
        set("sender", sender.as_str().into());
    }
    if wanted.on_behalf {
        set("on_behalf", true.into());
    }
    if let Some(recipient) = test_recipient {
        set("test_recipient", recipient.into());
    }
    if let Some((host, port)) = &place.server {
        let server = json!({ "host": host, "port": port, "tls": "starttls" });
        set("server", server);
    }
    if let Some(ca_file) = &place.ca_file {
        set("ca_file", ca_file.display().to_string().into());
    }
    set("auth", auth(wanted, place, tenant, client_id, scopes));
    Value::Object(account)
}

fn auth(wanted: &Wanted, place: &Place, tenant: &str, client_id: &str, scopes: &[String]) -> Value {
    let mut auth = Map::new();
    let mut set = |name: &str, value: Value| auth.insert(name.to_owned(), value);
    set("plugin", "oauth".into());
    set("flow", wanted.flow.as_str().into());
    if place.own_authority {
        let authority = place.authority.as_str().trim_end_matches('/');
        set("authority", authority.into());
    }
    set("tenant", tenant.into());
    set("client_id", client_id.into());
    if !scopes.is_empty() {
        set("scopes", scopes.into());
    }
    let kept: &[SecretName] = match wanted.credential {
        CredentialKind::None => &[],
        CredentialKind::Secret { .. } => &[SecretName::ClientSecret],
        CredentialKind::Certificate { .. } => &[SecretName::Certificate, SecretName::PrivateKey],
    };
    for secret in kept {
        let name = Journal::secret_name(&wanted.account, *secret);
        set(secret.as_str(), json!({ "vault": name }));
    }
    Value::Object(auth)
}

/// Whether `account` would be right, before anything is done for it.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str, account: &Value, presets: &Presets) -> Result<Account, Failure> {
    Account::from_value(name, account.clone(), presets)
        .map_err(|problems| problems_failure(name, &problems))
}

/// What to change in the file at `path` so that it has `account` under `name`; nothing where it
/// has it.
///
/// # Errors
/// The file cannot be read.
pub fn changes(path: &Path, name: &str, account: &Value) -> Result<Vec<Change>, Failure> {
    let key = format!("account.{name}");
    let there = edit::get(path, &key).map_err(|error| edit_failure(&error))?;
    let Some(there) = there else {
        let value = account.clone();
        return Ok(vec![Change::Set { key, value }]);
    };
    let mut changes = Vec::new();
    compare(&key, &there, account, &mut changes);
    for credential in CREDENTIALS {
        let holds = |value: &Value| value["auth"].get(credential).is_some();
        if holds(&there) && !holds(account) {
            let key = format!("{key}.auth.{credential}");
            changes.push(Change::Remove { key });
        }
    }
    Ok(changes)
}

/// Changes the file; one that is not there is made, readable by its owner only.
///
/// # Errors
/// It was not changed, and why.
pub fn write(path: &Path, changes: &[Change]) -> Result<(), Failure> {
    edit::apply(path, changes, &Presets::builtin()).map_err(|error| edit_failure(&error))
}

fn compare(key: &str, there: &Value, wanted: &Value, changes: &mut Vec<Change>) {
    let empty = Map::new();
    let there = there.as_object().unwrap_or(&empty);
    for (name, value) in wanted.as_object().unwrap_or(&empty) {
        let key = format!("{key}.{name}");
        match there.get(name) {
            Some(same) if same == value => {}
            // Only the account's own tables are gone into: a reference is replaced whole.
            Some(below @ Value::Object(_)) if matches!(&**name, "auth" | "server") => {
                compare(&key, below, value, changes);
            }
            _ => changes.push(Change::Set {
                key,
                value: value.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = r#"# mine
[account.alerts]
provider = "microsoft365" # ours
username = "a@contoso.com"
timeouts = { connect = "5s" }

[account.alerts.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.com"
client_id = "0f1e2d3c-0000-4000-8000-000000000000"
client_secret = { env = "SECRET" }
"#;

    fn wanted() -> Value {
        json!({
            "provider": "microsoft365",
            "username": "a@contoso.com",
            "auth": {
                "plugin": "oauth",
                "flow": "client_credentials",
                "tenant": "contoso.com",
                "client_id": "0f1e2d3c-0000-4000-8000-000000000000",
                "certificate": { "vault": "alerts/certificate" },
                "private_key": { "vault": "alerts/private_key" },
            },
        })
    }

    #[test]
    fn what_differs_is_changed_and_what_was_added_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postrider.toml");
        std::fs::write(&path, FILE).unwrap();

        let first = changes(&path, "alerts", &wanted()).unwrap();
        write(&path, &first).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("# mine") && text.contains("# ours"), "{text}");
        assert!(text.contains("timeouts"), "{text}");
        assert!(!text.contains("client_secret"), "{text}");
        assert!(text.contains("alerts/private_key"), "{text}");
        assert!(changes(&path, "alerts", &wanted()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deeper/postrider.toml");

        let first = changes(&path, "alerts", &wanted()).unwrap();
        write(&path, &first).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = postrider_config::Config::load(&path, &Presets::builtin()).unwrap();
        assert_eq!(loaded.accounts["alerts"].username, "a@contoso.com");
        assert!(changes(&path, "alerts", &wanted()).unwrap().is_empty());
    }
}
