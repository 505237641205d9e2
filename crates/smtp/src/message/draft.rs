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
mod tests {
    use super::*;
    use crate::message::{Attachment, Limits, Source};
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    use std::time::{Duration, UNIX_EPOCH};

    fn draft() -> Draft {
        Draft {
            from: "Alerts <alerts@contoso.com>".to_owned(),
            to: vec!["admin@contoso.com".to_owned()],
            subject: "Disk 91 %".to_owned(),
            text: Some("full".to_owned()),
            ..Draft::default()
        }
    }

    fn build(draft: Draft) -> Result<Outgoing, MessageError> {
        draft.build(UNIX_EPOCH + Duration::from_secs(1_700_000_000), "u1")
    }

    fn text(draft: Draft) -> String {
        String::from_utf8(build(draft).unwrap().message().to_vec()).unwrap()
    }

    fn file(name: &str, octets: &[u8]) -> Attachment {
        Attachment {
            source: Source::Bytes(octets.to_vec()),
            name: Some(name.to_owned()),
            mime_type: None,
            content_id: None,
        }
    }

    #[test]
    fn a_plain_message_is_what_one_would_write() {
        assert_eq!(
            text(draft()),
            "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
             Message-ID: <u1@contoso.com>\r\n\
             From: Alerts <alerts@contoso.com>\r\n\
             To: admin@contoso.com\r\n\
             Subject: Disk 91 %\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             \r\n\
             full\r\n"
        );
    }

    #[test]
    fn the_same_draft_makes_the_same_octets() {
        let with_parts = || Draft {
            html: Some("<p>full</p>".to_owned()),
            attachments: vec![file("df.txt", b"x")],
            ..draft()
        };
        assert_eq!(text(with_parts()), text(with_parts()));
    }

