//! One client's session: the dialogue of `facts` A1, with the scenario's faults in it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use postrider_smtp::server::{
    Command, Cue, EnvelopeSoFar, Exchange as Challenges, ExchangeEnd, Handler, MailCommand,
    Problem, RcptCommand, ServerReply, Submission,
};
use tokio::time::Instant;

use super::Exchange;
use super::ledger::{Ledger, Over, Seat};
use super::sign_in::{self, Denied, Proof, Said};
use super::submission::{self, Unfit};
use super::wording::{self, Names};
use crate::inbox::{Delivery, Inbox, Origin};
use crate::scenario::{Effect, FaultPoint};
use crate::state::{Area, Outcome, State};

/// A client's Message-ID longer than this is not repeated in the reply.
const MESSAGE_ID: usize = 250;

pub(super) struct Session {
    state: State,
    inbox: Inbox,
    ledger: Arc<Ledger>,
    names: Names,
    client: IpAddr,
    connected: Instant,
    hello: String,
    tls: String,
    /// The mailbox that signed in.
    user: Option<String>,
    seat: Option<Seat>,
    refused: Option<ServerReply>,
    recipients: Vec<String>,
    body_begun: bool,
    hide_starttls: bool,
    inject: Option<String>,
    lose_reply: bool,
}

impl Session {
    pub(super) fn new(service: &Exchange, client: IpAddr) -> Self {
        Self {
            names: Names::new(&service.state),
            state: service.state.clone(),
            inbox: service.inbox.clone(),
            ledger: Arc::clone(&service.ledger),
            client,
            connected: Instant::now(),
            hello: String::new(),
            tls: String::new(),
            user: None,
            seat: None,
            refused: None,
            recipients: Vec::new(),
            body_begun: false,
            hide_starttls: false,
            inject: None,
            lose_reply: false,
        }
    }

    fn log(&self, what: &str, outcome: Outcome, why: impl Into<String>) {
        let subject = self.user.clone().unwrap_or_default();
        self.state.log(Area::Exchange, what, subject, outcome, why);
    }

    /// Meets the fault set for this point. `Some` is said instead of the usual answer.
    async fn fault(&mut self, at: FaultPoint, subject: &str) -> Option<ServerReply> {
        let effect = self.state.take_fault(at, subject)?;
        let (what, why) = (format!("fault {at:?}"), format!("{effect:?}"));
        self.state
            .log(Area::Exchange, what, subject, Outcome::Refused, why);
        match effect {
            Effect::Delay(span) => tokio::time::sleep(span.duration()).await,
            Effect::Hang => std::future::pending().await,
            Effect::Close => return Some(ServerReply::vanish()),
            Effect::Reply(text) => return Some(scripted(&text)),
            Effect::HideStarttls => self.hide_starttls = true,
            Effect::InjectPlaintext(text) => self.inject = Some(text),
            Effect::LoseReply => self.lose_reply = true,
            // Entra's; a scenario does not put them here.
            Effect::Aadsts(_) | Effect::Http(_) => {}
        }
        None
    }

    async fn sign_in(&mut self, mechanism: &str, user: &str, proof: &Proof<'_>) -> ServerReply {
        if let Some(reply) = self.fault(FaultPoint::SmtpAuth, user).await {
            return reply;
        }
        let what = format!("AUTH {mechanism}");
        let denied = match sign_in::sign_in(&self.state, user, proof) {
            Ok((mailbox, how)) => {
                self.seat = self.ledger.seat(&mailbox, &self.state.scenario().limits);
                self.user = Some(mailbox);
                self.refused = None;
                self.log(&what, Outcome::Done, how);
                return ServerReply::new(235, "2.7.0 Authentication successful");
            }
            Err(denied) => denied,
        };
        self.turn_away(&what, user, denied)
    }

    fn turn_away(&mut self, what: &str, user: &str, denied: Denied) -> ServerReply {
        let user: String = user.chars().take(MESSAGE_ID).collect();
        self.state
            .log(Area::Exchange, what, user, Outcome::Refused, denied.why);
        let now = self.state.now();
        let reply = match denied.said {
            Said::Nothing => self.names.unsuccessful(now),
            Said::Reason(reason) => self.names.unsuccessful_because(reason, now),
            Said::Retired => wording::basic_retired(),
        };
        self.refused = Some(reply.clone());
        reply
    }

