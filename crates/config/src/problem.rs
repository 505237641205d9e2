//! What is wrong with a setting, and how it is shown.
//!
//! A [`Problem`] carries its source line already masked: whatever stands where a secret may
//! stand has become `…` before the line is stored.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use crate::mask;

/// More problems than this are counted, not kept.
const KEPT: usize = 100;
/// More of a source line than this many characters is cut around the mark.
const LINE_WIDTH: usize = 120;
/// What stands for a masked secret and for cut text.
const ELLIPSIS: char = '…';

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as a dotted key: `account.alerts.server.port`. Empty when the whole file
    /// is meant.
    pub key: String,
    /// What is wrong with it, in one line.
    pub message: String,
    /// What to do about it, in one line.
    pub suggestion: Option<String>,
    /// Where it stands; `None` for settings that did not come from a file.
    pub location: Option<Location>,
}

/// A place in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
    /// The line's text with secrets, control characters and excess length taken out.
    pub source_line: String,
    /// Which characters of `source_line` are meant, never empty; the end may lie one beyond it.
    pub underline: Range<usize>,
}

impl Problem {
    /// The line in the file, from 1.
    pub fn line(&self) -> Option<usize> {
        self.location.as_ref().map(|location| location.line)
    }

    /// The character within the line, from 1.
    pub fn column(&self) -> Option<usize> {
        self.location.as_ref().map(|location| location.column)
    }

    /// The line's text, masked.
    pub fn source_line(&self) -> Option<&str> {
        self.location
            .as_ref()
            .map(|location| location.source_line.as_str())
    }
}

impl fmt::Display for Problem {
    /// One line: place, key, what is wrong, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "line {}, column {}: ", location.line, location.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        Ok(())
    }
}

