//! How a message's octets are framed: dot-stuffed after `DATA` (RFC 5321 §4.5.2), counted
//! after `BDAT` (RFC 3030 §2).
//!
//! Both work on lines that end in CRLF, which [`Outgoing`](crate::Outgoing) guarantees.

use std::ops::Range;

/// The message as it stands between the 354 and its verdict, with the terminating dot.
pub fn dot_stuff(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 64 + 8);
    let mut stuffer = DotStuffer::default();
    stuffer.push(message, &mut out);
    stuffer.finish(&mut out);
    out
}

/// The message that [`dot_stuff`] made this of; `None` when the terminator is missing or does
/// not come last.
pub fn dot_unstuff(stuffed: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(stuffed.len());
    let mut unstuffer = DataUnstuffer::default();
    let used = unstuffer.push(stuffed, &mut message)?;
    (used == stuffed.len()).then_some(message)
}

/// Stuffs a message piece by piece.
#[derive(Debug)]
pub(crate) struct DotStuffer {
    at_line_start: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self {
            at_line_start: true,
        }
    }
}

impl DotStuffer {
    pub(crate) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            if self.at_line_start && piece[0] == b'.' {
                out.push(b'.');
            }
            let end = piece
                .iter()
                .position(|&octet| octet == b'\n')
                .map_or(piece.len(), |lf| lf + 1);
            let (line, rest) = piece.split_at(end);
            out.extend_from_slice(line);
            self.at_line_start = line.ends_with(b"\n");
            piece = rest;
        }
    }

    pub(crate) fn finish(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.at_line_start {
            b".\r\n"
        } else {
            b"\r\n.\r\n"
        });
    }
}

/// Undoes dot-stuffing on octets cut anywhere, and finds the end.
///
/// Only CRLF ends a line here: a dot after a bare LF is text. Servers that took it for the
/// end let others smuggle messages.
#[derive(Debug, Default)]
pub struct DataUnstuffer {
    state: Unstuff,
}

#[derive(Clone, Copy, Debug, Default)]
enum Unstuff {
    #[default]
    LineStart,
    Text,
    Cr,
    Dot,
    DotCr,
}

impl DataUnstuffer {
    /// Appends what these octets hold of the message. `Some(n)`: the message ended within the
    /// first `n` of them.
    pub fn push(&mut self, octets: &[u8], message: &mut Vec<u8>) -> Option<usize> {
        for (i, &octet) in octets.iter().enumerate() {
            self.state = match (self.state, octet) {
                (Unstuff::LineStart, b'.') => Unstuff::Dot,
                (Unstuff::Dot, b'\r') => Unstuff::DotCr,
                (Unstuff::DotCr, b'\n') => {
                    self.state = Unstuff::LineStart;
                    return Some(i + 1);
                }
                (state, octet) => {
                    if matches!(state, Unstuff::DotCr) {
                        message.push(b'\r');
                    }
                    message.push(octet);
                    match (state, octet) {
                        (Unstuff::Cr, b'\n') => Unstuff::LineStart,
                        (_, b'\r') => Unstuff::Cr,
                        _ => Unstuff::Text,
                    }
                }
            };
        }
        None
    }
}

/// The pieces of a message of this length, each to follow its own `BDAT n`, the last of them
/// `BDAT n LAST`. An empty message has one empty piece.
///
/// # Panics
///
/// When `chunk_octets` is 0.
pub fn bdat_chunks(
    message_octets: usize,
    chunk_octets: usize,
) -> impl Iterator<Item = Range<usize>> {
    assert!(chunk_octets > 0, "a chunk holds at least one octet");
    let last_start = message_octets.saturating_sub(1) / chunk_octets * chunk_octets;
    (0..=last_start)
        .step_by(chunk_octets)
        .map(move |start| start..message_octets.min(start.saturating_add(chunk_octets)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dot_at_the_start_of_a_line_is_doubled() {
        assert_eq!(
            dot_stuff(b".\r\n..a\r\nb.\r\n"),
            b"..\r\n...a\r\nb.\r\n.\r\n"
        );
        assert_eq!(dot_stuff(b""), b".\r\n");
    }

    #[test]
    fn only_crlf_dot_crlf_ends_the_message() {
        for text in ["a\n.\nb\r\n", "a\r\n.\nb\r\n", "a\n.\r\nb\r\n"] {
            let mut message = Vec::new();
            assert_eq!(
                DataUnstuffer::default().push(text.as_bytes(), &mut message),
                None,
                "{text:?}"
            );
        }
        assert_eq!(dot_unstuff(b"a\r\n.\r\n").unwrap(), b"a\r\n");
        assert_eq!(dot_unstuff(b"a\r\n.\r\nMAIL FROM:<x>\r\n"), None);
    }

    /// Lines with many dots, ended by CRLF.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec("[.a]{0,4}", 0..20).prop_map(|lines| {
            lines
                .iter()
                .flat_map(|line| format!("{line}\r\n").into_bytes())
                .collect()
        })
    }

    proptest! {
        #[test]
        fn unstuffing_undoes_stuffing_wherever_either_is_cut(
            message in message(), cut_in in any::<prop::sample::Index>(), cut_out in any::<prop::sample::Index>(),
        ) {
            let (left, right) = message.split_at(cut_in.index(message.len() + 1));
            let (mut stuffed, mut stuffer) = (Vec::new(), DotStuffer::default());
            stuffer.push(left, &mut stuffed);
            stuffer.push(right, &mut stuffed);
            stuffer.finish(&mut stuffed);
            prop_assert_eq!(&stuffed, &dot_stuff(&message));

            let (left, right) = stuffed.split_at(cut_out.index(stuffed.len()));
            let (mut back, mut unstuffer) = (Vec::new(), DataUnstuffer::default());
            prop_assert_eq!(unstuffer.push(left, &mut back), None);
            prop_assert_eq!(unstuffer.push(right, &mut back), Some(right.len()));
            prop_assert_eq!(back, message);
        }

        #[test]
        fn a_stuffed_message_holds_its_terminator_once(message in message()) {
            let stuffed = [b"\r\n", dot_stuff(&message).as_slice()].concat();
            prop_assert_eq!(stuffed.windows(5).filter(|octets| octets == b"\r\n.\r\n").count(), 1);
        }

        #[test]
        fn chunks_cover_the_message_in_order(octets in 0usize..5_000, chunk in 1usize..700) {
            let chunks: Vec<_> = bdat_chunks(octets, chunk).collect();
            prop_assert!(!chunks.is_empty());
            prop_assert_eq!(chunks[0].start, 0);
            prop_assert_eq!(chunks[chunks.len() - 1].end, octets);
            prop_assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(chunks.iter().all(|range| range.len() <= chunk));
            prop_assert!(octets == 0 || chunks.iter().all(|range| !range.is_empty()));
        }

        #[test]
        fn unstuffing_arbitrary_octets_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = dot_unstuff(&octets);
        }
    }
}
