//! The values a scenario is made of: ids, spans of time, play-money secrets, permissions.

use std::fmt;
use std::time::Duration;

use ring::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A GUID in its usual lower-case form; empty when it was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Guid(String);

impl Guid {
    /// Reads a GUID in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let shape = text.len() == 36
            && text.bytes().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            });
        shape.then(|| Self(text.to_ascii_lowercase()))
    }

    /// A GUID made of these octets, marked as version 4.
    pub fn from_octets(mut octets: [u8; 16]) -> Self {
        octets[6] = octets[6] & 0x0f | 0x40;
        octets[8] = octets[8] & 0x3f | 0x80;
        let hex = format!("{:032x}", u128::from_be_bytes(octets));
        Self(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ))
    }

    /// The same GUID for the same name, every time.
    pub fn derived(name: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, name.to_ascii_lowercase().as_bytes());
        let mut octets = [0; 16];
        octets.copy_from_slice(&digest.as_ref()[..16]);
        Self::from_octets(octets)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it was left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Guid {
    fn eq(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is no GUID")))
    }
}

/// A password or client secret of the scenario. Play money, yet not printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps a secret of the scenario.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Its value.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is this; the time taken depends on the lengths alone.
    pub fn is(&self, other: &str) -> bool {
        let difference = self
            .0
            .bytes()
            .zip(other.bytes())
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        self.0.len() == other.len() && difference == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A span of time: `"90s"`, `"10m"`, `"1h"`, `"90d"`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// So many minutes.
    pub const fn minutes(n: u64) -> Self {
        Self::seconds(n * 60)
    }

    /// So many days.
    pub const fn days(n: u64) -> Self {
        Self::seconds(n * 86_400)
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let n: u64 = text[..digits].parse().ok()?;
        let unit = match &text[digits..] {
            "ms" => return (n <= LONGEST * 1000).then(|| Self(Duration::from_millis(n))),
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        n.checked_mul(unit)
            .filter(|s| *s <= LONGEST)
            .map(Self::seconds)
    }
}

/// Ten years in seconds: more is a slip, and keeps arithmetic on times far from its ends.
const LONGEST: u64 = 3_652 * 86_400;

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (s, 0) => serializer.serialize_str(&format!("{s}s")),
            _ => serializer.serialize_str(&format!("{}ms", self.0.as_millis())),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a span of time such as \"90s\", \"10m\", \"1h\", or seconds"
        )]
        enum Raw {
            Text(String),
            Seconds(u64),
        }
        let (parsed, shown) = match Raw::deserialize(deserializer)? {
            Raw::Text(text) => (Self::parse(&text), text),
            Raw::Seconds(n) => (
                Some(n).filter(|n| *n <= LONGEST).map(Self::seconds),
                n.to_string(),
            ),
        };
        parsed.ok_or_else(|| {
            de::Error::custom(format!(
                "`{shown}` is no span of time such as \"90s\", \"10m\" or \"1h\", at most ten years"
            ))
        })
    }
}

/// An optional RFC 3339 time as a string.
pub(super) mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[allow(clippy::ref_option, reason = "the signature serde asks for")]
    pub(in crate::scenario) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::scenario) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            de::Error::custom(format!(
                "`{text}` is no time such as \"2031-01-31T00:00:00Z\""
            ))
        })
    }
}

/// The two services tokens are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Exchange Online.
    Exchange,
    /// Microsoft Graph.
    Graph,
}

impl Resource {
    /// Its well-known application id.
    pub const fn app_id(self) -> &'static str {
        match self {
            Self::Exchange => "00000002-0000-0ff1-ce00-000000000000",
            Self::Graph => "00000003-0000-0000-c000-000000000000",
        }
    }

    /// The identifiers it answers to, over all clouds; the first is the usual one.
    pub const fn identifiers(self) -> &'static [&'static str] {
        match self {
            Self::Exchange => &[
                "https://outlook.office.com",
                "https://outlook.office365.com",
                "https://outlook.office365.us",
                "https://partner.outlook.cn",
                "00000002-0000-0ff1-ce00-000000000000",
            ],
            Self::Graph => &[
                "https://graph.microsoft.com",
                "https://graph.microsoft.us",
                "https://dod-graph.microsoft.us",
                "https://microsoftgraph.chinacloudapi.cn",
                "00000003-0000-0000-c000-000000000000",
            ],
        }
    }

    /// The service with this identifier; one slash at its end does not matter.
    pub fn identified(identifier: &str) -> Option<Self> {
        let identifier = identifier.strip_suffix('/').unwrap_or(identifier);
        [Self::Exchange, Self::Graph].into_iter().find(|r| {
            r.identifiers()
                .iter()
                .any(|i| i.eq_ignore_ascii_case(identifier))
        })
    }
}

