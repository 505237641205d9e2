//! Why a message was not sent: at which stage, for which reason, and with what verdicts.

use std::{error::Error, fmt, io, time::Duration};

use lettre::Address;

use crate::{Class, InvalidOutgoing, Reply, ReplyError, SaslError, Verdict};

/// How much of the server's own challenge a diagnosis may keep.
pub(crate) const MAX_CHALLENGE_OCTETS: usize = 4096;

/// A step of the dialogue, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Name resolution and TCP.
    Connect,
    /// The server's first reply.
    Greeting,
    /// `EHLO`, before or after TLS.
    Ehlo,
    /// `STARTTLS`, up to its reply.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// `AUTH` and its responses.
    Auth,
    /// `MAIL`.
    MailFrom,
    /// `RCPT`.
    RcptTo,
    /// `DATA`, up to its 354.
    Data,
    /// The message itself, up to the verdict on it.
    Message,
    /// `RSET`.
    Reset,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Tls => "TLS",
            Self::Auth => "AUTH",
            Self::MailFrom => "MAIL FROM",
            Self::RcptTo => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "message",
            Self::Reset => "RSET",
        })
    }
}

/// Nobody got the message; with [`SendErrorKind::Unknown`], somebody may have.
#[derive(Debug)]
pub struct SendError {
    /// How far the dialogue had come.
    pub stage: Stage,
    /// `host:port`.
    pub server: String,
    /// What happened.
    pub kind: Box<SendErrorKind>,
    /// Verdicts on single recipients, as far as the server's replies decide them; what the
    /// error says holds for every other.
    pub recipients: Vec<(Address, Verdict)>,
}

/// The outcomes that call for different actions.
#[non_exhaustive]
#[derive(Debug)]
pub enum SendErrorKind {
    /// The server's name has no address, or could not be looked up.
    Dns(io::Error),
    /// No address of the server took the connection.
    Connect(io::Error),
    /// No TLS: certificate, version, handshake.
    Tls(TlsFailure),
    /// The connection ended or failed in mid-dialogue.
    Lost(io::Error),
    /// The server did not answer in the time given.
    Timeout(Duration),
    /// The server sent something that is no SMTP.
    Protocol(ReplyError),
    /// The server answered where no answer was due or with a code that has no meaning here.
    Unexpected(Reply),
    /// Octets followed the reply to `STARTTLS` in clear: somebody may be injecting them.
    InjectedBeforeTls,
    /// The server lacks an extension that is needed: `STARTTLS`, `AUTH`, `SMTPUTF8`, `8BITMIME`.
    NotOffered(&'static str),
    /// The message is larger than the server's `SIZE`.
    TooLarge {
        /// The message's size.
        octets: u64,
        /// The server's limit.
        limit: u64,
    },
    /// `AUTH` was refused.
    Auth {
        /// The final reply.
        reply: Reply,
        /// The mechanism that was refused.
        mechanism: String,
        /// What came in a 334 before it, decoded: some providers explain themselves there.
        challenge: Option<String>,
    },
    /// A streamed message could not be read to its end, so that its end was not sent: the server
    /// does not have it.
    Body(io::Error),
    /// An address that SMTP cannot carry; nothing was sent.
    Invalid(InvalidOutgoing),
    /// The account's credential was not obtained, or its exchange failed on this side.
    Sasl(SaslError),
    /// The server refused: the sender, every recipient (the first refusal is shown) or the
    /// message.
    Refused(Reply),
    /// The connection was lost after the message had left and before the verdict: it may or
    /// may not be delivered. Sending again may deliver it twice.
    Unknown(String),
    /// The pool has been closed.
    Closed,
}

impl SendError {
    pub(crate) fn new(stage: Stage, server: String, kind: SendErrorKind) -> Self {
        Self {
            stage,
            server,
            kind: Box::new(kind),
            recipients: Vec::new(),
        }
    }

    /// The server's reply, where there was one.
    pub fn reply(&self) -> Option<&Reply> {
        match &*self.kind {
            SendErrorKind::Auth { reply, .. }
            | SendErrorKind::Refused(reply)
            | SendErrorKind::Unexpected(reply) => Some(reply),
            _ => None,
        }
    }

