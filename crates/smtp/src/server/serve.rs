//! One connection from greeting to close: RFC 5321's order of commands.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::body::Unstuff;
use super::command::{BadCommand, BodyType, Command, MailCommand, RcptCommand};
use super::connection::{Connection, Line};
use super::handler::{Ask, Cue, Exchange, ExchangeEnd, Handler, Problem, Submission};
use super::limits::{Limits, TlsPolicy};
use super::reply::{After, ServerReply};

/// Serves one connection until it ends.
///
/// With [`TlsPolicy::Starttls`] and no `acceptor`, `STARTTLS` is neither offered nor
/// carried out. Dropping the future closes the connection.
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
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let end = Instant::now() + limits.session_time;
    if policy == TlsPolicy::Implicit {
        let acceptor =
            acceptor.ok_or_else(|| io::Error::other("implicit TLS without a TLS acceptor"))?;
        let stream = handshake(&acceptor, stream, &limits).await?;
        handler.secured(stream.get_ref().1);
        let session = Session::new(stream, end, Tls::On, &mut handler, &limits);
        return session.run(true).await.map(|_| ());
    }
    let acceptor = acceptor.filter(|_| policy == TlsPolicy::Starttls);
    let tls = match (policy, &acceptor) {
        (TlsPolicy::DangerPlaintext, _) => Tls::Never,
        (_, Some(_)) => Tls::Offered,
        (_, None) => Tls::Missing,
    };
    let session = Session::new(stream, end, tls, &mut handler, &limits);
    if let (Some(stream), Some(acceptor)) = (session.run(true).await?, acceptor) {
        let stream = handshake(&acceptor, stream, &limits).await?;
        handler.secured(stream.get_ref().1);
        let session = Session::new(stream, end, Tls::On, &mut handler, &limits);
        session.run(false).await?;
    }
    Ok(())
}

async fn handshake<S>(
    acceptor: &TlsAcceptor,
    stream: S,
    limits: &Limits,
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    timeout(limits.handshake_time, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))?
}

/// Where a connection stands with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    On,
    Offered,
    /// Wanted, but there is no certificate: no `STARTTLS` and no `AUTH`.
    Missing,
    /// Knowingly without.
    Never,
}

struct Session<'h, S, H> {
    io: Connection<S>,
    tls: Tls,
    handler: &'h mut H,
    limits: &'h Limits,
    greeted: bool,
    authenticated: bool,
    transaction: Option<Transaction>,
    commands: u32,
    bad_commands: u32,
    discarded: u64,
}

struct Transaction {
    mail: MailCommand,
    recipients: Vec<RcptCommand>,
    /// The chunks so far; `None` before the first `BDAT`.
    chunks: Option<Vec<u8>>,
}

