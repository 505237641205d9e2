//! What the configuration lacks of an import, checked as the written file would be: nothing is
//! shown that would be refused afterwards.
//!
//! An account or a gateway that is wrong is left out and said; it keeps no other from being
//! imported. What is there under the same name is never replaced.

use std::path::Path;

use postrider_config::Presets;
use postrider_config::edit::{self, Change, EditError};
use postrider_import::{Imported, ImportedAccount, ImportedGateway, NotCarried};
use serde_json::{Map, Value};

use crate::app::{App, AppSettings, World, edit_failure, gateway, setup};
use crate::failure::Failure;

/// What to write of `imported` into the file at `path`, whose settings are `app`'s. What cannot
/// be written is taken out.
///
/// # Errors
/// Something else stands there under a name, or the file would not be right whatever is left out.
pub(super) fn fit(
    imported: &mut Imported,
    path: &Path,
    app: &App,
    settings: &AppSettings,
) -> Result<Vec<Change>, Failure> {
    let presets = Presets::builtin();
    let Imported {
        accounts,
        gateways,
        not_carried,
        ..
    } = imported;
    accounts.retain(|account| match check(account, app, &presets) {
        Ok(()) => true,
        Err(failure) => {
            let what = format!("account {}", account.name);
            let instead = failure.remedy.as_deref().unwrap_or("postrider setup");
            let place = account.place.clone();
            not_carried.push(left(place, what, &failure.message, Some(instead)));
            false
        }
    });
    let mut changes = Vec::new();
    for account in accounts.iter() {
        let value = Value::Object(account.settings.clone());
        changes.extend(missing(path, "account", &account.name, value)?);
    }
    edit::preview(path, &changes, &presets).map_err(|error| edit_failure(&error))?;

    let mut kept = Vec::new();
    for mut gateway in std::mem::take(gateways) {
        let place = gateway.place.clone();
        let what = format!("gateway {}", gateway.name);
        if !has_account(&mut gateway, accounts) {
            let why = "its account was not imported";
            not_carried.push(left(place, what, why, None));
            continue;
        }
        // As if nothing were there: what is, is compared once it is known what is wanted.
        let key = format!("gateway.{}", gateway.name);
        let value = table(&gateway);
        changes.push(Change::Set { key, value });
        let config = edit::preview(path, &changes, &presets);
        changes.pop();
        let config = match config {
            Ok(config) => config,
            Err(EditError::Invalid(errors)) => {
                let problem = errors.problems.first();
                let why = problem.map_or("", |problem| &problem.message);
                let instead = problem.and_then(|problem| problem.suggestion.as_deref());
                not_carried.push(left(place, what, why, instead));
                continue;
            }
            Err(error) => return Err(edit_failure(&error)),
        };
        let app = App::with_config(settings, config, World::outside());
        let checked = app.config().gateways.get(&gateway.name);
        if let Some(Err(failure)) = checked.map(|it| gateway::check(it, &app, settings)) {
            let what = format!("the certificate of {what}");
            let instead = "the gateway makes one of its own; put another in its place, and set \
                           certificate and key";
            not_carried.push(left(place, what, &failure.message, Some(instead)));
            gateway.settings.shift_remove("certificate");
            gateway.settings.shift_remove("key");
        }
        changes.extend(missing(path, "gateway", &gateway.name, table(&gateway))?);
        kept.push(gateway);
    }
    *gateways = kept;
    Ok(changes)
}

fn left(
    place: postrider_import::Place,
    what: String,
    why: &str,
    instead: Option<&str>,
) -> NotCarried {
    NotCarried {
        place,
        what,
        why: why.to_owned(),
        instead: instead.map(str::to_owned),
    }
}

/// As `postrider check` does it.
fn check(account: &ImportedAccount, app: &App, presets: &Presets) -> Result<(), Failure> {
    let value = Value::Object(account.settings.clone());
    let account = setup::check(&account.name, &value, presets)?;
    app.check_settings(&account)
}

/// Whether there is an account left that `gateway` can send through. Devices without go.
fn has_account(gateway: &mut ImportedGateway, accounts: &[ImportedAccount]) -> bool {
    let is_there = |settings: &Map<String, Value>| {
        let name = settings.get("account").and_then(Value::as_str);
        name.is_none_or(|name| accounts.iter().any(|account| account.name == name))
    };
    gateway.devices.retain(|device| is_there(&device.settings));
    if is_there(&gateway.settings) {
        return true;
    }
    let mut others = gateway.devices.iter();
    let other = others.find_map(|device| device.settings.get("account").cloned());
    let Some(other) = other else {
        return false;
    };
    gateway.settings.insert("account".to_owned(), other);
    true
}

/// A gateway as it is written.
fn table(gateway: &ImportedGateway) -> Value {
    let mut settings = gateway.settings.clone();
    let devices = gateway.devices.iter();
    let devices: Map<String, Value> = devices
        .filter(|device| !device.settings.is_empty())
        .map(|device| (device.name.clone(), Value::Object(device.settings.clone())))
        .collect();
    if !devices.is_empty() {
        settings.insert("device".to_owned(), Value::Object(devices));
    }
    Value::Object(settings)
}

/// What writes `value` as `[table.name]`; none where it stands there.
fn missing(path: &Path, table: &str, name: &str, value: Value) -> Result<Option<Change>, Failure> {
    let key = format!("{table}.{name}");
    let there = edit::get(path, &key).map_err(|error| edit_failure(&error))?;
    let Some(there) = there else {
        return Ok(Some(Change::Set { key, value }));
    };
    let mut differing = Vec::new();
    differences(&key, &there, &value, &mut differing);
    if differing.is_empty() {
        return Ok(None);
    }
    Err(Failure::new(
        "config.exists",
        format!(
            "[{key}] is there already, and its {} is another; nothing was changed",
            differing.join(", ")
        ),
    )
    .with_remedy("import under other names: --account-prefix old-"))
}

/// The keys of `wanted` that `there` has otherwise. What it has besides, somebody added.
fn differences(key: &str, there: &Value, wanted: &Value, found: &mut Vec<String>) {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            for (name, value) in wanted {
                let key = format!("{key}.{name}");
                match there.get(name) {
                    Some(other) => differences(&key, other, value, found),
                    None => found.push(key),
                }
            }
        }
        (there, wanted) if there == wanted => {}
        _ => found.push(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_added_is_no_difference_and_what_was_changed_is() {
        let wanted = json!({ "username": "a", "auth": { "plugin": "basic" } });
        let mut found = Vec::new();
        let more = json!({ "username": "a", "sender": "b", "auth": { "plugin": "basic" } });
        differences("account.x", &more, &wanted, &mut found);
        assert!(found.is_empty(), "{found:?}");
        let other = json!({ "auth": { "plugin": "oauth" } });
        differences("account.x", &other, &wanted, &mut found);
        assert_eq!(found, ["account.x.username", "account.x.auth.plugin"]);
    }
}
