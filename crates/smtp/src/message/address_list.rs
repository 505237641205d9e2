//! The addresses in a header field, whatever stands around them (RFC 5322 §3.4).

use lettre::message::header::{From, Headers};
use lettre::message::{self, Mailboxes};

use super::fields;
use crate::{Address, address::is_safe_path};

/// The `user@domain` of each mailbox in a list: names, comments and groups go, quoted local
/// parts stay. What is no address comes out as it is, for whoever parses it next.
pub fn addresses(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut mailbox = Mailbox::default();
    let mut characters = list.chars();
    let mut comment_depth = 0_usize;
    let mut quoted = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' if quoted || comment_depth > 0 => {
                let escaped = characters.next();
                if let (true, Some(escaped)) = (quoted, escaped) {
                    mailbox.push('\\');
                    mailbox.push(escaped);
                }
            }
            '"' if comment_depth == 0 => {
                quoted = !quoted;
                mailbox.push(c);
            }
            _ if quoted => mailbox.push(c),
            '(' => comment_depth += 1,
            ')' => comment_depth = comment_depth.saturating_sub(1),
            _ if comment_depth > 0 => {}
            '<' => mailbox.angle = Some(String::new()),
            '>' => mailbox.closed = true,
            ',' | ';' => found.extend(std::mem::take(&mut mailbox).address()),
            // What stood before it is a group's name, unless it is inside an address literal.
            ':' if mailbox.angle.is_none() && !mailbox.plain.contains('[') => {
                mailbox = Mailbox::default();
            }
            _ => mailbox.push(c),
        }
    }
    found.extend(mailbox.address());
    found
}

/// An address that may stand in an envelope, its domain in ASCII.
pub fn address(text: &str) -> Option<Address> {
    let address = text.parse().ok()?;
    fields::ascii_domain(&address).filter(is_safe_path)
}

/// A mailbox as a header field has it: its name encoded where it must be, folded where it is long.
pub fn written(mailbox: &message::Mailbox) -> String {
    let mut headers = Headers::new();
    headers.set(From::from(Mailboxes::from(mailbox.clone())));
    let field = headers.to_string();
    let value = field.strip_prefix("From:").unwrap_or(&field);
    value.trim().to_owned()
}

#[derive(Default)]
struct Mailbox {
    plain: String,
    /// What stands between `<` and `>`, where there are any.
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

#[cfg(test)]
mod tests {
    use super::{addresses, written};

    #[test]
    fn only_addresses_are_left() {
        for (list, wanted) in [
            ("a@b, Name <c@d>", &["a@b", "c@d"][..]),
            (
                "\"Doe, Jane\" <jane@example.org> (work, mostly)",
                &["jane@example.org"],
            ),
            ("a@b (one \\) two), c@d", &["a@b", "c@d"]),
            ("undisclosed-recipients:;", &[]),
            ("Team: a@b, <c@d>; e@f", &["a@b", "c@d", "e@f"]),
            ("\"a,b\\\"c\"@example.org", &["\"a,b\\\"c\"@example.org"]),
            (
                "x@[IPv6:2001:db8::1], <y@[IPv6:::1]>",
                &["x@[IPv6:2001:db8::1]", "y@[IPv6:::1]"],
            ),
            (
                "=?utf-8?q?J=C3=B6rg?= <j@example.org>,,",
                &["j@example.org"],
            ),
            ("not an address", &["not an address"]),
            ("", &[]),
        ] {
            assert_eq!(addresses(list), wanted, "{list}");
        }
    }

    #[test]
    fn a_mailbox_is_written_so_that_every_server_takes_it() {
        for (text, field) in [
            ("a@b.example", "a@b.example"),
            ("Ops <a@b.example>", "Ops <a@b.example>"),
            ("Jörg <a@b.example>", "=?utf-8?b?SsO2cmc=?= <a@b.example>"),
        ] {
            assert_eq!(written(&text.parse().unwrap()), field);
        }
        let long = format!("{} <a@b.example>", "ö".repeat(200));
        let field = written(&long.parse().unwrap());
        assert!(field.is_ascii() && field.lines().all(|line| line.len() < 80));
        assert_eq!(addresses(&field.replace("\r\n", "")), ["a@b.example"]);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            let _ = addresses(&text);
        }
    }
}
