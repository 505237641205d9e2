//! Gateways in a daemon: their settings from the configuration, and what they ask of this program.

mod authors;
mod backend;
mod book;
mod certificates;
mod check;
mod credential;
mod entry;
mod failing;
mod holder;
mod own_address;
mod readiness;
mod remembered;
mod reply;
mod running;
pub(crate) mod scripts;
mod settings;

pub(crate) use backend::account_sender;
pub(crate) use book::NO_CLIENT;
pub(crate) use certificates::look_after;
pub(crate) use check::{certificate_of, check};
pub(crate) use credential::{
    StoredCredential, credential, credential_name, devices, keep_credential,
};
pub(crate) use own_address::own_address;
pub(crate) use readiness::{ledger_file, readiness};
pub(crate) use reply::to as reply;
pub(crate) use running::{Change, Gateways, failure as gateway_failure};
pub(crate) use settings::settings;
