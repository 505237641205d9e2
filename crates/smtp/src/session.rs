//! One session with one server: connect, secure, authenticate, then transactions.
//!
//! Opening only moves forward, and each step forgets what came before it: capabilities from
//! before TLS are not used after it, octets from before TLS are fatal after it. No credential
//! is asked for before the connection is what [`TlsMode`] wants it to be.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use lettre::Address;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tracing::debug;

use crate::{
    Authenticator, Capabilities, Class, Connector, InvalidOutgoing, Reply, SaslError, SaslExchange,
    SendError, SendErrorKind, ServerSettings, Stage, StageDetail, Stream, TlsFailure, TlsMode,
    address::is_safe_path,
    error::MAX_CHALLENGE_OCTETS,
    pool::Trace,
    tls,
    transaction::kind_of,
    wire::{Cause, Transport, Wire, plain},
};

/// RFC 5321 §4.5.3.1.4, CRLF included; RFC 4954 §4 keeps `AUTH` with its response to it.
const MAX_COMMAND_OCTETS: usize = 512;
/// No mechanism needs more; a server that asks for more is not getting anywhere.
const MAX_CHALLENGES: usize = 16;
/// RFC 4422 §3.1.
const MAX_MECHANISM_OCTETS: usize = 20;
/// A word of a reply this long that was also in a response is an echo of it; a shorter one only
/// if it is all of a response.
const ECHO_OCTETS: usize = 12;

pub(crate) struct Session {
    pub(crate) wire: Wire,
    pub(crate) settings: Arc<ServerSettings>,
    pub(crate) capabilities: Arc<Capabilities>,
    /// Of the credential it authenticated with.
    generation: u64,
    /// The next transaction begins with `RSET`.
    pub(crate) needs_reset: bool,
    /// The server has said that it is leaving.
    pub(crate) closing: bool,
}

/// Why there is no session.
pub(crate) enum OpenError {
    /// 535: the credential may be stale. `offered` allows to ask for another.
    Rejected {
        error: SendError,
        generation: u64,
        offered: Vec<String>,
    },
    Other(SendError),
}

impl From<SendError> for OpenError {
    fn from(error: SendError) -> Self {
        Self::Other(error)
    }
}

pub(crate) fn server_name(settings: &ServerSettings) -> String {
    format!("{}:{}", settings.host, settings.port)
}

pub(crate) fn failure(settings: &ServerSettings, stage: Stage, kind: SendErrorKind) -> SendError {
    SendError::new(stage, server_name(settings), kind)
}

