//! A body on its way in: its end found, its dots removed, its lines checked.
//!
//! Exactly one sequence ends a body that came by `DATA`: CRLF `.` CRLF, or LF `.` LF in a
//! session of line feeds. Everything else is content, and content with a carriage return,
//! line feed or NUL that stands where none may is a [flaw](Decoder::flaw): two servers that
//! disagree on where a line ends can be made to disagree on how many messages there are.

use super::handler::Problem;

/// What ends a line of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// CRLF; a line feed alone is a flaw.
    Crlf,
    /// CRLF; a line feed alone is made one, but never belongs to the end of the body.
    Normalized,
    /// LF, made CRLF; a carriage return is a flaw.
    LineFeed,
    /// Nothing: these octets have no lines (`BINARYMIME`).
    Binary,
}

/// Turns octets as sent into octets as meant, over any split of the input.
#[derive(Debug)]
pub(super) struct Decoder {
    lines: Lines,
    /// Dots were stuffed, and a dot ends the body: `DATA`.
    dots: bool,
    seen: Seen,
    flaw: Option<Problem>,
}

/// What precedes the next octet. A carriage return is held back until its line feed comes,
/// a dot that may begin the end until the octets behind it tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The start of the body, or a proper line end.
    LineStart,
    /// A line feed alone that was made a line end.
    LooseStart,
    /// A dot behind a proper line end.
    Dot,
    /// That dot and a carriage return.
    DotCr,
    /// A carriage return.
    Cr,
    /// Anything else.
    Text,
}

impl Decoder {
    pub(super) fn data(lines: Lines) -> Self {
        Self {
            lines,
            dots: true,
            seen: Seen::LineStart,
            flaw: None,
        }
    }

    pub(super) fn chunks(lines: Lines) -> Self {
        Self {
            dots: false,
            ..Self::data(lines)
        }
    }

