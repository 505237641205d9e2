//! One client's session: who it is, what it may, and the words it hears.
//!
//! Nobody who has not signed in gets further than that, whatever the settings say.

mod admission;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_smtp::message;
use postrider_smtp::server::{
    self, BodySink, BodyType, Command, EnvelopeSoFar, Exchange, ExchangeEnd, Handler, Limits,
    MailCommand, Problem, RcptCommand, ServerReply, Submission, TlsPolicy, Verb,
};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::author::{no_address, shown};
use crate::backend::{AccountSender, Arrival, Decision, Refusal};
use crate::body::{Body, too_large};
use crate::event::{Accepted, Event};
use crate::gateway::{Current, House};
use crate::handshake;
use crate::limits::{Quota, Reservation};
use crate::settings::{Mode, Quirks, Settings, TlsMode};
use crate::sign_in::{self, NoAttempt};
use crate::transaction::{Transaction, may_send_as, no_sender};
use admission::SignedIn;

/// Serves a client until it leaves or is sent away.
pub(crate) async fn serve(
    house: Arc<House>,
    current: Arc<Current>,
    stream: TcpStream,
    client: IpAddr,
) {
    let settings = &current.settings;
    let tls = match settings.tls {
        TlsMode::Offered if client.is_loopback() => TlsPolicy::DangerOffered,
        TlsMode::Starttls | TlsMode::Offered => TlsPolicy::Starttls,
        TlsMode::Implicit => TlsPolicy::Implicit,
        TlsMode::DangerPlaintext => TlsPolicy::DangerPlaintext,
    };
    let mut limits = limits(settings);
    let quirks = quirks(settings.quirks);
    let acceptor = current.acceptor.clone();
    let door = Arc::clone(&house);
    let session = Session {
        arrival: Arrival {
            gateway: Arc::clone(&house.name),
            device: None,
            client,
            helo: String::new(),
            mechanism: "",
            tls: None,
            sender: None,
            recipients: Vec::new(),
        },
        needs_tls: tls == TlsPolicy::Starttls,
        has_tls: acceptor.is_some(),
        house,
        current,
        extended: false,
        failures: 0,
        signed_in: None,
        transaction: None,
        place: None,
    };
    if tls == TlsPolicy::Implicit {
        let (came, mut octet) = (Instant::now(), [0]);
        let begun = tokio::select! {
            begun = handshake::first_octet(stream.peek(&mut octet), limits.handshake_time) => begun,
            () = session.stopping() => Err(None),
        };
        if let Err(silent) = begun {
            if let Some(problem) = silent {
                door.not_encrypted(client, problem.to_owned());
            }
            return;
        }
        // The handshake has what is left of its time.
        limits.handshake_time = limits.handshake_time.saturating_sub(came.elapsed());
    }
    if let Err(error) = server::serve(stream, acceptor, tls, session, limits, quirks).await {
        // What the network does to one client is its own matter.
        tracing::debug!(%client, %error, "a connection was lost");
        if let Some(problem) = handshake::explain(&error) {
            door.not_encrypted(client, problem);
        }
    }
}

fn limits(settings: &Settings) -> Limits {
    let default = Limits::default();
    // Whoever is silent is, in the middle of a line or a message, too.
    let at_most = |limit: Duration| limit.min(settings.idle_timeout);
    Limits {
        message_octets: settings.max_message(),
        recipients: settings.max_recipients(),
        idle_time: settings.idle_timeout,
        command_time: at_most(default.command_time),
        write_time: at_most(default.write_time),
        body_pause: at_most(default.body_pause),
        session_time: settings.session_timeout,
        ..default
    }
}

fn quirks(quirks: Quirks) -> server::Quirks {
    server::Quirks {
        bare_lf: quirks.bare_lf,
        mail_from_space: quirks.mail_from_space,
        no_brackets: quirks.no_brackets,
        // One that is no address is refused where it is not replaced.
        any_sender: true,
        login_nul: quirks.login_nul,
        helo_only: quirks.helo_only,
    }
}

struct Session {
    house: Arc<House>,
    current: Arc<Current>,
    /// `AUTH` and all behind it want TLS first.
    needs_tls: bool,
    /// There is TLS to be had, or on.
    has_tls: bool,
    arrival: Arrival,
    extended: bool,
    failures: u32,
    signed_in: Option<SignedIn>,
    transaction: Option<Transaction>,
    /// The message's place among those that the device may send.
    place: Option<Reservation>,
}

