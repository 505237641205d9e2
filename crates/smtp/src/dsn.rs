//! Delivery status notifications (RFC 3461): what is asked for, and how it is written.
//!
//! What is written cannot end its parameter or its command: words are known, addresses are xtext,
//! and what is not as the RFC has it is left out.

use std::collections::BTreeSet;

/// RFC 3461 §4.4; taken as the length on the wire, for servers count there.
const MAX_ENVID_OCTETS: usize = 100;
/// RFC 3461 §4.2.
const MAX_ORCPT_OCTETS: usize = 500;

/// Delivery status notifications (RFC 3461).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dsn {
    /// What is asked of each recipient, in the order of the envelope; of one that is not here,
    /// nothing.
    pub recipients: Vec<RecipientDsn>,
    /// How much of the message comes back in a failure notice.
    pub ret: Option<Return>,
    /// An identifier that comes back in each notice: printable ASCII, at most 100 octets as
    /// xtext, where a space, `+` and `=` take three; anything else is left out.
    pub envid: Option<String>,
}

/// What is asked of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientDsn {
    /// When to notify; empty is `NEVER`, `None` leaves it to the servers.
    pub notify: Option<BTreeSet<Notify>>,
    /// The address that the sender knows, as `type;xtext` of at most 500 octets; anything else
    /// is left out.
    pub orcpt: Option<String>,
}

/// An event to be notified of (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notify {
    /// Delivered.
    Success,
    /// Will not be delivered.
    Failure,
    /// Not delivered yet.
    Delay,
}

/// How much of the message comes back (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

impl Dsn {
    /// Adds `RET` and `ENVID` to a `MAIL` command.
    pub(crate) fn write_mail(&self, command: &mut String) {
        match self.ret {
            Some(Return::Full) => *command += " RET=FULL",
            Some(Return::Headers) => *command += " RET=HDRS",
            None => {}
        }
        if let Some(envid) = &self.envid
            && envid.bytes().all(|octet| (b' '..=b'~').contains(&octet))
            && let coded = xtext(envid)
            && (1..=MAX_ENVID_OCTETS).contains(&coded.len())
        {
            *command += " ENVID=";
            *command += &coded;
        }
    }

    /// Adds `NOTIFY` and `ORCPT` to the `RCPT` command of this recipient. Where the sender named
    /// no other address, `path` is the one it knows (RFC 3461 §4.2).
    pub(crate) fn write_rcpt(&self, index: usize, path: &str, command: &mut String) {
        let Some(asked) = self.recipients.get(index) else {
            return;
        };
        if let Some(events) = &asked.notify {
            *command += " NOTIFY=";
            let words: Vec<_> = events.iter().map(|event| event.word()).collect();
            *command += &if words.is_empty() {
                "NEVER".to_owned()
            } else {
                words.join(",")
            };
        }
        match &asked.orcpt {
            Some(orcpt) if is_orcpt(orcpt) => {
                *command += " ORCPT=";
                *command += orcpt;
            }
            None if asked.notify.is_some() && path.is_ascii() => {
                *command += " ORCPT=rfc822;";
                *command += &xtext(path);
            }
            // In the place of one that cannot be said another address would be a false one.
            _ => {}
        }
    }
}

impl Notify {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Delay => "DELAY",
        }
    }
}

/// RFC 3461 §4: printable, and neither of the two that mean something.
fn is_xchar(octet: u8) -> bool {
    matches!(octet, b'!'..=b'*' | b','..=b'<' | b'>'..=b'~')
}

fn xtext(text: &str) -> String {
    text.bytes()
        .fold(String::new(), |coded, octet| match octet {
            octet if is_xchar(octet) => coded + char::from(octet).encode_utf8(&mut [0; 4]),
            _ => coded + &format!("+{octet:02X}"),
        })
}