    #[test]
    fn layers_are_there_only_if_needed() {
        let image = Attachment {
            content_id: Some("logo".to_owned()),
            ..file("logo.png", b"png")
        };
        let all = text(Draft {
            html: Some("<img src=cid:logo>".to_owned()),
            attachments: vec![image, file("df.txt", b"x")],
            ..draft()
        });
        let order = [
            "mixed",
            "related",
            "alternative",
            "text/plain",
            "text/html",
            "image/png",
            "<logo>",
            "df.txt",
        ];
        let places: Vec<_> = order.iter().map(|word| all.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{all}");
        assert!(
            !text(Draft {
                html: Some("x".to_owned()),
                ..draft()
            })
            .contains("multipart/mixed")
        );
        assert!(!text(draft()).contains("multipart"));
    }

    #[test]
    fn bcc_is_in_the_envelope_alone_and_nobody_twice() {
        let outgoing = build(Draft {
            cc: vec!["admin@contoso.com".to_owned()],
            bcc: vec![
                "hidden@contoso.com".to_owned(),
                "Admin <admin@contoso.com>".to_owned(),
            ],
            ..draft()
        })
        .unwrap();
        let recipients: Vec<_> = outgoing
            .envelope()
            .recipients
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(recipients, ["admin@contoso.com", "hidden@contoso.com"]);
        let message = String::from_utf8_lossy(outgoing.message()).to_lowercase();
        assert!(!message.contains("hidden") && !message.contains("bcc"));
    }

    #[test]
    fn a_sender_of_its_own_is_named_and_gets_the_failures() {
        let outgoing = build(Draft {
            sender: Some("svc-mail@contoso.com".to_owned()),
            ..draft()
        })
        .unwrap();
        assert_eq!(
            outgoing.envelope().reverse_path.as_ref().unwrap().user(),
            "svc-mail"
        );
        assert!(
            String::from_utf8_lossy(outgoing.message())
                .contains("Sender: svc-mail@contoso.com\r\n")
        );
        assert!(
            !text(Draft {
                sender: Some("alerts@contoso.com".to_owned()),
                ..draft()
            })
            .contains("Sender:")
        );
    }

    #[test]
    fn thread_priority_and_own_headers_are_written() {
        let message = text(Draft {
            in_reply_to: Some("b@example.org".to_owned()),
            references: vec!["<a@example.org>".to_owned()],
            priority: Some(Priority::High),
            headers: vec![("X-Host".to_owned(), "db-1 ü".to_owned())],
            reply_to: vec!["ops@contoso.com".to_owned()],
            ..draft()
        });
        for line in [
            "In-Reply-To: <b@example.org>",
            "References: <a@example.org> <b@example.org>",
            "X-Priority: 1",
            "Importance: high",
            "X-Host: db-1 =?utf-8?b?w7w=?=",
            "Reply-To: ops@contoso.com",
        ] {
            assert!(
                message.contains(&format!("{line}\r\n")),
                "{line} not in\n{message}"
            );
        }
    }

    #[test]
    fn any_line_end_in_a_script_s_text_becomes_crlf() {
        let message = text(Draft {
            text: Some("a\nb\r\nc\rd\n\ne".to_owned()),
            ..draft()
        });
        assert!(
            message.ends_with("\r\n\r\na\r\nb\r\nc\r\nd\r\n\r\ne\r\n"),
            "{message}"
        );
    }

    #[test]
    fn long_lines_and_eight_bits_are_encoded() {
        for body in [
            "x".repeat(5_000),
            "ü".repeat(3_000),
            format!("{}\n", "x ".repeat(600)),
            "\u{7f}\t".repeat(900),
        ] {
            let outgoing = build(Draft {
                text: Some(body.clone()),
                html: Some(body),
                ..draft()
            })
            .unwrap();
            assert!(!outgoing.needs_eight_bit() && !outgoing.needs_smtputf8());
        }
    }

    #[test]
    fn long_header_values_are_folded_or_encoded() {
        let word = "x".repeat(5_000);
        let outgoing = build(draft_with(|d| {
            d.subject.clone_from(&word);
            d.headers = vec![("X-Note".to_owned(), word)];
            d.from = format!("\"{}\" <alerts@contoso.com>", "n".repeat(480));
            d.references = (0..30)
                .map(|i| format!("{i}{}@contoso.com", "r".repeat(200)))
                .collect();
            d.to = (0..500)
                .map(|i| format!("User {i} <u{i}@contoso.com>"))
                .collect();
            d.attachments = vec![file(&"f".repeat(255), b"x")];
        }));
        // `Outgoing` would have refused a line of more than 998 octets.
        let message = String::from_utf8(outgoing.unwrap().message().to_vec()).unwrap();
        let subject = message.split("\r\nSubject: ").nth(1).unwrap();
        let words = subject
            .lines()
            .take_while(|line| line.contains("=?utf-8?b?"));
        let decoded = words.flat_map(|line| {
            BASE64
                .decode(&line.trim()[10..line.trim().len() - 2])
                .unwrap()
        });
        assert!(decoded.eq("x".repeat(5_000).into_bytes()));
    }

    #[test]
    fn a_file_brings_its_name_and_type() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk usage.csv");
        std::fs::write(&path, b"a,b\n").unwrap();
        let attachment = Attachment {
            source: Source::Path(path),
            name: None,
            ..file("", b"")
        };
        let message = text(draft_with(|d| d.attachments = vec![attachment]));
        assert!(message.contains("Content-Type: text/csv\r\n"), "{message}");
        assert!(message.contains("filename=\"disk usage.csv\""), "{message}");
        assert!(message.contains("\r\n\r\nYSxiCg==\r\n"), "{message}");
    }

    #[test]
    fn only_a_local_part_needs_smtputf8() {
        let outgoing = build(Draft {
            to: vec!["Jörg <joerg@exämple.org>".to_owned()],
            ..draft()
        })
        .unwrap();
        assert!(!outgoing.needs_smtputf8());
        let outgoing = build(Draft {
            to: vec!["jörg@exämple.org".to_owned()],
            ..draft()
        })
        .unwrap();
        assert!(outgoing.needs_smtputf8());
        assert_eq!(
            outgoing.envelope().recipients[0].to_string(),
            "jörg@xn--exmple-cua.org"
        );
    }

    fn draft_with(change: impl FnOnce(&mut Draft)) -> Draft {
        let mut draft = draft();
        change(&mut draft);
        draft
    }

