//! A server that takes one request at a time and answers when it is told to: what a script waits
//! for while a story goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// The server.
pub(crate) struct Gate(TcpListener);

impl Gate {
    /// On a free port of loopback.
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// What to ask for.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.0.local_addr().unwrap())
    }

    /// Waits for a request; what is given back answers it.
    pub(crate) fn knock(&self) -> impl FnOnce() + use<> {
        let (mut stream, _) = self.0.accept().unwrap();
        let mut head = Vec::new();
        let mut octet = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut octet).unwrap(), 1);
            head.push(octet[0]);
        }
        move || {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .unwrap();
        }
    }

    /// Whether somebody knocks who was not let in.
    pub(crate) fn is_knocked_at(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.accept().is_ok()
    }
}
