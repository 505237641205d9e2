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
    /// One message, as it is passed on.
    pub message_octets: usize,
    /// Octets of refused messages read and thrown away since the last accepted one, before
    /// the connection is closed instead: so that a client still hears why.
    pub discard_octets: usize,
    /// Accepted recipients of one message.
    pub recipients: usize,
    /// Commands since the last accepted message or the start.
    pub commands: u32,
    /// Commands since then that were refused as malformed, unknown or out of order, and
    /// messages refused by this half.
    pub bad_commands: u32,
    /// The time until a command begins to arrive.
    pub idle_time: Duration,
    /// The time for the rest of its line, however slowly it trickles.
    pub command_time: Duration,
    /// The time for replies to leave: a client that does not read is cut off.
    pub write_time: Duration,
    /// The time a body may keep the server waiting in all. What the server itself spends on
    /// storing it does not count.
    pub body_time: Duration,
    /// The time a body may pause.
    pub body_pause: Duration,
    /// Octets a second that a body must make on average, `body_pause` granted in advance.
    pub body_pace: u32,
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
            idle_time: Duration::from_mins(5),
            command_time: Duration::from_mins(5),
            write_time: Duration::from_mins(5),
            body_time: Duration::from_mins(30),
            // RFC 5321 §4.5.3.2.5: what a client grants one block of data.
            body_pause: Duration::from_mins(3),
            // Beneath any link mail travels on, and far above one octet at a time.
            body_pace: 32,
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
    /// By `STARTTLS`, if the client asks for it. Credentials may travel in clear: for
    /// clients on the same machine.
    DangerOffered,
    /// Never. Credentials travel in clear: for loopback and tests.
    DangerPlaintext,
}
