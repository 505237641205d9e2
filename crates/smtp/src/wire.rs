//! Octets to and from one server: a flight goes out while its replies come in.
//!
//! Reading never waits for writing, so two full buffers cannot block each other (RFC 2920
//! §3.1). A wire is clean when every reply it was owed has been read and nothing else has
//! come; [`Wire::exchange`] taints it first and cleans it last, so a caller dropped in between
//! leaves it tainted.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout_at},
};
use tokio_rustls::client::TlsStream;

use crate::{Reply, ReplyError, ReplyParser, Stream, events, flight::Flight};

/// What leaves in one write where it fits: most messages do, with their commands.
const WRITE_OCTETS: usize = 64 * 1024;
const READ_OCTETS: usize = 4 * 1024;

/// Whether to go on after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    /// What has not been written is no longer wanted; if anything has not, or more replies
    /// are owed, the wire stays tainted.
    Stop,
}

/// How an exchange failed. `sent_all`: the last octet had left.
#[derive(Debug)]
pub(crate) struct WireError {
    pub(crate) cause: Cause,
    pub(crate) sent_all: bool,
    /// Octets the connection had taken.
    pub(crate) written_octets: usize,
}

#[derive(Debug)]
pub(crate) enum Cause {
    Lost(io::Error),
    Timeout(Duration),
    Protocol(ReplyError),
}

pub(crate) enum Transport {
    Plain(Box<dyn Stream>),
    Tls(Box<TlsStream<Box<dyn Stream>>>),
}

impl Transport {
    fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, octets),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        octets: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, octets),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, octets),
        }
    }
}

pub(crate) struct Wire {
    transport: Transport,
    parser: ReplyParser,
    clean: bool,
}