    /// Checks and keeps a message, and answers.
    async fn submit(&mut self, submission: Submission) -> ServerReply {
        let scenario = self.state.scenario();
        let found = self.user.as_deref().and_then(|name| scenario.user(name));
        let Some(user) = found else {
            self.log(
                "message",
                Outcome::Refused,
                "the mailbox is gone from the scenario",
            );
            return self.names.not_active();
        };
        let origin = Origin::of(&submission.body);
        if let Err(Unfit { reply, why }) =
            submission::check(&scenario, &self.names, user, &submission, &origin)
        {
            self.log("message", Outcome::Refused, why);
            return reply;
        }
        if self.seat.is_none() {
            self.seat = self.ledger.seat(&user.upn, &scenario.limits);
        }
        if self.seat.is_none() {
            let why = format!(
                "{} others send from this mailbox already",
                scenario.limits.connections
            );
            self.log("message", Outcome::Refused, why);
            return self.names.too_many_senders();
        }
        let now = self.state.now();
        let recipients = u32::try_from(submission.recipients.len()).unwrap_or(u32::MAX);
        match self
            .ledger
            .admit(&user.upn, recipients, now, &scenario.limits)
        {
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(Over::Rate) => {
                let why = format!(
                    "more than {} messages in a minute",
                    scenario.limits.messages_per_minute
                );
                self.log("message", Outcome::Refused, why);
                self.seat = None;
                return wording::too_fast();
            }
            Err(Over::Day) => {
                let why = format!(
                    "more than {} recipients in 24 hours",
                    scenario.limits.recipients_per_day
                );
                self.log("message", Outcome::Refused, why);
                return self.names.quota_exceeded();
            }
        }
        self.keep(user.upn.clone(), submission, origin.message_id)
            .await
    }

    async fn keep(
        &mut self,
        submitted_by: String,
        submission: Submission,
        theirs: Option<String>,
    ) -> ServerReply {
        let repeatable =
            |id: &String| id.len() <= MESSAGE_ID && id.bytes().all(|b| b.is_ascii_graphic());
        let message_id = match theirs.clone().filter(repeatable) {
            Some(id) => id,
            None => format!("<{}@{}>", self.state.guid(), self.names.mailbox_server()),
        };
        let received = self.state.now();
        let mut trace = format!("Return-Path: <{}>\r\n", submission.mail.reverse_path);
        let _ = write!(
            trace,
            "Received: from {} ({})\r\n by {} with Microsoft SMTP Server\r\n ({}) id {}; {}\r\n",
            self.hello,
            self.client,
            self.names.server(),
            self.tls,
            self.names.session(),
            received.strftime("%a, %d %b %Y %H:%M:%S +0000"),
        );
        if theirs.is_none() {
            let _ = write!(trace, "Message-ID: {message_id}\r\n");
        }
        let recipients = submission.recipients.len();
        let delivery = Delivery {
            received,
            submitted_by,
            message_id: message_id.clone(),
            trace,
            submission,
        };
        match self.inbox.deliver(delivery).await {
            Ok(stored) => {
                let kept = format!(
                    "kept as number {} for {recipients} recipients",
                    stored.number
                );
                self.log("message", Outcome::Done, kept);
                self.names.accepted(&message_id)
            }
            Err(error) => {
                self.log(
                    "message",
                    Outcome::Refused,
                    format!("the inbox cannot keep it: {error}"),
                );
                ServerReply::new(451, "4.3.2 Temporary server error")
            }
        }
    }
}

impl Handler for Session {
    type Body = Vec<u8>;

    async fn greeting(&mut self) -> ServerReply {
        match self.fault(FaultPoint::SmtpConnect, "").await {
            Some(reply) => reply,
            None => self.names.greeting(self.state.now()),
        }
    }

    async fn before(&mut self, command: &Command) -> Option<ServerReply> {
        let user = self.user.clone().unwrap_or_default();
        match command {
            Command::Ehlo(_) | Command::Helo(_) => self.fault(FaultPoint::SmtpEhlo, &user).await,
            Command::Starttls => self.fault(FaultPoint::SmtpStarttls, &user).await,
            Command::Mail(_) => self.fault(FaultPoint::SmtpMail, &user).await,
            Command::Rcpt(rcpt) => self.fault(FaultPoint::SmtpRcpt, &rcpt.forward_path).await,
            Command::Data | Command::Bdat { .. } if !self.body_begun => {
                self.body_begun = true;
                self.fault(FaultPoint::SmtpData, &user).await
            }
            _ => None,
        }
    }

    fn hello(&mut self, name: &str) -> String {
        name.clone_into(&mut self.hello);
        format!("{} Hello [{}]", self.names.host(), self.client)
    }

    fn capabilities(&mut self, tls: bool) -> Vec<String> {
        let size = format!("SIZE {}", self.state.scenario().limits.message_octets);
        let changing = if tls {
            "AUTH LOGIN XOAUTH2"
        } else {
            "STARTTLS"
        };
        let hidden = !tls && std::mem::take(&mut self.hide_starttls);
        [
            &size,
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            changing,
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ]
        .into_iter()
        .filter(|line| !(hidden && *line == "STARTTLS"))
        .map(str::to_owned)
        .collect()
    }

