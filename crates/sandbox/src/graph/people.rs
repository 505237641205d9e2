//! People, their licences and roles, and the organization.

use serde_json::{Value, json};

use crate::scenario::{Account, Guid, Mailbox, User};

use super::Call;
use super::answer::{Answer, Refusal};

/// Lets every property of the directory's objects be read.
const DIRECTORY: &[&str] = &["Directory.Read.All"];
/// Lets other people be read.
const PEOPLE: &[&str] = &["User.Read.All", "User.ReadBasic.All", "Directory.Read.All"];
/// Lets directory roles be read with their properties.
const ROLES: &[&str] = &["Directory.Read.All", "RoleManagement.Read.Directory"];
/// Lets other people's licences be read.
const LICENCES: &[&str] = &[
    "LicenseAssignment.Read.All",
    "User.Read.All",
    "Directory.Read.All",
];

impl Call<'_> {
    pub(super) fn me(&self) -> Result<Answer, Refusal> {
        let me = self.caller.me()?;
        self.caller.need(&[&["User.Read"], PEOPLE].concat(), &[])?;
        Ok(self.one(user_json(me)))
    }

    pub(super) fn my_licences(&self) -> Result<Answer, Refusal> {
        let me = self.caller.me()?;
        self.caller
            .need(&[&["User.Read"], LICENCES].concat(), &[])?;
        Ok(self.page("me/licenseDetails", licences_json(me)))
    }

    pub(super) fn my_roles(&self, cast: &[&str]) -> Result<Answer, Refusal> {
        let me = self.caller.me()?;
        self.caller.need(&[&["User.Read"], ROLES].concat(), &[])?;
        self.roles_answer(me, cast)
    }

    pub(super) fn user(&self, id: &str) -> Result<Answer, Refusal> {
        let own = self.is_me(id) && self.caller.claims.has_scope("User.Read");
        if !own {
            self.caller
                .need(PEOPLE, &["User.Read.All", "Directory.Read.All"])?;
        }
        Ok(self.one(user_json(self.find_user(id)?)))
    }

    pub(super) fn licences(&self, id: &str) -> Result<Answer, Refusal> {
        let own = self.is_me(id) && self.caller.claims.has_scope("User.Read");
        if !own {
            self.caller.need(LICENCES, LICENCES)?;
        }
        let user = self.find_user(id)?;
        Ok(self.page(&format!("users/{id}/licenseDetails"), licences_json(user)))
    }

    pub(super) fn roles(&self, id: &str, cast: &[&str]) -> Result<Answer, Refusal> {
        self.caller.need(ROLES, DIRECTORY)?;
        let user = self.find_user(id)?;
        self.roles_answer(user, cast)
    }

    pub(super) fn organization(&self) -> Result<Answer, Refusal> {
        let reading = ["User.Read", "Organization.Read.All", "Directory.Read.All"];
        self.caller.need(&reading, &reading[1..])?;
        let tenant = self.caller.tenant()?;
        // The first domain is the initial one; the next, if there is one, the default.
        let default = tenant.domains.len().min(2) - usize::from(!tenant.domains.is_empty());
        let domains = tenant.domains.iter().enumerate().map(|(at, name)| {
            json!({
                "name": name, "type": "Managed", "capabilities": "Email, OfficeCommunicationsOnline",
                "isInitial": at == 0, "isDefault": at == default,
            })
        });
        let organization = json!({
            "id": tenant.id, "displayName": tenant.name,
            "verifiedDomains": domains.collect::<Vec<_>>(),
        });
        Ok(self.page("organization", vec![organization]))
    }

    pub(super) fn security_defaults(&self) -> Result<Answer, Refusal> {
        self.caller
            .need(&["Policy.Read.All"], &["Policy.Read.All"])?;
        let tenant = self.caller.tenant()?;
        Ok(self.one(json!({
            "id": Guid::derived(&format!("security defaults {}", tenant.id)),
            "displayName": "Security Defaults",
            "isEnabled": tenant.security_defaults,
        })))
    }

    /// The user of the caller's tenant with this object id or principal name.
    pub(super) fn find_user(&self, id: &str) -> Result<&User, Refusal> {
        let scenario = &self.caller.scenario;
        let tenant = self.caller.tenant()?;
        scenario
            .user_by_id(id)
            .or_else(|| scenario.user(id))
            .filter(|user| {
                scenario
                    .tenant_of(&user.upn)
                    .is_some_and(|home| home.id == tenant.id)
            })
            .ok_or_else(|| Refusal::missing(id))
    }

    fn is_me(&self, id: &str) -> bool {
        self.caller
            .user()
            .is_some_and(|me| me.object_id == *id || me.upn.eq_ignore_ascii_case(id))
    }

    fn roles_answer(&self, user: &User, cast: &[&str]) -> Result<Answer, Refusal> {
        if !matches!(cast, [] | ["microsoft.graph.directoryRole"]) {
            return Err(Refusal::no_such_call());
        }
        let eventual = self
            .headers
            .get("consistencylevel")
            .is_some_and(|level| level.as_bytes().eq_ignore_ascii_case(b"eventual"));
        if (!cast.is_empty() || self.query.count) && !(eventual && self.query.count) {
            return Err(Refusal::bad(
                "Request with $count or a cast needs the header ConsistencyLevel: eventual, and $count=true.",
            ));
        }
        // With User.Read alone there are objects, but nothing about them (facts C3).
        let whole = self.caller.holds(ROLES, DIRECTORY);
        let roles = user.directory_roles().into_iter().map(|role| {
            let id = Guid::derived(&format!(
                "directory role {} {}",
                self.caller.claims.tid,
                role.template()
            ));
            let (name, template) = if whole {
                (json!(role.name()), json!(role.template()))
            } else {
                (Value::Null, Value::Null)
            };
            json!({
                "@odata.type": "#microsoft.graph.directoryRole",
                "id": id, "displayName": name, "roleTemplateId": template,
            })
        });
        Ok(self.page("me/transitiveMemberOf", roles.collect()))
    }
}

fn user_json(user: &User) -> Value {
    let mail = (user.mailbox != Mailbox::None).then_some(&user.upn);
    json!({
        "id": user.object_id, "displayName": user.name, "userPrincipalName": user.upn,
        "mail": mail, "accountEnabled": user.account != Account::Disabled,
    })
}

/// One licence with all the plans. Its name is the sandbox's own.
fn licences_json(user: &User) -> Vec<Value> {
    let plans = user.service_plans();
    if plans.is_empty() {
        return Vec::new();
    }
    let plans: Vec<Value> = plans
        .iter()
        .map(|plan| {
            json!({
                "servicePlanId": plan.id(), "servicePlanName": plan.name,
                "provisioningStatus": plan.status, "appliesTo": "User",
            })
        })
        .collect();
    vec![json!({
        "id": Guid::derived(&format!("licence {}", user.object_id)),
        "skuId": Guid::derived("sku SANDBOX"), "skuPartNumber": "SANDBOX", "servicePlans": plans,
    })]
}