    /// Appends content to `out`, at most two octets for one. `Some(n)`: the body ended after
    /// `n` octets of `input`; `None`: all of it belongs to the body.
    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if self.lines == Lines::Binary {
            out.extend_from_slice(input);
            return None;
        }
        let mut at = 0;
        while at < input.len() {
            if self.seen == Seen::Text {
                let rest = &input[at..];
                let run = rest.iter().position(|b| matches!(b, b'\r' | b'\n' | 0));
                let run = run.unwrap_or(rest.len());
                out.extend_from_slice(&rest[..run]);
                at += run;
                if run == rest.len() {
                    break;
                }
            }
            let octet = input[at];
            at += 1;
            if self.is_end(octet, out) {
                return Some(at);
            }
        }
        None
    }

    /// No more octets come.
    pub(super) fn finish(&mut self) {
        if self.seen == Seen::Cr {
            self.flawed(Problem::BodyBareCarriageReturn);
        }
    }

    /// The first thing wrong with the content so far.
    pub(super) fn flaw(&self) -> Option<&Problem> {
        self.flaw.as_ref()
    }

    fn is_end(&mut self, octet: u8, out: &mut Vec<u8>) -> bool {
        if matches!(self.seen, Seen::Cr | Seen::DotCr) && octet != b'\n' {
            self.flawed(Problem::BodyBareCarriageReturn);
            self.seen = Seen::Text;
        }
        self.seen = match (self.seen, octet) {
            (Seen::DotCr, b'\n') => return true,
            (Seen::Dot, b'\n') if self.lines == Lines::LineFeed => return true,
            (Seen::Cr, b'\n') => {
                out.extend_from_slice(b"\r\n");
                Seen::LineStart
            }
            (_, b'\n') => self.bare_line_feed(out),
            (_, b'\r') if self.lines == Lines::LineFeed => {
                self.flawed(Problem::BodyBareCarriageReturn);
                Seen::Text
            }
            (Seen::Dot, b'\r') => Seen::DotCr,
            (_, b'\r') => Seen::Cr,
            (_, 0) => {
                self.flawed(Problem::BodyNul);
                Seen::Text
            }
            (Seen::LineStart, b'.') if self.dots => Seen::Dot,
            // Stuffed like any other, but too loosely led to begin the end.
            (Seen::LooseStart, b'.') if self.dots => Seen::Text,
            (_, other) => {
                out.push(other);
                Seen::Text
            }
        };
        false
    }

    fn bare_line_feed(&mut self, out: &mut Vec<u8>) -> Seen {
        if self.lines == Lines::Crlf {
            self.flawed(Problem::BodyBareLineFeed);
            return Seen::Text;
        }
        out.extend_from_slice(b"\r\n");
        if self.lines == Lines::LineFeed {
            Seen::LineStart
        } else {
            Seen::LooseStart
        }
    }

    fn flawed(&mut self, problem: Problem) {
        self.flaw.get_or_insert(problem);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Content, what follows the end if there is one, and the flaw.
    type Decoded = (Vec<u8>, Option<Vec<u8>>, Option<Problem>);

    fn decode(lines: Lines, input: &[u8]) -> Decoded {
        let (mut decoder, mut content) = (Decoder::data(lines), Vec::new());
        let end = decoder.push(input, &mut content);
        let rest = end.map(|end| input[end..].to_vec());
        (content, rest, decoder.flaw().cloned())
    }

    #[test]
    fn only_a_dot_between_two_proper_line_ends_ends_a_body() {
        /// The lines, the input, its content, and what follows the end.
        type Row = (Lines, &'static [u8], &'static [u8], Option<&'static [u8]>);
        let table: [Row; 14] = [
            (Lines::Crlf, b".\r\n", b"", Some(b"")),
            (Lines::Crlf, b"a\r\n.\r\nQUIT", b"a\r\n", Some(b"QUIT")),
            (
                Lines::Crlf,
                b"..a\r\n...\r\n.\r\n",
                b".a\r\n..\r\n",
                Some(b""),
            ),
            (Lines::Crlf, b".a\r\n.\r\n", b"a\r\n", Some(b"")),
            (Lines::Crlf, b"\r\n\r\n.\r\n.", b"\r\n\r\n", Some(b".")),
            (Lines::Normalized, b"a\n.\n", b"a\r\n\r\n", None),
            (Lines::Normalized, b"a\n.\r\n", b"a\r\n\r\n", None),
            (Lines::Normalized, b"a\r\n.\n", b"a\r\n\r\n", None),
            (Lines::Normalized, b"a\n.\r\n.\r\n", b"a\r\n\r\n", Some(b"")),
            (
                Lines::Normalized,
                b"a\n..b\n\r\n.\r\n",
                b"a\r\n.b\r\n\r\n",
                Some(b""),
            ),
            (Lines::LineFeed, b".\n", b"", Some(b"")),
            (Lines::LineFeed, b"a\n..b\n.\nc", b"a\r\n.b\r\n", Some(b"c")),
            (Lines::Binary, b"a\r\n.\r\n\0", b"a\r\n.\r\n\0", None),
            (Lines::Crlf, b"a\r\n.", b"a\r\n", None),
        ];
        for (lines, input, content, rest) in table {
            let wanted = (content.to_vec(), rest.map(<[u8]>::to_vec), None);
            assert_eq!(decode(lines, input), wanted, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn the_first_flaw_is_named_and_the_end_is_found_behind_it() {
        use Problem::{BodyBareCarriageReturn, BodyBareLineFeed, BodyNul};
        let table: [(Lines, &[u8], Problem, bool); 11] = [
            (Lines::Crlf, b"a\n.\n", BodyBareLineFeed, false),
            (Lines::Crlf, b"a\n.\r\n", BodyBareLineFeed, false),
            (Lines::Crlf, b"a\r\n.\n", BodyBareLineFeed, false),
            (Lines::Crlf, b"a\n\r\r\n.\r\n", BodyBareLineFeed, true),
            (Lines::Crlf, b"a\r.\r\n", BodyBareCarriageReturn, false),
            (
                Lines::Crlf,
                b"a\r\n.\rb\0\r\n.\r\n",
                BodyBareCarriageReturn,
                true,
            ),
            (
                Lines::Crlf,
                b"a\r\n.\r\r\n.\r\n",
                BodyBareCarriageReturn,
                true,
            ),
            (Lines::Crlf, b"\0\n\r\n.\r\n", BodyNul, true),
            (
                Lines::Normalized,
                b"a\r\n.\r.\r\n",
                BodyBareCarriageReturn,
                false,
            ),
            (
                Lines::LineFeed,
                b"a\r\n.\r\n",
                BodyBareCarriageReturn,
                false,
            ),
            (Lines::LineFeed, b"a\r\n.\n", BodyBareCarriageReturn, true),
        ];
        for (lines, input, flaw, ended) in table {
            let (_, rest, found) = decode(lines, input);
            assert_eq!(found, Some(flaw), "{}", input.escape_ascii());
            assert_eq!(rest.is_some(), ended, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_chunk_may_end_within_a_line_end_and_a_message_may_not() {
        let (mut decoder, mut content) = (Decoder::chunks(Lines::Crlf), Vec::new());
        assert_eq!(decoder.push(b".\r", &mut content), None);
        assert_eq!(decoder.push(b"\n.\r\n.\r", &mut content), None);
        assert_eq!((&content[..], decoder.flaw()), (&b".\r\n.\r\n."[..], None));
        decoder.finish();
        assert_eq!(decoder.flaw(), Some(&Problem::BodyBareCarriageReturn));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_stuffed_comes_back(lines in proptest::collection::vec("[.a ]{0,6}", 0..8)) {
            let stuff = |line: &String| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") };
            let stuffed: String = lines.iter().map(stuff).chain([".\r\n".to_owned()]).collect();
            let body: String = lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
            prop_assert_eq!(
                decode(Lines::Crlf, stuffed.as_bytes()),
                (body.into_bytes(), Some(Vec::new()), None)
            );
        }
    }
}
