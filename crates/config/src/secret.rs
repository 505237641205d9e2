//! Where a secret is, and fetching it from there.
//!
//! A [`SecretRef`] may be shown and logged: it holds a place, not a secret. (What a script gave
//! inline is hidden.) [`SecretRef::resolve`] is blocking and bounded: at most
//! 64 KiB, at most 30 seconds.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::check::Context;
use crate::expiry;
use crate::grammar::Fault;
use crate::keys::{self, REFERENCE_FORMS};
use crate::problem::Problems;
use crate::program;
use crate::regular::{self, NOT_REGULAR};
use crate::section::{Place, Section};
use crate::tree::{Entry, Node};

/// No secret is longer: the longest are key files.
const LIMIT_OCTETS: usize = 64 * 1024;
/// A program that prints a secret may ask a token or another machine for it.
const PROGRAM_TIME: Duration = Duration::from_secs(30);

/// A place where a secret is kept.
#[derive(Clone)]
pub enum SecretRef {
    /// A name in Postrider's vault.
    Vault(String),
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
    /// A systemd credential, by name.
    Credential(String),
    /// A program and its arguments.
    Command(Vec<String>),
    /// The secret itself, from a script that holds it.
    Inline(SecretString),
}

/// The same reference, whatever it leads to.
impl PartialEq for SecretRef {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl SecretRef {
    /// Fetches the secret; blocks until it is there or the time is up.
    ///
    /// One trailing line break is taken off. Relative paths are relative to `base_dir`; a name
    /// of the vault is looked up in `vault`.
    pub fn resolve(
        &self,
        base_dir: &Path,
        vault: &dyn VaultLookup,
    ) -> Result<SecretString, SecretError> {
        let surroundings = Resolver {
            variable: &|name| std::env::var_os(name),
            vault,
            program_time: PROGRAM_TIME,
        };
        surroundings.resolve(self, base_dir)
    }

    /// Which secret it is, without its value: the same text for the same place, whatever lies
    /// there. A command's arguments and an inline secret are told apart by their digest.
    pub fn identity(&self) -> String {
        match self {
            Self::Command(words) => {
                let mut digest = Sha256::new();
                for word in words {
                    digest.update(word.as_bytes());
                    digest.update([0]);
                }
                format!("{self}#{}", hex(&digest.finalize()))
            }
            Self::Inline(secret) => {
                let digest = Sha256::digest(secret.expose_secret());
                format!("inline#{}", hex(&digest))
            }
            _ => self.to_string(),
        }
    }

    /// The form's name in the settings: `env`, `file` and so on.
    pub fn form(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::Env(_) => "env",
            Self::File(_) => "file",
            Self::Credential(_) => "credential",
            Self::Command(_) => "command",
            Self::Inline(_) => "inline",
        }
    }

    /// What it names, for people: of a command the program only.
    pub fn name(&self) -> String {
        match self {
            Self::Vault(name) | Self::Env(name) | Self::Credential(name) => name.clone(),
            Self::File(path) => path.display().to_string(),
            Self::Command(words) => words.first().cloned().unwrap_or_default(),
            Self::Inline(_) => "given by the script".to_owned(),
        }
    }
}

/// Where the secrets of the vault come from.
pub trait VaultLookup {
    /// The secret of that name; `None` if the vault has none.
    ///
    /// # Errors
    /// Why the vault cannot say, in one line.
    fn secret(&self, name: &str) -> Result<Option<SecretString>, String>;
}

/// For where there is no vault.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVault;

impl VaultLookup for NoVault {
    fn secret(&self, _: &str) -> Result<Option<SecretString>, String> {
        Err("there is no vault here; use env, file, credential or command".to_owned())
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.form(), self.name())
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRef({self})")
    }
}

impl Serialize for SecretRef {
    /// `{ "env": "NAME" }`: the form and what it names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.form(), &self.name())?;
        map.end()
    }
}

/// A secret's text: one trailing line break is taken off, and nothing else.
///
/// # Errors
/// Why it is no secret, as the end of a sentence: longer than 64 KiB, empty, not UTF-8 text.
pub fn secret_text(octets: &[u8]) -> Result<SecretString, String> {
    as_text(octets).map_err(|(_, message)| message)
}