impl Session {
    /// Connects, secures and authenticates; with `exchange`, or with a new one.
    pub(crate) async fn open(
        settings: Arc<ServerSettings>,
        connector: &dyn Connector,
        authenticator: &dyn Authenticator,
        exchange: Option<Box<dyn SaslExchange>>,
        trace: &mut Trace,
    ) -> Result<Self, OpenError> {
        let stream = connect(&settings, connector, trace).await?;
        let mut opening = match settings.tls {
            TlsMode::Implicit => {
                let transport = handshake(&settings, stream, trace).await?;
                let mut opening = Opening::greet(&settings, transport, trace).await?;
                opening.hello(trace).await?;
                opening
            }
            TlsMode::Starttls => {
                let mut opening =
                    Opening::greet(&settings, Transport::Plain(stream), trace).await?;
                opening.hello(trace).await?;
                let mut secured = opening.starttls(trace).await?;
                secured.hello(trace).await?;
                secured
            }
            TlsMode::DangerPlaintext => {
                let mut opening =
                    Opening::greet(&settings, Transport::Plain(stream), trace).await?;
                opening.hello(trace).await?;
                opening
            }
        };
        let generation = opening.authenticate(authenticator, exchange, trace).await?;
        let Opening {
            wire, capabilities, ..
        } = opening;
        Ok(Self {
            wire,
            capabilities: Arc::new(capabilities),
            generation,
            needs_reset: false,
            closing: false,
            settings,
        })
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it may carry another transaction, as far as can be known without asking.
    pub(crate) fn is_usable(&mut self) -> bool {
        !self.closing && self.wire.is_usable()
    }

    /// Whether it is worth keeping: nothing owed, nothing announced.
    pub(crate) fn is_clean(&self) -> bool {
        !self.closing && self.wire.is_clean()
    }

    /// `MAIL` and `RSET`: whether this sender may begin a message.
    pub(crate) async fn try_sender(&mut self, sender: &Address) -> Result<Reply, SendError> {
        let settings = Arc::clone(&self.settings);
        let fail = |stage, kind| failure(&settings, stage, kind);
        if !is_safe_path(sender) {
            let why = InvalidOutgoing::Address(sender.to_string());
            return Err(fail(Stage::MailFrom, SendErrorKind::Invalid(why)));
        }
        let path: &str = sender.as_ref();
        let utf8 = if path.is_ascii() { "" } else { " SMTPUTF8" };
        if !path.is_ascii() && !self.capabilities.smtputf8 {
            return Err(fail(Stage::MailFrom, SendErrorKind::NotOffered("SMTPUTF8")));
        }
        let line = format!("MAIL FROM:<{path}>{utf8}\r\n").into_bytes();
        let mail = self.wire.command(line, settings.timeouts.mail).await;
        let mail = mail.map_err(|error| fail(Stage::MailFrom, kind_of(error)))?;
        self.closing |= mail.code == 421;
        if !mail.is_positive() {
            return Err(fail(Stage::MailFrom, SendErrorKind::Refused(mail)));
        }
        let reset = self
            .wire
            .command(b"RSET\r\n".to_vec(), settings.timeouts.command)
            .await;
        let reset = reset.map_err(|error| fail(Stage::Reset, kind_of(error)))?;
        self.closing |= reset.code != 250;
        Ok(mail)
    }

    /// Takes leave; what the server says to that is of no consequence.
    pub(crate) async fn quit(mut self) {
        if self.wire.is_clean() {
            let _ = self
                .wire
                .command(b"QUIT\r\n".to_vec(), self.settings.timeouts.quit)
                .await;
        }
    }
}

async fn connect(
    settings: &ServerSettings,
    connector: &dyn Connector,
    trace: &mut Trace,
) -> Result<Box<dyn Stream>, SendError> {
    let limit = settings.timeouts.connect;
    let fail = |kind| failure(settings, Stage::Connect, kind);
    let slow = |_| fail(SendErrorKind::Timeout(limit));
    let addresses = timeout(limit, connector.resolve(&settings.host, settings.port))
        .await
        .map_err(slow)?
        .map_err(|error| fail(SendErrorKind::Dns(error)))?;
    let mut last = fail(SendErrorKind::Dns(std::io::Error::other(
        "the name has no address",
    )));
    for address in addresses {
        match timeout(limit, connector.connect(address)).await {
            Ok(Ok(stream)) => {
                trace.done(
                    Stage::Connect,
                    StageDetail::Connected {
                        peer: stream.peer().unwrap_or(address),
                    },
                );
                debug!(host = settings.host, %address, "connected");
                return Ok(stream);
            }
            Ok(Err(error)) => last = fail(SendErrorKind::Connect(error)),
            Err(elapsed) => last = slow(elapsed),
        }
    }
    Err(last)
}

async fn handshake(
    settings: &ServerSettings,
    stream: Box<dyn Stream>,
    trace: &mut Trace,
) -> Result<Transport, SendError> {
    let fail = |kind| failure(settings, Stage::Tls, kind);
    let name = ServerName::try_from(settings.host.clone()).map_err(|_| {
        fail(SendErrorKind::Tls(TlsFailure::BadHost(
            settings.host.clone(),
        )))
    })?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&settings.tls_config));
    let limit = settings.timeouts.tls;
    let stream = timeout(limit, connector.connect(name, stream))
        .await
        .map_err(|_| fail(SendErrorKind::Timeout(limit)))?
        .map_err(|error| fail(SendErrorKind::Tls(tls::explain(&plain(error)))))?;
    let session = tls::Session::of(stream.get_ref().1);
    debug!(version = session.version, cipher = session.cipher, "TLS");
    trace.done(Stage::Tls, StageDetail::Secured(session));
    Ok(Transport::Tls(Box::new(stream)))
}

/// A connection on its way to becoming a session.
struct Opening<'a> {
    settings: &'a ServerSettings,
    wire: Wire,
    capabilities: Capabilities,
}

impl<'a> Opening<'a> {
    async fn greet(
        settings: &'a ServerSettings,
        transport: Transport,
        trace: &mut Trace,
    ) -> Result<Self, SendError> {
        let mut opening = Self {
            settings,
            wire: Wire::new(transport),
            capabilities: Capabilities::default(),
        };
        let result = opening.wire.reply(settings.timeouts.greeting).await;
        let reply = opening.expect(Stage::Greeting, 220, result)?;
        trace.done(Stage::Greeting, StageDetail::Said(reply));
        Ok(opening)
    }

