//! The octets on their way out: commands and messages, made as the connection takes them.
//!
//! After `BDAT` a message is counted (RFC 3030 §2), after `DATA` it is dot-stuffed (RFC 5321
//! §4.5.2). Both rely on lines that end in CRLF, which [`Outgoing`](crate::Outgoing) guarantees.
//! One buffer stands between a message and the connection, however long the message is.

use std::{collections::VecDeque, io};

use crate::body::Body;

/// What leaves in one write where it fits: most messages do, with their commands.
const WRITE_OCTETS: usize = 64 * 1024;
/// Less is not worth reading.
const READ_OCTETS: usize = 8 * 1024;

/// How a message goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In chunks of so many octets (at least 1), the last one marked.
    Chunks(u64),
    /// Dot-stuffed, with the dot that ends it.
    Stuffed,
}

/// How many `BDAT` a message takes; an empty one takes one too.
pub(crate) fn chunks(message_octets: u64, chunk_octets: u64) -> u64 {
    message_octets.div_ceil(chunk_octets).max(1)
}

/// A message could not be read to its end, so its end must not leave.
#[derive(Debug)]
pub(crate) struct BodyError {
    /// Which message.
    pub(crate) message: u64,
    pub(crate) error: io::Error,
}

/// What has been said and has not wholly left. Messages are known by their numbers, which grow.
pub(crate) struct Flight {
    pieces: VecDeque<Piece>,
    buffer: Vec<u8>,
    /// Octets of the buffer that the connection has taken.
    taken: usize,
    /// Octets it took before the buffer was filled.
    taken_before: u64,
    flushed: bool,
    /// Where messages begin and end, as far as those octets have not left.
    marks: VecDeque<Mark>,
    /// Of this message the first octet has left.
    begun: Option<u64>,
    /// Of this message the last octet has left.
    left: Option<u64>,
    write_octets: usize,
}

enum Piece {
    Commands(Vec<u8>),
    Message(Reading),
}

/// Reached once so many octets have left.
struct Mark {
    octets: u64,
    message: u64,
    edge: Edge,
}

#[derive(PartialEq, Eq)]
enum Edge {
    Begin,
    End,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            buffer: Vec::new(),
            taken: 0,
            taken_before: 0,
            flushed: true,
            marks: VecDeque::new(),
            begun: None,
            left: None,
            write_octets: WRITE_OCTETS,
        }
    }

    /// One line, or several.
    pub(crate) fn of(commands: Vec<u8>) -> Self {
        let mut flight = Self::new();
        flight.add_commands(commands);
        flight
    }

    pub(crate) fn add_commands(&mut self, commands: Vec<u8>) {
        if !commands.is_empty() {
            self.pieces.push_back(Piece::Commands(commands));
        }
    }

    /// Lets a message follow; it is read later.
    pub(crate) fn add_message(&mut self, message: u64, body: Body, form: Form) {
        self.pieces
            .push_back(Piece::Message(Reading::new(message, body, form)));
    }

    /// Gives up what has not left.
    pub(crate) fn cut(&mut self) {
        self.pieces.clear();
        self.marks.clear();
        self.buffer.truncate(self.taken);
    }

    /// Whether all of it has been made, though it may not have left.
    pub(crate) fn is_made(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Every octet has left this program's hands, though perhaps not this host.
    pub(crate) fn has_left(&self) -> bool {
        self.pieces.is_empty() && self.taken == self.buffer.len()
    }

    /// And no layer below holds any.
    pub(crate) fn is_done(&self) -> bool {
        self.has_left() && self.flushed
    }

    /// Whether an octet of this message may have reached the server.
    pub(crate) fn has_begun(&self, message: u64) -> bool {
        self.begun >= Some(message)
    }

    /// Whether all of this message may have.
    pub(crate) fn has_left_whole(&self, message: u64) -> bool {
        self.left >= Some(message)
    }

    /// Whether octets of this message are still to leave.
    pub(crate) fn holds(&self, message: u64) -> bool {
        let made = self
            .marks
            .iter()
            .any(|mark| mark.message == message && mark.edge == Edge::End);
        made || self
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Message(reading) if reading.message == message))
    }

    /// Octets that have left so far, and whether they have been flushed: what changes when the
    /// connection takes something.
    pub(crate) fn progress(&self) -> (u64, bool) {
        (self.taken_before + self.taken as u64, self.flushed)
    }

    /// What to write next; when it is empty and there is more, [`Flight::fill`] first.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The connection took so many of them.
    pub(crate) fn wrote(&mut self, octets: usize) {
        self.taken += octets;
        self.flushed = false;
        let (left, _) = self.progress();
        while let Some(mark) = self.marks.front() {
            // The first octet has left when more than those before it have.
            if left < mark.octets + u64::from(mark.edge == Edge::Begin) {
                break;
            }
            match mark.edge {
                Edge::Begin => self.begun = Some(mark.message),
                Edge::End => self.left = Some(mark.message),
            }
            self.marks.pop_front();
        }
    }

    pub(crate) fn flushed(&mut self) {
        self.flushed = true;
    }

    pub(crate) fn needs_filling(&self) -> bool {
        self.taken == self.buffer.len() && !self.pieces.is_empty()
    }

    /// Makes the next octets, about as many as one write takes. After an error what was made
    /// before it may still leave; nothing follows it.
    pub(crate) async fn fill(&mut self) -> Result<(), BodyError> {
        self.taken_before += self.buffer.len() as u64;
        self.taken = 0;
        self.buffer.clear();
        while self.buffer.len() < self.write_octets {
            match self.pieces.front_mut() {
                None => break,
                Some(Piece::Commands(commands)) => self.buffer.append(commands),
                Some(Piece::Message(reading)) => {
                    let message = reading.message;
                    let mark = |edge, buffer: &Vec<u8>| Mark {
                        octets: self.taken_before + buffer.len() as u64,
                        message,
                        edge,
                    };
                    if !reading.has_begun() {
                        self.marks.push_back(mark(Edge::Begin, &self.buffer));
                    }
                    if let Err(error) = reading.fill(self.write_octets, &mut self.buffer).await {
                        self.pieces.clear();
                        return Err(BodyError { message, error });
                    }
                    if !reading.is_done() {
                        continue;
                    }
                    self.marks.push_back(mark(Edge::End, &self.buffer));
                }
            }
            self.pieces.pop_front();
        }
        Ok(())
    }
}