/// Why a secret could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretError {
    /// What the caller can act on.
    pub kind: SecretErrorKind,
    /// The reference, such as `env=OPS_SECRET`.
    pub reference: String,
    /// What went wrong; never holds any of the secret.
    pub message: String,
}

/// The outcomes that call for different actions.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretErrorKind {
    /// It is not there.
    Missing,
    /// It is there and must not be used: someone else could read or change it.
    Unsafe,
    /// It is there and is no secret: empty, too long, not text.
    Malformed,
    /// The program failed or took too long; trying again may help.
    Failed,
    /// The vault cannot be opened, or cannot read it.
    Vault,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}: {}", self.reference, self.message)
    }
}

impl std::error::Error for SecretError {}

/// A reference as it is written, with what stands beside it.
pub(crate) struct Reference {
    pub(crate) secret: SecretRef,
    /// When the provider stops accepting it.
    pub(crate) expires: Option<SystemTime>,
}

/// Whether `node` is a table with one of the reference forms, and nothing else but what may
/// stand beside it.
pub(crate) fn is_reference(node: &Node) -> bool {
    let known = keys::REFERENCE
        .iter()
        .copied()
        .chain([keys::INLINE])
        .flatten();
    let entries = node.entries().unwrap_or_default();
    entries.iter().filter(|entry| !is_beside(entry)).count() == 1
        && entries
            .iter()
            .all(|entry| known.clone().any(|field| field.name == entry.key))
}

/// Whether the entry says something about the secret and not where it is.
fn is_beside(entry: &Entry) -> bool {
    let mut known = keys::BESIDE_REFERENCE.iter();
    known.any(|field| field.name == entry.key)
}

/// The reference that `node` spells; reports what is wrong with it otherwise.
pub(crate) fn from_node(
    key: &str,
    node: &Node,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Reference> {
    let Some(entries) = node.entries() else {
        let message = match node.text() {
            Some(_) => "a secret does not stand in the settings themselves".to_owned(),
            None => format!(
                "expected a reference to a secret, found {}",
                node.type_name()
            ),
        };
        problems.suggest(
            key,
            node.span.clone(),
            message,
            format!("write {REFERENCE_FORMS}"),
        );
        return None;
    };
    let place = Place {
        path: key.to_owned(),
        span: node.span.clone(),
    };
    let mut fields = keys::REFERENCE.to_vec();
    if context.script {
        fields.push(keys::INLINE);
    }
    let section = Section::open(node, place, &fields, context, problems)?;
    if entries.iter().filter(|entry| !is_beside(entry)).count() != 1 {
        let fault = Fault::with(
            "a reference has one form, no more and no fewer",
            format!("write {REFERENCE_FORMS}"),
        );
        section.missing(fault, problems);
        return None;
    }
    let mut sound = section.sound();
    let (form, node) = sound.find(|(field, _)| field.name != "expires")?;
    let text = || node.text().map(str::to_owned);
    let secret = match form.name {
        "env" => SecretRef::Env(text()?),
        "file" => SecretRef::File(context.base.join(text()?)),
        "credential" => SecretRef::Credential(text()?),
        "command" => SecretRef::Command(section.texts("command")?),
        "inline" => SecretRef::Inline(SecretString::from(text()?)),
        _ => SecretRef::Vault(text()?),
    };
    let expires = match section.node("expires") {
        Some(node) => Some(expiry::from_node(node).ok()?),
        None if section.has("expires") => return None,
        None => None,
    };
    Some(Reference { secret, expires })
}

/// Whether a script may hold this as a secret. Says nothing of what it is.
pub(crate) fn inline(text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.len() > LIMIT_OCTETS || text.contains('\0') {
        return Err(Fault::new("is empty, too long, or holds NUL"));
    }
    Ok(())
}

/// The first 16 octets, which is enough to tell one from another.
fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .take(16)
        .fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"))
}

/// What fetching a secret depends on.
struct Resolver<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    vault: &'a dyn VaultLookup,
    program_time: Duration,
}

type Fetched = Result<Zeroizing<Vec<u8>>, (SecretErrorKind, String)>;

