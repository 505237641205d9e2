//! What each mechanism puts on the wire.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use md5::Md5;
use schemars::JsonSchema;
use serde::Deserialize;

/// A SASL mechanism for passwords, by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "LOGIN")]
    Login,
    #[serde(rename = "CRAM-MD5")]
    CramMd5,
}

impl Mechanism {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Login, Self::CramMd5];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
        }
    }
}

/// The message of PLAIN (RFC 4616 §2).
pub(crate) fn plain(authzid: &str, user: &str, password: &str) -> Vec<u8> {
    // Sized at once: a vector that grows leaves copies of the password behind.
    let mut message = Vec::with_capacity(authzid.len() + user.len() + password.len() + 2);
    message.extend_from_slice(authzid.as_bytes());
    message.push(0);
    message.extend_from_slice(user.as_bytes());
    message.push(0);
    message.extend_from_slice(password.as_bytes());
    message
}

/// The answer of CRAM-MD5 (RFC 2195 §2): the name, and the challenge's keyed digest in hex.
pub(crate) fn cram_md5(user: &str, password: &str, challenge: &[u8]) -> String {
    let mut mac = Hmac::<Md5>::new_from_slice(password.as_bytes())
        .expect("HMAC takes a key of any length (RFC 2104 §2)");
    mac.update(challenge);
    let mut answer = format!("{user} ");
    for octet in mac.finalize().into_bytes() {
        write!(answer, "{octet:02x}").expect("writing to a string");
    }
    answer
}
