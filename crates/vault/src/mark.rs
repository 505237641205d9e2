//! Whether a record is still what it was, without reading it.

use std::path::PathBuf;

use crate::error::VaultError;
use crate::manifest::Stamp;
use crate::record::{Kind, check_name};
use crate::shard::Shard;
use crate::vault::Vault;

/// A record's file, as it was at some moment.
#[derive(Debug, Clone)]
pub struct Mark {
    path: PathBuf,
    stamp: Option<Stamp>,
}

impl Mark {
    /// Whether there is that file, and no other in its place. Looks at one file, and reads none.
    ///
    /// Every [`Vault::put`] makes another file, whichever process puts, and [`Vault::remove`] takes
    /// it away last: only where a crash came before that does a mark outlive its record, until the
    /// record is removed again or put.
    pub fn stands(&self) -> bool {
        self.stamp.is_some() && self.stamp == Stamp::of(&self.path)
    }
}

impl Vault {
    /// Marks the record of that name. As long as the mark stands, [`Vault::get`] gives what it gave
    /// after the mark was made.
    pub fn mark(&self, kind: Kind, name: &str) -> Result<Mark, VaultError> {
        check_name(name)?;
        let id = self.keys().keys.record_id(kind, name);
        let path = Shard::of(&self.records(), id).path(id);
        let stamp = Stamp::of(&path);
        Ok(Mark { path, stamp })
    }
}
