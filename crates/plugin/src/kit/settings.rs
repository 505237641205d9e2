//! A plugin's settings: from `create`'s JSON to the author's own type.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::Error;
use crate::abi::ErrorKind;
use crate::wire::Config;

/// A secret setting's place in a settings type: in the schema a string marked
/// `x-postrider-secret`, in `create` nothing. The secret itself comes from
/// [`Io::secret`](super::Io::secret).
///
/// ```
/// # use postrider_plugin::kit::SecretSetting;
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Settings {
///     /// The account's password.
///     #[serde(default)]
///     #[schemars(required)]
///     password: SecretSetting,
/// }
/// let schema = schemars::schema_for!(Settings);
/// assert_eq!(schema.pointer("/properties/password/x-postrider-secret"), Some(&true.into()));
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
    /// The settings as a type; [`ErrorKind::Config`] where they do not fit it.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(&self.settings)
            .map_err(|error| Error::new(ErrorKind::Config, format!("settings: {error}")))
    }
}