impl Handler for Session {
    /// Boxed, like the futures of single commands: an idle session is to be small.
    type Body = Box<Body>;

    async fn greeting(&mut self) -> ServerReply {
        let host = &self.current.settings.hostname;
        ServerReply::new(220, format!("{host} ESMTP Postrider"))
    }

    async fn before(&mut self, command: &Command) -> Option<ServerReply> {
        match command {
            Command::Ehlo(_) => self.extended = true,
            Command::Helo(_) => self.extended = false,
            _ => {}
        }
        None
    }

    fn hello(&mut self, name: &str) -> String {
        name.clone_into(&mut self.arrival.helo);
        self.current.settings.hostname.clone()
    }

    fn capabilities(&mut self, tls: bool) -> Vec<String> {
        let size = format!("SIZE {}", self.current.settings.max_message());
        let mut lines: Vec<String> = [
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "DSN",
            "ENHANCEDSTATUSCODES",
        ]
        .map(str::to_owned)
        .to_vec();
        lines.push(size);
        if self.has_tls && !tls {
            lines.push("STARTTLS".to_owned());
        }
        if tls || !self.needs_tls {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        lines
    }

    fn secured(&mut self, tls: &rustls::ServerConnection) {
        self.arrival.tls = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
            Some(rustls::ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
            _ => Some("TLS"),
        };
        // All that was said in clear is void (RFC 3207 §4.2), a sign-in above all.
        self.signed_in = None;
        self.extended = false;
        self.arrival.helo.clear();
        (self.arrival.device, self.arrival.mechanism) = (None, "");
    }

    async fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        exchange: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        let nul = self.current.settings.quirks.login_nul;
        let attempt = match Box::pin(sign_in::ask(mechanism, initial, exchange, nul)).await {
            Ok(attempt) => attempt,
            // Guesses in another shape are guesses.
            Err(NoAttempt::Refused(refusal)) if refusal.code == 535 => {
                let failed = self.failed(Instant::now(), None, "", None);
                return Ok(Box::pin(failed).await);
            }
            Err(NoAttempt::Refused(refusal)) => return Ok(refusal.reply()),
            Err(NoAttempt::Ended(end)) => return Err(end),
        };
        Ok(Box::pin(self.sign_in(attempt)).await)
    }

    async fn mail(&mut self, mail: &MailCommand) -> ServerReply {
        self.arrival.recipients.clear();
        self.arrival.sender = Some(mail.reverse_path.clone());
        match Box::pin(self.begin(mail)).await {
            Ok(transaction) => {
                self.transaction = Some(transaction);
                ServerReply::new(250, "2.1.0 OK")
            }
            Err(refusal) => {
                // It may be a password that was typed into the wrong field.
                self.arrival
                    .sender
                    .take_if(|path| !path.is_empty() && !path.contains('@'));
                let reply = self.refused(refusal);
                self.reset();
                reply
            }
        }
    }

    async fn rcpt(&mut self, rcpt: &RcptCommand) -> ServerReply {
        match self.recipient(rcpt) {
            Ok(()) => {
                self.arrival.recipients.push(rcpt.forward_path.clone());
                ServerReply::new(250, "2.1.5 OK")
            }
            Err(refusal) => {
                let taken = std::mem::replace(
                    &mut self.arrival.recipients,
                    vec![rcpt.forward_path.clone()],
                );
                let reply = self.refused(refusal);
                self.arrival.recipients = taken;
                reply
            }
        }
    }

    async fn body(&mut self, _: &EnvelopeSoFar<'_>) -> Result<Box<Body>, ServerReply> {
        let Some(transaction) = self.transaction.clone() else {
            return Err(Problem::MailFirst.reply());
        };
        Ok(Box::new(Body::new(
            Arc::clone(&self.house),
            Arc::clone(&self.current),
            self.arrival.clone(),
            transaction,
            self.extended,
        )))
    }

    async fn message(&mut self, submission: Submission<Box<Body>>) -> ServerReply {
        let account = self.transaction.take().map(|open| open.account);
        let reply = match Box::pin(submission.body.finish()).await {
            Ok(taken) => {
                if let Some(place) = self.place.take() {
                    place.commit(self.house.backend.now());
                }
                let reply = ServerReply::new(250, format!("2.0.0 queued as {}", taken.queued.id));
                self.house.tell(Event::Accepted {
                    arrival: self.arrival.clone(),
                    accepted: Accepted {
                        id: taken.queued.id,
                        message_id: taken.message_id,
                        account: account.unwrap_or_default(),
                        sender: taken.reverse_path.map(|path| path.to_string()),
                        octets: taken.octets,
                    },
                });
                reply
            }
            Err(refusal) => self.refused(refusal),
        };
        self.reset();
        reply
    }

