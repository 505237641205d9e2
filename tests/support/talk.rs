//! A client without TLS on this machine, which says octets and hears replies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// More than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Its connection.
pub(crate) struct Talk(BufReader<TcpStream>);

impl Talk {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Connected, greeted and signed in.
    #[track_caller]
    pub(crate) fn signed_in(port: u16, user: &str, password: &str) -> Self {
        let mut talk = Self::connect(port);
        talk.hears("220");
        talk.says("EHLO client\r\n").hears("250");
        let plain = STANDARD.encode(format!("\0{user}\0{password}"));
        talk.says(&format!("AUTH PLAIN {plain}\r\n")).hears("235");
        talk
    }

    pub(crate) fn says(&mut self, text: &str) -> &mut Self {
        self.writes(text.as_bytes())
    }

    pub(crate) fn writes(&mut self, octets: &[u8]) -> &mut Self {
        // Whoever was sent away meanwhile hears why.
        let _ = self.0.get_mut().write_all(octets);
        self
    }

    /// Says nothing more.
    pub(crate) fn ends(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// The last line of the next reply; empty once the connection is closed.
    pub(crate) fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return String::new();
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    #[track_caller]
    pub(crate) fn hears(&mut self, code: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(code), "{reply:?} is not {code}");
        reply
    }

    /// All replies until the connection is closed.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        std::iter::repeat_with(|| self.reply())
            .take_while(|reply| !reply.is_empty())
            .collect()
    }

    /// All octets until the connection is closed.
    pub(crate) fn octets(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        // A reset is an end, too.
        let _ = self.0.read_to_end(&mut octets);
        octets
    }

    /// The connection, when everything was heard.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.0.buffer().is_empty(), "there is more to hear");
        self.0.into_inner()
    }
}
