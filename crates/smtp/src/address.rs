//! Names that may stand in a command line: each type holds only what is safe there.

use std::{fmt, net::IpAddr, str::FromStr};

use lettre::Address;

/// RFC 5321 §4.5.3.1.2.
const MAX_DOMAIN_OCTETS: usize = 255;
/// RFC 5321 §4.5.3.1.3, less the angle brackets.
const MAX_PATH_OCTETS: usize = 254;
/// RFC 5321 §4.5.3.1.1.
const MAX_LOCAL_PART_OCTETS: usize = 64;

/// What the client calls itself: a domain name, or an address literal such as `[192.0.2.1]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EhloName(String);

/// Not a domain name and not an address literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEhloName;

impl EhloName {
    /// The name for a host that knows only its address (RFC 5321 §4.1.3).
    pub fn address_literal(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(format!("[{address}]")),
            IpAddr::V6(address) => Self(format!("[IPv6:{address}]")),
        }
    }

    /// The name as it stands in the command.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[127.0.0.1]`: says nothing about the host, and submission servers take it.
impl Default for EhloName {
    fn default() -> Self {
        Self::address_literal(IpAddr::from([127, 0, 0, 1]))
    }
}

impl FromStr for EhloName {
    type Err = InvalidEhloName;

    fn from_str(name: &str) -> Result<Self, InvalidEhloName> {
        let literal = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        let valid = match literal {
            Some(literal) => match literal.strip_prefix("IPv6:") {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
            },
            None => is_domain(name),
        };
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidEhloName)
        }
    }
}

impl fmt::Display for EhloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidEhloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a domain name or an address literal such as [192.0.2.1]")
    }
}

impl std::error::Error for InvalidEhloName {}

/// Letters, digits, hyphens and underscores between dots; the underscore because machines
/// are named with it and no server minds.
fn is_domain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_DOMAIN_OCTETS
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether an address may stand between angle brackets: `lettre` lets its users build one
/// from anything, and what it takes as an address is not always what RFC 5321 §4.1.2 takes.
pub(crate) fn is_safe_path(address: &Address) -> bool {
    let text: &str = address.as_ref();
    text.len() <= MAX_PATH_OCTETS
        && !address.user().is_empty()
        && address.user().len() <= MAX_LOCAL_PART_OCTETS
        && !text
            .chars()
            .any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}')
        && !address.domain().contains(['<', '>', ' ', '"'])
        && is_dot_or_quoted_string(address.user())
}

fn is_dot_or_quoted_string(user: &str) -> bool {
    let Some(inner) = user
        .strip_prefix('"')
        .and_then(|user| user.strip_suffix('"'))
    else {
        return !user.contains(|c: char| c.is_whitespace() || "()<>[]:;@\\,\"".contains(c));
    };
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => return false,
            '\\' if characters.next().is_none() => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ehlo_name_is_a_domain_or_a_literal() {
        for good in [
            "client.example",
            "host",
            "my_host-1",
            "[192.0.2.1]",
            "[IPv6:2001:db8::1]",
        ] {
            assert_eq!(good.parse::<EhloName>().unwrap().as_str(), good);
        }
        let long = "a.".repeat(128) + "a";
        for bad in [
            "",
            "a b",
            "a\r\nMAIL",
            "a\0",
            "-a",
            "a..b",
            "[1.2.3]",
            "[::1]",
            "é.example",
            &long,
        ] {
            assert_eq!(bad.parse::<EhloName>(), Err(InvalidEhloName), "{bad:?}");
        }
        let six = EhloName::address_literal("::1".parse().unwrap());
        assert_eq!(six.as_str().parse::<EhloName>(), Ok(six));
    }

    #[test]
    fn a_path_cannot_end_its_command() {
        for (user, domain, safe) in [
            ("a.b+c", "example.org", true),
            ("\"a b\"", "example.org", true),
            ("jörg", "exämple.org", true),
            ("a\r\nRCPT TO:<x", "example.org", false),
            ("a> SIZE=1", "example.org", false),
            ("a", "example.org>\r\n", false),
            ("\"a\" b\"", "example.org", false),
            ("\"a\\\"", "example.org", false),
            ("a\0", "example.org", false),
            ("", "example.org", false),
        ] {
            let address = Address::new_dangerous(user, domain);
            assert_eq!(is_safe_path(&address), safe, "{address:?}");
        }
    }
}
