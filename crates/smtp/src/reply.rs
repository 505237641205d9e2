//! What the server answers (RFC 5321 §4.2), read from octets cut anywhere.
//!
//! The parser keeps every line of a multiline reply, refuses what is not a reply, and holds
//! no more than its bounds: a server cannot make it grow. Control characters become spaces,
//! so a reply may be printed. Own code rather than `smtp-proto`'s receiver, which cuts a reply
//! at 4,096 octets (Exchange's diagnostics come near), joins lines of different codes and
//! takes any three digits; a property test holds the two to the same answers elsewhere.

use std::fmt;

/// RFC 5321 §4.5.3.1.5 allows 512 octets; Exchange's diagnostics are several times that.
const MAX_LINE_OCTETS: usize = 16 * 1024;
const MAX_REPLY_OCTETS: usize = 64 * 1024;
const MAX_LINES: usize = 512;
/// How much of a reply's text an error shows.
const DISPLAY_CHARS: usize = 400;

/// One complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits, 200 to 599.
    pub code: u16,
    /// The RFC 3463 status, where the text begins with one of the code's class.
    pub enhanced: Option<EnhancedStatus>,
    /// The text of each line, without the code and without the enhanced status.
    pub lines: Vec<String>,
}

/// What a reply's first digit asks of the client (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 2xx: done.
    Done,
    /// 3xx: go on.
    Continue,
    /// 4xx: not now.
    Transient,
    /// 5xx: not like this.
    Permanent,
}

/// `class.subject.detail` (RFC 3463 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it concerns: addressing, mailbox, system, security…
    pub subject: u16,
    /// Which of it.
    pub detail: u16,
}

impl Reply {
    /// The lines joined by one space.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// What the first digit asks of the client.
    pub fn class(&self) -> Class {
        match self.code / 100 {
            2 => Class::Done,
            3 => Class::Continue,
            4 => Class::Transient,
            _ => Class::Permanent,
        }
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.class() == Class::Done
    }
}

/// One line, its text shortened to a few hundred characters.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.enhanced {
            write!(f, " {status}")?;
        }
        let text = self.text();
        if text.is_empty() {
            return Ok(());
        }
        let mut shown = text.chars();
        f.write_str(" ")?;
        for c in shown.by_ref().take(DISPLAY_CHARS) {
            fmt::Write::write_char(f, c)?;
        }
        if shown.next().is_some() {
            f.write_str("…")
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Why some octets are not a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A line does not begin with a code and a separator.
    Malformed,
    /// The lines of one reply carry different codes.
    CodeChanged,
    /// Longer than any reply the parser is willing to hold.
    TooLong,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the server sent a line that is no SMTP reply",
            Self::CodeChanged => "the server sent a reply whose lines have different codes",
            Self::TooLong => "the server sent a reply longer than 64 KiB",
        })
    }
}

impl std::error::Error for ReplyError {}

/// Collects octets and gives back replies.
///
/// After an error the parser is of no further use: what follows cannot be told apart.
#[derive(Debug, Default)]
pub struct ReplyParser {
    buffer: Vec<u8>,
    /// Octets of `buffer` already known to hold no line end.
    searched: usize,
    /// The lines of the reply in progress.
    code: u16,
    lines: Vec<String>,
    octets: usize,
}

