//! The vault of this process: where it lies, what opens it, and what to do when it does not open.
//!
//! It is opened when the first secret or grant is needed and stays open; nothing here waits for
//! anything but files and, at a terminal, a person.

use std::cell::Cell;
use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_auth::GrantKey;
use postrider_config::{
    Config, NoVault, SecretError, SecretRef, VaultLookup, VaultSettings, parse_expiry,
};
use postrider_vault::{
    KeyOptions, KeySource, Kind, Options, Passphrase, Vault, VaultError, VaultErrorKind,
};
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{App, AppSettings, failures};
use crate::cli::output::complain;
use crate::failure::Failure;
use crate::hidden;
use crate::state;

/// So often may a person mistype the passphrase.
const PASSPHRASES: usize = 3;

/// The vault, opened when it is first needed. Clones are the same.
#[derive(Clone)]
pub struct SharedVault(Arc<Place>);

enum Place {
    /// Under a state directory.
    State(State),
    /// Inside a sandbox there is none.
    Nowhere,
}

struct State {
    given: Option<PathBuf>,
    keys: VaultSettings,
    base_dir: PathBuf,
    opened: Mutex<Option<Vault>>,
}

/// A secret as the vault keeps it.
#[derive(Clone)]
pub struct VaultSecret {
    /// The secret.
    pub value: SecretString,
    /// When its provider stops accepting it, if somebody said so.
    pub expires: Option<SystemTime>,
    /// When it was put into the vault.
    pub set_at: SystemTime,
}

impl SharedVault {
    /// The vault in the state directory, with the key that the configuration names.
    pub(super) fn new(settings: &AppSettings, config: &Config) -> Self {
        Self(Arc::new(Place::State(State {
            given: settings.state_dir.clone(),
            keys: config.vault.clone(),
            base_dir: config.base_dir().to_owned(),
            opened: Mutex::default(),
        })))
    }

    /// None at all: a sandbox neither reads nor keeps anything.
    pub(super) fn nowhere() -> Self {
        Self(Arc::new(Place::Nowhere))
    }

    /// The vault's directory.
    ///
    /// # Errors
    /// There is no place for one.
    pub fn dir(&self) -> Result<PathBuf, Failure> {
        Ok(state::directory(self.state()?.given.as_deref())?.join("vault"))
    }

    /// Where the configuration says the key is.
    ///
    /// # Errors
    /// This is a sandbox.
    pub fn key_settings(&self) -> Result<&VaultSettings, Failure> {
        Ok(&self.state()?.keys)
    }

    /// The open vault; it is made on first use. May ask for the passphrase.
    ///
    /// # Errors
    /// Why it does not open, and what to do.
    pub fn open(&self) -> Result<Vault, Failure> {
        let state = self.state()?;
        let mut opened = state.lock();
        if let Some(vault) = &*opened {
            return Ok(vault.clone());
        }
        let dir = self.dir()?;
        state::prepare(dir.parent().unwrap_or(&dir))?;
        let existing = state.unlock(&dir, Asking::Always, Vault::open_existing)?;
        let vault = if let Some(vault) = existing {
            state.compare_key(&vault);
            vault
        } else {
            let vault = state.unlock(&dir, Asking::Configured, Vault::open)?;
            if let Some(advice) = vault.key_source().advice() {
                tracing::warn!(vault = %dir.display(), "{advice}");
            }
            vault
        };
        *opened = Some(vault.clone());
        Ok(vault)
    }

    /// The open vault, if there is one; none is made.
    ///
    /// # Errors
    /// As for [`SharedVault::open`].
    pub fn existing(&self) -> Result<Option<Vault>, Failure> {
        let state = self.state()?;
        let mut opened = state.lock();
        if opened.is_none() {
            let dir = self.dir()?;
            state::check(dir.parent().unwrap_or(&dir))?;
            *opened = state.unlock(&dir, Asking::Always, Vault::open_existing)?;
            if let Some(vault) = &*opened {
                state.compare_key(vault);
            }
        }
        Ok(opened.clone())
    }

    /// Whether a sign-in could be kept as `grant`. One whose record is damaged is replaced, and
    /// that mends it.
    ///
    /// # Errors
    /// What stands in its way, and what to do.
    pub fn check_room(&self, grant: Option<&GrantKey>) -> Result<(), Failure> {
        let vault = self.open()?;
        let kept = grant.map(|key| vault.get(Kind::Grant, &key.to_string()));
        match kept {
            Some(Err(error)) if !error.is_of_one_record() => Err(failure(&error)),
            _ => Ok(()),
        }
    }

