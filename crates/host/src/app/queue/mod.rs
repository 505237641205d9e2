//! Mail that waits: how it gets into the queue. What becomes of it there is the delivery crate's.

mod counted;
mod deliver;
mod desk;
mod entry;
mod pace;
mod places;
pub(crate) mod report;
mod ways;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use postrider_smtp::{Address, Dsn, Notify, Outgoing, RecipientDsn, Return};
use postrider_spool::{self as spool, Body, Facts, NewMessage, SpoolError, SpoolErrorKind, Store};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::{App, Moment};
use crate::failure::Failure;
use crate::lua::{Priority, Queueing, SendRequest};
use crate::state;

pub(super) use desk::{Desk, Place};
pub use entry::Entry;
pub(super) use places::{Places, no_place};
pub(crate) use ways::Ways;

/// What the queue is kept in, in the state directory.
pub(crate) const DIRECTORY: &str = "queue";

/// The queue that this process shares with others.
#[derive(Clone)]
pub struct Queue {
    /// What keeps it.
    pub store: Arc<dyn Store>,
}

/// A message that is safe in the queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queued {
    /// What `postrider queue` calls it.
    pub id: String,
    /// The `Message-ID`, with its angle brackets; of a duplicate, the first one's.
    pub message_id: String,
    /// The account it will go through.
    pub account: String,
    /// Whether its idempotency key was known, so that nothing was queued again.
    pub duplicate: bool,
    /// When it was queued; of a duplicate, when the first one was.
    pub queued_at: Moment,
}

/// What a message has in the queue besides its content.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    /// When, and under which key.
    pub queueing: Queueing,
    /// What goes first.
    pub priority: Option<Priority>,
    /// Who queues it, for people: `script report.lua`, `sendmail uid 1000`.
    pub origin: String,
}

impl App {
    /// The queue; opened when it is first asked for.
    ///
    /// # Errors
    /// It cannot be opened: `queue.…`.
    pub async fn queue(&self) -> Result<&Queue, Failure> {
        self.0.lasting.queue.queue().await
    }

    /// How many messages this process queued.
    pub(crate) fn queued_here(&self) -> u64 {
        *self.0.lasting.queue.queued.borrow()
    }

    /// Waits until this process has queued a message.
    pub(crate) fn has_queued(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut queued = self.0.lasting.queue.queued.subscribe();
        async move {
            // Whoever could queue something is gone.
            if queued.wait_for(|count| *count > 0).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Queues a message of this account; it is safe when this returns.
    ///
    /// # Errors
    /// It is not queued.
    pub async fn enqueue(
        &self,
        account: &str,
        request: SendRequest,
        origin: &str,
    ) -> Result<Queued, Failure> {
        let account = self.account(account).await?;
        account.enqueue(request, origin).await
    }

    /// The same, with what was `asked` for recipients that the hooks leave in, and if `check` finds
    /// nothing against what they made of it.
    pub(crate) async fn enqueue_with(
        &self,
        account: &str,
        request: SendRequest,
        origin: &str,
        asked: &Asked,
        check: Check<'_>,
    ) -> Result<Queued, Failure> {
        let account = self.account(account).await?;
        account.enqueue_with(request, origin, asked, check).await
    }

    /// How much is where, and what holds each account back.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub(crate) async fn queue_stats(&self) -> Result<report::Stats, Failure> {
        let store = &self.queue().await?.store;
        let stats = store.stats().await.map_err(|error| failure(&error))?;
        let mut accounts = BTreeMap::new();
        for (name, account) in &stats.accounts {
            let now = self.clock().now();
            let held_back = store.account_state(name, now).await;
            let mut held_back = held_back.map_err(|error| failure(&error))?;
            held_back.back_off.take_if(|back| back.until <= now);
            let last = self.0.lasting.queue.last_delivered(name);
            accounts.insert(name.clone(), report::Account::new(account, held_back, last));
        }
        Ok(report::Stats {
            messages: stats.messages,
            octets: stats.octets,
            on_disk: stats.on_disk,
            accounts,
        })
    }

    /// Whether somebody has queued something, some time, in this state directory.
    pub fn has_queue(&self) -> bool {
        let directory = state::directory(self.0.lasting.settings.state_dir.as_deref());
        directory.is_ok_and(|directory| directory.join(DIRECTORY).exists())
    }

    /// Somebody signed in: mail of the account that waited for it goes on, in whatever process
    /// delivers it. Where there is no queue, none is made.
    pub async fn let_mail_go_on(&self, account: &str) {
        if !self.has_queue() {
            return;
        }
        let lifted = async {
            let store = &self.queue().await?.store;
            let lifted = store.back_off(account, None, self.clock().now()).await;
            lifted.map_err(|error| failure(&error))
        };
        if let Err(failure) = lifted.await {
            tracing::warn!(
                account,
                "mail that waits goes on later: {}",
                failure.message
            );
        }
    }
}

/// The queue's trouble, with what to do about it.
pub(crate) fn failure(error: &SpoolError) -> Failure {
    let code = format!("queue.{}", error.kind.name());
    let failure = Failure::new(code, error.message.clone());
    match error.kind {
        SpoolErrorKind::Full => failure
            .with_remedy("free some space: what is queued is safe, and nothing more is taken")
            .retryable(),
        SpoolErrorKind::ReadOnly => failure
            .with_remedy("see who owns the state directory, and whether its file system is mounted read-only"),
        SpoolErrorKind::Busy => failure.with_remedy("try again").retryable(),
        SpoolErrorKind::Corrupt => failure.with_remedy(
            "stop the daemon, move the queue directory away and keep it; `postrider queue export` reads what is readable",
        ),
        SpoolErrorKind::Newer => {
            failure.with_remedy("use the version of Postrider that wrote it, or a later one")
        }
        SpoolErrorKind::NotFound => failure.with_remedy("`postrider queue list` shows what there is"),
        SpoolErrorKind::TooLarge => failure.with_remedy("raise queue.max_message"),
        _ => failure,
    }
}

impl Account {
    /// Queues a message as the scripts' hooks leave it.
    ///
    /// # Errors
    /// It is not queued.
    pub async fn enqueue(&self, request: SendRequest, origin: &str) -> Result<Queued, Failure> {
        self.enqueue_with(request, origin, &Asked::default(), &|_, _| Ok(()))
            .await
    }

