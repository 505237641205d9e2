//! Somebody else's message as it comes in: lines as SMTP can carry them, the header apart.
//!
//! However the octets are cut into pieces, what comes out is the same. Memory is bounded: the
//! header, up to [`MAX_HEADER_OCTETS`], and one line of the body.
//!
//! What programs print is mailed, not judged, in the way that Postfix does it: lines may end in LF or
//! CRLF, a CR or NUL elsewhere becomes a space (progress bars have them), a line longer than 998
//! octets goes on in the next one behind a space, and the line that a mailbox file begins each
//! message with (`From somebody Mon …`) is no part of it.

use std::fmt;

use super::header::{Field, Header, is_field_start};
use crate::body::MAX_LINE_OCTETS;

/// A header beyond this is none.
pub const MAX_HEADER_OCTETS: usize = 1024 * 1024;

/// A header beyond [`MAX_HEADER_OCTETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTooLong;

impl fmt::Display for HeaderTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the message's header is longer than {MAX_HEADER_OCTETS} octets"
        )
    }
}

impl std::error::Error for HeaderTooLong {}

/// Reads one message.
#[derive(Debug, Default)]
pub struct Intake {
    /// The line that has begun, without its end.
    line: Vec<u8>,
    /// A CR stands behind it, or several: the line's end if LF follows.
    is_cr_pending: bool,
    header: Header,
    header_octets: usize,
    in_body: bool,
}

impl Intake {
    /// Takes the next octets; those of the body come out in `body`, ready for SMTP.
    ///
    /// # Errors
    /// The header is too long.
    pub fn push(&mut self, octets: &[u8], body: &mut Vec<u8>) -> Result<(), HeaderTooLong> {
        let mut rest = octets;
        while let Some((&octet, behind)) = rest.split_first() {
            match octet {
                b'\n' => {
                    self.is_cr_pending = false;
                    self.end_line(body)?;
                    rest = behind;
                }
                b'\r' => {
                    self.is_cr_pending = true;
                    rest = behind;
                }
                0 => {
                    self.extend(b" ", body)?;
                    rest = behind;
                }
                _ => {
                    let end = rest
                        .iter()
                        .position(|octet| matches!(octet, b'\n' | b'\r' | 0));
                    let (text, behind) = rest.split_at(end.unwrap_or(rest.len()));
                    self.extend(text, body)?;
                    rest = behind;
                }
            }
        }
        Ok(())
    }

    /// Nothing follows. A last line without an end gets one.
    ///
    /// # Errors
    /// The header is too long.
    pub fn finish(&mut self, body: &mut Vec<u8>) -> Result<(), HeaderTooLong> {
        self.is_cr_pending = false;
        if !self.line.is_empty() {
            self.end_line(body)?;
        }
        self.in_body = true;
        Ok(())
    }

    /// Whether the header is complete.
    pub fn is_in_body(&self) -> bool {
        self.in_body
    }

    /// The header, once it is complete.
    pub fn take_header(&mut self) -> Header {
        std::mem::take(&mut self.header)
    }

    /// Text of the line that has begun.
    fn extend(&mut self, text: &[u8], body: &mut Vec<u8>) -> Result<(), HeaderTooLong> {
        if std::mem::take(&mut self.is_cr_pending) {
            self.extend(b" ", body)?;
        }
        let mut text = text;
        while !self.in_body && !text.is_empty() {
            let room = MAX_LINE_OCTETS.saturating_sub(self.line.len());
            if room == 0 && !self.is_part_of_header() {
                self.in_body = true;
                break;
            }
            let (now, later) = text.split_at(if room == 0 {
                text.len()
            } else {
                room.min(text.len())
            });
            self.line.extend_from_slice(now);
            self.check_header(self.line.len())?;
            text = later;
        }
        while !text.is_empty() {
            // One octet more tells whether the line is too long, and where a character ends.
            let room = MAX_LINE_OCTETS + 1 - self.line.len();
            let (now, later) = text.split_at(room.min(text.len()));
            self.line.extend_from_slice(now);
            text = later;
            if self.line.len() > MAX_LINE_OCTETS {
                self.cut_line(body);
            }
        }
        Ok(())
    }

    /// Ends a line of the body that is too long; the rest of it begins the next one.
    fn cut_line(&mut self, body: &mut Vec<u8>) {
        let rest = self.line.split_off(room_for_whole_characters(&self.line));
        body.extend_from_slice(&self.line);
        body.extend_from_slice(b"\r\n");
        self.line.clear();
        self.line.push(b' ');
        self.line.extend_from_slice(&rest);
    }

