//! The same as steps in the portal, for those who may not use Graph.

use serde::Serialize;

use crate::permission::{self, Service};
use crate::plan::{Registration, Tenant};
use crate::wanted::{AppChoice, Cloud, CredentialKind, Wanted};
use postrider_graph::PermissionKind;

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
        values.push(("Redirect URI", crate::plan::REDIRECT));
    } else if registration.web {
        values.push(("Redirect URI, platform", "Web"));
        values.push(("Redirect URI", crate::plan::REDIRECT));
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
    // Here the name is what counts: the id is for Graph.
    let needs = permission::needs(wanted, Some(""));
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
    let days = |lifetime: std::time::Duration| format!("{} days", lifetime.as_secs() / 86_400);
    let name = format!("{}{}", crate::check::OUR_PREFIX, wanted.account);
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