    /// The secret of that name.
    ///
    /// # Errors
    /// Why the vault cannot say.
    pub fn secret(&self, name: &str) -> Result<Option<VaultSecret>, Failure> {
        let Some(vault) = self.existing()? else {
            return Ok(None);
        };
        let record = vault
            .get(Kind::Secret, name)
            .map_err(|error| failure(&error))?;
        record
            .map(|record| VaultSecret::decode(name, &record.value))
            .transpose()
    }

    /// Puts a secret into the vault, in place of the one of that name. It is durable then.
    ///
    /// # Errors
    /// Why it was not stored; the one before is untouched.
    pub fn put_secret(&self, name: &str, secret: &VaultSecret) -> Result<(), Failure> {
        let vault = self.open()?;
        vault
            .put(Kind::Secret, name, &secret.encode()?)
            .map(|_| ())
            .map_err(|error| failure(&error))
    }

    /// When the secret of that name lapses, if the vault knows. What keeps it from being read
    /// shows where it is used.
    pub fn expiry(&self, name: &str) -> Option<SystemTime> {
        match self.secret(name) {
            Ok(secret) => secret?.expires,
            Err(failure) => {
                tracing::debug!(secret = name, "no expiry: {}", failure.message);
                None
            }
        }
    }

    /// Fetches a secret from wherever it is; blocks until it is there.
    ///
    /// # Errors
    /// Why it could not be had, and what to do.
    pub fn resolve(&self, reference: &SecretRef, base_dir: &Path) -> Result<SecretString, Failure> {
        let lookup = Lookup {
            vault: self,
            failure: Cell::default(),
        };
        reference.resolve(base_dir, &lookup).map_err(|error| {
            let failure = lookup.failure.take();
            failure.unwrap_or_else(|| failures::unresolved(&error))
        })
    }

    fn state(&self) -> Result<&State, Failure> {
        match &*self.0 {
            Place::State(state) => Ok(state),
            Place::Nowhere => Err(Failure::new(
                "vault.outside_sandbox",
                "in the sandbox the vault is not opened",
            )
            .with_remedy(
                "give the sandbox its secrets as { env = \"NAME\" }, or run without --sandbox \
                 (the repl with --live)",
            )),
        }
    }
}

impl App {
    /// What the vault keeps for the account called `name`: the secrets that it refers to, and its
    /// sign-in or cached tokens.
    ///
    /// # Errors
    /// What kept the account from being set up.
    pub async fn records_of(&self, name: &str) -> Result<Vec<(Kind, String)>, Failure> {
        let account = self.account(name).await?;
        let secrets = self.settings_of(name)?.auth.secrets.values();
        let mut records: Vec<_> = secrets
            .filter_map(|secret| match secret {
                SecretRef::Vault(name) => Some((Kind::Secret, name.clone())),
                _ => None,
            })
            .collect();
        let grant = account.credential().grant_key();
        records.extend(grant.map(|key| (Kind::Grant, key.to_string())));
        Ok(records)
    }
}

impl fmt::Debug for SharedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedVault").finish_non_exhaustive()
    }
}

/// A look into the vault that keeps why it was in vain: more than a line can say.
struct Lookup<'v> {
    vault: &'v SharedVault,
    failure: Cell<Option<Failure>>,
}

