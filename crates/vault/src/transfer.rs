//! Moving records from one vault to another, sealed with age (<https://age-encryption.org/v1>).
//!
//! Within is text, for the day when somebody has the export and no Postrider: a line that says
//! what it is, then one JSON object a line, `{"kind":…,"name":…,"value":…}`, the value in Base64.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, EncryptError, Encryptor, scrypt, x25519};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};
use crate::record::{Kind, MAX_VALUE_OCTETS, Record, check_name, check_value};
use crate::vault::Vault;

const FIRST_LINE: &str = r#"{"format":"postrider-vault-export","version":1}"#;
/// A value in Base64, a name with escapes, and what stands around them.
const MOST_LINE_OCTETS: usize = MAX_VALUE_OCTETS / 3 * 4 + 16 * 1024;
/// An age header has some 100 octets for each recipient.
const MOST_HEADER_OCTETS: u64 = 256 * 1024;
const MOST_OCTETS: u64 = 1 << 30;
/// 2^18 rounds, as the age programs do: about a second and 256 MiB.
const WORK_FACTOR: u8 = 18;
const MOST_WORK_FACTOR: u8 = 20;

/// Which records to export.
#[derive(Debug, Clone, Default)]
pub enum Selection {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(Vec<(Kind, String)>),
}

/// Whom an export is sealed for.
#[derive(Debug, Clone)]
pub enum Sealing {
    /// age X25519 recipients, `age1…`: each of them can open it.
    Recipients(Vec<String>),
    /// Whoever knows this passphrase.
    Passphrase(SecretString),
}

/// What opens an export.
#[derive(Debug, Clone)]
pub enum Opener {
    /// The text of an age identity file: lines of `AGE-SECRET-KEY-1…`, comments and empty lines.
    Identities(SecretString),
    /// The passphrase it was sealed with.
    Passphrase(SecretString),
}

/// How to import.
#[derive(Debug, Clone)]
pub struct Import {
    /// What opens it.
    pub opener: Opener,
    /// Whether an imported record replaces one of the same name with another value. One that is
    /// broken is replaced in any case.
    pub overwrite: bool,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that were not there before.
    pub added: Vec<(Kind, String)>,
    /// Records whose value was replaced.
    pub replaced: Vec<(Kind, String)>,
    /// Records that exist with another value and were left alone.
    pub kept: Vec<(Kind, String)>,
    /// Records that exist with the same value.
    pub same: Vec<(Kind, String)>,
}

impl Vault {
    /// Writes records, sealed for somebody, and answers which. A record that cannot be read ends
    /// it: half an export is none.
    pub fn export(
        &self,
        selection: &Selection,
        sealing: &Sealing,
        armored: bool,
        to: impl Write,
    ) -> Result<Vec<(Kind, String)>, VaultError> {
        let encryptor = encryptor(sealing)?;
        let format = if armored {
            Format::AsciiArmor
        } else {
            Format::Binary
        };
        let armor = ArmoredWriter::wrap_output(to, format).map_err(|error| unwritten(&error))?;
        let mut to = encryptor
            .wrap_output(armor)
            .map_err(|error| unwritten(&error))?;
        writeln!(to, "{FIRST_LINE}").map_err(|error| unwritten(&error))?;

        let mut exported = Vec::new();
        let mut write = |kind, name: String, record: &Record| {
            write_line(&mut to, kind, &name, &record.value).map_err(|error| unwritten(&error))?;
            exported.push((kind, name));
            Ok(())
        };
        match selection {
            Selection::All => self.each(&mut write)?,
            Selection::Only(names) => {
                for (kind, name) in names {
                    let record = self.get(*kind, name)?.ok_or_else(|| {
                        let message = format!("there is no {} \"{name}\"", kind.name());
                        VaultError::new(VaultErrorKind::Missing, self.dir(), message)
                    })?;
                    write(*kind, name.clone(), &record)?;
                }
            }
        }
        let mut inner = to
            .finish()
            .and_then(ArmoredWriter::finish)
            .map_err(|error| unwritten(&error))?;
        inner.flush().map_err(|error| unwritten(&error))?;
        Ok(exported)
    }

