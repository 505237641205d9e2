//! A message on its way from a command to the daemon: whole, for the daemon reads none of the
//! user's files.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::failure::Failure;
use crate::lua::{Attachment, Priority, Queueing, SendRequest, Source};

/// The largest request: what is larger, a command sends alone. With Base64 some 24 MiB of files.
pub(crate) const CAP: usize = 32 * 1024 * 1024;

/// `POST /v1/messages`. Unlike the list of recipients, nothing else is shown by `Debug`: there is
/// none.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MessageRequest {
    pub(crate) account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    reply_to: Vec<String>,
    #[serde(
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    to: Vec<String>,
    #[serde(
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    cc: Vec<String>,
    #[serde(
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    bcc: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attach: Vec<Part>,
    /// Pairs, for a name may stand there twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_reply_to: Option<String>,
    #[serde(
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    references: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Urgency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// A finished message, as Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Octets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Wait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wait {
    /// The server's answer.
    Accepted,
    /// That the message is safe.
    Queued,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    data: Octets,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inline: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Urgency {
    High,
    Normal,
    Low,
}

/// Octets as Base64.
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not Base64"))
    }
}

/// `"a@example.org"` for a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Either::deserialize(deserializer).map(|either| match either {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}

impl MessageRequest {
    /// The request as JSON, its files read; `None` where one cannot be read, or all is too much:
    /// then the command does it alone, and says what is wrong.
    pub(crate) fn to_json(account: &str, request: &SendRequest) -> Option<Vec<u8>> {
        let mut attach = Vec::new();
        for attachment in &request.attach {
            attach.push(part(attachment)?);
        }
        let raw = match &request.raw {
            Some(source) => Some(octets(source)?),
            None => None,
        };
        let message = Self {
            account: account.to_owned(),
            from: request.from.clone(),
            sender: request.sender.clone(),
            reply_to: request.reply_to.clone(),
            to: request.to.clone(),
            cc: request.cc.clone(),
            bcc: request.bcc.clone(),
            subject: request.subject.clone(),
            text: request.text.clone(),
            html: request.html.clone(),
            attach,
            headers: request.headers.clone(),
            in_reply_to: request.in_reply_to.clone(),
            references: request.references.clone(),
            priority: request.priority.map(|priority| match priority {
                Priority::High => Urgency::High,
                Priority::Normal => Urgency::Normal,
                Priority::Low => Urgency::Low,
            }),
            message_id: request.message_id.clone(),
            raw,
            wait: request.queue.as_ref().map(|_| Wait::Queued),
            idempotency_key: (request.queue.as_ref())
                .and_then(|queue| queue.idempotency_key.clone()),
            send_at: request.queue.as_ref().and_then(|queue| queue.send_at),
            expires_at: request.queue.as_ref().and_then(|queue| queue.expires_at),
        };
        let json = serde_json::to_vec(&message).ok()?;
        (json.len() <= CAP).then_some(json)
    }

    /// What the account is to send.
    ///
    /// # Errors
    /// There is content beside a finished message.
    pub(crate) fn into_request(self) -> Result<SendRequest, Failure> {
        if self.raw.is_some()
            && (self.subject.is_some() || self.text.is_some() || self.html.is_some())
        {
            return Err(Failure::new(
                "usage.message",
                "a finished message in \"raw\" goes without \"subject\", \"text\" and \"html\"",
            ));
        }
        let queueing = Queueing {
            idempotency_key: self.idempotency_key,
            send_at: self.send_at,
            expires_at: self.expires_at,
        };
        let is_queued = self.wait == Some(Wait::Queued);
        if !is_queued && queueing != Queueing::default() {
            return Err(Failure::new(
                "usage.message",
                "\"idempotency_key\", \"send_at\" and \"expires_at\" go with \"wait\": \"queued\"",
            ));
        }
        Ok(SendRequest {
            queue: is_queued.then_some(queueing),
            from: self.from,
            sender: self.sender,
            reply_to: self.reply_to,
            to: self.to,
            cc: self.cc,
            bcc: self.bcc,
            subject: self.subject,
            text: self.text,
            html: self.html,
            attach: self
                .attach
                .into_iter()
                .map(|part| Attachment {
                    source: Source::Octets(part.data.0),
                    name: part.name,
                    mime_type: part.mime_type,
                    inline: part.inline,
                })
                .collect(),
            headers: self.headers,
            in_reply_to: self.in_reply_to,
            references: self.references,
            priority: self.priority.map(|urgency| match urgency {
                Urgency::High => Priority::High,
                Urgency::Normal => Priority::Normal,
                Urgency::Low => Priority::Low,
            }),
            message_id: self.message_id,
            raw: self.raw.map(|octets| Source::Octets(octets.0)),
            ..SendRequest::default()
        })
    }
}

