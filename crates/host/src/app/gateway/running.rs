//! The gateways of a daemon, from one generation to the next.
//!
//! New listeners are there before anything of the new generation counts, and the old ones go when it
//! does. Where one cannot be had, all stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use postrider_config as config;
use postrider_gateway::credential::Verifier;
use postrider_gateway::ledger::{LedgerError, Reader};
use postrider_gateway::{Backend, Gateway, GatewayError, Settings};
use tokio::task::spawn_blocking;

use super::backend::Host;
use super::book::Book;
use super::{holder, ledger_file, settings};
use crate::app::{App, Moment};
use crate::control::{GatewayStatus, LedgerStatus};
use crate::failure::Failure;
use crate::state;

/// Gateways at work.
pub(crate) struct Gateways {
    open: Mutex<BTreeMap<String, Open>>,
    backend: Arc<dyn Backend>,
    /// One for all: what it computes is bounded for the process.
    verifier: Verifier,
    book: Arc<Book>,
}

/// One of them, with what it was told to do.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) gateway: Gateway,
    settings: Settings,
}

/// What another generation wants, done but for what goes.
pub(crate) struct Change<'a> {
    gateways: &'a Gateways,
    /// As all is to be.
    after: BTreeMap<String, Open>,
}

/// What was done so far, for it to be undone.
#[derive(Default)]
struct Steps {
    /// Those that were changed, as they were.
    before: Vec<Open>,
    /// Those that are new.
    added: Vec<Open>,
}

