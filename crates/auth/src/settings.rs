//! What an account tells its plugin: settings, and where its secrets come from.

use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use postrider_plugin::wire::Description;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::flow::hosts::AllowList;
use crate::keeper::{GrantPolicy, KnownExpiry};
use crate::load::describe::secret_names;
use crate::scrub::{MESSAGE_CHARS, one_line};

const KEY_CHARS: usize = 100;

/// Where secret settings come from when a plugin asks for them.
pub trait SecretSource: Send + Sync {
    /// The secret setting of this name, or why it is not to be had. May block: it is called
    /// on a thread where that is allowed.
    fn secret(&self, name: &str) -> Result<SecretString, String>;

    /// The names of the secret settings that are present.
    fn names(&self) -> Vec<String>;

    /// Which secret the setting of this name refers to, without its value: `env=OPS_SECRET`;
    /// of one whose value is at hand, a digest. What is kept for an application belongs to
    /// the secret by this name, so that its value may change.
    fn identity(&self, name: &str) -> String;
}

/// One account, as its plugin will know it.
#[derive(Clone)]
pub struct InstanceSettings {
    /// The account's name, for messages.
    pub account: String,
    /// Who signs in (RFC 4616 authcid).
    pub username: String,
    /// The plugin's settings, without secrets.
    pub settings: Map<String, Value>,
    /// The secret settings.
    pub secrets: Arc<dyn SecretSource>,
    /// Further hosts the operator allows: `host`, `host:port`, or `http://host:port` where
    /// even plain HTTP is wanted.
    pub allow_hosts: Vec<String>,
    /// What the operator knows of the provider's refresh tokens.
    pub policy: GrantPolicy,
    /// The secrets whose end is known.
    pub expiries: Vec<KnownExpiry>,
}

impl fmt::Debug for InstanceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSettings")
            .field("account", &self.account)
            .field("username", &self.username)
            .field("settings", &self.settings.keys().collect::<Vec<_>>())
            .field("secrets", &self.secrets.names())
            .field("allow_hosts", &self.allow_hosts)
            .field("policy", &self.policy)
            .field("expiries", &self.expiries)
            .finish()
    }
}

/// One thing wrong with an account's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The setting, dotted where it lies deeper; empty for the whole.
    pub key: String,
    /// What is wrong with it, one line that shows no value.
    pub message: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// Everything wrong with `settings` by the schema in `description`, which `validator` is of.
