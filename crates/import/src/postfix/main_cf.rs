//! `main.cf` and the logical lines that all of Postfix's files are made of.

use std::collections::BTreeMap;

use crate::error::ImportError;
use crate::left::Place;

/// How deep parameters may name each other.
const DEPTH: usize = 20;
/// What one value may take of others, with what these take, in octets: one for a name and those
/// of its value.
const TAKEN_OCTETS: usize = 64 << 10;

/// A logical line: its text in one piece, and where it begins.
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Lines with those that go on with them: a line that begins with white space. Empty lines and
/// comments stand between them and end nothing.
pub(crate) fn logical_lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some(last) if raw.starts_with(char::is_whitespace) => {
                last.text.push(' ');
                last.text.push_str(trimmed);
            }
            _ => lines.push(Line {
                text: trimmed.to_owned(),
                line: index + 1,
            }),
        }
    }
    lines
}

/// The parameters of a `main.cf`.
pub(crate) struct MainCf {
    file: String,
    parameters: BTreeMap<String, Line>,
}

impl MainCf {
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, ImportError> {
        let mut parameters = BTreeMap::new();
        for Line { text, line } in logical_lines(text) {
            let place = Place::line(file, line);
            let Some((name, value)) = text.split_once('=') else {
                return Err(ImportError::malformed(
                    place,
                    "is not `parameter = value`, as main.cf has it",
                ));
            };
            let name = name.trim();
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            // What is no name is not repeated: it may be a part of a secret.
            if name.is_empty() || !name.chars().all(fits) {
                return Err(ImportError::malformed(
                    place,
                    "does not begin with a parameter's name",
                ));
            }
            let value = Line {
                text: value.trim().to_owned(),
                line,
            };
            // As in Postfix, the last one holds.
            parameters.insert(name.to_owned(), value);
        }
        Ok(Self {
            file: file.to_owned(),
            parameters,
        })
    }

    /// The names of parameters that are not empty, with the lines they stand in, in the order of
    /// the names.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (&str, Place)> {
        let filled = self.parameters.iter().filter(|(_, it)| !it.text.is_empty());
        filled.map(|(name, line)| (name.as_str(), Place::line(&self.file, line.line)))
    }

    pub(crate) fn place(&self, name: &str) -> Place {
        match self.parameters.get(name) {
            Some(line) => Place::line(&self.file, line.line),
            None => Place::file(&self.file),
        }
    }

    /// The value of `name` with everything that it names; none where it is not set or empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let line = self.parameters.get(name)?;
        let value = self.expand(&line.text);
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value == "yes")
    }

    /// `text` with `$name`, `${name}`, `$(name)`, `${name?text}` and `${name:text}` filled in.
    /// Empty where that has no end.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut left = TAKEN_OCTETS;
        let expanded = self.expand_to(text, DEPTH, &mut left);
        if left == 0 { String::new() } else { expanded }
    }

    fn expand_to(&self, text: &str, depth: usize, left: &mut usize) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$').filter(|_| *left > 0) {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let after = &after[1..];
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
            } else if after.starts_with(['{', '(']) {
                // Without its end, Postfix would not start.
                let Some((inner, tail)) = braced(after) else {
                    break;
                };
                self.fill(inner, depth, left, &mut out);
                rest = tail;
            } else {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !fits(c)).unwrap_or(after.len());
                let (name, tail) = after.split_at(end);
                self.fill(name, depth, left, &mut out);
                rest = tail;
            }
        }
        out.push_str(rest);
        out
    }

    /// What stands between the braces, or a name alone.
    fn fill(&self, inner: &str, depth: usize, left: &mut usize, out: &mut String) {
        let Some(below) = depth.checked_sub(1) else {
            return;
        };
        let end = inner.find(['?', ':']).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let value = self.value(name.trim(), below, left);
        *left = left.saturating_sub(1 + value.len());
        let Some(kind) = rest.chars().next() else {
            out.push_str(&value);
            return;
        };
        let text = &rest[1..];
        // `?{one}:{other}`, or one text that ends with the braces.
        let (one, other) = match braced(text.trim_start()) {
            Some((one, tail)) => {
                let other = tail.trim_start().strip_prefix(':').unwrap_or_default();
                let other = braced(other.trim_start()).map_or(other, |(other, _)| other);
                (one, other)
            }
            None => (text, ""),
        };
        let chosen = match (kind, value.is_empty()) {
            ('?', false) | (':', true) => one,
            ('?', true) => other,
            _ => "",
        };
        out.push_str(&self.expand_to(chosen, below, left));
    }

    fn value(&self, name: &str, depth: usize, left: &mut usize) -> String {
        match self.parameters.get(name) {
            Some(line) => self.expand_to(&line.text, depth, left),
            None => match name {
                "config_directory" | "meta_directory" => match self.file.rsplit_once('/') {
                    Some((directory, _)) => directory.to_owned(),
                    None => ".".to_owned(),
                },
                "default_database_type" => "hash".to_owned(),
                "data_directory" => "/var/lib/postfix".to_owned(),
                "queue_directory" => "/var/spool/postfix".to_owned(),
                "mydomain" => {
                    let host = self.parameters.get("myhostname");
                    let host = host.map_or(String::new(), |line| {
                        self.expand_to(&line.text, depth, left)
                    });
                    host.split_once('.')
                        .map_or(String::new(), |(_, domain)| domain.to_owned())
                }
                _ => String::new(),
            },
        }
    }
}

