//! A message on its way out, and what became of it.
//!
//! An [`Outgoing`] holds only what may go on the wire as it is: a body that was checked,
//! addresses that cannot end their command.

use std::{fmt, sync::Arc};

use lettre::Address;

use crate::{
    BodyChecker, BodyFacts, BodySource, Class, Dsn, Reply,
    address::is_safe_path,
    body::{Body, MAX_LINE_OCTETS},
};

/// Who a message is from and for, on the wire (RFC 5321 §2.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where failures go; `None` is the null reverse-path `<>`.
    pub reverse_path: Option<Address>,
    /// At least one.
    pub recipients: Vec<Address>,
}

/// One message with its envelope, ready to be sent as it is.
#[derive(Clone, Debug)]
pub struct Outgoing {
    envelope: Envelope,
    body: Body,
    message_id: String,
    eight_bit: bool,
    smtputf8: bool,
    dsn: Option<Dsn>,
    all_or_nothing: bool,
}

impl Outgoing {
    /// Checks that envelope and message may go on the wire; adds a CRLF to a last line that
    /// has none.
    pub fn new(
        envelope: Envelope,
        message: impl Into<Vec<u8>>,
        message_id: impl Into<String>,
    ) -> Result<Self, InvalidOutgoing> {
        let mut message = message.into();
        let mut checker = BodyChecker::default();
        checker.push(&message)?;
        let facts = checker.finish()?;
        if facts.unended {
            message.extend_from_slice(b"\r\n");
        }
        Self::checked(
            envelope,
            Body::Memory(message.into()),
            facts,
            message_id.into(),
        )
    }

    /// A message that is read while it is sent. `facts` are a [`BodyChecker`]'s, who saw it.
    ///
    /// # Errors
    ///
    /// Those of the envelope; and a body whose last line has no end, or that is not the one the
    /// facts are about.
    pub fn streamed(
        envelope: Envelope,
        body: Arc<dyn BodySource>,
        facts: BodyFacts,
        message_id: impl Into<String>,
    ) -> Result<Self, InvalidOutgoing> {
        if facts.unended {
            return Err(InvalidOutgoing::Unended);
        }
        if facts.octets != body.len() {
            return Err(InvalidOutgoing::OtherLength {
                checked: facts.octets,
                octets: body.len(),
            });
        }
        Self::checked(
            envelope,
            Body::Streamed(body, facts.octets),
            facts,
            message_id.into(),
        )
    }

    fn checked(
        envelope: Envelope,
        body: Body,
        facts: BodyFacts,
        message_id: String,
    ) -> Result<Self, InvalidOutgoing> {
        if envelope.recipients.is_empty() {
            return Err(InvalidOutgoing::NoRecipients);
        }
        let mut paths = envelope.reverse_path.iter().chain(&envelope.recipients);
        if let Some(bad) = paths.find(|address| !is_safe_path(address)) {
            return Err(InvalidOutgoing::Address(bad.to_string()));
        }
        let mut paths = envelope.reverse_path.iter().chain(&envelope.recipients);
        let ascii = paths.all(|address| AsRef::<str>::as_ref(address).is_ascii());
        Ok(Self {
            envelope,
            body,
            message_id,
            eight_bit: facts.eight_bit,
            smtputf8: facts.non_ascii_header || !ascii,
            dsn: None,
            all_or_nothing: false,
        })
    }

    /// Asks for delivery status notifications, where the server offers them.
    #[must_use]
    pub fn with_dsn(self, dsn: Dsn) -> Self {
        Self {
            dsn: Some(dsn),
            ..self
        }
    }

    /// Sends to nobody unless the server takes every recipient. Costs a round trip.
    #[must_use]
    pub fn all_or_nothing(self) -> Self {
        Self {
            all_or_nothing: true,
            ..self
        }
    }

    /// Who it is from and for.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Header and body as they go on the wire, unless they are streamed.
    pub fn message(&self) -> Option<&Arc<[u8]>> {
        match &self.body {
            Body::Memory(octets) => Some(octets),
            Body::Streamed(..) => None,
        }
    }

    /// The length of header and body together.
    pub fn octets(&self) -> u64 {
        self.body.len()
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    /// The `Message-ID`, with its angle brackets.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Whether the body needs `8BITMIME`.
    pub fn needs_eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Whether an address or a header field needs `SMTPUTF8`.
    pub fn needs_smtputf8(&self) -> bool {
        self.smtputf8
    }

    /// The notifications asked for.
    pub fn dsn(&self) -> Option<&Dsn> {
        self.dsn.as_ref()
    }

    /// Whether one refused recipient stops the message for all.
    pub fn is_all_or_nothing(&self) -> bool {
        self.all_or_nothing
    }
}

/// Why something may not go on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidOutgoing {
    /// The envelope names nobody.
    NoRecipients,
    /// This address cannot stand in a command.
    Address(String),
    /// A line ends in LF without CR.
    BareLf {
        /// Counted from 1.
        line: usize,
    },
    /// A CR stands inside a line.
    BareCr {
        /// Counted from 1.
        line: usize,
    },
    /// A NUL stands in a line.
    Nul {
        /// Counted from 1.
        line: usize,
    },
    /// A line is longer than 998 octets.
    LongLine {
        /// Counted from 1.
        line: usize,
        /// Its length.
        octets: usize,
    },
    /// The last line of a streamed message has no CRLF.
    Unended,
    /// A streamed message is longer or shorter than the one that was checked.
    OtherLength {
        /// How many octets were checked.
        checked: u64,
        /// How many there are.
        octets: u64,
    },
}

