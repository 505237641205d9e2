//! `[vault]`: where the vault's key is. The vault itself is another crate's.

use std::path::PathBuf;

use crate::check::Context;
use crate::grammar::{self, Fault};
use crate::problem::Problems;
use crate::secret::{self, Reference, SecretRef};
use crate::section::Section;

/// Where the vault's key is; at most one of them is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VaultSettings {
    /// A file that holds it.
    pub key_file: Option<PathBuf>,
    /// The desktop's keyring holds it.
    pub keyring: bool,
    /// It is derived from a passphrase, which lies there; never in the vault.
    pub passphrase: Option<SecretRef>,
}

/// Whether a secret may be called `name` in the vault.
///
/// # Errors
/// Why not, as the end of a sentence.
pub fn secret_name(name: &str) -> Result<(), String> {
    grammar::secret_name(name).map_err(|fault| fault.message)
}

pub(crate) fn check(
    section: &Section<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> VaultSettings {
    let keyring = section.flag("keyring").unwrap_or_default();
    let given = ["key_file", "keyring", "passphrase"]
        .into_iter()
        .filter(|name| section.has(name) && (*name != "keyring" || keyring));
    if let [first, second, ..] = given.collect::<Vec<_>>()[..] {
        let fault = Fault::with(
            format!("and `{first}` exclude each other: each says where the key is"),
            "keep one of them; `postrider vault rekey` changes from one to another",
        );
        section.fault(second, fault, problems);
    }
    let passphrase = section.node("passphrase").and_then(|node| {
        let key = section.key("passphrase");
        // Well formed, so there is nothing left to report but these.
        let found = secret::from_node(&key, node, context, &mut Problems::default());
        let Reference { secret, expires } = found?;
        let fault = match secret {
            SecretRef::Vault(_) => Fault::with(
                "the vault's own passphrase cannot lie in the vault",
                "write { env = \"NAME\" }, { file = \"/path\" }, { credential = \"name\" } or { command = [\"program\"] }",
            ),
            _ if expires.is_some() => {
                Fault::with("the vault's passphrase does not expire", "leave `expires` out")
            }
            _ => return Some(secret),
        };
        section.fault("passphrase", fault, problems);
        None
    });
    VaultSettings {
        key_file: section.path("key_file", context.base),
        keyring,
        passphrase,
    }
}
