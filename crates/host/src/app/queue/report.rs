//! Queued mail as it is shown: the same for people and for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use postrider_spool::{self as spool, AccountStats, StateKind};
use serde::{Deserialize, Serialize};

use super::Moment;

/// A message in a list.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listed {
    /// What the queue calls it.
    pub id: String,
    /// The account it goes through.
    pub account: String,
    /// Who it is from, on the envelope; absent for the empty reverse-path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The `Message-ID`.
    pub message_id: String,
    /// How many recipients are in each state.
    pub states: BTreeMap<Cow<'static, str>, u64>,
    /// The first recipient that is not done, or the first.
    pub recipient: String,
    /// Why that one stands where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How often that one was tried.
    pub attempts: u32,
    /// When the next recipient is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Moment>,
    /// Though it is due, its account sends nothing before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Moment>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_why: Option<String>,
    /// `high`, `normal` or `low`.
    pub priority: &'static str,
    /// When it was queued.
    pub queued_at: Moment,
    /// When it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Moment>,
    /// Its length.
    pub octets: u64,
    /// Who queued it.
    pub origin: String,
}

/// All about a message but its octets.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shown {
    /// As in a list.
    #[serde(flatten)]
    pub listed: Listed,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_at: Option<Moment>,
    /// The key it was queued under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The notifications asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dsn: Option<Dsn>,
    /// Each recipient.
    pub recipients: Vec<Recipient>,
}

/// What delivery status notifications have in common (RFC 3461).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Dsn {
    /// `full` or `headers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ret: Option<&'static str>,
    /// What comes back in each notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}

/// A recipient of a queued message.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recipient {
    /// The address.
    pub address: String,
    /// `queued`, `sending`, `deferred`, `held`, `delivered`, `failed` or `unknown`.
    pub state: &'static str,
    /// What the server said, or why it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Moment>,
    /// How often it was tried.
    pub attempts: u32,
    /// When that last changed.
    pub changed_at: Moment,
    /// When to notify of it: `success`, `failure`, `delay`; none is never. Absent, if nothing
    /// was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<&'static str>>,
    /// The address that the sender knows, as it wrote it: `type;xtext`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

/// How much is where.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Messages, those that are done included.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// What the queue takes on the disk.
    pub on_disk: u64,
    /// By account.
    pub accounts: BTreeMap<String, Account>,
}

/// One account's part of the queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Recipients in each state.
    pub states: BTreeMap<Cow<'static, str>, u64>,
    /// When the oldest message was queued that is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Moment>,
    /// Nothing of it is sent before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Moment>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_why: Option<String>,
    /// When a server last took one of its messages from this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered: Option<Moment>,
    /// Messages of the last minute.
    pub messages_in_minute: u64,
    /// Recipients of the last 24 hours.
    pub recipients_in_day: u64,
}

impl From<spool::Listed> for Listed {
    fn from(listed: spool::Listed) -> Self {
        Self {
            id: listed.id.to_string(),
            account: listed.account,
            from: listed.reverse_path,
            message_id: listed.message_id,
            states: by_name(&listed.states),
            recipient: listed.recipient,
            why: listed.why,
            attempts: listed.attempts,
            due_at: listed.due_at.map(moment),
            paused_until: None,
            paused_why: None,
            priority: listed.priority.name(),
            queued_at: moment(listed.accepted_at),
            expires_at: listed.expires_at.map(moment),
            octets: listed.octets,
            origin: listed.origin,
        }
    }
}

impl Listed {
    /// Says so if its account's pause, rather than its own time, is what it waits for.
    pub(crate) fn waits_for(&mut self, pause: Option<&spool::Back>) {
        let Some(pause) = pause else { return };
        let until = moment(pause.until);
        if self.due_at.is_some_and(|due| due < until) {
            self.paused_until = Some(until);
            self.paused_why = Some(pause.why.clone());
        }
    }
}

impl From<spool::Shown> for Shown {
    fn from(shown: spool::Shown) -> Self {
        let recipients = shown.recipients.into_iter().map(Recipient::from).collect();
        Self {
            listed: shown.listed.into(),
            send_at: shown.send_at.map(moment),
            idempotency_key: shown.idempotency_key,
            dsn: Some(shown.dsn)
                .filter(|dsn| *dsn != spool::Dsn::default())
                .map(Dsn::from),
            recipients,
        }
    }
}

impl From<spool::Dsn> for Dsn {
    fn from(dsn: spool::Dsn) -> Self {
        Self {
            ret: dsn.ret.map(|ret| match ret {
                spool::Return::Full => "full",
                spool::Return::Headers => "headers",
            }),
            envid: dsn.envid,
        }
    }
}

impl From<spool::ShownRecipient> for Recipient {
    fn from(recipient: spool::ShownRecipient) -> Self {
        Self {
            state: recipient.state.kind().name(),
            why: recipient.state.why().map(str::to_owned),
            next: match recipient.state {
                spool::State::Deferred { until, .. } => Some(moment(until)),
                _ => None,
            },
            address: recipient.address,
            attempts: recipient.attempts,
            changed_at: moment(recipient.changed_at),
            notify: recipient.notify.map(events),
            orcpt: recipient.orcpt,
        }
    }
}

fn events(notify: spool::Notify) -> Vec<&'static str> {
    [
        (notify.success, "success"),
        (notify.failure, "failure"),
        (notify.delay, "delay"),
    ]
    .into_iter()
    .filter_map(|(is_asked, name)| is_asked.then_some(name))
    .collect()
}

impl Account {
    /// What is counted, with what holds the account back.
    pub(super) fn new(
        stats: &AccountStats,
        held_back: spool::AccountState,
        last_delivered: Option<Moment>,
    ) -> Self {
        let (until, why) = match held_back.back_off {
            Some(back) => (Some(moment(back.until)), Some(back.why)),
            None => (None, None),
        };
        Self {
            states: by_name(&stats.states),
            oldest: stats.oldest.map(moment),
            paused_until: until,
            paused_why: why,
            last_delivered,
            messages_in_minute: held_back.in_minute,
            recipients_in_day: held_back.recipients_in_day,
        }
    }
}

impl Account {
    /// How many recipients are in this state.
    pub(crate) fn count(&self, state: StateKind) -> u64 {
        self.states.get(state.name()).copied().unwrap_or(0)
    }

    /// How many wait for their turn.
    pub(crate) fn waiting(&self) -> u64 {
        let kinds = [StateKind::Queued, StateKind::Sending, StateKind::Deferred];
        kinds.into_iter().map(|kind| self.count(kind)).sum()
    }
}

fn by_name(states: &BTreeMap<StateKind, u64>) -> BTreeMap<Cow<'static, str>, u64> {
    states
        .iter()
        .map(|(kind, count)| (Cow::Borrowed(kind.name()), *count))
        .collect()
}

fn moment(time: Timestamp) -> Moment {
    Moment(time.into())
}
