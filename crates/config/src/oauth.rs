//! What the `oauth` plugin's settings must be to make sense together, and what the preset
//! adds to them.
//!
//! Microsoft's rules are those of the project's fact table, sections B1 and B3: a wrong scope
//! is found here, before it becomes a `535 5.7.3` that says nothing.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::grammar::Fault;
use crate::keys;
use crate::presets::{OAuth, Preset, Provider};
use crate::problem::{Problems, quote};
use crate::section::{Section, report};

/// Scopes of OpenID Connect: they name no resource.
const OPENID: [&str; 4] = ["offline_access", "openid", "profile", "email"];
/// Tenants that are no single tenant. The last is `consumers` by its id.
const SHARED_TENANTS: [&str; 4] = [
    "common",
    "organizations",
    "consumers",
    "9188040d-6c67-4c5b-b112-36a304b66dad",
];
/// Microsoft Graph in each cloud: not what a mail server accepts.
const GRAPH: [&str; 4] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
];

/// Checks `section` across its keys and adds to `settings` what `provider` knows.
pub(crate) fn complete(
    section: &Section<'_>,
    provider: &Provider<'_>,
    settings: &mut Map<String, Value>,
    problems: &mut Problems,
) {
    let flow = section.text("flow");
    require(
        section,
        "flow",
        &format!("one of: {}", keys::FLOWS.join(", ")),
        problems,
    );
    require(
        section,
        "client_id",
        "the application's id, from where it is registered",
        problems,
    );
    proof(section, flow, problems);

    let mut add = |name: &str, value: Value| {
        settings.entry(name).or_insert(value);
    };
    let preset = provider.preset;
    match preset.oauth {
        OAuth::Microsoft {
            authority,
            tenant,
            delegated_scope,
            app_scope,
        } => {
            let known = Microsoft {
                delegated_scope,
                app_scope,
            };
            add("authority", Value::from(provider.authority(authority)));
            if let Some(tenant) = tenant {
                add("tenant", Value::from(tenant));
            }
            if let Some(scopes) = flow.and_then(|flow| known.scopes(flow)) {
                add("scopes", Value::from(scopes));
            }
            microsoft(section, preset, &known, tenant.is_some(), problems);
        }
        OAuth::Endpoints {
            authorization,
            token,
            scope,
        } => {
            add("authorization_endpoint", Value::from(authorization));
            add("token_endpoint", Value::from(token));
            add("scopes", Value::from(vec![scope]));
            endpoints(section, settings, flow, problems);
        }
        OAuth::Unknown if section.has("authority") => {
            let known = Microsoft {
                delegated_scope: None,
                app_scope: None,
            };
            microsoft(section, preset, &known, false, problems);
        }
        OAuth::Unknown => endpoints(section, settings, flow, problems),
    }
}

fn require(section: &Section<'_>, name: &str, suggestion: &str, problems: &mut Problems) {
    if !section.has(name) {
        let fault = Fault::with(format!("`{name}` is missing"), suggestion);
        report(section.path.clone(), section.span(name), fault, problems);
    }
}

/// How the application proves itself.
fn proof(section: &Section<'_>, flow: Option<&str>, problems: &mut Problems) {
    let has = |name| section.has(name);
    let method = section.text("client_auth");
    let signs = has("private_key") || has("assertion");
    match method {
        Some("none") => {
            if let Some(name) = ["client_secret", "private_key", "assertion"]
                .into_iter()
                .find(|name| has(name))
            {
                let fault = Fault::with(
                    format!("is not used with client_auth = \"none\": `{name}` contradicts it"),
                    format!("remove `client_auth` or `{name}`"),
                );
                section.fault("client_auth", fault, problems);
            } else if flow == Some("client_credentials") {
                let fault =
                    Fault::new("an application without credentials cannot use client_credentials");
                section.fault("client_auth", fault, problems);
            }
        }
        Some("private_key_jwt") if !signs => {
            let fault = Fault::new(
                "\"private_key_jwt\" needs `private_key` (with `certificate`) or `assertion`",
            );
            section.fault("client_auth", fault, problems);
        }
        Some(method @ ("post" | "basic")) if !has("client_secret") => {
            let fault = Fault::new(format!("{} needs `client_secret`", quote(method)));
            section.fault("client_auth", fault, problems);
        }
        None if flow == Some("client_credentials") && !has("client_secret") && !signs => {
            let fault = Fault::with(
                "client_credentials needs `client_secret`, `private_key` with `certificate`, or `assertion`",
                format!("write client_secret = {}", keys::REFERENCE_FORMS),
            );
            report(
                section.path.clone(),
                section.span("client_secret"),
                fault,
                problems,
            );
        }
        _ => {}
    }
    if has("certificate") && !has("private_key") {
        let fault = Fault::new("a certificate proves nothing without its `private_key`");
        section.fault("certificate", fault, problems);
    }
    if has("private_key") && has("assertion") {
        let fault = Fault::new("stands beside `private_key`: give one of the two");
        section.fault("assertion", fault, problems);
    }
}

