//! A finished message, taken as it is as far as SMTP allows.
//!
//! Line ends become CRLF, `Bcc` and `Resent-Bcc` go, a missing `Date` or `Message-ID` comes (RFC 6409 §8).
//! Nothing else of it changes: it may be signed.

use std::{collections::HashSet, time::SystemTime};

use lettre::message::header::{Date, Headers};

use super::{MessageError, address_list, fields};
use crate::{Address, Envelope, Outgoing};

/// A header beyond this is none.
const MAX_HEADER_OCTETS: usize = 1024 * 1024;

/// A message that is already one (RFC 5322). Without an envelope, its header says who it is
/// from (`Sender`, else `From`) and for (`To`, `Cc`, `Bcc`); `Resent-` fields are not looked at.
/// `unique` makes its `Message-ID` if it has none. A `From` it must have (RFC 5322 §3.6),
/// whatever the envelope says.
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
    if message.trim_ascii().is_empty() {
        return Err(MessageError::new("message", "is empty"));
    }
    let message = canonical(message);
    let (header, body) = split_header(&message)?;
    let fields = header_fields(header)?;
    check_from(&fields)?;
    let envelope = envelope.map_or_else(|| envelope_of(&fields), Ok)?;

    let mut built = Vec::with_capacity(message.len() + 200);
    let message_id = if let Some(field) = fields.iter().find(|field| field.is("Message-ID")) {
        field.value()?.trim().to_owned()
    } else {
        let domain = envelope
            .reverse_path
            .as_ref()
            .map_or("localhost", Address::domain);
        let id = fields::message_id("unique", &format!("{unique}@{domain}"))?;
        built.extend_from_slice(format!("Message-ID: {id}\r\n").as_bytes());
        id
    };
    if !fields.iter().any(|field| field.is("Date")) {
        let mut date = Headers::new();
        date.set(Date::new(now));
        built.extend_from_slice(date.to_string().as_bytes());
    }
    for field in fields.iter().filter(|field| !field.is_hidden()) {
        built.extend_from_slice(field.octets);
    }
    built.extend_from_slice(b"\r\n");
    built.extend_from_slice(body);
    Outgoing::new(envelope, built, message_id)
        .map_err(|error| MessageError::new("message", error.to_string()))
}

/// Bare LF becomes CRLF, and the last line gets one: a file has whatever line ends its system
/// has. A bare CR has no such excuse and is refused later.
fn canonical(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(message.len() + message.len() / 32);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        lines.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// The header with its last CRLF, and what follows the empty line.
fn split_header(message: &[u8]) -> Result<(&[u8], &[u8]), MessageError> {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return Ok((b"", body));
    }
    let mut windows = message.windows(4).take(MAX_HEADER_OCTETS);
    match windows.position(|octets| octets == b"\r\n\r\n") {
        Some(end) => Ok((&message[..end + 2], &message[end + 4..])),
        None if message.len() <= MAX_HEADER_OCTETS => Ok((message, b"")),
        None => Err(MessageError::new(
            "message",
            "has no empty line after its header",
        )),
    }
}

