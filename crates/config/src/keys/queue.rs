//! `[queue]` and `[sendmail]`.

use super::{Field, Kind, field};

pub(crate) static QUEUE: &[Field] = &[
    field(
        "max_age",
        Kind::Lifetime,
        "How long delivery is tried before a message fails. Waiting for a person to sign in does not count. Default: 5d.",
    ),
    field(
        "unknown",
        Kind::OneOf(UNKNOWN),
        "What becomes of a message whose reply was lost after its last octet, so that it may be delivered or not: `hold` it for a person, or `retry`, which may deliver it twice. Default: `hold`.",
    ),
    field(
        "report",
        Kind::OneOf(REPORT),
        "Who is told of a message that failed: its envelope's `sender`, by a message (RFC 3464), or `none`. Events and the log tell of it in any case. Default: `sender`.",
    ),
    field(
        "report_webhook",
        Kind::Url,
        "Where each failure is posted as JSON, besides.",
    ),
    field(
        "retention",
        Kind::Lifetime,
        "How long messages are kept that have come to their end. Default: 7d.",
    ),
    field(
        "idempotency_window",
        Kind::Lifetime,
        "How long a second message with the same idempotency key is answered with the first one's receipt. Default: 24h.",
    ),
    field(
        "max_message",
        Kind::Memory,
        "The longest message that is taken. Default: 150MiB.",
    ),
];

pub(crate) static UNKNOWN: &[&str] = &["hold", "retry"];
pub(crate) static REPORT: &[&str] = &["sender", "none"];

pub(crate) static SENDMAIL: &[Field] = &[
    field(
        "account",
        Kind::Name,
        "The account that mail goes through when neither its envelope sender nor its `From` is an account's. Default: the only account there is.",
    ),
    field(
        "rewrite_from",
        Kind::Flag,
        "Send mail from addresses that are no account's, such as `root@host`, as the account's sender. Default: true.",
    ),
    field(
        "local_to",
        Kind::Mailbox,
        "Where mail for users of this machine goes, such as cron's for `root`: names without a domain, or with this machine's. Default: nowhere; such mail is refused.",
    ),
    field(
        "socket",
        Kind::Path,
        "A socket of `postrider serve` where other users of this machine may hand in mail, and nothing else. Default: none.",
    ),
    field(
        "users",
        Kind::Logins,
        "Who may use that socket, besides root and the daemon's own user.",
    ),
    field(
        "groups",
        Kind::Logins,
        "Whose members may use that socket, too.",
    ),
];