/// A provider with endpoints of its own: enough of them for the flow.
fn endpoints(
    section: &Section<'_>,
    settings: &Map<String, Value>,
    flow: Option<&str>,
    problems: &mut Problems,
) {
    let has = |name: &str| settings.contains_key(name) || section.has(name);
    if let Some(tenant) = section.node("tenant") {
        let fault = Fault::with(
            "a tenant means nothing to this provider",
            "use provider = \"microsoft365\", or give `authority` too",
        );
        report(section.key("tenant"), tenant.span.clone(), fault, problems);
    }
    if has("issuer") {
        return;
    }
    let needed: &[&str] = match flow {
        Some("authorization_code") => &["authorization_endpoint", "token_endpoint"],
        Some("device_code") => &["device_authorization_endpoint", "token_endpoint"],
        Some(_) => &["token_endpoint"],
        None => &[],
    };
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !has(name)).collect();
    if !missing.is_empty() {
        let fault = Fault::with(
            format!(
                "{} needs `{}`",
                flow.unwrap_or_default(),
                missing.join("` and `")
            ),
            "give `issuer` to have them discovered, or write them out",
        );
        report(
            section.path.clone(),
            section.span("token_endpoint"),
            fault,
            problems,
        );
    }
}

/// The scopes a Microsoft preset knows.
struct Microsoft {
    delegated_scope: Option<&'static str>,
    app_scope: Option<&'static str>,
}

impl Microsoft {
    fn scope(&self, flow: &str) -> Option<&'static str> {
        match flow {
            "client_credentials" => self.app_scope,
            _ => self.delegated_scope,
        }
    }

    fn scopes(&self, flow: &str) -> Option<Vec<&'static str>> {
        let scope = self.scope(flow)?;
        Some(match flow {
            "client_credentials" => vec![scope],
            _ => vec![scope, "offline_access"],
        })
    }
}

fn microsoft(
    section: &Section<'_>,
    preset: &Preset,
    known: &Microsoft,
    tenant_known: bool,
    problems: &mut Problems,
) {
    let flow = section.text("flow");
    if !tenant_known {
        require(
            section,
            "tenant",
            "the tenant's id or one of its domains, such as \"contoso.onmicrosoft.com\"",
            problems,
        );
    }
    if section.has("private_key") && !section.has("certificate") {
        let fault =
            Fault::new("Microsoft wants the `certificate` that belongs to it, for its fingerprint");
        section.fault("private_key", fault, problems);
    }
    if section
        .text("redirect_uri")
        .is_some_and(|uri| uri.starts_with("http://["))
    {
        let fault = Fault::with(
            "Microsoft does not accept [::1]",
            "write \"http://localhost\"",
        );
        section.fault("redirect_uri", fault, problems);
    }
    let Some(flow) = flow else { return };
    if flow == "client_credentials" {
        let tenant = section.text("tenant").or(match preset.oauth {
            OAuth::Microsoft { tenant, .. } => tenant,
            _ => None,
        });
        if let Some(tenant) = tenant
            && SHARED_TENANTS
                .iter()
                .any(|shared| shared.eq_ignore_ascii_case(tenant))
        {
            let fault = Fault::with(
                format!(
                    "client_credentials needs one tenant, and {} is none",
                    quote(tenant)
                ),
                "write the tenant's id or one of its domains",
            );
            section.fault("tenant", fault, problems);
        }
    }
    if section.has("scopes") {
        scopes(section, flow, known, problems);
    } else if known.scope(flow).is_none() {
        let fault = Fault::with(
            format!(
                "`scopes` is missing, and no scope is documented for {} with {flow}",
                preset.name
            ),
            "write the scope that your cloud's mail service asks for",
        );
        report(
            section.path.clone(),
            section.span("scopes"),
            fault,
            problems,
        );
    }
}

