//! What makes two accounts' grants the same, and two OAuth clients.
//!
//! When in doubt they are apart. A plugin's schema says which settings matter, and when an
//! application's token is the application's, whichever mailbox it is used for.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::flow::Context;
use crate::keeper::{ClientKey, GrantIdentity, GrantKey};

/// A schema keyword: the settings that tell grants apart, as a list of names; without it all
/// settings do.
const GRANT: &str = "x-postrider-grant";

/// A schema keyword: the settings that tell OAuth clients apart; without it those that tell
/// grants apart do.
const CLIENT: &str = "x-postrider-client";

/// A schema keyword: accounts whose settings have these values share one grant, whoever
/// signs in. `"x-postrider-shared-grant": {"flow": "client_credentials"}` says that an
/// app-only token is the app's, not the mailbox's.
const SHARED_GRANT: &str = "x-postrider-shared-grant";

/// What tells this account's grant from others.
///
/// A person's grant is theirs by their user name, whatever the account is called. An
/// application's is the application's by which secrets prove it, not by their values: these
/// may change.
pub(super) fn grant_key(context: &Context) -> GrantKey {
    let mut digest = Parts::new("postrider-grant-1", context, &[GRANT]);
    if is_shared(context) {
        digest.secrets(context);
    } else {
        digest.part("username", &context.username.to_lowercase());
    }
    GrantKey(digest.finish())
}

/// What a grant is, besides its key.
pub(super) fn identity(context: &Context) -> GrantIdentity {
    let mut client = Parts::new("postrider-client-1", context, &[CLIENT, GRANT]);
    // Two secrets of one client may differ in whether they are right.
    client.secrets(context);
    let app_only = is_shared(context);
    GrantIdentity {
        account: context.account.as_str().into(),
        username: (!app_only).then(|| context.username.as_str().into()),
        app_only,
        policy: context.policy,
        issuer: context.hosts().into(),
        client: ClientKey(client.finish()),
    }
}

/// Whether the plugin says that accounts with these settings share their grant.
fn is_shared(context: &Context) -> bool {
    let Some(Value::Object(condition)) = keyword(context, SHARED_GRANT) else {
        return false;
    };
    !condition.is_empty()
        && condition
            .iter()
            .all(|(name, value)| context.settings.get(name) == Some(value))
}

fn keyword<'a>(context: &'a Context, name: &str) -> Option<&'a Value> {
    let description = context.plugin.description();
    description.config_schema.as_value().get(name)
}

/// Names with values, on their way into a digest.
struct Parts(Sha256);

impl Parts {
    /// The plugin, and the settings that the first of these keywords names; all where the
    /// schema has none of them.
    fn new(purpose: &str, context: &Context, keywords: &[&str]) -> Self {
        let mut this = Self(Sha256::new());
        this.part("purpose", purpose);
        this.part("plugin", context.plugin.name());
        let list = keywords
            .iter()
            .find_map(|name| keyword(context, name)?.as_array());
        let heeded: Option<BTreeSet<&str>> =
            list.map(|names| names.iter().filter_map(Value::as_str).collect());
        let mut settings: Vec<_> = context.settings.iter().collect();
        settings.sort_by_key(|(name, _)| *name);
        for (name, value) in settings {
            if heeded
                .as_ref()
                .is_none_or(|names| names.contains(name.as_str()))
            {
                this.part(name, &canonical(value));
            }
        }
        this
    }

    fn part(&mut self, name: &str, value: &str) {
        for text in [name, value] {
            self.0.update((text.len() as u64).to_be_bytes());
            self.0.update(text);
        }
    }

    fn secrets(&mut self, context: &Context) {
        let mut names = context.secrets.names();
        names.sort();
        for name in names {
            let identity = context.secrets.identity(&name);
            self.part(&name, &identity);
        }
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// JSON with the keys of every object in order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        plain => plain.to_string(),
    }
}