    fn reset(&mut self) {
        self.transaction = None;
        self.place = None;
        self.arrival.sender = None;
        self.arrival.recipients.clear();
    }

    fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.house.stop.subscribe();
        async move {
            // Without a sender there is nobody to stop it but the end of all.
            if stop.wait_for(|is_stopping| *is_stopping).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn refuse(&mut self, problem: &Problem) -> ServerReply {
        let (code, enhanced, text) = problem.parts();
        let quirk = mended_by(problem, self.current.settings.quirks);
        let text = match quirk {
            Some(quirk) => format!("{text}; the quirk {quirk} lets it pass"),
            None => text.into_owned(),
        };
        let refusal = Refusal::new(code, enhanced, text);
        let reply = refusal.reply();
        if *problem == Problem::TlsUnasked {
            let problem = match self.current.settings.tls {
                TlsMode::DangerPlaintext => handshake::NONE_HERE,
                _ => handshake::UNASKED,
            };
            let problem = problem.to_owned();
            self.house.not_encrypted(self.arrival.client, problem);
        }
        // What a device that is known fails at is worth knowing, and what has to be mended here.
        if self.signed_in.is_some() || quirk.is_some() || *problem == Problem::ProxyHeader {
            self.tell_refused(refusal);
        }
        reply
    }
}

/// The quirk that would take what the server half refuses.
fn mended_by(problem: &Problem, quirks: Quirks) -> Option<&'static str> {
    let (quirk, is_on) = match problem {
        Problem::BareLineFeed | Problem::BodyBareLineFeed => ("bare_lf", quirks.bare_lf),
        Problem::SpaceBehindColon(_) => ("mail_from_space", quirks.mail_from_space),
        Problem::NoBrackets(_) => ("no_brackets", quirks.no_brackets),
        Problem::AuthNul => ("login_nul", quirks.login_nul),
        Problem::EhloFirst | Problem::Arguments(Verb::Helo) => ("helo_only", quirks.helo_only),
        _ => return None,
    };
    (!is_on).then_some(quirk)
}

/// A script wants what must not be: the log hears what, the device only to come again.
pub(crate) fn broken_rule(
    house: &House,
    arrival: &Arrival,
    by: String,
    problem: String,
) -> Refusal {
    house.tell(Event::RuleBroken {
        arrival: arrival.clone(),
        by,
        problem,
    });
    let text = "a rule could not be applied, try again later";
    Refusal::new(451, "4.3.0", text)
}

impl Session {
    /// Whether this device may send as that, now.
    async fn begin(&mut self, mail: &MailCommand) -> Result<Transaction, Refusal> {
        let Some(SignedIn { policy, hash }) = &self.signed_in else {
            let text = if self.needs_tls && self.arrival.tls.is_none() {
                "sign in first: STARTTLS, then AUTH"
            } else {
                "sign in first: AUTH"
            };
            return Err(Refusal::new(530, "5.7.0", text));
        };
        let policy = Arc::clone(policy);
        self.check_stored(hash).await?;
        if mail.body == BodyType::BinaryMime {
            return Err(Refusal::new(
                555,
                "5.5.4",
                "BODY=BINARYMIME is not to be had",
            ));
        }
        let settings = &Arc::clone(&self.current).settings;
        let (account, observes) = match &settings.mode {
            Mode::Submit => (policy.account.clone(), false),
            Mode::Observe { account } => (account.clone(), true),
        };
        // What may be sent as is the account's that it will go through one day.
        let own = self.sender_of(&policy.account)?;
        if mail
            .size
            .is_some_and(|size| size > policy.max_message as u64)
        {
            self.would_refuse(observes, too_large(policy.max_message))?;
        }
        let path = mail.reverse_path.as_str();
        let mut reverse_path = message::address(path);
        if reverse_path.is_none() && !path.is_empty() && (observes || !policy.rewrite_from) {
            return Err(Refusal::new(553, "5.1.7", no_address(path)));
        }
        if !path.is_empty() && !may_send_as(&policy, &own, path) {
            if observes || !policy.rewrite_from {
                self.would_refuse(observes, no_sender(&policy, &own, path))?;
            } else {
                reverse_path = Some(own.address.clone());
            }
        }
        let mut transaction = Transaction::new(Arc::clone(&policy), account, own, mail);
        (transaction.reverse_path, transaction.observes) = (reverse_path, observes);
        let quota = Quota {
            per_minute: policy.messages_per_minute,
            per_day: policy.messages_per_day,
        };
        let house = Arc::clone(&self.house);
        let now = house.backend.now();
        match house
            .limits
            .reserve(&house.name, self.arrival.device(), quota, now)
        {
            Ok(place) => self.place = Some(place),
            Err(full) => self.would_refuse(observes, full.refusal())?,
        }
        match self.house.backend.on_mail(&self.arrival).await? {
            Decision::Continue => {}
            Decision::Refuse(why) => return Err(Refusal::new(550, "5.7.1", why)),
            Decision::Change {
                sender,
                account,
                by,
            } => {
                transaction.rule = Some(by.clone());
                let changed = self.change(&mut transaction, sender, account);
                changed.map_err(|problem| broken_rule(&house, &self.arrival, by, problem))?;
            }
        }
        Ok(transaction)
    }