/// The scopes the user wrote.
fn scopes(section: &Section<'_>, flow: &str, known: &Microsoft, problems: &mut Problems) {
    let Some(items) = section.node("scopes").and_then(|node| node.list()) else {
        return;
    };
    let key = section.key("scopes");
    let scopes: Vec<(&str, Option<Range<usize>>)> = items
        .iter()
        .filter_map(|node| Some((node.text()?, node.span.clone())))
        .collect();
    let instead = |otherwise: &str| {
        known.scope(flow).map_or_else(
            || otherwise.to_owned(),
            |scope| format!("write {}", quote(scope)),
        )
    };
    let mut resources = BTreeSet::new();
    let (mut defaults, mut named) = (0, 0);
    let mut misdirected = false;
    for (scope, span) in &scopes {
        if OPENID.contains(scope) {
            if *scope == "offline_access" && flow == "client_credentials" {
                let fault = Fault::with(
                    "client_credentials yields no refresh token",
                    "leave offline_access out",
                );
                report(key.clone(), span.clone(), fault, problems);
            }
            continue;
        }
        let Some(resource) = resource(scope) else {
            misdirected = true;
            let fault = Fault::with(
                format!(
                    "{} names no resource and so means Microsoft Graph, which no mail server accepts",
                    quote(scope)
                ),
                instead("put the mail service's resource before it"),
            );
            report(key.clone(), span.clone(), fault, problems);
            continue;
        };
        if GRAPH
            .iter()
            .any(|graph| graph.eq_ignore_ascii_case(resource))
        {
            misdirected = true;
            let fault = Fault::with(
                "a Microsoft Graph token is refused by the mail server (535 5.7.3)",
                instead("use the mail service's own scope"),
            );
            report(key.clone(), span.clone(), fault, problems);
            continue;
        }
        resources.insert(resource.to_ascii_lowercase());
        let default = scope.to_ascii_lowercase().ends_with("/.default");
        if default {
            defaults += 1;
        } else {
            named += 1;
            if flow == "client_credentials" {
                let fault = Fault::with(
                    "client_credentials takes the resource's `/.default` scope only",
                    instead(&format!("write {}", quote(&format!("{resource}/.default")))),
                );
                report(key.clone(), span.clone(), fault, problems);
            }
        }
    }
    let whole = section.node("scopes").and_then(|node| node.span.clone());
    let mut whole_fault = |fault| report(key.clone(), whole.clone(), fault, problems);
    if resources.len() > 1 {
        let list: Vec<String> = resources.iter().map(|resource| quote(resource)).collect();
        whole_fault(Fault::with(
            format!(
                "one token is for one resource, and these are for {}",
                list.join(" and ")
            ),
            "keep the mail service's",
        ));
    } else if defaults > 0 && named > 0 && flow != "client_credentials" {
        whole_fault(Fault::new(
            "`.default` and named scopes cannot be asked for together",
        ));
    }
    if flow != "client_credentials" {
        if !scopes.iter().any(|(scope, _)| *scope == "offline_access") {
            whole_fault(Fault::with(
                format!(
                    "without offline_access, {flow} yields no refresh token and a person must sign in every hour"
                ),
                "add \"offline_access\"",
            ));
        }
        if resources.is_empty() && !misdirected {
            whole_fault(Fault::with(
                "nothing here lets the account send",
                instead("add the mail service's scope"),
            ));
        }
    } else if resources.is_empty() && !misdirected {
        whole_fault(Fault::with(
            "nothing here lets the account send",
            instead("add the mail service's `/.default` scope"),
        ));
    }
}

/// The resource of a scope: what stands before its last `/`.
///
/// A resource is a URI, or an application's id; `SMTP.Send` alone has none.
fn resource(scope: &str) -> Option<&str> {
    let (resource, _) = scope.rsplit_once('/')?;
    let resource = resource.trim_end_matches('/');
    (!resource.is_empty() && !resource.ends_with(':')).then_some(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scopes_resource_is_what_stands_before_its_name() {
        assert_eq!(
            resource("https://outlook.office.com/SMTP.Send"),
            Some("https://outlook.office.com")
        );
        assert_eq!(
            resource("https://outlook.office365.com//.default"),
            Some("https://outlook.office365.com")
        );
        assert_eq!(resource("api://0f1e/x"), Some("api://0f1e"));
        assert_eq!(resource("Mail.Send"), None);
        assert_eq!(resource("https://SMTP.Send"), None);
    }
}
