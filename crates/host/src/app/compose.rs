//! What a script or a command line wants sent, as a message with its envelope.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use postrider_config::{Account, Mailbox};
use postrider_smtp::message::{self, Draft, MessageError};
use postrider_smtp::{Envelope, Outgoing};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::failures;
use crate::failure::Failure;
use crate::lua::{Attachment, Priority, SendRequest, Source};

/// The empty reverse-path, as whoever has none writes it.
pub(crate) const NULL_PATH: &str = "<>";

/// Builds the message for so many recipients at most, written at `now`; reads the files it names, so it runs where blocking is allowed.
pub(super) fn outgoing(
    account: &Account,
    request: SendRequest,
    recipients: usize,
    now: SystemTime,
) -> Result<Outgoing, Failure> {
    let unique = unique()?;
    let limits = message::Limits {
        recipients,
        ..message::Limits::default()
    };
    let built = match request.raw {
        Some(source) => {
            let octets = read(source, limits.message_octets)?;
            let recipients = [request.to, request.cc, request.bcc].concat();
            let envelope = envelope(account, request.from.as_deref(), &recipients)?;
            message::from_rfc5322(&octets, envelope, now, &unique)
        }
        None => draft(account, request, limits).build(now, &unique),
    };
    built.map_err(|error| failures::message(account, &as_written(error)))
}

fn draft(account: &Account, request: SendRequest, limits: message::Limits) -> Draft {
    let from = request.from.unwrap_or_else(|| account.sender.to_string());
    let author: Option<Mailbox> = from.parse().ok();
    let on_behalf = author.and_then(|author| Some(account.sender_field(&author.email)?.to_owned()));
    Draft {
        from,
        sender: request.sender.or(on_behalf),
        reply_to: request.reply_to,
        to: request.to,
        cc: request.cc,
        bcc: request.bcc,
        subject: request.subject.unwrap_or_default(),
        text: request.text,
        html: request.html,
        attachments: request.attach.into_iter().map(attachment).collect(),
        headers: request.headers,
        in_reply_to: request.in_reply_to,
        references: request.references,
        priority: request.priority.map(|priority| match priority {
            Priority::High => message::Priority::High,
            Priority::Normal => message::Priority::Normal,
            Priority::Low => message::Priority::Low,
        }),
        message_id: request.message_id,
        date: None,
        reverse_path: None,
        limits,
    }
}

fn attachment(attachment: Attachment) -> message::Attachment {
    message::Attachment {
        source: match attachment.source {
            Source::Path(path) => message::Source::Path(path),
            Source::Octets(octets) => message::Source::Bytes(octets),
        },
        name: attachment.name,
        mime_type: attachment.mime_type,
        content_id: attachment.inline,
    }
}

/// The envelope that was asked for; `None` leaves it to the message's own header.
fn envelope(
    account: &Account,
    from: Option<&str>,
    recipients: &[String],
) -> Result<Option<Envelope>, Failure> {
    if recipients.is_empty() {
        return Ok(None);
    }
    let address = |field: &str, text: &str| {
        text.parse::<Mailbox>()
            .map(|mailbox| mailbox.email)
            .map_err(|_| {
                Failure::new(
                    "message.invalid",
                    format!("{field}: not a mail address: {text:?}"),
                )
                .with_account(&account.name)
            })
    };
    Ok(Some(Envelope {
        reverse_path: match from {
            Some(NULL_PATH) => None,
            Some(from) => Some(address("from", from)?),
            None => Some(account.sender.email.clone()),
        },
        recipients: recipients
            .iter()
            .map(|recipient| address("to", recipient))
            .collect::<Result<_, _>>()?,
    }))
}

fn read(source: Source, limit: usize) -> Result<Vec<u8>, Failure> {
    let (octets, name) = match source {
        Source::Octets(octets) => (octets, "raw".to_owned()),
        Source::Path(path) => (read_file(&path, limit)?, path.display().to_string()),
    };
    if octets.len() > limit {
        return Err(Failure::new(
            "message.too_large",
            format!("{name}: more than {limit} octets"),
        ));
    }
    Ok(octets)
}

/// At most one octet more than `limit`, so that too much is noticed and not held.
fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut octets))
        .map_err(|problem| {
            Failure::new("file.unreadable", format!("{}: {problem}", path.display()))
        })?;
    Ok(octets)
}

/// What makes a Message-ID the only one of its kind.
fn unique() -> Result<String, Failure> {
    let mut octets = [0; 16];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| Failure::new("internal", "the system has no randomness"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}

/// Scripts call the list `attach` and the content id `inline`.
fn as_written(mut error: MessageError) -> MessageError {
    if let Some(rest) = error.field.strip_prefix("attachments") {
        error.field = format!(
            "attach{}",
            rest.replace(".cid", ".inline")
                .replace(".mime_type", ".type")
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use postrider_config::Presets;
    use serde_json::json;

    use super::*;

    fn header(on_behalf: bool, from: Option<&str>) -> (String, Option<String>) {
        let table = json!({
            "username": "svc-mail@contoso.com", "sender": "Alerts <alerts@contoso.com>",
            "on_behalf": on_behalf, "server": { "host": "smtp.example.org" },
            "auth": { "plugin": "basic", "password": { "env": "P" } },
        });
        let account = Account::from_value("a", table, &Presets::builtin()).unwrap();
        let request = SendRequest {
            from: from.map(str::to_owned),
            to: vec!["ops@example.org".to_owned()],
            text: Some("x".to_owned()),
            ..SendRequest::default()
        };
        let outgoing = outgoing(&account, request, 1, SystemTime::UNIX_EPOCH).unwrap();
        let text = String::from_utf8(outgoing.message().unwrap().to_vec()).unwrap();
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        let path = outgoing.envelope().reverse_path.as_ref();
        (header.to_owned(), path.map(ToString::to_string))
    }

    #[test]
    fn on_behalf_names_the_user_beside_another_author_and_only_there() {
        let (sent_as, path) = header(false, None);
        assert!(!sent_as.contains("Sender:"), "{sent_as}");
        assert_eq!(path.as_deref(), Some("alerts@contoso.com"));

        let (on_behalf, path) = header(true, None);
        assert!(
            on_behalf.contains("From: Alerts <alerts@contoso.com>"),
            "{on_behalf}"
        );
        assert!(
            on_behalf.contains("Sender: svc-mail@contoso.com"),
            "{on_behalf}"
        );
        assert_eq!(path.as_deref(), Some("svc-mail@contoso.com"));

        let (own, _) = header(true, Some("svc-mail@contoso.com"));
        assert!(!own.contains("Sender:"), "{own}");
    }
}
