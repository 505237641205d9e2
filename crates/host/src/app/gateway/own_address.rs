//! Which of this machine's addresses leads somewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address that this machine has on its way to `other`; nothing where no way leads there.
pub(crate) fn own_address(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent: it only asks which way it would go.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_this_machine_to_itself_it_is_the_same_address() {
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(own_address(here), Some(here));
    }
}