/// Everything wrong with a settings file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, if it came from one.
    pub path: Option<PathBuf>,
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    /// All problems, each with its source line and a mark under it; no newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .path
            .as_ref()
            .map_or_else(|| "settings".to_owned(), |path| path.display().to_string());
        let gutter = self
            .problems
            .iter()
            .filter_map(Problem::line)
            .max()
            .map_or(0, |line| line.to_string().len());
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str("error: ")?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
            match &problem.location {
                None => write!(f, "\n   at: {name}")?,
                Some(at) => {
                    write!(f, "\n   at: {name}:{}:{}", at.line, at.column)?;
                    write!(f, "\n  {:>gutter$} | {}", at.line, at.source_line)?;
                    let indent = at.underline.start;
                    let marks = "^".repeat(at.underline.len());
                    write!(f, "\n  {:gutter$} | {:indent$}{marks}", "", "")?;
                }
            }
            if let Some(suggestion) = &problem.suggestion {
                write!(f, "\n  try: {suggestion}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The problems found so far, by octet range; places are worked out at the end.
#[derive(Default)]
pub(crate) struct Problems {
    found: Vec<Found>,
    more: usize,
}

struct Found {
    key: String,
    message: String,
    suggestion: Option<String>,
    span: Option<Range<usize>>,
}

impl Problems {
    pub(crate) fn add(
        &mut self,
        key: impl Into<String>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) {
        self.push(key.into(), span, message.into(), None);
    }

    pub(crate) fn suggest(
        &mut self,
        key: impl Into<String>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.push(key.into(), span, message.into(), Some(suggestion.into()));
    }

    fn push(
        &mut self,
        key: String,
        span: Option<Range<usize>>,
        message: String,
        suggestion: Option<String>,
    ) {
        if self.found.len() == KEPT {
            self.more += 1;
            return;
        }
        self.found.push(Found {
            key,
            message,
            suggestion,
            span,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the file, with their places in `source`.
    pub(crate) fn locate(mut self, source: Option<&Source>) -> Vec<Problem> {
        self.found
            .sort_by_key(|found| found.span.as_ref().map(|span| span.start));
        let more = (self.more > 0).then(|| Problem {
            key: String::new(),
            message: format!("{} more problems are not listed", self.more),
            suggestion: None,
            location: None,
        });
        self.found
            .into_iter()
            .map(|found| Problem {
                location: source
                    .zip(found.span)
                    .map(|(source, span)| source.locate(span)),
                key: found.key,
                message: found.message,
                suggestion: found.suggestion,
            })
            .chain(more)
            .collect()
    }
}

/// A settings file's text with what must not be shown of it.
pub(crate) struct Source {
    text: String,
    secrets: Vec<Range<usize>>,
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(text: String) -> Self {
        let secrets = mask::secret_ranges(&text);
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            text,
            secrets,
            line_starts,
        }
    }

    /// Line, column and the masked line of `span`; what reaches beyond the line is cut.
    pub(crate) fn locate(&self, span: Range<usize>) -> Location {
        let start = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|&begin| begin <= start) - 1;
        let begin = self.line_starts[line];
        let rest = &self.text[begin..];
        let length = rest.find('\n').unwrap_or(rest.len());
        let content = rest[..length].trim_end_matches('\r');

        let mut shown = String::new();
        let (mut mark, mut mark_end) = (None, 0);
        let (mut column, mut count) = (1, 0);
        let mut masked = false;
        for (offset, character) in content.char_indices() {
            let at = begin + offset;
            let secret = self.is_secret(at);
            if at < start {
                column += 1;
            }
            if !(secret && masked) {
                if at >= start && mark.is_none() {
                    mark = Some(count);
                }
                shown.push(match character {
                    _ if secret => ELLIPSIS,
                    '\t' => ' ',
                    other if other.is_control() => char::REPLACEMENT_CHARACTER,
                    other => other,
                });
                count += 1;
            } else if at >= start && mark.is_none() {
                // The mark begins inside the masked text: put it on its ellipsis.
                mark = Some(count - 1);
            }
            masked = secret;
            if at < span.end {
                mark_end = count;
            }
        }
        let mark = mark.unwrap_or(count);
        let underline = mark..mark_end.max(mark + 1);
        let (source_line, underline) = cut(&shown, underline);
        Location {
            line: line + 1,
            column,
            source_line,
            underline,
        }
    }

    fn is_secret(&self, at: usize) -> bool {
        let next = self.secrets.partition_point(|range| range.end <= at);
        self.secrets
            .get(next)
            .is_some_and(|range| range.start <= at)
    }
}

/// At most [`LINE_WIDTH`] characters of `line` around the mark.
fn cut(line: &str, mark: Range<usize>) -> (String, Range<usize>) {
    let length = line.chars().count();
    if length <= LINE_WIDTH {
        return (line.to_owned(), mark);
    }
    let from = mark
        .start
        .saturating_sub(LINE_WIDTH / 2)
        .min(length - LINE_WIDTH);
    let mut shown: Vec<char> = line.chars().skip(from).take(LINE_WIDTH).collect();
    if from > 0 {
        shown[0] = ELLIPSIS;
    }
    if from + LINE_WIDTH < length {
        shown[LINE_WIDTH - 1] = ELLIPSIS;
    }
    let start = mark.start - from;
    let end = (mark.end - from).min(LINE_WIDTH).max(start + 1);
    (shown.into_iter().collect(), start..end)
}

/// `text` as it may stand inside a message: quoted, one line, not long, no password of a URL.
pub(crate) fn quote(text: &str) -> String {
    const LIMIT: usize = 64;
    let mut open = String::new();
    let mut from = 0;
    for userinfo in mask::userinfo(text) {
        open.push_str(&text[from..userinfo.start]);
        open.push(ELLIPSIS);
        from = userinfo.end;
    }
    open.push_str(&text[from..]);
    let mut shown: String = open
        .chars()
        .take(LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if open.chars().nth(LIMIT).is_some() {
        shown.push(ELLIPSIS);
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(text: &str, needle: &str) -> Location {
        let at = text.find(needle).unwrap();
        Source::new(text.to_owned()).locate(at..at + needle.len())
    }

    fn marked(location: &Location) -> String {
        location
            .source_line
            .chars()
            .skip(location.underline.start)
            .take(location.underline.len())
            .collect()
    }

    #[test]
    fn columns_count_characters_not_octets() {
        let at = locate("a = 1\nnäme = \"ü\" # x\r\n", "# x");
        assert_eq!((at.line, at.column), (2, 12));
        assert_eq!(marked(&at), "# x");
        assert_eq!(at.source_line, "näme = \"ü\" # x");
    }

    #[test]
    fn a_mark_on_a_masked_value_falls_on_its_ellipsis() {
        let at = locate("password = \"hunter2\"\n", "\"hunter2\"");
        assert_eq!(at.source_line, "password = …");
        assert_eq!(marked(&at), "…");
        assert_eq!(locate("password = \"hunter2\"", "ter2").underline, 11..12);
    }

    #[test]
    fn a_mark_after_a_masked_value_stays_on_its_text() {
        let at = locate("a = { password = \"hunter2\", plugn = 1 }", "plugn");
        assert_eq!(at.source_line, "a = { password = …, plugn = 1 }");
        assert_eq!(marked(&at), "plugn");
        assert_eq!(at.column, 29);
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let text = format!("a = \"{}HERE{}\"", "x".repeat(500), "y".repeat(500));
        let at = locate(&text, "HERE");
        assert_eq!(at.source_line.chars().count(), LINE_WIDTH);
        assert_eq!(marked(&at), "HERE");
    }

    #[test]
    fn a_place_beyond_the_end_is_the_end() {
        let source = Source::new("a = 1".to_owned());
        let at = source.locate(99..120);
        assert_eq!((at.line, at.column, at.underline), (1, 6, 5..6));
        let empty = Source::new(String::new()).locate(0..0);
        assert_eq!((empty.line, empty.column), (1, 1));
    }
}