    async fn hello(&mut self, trace: &mut Trace) -> Result<(), SendError> {
        let line = format!("EHLO {}\r\n", self.settings.ehlo_name);
        let result = self
            .wire
            .command(line.into_bytes(), self.settings.timeouts.command)
            .await;
        let reply = self.expect(Stage::Ehlo, 250, result)?;
        self.capabilities = Capabilities::from_reply(&reply);
        trace.done(Stage::Ehlo, StageDetail::Offers(self.capabilities.clone()));
        Ok(())
    }

    async fn starttls(mut self, trace: &mut Trace) -> Result<Self, SendError> {
        if !self.capabilities.starttls {
            return Err(self.fail(Stage::StartTls, SendErrorKind::NotOffered("STARTTLS")));
        }
        let result = self
            .wire
            .command(b"STARTTLS\r\n".to_vec(), self.settings.timeouts.command)
            .await;
        let reply = self.expect(Stage::StartTls, 220, result)?;
        let injected = self.fail(Stage::StartTls, SendErrorKind::InjectedBeforeTls);
        let settings = self.settings;
        let Some(Transport::Plain(stream)) = self.wire.into_transport() else {
            return Err(injected);
        };
        trace.done(Stage::StartTls, StageDetail::Said(reply));
        let transport = handshake(settings, stream, trace).await?;
        Ok(Self {
            settings,
            wire: Wire::new(transport),
            capabilities: Capabilities::default(),
        })
    }

    /// The generation of the credential that was accepted.
    async fn authenticate(
        &mut self,
        authenticator: &dyn Authenticator,
        exchange: Option<Box<dyn SaslExchange>>,
        trace: &mut Trace,
    ) -> Result<u64, OpenError> {
        if self.capabilities.auth.is_empty() {
            return Err(self
                .fail(Stage::Auth, SendErrorKind::NotOffered("AUTH"))
                .into());
        }
        let sasl = |error| failure(self.settings, Stage::Auth, SendErrorKind::Sasl(error));
        let mut exchange = match exchange {
            Some(exchange) => exchange,
            None => authenticator
                .begin(
                    &self.capabilities.auth,
                    &self.settings.host,
                    self.settings.port,
                )
                .await
                .map_err(sasl)?,
        };
        let mechanism = exchange.mechanism().to_owned();
        if !is_mechanism(&mechanism) {
            return Err(sasl(SaslError::new(
                "the mechanism's name is not one that SASL allows",
            ))
            .into());
        }
        let generation = exchange.generation();
        debug!(mechanism, "AUTH begins");
        let (reply, challenge) = self.exchange(&mechanism, exchange.as_mut()).await?;
        debug!(mechanism, outcome = %reply, "AUTH ends");
        if reply.code == 235 {
            trace.done(Stage::Auth, StageDetail::Authenticated { mechanism, reply });
            return Ok(generation);
        }
        let rejected = reply.code == 535;
        let kind = match reply.class() {
            Class::Transient | Class::Permanent => SendErrorKind::Auth {
                reply,
                mechanism,
                challenge,
            },
            Class::Done | Class::Continue => SendErrorKind::Unexpected(reply),
        };
        let error = self.fail(Stage::Auth, kind);
        if rejected {
            let offered = std::mem::take(&mut self.capabilities.auth);
            return Err(OpenError::Rejected {
                error,
                generation,
                offered,
            });
        }
        Err(error.into())
    }

    /// The dialogue of RFC 4954 §4, to its final reply; with what the server explained on the way.
    async fn exchange(
        &mut self,
        mechanism: &str,
        exchange: &mut dyn SaslExchange,
    ) -> Result<(Reply, Option<String>), SendError> {
        let limit = self.settings.timeouts.command;
        let mut sent = Vec::new();
        // "=" stands for an initial response that is there but empty.
        let initial = exchange
            .initial_response()
            .map(|response| match response.as_slice() {
                [] => "=".to_owned(),
                response => BASE64.encode(response),
            });
        sent.extend(initial.clone());
        let (line, mut held_back) = auth_command(mechanism, initial);
        let mut reply = self.auth_line(line, limit, &sent).await?;
        let mut explained = None;
        for _ in 0..MAX_CHALLENGES {
            if reply.code != 334 {
                mask(&mut reply, exchange);
                return Ok((reply, explained));
            }
            let response = if let Some(initial) = held_back.take() {
                initial
            } else {
                let Ok(challenge) = BASE64.decode(reply.text().trim()) else {
                    remove_echo(&mut reply, &sent);
                    mask(&mut reply, exchange);
                    return Err(self.fail(Stage::Auth, SendErrorKind::Unexpected(reply)));
                };
                explained = explanation(&challenge)
                    .map(|text| exchange.mask(&text))
                    .or(explained);
                match exchange.respond(&challenge).await {
                    Ok(response) => BASE64.encode(response),
                    Err(error) => {
                        // Cancelled (RFC 4954 §4); what the server says to that is not the reason.
                        let _ = self
                            .wire
                            .secret_line(b"*\r\n".to_vec(), self.settings.timeouts.quit)
                            .await;
                        return Err(self.fail(Stage::Auth, SendErrorKind::Sasl(error)));
                    }
                }
            };
            let line = format!("{response}\r\n");
            sent.push(response);
            reply = self.auth_line(line, limit, &sent).await?;
        }
        remove_echo(&mut reply, &sent);
        mask(&mut reply, exchange);
        Err(self.fail(Stage::Auth, SendErrorKind::Unexpected(reply)))
    }

