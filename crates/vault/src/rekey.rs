//! Other keys for the same records.
//!
//! First `vault.json` gets the new key and the new data key beside the old one, so that old and
//! new records can be read; then each shard is sealed anew under its lock; then the old data key
//! goes. A writer reads `vault.json` again, if it changed, once it holds a shard's lock: what it
//! writes after the shard's turn is sealed with the new data key. A reader that meets a data key
//! it does not know does the same. So others can go on meanwhile, and a crash leaves a vault with
//! two data keys, which the next rekey finishes.

use std::time::SystemTime;

use crate::crash;
use crate::error::VaultError;
use crate::file;
use crate::keys::NewKey;
use crate::manifest::{Keys, Stamp};
use crate::record::Problem;
use crate::shard::Shard;
use crate::vault::{Open, Vault, seconds};

/// What to change in [`Vault::rekey`].
#[derive(Debug, Clone)]
pub struct Rekey {
    /// The key to seal the vault with from now on; `None` keeps the present one.
    pub key: Option<NewKey>,
    /// Whether to make a new data key and seal every record with it. An older copy of
    /// `vault.json` and its key then open nothing that is written later.
    pub new_data_key: bool,
    /// The time now, remembered as when the new data key was made.
    pub now: SystemTime,
}

/// How far [`Vault::rekey`] has come with the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many parts of the vault are done.
    pub done: usize,
    /// How many there are; they are about equally large.
    pub parts: usize,
}

/// What [`Vault::rekey`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// How many records were encrypted anew.
    pub records: u64,
    /// What was wrong. A broken ledger was made anew from its records; broken records were left
    /// as they are; an old key that could not be removed is still there.
    pub problems: Vec<Problem>,
    /// Whether no old data key is left. They stay while a record cannot be read: mend or remove
    /// those, and rekey again.
    pub finished: bool,
}

impl Vault {
    /// Seals the vault with another key, or its records with a new data key, or both. Other
    /// processes may use the vault meanwhile; one that cannot get at the new key learns so at its
    /// next write. `progress` hears of each part of the records that is sealed anew.
    pub fn rekey(
        &self,
        rekey: &Rekey,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Rekeyed, VaultError> {
        let _lock = self.lock_manifest()?;
        let before = self.reloaded()?;
        self.sources().settle(&before.keys.kek)?;
        let interrupted = before.keys.sealing.len() > 1;

        let mut keys = before.keys.sealed_with(before.keys.kek.clone());
        let generated = self.sources().generated_path();
        let mut staged = None;
        if let Some(new) = &rekey.key {
            let (kek, waiting) = self.sources().renew(new, keys.store, &generated)?;
            keys = keys.sealed_with(kek);
            staged = waiting;
        }
        if rekey.new_data_key || interrupted {
            keys.add_data_key(seconds(rekey.now));
        }
        crash::step("rekey", "keys");
        let path = self.manifest_path();
        file::stage(&path, &keys.text(), 0o600, "rekey.begin")?.place()?;
        // From here on vault.json asks for the new key, where it is or where it waits, whatever
        // else goes wrong; and the old key goes only once that is durable.
        if let Some(staged) = &mut staged {
            staged.keep();
        }
        file::sync_dir(self.dir())?;
        crash::step("rekey.begin", "durable");
        if let Some(staged) = staged {
            staged.place()?;
            file::sync_parent(&generated)?;
        }
        let keys = self.use_from_now(self.opened(keys));
        let mut done = Rekeyed {
            records: 0,
            problems: Vec::new(),
            finished: true,
        };
        let (old, new) = (&before.keys.kek, &keys.keys.kek);
        if !new.is(&old.note)
            && let Err(error) = self.sources().forget(keys.keys.store, old, new)
        {
            done.problems.push(Problem {
                record: None,
                error,
            });
        }

        if keys.keys.sealing.len() > 1 {
            self.reseal(&keys.keys, &mut done, progress)?;
        }
        if done.finished && keys.keys.sealing.len() > 1 {
            let mut last = keys.keys.sealed_with(keys.keys.kek.clone());
            last.retire_data_keys();
            file::stage(&path, &last.text(), 0o600, "rekey.end")?.place()?;
            file::sync_dir(self.dir())?;
            crash::step("rekey.end", "durable");
            self.use_from_now(self.opened(last));
        }
        Ok(done)
    }

    fn reseal(
        &self,
        keys: &Keys,
        done: &mut Rekeyed,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), VaultError> {
        let shards = self.shards()?;
        for (number, octet) in shards.iter().enumerate() {
            let shard = Shard::new(&self.records(), *octet);
            let _lock = shard.lock(false)?;
            let resealed = shard.reseal(keys)?;
            done.records += resealed.records;
            done.problems.extend(resealed.problems);
            done.finished &= resealed.left == 0;
            progress(Progress {
                done: number + 1,
                parts: shards.len(),
            });
        }
        Ok(())
    }

    fn opened(&self, keys: Keys) -> Open {
        let stamp = Stamp::of(&self.manifest_path());
        Open { keys, stamp }
    }
}