/// One permission of one service, `https://outlook.office.com/SMTP.Send`; a name alone
/// means Graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    /// The service.
    pub resource: Resource,
    /// The permission's name, such as `SMTP.Send`.
    pub name: String,
}

impl Permission {
    /// A permission of a service.
    pub fn new(resource: Resource, name: impl Into<String>) -> Self {
        Self {
            resource,
            name: name.into(),
        }
    }

    /// Whether consent to this is consent to `other`.
    ///
    /// `SMTP.Send` exists on both services: the portal offers Graph's, clients ask for
    /// Exchange's, and one is as good as the other.
    pub fn covers(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && (self.resource == other.resource || self.name.eq_ignore_ascii_case("SMTP.Send"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (resource, name) = match text.rsplit_once('/') {
            Some((identifier, name)) => (Resource::identified(identifier)?, name),
            None => (Resource::Graph, text),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (!name.is_empty() && name.chars().all(plain)).then(|| Self::new(resource, name))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resource {
            Resource::Exchange => write!(f, "{}/{}", self.resource.identifiers()[0], self.name),
            Resource::Graph => f.write_str(&self.name),
        }
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no permission of Exchange (https://outlook.office.com/…) or Graph (a name alone)"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_back_as_it_was_written() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("10m", 600),
            ("1h", 3_600),
            ("90d", 7_776_000),
        ] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span, Span::seconds(seconds));
            let json = serde_json::to_string(&span).unwrap();
            assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
        }
        for slip in [
            "",
            "s",
            "-1s",
            "1w",
            "1 h",
            "99999999999999999999d",
            "213503982334602d",
        ] {
            assert_eq!(Span::parse(slip), None, "{slip}");
        }
    }

    #[test]
    fn guids_compare_without_case_and_print_in_lower_case() {
        let guid = Guid::parse("7146A1F0-8703-45B3-9EAE-527A64C00995").unwrap();
        assert_eq!(guid.as_str(), "7146a1f0-8703-45b3-9eae-527a64c00995");
        assert!(guid == *"7146A1f0-8703-45b3-9eae-527a64c00995");
        assert_eq!(Guid::parse("7146a1f0870345b39eae527a64c00995"), None);
        assert_eq!(Guid::derived("a"), Guid::derived("A"));
        assert_ne!(Guid::derived("a"), Guid::derived("b"));
    }

    #[test]
    fn a_name_alone_is_a_permission_of_graph() {
        let read = |text: &str| Permission::parse(text);
        assert_eq!(
            read("User.Read"),
            Some(Permission::new(Resource::Graph, "User.Read"))
        );
        let send = Permission::new(Resource::Exchange, "SMTP.Send");
        assert_eq!(
            read("https://outlook.office.com/SMTP.Send"),
            Some(send.clone())
        );
        assert_eq!(
            read("https://outlook.office365.com/SMTP.Send"),
            Some(send.clone())
        );
        assert!(read("SMTP.Send").unwrap().covers(&send));
        assert!(
            !read("Mail.Send")
                .unwrap()
                .covers(&Permission::new(Resource::Exchange, "Mail.Send"))
        );
        assert_eq!(read("https://example.org/SMTP.Send"), None);
        assert_eq!(read("two words"), None);
    }

    #[test]
    fn a_password_shows_nothing() {
        let password = Password::new("hunter2");
        assert!(!format!("{password:?}").contains("hunter2"));
        assert!(password.is("hunter2"));
        assert!(!password.is("hunter") && !password.is("hunter22") && !password.is("Hunter2"));
    }
}
