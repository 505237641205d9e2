//! How much, how long and how soon: Exchange's limits, the life of tokens, and how fast Graph
//! shows what is new.

use serde::{Deserialize, Serialize};

use super::Span;

/// Exchange's limits. The defaults are Exchange Online's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Messages a minute and mailbox; 0: no limit.
    pub messages_per_minute: u32,
    /// What happens to messages above that rate. Microsoft's documents contradict each other.
    pub over_rate: OverRate,
    /// Whether Send on Behalf alone lets a From pass over SMTP. Nobody has shown that it
    /// does, so what works here does not rest on it.
    pub send_on_behalf: bool,
    /// Parallel senders a mailbox; 0: no limit.
    pub connections: u32,
    /// Recipients of one message.
    pub recipients_per_message: u32,
    /// Recipients a mailbox may write to in a rolling 24 hours.
    pub recipients_per_day: u32,
    /// Largest message the server takes, as its `SIZE` says.
    pub message_octets: u64,
    /// Largest message a mailbox may send unless it has its own `MaxSendSize`.
    pub mailbox_message_octets: u64,
    /// An idle session is closed after this. Five minutes are those of inbound hosts; the figure
    /// for submission is unconfirmed.
    pub idle_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_minute: 30,
            over_rate: OverRate::default(),
            send_on_behalf: false,
            connections: 3,
            recipients_per_message: 500,
            recipients_per_day: 10_000,
            message_octets: 157_286_400,
            // 35 MB counts the message before it is encoded for transfer; base64 and line
            // ends make 4/3 and a little of it.
            mailbox_message_octets: 50_331_648,
            idle_timeout: Span::minutes(5),
        }
    }
}

/// What happens to messages above the rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverRate {
    /// A temporary refusal.
    #[default]
    Refuse,
    /// The reply comes late.
    Delay,
}

/// Lifetimes of tokens and the rotation of refresh tokens. The defaults are Entra's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenPolicy {
    /// Shortest life of an access token.
    pub access_min: Span,
    /// Longest life of an access token; each one's is chosen between the two.
    pub access_max: Span,
    /// A refresh token dies this long after it was issued or last used.
    pub refresh_inactive: Span,
    /// Life of an authorization code.
    pub code: Span,
    /// Life of a device code.
    pub device_code: Span,
    /// How often a device may poll.
    pub device_interval: Span,
    /// Answers carry `refresh_in`, this share (percent) of the lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_in_percent: Option<u8>,
    /// What becomes of a refresh token once it was used.
    pub rotation: Rotation,
    /// Under [`Rotation::Strict`]: a used one still works for this long.
    pub reuse_grace: Span,
}

impl Default for TokenPolicy {
    fn default() -> Self {
        Self {
            access_min: Span::minutes(60),
            access_max: Span::minutes(90),
            refresh_inactive: Span::days(90),
            code: Span::minutes(10),
            device_code: Span::seconds(900),
            device_interval: Span::seconds(5),
            refresh_in_percent: None,
            rotation: Rotation::default(),
            reuse_grace: Span::seconds(0),
        }
    }
}

/// What becomes of a refresh token once it was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// A new one comes back, the old stays valid: Entra.
    #[default]
    KeepOld,
    /// A new one comes back; using the old one again revokes the whole grant (RFC 9700 §4.14.2).
    Strict,
    /// The same one stays.
    None,
}

/// How Graph behaves. The default shows everything at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphRules {
    /// For how long a new object is not found yet, by the sandbox's clock: at Graph, and its app
    /// or secret at the token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Span>,
    /// How many times it is looked for in vain first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_requests: Option<u32>,
}