fn check_from(fields: &[Field<'_>]) -> Result<(), MessageError> {
    let wrong = |message: &str| Err(MessageError::new("From", message));
    match fields.iter().find(|field| field.is("From")) {
        None => wrong("is missing (RFC 5322 §3.6)"),
        Some(from) if from.is_blank() => wrong("is empty (RFC 5322 §3.6)"),
        Some(_) => Ok(()),
    }
}

fn envelope_of(fields: &[Field<'_>]) -> Result<Envelope, MessageError> {
    let find = |name: &str| fields.iter().find(|field| field.is(name));
    let from = find("Sender").or_else(|| find("From"));
    let from = from.ok_or_else(|| MessageError::new("From", "is missing"))?;
    let mut seen = HashSet::new();
    let mut recipients = Vec::new();
    for field in ["To", "Cc", "Bcc"]
        .iter()
        .flat_map(|name| fields.iter().filter(|field| field.is(name)))
    {
        for address in field.addresses()? {
            if seen.insert(address.clone()) {
                recipients.push(address);
            }
        }
    }
    Ok(Envelope {
        reverse_path: from.addresses()?.into_iter().next(),
        recipients,
    })
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

    /// Would tell everybody what it is there to hide.
    fn is_hidden(&self) -> bool {
        self.is("Bcc") || self.is("Resent-Bcc")
    }

    fn is_blank(&self) -> bool {
        let mut parts = self.octets.splitn(2, |&octet| octet == b':');
        parts
            .nth(1)
            .is_none_or(|value| value.trim_ascii().is_empty())
    }

    /// The value, unfolded.
    fn value(&self) -> Result<String, MessageError> {
        let text = std::str::from_utf8(self.octets)
            .map_err(|_| MessageError::new(self.name, "is not UTF-8"))?;
        let value = text.split_once(':').map_or("", |(_, value)| value);
        Ok(value.replace("\r\n", ""))
    }

    fn addresses(&self) -> Result<Vec<Address>, MessageError> {
        let parse = |text: String| {
            let invalid = || format!("not an address: {:?}", fields::shorten(&text));
            let address = address_list::address(&text);
            address.ok_or_else(|| MessageError::new(self.name, invalid()))
        };
        address_list::addresses(&self.value()?)
            .into_iter()
            .map(parse)
            .collect()
    }
}

/// Each field with the lines folded under it.
fn header_fields(header: &[u8]) -> Result<Vec<Field<'_>>, MessageError> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut start = 0;
    let lines = header.split_inclusive(|&octet| octet == b'\n');
    for (number, line) in lines.enumerate() {
        let end = start + line.len();
        let invalid = || {
            MessageError::new(
                "message",
                format!("line {} is not a header field", number + 1),
            )
        };
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            let folded = fields.last_mut().ok_or_else(invalid)?;
            // The lines of one field are next to each other.
            let octets = folded.octets.len() + line.len();
            folded.octets = &header[end - octets..end];
        } else {
            let colon = line
                .iter()
                .position(|&octet| octet == b':')
                .ok_or_else(invalid)?;
            let name = std::str::from_utf8(&line[..colon])
                .map_err(|_| invalid())?
                .trim_end();
            if name.is_empty() || !name.bytes().all(|octet| matches!(octet, b'!'..=b'~')) {
                return Err(invalid());
            }
            fields.push(Field { name, octets: line });
        }
        start = end;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn build(message: &str) -> Result<Outgoing, MessageError> {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        from_rfc5322(message.as_bytes(), None, now, "u1")
    }

    fn text(outgoing: &Outgoing) -> &str {
        std::str::from_utf8(outgoing.message().unwrap()).unwrap()
    }

    fn reverse_path(outgoing: &Outgoing) -> String {
        outgoing
            .envelope()
            .reverse_path
            .as_ref()
            .unwrap()
            .to_string()
    }

    fn names(outgoing: &Outgoing) -> Vec<String> {
        outgoing
            .envelope()
            .recipients
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn resent_bcc_goes_too() {
        let outgoing =
            build("From: a@b\nTo: c@d\nResent-Bcc: hidden@d,\n\tmore@d\nSubject: x\n\nhi").unwrap();
        assert!(!text(&outgoing).contains("hidden@d"));
        assert!(!text(&outgoing).contains("more@d"));
        assert!(text(&outgoing).contains("Subject: x"));
    }

    #[test]
    fn a_wrong_address_is_named_in_few_words() {
        let long = "x".repeat(100_000);
        for address in [long.clone(), format!("{long}@d"), format!("a@{long}")] {
            let error = build(&format!("From: a@b\nTo: {address}\n\nhi")).unwrap_err();
            assert_eq!(error.field, "To");
            assert!(error.to_string().len() < 200, "{error}");
        }
    }

    #[test]
    fn the_envelope_comes_from_the_header_and_bcc_goes() {
        let outgoing = build(
            "From: A <a@example.org>\nTo: b@example.net,\n B <b2@example.net>\nCc: b@example.net\n\
             bcc: Hidden <c@example.net>,\n\td@example.net\nMessage-ID: <1@example.org>\n\
             Date: Tue, 14 Nov 2023 22:13:20 +0000\nSubject: x\n\nbody\n",
        )
        .unwrap();
        assert_eq!(reverse_path(&outgoing), "a@example.org");
        assert_eq!(
            names(&outgoing),
            [
                "b@example.net",
                "b2@example.net",
                "c@example.net",
                "d@example.net"
            ]
        );
        assert_eq!(outgoing.message_id(), "<1@example.org>");
        assert_eq!(
            text(&outgoing),
            "From: A <a@example.org>\r\nTo: b@example.net,\r\n B <b2@example.net>\r\nCc: b@example.net\r\n\
             Message-ID: <1@example.org>\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nSubject: x\r\n\r\nbody\r\n"
        );
    }

    #[test]
    fn a_missing_date_and_message_id_are_added() {
        let outgoing = build("From: a@example.org\nTo: b@example.net\n\nbody").unwrap();
        assert_eq!(outgoing.message_id(), "<u1@example.org>");
        assert!(text(&outgoing).starts_with(
            "Message-ID: <u1@example.org>\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\nFrom: "
        ));
        assert!(text(&outgoing).ends_with("\r\n\r\nbody\r\n"));
    }

    #[test]
    fn the_sender_field_is_the_reverse_path() {
        let outgoing =
            build("From: a@example.org\nSender: s@example.org\nTo: b@example.net\n\n").unwrap();
        assert_eq!(reverse_path(&outgoing), "s@example.org");
    }

    #[test]
    fn a_given_envelope_is_kept() {
        let envelope = Envelope {
            reverse_path: None,
            recipients: vec!["x@example.net".parse().unwrap()],
        };
        let outgoing =
            from_rfc5322(b"From: a@b\n\n", Some(envelope.clone()), UNIX_EPOCH, "u").unwrap();
        assert_eq!(outgoing.envelope(), &envelope);
        assert_eq!(outgoing.message_id(), "<u@localhost>");
    }

    #[test]
    fn what_smtp_cannot_carry_is_refused_with_its_place() {
        let header = "From: a@example.org\nTo: b@example.net\n";
        let long = format!("{header}\n{}\n", "x".repeat(999));
        for (message, field, words) in [
            (format!("{header}\na\0b\n"), "message", "NUL"),
            (format!("{header}\na\rb\n"), "message", "CR"),
            (long, "message", "999 octets"),
            (
                "From: a@example.org\n\n".to_owned(),
                "message",
                "no recipients",
            ),
            ("To: b@example.net\n\n".to_owned(), "From", "missing"),
            (format!("{header}Cc: nobody\n\n"), "Cc", "not an address"),
            (format!("{header}no field\n\n"), "message", "line 3"),
            (" folded\n".to_owned(), "message", "line 1"),
        ] {
            let error = build(&message).unwrap_err();
            assert_eq!(error.field, field, "{message:?}: {error}");
            assert!(error.message.contains(words), "{message:?}: {error}");
        }
    }

    #[test]
    fn an_envelope_does_not_make_a_message_of_what_is_none() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        for (message, field, words) in [
            ("", "message", "empty"),
            ("\r\n \n", "message", "empty"),
            ("\nbody\n", "From", "missing (RFC 5322 §3.6)"),
            (
                "To: b@example.net\n\nhi\n",
                "From",
                "missing (RFC 5322 §3.6)",
            ),
            ("From: \n\nhi\n", "From", "empty"),
        ] {
            let envelope = Envelope {
                reverse_path: Some(address("a@example.org")),
                recipients: vec![address("b@example.net")],
            };
            let error =
                from_rfc5322(message.as_bytes(), Some(envelope), UNIX_EPOCH, "u").unwrap_err();
            assert_eq!(error.field, field, "{message:?}: {error}");
            assert!(error.message.contains(words), "{message:?}: {error}");
        }
    }

    #[test]
    fn eight_bit_header_fields_need_smtputf8() {
        let outgoing =
            build("From: a@example.org\nTo: b@example.net\nSubject: ü\n\nplain\n").unwrap();
        assert!(outgoing.needs_smtputf8() && !outgoing.needs_eight_bit());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = from_rfc5322(&octets, None, UNIX_EPOCH, "u");
        }
    }
}
