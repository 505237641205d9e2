//! `[queue]` and `[sendmail]`: what becomes of mail that waits, and of mail that programs hand in.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use url::Url;

use crate::check::Context;
use crate::section::Section;

const DAY: Duration = Duration::from_hours(24);
/// RFC 5321 §4.5.4.1 asks for four to five days at least.
const MAX_AGE: Duration = Duration::from_hours(5 * 24);
const RETENTION: Duration = Duration::from_hours(7 * 24);
/// Exchange Online's ceiling (the project's fact table of Microsoft 365, section A4).
const MAX_MESSAGE_OCTETS: usize = 150 << 20;

/// `[queue]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long delivery is tried.
    pub max_age: Duration,
    /// What becomes of a message that may be delivered or not.
    pub unknown: Unknown,
    /// Whether the envelope's sender is told of a failure.
    pub report_to_sender: bool,
    /// Where failures are posted, besides.
    pub report_webhook: Option<Url>,
    /// How long messages are kept that have come to their end.
    pub retention: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// The longest message that is taken.
    pub max_message_octets: usize,
}

/// What becomes of a message whose reply was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It waits for a person.
    Hold,
    /// It is sent again, and may arrive twice.
    Retry,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            max_age: MAX_AGE,
            unknown: Unknown::Hold,
            report_to_sender: true,
            report_webhook: None,
            retention: RETENTION,
            idempotency_window: DAY,
            max_message_octets: MAX_MESSAGE_OCTETS,
        }
    }
}

pub(crate) fn check(section: &Section<'_>) -> QueueSettings {
    let default = QueueSettings::default();
    let wait = |name, default| section.duration(name).unwrap_or(default);
    QueueSettings {
        max_age: wait("max_age", default.max_age),
        unknown: match section.text("unknown") {
            Some("retry") => Unknown::Retry,
            _ => Unknown::Hold,
        },
        report_to_sender: section.text("report") != Some("none"),
        report_webhook: section
            .text("report_webhook")
            .and_then(|text| text.parse().ok()),
        retention: wait("retention", default.retention),
        idempotency_window: wait("idempotency_window", default.idempotency_window),
        max_message_octets: section
            .memory("max_message")
            .unwrap_or(default.max_message_octets),
    }
}

/// `[sendmail]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendmailSettings {
    /// The account for mail of nobody's.
    pub account: Option<String>,
    /// Whether such mail is sent as the account's sender.
    pub rewrite_from: bool,
    /// Where mail for users of this machine goes.
    pub local_to: Option<Mailbox>,
    /// Where other users hand in mail.
    pub socket: Option<PathBuf>,
    /// Who may.
    pub users: Vec<String>,
    /// Whose members may.
    pub groups: Vec<String>,
}

impl Default for SendmailSettings {
    fn default() -> Self {
        Self {
            account: None,
            rewrite_from: true,
            local_to: None,
            socket: None,
            users: Vec::new(),
            groups: Vec::new(),
        }
    }
}

pub(crate) fn check_sendmail(section: &Section<'_>, context: &Context<'_>) -> SendmailSettings {
    SendmailSettings {
        account: section.text("account").map(str::to_owned),
        rewrite_from: section.flag("rewrite_from").unwrap_or(true),
        local_to: section.mailbox("local_to"),
        socket: section.path("socket", context.base),
        users: section.texts("users").unwrap_or_default(),
        groups: section.texts("groups").unwrap_or_default(),
    }
}
