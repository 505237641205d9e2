//! A device's message on its way into the queue: streamed, unless a script wants to see it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_gateway::{Arrival, Entry, Finished, Queued, Refusal};

use super::backend::by;
use super::book::Book;
use super::reply;
use super::scripts;
use crate::app::compose::NULL_PATH;
use crate::app::queue::Asked;
use crate::app::{self, App, Ticket};
use crate::failure::Failure;
use crate::lua::{GatewayMessage, GatewayPoint, Queueing, SendRequest, Source};

/// Where the octets of one message go.
pub(super) struct GatewayEntry {
    app: App,
    account: String,
    arrival: Arrival,
    into: Into,
    book: Arc<Book>,
}

enum Into {
    Queue(app::Entry),
    /// A hook is to see it, and may change it.
    Memory(Vec<u8>),
}

impl GatewayEntry {
    /// Begins one for this account.
    ///
    /// # Errors
    /// There is no such account, or the queue cannot be opened.
    pub(super) async fn begin(
        app: &App,
        account: &str,
        arrival: &Arrival,
        book: Arc<Book>,
    ) -> Result<Self, Failure> {
        let into = if app.wants_gateway(GatewayPoint::Message) || app.wants_messages() {
            app.settings_of(account)?;
            Into::Memory(Vec::new())
        } else {
            Into::Queue(app.streamed_entry(account).await?)
        };
        Ok(Self {
            app: app.clone(),
            account: account.to_owned(),
            arrival: arrival.clone(),
            into,
            book,
        })
    }

    async fn add(&mut self, octets: &[u8]) -> Result<(), Failure> {
        match &mut self.into {
            Into::Queue(entry) => entry.write(octets).await,
            Into::Memory(memory) => {
                let at_most = self.app.config().queue.max_message_octets;
                if memory.len().saturating_add(octets.len()) > at_most {
                    let message = format!("the message has more than {at_most} octets");
                    return Err(Failure::new("message.too_large", message));
                }
                memory.extend_from_slice(octets);
                Ok(())
            }
        }
    }

    async fn queue(self, finished: Finished) -> Result<Queued, Failure> {
        let origin = origin(&self.arrival);
        let Finished {
            envelope,
            message_id,
            dsn,
            policy,
        } = finished;
        let queued = match self.into {
            Into::Queue(entry) => {
                let ticket = Ticket {
                    origin,
                    ..Ticket::default()
                };
                entry.finish(envelope, message_id, dsn, ticket).await?
            }
            Into::Memory(octets) => {
                let asked = Asked::new(&envelope.recipients, dsn);
                let from = envelope.reverse_path.as_ref();
                let recipients = envelope.recipients.iter();
                let given = GatewayMessage {
                    by: by(&self.arrival),
                    account: self.account,
                    message: SendRequest {
                        from: Some(from.map_or_else(|| NULL_PATH.to_owned(), ToString::to_string)),
                        to: recipients.map(ToString::to_string).collect(),
                        raw: Some(Source::Octets(octets)),
                        queue: Some(Queueing::default()),
                        ..SendRequest::default()
                    },
                };
                let queued = scripts::queue(&self.app, given, &policy, &origin, &asked);
                Box::pin(queued).await?
            }
        };
        Ok(Queued { id: queued.id })
    }
}

impl Entry for GatewayEntry {
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            let added = self.add(octets).await;
            added.map_err(|failure| {
                self.book.trouble(&self.arrival.gateway, &failure);
                reply::to(&failure)
            })
        }
        .boxed()
    }

    fn finish(self: Box<Self>, finished: Finished) -> BoxFuture<'static, Result<Queued, Refusal>> {
        async move {
            let (book, gateway) = (Arc::clone(&self.book), Arc::clone(&self.arrival.gateway));
            let queued = self.queue(finished).await;
            queued.map_err(|failure| {
                book.trouble(&gateway, &failure);
                reply::to(&failure)
            })
        }
        .boxed()
    }
}

/// `gateway office printer-2 192.168.1.20`
fn origin(arrival: &Arrival) -> String {
    format!(
        "gateway {} {} {}",
        arrival.gateway,
        arrival.device(),
        arrival.client
    )
}