impl Wire {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            parser: ReplyParser::default(),
            clean: true,
        }
    }

    /// The transport, unless octets have come that nobody asked for.
    pub(crate) fn into_transport(self) -> Option<Transport> {
        (self.clean && self.parser.is_empty()).then_some(self.transport)
    }

    /// Whether every reply has been read and no other has come so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean && self.parser.is_empty()
    }

    /// Whether a waiting connection may be used: clean, still open, and silent. Does not wait.
    pub(crate) fn is_usable(&mut self) -> bool {
        if !self.is_clean() {
            return false;
        }
        let mut octets = [0; 256];
        let mut buffer = ReadBuf::new(&mut octets);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Ready means an end, an error, or words nobody asked for (often a 421).
        self.transport.poll_read(&mut cx, &mut buffer).is_pending()
    }

    /// Waits for one reply to what was sent earlier, or to nothing: the greeting.
    pub(crate) async fn reply(&mut self, limit: Duration) -> Result<Reply, WireError> {
        let mut reply = None;
        let mut owed = VecDeque::from([((), limit)]);
        self.exchange(&mut Flight::new(limit), &mut owed, |(), got| {
            reply = Some(got);
            Then::GoOn
        })
        .await?;
        let reply = reply.expect("an exchange that succeeds has answered all it was owed");
        events::reply(&reply);
        Ok(reply)
    }

    /// Sends one command and waits for its reply. Not for `AUTH`: this shows in the log.
    pub(crate) async fn command(
        &mut self,
        line: Vec<u8>,
        limit: Duration,
    ) -> Result<Reply, WireError> {
        events::commands(&line);
        let reply = self.secret_line(line, limit).await?;
        events::reply(&reply);
        Ok(reply)
    }

    /// Sends one line of `AUTH` and waits for its reply; neither shows in the log.
    pub(crate) async fn secret_line(
        &mut self,
        line: Vec<u8>,
        limit: Duration,
    ) -> Result<Reply, WireError> {
        let mut reply = None;
        let mut owed = VecDeque::from([((), limit)]);
        self.exchange(&mut Flight::of(line, limit), &mut owed, |(), got| {
            reply = Some(got);
            Then::GoOn
        })
        .await?;
        Ok(reply.expect("an exchange that succeeds has answered all it was owed"))
    }

    /// Writes a flight while reading the replies owed for it, each with its own patience: it
    /// begins anew with each block the connection takes and with each complete reply, not with
    /// the octets of one.
    ///
    /// What is left in `owed` afterwards was not answered.
    pub(crate) async fn exchange<Owed>(
        &mut self,
        flight: &mut Flight<'_>,
        owed: &mut VecDeque<(Owed, Duration)>,
        mut answered: impl FnMut(Owed, Reply) -> Then,
    ) -> Result<(), WireError> {
        self.clean = false;
        let mut out = Outbox::default();
        let mut since = Instant::now();
        let mut settled = (owed.len(), out.written_octets, out.done);
        let result = loop {
            match self.settle(owed, &mut answered) {
                Ok(Then::GoOn) => {}
                Ok(Then::Stop) => {
                    self.clean = out.done && owed.is_empty();
                    return Ok(());
                }
                Err(error) => break Err(Cause::Protocol(error)),
            }
            if owed.is_empty() {
                if out.done {
                    break Ok(());
                }
                // Answered before it was said: whatever these replies are for, it is not this.
                if !out.sent_all() {
                    break Err(Cause::Lost(surplus()));
                }
            }
            let state = (owed.len(), out.written_octets, out.done);
            if state != settled {
                (settled, since) = (state, Instant::now());
            }
            let patience = match owed.front() {
                Some((_, patience)) if out.done => *patience,
                _ => flight.block_timeout,
            };
            match timeout_at(
                since + patience,
                poll_fn(|cx| self.poll_progress(cx, flight, &mut out)),
            )
            .await
            {
                Ok(Ok(())) => {}
                Ok(Err(error)) => break Err(Cause::Lost(plain(error))),
                Err(_) => break Err(Cause::Timeout(patience)),
            }
        };
        match result {
            Ok(()) => {
                self.clean = true;
                Ok(())
            }
            Err(cause) => Err(WireError {
                cause,
                sent_all: out.sent_all(),
                written_octets: out.written_octets,
            }),
        }
    }

    /// Hands complete replies to whom they are owed.
    fn settle<Owed>(
        &mut self,
        owed: &mut VecDeque<(Owed, Duration)>,
        answered: &mut impl FnMut(Owed, Reply) -> Then,
    ) -> Result<Then, ReplyError> {
        while !owed.is_empty() {
            let Some(reply) = self.parser.next_reply()? else {
                break;
            };
            if let Some((to, _)) = owed.pop_front()
                && answered(to, reply) == Then::Stop
            {
                return Ok(Then::Stop);
            }
        }
        Ok(Then::GoOn)
    }

    /// Writes what can be written and reads what has come; ready when either got anywhere.
    fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        flight: &mut Flight<'_>,
        out: &mut Outbox,
    ) -> Poll<io::Result<()>> {
        let mut progress = false;
        // A connection that takes no more may still hold the reply that says why: note the
        // failure, read first.
        let mut failed = None;
        match out.poll_write(cx, &mut self.transport, flight) {
            Poll::Ready(Ok(wrote)) => progress |= wrote,
            Poll::Ready(Err(error)) => failed = Some(error),
            Poll::Pending => {}
        }
        let mut octets = [0; READ_OCTETS];
        let mut buffer = ReadBuf::new(&mut octets);
        match self.transport.poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.parser.push(buffer.filled());
                progress = true;
            }
            Poll::Ready(Ok(())) => return Poll::Ready(Err(failed.unwrap_or_else(end_of_stream))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if failed.is_some() && !progress => {
                return Poll::Ready(Err(failed.unwrap_or_else(end_of_stream)));
            }
            Poll::Pending => {}
        }
        if progress {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

/// The connection is of no further use: replies and commands can no longer be matched.
pub(crate) fn surplus() -> io::Error {
    io::Error::other("the server answered more than it was asked")
}

/// rustls explains an end without farewell to programmers, with an address of its manual.
pub(crate) fn plain(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        end_of_stream()
    } else {
        error
    }
}

fn end_of_stream() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed the connection",
    )
}

/// What of a flight is on its way out.
#[derive(Default)]
struct Outbox {
    buffer: Vec<u8>,
    taken: usize,
    written_octets: usize,
    /// The flight has no more octets to give.
    drained: bool,
    /// All of them have been given to the network.
    done: bool,
}

impl Outbox {
    /// Every octet has left this program's hands, though perhaps not this host.
    fn sent_all(&self) -> bool {
        self.drained && self.taken == self.buffer.len()
    }

    fn refill(&mut self, flight: &mut Flight<'_>) {
        if self.taken == self.buffer.len() && !self.drained {
            self.buffer.clear();
            self.taken = 0;
            flight.fill(WRITE_OCTETS, &mut self.buffer);
            self.drained = self.buffer.is_empty();
        }
    }

    /// `true` when octets were taken or the last were flushed.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        flight: &mut Flight<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.done {
            return Poll::Ready(Ok(false));
        }
        self.refill(flight);
        if self.taken < self.buffer.len() {
            let n = std::task::ready!(transport.poll_write(cx, &self.buffer[self.taken..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += n;
            self.written_octets += n;
            // At once: whether these were the last octets decides what a loss means.
            self.refill(flight);
            return Poll::Ready(Ok(true));
        }
        std::task::ready!(transport.poll_flush(cx))?;
        self.done = true;
        Poll::Ready(Ok(true))
    }
}
