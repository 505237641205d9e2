//! What could not be carried over.

use std::fmt;

use serde::Serialize;

/// The longest piece of a file that is shown, in characters.
const SHOWN_CHARS: usize = 80;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1, where it is one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl Place {
    pub(crate) fn file(file: &str) -> Self {
        Self {
            file: shown(file),
            line: None,
        }
    }

    pub(crate) fn line(file: &str, line: usize) -> Self {
        Self {
            line: Some(line),
            ..Self::file(file)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One thing that could not be carried over as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCarried {
    /// Where it stands.
    pub place: Place,
    /// The setting, as the file names it.
    pub what: String,
    /// Why it was not carried over, or not quite.
    pub why: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

impl NotCarried {
    pub(crate) fn new(place: Place, what: &str, why: impl Into<String>) -> Self {
        Self {
            place,
            what: shown(what),
            why: why.into(),
            instead: None,
        }
    }

    pub(crate) fn instead(mut self, instead: impl Into<String>) -> Self {
        self.instead = Some(instead.into());
        self
    }
}

/// A name out of a file, fit to be shown on one line.
pub(crate) fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut line: String = text.chars().take(SHOWN_CHARS).map(clean).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        line.push('…');
    }
    line
}
