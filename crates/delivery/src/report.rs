//! The message that tells a sender what was not delivered (RFC 3464, in the multipart/report of
//! RFC 6522): a text for people, fields for programs, the header of what came back.
//!
//! The header is all that comes back, also where the whole message was asked for (`RET=FULL`): who
//! sent it has it, and a report that is as large as the message fails for the same reasons.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use postrider_smtp::xtext_decoded;

/// Of a recipient's failure, on one line.
const MAX_WHY_OCTETS: usize = 800;

/// What a report tells.
#[derive(Clone, Debug)]
pub(crate) struct Account<'a> {
    /// Who the report is from.
    pub(crate) reporter: &'a str,
    /// Who sent the message, as its envelope says.
    pub(crate) sender: &'a str,
    /// The message's name here; makes the report's `Message-ID`, its boundary too.
    pub(crate) name: &'a str,
    /// The message's own `Message-ID`.
    pub(crate) message_id: &'a str,
    /// When it was accepted.
    pub(crate) arrived: Timestamp,
    /// What the sender knows it by (RFC 3461 `ENVID`).
    pub(crate) envelope_id: Option<&'a str>,
    /// Its header, lines ended by CRLF.
    pub(crate) header: &'a [u8],
    /// Who did not get it.
    pub(crate) failures: &'a [Told<'a>],
    /// The time now.
    pub(crate) now: Timestamp,
}

/// A failure that the sender wants to hear of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) failure: &'a Failure,
    /// The address that the sender knows, where it said one (RFC 3461 `ORCPT`).
    pub(crate) original: Option<&'a str>,
}

/// Why one recipient did not get the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) recipient: String,
    /// RFC 3463.
    pub(crate) status: String,
    /// The server's last reply, where there was one.
    pub(crate) reply: Option<String>,
    /// What happened, for people.
    pub(crate) why: String,
}

/// The report's `Message-ID`.
pub(crate) fn message_id(name: &str, reporter: &str) -> String {
    format!("<report.{name}@{}>", domain(reporter))
}

/// The domain of an address; all of it where it has none.
pub(crate) fn domain(address: &str) -> &str {
    address
        .rsplit_once('@')
        .map_or(address, |(_, domain)| domain)
}

/// The report, header and body, as it goes on the wire.
pub(crate) fn build(account: &Account<'_>) -> Vec<u8> {
    let boundary = format!("=_report_{}", account.name);
    let date = date(account.now);
    let text = text(account);
    let status = status(account);
    let mut report = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        report,
        "From: Mail delivery <{}>\r\n\
         To: <{}>\r\n\
         Subject: Not delivered to {}\r\n\
         Date: {date}\r\n\
         Message-ID: {}\r\n\
         References: {}\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \x20boundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: {}\r\n\
         \r\n\
         {text}\r\n\
         --{boundary}\r\n\
         Content-Type: message/{}delivery-status\r\n\
         Content-Transfer-Encoding: {}\r\n\
         \r\n\
         {status}\r\n\
         --{boundary}\r\n\
         Content-Type: text/rfc822-headers\r\n\
         Content-Transfer-Encoding: {}\r\n\
         \r\n",
        one_line(account.reporter),
        one_line(account.sender),
        match account.failures {
            [one] => ascii(&one_line(&one.failure.recipient)),
            several => format!("{} recipients", several.len()),
        },
        message_id(account.name, account.reporter),
        one_line(account.message_id),
        transfer_encoding(text.as_bytes()),
        if status.is_ascii() { "" } else { "global-" },
        transfer_encoding(status.as_bytes()),
        transfer_encoding(account.header),
    );
    let mut report = report.into_bytes();
    report.extend_from_slice(account.header);
    report.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    report
}

fn text(account: &Account<'_>) -> String {
    let mut text = String::from(
        "A message that you sent was not delivered, and will not be tried again.\r\n\r\n",
    );
    for Told { failure, .. } in account.failures {
        let _ = write!(text, "To:    {}\r\n", one_line(&failure.recipient));
        let _ = write!(text, "Why:   {}\r\n", one_line(&failure.why));
        if let Some(reply) = &failure.reply {
            let _ = write!(text, "Reply: {}\r\n", one_line(reply));
        }
        text.push_str("\r\n");
    }
    let _ = write!(
        text,
        "Accepted for delivery: {}\r\nMessage-ID: {}\r\n",
        date(account.arrived),
        one_line(account.message_id)
    );
    text
}

fn status(account: &Account<'_>) -> String {
    let mut status = format!(
        "Reporting-MTA: dns; {}\r\n",
        one_line(domain(account.reporter))
    );
    if let Some(envelope_id) = account.envelope_id {
        let _ = write!(
            status,
            "Original-Envelope-Id: {}\r\n",
            one_line(envelope_id)
        );
    }
    let _ = write!(status, "Arrival-Date: {}\r\n", date(account.arrived));
    for Told { failure, original } in account.failures {
        // RFC 6533 §3 for addresses beyond ASCII.
        let kind = if failure.recipient.is_ascii() {
            "rfc822"
        } else {
            "utf-8"
        };
        let _ = write!(
            status,
            "\r\n{}Final-Recipient: {kind}; {}\r\nAction: failed\r\nStatus: {}\r\n",
            original.and_then(original_recipient).unwrap_or_default(),
            one_line(&failure.recipient),
            failure.status,
        );
        if let Some(reply) = &failure.reply {
            let _ = write!(
                status,
                "Diagnostic-Code: smtp; {}\r\n",
                ascii(&one_line(reply))
            );
        }
        let _ = write!(status, "Last-Attempt-Date: {}\r\n", date(account.now));
    }
    status
}

