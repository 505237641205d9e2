//! Finding a vault's key where it may be, and making one.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};
use crate::file::{self, Staged, Trust};
use crate::kek::{Argon2Note, Kek, KeyNote, MOST_OCTETS};
use crate::keyring;
use crate::keys::{KeyOptions, KeySource, NewKey, PassphraseRequest};
use crate::seal::{self, Id, KeyOctets};

/// The credential's name in systemd's directory.
const CREDENTIAL: &str = "postrider.kek";

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
        if let Ok(Some(kek)) = &wanted
            && kek.is(note)
        {
            return Ok(kek.clone());
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
        if let Some(kek) = wanted? {
            let message = format!(
                "{} holds another key than this vault is sealed with",
                kek.note
            );
            return Err(self.error(VaultErrorKind::WrongKey, message));
        }
        let offered = others.first();
        let offered = offered.map(|other| format!("; {other} holds another key"));
        let message = format!(
            "the vault is sealed with {note}, which is not to be had here{}",
            offered.unwrap_or_default()
        );
        Err(self.error(VaultErrorKind::NoKey, message))
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
        let (kek, staged) = generate(&path)?;
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
                let (kek, staged) = generate(generated)?;
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
                if new.note.path.as_deref() != Some(&*path.to_string_lossy()) {
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
                        kek.note.path = Some(path.to_string_lossy().into_owned());
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

/// Makes a key file, not in its place yet.
fn generate(path: &Path) -> Result<(Kek, Staged<'_>), VaultError> {
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

fn read_key(path: &Path, source: KeySource, trust: Trust) -> Result<Option<Kek>, VaultError> {
    let most = u64::try_from(MOST_OCTETS).unwrap_or(u64::MAX);
    match file::read(path, most, trust)? {
        Some(material) => Kek::from_material(&material, source, path).map(Some),
        None => Ok(None),
    }
}
