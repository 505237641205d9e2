//! A message as it comes: its header is read whole, checked and completed; the rest goes through.
//!
//! However long the message is, no more of it is held than its header, up to the bound, and one
//! line. What leaves is fit for SMTP whatever came (see [`Intake`]).

use std::sync::Arc;

use jiff::tz::TimeZone;
use postrider_smtp::message::{Field, Header, Intake};
use postrider_smtp::{Address, Envelope};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::author;
use crate::backend::{Arrival, Backend, Entry, Finished, Queued, Refusal};
use crate::event::Event;
use crate::gateway::{Current, House};
use crate::session::broken_rule;
use crate::trace::{self, Trace};
use crate::transaction::{Transaction, may_send_as};

/// Fields that a message is not sent with: `Bcc` would tell everybody what it is there to hide
/// (RFC 6409 §8 lets a submission server take it out), the others are a mailbox's.
const LEFT_OUT: [&str; 4] = ["Bcc", "Resent-Bcc", "Return-Path", "Content-Length"];
/// More of a `Message-ID` is none.
const MAX_MESSAGE_ID: usize = 990;

/// Where one message's octets go.
pub(crate) struct Body {
    house: Arc<House>,
    current: Arc<Current>,
    arrival: Arrival,
    transaction: Transaction,
    extended: bool,
    intake: Intake,
    /// Fit for SMTP, to be written next.
    fit: Vec<u8>,
    begun: Option<Begun>,
    octets: u64,
}

/// A message whose header is on its way.
struct Begun {
    entry: Box<dyn Entry>,
    message_id: String,
    reverse_path: Option<Address>,
}

/// A message that is safe.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) queued: Queued,
    pub(crate) message_id: String,
    pub(crate) reverse_path: Option<Address>,
    pub(crate) octets: u64,
}

impl Body {
    pub(crate) fn new(
        house: Arc<House>,
        current: Arc<Current>,
        arrival: Arrival,
        transaction: Transaction,
        extended: bool,
    ) -> Self {
        Self {
            house,
            current,
            arrival,
            transaction,
            extended,
            intake: Intake::default(),
            fit: Vec::new(),
            begun: None,
            octets: 0,
        }
    }

    /// The next octets.
    ///
    /// # Errors
    /// The message is not taken; nothing more is to be written.
    pub(crate) async fn take(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        self.octets = self.octets.saturating_add(octets.len() as u64);
        let at_most = self.transaction.policy.max_message;
        if !self.transaction.observes && self.octets > at_most as u64 {
            return Err(too_large(at_most));
        }
        let taken = self.intake.push(octets, &mut self.fit);
        taken.map_err(|error| Refusal::new(552, "5.3.4", error.to_string()))?;
        self.pass_on().await
    }

    /// Nothing follows: queues the message. It is safe when this returns.
    ///
    /// # Errors
    /// It is not queued.
    pub(crate) async fn finish(mut self) -> Result<Taken, Refusal> {
        let finished = self.intake.finish(&mut self.fit);
        finished.map_err(|error| Refusal::new(552, "5.3.4", error.to_string()))?;
        self.pass_on().await?;
        let at_most = self.transaction.policy.max_message;
        if self.octets > at_most as u64 {
            self.refuse(too_large(at_most))?;
        }
        let Some(begun) = self.begun else {
            // The intake has ended the header, so it has begun.
            return Err(Refusal::new(
                451,
                "4.3.0",
                "an internal error, try again later",
            ));
        };
        let envelope = Envelope {
            reverse_path: begun.reverse_path.clone(),
            recipients: self.transaction.recipients.clone(),
        };
        let finished = Finished {
            envelope,
            message_id: begun.message_id.clone(),
            dsn: self.transaction.dsn(),
            policy: Arc::clone(&self.transaction.policy),
        };
        let queued = begun.entry.finish(finished).await?;
        Ok(Taken {
            queued,
            message_id: begun.message_id,
            reverse_path: begun.reverse_path,
            octets: self.octets,
        })
    }

    pub(crate) fn tell_refused(&self, refusal: Refusal) {
        self.house.tell(Event::Refused {
            arrival: self.arrival.clone(),
            refusal,
        });
    }

    async fn pass_on(&mut self) -> Result<(), Refusal> {
        if self.begun.is_none() && self.intake.is_in_body() {
            let header = self.intake.take_header();
            self.begun = Some(self.begin(header).await?);
        }
        if let Some(begun) = &mut self.begun
            && !self.fit.is_empty()
        {
            begun.entry.write(&self.fit).await?;
            self.fit.clear();
        }
        Ok(())
    }

