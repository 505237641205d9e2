//! What one connection may cost, and when it must be encrypted.

use std::time::Duration;

/// Bounds on one connection. Whatever goes beyond is refused or disconnected.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512; the default,
    /// 2048, has room for the parameters that extensions add to `MAIL` and `RCPT`.
    pub line_octets: usize,
    /// One `AUTH` command, or one line of its exchange: 12288 by RFC 4954 §4.
    pub auth_line_octets: usize,
    /// One message, after dot-unstuffing.
    pub message_octets: usize,
    /// Refused octets (an oversized body) read and thrown away before the connection
    /// is closed instead, so that a client still hears why.
    pub discard_octets: usize,
    /// Accepted recipients of one message.
    pub recipients: usize,
    /// Commands since the last accepted message or the start.
    pub commands: u32,
    /// Commands that were refused as malformed, unknown or out of order.
    pub bad_commands: u32,
    /// The time for one command line to arrive, and for a batch of replies to leave.
    pub command_time: Duration,
    /// The time for one whole body to arrive.
    pub body_time: Duration,
    /// The time for a TLS handshake.
    pub handshake_time: Duration,
    /// The time for the whole connection.
    pub session_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_octets: 2048,
            auth_line_octets: 12288,
            message_octets: 150 * 1024 * 1024,
            discard_octets: 300 * 1024 * 1024,
            recipients: 1000,
            commands: 2000,
            bad_commands: 20,
            // RFC 5321 §4.5.3.2.7: a server waits five minutes at least.
            command_time: Duration::from_mins(5),
            body_time: Duration::from_mins(30),
            handshake_time: Duration::from_secs(30),
            session_time: Duration::from_hours(24),
        }
    }
}

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// From the first octet: port 465 (RFC 8314 §3.3).
    Implicit,
    /// By `STARTTLS` (RFC 3207). `AUTH` is refused until then.
    Starttls,
    /// Never. Credentials travel in clear: for loopback and tests.
    DangerPlaintext,
}
