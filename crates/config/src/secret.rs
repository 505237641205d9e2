//! Where a secret is, and fetching it from there.
//!
//! A [`SecretRef`] may be shown, logged and compared: it holds a place, not a secret. (What a
//! script gave inline is hidden.) [`SecretRef::resolve`] is blocking and bounded: at most
//! 64 KiB, at most 30 seconds.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::check::Context;
use crate::grammar::Fault;
use crate::keys::{self, REFERENCE_FORMS};
use crate::problem::Problems;
use crate::program;
use crate::section::{Place, Section};
use crate::tree::Node;

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

impl SecretRef {
    /// Fetches the secret; blocks until it is there or the time is up.
    ///
    /// One trailing line break is taken off. Relative paths are relative to `base_dir`.
    pub fn resolve(&self, base_dir: &Path) -> Result<SecretString, SecretError> {
        let surroundings = Resolver {
            variable: &|name| std::env::var_os(name),
            program_time: PROGRAM_TIME,
        };
        surroundings.resolve(self, base_dir)
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
    /// This build has no such place.
    Unsupported,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}: {}", self.reference, self.message)
    }
}

impl std::error::Error for SecretError {}

/// Whether `node` is a table with one of the reference forms as its only key.
pub(crate) fn is_reference(node: &Node) -> bool {
    let forms = keys::REFERENCE.iter().chain(keys::INLINE);
    matches!(node.entries(), Some([only]) if forms.into_iter().any(|form| form.name == only.key))
}

/// The reference that `node` spells; reports what is wrong with it otherwise.
pub(crate) fn from_node(
    key: &str,
    node: &Node,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<SecretRef> {
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
    if let [only] = entries
        && context.script
        && only.key == "inline"
    {
        return inline(&format!("{key}.inline"), &only.node, problems);
    }
    let place = Place {
        path: key.to_owned(),
        span: node.span.clone(),
    };
    let section = Section::open(node, place, &[keys::REFERENCE], context, problems)?;
    if entries.len() != 1 {
        let fault = Fault::with(
            "a reference has one form, no more and no fewer",
            format!("write {REFERENCE_FORMS}"),
        );
        section.missing(fault, problems);
        return None;
    }
    let (form, node) = section.sound().next()?;
    let text = || node.text().map(str::to_owned);
    Some(match form.name {
        "env" => SecretRef::Env(text()?),
        "file" => SecretRef::File(context.base.join(text()?)),
        "credential" => SecretRef::Credential(text()?),
        "command" => SecretRef::Command(section.texts("command")?),
        _ => SecretRef::Vault(text()?),
    })
}

/// The secret that a script holds itself.
fn inline(key: &str, node: &Node, problems: &mut Problems) -> Option<SecretRef> {
    let message = match node.text() {
        Some(text) if !text.is_empty() && text.len() <= LIMIT_OCTETS && !text.contains('\0') => {
            return Some(SecretRef::Inline(SecretString::from(text)));
        }
        Some(_) => "is empty, too long, or holds NUL".to_owned(),
        None => format!("expected a string, found {}", node.type_name()),
    };
    problems.add(key, node.span.clone(), message);
    None
}

/// What fetching a secret depends on.
struct Resolver<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    program_time: Duration,
}

type Fetched = Result<Zeroizing<Vec<u8>>, (SecretErrorKind, String)>;

impl Resolver<'_> {
    fn resolve(&self, secret: &SecretRef, base: &Path) -> Result<SecretString, SecretError> {
        let fetched = match secret {
            SecretRef::Inline(secret) => return Ok(secret.clone()),
            SecretRef::Vault(_) => Err((
                SecretErrorKind::Unsupported,
                "there is no vault yet; use env, file, credential or command".to_owned(),
            )),
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
///
/// Files of root may be readable by others: container runtimes mount secrets so, and root
/// chose it. Nobody but the owner may ever be able to write.
fn file(path: &Path) -> Fetched {
    let octets = open(path)?;
    let metadata = octets.metadata().map_err(|error| unreadable(&error))?;
    let refuse = |message: String| Err((SecretErrorKind::Unsafe, message));
    let mode = metadata.mode() & 0o7777;
    let shown = path.display();
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return refuse(format!(
            "the file belongs to user {}, neither to this one nor to root; chown {own} '{shown}'",
            metadata.uid()
        ));
    }
    if mode & 0o022 != 0 {
        return refuse(format!(
            "others can change the file (mode {mode:04o}); chmod 600 '{shown}'"
        ));
    }
    if mode & 0o077 != 0 && metadata.uid() != 0 {
        return refuse(format!(
            "others can read the file (mode {mode:04o}); chmod 600 '{shown}'"
        ));
    }
    read_open(octets)
}

fn read(path: &Path) -> Fetched {
    read_open(open(path)?)
}

/// Opens a regular file; a FIFO or a device would block or never end.
fn open(path: &Path) -> Result<std::fs::File, (SecretErrorKind, String)> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err((
            SecretErrorKind::Malformed,
            "is not a regular file".to_owned(),
        ));
    }
    Ok(file)
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
    if octets.len() > LIMIT_OCTETS {
        return malformed("is longer than 64 KiB");
    }
    let Ok(text) = std::str::from_utf8(octets) else {
        return malformed("is not UTF-8 text");
    };
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return malformed("is empty");
    }
    if text.contains('\0') {
        return malformed("holds NUL");
    }
    Ok(SecretString::from(text))
}
