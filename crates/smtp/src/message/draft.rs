//! A draft becomes a message.

use std::time::SystemTime;

use lettre::{
    Message,
    message::{
        Mailboxes, MultiPart, SinglePart,
        header::{self, ContentType, HeaderName, HeaderValue},
    },
};

use super::{Draft, MessageError, Priority, attachment, fields};
use crate::{Address, Envelope, Outgoing};

/// A year that RFC 5322 dates and calendars agree on; later ones panic in formatters.
const LATEST_DATE_SECONDS: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z

impl Draft {
    /// The message, and its envelope: every recipient once, `Bcc` only there.
    ///
    /// `unique` makes the `Message-ID` and the boundaries between parts: letters, digits, dots,
    /// hyphens. The same draft, time and `unique` give the same octets. Reads attached files:
    /// call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// Names the first field that is wrong, lists counted from 1.
    pub fn build(self, now: SystemTime, unique: &str) -> Result<Outgoing, MessageError> {
        check_unique(unique)?;
        let from = fields::mailbox("from", &self.from)?;
        let sender = self
            .sender
            .as_deref()
            .map(|text| fields::mailbox("sender", text))
            .transpose()?;
        let reply_to = fields::mailboxes("reply_to", &self.reply_to)?;
        let to = fields::mailboxes("to", &self.to)?;
        let cc = fields::mailboxes("cc", &self.cc)?;
        let bcc = fields::mailboxes("bcc", &self.bcc)?;
        let reverse_path = match self.reverse_path.as_deref() {
            Some(text) => fields::mailbox("reverse_path", text)?.email,
            None => sender.as_ref().unwrap_or(&from).email.clone(),
        };
        let recipients = recipients([&to, &cc, &bcc], self.limits.recipients)?;
        fields::check_value("subject", &self.subject)?;
        let message_id = match self.message_id.as_deref() {
            Some(id) => fields::message_id("message_id", id)?,
            None => fields::message_id("unique", &format!("{unique}@{}", from.email.domain()))?,
        };
        let date = check_date(self.date.unwrap_or(now))?;

        let mut builder = Message::builder()
            .date(date)
            .message_id(Some(message_id.clone()));
        builder = builder.header(header::From::from(Mailboxes::from(from.clone())));
        if let Some(sender) = sender.filter(|sender| sender.email != from.email) {
            builder = builder.sender(sender);
        }
        // Each list at once: adding to a field makes lettre parse what is there already.
        if reply_to.iter().next().is_some() {
            builder = builder.header(header::ReplyTo::from(reply_to));
        }
        if to.iter().next().is_some() {
            builder = builder.header(header::To::from(to));
        }
        if cc.iter().next().is_some() {
            builder = builder.header(header::Cc::from(cc));
        }
        let subject = HeaderName::new_from_ascii_str("Subject");
        builder = builder.raw_header(fields::unstructured(subject, &self.subject));
        if let Some(id) = self.in_reply_to.as_deref() {
            builder = builder.in_reply_to(fields::message_id("in_reply_to", id)?);
        }
        if let Some(references) = references(&self.references, self.in_reply_to.as_deref())? {
            builder = builder.references(references);
        }
        for header in self.priority.map(priority_headers).into_iter().flatten() {
            builder = builder.raw_header(header);
        }
        for (i, (name, value)) in self.headers.iter().enumerate() {
            let field = format!("headers[{}]", i + 1);
            if self.headers[..i]
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
            {
                // lettre would keep the last one only.
                return Err(MessageError::new(field, "is there twice"));
            }
            builder = builder.raw_header(fields::custom(&field, name, value)?);
        }
        // lettre derives an envelope of its own, and fails where To, Cc and Bcc are empty.
        let envelope =
            lettre::address::Envelope::new(Some(reverse_path.clone()), recipients.clone())
                .map_err(|_| MessageError::new("to", "no recipients"))?;
        builder = builder.envelope(envelope);

        let octets = self.limits.message_octets;
        let content = content(self.text, self.html, self.attachments, octets, unique)?;
        let message = match content {
            Content::Single(part) => builder.singlepart(part),
            Content::Multi(part) => builder.multipart(part),
        };
        let message = message
            .map_err(|error| MessageError::new("from", error.to_string()))?
            .formatted();
        if message.len() > octets {
            let why = format!(
                "the message has {} octets, more than {octets}",
                message.len()
            );
            return Err(MessageError::new("attachments", why));
        }
        let envelope = Envelope {
            reverse_path: Some(reverse_path),
            recipients,
        };
        Outgoing::new(envelope, message, message_id)
            .map_err(|error| MessageError::new("message", error.to_string()))
    }
}

fn check_unique(unique: &str) -> Result<(), MessageError> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b".-".contains(&octet);
    // A boundary has at most 70 octets (RFC 2046 §5.1.1).
    if !(1..=60).contains(&unique.len()) || !unique.bytes().all(allowed) {
        return Err(MessageError::new(
            "unique",
            "not 1 to 60 letters, digits, dots or hyphens",
        ));
    }
    Ok(())
}

fn check_date(date: SystemTime) -> Result<SystemTime, MessageError> {
    let seconds = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .map(|since| since.as_secs());
    if seconds.is_ok_and(|seconds| seconds <= LATEST_DATE_SECONDS) {
        Ok(date)
    } else {
        Err(MessageError::new(
            "date",
            "not between the years 1970 and 9999",
        ))
    }
}

