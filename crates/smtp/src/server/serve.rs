//! One connection from greeting to close: RFC 5321's order of commands.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::command::{BadCommand, BodyType, Command, MailCommand, RcptCommand, Verb};
use super::connection::{Connection, Line, LineEnd};
use super::dialogue::{Dialogue, login_answer};
use super::handler::{Cue, Exchange, ExchangeEnd, Handler, Problem};
use super::incoming::Incoming;
use super::limits::{Limits, TlsPolicy};
use super::quirks::Quirks;
use super::reply::{After, ServerReply};

/// Serves one connection until it ends.
///
/// Without an `acceptor`, `STARTTLS` is not carried out. Dropping the future closes the connection.
///
/// # Errors
/// What the network or the TLS handshake failed with. A client that leaves, at whatever
/// point, or is sent away is no error.
pub async fn serve<S, H>(
    stream: S,
    acceptor: Option<TlsAcceptor>,
    policy: TlsPolicy,
    mut handler: H,
    limits: Limits,
    quirks: Quirks,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let end = Instant::now() + limits.session_time;
    if policy == TlsPolicy::Implicit {
        let acceptor =
            acceptor.ok_or_else(|| io::Error::other("implicit TLS without a TLS acceptor"))?;
        let stream = handshake(&acceptor, stream, &handler, &limits).await?;
        handler.secured(stream.get_ref().1);
        let session = Session::new(stream, end, Tls::On, &mut handler, &limits, quirks);
        return session.run(true).await.map(|_| ());
    }
    let acceptor = acceptor.filter(|_| policy != TlsPolicy::DangerPlaintext);
    let tls = match (policy, &acceptor) {
        (TlsPolicy::DangerOffered, Some(_)) => Tls::Optional,
        (TlsPolicy::DangerOffered | TlsPolicy::DangerPlaintext, _) => Tls::Never,
        (_, Some(_)) => Tls::Required,
        (_, None) => Tls::Missing,
    };
    let session = Session::new(stream, end, tls, &mut handler, &limits, quirks);
    if let (Some(stream), Some(acceptor)) = (session.run(true).await?, acceptor) {
        let stream = handshake(&acceptor, stream, &handler, &limits).await?;
        handler.secured(stream.get_ref().1);
        let session = Session::new(stream, end, Tls::On, &mut handler, &limits, quirks);
        session.run(false).await?;
    }
    Ok(())
}

async fn handshake<S, H>(
    acceptor: &TlsAcceptor,
    stream: S,
    handler: &H,
    limits: &Limits,
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let handshake = async {
        tokio::select! {
            stream = acceptor.accept(stream) => stream,
            // Nothing can be said before TLS stands.
            () = handler.stopping() => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops"))
            }
        }
    };
    timeout(limits.handshake_time, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))?
}

/// Where a connection stands with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    On,
    /// By `STARTTLS`, which must come before `AUTH`.
    Required,
    /// By `STARTTLS`, if the client likes.
    Optional,
    /// Wanted, but there is no certificate: no `STARTTLS` and no `AUTH`.
    Missing,
    /// Knowingly without.
    Never,
}

pub(super) struct Session<'h, S, H: Handler> {
    pub(super) io: Connection<'h, S>,
    tls: Tls,
    pub(super) handler: &'h mut H,
    pub(super) limits: &'h Limits,
    quirks: Quirks,
    hello: Hello,
    authenticated: bool,
    pub(super) transaction: Option<Transaction<H::Body>>,
    pub(super) commands: u32,
    pub(super) bad_commands: u32,
    pub(super) discarded: u64,
}

/// How the client has introduced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hello {
    NotYet,
    Helo,
    Ehlo {
        /// `BINARYMIME` was among the capabilities.
        binary: bool,
    },
}

pub(super) struct Transaction<B> {
    pub(super) mail: MailCommand,
    pub(super) recipients: Vec<RcptCommand>,
    /// The chunks so far; `None` before the first `BDAT`.
    pub(super) chunks: Option<Incoming<B>>,
}

/// What follows a command.
pub(super) enum Step {
    Next,
    Close,
    Vanish,
    StartTls,
}