    fn secured(&mut self, tls: &rustls::ServerConnection) {
        let version = tls
            .protocol_version()
            .map_or("unknown".to_owned(), |v| format!("{v:?}"));
        let cipher = tls
            .negotiated_cipher_suite()
            .map_or("unknown".to_owned(), |suite| format!("{:?}", suite.suite()));
        self.tls = format!("version={version}, cipher={cipher}");
    }

    async fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        challenges: &mut Challenges<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        match mechanism {
            "XOAUTH2" => {
                let blob = match initial {
                    Some(blob) => blob,
                    None => challenges.ask(b"").await?,
                };
                Ok(match sign_in::xoauth2(&blob) {
                    Some((user, token)) => {
                        self.sign_in(mechanism, user, &Proof::Token(token)).await
                    }
                    None => self.turn_away(
                        "AUTH XOAUTH2",
                        "",
                        Denied {
                            said: Said::Nothing,
                            why: "the response is not user=… ^A auth=Bearer … ^A ^A".to_owned(),
                        },
                    ),
                })
            }
            "LOGIN" => {
                let user = match initial {
                    Some(user) => user,
                    None => challenges.ask(b"Username:").await?,
                };
                let password = challenges.ask(b"Password:").await?;
                let (user, password) = (
                    String::from_utf8_lossy(&user),
                    String::from_utf8_lossy(&password),
                );
                Ok(self
                    .sign_in(mechanism, &user, &Proof::Password(&password))
                    .await)
            }
            _ => {
                self.log(
                    "AUTH",
                    Outcome::Refused,
                    format!("{mechanism} is not offered"),
                );
                Ok(self.names.unknown_mechanism())
            }
        }
    }

    async fn mail(&mut self, _: &MailCommand) -> ServerReply {
        if self.user.is_none() {
            self.log("MAIL", Outcome::Refused, "the client has not signed in");
            return self.names.not_authenticated(self.refused.as_ref());
        }
        self.reset();
        ServerReply::new(250, "2.1.0 Sender OK")
    }

    async fn rcpt(&mut self, rcpt: &RcptCommand) -> ServerReply {
        if submission::crowded(&rcpt.forward_path, &self.recipients) {
            let why = format!(
                "more than {} recipients of one domain",
                submission::OF_ONE_DOMAIN
            );
            self.log("RCPT", Outcome::Refused, why);
            return wording::too_many_of_one_domain();
        }
        self.recipients.push(rcpt.forward_path.clone());
        ServerReply::new(250, "2.1.5 Recipient OK")
    }

    async fn body(&mut self, _: &EnvelopeSoFar<'_>) -> Result<Vec<u8>, ServerReply> {
        Ok(Vec::new())
    }

    async fn message(&mut self, submission: Submission) -> ServerReply {
        self.reset();
        let user = self.user.clone().unwrap_or_default();
        if let Some(reply) = self.fault(FaultPoint::SmtpMessage, &user).await {
            return reply;
        }
        let reply = self.submit(submission).await;
        if std::mem::take(&mut self.lose_reply) {
            return ServerReply::vanish();
        }
        reply
    }

    fn reset(&mut self) {
        self.recipients.clear();
        self.body_begun = false;
    }

    fn confirm(&mut self, cue: Cue) -> ServerReply {
        if cue == Cue::Quit {
            // The seat is free with the reply, not with the last octet of the connection.
            self.seat = None;
        }
        let reply = wording::confirm(cue);
        match self.inject.take_if(|_| cue == Cue::Starttls) {
            Some(text) => reply.danger_followed_by(format!("{text}\r\n")),
            None => reply,
        }
    }

    fn refuse(&mut self, problem: &Problem) -> ServerReply {
        // A response sent out of turn looks like a command: its words stay out of the log.
        let why = match problem {
            Problem::Unrecognized(_) => "Unrecognized".to_owned(),
            other => format!("{other:?}"),
        };
        self.log("command", Outcome::Refused, why);
        self.names
            .refuse(problem, self.state.now(), self.connected.elapsed())
    }
}

/// A fault's reply, `451 4.7.0 Temporary server error`; 421 closes.
fn scripted(text: &str) -> ServerReply {
    let (code, rest) = match text.split_at_checked(3) {
        Some((code, rest)) => (code.parse().unwrap_or(451), rest.trim_start()),
        None => (451, text),
    };
    let reply = ServerReply::new(code, rest);
    if code == 421 { reply.closing() } else { reply }
}
