//! The decisions a server's owner makes, and the words it says them in.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;

use futures_util::future::BoxFuture;

use super::command::{Command, MailCommand, RcptCommand, Verb};
use super::reply::ServerReply;

/// One per connection: decides, and words the replies. [`serve`](super::serve) calls it
/// in the order of RFC 5321 only, so a handler need not check sequence.
pub trait Handler: Send {
    /// Where a message's octets go while they arrive.
    type Body: BodySink;

    /// The first reply. 220 welcomes; any other code is sent and the connection closed.
    fn greeting(&mut self) -> impl Future<Output = ServerReply> + Send;

    /// A command about to be carried out. `Some` is sent instead, and the command is not
    /// carried out: the place for throttles and injected faults.
    fn before(&mut self, command: &Command) -> impl Future<Output = Option<ServerReply>> + Send {
        let _ = command;
        std::future::ready(None)
    }

    /// The first line of the answer to `EHLO` or `HELO`. Whatever the session had begun
    /// is void.
    fn hello(&mut self, name: &str) -> String;

    /// The further lines of the answer to `EHLO`, in order. `tls`: the connection is
    /// encrypted, so `AUTH` may stand here and `STARTTLS` may not.
    fn capabilities(&mut self, tls: bool) -> Vec<String>;

    /// TLS stands; all that was said before is void (RFC 3207 §4.2).
    fn secured(&mut self, tls: &rustls::ServerConnection) {
        let _ = tls;
    }

    /// `AUTH`. A reply of 235 authenticates the session. The initial response is decoded;
    /// `None` means there was none, which differs from an empty one.
    ///
    /// An `Err` from the exchange is passed on with `?`.
    fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        exchange: &mut Exchange<'_>,
    ) -> impl Future<Output = Result<ServerReply, ExchangeEnd>> + Send;

    /// `MAIL`. A 2xx reply opens a transaction.
    fn mail(&mut self, mail: &MailCommand) -> impl Future<Output = ServerReply> + Send;

    /// `RCPT`. A 2xx reply adds the recipient.
    fn rcpt(&mut self, rcpt: &RcptCommand) -> impl Future<Output = ServerReply> + Send;

    /// A message begins: right before 354, or at the first `BDAT`. Its octets go where this
    /// says. One that does not arrive whole, or is refused on its way, is dropped.
    ///
    /// `Err` is sent instead. After `DATA` the transaction stays open, after `BDAT` it is
    /// forgotten.
    fn body(
        &mut self,
        envelope: &EnvelopeSoFar<'_>,
    ) -> impl Future<Output = Result<Self::Body, ServerReply>> + Send;

    /// The whole message has arrived. Ends the transaction, whatever the reply; a 2xx
    /// takes the message over from the client, so it must be safe by then.
    fn message(
        &mut self,
        submission: Submission<Self::Body>,
    ) -> impl Future<Output = ServerReply> + Send;

    /// The transaction, if there was one, is forgotten: `RSET`, a new `EHLO`, or a message
    /// that was refused before it reached [`message`](Self::message).
    fn reset(&mut self) {}

    /// Done when the server stops: whoever is between two commands is sent away with
    /// [`Problem::Stopping`], and whoever sends a message once that is done. Never, unless a
    /// handler says otherwise.
    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    /// Says yes at a point where there is nothing to decide.
    fn confirm(&mut self, cue: Cue) -> ServerReply {
        cue.reply()
    }

    /// Words a refusal this half has decided on. A closing problem closes the
    /// connection whatever reply is given.
    fn refuse(&mut self, problem: &Problem) -> ServerReply {
        problem.reply()
    }
}

/// Takes the octets of one message as they arrive: dots unstuffed, every line ended by CRLF
/// (unless the message is `BINARYMIME`), otherwise octet for octet.
pub trait BodySink: Send {
    /// Takes the next octets, never none. The client is read no further until it is done.
    ///
    /// # Errors
    /// The reply to the message, sent once the client has finished it; the sink is dropped
    /// at once and the rest is thrown away.
    fn write(&mut self, octets: &[u8]) -> impl Future<Output = Result<(), ServerReply>> + Send;
}

