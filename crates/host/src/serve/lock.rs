//! One daemon for each state directory.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::failure::Failure;

/// Its name in the state directory.
const FILE: &str = "serve.lock";

/// Held while the daemon lives; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the state directory for this process.
    ///
    /// # Errors
    /// Another daemon has it, or the file cannot be written.
    pub(super) fn take(state_dir: &Path) -> Result<Self, Failure> {
        let path = state_dir.join(FILE);
        let unusable = |problem: &io::Error| {
            Failure::new("config.state_dir", format!("{}: {problem}", path.display()))
                .with_remedy("name a state directory that this user can write to with --state-dir")
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|problem| unusable(&problem))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(32).read_to_string(&mut holder);
                return Err(in_use(state_dir, holder.trim().parse().ok()));
            }
            Err(TryLockError::Error(problem)) => return Err(unusable(&problem)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|problem| unusable(&problem))?;
        Ok(Self { _file: file })
    }
}

fn in_use(state_dir: &Path, pid: Option<u32>) -> Failure {
    let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let stop = pid.map_or_else(
        || "stop it first".to_owned(),
        |pid| format!("stop it first (kill {pid}, or systemctl stop postrider)"),
    );
    Failure::new(
        "config.state_dir_in_use",
        format!("another postrider serve{who} uses this state directory"),
    )
    .at(state_dir.display().to_string())
    .with_remedy(format!(
        "{stop}, tell it to reload instead (postrider status shows it), or name another directory \
         with --state-dir"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_of_the_first_and_what_to_do() {
        let state = tempfile::tempdir().unwrap();
        let first = DaemonLock::take(state.path()).unwrap();

        let failure = DaemonLock::take(state.path()).unwrap_err();
        assert_eq!(failure.code, "config.state_dir_in_use");
        let pid = std::process::id().to_string();
        assert!(failure.message.contains(&pid), "{failure}");
        assert!(failure.remedy.unwrap().contains(&format!("kill {pid}")));

        drop(first);
        DaemonLock::take(state.path()).unwrap();
    }
}