    /// What a script wants otherwise, and whether it may: its mistakes are not the device's.
    fn change(
        &self,
        transaction: &mut Transaction,
        sender: Option<String>,
        account: Option<String>,
    ) -> Result<(), String> {
        if let Some(account) = account {
            let known = self.house.backend.sender(&account);
            transaction.sender = known.ok_or_else(|| format!("there is no account {account:?}"))?;
            transaction.account = account;
        }
        let is_given = sender.is_some();
        if let Some(sender) = sender {
            transaction.reverse_path = message::address(&sender);
            if transaction.reverse_path.is_none() && !sender.is_empty() {
                return Err(format!("the sender {} is no address", shown(&sender)));
            }
        }
        let Some(path) = &transaction.reverse_path else {
            return Ok(());
        };
        if transaction.may_send_as(path.as_ref()) {
            return Ok(());
        }
        if !is_given && transaction.policy.rewrite_from {
            transaction.reverse_path = Some(transaction.sender.address.clone());
            return Ok(());
        }
        let (path, account) = (shown(path.as_ref()), &transaction.account);
        Err(format!(
            "{path} is neither the account {account}'s own address nor one of the device's senders"
        ))
    }

    fn sender_of(&self, account: &str) -> Result<AccountSender, Refusal> {
        self.house.backend.sender(account).ok_or_else(|| {
            let text = "the gateway is not set up for this mail, try again later";
            Refusal::new(451, "4.3.5", text)
        })
    }

    fn recipient(&mut self, rcpt: &RcptCommand) -> Result<(), Refusal> {
        let Some(transaction) = &self.transaction else {
            return Err(Refusal::new(503, "5.5.1", "MAIL first"));
        };
        let policy = Arc::clone(&transaction.policy);
        let observes = transaction.observes;
        let path = &rcpt.forward_path;
        let Some(address) = message::address(path) else {
            let text = format!("{} that mail can be sent to", no_address(path));
            return Err(Refusal::new(553, "5.1.3", text));
        };
        if transaction.recipients.len() >= policy.recipients_per_message {
            let at_most = policy.recipients_per_message;
            let text = format!("too many recipients: {at_most} at most in one message");
            self.would_refuse(observes, Refusal::new(452, "4.5.3", text))?;
        }
        if !policy.allows_recipient(address.as_ref()) {
            let text = format!("you may not send to {}", shown(path));
            self.would_refuse(observes, Refusal::new(550, "5.7.1", text))?;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.add(address, rcpt);
        }
        Ok(())
    }

    /// Refuses, unless this gateway only observes: then it is told.
    fn would_refuse(&self, observes: bool, refusal: Refusal) -> Result<(), Refusal> {
        if !observes {
            return Err(refusal);
        }
        self.house.tell(Event::WouldRefuse {
            arrival: self.arrival.clone(),
            refusal,
        });
        Ok(())
    }

    fn refused(&self, refusal: Refusal) -> ServerReply {
        let reply = refusal.reply();
        self.tell_refused(refusal);
        reply
    }

    fn tell_refused(&self, refusal: Refusal) {
        self.house.tell(Event::Refused {
            arrival: self.arrival.clone(),
            refusal,
        });
    }
}

impl BodySink for Box<Body> {
    async fn write(&mut self, octets: &[u8]) -> Result<(), ServerReply> {
        let taken = Box::pin(self.take(octets)).await;
        taken.map_err(|refusal| {
            let reply = refusal.reply();
            self.tell_refused(refusal);
            reply
        })
    }
}