/// Keeps the whole message in memory.
impl BodySink for Vec<u8> {
    async fn write(&mut self, octets: &[u8]) -> Result<(), ServerReply> {
        self.extend_from_slice(octets);
        Ok(())
    }
}

/// A message's envelope before its octets.
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeSoFar<'a> {
    /// The accepted `MAIL` command.
    pub mail: &'a MailCommand,
    /// The accepted recipients, in order; never empty.
    pub recipients: &'a [RcptCommand],
    /// The message comes with `BDAT`.
    pub chunked: bool,
}

/// A message with its envelope, as it arrived.
#[derive(Debug, Clone)]
pub struct Submission<B = Vec<u8>> {
    /// The accepted `MAIL` command.
    pub mail: MailCommand,
    /// The accepted recipients, in order; never empty.
    pub recipients: Vec<RcptCommand>,
    /// What took the octets.
    pub body: B,
    /// How many it took.
    pub octets: u64,
    /// Sent with `BDAT`, so nothing was dot-stuffed on its way.
    pub chunked: bool,
}

/// Points of the dialogue where the answer is yes and only its wording is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cue {
    /// `STARTTLS` accepted. Only the code 220 starts TLS.
    Starttls,
    /// `DATA` accepted. Only the code 354 starts the body.
    Data,
    /// A `BDAT` chunk of so many octets, not the last, was stored.
    Chunk(u64),
    /// `RSET` done.
    Reset,
    /// `NOOP`.
    Noop,
    /// `HELP`.
    Help,
    /// `VRFY`: neither confirmed nor denied.
    Vrfy,
    /// `QUIT`: the connection closes behind the reply.
    Quit,
}

impl Cue {
    /// The RFCs' wording.
    pub fn reply(self) -> ServerReply {
        match self {
            Self::Starttls => ServerReply::new(220, "2.0.0 Ready to start TLS"),
            Self::Data => ServerReply::new(354, "Start mail input; end with <CRLF>.<CRLF>"),
            Self::Chunk(octets) => ServerReply::new(250, format!("2.0.0 {octets} octets received")),
            Self::Reset | Self::Noop => ServerReply::new(250, "2.0.0 OK"),
            Self::Help => ServerReply::new(214, "2.0.0 See RFC 5321"),
            Self::Vrfy => ServerReply::new(252, "2.5.2 Cannot verify, but will accept the message"),
            Self::Quit => ServerReply::new(221, "2.0.0 Closing connection"),
        }
    }
}

