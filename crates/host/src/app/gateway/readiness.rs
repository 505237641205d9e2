//! How accounts stand, as the report of gateways asks it, and where the ledger is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postrider_gateway::report;

use super::account_sender;
use crate::app::App;
use crate::control::work::{Listed, ListedCredential};

/// The ledger of all gateways.
pub(crate) fn ledger_file(state_dir: &Path) -> PathBuf {
    state_dir.join("gateway").join("ledger.db")
}

/// The accounts by name. One whose standing nobody knows has to be looked after first.
pub(crate) fn readiness(app: &App, listed: &[Listed]) -> BTreeMap<String, report::Account> {
    let of = |account: &postrider_config::Account| {
        let sender = account_sender(account);
        let credential = listed.iter().find(|listed| listed.name == account.name);
        match credential.map(|listed| &listed.credential) {
            Some(ListedCredential::Known(standing)) if standing.state == "none" => {
                report::Account::Password(sender)
            }
            Some(ListedCredential::Known(standing)) => report::Account::OAuth {
                sender,
                is_signed_in: !standing.sign_in_needed,
            },
            Some(ListedCredential::Unknown { .. }) | None if account.auth.plugin == "basic" => {
                report::Account::Password(sender)
            }
            Some(ListedCredential::Unknown { .. }) | None => report::Account::OAuth {
                sender,
                is_signed_in: false,
            },
        }
    };
    let accounts = app.accounts().into_iter();
    accounts
        .map(|account| (account.name.clone(), of(account)))
        .collect()
}
