//! What there is, what is to be made or changed, and why: read from the tenant, writing nothing.

use std::fmt;

use postrider_graph::{
    AppRoleAssignment, Application, DelegatedGrant, Graph, Organization, ServicePrincipal,
};
use serde::Serialize;

use crate::error::{SetupError, SetupErrorKind};
use crate::finding::{Finding, Severity, Who};
use crate::journal::Known;
use crate::permission::{Need, Service};
use crate::shown::shown;
use crate::wanted::Wanted;

mod look;
mod steps;

pub(crate) use steps::{REDIRECT, Registration, ends, left, live, shows};

/// A tenant, as the person signed in sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its domains, the default one first.
    pub domains: Vec<String>,
}

/// What setting up an account comes to in a tenant.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Where.
    pub tenant: Tenant,
    /// Who is signed in.
    pub signed_in: String,
    /// What was looked at and is not made here.
    pub findings: Vec<Finding>,
    /// What is made here, in order.
    pub steps: Vec<Step>,
    #[serde(skip)]
    pub(crate) wanted: Wanted,
    #[serde(skip)]
    pub(crate) found: Found,
}

/// One thing that the account needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which.
    pub id: StepId,
    /// What it is, with its names and values.
    pub what: String,
    /// Why the account needs it, or why it has to change.
    pub why: String,
    /// How it stands.
    pub state: State,
}

/// Which thing a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepId {
    /// The application registration.
    Application,
    /// Its service principal, which the portal calls enterprise application.
    ServicePrincipal,
    /// The permissions it asks for.
    Permissions,
    /// Consent for everybody to its delegated permissions of Exchange Online.
    ConsentExchange,
    /// Consent for everybody to its delegated permissions of Graph.
    ConsentGraph,
    /// Its application permission of Exchange Online.
    AppRoleExchange,
    /// Its application permission of Graph.
    AppRoleGraph,
    /// Its being its own owner.
    Owner,
    /// Its client secret or certificate.
    Credential,
    /// A credential of an earlier run.
    LeftOverCredential,
    /// An application of an interrupted run.
    LeftOverApplication,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// As it should be.
    Exists,
    /// Not there: it will be created.
    Create,
    /// There, and not as it should be: it will be changed, or removed if it is left over.
    Change,
    /// It cannot be made by the person signed in.
    Cannot {
        /// Why not.
        why: String,
        /// Who could.
        who: Who,
    },
}

impl Plan {
    /// Looks at the tenant. Only reads.
    ///
    /// # Errors
    ///
    /// What is wanted contradicts itself, or Graph did not answer what has to be known. What
    /// need not be known is a finding instead.
    pub async fn make(graph: &Graph, wanted: &Wanted) -> Result<Self, SetupError> {
        look::at_tenant(graph, wanted).await
    }

    /// Whether everything is as it should be, so that [`crate::apply()`] has nothing to do.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| step.state == State::Exists)
    }

    /// What keeps the plan from being carried out: the step, the reason, and who can change it.
    pub fn blocked(&self) -> Option<SetupError> {
        let steps = self.steps.iter().find_map(|step| match &step.state {
            State::Cannot { why, who } => Some((Some(step.id), why.clone(), *who)),
            _ => None,
        });
        let findings = || {
            self.findings
                .iter()
                .find(|finding| finding.severity == Severity::Blocks)
                .map(|finding| {
                    let who = finding.who.unwrap_or(Who::You);
                    (None, finding.text.clone(), who)
                })
        };
        let (step, what, who) = findings().or(steps)?;
        Some(SetupError {
            step,
            kind: SetupErrorKind::Blocked { what, who },
        })
    }

    pub(crate) fn state(&self, id: StepId) -> Option<&State> {
        self.steps
            .iter()
            .find(|step| step.id == id)
            .map(|step| &step.state)
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "application",
            Self::ServicePrincipal => "service principal",
            Self::Permissions => "permissions",
            Self::ConsentExchange => "consent for Exchange Online",
            Self::ConsentGraph => "consent for Microsoft Graph",
            Self::AppRoleExchange => "application permission of Exchange Online",
            Self::AppRoleGraph => "application permission of Microsoft Graph",
            Self::Owner => "owner",
            Self::Credential => "credential",
            Self::LeftOverCredential => "left-over credential",
            Self::LeftOverApplication => "left-over application",
        })
    }
}

impl From<Organization> for Tenant {
    fn from(organization: Organization) -> Self {
        let mut domains = organization.verified_domains;
        domains.sort_by_key(|domain| !domain.is_default);
        Self {
            name: shown(
                organization
                    .display_name
                    .as_deref()
                    .unwrap_or(&organization.id),
            ),
            id: organization.id,
            domains: domains.iter().map(|domain| shown(&domain.name)).collect(),
        }
    }
}

/// What the tenant has of what is wanted, as [`look`] found it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// What earlier runs knew of this tenant.
    pub(crate) known: Known,
    /// The object id of the services' service principals.
    pub(crate) exchange: Option<String>,
    pub(crate) graph: Option<String>,
    pub(crate) needs: Vec<Need>,
    pub(crate) application: Option<Application>,
    /// Why the application could not be told from others, or is not there.
    pub(crate) application_cannot: Option<String>,
    /// How the application was found.
    pub(crate) origin: Origin,
    pub(crate) principal: Option<ServicePrincipal>,
    pub(crate) grants: Vec<DelegatedGrant>,
    pub(crate) assigned: Vec<AppRoleAssignment>,
    /// Whether the service principal owns the application.
    pub(crate) owned: bool,
    /// Applications with our marks which are not the account's.
    pub(crate) left_applications: Vec<Application>,
    /// What the person signed in may do.
    pub(crate) may: May,
}

impl Found {
    /// The object id of the service's service principal.
    pub(crate) fn resource(&self, service: Service) -> Option<&str> {
        match service {
            Service::Exchange => self.exchange.as_deref(),
            Service::Graph => self.graph.as_deref(),
        }
    }
}

/// How an application came to be the account's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has to be made.
    #[default]
    Nowhere,
    /// An earlier run recorded it.
    Record,
    /// It carries a mark of an interrupted run.
    Mark,
    /// It has the name.
    Name,
    /// It was asked for by its id.
    Id,
}

/// What the roles of the person signed in allow, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct May {
    /// Consent to permissions other than application permissions of Graph.
    pub(crate) consent: Can,
    /// Consent to any permission.
    pub(crate) consent_to_graph_roles: Can,
}

/// Whether something is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Can {
    Yes,
    No,
    /// Roles could not be read, or there is one that is not known here.
    #[default]
    Perhaps,
}