/// What follows a command.
enum Step {
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
    fn new(stream: S, end: Instant, tls: Tls, handler: &'h mut H, limits: &'h Limits) -> Self {
        Self {
            io: Connection::new(stream, end, limits.command_time),
            tls,
            handler,
            limits,
            greeted: false,
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
                    self.refuse(&Problem::TooSlow)
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
        let line = self.io.line(limit, limits.command_time).await?;
        self.commands += 1;
        if self.commands > limits.commands {
            return Ok(self.refuse(&Problem::TooManyCommands));
        }
        let line = match line {
            Line::Complete(line) => line,
            Line::TooLong => return Ok(self.refuse(&Problem::LineTooLong)),
            Line::BareLineFeed => return Ok(self.refuse(&Problem::BareLineFeed)),
        };
        match Command::parse(&line) {
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
        self.greeted = true;
        let mut lines = vec![self.handler.hello(name)];
        if extended {
            lines.extend(self.handler.capabilities(self.tls == Tls::On));
        }
        self.say(&ServerReply::lines(250, lines))
    }

    fn starttls(&mut self) -> Step {
        let problem = match self.tls {
            _ if !self.greeted => Some(Problem::HelloFirst),
            Tls::On => Some(Problem::TlsAgain),
            Tls::Missing | Tls::Never => Some(Problem::TlsUnavailable),
            // Octets of the clear connection must not be read as if TLS protected them.
            Tls::Offered if self.io.has_input() => Some(Problem::ClearAfterStarttls),
            Tls::Offered => None,
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
        let problem = if !self.greeted {
            Some(Problem::HelloFirst)
        } else if self.authenticated {
            Some(Problem::AuthAgain)
        } else if self.transaction.is_some() {
            Some(Problem::AuthInTransaction)
        } else if matches!(self.tls, Tls::Offered | Tls::Missing) {
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
        let mut dialogue = Dialogue {
            io: &mut self.io,
            limits: self.limits,
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
        let problem = if !self.greeted {
            Some(Problem::HelloFirst)
        } else if self.transaction.is_some() {
            Some(Problem::MailOpen)
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
            _ if !self.greeted => Some(Problem::HelloFirst),
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

    async fn data(&mut self) -> io::Result<Step> {
        let problem = match &self.transaction {
            Some(open) if open.chunks.is_some() => Some(Problem::ChunksOpen),
            Some(open) if open.mail.body == BodyType::BinaryMime => Some(Problem::BinaryNeedsBdat),
            _ => self.body_out_of_order(),
        };
        if let Some(problem) = problem {
            return Ok(self.refuse(&problem));
        }
        let reply = self.handler.confirm(Cue::Data);
        match self.say(&reply) {
            Step::Next if reply.code() == 354 => {}
            step => return Ok(step),
        }
        let deadline = self.io.deadline(self.limits.body_time);
        let (mut unstuff, mut body, mut size) = (Unstuff::new(), Vec::new(), 0_usize);
        let most = self.limits.message_octets;
        loop {
            let there = self.io.some(deadline).await?;
            let arrived = there.len();
            let end = unstuff.push(there, |octets| {
                size = size.saturating_add(octets.len());
                if size <= most {
                    body.extend_from_slice(octets);
                }
            });
            self.io.consume(end.unwrap_or(arrived));
            if end.is_some() {
                break;
            }
            if size > most {
                body = Vec::new();
                if size - most > self.limits.discard_octets {
                    self.forget();
                    self.refuse(&Problem::MessageTooLarge);
                    return Ok(Step::Close);
                }
            }
        }
        if size > most {
            self.forget();
            return Ok(self.refuse(&Problem::MessageTooLarge));
        }
        Ok(self.submit(body, false).await)
    }

    async fn bdat(&mut self, octets: u64, last: bool) -> io::Result<Step> {
        let room = |open: &Transaction| {
            let used = open.chunks.as_ref().map_or(0, Vec::len);
            (self.limits.message_octets - used) as u64
        };
        let problem = match (self.body_out_of_order(), &self.transaction) {
            (None, Some(open)) if octets > room(open) => Some(Problem::MessageTooLarge),
            (problem, _) => problem,
        };
        if let Some(problem) = problem {
            // The octets follow whatever is answered (RFC 3030 §2).
            let gone = self.discard(octets).await?;
            if problem == Problem::MessageTooLarge {
                self.forget();
            }
            let step = self.refuse(&problem);
            return Ok(if gone { step } else { Step::Close });
        }
        let deadline = self.io.deadline(self.limits.body_time);
        let Some(open) = &mut self.transaction else {
            return Ok(self.refuse(&Problem::MailFirst));
        };
        let body = open.chunks.get_or_insert_default();
        self.io
            .take(octets, deadline, |part| body.extend_from_slice(part))
            .await?;
        if !last {
            return Ok(self.confirm(Cue::Chunk(octets)));
        }
        let body = std::mem::take(body);
        Ok(self.submit(body, true).await)
    }

    fn body_out_of_order(&self) -> Option<Problem> {
        match &self.transaction {
            _ if !self.greeted => Some(Problem::HelloFirst),
            None => Some(Problem::MailFirst),
            Some(open) if open.recipients.is_empty() => Some(Problem::RcptFirst),
            Some(_) => None,
        }
    }

    async fn submit(&mut self, octets: Vec<u8>, chunked: bool) -> Step {
        let Some(open) = self.transaction.take() else {
            return self.refuse(&Problem::MailFirst);
        };
        let submission = Submission {
            mail: open.mail,
            recipients: open.recipients,
            octets,
            chunked,
        };
        let reply = self.handler.message(submission).await;
        if reply.is_positive() {
            self.commands = 0;
            self.bad_commands = 0;
        }
        self.say(&reply)
    }

    /// Reads octets nobody wants. `false`: there would be too many of them.
    async fn discard(&mut self, octets: u64) -> io::Result<bool> {
        let total = self.discarded.saturating_add(octets);
        if total > self.limits.discard_octets as u64 {
            return Ok(false);
        }
        self.discarded = total;
        let deadline = self.io.deadline(self.limits.body_time);
        self.io.take(octets, deadline, |_| {}).await.map(|()| true)
    }

    fn forget(&mut self) {
        if self.transaction.take().is_some() {
            self.handler.reset();
        }
    }

    fn confirm(&mut self, cue: Cue) -> Step {
        let reply = self.handler.confirm(cue);
        self.say(&reply)
    }

    fn refuse(&mut self, problem: &Problem) -> Step {
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

    fn say(&mut self, reply: &ServerReply) -> Step {
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

/// The `AUTH` exchange on a connection.
struct Dialogue<'a, S> {
    io: &'a mut Connection<S>,
    limits: &'a Limits,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Ask for Dialogue<'_, S> {
    fn ask<'a>(&'a mut self, challenge: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, ExchangeEnd>> {
        async move {
            self.io
                .say(&ServerReply::new(334, STANDARD.encode(challenge)));
            let line = self
                .io
                .line(|_| self.limits.auth_line_octets, self.limits.command_time)
                .await;
            let refused = |problem| Err(ExchangeEnd::Refused(problem));
            match line.map_err(ExchangeEnd::Lost)? {
                Line::TooLong => refused(Problem::LineTooLong),
                Line::BareLineFeed => refused(Problem::BareLineFeed),
                Line::Complete(line) if line == b"*" => refused(Problem::AuthCancelled),
                Line::Complete(line) => STANDARD
                    .decode(line)
                    .or_else(|_| refused(Problem::AuthEncoding)),
            }
        }
        .boxed()
    }
}

impl From<BadCommand> for Problem {
    fn from(bad: BadCommand) -> Self {
        match bad {
            BadCommand::Unrecognized(word) => Self::Unrecognized(word),
            BadCommand::Arguments(verb) => Self::Arguments(verb),
            BadCommand::Parameter(verb, keyword) => Self::Parameter(verb, keyword),
        }
    }
}

fn is_departure(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}
