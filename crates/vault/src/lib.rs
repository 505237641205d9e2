//! Secrets at rest: named records in encrypted files, shared by any number of processes.
//!
//! A key-encryption key comes from outside ([`KeyOptions`]). It opens `vault.json`, which holds
//! the data keys, and these seal the records. A record is bound to its vault, kind, name and
//! generation, so one copied over another, or an older copy of it, is not taken for it.
//!
//! The invariant: whenever a process dies, and at whichever instruction, each record is
//! afterwards the one before or the one after, and every other record is untouched.
//!
//! Not here: what a record means, when a token is refreshed, who asks for a passphrase. And what
//! no file can do for itself: a copy of the whole directory put back later is not detected.
#![forbid(unsafe_code)]

mod crash;
mod error;
mod file;
mod kek;
mod keyring;
mod keys;
mod ledger;
mod manifest;
mod mark;
mod record;
mod rekey;
mod seal;
mod shard;
mod sources;
mod status;
mod transfer;
mod vault;

#[doc(hidden)]
pub use crash::crash_point;
pub use error::{VaultError, VaultErrorKind};
pub use keys::{KeyOptions, KeySource, NewKey, Passphrase, PassphraseRequest};
pub use mark::Mark;
pub use record::{Entry, Kind, MAX_NAME_OCTETS, MAX_VALUE_OCTETS, Problem, Record};
pub use rekey::{Progress, Rekey, Rekeyed};
pub use status::{DataKey, Status};
pub use transfer::{Import, Imported, Opener, Sealing, Selection};
pub use vault::{Lock, Options, Vault};