/// The text that xtext stands for, if it is xtext and its octets are text.
pub fn xtext_decoded(coded: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(coded.len());
    let mut rest = coded.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            octet if is_xchar(octet) => octet,
            _ => return None,
        });
    }
    String::from_utf8(octets).ok()
}

/// A hexadecimal digit; RFC 3461 has none in small letters.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether this may stand behind `ORCPT=`. The type `utf-8` has escapes of its own (RFC 6533 §3),
/// of which those in ASCII are made of the same octets; one with others is for a server that may
/// not be the next.
fn is_orcpt(orcpt: &str) -> bool {
    let Some((kind, address)) = orcpt.split_once(';') else {
        return false;
    };
    let is_kind = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    orcpt.len() <= MAX_ORCPT_OCTETS
        && !kind.is_empty()
        && kind.bytes().all(is_kind)
        && !address.is_empty()
        && xtext_decoded(address).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rcpt(notify: Option<&[Notify]>, orcpt: Option<&str>) -> String {
        let one = RecipientDsn {
            notify: notify.map(|events| events.iter().copied().collect()),
            orcpt: orcpt.map(str::to_owned),
        };
        let dsn = Dsn {
            recipients: vec![one],
            ..Dsn::default()
        };
        let mut command = String::new();
        dsn.write_rcpt(0, "b+c@example.net", &mut command);
        dsn.write_rcpt(1, "nobody.asked@example.net", &mut command);
        command
    }

    #[test]
    fn each_recipient_has_what_was_asked_of_it_and_no_more() {
        assert_eq!(rcpt(None, None), "");
        assert_eq!(
            rcpt(Some(&[]), None),
            " NOTIFY=NEVER ORCPT=rfc822;b+2Bc@example.net"
        );
        assert_eq!(
            rcpt(
                Some(&[Notify::Delay, Notify::Success]),
                Some("rfc822;x+2By@example.org")
            ),
            " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@example.org"
        );
        assert_eq!(
            rcpt(None, Some("utf-8;j\\x{F6}@example.org")),
            " ORCPT=utf-8;j\\x{F6}@example.org"
        );
    }

    #[test]
    fn an_original_recipient_that_is_none_is_left_out() {
        for orcpt in [
            "",
            ";",
            "rfc822",
            "rfc822;",
            ";a@example.org",
            "rfc822;a b",
            "rfc822;a=b",
            "rfc822;a+2b",
            "rfc822;a+",
            "rfc822;jörg@example.org",
            "rfc 822;a",
            "rfc822;a\r\nDATA",
            "rfc822\r\nDATA;a",
            &format!("rfc822;{}", "a".repeat(494)),
        ] {
            assert_eq!(rcpt(Some(&[]), Some(orcpt)), " NOTIFY=NEVER", "{orcpt:?}");
        }
        let longest = format!("rfc822;{}", "a".repeat(493));
        assert_eq!(rcpt(None, Some(&longest)), format!(" ORCPT={longest}"));
    }

    proptest! {
        #[test]
        fn xtext_comes_back_as_it_was(text in ".{0,40}") {
            prop_assert_eq!(xtext_decoded(&xtext(&text)), Some(text));
        }

        #[test]
        fn nothing_that_was_asked_ends_its_parameter_or_its_line(
            orcpt in "(rfc822;)?.{0,40}|[ -~\r\n]{0,20};[ -~\r\n]{0,40}", envid in ".{0,120}",
        ) {
            let words = rcpt(None, Some(&orcpt));
            let whole = format!(" ORCPT={orcpt}");
            prop_assert!(words.is_empty() || words == whole);
            let dsn = Dsn { envid: Some(envid), ..Dsn::default() };
            let mut mail = String::new();
            dsn.write_mail(&mut mail);
            for words in [words, mail] {
                let inside = words.strip_prefix(' ').unwrap_or_default();
                prop_assert!(inside.bytes().all(|octet| octet.is_ascii_graphic()), "{:?}", words);
                prop_assert!(inside.matches('=').count() <= 1, "{:?}", words);
            }
        }
    }
}
