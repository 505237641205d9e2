//! Octets in, octets out: lines, runs of a body, one write per batch of replies.
//!
//! Replies gather in a buffer that leaves when the input runs dry, so what arrived
//! pipelined is answered in one write. A client that keeps us waiting too long is an
//! [`io::Error`] of kind `TimedOut`, one that leaves of kind `UnexpectedEof`, and one that
//! does not read of kind `ConnectionAborted`: nothing more can be said to it.
//!
//! The input buffer holds one read and the beginning of one line, never more. Its octets
//! move only when a line is cut by the end of a read, and then only that line's.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::Limits;
use super::reply::ServerReply;

/// Octets asked for while commands are awaited: what an idle connection costs.
const COMMAND_OCTETS: usize = 4 * 1024;
/// Octets asked for within a body.
pub(super) const BODY_OCTETS: usize = 32 * 1024;
/// Unsent replies beyond this are written even while input is waiting.
const OUT_OCTETS: usize = 16 * 1024;
/// What a TLS handshake begins with (RFC 8446 §5.1), and no command does.
const TLS_HANDSHAKE: u8 = 22;
/// How long a closed connection is still listened to, so that the last reply is not
/// destroyed by a reset.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Connection<'l, S> {
    stream: S,
    limits: &'l Limits,
    /// The end of the whole session.
    end: Instant,
    input: Vec<u8>,
    /// Octets of `input` already used.
    used: usize,
    out: Vec<u8>,
    /// What a line may end in.
    line_end: LineEnd,
}

/// How the lines of a session end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// CRLF, and nothing else is let pass.
    Strict,
    /// The first line will tell.
    Undecided,
    /// CRLF, as the first line did.
    Crlf,
    /// LF, as the first line did.
    LineFeed,
}

/// What [`Connection::line`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Complete(Vec<u8>),
    /// A line beyond its limit; it is gone.
    TooLong,
    /// A line that ended in a line feed alone; it is gone.
    BareLineFeed,
    /// A line that did not end as the first; it is gone.
    Mixed,
    /// No line, but the beginning of a TLS handshake.
    Tls,
}

/// How long a body has kept us waiting, and for how much.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    octets: u64,
}

impl Pace {
    /// How long the next octets may take.
    fn patience(&self, limits: &Limits) -> Duration {
        let earned = Duration::from_secs(self.octets / u64::from(limits.body_pace.max(1)));
        let paced = limits.body_pause.saturating_add(earned);
        paced
            .min(limits.body_time)
            .saturating_sub(self.waited)
            .min(limits.body_pause)
    }
}

impl<'l, S: AsyncRead + AsyncWrite + Unpin + Send> Connection<'l, S> {
    pub(super) fn new(stream: S, end: Instant, limits: &'l Limits, line_end: LineEnd) -> Self {
        Self {
            stream,
            limits,
            end,
            input: Vec::new(),
            used: 0,
            out: Vec::new(),
            line_end,
        }
    }

    /// Queues a reply.
    pub(super) fn say(&mut self, reply: &ServerReply) {
        reply.write_to(&mut self.out);
    }

    /// Whether octets have arrived that nobody has read.
    pub(super) fn has_input(&self) -> bool {
        self.used < self.input.len()
    }

    /// Whether the session's time is up.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// How lines end here, as far as is known.
    pub(super) fn line_end(&self) -> LineEnd {
        self.line_end
    }

    /// The stream, for a handshake. What is buffered either way is dropped: the caller
    /// has flushed and has seen that no input waits.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// The next line. `limit` says, from the line's first octets, how long it may be.
    pub(super) async fn line(&mut self, limit: impl Fn(&[u8]) -> usize) -> io::Result<Line> {
        if !self.has_input() {
            let deadline = self.deadline(self.limits.idle_time);
            self.fill(deadline, COMMAND_OCTETS).await?;
        }
        if self.input[self.used..].first() == Some(&TLS_HANDSHAKE) {
            return Ok(Line::Tls);
        }
        let deadline = self.deadline(self.limits.command_time);
        let mut scanned = 0;
        let mut too_long = false;
        loop {
            let pending = &self.input[self.used..];
            if let Some(feed) = pending[scanned..].iter().position(|b| *b == b'\n') {
                let feed = scanned + feed;
                let line = &pending[..feed];
                let too_long = too_long || feed + 1 > limit(line);
                let found = self.line_end.judge(line, too_long);
                self.used += feed + 1;
                if self.out.len() > OUT_OCTETS {
                    self.flush().await?;
                }
                return Ok(found);
            }
            scanned = pending.len();
            if too_long || scanned >= limit(pending) {
                too_long = true;
                // The last octet may be the CR of the line's end.
                scanned = 1;
                self.used = self.input.len() - 1;
            }
            self.fill(deadline, COMMAND_OCTETS).await?;
        }
    }

