//! A message taken apart for people: header, texts, attachments.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{
    Address, HeaderName, HeaderValue, Message, MessageParser, MessagePart, MimeHeaders as _,
    PartType,
};
use serde::Serialize;

/// Inline images beyond this together are left out of the HTML.
const INLINE_OCTETS: usize = 16 * 1024 * 1024;

/// What a list of messages shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The Subject, decoded.
    pub subject: String,
    /// The From header, for people.
    pub from: String,
    /// The Message-ID with its brackets, if there is one.
    pub message_id: Option<String>,
    /// Octets of the message.
    pub octets: usize,
    /// How many attachments.
    pub attachments: usize,
}

/// What the header says of where a message is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Every address of every From header: a second one must not hide behind the first.
    pub(crate) from: Vec<String>,
    /// The Message-ID with its brackets.
    pub(crate) message_id: Option<String>,
}

/// A message, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The outermost header, in order: names, and values unfolded but not decoded.
    pub headers: Vec<(String, String)>,
    /// From, To, Cc and Reply-To for people; absent ones are left out.
    pub addresses: Vec<(&'static str, String)>,
    /// The plain text, if the message has one itself.
    pub text: Option<String>,
    /// The HTML, if the message has one itself, with its inline images.
    pub html: Option<String>,
    /// What is attached.
    pub attachments: Vec<Attachment>,
}

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Its file name as the message gives it; not safe as a path.
    pub name: String,
    /// Its MIME type.
    pub mime_type: String,
    /// Its size, decoded.
    pub octets: usize,
    /// Its Content-ID, without brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
}

impl Summary {
    /// Reads a message as far as a list needs it.
    pub fn of(octets: &[u8]) -> Self {
        let parsed = parse(octets);
        Self {
            subject: parsed.subject().unwrap_or_default().to_owned(),
            from: parsed.from().map(shown).unwrap_or_default(),
            message_id: message_id(&parsed),
            octets: octets.len(),
            attachments: parsed.attachment_count(),
        }
    }
}

impl Origin {
    /// Reads the header alone, however large the message is.
    pub(crate) fn of(octets: &[u8]) -> Self {
        let parsed = MessageParser::default().parse_headers(octets);
        let parsed = whole(parsed);
        let from = parsed
            .header_values(HeaderName::From)
            .filter_map(HeaderValue::as_address);
        Self {
            from: from
                .flat_map(|addresses| addresses.iter().filter_map(|one| one.address()))
                .map(str::to_owned)
                .collect(),
            message_id: message_id(&parsed),
        }
    }
}

impl View {
    /// Reads a message wholly. Whatever it holds, there is something to show.
    pub fn of(octets: &[u8]) -> Self {
        let parsed = parse(octets);
        let unfold = |value: &str| value.replace(['\r', '\n'], "").trim().to_owned();
        let headers = parsed.headers_raw();
        let addresses = [
            ("From", parsed.from()),
            ("Reply-To", parsed.reply_to()),
            ("To", parsed.to()),
            ("Cc", parsed.cc()),
        ];
        let html = parsed.html_bodies().find(|part| part.is_text_html());
        let text = parsed
            .text_bodies()
            .find(|part| part.is_text() && !part.is_text_html());
        Self {
            headers: headers
                .map(|(name, value)| (name.to_owned(), unfold(value)))
                .collect(),
            addresses: addresses
                .into_iter()
                .filter_map(|(name, value)| Some((name, shown(value?))))
                .collect(),
            text: text.and_then(MessagePart::text_contents).map(str::to_owned),
            html: html
                .and_then(MessagePart::text_contents)
                .map(|html| with_images(html, &parsed)),
            attachments: parsed.attachments().map(Attachment::of).collect(),
        }
    }

    /// The content of the attachment at this place, decoded.
    pub fn attachment(octets: &[u8], index: u32) -> Option<(Attachment, Vec<u8>)> {
        let parsed = parse(octets);
        let part = parsed.attachment(index)?;
        Some((Attachment::of(part), content(part).to_vec()))
    }
}

impl Attachment {
    fn of(part: &MessagePart<'_>) -> Self {
        let mime_type = match (part.content_type(), &part.body) {
            (Some(kind), _) => format!(
                "{}/{}",
                kind.ctype(),
                kind.subtype().unwrap_or("octet-stream")
            ),
            (None, PartType::Message(_)) => "message/rfc822".to_owned(),
            (None, _) => "text/plain".to_owned(),
        };
        Self {
            name: part.attachment_name().unwrap_or("unnamed").to_owned(),
            mime_type,
            octets: content(part).len(),
            content_id: part.content_id().map(str::to_owned),
        }
    }
}

fn parse(octets: &[u8]) -> Message<'_> {
    whole(MessageParser::default().parse(octets))
}