impl<'h, S, H> Session<'h, S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    fn new(
        stream: S,
        end: Instant,
        tls: Tls,
        handler: &'h mut H,
        limits: &'h Limits,
        quirks: Quirks,
    ) -> Self {
        let line_end = if quirks.bare_lf {
            LineEnd::Undecided
        } else {
            LineEnd::Strict
        };
        Self {
            io: Connection::new(stream, end, limits, line_end),
            tls,
            handler,
            limits,
            quirks,
            hello: Hello::NotYet,
            authenticated: false,
            transaction: None,
            commands: 0,
            bad_commands: 0,
            discarded: 0,
        }
    }

    /// Runs until the connection ends, or hands the stream back to start TLS on it.
    async fn run(self, greet: bool) -> io::Result<Option<S>> {
        match self.converse(greet).await {
            Err(error) if is_departure(&error) => Ok(None),
            ended => ended,
        }
    }

    async fn converse(mut self, greet: bool) -> io::Result<Option<S>> {
        let mut step = Step::Next;
        if greet {
            let reply = self.handler.greeting().await;
            step = match self.say(&reply) {
                Step::Next if reply.code() != 220 => Step::Close,
                step => step,
            };
        }
        loop {
            match step {
                Step::Next => {}
                Step::Close => return self.io.close().await.map(|()| None),
                Step::Vanish => return self.io.flush().await.map(|()| None),
                Step::StartTls => {
                    self.io.flush().await?;
                    return Ok(Some(self.io.into_stream()));
                }
            }
            step = match self.next().await {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.refuse(&if self.io.is_over() {
                        Problem::SessionTooLong
                    } else {
                        Problem::TooSlow
                    })
                }
                step => step?,
            };
        }
    }

    async fn next(&mut self) -> io::Result<Step> {
        let limits = self.limits;
        let limit = |line: &[u8]| match line.get(..5) {
            Some(verb) if verb.eq_ignore_ascii_case(b"AUTH ") => limits.auth_line_octets,
            _ => limits.line_octets,
        };
        let line = tokio::select! {
            biased;
            line = self.io.line(limit) => line?,
            () = self.handler.stopping() => return Ok(self.refuse(&Problem::Stopping)),
        };
        self.commands += 1;
        if self.commands > limits.commands {
            return Ok(self.refuse(&Problem::TooManyCommands));
        }
        let line = match line {
            Line::Complete(line) => line,
            Line::TooLong => return Ok(self.refuse(&Problem::LineTooLong)),
            Line::BareLineFeed => return Ok(self.refuse(&Problem::BareLineFeed)),
            Line::Mixed => return Ok(self.refuse(&Problem::MixedLineEnds)),
            Line::Tls => return Ok(self.refuse(&Problem::TlsUnasked)),
        };
        if self.hello == Hello::NotYet && is_of_proxy(&line) {
            return Ok(self.refuse(&Problem::ProxyHeader));
        }
        match Command::parse_with(&line, self.quirks) {
            Ok(command) => self.carry_out(command).await,
            Err(bad) => Ok(self.refuse(&bad.into())),
        }
    }

    async fn carry_out(&mut self, command: Command) -> io::Result<Step> {
        if let Some(reply) = self.handler.before(&command).await {
            if let Command::Bdat { octets, .. } = command {
                // Without this chunk there is no message (RFC 3030 §2).
                self.forget();
                if !self.discard(octets).await? {
                    return Ok(self.say(&reply.closing()));
                }
            }
            return Ok(self.say(&reply));
        }
        match command {
            Command::Ehlo(name) => Ok(self.hello(&name, true)),
            Command::Helo(name) => Ok(self.hello(&name, false)),
            Command::Starttls => Ok(self.starttls()),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial).await,
            Command::Mail(mail) => Ok(self.mail(mail).await),
            Command::Rcpt(rcpt) => Ok(self.rcpt(rcpt).await),
            Command::Data => self.data().await,
            Command::Bdat { octets, last } => self.bdat(octets, last).await,
            Command::Rset => {
                self.forget();
                Ok(self.confirm(Cue::Reset))
            }
            Command::Noop => Ok(self.confirm(Cue::Noop)),
            Command::Help => Ok(self.confirm(Cue::Help)),
            Command::Vrfy(_) => Ok(self.confirm(Cue::Vrfy)),
            Command::Expn(_) => Ok(self.refuse(&Problem::NotImplemented(command.verb()))),
            Command::Quit => {
                self.confirm(Cue::Quit);
                Ok(Step::Close)
            }
        }
    }

    fn hello(&mut self, name: &str, extended: bool) -> Step {
        self.forget();
        let mut lines = vec![self.handler.hello(name)];
        self.hello = if extended {
            lines.extend(self.handler.capabilities(self.tls == Tls::On));
            Hello::Ehlo {
                binary: lines[1..].iter().any(|line| line == "BINARYMIME"),
            }
        } else {
            Hello::Helo
        };
        self.say(&ServerReply::lines(250, lines))
    }

    fn starttls(&mut self) -> Step {
        let problem = match self.tls {
            _ if self.hello == Hello::NotYet => Some(Problem::HelloFirst),
            Tls::On => Some(Problem::TlsAgain),
            Tls::Missing | Tls::Never => Some(Problem::TlsUnavailable),
            // Octets of the clear connection must not be read as if TLS protected them.
            _ if self.io.has_input() => Some(Problem::ClearAfterStarttls),
            Tls::Required | Tls::Optional => None,
        };
        if let Some(problem) = problem {
            return self.refuse(&problem);
        }
        let reply = self.handler.confirm(Cue::Starttls);
        match self.say(&reply) {
            Step::Next if reply.code() == 220 => {
                self.forget();
                Step::StartTls
            }
            step => step,
        }
    }

    async fn auth(&mut self, mechanism: &str, initial: Option<SecretString>) -> io::Result<Step> {
        let problem = if self.hello == Hello::NotYet {
            Some(Problem::HelloFirst)
        } else if self.hello == Hello::Helo && !self.quirks.helo_only {
            Some(Problem::EhloFirst)
        } else if self.authenticated {
            Some(Problem::AuthAgain)
        } else if self.transaction.is_some() {
            Some(Problem::AuthInTransaction)
        } else if matches!(self.tls, Tls::Required | Tls::Missing) {
            Some(Problem::AuthNeedsTls)
        } else {
            None
        };
        if let Some(problem) = problem {
            return Ok(self.refuse(&problem));
        }
        let initial = match initial.as_ref().map(ExposeSecret::expose_secret) {
            None => None,
            Some("=") => Some(Vec::new()),
            Some(text) => match STANDARD.decode(text) {
                Ok(octets) => Some(octets),
                Err(_) => return Ok(self.refuse(&Problem::AuthEncoding)),
            },
        };
        // Other mechanisms have their own use for NUL.
        let login_nul = (mechanism == "LOGIN").then_some(self.quirks.login_nul);
        let initial = match initial.map(|answer| login_answer(answer, login_nul)) {
            Some(Err(problem)) => return Ok(self.refuse(&problem)),
            Some(Ok(answer)) => Some(answer),
            None => None,
        };
        let mut dialogue = Dialogue {
            io: &mut self.io,
            limits: self.limits,
            login_nul,
        };
        let mut exchange = Exchange::new(&mut dialogue);
        match self.handler.auth(mechanism, initial, &mut exchange).await {
            Ok(reply) if reply.code() == 235 => {
                self.authenticated = true;
                Ok(self.say(&reply))
            }
            Ok(reply) => Ok(self.count_bad(&reply)),
            Err(ExchangeEnd::Refused(problem)) => Ok(self.refuse(&problem)),
            Err(ExchangeEnd::Lost(error)) => Err(error),
        }
    }

    async fn mail(&mut self, mail: MailCommand) -> Step {
        let size = self.limits.message_octets as u64;
        let problem = if self.hello == Hello::NotYet {
            Some(Problem::HelloFirst)
        } else if self.transaction.is_some() {
            Some(Problem::MailOpen)
        } else if mail.body == BodyType::BinaryMime && self.hello != (Hello::Ehlo { binary: true })
        {
            let unsupported = "BODY=BINARYMIME".to_owned();
            Some(Problem::Parameter(Verb::Mail, unsupported))
        } else if !mail.smtputf8 && !mail.reverse_path.is_ascii() {
            Some(Problem::NeedsSmtputf8)
        } else if mail.size.is_some_and(|announced| announced > size) {
            Some(Problem::MessageTooLarge)
        } else {
            None
        };
        if let Some(problem) = problem {
            return self.refuse(&problem);
        }
        let reply = self.handler.mail(&mail).await;
        if reply.is_positive() {
            self.transaction = Some(Transaction {
                mail,
                recipients: Vec::new(),
                chunks: None,
            });
        }
        self.say(&reply)
    }

    async fn rcpt(&mut self, rcpt: RcptCommand) -> Step {
        let problem = match &self.transaction {
            _ if self.hello == Hello::NotYet => Some(Problem::HelloFirst),
            None => Some(Problem::MailFirst),
            Some(open) if open.chunks.is_some() => Some(Problem::ChunksOpen),
            Some(open) if !open.mail.smtputf8 && !rcpt.forward_path.is_ascii() => {
                Some(Problem::NeedsSmtputf8)
            }
            Some(open) if open.recipients.len() >= self.limits.recipients => {
                Some(Problem::TooManyRecipients)
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            return self.refuse(&problem);
        }
        let reply = self.handler.rcpt(&rcpt).await;
        if let (true, Some(open)) = (reply.is_positive(), &mut self.transaction) {
            open.recipients.push(rcpt);
        }
        self.say(&reply)
    }

    pub(super) fn body_out_of_order(&self) -> Option<Problem> {
        match &self.transaction {
            _ if self.hello == Hello::NotYet => Some(Problem::HelloFirst),
            None => Some(Problem::MailFirst),
            Some(open) if open.recipients.is_empty() => Some(Problem::RcptFirst),
            Some(_) => None,
        }
    }

    pub(super) fn forget(&mut self) {
        if self.transaction.take().is_some() {
            self.handler.reset();
        }
    }

    pub(super) fn confirm(&mut self, cue: Cue) -> Step {
        let reply = self.handler.confirm(cue);
        self.say(&reply)
    }

    pub(super) fn refuse(&mut self, problem: &Problem) -> Step {
        let reply = self.handler.refuse(problem);
        match self.count_bad(&reply) {
            Step::Next if problem.closes() => Step::Close,
            step => step,
        }
    }

    /// Says no, and closes on the one no too many.
    fn count_bad(&mut self, reply: &ServerReply) -> Step {
        self.bad_commands += 1;
        let step = self.say(reply);
        if !matches!(step, Step::Next) || self.bad_commands <= self.limits.bad_commands {
            return step;
        }
        let farewell = self.handler.refuse(&Problem::TooManyErrors);
        self.say(&farewell.closing())
    }

    pub(super) fn say(&mut self, reply: &ServerReply) -> Step {
        match reply.after() {
            After::Vanish => Step::Vanish,
            After::Close => {
                self.io.say(reply);
                Step::Close
            }
            After::Continue => {
                self.io.say(reply);
                Step::Next
            }
        }
    }
}

impl From<BadCommand> for Problem {
    fn from(bad: BadCommand) -> Self {
        match bad {
            BadCommand::Unrecognized(word) => Self::Unrecognized(word),
            BadCommand::Arguments(verb) => Self::Arguments(verb),
            BadCommand::Parameter(verb, keyword) => Self::Parameter(verb, keyword),
            BadCommand::SpaceBehindColon(verb) => Self::SpaceBehindColon(verb),
            BadCommand::NoBrackets(verb) => Self::NoBrackets(verb),
            BadCommand::Address(verb, text) => Self::Address(verb, text),
        }
    }
}

/// Whether it is a line of the PROXY protocol's header. That of version 2 begins CR LF CR LF NUL
/// CR LF: the third of its lines is a NUL.
fn is_of_proxy(line: &[u8]) -> bool {
    line.starts_with(b"PROXY ") || line == b"\0"
}

fn is_departure(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}
