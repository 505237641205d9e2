//! The keys of an account's table, which `pr.account{…}` shares with the configuration file.
//!
//! Not here: which they are. The configuration describes them, and the host hands them on.

use crate::family::SECRET;
use crate::item::Type;

/// A key of `[account.NAME]`.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Dotted, from the account on: `server.port`.
    pub key: String,
    /// The plugin that alone takes it, for a key below `auth`.
    pub plugin: Option<&'static str>,
    /// What it may be; a table's own keys are settings themselves.
    pub what: Type,
    /// The words it chooses from, or its items do; empty for any.
    pub words: Vec<&'static str>,
    /// What it does.
    pub doc: &'static str,
}

/// What a setting is that holds a secret.
pub const SECRET_SETTING: Type = Type::OneOf(&[Type::Handle(&SECRET), Type::Table]);

impl Setting {
    /// The table it stands in: `server.`, or nothing for the account's own.
    pub fn section(&self) -> &str {
        match self.key.rfind('.') {
            Some(dot) => &self.key[..=dot],
            None => "",
        }
    }

    /// What it is called there.
    pub fn name(&self) -> &str {
        &self.key[self.section().len()..]
    }
}
