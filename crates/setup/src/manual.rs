//! The same as steps in the portal, for those who may not use Graph.

use std::time::Duration;

use postrider_graph::PermissionKind;
use serde::Serialize;

use crate::permission::{self, Service};
use crate::plan::{REDIRECT, Registration, Tenant};
use crate::wanted::{AppChoice, Cloud, CredentialKind, Wanted};

/// One thing to do in a portal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManualStep {
    /// What is done, as a heading.
    pub title: String,
    /// Where and how.
    pub text: String,
    /// What is to be typed or chosen there.
    pub values: Vec<Value>,
}

/// A value to be typed or chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Value {
    /// The field's name in the portal.
    pub field: String,
    /// What goes into it.
    pub value: String,
}

/// What to do by hand for `wanted`; with this tenant's names where it is known.
pub fn manual(wanted: &Wanted, tenant: Option<&Tenant>) -> Vec<ManualStep> {
    let mut steps = vec![sign_in(wanted.cloud, tenant)];
    match &wanted.app {
        AppChoice::Named(name) => steps.push(register(wanted, name, tenant)),
        AppChoice::Existing(client_id) => steps.push(step(
            "Open the application",
            "App registrations, All applications: find it by its client id.",
            &[("Application (client) ID", client_id)],
        )),
    }
    steps.extend(authentication(wanted));
    steps.extend(permissions(wanted));
    steps.push(step(
        "Give consent",
        "API permissions: press \"Grant admin consent\", and look that each permission now says \
         Granted.",
        &[],
    ));
    steps.extend(credential(wanted));
    steps.push(step(
        "Note the identifiers",
        "Overview: these two go into postrider.toml, as client_id and tenant.",
        &[
            ("Application (client) ID", "shown there"),
            (
                "Directory (tenant) ID",
                tenant.map_or("shown there", |tenant| &tenant.id),
            ),
        ],
    ));
    if !wanted.flow.is_delegated() {
        steps.push(step(
            "Note the enterprise application's object id",
            "Enterprise applications, the application of the same name, Overview. The \
             registration has another object id, which Exchange does not take.",
            &[("Object ID", "shown there")],
        ));
    }
    steps.push(step(
        "Run the lines of Exchange PowerShell",
        "Authenticated SMTP and rights on mailboxes are not in this portal: an Exchange \
         Administrator runs the lines that follow.",
        &[],
    ));
    steps
}

