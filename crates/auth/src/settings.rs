//! What an account tells its plugin: settings, and where its secrets come from.

use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Map, Value};

/// Where secret settings come from when a plugin asks for them.
pub trait SecretSource: Send + Sync {
    /// The secret setting of this name, or why it is not to be had. May block: it is called
    /// on a thread where that is allowed.
    fn secret(&self, name: &str) -> Result<SecretString, String>;

    /// The names of the secret settings that are present.
    fn names(&self) -> Vec<String>;
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
}

impl fmt::Debug for InstanceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSettings")
            .field("account", &self.account)
            .field("username", &self.username)
            .field("settings", &self.settings.keys().collect::<Vec<_>>())
            .field("secrets", &self.secrets.names())
            .field("allow_hosts", &self.allow_hosts)
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
