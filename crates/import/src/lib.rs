//! Configurations of other mailers, as accounts and gateways of Postrider.
//!
//! Nothing is lost in silence: what could not be carried over is listed, with its place, the
//! reason and what to do instead. Nothing is written and no program is run; a file is read only
//! where another one names it, through [`Files`].
//!
//! Not here: writing `postrider.toml` and the vault, and asking a person for anything.
#![forbid(unsafe_code)]

mod account;
mod emailproxy;
mod error;
mod fernet;
mod files;
mod gateway;
mod hosts;
mod ini;
mod left;
mod msmtp;
mod names;
mod oauth;
mod postfix;
mod xoauth2;

pub use account::{ImportedAccount, ImportedSecret, ImportedTokens};
pub use emailproxy::{emailproxy, needs_password};
pub use error::{ImportError, ImportErrorKind};
pub use files::{Files, MAX_FILE_OCTETS};
pub use gateway::{ImportedDevice, ImportedGateway};
pub use left::{NotCarried, Place};
pub use msmtp::msmtp;
pub use postfix::postfix;
pub use xoauth2::sasl_xoauth2;

/// The most accounts of a file.
pub(crate) const MAX_ACCOUNTS: usize = 1000;
/// The most that is said of what was not carried over.
const MAX_NOT_CARRIED: usize = 1000;

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stands before every name of an account and a gateway.
    pub prefix: String,
    /// Who may reach a gateway whose listener is not of this machine alone; empty: it is
    /// imported on the loopback interface.
    pub clients: Vec<String>,
    /// Whom an account sends as where its user is no mail address and the file names nobody.
    pub sender: Option<String>,
}

/// What a configuration came to.
#[derive(Debug, Default)]
pub struct Imported {
    /// The accounts, in the order of the file.
    pub accounts: Vec<ImportedAccount>,
    /// The listeners.
    pub gateways: Vec<ImportedGateway>,
    /// What none of these has.
    pub not_carried: Vec<NotCarried>,
}

impl Imported {
    /// With no longer a list than anybody reads.
    pub(crate) fn bounded(mut self) -> Self {
        let more = self.not_carried.len().saturating_sub(MAX_NOT_CARRIED);
        if more > 0 {
            let place = self.not_carried[MAX_NOT_CARRIED].place.clone();
            self.not_carried.truncate(MAX_NOT_CARRIED);
            let why = "mend what stands above, and import again";
            let what = format!("{more} more");
            self.not_carried.push(NotCarried::new(place, &what, why));
        }
        self
    }
}
