//! What the server says it can do, from its answer to `EHLO` (RFC 5321 §4.1.1.1).
//!
//! Only what was offered in the latest answer counts: nothing is carried across TLS.

use crate::Reply;

/// One server's offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one keyword, offered or not"
)]
pub struct Capabilities {
    /// `SIZE` (RFC 1870): `Some(None)` when offered without a limit.
    pub size: Option<Option<u64>>,
    /// RFC 2920.
    pub pipelining: bool,
    /// `BDAT` (RFC 3030).
    pub chunking: bool,
    /// RFC 3030.
    pub binarymime: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// SASL mechanisms in the server's order, upper case, each once. Also read from the form
    /// `AUTH=LOGIN` of servers older than RFC 2554.
    pub auth: Vec<String>,
    /// The lines as they came, without the server's greeting.
    pub lines: Vec<String>,
}

impl Capabilities {
    /// Reads a positive answer to `EHLO`. Keywords nobody here knows are only kept as lines.
    pub fn from_reply(reply: &Reply) -> Self {
        let mut offer = Self {
            lines: reply.lines.iter().skip(1).cloned().collect(),
            ..Self::default()
        };
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            match keyword.to_ascii_uppercase().as_str() {
                // A limit of 0 means none is fixed (RFC 1870 §4); one that is no number is no limit.
                "SIZE" => {
                    let limit = words.next().and_then(|limit| limit.parse().ok());
                    offer.size = Some(limit.filter(|&limit| limit > 0));
                }
                "PIPELINING" => offer.pipelining = true,
                "CHUNKING" => offer.chunking = true,
                "BINARYMIME" => offer.binarymime = true,
                "8BITMIME" => offer.eight_bit_mime = true,
                "SMTPUTF8" => offer.smtputf8 = true,
                "DSN" => offer.dsn = true,
                "STARTTLS" => offer.starttls = true,
                "ENHANCEDSTATUSCODES" => offer.enhanced_status_codes = true,
                "AUTH" => words.for_each(|mechanism| offer.add_mechanism(mechanism)),
                other => {
                    if let Some(first) = other.strip_prefix("AUTH=") {
                        offer.add_mechanism(first);
                        words.for_each(|mechanism| offer.add_mechanism(mechanism));
                    }
                }
            }
        }
        offer
    }

    fn add_mechanism(&mut self, name: &str) {
        let name = name.to_ascii_uppercase();
        if !name.is_empty() && !self.auth.contains(&name) {
            self.auth.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&str]) -> Capabilities {
        let lines = std::iter::once("mx.example")
            .chain(lines.iter().copied())
            .map(str::to_owned);
        Capabilities::from_reply(&Reply {
            code: 250,
            enhanced: None,
            lines: lines.collect(),
        })
    }

    #[test]
    fn exchange_s_list_is_understood() {
        let offer = offer(&[
            "SIZE 157286400",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "AUTH LOGIN XOAUTH2",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ]);
        assert_eq!(offer.size, Some(Some(157_286_400)));
        assert!(
            offer.pipelining && offer.dsn && offer.enhanced_status_codes && offer.eight_bit_mime
        );
        assert!(offer.binarymime && offer.chunking && offer.smtputf8 && !offer.starttls);
        assert_eq!(offer.auth, ["LOGIN", "XOAUTH2"]);
    }

    #[test]
    fn the_old_auth_form_adds_no_mechanism_twice() {
        assert_eq!(
            offer(&["AUTH PLAIN login", "AUTH=LOGIN PLAIN"]).auth,
            ["PLAIN", "LOGIN"]
        );
    }

    #[test]
    fn a_size_without_a_limit_is_still_an_offer() {
        assert_eq!(offer(&["SIZE"]).size, Some(None));
        assert_eq!(offer(&["size 0"]).size, Some(None));
        assert_eq!(offer(&["SIZE many"]).size, Some(None));
        assert_eq!(offer(&[]).size, None);
    }

    #[test]
    fn the_first_line_is_a_greeting_not_a_keyword() {
        let reply = Reply {
            code: 250,
            enhanced: None,
            lines: vec!["STARTTLS".to_owned()],
        };
        assert!(!Capabilities::from_reply(&reply).starttls);
    }
}
