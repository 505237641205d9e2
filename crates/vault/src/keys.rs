//! Where the key-encryption key comes from.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};
use crate::file::{self, Staged, Trust};
use crate::keyring;
use crate::seal::{self, Id, KeyOctets, hex};

/// The credential's name in systemd's directory.
const CREDENTIAL: &str = "postrider.kek";
/// What a key out of a file has at least: a password is no key.
const LEAST_OCTETS: usize = 32;
const MOST_OCTETS: usize = 4096;

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

    fn answer(&self, request: PassphraseRequest) -> Option<&SecretString> {
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

/// What `vault.json` remembers of its key: enough to find it again and to know it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyNote {
    source: KeySource,
    /// Made from the key; the key cannot be had from it.
    id: String,
    /// Where a key file was.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2: Option<Argon2Note>,
}

/// How a passphrase becomes a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argon2Note {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

/// A key-encryption key and where it came from.
#[derive(Clone)]
pub(crate) struct Kek {
    key: KeyOctets,
    note: KeyNote,
}

impl Kek {
    fn new(key: KeyOctets, source: KeySource) -> Kek {
        let key_id = hmac::sign(&hmac_key(&key), b"postrider-vault key id");
        let note = KeyNote {
            source,
            id: hex(&key_id.as_ref()[..8]),
            path: None,
            argon2: None,
        };
        Kek { key, note }
    }

    /// From something that nobody can guess.
    fn from_material(material: &[u8], source: KeySource, path: &Path) -> Result<Kek, VaultError> {
        // The line end that an editor or a shell adds to a key in text is not part of it.
        let material = if material.is_ascii() {
            material.trim_ascii_end()
        } else {
            material
        };
        if !(LEAST_OCTETS..=MOST_OCTETS).contains(&material.len()) {
            let message = format!(
                "holds {} octets, and a key has {LEAST_OCTETS} to {MOST_OCTETS}; make one with \
                 `openssl rand -base64 32`",
                material.len()
            );
            return Err(VaultError::new(VaultErrorKind::NoKey, path, message));
        }
        let label = hmac::Key::new(hmac::HMAC_SHA256, b"postrider-vault key-encryption key 1");
        let derived = hmac::sign(&label, material);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(derived.as_ref());
        let mut kek = Kek::new(key, source);
        kek.note.path = Some(path.to_owned());
        Ok(kek)
    }

    fn from_passphrase(passphrase: &SecretString, note: Argon2Note) -> Option<Kek> {
        let salt = Id::from_hex(&note.salt)?;
        let params = Params::new(note.memory_kib, note.passes, note.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(
                passphrase.expose_secret().as_bytes(),
                &salt.0,
                key.as_mut_slice(),
            )
            .ok()?;
        let mut kek = Kek::new(key, KeySource::Passphrase);
        kek.note.argon2 = Some(note);
        Some(kek)
    }

    pub(crate) fn key(&self) -> &KeyOctets {
        &self.key
    }

    pub(crate) fn note(&self) -> &KeyNote {
        &self.note
    }

    pub(crate) fn source(&self) -> KeySource {
        self.note.source
    }

    /// Whether this is the key that the note is about, wherever it came from.
    pub(crate) fn is(&self, note: &KeyNote) -> bool {
        self.note.id == note.id
    }

    pub(crate) fn authenticate(&self, text: &[u8]) -> hmac::Tag {
        hmac::sign(&self.text_key(), text)
    }

    pub(crate) fn authentic(&self, text: &[u8], tag: &str) -> bool {
        // Equal in constant time is not needed: who can try this has the file and no oracle.
        hex(self.authenticate(text).as_ref()) == tag
    }

    fn text_key(&self) -> hmac::Key {
        let key = hmac::sign(&hmac_key(&self.key), b"postrider-vault authentication");
        hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
    }
}

fn hmac_key(key: &KeyOctets) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())
}

/// The sources of one vault.
pub(crate) struct Sources<'a> {
    pub(crate) options: &'a KeyOptions,
    /// The vault's directory.
    pub(crate) dir: &'a Path,
}

