//! Networks that clients connect from: `192.168.1.0/24`, `fd00::/8`, or one address.
//!
//! An IPv4 address written as IPv6 (`::ffff:192.168.1.7`, as a socket that takes both reports
//! its peers) is the IPv4 address, in a network and in what is compared with it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};

use crate::grammar::{self, Fault};
use crate::problem::quote;

/// The longest text of a network with its prefix is shorter.
const TEXT_OCTETS: usize = 64;
/// IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) have so many bits before the IPv4 address.
const MAPPED_BITS: u8 = 96;
/// Where an IPv4 network begins to be "anywhere": no private network is wider than `10.0.0.0/8`.
const WIDE_V4: u8 = 8;
/// The same for IPv6: no provider hands out more than a `/32`.
const WIDE_V6: u8 = 32;
/// Networks that are no part of the Internet: this machine, private use (RFC 1918, RFC 4193),
/// link-local (RFC 3927, RFC 4291 §2.5.6).
const PRIVATE: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// A network: an address and how many of its bits are the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// This machine: `127.0.0.0/8` and `::1`.
    pub fn loopback() -> Vec<Self> {
        let networks = ["127.0.0.0/8", "::1/128"].map(|text| parse(text).ok());
        networks.into_iter().flatten().collect()
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// How many bits of the address are the network's.
    pub fn prefix(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether all of `other` lies in it.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether it lies wholly within this machine, a private network or one link.
    pub(crate) fn is_private(&self) -> bool {
        let mut private = PRIVATE.iter().filter_map(|text| parse(text).ok());
        private.any(|network| network.holds(self))
    }

    /// Whether so many others are in it that it keeps nobody out.
    pub(crate) fn is_anywhere(&self) -> bool {
        let wide = match self.0 {
            IpNet::V4(_) => WIDE_V4,
            IpNet::V6(_) => WIDE_V6,
        };
        self.prefix() < wide && !self.is_private()
    }
}

impl fmt::Display for Network {
    /// A single address stands alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix() == self.0.max_prefix_len() {
            write!(f, "{}", self.address())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text names no network.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidNetwork(Fault);

impl InvalidNetwork {
    /// What to write instead.
    pub fn suggestion(&self) -> Option<&str> {
        self.0.suggestion.as_deref()
    }
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for InvalidNetwork {}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        parse(text).map_err(InvalidNetwork)
    }
}

/// The network that `text` names: an address, with or without `/` and a prefix.
pub(crate) fn parse(text: &str) -> Result<Network, Fault> {
    grammar::line(text, TEXT_OCTETS)?;
    let unfit = || {
        Fault::with(
            format!("{} is not a network", quote(text)),
            "write it like \"192.168.1.0/24\", or one address like \"192.168.1.7\"",
        )
    };
    let network = canonical(read(text).ok_or_else(unfit)?);
    if network.trunc() != network {
        return Err(Fault::with(
            format!("{} is an address within a network", quote(text)),
            format!(
                "write \"{}\" for the network, or \"{}\" for this one address",
                network.trunc(),
                network.addr()
            ),
        ));
    }
    Ok(Network(network))
}

/// Read by the standard library, which refuses the `010` that some take for 8.
fn read(text: &str) -> Option<IpNet> {
    let Some((address, prefix)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let digits = !prefix.is_empty() && prefix.bytes().all(|octet| octet.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|_| digits)?;
    IpNet::new(address.parse().ok()?, prefix).ok()
}

/// A network of mapped addresses as the IPv4 network that it is.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let address = v6.addr().to_ipv4_mapped();
    let prefix = v6.prefix_len().checked_sub(MAPPED_BITS);
    let v4 = address
        .zip(prefix)
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        parse(text).unwrap()
    }

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        let one = network("192.168.1.7");
        assert!(one.contains("192.168.1.7".parse().unwrap()));
        assert!(!one.contains("192.168.1.8".parse().unwrap()));
        assert_eq!(one.to_string(), "192.168.1.7");
        assert_eq!(network("10.0.0.0/8").to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").to_string(), "::1");
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let office = network("192.168.1.0/24");
        assert!(office.contains("::ffff:192.168.1.7".parse().unwrap()));
        assert!(!office.contains("::ffff:192.168.2.7".parse().unwrap()));
        assert_eq!(network("::ffff:192.168.1.0/120"), office);
        assert_eq!(network("::ffff:192.168.1.7"), network("192.168.1.7"));
        // Every IPv4 address, in the clothes of IPv6.
        assert_eq!(network("::ffff:0.0.0.0/96"), network("0.0.0.0/0"));
        assert!(network("::ffff:0:0/96").is_anywhere());
    }

    #[test]
    fn host_bits_are_an_error_that_shows_both_meanings() {
        let fault = parse("192.168.1.7/24").unwrap_err();
        assert_eq!(
            fault.suggestion.as_deref(),
            Some(
                "write \"192.168.1.0/24\" for the network, or \"192.168.1.7\" for this one address"
            )
        );
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "*",
            "any",
            "all",
            "192.168.1",
            "192.168.1.*",
            "192.168.1.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "/8",
            "::/129",
            "[::1]",
            "fe80::1%eth0",
            "192.168.1.0/255.255.255.0",
            "10.0.0.1-10.0.0.9",
            "010.0.0.0/8",
            "printer.local",
            "10.0.0.0/8\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn private_networks_are_known_and_so_is_what_reaches_beyond_them() {
        for text in [
            "127.0.0.1",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "172.31.255.0/24",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1",
            "fd00::/8",
            "fc00::/7",
            "fe80::/10",
        ] {
            assert!(
                network(text).is_private() && !network(text).is_anywhere(),
                "{text}"
            );
        }
        for text in [
            "10.0.0.0/7",
            "172.0.0.0/11",
            "192.0.2.0/24",
            "100.64.0.0/10",
            "2001:db8::/32",
        ] {
            assert!(!network(text).is_private(), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "::/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "2000::/3",
            "10.0.0.0/7",
        ] {
            assert!(network(text).is_anywhere(), "{text}");
        }
        assert!(!network("192.0.2.0/24").is_anywhere());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bits: u32, prefix in 0_u8..=32) {
            let whole = Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc();
            let read = network(&whole.to_string());
            prop_assert_eq!(network(&read.to_string()), read);
            prop_assert!(read.contains(IpAddr::V4(whole.addr())));
            prop_assert!(read.contains(IpAddr::V6(whole.broadcast().to_ipv6_mapped())));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
