//! One SASL exchange (RFC 4422).
use crate::error::{AuthError, AuthErrorKind};

/// One SASL exchange, its octets made by the plugin.
#[derive(Debug)]
pub struct SaslFlow {
    account: String,
    mechanism: String,
    initial_response: Option<Vec<u8>>,
    generation: u64,
}

impl SaslFlow {
    /// The mechanism to name in `AUTH`.
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// The initial response, not yet in base64.
    pub fn initial_response(&self) -> Option<&[u8]> {
        self.initial_response.as_deref()
    }

    /// The generation of the token in use; 0 where the plugin uses none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The answer to the server's challenge, both not in base64.
    pub async fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, AuthError> {
        let _ = challenge;
        Err(AuthError::new(
            &self.account,
            AuthErrorKind::Unsupported,
            "not built yet",
        ))
    }
}
