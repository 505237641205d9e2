//! The words of a header, checked one by one.
//!
//! Whatever passes here can neither end its header field nor make a line too long to encode.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use lettre::{
    Address,
    message::{
        Mailbox, Mailboxes,
        header::{HeaderName, HeaderValue},
    },
};

use super::MessageError;
use crate::address::is_safe_path;

/// Far more than any reader shows, and far less than would make a server complain.
pub(super) const MAX_VALUE_OCTETS: usize = 8 * 1024;
/// RFC 5322 §2.1.1 allows 998 for the line; `lettre` 76 for the name.
const MAX_NAME_OCTETS: usize = 76;
/// A name that is one long word is not folded: it must fit a line.
const MAX_DISPLAY_NAME_OCTETS: usize = 500;
const MAX_MESSAGE_ID_OCTETS: usize = 250;
const MAX_WORD_OCTETS: usize = 500;
/// RFC 2047 §2: an encoded word has at most 75 characters; these become 60 of them.
const ENCODED_WORD_OCTETS: usize = 45;

/// Fields that the message's structure or the draft's other fields decide. `Bcc` would tell
/// everybody what it is there to hide.
const FORBIDDEN: [&str; 17] = [
    "bcc",
    "cc",
    "date",
    "from",
    "in-reply-to",
    "message-id",
    "mime-version",
    "references",
    "reply-to",
    "resent-bcc",
    "return-path",
    "sender",
    "subject",
    "to",
    "importance",
    "x-priority",
    "received",
];

/// A value without line ends, NUL and other controls, and of a sensible length.
pub(super) fn check_value(field: &str, value: &str) -> Result<(), MessageError> {
    check_length(field, value, MAX_VALUE_OCTETS)?;
    check_controls(field, value)
}

fn check_length(field: &str, value: &str, limit: usize) -> Result<(), MessageError> {
    if value.len() > limit {
        let message = format!("longer than {limit} octets");
        return Err(MessageError::new(field, message));
    }
    Ok(())
}

fn check_controls(field: &str, value: &str) -> Result<(), MessageError> {
    let control = |c: &char| c.is_control() && *c != '\t' || matches!(c, '\u{2028}' | '\u{2029}');
    let message = match value.chars().find(control) {
        None => return Ok(()),
        Some('\r' | '\n' | '\u{2028}' | '\u{2029}' | '\u{85}') => "holds a line break".to_owned(),
        Some('\0') => "holds a NUL".to_owned(),
        Some(other) => format!("holds the control character U+{:04X}", u32::from(other)),
    };
    Err(MessageError::new(field, message))
}

/// One mailbox; its domain in ASCII, as every server understands it.
pub(super) fn mailbox(field: &str, text: &str) -> Result<Mailbox, MessageError> {
    check_value(field, text)?;
    let invalid = || MessageError::new(field, format!("not an address: {:?}", shorten(text)));
    let mailbox: Mailbox = text.trim().parse().map_err(|_| invalid())?;
    let email = ascii_domain(&mailbox.email)
        .filter(is_safe_path)
        .ok_or_else(invalid)?;
    if let Some(name) = &mailbox.name {
        check_length(field, name, MAX_DISPLAY_NAME_OCTETS)?;
        check_controls(field, name)?;
    }
    Ok(Mailbox::new(
        mailbox.name.filter(|name| !name.is_empty()),
        email,
    ))
}

pub(super) fn mailboxes(field: &str, texts: &[String]) -> Result<Mailboxes, MessageError> {
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| mailbox(&format!("{field}[{}]", i + 1), text))
        .collect()
}

/// The same address with its domain as A-labels (RFC 5890 §2.3.2.1): it then needs `SMTPUTF8`
/// only if its local part does.
pub(super) fn ascii_domain(address: &Address) -> Option<Address> {
    if address.domain().is_ascii() {
        return Some(address.clone());
    }
    let domain = idna::domain_to_ascii_strict(address.domain()).ok()?;
    Address::new(address.user(), domain).ok()
}

/// A header field of the caller's own.
pub(super) fn custom(field: &str, name: &str, value: &str) -> Result<HeaderValue, MessageError> {
    let printable = name
        .bytes()
        .all(|octet| matches!(octet, b'!'..=b'~') && octet != b':');
    if name.is_empty() || name.len() > MAX_NAME_OCTETS || !printable {
        return Err(MessageError::new(
            field,
            format!("not a header field's name: {:?}", shorten(name)),
        ));
    }
    let lower = name.to_ascii_lowercase();
    if FORBIDDEN.contains(&lower.as_str()) || lower.starts_with("content-") {
        return Err(MessageError::new(
            field,
            format!("the field {name} cannot be set this way"),
        ));
    }
    check_value(field, value)?;
    let header = HeaderName::new_from_ascii(name.to_owned())
        .map_err(|_| MessageError::new(field, format!("not a header field's name: {name:?}")))?;
    Ok(unstructured(header, value))
}

