//! The keys of an account, as the configuration describes them, for the checker and the editor.

use postrider_config::KeyReference;
use postrider_lua_api::{SECRET_SETTING, Setting, Type};

/// Below this the configuration lists them.
const ACCOUNT: &str = "account.NAME.";

/// What stands for a secret in the configuration's reference.
const SECRET: &str = "a reference to a secret";

/// Everything that `pr.account{…}` takes besides a `name`.
pub(super) fn settings() -> Vec<Setting> {
    let mut found = Vec::new();
    for key in postrider_config::reference() {
        let Some(below) = key.key.strip_prefix(ACCOUNT).map(str::to_owned) else {
            continue;
        };
        // What only scripts may write: the secret itself.
        let inline = (key.value == SECRET).then(|| Setting {
            key: format!("{below}.inline"),
            plugin: key.plugin,
            what: Type::Text,
            words: Vec::new(),
            doc: "The secret, from a script that holds it.",
        });
        found.push(Setting {
            key: below,
            plugin: key.plugin,
            what: kind(&key),
            words: key.words,
            doc: key.doc,
        });
        found.extend(inline);
    }
    found
}

/// What Lua writes for it. The words are those of the reference, and a test knows them all.
fn kind(key: &KeyReference) -> Type {
    const TEXTS: Type = Type::List(&Type::Text);
    const TEXT_OR_NUMBER: Type = Type::OneOf(&[Type::Text, Type::Number]);
    match key.value {
        "a table" => Type::Table,
        SECRET => SECRET_SETTING,
        "true or false" => Type::Boolean,
        "a whole number" | "a port from 1 to 65535" => Type::Integer,
        value if value.starts_with("an array") => TEXTS,
        value if value.starts_with("a duration") => Type::Duration,
        value if value.contains("a number of") => TEXT_OR_NUMBER,
        _ => Type::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is described as something else than text, and is not known here, would be taken for
    /// text.
    #[test]
    fn every_kind_of_value_is_known() {
        const TEXT: &[&str] = &[
            "a string",
            "a path",
            "an https URL",
            "an https URL without a path",
            "an http://localhost or https URL",
            "one of a few words",
            "a host name or an IP address",
            "a domain or an address literal",
            "a tenant's id or domain",
            "the name of a provider",
            "a mail address, with or without a display name",
            "a day like \"2027-03-01\" or a time like \"2027-03-01T09:00:00Z\"",
        ];
        let keys = postrider_config::reference();
        for key in keys.iter().filter(|key| key.key.starts_with(ACCOUNT)) {
            assert_eq!(
                matches!(kind(key), Type::Text),
                TEXT.contains(&key.value),
                "{}: {}",
                key.key,
                key.value
            );
        }
    }

    #[test]
    fn a_secret_of_an_account_may_stand_in_a_script() {
        let settings = settings();
        let inline = settings
            .iter()
            .find(|setting| setting.key == "auth.password.inline");
        assert_eq!(inline.and_then(|setting| setting.plugin), Some("basic"));
    }
}
