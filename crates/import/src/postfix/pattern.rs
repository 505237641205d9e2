//! `regexp:` and `pcre:` tables, as far as a pattern means one address, one domain, one server,
//! or everything. Others are not guessed at: they are said.

use zeroize::Zeroizing;

use super::main_cf::logical_lines;
use super::table::Row;
use crate::left::{NotCarried, Place};

/// A line `/text/flags result`.
pub(crate) struct Pattern {
    pub(crate) text: String,
    /// More than letters of either case.
    has_flags: bool,
    /// `!/pattern/`, or between `if` and `endif`.
    is_conditional: bool,
    pub(crate) result: Zeroizing<String>,
    pub(crate) place: Place,
}

/// What a pattern stands for, where that is clear.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Everything,
    One(String),
}

/// The lines of a table of patterns.
pub(crate) fn patterns(file: &str, text: &str) -> Vec<Pattern> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    for line in logical_lines(text) {
        let whole = line.text.as_str();
        let word = whole.split(|c: char| !c.is_ascii_alphabetic()).next();
        match word.unwrap_or_default() {
            "if" => depth += 1,
            "endif" => depth = depth.saturating_sub(1),
            _ => {
                let plain = whole.trim_start_matches('!');
                let Some((text, rest)) = delimited(plain) else {
                    continue;
                };
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (flags, result) = rest.split_at(end);
                found.push(Pattern {
                    text: text.to_owned(),
                    has_flags: !matches!(flags, "" | "i"),
                    is_conditional: depth > 0 || plain.len() < whole.len(),
                    result: Zeroizing::new(result.trim().to_owned()),
                    place: Place::line(file, line.line),
                });
            }
        }
    }
    found
}

/// The rows of a table of patterns, up to one that takes everything.
pub(crate) fn rows(file: &str, text: &str, left: &mut Vec<NotCarried>) -> Vec<Row> {
    let mut rows = Vec::new();
    for one in patterns(file, text) {
        let Some(meaning) = one.meaning() else {
            left.push(
                NotCarried::new(
                    one.place,
                    "a pattern",
                    "it does not stand for one address, domain or server, or for everything",
                )
                .instead("add by hand what it is for: postrider setup"),
            );
            continue;
        };
        let key = match meaning {
            Meaning::Everything => None,
            Meaning::One(key) => Some(key),
        };
        let is_last = key.is_none();
        rows.push(Row {
            key,
            value: one.result,
            place: one.place,
        });
        if is_last {
            break;
        }
    }
    rows
}

impl Pattern {
    /// Nothing but its text decides, and nothing of what it matched is in its result.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has_flags && !self.is_conditional && !self.result.contains('$')
    }

    fn meaning(&self) -> Option<Meaning> {
        if !self.is_plain() {
            return None;
        }
        if takes_everything(&self.text) {
            return Some(Meaning::Everything);
        }
        let text = self.text.strip_suffix('$')?;
        let anything = ["^.*", "^.+", "^(.*)", "^(.+)", ".*", ".+", ""];
        let domain = anything
            .iter()
            .filter_map(|start| text.strip_prefix(start))
            .find(|rest| rest.starts_with('@'));
        let one = match domain {
            Some(domain) => literal(domain),
            None => literal(text.strip_prefix('^')?),
        };
        one.map(Meaning::One)
    }
}

/// The text between two of the sign that `text` begins with, and what comes behind it.
fn delimited(text: &str) -> Option<(&str, &str)> {
    let sign = text.chars().next().filter(char::is_ascii_punctuation)?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == sign => return Some((&text[1..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn takes_everything(pattern: &str) -> bool {
    let vague = |c: char| matches!(c, '^' | '$' | '.' | '*' | '+' | '(' | ')' | '@');
    matches!(pattern, "." | "^" | "@")
        || pattern.chars().all(vague) && (pattern.contains(".*") || pattern.contains(".+"))
}

/// The one text that a pattern without its anchors matches. A dot between letters or digits is
/// meant as one, though it stands for any sign.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        let means_itself = |c: char| c.is_ascii_alphanumeric() || "@_-:=,".contains(c);
        match c {
            '\\' => text.push(rest.next().filter(|c| !c.is_ascii_alphanumeric())?),
            '.' => {
                let before = text.chars().next_back();
                let around = [before, rest.peek().copied()];
                let in_a_name = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                if !around.into_iter().all(in_a_name) {
                    return None;
                }
                text.push('.');
            }
            c if means_itself(c) => text.push(c),
            _ => return None,
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(line: &str) -> Option<Meaning> {
        let found = patterns("f", line);
        assert_eq!(found.len(), 1, "{line}");
        found[0].meaning()
    }

    #[test]
    fn a_pattern_that_means_one_thing_is_that_thing() {
        for everything in [
            "/.+/ a@contoso.com",
            "/^.*$/i a@contoso.com",
            "/^/ x",
            "/./ x",
            "/^(.*@)(.*)$/ a@contoso.com",
            "|.*@.*| x",
        ] {
            assert_eq!(
                meaning(everything),
                Some(Meaning::Everything),
                "{everything}"
            );
        }
        for (line, meant) in [
            (r"/^sales@contoso\.com$/ [h]:587", "sales@contoso.com"),
            (r"/@contoso.com$/ [h]:587", "@contoso.com"),
            (r"/^.*@contoso\.com$/ [h]:587", "@contoso.com"),
            (
                r"/^\[smtp\.office365\.com\]:587$/ u:p",
                "[smtp.office365.com]:587",
            ),
        ] {
            assert_eq!(
                meaning(line),
                Some(Meaning::One(meant.to_owned())),
                "{line}"
            );
        }
    }

    #[test]
    fn a_pattern_that_could_mean_more_is_not_guessed_at() {
        for line in [
            r"/sales@contoso\.com/ x",
            r"/^(sales|info)@contoso\.com$/ x",
            r"/^root@.*$/ x",
            r"/^[a-z]@contoso\.com$/ x",
            r"/^$/ x",
            "/.+/x y",
            "/^(.*)$/ $1@contoso.com",
            "!/.+/ x",
            r"/^\d$/ x",
        ] {
            assert_eq!(meaning(line), None, "{line}");
        }
        let text = "if /a/\n/.+/ inside\nendif\nnonsense\n/^b@h$/ outside\n";
        let mut left = Vec::new();
        let found = rows("f", text, &mut left);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key.as_deref(), Some("b@h"));
        assert_eq!(left[0].place.line, Some(2));
    }

    #[test]
    fn nothing_comes_behind_a_pattern_that_takes_everything() {
        let found = rows("f", "/.+/ one\n/^b@h$/ two\n", &mut Vec::new());
        assert_eq!(found.len(), 1);
    }
}
