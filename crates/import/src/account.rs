//! An account as it is imported.

use std::time::SystemTime;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::left::Place;

/// An account.
#[derive(Debug)]
pub struct ImportedAccount {
    /// What it is called.
    pub name: String,
    /// Where it stands in the file.
    pub place: Place,
    /// The keys of `[account.NAME]`. Secrets are referred to, never here.
    pub settings: Map<String, Value>,
    /// What the settings refer to in the vault.
    pub secrets: Vec<ImportedSecret>,
    /// A sign-in that goes on.
    pub tokens: Option<ImportedTokens>,
}

/// A secret for the vault.
#[derive(Debug)]
pub struct ImportedSecret {
    /// What it is called there.
    pub name: String,
    /// The secret.
    pub value: SecretString,
}

/// A sign-in that somebody made for the mailer that is left.
#[derive(Debug)]
pub struct ImportedTokens {
    /// What fetches the next access token.
    pub refresh_token: SecretString,
    /// When the last access token ends or ended, where the file says.
    pub access_expires_at: Option<SystemTime>,
}

impl ImportedAccount {
    pub(crate) fn new(name: String, place: Place) -> Self {
        Self {
            name,
            place,
            settings: Map::new(),
            secrets: Vec::new(),
            tokens: None,
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.settings.insert(key.to_owned(), value.into());
    }

    /// A key of `[account.NAME.auth]`.
    pub(crate) fn set_auth(&mut self, key: &str, value: impl Into<Value>) {
        let auth = self.settings.entry("auth").or_insert_with(|| json!({}));
        if let Some(auth) = auth.as_object_mut() {
            auth.insert(key.to_owned(), value.into());
        }
    }

    /// Puts `value` into the vault, and a reference to it into `auth`.
    pub(crate) fn keep(&mut self, key: &str, value: SecretString) {
        let name = format!("{}/{key}", self.name);
        self.set_auth(key, json!({ "vault": name }));
        self.secrets.push(ImportedSecret { name, value });
    }

    /// Who signs in.
    pub fn username(&self) -> &str {
        self.settings
            .get("username")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether a person signs in to it.
    pub fn needs_person(&self) -> bool {
        let flow = self.settings.get("auth").and_then(|auth| auth.get("flow"));
        flow.is_some_and(|flow| flow != "client_credentials")
    }
}