/// The parser's own accessors count on a first part.
fn whole(parsed: Option<Message<'_>>) -> Message<'_> {
    parsed
        .filter(|message| !message.parts.is_empty())
        .unwrap_or_else(|| Message {
            parts: vec![MessagePart::default()],
            ..Message::default()
        })
}

fn message_id(parsed: &Message<'_>) -> Option<String> {
    parsed.message_id().map(|id| format!("<{id}>"))
}

fn content<'a>(part: &'a MessagePart<'_>) -> &'a [u8] {
    match &part.body {
        PartType::Message(message) => message.raw_message(),
        _ => part.contents(),
    }
}

fn shown(addresses: &Address<'_>) -> String {
    let mut shown = String::new();
    for one in addresses.iter() {
        let separator = if shown.is_empty() { "" } else { ", " };
        let address = one.address().unwrap_or_default();
        let _ = match one.name() {
            Some(name) => write!(shown, "{separator}{name} <{address}>"),
            None => write!(shown, "{separator}{address}"),
        };
    }
    shown
}

/// The HTML with `cid:` references to images replaced by the images.
fn with_images(html: &str, parsed: &Message<'_>) -> String {
    let mut html = html.to_owned();
    let mut room = INLINE_OCTETS;
    for part in parsed.attachments() {
        let (Some(id), Some(kind)) = (part.content_id(), part.content_type()) else {
            continue;
        };
        let reference = format!("cid:{id}");
        let uses = html.matches(&reference).count();
        let octets = part.contents();
        let image = kind.ctype().eq_ignore_ascii_case("image");
        // An SVG is a document of its own; the formats below are pictures only.
        let subtype = kind.subtype().unwrap_or_default().to_ascii_lowercase();
        let picture = image && ["png", "jpeg", "gif", "webp"].contains(&subtype.as_str());
        let cost = octets.len().saturating_mul(uses);
        if picture && uses > 0 && cost <= room {
            room -= cost;
            html = html.replace(
                &reference,
                &format!("data:image/{subtype};base64,{}", STANDARD.encode(octets)),
            );
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIXED: &str = "From: =?utf-8?q?J=C3=BCrgen?= <svc-mail@contoso.com>\r\n\
        To: a@contoso.com,\r\n b@contoso.com\r\n\
        Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\
        Message-ID: <x@y>\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n\
        --c\r\nContent-Type: text/plain\r\n\r\nplain\r\n\
        --c\r\nContent-Type: text/html\r\n\r\n<img src=\"cid:i@x\">\r\n--c--\r\n\
        --b\r\nContent-Type: image/png\r\nContent-ID: <i@x>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw==\r\n\
        --b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"../a.csv\"\r\n\r\n1,2\r\n--b--\r\n";

    #[test]
    fn a_message_is_decoded_for_people() {
        let summary = Summary::of(MIXED.as_bytes());
        assert_eq!(summary.subject, "Gr\u{fc}\u{df}e");
        assert_eq!(summary.from, "J\u{fc}rgen <svc-mail@contoso.com>");
        assert_eq!(summary.message_id.as_deref(), Some("<x@y>"));
        let origin = Origin::of(MIXED.as_bytes());
        assert_eq!(origin.from, ["svc-mail@contoso.com"]);
        assert_eq!(origin.message_id, summary.message_id);

        let view = View::of(MIXED.as_bytes());
        assert_eq!(
            view.addresses[1],
            ("To", "a@contoso.com, b@contoso.com".to_owned())
        );
        assert_eq!(view.text.as_deref(), Some("plain"));
        assert_eq!(
            view.html.as_deref(),
            Some("<img src=\"data:image/png;base64,iVBORw==\">")
        );
        let names: Vec<&str> = view.attachments.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["unnamed", "../a.csv"]);
        assert_eq!(View::attachment(MIXED.as_bytes(), 1).unwrap().1, b"1,2");
        assert!(View::attachment(MIXED.as_bytes(), 2).is_none());
    }

    #[test]
    fn no_from_header_hides_another() {
        let two = b"From: a@x\r\nFrom: b@x, G: c@x;\r\nFROM : d@x\r\n\r\n";
        let found = Origin::of(two).from;
        for address in ["a@x", "b@x", "c@x"] {
            assert!(found.iter().any(|f| f == address), "{found:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_octets_have_a_view(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (Summary::of(&octets), View::of(&octets), Origin::of(&octets));
        }

        #[test]
        fn any_damage_to_a_message_leaves_a_view(at in 0usize..700, with in "[\r\n\"<>;:=?-]{0,6}") {
            let mut octets = MIXED.as_bytes().to_vec();
            let at = at.min(octets.len());
            octets.splice(at..(at + with.len()).min(octets.len()), with.bytes());
            let _ = (Summary::of(&octets), View::of(&octets), Origin::of(&octets));
        }
    }
}