pub(crate) fn check(
    description: &Description,
    validator: &Validator,
    settings: &InstanceSettings,
) -> Result<(), Vec<SettingsProblem>> {
    let schema = description.config_schema.as_value();
    let secret = secret_names(schema);
    let mut problems = Vec::new();
    let mut problem = |key: &str, message: String| {
        problems.push(SettingsProblem {
            key: one_line(key, KEY_CHARS),
            message: one_line(&message, MESSAGE_CHARS),
        });
    };

    for name in settings
        .settings
        .keys()
        .filter(|name| secret.contains(*name))
    {
        problem(name, "is a secret: refer to where it is kept".into());
    }
    let mut instance = settings.settings.clone();
    for name in settings.secrets.names() {
        if !secret.contains(&name) && has_property(schema, &name) {
            problem(&name, "is no secret: give its value".into());
        }
        // Stands for what is not to be known here; what the schema says of its text is not
        // checked, only that it may be there.
        instance.insert(name, Value::from("secret"));
    }

    let instance = Value::Object(instance);
    for error in validator.iter_errors(&instance) {
        let path = error.instance_path().as_str().trim_start_matches('/');
        let top = path.split('/').next().unwrap_or("");
        if secret.contains(top) {
            continue;
        }
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    problem(&dotted(path, name), unknown(schema));
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                problem(&dotted(path, name), "is missing".into());
            }
            _ => problem(
                &dotted(path, ""),
                error.masked_with("the value").to_string(),
            ),
        }
    }

    if let Err(reason) = AllowList::new(
        &description.hosts,
        &settings.settings,
        &settings.allow_hosts,
    ) {
        problem("", reason);
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// A JSON pointer's path, and perhaps a name under it, with dots.
fn dotted(path: &str, name: &str) -> String {
    let mut key = path.replace('/', ".");
    if !key.is_empty() && !name.is_empty() {
        key.push('.');
    }
    key.push_str(name);
    key
}

fn has_property(schema: &Value, name: &str) -> bool {
    schema
        .get("properties")
        .is_some_and(|properties| properties.get(name).is_some())
}

fn unknown(schema: &Value) -> String {
    let names = schema.get("properties").and_then(Value::as_object);
    let names: Vec<&str> = names
        .iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    format!(
        "is no setting of this plugin, which has {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Names(&'static [&'static str]);

    impl SecretSource for Names {
        fn secret(&self, _name: &str) -> Result<SecretString, String> {
            Err("not in this test".into())
        }

        fn names(&self) -> Vec<String> {
            self.0.iter().map(|&name| name.to_owned()).collect()
        }

        fn identity(&self, name: &str) -> String {
            format!("test={name}")
        }
    }

    fn description() -> Description {
        serde_json::from_value(json!({
            "name": "x", "version": "1", "ops": ["sasl"], "hosts": ["{authority}"],
            "config_schema": {
                "type": "object",
                "additionalProperties": false,
                "required": ["tenant", "password"],
                "properties": {
                    "tenant": {"type": "string"},
                    "authority": {"type": "string"},
                    "flow": {"enum": ["a", "b"]},
                    "scopes": {"type": "array", "items": {"type": "string"}},
                    "password": {"type": "string", "minLength": 100, "x-postrider-secret": true}
                }
            }
        }))
        .unwrap()
    }

    fn problems(settings: Value, secrets: &'static [&'static str]) -> Vec<String> {
        let Value::Object(settings) = settings else {
            panic!("an object")
        };
        let settings = InstanceSettings {
            account: "ops".into(),
            username: "ops@example.org".into(),
            settings,
            secrets: Arc::new(Names(secrets)),
            allow_hosts: Vec::new(),
            policy: GrantPolicy::default(),
            expiries: Vec::new(),
        };
        let description = description();
        let validator = jsonschema::draft202012::new(description.config_schema.as_value()).unwrap();
        match check(&description, &validator, &settings) {
            Ok(()) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn settings_that_fit_pass_whatever_the_schema_says_of_a_secrets_text() {
        assert!(problems(json!({"tenant": "t", "flow": "a"}), &["password"]).is_empty());
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_key_and_without_values() {
        let told = problems(
            json!({"tenant": 7, "flow": "hunter2", "scopes": ["s", 5], "tennant": "x"}),
            &[],
        );

        for key in [
            "tenant: ",
            "flow: ",
            "scopes.1: ",
            "tennant: is no setting",
            "password: is missing",
        ] {
            assert!(
                told.iter().any(|told| told.starts_with(key)),
                "{key} in {told:?}"
            );
        }
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(!told.concat().contains("hunter2"));
    }

    #[test]
    fn a_secret_given_as_a_value_and_a_value_given_as_a_secret_are_told_apart() {
        let told = problems(json!({"tenant": "t", "password": "hunter2"}), &["flow"]);

        assert!(
            told.iter()
                .any(|told| told.starts_with("password: is a secret"))
        );
        assert!(
            told.iter()
                .any(|told| told.starts_with("flow: is no secret"))
        );
        assert!(!told.concat().contains("hunter2"));
    }

    #[test]
    fn a_setting_that_should_name_a_host_and_does_not_is_a_problem() {
        let told = problems(json!({"tenant": "t", "authority": "a b"}), &["password"]);
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let mut settings = Map::new();
        settings.insert("tenant".into(), json!("contoso"));
        let settings = InstanceSettings {
            account: "ops".into(),
            username: "ops@example.org".into(),
            settings,
            secrets: Arc::new(Names(&["password"])),
            allow_hosts: Vec::new(),
            policy: GrantPolicy::default(),
            expiries: Vec::new(),
        };
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("tenant") && shown.contains("password") && !shown.contains("contoso")
        );
    }
}
