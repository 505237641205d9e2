//! A finished message on its way into the queue, as its octets come: it is never in memory as a
//! whole, unless a script has a hook that wants to see it.

use postrider_smtp::{BodyChecker, BodyFacts, Dsn, Envelope, InvalidOutgoing};
use postrider_spool::{BodyWriter, Facts, NewMessage};

use super::{Asked, Queued, Ticket, check_times, failure, priority};
use crate::app::{App, compose::NULL_PATH};
use crate::failure::Failure;
use crate::lua::{SendRequest, Source};

/// Takes a message's octets: header and body, lines ended by CRLF.
pub struct Entry {
    app: App,
    account: String,
    checker: BodyChecker,
    into: Into,
    octets: usize,
    at_most: usize,
}

enum Into {
    Queue(Box<dyn BodyWriter>),
    /// A hook is to see it.
    Memory(Vec<u8>),
}

impl App {
    /// Takes a finished message for this account, to be queued.
    ///
    /// # Errors
    /// There is no such account, or the queue cannot be opened.
    pub async fn entry(&self, account: &str) -> Result<Entry, Failure> {
        if !self.wants_messages() {
            return self.streamed_entry(account).await;
        }
        let name = self.settings_of(account)?.name.clone();
        Ok(self.entry_into(name, Into::Memory(Vec::new())))
    }

    /// The same, and no hook sees it.
    pub(crate) async fn streamed_entry(&self, account: &str) -> Result<Entry, Failure> {
        let name = self.settings_of(account)?.name.clone();
        let body = self.queue().await?.store.body();
        Ok(self.entry_into(name, Into::Queue(body)))
    }

    /// Whether a hook is to see every message before it is queued.
    pub(crate) fn wants_messages(&self) -> bool {
        self.0.lasting.hooks.wants_messages()
    }

    fn entry_into(&self, account: String, into: Into) -> Entry {
        Entry {
            app: self.clone(),
            account,
            checker: BodyChecker::default(),
            into,
            octets: 0,
            at_most: self.config().queue.max_message_octets,
        }
    }
}

impl Entry {
    /// Adds octets; after an error nothing more may be added.
    ///
    /// # Errors
    /// They may not go on the wire, are too many, or cannot be kept.
    pub async fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.octets = self.octets.saturating_add(octets.len());
        if self.octets > self.at_most {
            let message = format!("the message has more than {} octets", self.at_most);
            let failure = Failure::new("message.too_large", message);
            return Err(failure
                .with_account(&self.account)
                .with_remedy("raise queue.max_message, if the provider takes it"));
        }
        let account = &self.account;
        self.checker
            .push(octets)
            .map_err(|error| invalid(&error).with_account(account))?;
        match &mut self.into {
            Into::Queue(body) => {
                let written = body.write(octets).await;
                written.map_err(|error| failure(&error).with_account(account))
            }
            Into::Memory(memory) => {
                memory.extend_from_slice(octets);
                Ok(())
            }
        }
    }

    /// Queues what was written; it is safe when this returns.
    ///
    /// # Errors
    /// It is not queued.
    pub async fn finish(
        mut self,
        envelope: Envelope,
        message_id: String,
        dsn: Option<Dsn>,
        ticket: Ticket,
    ) -> Result<Queued, Failure> {
        check_times(&ticket.queueing, self.app.clock().now())?;
        let facts = std::mem::take(&mut self.checker).finish();
        let mut facts = facts.map_err(|error| invalid(&error).with_account(&self.account))?;
        if facts.unended {
            self.write(b"\r\n").await?;
            facts.unended = false;
        }
        let asked = Asked::new(&envelope.recipients, dsn);
        let body = match self.into {
            Into::Queue(body) => {
                let finished = body.finish().await;
                finished.map_err(|error| failure(&error).with_account(&self.account))?
            }
            Into::Memory(octets) => {
                let request = SendRequest {
                    from: Some(
                        envelope
                            .reverse_path
                            .map_or_else(|| NULL_PATH.to_owned(), |path| path.to_string()),
                    ),
                    to: envelope
                        .recipients
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    raw: Some(Source::Octets(octets)),
                    priority: ticket.priority,
                    queue: Some(ticket.queueing),
                    ..SendRequest::default()
                };
                let (app, origin) = (&self.app, &ticket.origin);
                let queued =
                    app.enqueue_with(&self.account, request, origin, &asked, &|_, _| Ok(()));
                return Box::pin(queued).await;
            }
        };
        let message = NewMessage {
            account: self.account,
            reverse_path: envelope.reverse_path.as_ref().map(ToString::to_string),
            recipients: asked.of(&envelope.recipients),
            message_id,
            body,
            facts: wire_facts(&facts),
            dsn: asked.message,
            priority: ticket
                .priority
                .map_or(postrider_spool::Priority::Normal, priority),
            send_at: ticket.queueing.send_at,
            expires_at: ticket.queueing.expires_at,
            idempotency_key: ticket.queueing.idempotency_key,
            origin: ticket.origin,
        };
        self.app.0.lasting.queue.accept(message).await
    }
}

fn wire_facts(facts: &BodyFacts) -> Facts {
    Facts {
        eight_bit: facts.eight_bit,
        smtputf8: facts.non_ascii_header,
    }
}

fn invalid(error: &InvalidOutgoing) -> Failure {
    Failure::new("message.invalid", error.to_string())
}
