//! Who listens where somebody else is to, as far as this user may know.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// `nginx, pid 812`: of Linux's tables, and only where the process is this user's or this user is
/// root.
pub(crate) fn of(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| in_the_way(&table, address))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        links.any(|link| link.as_os_str() == socket.as_str())
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    Some(format!("{name}, pid {pid}"))
}

/// The inode of the socket that keeps others from this address (`proc_net_tcp(5)`): local address,
/// state and inode are the second, fourth and tenth column.
fn in_the_way(table: &str, address: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let local = endpoint(columns.nth(1)?)?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        let (one, other) = (local.ip(), address.ip());
        let is_there = one == other || one.is_unspecified() || other.is_unspecified();
        (local.port() == address.port() && is_there && state == "0A")
            .then(|| inode.parse().ok())
            .flatten()
    })
}

/// `0100007F:0019` is 127.0.0.1:25: an address is one word, or four, of the machine's own order.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = if address.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
        IpAddr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = of(address).unwrap();
        let own = format!("pid {}", std::process::id());
        assert!(holder.ends_with(&own), "{holder}");
    }

    #[test]
    fn only_a_socket_that_listens_there_counts() {
        let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        let loopback = word([127, 0, 0, 1]);
        let zeros = "0".repeat(24);
        let last = word([0, 0, 0, 1]);
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: {loopback}:0019 0200007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 111 1\n   \
             1: {loopback}:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1\n   \
             2: 00000000:001A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n   \
             3: {zeros}{last}:001B {zeros}00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1\n"
        );
        for (address, inode) in [
            ("127.0.0.1:25", Some(222)),
            ("0.0.0.0:25", Some(222)),
            ("127.0.0.2:25", None),
            ("192.0.2.1:26", Some(333)),
            ("[::1]:27", Some(444)),
            ("[::2]:27", None),
            ("127.0.0.1:28", None),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(in_the_way(&table, address), inode, "{address}");
        }
        let address = "127.0.0.1:25".parse().unwrap();
        for table in ["", "x\ny", "x\n 0: \u{e4}:0019 x 0A"] {
            assert_eq!(in_the_way(table, address), None);
        }
    }
}
