//! Paths and mailboxes, RFC 5321 §4.1.2, with the UTF-8 of RFC 6531 §3.3.

/// Octets of a local part, RFC 5321 §4.5.3.1.1.
const LOCAL_OCTETS: usize = 64;
/// Octets of a domain, RFC 5321 §4.5.3.1.2.
const DOMAIN_OCTETS: usize = 255;

/// Splits `<path>rest` and checks the path. The mailbox is returned as written, without
/// brackets and source route; the null path is the empty string.
pub(super) fn bracketed(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let end = closing_bracket(inner)?;
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    // A source route (§4.1.1.3) is accepted and ignored.
    let path = match path.strip_prefix('@') {
        Some(route) => {
            let (hops, path) = route.split_once(':')?;
            let named = |hop: &str| is_domain(hop.strip_prefix('@').unwrap_or(hop));
            if path.is_empty() || !hops.split(',').all(named) {
                return None;
            }
            path
        }
        None => path,
    };
    (path.is_empty() || is_mailbox(path)).then_some((path, rest))
}

/// Splits `mailbox rest`: a path that lacks its brackets.
pub(super) fn bare(text: &str) -> Option<(&str, &str)> {
    let (path, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    is_mailbox(path).then_some((path, rest))
}

/// Splits `<anything>rest`, whatever stands between the brackets.
pub(super) fn any(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('<')?.split_once('>')
}

/// Whether `text` is `local-part@domain`.
pub(super) fn is_mailbox(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    is_local_part(local) && (is_domain(domain) || is_address_literal(domain))
}

/// The first `>` outside a quoted string.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

fn is_local_part(local: &str) -> bool {
    if local.is_empty() || local.len() > LOCAL_OCTETS {
        return false;
    }
    match local.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').is_some_and(is_quoted_content),
        None => local
            .split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(is_atext)),
    }
}

/// The inside of a quoted string: every `"` and `\` is escaped, no control characters.
fn is_quoted_content(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        let literal = match c {
            '"' => return false,
            '\\' => match characters.next() {
                Some(escaped) => escaped,
                None => return false,
            },
            other => other,
        };
        if literal.is_control() {
            return false;
        }
    }
    true
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_utf8_text(c)
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || is_utf8_text(c))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= DOMAIN_OCTETS && domain.split('.').all(label)
}

fn is_address_literal(text: &str) -> bool {
    text.len() <= DOMAIN_OCTETS
        && text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| {
                !inner.is_empty()
                    && inner
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-:.".contains(&b))
            })
}

/// Beyond ASCII, and not a control character (U+0080 to U+009F).
fn is_utf8_text(c: char) -> bool {
    !c.is_ascii() && !c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_their_wire_form() {
        let table = [
            ("<>", Some(("", ""))),
            ("<a@b>", Some(("a@b", ""))),
            ("<a@b.c> SIZE=1", Some(("a@b.c", " SIZE=1"))),
            ("<\"a b\"@example.org>", Some(("\"a b\"@example.org", ""))),
            (
                "<\"a>\\\" b\"@example.org>x",
                Some(("\"a>\\\" b\"@example.org", "x")),
            ),
            ("<\"a@b\"@example.org>", Some(("\"a@b\"@example.org", ""))),
            ("<@hop.example,@two.example:a@b>", Some(("a@b", ""))),
            ("<ä@bücher.example>", Some(("ä@bücher.example", ""))),
            ("<a@[127.0.0.1]>", Some(("a@[127.0.0.1]", ""))),
            ("<a@[IPv6:::1]>", Some(("a@[IPv6:::1]", ""))),
            ("<a>", None),
            ("a@b", None),
            ("<a@b", None),
            ("< a@b>", None),
            ("<a b@c>", None),
            ("<.a@c>", None),
            ("<a..b@c>", None),
            ("<a@>", None),
            ("<@c>", None),
            ("<a@-c>", None),
            ("<a@c..d>", None),
            ("<\"a\"b\"@c>", None),
            ("<\"a\\\"@c>", None),
            ("<a@b\u{85}>", None),
            ("<@hop:>", None),
        ];
        for (text, wanted) in table {
            assert_eq!(bracketed(text), wanted, "{text}");
        }
    }

    #[test]
    fn lengths_stop_where_the_standard_says() {
        let longest = format!("<{}@b>", "a".repeat(64));
        assert!(bracketed(&longest).is_some());
        let longer = format!("<{}@b>", "a".repeat(65));
        assert!(bracketed(&longer).is_none());
        assert!(bracketed(&format!("<a@{}>", "b".repeat(256))).is_none());
    }
}
