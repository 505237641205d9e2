//! The pieces that arguments are made of: keywords, parameters, numbers, xtext.

pub(super) fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    text.get(..keyword.len())
        .filter(|head| head.eq_ignore_ascii_case(keyword))
        .map(|_| &text[keyword.len()..])
}

/// ` KEYWORD[=value]`, any number of times, no keyword twice.
pub(super) fn parameters(text: &str) -> Option<Vec<(String, Option<&str>)>> {
    let mut found: Vec<(String, Option<&str>)> = Vec::new();
    if text.is_empty() {
        return Some(found);
    }
    for parameter in text.strip_prefix(' ')?.split(' ') {
        let (keyword, value) = match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        let named = keyword
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && keyword.starts_with(|c: char| c.is_ascii_alphanumeric());
        // esmtp-value: no `=`. AUTH= and ENVID= encode theirs.
        let valued = value.is_none_or(|value| !value.is_empty() && !value.contains('='));
        if !named || !valued || found.iter().any(|(earlier, _)| *earlier == keyword) {
            return None;
        }
        found.push((keyword, value));
    }
    Some(found)
}

/// 1 to 20 digits (RFC 1870 §3) that fit.
pub(super) fn number(text: &str) -> Option<u64> {
    ((1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Decodes xtext, RFC 3461 §4. What it decodes to must be printable.
pub(super) fn xtext(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        decoded.push(match octet {
            b'+' => upper_hex(octets.next()?)? << 4 | upper_hex(octets.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        });
    }
    String::from_utf8(decoded)
        .ok()
        .filter(|text| !text.contains(char::is_control))
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