impl Sources<'_> {
    /// The key that an existing vault is sealed with.
    ///
    /// The same key may have moved meanwhile, say from a file into a systemd credential: a key
    /// is known by its id, and the place that `vault.json` names is only the first to look at.
    pub(crate) fn find(&self, store: Id, note: &KeyNote) -> Result<Kek, VaultError> {
        if let Some(argon2) = &note.argon2 {
            return self.ask(note, argon2);
        }
        let mut others = Vec::new();
        let wanted = self.look(note.source, store, &note.id);
        match &wanted {
            Ok(Some(kek)) if kek.is(note) => return wanted.map(|kek| kek.expect("just seen")),
            _ => {}
        }
        for source in [
            KeySource::Credential,
            KeySource::KeyFile,
            KeySource::GeneratedFile,
        ] {
            if source == note.source {
                continue;
            }
            match self.look(source, store, &note.id) {
                Ok(Some(kek)) if kek.is(note) => return Ok(kek),
                Ok(Some(kek)) => others.push(kek.note.to_string()),
                // Of no use here, so of no harm either.
                Ok(None) | Err(_) => {}
            }
        }
        match wanted? {
            Some(kek) => Err(self.error(
                VaultErrorKind::WrongKey,
                format!(
                    "{} holds another key than this vault is sealed with",
                    kek.note
                ),
            )),
            None => {
                let offered = others
                    .first()
                    .map(|other| format!("; {other} holds another key"));
                Err(self.error(
                    VaultErrorKind::NoKey,
                    format!(
                        "the vault is sealed with {note}, which is not to be had here{}",
                        offered.unwrap_or_default()
                    ),
                ))
            }
        }
    }

    /// The key for a new vault: the first there is, or a generated one.
    pub(crate) fn choose(&self, store: Id) -> Result<Kek, VaultError> {
        for source in [KeySource::Credential, KeySource::KeyFile] {
            if let Some(kek) = self.look(source, store, "")? {
                return Ok(kek);
            }
        }
        if let Some(path) = &self.options.key_file {
            let message = "there is no such key file; make one with `openssl rand -base64 32`";
            return Err(VaultError::new(VaultErrorKind::NoKey, path, message));
        }
        if self.options.keyring {
            return self.new_in_keyring(store);
        }
        if let Some(passphrase) = &self.options.passphrase {
            let request = PassphraseRequest {
                dir: self.dir.to_owned(),
                new: true,
            };
            let answer = passphrase.answer(request).ok_or_else(|| {
                self.error(
                    VaultErrorKind::NoKey,
                    "nobody gave a passphrase for the new vault",
                )
            })?;
            return self.new_from_passphrase(answer);
        }
        let path = self.generated_path();
        if let Some(kek) = self.look(KeySource::GeneratedFile, store, "")? {
            return Ok(kek);
        }
        let (kek, staged) = self.generate(&path)?;
        staged.place()?;
        file::sync_parent(&path)?;
        Ok(kek)
    }

    /// Makes the key that [`NewKey`] asks for. A staged key file has to be placed once
    /// `vault.json` is sealed with it.
    pub(crate) fn renew<'p>(
        &self,
        new: &NewKey,
        store: Id,
        generated: &'p Path,
    ) -> Result<(Kek, Option<Staged<'p>>), VaultError> {
        let missing = |what: &str| self.error(VaultErrorKind::NoKey, format!("there is no {what}"));
        let kek = match new {
            NewKey::Credential => self
                .look(KeySource::Credential, store, "")?
                .ok_or_else(|| missing("systemd credential postrider.kek"))?,
            NewKey::KeyFile(path) => read_key(path, KeySource::KeyFile, Trust::OwnOrRoot)?
                .ok_or_else(|| missing(&format!("key file {}", path.display())))?,
            NewKey::Keyring => self.new_in_keyring(store)?,
            NewKey::Passphrase(passphrase) => self.new_from_passphrase(passphrase)?,
            NewKey::Generated => {
                let (kek, staged) = self.generate(generated)?;
                return Ok((kek, Some(staged)));
            }
        };
        Ok((kek, None))
    }

    /// Where a generated key lies: beside the vault, named after it.
    pub(crate) fn generated_path(&self) -> PathBuf {
        let mut name = self.dir.file_name().unwrap_or("vault".as_ref()).to_owned();
        name.push(".key");
        self.dir.with_file_name(name)
    }

    /// Puts a generated key in its place if a crash kept it from there.
    pub(crate) fn settle(&self, kek: &Kek) -> Result<(), VaultError> {
        let path = self.generated_path();
        let aside = file::aside(&path);
        match read_key(&aside, KeySource::GeneratedFile, Trust::Own) {
            Ok(Some(waiting)) if waiting.is(&kek.note) => {}
            _ => return Ok(()),
        }
        fs::rename(&aside, &path)
            .map_err(|error| VaultError::io(&path, "replace the file", &error))?;
        file::sync_parent(&path)
    }

    /// Forgets a key that seals nothing any more, where forgetting it is ours to do.
    pub(crate) fn forget(&self, store: Id, old: &Kek, new: &Kek) -> Result<(), VaultError> {
        match old.source() {
            KeySource::GeneratedFile => {
                let path = self.generated_path();
                if new.note.path.as_ref() != Some(&path) {
                    file::remove(&path)?;
                }
                Ok(())
            }
            KeySource::Keyring => {
                keyring::remove(store, &old.note.id).map_err(|why| self.keyring_error(&why))
            }
            _ => Ok(()),
        }
    }

    /// The key at one place. The id matters where there may be several.
    fn look(&self, source: KeySource, store: Id, id: &str) -> Result<Option<Kek>, VaultError> {
        match source {
            KeySource::Credential => match &self.options.credentials_directory {
                Some(directory) => read_key(&directory.join(CREDENTIAL), source, Trust::Credential),
                None => Ok(None),
            },
            KeySource::KeyFile => match &self.options.key_file {
                Some(path) => read_key(path, source, Trust::OwnOrRoot),
                None => Ok(None),
            },
            KeySource::GeneratedFile => {
                let path = self.generated_path();
                // A crash may have come between sealing the vault with a new key and placing it.
                // Looked at in this order, a key on its way from one place to the other is seen.
                match read_key(&file::aside(&path), source, Trust::Own) {
                    Ok(Some(mut kek)) if kek.note.id == id => {
                        kek.note.path = Some(path);
                        Ok(Some(kek))
                    }
                    _ => read_key(&path, source, Trust::Own),
                }
            }
            KeySource::Keyring => self.in_keyring(store, id),
            KeySource::Passphrase => Ok(None),
        }
    }

    fn ask(&self, note: &KeyNote, argon2: &Argon2Note) -> Result<Kek, VaultError> {
        let request = PassphraseRequest {
            dir: self.dir.to_owned(),
            new: false,
        };
        let passphrase = self.options.passphrase.as_ref();
        let answer = passphrase.and_then(|passphrase| passphrase.answer(request));
        let Some(answer) = answer else {
            let message = "the vault is sealed with a passphrase, and nobody here gave one";
            return Err(self.error(VaultErrorKind::NoKey, message));
        };
        if !argon2.is_bearable() {
            let message = "the vault's passphrase asks for more memory or time than is sensible";
            return Err(self.error(VaultErrorKind::Unsupported, message));
        }
        Kek::from_passphrase(answer, argon2.clone())
            .filter(|kek| kek.is(note))
            .ok_or_else(|| {
                self.error(
                    VaultErrorKind::WrongKey,
                    "this is not the vault's passphrase",
                )
            })
    }

    fn new_from_passphrase(&self, passphrase: &SecretString) -> Result<Kek, VaultError> {
        if passphrase.expose_secret().is_empty() {
            return Err(self.error(VaultErrorKind::NoKey, "the passphrase is empty"));
        }
        Kek::from_passphrase(passphrase, Argon2Note::new())
            .ok_or_else(|| self.error(VaultErrorKind::NoKey, "the passphrase is too long"))
    }

    fn generate<'p>(&self, path: &'p Path) -> Result<(Kek, Staged<'p>), VaultError> {
        let random: KeyOctets = Zeroizing::new(seal::random());
        // Room for all of it at once: a growing buffer leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(64));
        BASE64.encode_string(random.as_slice(), &mut text);
        let kek = Kek::from_material(text.as_bytes(), KeySource::GeneratedFile, path)?;
        text.push('\n');
        let staged = file::stage(path, text.as_bytes(), 0o400, "key")?;
        file::sync_parent(path)?;
        Ok((kek, staged))
    }

    fn new_in_keyring(&self, store: Id) -> Result<Kek, VaultError> {
        let material: KeyOctets = Zeroizing::new(seal::random());
        let mut kek = Kek::from_material(material.as_slice(), KeySource::Keyring, self.dir)?;
        kek.note.path = None;
        keyring::set(store, &kek.note.id, material.as_slice())
            .map_err(|why| self.keyring_error(&why))?;
        Ok(kek)
    }

    fn in_keyring(&self, store: Id, id: &str) -> Result<Option<Kek>, VaultError> {
        let material = keyring::get(store, id).map_err(|why| self.keyring_error(&why))?;
        let Some(material) = material else {
            return Ok(None);
        };
        let mut kek = Kek::from_material(&material, KeySource::Keyring, self.dir)?;
        kek.note.path = None;
        Ok(Some(kek))
    }

    fn keyring_error(&self, why: &str) -> VaultError {
        self.error(
            VaultErrorKind::NoKey,
            format!("the desktop's keyring: {why}"),
        )
    }

    fn error(&self, kind: VaultErrorKind, message: impl Into<String>) -> VaultError {
        VaultError::new(kind, self.dir, message)
    }
}

fn read_key(path: &Path, source: KeySource, trust: Trust) -> Result<Option<Kek>, VaultError> {
    let most = u64::try_from(MOST_OCTETS).unwrap_or(u64::MAX);
    match file::read(path, most, trust)? {
        Some(material) => Kek::from_material(&material, source, path).map(Some),
        None => Ok(None),
    }
}

impl Argon2Note {
    /// RFC 9106 section 4, the second recommended option.
    fn new() -> Argon2Note {
        Argon2Note {
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 4,
            salt: Id::random().hex(),
        }
    }

    /// A forged `vault.json` is not to exhaust the machine before it is found out.
    fn is_bearable(&self) -> bool {
        self.memory_kib <= 1024 * 1024 && self.passes <= 32 && self.lanes <= 64
    }
}

impl fmt::Display for KeyNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            KeySource::Credential => "the systemd credential postrider.kek",
            KeySource::KeyFile => "the key file",
            KeySource::Keyring => "a key in the desktop's keyring",
            KeySource::Passphrase => "a passphrase",
            KeySource::GeneratedFile => "the generated key file",
        })?;
        match &self.path {
            Some(path) => write!(f, " {}", path.display()),
            None => Ok(()),
        }
    }
}
