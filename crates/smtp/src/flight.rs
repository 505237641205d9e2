//! The octets of one flight: commands, then perhaps the message, made as they are needed.
//!
//! After `BDAT` the message is counted (RFC 3030 §2), after `DATA` it is dot-stuffed (RFC 5321
//! §4.5.2). Both rely on lines that end in CRLF, which [`Outgoing`](crate::Outgoing) guarantees.

use std::time::Duration;

/// A flight of commands, with or without a message behind them.
pub(crate) struct Flight<'a> {
    /// The commands.
    pub(crate) head: Vec<u8>,
    body: Body<'a>,
    /// How long the connection may take for a block, once it stops taking them.
    pub(crate) block_timeout: Duration,
}

enum Body<'a> {
    None,
    Chunks {
        rest: &'a [u8],
        chunk_octets: usize,
        left_in_chunk: usize,
        done: bool,
    },
    Stuffed {
        rest: &'a [u8],
        at_line_start: bool,
        done: bool,
    },
}

/// How many `BDAT` a message takes; an empty one takes one too.
pub(crate) fn chunks(message: &[u8], chunk_octets: usize) -> usize {
    message.len().div_ceil(chunk_octets).max(1)
}

impl<'a> Flight<'a> {
    pub(crate) fn new(block_timeout: Duration) -> Self {
        Self::of(Vec::new(), block_timeout)
    }

    pub(crate) fn of(head: Vec<u8>, block_timeout: Duration) -> Self {
        Self {
            head,
            body: Body::None,
            block_timeout,
        }
    }

    /// Lets the message follow in chunks of so many octets (at least 1), the last one marked.
    pub(crate) fn add_chunks(&mut self, message: &'a [u8], chunk_octets: usize) {
        self.body = Body::Chunks {
            rest: message,
            chunk_octets,
            left_in_chunk: 0,
            done: false,
        };
    }

    /// Lets the message follow dot-stuffed, with the dot that ends it.
    pub(crate) fn add_stuffed(&mut self, message: &'a [u8]) {
        self.body = Body::Stuffed {
            rest: message,
            at_line_start: true,
            done: false,
        };
    }

    pub(crate) fn has_message(&self) -> bool {
        !matches!(self.body, Body::None)
    }

    /// The commands that will carry the message, without its octets.
    pub(crate) fn message_commands(&self) -> Vec<String> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Chunks {
                rest, chunk_octets, ..
            } => {
                let count = chunks(rest, *chunk_octets);
                let octets =
                    |chunk| rest.len().min((chunk + 1) * chunk_octets) - chunk * chunk_octets;
                (0..count)
                    .map(|chunk| {
                        let last = if chunk + 1 == count { " LAST" } else { "" };
                        format!("BDAT {}{last}", octets(chunk))
                    })
                    .collect()
            }
            Body::Stuffed { rest, .. } => vec![format!("(the message, {} octets)", rest.len())],
        }
    }

    /// Appends the next octets, until about `limit` are there; nothing when nothing is left.
    pub(crate) fn fill(&mut self, limit: usize, out: &mut Vec<u8>) {
        out.append(&mut self.head);
        match &mut self.body {
            Body::None => {}
            Body::Chunks {
                rest,
                chunk_octets,
                left_in_chunk,
                done,
            } => {
                while !*done && out.len() < limit {
                    if *left_in_chunk == 0 {
                        let octets = rest.len().min(*chunk_octets);
                        let last = if octets == rest.len() { " LAST" } else { "" };
                        out.extend_from_slice(format!("BDAT {octets}{last}\r\n").as_bytes());
                        *left_in_chunk = octets;
                    }
                    let (piece, more) = rest.split_at(limit.min(*left_in_chunk));
                    out.extend_from_slice(piece);
                    *left_in_chunk -= piece.len();
                    *rest = more;
                    *done = more.is_empty();
                }
            }
            Body::Stuffed {
                rest,
                at_line_start,
                done,
            } => {
                while !*done && out.len() < limit {
                    if *at_line_start && rest.starts_with(b".") {
                        out.push(b'.');
                    }
                    let end = rest.iter().take(limit).position(|&octet| octet == b'\n');
                    let (line, more) =
                        rest.split_at(end.map_or(rest.len().min(limit), |lf| lf + 1));
                    out.extend_from_slice(line);
                    *at_line_start = line.is_empty() || line.ends_with(b"\n");
                    *rest = more;
                    if more.is_empty() {
                        out.extend_from_slice(b".\r\n");
                        *done = true;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All octets of a flight, taken in pieces of about this size.
    fn drain(mut flight: Flight<'_>, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut piece = Vec::new();
            flight.fill(limit, &mut piece);
            if piece.is_empty() {
                return all;
            }
            all.append(&mut piece);
        }
    }

    fn stuffed(message: &[u8], limit: usize) -> Vec<u8> {
        let mut flight = Flight::new(Duration::ZERO);
        flight.add_stuffed(message);
        drain(flight, limit)
    }

    fn chunked(message: &[u8], chunk_octets: usize, limit: usize) -> Vec<u8> {
        let mut flight = Flight::new(Duration::ZERO);
        flight.add_chunks(message, chunk_octets);
        drain(flight, limit)
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
        assert_eq!(
            stuffed(b".\r\n..a\r\nb.\r\n", 100),
            b"..\r\n...a\r\nb.\r\n.\r\n"
        );
        assert_eq!(stuffed(b"", 100), b".\r\n");
    }

    #[test]
    fn an_empty_message_is_one_empty_chunk() {
        assert_eq!(chunked(b"", 10, 100), b"BDAT 0 LAST\r\n");
        assert_eq!(chunks(b"", 10), 1);
    }

    #[test]
    fn commands_and_a_small_message_leave_together() {
        let mut flight = Flight::of(b"MAIL FROM:<a>\r\n".to_vec(), Duration::ZERO);
        flight.add_chunks(b"x\r\n", 10);
        let mut out = Vec::new();
        flight.fill(64, &mut out);
        assert_eq!(out, b"MAIL FROM:<a>\r\nBDAT 3 LAST\r\nx\r\n");
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
            let stuffed = stuffed(&message, limit);
            prop_assert_eq!(unstuff(&stuffed), message);
            let with_start = [b"\r\n", stuffed.as_slice()].concat();
            let ends = with_start.windows(5).filter(|octets| octets == b"\r\n.\r\n").count();
            prop_assert_eq!(ends, 1, "the end comes once");
        }

        #[test]
        fn chunks_joined_give_the_message_back(
            message in message(), chunk_octets in 1usize..30, limit in 1usize..50,
        ) {
            let octets = chunked(&message, chunk_octets, limit);
            let (pieces, last_alone) = unchunk(&octets);
            prop_assert!(last_alone);
            prop_assert_eq!(pieces.len(), chunks(&message, chunk_octets));
            prop_assert!(pieces.iter().all(|piece| piece.len() <= chunk_octets));
            prop_assert_eq!(pieces.concat(), message);
        }
    }
}