    fn each(
        &self,
        write: &mut dyn FnMut(Kind, String, &Record) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let mut outcome = Ok(());
        self.scan(&mut |seen| {
            if outcome.is_ok() {
                outcome = match (seen.result, seen.record) {
                    (Ok(record), Some((kind, name))) => write(kind, name, &record),
                    (Ok(_), None) => Ok(()),
                    (Err(error), _) => Err(error),
                };
            }
        })?;
        outcome
    }

    /// Takes the records of an export into this vault; armor is recognised. Nothing is taken from
    /// an export that cannot be read to its end. Waits for whoever holds a record's lock.
    pub fn import(&self, import: &Import, from: impl Read) -> Result<Imported, VaultError> {
        let mut imported = Imported::default();
        for (kind, name, value) in read(&import.opener, from)? {
            // A refresh may be under way, and what it brings is newer than the export.
            let _lock = self.lock(kind, &name)?;
            let list = match self.get(kind, &name) {
                Ok(None) => &mut imported.added,
                Ok(Some(record)) if *record.value == *value => {
                    imported.same.push((kind, name));
                    continue;
                }
                Ok(Some(_)) if !import.overwrite => {
                    imported.kept.push((kind, name));
                    continue;
                }
                Ok(Some(_)) => &mut imported.replaced,
                Err(error) if error.is_broken() => &mut imported.replaced,
                Err(error) => return Err(error),
            };
            self.put(kind, &name, &value)?;
            list.push((kind, name));
        }
        Ok(imported)
    }
}

fn encryptor(sealing: &Sealing) -> Result<Encryptor, VaultError> {
    match sealing {
        Sealing::Passphrase(passphrase) => {
            if passphrase.expose_secret().is_empty() {
                return Err(error("the passphrase is empty"));
            }
            let mut recipient = scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(WORK_FACTOR);
            Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
                .map_err(|why| sealed_for_nobody(&why))
        }
        Sealing::Recipients(names) => {
            let recipients: Vec<x25519::Recipient> = names
                .iter()
                .map(|name| {
                    name.trim().parse().map_err(|why: &str| {
                        // It may be a secret key given by mistake, so it is not shown.
                        error(format!("not an age recipient (age1…): {why}"))
                    })
                })
                .collect::<Result<_, _>>()?;
            let recipients = recipients.iter().map(|one| one as &dyn age::Recipient);
            Encryptor::with_recipients(recipients).map_err(|why| sealed_for_nobody(&why))
        }
    }
}

fn write_line(to: &mut impl Write, kind: Kind, name: &str, value: &[u8]) -> io::Result<()> {
    // Room for all of it at once: a growing buffer leaves copies behind.
    let mut encoded = Zeroizing::new(String::with_capacity(value.len() / 3 * 4 + 4));
    BASE64.encode_string(value, &mut encoded);
    let name = serde_json::to_string(name)?;
    write!(to, r#"{{"kind":"{}","name":{name},"value":""#, kind.name())?;
    to.write_all(encoded.as_bytes())?;
    to.write_all(b"\"}\n")
}

type Line = (Kind, String, Zeroizing<Vec<u8>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    kind: &'a str,
    #[serde(borrow)]
    name: Cow<'a, str>,
    /// Base64 needs no escapes, so it is not copied.
    value: &'a str,
}

/// All records of an export.
fn read(opener: &Opener, from: impl Read) -> Result<Vec<Line>, VaultError> {
    let left = Rc::new(Cell::new(MOST_HEADER_OCTETS));
    let bounded = Bounded {
        from,
        left: Rc::clone(&left),
    };
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(bounded)).map_err(|why| unopened(&why))?;
    left.set(MOST_OCTETS);
    let text = match (opener, decryptor.is_scrypt()) {
        (Opener::Passphrase(passphrase), true) => {
            let mut identity = scrypt::Identity::new(passphrase.clone());
            identity.set_max_work_factor(MOST_WORK_FACTOR);
            decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
        }
        (Opener::Identities(text), false) => {
            let identities = identities(text)?;
            decryptor.decrypt(identities.iter().map(|one| one as &dyn age::Identity))
        }
        (Opener::Passphrase(_), false) => {
            return Err(error(
                "it is sealed for age recipients, not with a passphrase",
            ));
        }
        (Opener::Identities(_), true) => {
            return Err(error(
                "it is sealed with a passphrase, not for age recipients",
            ));
        }
    };
    let mut text = Wiped::new(text.map_err(|why| unopened(&why))?);
    let first = next_line(&mut text)?;
    if first.as_deref().map(Vec::as_slice) != Some(FIRST_LINE.as_bytes()) {
        return Err(error(
            "it opens, and is no export of a vault that this Postrider reads",
        ));
    }
    let mut lines = Vec::new();
    while let Some(line) = next_line(&mut text)? {
        lines.push(
            parse(&line)
                .ok_or_else(|| error(format!("its line {} is not a record", lines.len() + 2)))?,
        );
    }
    for (_, name, value) in &lines {
        check_name(name)?;
        check_value(value)?;
    }
    Ok(lines)
}