    fn end_line(&mut self, body: &mut Vec<u8>) -> Result<(), HeaderTooLong> {
        if !self.in_body {
            let line = std::mem::take(&mut self.line);
            if self.header_line(&line)? {
                return Ok(());
            }
            self.in_body = true;
            if line.is_empty() {
                return Ok(());
            }
            // Not a line of a header: the body has begun with it, without an empty line before it.
            self.line = line;
        }
        body.extend_from_slice(&self.line);
        body.extend_from_slice(b"\r\n");
        self.line.clear();
        Ok(())
    }

    /// Whether the line belongs to the header.
    fn header_line(&mut self, line: &[u8]) -> Result<bool, HeaderTooLong> {
        if self.header_octets == 0 && is_of_mailbox(line) {
            return Ok(true);
        }
        if is_folded(line)
            && let Some(field) = self.header.last_mut()
        {
            // Blanks alone would look like the header's end to some.
            if !line.trim_ascii().is_empty() {
                field.fold(line);
            }
        } else if let Some(field) = Field::parse(line) {
            self.header.push(field);
        } else {
            return Ok(false);
        }
        self.header_octets += line.len() + 2;
        self.check_header(0)?;
        Ok(true)
    }

    /// Whether the line that has begun can be one of the header.
    fn is_part_of_header(&self) -> bool {
        (is_folded(&self.line) && !self.header.is_empty()) || is_field_start(&self.line)
    }

    fn check_header(&self, more: usize) -> Result<(), HeaderTooLong> {
        if self.header_octets + more <= MAX_HEADER_OCTETS {
            return Ok(());
        }
        Err(HeaderTooLong)
    }
}

/// How much of a line that is too long stays on it: all that fits, but no part of a character.
pub(super) fn room_for_whole_characters(line: &[u8]) -> usize {
    let is_inside = |octet: u8| octet & 0b1100_0000 == 0b1000_0000;
    let lead = (MAX_LINE_OCTETS - 3..=MAX_LINE_OCTETS).rev();
    let mut lead = lead.skip_while(|&at| is_inside(line[at]));
    // What is no UTF-8 is cut anywhere.
    lead.next().unwrap_or(MAX_LINE_OCTETS)
}