/// The field for what the sender calls the recipient, which is told in clear (RFC 3464 §2.3.1).
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    let address = xtext_decoded(address)?;
    let (kind, address) = (one_line(kind), one_line(&address));
    // The fields around it are in ASCII unless a recipient is not.
    let field = format!("Original-Recipient: {kind}; {address}\r\n");
    field.is_ascii().then_some(field)
}

fn date(time: Timestamp) -> String {
    rfc2822::to_string(&time.to_zoned(TimeZone::UTC)).unwrap_or_else(|_| time.to_string())
}

fn transfer_encoding(octets: &[u8]) -> &'static str {
    if octets.is_ascii() { "7bit" } else { "8bit" }
}

/// No line ends, no controls, and short enough for a line.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() + c.len_utf8() > MAX_WHY_OCTETS {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect()
}

/// The header at the beginning of `message`, by whole lines, without the line that ends it.
pub(crate) fn header(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return &[];
    }
    let end = message.windows(4).position(|octets| octets == b"\r\n\r\n");
    let lines = || message.windows(2).rposition(|octets| octets == b"\r\n");
    let end = end.or_else(lines).map_or(0, |end| end + 2);
    &message[..end]
}

#[cfg(test)]
mod tests {
    use postrider_smtp::BodyChecker;

    use super::*;

    fn report(failures: &[Failure], header: &[u8]) -> String {
        report_to(failures, None, header)
    }

    fn report_to(failures: &[Failure], original: Option<&str>, header: &[u8]) -> String {
        let told = failures.iter().map(|failure| Told { failure, original });
        let built = build(&Account {
            reporter: "mail@contoso.com",
            sender: "alerts@contoso.com",
            name: "Q7",
            message_id: "<1@contoso.com>",
            arrived: Timestamp::from_second(1_790_000_000).unwrap(),
            envelope_id: Some("job-7"),
            header,
            failures: &told.collect::<Vec<_>>(),
            now: Timestamp::from_second(1_790_000_600).unwrap(),
        });
        let mut checker = BodyChecker::default();
        checker.push(&built).unwrap();
        assert!(!checker.finish().unwrap().non_ascii_header);
        String::from_utf8(built).unwrap()
    }

    fn failure(recipient: &str) -> Failure {
        Failure {
            recipient: recipient.to_owned(),
            status: "5.1.1".to_owned(),
            reply: Some("550 5.1.1 no such user".to_owned()),
            why: "the recipient does not exist at this server".to_owned(),
        }
    }

    #[test]
    fn a_report_has_a_text_the_fields_and_the_header_and_nothing_of_the_body() {
        let report = report(
            &[failure("b@example.net")],
            header(b"Subject: x\r\n\r\nsecret\r\n"),
        );
        for part in [
            "Subject: Not delivered to b@example.net\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "Message-ID: <report.Q7@contoso.com>\r\n",
            "multipart/report; report-type=delivery-status",
            "Why:   the recipient does not exist at this server\r\n",
            "Content-Type: message/delivery-status\r\n",
            "Reporting-MTA: dns; contoso.com\r\nOriginal-Envelope-Id: job-7\r\n",
            "\r\n\r\nFinal-Recipient: rfc822; b@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\
             Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "Content-Type: text/rfc822-headers\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\nSubject: x\r\n\r\n--=_report_Q7--\r\n",
        ] {
            assert!(report.contains(part), "{part:?} is not in:\n{report}");
        }
        assert!(!report.contains("secret"));
    }

    #[test]
    fn what_a_server_or_a_sender_wrote_cannot_add_a_field_or_a_line_that_is_too_long() {
        let hostile = Failure {
            reply: Some(format!("550 x\r\nX-Evil: 1 {}", "ü".repeat(2000))),
            ..failure("b@example.net\r\nX-Evil: 2")
        };
        let report = report(&[hostile], b"");
        assert!(!report.contains("\nX-Evil"), "{report}");
    }

    #[test]
    fn a_recipient_has_the_name_that_the_sender_gave_it_too() {
        let report = |original| report_to(&[failure("b@example.net")], Some(original), b"");
        let field = "\r\n\r\nOriginal-Recipient: rfc822; list+x@example.org\r\nFinal-Recipient: ";
        assert!(report("rfc822;list+2Bx@example.org").contains(field));
        for none in ["", "rfc822", "rfc822;a+2x", "rfc822;+C3+A4"] {
            assert!(!report(none).contains("Original-Recipient"), "{none:?}");
        }
        assert!(!report("rfc822;a+0D+0AX-Evil: 1").contains("\nX-Evil"));
    }

    #[test]
    fn an_address_beyond_ascii_is_told_as_it_is() {
        let report = report(
            &[failure("jörg@example.net"), failure("b@example.net")],
            b"",
        );
        assert!(report.contains("Content-Type: message/global-delivery-status\r\n"));
        assert!(report.contains("Final-Recipient: utf-8; jörg@example.net\r\n"));
        assert!(report.contains("Subject: Not delivered to 2 recipients\r\n"));
    }

    #[test]
    fn a_header_ends_where_the_body_begins_or_at_its_last_whole_line() {
        assert_eq!(header(b"a: b\r\nc: d\r\n\r\nbody\r\n"), b"a: b\r\nc: d\r\n");
        assert_eq!(header(b"a: b\r\nc: d"), b"a: b\r\n");
        assert_eq!(header(b"\r\nbody\r\n"), b"");
        assert_eq!(header(b""), b"");
        assert_eq!(header(b"no line"), b"");
    }
}
