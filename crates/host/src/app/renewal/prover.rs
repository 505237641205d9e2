//! Whether a secret works: a token is asked for with it, and used to authenticate.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_auth::AuthError;
use postrider_config::{self as config, ReuseGrace};
use postrider_smtp::SendErrorKind;
use secrecy::SecretString;

use super::apart::{Replaced, at_graph};
use super::journal::Renewable;
use super::machine::{Prover, Unproved};
use crate::app::bridge::auth_error;
use crate::app::{Account, App};
use crate::failure::Failure;

/// Proves secrets for one account.
pub(super) struct AccountProver {
    pub(super) app: App,
    pub(super) settings: config::Account,
    pub(super) what: Renewable,
    /// What could be seen only in part.
    pub(super) reservations: Arc<Mutex<Option<&'static str>>>,
}

impl AccountProver {
    async fn attempt(&self, value: &SecretString) -> Result<(), Unproved> {
        let failed = Unproved::Failed;
        let with = |settings: config::Account, signed_in| {
            let setting = self.what.setting().to_owned();
            let replaced = Replaced::from([(setting, value.clone())]);
            self.app.apart(settings, replaced, signed_in)
        };
        let account = with(self.settings.clone(), true).await.map_err(failed)?;
        if account.needs_person()
            && let Some(why) = self.cannot_use_sign_in(&account).await
        {
            // The provider still says whether it knows the secret.
            let app_only = with(at_graph(&self.settings), false)
                .await
                .map_err(failed)?;
            let token = app_only.credential().rotate(true).await;
            token.map_err(|error| refused(&app_only, &error))?;
            *self
                .reservations
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(why);
            return Ok(());
        }
        let token = account.credential().rotate(true).await;
        token.map_err(|error| refused(&account, &error))?;
        authenticate(&account).await
    }

    /// Why the account's sign-in is not to be touched.
    async fn cannot_use_sign_in(&self, account: &Account) -> Option<&'static str> {
        if self.settings.rotation.reuse_grace != ReuseGrace::Forever {
            return Some("using its refresh token a second time would revoke the sign-in");
        }
        match account.standing().await {
            Ok(standing) if standing.state != "absent" && !standing.sign_in_needed => None,
            _ => Some("nobody is signed in"),
        }
    }
}

impl Prover for AccountProver {
    fn prove<'a>(&'a self, value: &'a SecretString) -> BoxFuture<'a, Result<(), Unproved>> {
        self.attempt(value).boxed()
    }
}

/// `invalid_client` is what Entra ID says of a secret that it does not know, or not yet
/// (AADSTS7000215, facts B3).
fn refused(account: &Account, error: &AuthError) -> Unproved {
    let failure = account.auth_failure(error);
    if error.oauth_error.as_deref() == Some("invalid_client") {
        Unproved::Refused(failure)
    } else {
        Unproved::Failed(failure)
    }
}

/// Connects and authenticates. What the server thinks of the sender is not the secret's affair.
async fn authenticate(account: &Account) -> Result<(), Unproved> {
    let sender = &account.settings().sender.email;
    let stages = account.pool.check(sender).await;
    let mut failure = None;
    for report in &stages {
        let name = crate::app::failures::stage_name(report.stage);
        match &report.outcome {
            Ok(_) if name == "auth" => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                if let SendErrorKind::Sasl(sasl) = &*error.kind
                    && let Some(error) = auth_error(sasl)
                {
                    return Err(refused(account, error));
                }
                failure = Some(account.send_failure(sender.as_ref(), error));
                break;
            }
        }
    }
    let unseen = || Failure::new("internal", "the server was not seen to accept the token");
    Err(Unproved::Failed(failure.unwrap_or_else(unseen)))
}
