//! The text a script is made of beside itself: modules and templates.
//!
//! They are looked for in the script's own directory, then in `[scripts] lib`, and nothing
//! leads out of the two. Every path that was looked at is noted, found or not: a change of any
//! of them, and the appearance of a missing one, changes what the script is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::beneath::{self, Trouble};
use crate::script::Files;

/// No module and no template is longer.
const OCTETS: usize = 4 << 20;

/// Where a script's text comes from.
pub(crate) struct Sources {
    /// The script's own directory, and the library's.
    directories: Vec<PathBuf>,
    looked_at: Arc<Files>,
}

/// A file that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) octets: Vec<u8>,
}

/// A file that is there and cannot be had.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) trouble: Trouble,
}

impl Sources {
    /// In `own`, then in `lib`.
    pub(crate) fn new(own: PathBuf, lib: Option<PathBuf>, looked_at: Arc<Files>) -> Self {
        Self {
            directories: std::iter::once(own).chain(lib).collect(),
            looked_at,
        }
    }

    /// The first of `names` that there is, in the first directory that has one.
    pub(crate) fn find(&self, names: &[PathBuf]) -> Result<Option<Found>, Unusable> {
        for directory in &self.directories {
            for name in names {
                let path = directory.join(name);
                self.looked_at.note(&path);
                let read = beneath::directory(directory)
                    .and_then(|directory| beneath::read(directory, name, OCTETS));
                match read {
                    Ok(octets) => return Ok(Some(Found { path, octets })),
                    Err(Trouble::Missing) => {}
                    Err(trouble) => return Err(Unusable { path, trouble }),
                }
            }
        }
        Ok(None)
    }

    /// Where `names` were looked for, for a message: `a/x.lua, a/x/init.lua, lib/x.lua`.
    pub(crate) fn places(&self, names: &[PathBuf]) -> String {
        let joined = |directory: &PathBuf| -> Vec<String> {
            let places = names.iter().map(|name| directory.join(name));
            places.map(|place| place.display().to_string()).collect()
        };
        let places: Vec<String> = self.directories.iter().flat_map(joined).collect();
        places.join(", ")
    }
}

/// `name` as a path of plain words beneath some directory: `report`, `mail/header.html`.
pub(crate) fn plain_path(name: &str) -> Option<&Path> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    let is_word =
        |word: &str| !word.is_empty() && !word.starts_with(['.', ' ']) && word.chars().all(fits);
    (name.len() <= 255 && name.split('/').all(is_word)).then(|| Path::new(name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_scripts_own_directory_comes_first_and_every_look_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let [own, lib] = ["own", "lib"].map(|name| folder.path().join(name));
        for directory in [&own, &lib] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("both"), directory.to_str().unwrap()).unwrap();
        }
        fs::write(lib.join("one"), "lib").unwrap();
        let sources = Sources::new(own.clone(), Some(lib.clone()), Arc::default());
        let find = |name: &str| sources.find(&[PathBuf::from(name)]).unwrap();
        assert_eq!(find("both").unwrap().path, own.join("both"));
        assert_eq!(find("one").unwrap().octets, b"lib");
        assert!(find("none").is_none());
        let noted = ["lib/none", "lib/one", "own/both", "own/none", "own/one"];
        assert_eq!(
            sources.looked_at.all(),
            noted.map(|name| folder.path().join(name))
        );
    }

    #[test]
    fn names_are_words_with_slashes() {
        for good in ["report", "mail/header.html", "bücher 1.txt", "a-b_c"] {
            assert!(plain_path(good).is_some(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/a", "a/", "a//b", "..", "../a", "a/../b", ".a", "a\0", "a\nb", "a\\b", &long,
        ] {
            assert!(plain_path(bad).is_none(), "{bad:?}");
        }
    }
}