impl Resolver<'_> {
    fn resolve(&self, secret: &SecretRef, base: &Path) -> Result<SecretString, SecretError> {
        let fetched = match secret {
            SecretRef::Inline(secret) => return Ok(secret.clone()),
            SecretRef::Vault(name) => match self.vault.secret(name) {
                Ok(Some(secret)) => return Ok(secret),
                Ok(None) => Err((
                    SecretErrorKind::Missing,
                    "the vault has no such secret".to_owned(),
                )),
                Err(why) => Err((SecretErrorKind::Vault, why)),
            },
            SecretRef::Env(name) => self.env(name),
            SecretRef::File(path) => file(&base.join(path)),
            SecretRef::Credential(name) => self.credential(name),
            SecretRef::Command(words) => self.command(words),
        };
        fetched
            .and_then(|octets| as_text(&octets))
            .map_err(|(kind, message)| SecretError {
                kind,
                reference: secret.to_string(),
                message,
            })
    }

    fn env(&self, name: &str) -> Fetched {
        match (self.variable)(name) {
            Some(value) => Ok(Zeroizing::new(value.into_encoded_bytes())),
            None => Err((
                SecretErrorKind::Missing,
                "the environment has no such variable".to_owned(),
            )),
        }
    }

    /// systemd has checked who may read it (systemd.exec(5), `LoadCredential=`).
    fn credential(&self, name: &str) -> Fetched {
        let directory = (self.variable)("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            (
                SecretErrorKind::Missing,
                format!("$CREDENTIALS_DIRECTORY is not set; start the service with LoadCredential={name}:…"),
            )
        })?;
        read(&Path::new(&directory).join(name))
    }

    fn command(&self, words: &[String]) -> Fetched {
        program::output(words, self.program_time, LIMIT_OCTETS).map_err(|why| {
            let kind = match why {
                program::Failure::NotFound(_) => SecretErrorKind::Missing,
                program::Failure::TooLong => SecretErrorKind::Malformed,
                _ => SecretErrorKind::Failed,
            };
            (kind, why.to_string())
        })
    }
}

/// A file's content, if nobody else could read or change it.
fn file(path: &Path) -> Fetched {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    let own = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    match distrust(metadata.uid(), mode, own) {
        None => read_open(file),
        Some(Distrust { why, remedy }) => {
            let message = format!("{why}; {remedy} '{}'", path.display());
            Err((SecretErrorKind::Unsafe, message))
        }
    }
}

/// Why a secret file is not to be used, and the command that mends it.
#[derive(Debug, PartialEq, Eq)]
struct Distrust {
    why: String,
    remedy: String,
}

/// The owner is this user or root, nobody else may write, and nobody else may read; only a file
/// of root may be readable by its group, which is how root hands a secret to a service. Container
/// runtimes that mount secrets readable by all take a mode for it.
fn distrust(owner: u32, mode: u32, own: u32) -> Option<Distrust> {
    let private = "chmod 600".to_owned();
    if owner != own && owner != 0 {
        return Some(Distrust {
            why: format!("the file belongs to user {owner}, neither to this one nor to root"),
            remedy: format!("chown {own}"),
        });
    }
    if mode & 0o022 != 0 {
        return Some(Distrust {
            why: format!("others can change the file (mode {mode:04o})"),
            remedy: private,
        });
    }
    let others = if owner == 0 { 0o007 } else { 0o077 };
    (mode & others != 0).then(|| Distrust {
        why: format!("others can read the file (mode {mode:04o})"),
        remedy: private,
    })
}

fn read(path: &Path) -> Fetched {
    read_open(open(path)?)
}

fn open(path: &Path) -> Result<std::fs::File, (SecretErrorKind, String)> {
    let opened = regular::open(path).map_err(|error| unreadable(&error))?;
    opened.ok_or_else(|| (SecretErrorKind::Malformed, NOT_REGULAR.to_owned()))
}

fn read_open(file: std::fs::File) -> Fetched {
    // Room for all of it at once: a growing buffer leaves copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(LIMIT_OCTETS + 2));
    let most = u64::try_from(LIMIT_OCTETS).unwrap_or(u64::MAX) + 1;
    file.take(most)
        .read_to_end(&mut octets)
        .map_err(|error| unreadable(&error))?;
    Ok(octets)
}