/// A message that is being read.
struct Reading {
    message: u64,
    body: Body,
    offset: u64,
    state: State,
    /// Octets read but not stuffed yet; unused while they come from memory.
    scratch: Vec<u8>,
}

enum State {
    Chunks {
        chunk_octets: u64,
        left_in_chunk: u64,
        begun: bool,
    },
    Stuffed {
        at_line_start: bool,
        ended: bool,
    },
}

impl Reading {
    fn new(message: u64, body: Body, form: Form) -> Self {
        let state = match form {
            Form::Chunks(chunk_octets) => State::Chunks {
                chunk_octets: chunk_octets.max(1),
                left_in_chunk: 0,
                begun: false,
            },
            Form::Stuffed => State::Stuffed {
                at_line_start: true,
                ended: false,
            },
        };
        Self {
            message,
            body,
            offset: 0,
            state,
            scratch: Vec::new(),
        }
    }

    fn left(&self) -> u64 {
        self.body.len() - self.offset
    }

    fn has_begun(&self) -> bool {
        self.offset > 0
    }

    fn is_done(&self) -> bool {
        match self.state {
            State::Chunks { begun, .. } => begun && self.left() == 0,
            State::Stuffed { ended, .. } => ended,
        }
    }

    /// Appends the next octets, until about `limit` are there.
    async fn fill(&mut self, limit: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let left = self.left();
        let room = limit.saturating_sub(out.len()).max(READ_OCTETS.min(limit)) as u64;
        match &mut self.state {
            State::Chunks {
                chunk_octets,
                left_in_chunk,
                begun,
            } => {
                if *left_in_chunk == 0 {
                    let octets = left.min(*chunk_octets);
                    let last = if octets == left { " LAST" } else { "" };
                    out.extend_from_slice(format!("BDAT {octets}{last}\r\n").as_bytes());
                    (*left_in_chunk, *begun) = (octets, true);
                }
                let octets = room.min(*left_in_chunk);
                self.body.append(self.offset, octets, out).await?;
                *left_in_chunk -= octets;
                self.offset += octets;
            }
            State::Stuffed {
                at_line_start,
                ended,
            } => {
                let octets = left.min(room);
                let piece = self
                    .body
                    .piece(self.offset, octets, &mut self.scratch)
                    .await?;
                for line in piece.split_inclusive(|&octet| octet == b'\n') {
                    if *at_line_start && line.starts_with(b".") {
                        out.push(b'.');
                    }
                    out.extend_from_slice(line);
                    *at_line_start = line.ends_with(b"\n");
                }
                self.offset += octets;
                if octets == left {
                    if !*at_line_start {
                        // A dot here would not end it.
                        return Err(io::Error::other("the message's last line has no end"));
                    }
                    out.extend_from_slice(b".\r\n");
                    *ended = true;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::{BoxFuture, FutureExt};
    use proptest::prelude::*;
    use std::sync::Arc;

    use crate::BodySource;

    /// Gives its octets in pieces of at most this size.
    struct Slow(Vec<u8>, usize);

    impl BodySource for Slow {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at<'a>(
            &'a self,
            offset: u64,
            into: &'a mut [u8],
        ) -> BoxFuture<'a, io::Result<usize>> {
            let rest = &self.0[usize::try_from(offset).unwrap()..];
            let octets = into.len().min(rest.len()).min(self.1);
            into[..octets].copy_from_slice(&rest[..octets]);
            async move { Ok(octets) }.boxed()
        }
    }

    fn memory(message: &[u8]) -> Body {
        Body::Memory(message.into())
    }

    fn streamed(message: &[u8], piece: usize) -> Body {
        Body::Streamed(
            Arc::new(Slow(message.to_vec(), piece)),
            message.len() as u64,
        )
    }

    /// All octets of a message, made in writes of about this size.
    fn drain(body: Body, form: Form, write_octets: usize) -> Vec<u8> {
        let mut flight = Flight {
            write_octets,
            ..Flight::new()
        };
        flight.add_message(0, body, form);
        let mut all = Vec::new();
        while flight.needs_filling() {
            flight.fill().now_or_never().unwrap().unwrap();
            let octets = flight.unwritten().len();
            all.extend_from_slice(flight.unwritten());
            flight.wrote(octets);
        }
        assert!(flight.has_left() && flight.has_left_whole(0));
        all
    }

    /// What RFC 5321 §4.5.2 tells a server to do, line by line.
    fn unstuff(stuffed: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(stuffed).unwrap();
        let (lines, end) = text.split_at(text.len() - 3);
        assert_eq!(end, ".\r\n");
        let line = |line: &str| line.strip_prefix('.').unwrap_or(line).to_owned();
        lines
            .split_inclusive("\r\n")
            .map(line)
            .collect::<String>()
            .into_bytes()
    }

    /// The chunks, and whether the last one alone was marked.
    fn unchunk(mut octets: &[u8]) -> (Vec<&[u8]>, bool) {
        let mut chunks = Vec::new();
        let mut marks = Vec::new();
        while !octets.is_empty() {
            let end = octets.windows(2).position(|two| two == b"\r\n").unwrap();
            let command = std::str::from_utf8(&octets[..end]).unwrap();
            let size = command.strip_prefix("BDAT ").unwrap();
            marks.push(size.ends_with(" LAST"));
            let (chunk, rest) =
                octets[end + 2..].split_at(size.trim_end_matches(" LAST").parse().unwrap());
            chunks.push(chunk);
            octets = rest;
        }
        let last_alone = marks.iter().position(|&last| last) == Some(marks.len() - 1);
        (chunks, last_alone)
    }

    #[test]
    fn a_dot_at_the_start_of_a_line_is_doubled() {
        let stuffed = |message| drain(memory(message), Form::Stuffed, 100);
        assert_eq!(stuffed(b".\r\n..a\r\nb.\r\n"), b"..\r\n...a\r\nb.\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }

    #[test]
    fn an_empty_message_is_one_empty_chunk() {
        assert_eq!(
            drain(memory(b""), Form::Chunks(10), 100),
            b"BDAT 0 LAST\r\n"
        );
        assert_eq!(chunks(0, 10), 1);
    }

    #[test]
    fn commands_and_small_messages_leave_together() {
        let mut flight = Flight::of(b"MAIL FROM:<a>\r\n".to_vec());
        flight.add_message(0, memory(b"x\r\n"), Form::Chunks(10));
        flight.add_commands(b"RSET\r\n".to_vec());
        flight.add_message(1, memory(b"y\r\n"), Form::Chunks(10));
        flight.fill().now_or_never().unwrap().unwrap();
        assert_eq!(
            flight.unwritten(),
            b"MAIL FROM:<a>\r\nBDAT 3 LAST\r\nx\r\nRSET\r\nBDAT 3 LAST\r\ny\r\n"
        );
        assert!(flight.is_made());
    }

    #[test]
    fn a_message_has_begun_with_its_first_octet_and_left_with_its_last() {
        let head = b"MAIL FROM:<a>\r\n".to_vec();
        let octets = head.len();
        let mut flight = Flight::of(head);
        flight.add_message(3, memory(b"x\r\n"), Form::Chunks(10));
        flight.add_message(7, memory(b"y\r\n"), Form::Chunks(10));
        flight.fill().now_or_never().unwrap().unwrap();

        flight.wrote(octets);
        assert!(!flight.has_begun(3), "its envelope is not the message");
        flight.wrote(1);
        assert!(flight.has_begun(3) && !flight.has_left_whole(3) && flight.holds(3));
        flight.wrote("BDAT 3 LAST\r\nx\r".len() - 1);
        assert!(!flight.has_left_whole(3));
        flight.wrote(1);
        assert!(flight.has_left_whole(3) && !flight.holds(3));
        assert!(!flight.has_begun(7) && flight.holds(7));
        flight.cut();
        assert!(flight.has_left() && !flight.has_left_whole(7));
    }

    #[test]
    fn a_long_message_passes_through_a_short_buffer() {
        let text = b".line\r\n".repeat(700_000);
        for form in [Form::Chunks(1024 * 1024), Form::Stuffed] {
            let mut flight = Flight::new();
            flight.add_message(0, streamed(&text, usize::MAX), form);
            while flight.needs_filling() {
                flight.fill().now_or_never().unwrap().unwrap();
                let octets = flight.unwritten().len();
                assert!(flight.buffer.capacity() <= 160 * 1024, "{form:?}");
                flight.wrote(octets);
            }
            assert!(flight.has_left_whole(0));
        }
    }

    #[test]
    fn what_cannot_be_read_to_its_end_is_not_ended() {
        let message = b"line\r\nline\r\n";
        for form in [Form::Chunks(5), Form::Chunks(100), Form::Stuffed] {
            let short = Arc::new(Slow(message[..7].to_vec(), 100));
            let mut flight = Flight::of(b"MAIL FROM:<a>\r\n".to_vec());
            flight.add_message(1, Body::Streamed(short, message.len() as u64), form);
            flight.add_commands(b"RSET\r\n".to_vec());

            let failed = flight.fill().now_or_never().unwrap().unwrap_err();

            assert_eq!(failed.message, 1);
            let made = flight.unwritten().to_vec();
            flight.wrote(made.len());
            assert!(made.starts_with(b"MAIL") && !made.ends_with(b"RSET\r\n"));
            assert!(!made.ends_with(b".\r\n") && flight.is_made());
            assert!(!made.contains(&0), "nothing stands for what was not read");
            assert!(!flight.has_left_whole(1), "{form:?}");
        }
        let mut flight = Flight::new();
        flight.add_message(1, streamed(b"no end", 100), Form::Stuffed);
        assert!(flight.fill().now_or_never().unwrap().is_err());
    }

    /// Lines with many dots, ended by CRLF.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let lines = proptest::collection::vec("[.a]{0,4}", 0..20);
        lines.prop_map(|lines| {
            lines
                .iter()
                .flat_map(|line| format!("{line}\r\n").into_bytes())
                .collect()
        })
    }

    proptest! {
        #[test]
        fn unstuffing_gives_the_message_back(message in message(), limit in 1usize..50) {
            let stuffed = drain(memory(&message), Form::Stuffed, limit);
            prop_assert_eq!(unstuff(&stuffed), message);
            let with_start = [b"\r\n", stuffed.as_slice()].concat();
            let ends = with_start.windows(5).filter(|octets| octets == b"\r\n.\r\n").count();
            prop_assert_eq!(ends, 1, "the end comes once");
        }

        #[test]
        fn chunks_joined_give_the_message_back(
            message in message(), chunk_octets in 1u64..30, limit in 1usize..50,
        ) {
            let octets = drain(memory(&message), Form::Chunks(chunk_octets), limit);
            let (pieces, last_alone) = unchunk(&octets);
            prop_assert!(last_alone);
            prop_assert_eq!(pieces.len() as u64, chunks(message.len() as u64, chunk_octets));
            prop_assert!(pieces.iter().all(|piece| piece.len() as u64 <= chunk_octets));
            prop_assert_eq!(pieces.concat(), message);
        }

        #[test]
        fn a_streamed_message_is_the_same_on_the_wire(
            message in message(), chunk_octets in 1u64..30, piece in 1usize..20,
            limit in 1usize..50,
        ) {
            for form in [Form::Chunks(chunk_octets), Form::Stuffed] {
                prop_assert_eq!(
                    drain(streamed(&message, piece), form, limit),
                    drain(memory(&message), form, 1000),
                );
            }
        }
    }
}
