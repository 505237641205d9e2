//! Every name that a script may use, described once.
//!
//! What the documentation says, what an editor completes, what `postrider check` knows and what
//! `send{…}` accepts are all read from these tables, so none of them can know a name that another
//! does not.
//!
//! # Adding a function
//!
//! 1. Register it in `postrider-lua` (`Registrar::add`, or `add_waiting` if it waits).
//! 2. Add an [`Item`] to the family's file in `src/family/`: its name as scripts write it after
//!    `pr.` (`csv.read`), or `word:method` for a method of a handle. A table with known keys is a
//!    [`Type::Record`]; give its keys the most special [`Type`] there is ([`Type::Duration`],
//!    [`Type::Cron`], [`Type::Words`], …), for `postrider check` looks into literals. If the code
//!    reads the keys, make the list `pub` in [`mod@family`] and let it ask [`names`].
//! 3. Say how it fails: [`Errors::Returned`] with every code of its `nil, err` (groups that occur
//!    together are in `codes.rs`), [`Errors::Raised`], or [`Errors::Never`]. Misuse is not listed.
//! 4. A new object with methods is a [`Handle`] in [`HANDLES`]; a new event goes into [`EVENTS`].
//! 5. `cargo xtask docs` rewrites the reference page.
//!
//! The example runs by itself, in the world of `postrider test`: `pr` is there, and `account`, one
//! of the configured accounts. Tests here and in `postrider-lua` fail where a step is missing.
//!
//! Not here: a Lua state. That everything described is registered, and nothing else, is for a
//! test of `postrider-lua` to show.
#![forbid(unsafe_code)]

mod check;
mod codes;
mod complete;
pub mod family;
mod item;
mod reference;
mod setting;
mod standard;
mod stubs;
mod suggest;

pub use check::{Finding, Validators, check};
pub use complete::{complete, word};
pub use family::{
    ATTACH_FIELDS, CRON_FIELDS, CSV_ENCODE_FIELDS, CSV_READ_FIELDS, EVENTS, FAMILIES, HANDLES,
    HTTP_GET_FIELDS, HTTP_POST_FIELDS, RETRY_FIELDS, ROTATE_CLIENT_SECRET_FIELDS, ROTATE_FIELDS,
    RUN_FIELDS, SCHEDULE_FIELDS, SEND_FIELDS, item, items,
};
pub use item::{
    ERR, Error, Errors, Event, Family, Field, Handle, Item, Kind, Record, Type, error, field,
    names, optional, records,
};
pub use reference::reference;
pub use setting::{SECRET_SETTING, Setting};
pub use standard::STANDARD;
pub use stubs::{luarc, stubs};
pub use suggest::nearest;
