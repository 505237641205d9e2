//! A record as a host keeps it: whatever it returned from survives the process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_setup::{
    AppChoice, Cloud, CredentialKind, Done, Event, Flow, Known, NewSecret, Plan, Record,
    RecordError, SecretName, SetupError, Wanted, apply,
};
use secrecy::ExposeSecret as _;

use crate::tenant::{Fate, Point, Tenant, USER};

/// What is on the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) known: Known,
    pub(crate) secrets: Vec<(SecretName, String)>,
}

pub(crate) struct OnDisk {
    pub(crate) disk: Arc<Mutex<Disk>>,
    pub(crate) fate: Arc<Mutex<Fate>>,
}

impl OnDisk {
    fn write(&self, write: impl FnOnce(&mut Disk)) -> Result<(), RecordError> {
        let point = self.fate.lock().unwrap().next();
        if point != Point::Never {
            write(&mut self.disk.lock().unwrap());
        }
        if point == Point::Happens {
            Ok(())
        } else {
            Err("killed".into())
        }
    }
}

impl Record for OnDisk {
    fn note(&mut self, event: &Event) -> Result<(), RecordError> {
        self.write(|disk| disk.known.note(event))
    }

    fn store_secret(&mut self, secret: &NewSecret) -> Result<(), RecordError> {
        self.write(|disk| {
            disk.secrets.retain(|(name, _)| *name != secret.name);
            let value = secret.value.expose_secret().to_owned();
            disk.secrets.push((secret.name, value));
        })
    }
}

/// A machine on which setup runs, and runs again.
pub(crate) struct Machine {
    pub(crate) tenant: Tenant,
    pub(crate) disk: Arc<Mutex<Disk>>,
}

impl Machine {
    pub(crate) fn new(tenant: &Tenant) -> Self {
        Self {
            tenant: tenant.clone(),
            disk: Arc::default(),
        }
    }

    pub(crate) fn known(&self) -> Known {
        self.disk.lock().unwrap().known.clone()
    }

    pub(crate) fn secret(&self, name: SecretName) -> Option<String> {
        let disk = self.disk.lock().unwrap();
        disk.secrets
            .iter()
            .find(|(kept, _)| *kept == name)
            .map(|(_, value)| value.clone())
    }

    pub(crate) async fn plan(&self, wanted: &Wanted) -> Result<Plan, SetupError> {
        let wanted = Wanted {
            known: self.known(),
            ..wanted.clone()
        };
        Plan::make(&self.tenant.graph(), &wanted).await
    }

    /// A run from its beginning: the plan, and its carrying out.
    pub(crate) async fn run(&self, wanted: &Wanted) -> Result<(Plan, Done), SetupError> {
        let wanted = Wanted {
            known: self.known(),
            ..wanted.clone()
        };
        let graph = self.tenant.graph();
        let plan = Plan::make(&graph, &wanted).await?;
        let mut record = OnDisk {
            disk: self.disk.clone(),
            fate: self.tenant.fate.clone(),
        };
        let done = apply(&graph, &plan, &mut record, &mut |_| {}).await?;
        Ok((plan, done))
    }
}

pub(crate) fn wanted(flow: Flow, credential: CredentialKind) -> Wanted {
    Wanted {
        account: "alerts".to_owned(),
        username: USER.to_owned(),
        sender: None,
        on_behalf: false,
        flow,
        credential,
        cloud: Cloud::Global,
        app: AppChoice::of_account("alerts"),
        own_renewal: false,
        roles_in_token: None,
        renewing: false,
        known: Known::default(),
        now: "2026-11-23T10:00:00Z".parse().unwrap(),
    }
}

pub(crate) const YEAR: Duration = Duration::from_hours(24 * 365);
pub(crate) const SECRET: CredentialKind = CredentialKind::Secret { lifetime: YEAR };
pub(crate) const CERTIFICATE: CredentialKind = CredentialKind::Certificate { lifetime: YEAR };

/// By a secret, without a person, and renewing itself: every kind of step there is but consent
/// for people.
pub(crate) fn on_its_own() -> Wanted {
    Wanted {
        own_renewal: true,
        ..wanted(Flow::ClientCredentials, SECRET)
    }
}

/// By a person in a browser, with a secret.
pub(crate) fn by_browser() -> Wanted {
    wanted(Flow::AuthorizationCode, SECRET)
}
