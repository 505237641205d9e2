//! What keeps a daemon from listening: looked at where none does, before anybody starts one.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use postrider_gateway::GatewayError;
use tokio::net::TcpSocket;

use super::listener::LISTENER;
use super::report::{DoctorStage, Finding, YOU};
use crate::app::gateway::gateway_failure;

/// Why nobody could listen there now, if so. The address is taken for a moment, and nobody is let
/// in meanwhile.
pub(super) fn cannot_listen(gateway: &str, address: SocketAddr) -> Option<DoctorStage> {
    let error = bind(address).err()?;
    Some(not_to_be_had(gateway, address, error))
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// As the daemon would say it; but what this user may not, the daemon may.
fn not_to_be_had(gateway: &str, address: SocketAddr, error: io::Error) -> DoctorStage {
    let is_low = error.kind() == ErrorKind::PermissionDenied && address.port() < 1024;
    let finding = if is_low {
        Finding::new(
            "config.gateway",
            format!(
                "this user may not listen on {address}: a port below 1024 takes the capability \
                 CAP_NET_BIND_SERVICE"
            ),
            "systemctl start postrider, with AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit \
             (dist/systemd has the lines); or name a port above 1023, such as 2525",
            YOU,
        )
    } else {
        let error = GatewayError::Listen {
            address,
            source: error,
        };
        gateway_failure(gateway, &error).into()
    };
    DoctorStage::failed(LISTENER, Duration::ZERO, address.to_string(), finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_port_takes_a_capability_and_others_are_told_as_the_daemon_tells_them() {
        for (port, kind, code) in [
            (587, ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            (2525, ErrorKind::PermissionDenied, "name another address"),
            (587, ErrorKind::AddrNotAvailable, "ip address"),
        ] {
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            let stage = not_to_be_had("office", address, kind.into());
            let finding = stage.failure.unwrap();
            assert_eq!(finding.code, "config.gateway");
            assert!(finding.remedy.contains(code), "{finding:?}");
        }
    }
}
