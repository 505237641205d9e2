//! What a vault holds, as its users see it.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{VaultError, VaultErrorKind};

/// The most octets a record's name may have.
pub const MAX_NAME_OCTETS: usize = 1024;
/// The most octets a record's value may have.
pub const MAX_VALUE_OCTETS: usize = 1 << 20;

/// What sort of thing a record is; each sort has its own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A value that somebody put there to be used by name.
    Secret,
    /// Tokens.
    Grant,
    /// Something somebody was told, or has yet to be told.
    Notice,
    /// How far something with several steps has come.
    Journal,
    /// What opens a gateway to a device: the hash of its password.
    Device,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 5] = [
        Kind::Secret,
        Kind::Grant,
        Kind::Notice,
        Kind::Journal,
        Kind::Device,
    ];

    /// The kind's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Grant => "grant",
            Kind::Notice => "notice",
            Kind::Journal => "journal",
            Kind::Device => "device",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its number in files.
    pub(crate) fn sort(self) -> u8 {
        match self {
            Kind::Secret => 1,
            Kind::Grant => 2,
            Kind::Notice => 3,
            Kind::Journal => 4,
            Kind::Device => 5,
        }
    }

    pub(crate) fn from_sort(sort: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.sort() == sort)
    }
}

/// A record's value. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The octets that were put.
    pub value: Zeroizing<Vec<u8>>,
    /// Grows with each `put` and `remove` of this name.
    pub generation: u64,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A record as [`Vault::list`](crate::Vault::list) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its generation, as far as it is known.
    pub generation: u64,
    /// Why it cannot be read, if it cannot.
    pub problem: Option<VaultError>,
}

/// A record, or something else in the vault, that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which record, where that is known.
    pub record: Option<(Kind, String)>,
    /// What is wrong with it.
    pub error: VaultError,
}

/// Refuses a name that a terminal or a file of lines would stumble over.
pub(crate) fn check_name(name: &str) -> Result<(), VaultError> {
    let message = if name.is_empty() {
        "a record's name is empty".to_owned()
    } else if name.len() > MAX_NAME_OCTETS {
        format!(
            "a record's name has {} octets, more than {MAX_NAME_OCTETS}",
            name.len()
        )
    } else if name.chars().any(char::is_control) {
        "a record's name holds control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(VaultError::new(VaultErrorKind::Name, "".as_ref(), message))
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), VaultError> {
    if value.len() <= MAX_VALUE_OCTETS {
        return Ok(());
    }
    let message = format!(
        "a value has {} octets, more than {MAX_VALUE_OCTETS}",
        value.len()
    );
    Err(VaultError::new(
        VaultErrorKind::TooLarge,
        "".as_ref(),
        message,
    ))
}
