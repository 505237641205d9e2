//! What stands in a text without a reply code before it: AADSTS codes, words of the OAuth and
//! Graph vocabularies, enhanced statuses, and the sentences that the catalogue knows.

use super::{CATALOGUE, Finding, Kind, Text, enhanced_status, is_word, oauth, words};
use crate::catalogue::Meaning;
use crate::meaning::Subject;
use crate::{aadsts_code, about, graph, smtp};

/// As many places of one kind are looked at.
const MAX_PLACES: usize = 64;

/// Takes every `AADSTSn`, with its line; a text that is nothing but a number may be one too.
pub(super) fn aadsts(text: &mut Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let whole = text.left.trim();
    if let Ok(number) = whole.parse::<u64>()
        && (10_000..10_000_000).contains(&number)
    {
        let diagnosis = oauth("", None, Some(&format!("AADSTS{number}")), subject);
        let span = 0..text.left.len();
        found.push(Finding::new(Kind::Oauth, text, span.clone(), diagnosis));
        text.take(span);
        return;
    }
    let places: Vec<usize> = text
        .left
        .match_indices("AADSTS")
        .map(|(at, _)| at)
        .take(MAX_PLACES)
        .collect();
    for (index, &at) in places.iter().enumerate() {
        let line = text.line_of(at);
        let next = places.get(index + 1).copied().unwrap_or(usize::MAX);
        let span = at..line.end.min(next);
        let said = &text.left[span.clone()];
        if aadsts_code(said).is_none() {
            continue;
        }
        let error = words(&text.left[line.start..at], &[])
            .map(|(_, word)| word)
            .filter(|word| is_oauth_error(word))
            .last()
            .unwrap_or_default();
        let diagnosis = oauth(error, None, Some(said), subject);
        found.push(Finding::new(Kind::Oauth, text, span.clone(), diagnosis));
        text.take(line.start..span.end);
    }
}

/// Takes every word that is an error of OAuth or Graph, unless a code has said more of it.
pub(super) fn errors(text: &mut Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let told = |kind: Kind| found.iter().any(|finding| finding.told.kind == kind);
    let (oauth_told, graph_told) = (told(Kind::Oauth), told(Kind::Graph));
    let mut taken = Vec::new();
    for (span, word) in words(&text.left, &[]).take(MAX_TEXT_WORDS) {
        let (kind, diagnosis) = if is_oauth_error(word) && !oauth_told {
            let line = &text.left[text.line_of(span.start)];
            (Kind::Oauth, oauth(word, None, Some(line), subject))
        } else if is_graph_error(word) && !graph_told {
            let line = &text.left[text.line_of(span.start)];
            (Kind::Graph, graph(0, Some(word), line, subject))
        } else {
            continue;
        };
        let line = text.line_of(span.start);
        taken.push(span.clone());
        found.push(Finding::new(kind, text, span.start..line.end, diagnosis));
        if taken.len() == MAX_PLACES {
            break;
        }
    }
    for span in taken {
        text.take(span);
    }
}

/// As many words are compared with the vocabularies.
const MAX_TEXT_WORDS: usize = 16 * 1024;

/// Finds enhanced statuses without a reply: `dsn=5.1.1`, `Status: 5.1.1` of a bounce, or one
/// alone.
pub(super) fn statuses(text: &Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let any_reply = found.iter().any(|finding| finding.told.kind == Kind::Smtp);
    let octets = text.left.as_bytes();
    let mut places = 0;
    for (at, _) in text.left.match_indices(['4', '5']) {
        let Some(status) = enhanced_status(&text.left[at..]) else {
            continue;
        };
        let near = text.left.ceil_char_boundary(at.saturating_sub(64));
        let before = &text.left[near..at];
        let joined = at > 0 && (is_word(octets[at - 1]) || matches!(octets[at - 1], b'.' | b'-'));
        let line = before.rsplit('\n').next().unwrap_or_default().trim();
        let introduced = line.is_empty()
            || line.ends_with("dsn=")
            || line.ends_with('#')
            || line.to_ascii_lowercase().ends_with("status:");
        // With a reply in the text, a status says nothing more than it.
        if joined || !introduced || any_reply || places == MAX_PLACES {
            continue;
        }
        places += 1;
        let alone = line.is_empty();
        let line = text.line_of(at);
        let said = text.left[at + status.len()..line.end].trim().to_lowercase();
        // A log's or bounce's own status means what the RFC says; one that somebody asks about
        // may be any server's.
        let entry = CATALOGUE
            .smtp
            .iter()
            .find(|entry| (alone || entry.reply.is_empty()) && entry.matches_status(status, &said));
        let class = if status.starts_with('4') { 400 } else { 500 };
        let diagnosis = match entry {
            Some(entry) => entry.meaning.diagnosis(subject),
            None => smtp(class, Some(status), "", subject),
        };
        found.push(Finding::new(Kind::Smtp, text, at..line.end, diagnosis));
    }
}