    /// Whether the same message may well pass later, without anybody changing anything, and
    /// cannot arrive twice by that.
    pub fn is_transient(&self) -> bool {
        match &*self.kind {
            SendErrorKind::Dns(_)
            | SendErrorKind::Connect(_)
            | SendErrorKind::Lost(_)
            | SendErrorKind::Body(_)
            | SendErrorKind::Timeout(_) => true,
            SendErrorKind::Auth { reply, .. } | SendErrorKind::Refused(reply) => {
                reply.class() == Class::Transient
            }
            _ => false,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.server, self.stage, self.kind)
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.kind {
            SendErrorKind::Dns(error)
            | SendErrorKind::Connect(error)
            | SendErrorKind::Lost(error)
            | SendErrorKind::Body(error) => Some(error),
            SendErrorKind::Sasl(error) => error.source(),
            _ => None,
        }
    }
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(_) => f.write_str("the server's name could not be resolved"),
            Self::Connect(_) => f.write_str("the server could not be reached"),
            Self::Tls(failure) => failure.fmt(f),
            Self::Lost(_) => f.write_str("the connection was lost"),
            Self::Body(_) => f.write_str("the message could not be read to its end"),
            Self::Timeout(waited) => write!(f, "no answer within {} s", waited.as_secs_f32()),
            Self::Protocol(error) => error.fmt(f),
            Self::Unexpected(reply) => write!(f, "unexpected reply: {reply}"),
            Self::InjectedBeforeTls => f.write_str(
                "the server sent more than its reply to STARTTLS before TLS began; \
                             refused, for anybody may have added it",
            ),
            Self::NotOffered(extension) => write!(f, "the server does not offer {extension}"),
            Self::TooLarge { octets, limit } => {
                write!(
                    f,
                    "the message has {octets} octets, the server takes {limit}"
                )
            }
            Self::Auth {
                reply, mechanism, ..
            } => write!(f, "{mechanism} refused: {reply}"),
            Self::Invalid(error) => error.fmt(f),
            Self::Sasl(error) => error.fmt(f),
            Self::Refused(reply) => write!(f, "refused: {reply}"),
            Self::Unknown(why) => {
                write!(
                    f,
                    "the verdict on the message was lost, it may have been delivered: {why}"
                )
            }
            Self::Closed => f.write_str("the account's sessions have been closed"),
        }
    }
}

/// Why there is no TLS with this server.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet; often the clock here is wrong.
    NotYetValid,
    /// The certificate belongs to another name.
    WrongName {
        /// The name asked for.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The certificate comes from an authority nobody here trusts.
    UnknownAuthority,
    /// The certificate is an authority's own, which no server may present: often one made
    /// with a single command, trusted or not.
    AuthorityAsServer,
    /// The server speaks nothing newer than TLS 1.1.
    OldVersion,
    /// The host is neither a name nor an address that a certificate can carry.
    BadHost(String),
    /// The other side closed or failed in the handshake.
    Aborted(String),
    /// Anything else, in rustls's words.
    Other(String),
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the server's certificate has expired"),
            Self::NotYetValid => f.write_str("the server's certificate is not valid yet"),
            Self::WrongName {
                expected,
                presented,
            } if presented.is_empty() => {
                write!(f, "the server's certificate is not for {expected}")
            }
            Self::WrongName {
                expected,
                presented,
            } => {
                let some: Vec<_> = presented.iter().take(5).map(String::as_str).collect();
                write!(
                    f,
                    "the server's certificate is not for {expected} but for {}",
                    some.join(", ")
                )
            }
            Self::UnknownAuthority => f.write_str(
                "the server's certificate is not from an authority that is trusted here",
            ),
            Self::AuthorityAsServer => f.write_str(
                "the server presents an authority's own certificate: \
                 issue a server certificate from it",
            ),
            Self::OldVersion => f.write_str("the server offers no TLS 1.2 or later"),
            Self::BadHost(host) => write!(
                f,
                "{host:?} is not a name a certificate can be checked against"
            ),
            Self::Aborted(why) => write!(f, "the TLS handshake broke off: {why}"),
            Self::Other(why) => write!(f, "the TLS handshake failed: {why}"),
        }
    }
}