    /// Checks and completes the header, and sends it ahead.
    async fn begin(&mut self, mut header: Header) -> Result<Begun, Refusal> {
        let settings = &self.current.settings;
        let backend: &dyn Backend = &*self.house.backend;
        let transaction = &self.transaction;
        let unique = unique()?;
        let now = backend.now().to_zoned(TimeZone::system());

        for name in LEFT_OUT {
            header.remove(name);
        }
        let mut reverse_path = transaction.reverse_path.clone();
        let allowed = |address: &str| transaction.may_send_as(address);
        let instead = transaction.instead().filter(|_| !transaction.observes);
        match author::check(&mut header, allowed, instead.as_ref(), &settings.hostname) {
            Ok(true) if reverse_path.is_some() => {
                reverse_path = Some(transaction.sender.address.clone());
            }
            Ok(_) => {}
            Err(refusal) => {
                let own =
                    |address: &str| may_send_as(&transaction.policy, &transaction.own, address);
                // What the device may say, though not through the account that a script chose.
                if let Some(by) = &transaction.rule
                    && author::check(&mut header, own, None, &settings.hostname).is_ok()
                {
                    let account = &transaction.account;
                    let problem = format!("through the account {account}: {}", refusal.text);
                    return Err(broken_rule(&self.house, &self.arrival, by.clone(), problem));
                }
                self.refuse(refusal)?;
            }
        }
        let completes = settings.quirks.missing_headers;
        if !completes && let Err(refusal) = has_what_it_needs(&header) {
            self.refuse(refusal)?;
        }
        let domain = transaction.sender.address.domain();
        let message_id = complete(&mut header, domain, &unique, &now);
        let trace = Trace {
            host: &settings.hostname,
            extended: self.extended,
            utf8: transaction.utf8,
            hide_client: settings.hide_client,
            id: &unique[..16],
            now: &now,
        };
        trace::add(&mut header, &self.arrival, &trace)?;

        let mut octets = Vec::new();
        header.write_to(&mut octets);
        octets.extend_from_slice(b"\r\n");
        let mut entry = backend.entry(&transaction.account, &self.arrival).await?;
        entry.write(&octets).await?;
        Ok(Begun {
            entry,
            message_id,
            reverse_path,
        })
    }

    /// Refuses, unless this gateway only says what it would have refused.
    fn refuse(&self, refusal: Refusal) -> Result<(), Refusal> {
        if !self.transaction.observes {
            return Err(refusal);
        }
        self.house.tell(Event::WouldRefuse {
            arrival: self.arrival.clone(),
            refusal,
        });
        Ok(())
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("octets", &self.octets)
            .finish_non_exhaustive()
    }
}

pub(crate) fn too_large(at_most: usize) -> Refusal {
    let text = format!("the message is too large: {at_most} octets at most");
    Refusal::new(552, "5.3.4", text)
}

/// RFC 5322 §3.6 wants a date; a message without an identifier is one that nobody finds again.
fn has_what_it_needs(header: &Header) -> Result<(), Refusal> {
    let is_missing = |name: &&str| {
        header
            .find(name)
            .is_none_or(|field| field.text().is_empty())
    };
    let missing: Vec<&str> = ["Date", "Message-ID"]
        .into_iter()
        .filter(is_missing)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" and no ");
    let text = format!("the message has no {missing}: the quirk missing_headers adds it");
    Err(Refusal::new(554, "5.6.0", text))
}

/// Adds what is missing; the `Message-ID`.
fn complete(header: &mut Header, domain: &str, unique: &str, now: &jiff::Zoned) -> String {
    for name in ["Date", "Message-ID"] {
        // An empty one says as little as none.
        if header
            .find(name)
            .is_some_and(|field| field.text().is_empty())
        {
            header.remove(name);
        }
    }
    if header.find("Date").is_none() {
        header.put_first(Field::new("Date", &trace::date(now)));
    }
    let found = header.find("Message-ID").map(Field::text);
    found
        .filter(|id| id.len() <= MAX_MESSAGE_ID)
        .unwrap_or_else(|| {
            let id = format!("<{unique}@{domain}>");
            header.remove("Message-ID");
            header.put_first(Field::new("Message-ID", &id));
            id
        })
}

/// What makes a `Message-ID` the only one of its kind: 32 hexadecimal digits.
fn unique() -> Result<String, Refusal> {
    let mut octets = [0; 16];
    let filled = SystemRandom::new().fill(&mut octets);
    filled.map_err(|_| Refusal::new(451, "4.3.0", "an internal error, try again later"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}