/// Why this half refuses something on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Not a command. Holds the line's first word: printable, bounded.
    Unrecognized(String),
    /// A load balancer names its client by the PROXY protocol, which is not spoken here. Closes.
    ProxyHeader,
    /// A known command that this server does not carry out.
    NotImplemented(Verb),
    /// The command's arguments are malformed. Those of `BDAT` close.
    Arguments(Verb),
    /// A `MAIL` or `RCPT` parameter with this keyword is not supported.
    Parameter(Verb, String),
    /// Spaces behind the colon of `MAIL FROM:` or `RCPT TO:`.
    SpaceBehindColon(Verb),
    /// No angle brackets around the address of `MAIL FROM:` or `RCPT TO:`.
    NoBrackets(Verb),
    /// This, printable and bounded, is no address for `MAIL FROM:` or `RCPT TO:`; empty where
    /// there is no `@` in it.
    Address(Verb, String),
    /// `EHLO` has to come first.
    HelloFirst,
    /// `AUTH` after `HELO` (RFC 4954 §4 is an extension, so `EHLO`).
    EhloFirst,
    /// `MAIL` has to come first.
    MailFirst,
    /// An accepted `RCPT` has to come first.
    RcptFirst,
    /// A transaction is open already.
    MailOpen,
    /// The session is authenticated already (RFC 4954 §4).
    AuthAgain,
    /// No `AUTH` inside a transaction (RFC 4954 §4).
    AuthInTransaction,
    /// No `AUTH` in clear.
    AuthNeedsTls,
    /// The client wrote `*`.
    AuthCancelled,
    /// A response that is not base64.
    AuthEncoding,
    /// A name or password for `AUTH LOGIN` that contains NUL.
    AuthNul,
    /// TLS is on already.
    TlsAgain,
    /// There is no TLS here.
    TlsUnavailable,
    /// Octets followed `STARTTLS` before TLS. Closes.
    ClearAfterStarttls,
    /// The client begins a TLS handshake where a command is expected. Closes.
    TlsUnasked,
    /// `BODY=BINARYMIME` wants `BDAT` (RFC 3030 §3).
    BinaryNeedsBdat,
    /// `DATA` or `RCPT` between the chunks of a `BDAT` message (RFC 3030 §2).
    ChunksOpen,
    /// A non-ASCII address without `SMTPUTF8` (RFC 6531 §3.5).
    NeedsSmtputf8,
    /// A command line beyond the limit.
    LineTooLong,
    /// A command line ended by a line feed alone. Closes.
    BareLineFeed,
    /// A command line that ends in CRLF where the first ended in LF, or the other way
    /// round. Closes.
    MixedLineEnds,
    /// A line feed within a message that no carriage return precedes.
    BodyBareLineFeed,
    /// A carriage return within a message that no line feed follows.
    BodyBareCarriageReturn,
    /// A NUL within a message.
    BodyNul,
    /// A message beyond the limit, announced or sent.
    MessageTooLarge,
    /// One recipient too many.
    TooManyRecipients,
    /// Too many commands without a message. Closes.
    TooManyCommands,
    /// Too many refused commands. Closes.
    TooManyErrors,
    /// The client took too long. Closes.
    TooSlow,
    /// The connection has lasted too long. Closes.
    SessionTooLong,
    /// The server stops. Closes.
    Stopping,
}

impl Problem {
    /// Code, enhanced status (RFC 3463) and text, in the RFCs' wording.
    pub fn parts(&self) -> (u16, &'static str, Cow<'static, str>) {
        let (code, status, text) = match self {
            Self::Arguments(verb @ (Verb::Ehlo | Verb::Helo)) => {
                let text = format!("{verb} needs a name of printable characters");
                return (501, "5.5.4", text.into());
            }
            Self::Arguments(verb) => {
                let text = format!("Syntax error in the arguments of {verb}");
                return (501, "5.5.4", text.into());
            }
            Self::Parameter(_, keyword) => {
                let text = format!("Unsupported parameter {keyword}");
                return (555, "5.5.4", text.into());
            }
            Self::SpaceBehindColon(verb) => {
                let text = format!("No space may stand behind the colon of {verb}");
                return (501, "5.5.4", text.into());
            }
            Self::NoBrackets(verb) => {
                let text = format!("The address of {verb} has to stand in angle brackets");
                return (501, "5.5.4", text.into());
            }
            Self::Address(verb, address) => {
                let is_sender = *verb == Verb::Mail;
                let status = if is_sender { "5.1.7" } else { "5.1.3" };
                let text = if address.is_empty() {
                    format!("The address of {verb} has no @")
                } else {
                    format!("<{address}> is no address")
                };
                return (501, status, text.into());
            }
            Self::Unrecognized(_) => (500, "5.5.2", "Command not recognized"),
            Self::ProxyHeader => (
                500,
                "5.5.2",
                "PROXY protocol headers are not taken: have the load balancer send none",
            ),
            Self::NotImplemented(_) => (502, "5.5.1", "Command not implemented"),
            Self::HelloFirst => (503, "5.5.1", "Send EHLO first"),
            Self::EhloFirst => (503, "5.5.1", "AUTH needs EHLO, not HELO: send EHLO"),
            Self::MailFirst => (503, "5.5.1", "Send MAIL first"),
            Self::RcptFirst => (503, "5.5.1", "No valid recipients"),
            Self::MailOpen => (503, "5.5.1", "Sender already given"),
            Self::AuthAgain => (503, "5.5.1", "Already authenticated"),
            Self::AuthInTransaction => (503, "5.5.1", "Not during a mail transaction"),
            Self::AuthNeedsTls => (538, "5.7.11", "Encryption required for authentication"),
            Self::AuthCancelled => (501, "5.7.0", "Authentication cancelled"),
            Self::AuthEncoding => (501, "5.5.2", "Cannot decode the response"),
            Self::AuthNul => (501, "5.5.2", "The response contains NUL"),
            Self::TlsAgain => (503, "5.5.1", "TLS already active"),
            Self::TlsUnavailable => (502, "5.5.1", "TLS not available"),
            Self::ClearAfterStarttls => (503, "5.5.1", "Nothing may follow STARTTLS in clear"),
            Self::TlsUnasked => (500, "5.5.2", "TLS does not begin here before STARTTLS"),
            Self::BinaryNeedsBdat => (503, "5.5.1", "BODY=BINARYMIME requires BDAT"),
            Self::ChunksOpen => (503, "5.5.1", "BDAT LAST expected"),
            Self::NeedsSmtputf8 => (553, "5.6.7", "Address requires SMTPUTF8"),
            Self::LineTooLong => (500, "5.5.2", "Line too long"),
            Self::BareLineFeed => (500, "5.5.2", "Lines end with CRLF"),
            Self::MixedLineEnds => (500, "5.5.2", "Lines end as the first did"),
            Self::BodyBareLineFeed => (
                550,
                "5.6.0",
                "Message refused: a line feed without a carriage return; lines end with CRLF",
            ),
            Self::BodyBareCarriageReturn => (
                550,
                "5.6.0",
                "Message refused: a carriage return without a line feed; lines end with CRLF",
            ),
            Self::BodyNul => (550, "5.6.0", "Message refused: it contains NUL"),
            Self::MessageTooLarge => (552, "5.3.4", "Message too large"),
            Self::TooManyRecipients => (452, "4.5.3", "Too many recipients"),
            Self::TooManyCommands => (421, "4.7.0", "Too many commands"),
            Self::TooManyErrors => (421, "4.7.0", "Too many errors"),
            Self::TooSlow => (421, "4.4.2", "Timeout"),
            Self::SessionTooLong => (421, "4.4.2", "Session too long"),
            Self::Stopping => (421, "4.3.2", "Service stops, try again later"),
        };
        (code, status, Cow::Borrowed(text))
    }

