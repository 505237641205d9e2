//! A finished message, taken as it is as far as SMTP allows.
//!
//! Line ends become CRLF, `Bcc` goes, a missing `Date` or `Message-ID` comes (RFC 6409 §8).
//! Nothing else of it changes: it may be signed.

use std::time::SystemTime;

use lettre::message::header::{Date, Header};

use super::{MessageError, fields};
use crate::{Address, Envelope, Outgoing};

/// Header fields beyond this are not a message.
const MAX_HEADER_OCTETS: usize = 1024 * 1024;

/// A message that is already one (RFC 5322). Without an envelope, its header says who it is
/// from (`Sender`, else `From`) and for (`To`, `Cc`, `Bcc`); `Resent-` fields are not looked at.
///
/// # Errors
///
/// Names a header field, or the line of the message.
pub fn from_rfc5322(
    message: &[u8],
    envelope: Option<Envelope>,
    now: SystemTime,
    unique: &str,
) -> Result<Outgoing, MessageError> {
    let canonical = canonical(message);
    let (header, body) = split_header(&canonical)?;
    let fields = header_fields(header)?;
    let find = |name: &str| fields.iter().find(|field| field.is(name));
    let all = |name: &'static str| fields.iter().filter(move |field| field.is(name));

    let envelope = match envelope {
        Some(envelope) => envelope,
        None => {
            let from = find("Sender").or_else(|| find("From"));
            let from = from.ok_or_else(|| MessageError::new("From", "is missing"))?;
            let mut recipients: Vec<Address> = Vec::new();
            for field in ["To", "Cc", "Bcc"].into_iter().flat_map(all) {
                for address in field.addresses()? {
                    if !recipients.contains(&address) {
                        recipients.push(address);
                    }
                }
            }
            Envelope {
                reverse_path: from.addresses()?.into_iter().next(),
                recipients,
            }
        }
    };

    let mut built = Vec::with_capacity(canonical.len() + 200);
    let message_id = match find("Message-ID") {
        Some(field) => field.value()?.trim().to_owned(),
        None => {
            let domain = envelope
                .reverse_path
                .as_ref()
                .map_or("localhost", |path| path.domain());
            let id = super::fields::message_id("unique", &format!("{unique}@{domain}"))?;
            built.extend_from_slice(format!("Message-ID: {id}\r\n").as_bytes());
            id
        }
    };
    if find("Date").is_none() {
        let date = Date::new(now).display();
        let mut headers = lettre::message::header::Headers::new();
        headers.insert_raw(date);
        built.extend_from_slice(headers.to_string().as_bytes());
    }
    for field in fields.iter().filter(|field| !field.is("Bcc")) {
        built.extend_from_slice(field.octets);
    }
    built.extend_from_slice(b"\r\n");
    built.extend_from_slice(body);
    Outgoing::new(envelope, built, message_id)
        .map_err(|error| MessageError::new("message", error.to_string()))
}

/// Bare LF becomes CRLF: a file has whatever line ends its system has. A bare CR has no such
/// excuse and is refused later.
fn canonical(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(message.len() + message.len() / 32);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                lines.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                lines.extend_from_slice(b"\r\n");
            }
            None => lines.extend_from_slice(line),
        }
    }
    lines
}

/// The header with its last CRLF, and what follows the empty line.
fn split_header(message: &[u8]) -> Result<(&[u8], &[u8]), MessageError> {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return Ok((b"", body));
    }
    let end = message
        .windows(4)
        .take(MAX_HEADER_OCTETS)
        .position(|octets| octets == b"\r\n\r\n");
    match end {
        Some(end) => Ok((&message[..end + 2], &message[end + 4..])),
        None if message.len() <= MAX_HEADER_OCTETS => Ok((message, b"")),
        None => Err(MessageError::new(
            "message",
            "has no empty line after its header",
        )),
    }
}

struct Field<'a> {
    name: &'a str,
    /// All of it, folded lines and CRLF included.
    octets: &'a [u8],
}

impl Field<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value, unfolded.
    fn value(&self) -> Result<String, MessageError> {
        let text = std::str::from_utf8(self.octets)
            .map_err(|_| MessageError::new(self.name, "is not UTF-8"))?;
        let value = text.split_once(':').map_or("", |(_, value)| value);
        Ok(value.replace("\r\n", ""))
    }

    fn addresses(&self) -> Result<Vec<Address>, MessageError> {
        let value = self.value()?;
        let mut addresses = Vec::new();
        for text in split_addresses(&value) {
            let address: Option<Address> = text.parse().ok();
            let address = address.as_ref().and_then(fields::ascii_domain);
            addresses.push(address.ok_or_else(|| {
                MessageError::new(
                    self.name,
                    format!("not an address: {:?}", fields::shorten(&text)),
                )
            })?);
        }
        Ok(addresses)
    }
}

fn header_fields(header: &[u8]) -> Result<Vec<Field<'_>>, MessageError> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut start = 0;
    for line in header.split_inclusive(|&octet| octet == b'\n') {
        let end = start + line.len();
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            let folded = fields
                .last_mut()
                .ok_or_else(|| MessageError::new("message", "begins with a folded line"))?;
            // Lines of one header are next to each other.
            let length = folded.octets.len() + line.len();
            folded.octets = &header[end - length..end];
        } else {
            let colon = line.iter().position(|&octet| octet == b':');
            let name = colon
                .and_then(|colon| std::str::from_utf8(&line[..colon]).ok())
                .map(str::trim_end);
            let valid = |name: &&str| {
                !name.is_empty() && name.bytes().all(|octet| matches!(octet, b'!'..=b'~'))
            };
            let name = name.filter(valid).ok_or_else(|| {
                let number = header[..start]
                    .iter()
                    .filter(|&&octet| octet == b'\n')
                    .count()
                    + 1;
                MessageError::new("message", format!("line {number} is not a header field"))
            })?;
            fields.push(Field { name, octets: line });
        }
        start = end;
    }
    Ok(fields)
}

/// The `user@domain` of each mailbox in a list, whatever stands around them: names, comments,
/// quoted strings, groups (RFC 5322 §3.4).
fn split_addresses(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = Mailbox::default();
    let mut characters = list.chars();
    let mut comment_depth = 0_usize;
    let mut quoted = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' if quoted || comment_depth > 0 => {
                let escaped = characters.next();
                if quoted {
                    current.push('\\');
                    escaped.into_iter().for_each(|c| current.push(c));
                }
            }
            '"' if comment_depth == 0 => {
                quoted = !quoted;
                current.push(c);
            }
            _ if quoted => current.push(c),
            '(' => comment_depth += 1,
            ')' => comment_depth = comment_depth.saturating_sub(1),
            _ if comment_depth > 0 => {}
            '<' => current.angle = Some(String::new()),
            '>' => current.closed = true,
            ',' | ';' => found.extend(std::mem::take(&mut current).address()),
            // A group's name; an address literal has its colons between brackets.
            ':' if current.angle.is_none() && !current.plain.contains('[') => {
                current = Mailbox::default()
            }
            _ => current.push(c),
        }
    }
    found.extend(current.address());
    found
}

#[derive(Default)]
struct Mailbox {
    plain: String,
    angle: Option<String>,
    closed: bool,
}

impl Mailbox {
    fn push(&mut self, c: char) {
        match &mut self.angle {
            Some(_) if self.closed => {}
            Some(angle) => angle.push(c),
            None => self.plain.push(c),
        }
    }

    fn address(self) -> Option<String> {
        let text = self.angle.unwrap_or(self.plain);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}