/// Every address once, in order.
fn recipients(lists: [&Mailboxes; 3], limit: usize) -> Result<Vec<Address>, MessageError> {
    let mut seen = std::collections::HashSet::new();
    let mut recipients = Vec::new();
    for mailbox in lists.into_iter().flat_map(Mailboxes::iter) {
        if seen.insert(&mailbox.email) {
            recipients.push(mailbox.email.clone());
        }
    }
    match recipients.len() {
        0 => Err(MessageError::new("to", "no recipients")),
        n if n > limit => Err(MessageError::new(
            "to",
            format!("{n} recipients, more than {limit}"),
        )),
        _ => Ok(recipients),
    }
}

/// The thread: what the caller says, ended by what this answers (RFC 5322 §3.6.4).
fn references(ids: &[String], in_reply_to: Option<&str>) -> Result<Option<String>, MessageError> {
    let mut all = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        all.push(fields::message_id(&format!("references[{}]", i + 1), id)?);
    }
    if let Some(id) = in_reply_to {
        let id = fields::message_id("in_reply_to", id)?;
        if !all.contains(&id) {
            all.push(id);
        }
    }
    let joined = all.join(" ");
    if joined.len() > fields::MAX_VALUE_OCTETS {
        return Err(MessageError::new("references", "too many"));
    }
    Ok((!all.is_empty()).then_some(joined))
}

fn priority_headers(priority: Priority) -> [HeaderValue; 2] {
    let (number, word) = match priority {
        Priority::High => ("1", "high"),
        Priority::Normal => ("3", "normal"),
        Priority::Low => ("5", "low"),
    };
    let header = |name, value: &str| {
        HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
    };
    [header("X-Priority", number), header("Importance", word)]
}

enum Content {
    Single(SinglePart),
    Multi(MultiPart),
}

impl Content {
    fn into_multi(self, outer: MultiPart) -> MultiPart {
        match self {
            Self::Single(part) => outer.singlepart(part),
            Self::Multi(part) => outer.multipart(part),
        }
    }
}

/// `mixed( related( alternative( text, html ), images… ), files… )`, each layer only if needed.
fn content(
    text: Option<String>,
    html: Option<String>,
    attachments: Vec<super::Attachment>,
    limit: usize,
    unique: &str,
) -> Result<Content, MessageError> {
    let mut budget = limit;
    for (field, body) in [("text", &text), ("html", &html)] {
        check_body(field, body.as_deref().unwrap_or_default(), &mut budget)?;
    }
    let has_html = html.is_some();
    let mut files = Vec::new();
    let mut images = Vec::new();
    for (i, attachment) in attachments.into_iter().enumerate() {
        let (part, inline) = attachment::part(i, attachment, &mut budget)?;
        if inline && !has_html {
            let field = format!("attachments[{}].cid", i + 1);
            return Err(MessageError::new(field, "there is no html to show it in"));
        }
        if inline {
            images.push(part);
        } else {
            files.push(part);
        }
    }

    // "=_" never occurs in quoted-printable, "_" never in Base64 (RFC 2045 §6.7).
    let boundary = |layer: &str| format!("=_{layer}{unique}");
    let mut content = match (text, html) {
        (Some(text), Some(html)) => Content::Multi(
            MultiPart::alternative()
                .boundary(boundary("a"))
                .singlepart(body_part(ContentType::TEXT_PLAIN, text))
                .singlepart(body_part(ContentType::TEXT_HTML, html)),
        ),
        (None, Some(html)) => Content::Single(body_part(ContentType::TEXT_HTML, html)),
        (text, None) => {
            Content::Single(body_part(ContentType::TEXT_PLAIN, text.unwrap_or_default()))
        }
    };
    for (parts, layer) in [(images, "r"), (files, "m")] {
        if parts.is_empty() {
            continue;
        }
        let outer = if layer == "r" {
            MultiPart::related()
        } else {
            MultiPart::mixed()
        };
        let outer = content.into_multi(outer.boundary(boundary(layer)).build());
        content = Content::Multi(parts.into_iter().fold(outer, MultiPart::singlepart));
    }
    Ok(content)
}

fn check_body(field: &str, body: &str, budget: &mut usize) -> Result<(), MessageError> {
    if body.contains('\0') {
        return Err(MessageError::new(field, "holds a NUL"));
    }
    *budget = budget
        .checked_sub(body.len())
        .ok_or_else(|| MessageError::new(field, "too large"))?;
    Ok(())
}

/// CRLF, bare LF and bare CR all end a line in a script's text; on the wire it is CRLF.
fn body_part(content_type: ContentType, text: String) -> SinglePart {
    SinglePart::builder()
        .header(content_type)
        .body(canonical(text))
}

fn canonical(text: String) -> String {
    if !text.contains(['\r', '\n']) {
        return text;
    }
    let mut lines = String::with_capacity(text.len() + text.len() / 32);
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['\r', '\n']) {
        lines.push_str(&rest[..at]);
        lines.push_str("\r\n");
        rest = rest[at..]
            .strip_prefix("\r\n")
            .unwrap_or_else(|| &rest[at + 1..]);
    }
    lines.push_str(rest);
    lines
}

#[cfg(test)]
mod tests;
