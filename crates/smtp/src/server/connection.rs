//! Octets in, octets out: lines, counted runs, one write per batch of replies.
//!
//! Replies gather in a buffer that leaves when the input runs dry, so what arrived
//! pipelined is answered in one write. A deadline passing is an [`io::Error`] of kind
//! `TimedOut`, the peer leaving one of kind `UnexpectedEof`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::reply::ServerReply;

/// Octets asked for in one read.
const READ_OCTETS: usize = 32 * 1024;
/// Unsent replies beyond this are written even while input is waiting.
const OUT_OCTETS: usize = 16 * 1024;
/// How long a closed connection is still listened to, so that the last reply is not
/// destroyed by a reset.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Connection<S> {
    stream: S,
    input: Vec<u8>,
    /// Octets of `input` already used.
    used: usize,
    out: Vec<u8>,
    /// The end of the whole session.
    end: Instant,
    /// The time a write may take.
    write_time: Duration,
}

/// What [`Connection::line`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its CRLF.
    Complete(Vec<u8>),
    /// A line beyond its limit; it is gone.
    TooLong,
    /// A line that ended in a line feed alone; it is gone.
    BareLineFeed,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) fn new(stream: S, end: Instant, write_time: Duration) -> Self {
        Self {
            stream,
            input: Vec::new(),
            used: 0,
            out: Vec::new(),
            end,
            write_time,
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

    /// The stream, for a handshake. What is buffered either way is dropped: the caller
    /// has flushed and has seen that no input waits.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// The next line. `limit` says, from the line's first octets, how long it may be.
    pub(super) async fn line(
        &mut self,
        limit: impl Fn(&[u8]) -> usize,
        time: Duration,
    ) -> io::Result<Line> {
        let deadline = self.deadline(time);
        let mut scanned = 0;
        let mut too_long = false;
        loop {
            let pending = &self.input[self.used..];
            if let Some(feed) = pending[scanned..].iter().position(|b| *b == b'\n') {
                let feed = scanned + feed;
                let line = &pending[..feed];
                let found = if too_long || feed + 1 > limit(line) {
                    Line::TooLong
                } else {
                    line.strip_suffix(b"\r")
                        .map_or(Line::BareLineFeed, |line| Line::Complete(line.to_vec()))
                };
                self.used += feed + 1;
                if self.out.len() > OUT_OCTETS {
                    self.flush().await?;
                }
                return Ok(found);
            }
            scanned = pending.len();
            if too_long || scanned >= limit(pending) {
                too_long = true;
                scanned = 0;
                self.used = self.input.len();
            }
            self.fill(deadline).await?;
        }
    }

    /// Whatever is there, at least one octet; `consume` what was used of it.
    pub(super) async fn some(&mut self, deadline: Instant) -> io::Result<&[u8]> {
        if !self.has_input() {
            self.fill(deadline).await?;
        }
        Ok(&self.input[self.used..])
    }

    pub(super) fn consume(&mut self, octets: usize) {
        self.used = (self.used + octets).min(self.input.len());
    }

    /// Passes exactly `octets` octets of input to `sink`.
    pub(super) async fn take(
        &mut self,
        mut octets: u64,
        deadline: Instant,
        mut sink: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        while octets > 0 {
            let there = self.some(deadline).await?;
            let part = usize::try_from(octets)
                .unwrap_or(usize::MAX)
                .min(there.len());
            sink(&there[..part]);
            self.consume(part);
            octets -= part as u64;
        }
        Ok(())
    }

    /// The moment `time` from now, or the session's end if that comes first.
    pub(super) fn deadline(&self, time: Duration) -> Instant {
        (Instant::now() + time).min(self.end)
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let Self { stream, out, .. } = self;
        let write = async {
            stream.write_all(out).await?;
            stream.flush().await
        };
        timeout(self.write_time, write)
            .await
            .map_err(|_| too_slow())??;
        self.out.clear();
        Ok(())
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
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Sends what is queued, then reads once.
    async fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        self.flush().await?;
        self.input.drain(..self.used);
        self.used = 0;
        self.input.reserve(READ_OCTETS);
        let read = self.stream.read_buf(&mut self.input);
        match timeout_at(deadline, read).await.map_err(|_| too_slow())?? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the client left",
            )),
            _ => Ok(()),
        }
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client took too long")
}
