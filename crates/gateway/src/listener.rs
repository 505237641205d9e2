//! Sockets that listen, and connections as they come.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::GatewayError;
use crate::event::Event;
use crate::gateway::House;

/// Connections that wait to be taken; the system has a bound of its own.
const BACKLOG: u32 = 4096;
/// The pause after the system gave no connection, for lack of files most likely; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A socket that listens, not taken from yet.
pub(crate) struct Bound {
    /// As the settings have it: its port may be 0.
    wanted: SocketAddr,
    address: SocketAddr,
    socket: TcpListener,
}

/// A socket that is taken from, until this is dropped.
pub(crate) struct Listener {
    wanted: SocketAddr,
    address: SocketAddr,
    taking: JoinHandle<()>,
}

/// Listens on all, or on none.
pub(crate) fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<Bound>, GatewayError> {
    addresses
        .iter()
        .map(|address| Bound::new(*address, addresses))
        .collect()
}

/// Listens on these instead. The new ones are there before the old ones go, except where an old one
/// is in a new one's way.
pub(crate) async fn rebind(
    listeners: &mut Vec<Listener>,
    addresses: &[SocketAddr],
    house: &Arc<House>,
) -> Result<(), GatewayError> {
    let is_wanted = |listener: &Listener| addresses.contains(&listener.wanted);
    let mut new = Vec::new();
    let mut given_up = Vec::new();
    for address in addresses {
        if listeners.iter().any(|listener| listener.wanted == *address) {
            continue;
        }
        let mut bound = Bound::new(*address, addresses);
        let in_the_way =
            |listener: &Listener| listener.address.port() == address.port() && !is_wanted(listener);
        if is_taken(&bound) && listeners.iter().any(in_the_way) {
            for listener in listeners.extract_if(.., |listener| in_the_way(listener)) {
                given_up.push(listener.wanted);
                listener.close().await;
            }
            bound = Bound::new(*address, addresses);
        }
        match bound {
            Ok(bound) => new.push(bound),
            Err(error) => {
                drop(new);
                // As it was.
                for wanted in given_up {
                    if let Ok(bound) = Bound::new(wanted, &[]) {
                        listeners.push(bound.open(house));
                    }
                }
                return Err(error);
            }
        }
    }
    for listener in listeners.extract_if(.., |listener| !is_wanted(listener)) {
        listener.close().await;
    }
    listeners.extend(new.into_iter().map(|bound| bound.open(house)));
    Ok(())
}

fn is_taken<T>(bound: &Result<T, GatewayError>) -> bool {
    matches!(bound, Err(GatewayError::Listen { source, .. })
        if source.kind() == io::ErrorKind::AddrInUse)
}

impl Bound {
    /// `all`: what else is listened on.
    fn new(wanted: SocketAddr, all: &[SocketAddr]) -> Result<Self, GatewayError> {
        let bind = || -> io::Result<Self> {
            let socket = if wanted.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            // `[::]` stands for IPv4, too, unless that has a socket of its own.
            let has_v4 = |other: &SocketAddr| other.is_ipv4() && other.port() == wanted.port();
            if wanted.is_ipv6() && all.iter().any(has_v4) {
                rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            }
            socket.bind(wanted)?;
            let socket = socket.listen(BACKLOG)?;
            Ok(Self {
                wanted,
                address: socket.local_addr()?,
                socket,
            })
        };
        bind().map_err(|source| GatewayError::Listen {
            address: wanted,
            source,
        })
    }

    /// Begins to take connections.
    pub(crate) fn open(self, house: &Arc<House>) -> Listener {
        Listener {
            wanted: self.wanted,
            address: self.address,
            taking: tokio::spawn(take(self.socket, Arc::clone(house))),
        }
    }
}

impl Listener {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody listens there when this returns.
    pub(crate) async fn close(mut self) {
        self.taking.abort();
        // It ended, by this or by itself.
        let _ = (&mut self.taking).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.taking.abort();
    }
}

async fn take(socket: TcpListener, house: Arc<House>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match socket.accept().await {
            Ok((stream, client)) => {
                pause = FIRST_PAUSE;
                // Replies are small, and each is waited for.
                let _ = stream.set_nodelay(true);
                house.receive(stream, client.ip());
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if pause == FIRST_PAUSE {
                    house.tell(Event::AcceptFailed {
                        gateway: Arc::clone(&house.name),
                        problem: error.to_string(),
                    });
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Whether only that one connection is lost.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted
    )
}
