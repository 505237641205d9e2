//! Which hosts an account's plugin may reach.
//!
//! The list is made of what the plugin declares and of what the operator allows besides. A
//! host that the operator wrote, in a setting the plugin refers to or in the account's
//! allow list, may be anywhere; one that only the plugin names must lie in the public
//! Internet, so that a plugin cannot reach into the operator's network on its own account.
//! Plain HTTP is for what the operator allowed with `http://`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};
use url::{Host, Url};

/// The hosts one account's plugin may reach.
#[derive(Clone, Debug)]
pub(crate) struct AllowList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    scheme: &'static str,
    host: Host<String>,
    port: u16,
    reach: Reach,
}

/// Where a host's addresses may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// In the public Internet.
    Public,
    /// Anywhere.
    Anywhere,
}

impl AllowList {
    /// What `templates` say with these settings, and what the operator allows besides.
    ///
    /// A template that refers to an absent setting names no host.
    pub(crate) fn new(
        templates: &[String],
        settings: &Map<String, Value>,
        allowed: &[String],
    ) -> Result<Self, String> {
        let mut entries = Vec::new();
        let mut add = |(scheme, host, port), reach| {
            entries.push(Entry {
                scheme,
                host,
                port,
                reach,
            });
        };
        for template in templates {
            let Some(name) = setting_name(template) else {
                add(parse(template, false)?, Reach::Public);
                continue;
            };
            if let Some(Value::String(value)) = settings.get(name) {
                // An address in a setting says where; `allow_hosts` alone says whether
                // without TLS.
                let (_, host, port) =
                    parse(value, true).map_err(|_| format!("setting {name} names no host"))?;
                add(("https", host, port), Reach::Anywhere);
            }
        }
        for allowed in allowed {
            add(parse(allowed, false)?, Reach::Anywhere);
        }
        Ok(Self(entries))
    }

    /// Where `url` may lead, or why it may not be asked for.
    pub(crate) fn check(&self, url: &Url) -> Result<Reach, String> {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err("the url names no host".into());
        };
        let host = host.to_owned();
        let there = || {
            let here = self.0.iter();
            here.filter(|entry| entry.host == host && entry.port == port)
        };
        let reach = there()
            .filter(|entry| entry.scheme == url.scheme())
            .map(|entry| entry.reach)
            .max();
        match reach {
            Some(Reach::Public) if !is_literal_public(&host) => Err(format!(
                "{host} is not a public address; allow_hosts may allow it"
            )),
            Some(reach) => Ok(reach),
            None if url.scheme() == "http" => Err(format!(
                "plain http to {host}:{port} is not allowed; allow_hosts may allow \"http://{host}:{port}\""
            )),
            None => Err(format!(
                "{host}:{port} is not among the hosts this account allows; allow_hosts may allow it"
            )),
        }
    }
}

impl fmt::Display for AllowList {
    /// Each host and port once, in order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self
            .0
            .iter()
            .map(|entry| format!("{}:{}", entry.host, entry.port));
        let hosts: BTreeSet<String> = hosts.collect();
        f.write_str(&Vec::from_iter(hosts).join(" "))
    }
}

/// Whether a description may say this.
pub(crate) fn check_template(template: &str) -> Result<(), String> {
    if template.contains(['{', '}']) {
        return match setting_name(template) {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Ok(()),
            _ => Err(format!("{template:?} is no {{setting}}")),
        };
    }
    match parse(template, false)? {
        ("https", ..) => Ok(()),
        // What the operator alone can grant is not worth declaring.
        _ => Err(format!("{template:?}: a plugin cannot declare plain http")),
    }
}

fn setting_name(template: &str) -> Option<&str> {
    template.strip_prefix('{')?.strip_suffix('}')
}

/// Scheme, host and port of `host`, `host:port` or `http://host:port`; of a whole URL where
/// `path_too`.
fn parse(text: &str, path_too: bool) -> Result<(&'static str, Host<String>, u16), String> {
    let bad = || {
        // Not what may be a user and password.
        let place = text.rsplit('@').next().unwrap_or_default();
        let shown: String = place.chars().take(80).collect();
        format!("{shown:?} names no host")
    };
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("https://{text}"))
    }
    .map_err(|_| bad())?;
    let scheme = match url.scheme() {
        "https" => "https",
        "http" => "http",
        _ => return Err(bad()),
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !url.username().is_empty() || url.password().is_some() || !(bare || path_too) {
        return Err(bad());
    }
    match (url.host(), url.port_or_known_default()) {
        (Some(host), Some(port)) => Ok((scheme, host.to_owned(), port)),
        _ => Err(bad()),
    }
}

fn is_literal_public(host: &Host<String>) -> bool {
    match host {
        Host::Domain(_) => true,
        Host::Ipv4(address) => is_public(IpAddr::V4(*address)),
        Host::Ipv6(address) => is_public(IpAddr::V6(*address)),
    }
}