impl ReplyParser {
    /// Takes octets as they come from the connection.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next complete reply, if all of it has arrived.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.next_line()? {
            self.octets += line.len();
            if self.octets > MAX_REPLY_OCTETS || self.lines.len() == MAX_LINES {
                return Err(ReplyError::TooLong);
            }
            let (code, last, text) = split_line(&line)?;
            if self.lines.is_empty() {
                self.code = code;
            } else if self.code != code {
                return Err(ReplyError::CodeChanged);
            }
            self.lines.push(text);
            if last {
                self.octets = 0;
                return Ok(Some(finish(self.code, std::mem::take(&mut self.lines))));
            }
        }
        Ok(None)
    }

    /// Whether no octet waits to be understood: the state in which a session may be reused,
    /// or handed over to TLS.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.lines.is_empty()
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, ReplyError> {
        let Some(found) = self.buffer[self.searched..]
            .iter()
            .position(|&octet| octet == b'\n')
        else {
            self.searched = self.buffer.len();
            return if self.searched > MAX_LINE_OCTETS {
                Err(ReplyError::TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + found;
        self.searched = 0;
        if end > MAX_LINE_OCTETS {
            return Err(ReplyError::TooLong);
        }
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        // A bare LF ends a line too: some devices send nothing else, and no meaning hangs on it.
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

fn split_line(line: &[u8]) -> Result<(u16, bool, String), ReplyError> {
    let Some((digits, rest)) = line.split_at_checked(3) else {
        return Err(ReplyError::Malformed);
    };
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ReplyError::Malformed);
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let (last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return Err(ReplyError::Malformed),
    };
    let text = String::from_utf8_lossy(text);
    Ok((
        code,
        last,
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect(),
    ))
}

fn finish(code: u16, mut lines: Vec<String>) -> Reply {
    let enhanced = lines
        .first()
        .and_then(|line| enhanced_status(code, line))
        .map(|(status, _)| status);
    if let Some(status) = enhanced {
        // Servers repeat the status on each line of a multiline reply (RFC 2034 §4).
        for line in &mut lines {
            if let Some((same, rest)) = enhanced_status(code, line)
                && same == status
            {
                *line = rest.to_owned();
            }
        }
    }
    Reply {
        code,
        enhanced,
        lines,
    }
}

fn enhanced_status(code: u16, text: &str) -> Option<(EnhancedStatus, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut numbers = word.split('.').map(|number| {
        let short = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        short.then(|| number.parse::<u16>().ok()).flatten()
    });
    let (class, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if numbers.next().is_some() || class != code / 100 || class == 3 {
        return None;
    }
    let class = u8::try_from(class).ok()?;
    Some((
        EnhancedStatus {
            class,
            subject,
            detail,
        },
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(octets: &[u8]) -> Result<Vec<Reply>, ReplyError> {
        let mut parser = ReplyParser::default();
        parser.push(octets);
        let mut replies = Vec::new();
        while let Some(reply) = parser.next_reply()? {
            replies.push(reply);
        }
        Ok(replies)
    }

    fn one(text: &str) -> Reply {
        parse(text.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn every_line_of_a_multiline_reply_is_kept() {
        let reply = one("550-5.7.1 first\r\n550-5.7.1 second\r\n550 5.7.1 third\r\n");
        assert_eq!(
            reply.enhanced,
            Some(EnhancedStatus {
                class: 5,
                subject: 7,
                detail: 1
            })
        );
        assert_eq!(reply.lines, ["first", "second", "third"]);
        assert_eq!(reply.to_string(), "550 5.7.1 first second third");
    }

    #[test]
    fn an_enhanced_status_of_another_class_is_text() {
        let reply = one("250 5.7.1 odd\r\n");
        assert_eq!((reply.enhanced, reply.text().as_str()), (None, "5.7.1 odd"));
        assert_eq!(one("250 1.2\r\n").text(), "1.2");
        assert_eq!(one("421 4.7.66\r\n").enhanced.unwrap().detail, 66);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bad in [
            "hello\r\n",
            "12\r\n",
            "\r\n",
            "650 x\r\n",
            "150 x\r\n",
            "2x0 y\r\n",
            "250_x\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(ReplyError::Malformed), "{bad:?}");
        }
        assert_eq!(parse(b"250-a\r\n251 b\r\n"), Err(ReplyError::CodeChanged));
    }

    #[test]
    fn a_reply_cannot_grow_without_end() {
        assert_eq!(
            parse("2".repeat(20_000).as_bytes()),
            Err(ReplyError::TooLong)
        );
        assert_eq!(
            parse("250-x\r\n".repeat(600).as_bytes()),
            Err(ReplyError::TooLong)
        );
        let line = format!("250-{}\r\n", "x".repeat(1_000));
        assert_eq!(parse(line.repeat(80).as_bytes()), Err(ReplyError::TooLong));
        // Exchange's longest are far below.
        let line = format!("554 5.2.252 SendAsDenied; {}\r\n", "x".repeat(8_000));
        assert!(parse(line.as_bytes()).is_ok());
    }

    #[test]
    fn control_characters_do_not_survive() {
        assert_eq!(one("250 a\x1b[31mb\0c\r\n").text(), "a [31mb c");
    }

    fn reply_text() -> impl Strategy<Value = String> {
        let line = "[ -~]{0,40}";
        (200u16..600, proptest::collection::vec(line, 1..5)).prop_map(|(code, lines)| {
            let last = lines.len() - 1;
            lines
                .iter()
                .enumerate()
                .fold(String::new(), |text, (i, line)| {
                    text + &format!("{code}{}{line}\r\n", if i == last { ' ' } else { '-' })
                })
        })
    }

    proptest! {
        #[test]
        fn a_reply_cut_anywhere_parses_alike(first in reply_text(), second in reply_text()) {
            let all = format!("{first}{second}");
            let whole = parse(all.as_bytes()).unwrap();
            prop_assert_eq!(whole.len(), 2);
            for cut in 0..=all.len() {
                let mut parser = ReplyParser::default();
                let mut replies = Vec::new();
                for piece in [&all[..cut], &all[cut..]] {
                    parser.push(piece.as_bytes());
                    while let Some(reply) = parser.next_reply().unwrap() {
                        replies.push(reply);
                    }
                }
                prop_assert!(parser.is_empty());
                prop_assert_eq!(&replies, &whole);
            }
        }

        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&octets);
        }

        #[test]
        fn smtp_proto_reads_the_same_code_and_text(text in reply_text()) {
            let ours = parse(text.as_bytes()).unwrap().remove(0);
            let theirs = smtp_proto::response::parser::ResponseReceiver::default()
                .parse(&mut text.as_bytes().iter());
            // It takes a status of any class, and keeps the CR of a line with few characters.
            if let Ok(theirs) = theirs && !text.contains('.') {
                prop_assert_eq!(ours.code, theirs.code);
                prop_assert_eq!(ours.lines.join("\n"), theirs.message.replace('\r', ""));
            }
        }
    }
}