    #[test]
    fn every_error_names_its_field() {
        let bad = || "a\r\nb".to_owned();
        let header = |name: &str, value: String| vec![(name.to_owned(), value)];
        let cases = [
            ("from", draft_with(|d| d.from = bad())),
            ("from", draft_with(|d| d.from = String::new())),
            ("sender", draft_with(|d| d.sender = Some(bad()))),
            ("reply_to[1]", draft_with(|d| d.reply_to = vec![bad()])),
            ("to[2]", draft_with(|d| d.to.push("b@".to_owned()))),
            ("cc[1]", draft_with(|d| d.cc = vec![bad()])),
            ("bcc[1]", draft_with(|d| d.bcc = vec![bad()])),
            ("to", draft_with(|d| d.to.clear())),
            (
                "to",
                draft_with(|d| d.to = (0..1_001).map(|i| format!("u{i}@contoso.com")).collect()),
            ),
            ("subject", draft_with(|d| d.subject = bad())),
            ("subject", draft_with(|d| d.subject = "x".repeat(9_000))),
            ("text", draft_with(|d| d.text = Some("\0".to_owned()))),
            (
                "headers[1]",
                draft_with(|d| d.headers = header("X-A", bad())),
            ),
            (
                "headers[1]",
                draft_with(|d| d.headers = header("Bcc", "x".to_owned())),
            ),
            (
                "headers[2]",
                draft_with(|d| {
                    d.headers =
                        [header("X-A", String::new()), header("x-a", String::new())].concat()
                }),
            ),
            ("in_reply_to", draft_with(|d| d.in_reply_to = Some(bad()))),
            ("references[1]", draft_with(|d| d.references = vec![bad()])),
            ("message_id", draft_with(|d| d.message_id = Some(bad()))),
            ("reverse_path", draft_with(|d| d.reverse_path = Some(bad()))),
            (
                "date",
                draft_with(|d| d.date = Some(UNIX_EPOCH - Duration::from_secs(1))),
            ),
        ];
        for (field, draft) in cases {
            assert_eq!(build(draft).expect_err(field).field, field);
        }
        assert_eq!(
            draft().build(UNIX_EPOCH, "a b").unwrap_err().field,
            "unique"
        );
    }

    #[test]
    fn an_attachment_s_error_names_its_part() {
        let gone = Source::Path("/nonexistent/x".into());
        let directory = Source::Path("/".into());
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            ("name", file("a\r\nb", b"")),
            ("name", file("../x", b"")),
            (
                "name",
                Attachment {
                    name: None,
                    ..file("", b"")
                },
            ),
            (
                "type",
                Attachment {
                    mime_type: some("multipart/mixed"),
                    ..file("x", b"")
                },
            ),
            (
                "type",
                Attachment {
                    mime_type: some("a\r\nb"),
                    ..file("x", b"")
                },
            ),
            (
                "cid",
                Attachment {
                    content_id: some("a b"),
                    ..file("x.png", b"")
                },
            ),
            (
                "path",
                Attachment {
                    source: gone,
                    name: None,
                    ..file("", b"")
                },
            ),
            (
                "path",
                Attachment {
                    source: directory,
                    ..file("x", b"")
                },
            ),
        ];
        for (part, attachment) in cases {
            let error = build(draft_with(|d| d.attachments = vec![attachment])).expect_err(part);
            assert_eq!(error.field, format!("attachments[1].{part}"), "{error}");
        }
        let image = Attachment {
            content_id: some("logo"),
            ..file("x.png", b"")
        };
        let error = build(draft_with(|d| d.attachments = vec![image])).unwrap_err();
        assert_eq!(
            error.field, "attachments[1].cid",
            "without html nothing shows it"
        );
    }

    #[test]
    fn the_size_is_bounded_before_it_is_built() {
        let limits = Limits {
            message_octets: 10_000,
            ..Limits::default()
        };
        let small = Draft {
            limits,
            attachments: vec![file("x", &[0; 6_000])],
            ..draft()
        };
        assert!(build(small.clone()).is_ok());
        let large = Draft {
            attachments: vec![file("x", &[0; 6_000]), file("y", &[0; 2_000])],
            ..small
        };
        assert_eq!(build(large).unwrap_err().field, "attachments[2]");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_arrives_as_lines(subject in "\\PC{0,200}", body in "[\\PC\r\n\t]{0,400}", name in "\\PC{0,60}") {
            let draft = Draft {
                subject,
                text: Some(body.clone()),
                html: Some(body),
                headers: vec![("X-Note".to_owned(), name.clone())],
                attachments: vec![file(&name, b".\r\n.")],
                to: vec![format!("\"{name}\" <a@example.org>")],
                ..draft()
            };
            // `Outgoing` holds only CRLF-ended lines of at most 998 octets; an error is fine,
            // a panic or an 8-bit header is not.
            if let Ok(outgoing) = build(draft) {
                proptest::prop_assert!(outgoing.message().is_ascii());
            }
        }
    }
}