/// Text in a header field, folded and encoded (RFC 2047) where it must be.
///
/// `lettre` leaves a word of plain ASCII as it is, however long: those are encoded here, for a
/// line may have 998 octets.
pub(super) fn unstructured(name: HeaderName, value: &str) -> HeaderValue {
    if value
        .split([' ', '\t'])
        .all(|word| word.len() <= MAX_WORD_OCTETS)
    {
        return HeaderValue::new(name, value.to_owned());
    }
    let mut encoded = String::new();
    let mut rest = value;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(ENCODED_WORD_OCTETS));
        if !encoded.is_empty() {
            encoded.push_str("\r\n ");
        }
        encoded.push_str("=?utf-8?b?");
        BASE64.encode_string(piece, &mut encoded);
        encoded.push_str("?=");
        rest = more;
    }
    HeaderValue::dangerous_new_pre_encoded(name, value.to_owned(), encoded)
}

/// A `Message-ID`, with its angle brackets whether or not it came with them.
pub(super) fn message_id(field: &str, text: &str) -> Result<String, MessageError> {
    let inner = text.trim();
    let inner = inner
        .strip_prefix('<')
        .and_then(|id| id.strip_suffix('>'))
        .unwrap_or(inner);
    let allowed = |octet: u8| matches!(octet, b'!'..=b'~') && !b"<>()\\,;\"".contains(&octet);
    let (left, right) = inner.split_once('@').unwrap_or_default();
    let valid = !left.is_empty() && !right.is_empty() && inner.bytes().all(allowed);
    if !valid || inner.len() > MAX_MESSAGE_ID_OCTETS {
        return Err(MessageError::new(
            field,
            format!("not a message id: {:?}", shorten(text)),
        ));
    }
    Ok(format!("<{inner}>"))
}

/// Enough of a wrong value to recognise it.
pub(super) fn shorten(value: &str) -> String {
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_refused_and_the_field_named() {
        for (value, what) in [
            ("a\r\nBcc: x@example.org", "line break"),
            ("a\nb", "line break"),
            ("a\u{2028}b", "line break"),
            ("a\0b", "NUL"),
            ("a\x1bb", "U+001B"),
        ] {
            let error = check_value("subject", value).unwrap_err();
            assert_eq!(error.field, "subject");
            assert!(error.message.contains(what), "{error}");
            assert!(mailbox("to[1]", &format!("{value} <a@example.org>")).is_err());
            assert!(mailbox("to[1]", &format!("{value}@example.org")).is_err());
            assert!(message_id("message_id", value).is_err());
            assert!(custom("headers", "X-Note", value).is_err());
            assert!(custom("headers", value, "x").is_err());
        }
        assert!(check_value("subject", &"x".repeat(MAX_VALUE_OCTETS + 1)).is_err());
        let error = mailbox("to[1]", &"x".repeat(MAX_VALUE_OCTETS)).unwrap_err();
        assert!(error.message.len() < 200, "{error}");
    }

    #[test]
    fn structural_fields_cannot_be_set() {
        for name in [
            "Bcc",
            "CONTENT-TYPE",
            "content-transfer-encoding",
            "To",
            "Return-Path",
            "a b",
            "a:",
            "é",
            "",
        ] {
            assert!(custom("headers", name, "x").is_err(), "{name}");
        }
        assert!(custom("headers", "List-Unsubscribe", "<https://example.org/u>").is_ok());
    }

    #[test]
    fn an_international_domain_becomes_ascii() {
        let mailbox = mailbox("to[1]", "Jörg <user@exämple.org>").unwrap();
        assert_eq!(mailbox.email.to_string(), "user@xn--exmple-cua.org");
        assert_eq!(mailbox.name.unwrap(), "Jörg");
    }

    #[test]
    fn a_message_id_gets_its_brackets() {
        assert_eq!(
            message_id("message_id", "a.1@example.org").unwrap(),
            "<a.1@example.org>"
        );
        assert_eq!(message_id("message_id", "<a@b>").unwrap(), "<a@b>");
        for bad in ["", "a", "a@", "@b", "<a@b", "a b@c", "a@b>\r\nX: y", "é@b"] {
            assert!(message_id("message_id", bad).is_err(), "{bad:?}");
        }
    }
}
