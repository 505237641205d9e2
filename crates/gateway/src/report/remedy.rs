//! What to do about a refusal of the gateway's own.
//!
//! From what the device heard, or would have been told had it understood it: the same answer
//! wherever it is asked for. `None` where no setting and no field on a settings page is known that
//! helps.

use super::ready::{key, limit_key, word};
use crate::handshake;
use crate::limits::Full;

/// Who was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusee<'a> {
    /// The gateway.
    pub gateway: &'a str,
    /// The device, if it came as far as its name.
    pub device: Option<&'a str>,
    /// Whether the device has settings of its own.
    pub has_settings: bool,
}

impl Refusee<'_> {
    /// The table in the configuration that holds for it.
    pub(super) fn table(&self) -> String {
        match self.device.filter(|_| self.has_settings) {
            Some(device) => format!("[gateway.{}.device.{}]", self.gateway, key(device)),
            None => format!("[gateway.{}]", self.gateway),
        }
    }

    /// The next step after this: reply code, enhanced status and text, or why encryption failed.
    pub fn next_step(&self, said: &str) -> Option<String> {
        let mut parts = said.splitn(3, ' ');
        let code = parts.next()?;
        if code.len() != 3 || code.parse::<u16>().is_err() {
            return self.after_handshake(said);
        }
        let (status, text) = (parts.next()?, parts.next().unwrap_or_default());
        let (gateway, table) = (self.gateway, self.table());
        if let Some(quirk) = quirk(text) {
            return Some(format!(
                "add \"{quirk}\" to quirks in [gateway.{gateway}]: quirks = [\"{quirk}\"]"
            ));
        }
        let step = match (code, status) {
            ("530" | "538", _) => {
                "switch sign-in and encryption on in its settings page: no mail is taken without"
                    .to_owned()
            }
            ("535", _) => self.password("type its password in again, or give it another:"),
            ("421", "4.7.0") if text.starts_with("your password was changed") => self
                .password("type the password that it has now into its settings page, or another:"),
            ("421", "4.7.0") if text.starts_with("too many failed sign-ins") => {
                self.password("type its password in again, or give it another:")
            }
            ("504", _) => "choose PLAIN or LOGIN for its sign-in".to_owned(),
            ("550", "5.7.1") if text.starts_with("you may not send as ") => format!(
                "change the sender on its settings page, or add it to senders in {table} if the \
                 account may send as it, or set rewrite_from = true there"
            ),
            ("550", "5.7.1") => match text.strip_prefix("you may not send to ") {
                Some(recipient) => {
                    let (_, domain) = recipient.rsplit_once('@')?;
                    let domain = domain.trim_end_matches('>');
                    format!("add \"{domain}\" to recipient_domains in {table}")
                }
                None => {
                    "a script refused it: look at its gateway.mail and gateway.message".to_owned()
                }
            },
            ("553" | "501", "5.1.7") => format!(
                "enter one whole address as the sender on its settings page, or set rewrite_from = \
                 true in {table}"
            ),
            ("553" | "501", "5.1.3") => {
                "enter whole addresses as recipients on its settings page, one in each field"
                    .to_owned()
            }
            ("554", "5.6.0") if text.contains(" From field") => format!(
                "enter one address as the sender on its settings page, or set rewrite_from = true \
                 in {table}"
            ),
            ("450", "4.7.1") => {
                let key = limit_key(Full::read(text)?.span);
                format!("wait for the device to come again, or raise {key} in {table}")
            }
            ("452", "4.5.3") => format!("raise recipients_per_message in {table}"),
            ("452", "4.3.1") => "free space on the disk of the queue".to_owned(),
            ("552", "5.3.4") if text.contains("octets at most") => {
                format!("have the device send less at once, or raise max_message in {table}")
            }
            ("451" | "454", _) => {
                format!(
                    "nothing on the device: postrider doctor --gateway {gateway}, and the log, say why"
                )
            }
            _ => return None,
        };
        Some(step)
    }

    fn password(&self, what: &str) -> String {
        let gateway = self.gateway;
        match self.device {
            Some(device) => format!(
                "{what} postrider gateway credential add {} --gateway {gateway} --replace",
                word(device)
            ),
            None => format!(
                "compare the user name on its settings page with postrider gateway credential list \
                 --gateway {gateway}"
            ),
        }
    }

    fn after_handshake(&self, said: &str) -> Option<String> {
        let gateway = self.gateway;
        if said.starts_with(handshake::UNTRUSTED) {
            return Some(format!(
                "have it trust the certificate (postrider gateway certificate {gateway} prints it), \
                 or give [gateway.{gateway}] certificate and key of a CA that it trusts"
            ));
        }
        if said.starts_with(handshake::TOO_OLD) {
            return Some(
                "update the device, or give it a gateway of its own with tls = \"danger_plaintext\" \
                 in a network of its own"
                    .to_owned(),
            );
        }
        if said.starts_with(handshake::NO_TLS) || said.starts_with(handshake::SILENT) {
            return Some(format!(
                "choose SSL/TLS in its settings, or set tls = \"starttls\" in [gateway.{gateway}]"
            ));
        }
        if said == handshake::UNASKED {
            return Some(format!(
                "choose STARTTLS in its settings, or set tls = \"implicit\" in [gateway.{gateway}]"
            ));
        }
        (said == handshake::NONE_HERE).then(|| "choose no encryption in its settings".to_owned())
    }
}