impl Gateways {
    /// None yet.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn of(app: &App) -> Result<Self, Failure> {
        let lasting = &app.0.lasting;
        let book = Arc::new(Book::new(
            Arc::clone(app.clock()),
            Arc::clone(&lasting.events),
            lasting.metrics.clone(),
        ));
        let host = Host {
            ways: Arc::clone(&lasting.ways),
            clock: Arc::clone(app.clock()),
            book: Arc::clone(&book),
            credentials: Arc::default(),
        };
        let verifier =
            Verifier::new().map_err(|error| Failure::new("internal", error.to_string()))?;
        Ok(Self {
            open: Mutex::default(),
            backend: Arc::new(host),
            verifier,
            book,
        })
    }

    /// Listens as the configuration of `app` wants, too.
    ///
    /// # Errors
    /// An address or a certificate is not to be had; all is as it was.
    pub(crate) async fn change(&self, app: &App) -> Result<Change<'_>, Failure> {
        let state_dir = state::directory(app.0.lasting.settings.state_dir.as_deref())?;
        let mut wanted = BTreeMap::new();
        for (name, gateway) in &app.config().gateways {
            wanted.insert(name.clone(), settings::settings(gateway, &state_dir));
        }
        let open = self.lock().clone();
        let ledger = ledger_file(&state_dir);
        if !wanted.is_empty() {
            self.book.write_down(&ledger);
        }
        let mut steps = Steps::default();
        match steps.take(&open, wanted, self, &ledger).await {
            Ok(after) => Ok(Change {
                gateways: self,
                after,
            }),
            Err(failure) => {
                steps.undo().await;
                Err(failure)
            }
        }
    }

    /// How each stands.
    pub(crate) fn status(&self, app: &App) -> Vec<GatewayStatus> {
        let gateways = &app.config().gateways;
        let now = SystemTime::from(app.clock().now());
        let open = self.lock();
        let known = open.iter().filter_map(|(name, one)| {
            let settings = gateways.get(name)?;
            Some(self.status_of(settings, &one.gateway, now))
        });
        known.collect()
    }

    /// How their ledger stands.
    pub(crate) fn ledger_status(&self) -> Option<LedgerStatus> {
        self.book.ledger_status()
    }

    fn status_of(
        &self,
        settings: &config::Gateway,
        gateway: &Gateway,
        now: SystemTime,
    ) -> GatewayStatus {
        let counted = self.book.counted(&settings.name);
        let certificate = gateway.certificate();
        let expires_at = certificate.as_ref().map(|facts| facts.expires_at);
        let rehearses = settings.rehearse.as_ref().is_some_and(|rehearse| {
            now >= rehearse.from && rehearse.until.is_none_or(|until| now < until)
        });
        GatewayStatus {
            name: settings.name.clone(),
            listen: gateway.addresses(),
            tls: settings.tls.as_str().into(),
            mode: match &settings.observe {
                Some(_) => "observe".into(),
                None => "submit".into(),
            },
            rehearses,
            account: settings.defaults.account.clone(),
            certificate_expires_at: expires_at.map(|at| Moment(at.into())),
            certificate_is_self_made: certificate.is_some_and(|facts| facts.self_made),
            certificate_problem: counted.certificate_problem,
            connections: gateway.connections() as u64,
            messages: counted.messages,
            refused: counted.refused,
            rehearsed: counted.rehearsed,
            failing: counted.failing,
            waiting: Vec::new(),
        }
    }

    /// All there are, for whoever looks after their certificates.
    pub(super) fn all(&self) -> Vec<Open> {
        self.lock().values().cloned().collect()
    }

    /// Nobody new comes in; who is in ends what they are about, for so long at most.
    pub(crate) async fn stop(&self, at_most: Duration) {
        let open = std::mem::take(&mut *self.lock());
        join_all(open.values().map(|one| one.gateway.stop(at_most))).await;
        let book = Arc::clone(&self.book);
        // What was interrupted is lost, as after a crash.
        let _ = spawn_blocking(move || book.flush()).await;
    }

    /// What these gateways' devices sent within the last day counts, whoever ran then.
    async fn restore_limits(&self, new: Vec<Gateway>, ledger: &Path) {
        if new.is_empty() {
            return;
        }
        let (book, ledger) = (Arc::clone(&self.book), ledger.to_owned());
        let restoring = spawn_blocking(move || {
            book.flush();
            let recent = match Reader::open(&ledger)? {
                Some(reader) => reader.recent(book.now())?,
                None => Vec::new(),
            };
            for one in recent {
                if let Some(gateway) = new.iter().find(|new| new.name() == one.gateway) {
                    let limits = gateway.limits();
                    limits.restore(&one.gateway, &one.device, one.at, one.messages);
                }
            }
            Ok::<_, LedgerError>(())
        });
        if let Ok(Err(error)) = restoring.await {
            tracing::warn!("what devices sent before is not counted: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change<'_> {
    /// It counts from now on. What is left of the gateways that went is in the answer, to be
    /// stopped.
    pub(crate) fn take_effect(self) -> Gone {
        let mut open = self.gateways.lock();
        let before = std::mem::replace(&mut *open, self.after);
        let gone = before
            .into_iter()
            .filter(|(name, _)| !open.contains_key(name));
        Gone(gone.map(|(_, one)| one.gateway).collect())
    }
}

impl Steps {
    async fn take(
        &mut self,
        open: &BTreeMap<String, Open>,
        wanted: BTreeMap<String, Settings>,
        gateways: &Gateways,
        ledger: &Path,
    ) -> Result<BTreeMap<String, Open>, Failure> {
        for one in open.values() {
            if let Some(smaller) = without_wanted(&one.settings, &wanted) {
                self.alter(one, smaller).await?;
            }
        }
        let mut after = BTreeMap::new();
        for (name, settings) in wanted {
            let gateway = if let Some(one) = open.get(&name) {
                self.alter(one, settings.clone()).await?;
                // Files of the same name may be others now.
                one.gateway.look_at_certificate();
                one.gateway.clone()
            } else {
                self.add(settings.clone(), gateways)?
            };
            after.insert(name, Open { gateway, settings });
        }
        let new = self.added.iter().map(|one| one.gateway.clone());
        gateways.restore_limits(new.collect(), ledger).await;
        Ok(after)
    }

    async fn alter(&mut self, one: &Open, settings: Settings) -> Result<(), Failure> {
        let is_as_wanted = one.settings == settings;
        let was_touched = self
            .before
            .iter()
            .any(|other| other.settings.name == settings.name);
        if is_as_wanted && !was_touched {
            return Ok(());
        }
        let name = settings.name.clone();
        let applied = one.gateway.apply(settings).await;
        applied.map_err(|error| failure(&name, &error))?;
        if !was_touched {
            self.before.push(one.clone());
        }
        Ok(())
    }

    fn add(&mut self, settings: Settings, gateways: &Gateways) -> Result<Gateway, Failure> {
        let name = settings.name.clone();
        let (backend, verifier) = (Arc::clone(&gateways.backend), gateways.verifier.clone());
        let gateway = Gateway::bind(settings.clone(), backend, verifier);
        let gateway = gateway.map_err(|error| failure(&name, &error))?;
        for address in gateway.addresses() {
            tracing::info!(gateway = name, %address, "listens");
        }
        self.added.push(Open {
            gateway: gateway.clone(),
            settings,
        });
        Ok(gateway)
    }

    async fn undo(self) {
        for one in self.added {
            one.gateway.stop(Duration::ZERO).await;
        }
        for one in self.before.into_iter().rev() {
            let name = one.settings.name.clone();
            if let Err(error) = one.gateway.apply(one.settings).await {
                let problem = failure(&name, &error).message;
                tracing::error!(gateway = name, "it is not as it was before: {problem}");
            }
        }
    }
}

/// The settings without the addresses that are another gateway's to be: only for these there is a
/// moment in which nobody listens.
fn without_wanted(settings: &Settings, wanted: &BTreeMap<String, Settings>) -> Option<Settings> {
    let name = &settings.name;
    let kept = wanted.get(name).map(|settings| settings.listen.as_slice());
    let kept = kept.unwrap_or_default();
    let others = wanted.values().filter(|other| other.name != *name);
    let ports: BTreeSet<u16> = others
        .flat_map(|other| other.listen.iter().map(SocketAddr::port))
        .filter(|port| *port != 0)
        .collect();
    let mut listen = settings.listen.clone();
    listen.retain(|address| kept.contains(address) || !ports.contains(&address.port()));
    (listen != settings.listen).then(|| Settings {
        listen,
        ..settings.clone()
    })
}

/// Gateways that the new generation does not have.
pub(crate) struct Gone(Vec<Gateway>);

impl Gone {
    /// Lets their sessions end, for so long at most.
    pub(crate) async fn stop(self, at_most: Duration) {
        join_all(self.0.iter().map(|gateway| gateway.stop(at_most))).await;
    }
}

/// Why a gateway cannot be as it is to be, and what to do.
pub(crate) fn failure(name: &str, error: &GatewayError) -> Failure {
    let cause = error
        .source()
        .map_or_else(String::new, |cause| format!(": {cause}"));
    let message = format!("gateway \"{name}\" {error}{cause}");
    match error {
        GatewayError::Listen { address, source } => {
            let remedy = match source.kind() {
                ErrorKind::PermissionDenied if address.port() < 1024 => {
                    "a port below 1024 takes the capability CAP_NET_BIND_SERVICE: the unit in \
                     dist/systemd has the lines for that. Or name a port above 1023, such as 2525"
                        .to_owned()
                }
                ErrorKind::AddrInUse => {
                    let who = holder::of(*address);
                    let who = who.unwrap_or_else(|| "another program".to_owned());
                    format!("{who} listens there: end it, or name another port")
                }
                ErrorKind::AddrNotAvailable => {
                    "this machine has no such address: `ip address` shows those it has".to_owned()
                }
                _ => "name another address".to_owned(),
            };
            Failure::new("config.gateway", message)
                .at(format!("gateway.{name}.listen"))
                .with_remedy(remedy)
        }
        _ => Failure::new("config.gateway", message)
            .at(format!("gateway.{name}.certificate"))
            .with_remedy(
                "see that the files are there, that this user may read them, that they are PEM, \
                 and that the key is the certificate's",
            ),
    }
}
