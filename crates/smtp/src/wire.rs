//! Octets to and from one server: what is said goes out while replies come in.
//!
//! Reading never waits for writing, so two full buffers cannot block each other (RFC 2920
//! §3.1). A wire is clean when every reply it was owed has been read and nothing else has
//! come; waiting for a reply taints it, and only [`Wire::settle`] cleans it, so a caller dropped
//! in between leaves it tainted.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout_at},
};
use tokio_rustls::client::TlsStream;

use crate::{
    Reply, ReplyError, ReplyParser, Stream, events,
    flight::{BodyError, Flight},
};

const READ_OCTETS: usize = 4 * 1024;

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Cause {
    Lost(io::Error),
    Timeout(Duration),
    Protocol(ReplyError),
    /// Replies and commands can no longer be matched, or what is left to say may not be said.
    OutOfStep(String),
    /// This side could not go on.
    Body(BodyError),
}

impl Cause {
    /// The same for another message.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Lost(error) => Self::Lost(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
            Self::Timeout(waited) => Self::Timeout(*waited),
            Self::Protocol(error) => Self::Protocol(error.clone()),
            Self::OutOfStep(why) => Self::OutOfStep(why.clone()),
            Self::Body(failed) => Self::OutOfStep(failed.error.to_string()),
        }
    }
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
    pub(crate) async fn reply(&mut self, limit: Duration) -> Result<Reply, Cause> {
        let reply = self.answer(Flight::new(), limit).await?;
        events::reply(&reply);
        Ok(reply)
    }

    /// Sends one command and waits for its reply. Not for `AUTH`: this shows in the log.
    pub(crate) async fn command(&mut self, line: Vec<u8>, limit: Duration) -> Result<Reply, Cause> {
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
    ) -> Result<Reply, Cause> {
        self.answer(Flight::of(line), limit).await
    }

    async fn answer(&mut self, mut flight: Flight, limit: Duration) -> Result<Reply, Cause> {
        let reply = self.next_reply(&mut flight, limit, limit).await?;
        self.settle(&mut flight, limit).await?;
        Ok(reply)
    }

    /// The next reply, while the flight is on its way out. Patience is `block` for each write
    /// the connection is to take, then `reply`: anew with each such write, not with the octets of
    /// a reply.
    pub(crate) async fn next_reply(
        &mut self,
        flight: &mut Flight,
        block: Duration,
        reply: Duration,
    ) -> Result<Reply, Cause> {
        self.clean = false;
        let mut since = Instant::now();
        let mut settled = flight.progress();
        loop {
            if let Some(reply) = self.parser.next_reply().map_err(Cause::Protocol)? {
                return Ok(reply);
            }
            if flight.needs_filling() {
                flight.fill().await.map_err(Cause::Body)?;
            }
            let patience = if flight.is_done() { reply } else { block };
            let progress = poll_fn(|cx| self.poll_progress(cx, flight));
            match timeout_at(since + patience, progress).await {
                Ok(result) => result.map_err(|error| Cause::Lost(plain(error)))?,
                Err(_) => return Err(Cause::Timeout(patience)),
            }
            if flight.progress() != settled {
                (settled, since) = (flight.progress(), Instant::now());
            }
        }
    }

    /// A reply that has come already. Does not wait.
    pub(crate) async fn reply_at_hand(&mut self) -> Result<Option<Reply>, Cause> {
        loop {
            if let Some(reply) = self.parser.next_reply().map_err(Cause::Protocol)? {
                return Ok(Some(reply));
            }
            match poll_fn(|cx| Poll::Ready(self.poll_read(cx))).await {
                Poll::Pending => return Ok(None),
                Poll::Ready(result) => result.map_err(|error| Cause::Lost(plain(error)))?,
            }
        }
    }

    /// Every reply that was owed has been read: sees to it that all they answer has been said.
    pub(crate) async fn settle(
        &mut self,
        flight: &mut Flight,
        block: Duration,
    ) -> Result<(), Cause> {
        if !flight.has_left() {
            // Answered before it was said: whatever these replies are for, it is not this.
            return Err(Cause::Lost(surplus()));
        }
        let flush = poll_fn(|cx| self.poll_write(cx, flight));
        match tokio::time::timeout(block, flush).await {
            Ok(result) => result.map_err(|error| Cause::Lost(plain(error)))?,
            Err(_) => return Err(Cause::Timeout(block)),
        }
        self.clean = true;
        Ok(())
    }

    /// Writes what can be written and reads what has come; ready when either got anywhere.
    fn poll_progress(&mut self, cx: &mut Context<'_>, flight: &mut Flight) -> Poll<io::Result<()>> {
        let before = flight.progress();
        // A connection that takes no more may still hold the reply that says why: note the
        // failure, read first.
        let failed = match self.poll_write(cx, flight) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        match self.poll_read(cx) {
            Poll::Ready(Err(error)) => {
                let ended = error.kind() == io::ErrorKind::UnexpectedEof;
                Poll::Ready(Err(failed.filter(|_| ended).unwrap_or(error)))
            }
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => match failed {
                Some(error) => Poll::Ready(Err(error)),
                None if flight.progress() != before => Poll::Ready(Ok(())),
                None => Poll::Pending,
            },
        }
    }

    /// Gives the connection what it takes of what has been made; ready when it has all of it and
    /// has flushed it.
    fn poll_write(&mut self, cx: &mut Context<'_>, flight: &mut Flight) -> Poll<io::Result<()>> {
        while !flight.unwritten().is_empty() {
            let octets = ready!(self.transport.poll_write(cx, flight.unwritten()))?;
            if octets == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            flight.wrote(octets);
        }
        if flight.is_made() && !flight.is_done() {
            ready!(self.transport.poll_flush(cx))?;
            flight.flushed();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come; at least one octet, or an error.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut octets = [0; READ_OCTETS];
        let mut buffer = ReadBuf::new(&mut octets);
        ready!(self.transport.poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(end_of_stream()));
        }
        self.parser.push(buffer.filled());
        Poll::Ready(Ok(()))
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
