//! What setting an account up wrote down: a file beside the vault, and the secrets in it.
//!
//! Every word of the journal is on disk before the next step is taken, so a run that was killed
//! is understood by the next one. It names objects of the tenant and no secret.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use postrider_setup::{Event, Known, NewSecret, Record, RecordError, SecretName};
use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;

use crate::app::vault::{SharedVault, VaultSecret};
use crate::app::{App, AppSettings};
use crate::failure::Failure;
use crate::state;

/// In the state directory.
const DIRECTORY: &str = "setup";

/// More than any journal has.
const LIMIT_OCTETS: u64 = 256 << 10;

/// The journal of one account. While it lives no other process sets the same account up.
pub struct Journal {
    path: PathBuf,
    known: Known,
    account: String,
    vault: SharedVault,
    _lock: File,
}

impl Journal {
    /// What earlier runs wrote down about `account`; nothing is written yet.
    ///
    /// # Errors
    /// The state directory cannot be used, another process has the journal, or it is damaged.
    pub fn open(app: &App, settings: &AppSettings, account: &str) -> Result<Self, Failure> {
        let state = state::directory(settings.state_dir.as_deref())?;
        state::prepare(&state)?;
        let directory = state.join(DIRECTORY);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|problem| unusable(&directory, &problem))?;
        let path = directory.join(format!("{}.json", file_name(account)));
        let lock = lock(&path.with_extension("lock"))?;
        Ok(Self {
            known: read(&path)?.unwrap_or_default(),
            path,
            account: account.to_owned(),
            vault: app.vault().clone(),
            _lock: lock,
        })
    }

    /// What is known of `account`, where somebody set it up here.
    ///
    /// # Errors
    /// As for [`Self::open`]; nobody else is kept out.
    pub fn look(settings: &AppSettings, account: &str) -> Result<Option<Known>, Failure> {
        let state = state::directory(settings.state_dir.as_deref())?;
        let name = format!("{}.json", file_name(account));
        read(&state.join(DIRECTORY).join(name))
    }

    /// What is known.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The vault's name for a secret of the account.
    pub fn secret_name(account: &str, secret: SecretName) -> String {
        format!("{account}/{}", secret.as_str())
    }

    /// Writes down what is known, durably.
    fn write(&self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, &self.known)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(directory)?.sync_all()
    }
}

impl Record for Journal {
    fn note(&mut self, event: &Event) -> Result<(), RecordError> {
        self.known.note(event);
        self.write().map_err(|problem| {
            format!("{}: {problem}", self.path.display()).into()
        })
    }

    fn store_secret(&mut self, secret: &NewSecret) -> Result<(), RecordError> {
        let kept = VaultSecret {
            value: secret.value.expose_secret().into(),
            expires: Some(secret.ends.into()),
            set_at: SystemTime::now(),
        };
        let name = Self::secret_name(&self.account, secret.name);
        let put = self.vault.put_secret(&name, &kept);
        put.map_err(Into::into)
    }
}

/// A name of a file that no two accounts share: what is no plain letter is its code point.
fn file_name(account: &str) -> String {
    let mut name = String::new();
    for c in account.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
            name.push(c);
        } else {
            name.push_str(&format!("%{:x}.", u32::from(c)));
        }
    }
    name
}

fn lock(path: &Path) -> Result<File, Failure> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|problem| unusable(path, &problem))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Failure::new(
            "setup.busy",
            "another process is setting this account up",
        )
        .with_remedy("wait until it has ended")
        .retryable()),
        Err(fs::TryLockError::Error(problem)) => Err(unusable(path, &problem)),
    }
}

fn read(path: &Path) -> Result<Option<Known>, Failure> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(unusable(path, &problem)),
    };
    let mut text = String::new();
    file.take(LIMIT_OCTETS)
        .read_to_string(&mut text)
        .map_err(|problem| unusable(path, &problem))?;
    serde_json::from_str(&text).map(Some).map_err(|_| {
        Failure::new("setup.journal", "the journal of this account cannot be read")
            .at(path.display().to_string())
            .with_remedy(
                "move the file away: then what it remembers is looked for by name in the tenant",
            )
    })
}

fn unusable(path: &Path, problem: &io::Error) -> Failure {
    Failure::new("file.unwritable", format!("{}: {problem}", path.display()))
        .with_remedy("see that this user may write there, or name another place with --state-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_accounts_share_a_file_and_none_leaves_the_directory() {
        let names = ["alerts", "a/b", "a.b", "..", "a%2f.b", "é"];
        let files: std::collections::BTreeSet<String> =
            names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        for file in files {
            assert!(!file.contains('/') && !file.starts_with('.'), "{file}");
        }
    }
}