impl VaultLookup for Lookup<'_> {
    fn secret(&self, name: &str) -> Result<Option<SecretString>, String> {
        let failure = match self.vault.secret(name) {
            Ok(Some(secret)) => return Ok(Some(secret.value)),
            Ok(None) => missing(name),
            Err(failure) => failure,
        };
        let why = failure.message.clone();
        self.failure.set(Some(failure));
        Err(why)
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vault>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns where a better key was provided and the generated one still opens the vault: whoever
    /// provided it believes that it protects something.
    fn compare_key(&self, vault: &Vault) {
        let credential = || {
            let directory = env::var_os("CREDENTIALS_DIRECTORY")?;
            let path = Path::new(&directory).join("postrider.kek");
            path.exists().then_some("--credential".to_owned())
        };
        let provided = match &self.keys {
            _ if vault.key_source() != KeySource::GeneratedFile => None,
            VaultSettings {
                key_file: Some(path),
                ..
            } => Some(format!("--key-file {}", path.display())),
            VaultSettings { keyring: true, .. } => Some("--keyring".to_owned()),
            VaultSettings {
                passphrase: Some(_),
                ..
            } => Some("--passphrase".to_owned()),
            _ => credential(),
        };
        if let Some(option) = provided {
            tracing::warn!(
                "the vault is still opened by the generated key beside it, and not by the one \
                 that was provided: run `postrider vault rekey {option}`"
            );
        }
    }

    /// Calls `open`; at a terminal, again with another passphrase when the first was wrong.
    fn unlock<T>(
        &self,
        dir: &Path,
        asking: Asking,
        open: impl Fn(&Options) -> Result<T, VaultError>,
    ) -> Result<T, Failure> {
        let mut attempts = 0;
        loop {
            let asked = Arc::new(Asked::default());
            let options = Options {
                dir: dir.to_owned(),
                keys: self.key_options(asking, &asked),
                now: SystemTime::now(),
            };
            let error = match open(&options) {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            // Why the passphrase could not be had says more than that there was none.
            if let Some(unresolved) = take(&asked.unresolved) {
                return Err(failures::unresolved(&unresolved).at("vault.passphrase"));
            }
            attempts += 1;
            let mistyped = error.kind == VaultErrorKind::WrongKey && take(&asked.person).is_some();
            if !mistyped || attempts == PASSPHRASES {
                return Err(failure(&error));
            }
            complain("That is not it.");
        }
    }

    fn key_options(&self, asking: Asking, asked: &Arc<Asked>) -> KeyOptions {
        let (passphrase, base_dir) = (self.keys.passphrase.clone(), self.base_dir.clone());
        let asked = Arc::clone(asked);
        let ask = move |request: postrider_vault::PassphraseRequest| match &passphrase {
            Some(reference) => match reference.resolve(&base_dir, &NoVault) {
                Ok(passphrase) => Some(passphrase),
                Err(error) => {
                    put(&asked.unresolved, error);
                    None
                }
            },
            None if !is_attended() => None,
            None => {
                put(&asked.person, ());
                let question = format!("Passphrase of the vault in {}: ", request.dir.display());
                let answer = hidden::ask(&question).ok()?;
                (!answer.is_empty()).then(|| SecretString::from(answer.as_str()))
            }
        };
        KeyOptions {
            credentials_directory: env::var_os("CREDENTIALS_DIRECTORY")
                .filter(|directory| !directory.is_empty())
                .map(PathBuf::from),
            key_file: self.keys.key_file.clone(),
            keyring: self.keys.keyring,
            passphrase: (asking == Asking::Always || self.keys.passphrase.is_some())
                .then(|| Passphrase::new(ask)),
        }
    }
}

/// Whom a passphrase is asked of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// The place that the configuration names, else a person.
    Always,
    /// That place only: nobody chooses a passphrase by the way, for what runs unattended could
    /// not give it.
    Configured,
}

/// What came of asking for a passphrase.
#[derive(Default)]
struct Asked {
    /// The configured one could not be fetched.
    unresolved: Mutex<Option<SecretError>>,
    /// A person typed it.
    person: Mutex<Option<()>>,
}

fn put<T>(slot: &Mutex<Option<T>>, value: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Whether somebody could answer, even where standard input is something else.
fn is_attended() -> bool {
    io::stderr().is_terminal() && File::open("/dev/tty").is_ok()
}

/// The form in which a secret lies in its record.
#[derive(Serialize, Deserialize)]
struct Stored {
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    set_at: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl VaultSecret {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let stored = Stored {
            value: self.value.expose_secret().to_owned(),
            expires: self.expires.map(time),
            set_at: time(self.set_at),
        };
        // Room for all of it, each octet escaped: a growing buffer leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(6 * stored.value.len() + 256));
        serde_json::to_writer(&mut *text, &stored)
            .map_err(|problem| Failure::new("internal", problem.to_string()))?;
        Ok(text)
    }

    fn decode(name: &str, octets: &[u8]) -> Result<Self, Failure> {
        let malformed = || {
            Failure::new(
                "vault.malformed",
                format!("the record of the secret {name} is none of this version's"),
            )
            .with_remedy(format!("set it again: postrider secret set {name}"))
        };
        // What serde says may quote what it read.
        let mut stored: Stored = serde_json::from_slice(octets).map_err(|_| malformed())?;
        let moment = |text: &str| parse_expiry(text).map_err(|_| malformed());
        Ok(Self {
            expires: stored.expires.as_deref().map(moment).transpose()?,
            set_at: moment(&stored.set_at)?,
            value: SecretString::from(std::mem::take(&mut stored.value)),
        })
    }
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSecret")
            .field("expires", &self.expires)
            .field("set_at", &self.set_at)
            .finish_non_exhaustive()
    }
}