fn part(attachment: &Attachment) -> Option<Part> {
    let own_name = match &attachment.source {
        Source::Path(path) => path.file_name().and_then(|name| name.to_str()),
        Source::Octets(_) => None,
    };
    Some(Part {
        data: octets(&attachment.source)?,
        name: attachment.name.clone().or(own_name.map(str::to_owned)),
        mime_type: attachment.mime_type.clone(),
        inline: attachment.inline.clone(),
    })
}

fn octets(source: &Source) -> Option<Octets> {
    match source {
        Source::Octets(octets) => Some(Octets(octets.clone())),
        Source::Path(path) => read(path).map(Octets),
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut octets = Vec::new();
    file.take(CAP as u64 + 1).read_to_end(&mut octets).ok()?;
    (octets.len() <= CAP).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_described() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk usage.csv");
        std::fs::write(&path, [0, 255, 10]).unwrap();
        let request = SendRequest {
            from: Some("a@example.org".to_owned()),
            to: vec!["b@example.org".to_owned()],
            bcc: vec!["c@example.org".to_owned()],
            subject: Some("Grüße".to_owned()),
            text: Some("x\r\n.".to_owned()),
            headers: vec![
                ("X-A".to_owned(), "1".to_owned()),
                ("X-A".to_owned(), "2".to_owned()),
            ],
            priority: Some(Priority::Low),
            attach: vec![Attachment {
                source: Source::Path(path),
                name: None,
                mime_type: Some("text/csv".to_owned()),
                inline: None,
            }],
            ..SendRequest::default()
        };

        let json = MessageRequest::to_json("alerts", &request).unwrap();
        let arrived: MessageRequest = serde_json::from_slice(&json).unwrap();

        assert_eq!(arrived.account, "alerts");
        let expected = SendRequest {
            attach: vec![Attachment {
                source: Source::Octets(vec![0, 255, 10]),
                name: Some("disk usage.csv".to_owned()),
                mime_type: Some("text/csv".to_owned()),
                inline: None,
            }],
            ..request
        };
        assert!(arrived.into_request().unwrap() == expected);
    }

    #[test]
    fn one_recipient_needs_no_list_and_a_misspelt_field_is_an_error() {
        let of = |json: &str| serde_json::from_str::<MessageRequest>(json);
        let one = of(r#"{"account": "a", "to": "b@example.org", "text": "x"}"#).unwrap();
        assert_eq!(one.into_request().unwrap().to, ["b@example.org"]);
        assert!(of(r#"{"account": "a", "recipients": "b@example.org"}"#).is_err());
        assert!(of(r#"{"account": "a", "attach": [{"path": "/etc/passwd"}]}"#).is_err());
        assert!(of(r#"{"account": "a", "raw": "no base 64"}"#).is_err());
    }

    #[test]
    fn what_cannot_be_read_or_is_too_much_stays_with_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let large = directory.path().join("large");
        File::create(&large).unwrap().set_len(CAP as u64).unwrap();
        for path in [
            directory.path().join("missing"),
            directory.path().to_owned(),
            large,
        ] {
            let request = SendRequest {
                raw: Some(Source::Path(path)),
                ..SendRequest::default()
            };
            assert!(MessageRequest::to_json("a", &request).is_none());
        }
    }
}
