//! What a plugin says of itself, checked before anything relies on it.

use std::collections::BTreeSet;

use jsonschema::Validator;
use postrider_plugin::wire::Description;
use serde_json::Value;

use super::LoadError;
use crate::flow::hosts;
use crate::scrub::one_line;

const VERSION_CHARS: usize = 64;
const SUMMARY_CHARS: usize = 200;
const MECHANISMS: usize = 16;
const HOSTS: usize = 64;

/// Marks a property of the schema as a secret setting.
const SECRET: &str = "x-postrider-secret";

/// The description in `octets`, and what checks settings by its schema: building that takes
/// longer than all the rest.
pub(super) fn parse(octets: &[u8]) -> Result<(Description, Validator), LoadError> {
    let bad = |reason: String| LoadError::Description {
        reason: one_line(&reason, 500),
    };
    let mut description: Description =
        serde_json::from_slice(octets).map_err(|error| bad(error.to_string()))?;
    if !is_name(&description.name) {
        return Err(bad(format!(
            "{:?} is no plugin name (a-z, 0-9, - and _, at most 64)",
            one_line(&description.name, 64)
        )));
    }
    if description.ops.is_empty() {
        return Err(bad("it implements no operation".into()));
    }
    if description.mechanisms.len() > MECHANISMS {
        return Err(bad(format!("more than {MECHANISMS} SASL mechanisms")));
    }
    if let Some(other) = description
        .mechanisms
        .iter()
        .find(|name| !is_mechanism(name))
    {
        return Err(bad(format!(
            "{other:?} is no SASL mechanism name (RFC 4422)"
        )));
    }
    if description.hosts.len() > HOSTS {
        return Err(bad(format!("more than {HOSTS} hosts")));
    }
    for template in &description.hosts {
        hosts::check_template(template).map_err(|reason| bad(format!("hosts: {reason}")))?;
    }
    let schema = description.config_schema.as_value();
    if !schema.is_object() {
        return Err(bad("config_schema is no JSON object".into()));
    }
    let validator = jsonschema::draft202012::new(schema)
        .map_err(|error| bad(format!("config_schema: {error}")))?;
    if marks(schema) != secret_names(schema).len() {
        return Err(bad(format!(
            "config_schema: {SECRET} is for the settings themselves, not for what lies in one"
        )));
    }
    description.version = one_line(&description.version, VERSION_CHARS);
    description.summary = one_line(&description.summary, SUMMARY_CHARS);
    Ok((description, validator))
}

/// The settings that `schema` declares secret.
pub(crate) fn secret_names(schema: &Value) -> BTreeSet<String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return BTreeSet::new();
    };
    properties
        .iter()
        .filter(|(_, property)| is_marked(property))
        .map(|(name, _)| name.clone())
        .collect()
}

fn is_marked(schema: &Value) -> bool {
    schema.get(SECRET) == Some(&Value::Bool(true))
}

/// How often the mark stands in `schema`, however deep. Below a setting nobody would heed
/// it, and the secret would be kept in plain sight.
fn marks(schema: &Value) -> usize {
    let below: usize = match schema {
        Value::Object(members) => members.values().map(marks).sum(),
        Value::Array(items) => items.iter().map(marks).sum(),
        _ => 0,
    };
    below + usize::from(is_marked(schema))
}

/// Whether `name` may name a plugin: it becomes part of a file name and a config key.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// RFC 4422 §3.1.
fn is_mechanism(name: &str) -> bool {
    (1..=20).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain() -> Value {
        json!({
            "name": "x", "version": "1", "ops": ["sasl"], "mechanisms": ["PLAIN"],
            "hosts": ["login.example", "{authority}"],
            "config_schema": {"type": "object", "properties": {
                "user": {"type": "string"},
                "password": {"type": "string", "x-postrider-secret": true}}},
            "something_newer": 1
        })
    }

    fn refusal(value: &Value) -> String {
        parse(value.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_description_passes_and_unknown_keys_are_ignored() {
        let (description, _) = parse(plain().to_string().as_bytes()).unwrap();
        assert_eq!(description.name, "x");
        let secrets = secret_names(description.config_schema.as_value());
        assert_eq!(Vec::from_iter(secrets), ["password"]);
    }

    #[test]
    fn each_defect_is_named() {
        for (key, value, told) in [
            ("name", json!("../x"), "no plugin name"),
            ("name", json!(""), "no plugin name"),
            ("ops", json!([]), "no operation"),
            ("ops", json!(["fly"]), "unknown variant"),
            ("mechanisms", json!(["PL AIN"]), "no SASL mechanism"),
            ("mechanisms", json!(vec!["A"; 17]), "more than 16"),
            ("hosts", json!(["https://x/path"]), "hosts"),
            ("hosts", json!(vec!["a"; 65]), "more than 64"),
            ("config_schema", json!(true), "no JSON object"),
            (
                "config_schema",
                json!({"type": "nonsense"}),
                "config_schema",
            ),
            (
                "config_schema",
                json!({"$ref": "file:///etc/hostname"}),
                "config_schema",
            ),
            (
                "config_schema",
                json!({"properties": {"login": {"properties": {
                    "password": {"type": "string", "x-postrider-secret": true}}}}}),
                "x-postrider-secret",
            ),
        ] {
            let mut description = plain();
            description[key] = value;
            let message = refusal(&description);
            assert!(message.contains(told), "{key}: {message}");
        }
    }

    #[test]
    fn garbage_is_refused_in_one_bounded_line() {
        let mut garbage = plain();
        garbage["ops"] = json!(["a\nb".repeat(10_000)]);
        for octets in [
            b"".to_vec(),
            b"\xff\xfe".to_vec(),
            garbage.to_string().into_bytes(),
        ] {
            let message = parse(&octets).unwrap_err().to_string();
            assert!(
                message.len() < 2_000 && !message.contains('\n'),
                "{message}"
            );
        }
    }
}