/// What stands in the braces that `text` begins with, and what comes behind them.
fn braced(text: &str) -> Option<(&str, &str)> {
    let (open, close) = match text.chars().next()? {
        '{' => ('{', '}'),
        '(' => ('(', ')'),
        _ => return None,
    };
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some((&text[1..at], &text[at + 1..]));
            }
        }
    }
    None
}

/// A list as Postfix takes it: commas or white space between, but not inside braces.
pub(crate) fn list(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 && (c == ',' || c.is_whitespace()) => {
                items.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    items.retain(|item| !item.is_empty());
    items
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_go_on_and_parameters_name_each_other() {
        let text = "\
# comment
myhostname = relay.contoso.com
relayhost =
    [smtp.office365.com]
# in between

    :587
maps = hash:${config_directory}/sasl, hash:$config_directory/other
level = ${relayhost?encrypt}
plain = ${nothing:{may}} $(myhostname) $$5
either = ${nothing?{one}:{other}}
loop = $loop x
";
        let main = MainCf::parse("/etc/postfix/main.cf", text).unwrap();
        let get = |name: &str| main.get(name).unwrap();
        assert_eq!(get("relayhost"), "[smtp.office365.com] :587");
        assert_eq!(
            list(&get("maps")),
            ["hash:/etc/postfix/sasl", "hash:/etc/postfix/other"]
        );
        assert_eq!(get("level"), "encrypt");
        assert_eq!(get("plain"), "may relay.contoso.com $5");
        assert_eq!(get("either"), "other");
        assert!(get("loop").len() < 100);
        assert_eq!(main.place("relayhost").line, Some(3));
    }

    #[test]
    fn values_that_double_each_other_do_not_fill_the_memory() {
        let mut text = String::from("a0 = xxxxxxxxxxxxxxxx\n");
        for n in 1..19 {
            let below = n - 1;
            writeln!(text, "a{n} = $a{below} $a{below} $a{below} $a{below}").unwrap();
        }
        let main = MainCf::parse("f", &text).unwrap();
        assert_eq!(main.get("a18"), None);
        assert_eq!(main.get("a0").unwrap().len(), 16);
    }

    proptest! {
        #[test]
        fn any_text_is_a_file_or_an_error(text in "[a-z$?:{}()= \n#\t]{0,200}") {
            if let Ok(main) = MainCf::parse("f", &text) {
                for (name, _) in main.filled() {
                    let _ = main.get(name).map(|value| list(&value).len());
                }
            }
        }
    }
}
