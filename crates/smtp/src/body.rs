//! The octets of a message: in memory or read piece by piece, and the check that they may go on
//! the wire as they are.
//!
//! Lines end in CRLF and are at most 998 octets, no NUL. The check holds a few numbers however
//! long the message is, so it runs beside whatever stores it.

use std::{fmt, io, sync::Arc};

use futures_util::future::BoxFuture;

use crate::InvalidOutgoing;

/// RFC 5322 §2.1.1, without the CRLF.
pub(crate) const MAX_LINE_OCTETS: usize = 998;

/// A message that is somewhere else than in memory, and stays as it is while it is sent.
pub trait BodySource: Send + Sync {
    /// How many octets it has.
    fn len(&self) -> u64;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads octets from this place on, at least one unless it is the end; says how many.
    /// Must not wait for anything that waits for the server.
    fn read_at<'a>(&'a self, offset: u64, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>>;
}

/// Where a message's octets are.
#[derive(Clone)]
pub(crate) enum Body {
    Memory(Arc<[u8]>),
    /// With the length it had when it was checked.
    Streamed(Arc<dyn BodySource>, u64),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::Streamed(_, octets) => *octets,
        }
    }

    /// Appends these octets of it, all or none.
    pub(crate) async fn append(
        &self,
        offset: u64,
        octets: u64,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        match self {
            Self::Memory(all) => out.extend_from_slice(slice(all, offset, octets)?),
            Self::Streamed(source, _) => {
                let end = out.len();
                out.resize(end + size(octets)?, 0);
                let result = read(source.as_ref(), offset, &mut out[end..]).await;
                if result.is_err() {
                    // What was not read must not leave in its place.
                    out.truncate(end);
                }
                result?;
            }
        }
        Ok(())
    }

    /// These octets of it, where they are or in `scratch`.
    pub(crate) async fn piece<'a>(
        &'a self,
        offset: u64,
        octets: u64,
        scratch: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        match self {
            Self::Memory(all) => slice(all, offset, octets),
            Self::Streamed(source, _) => {
                scratch.resize(size(octets)?, 0);
                read(source.as_ref(), offset, scratch).await?;
                Ok(scratch)
            }
        }
    }
}

fn size(octets: u64) -> io::Result<usize> {
    usize::try_from(octets).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn slice(all: &[u8], offset: u64, octets: u64) -> io::Result<&[u8]> {
    let (start, octets) = (size(offset)?, size(octets)?);
    all.get(start..)
        .and_then(|rest| rest.get(..octets))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn read(source: &dyn BodySource, offset: u64, mut into: &mut [u8]) -> io::Result<()> {
    let mut at = offset;
    while !into.is_empty() {
        let octets = source.read_at(at, into).await?;
        if octets == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the message has no more than {at} octets"),
            ));
        }
        at += octets as u64;
        into = into.get_mut(octets..).unwrap_or_default();
    }
    Ok(())
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len())
    }
}

/// What a message needs of a server, seen in its octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// How many.
    pub octets: u64,
    /// The header has octets beyond ASCII: `SMTPUTF8`.
    pub non_ascii_header: bool,
    /// What follows the header has: `8BITMIME`.
    pub eight_bit: bool,
    /// The last line has no CRLF yet: whoever keeps the message adds it.
    pub unended: bool,
}

/// Checks a message as its octets come, cut anywhere.
///
/// After an error it is of no further use.
#[derive(Clone, Debug, Default)]
pub struct BodyChecker {
    facts: BodyFacts,
    /// Lines that have ended.
    lines: usize,
    /// Octets of the line so far, without a CR that may end it.
    in_line: usize,
    after_cr: bool,
    in_body: bool,
}