/// As RFC 3339 writes it, to the second; what is out of its reach is the epoch.
fn time(moment: SystemTime) -> String {
    let moment = Timestamp::try_from(moment).unwrap_or_default();
    Timestamp::from_second(moment.as_second())
        .unwrap_or_default()
        .to_string()
}

/// No secret of that name is in the vault.
pub(super) fn missing(name: &str) -> Failure {
    Failure::new("secret.missing", format!("the vault has no secret {name}"))
        .with_remedy(format!("postrider secret set {name}"))
}

/// What is wrong with the vault, and what to do about it.
pub fn failure(error: &VaultError) -> Failure {
    let code = match error.kind {
        VaultErrorKind::Unsafe => "unsafe_permissions",
        kind => kind.name(),
    };
    let damaged = "postrider vault status lists what is damaged. Set such a secret again (postrider \
                   secret set NAME), sign in again (postrider login ACCOUNT), or restore the \
                   whole state directory from a backup";
    let remedy = match error.kind {
        VaultErrorKind::WrongKey => {
            "give it the key that it was sealed with: see [vault] in the configuration, and the \
             systemd credential postrider.kek, which goes before it. If that is lost, so is what \
             it sealed: move the vault away, set the secrets and sign in again"
        }
        VaultErrorKind::NoKey => {
            "say where its key is: key_file, keyring or passphrase under [vault] in the \
             configuration, or LoadCredentialEncrypted=postrider.kek:… in the service"
        }
        VaultErrorKind::Truncated
        | VaultErrorKind::Corrupt
        | VaultErrorKind::Swapped
        | VaultErrorKind::RolledBack
        | VaultErrorKind::Missing => damaged,
        VaultErrorKind::Unsafe => {
            "let only the user that runs postrider own it, read it and change it: chmod 700 for \
             directories, 600 for files; if others could read it, change the secrets too"
        }
        VaultErrorKind::ReadOnly => {
            "let this user write there (StateDirectory=postrider in a service does), or name \
             another place with --state-dir"
        }
        VaultErrorKind::DiskFull => "free some space; nothing that was stored is lost",
        VaultErrorKind::Name => "use letters, digits, and \"-_./@+:\"",
        VaultErrorKind::TooLarge => {
            "a secret has at most 64 KiB; a file of the vault that is larger than any is damaged, \
             and postrider vault status names it"
        }
        VaultErrorKind::Unsupported => "use the version of postrider that wrote it, or a newer one",
        VaultErrorKind::Transfer => {
            "see that it is a whole export, and that this identity or passphrase is the one it \
             was sealed for"
        }
        _ => "see that this user may read and write there, and that the disk is sound",
    };
    let failure = Failure::new(format!("vault.{code}"), format!("vault: {}", error.message))
        .at(error.path.display().to_string())
        .with_remedy(remedy);
    if error.kind == VaultErrorKind::DiskFull {
        failure.retryable()
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let expires = parse_expiry("2027-03-01").unwrap();
        for value in ["hunter2", "-----BEGIN\n\"x\"\n", "\u{1f511}"] {
            for expires in [None, Some(expires)] {
                let secret = VaultSecret {
                    value: SecretString::from(value),
                    expires,
                    set_at: parse_expiry("2026-11-23T06:00:00Z").unwrap(),
                };
                let read = VaultSecret::decode("a", &secret.encode().unwrap()).unwrap();
                assert_eq!(read.value.expose_secret(), value);
                assert_eq!((read.expires, read.set_at), (expires, secret.set_at));
                assert!(!format!("{read:?}").contains(value));
            }
        }
    }

    #[test]
    fn a_record_of_something_else_is_refused_without_quoting_it() {
        for octets in [
            &b"hunter2"[..],
            b"{\"value\":\"hunter2\"}",
            b"{\"value\":[\"hunter2\"],\"set_at\":\"2026-11-23T06:00:00Z\"}",
            b"{\"value\":\"hunter2\",\"set_at\":\"yesterday\"}",
        ] {
            let failure = VaultSecret::decode("ops", octets).unwrap_err();
            assert_eq!(failure.code, "vault.malformed");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_sandbox_has_no_vault() {
        let nowhere = SharedVault::nowhere();
        assert_eq!(nowhere.open().unwrap_err().code, "vault.outside_sandbox");
        let reference = SecretRef::Vault("ops".to_owned());
        let failure = nowhere.resolve(&reference, Path::new("")).unwrap_err();
        assert_eq!(failure.code, "vault.outside_sandbox");
        assert_eq!(nowhere.expiry("ops"), None);
    }
}
