//! Faults: what goes wrong on purpose, where, for whom, and how often.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Span;

/// One thing that goes wrong on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub at: FaultPoint,
    /// What happens instead of, or before, the usual answer.
    pub effect: Effect,
    /// Only for this user name, address or client id; absent: for everyone, as it must be
    /// where nobody is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<String>,
    /// How many times; absent: until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// For how long from when a running sandbox takes it on, which makes it
    /// [`until`](Self::until); absent: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// Not from this time on, by the sandbox's clock.
    #[serde(
        default,
        with = "super::values::rfc3339",
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<Timestamp>,
}

impl Fault {
    /// At this place, without an end.
    pub fn new(at: FaultPoint, effect: Effect) -> Self {
        Self {
            at,
            effect,
            only_for: None,
            times: None,
            lasts: None,
            until: None,
        }
    }

    /// Begins to last.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        if let Some(span) = self.lasts.take() {
            let span = SignedDuration::try_from(span.duration()).unwrap_or(SignedDuration::MAX);
            self.until = Some(now.saturating_add(span).unwrap_or(Timestamp::MAX));
        }
    }

    /// Whether it strikes this one now.
    pub(crate) fn strikes(&self, at: FaultPoint, subject: &str, now: Timestamp) -> bool {
        self.at == at
            && self.times != Some(0)
            && self.until.is_none_or(|until| now < until)
            && self
                .only_for
                .as_ref()
                .is_none_or(|only| only.eq_ignore_ascii_case(subject))
    }
}

/// Where a fault strikes. At Entra's points `only_for` names a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultPoint {
    /// Entra: the discovery document.
    Discovery,
    /// Entra: the signing keys.
    Keys,
    /// Entra: the sign-in page.
    Authorize,
    /// Entra: a device code is asked for.
    DeviceCode,
    /// Entra: a token is asked for.
    Token,
    /// Graph: any call; `only_for` names a call as `POST applications/{id}/addPassword`.
    Graph,
    /// SMTP: a connection was opened, before the greeting.
    SmtpConnect,
    /// SMTP: `EHLO`, before or after TLS.
    SmtpEhlo,
    /// SMTP: `STARTTLS`.
    SmtpStarttls,
    /// SMTP: `AUTH`.
    SmtpAuth,
    /// SMTP: `MAIL FROM`.
    SmtpMail,
    /// SMTP: `RCPT TO`; `only_for` names the recipient.
    SmtpRcpt,
    /// SMTP: `DATA`, or the first `BDAT`.
    SmtpData,
    /// SMTP: the whole message has arrived.
    SmtpMessage,
}

impl FaultPoint {
    /// Whether it is known there who asks, before there is an answer.
    pub fn knows_subject(self) -> bool {
        !matches!(
            self,
            Self::Discovery | Self::Keys | Self::SmtpConnect | Self::SmtpEhlo | Self::SmtpStarttls
        )
    }

    /// Whether Entra ID or Graph, rather than Exchange, meets it.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Self::Discovery
                | Self::Keys
                | Self::Authorize
                | Self::DeviceCode
                | Self::Token
                | Self::Graph
        )
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Wait, then go on as usual.
    Delay(Span),
    /// Close the connection without an answer.
    Close,
    /// Keep the connection, and never answer.
    Hang,
    /// HTTP: answer with this error of Entra's.
    Aadsts(AadError),
    /// HTTP: answer with this.
    Http(HttpAnswer),
    /// SMTP: answer with this reply, such as `451 4.7.0 Temporary server error`. A 421 also
    /// closes the session.
    Reply(String),
    /// SMTP, `smtp_ehlo`: `STARTTLS` is not offered.
    HideStarttls,
    /// SMTP, `smtp_starttls`: this text follows the reply to `STARTTLS` in the same packet.
    InjectPlaintext(String),
    /// `smtp_message`: the message is kept, and the connection ends before the reply. `token`:
    /// the tokens are issued, and the connection ends before they are sent. `graph`: the same
    /// with what was made or changed.
    LoseReply,
}

/// An error of Entra's token endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AadError {
    /// The number after `AADSTS`.
    pub code: u32,
    /// OAuth's `error`; absent: what Entra sends with this code, else `invalid_request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `suberror`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suberror: Option<String>,
    /// The text after `AADSTSn: `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A bare HTTP answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// `Retry-After` in seconds, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// What kind of body it is said to be.
    #[serde(default = "plain_text")]
    pub content_type: String,
}

impl Default for HttpAnswer {
    /// An empty 500.
    fn default() -> Self {
        Self {
            status: 500,
            retry_after: None,
            body: String::new(),
            content_type: plain_text(),
        }
    }
}

fn plain_text() -> String {
    "text/plain; charset=utf-8".to_owned()
}