fn parse(line: &[u8]) -> Option<Line> {
    let written: Written<'_> = serde_json::from_slice(line).ok()?;
    let value = Zeroizing::new(BASE64.decode(written.value).ok()?);
    Some((
        Kind::from_name(written.kind)?,
        written.name.into_owned(),
        value,
    ))
}

fn identities(text: &SecretString) -> Result<Vec<x25519::Identity>, VaultError> {
    let lines = text.expose_secret().lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            line.parse().map_err(|_| {
                let number = number + 1;
                error(format!(
                    "line {number} of the identities is not an AGE-SECRET-KEY-1…"
                ))
            })
        })
        .collect()
}

/// A line without its end. Its buffer is wiped, also when it grows.
fn next_line<R: Read>(from: &mut Wiped<R>) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
    let mut line = Zeroizing::new(Vec::with_capacity(8 * 1024));
    loop {
        let buffer = from
            .fill()
            .map_err(|why| unopened(&DecryptError::Io(why)))?;
        if buffer.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let (piece, ended) = match buffer.iter().position(|octet| *octet == b'\n') {
            Some(end) => (&buffer[..end], true),
            None => (buffer, false),
        };
        let needed = line.len() + piece.len();
        if needed > MOST_LINE_OCTETS {
            return Err(error("a line of it is longer than any record"));
        }
        if needed > line.capacity() {
            let mut wider = Zeroizing::new(Vec::with_capacity(needed.max(2 * line.capacity())));
            wider.extend_from_slice(&line);
            line = wider;
        }
        line.extend_from_slice(piece);
        from.at += piece.len() + usize::from(ended);
        if ended {
            return Ok(Some(line));
        }
    }
}

/// A buffered reader that leaves nothing behind.
struct Wiped<R> {
    from: R,
    buffer: Zeroizing<[u8; 8 * 1024]>,
    at: usize,
    end: usize,
}

impl<R: Read> Wiped<R> {
    fn new(from: R) -> Wiped<R> {
        Wiped {
            from,
            buffer: Zeroizing::new([0; 8 * 1024]),
            at: 0,
            end: 0,
        }
    }

    /// What is read and not used; empty at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        while self.at == self.end {
            match self.from.read(self.buffer.as_mut_slice()) {
                Ok(0) => break,
                Ok(read) => (self.at, self.end) = (0, read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }
}

/// Reads so much and no more; what is left may be set anew.
struct Bounded<R> {
    from: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("it is larger than any export"));
        }
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.from.read(&mut buffer[..most])?;
        self.left.set(left - u64::try_from(read).unwrap_or(left));
        Ok(read)
    }
}

fn error(message: impl Into<String>) -> VaultError {
    VaultError::new(VaultErrorKind::Transfer, "".as_ref(), message)
}

fn unwritten(why: &io::Error) -> VaultError {
    VaultError::io("".as_ref(), "write the export", why)
}

fn sealed_for_nobody(why: &EncryptError) -> VaultError {
    match why {
        EncryptError::MissingRecipients => error("there is no recipient to seal it for"),
        other => error(format!("it cannot be sealed: {other}")),
    }
}

fn unopened(why: &DecryptError) -> VaultError {
    error(match why {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            "the passphrase is wrong, or the export is damaged".to_owned()
        }
        DecryptError::NoMatchingKeys => "it is not sealed for any of these identities".to_owned(),
        DecryptError::ExcessiveWork { required, .. } => {
            format!(
                "its passphrase asks for 2^{required} rounds of work, more than 2^{MOST_WORK_FACTOR}"
            )
        }
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => "it is no age file".to_owned(),
        DecryptError::Io(why) => format!("it is no age file, or cut short, or damaged: {why}"),
        _ => "the export is damaged".to_owned(),
    })
}
