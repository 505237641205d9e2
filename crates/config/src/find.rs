//! Where the settings file is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file's name in the working directory and in the system's and user's directories.
const FILE: &str = "postrider.toml";
/// Last of all.
const SYSTEM: &str = "/etc/postrider/postrider.toml";

/// What the search depends on.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `$POSTRIDER_CONFIG`; an empty value counts as none.
    pub variable: Option<OsString>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// The user's directory for this program's settings.
    pub user_dir: Option<PathBuf>,
}

impl Surroundings {
    /// This process's.
    pub fn of_process() -> Self {
        Self {
            variable: std::env::var_os("POSTRIDER_CONFIG"),
            working_dir: std::env::current_dir().unwrap_or_default(),
            user_dir: directories::ProjectDirs::from("", "", "postrider")
                .map(|dirs| dirs.config_dir().to_owned()),
        }
    }
}

/// The files to look for, in order. One that was asked for by name is the only one.
pub fn candidates(explicit: Option<&Path>, surroundings: &Surroundings) -> Vec<PathBuf> {
    let variable = surroundings
        .variable
        .as_ref()
        .filter(|value| !value.is_empty());
    if let Some(path) = explicit.or(variable.map(Path::new)) {
        return vec![path.to_owned()];
    }
    let mut files = vec![surroundings.working_dir.join(FILE)];
    files.extend(surroundings.user_dir.as_ref().map(|dir| dir.join(FILE)));
    files.push(PathBuf::from(SYSTEM));
    files
}

/// The file to load, `None` if there is none.
///
/// One that was asked for by name is returned whether or not it exists: its absence is then
/// an error when it is loaded. Of the others, the first that exists; one that may not be
/// looked at exists.
pub fn find(explicit: Option<&Path>, surroundings: &Surroundings) -> Option<PathBuf> {
    find_with(explicit, surroundings, |path| {
        path.try_exists().unwrap_or(true)
    })
}

fn find_with(
    explicit: Option<&Path>,
    surroundings: &Surroundings,
    exists: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let files = candidates(explicit, surroundings);
    match files.as_slice() {
        [named] => Some(named.clone()),
        _ => files.into_iter().find(|path| exists(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(variable: Option<&str>) -> Surroundings {
        Surroundings {
            variable: variable.map(OsString::from),
            working_dir: "/srv".into(),
            user_dir: Some("/home/u/.config/postrider".into()),
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_both_need_no_file() {
        let around = surroundings(Some("/var.toml"));
        let nothing = |_: &Path| false;
        assert_eq!(
            find_with(Some(Path::new("x.toml")), &around, nothing),
            Some("x.toml".into())
        );
        assert_eq!(find_with(None, &around, nothing), Some("/var.toml".into()));
    }

    #[test]
    fn without_either_the_first_that_exists_is_taken() {
        let around = surroundings(Some(""));
        let order = [
            "/srv/postrider.toml",
            "/home/u/.config/postrider/postrider.toml",
            "/etc/postrider/postrider.toml",
        ];
        assert_eq!(candidates(None, &around), order.map(PathBuf::from));
        for (index, file) in order.iter().enumerate() {
            let exists = |path: &Path| order[index..].iter().any(|file| path == Path::new(file));
            assert_eq!(find_with(None, &around, exists), Some(file.into()));
        }
        assert_eq!(find_with(None, &around, |_| false), None);
    }
}