    /// The same as a reply.
    pub fn reply(&self) -> ServerReply {
        let (code, status, text) = self.parts();
        ServerReply::new(code, format!("{status} {text}"))
    }

    /// Whether the connection is closed behind the reply.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            // The octets of a chunk whose size nobody knows would be read as commands.
            Self::Arguments(Verb::Bdat)
                | Self::ProxyHeader
                | Self::ClearAfterStarttls
                | Self::TlsUnasked
                | Self::BareLineFeed
                | Self::MixedLineEnds
                | Self::TooManyCommands
                | Self::TooManyErrors
                | Self::TooSlow
                | Self::SessionTooLong
                | Self::Stopping
        )
    }
}

/// The running `AUTH` exchange: challenges out, responses in.
pub struct Exchange<'a>(&'a mut dyn Ask);

impl<'a> Exchange<'a> {
    pub(super) fn new(ask: &'a mut dyn Ask) -> Self {
        Self(ask)
    }

    /// Sends `334` with the challenge in base64 and returns the decoded response.
    pub async fn ask(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ExchangeEnd> {
        self.0.ask(challenge).await
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

/// Why an exchange gave no response.
#[derive(Debug)]
pub enum ExchangeEnd {
    /// The client refused to go on, or answered unreadably; the session goes on.
    Refused(Problem),
    /// The connection is lost.
    Lost(std::io::Error),
}

impl fmt::Display for ExchangeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Problem::AuthCancelled) => {
                f.write_str("the client cancelled authentication")
            }
            Self::Refused(_) => f.write_str("the client's authentication response is malformed"),
            Self::Lost(_) => f.write_str("the connection was lost during authentication"),
        }
    }
}

impl std::error::Error for ExchangeEnd {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Lost(error) => Some(error),
        }
    }
}

/// The connection, as an exchange sees it.
pub(super) trait Ask: Send {
    fn ask<'a>(&'a mut self, challenge: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, ExchangeEnd>>;
}
