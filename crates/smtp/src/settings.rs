//! Where an account's server is and how long to wait for it.

use std::{sync::Arc, time::Duration};

use crate::EhloName;

/// One submission server, as one account sees it.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Its name, which its certificate must carry.
    pub host: String,
    /// 587 for STARTTLS, 465 for implicit TLS (RFC 8314).
    pub port: u16,
    /// How the connection is secured.
    pub tls: TlsMode,
    /// From [`crate::tls::client_config`]; shared, so that handshakes can resume.
    pub tls_config: Arc<rustls::ClientConfig>,
    /// What the client calls itself.
    pub ehlo_name: EhloName,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// `STARTTLS` is required: a server that does not offer it gets no credentials (RFC 3207).
    Starttls,
    /// TLS from the first octet (RFC 8314 §3.3).
    Implicit,
    /// No TLS: the message **and the credentials** travel in clear.
    DangerPlaintext,
}

/// How long to wait at each step. The defaults are RFC 5321 §4.5.3.2's, which are generous
/// because a server may be checking what it was given; connecting and TLS have none there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, and the TCP handshake with each address.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The first reply after connecting.
    pub greeting: Duration,
    /// `EHLO`, `STARTTLS`, `AUTH` and each of its responses, `RSET`.
    pub command: Duration,
    /// `MAIL`.
    pub mail: Duration,
    /// Each `RCPT`.
    pub rcpt: Duration,
    /// `DATA`, until 354.
    pub data_start: Duration,
    /// Each block of the message, until the connection takes it.
    pub data_block: Duration,
    /// The verdict on the message. Shorter than the server's own means duplicates.
    pub data_end: Duration,
    /// `QUIT`; courtesy, so short.
    pub quit: Duration,
}

impl Timeouts {
    /// The same, none of them longer than `limit`.
    pub(crate) fn at_most(self, limit: Duration) -> Self {
        Self {
            connect: self.connect.min(limit),
            tls: self.tls.min(limit),
            greeting: self.greeting.min(limit),
            command: self.command.min(limit),
            mail: self.mail.min(limit),
            rcpt: self.rcpt.min(limit),
            data_start: self.data_start.min(limit),
            data_block: self.data_block.min(limit),
            data_end: self.data_end.min(limit),
            quit: self.quit.min(limit),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            connect: Duration::from_secs(30),
            tls: Duration::from_secs(30),
            greeting: minutes(5),
            command: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data_start: minutes(2),
            data_block: minutes(3),
            data_end: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}

/// How much an account may do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Sessions at a time, idle ones included; at least 1. Exchange Online allows 3.
    pub connections: usize,
    /// How long a session may wait for the next message.
    pub idle: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections: 3,
            idle: Duration::from_secs(30),
        }
    }
}
