//! A plugin's settings: from `create`'s JSON to the author's own type.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::Error;
use crate::abi::ErrorKind;
use crate::wire::Config;

/// A secret setting's place in a settings type: in the schema a string marked
/// `x-postrider-secret`, in `create` nothing but its presence. The secret itself comes from
/// [`Io::secret`](super::Io::secret).
///
/// ```
/// # use postrider_plugin::kit::SecretSetting;
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Settings {
///     /// The account's password.
///     password: SecretSetting,
///     /// A second one, where the server wants it.
///     pin: Option<SecretSetting>,
/// }
/// let schema = schemars::schema_for!(Settings);
/// assert_eq!(schema.pointer("/properties/password/x-postrider-secret"), Some(&true.into()));
/// assert_eq!(schema.pointer("/required"), Some(&serde_json::json!(["password"])));
/// ```
///
/// The mark alone does it too, on a field of another type:
/// `#[schemars(extend("x-postrider-secret" = true))]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecretSetting;

impl JsonSchema for SecretSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-postrider-secret": true })
    }
}

impl<'de> Deserialize<'de> for SecretSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Config {
    /// The settings as a type; [`ErrorKind::Config`] where they do not fit it. Secret
    /// settings that are present stand there as empty strings.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut settings = self.settings.clone();
        settings.extend(self.secrets.iter().map(|name| (name.clone(), "".into())));
        T::deserialize(settings)
            .map_err(|error| Error::new(ErrorKind::Config, format!("settings: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        /// Needed.
        #[expect(dead_code, reason = "only its presence is checked")]
        password: SecretSetting,
        /// Not needed.
        pin: Option<SecretSetting>,
    }

    fn config(secrets: &[&str]) -> Config {
        Config {
            account: "test".into(),
            username: "user@example.org".into(),
            settings: serde_json::Map::new(),
            secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
            host_features: vec![],
        }
    }

    #[test]
    fn a_secret_setting_is_present_or_not() {
        let both: Settings = config(&["password", "pin"]).settings().unwrap();
        assert!(both.pin.is_some());
        let one: Settings = config(&["password"]).settings().unwrap();
        assert!(one.pin.is_none());
        let error = config(&[]).settings::<Settings>().err().unwrap();
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(error.detail.message.contains("`password`"), "{error}");
    }

    #[test]
    fn secrets_are_marked_in_the_schema_also_when_optional() {
        let schema = schemars::schema_for!(Settings);
        for name in ["password", "pin"] {
            let property = schema.pointer(&format!("/properties/{name}")).unwrap();
            assert_eq!(
                property["x-postrider-secret"],
                Value::Bool(true),
                "{property}"
            );
        }
        assert_eq!(schema.pointer("/required"), Some(&json!(["password"])));
    }
}
