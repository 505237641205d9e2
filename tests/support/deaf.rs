//! A port that answers nothing at all, as behind a firewall that drops.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A listener whose queue is full, and what fills it: whoever connects now waits.
pub(crate) struct Deaf {
    _listener: OwnedFd,
    _waiting: Vec<TcpStream>,
}

/// Its port, and what keeps it so.
pub(crate) fn listener() -> (u16, Deaf) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&listener, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    // A queue of none holds one or two, as the system pleases.
    let mut waiting = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(one);
    }
    (
        address.port(),
        Deaf {
            _listener: listener,
            _waiting: waiting,
        },
    )
}