fn unreadable(error: &std::io::Error) -> (SecretErrorKind, String) {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => SecretErrorKind::Missing,
        _ => SecretErrorKind::Failed,
    };
    (kind, format!("cannot be read: {error}"))
}

/// The secret without its trailing line break.
fn as_text(octets: &[u8]) -> Result<SecretString, (SecretErrorKind, String)> {
    let malformed = |message: &str| Err((SecretErrorKind::Malformed, message.to_owned()));
    let Ok(text) = std::str::from_utf8(octets) else {
        return malformed("is not UTF-8 text");
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return malformed("is empty");
    }
    if text.len() > LIMIT_OCTETS {
        return malformed("is longer than 64 KiB");
    }
    if text.contains('\0') {
        return malformed("holds NUL");
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn resolver(variable: &dyn Fn(&str) -> Option<OsString>) -> Resolver<'_> {
        Resolver {
            variable,
            vault: &Drawer,
            program_time: PROGRAM_TIME,
        }
    }

    fn resolve(
        secret: &SecretRef,
        base: &Path,
        variables: &[(&str, &str)],
    ) -> Result<String, SecretError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        resolver(&variable)
            .resolve(secret, base)
            .map(|secret| secret.expose_secret().to_owned())
    }

    fn write(path: &Path, octets: &[u8], mode: u32) {
        fs::write(path, octets).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_variable_is_read_when_the_secret_is_wanted() {
        let secret = SecretRef::Env("OPS_SECRET".to_owned());
        let none = Path::new("");
        assert_eq!(
            resolve(&secret, none, &[("OPS_SECRET", "hunter2")]).unwrap(),
            "hunter2"
        );
        let error = resolve(&secret, none, &[]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Missing);
        assert_eq!(
            error.to_string(),
            "secret env=OPS_SECRET: the environment has no such variable"
        );
        let error = resolve(&secret, none, &[("OPS_SECRET", "")]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Malformed);
    }

    #[test]
    fn a_file_loses_one_line_break_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let secret = SecretRef::File("secret".into());
        for (octets, expected) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" hunter2 \n\n", " hunter2 \n"),
            ("-----BEGIN\nx\n", "-----BEGIN\nx"),
        ] {
            write(&path, octets.as_bytes(), 0o600);
            assert_eq!(resolve(&secret, dir.path(), &[]).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let secret = SecretRef::File(path.clone());
        let long = vec![b'x'; LIMIT_OCTETS + 1];
        for octets in [&b""[..], b"\n", b"a\xff", b"a\0b", &long] {
            write(&path, octets, 0o600);
            let error = resolve(&secret, dir.path(), &[]).unwrap_err();
            assert_eq!(error.kind, SecretErrorKind::Malformed, "{error}");
        }
        write(&path, &long[1..], 0o600);
        assert!(resolve(&secret, dir.path(), &[]).is_ok());
        let error = resolve(&SecretRef::File(dir.path().into()), dir.path(), &[]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Malformed);
        let error = resolve(&SecretRef::File("none".into()), dir.path(), &[]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Missing);
    }

    #[test]
    fn a_pipe_in_place_of_a_file_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        let error = resolve(&SecretRef::File(path), dir.path(), &[]).unwrap_err();
        assert_eq!(error.message, "is not a regular file");
    }

    #[test]
    fn a_file_that_others_could_change_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, b"hunter2", 0o666);
        let error = resolve(&SecretRef::File(path.clone()), dir.path(), &[]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Unsafe);
        assert_eq!(
            error.message,
            format!(
                "others can change the file (mode 0666); chmod 600 '{}'",
                path.display()
            )
        );
    }

    #[test]
    fn trust_depends_on_owner_and_mode() {
        let me = 1000;
        let why = |owner, mode| distrust(owner, mode, me).map(|distrust| distrust.why);
        for (owner, mode) in [(me, 0o600), (me, 0o400), (0, 0o600), (0, 0o640)] {
            assert_eq!(why(owner, mode), None, "{owner} {mode:o}");
        }
        for (owner, mode, expected) in [
            (me, 0o640, "others can read"),
            (me, 0o604, "others can read"),
            (me, 0o620, "others can change"),
            (0, 0o444, "others can read"),
            (0, 0o644, "others can read"),
            (0, 0o666, "others can change"),
            (0, 0o660, "others can change"),
            (1001, 0o600, "belongs to user 1001"),
        ] {
            assert!(
                why(owner, mode).unwrap().contains(expected),
                "{owner} {mode:o}"
            );
        }
    }

    #[test]
    fn a_credential_lies_in_the_directory_that_systemd_names() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("ops"), b"hunter2\n", 0o440);
        let secret = SecretRef::Credential("ops".to_owned());
        let directory = dir.path().to_str().unwrap();
        let found = resolve(
            &secret,
            Path::new(""),
            &[("CREDENTIALS_DIRECTORY", directory)],
        );
        assert_eq!(found.unwrap(), "hunter2");
        let error = resolve(&secret, Path::new(""), &[]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Missing);
        assert!(error.message.contains("LoadCredential=ops"), "{error}");
    }

    #[test]
    fn a_program_prints_the_secret() {
        let words =
            |words: &[&str]| SecretRef::Command(words.iter().map(ToString::to_string).collect());
        let none = Path::new("");
        let secret = resolve(&words(&["printf", "hunter2\n"]), none, &[]);
        assert_eq!(secret.unwrap(), "hunter2");
        let error = resolve(&words(&["false"]), none, &[]).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Failed);
        assert_eq!(error.reference, "command=false");
    }

    /// A vault with one secret, that cannot read another.
    struct Drawer;

    impl VaultLookup for Drawer {
        fn secret(&self, name: &str) -> Result<Option<SecretString>, String> {
            match name {
                "ops" => Ok(Some(SecretString::from("hunter2\n"))),
                "broken" => Err("the record is truncated".to_owned()),
                _ => Ok(None),
            }
        }
    }

    #[test]
    fn a_vaults_secret_is_as_it_was_put_there() {
        let vault = |name: &str| resolve(&SecretRef::Vault(name.to_owned()), Path::new(""), &[]);
        assert_eq!(vault("ops").unwrap(), "hunter2\n");
        let error = vault("a/b").unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Missing);
        assert_eq!(
            error.to_string(),
            "secret vault=a/b: the vault has no such secret"
        );
        let error = vault("broken").unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Vault);
        assert_eq!(error.message, "the record is truncated");
    }

    #[test]
    fn where_there_is_no_vault_that_is_said() {
        let secret = SecretRef::Vault("a/b".to_owned());
        let error = secret.resolve(Path::new(""), &NoVault).unwrap_err();
        assert_eq!(error.kind, SecretErrorKind::Vault);
        assert_eq!(
            error.to_string(),
            "secret vault=a/b: there is no vault here; use env, file, credential or command"
        );
    }

    #[test]
    fn identity_tells_secrets_apart_and_shows_none() {
        let command = |words: &[&str]| {
            SecretRef::Command(words.iter().map(ToString::to_string).collect()).identity()
        };
        let inline = |text: &str| SecretRef::Inline(SecretString::from(text)).identity();
        assert_eq!(SecretRef::Env("OPS".to_owned()).identity(), "env=OPS");
        assert_eq!(SecretRef::Vault("a/b".to_owned()).identity(), "vault=a/b");
        assert_eq!(command(&["pass", "hunter2"]), command(&["pass", "hunter2"]));
        assert_ne!(command(&["pass", "hunter2"]), command(&["pass", "hunter3"]));
        assert_ne!(command(&["pass", "a", "b"]), command(&["pass", "ab"]));
        assert_eq!(inline("hunter2"), inline("hunter2"));
        assert_ne!(inline("hunter2"), inline("hunter3"));
        for shown in [command(&["pass", "hunter2"]), inline("hunter2")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn no_reference_shows_a_secret() {
        let inline = SecretRef::Inline(SecretString::from("hunter2"));
        let command = SecretRef::Command(vec!["pass".to_owned(), "hunter2".to_owned()]);
        for secret in [inline, command] {
            let json = serde_json::to_string(&secret).unwrap();
            let shown = format!("{secret} {secret:?} {json}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
