//! Noticing that a test, a script or a configuration has changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::find::config_for;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(300);
/// What scripts and their tests are made of.
const KINDS: [&str; 7] = ["lua", "toml", "html", "txt", "csv", "json", "md"];
const DEPTH: usize = 6;
/// A directory with more than this is no directory of scripts.
const FILES: usize = 10_000;

/// The files around some tests, as they were when last looked at.
pub struct Watch {
    tests: Vec<PathBuf>,
    config: Option<PathBuf>,
    seen: BTreeMap<PathBuf, (SystemTime, u64)>,
}

impl Watch {
    /// Watches what lies beside these tests and their configuration.
    pub fn new(tests: &[PathBuf], config: Option<&Path>) -> Self {
        let mut watch = Self {
            tests: tests.to_vec(),
            config: config.map(Path::to_owned),
            seen: BTreeMap::new(),
        };
        watch.seen = watch.look();
        watch
    }

    /// The first file that is another now than when it was last looked at; one that was written
    /// meanwhile is not missed.
    pub fn changed(&mut self) -> Option<PathBuf> {
        let now = self.look();
        let before = std::mem::replace(&mut self.seen, now);
        let new = self
            .seen
            .iter()
            .find(|(path, stamp)| before.get(*path) != Some(stamp));
        new.map(|(path, _)| path.clone()).or_else(|| {
            before
                .into_keys()
                .find(|path| !self.seen.contains_key(path))
        })
    }

    fn look(&self) -> BTreeMap<PathBuf, (SystemTime, u64)> {
        let mut seen = BTreeMap::new();
        for test in &self.tests {
            let beside = test.parent().filter(|dir| !dir.as_os_str().is_empty());
            walk(beside.unwrap_or(Path::new(".")), DEPTH, &mut seen);
            if let Some(config) = config_for(test, self.config.as_deref()) {
                note(&config, &mut seen);
            }
        }
        seen
    }
}

fn walk(dir: &Path, depth: usize, seen: &mut BTreeMap<PathBuf, (SystemTime, u64)>) {
    // What cannot be read now may be back in a moment.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || seen.len() > FILES {
            continue;
        }
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, seen);
        } else if path
            .extension()
            .is_some_and(|kind| KINDS.iter().any(|known| kind == *known))
        {
            note(&path, seen);
        }
    }
}

fn note(path: &Path, seen: &mut BTreeMap<PathBuf, (SystemTime, u64)>) {
    if let Ok(found) = fs::metadata(path) {
        let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        seen.insert(path.to_owned(), (modified, found.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a_test.lua"), "1").unwrap();
        fs::write(at("a.bin"), "1").unwrap();
        let mut watch = Watch::new(&[at("a_test.lua")], None);
        assert_eq!(watch.changed(), None);

        fs::write(at("a.bin"), "other").unwrap();
        assert_eq!(watch.changed(), None);
        fs::write(at("a.lua"), "longer").unwrap();
        assert_eq!(watch.changed(), Some(at("a.lua")));
        assert_eq!(watch.changed(), None);
        fs::remove_file(at("a.lua")).unwrap();
        assert_eq!(watch.changed(), Some(at("a.lua")));
    }
}
