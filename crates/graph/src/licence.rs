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

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: &str = "9aaf7827-d63c-4b61-89c3-182f06f82e5c";
    const ENTERPRISE: &str = "efb87545-963c-4e0d-99df-69c6916d9eb0";
    const FOUNDATION: &str = "113feb6c-3fe4-4440-bddc-54d774bf0318";

    fn plan(id: &str, name: &str, status: &str) -> ServicePlan {
        Plan {
            service_plan_id: id.to_owned(),
            service_plan_name: Some(name.to_owned()),
            provisioning_status: Some(status.to_owned()),
        }
        .into()
    }

    #[test]
    fn a_mailbox_is_as_far_as_its_plan() {
        for (status, mailbox) in [
            ("Success", Mailbox::Provisioned("S".into())),
            ("PendingInput", Mailbox::Pending("S".into())),
            ("PendingActivation", Mailbox::Pending("S".into())),
            ("PendingProvisioning", Mailbox::Pending("S".into())),
            ("Error", Mailbox::Failed("S".into())),
            ("Disabled", Mailbox::Disabled("S".into())),
            ("Suspended", Mailbox::Unknown("S".into())),
        ] {
            assert_eq!(mailbox_plan(&[plan(STANDARD, "S", status)]), mailbox);
        }
    }

    #[test]
    fn the_best_plan_counts() {
        let foundation = plan(FOUNDATION, "EXCHANGE_S_FOUNDATION", "Success");
        let disabled = plan(STANDARD, "S", "Disabled");
        let pending = plan(ENTERPRISE, "E", "PendingProvisioning");
        let teams = plan("57ff2da0-773e-42df-b2af-ffb7a2317929", "TEAMS1", "Success");
        let newer = plan(
            "00000000-0000-0000-0000-000000000001",
            "EXCHANGE_S_NEXT",
            "Success",
        );
        assert_eq!(mailbox_plan(&[]), Mailbox::None);
        assert_eq!(mailbox_plan(std::slice::from_ref(&teams)), Mailbox::None);
        assert_eq!(
            mailbox_plan(&[teams, foundation.clone()]),
            Mailbox::NotAMailbox("EXCHANGE_S_FOUNDATION".into())
        );
        assert_eq!(
            mailbox_plan(&[foundation.clone(), newer]),
            Mailbox::Unknown("EXCHANGE_S_NEXT".into())
        );
        assert_eq!(
            mailbox_plan(&[foundation.clone(), disabled.clone()]),
            Mailbox::Disabled("S".into())
        );
        assert_eq!(
            mailbox_plan(&[foundation, disabled, pending]),
            Mailbox::Pending("E".into())
        );
    }
}
