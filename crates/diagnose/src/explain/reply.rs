//! SMTP replies in a text: of one line or several, as servers send them and as Postfix, Exim,
//! bounces, Python, `PHPMailer` and nodemailer write them down.
//!
//! Logs put the lines of a reply behind each other, each with its code still before it, and wrap
//! them anew: `550-5.7.26 This mail … has 550-5.7.26 been blocked 550 5.7.26 more`. Such a
//! further code belongs to the reply that it stands in.

use std::ops::Range;

use super::{Finding, Kind, Text, enhanced_status, is_word, smtp};
use crate::meaning::Subject;

/// As many replies are read.
const MAX_REPLIES: usize = 256;

/// As much of a reply is read.
const MAX_REPLY_OCTETS: usize = 2048;

/// Codes of class 4 and 5 that the registry or a server in use has (RFC 5321 §4.2.3 and its
/// extensions). Another number is a reply only if an enhanced status follows.
#[rustfmt::skip]
const CODES: &[u16] = &[
    421, 422, 432, 441, 442, 446, 447, 449, 450, 451, 452, 453, 454, 455, 458, 459, 471, 500, 501,
    502, 503, 504, 510, 511, 512, 513, 515, 517, 521, 523, 525, 530, 531, 533, 534, 535, 538, 541,
    543, 544, 550, 551, 552, 553, 554, 555, 556, 557, 571,
];

/// What a word before a code ends with, if the code is one.
const BEFORE: &[&str] = &[
    "said",
    "error",
    "code",
    "reply",
    "response",
    "responded",
    "returned",
    "replied",
    "got",
    "smtp",
    "status",
    "rejected",
    "with",
    "message",
    "failed",
];

/// What programs write after a reply.
const AFTER: &[&str] = &[
    "(in reply to",
    "(require:",
    "SMTP code:",
    "Additional SMTP info:",
];

/// A line of a reply.
struct Line {
    /// From the code to the end of the text.
    span: Range<usize>,
    code: u16,
    enhanced: Option<String>,
    /// Where the text begins.
    text: usize,
    /// Whether a further line of the same reply is announced.
    goes_on: bool,
}

/// Takes every reply.
pub(super) fn find(text: &mut Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let lines = lines(&text.left);
    let mut replies: Vec<(Range<usize>, u16, Option<String>, String)> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let said = text.left[line.text..line.span.end].trim_end();
        match replies.last_mut() {
            Some((span, code, enhanced, words))
                if goes_on && *code == line.code && line.span.start - span.end < 64 =>
            {
                span.end = line.span.end;
                if enhanced.is_none() {
                    *enhanced = line.enhanced;
                }
                if words.len() < MAX_REPLY_OCTETS {
                    words.push(' ');
                    words.push_str(said);
                }
            }
            _ => replies.push((line.span, line.code, line.enhanced, said.to_owned())),
        }
        goes_on = line.goes_on;
    }
    let said_more: Vec<u16> = replies
        .iter()
        .filter(|(.., enhanced, words)| enhanced.is_some() || !words.is_empty())
        .map(|(_, code, ..)| *code)
        .collect();
    for (span, code, enhanced, words) in replies {
        let bare = enhanced.is_none() && words.is_empty();
        if !(bare && said_more.contains(&code)) {
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            let diagnosis = smtp(code, enhanced.as_deref(), &words, subject);
            found.push(Finding::new(Kind::Smtp, text, span.clone(), diagnosis));
        }
        text.take(span);
    }
}

/// Every line of a reply, in order; none overlaps another.
fn lines(text: &str) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    for (start, _) in text.match_indices(['4', '5']) {
        if found.len() == MAX_REPLIES {
            break;
        }
        let open = found.last().filter(|line| line.goes_on);
        let Some(line) = line(text, start, open.map(|line| line.code)) else {
            continue;
        };
        if let Some(last) = found.last_mut() {
            if line.span.start < last.text {
                continue;
            }
            last.span.end = last.span.end.min(line.span.start);
        }
        found.push(line);
    }
    found
}