fn step(title: &str, text: &str, values: &[(&str, &str)]) -> ManualStep {
    ManualStep {
        title: title.to_owned(),
        text: text.to_owned(),
        values: values
            .iter()
            .map(|(field, value)| Value {
                field: (*field).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
    }
}

fn sign_in(cloud: Cloud, tenant: Option<&Tenant>) -> ManualStep {
    let portal = match cloud {
        Cloud::Global => "https://entra.microsoft.com",
        Cloud::GccHigh | Cloud::Dod => "https://entra.microsoft.us",
        Cloud::China => "https://entra.microsoftonline.cn",
    };
    let mut values = vec![("Portal", portal)];
    if let Some(tenant) = tenant {
        values.push(("Tenant", &tenant.name));
    }
    step(
        "Sign in",
        "Open the Entra admin center as an Application Administrator or Cloud Application \
         Administrator.",
        &values,
    )
}

fn register(wanted: &Wanted, name: &str, tenant: Option<&Tenant>) -> ManualStep {
    let accounts = tenant.map_or_else(
        || "Accounts in this organizational directory only (single tenant)".to_owned(),
        |tenant| {
            format!(
                "Accounts in this organizational directory only ({} only - Single tenant)",
                tenant.name
            )
        },
    );
    let mut values = vec![("Name", name), ("Supported account types", &accounts)];
    let registration = Registration::of(wanted);
    if registration.public {
        values.push((
            "Redirect URI, platform",
            "Public client/native (mobile & desktop)",
        ));
        values.push(("Redirect URI", REDIRECT));
    } else if registration.web {
        values.push(("Redirect URI, platform", "Web"));
        values.push(("Redirect URI", REDIRECT));
    }
    step(
        "Register the application",
        "App registrations, New registration.",
        &values,
    )
}

fn authentication(wanted: &Wanted) -> Option<ManualStep> {
    Registration::of(wanted).fallback.then(|| {
        step(
            "Allow sign-ins without a redirect",
            "Authentication, Advanced settings, then Save.",
            &[("Allow public client flows", "Yes")],
        )
    })
}

fn permissions(wanted: &Wanted) -> Vec<ManualStep> {
    // Not the permission to renew its own credential: the portal cannot make an application its
    // own owner, without which that permission is for nothing.
    let needs = permission::needs(wanted, None);
    let mut steps = Vec::new();
    for service in [Service::Exchange, Service::Graph] {
        for (kind, title) in [
            (PermissionKind::Scope, "Delegated permissions"),
            (PermissionKind::Role, "Application permissions"),
        ] {
            let names: Vec<&str> = needs
                .iter()
                .filter(|need| need.service == service && need.kind == kind)
                .map(|need| need.name)
                .collect();
            if names.is_empty() {
                continue;
            }
            let place = match service {
                Service::Exchange => "APIs my organization uses, search for it",
                Service::Graph => "Microsoft APIs",
            };
            steps.push(step(
                &format!("Add permissions of {}", service.title()),
                &format!("API permissions, Add a permission, {place}."),
                &[("API", service.title()), (title, &names.join(", "))],
            ));
        }
    }
    steps
}

fn credential(wanted: &Wanted) -> Option<ManualStep> {
    let days = |lifetime: Duration| format!("{} days", lifetime.as_secs() / 86_400);
    let name = format!("{}{}", crate::remains::OUR_PREFIX, wanted.account);
    match wanted.credential {
        CredentialKind::None => None,
        CredentialKind::Secret { lifetime } => Some(step(
            "Make a client secret",
            "Certificates & secrets, Client secrets, New client secret. Copy what is under \
             Value, not the Secret ID, before you leave the page: it is never shown again. Give \
             it to \"postrider secret set\".",
            &[("Description", &name), ("Expires", &days(lifetime))],
        )),
        CredentialKind::Certificate { lifetime } => Some(step(
            "Upload a certificate",
            "Certificates & secrets, Certificates, Upload certificate. The private key stays \
             with you.",
            &[
                ("Description", &name),
                ("Certificate, good for", &days(lifetime)),
            ],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, tenant};
    use crate::wanted::Flow;

    fn text(steps: &[ManualStep]) -> String {
        let mut text = String::new();
        for step in steps {
            text.extend([&step.title, "\n"]);
            for value in &step.values {
                text.extend(["  ", &value.field, ": ", &value.value, "\n"]);
            }
        }
        text
    }

    #[test]
    fn a_person_with_a_browser_finds_every_value() {
        let wanted = testing::wanted(Flow::AuthorizationCode, testing::SECRET);

        let steps = manual(&wanted, Some(&tenant()));

        assert_eq!(
            text(&steps),
            "Sign in
  Portal: https://entra.microsoft.com
  Tenant: Contoso
Register the application
  Name: Postrider: alerts
  Supported account types: Accounts in this organizational directory only (Contoso only - Single tenant)
  Redirect URI, platform: Web
  Redirect URI: http://localhost
Add permissions of Office 365 Exchange Online
  API: Office 365 Exchange Online
  Delegated permissions: SMTP.Send
Add permissions of Microsoft Graph
  API: Microsoft Graph
  Delegated permissions: offline_access, openid, profile, User.Read
Give consent
Make a client secret
  Description: postrider alerts
  Expires: 365 days
Note the identifiers
  Application (client) ID: shown there
  Directory (tenant) ID: 5f0e1d2c-0000-4000-8000-000000000001
Run the lines of Exchange PowerShell
"
        );
    }

    #[test]
    fn an_application_on_its_own_is_told_which_object_id_counts() {
        let mut wanted = testing::wanted(Flow::ClientCredentials, testing::SECRET);
        wanted.own_renewal = true;

        let text = text(&manual(&wanted, None));

        assert!(
            text.contains("Application permissions: SMTP.SendAsApp\n"),
            "{text}"
        );
        assert!(
            text.contains("Note the enterprise application's object id"),
            "{text}"
        );
        assert!(!text.contains("Redirect"), "{text}");
        assert!(!text.contains(permission::OWNED_BY), "{text}");
    }

    #[test]
    fn a_public_client_is_allowed_to_be_one_and_gets_no_secret() {
        let wanted = testing::wanted(Flow::DeviceCode, CredentialKind::None);

        let text = text(&manual(&wanted, None));

        assert!(text.contains("Allow public client flows: Yes"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