    /// The same, with what was asked for recipients that the hooks leave in, and a last look.
    async fn enqueue_with(
        &self,
        request: SendRequest,
        origin: &str,
        asked: &Asked,
        check: Check<'_>,
    ) -> Result<Queued, Failure> {
        let _busy = self.around.activity.begin();
        let name = &self.settings().name;
        let queued = async {
            self.around.queue.check(self.settings())?;
            let request = self.looked_at(request).await?;
            let ticket = Ticket {
                queueing: request.queue.clone().unwrap_or_default(),
                priority: request.priority,
                origin: origin.to_owned(),
            };
            check_times(&ticket.queueing, self.around.clock.now())?;
            let changed_by = request.changed_by.clone();
            // Delivery cuts it to what the server takes.
            let outgoing = self.build(request, usize::MAX).await?;
            let Some(octets) = outgoing.message() else {
                return Err(Failure::new("internal", "a built message is in memory"));
            };
            check(&outgoing, changed_by.as_deref())?;
            let body = Body::Bytes(Arc::clone(octets));
            let message = new_message(name, &outgoing, body, ticket, asked);
            self.around.queue.accept(message).await
        };
        queued.await.map_err(|failure| match failure.account {
            Some(_) => failure,
            None => failure.with_account(name),
        })
    }
}

fn new_message(
    account: &str,
    outgoing: &Outgoing,
    body: Body,
    ticket: Ticket,
    asked: &Asked,
) -> NewMessage {
    let envelope = outgoing.envelope();
    NewMessage {
        account: account.to_owned(),
        reverse_path: envelope.reverse_path.as_ref().map(ToString::to_string),
        recipients: asked.of(&envelope.recipients),
        message_id: outgoing.message_id().to_owned(),
        body,
        facts: Facts {
            eight_bit: outgoing.needs_eight_bit(),
            smtputf8: outgoing.needs_smtputf8(),
        },
        dsn: asked.message.clone(),
        priority: ticket.priority.map_or(spool::Priority::Normal, priority),
        send_at: ticket.queueing.send_at,
        expires_at: ticket.queueing.expires_at,
        idempotency_key: ticket.queueing.idempotency_key,
        origin: ticket.origin,
    }
}

/// A last look at a message before it is queued, with the line of the script that changed it last.
pub(crate) type Check<'a> =
    &'a (dyn Fn(&Outgoing, Option<&str>) -> Result<(), Failure> + Send + Sync);

/// The notifications asked for, by recipient.
#[derive(Default)]
pub(crate) struct Asked {
    message: spool::Dsn,
    recipients: HashMap<String, RecipientDsn>,
}

impl Asked {
    pub(crate) fn new(recipients: &[Address], dsn: Option<Dsn>) -> Self {
        let Some(dsn) = dsn else {
            return Self::default();
        };
        let mut asked = HashMap::new();
        for (recipient, dsn) in recipients.iter().zip(dsn.recipients) {
            // Of one that was named twice, what was asked first.
            asked.entry(recipient.to_string()).or_insert(dsn);
        }
        Self {
            message: spool::Dsn {
                ret: dsn.ret.map(|ret| match ret {
                    Return::Full => spool::Return::Full,
                    Return::Headers => spool::Return::Headers,
                }),
                envid: dsn.envid,
            },
            recipients: asked,
        }
    }

    /// Each of them once, with what was asked of it.
    fn of(&self, recipients: &[Address]) -> Vec<spool::Recipient> {
        let mut seen = HashSet::new();
        let each = recipients.iter().map(ToString::to_string);
        each.filter(|address| seen.insert(address.clone()))
            .map(|address| {
                let asked = self.recipients.get(&address);
                spool::Recipient {
                    notify: asked.and_then(|one| one.notify.as_ref()).map(notify),
                    orcpt: asked.and_then(|one| one.orcpt.clone()),
                    address,
                }
            })
            .collect()
    }
}

fn notify(events: &BTreeSet<Notify>) -> spool::Notify {
    spool::Notify {
        success: events.contains(&Notify::Success),
        failure: events.contains(&Notify::Failure),
        delay: events.contains(&Notify::Delay),
    }
}

fn priority(priority: Priority) -> spool::Priority {
    match priority {
        Priority::High => spool::Priority::High,
        Priority::Normal => spool::Priority::Normal,
        Priority::Low => spool::Priority::Low,
    }
}

/// When a message may be sent, and until when it is worth it: not the other way round.
pub(crate) fn check_times(queueing: &Queueing, now: Timestamp) -> Result<(), Failure> {
    let Some(expires_at) = queueing.expires_at else {
        return Ok(());
    };
    if expires_at <= queueing.send_at.unwrap_or(now).max(now) {
        let message = format!("the message expires at {expires_at}, before it may be sent");
        return Err(Failure::new("message.invalid", message));
    }
    Ok(())
}