/// Takes sentences that servers are known to say, where no reply holds them.
pub(super) fn replies(text: &mut Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let lower = text.lower();
    let mut taken = Vec::new();
    for entry in &CATALOGUE.smtp {
        let hit = entry.contains.iter().find_map(|phrase| phrase.find(&lower));
        if let Some(span) = hit
            && is_whole(&lower, span.start)
            && !told(found, &entry.meaning)
        {
            let line = text.line_of(span.start);
            let named = about(&text.left[line.clone()], subject);
            let diagnosis = entry.meaning.diagnosis(named);
            taken.push(span.clone());
            found.push(Finding::new(
                Kind::Smtp,
                text,
                span.start..line.end.max(span.end),
                diagnosis,
            ));
        }
    }
    for span in taken {
        text.take(span);
    }
}

/// Finds trouble with DNS, TCP and TLS, a line at a time.
pub(super) fn network(text: &Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let lower = text.lower();
    let mut start = 0;
    let mut places = 0;
    for line in lower.split_inclusive('\n') {
        let span = start..start + line.trim_end().len();
        start += line.len();
        let port = port_in(line).or_else(|| subject.port());
        let hit = CATALOGUE.network.iter().find_map(|entry| {
            let fits = |wanted: &u16| port == Some(*wanted);
            let port_fits = entry.port.is_empty() || entry.port.iter().any(fits);
            let mut phrases = entry.contains.iter().filter(|_| port_fits);
            Some((entry, phrases.find_map(|phrase| phrase.find(line))?.start))
        });
        if let Some((entry, at)) = hit
            && !told(found, &entry.meaning)
            && places < MAX_PLACES
        {
            places += 1;
            let server = match subject.server {
                "" => server_in(&text.left[span.clone()]),
                known => known,
            };
            let diagnosis = entry.meaning.diagnosis(Subject { server, ..subject });
            let at = span.start + at;
            found.push(Finding {
                at,
                ..Finding::new(Kind::Network, text, span, diagnosis)
            });
        }
    }
}

/// Finds Postrider's own codes, with all that each may mean: `code="auth.mfa"`, or one alone.
pub(super) fn codes(text: &Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    for (span, word) in words(&text.left, &['.']).take(MAX_TEXT_WORDS) {
        let meanings = CATALOGUE.by_code(word.trim_end_matches('.'));
        let meanings: Vec<_> = meanings.filter(|meaning| !told(found, meaning)).collect();
        found.extend(meanings.into_iter().map(|meaning| {
            let diagnosis = meaning.diagnosis(subject);
            Finding::new(Kind::Postrider, text, span.clone(), diagnosis)
        }));
    }
}

/// Whether a finding says the same already.
fn told(found: &[Finding], meaning: &Meaning) -> bool {
    found
        .iter()
        .any(|finding| finding.told.diagnosis.code == meaning.code)
}

/// Whether a word of the OAuth vocabulary; those without an underscore are words of any text.
fn is_oauth_error(word: &str) -> bool {
    word.contains('_')
        && CATALOGUE
            .oauth
            .iter()
            .any(|entry| entry.error.iter().any(|error| error == word))
}

fn is_graph_error(word: &str) -> bool {
    CATALOGUE
        .graph
        .iter()
        .any(|entry| entry.error.iter().any(|error| error == word))
}

/// Whether a phrase at `at` is not the tail of a longer word.
fn is_whole(lower: &str, at: usize) -> bool {
    at == 0 || !is_word(lower.as_bytes()[at - 1]) || !is_word(lower.as_bytes()[at])
}

/// A port of mail that a line names: `:587`, `port 25`.
fn port_in(line: &str) -> Option<u16> {
    [25, 465, 587, 2525].into_iter().find(|port: &u16| {
        [
            format!(":{port}"),
            format!("port {port}"),
            format!("port={port}"),
        ]
        .iter()
        .any(|named| {
            line.match_indices(named.as_str()).any(|(at, _)| {
                let after = line.as_bytes().get(at + named.len());
                after.is_none_or(|octet| !octet.is_ascii_alphanumeric())
            })
        })
    })
}

/// `host:587` or `host[192.0.2.1]:587` of a line, as far as it is plain; it is shown as part of
/// the advice.
fn server_in(line: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    line.split(|c: char| !plain(c))
        .map(|word| word.trim_end_matches([':', '.']))
        .find(|word| word.len() <= 255 && word.contains('.') && port_in(word).is_some())
        .unwrap_or_default()
}
