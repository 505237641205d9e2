//! The body after `DATA`: dots removed, its end found, RFC 5321 §4.5.2.
//!
//! Only CRLF `.` CRLF ends a body. A line feed or carriage return that stands alone is
//! content: two servers that disagree on where a message ends can be made to disagree
//! on how many messages there are.

/// Recognizes the end and undoes dot-stuffing, over any split of the input.
#[derive(Debug)]
pub(super) struct Unstuff {
    seen: Seen,
}

/// What precedes the next octet. A dot that may begin the end is held back until the
/// octets behind it tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The start of the body, or a CRLF.
    LineStart,
    /// A dot at the start of a line, not yet passed on.
    Dot,
    /// That dot and a CR, neither passed on.
    DotCr,
    /// A CR.
    Cr,
    /// Anything else.
    Text,
}

impl Unstuff {
    pub(super) fn new() -> Self {
        Self {
            seen: Seen::LineStart,
        }
    }

    /// Passes content on to `sink`. `Some(n)`: the body ended after `n` octets of
    /// `input`; `None`: all of it belongs to the body.
    pub(super) fn push(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Option<usize> {
        let mut at = 0;
        while at < input.len() {
            if self.seen == Seen::Text {
                // The long run: up to and with the next CR.
                let run = input[at..]
                    .iter()
                    .position(|b| *b == b'\r')
                    .map_or(input.len() - at, |cr| cr + 1);
                sink(&input[at..at + run]);
                at += run;
                if input[at - 1] == b'\r' {
                    self.seen = Seen::Cr;
                }
                continue;
            }
            let octet = input[at];
            at += 1;
            self.seen = match (self.seen, octet) {
                (Seen::LineStart, b'.') => Seen::Dot,
                (Seen::Dot, b'\r') => Seen::DotCr,
                (Seen::DotCr, b'\n') => return Some(at),
                (Seen::DotCr, _) => {
                    // `.` CR and no LF: the dot was stuffed, the CR is content.
                    sink(b"\r");
                    at -= 1;
                    Seen::Cr
                }
                (Seen::Cr, b'\n') => {
                    sink(b"\n");
                    Seen::LineStart
                }
                (_, b'\r') => {
                    sink(b"\r");
                    Seen::Cr
                }
                (_, other) => {
                    sink(&[other]);
                    Seen::Text
                }
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Content, and what follows the end if there is one.
    fn unstuff(pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut unstuff, mut content) = (Unstuff::new(), Vec::new());
        for (index, piece) in pieces.iter().enumerate() {
            if let Some(end) = unstuff.push(piece, |octets| content.extend_from_slice(octets)) {
                let rest = pieces[index + 1..].concat();
                return (content, Some([&piece[end..], &rest].concat()));
            }
        }
        (content, None)
    }

    /// RFC 5321 §4.5.2 from the client's side, for a body that ends with CRLF.
    fn stuff(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut line_start = true;
        for (index, octet) in body.iter().enumerate() {
            if line_start && *octet == b'.' {
                out.push(b'.');
            }
            out.push(*octet);
            line_start = index > 0 && body[index - 1] == b'\r' && *octet == b'\n';
        }
        out.extend_from_slice(b".\r\n");
        out
    }

    #[test]
    fn only_a_dot_between_two_crlfs_ends_a_body() {
        /// Input, its content, and what follows the end.
        type Row = (&'static [u8], &'static [u8], Option<&'static [u8]>);
        let table: [Row; 12] = [
            (b".\r\n", b"", Some(b"")),
            (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", Some(b"QUIT\r\n")),
            (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", Some(b"")),
            (b".a\r\n.\r\n", b"a\r\n", Some(b"")),
            (b"a\n.\n", b"a\n.\n", None),
            (b"a\n.\r\n", b"a\n.\r\n", None),
            (b"a\r\n.\n", b"a\r\n\n", None),
            (b"a\r.\r\n", b"a\r.\r\n", None),
            (b"a\r\n.\rb", b"a\r\n\rb", None),
            (b"a\r\n.\r\r\n.\r\n", b"a\r\n\r\r\n", Some(b"")),
            (b"\r\n\r\n.\r\n.", b"\r\n\r\n", Some(b".")),
            (b"a\0b", b"a\0b", None),
        ];
        for (input, content, rest) in table {
            let wanted = (content.to_vec(), rest.map(<[u8]>::to_vec));
            assert_eq!(unstuff(&[input]), wanted, "{}", input.escape_ascii());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_stuffed_comes_back(lines in proptest::collection::vec("[.a\r\n]{0,6}", 0..8)) {
            let mut body = lines.join("\r\n").into_bytes();
            body.extend_from_slice(b"\r\n");
            prop_assert_eq!(unstuff(&[&stuff(&body)]), (body, Some(Vec::new())));
        }

        #[test]
        fn a_split_anywhere_changes_nothing(input in "[.a\r\n]{0,12}", cut in 0usize..12) {
            let input = input.as_bytes();
            let cut = cut.min(input.len());
            prop_assert_eq!(unstuff(&[&input[..cut], &input[cut..]]), unstuff(&[input]));
        }
    }
}
