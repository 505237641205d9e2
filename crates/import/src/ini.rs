//! INI files as Python's configparser reads them: sections, `key = value` or `key: value`,
//! deeper lines that go on with a value, whole-line comments with `#` and `;`.
//!
//! As there, a section or a key that comes twice is an error, and keys know no case.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::error::ImportError;
use crate::left::{Place, shown};

/// A file's sections.
pub(crate) struct Ini {
    pub(crate) sections: Vec<Section>,
    defaults: Vec<Entry>,
}

/// A section.
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) entries: Vec<Entry>,
}

/// A key with its value.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Zeroizing<String>,
    pub(crate) place: Place,
}

impl Ini {
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, ImportError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut sections: Vec<Section> = Vec::new();
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut indent = 0;
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let failed = |message: String| ImportError::malformed(Place::line(file, line), message);
            let trimmed = raw.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            let depth = raw.len() - raw.trim_start().len();
            let open = sections.last_mut();
            let under = open
                .as_ref()
                .is_some_and(|section| !section.entries.is_empty());
            if depth > indent && under {
                let entry = open.and_then(|section| section.entries.last_mut());
                if let Some(entry) = entry {
                    entry.value.push('\n');
                    entry.value.push_str(trimmed);
                }
                continue;
            }
            indent = depth;
            if let Some(rest) = trimmed.strip_prefix('[') {
                let Some((name, _)) = rest.rsplit_once(']') else {
                    return Err(failed("a section's name is not closed by \"]\"".to_owned()));
                };
                if !names.insert(name.to_owned()) {
                    return Err(failed(format!("section [{}] comes twice", shown(name))));
                }
                keys.clear();
                sections.push(Section {
                    name: name.to_owned(),
                    place: Place::line(file, line),
                    entries: Vec::new(),
                });
                continue;
            }
            let Some(section) = open else {
                return Err(failed("stands before the first section".to_owned()));
            };
            let Some((key, value)) = trimmed.split_once(['=', ':']) else {
                return Err(failed(
                    "is neither a section, nor a key with a value".to_owned(),
                ));
            };
            let key = key.trim_end().to_lowercase();
            if !keys.insert(key.clone()) {
                // Not which: it may be the next line of a broken token.
                return Err(failed("its key comes twice".to_owned()));
            }
            section.entries.push(Entry {
                key,
                value: Zeroizing::new(value.trim_start().to_owned()),
                place: Place::line(file, line),
            });
        }
        let defaults = sections
            .iter()
            .position(|section| section.name == "DEFAULT")
            .map(|at| sections.remove(at).entries)
            .unwrap_or_default();
        Ok(Self { sections, defaults })
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// What `section` has under `key`, if need be from `[DEFAULT]`.
    pub(crate) fn get<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Entry> {
        let mut entries = section.entries.iter().chain(&self.defaults);
        entries.find(|entry| entry.key == key)
    }
}

impl Section {
    /// Takes over the entries of `other`, in place of its own under these keys.
    pub(crate) fn take_in(&mut self, other: Self) {
        self.entries
            .retain(|entry| !other.entries.iter().any(|it| it.key == entry.key));
        self.entries.extend(other.entries);
    }
}

/// A truth value, as configparser takes it.
pub(crate) fn truth(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "1" | "yes" | "true" | "on"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_on_in_deeper_lines_and_keys_know_no_case() {
        let text =
            "[DEFAULT]\nb = 2\n[one]\nA: 1\n\tmore = yes\n  ; comment\nc =\n[two]\n  d=1\n  e=2\n";
        let ini = Ini::parse("f", text).unwrap();
        let one = ini.section("one").unwrap();
        let values: Vec<_> = one
            .entries
            .iter()
            .map(|it| (&*it.key, it.value.as_str()))
            .collect();
        assert_eq!(values, [("a", "1\nmore = yes"), ("c", "")]);
        assert_eq!(ini.get(one, "b").unwrap().value.as_str(), "2");
        assert_eq!(ini.section("two").unwrap().entries.len(), 2);
    }

    #[test]
    fn what_configparser_refuses_is_refused_with_its_line() {
        for (text, line) in [
            ("a = 1", 1),
            ("[a]\n[a]", 2),
            ("[a]\nb=1\nB=2", 3),
            ("[a\n", 1),
            ("[a]\nhunter2\n", 2),
        ] {
            let error = Ini::parse("f", text).err().unwrap();
            assert_eq!(error.place.line, Some(line), "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