/// The quirk that the text names.
fn quirk(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("the quirk ")?;
    rest.split(' ').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_gateways_own_has_a_step_that_mends_it() {
        let ups = Refusee {
            gateway: "office",
            device: Some("ups"),
            has_settings: true,
        };
        let own = "[gateway.office.device.ups]";
        for (said, steps) in [
            (
                "550 5.7.1 you may not send as <ceo@contoso.com>, but as alerts@contoso.com",
                &["senders in ", own, "rewrite_from"][..],
            ),
            (
                "550 5.7.1 you may not send as ceo@contoso.com (From)",
                &["rewrite_from"],
            ),
            (
                "550 5.7.1 you may not send to <x@example.org>",
                &["\"example.org\" to recipient_domains in ", own],
            ),
            ("550 5.7.1 not on Sundays", &["script"]),
            (
                "554 5.6.0 the message has no Date: the quirk missing_headers adds it",
                &["quirks = [\"missing_headers\"]", "[gateway.office]:"],
            ),
            (
                "500 5.5.2 Lines end with CRLF; the quirk bare_lf lets it pass",
                &["quirks = [\"bare_lf\"]"],
            ),
            (
                "554 5.6.0 the message has no From field with an address",
                &["rewrite_from"],
            ),
            ("553 5.1.7 <x> is no address", &["rewrite_from"]),
            ("553 5.1.3 <x> is no address", &["recipients"]),
            (
                "421 4.7.0 your password was changed or taken away: sign in again",
                &["credential add ups --gateway office --replace"],
            ),
            ("535 5.7.8 authentication failed", &["credential add ups"]),
            (
                "452 4.5.3 too many recipients: 1 at most",
                &["recipients_per_message"],
            ),
            (
                "552 5.3.4 the message is too large: 9 octets at most",
                &["max_message in "],
            ),
            ("530 5.7.0 sign in first: AUTH", &["sign-in and encryption"]),
            (
                "538 5.7.11 Encryption required",
                &["sign-in and encryption"],
            ),
            ("504 5.5.4 x", &["PLAIN or LOGIN"]),
            ("451 4.3.5 x", &["doctor --gateway office"]),
            (
                "it does not trust this gateway's certificate: received fatal alert: UnknownCA",
                &["postrider gateway certificate office", "of a CA"],
            ),
            (handshake::UNASKED, &["STARTTLS"]),
            (handshake::NONE_HERE, &["no encryption"]),
        ] {
            let step = ups.next_step(said).unwrap_or_else(|| panic!("{said}"));
            for part in steps {
                assert!(step.contains(part), "{said}: {step}");
            }
        }
        for unknown in ["", "500 5.5.2 Line too long", "450", "it is somewhere else"] {
            assert_eq!(ups.next_step(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_limit_is_named_by_the_key_that_raises_it() {
        let refusee = Refusee {
            gateway: "office",
            device: Some("front desk"),
            has_settings: false,
        };
        for (span, key) in [
            (crate::limits::Span::Minute, "messages_per_minute"),
            (crate::limits::Span::Day, "messages_per_day"),
        ] {
            let full = Full {
                span,
                limit: 10,
                again_at: None,
            };
            let step = refusee.next_step(&full.refusal().to_string()).unwrap();
            assert!(
                step.contains(&format!("raise {key} in [gateway.office]")),
                "{step}"
            );
        }
    }
}