    /// Whatever is there of a body, at least one octet; `consume` what was used of it.
    pub(super) async fn some(&mut self, pace: &mut Pace) -> io::Result<&[u8]> {
        if !self.has_input() {
            let begun = Instant::now();
            let deadline = self.deadline(pace.patience(self.limits));
            let read = self.fill(deadline, BODY_OCTETS).await?;
            pace.octets += read as u64;
            pace.waited += begun.elapsed();
        }
        Ok(&self.input[self.used..])
    }

    pub(super) fn consume(&mut self, octets: usize) {
        self.used = (self.used + octets).min(self.input.len());
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        match timeout(self.limits.write_time, write).await {
            Ok(written) => written,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the client does not read",
            )),
        }
    }

    /// Sends what is queued and closes; input still on its way is read and dropped for
    /// a moment.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.flush().await?;
        let goodbye = async {
            self.stream.shutdown().await?;
            let mut dropped = [0; 4096];
            while self.stream.read(&mut dropped).await? > 0 {}
            Ok(())
        };
        // The peer may well have left first: there is nothing to tell anyone.
        let _: Result<io::Result<()>, _> = timeout(LINGER, goodbye).await;
        Ok(())
    }

    /// The moment `time` from now, or the session's end if that comes first.
    fn deadline(&self, time: Duration) -> Instant {
        (Instant::now() + time).min(self.end)
    }

    /// Sends what is queued, then reads once, about `octets` at most.
    async fn fill(&mut self, deadline: Instant, octets: usize) -> io::Result<usize> {
        self.flush().await?;
        self.input.drain(..self.used);
        self.used = 0;
        if self.input.is_empty() && self.input.capacity() > 2 * octets {
            self.input = Vec::new();
        }
        self.input.reserve_exact(octets);
        let too_slow = || io::Error::new(io::ErrorKind::TimedOut, "the client took too long");
        // A client that always has octets ready must not outlast its time by them.
        if Instant::now() >= deadline {
            return Err(too_slow());
        }
        let read = self.stream.read_buf(&mut self.input);
        match timeout_at(deadline, read).await.map_err(|_| too_slow())?? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the client left",
            )),
            read => Ok(read),
        }
    }
}

impl LineEnd {
    /// What to make of a line, given without its line feed. The first decides.
    fn judge(&mut self, line: &[u8], too_long: bool) -> Line {
        let (line, found) = match line.strip_suffix(b"\r") {
            Some(line) => (line, Self::Crlf),
            None => (line, Self::LineFeed),
        };
        match *self {
            Self::Strict if found == Self::LineFeed => return Line::BareLineFeed,
            Self::Strict => {}
            Self::Undecided => *self = found,
            decided if decided != found => return Line::Mixed,
            _ => {}
        }
        if too_long {
            Line::TooLong
        } else {
            Line::Complete(line.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn fed(octets: Vec<u8>) -> Connection<'static, tokio::io::DuplexStream> {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(&octets).await.unwrap();
        // The client stays, and says nothing more.
        std::mem::forget(client);
        let limits = Box::leak(Box::default());
        let end = Instant::now() + Duration::from_hours(1);
        Connection::new(server, end, limits, LineEnd::Strict)
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_end_is_not_kept() {
        for limit in [2048, 12288] {
            let mut connection = fed(b"x".repeat(1 << 20)).await;
            let error = connection.line(|_| limit).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let held = connection.input.capacity();
            assert!(held <= limit + 2 * COMMAND_OCTETS, "{held} octets");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_holds_no_more_after_a_body_than_before() {
        let mut connection = fed(b"x".repeat(100_000)).await;
        let mut pace = Pace::default();
        for _ in 0..100_000 / 64 {
            let there = connection.some(&mut pace).await.unwrap().len();
            connection.consume(there.min(64));
        }
        assert!(connection.input.capacity() <= BODY_OCTETS + COMMAND_OCTETS);
        let left = connection.input.len() - connection.used;
        connection.consume(left);
        connection.line(|_| 100).await.unwrap_err();
        assert!(connection.input.capacity() <= COMMAND_OCTETS);
    }

    #[test]
    fn a_body_earns_time_by_octets_and_a_pause_is_granted_in_advance() {
        let limits = Limits {
            body_pause: Duration::from_secs(100),
            body_time: Duration::from_secs(1000),
            body_pace: 10,
            ..Limits::default()
        };
        let table = [
            (0, 0, 100),
            (30, 0, 70),
            (100, 0, 0),
            (100, 500, 50),
            (100, 5000, 100),
            (999, 1_000_000, 1),
            (1001, 1_000_000, 0),
        ];
        for (waited, octets, patience) in table {
            let waited = Duration::from_secs(waited);
            let pace = Pace { waited, octets };
            assert_eq!(pace.patience(&limits).as_secs(), patience, "{pace:?}");
        }
    }
}
