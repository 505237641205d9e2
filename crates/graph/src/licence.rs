//! Licences, and whether they hold a mailbox.

use serde::Deserialize;

use crate::address::person;
use crate::client::{Call, Graph};
use crate::error::GraphError;
use crate::ids;

/// A service within a licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// `servicePlanId`, in lower case.
    pub id: String,
    /// `servicePlanName`, as in `EXCHANGE_S_STANDARD`.
    pub name: String,
    /// How far it is provided.
    pub status: ProvisioningStatus,
}

/// `provisioningStatus`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisioningStatus {
    /// It is there.
    Success,
    /// The administrator switched it off.
    Disabled,
    /// Providing it failed.
    Error,
    /// It waits for an administrator.
    PendingInput,
    /// It waits for its activation.
    PendingActivation,
    /// It is being provided.
    PendingProvisioning,
    /// A status that this version does not know.
    Other(String),
}

/// What a person's licences hold of Exchange Online; each with the plan's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailbox {
    /// A mailbox.
    Provisioned(String),
    /// A mailbox soon.
    Pending(String),
    /// A mailbox that failed to be provided.
    Failed(String),
    /// A mailbox that is switched off in the licence.
    Disabled(String),
    /// Something of Exchange that this version does not know.
    Unknown(String),
    /// Something of Exchange that is no mailbox, such as an archive.
    NotAMailbox(String),
    /// Nothing. A shared mailbox needs no licence, so this need not be the end.
    None,
}

/// The best that `plans` hold of Exchange Online, in the order of [`Mailbox`].
pub fn mailbox_plan(plans: &[ServicePlan]) -> Mailbox {
    plans
        .iter()
        .filter_map(judge)
        .min_by_key(|(rank, _)| *rank)
        .map_or(Mailbox::None, |(_, mailbox)| mailbox)
}

fn judge(plan: &ServicePlan) -> Option<(u8, Mailbox)> {
    let name = plan.name.clone();
    if ids::MAILBOX_PLANS.contains(&plan.id.as_str()) {
        return Some(match &plan.status {
            ProvisioningStatus::Success => (0, Mailbox::Provisioned(name)),
            ProvisioningStatus::PendingInput
            | ProvisioningStatus::PendingActivation
            | ProvisioningStatus::PendingProvisioning => (1, Mailbox::Pending(name)),
            ProvisioningStatus::Error => (2, Mailbox::Failed(name)),
            ProvisioningStatus::Disabled => (3, Mailbox::Disabled(name)),
            ProvisioningStatus::Other(_) => (4, Mailbox::Unknown(name)),
        });
    }
    if ids::NOT_A_MAILBOX_PLANS.contains(&plan.id.as_str()) {
        return Some((5, Mailbox::NotAMailbox(name)));
    }
    // A mailbox plan newer than the table, or another part of Exchange: not for us to decide.
    if name.starts_with("EXCHANGE_") && plan.status == ProvisioningStatus::Success {
        return Some((4, Mailbox::Unknown(name)));
    }
    None
}

impl Graph {
    /// The service plans of the licences of `upn`, or of the person signed in. A plan comes
    /// once for each licence it is part of.
    pub async fn license_details(&self, upn: Option<&str>) -> Result<Vec<ServicePlan>, GraphError> {
        const CALL: Call = Call::new("reading licences");
        let call = CALL.needs(if upn.is_some() {
            "LicenseAssignment.Read.All"
        } else {
            "User.Read"
        });
        let url = match upn {
            Some(upn) => self.at(call, &["users", person(call, upn)?, "licenseDetails"])?,
            None => self.at(call, &["me", "licenseDetails"])?,
        };
        let licences: Vec<Licence> = self.list(call, url, &[]).await?;
        Ok(licences
            .into_iter()
            .flat_map(|licence| licence.service_plans)
            .map(ServicePlan::from)
            .collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Licence {
    #[serde(default)]
    service_plans: Vec<Plan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    service_plan_id: String,
    #[serde(default)]
    service_plan_name: Option<String>,
    #[serde(default)]
    provisioning_status: Option<String>,
}

impl From<Plan> for ServicePlan {
    fn from(plan: Plan) -> Self {
        Self {
            id: plan.service_plan_id.to_ascii_lowercase(),
            name: plan.service_plan_name.unwrap_or_default(),
            status: match plan.provisioning_status.as_deref().unwrap_or_default() {
                "Success" => ProvisioningStatus::Success,
                "Disabled" => ProvisioningStatus::Disabled,
                "Error" => ProvisioningStatus::Error,
                "PendingInput" => ProvisioningStatus::PendingInput,
                "PendingActivation" => ProvisioningStatus::PendingActivation,
                "PendingProvisioning" => ProvisioningStatus::PendingProvisioning,
                other => ProvisioningStatus::Other(other.to_owned()),
            },
        }
    }
}
