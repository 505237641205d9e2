//! A pasted text explained: every refusal that is in it, in the order it stands there.
//!
//! The text may be a reply, an error body, a log line or a whole bounce. It is material to read,
//! never to trust: what is looked at, found and shown is bounded, and nothing of it is shown
//! with control characters or with what looks like a secret.

mod body;
mod phrase;
mod reply;
mod shown;

use std::ops::Range;

use serde::Serialize;

use crate::catalogue::CATALOGUE;
use crate::meaning::{Diagnosis, Subject, Verdict, Who};
use crate::{oauth, smtp, unknown};

/// As much of a text is read.
const MAX_TEXT_OCTETS: usize = 64 * 1024;

/// As many refusals are told.
const MAX_FOUND: usize = 16;

/// Foreign text, fit to be shown: at most 500 characters on one line, control characters escaped,
/// and what looks like a secret masked.
pub fn shown(text: &str) -> String {
    shown::line(text)
}

/// A refusal found in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What kind of refusal it is.
    pub kind: Kind,
    /// As it stands in the text: at most 500 characters on one line, control characters escaped,
    /// secrets masked.
    pub original: String,
    /// What it means; `known` in it is false where nothing but its class is known.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
}

/// What a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A reply of a mail server.
    Smtp,
    /// An error of a token or authorization endpoint.
    Oauth,
    /// An error of Microsoft Graph.
    Graph,
    /// Trouble with DNS, TCP or TLS.
    Network,
    /// A code of Postrider's own.
    Postrider,
    /// Nothing in the text was recognised.
    Unknown,
}

/// Every refusal in `text`, of which the first 64 KiB are read; at most 16, at least one, whose
/// kind is [`Kind::Unknown`] if there is none that is recognised.
pub fn explain(text: &str, subject: Subject<'_>) -> Vec<Explained> {
    let mut text = Text::new(text);
    let mut found = Vec::new();
    body::find(&mut text, subject, &mut found);
    text.unescape();
    body::challenges(&mut text, subject, &mut found);
    reply::find(&mut text, subject, &mut found);
    phrase::aadsts(&mut text, subject, &mut found);
    phrase::errors(&mut text, subject, &mut found);
    phrase::statuses(&text, subject, &mut found);
    phrase::replies(&mut text, subject, &mut found);
    phrase::network(&text, subject, &mut found);
    phrase::codes(&text, subject, &mut found);
    found.sort_by_key(|finding| finding.at);
    let mut explained: Vec<Explained> = Vec::new();
    for Finding { told, .. } in found {
        let same = |other: &Explained| {
            (&other.diagnosis.code, &other.diagnosis.cause)
                == (&told.diagnosis.code, &told.diagnosis.cause)
                && (told.diagnosis.known || other.original == told.original)
        };
        if explained.len() < MAX_FOUND && !explained.iter().any(same) {
            explained.push(told);
        }
    }
    if explained.is_empty() {
        explained.push(nothing(&text));
    }
    explained
}

/// What is said of a text that holds nothing known.
fn nothing(text: &Text) -> Explained {
    Explained {
        kind: Kind::Unknown,
        original: shown::line(&text.original),
        diagnosis: Diagnosis {
            remedy: "look for the server's own words: a reply such as \"550 5.7.1 …\", an \
                     AADSTS code, or an error body, and give that"
                .to_owned(),
            who: Who::You,
            verdict: Verdict::Permanent,
            ..unknown(
                "explain.unknown",
                "nothing in this text is a refusal that the catalogue knows",
                "no source",
            )
        },
    }
}

/// A refusal, with the place it begins at.
struct Finding {
    at: usize,
    told: Explained,
}

impl Finding {
    fn new(kind: Kind, text: &Text, span: Range<usize>, diagnosis: Diagnosis) -> Self {
        Self {
            at: span.start,
            told: Explained {
                kind,
                original: shown::line(&text.original[span]),
                diagnosis,
            },
        }
    }
}

/// A text while it is read: what was recognised is blanked out, octet for octet, so that places
/// stay the same and nothing is recognised twice.
struct Text {
    /// As it was given, cut.
    original: String,
    /// What is left of it.
    left: String,
}

impl Text {
    fn new(text: &str) -> Self {
        let original = text[..text.floor_char_boundary(MAX_TEXT_OCTETS)].to_owned();
        let left = original.clone();
        Self { original, left }
    }

    /// Line ends as logs and error objects escape them become line ends.
    fn unescape(&mut self) {
        self.left = self
            .left
            .replace("\\r", "  ")
            .replace("\\n", " \n")
            .replace('\r', " ");
    }

    /// `span` was recognised.
    fn take(&mut self, span: Range<usize>) {
        let blank: String = self.left[span.clone()]
            .bytes()
            .map(|octet| if octet == b'\n' { '\n' } else { ' ' })
            .collect();
        self.left.replace_range(span, &blank);
    }

    /// What is left, in lower case and with places unchanged.
    fn lower(&self) -> String {
        self.left.to_ascii_lowercase()
    }

    /// The line that `at` is in.
    fn line_of(&self, at: usize) -> Range<usize> {
        let start = self.left[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = self.left[at..]
            .find('\n')
            .map_or(self.left.len(), |end| at + end);
        start..end
    }
}

/// Whether `octet` may be part of a word or number.
fn is_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_'
}

/// The words of a text, with their places: letters, digits, underscores, and what `also` adds.
fn words<'t>(
    text: &'t str,
    also: &'static [char],
) -> impl Iterator<Item = (Range<usize>, &'t str)> {
    let between = |c: char| !c.is_ascii_alphanumeric() && c != '_' && !also.contains(&c);
    let mut start = 0;
    text.split_inclusive(between).filter_map(move |piece| {
        let at = start;
        start += piece.len();
        let word = piece.trim_end_matches(between);
        (!word.is_empty()).then_some((at..at + word.len(), word))
    })
}

/// `5.7.139` at the beginning of `text`.
fn enhanced_status(text: &str) -> Option<&str> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let status = text[..end].trim_end_matches('.');
    let mut numbers = status.split('.');
    let class = matches!(numbers.next(), Some("4" | "5"));
    let rest: Vec<&str> = numbers.collect();
    let short = |number: &&str| matches!(number.len(), 1..=3);
    (class && rest.len() == 2 && rest.iter().all(short)).then_some(status)
}
