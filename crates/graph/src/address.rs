//! What goes into a URL: checked or escaped here, nowhere else.

use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::client::Call;
use crate::error::{GraphError, GraphErrorKind};

/// The longest value that goes into a URL. A user principal name has 113 characters at most, an
/// application's name 120.
const VALUE_OCTETS: usize = 400;

/// `base` with the version and these path segments. Each is one segment whatever it holds: a
/// slash in it is escaped.
pub(crate) fn join(call: Call, base: &Url, segments: &[&str]) -> Result<Url, GraphError> {
    let mut url = base.clone();
    for segment in segments {
        // The parser drops dots as segments, and an empty one changes which object is meant.
        if matches!(*segment, "" | "." | "..") || segment.len() > VALUE_OCTETS {
            return Err(invalid(call, "part of an address that must not be sent"));
        }
    }
    url.path_segments_mut()
        .map_err(|()| invalid(call, "base address without a path"))?
        .pop_if_empty()
        .push("v1.0")
        .extend(segments);
    Ok(url)
}

/// `id` if it may stand in a path: letters, digits, `-` and `_`. Most are GUIDs; those of grants
/// are not.
pub(crate) fn id(call: Call, id: &str) -> Result<&str, GraphError> {
    let plain = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain && !id.is_empty() && id.len() <= 200 {
        Ok(id)
    } else {
        Err(invalid(call, "not an object's id"))
    }
}

/// `id` if it is a GUID.
pub(crate) fn guid(call: Call, id: &str) -> Result<&str, GraphError> {
    let is_guid = id.len() == 36
        && id.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if is_guid {
        Ok(id)
    } else {
        Err(invalid(call, "not a GUID"))
    }
}

/// A user principal name or object id, for a path. One that begins with `$` would need another
/// form of address (Microsoft Learn, "Get user"); nobody is known to have one.
pub(crate) fn person(call: Call, upn: &str) -> Result<&str, GraphError> {
    if upn.starts_with('$') {
        return Err(invalid(call, "a user principal name that begins with $"));
    }
    if upn.chars().any(char::is_control) || upn.trim() != upn {
        return Err(invalid(call, "not a user principal name"));
    }
    Ok(upn)
}

/// `url` with a query. Blanks are `%20`: a plus sign is a blank to forms only.
pub(crate) fn with_query(mut url: Url, pairs: &[(&str, &str)]) -> Url {
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| {
            let value: String = byte_serialize(value.as_bytes()).collect();
            format!("{name}={}", value.replace('+', "%20"))
        })
        .collect();
    url.set_query(Some(&query.join("&")));
    url
}

/// Whether `text` names `id`, whatever the case of its letters.
pub(crate) fn contains(text: &str, id: &str) -> bool {
    text.to_ascii_lowercase().contains(&id.to_ascii_lowercase())
}

/// `property eq 'value'`, with quotes in the value doubled (`OData` 4.01, URL conventions,
/// 5.1.1.6.1).
pub(crate) fn equals(call: Call, property: &str, value: &str) -> Result<String, GraphError> {
    if value.len() > VALUE_OCTETS || value.chars().any(char::is_control) {
        return Err(invalid(call, "not a value to search for"));
    }
    Ok(format!("{property} eq '{}'", value.replace('\'', "''")))
}

fn invalid(call: Call, message: &str) -> GraphError {
    GraphError::ours(GraphErrorKind::Invalid, call.doing, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALL: Call = Call::new("testing");

    fn base() -> Url {
        Url::parse("https://graph.example").unwrap()
    }

    proptest! {
        #[test]
        fn a_segment_stays_one_segment(segment in any::<String>()) {
            if let Ok(url) = join(CALL, &base(), &["users", &segment, "end"]) {
                let path: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!(path.len(), 4);
                prop_assert_eq!((path[0], path[1], path[3]), ("v1.0", "users", "end"));
                prop_assert_eq!((url.query(), url.fragment()), (None, None));
                prop_assert_eq!(url.origin(), base().origin());
            }
        }

        #[test]
        fn a_filter_holds_one_literal(value in "[^\\pC]{0,99}") {
            let filter = equals(CALL, "displayName", &value).unwrap();
            let url = with_query(base(), &[("$filter", &filter), ("$select", "id")]);
            let decoded: Vec<_> = url.query_pairs().collect();
            prop_assert_eq!(decoded.len(), 2);
            prop_assert_eq!(&decoded[0].1, &filter);
            let literal = filter.strip_prefix("displayName eq '").unwrap();
            let literal = literal.strip_suffix('\'').unwrap();
            prop_assert!(!literal.replace("''", "").contains('\''));
            prop_assert_eq!(literal.replace("''", "'"), value);
        }
    }
}