impl fmt::Display for InvalidOutgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecipients => f.write_str("no recipients"),
            Self::Address(address) => write!(f, "not an address that SMTP can carry: {address:?}"),
            Self::BareLf { line } => write!(f, "line {line} ends in LF without CR"),
            Self::BareCr { line } => write!(f, "line {line} holds a CR that does not end it"),
            Self::Nul { line } => write!(f, "line {line} holds a NUL"),
            Self::LongLine { line, octets } => {
                write!(
                    f,
                    "line {line} has {octets} octets, more than {MAX_LINE_OCTETS}"
                )
            }
            Self::Unended => f.write_str("the last line has no end"),
            Self::OtherLength { checked, octets } => {
                write!(f, "{octets} octets, where {checked} were checked")
            }
        }
    }
}

impl std::error::Error for InvalidOutgoing {}

/// What became of the message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server took responsibility for it.
    Accepted(Reply),
    /// Not now (4xx): another attempt may pass.
    Retry(Reply),
    /// Not like this (5xx).
    Rejected(Reply),
    /// The connection was lost before the verdict: it may or may not be delivered.
    Unknown(String),
}

impl Verdict {
    /// The verdict that a refusal means.
    pub(crate) fn refused(reply: Reply) -> Self {
        if reply.class() == Class::Transient {
            Self::Retry(reply)
        } else {
            Self::Rejected(reply)
        }
    }

    /// Whether the server took the message for this recipient.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }

    /// The reply behind it.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Accepted(reply) | Self::Retry(reply) | Self::Rejected(reply) => Some(reply),
            Self::Unknown(_) => None,
        }
    }
}

/// The server took the message for at least one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The `Message-ID`, with its angle brackets.
    pub message_id: String,
    /// Each recipient of the envelope, in its order: accepted, or refused by name.
    pub recipients: Vec<(Address, Verdict)>,
    /// The server's reply to the message itself; often holds its queue id.
    pub reply: Reply,
}

impl Receipt {
    /// Whether every recipient was accepted.
    pub fn is_complete(&self) -> bool {
        self.recipients
            .iter()
            .all(|(_, verdict)| verdict.is_accepted())
    }

    /// The recipients that were not accepted.
    pub fn refused(&self) -> impl Iterator<Item = &(Address, Verdict)> {
        self.recipients
            .iter()
            .filter(|(_, verdict)| !verdict.is_accepted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let address = |text: &str| text.parse().unwrap();
        Envelope {
            reverse_path: Some(address("a@example.org")),
            recipients: vec![address("b@example.net")],
        }
    }

    fn outgoing(message: &str) -> Result<Outgoing, InvalidOutgoing> {
        Outgoing::new(envelope(), message, "<1@example.org>")
    }

    fn octets(outgoing: Result<Outgoing, InvalidOutgoing>) -> Vec<u8> {
        outgoing.unwrap().message().unwrap().to_vec()
    }

    #[test]
    fn only_canonical_lines_pass() {
        assert!(outgoing("Subject: x\r\n\r\nbody\r\n").is_ok());
        assert_eq!(
            outgoing("a: b\r\n\r\nlf\n").unwrap_err(),
            InvalidOutgoing::BareLf { line: 3 }
        );
        assert_eq!(
            outgoing("a: b\r\nx\ry\r\n").unwrap_err(),
            InvalidOutgoing::BareCr { line: 2 }
        );
        assert_eq!(
            outgoing("a: \0\r\n").unwrap_err(),
            InvalidOutgoing::Nul { line: 1 }
        );
        assert_eq!(
            outgoing("ends in cr\r").unwrap_err(),
            InvalidOutgoing::BareCr { line: 1 }
        );
        assert!(outgoing(&"x".repeat(998)).is_ok());
        assert_eq!(
            outgoing(&"x".repeat(999)).unwrap_err(),
            InvalidOutgoing::LongLine {
                line: 1,
                octets: 999
            }
        );
    }

    #[test]
    fn the_last_line_is_ended() {
        assert_eq!(octets(outgoing("a: b\r\n\r\nend")), b"a: b\r\n\r\nend\r\n");
        assert_eq!(octets(outgoing("")), b"");
    }

    #[test]
    fn what_the_message_needs_is_seen_in_it() {
        let plain = outgoing("a: b\r\n\r\nplain\r\n").unwrap();
        assert!(!plain.needs_eight_bit() && !plain.needs_smtputf8());
        let body = outgoing("a: b\r\n\r\nümlaut\r\n").unwrap();
        assert!(body.needs_eight_bit() && !body.needs_smtputf8());
        assert!(outgoing("a: ü\r\n\r\nplain\r\n").unwrap().needs_smtputf8());
        let mut envelope = envelope();
        envelope
            .recipients
            .push("jörg@example.net".parse().unwrap());
        assert!(
            Outgoing::new(envelope, "a: b\r\n", "")
                .unwrap()
                .needs_smtputf8()
        );
    }

    #[test]
    fn an_address_that_would_end_its_command_is_refused() {
        let mut envelope = envelope();
        envelope
            .recipients
            .push(Address::new_dangerous("x>\r\nDATA\r\n<x", "example.net"));
        assert!(matches!(
            Outgoing::new(envelope, "", ""),
            Err(InvalidOutgoing::Address(_))
        ));
    }
}