/// Whether an address lies in the public Internet, by the IANA special-purpose registries.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64; // 100.64.0.0/10, RFC 6598
    let protocol = (a, b, c) == (192, 0, 0); // 192.0.0.0/24, RFC 6890
    let benchmark = a == 198 && b & 0xfe == 18; // 198.18.0.0/15, RFC 2544
    !(a == 0
        || a >= 240
        || shared
        || protocol
        || benchmark
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4_in = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 in IPv6: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056)
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            v4_in(high, low)
        }
        [0x2002, high, low, ..] => v4_in(high, low),
        // documentation (RFC 3849, RFC 9637), and protocol assignments with Teredo
        [0x2001, 0xdb8 | 0..=0x01ff, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // of everything else only global unicast (RFC 4291 §2.4)
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(templates: &[&str], settings: Value, allowed: &[&str]) -> AllowList {
        let own = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        let Value::Object(settings) = settings else {
            panic!("an object")
        };
        AllowList::new(&own(templates), &settings, &own(allowed)).unwrap()
    }

    fn check(list: &AllowList, url: &str) -> Result<Reach, String> {
        list.check(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_declared_host_is_reached_by_https_at_its_port_and_nothing_else_is() {
        let list = list(&["login.example", "id.example:8443"], json!({}), &[]);

        assert_eq!(
            check(&list, "https://login.example/token"),
            Ok(Reach::Public)
        );
        assert_eq!(
            check(&list, "https://LOGIN.example:443/"),
            Ok(Reach::Public)
        );
        assert_eq!(check(&list, "https://id.example:8443/"), Ok(Reach::Public));
        for url in [
            "https://login.example:8443/",
            "https://id.example/",
            "https://evil.login.example/",
            "https://login.example.evil/",
            "https://login.example./",
            "http://login.example/",
            "http://login.example:443/",
            "ftp://login.example/",
            "data:text/plain,x",
        ] {
            assert!(check(&list, url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_in_a_setting_is_the_operators_and_may_be_anywhere() {
        let settings =
            json!({"authority": "https://localhost:4433/tenant?x=1", "issuer": "10.0.0.1"});
        let list = list(&["{authority}", "{issuer}", "{absent}"], settings, &[]);

        assert_eq!(
            check(&list, "https://localhost:4433/t"),
            Ok(Reach::Anywhere)
        );
        assert_eq!(check(&list, "https://10.0.0.1/"), Ok(Reach::Anywhere));
        assert!(check(&list, "https://localhost/").is_err());
    }

    #[test]
    fn plain_http_needs_the_operators_word_for_that_host_and_port() {
        let settings = json!({"authority": "http://127.0.0.1:8080"});
        let declared = list(&["{authority}"], settings.clone(), &[]);
        let told = check(&declared, "http://127.0.0.1:8080/").unwrap_err();
        assert!(told.contains("\"http://127.0.0.1:8080\""), "{told}");

        let allowed = list(&["{authority}"], settings, &["http://127.0.0.1:8080"]);
        assert_eq!(
            check(&allowed, "http://127.0.0.1:8080/"),
            Ok(Reach::Anywhere)
        );
        assert!(check(&allowed, "http://127.0.0.1/").is_err());
    }

    #[test]
    fn an_address_only_the_plugin_names_must_be_public() {
        let declared = list(&["169.254.169.254", "93.184.216.34"], json!({}), &[]);
        assert!(check(&declared, "https://169.254.169.254/").is_err());
        assert_eq!(
            check(&declared, "https://93.184.216.34/"),
            Ok(Reach::Public)
        );

        let allowed = list(&["169.254.169.254"], json!({}), &["169.254.169.254"]);
        assert_eq!(
            check(&allowed, "https://169.254.169.254/"),
            Ok(Reach::Anywhere)
        );
    }

    #[test]
    fn what_names_no_host_is_no_entry() {
        let none = Map::new();
        for bad in [
            "",
            "a b",
            "x/y",
            "u@x",
            "https://x/?q",
            "ftp://x",
            "x#y",
            ":80",
        ] {
            assert!(AllowList::new(&[], &none, &[bad.into()]).is_err(), "{bad}");
            assert!(check_template(bad).is_err(), "{bad}");
        }
        for bad in ["{", "{}", "{a}.example", "x{a}", "{a}{b}", "http://x"] {
            assert!(check_template(bad).is_err(), "{bad}");
        }
        for good in [
            "{authority}",
            "x.example",
            "x.example:8443",
            "[2001:db8::1]:1",
        ] {
            assert!(check_template(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_host_is_told_without_a_password() {
        let Value::Object(settings) = json!({"authority": "https://ann:hunter2@login.example/"})
        else {
            panic!("an object")
        };
        let setting = AllowList::new(&["{authority}".into()], &settings, &[]).unwrap_err();
        assert_eq!(setting, "setting authority names no host");

        let none = Map::new();
        for allowed in ["https://ann:hunter2@login.example", "ann:hunter2@a b"] {
            let told = AllowList::new(&[], &none, &[allowed.into()]).unwrap_err();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn special_addresses_are_not_public() {
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::7f00:1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
        for public in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:4860::8888",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
