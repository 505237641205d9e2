//! Who a message says it is from, and whether the device may say so.
//!
//! Every mailbox in `From`, and the one in `Sender`, has to be allowed: what is shown to people
//! counts, not the envelope alone.

use lettre::message::Mailbox;
use postrider_smtp::message::{Field, Header, replace_author, written};

use crate::backend::Refusal;

/// Checks the header, or makes it fit.
///
/// `instead`: as whom it is to be sent where it may not go as it is; without that it is refused.
/// True: it was made fit.
///
/// # Errors
/// Nobody, several or somebody whom the device may not send as is the author.
pub fn check(
    header: &mut Header,
    may_send_as: impl Fn(&str) -> bool,
    instead: Option<&Mailbox>,
    host: &str,
) -> Result<bool, Refusal> {
    let mut is_changed = false;
    if let Some(field) = header.find("Sender") {
        let sender = field.addresses();
        let is_one = header.count("Sender") == 1 && sender.len() == 1;
        if !is_one || !sender.iter().all(|address| may_send_as(address)) {
            if instead.is_none() {
                let text = format!("you may not send as {} (Sender)", shown(&field.text()));
                return Err(Refusal::new(550, "5.7.1", text));
            }
            header.rename("Sender", "X-Original-Sender");
            is_changed = true;
        }
    }
    let count = header.count("From");
    let authors = header.find("From").map(Field::addresses);
    let authors = authors.unwrap_or_default();
    let refusal = if count > 1 {
        Refusal::new(554, "5.6.0", "the message has more than one From field")
    } else if authors.is_empty() {
        Refusal::new(
            554,
            "5.6.0",
            "the message has no From field with an address",
        )
    } else if let Some(author) = authors.iter().find(|author| !may_send_as(author)) {
        let text = format!("you may not send as {} (From)", shown(author));
        Refusal::new(550, "5.7.1", text)
    } else {
        return Ok(is_changed);
    };
    let Some(sender) = instead else {
        return Err(refusal);
    };
    replace_author(header, sender, host);
    if header.find("From").is_none() {
        header.put_first(Field::new("From", &written(sender)));
    }
    Ok(true)
}

/// What a client wrote in place of an address. One without `@` is not repeated: it may be a
/// password that was typed into the wrong field.
pub(crate) fn no_address(text: &str) -> String {
    if text.contains('@') {
        format!("{} is no address", shown(text))
    } else {
        "what stands there has no @ and is no address".to_owned()
    }
}

/// What a client wrote, in a reply: short, on one line.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(100)
        .collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("<{}>", short.trim_matches(['<', '>']))
}

#[cfg(test)]
mod tests {
    use postrider_smtp::message::Intake;
    use proptest::prelude::*;

    use super::*;

    fn header(text: &str) -> Header {
        let mut intake = Intake::default();
        let mut body = Vec::new();
        intake.push(text.as_bytes(), &mut body).unwrap();
        intake.finish(&mut body).unwrap();
        intake.take_header()
    }

    fn may(address: &str) -> bool {
        address.eq_ignore_ascii_case("scans@contoso.com")
    }

    fn sender() -> Mailbox {
        "Scans <scans@contoso.com>".parse().unwrap()
    }

    #[test]
    fn only_those_whom_a_device_may_be_are_let_through() {
        for (text, code) in [
            ("From: scans@contoso.com\r\n", None),
            (
                "from: \"Scanner 2\" <Scans@Contoso.com> (2nd floor)\r\n",
                None,
            ),
            (
                "From: scans@contoso.com\r\nSender: scans@contoso.com\r\n",
                None,
            ),
            ("From: ceo@contoso.com\r\n", Some(550)),
            ("From: scans@contoso.com, ceo@contoso.com\r\n", Some(550)),
            ("From: ceo@contoso.com (scans@contoso.com)\r\n", Some(550)),
            (
                "From: \"scans@contoso.com\" <ceo@contoso.com>\r\n",
                Some(550),
            ),
            (
                "From: scans@contoso.com\r\nFrom: ceo@contoso.com\r\n",
                Some(554),
            ),
            (
                "From: scans@contoso.com\r\nFROM : scans@contoso.com\r\n",
                Some(554),
            ),
            (
                "From: scans@contoso.com\r\nSender: ceo@contoso.com\r\n",
                Some(550),
            ),
            ("From: scans@contoso.com\r\nSender:\r\n", Some(550)),
            ("From:\r\n", Some(554)),
            ("From: <>\r\n", Some(554)),
            ("From: Team:;\r\n", Some(554)),
            ("From: \"scans@contoso.com\r\n", Some(550)),
            ("From: <scans@contoso.com> <ceo@contoso.com>\r\n", Some(554)),
            ("Subject: nobody\r\n", Some(554)),
        ] {
            let mut header = header(text);
            let before = header.clone();
            let checked = check(&mut header, may, None, "gw");
            assert_eq!(checked.err().map(|refusal| refusal.code), code, "{text}");
            assert_eq!(header, before, "{text}");
        }
    }

    #[test]
    fn who_may_not_be_the_author_is_kept_for_answers() {
        for (text, expected) in [
            (
                "From: Front desk <desk@example.org>\r\n",
                "From: Front desk <scans@contoso.com>\r\nReply-To: desk@example.org\r\n\
                 X-Original-From: Front desk <desk@example.org>\r\n",
            ),
            (
                "Reply-To: x@example.org\r\nFrom: desk@example.org\r\n",
                "From: Scans <scans@contoso.com>\r\nReply-To: x@example.org\r\n\
                 X-Original-From: desk@example.org\r\n",
            ),
            (
                "Subject: x\r\n",
                "From: Scans <scans@contoso.com>\r\nSubject: x\r\n",
            ),
            (
                "From: scans@contoso.com\r\nSender: root@printer\r\n",
                "From: scans@contoso.com\r\nX-Original-Sender: root@printer\r\n",
            ),
        ] {
            let mut header = header(text);
            assert!(check(&mut header, may, Some(&sender()), "gw").unwrap());
            let mut out = Vec::new();
            header.write_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_there_what_leaves_is_from_one_who_may(
            lines in proptest::collection::vec("(From|from|Sender|Reply-To|X) ?:[ -~äß\r\n\t]{0,60}", 0..5),
        ) {
            let mut header = header(&lines.join("\r\n"));
            check(&mut header, may, Some(&sender()), "gw").unwrap();
            prop_assert_eq!(header.count("From"), 1);
            let authors = header.find("From").unwrap().addresses();
            prop_assert!(!authors.is_empty() && authors.iter().all(|author| may(author)));
            // What is written out is read the same.
            let mut out = Vec::new();
            header.write_to(&mut out);
            let again = self::header(&String::from_utf8(out).unwrap());
            let authors = again.find("From").unwrap().addresses();
            prop_assert!(again.count("From") == 1 && authors.iter().all(|author| may(author)));
        }
    }
}
