//! When a secret stops being accepted: a day, or a moment.
//!
//! A day is taken to begin at midnight UTC, which is early rather than late nearly everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Serialize, Serializer};

use crate::grammar::Fault;
use crate::problem::quote;
use crate::tree::{Node, NodeKind};

/// `YYYY-MM-DD`.
const DAY_OCTETS: usize = 10;
/// Longer than any time of RFC 3339 with nanoseconds.
const LIMIT_OCTETS: usize = 40;

/// Text that is neither a day nor a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidExpiry(String);

impl fmt::Display for InvalidExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidExpiry {}

/// The moment that `text` names: `2027-03-01`, or a time of RFC 3339 with its offset. It may
/// have passed.
pub fn parse_expiry(text: &str) -> Result<SystemTime, InvalidExpiry> {
    let moment = match text.len() {
        DAY_OCTETS => text.parse::<Date>().ok().and_then(|day| {
            let midnight = day.to_zoned(TimeZone::UTC).ok()?;
            Some(midnight.timestamp())
        }),
        ..=LIMIT_OCTETS => text.parse::<Timestamp>().ok(),
        _ => None,
    };
    moment.map(SystemTime::from).ok_or_else(|| {
        InvalidExpiry(format!(
            "{} is neither a day like \"2027-03-01\" nor a time like \"2027-03-01T09:00:00Z\"",
            quote(text)
        ))
    })
}

/// The same of a string or of TOML's own dates.
pub(crate) fn from_node(node: &Node) -> Result<SystemTime, Fault> {
    match &node.kind {
        NodeKind::Text(text) | NodeKind::Date(text) => {
            parse_expiry(text).map_err(|error| Fault::new(error.0))
        }
        _ => Err(Fault::with(
            format!("expected a day, found {}", node.type_name()),
            "write expires = \"2027-03-01\"",
        )),
    }
}

/// Each as RFC 3339 writes it.
pub(crate) fn serialize<S: Serializer>(
    expires: &BTreeMap<String, SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let shown: BTreeMap<&str, Option<String>> = expires
        .iter()
        .map(|(name, moment)| {
            let moment = Timestamp::try_from(*moment).ok();
            (name.as_str(), moment.map(|moment| moment.to_string()))
        })
        .collect();
    shown.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let day = parse_expiry("2027-03-01").unwrap();
        assert_eq!(day, parse_expiry("2027-03-01T00:00:00Z").unwrap());
        assert_eq!(day, parse_expiry("2027-03-01 01:00:00+01:00").unwrap());
        assert_eq!(day, UNIX_EPOCH + Duration::from_hours(24 * 20_878));
    }

    #[test]
    fn what_has_passed_is_a_moment_too() {
        assert!(parse_expiry("1999-12-31").unwrap() < SystemTime::now());
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "soon",
            "90d",
            "2027",
            "2027-13-01",
            "2027-02-29",
            "01.03.2027",
            "20270301",
            "2027-03-01T09:00:00",
            "2027-03-01T25:00:00Z",
            "2027-03-0\u{665}",
            "-009999-01-01",
            &"2".repeat(100_000),
        ] {
            assert!(parse_expiry(text).is_err(), "{text}");
        }
    }
}
