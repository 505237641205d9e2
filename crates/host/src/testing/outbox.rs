//! What arrived, as a test reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_sandbox::inbox::{StoredMessage, View};
use serde_json::{Map, Value, json};

/// The messages, oldest first. `mailboxes` has each account's mailbox, by the account's name.
pub(super) fn told(messages: &[Arc<StoredMessage>], mailboxes: &BTreeMap<String, String>) -> Value {
    messages
        .iter()
        .map(|message| one(message, mailboxes))
        .collect()
}

fn one(message: &StoredMessage, mailboxes: &BTreeMap<String, String>) -> Value {
    let view = View::of(message.octets());
    let shown = |name: &str| {
        let found = view.addresses.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    };
    let submitted_by = &message.delivery.submitted_by;
    let account = mailboxes
        .iter()
        .find(|(_, mailbox)| mailbox.eq_ignore_ascii_case(submitted_by))
        .map(|(account, _)| account);
    let mut headers = Map::new();
    for (name, value) in &view.headers {
        headers
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| value.as_str().into());
    }
    let recipients: Vec<&str> = message.recipients().collect();
    json!({
        "account": account,
        "at": seconds(message),
        "from": shown("From"),
        "to": recipients,
        "cc": shown("Cc"),
        "reply_to": shown("Reply-To"),
        "subject": message.summary.subject,
        "text": view.text.as_deref().map(unfolded),
        "html": view.html.as_deref().map(unfolded),
        "headers": headers,
        "attachments": view.attachments.iter().map(|one| json!({
            "name": one.name, "type": one.mime_type, "octets": one.octets,
        })).collect::<Vec<_>>(),
        "message_id": message.summary.message_id,
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds of any date fit 53 bits"
)]
fn seconds(message: &StoredMessage) -> f64 {
    message.delivery.received.as_millisecond() as f64 / 1000.0
}

/// Lines as the script wrote them: mail ends them otherwise.
fn unfolded(text: &str) -> String {
    text.replace("\r\n", "\n")
}
