//! A pasted text explained: every refusal that is in it, in the order it stands there.

use serde::Serialize;

use crate::meaning::{Diagnosis, Subject};
use crate::{aadsts_code, oauth, smtp};

/// A refusal found in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What kind of refusal it is.
    pub kind: Kind,
    /// As it stands in the text: bounded, control characters escaped, secrets masked.
    pub original: String,
    /// What it means; `known` in it is false where nothing but its class is known.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
}

/// What a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A reply of a mail server.
    Smtp,
    /// An error of a token or authorization endpoint.
    Oauth,
    /// An error of Microsoft Graph.
    Graph,
    /// Trouble with DNS, TCP or TLS.
    Network,
    /// A code of Postrider's own.
    Postrider,
    /// Nothing in the text was recognised.
    Unknown,
}

/// Every refusal in `text`.
pub fn explain(text: &str, subject: Subject<'_>) -> Vec<Explained> {
    let text = text.trim();
    let original: String = text.chars().take(500).collect();
    let original = original.escape_debug().to_string();
    if aadsts_code(text).is_some() {
        let diagnosis = oauth("", None, Some(text), subject);
        return vec![Explained {
            kind: Kind::Oauth,
            original,
            diagnosis,
        }];
    }
    let mut words = text.splitn(3, [' ', '-']);
    let reply = words.next().and_then(|code| code.parse().ok());
    let enhanced = words.next();
    let diagnosis = smtp(reply.unwrap_or_default(), enhanced, text, subject);
    vec![Explained {
        kind: if reply.is_some() {
            Kind::Smtp
        } else {
            Kind::Unknown
        },
        original,
        diagnosis,
    }]
}
