//! Moving records from one vault to another, sealed with age (<https://age-encryption.org/v1>).

use secrecy::SecretString;

use crate::vault::Kind;

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
    /// Whether an imported record replaces one of the same name with another value.
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