fn is_folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// `From somebody Mon Nov 23 …`, quoted or not.
fn is_of_mailbox(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|&&octet| octet == b'>').count();
    line[quotes..].starts_with(b"From ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take_in(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>), HeaderTooLong> {
        let mut intake = Intake::default();
        let mut body = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.sort_unstable();
        let mut start = 0;
        for cut in cuts.into_iter().chain([input.len()]) {
            intake.push(&input[start..cut], &mut body)?;
            start = cut;
        }
        intake.finish(&mut body)?;
        let mut header = Vec::new();
        intake.take_header().write_to(&mut header);
        Ok((header, body))
    }

    fn whole(input: &str) -> (String, String) {
        let (header, body) = take_in(input.as_bytes(), &[]).unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        (text(header), text(body))
    }

    #[test]
    fn header_and_body_are_told_apart() {
        for (input, header, body) in [
            ("Subject: x\n\nhi\n", "Subject: x\r\n", "hi\r\n"),
            (
                "Subject: x\r\n\r\nhi\r\n\r\n",
                "Subject: x\r\n",
                "hi\r\n\r\n",
            ),
            // no header at all, as from `echo hi | sendmail`
            ("hi there\n", "", "hi there\r\n"),
            ("\nSubject: none\n", "", "Subject: none\r\n"),
            ("", "", ""),
            ("\n", "", ""),
            // no body, and no line end
            ("Subject: x", "Subject: x\r\n", ""),
            // the empty line is missing
            (
                "Subject: x\nhi\nTo: y\n",
                "Subject: x\r\n",
                "hi\r\nTo: y\r\n",
            ),
            // a URL is no header field
            ("see http: //x\n", "", "see http: //x\r\n"),
            // folds
            (
                "Subject: x\n  y\n \t\n\tz\nTo : a@b\n\n",
                "Subject: x\r\n  y\r\n\tz\r\nTo: a@b\r\n",
                "",
            ),
            (" folded\n", "", " folded\r\n"),
            // mailbox files
            (
                "From root Mon Nov 23 12:00:00 2026\n>From x\nSubject: x\n\nFrom y\n",
                "Subject: x\r\n",
                "From y\r\n",
            ),
            // dots are the wire's matter
            ("Subject: x\n\n.\n..\n", "Subject: x\r\n", ".\r\n..\r\n"),
        ] {
            assert_eq!(
                whole(input),
                (header.to_owned(), body.to_owned()),
                "{input:?}"
            );
        }
    }

    #[test]
    fn a_stray_cr_or_nul_becomes_a_space() {
        let (header, body) = whole("Subject: a\rb\r\r\n\n10 %\r20 %\r\r\r30 %\r\nx\0y\r");
        assert_eq!(header, "Subject: a b\r\n");
        assert_eq!(body, "10 % 20 % 30 %\r\nx y\r\n");
    }

    #[test]
    fn a_long_line_goes_on_in_the_next_one() {
        let long = "x".repeat(998);
        for (more, expected) in [
            ("", String::new()),
            ("y", "\r\n y".to_owned()),
            ("ä", "\r\n ä".to_owned()),
        ] {
            let (_, body) = whole(&format!("\n{long}{more}\n"));
            assert_eq!(body, format!("{long}{expected}\r\n"));
            // Without a header, too.
            let (header, body) = whole(&format!("{long}{more}\n"));
            assert_eq!(
                (header, body),
                (String::new(), format!("{long}{expected}\r\n"))
            );
        }
        // No character is cut in two, whatever its length.
        for character in ["ä", "€", "𝄞"] {
            for shift in 0..character.len() {
                let line = "x".repeat(shift) + &character.repeat(700);
                let (_, body) = whole(&format!("\n{line}\n"));
                assert_eq!(body.replace("\r\n ", ""), format!("{line}\r\n"));
                assert!(body.lines().all(|line| line.len() <= 998));
            }
        }
    }

    #[test]
    fn a_long_list_of_recipients_is_folded_where_it_has_blanks() {
        let list = (0..200).map(|n| format!("somebody-{n}@example.org"));
        let list = list.collect::<Vec<_>>().join(", ");
        let (header, body) = whole(&format!("To: {list}\n\nhi\n"));
        assert!(header.lines().all(|line| line.len() <= 998), "{header}");
        assert_eq!(header.replace("\r\n ", " "), format!("To: {list}\r\n"));
        assert_eq!(body, "hi\r\n");
    }

    #[test]
    fn a_header_without_end_is_refused_and_held_no_longer() {
        let mut intake = Intake::default();
        let mut body = Vec::new();
        intake.push(b"Subject: ", &mut body).unwrap();
        let piece = [b'x'; 4096];
        let failure = (0..1000).find_map(|_| intake.push(&piece, &mut body).err());
        assert_eq!(failure, Some(HeaderTooLong));
        assert!(intake.line.capacity() < 4 * MAX_HEADER_OCTETS);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_octets_come(
            input in r"(>?From |Subject: |[a-z]{1,3}:|[ \t]|[\r\n]{1,3}|\x00|x{997,1000}|[äa€]){0,12}",
            cuts in proptest::collection::vec(any::<usize>(), 0..10),
        ) {
            prop_assert_eq!(
                take_in(input.as_bytes(), &cuts).unwrap(),
                take_in(input.as_bytes(), &[]).unwrap()
            );
        }

        #[test]
        fn what_comes_out_can_go_on_the_wire_and_comes_in_the_same_again(
            input in proptest::collection::vec(prop_oneof![
                any::<u8>(),
                proptest::sample::select(b"\r\n\0: .aF\xc3\xa4".to_vec()),
            ], 0..3000),
        ) {
            let (header, body) = take_in(&input, &[]).unwrap();
            for part in [&header, &body] {
                let lines: Vec<&[u8]> = part.split(|&octet| octet == b'\n').collect();
                let (last, lines) = lines.split_last().unwrap();
                prop_assert!(last.is_empty());
                for line in lines {
                    let line = line.strip_suffix(b"\r").unwrap();
                    prop_assert!(line.len() <= MAX_LINE_OCTETS);
                    prop_assert!(!line.iter().any(|octet| matches!(octet, b'\r' | 0)));
                }
            }
            let again = [&header[..], b"\r\n", &body[..]].concat();
            // A field that looks like a mailbox's line does not come first in a header.
            prop_assert_eq!(take_in(&again, &[]).unwrap(), (header, body));
        }
    }
}
