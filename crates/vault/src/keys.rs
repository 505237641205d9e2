//! Where a vault's key may come from, as its users say it and see it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// The places a key may come from; the first that is there seals a new vault.
#[derive(Clone, Debug, Default)]
pub struct KeyOptions {
    /// `$CREDENTIALS_DIRECTORY`; the key is its file `postrider.kek` (systemd.exec(5),
    /// `LoadCredentialEncrypted=`).
    pub credentials_directory: Option<PathBuf>,
    /// A file with 32 to 4096 octets that nobody can guess.
    pub key_file: Option<PathBuf>,
    /// Whether to ask the desktop's secret service. Without the feature `keyring` that fails.
    pub keyring: bool,
    /// Who asks for the passphrase.
    pub passphrase: Option<Passphrase>,
}

type Ask = dyn Fn(PassphraseRequest) -> Option<SecretString> + Send + Sync;

/// A passphrase that is asked for when it is needed, and once: clones share the answer.
#[derive(Clone)]
pub struct Passphrase {
    ask: Arc<Ask>,
    answer: Arc<OnceLock<Option<SecretString>>>,
}

impl Passphrase {
    /// `ask` answers `None` when there is nobody to ask.
    pub fn new(
        ask: impl Fn(PassphraseRequest) -> Option<SecretString> + Send + Sync + 'static,
    ) -> Passphrase {
        Passphrase {
            ask: Arc::new(ask),
            answer: Arc::default(),
        }
    }

    pub(crate) fn answer(&self, request: PassphraseRequest) -> Option<&SecretString> {
        self.answer.get_or_init(|| (self.ask)(request)).as_ref()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// What a passphrase is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassphraseRequest {
    /// The vault's directory.
    pub dir: PathBuf,
    /// The vault is about to be created: the passphrase is chosen now, so ask twice.
    pub new: bool,
}

/// Where the key of an open vault came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// `postrider.kek` in systemd's credentials directory.
    Credential,
    /// A key file somebody made and configured.
    KeyFile,
    /// The desktop's secret service.
    Keyring,
    /// A passphrase, through Argon2id.
    Passphrase,
    /// The key file beside the vault, made on first use.
    GeneratedFile,
}

impl KeySource {
    /// The source's stable name.
    pub fn name(self) -> &'static str {
        match self {
            KeySource::Credential => "credential",
            KeySource::KeyFile => "key_file",
            KeySource::Keyring => "keyring",
            KeySource::Passphrase => "passphrase",
            KeySource::GeneratedFile => "generated_file",
        }
    }

    /// How to keep the key better than it is kept, if it is kept badly.
    pub fn advice(self) -> Option<String> {
        (self == KeySource::GeneratedFile).then(|| {
            "the vault's key lies in a file beside it, so whoever reads the disk reads the vault; \
             give the key to the service as the systemd credential postrider.kek \
             (LoadCredentialEncrypted=), or keep it in a key file elsewhere, in the desktop's \
             keyring or behind a passphrase, then run `postrider vault rekey`"
                .to_owned()
        })
    }
}

/// The key that a vault is to be sealed with from now on.
#[derive(Clone, Debug)]
pub enum NewKey {
    /// `postrider.kek` in [`KeyOptions::credentials_directory`].
    Credential,
    /// This key file.
    KeyFile(PathBuf),
    /// A new key in the desktop's secret service.
    Keyring,
    /// This passphrase.
    Passphrase(SecretString),
    /// A new key file beside the vault.
    Generated,
}