    async fn auth_line(
        &mut self,
        line: String,
        limit: Duration,
        sent: &[String],
    ) -> Result<Reply, SendError> {
        let result = self.wire.secret_line(line.into_bytes(), limit).await;
        let mut reply = result.map_err(|error| self.fail(Stage::Auth, kind_of(error)))?;
        if reply.code != 334 {
            remove_echo(&mut reply, sent);
        }
        Ok(reply)
    }

    fn expect(
        &self,
        stage: Stage,
        code: u16,
        result: Result<Reply, Cause>,
    ) -> Result<Reply, SendError> {
        let reply = result.map_err(|error| self.fail(stage, kind_of(error)))?;
        match reply.class() {
            _ if reply.code == code => Ok(reply),
            Class::Transient | Class::Permanent => {
                Err(self.fail(stage, SendErrorKind::Refused(reply)))
            }
            Class::Done | Class::Continue => {
                Err(self.fail(stage, SendErrorKind::Unexpected(reply)))
            }
        }
    }

    fn fail(&self, stage: Stage, kind: SendErrorKind) -> SendError {
        failure(self.settings, stage, kind)
    }
}

/// The command, and the initial response if it must wait for a 334 because the line would be
/// too long: servers refuse such lines, and tokens make them.
fn auth_command(mechanism: &str, initial: Option<String>) -> (String, Option<String>) {
    let Some(initial) = initial else {
        return (format!("AUTH {mechanism}\r\n"), None);
    };
    let line = format!("AUTH {mechanism} {initial}\r\n");
    if line.len() <= MAX_COMMAND_OCTETS {
        (line, None)
    } else {
        (format!("AUTH {mechanism}\r\n"), Some(initial))
    }
}

fn is_mechanism(name: &str) -> bool {
    let allowed =
        |octet: u8| octet.is_ascii_uppercase() || octet.is_ascii_digit() || b"-_".contains(&octet);
    (1..=MAX_MECHANISM_OCTETS).contains(&name.len()) && name.bytes().all(allowed)
}

/// A challenge that is meant to be read: a JSON object, as RFC 7628 §3.2.2 has it.
fn explanation(challenge: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(challenge).ok()?.trim();
    let readable = text.starts_with('{') && text.len() <= MAX_CHALLENGE_OCTETS;
    readable.then(|| {
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    })
}

/// Some servers repeat the line they did not like: credentials must not come back that way.
fn remove_echo(reply: &mut Reply, sent: &[String]) {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    for line in &mut reply.lines {
        let mut clean = String::with_capacity(line.len());
        let mut rest = line.as_str();
        while !rest.is_empty() {
            let start = rest.find(is_base64).unwrap_or(rest.len());
            clean.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
            let word = &rest[..end];
            let echoed = sent
                .iter()
                .any(|sent| word == sent || word.len() >= ECHO_OCTETS && sent.contains(word));
            clean.push_str(if echoed { "…" } else { word });
            rest = &rest[end..];
        }
        *line = clean;
    }
}

/// Nor in clear: whoever holds the secrets takes them out.
fn mask(reply: &mut Reply, exchange: &dyn SaslExchange) {
    for line in &mut reply.lines {
        *line = exchange.mask(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_removed_however_short_the_password() {
        let sent = ["YWJj".to_owned(), "dXNlcj1hAWF1dGg9QmVhcmVyIHQ=".to_owned()];
        let mut reply = Reply {
            code: 535,
            enhanced: None,
            lines: vec!["YWJj? 'dXNlcj1hAWF1' LOGIN YWJ refused".to_owned()],
        };
        remove_echo(&mut reply, &sent);
        assert_eq!(reply.text(), "…? '…' LOGIN YWJ refused");
    }
}
