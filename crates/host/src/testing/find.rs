//! Which files are tests, and which configuration they get.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What the name of a test file ends with.
const SUFFIX: &str = "_test.lua";
const CONFIG: &str = "postrider.toml";
/// Deeper than anybody nests directories of scripts.
const DEPTH: usize = 16;

/// The test files that are named, and those in the directories that are named, each once.
///
/// # Errors
/// One of them cannot be read, or there is no test at all.
pub fn test_files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in named {
        let kind = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if kind.is_dir() {
            let mut within = Vec::new();
            walk(path, DEPTH, &mut within).map_err(|error| unreadable(path, &error))?;
            within.sort();
            found.extend(within);
        } else {
            found.push(path.clone());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|file| seen.insert(file.clone()));
    if found.is_empty() {
        let places: Vec<String> = named
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::new(
            "file.no_tests",
            format!("there is no test in {}", places.join(", ")),
        )
        .with_remedy(format!("a test file's name ends with {SUFFIX}")));
    }
    Ok(found)
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 && !name.starts_with('.') {
            walk(&entry.path(), depth - 1, found)?;
        } else if !kind.is_dir() && name.ends_with(SUFFIX) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// The configuration for a test file: the one that was named, else the nearest `postrider.toml`
/// beside the test or above it, else the working directory's.
///
/// The user's own and the system's are not looked for: a test must not depend on whose it is.
pub fn config_for(test: &Path, named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let test = std::path::absolute(test).ok()?;
    let above = test.ancestors().skip(1).map(|dir| dir.join(CONFIG));
    let mut candidates = above.chain([PathBuf::from(CONFIG)]);
    candidates.find(|file| file.is_file())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        "file.unreadable",
        format!("cannot read {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_name_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        fs::create_dir_all(at(".git")).unwrap();
        for name in [
            "b_test.lua",
            "a_test.lua",
            "a.lua",
            "deep/er/c_test.lua",
            ".git/d_test.lua",
        ] {
            fs::write(at(name), "").unwrap();
        }

        let found = test_files(&[dir.path().to_owned(), at("a_test.lua")]).unwrap();

        assert_eq!(
            found,
            ["a_test.lua", "b_test.lua", "deep/er/c_test.lua"].map(at)
        );
        let none = test_files(&[at(".git/../deep/er/../../.git/..").join("deep")]);
        assert!(none.is_ok());
        fs::remove_file(at("deep/er/c_test.lua")).unwrap();
        assert_eq!(test_files(&[at("deep")]).unwrap_err().code, "file.no_tests");
        assert_eq!(test_files(&[at("x")]).unwrap_err().code, "file.unreadable");
    }

    #[test]
    fn the_configuration_is_the_nearest_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("scripts")).unwrap();
        fs::write(at(CONFIG), "").unwrap();
        let test = at("scripts/a_test.lua");

        assert_eq!(config_for(&test, None), Some(at(CONFIG)));
        fs::write(at("scripts/postrider.toml"), "").unwrap();
        assert_eq!(config_for(&test, None), Some(at("scripts/postrider.toml")));
        assert_eq!(config_for(&test, Some(Path::new("x"))), Some("x".into()));
    }
}
