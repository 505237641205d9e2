//! What a gateway asks, answered by the generation in force.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use postrider_config as config;
use postrider_gateway::{AccountSender, Arrival, Backend, Decision, Entry, Event, Refusal};
use postrider_schedule::Clock;
use secrecy::SecretString;

use super::book::Book;
use super::entry::GatewayEntry;
use super::remembered::Remembered;
use super::reply;
use crate::app::App;
use crate::app::queue::Ways;
use crate::failure::Failure;
use crate::lua::{GatewayClient, GatewayMail, GatewayPoint, GatewaySignIn};

/// The program around all gateways.
pub(super) struct Host {
    /// They lead to the generation in force.
    pub(super) ways: Arc<Ways>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) book: Arc<Book>,
    pub(super) credentials: Arc<Remembered>,
}

impl Host {
    /// The generation in force; at the very end there is none.
    fn current(&self) -> Result<App, Refusal> {
        let stops = || Refusal::new(421, "4.3.2", "the service stops").closing();
        self.ways.current().ok_or_else(stops)
    }

    /// In the device's words; what they leave out goes to the log.
    fn refusal(&self, gateway: &str, failure: &Failure) -> Refusal {
        self.book.trouble(gateway, failure);
        reply::to(failure)
    }

    async fn decide_mail(&self, app: &App, arrival: &Arrival) -> Result<Decision, Failure> {
        let config = app.config();
        let device = config.gateways.get(&*arrival.gateway);
        let account = device.map(|gateway| gateway.device(arrival.device()).account.clone());
        let given = GatewayMail {
            by: by(arrival),
            account: account.unwrap_or_default(),
            sender: arrival.sender.clone().filter(|sender| !sender.is_empty()),
            recipients: arrival.recipients.clone(),
            changed_by: None,
        };
        match app.gateway_mail(given.clone()).await {
            Ok(wanted) if wanted.sender == given.sender && wanted.account == given.account => {
                Ok(Decision::Continue)
            }
            Ok(wanted) => Ok(Decision::Change {
                sender: (wanted.sender != given.sender).then(|| wanted.sender.unwrap_or_default()),
                account: (wanted.account != given.account).then_some(wanted.account),
                by: wanted.changed_by.unwrap_or_default(),
            }),
            Err(failure) if failure.code == "hook.refused" => Ok(Decision::Refuse(failure.message)),
            Err(failure) => Err(failure),
        }
    }
}

impl Backend for Host {
    /// As the vault has it now: a credential that is gone opens nothing any more. It is read when it
    /// is new or has changed, which one look at its file tells.
    fn credential<'a>(
        &'a self,
        gateway: &'a str,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<SecretString>, Refusal>> {
        async move {
            if let Some(hash) = self.credentials.hash(gateway, device) {
                return Ok(Some(hash));
            }
            let vault = self.current()?.vault().clone();
            let credentials = Arc::clone(&self.credentials);
            let (gateway_name, device) = (gateway.to_owned(), device.to_owned());
            let looking = tokio::task::spawn_blocking(move || {
                let Some(vault) = vault.existing()? else {
                    return Ok(None);
                };
                credentials.look_up(&vault, &gateway_name, &device)
            });
            let interrupted = |_| Err(Failure::new("internal", "looking was interrupted"));
            let found: Result<_, Failure> = looking.await.unwrap_or_else(interrupted);
            found.map_err(|failure| self.refusal(gateway, &failure))
        }
        .boxed()
    }

    fn sender(&self, account: &str) -> Option<AccountSender> {
        let app = self.current().ok()?;
        let settings = app.settings_of(account).ok()?;
        Some(account_sender(settings))
    }

    fn entry<'a>(
        &'a self,
        account: &'a str,
        arrival: &'a Arrival,
    ) -> BoxFuture<'a, Result<Box<dyn Entry>, Refusal>> {
        async move {
            let app = self.current()?;
            let entry = GatewayEntry::begin(&app, account, arrival, Arc::clone(&self.book)).await;
            match entry {
                Ok(entry) => Ok(Box::new(entry) as Box<dyn Entry>),
                Err(failure) => Err(self.refusal(&arrival.gateway, &failure)),
            }
        }
        .boxed()
    }

    fn on_auth<'a>(&'a self, arrival: &'a Arrival) -> BoxFuture<'a, Result<Decision, Refusal>> {
        async move {
            let app = self.current()?;
            if !app.wants_gateway(GatewayPoint::Auth) {
                return Ok(Decision::Continue);
            }
            let sign_in = GatewaySignIn {
                by: by(arrival),
                tls: arrival.tls.map(str::to_owned),
                mechanism: arrival.mechanism.to_owned(),
            };
            match app.gateway_sign_in(sign_in).await {
                Ok(()) => Ok(Decision::Continue),
                Err(failure) if failure.code == "hook.refused" => {
                    Ok(Decision::Refuse(failure.message))
                }
                Err(failure) => Err(self.refusal(&arrival.gateway, &failure)),
            }
        }
        .boxed()
    }

    fn on_mail<'a>(&'a self, arrival: &'a Arrival) -> BoxFuture<'a, Result<Decision, Refusal>> {
        async move {
            let app = self.current()?;
            if !app.wants_gateway(GatewayPoint::Mail) {
                return Ok(Decision::Continue);
            }
            let decided = self.decide_mail(&app, arrival).await;
            decided.map_err(|failure| self.refusal(&arrival.gateway, &failure))
        }
        .boxed()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn tell(&self, event: Event) {
        self.book.note(&event);
    }
}

/// As whom this account sends.
pub(crate) fn account_sender(account: &config::Account) -> AccountSender {
    AccountSender {
        address: account.sender.email.clone(),
        display_name: account.sender.name.clone(),
        username: account.username.clone(),
    }
}

/// Who it is, as scripts are told.
pub(super) fn by(arrival: &Arrival) -> GatewayClient {
    GatewayClient {
        gateway: arrival.gateway.to_string(),
        device: arrival.device().to_owned(),
        address: arrival.client,
    }
}
