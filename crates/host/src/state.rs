//! Where state is kept.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use crate::failure::Failure;

/// The state directory: `given` (from `--state-dir` or its variable), else `/var/lib/postrider`
/// for root and the platform's own place for others. Absolute; not created here.
///
/// # Errors
/// There is no home directory to put it in.
pub(crate) fn directory(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let directory = match given {
        Some(directory) => directory.to_owned(),
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/postrider"),
        None => ProjectDirs::from("", "", "postrider")
            .and_then(|dirs| dirs.state_dir().map(Path::to_owned))
            .ok_or_else(|| {
                Failure::new(
                    "config.no_state_dir",
                    "this user has no directory for state",
                )
                .with_remedy("name one with --state-dir")
            })?,
    };
    env::current_dir()
        .map(|here| here.join(directory))
        .map_err(|problem| Failure::new("file.unreadable", format!("working directory: {problem}")))
}

/// Makes the state directory, for this user only, if it is not there.
///
/// # Errors
/// It cannot be made, or is not private enough: as for [`check`].
pub(crate) fn prepare(directory: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|problem| unusable(directory, &format!("cannot be made: {problem}")))?;
    check(directory)
}

/// Whether nobody else can put files into the state directory or take them out. One that is not
/// there is private.
///
/// # Errors
/// Others can, or it cannot be looked at.
pub(crate) fn check(directory: &Path) -> Result<(), Failure> {
    let found = match fs::metadata(directory) {
        Ok(found) => found,
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(problem) => return Err(unusable(directory, &format!("cannot be read: {problem}"))),
    };
    let own = rustix::process::geteuid().as_raw();
    let unsafe_because = |why: String, remedy: String| {
        Err(Failure::new("config.state_dir_unsafe", why)
            .at(directory.display().to_string())
            .with_remedy(remedy))
    };
    if !found.is_dir() {
        return Err(unusable(directory, "is no directory"));
    }
    if found.uid() != own && found.uid() != 0 {
        return unsafe_because(
            format!(
                "the state directory belongs to user {}, neither to this one nor to root",
                found.uid()
            ),
            "name another with --state-dir, or run as the user whose it is".to_owned(),
        );
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return unsafe_because(
            format!("others can change what is in the state directory (mode {mode:04o})"),
            format!("chmod 700 '{}'", directory.display()),
        );
    }
    Ok(())
}

fn unusable(directory: &Path, why: &str) -> Failure {
    Failure::new("config.state_dir", format!("the state directory {why}"))
        .at(directory.display().to_string())
        .with_remedy("name one that this user can write to with --state-dir")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_for_this_user_only_and_made_once() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("a/b");
        prepare(&state).unwrap();
        prepare(&state).unwrap();
        for directory in [&state, &home.path().join("a")] {
            assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn one_that_others_can_change_is_refused_and_one_they_can_read_is_not() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        check(&state).unwrap();
        prepare(&state).unwrap();
        for (mode, expected) in [
            (0o755, true),
            (0o700, true),
            (0o770, false),
            (0o777, false),
            (0o1777, false),
        ] {
            fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
            let outcome = prepare(&state);
            assert_eq!(outcome.is_ok(), expected, "{mode:o}: {outcome:?}");
        }
        fs::set_permissions(&state, Permissions::from_mode(0o770)).unwrap();
        let failure = check(&state).unwrap_err();
        assert_eq!(failure.code, "config.state_dir_unsafe");
        assert_eq!(
            failure.remedy.unwrap(),
            format!("chmod 700 '{}'", state.display())
        );
    }

    #[test]
    fn a_file_is_no_state_directory() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [&file, &file.join("below")] {
            assert_eq!(prepare(path).unwrap_err().code, "config.state_dir");
        }
    }
}