impl BodyChecker {
    /// Takes the next octets.
    ///
    /// # Errors
    ///
    /// Names the line that may not go on the wire.
    pub fn push(&mut self, octets: &[u8]) -> Result<(), InvalidOutgoing> {
        for &octet in octets {
            if self.after_cr && octet != b'\n' {
                return Err(InvalidOutgoing::BareCr { line: self.line() });
            }
            match octet {
                b'\n' if !self.after_cr => {
                    return Err(InvalidOutgoing::BareLf { line: self.line() });
                }
                b'\n' => self.end_line()?,
                b'\r' => self.after_cr = true,
                0 => return Err(InvalidOutgoing::Nul { line: self.line() }),
                _ => {
                    self.in_line += 1;
                    if !octet.is_ascii() {
                        *if self.in_body {
                            &mut self.facts.eight_bit
                        } else {
                            &mut self.facts.non_ascii_header
                        } = true;
                    }
                }
            }
        }
        self.facts.octets += octets.len() as u64;
        Ok(())
    }

    /// What the message needs, once all of it was taken.
    ///
    /// # Errors
    ///
    /// Those of a last line that has no end.
    pub fn finish(mut self) -> Result<BodyFacts, InvalidOutgoing> {
        if self.after_cr {
            return Err(InvalidOutgoing::BareCr { line: self.line() });
        }
        self.facts.unended = self.in_line > 0;
        self.check_length()?;
        Ok(self.facts)
    }

    fn line(&self) -> usize {
        self.lines + 1
    }

    fn end_line(&mut self) -> Result<(), InvalidOutgoing> {
        self.check_length()?;
        self.in_body |= self.in_line == 0;
        self.lines += 1;
        (self.in_line, self.after_cr) = (0, false);
        Ok(())
    }

    fn check_length(&self) -> Result<(), InvalidOutgoing> {
        if self.in_line > MAX_LINE_OCTETS {
            return Err(InvalidOutgoing::LongLine {
                line: self.line(),
                octets: self.in_line,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pieces: &[&[u8]]) -> Result<BodyFacts, InvalidOutgoing> {
        let mut checker = BodyChecker::default();
        pieces.iter().try_for_each(|piece| checker.push(piece))?;
        checker.finish()
    }

    #[test]
    fn header_and_body_are_told_apart() {
        let facts = |message: &str| {
            let facts = check(&[message.as_bytes()]).unwrap();
            (facts.non_ascii_header, facts.eight_bit)
        };
        assert_eq!(facts("a: b\r\n\r\nplain\r\n"), (false, false));
        assert_eq!(facts("a: ü\r\n\r\nplain\r\n"), (true, false));
        assert_eq!(facts("a: b\r\n\r\nü\r\n\r\nü"), (false, true));
        assert_eq!(facts("\r\nü"), (false, true), "no header at all");
        assert_eq!(facts("a: ü"), (true, false), "no body at all");
    }

    #[test]
    fn an_endless_line_is_measured_not_kept() {
        let mut checker = BodyChecker::default();
        for _ in 0..1000 {
            checker.push(&[b'x'; 4096]).unwrap();
        }
        assert_eq!(
            checker.finish().unwrap_err(),
            InvalidOutgoing::LongLine {
                line: 1,
                octets: 4_096_000
            }
        );
    }

    proptest! {
        #[test]
        fn the_answer_is_the_same_however_the_octets_are_cut(
            words in proptest::collection::vec(
                prop_oneof![
                    Just("\r\n".to_owned()), Just("\r\n\r\n".to_owned()), Just("x".repeat(499)),
                    "[a.:ü ]{1,3}", Just("\r".to_owned()), Just("\n".to_owned()),
                    Just("\0".to_owned()),
                ],
                0..12,
            ),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let message = words.concat().into_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &message[cut[0]..cut[1]]).collect();

            prop_assert_eq!(check(&pieces), check(&[&message]));
        }

        /// Said line by line, with all of the message at hand.
        #[test]
        fn it_finds_what_a_look_at_whole_lines_finds(
            lines in proptest::collection::vec("[a.ü\r\0]{0,3}", 0..6), end in "(\r\n|\n|)",
        ) {
            let message = lines.join("\r\n") + &end;
            let whole = message.split_inclusive('\n').all(|line| {
                let text = line.strip_suffix("\r\n").unwrap_or(line);
                !text.contains(['\r', '\n', '\0'])
            });
            prop_assert_eq!(check(&[message.as_bytes()]).is_ok(), whole);
        }
    }
}
