//! A sign-in that has succeeded and is not stored yet: whoever asked for it looks at who
//! signed in and what was granted first.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use postrider_plugin::wire::Identity;
use serde_json::Value;

use super::{Credential, TokenGrant};
use crate::error::AuthError;
use crate::keeper::{AccessToken, Grant, Obtained};
use crate::scrub::one_line;

/// The longest name of a person that is shown, in characters.
const NAME_CHARS: usize = 320;

/// A sign-in that is not stored yet. Dropping it forgets it.
pub struct PendingLogin {
    credential: Credential,
    grant: Arc<Grant>,
    obtained: Obtained,
}

impl PendingLogin {
    pub(super) fn new(credential: Credential, tokens: &TokenGrant, obtained: Obtained) -> Self {
        Self {
            grant: Arc::clone(&tokens.grant),
            credential,
            obtained,
        }
    }

    /// Who signed in, as far as the provider says.
    pub fn identity(&self) -> Option<&Identity> {
        self.obtained.identity.as_ref()
    }

    /// Scopes granted, separated by spaces; none where the provider says nothing, which
    /// means: those asked for.
    pub fn scope(&self) -> Option<&str> {
        self.obtained.scope.as_deref()
    }

    /// The scopes that the account's settings ask for.
    pub fn requested_scopes(&self) -> Vec<String> {
        match self.credential.shared.context.settings.get("scopes") {
            Some(Value::Array(scopes)) => scopes
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(Value::String(scopes)) => {
                scopes.split_ascii_whitespace().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the access token can be replaced without a person.
    pub fn has_refresh_token(&self) -> bool {
        self.obtained.refresh.is_some()
    }

    /// When the access token expires.
    pub fn expires_at(&self) -> SystemTime {
        self.obtained.requested_at + self.obtained.lifetime
    }

    /// Stores what the sign-in brought, in place of what was there.
    pub async fn keep(self) -> Result<AccessToken, AuthError> {
        let kept = self.grant.adopt(self.obtained).await;
        kept.map_err(|error| self.credential.own(error))
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin")
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

/// `identity`, fit to be shown.
pub(super) fn shown(identity: Identity) -> Identity {
    let line = |text: String| one_line(&text, NAME_CHARS);
    Identity {
        usernames: identity.usernames.into_iter().take(16).map(line).collect(),
        subject: identity.subject.map(line),
        tenant: identity.tenant.map(line),
        name: identity.name.map(line),
        source: identity.source,
    }
}