/// The line of a reply that begins at `start`; within a reply of code `open`, its code alone
/// makes a line.
fn line(text: &str, start: usize, open: Option<u16>) -> Option<Line> {
    let octets = text.as_bytes();
    let code: u16 = text.get(start..start + 3)?.parse().ok()?;
    let before = start.checked_sub(1).map(|at| octets[at]);
    let after = octets.get(start + 3).copied();
    let joined = |octet: u8| is_word(octet) || octet == b'.';
    let decimal = after == Some(b'.') && octets.get(start + 4).is_some_and(u8::is_ascii_digit);
    if before.is_some_and(|octet| joined(octet) || octet == b'-')
        || after.is_some_and(|octet| is_word(octet) || matches!(octet, b']' | b'/' | b'%'))
        || decimal
        || text[..start].ends_with("HTTP/")
    {
        return None;
    }
    let rest = &text[start + 3..];
    let goes_on = rest.starts_with('-');
    let mut said = rest.trim_start_matches([' ', ',', '-', ':', '#', '\t']);
    let mut quote = before.filter(|octet| matches!(octet, b'"' | b'\''));
    let inner = said.strip_prefix('b').unwrap_or(said);
    if let Some(opening @ (b'"' | b'\'')) = inner.bytes().next() {
        quote = Some(opening);
        said = &inner[1..];
    }
    // A status may have been wrapped to the next line; text that follows there has not.
    let enhanced = enhanced_status(said.trim_start())
        .filter(|status| status.starts_with(char::from(octets[start])));
    let known = CODES.contains(&code) && (open == Some(code) || is_introduced(&text[..start]));
    if enhanced.is_none() && !known {
        return None;
    }
    if let Some(status) = enhanced {
        said = &said.trim_start()[status.len()..];
    }
    let begin = text.len() - said.len();
    let mut end = begin + text_end(said, goes_on, enhanced.is_some());
    if let Some(quote) = quote {
        end = begin + closing(&text[begin..end], quote);
    }
    let trimmed = without_tail(&text[begin..end]);
    Some(Line {
        span: start..begin + trimmed.len(),
        code,
        enhanced: enhanced.map(str::to_owned),
        text: begin,
        goes_on,
    })
}

/// Whether what stands before a code lets it be one: the beginning of a line, a sign that opens
/// something, or a word such as "said".
fn is_introduced(before: &str) -> bool {
    let near = &before[before.ceil_char_boundary(before.len().saturating_sub(64))..];
    let line = near.rsplit('\n').next().unwrap_or(near).trim_end();
    let word = line
        .rsplit(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    line.is_empty()
        || line.ends_with([':', ';', '(', '[', '"', '\'', '=', '>', ']', '|', '`', '*'])
        || BEFORE.contains(&word.to_ascii_lowercase().as_str())
}

/// How far the text of a reply reaches: to the end of its line and the lines that are folded
/// into it, and not into what a log says after it.
fn text_end(text: &str, goes_on: bool, has_status: bool) -> usize {
    if text.starts_with('\n') && !has_status {
        return 0;
    }
    let limit = text.floor_char_boundary(MAX_REPLY_OCTETS);
    let mut end = 0;
    for (index, line) in text[..limit].split_inclusive('\n').enumerate() {
        let words = line.trim();
        let folded = line.starts_with([' ', '\t', '>']) || goes_on;
        if index > 0 && (words.is_empty() || words.starts_with("at ") || !folded) {
            break;
        }
        if let Some(at) = AFTER.iter().filter_map(|mark| line.find(mark)).min() {
            return end + at;
        }
        end += line.len();
    }
    end
}

/// Where the quotation that `text` is in ends: at a quote that no word follows.
fn closing(text: &str, quote: u8) -> usize {
    let octets = text.as_bytes();
    let ends =
        |at: &usize| octets[*at] == quote && !octets.get(at + 1).copied().is_some_and(is_word);
    (0..octets.len()).find(ends).unwrap_or(octets.len())
}

/// `text` without the quotes, commas and closing brackets of what it was written into.
fn without_tail(mut text: &str) -> &str {
    loop {
        text = text.trim_end_matches([' ', '\n', '\'', '"', ',']);
        let closes_more = |opening, closing| {
            text.ends_with(closing) && text.matches(opening).count() < text.matches(closing).count()
        };
        let pairs = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>')];
        if !pairs
            .iter()
            .any(|&(opening, closing)| closes_more(opening, closing))
        {
            return text;
        }
        text = &text[..text.len() - 1];
    }
}
