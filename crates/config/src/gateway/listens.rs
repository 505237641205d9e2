//! No two listeners want the same port of the same address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::gateway::Gateway;
use crate::grammar::Fault;
use crate::problem::Problems;
use crate::section::{Section, report, show_key};
use crate::tree::Node;

/// Checks the listeners of all gateways against each other and against the daemon's `metrics`.
pub(crate) fn check(
    root: &Section<'_>,
    gateways: &BTreeMap<String, Gateway>,
    metrics: Option<SocketAddr>,
    problems: &mut Problems,
) {
    let tables = root.node("gateway").and_then(Node::entries);
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    taken.extend(metrics.map(|address| (address, "`metrics` of [serve]".to_owned())));
    // In the order of the file: the second is the one at fault.
    for entry in tables.unwrap_or_default() {
        let Some(gateway) = gateways.get(&entry.key) else {
            continue;
        };
        let node = entry.node.entry("listen").map(|entry| &entry.node);
        let items = node.and_then(Node::list).unwrap_or_default();
        for (index, address) in gateway.listen.iter().enumerate() {
            if let Some((other, whose)) = taken.iter().find(|(other, _)| overlap(*other, *address))
            {
                let place = items.get(index).or(node).unwrap_or(&entry.node);
                let message = if other == address {
                    format!("{whose} listens on {address} already")
                } else {
                    format!("{whose} listens on {other}, which takes {address} too")
                };
                let fault = Fault::with(message, "give one of them another port");
                let key = format!("gateway.{}.listen", show_key(&gateway.name));
                report(key, place.span.clone(), fault, problems);
            }
            taken.push((*address, format!("[gateway.{}]", gateway.name)));
        }
    }
}

/// Whether one address takes the other's connections. A socket on `[::]` takes IPv4 as well.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |one: IpAddr, other: IpAddr| {
        one == other || one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() != 0 && one.port() == other.port() && (takes(a, b) || takes(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_takes_its_family_and_ipv6_takes_all() {
        let cases = [
            ("127.0.0.1:25", "127.0.0.1:25", true),
            ("127.0.0.1:25", "127.0.0.1:26", false),
            ("127.0.0.1:25", "127.0.0.2:25", false),
            ("0.0.0.0:25", "192.0.2.1:25", true),
            ("0.0.0.0:25", "[::1]:25", false),
            ("[::]:25", "[::1]:25", true),
            ("[::]:25", "192.0.2.1:25", true),
            ("[::]:25", "0.0.0.0:25", true),
            ("[::ffff:192.0.2.1]:25", "192.0.2.1:25", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ];
        for (one, other, expected) in cases {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
