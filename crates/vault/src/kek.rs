//! The key-encryption key, and what `vault.json` remembers of it.

use std::fmt;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};
use crate::keys::KeySource;
use crate::seal::{Id, KeyOctets, hex};

/// What a key out of a file has at least: a password is no key.
const LEAST_OCTETS: usize = 32;
/// And at most.
pub(crate) const MOST_OCTETS: usize = 4096;

/// What `vault.json` remembers of its key: enough to find it again and to know it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyNote {
    pub(crate) source: KeySource,
    /// Made from the key; the key cannot be had from it.
    pub(crate) id: String,
    /// Where a key file was, for people: JSON cannot hold every path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) argon2: Option<Argon2Note>,
}

/// How a passphrase becomes a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Argon2Note {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

/// A key-encryption key and where it came from.
#[derive(Clone)]
pub(crate) struct Kek {
    /// What seals the other keys.
    key: KeyOctets,
    /// What authenticates `vault.json`.
    text_key: hmac::Key,
    pub(crate) note: KeyNote,
}

impl Kek {
    /// One key for each use, all from `root`.
    fn new(root: &KeyOctets, source: KeySource) -> Kek {
        let root = hmac::Key::new(hmac::HMAC_SHA256, root.as_slice());
        let derived = |label: &[u8]| hmac::sign(&root, label);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(derived(b"postrider-vault sealing of keys").as_ref());
        let text_key = derived(b"postrider-vault authentication");
        let note = KeyNote {
            source,
            id: hex(&derived(b"postrider-vault key id").as_ref()[..8]),
            path: None,
            argon2: None,
        };
        Kek {
            key,
            text_key: hmac::Key::new(hmac::HMAC_SHA256, text_key.as_ref()),
            note,
        }
    }

    /// From something that nobody can guess.
    pub(crate) fn from_material(
        material: &[u8],
        source: KeySource,
        path: &Path,
    ) -> Result<Kek, VaultError> {
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
        let mut root = Zeroizing::new([0; 32]);
        root.copy_from_slice(hmac::sign(&label, material).as_ref());
        let mut kek = Kek::new(&root, source);
        kek.note.path = Some(path.to_string_lossy().into_owned());
        Ok(kek)
    }

    pub(crate) fn from_passphrase(passphrase: &SecretString, note: Argon2Note) -> Option<Kek> {
        let salt = Id::from_hex(&note.salt)?;
        let params = Params::new(note.memory_kib, note.passes, note.lanes, Some(32)).ok()?;
        let mut root = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(
                passphrase.expose_secret().as_bytes(),
                &salt.0,
                root.as_mut_slice(),
            )
            .ok()?;
        let mut kek = Kek::new(&root, KeySource::Passphrase);
        kek.note.argon2 = Some(note);
        Some(kek)
    }

    pub(crate) fn key(&self) -> &KeyOctets {
        &self.key
    }

    pub(crate) fn source(&self) -> KeySource {
        self.note.source
    }

    /// Whether this is the key that the note is about, wherever it came from.
    pub(crate) fn is(&self, note: &KeyNote) -> bool {
        self.note.id == note.id
    }

    pub(crate) fn authenticate(&self, text: &[u8]) -> hmac::Tag {
        hmac::sign(&self.text_key, text)
    }

    pub(crate) fn authentic(&self, text: &[u8], tag: &str) -> bool {
        // Equal in constant time is not needed: who can try this has the file and no oracle.
        hex(self.authenticate(text).as_ref()) == tag
    }
}

impl Argon2Note {
    /// RFC 9106 section 4, the second recommended option.
    pub(crate) fn new() -> Argon2Note {
        Argon2Note {
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 4,
            salt: Id::random().hex(),
        }
    }

    /// A forged `vault.json` is not to exhaust the machine before it is found out.
    pub(crate) fn is_bearable(&self) -> bool {
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
            Some(path) => write!(f, " {path}"),
            None => Ok(()),
        }
    }
}
