//! Vaults in temporary directories, and this test binary run as another process.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use postrider_vault::{KeyOptions, Kind, Options, Rekey, Rekeyed, Vault, VaultError};
use tempfile::TempDir;

/// Some time; the vault has no clock.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

/// A directory for a vault, and how to open it.
pub(crate) struct Place {
    pub(crate) root: TempDir,
    pub(crate) options: Options,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place::within(&env::temp_dir())
    }

    /// In memory where there is such a file system: a killed process leaves the same there, and
    /// syncing costs nothing.
    pub(crate) fn in_memory() -> Place {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Place::within(memory)
        } else {
            Place::new()
        }
    }

    fn within(dir: &Path) -> Place {
        let root = tempfile::tempdir_in(dir).unwrap();
        let options = options(&root.path().join("vault"));
        Place { root, options }
    }

    /// The same files in another place.
    pub(crate) fn copy(&self) -> Place {
        let copy = Place::in_memory();
        copy_below(self.root.path(), copy.root.path());
        copy
    }

    pub(crate) fn open(&self) -> Vault {
        Vault::open(&self.options).unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Vault, VaultError> {
        Vault::open(&self.options)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.options.dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a key file nobody else reads.
    pub(crate) fn key_file(&self, name: &str, key: &str) -> PathBuf {
        let path = self.path(name);
        write_private(&path, key.as_bytes());
        path
    }

    /// The files of records, without ledgers and locks.
    pub(crate) fn record_files(&self) -> Vec<PathBuf> {
        let all = files(&self.dir().join("records"));
        let is_record = |path: &PathBuf| path.file_name().unwrap().len() == 32;
        all.into_iter().filter(is_record).collect()
    }

    /// The one record's file.
    pub(crate) fn record_file(&self) -> PathBuf {
        let files = self.record_files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    /// The ledger beside the one record.
    pub(crate) fn ledger_file(&self) -> PathBuf {
        self.record_file().with_file_name("ledger")
    }
}

/// A vault with a generated key.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        keys: KeyOptions::default(),
        now: now(),
    }
}

pub(crate) fn write_private(path: &Path, octets: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::remove_file(path);
    fs::write(path, octets).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Every file below a directory, in order.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn copy_below(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&to).unwrap();
            copy_below(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

pub(crate) fn value(vault: &Vault, kind: Kind, name: &str) -> Option<Vec<u8>> {
    let record = vault.get(kind, name).unwrap();
    record.map(|record| record.value.to_vec())
}

pub(crate) fn new_data_key(vault: &Vault) -> Rekeyed {
    vault
        .rekey(
            &Rekey {
                key: None,
                new_data_key: true,
                now: now(),
            },
            &mut |_| {},
        )
        .unwrap()
}

const WORK: &str = "POSTRIDER_VAULT_TEST_WORK";
const DIR: &str = "POSTRIDER_VAULT_TEST_DIR";

/// Runs the test `test` of this binary in another process, where [`work`] answers `work`.
pub(crate) fn command(test: &str, work: &str, dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(WORK, work)
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// What this process was started for by [`command`], if it was, and the vault to do it with.
pub(crate) fn work() -> Option<(String, Options)> {
    let work = env::var(WORK).ok()?;
    Some((work, options(Path::new(&env::var_os(DIR)?))))
}

/// Waits for all of them, also when one fails.
pub(crate) fn all_succeed(children: Vec<Child>) -> bool {
    let statuses: Vec<ExitStatus> = children
        .into_iter()
        .map(|mut child| child.wait().unwrap())
        .collect();
    statuses.iter().all(ExitStatus::success)
}

/// Says that a story is skipped and why, past the harness, which hides what a passing test
/// prints. Where everything must be there (`POSTRIDER_REQUIRE_PEERS=1`, as in CI) it fails.
#[track_caller]
pub(crate) fn skip(reason: &str) {
    assert!(
        env::var_os("POSTRIDER_REQUIRE_PEERS").is_none(),
        "must not be skipped here: {reason}"
    );
    let _ = writeln!(io::stderr(), "skipped: {reason}");
}
