//! Where state is kept.

use std::env;
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
