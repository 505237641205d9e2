//! What Entra ID and Exchange Online want of tenants and scopes.
//!
//! The rules are those of the project's fact table, sections B1 and B3: a wrong scope is found
//! here, before it becomes a `535 5.7.3` that does not say why.

use std::collections::BTreeSet;

use crate::grammar::Fault;
use crate::oauth::require;
use crate::problem::{Problems, quote};
use crate::section::{Section, report};

/// Scopes of OpenID Connect: they name no resource and go with any.
const OPENID: [&str; 4] = ["offline_access", "openid", "profile", "email"];
/// Tenants that are no single tenant. The last is `consumers` by its id.
const SHARED_TENANTS: [&str; 4] = [
    "common",
    "organizations",
    "consumers",
    "9188040d-6c67-4c5b-b112-36a304b66dad",
];
/// Microsoft Graph in each cloud: not what a mail server accepts.
const GRAPH: [&str; 5] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
    "00000003-0000-0000-c000-000000000000",
];

const NOT_FOR_MAIL: &str = "the mail server refuses tokens for Microsoft Graph (535 5.7.3)";

/// What a preset knows.
pub(crate) struct Known {
    pub(crate) preset: &'static str,
    pub(crate) tenant: Option<&'static str>,
    pub(crate) delegated_scope: Option<&'static str>,
    pub(crate) app_scope: Option<&'static str>,
}

impl Known {
    /// The mail service's scope for a flow.
    fn scope(&self, flow: &str) -> Option<&'static str> {
        if is_app_only(flow) {
            self.app_scope
        } else {
            self.delegated_scope
        }
    }

    /// All that a flow should ask for.
    pub(crate) fn scopes(&self, flow: &str) -> Option<Vec<&'static str>> {
        let mut scopes = vec![self.scope(flow)?];
        if !is_app_only(flow) {
            // The id token says who signed in: `login` compares it with the account.
            scopes.extend(["offline_access", "openid", "profile"]);
        }
        Some(scopes)
    }

    /// What to write in place of a wrong scope.
    fn instead(&self, flow: &str) -> String {
        match self.scope(flow) {
            Some(scope) => format!("write {}", quote(scope)),
            None if is_app_only(flow) => {
                "write the mail service's resource and /.default".to_owned()
            }
            None => "write the mail service's own scope, with its resource".to_owned(),
        }
    }
}

/// Whether the application signs in as itself, nobody with it.
fn is_app_only(flow: &str) -> bool {
    flow == "client_credentials"
}

/// Checks the `auth` section of an account at Microsoft.
pub(crate) fn check(section: &Section<'_>, known: &Known, problems: &mut Problems) {
    if known.tenant.is_none() {
        let what = "the tenant's id or one of its domains, such as \"contoso.onmicrosoft.com\"";
        require(section, "tenant", what, problems);
    }
    if section.has("private_key") && !section.has("certificate") {
        let fault = Fault::with(
            "Microsoft finds the key by its certificate",
            "add `certificate`",
        );
        section.fault("private_key", fault, problems);
    }
    let redirect = section.text("redirect_uri");
    if redirect.is_some_and(|uri| uri.starts_with("http://[")) {
        let fault = Fault::with(
            "Microsoft does not accept an IPv6 address",
            "write \"http://localhost\"",
        );
        section.fault("redirect_uri", fault, problems);
    }
    let Some(flow) = section.meant("flow") else {
        return;
    };
    tenant(section, flow, known, problems);
    if section.has("scopes") {
        scopes(section, flow, known, problems);
    } else if known.scope(flow).is_none() {
        let fault = Fault::with(
            format!(
                "`scopes` is missing, and none is documented for {} with {flow}",
                known.preset
            ),
            known.instead(flow),
        );
        section.missing(fault, problems);
    }
}

fn tenant(section: &Section<'_>, flow: &str, known: &Known, problems: &mut Problems) {
    let Some(tenant) = section.text("tenant").or(known.tenant) else {
        return;
    };
    let shared = SHARED_TENANTS
        .iter()
        .any(|shared| shared.eq_ignore_ascii_case(tenant));
    if shared && is_app_only(flow) {
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

/// Reports scopes of Microsoft Graph where the provider is known by its endpoints only: no
/// other provider has such scopes.
pub(crate) fn refuse_graph(section: &Section<'_>, problems: &mut Problems) {
    let list = section.node("scopes").and_then(|node| node.list());
    for node in list.unwrap_or_default() {
        if node.text().map(Meaning::of) == Some(Meaning::Graph) {
            let fault = Fault::with(NOT_FOR_MAIL, "write the mail service's own scope");
            report(section.key("scopes"), node.span.clone(), fault, problems);
        }
    }
}

/// What a scope asks for.
#[derive(PartialEq)]
enum Meaning<'s> {
    /// Something of the sign-in itself.
    OpenId,
    /// A permission of Microsoft Graph, by not naming any resource.
    Unqualified,
    /// A permission of Microsoft Graph.
    Graph,
    /// All permissions granted at this resource.
    Default(&'s str),
    /// One permission at this resource.
    Named(&'s str, &'s str),
}

impl<'s> Meaning<'s> {
    fn of(scope: &'s str) -> Self {
        if OPENID.contains(&scope) {
            return Self::OpenId;
        }
        let Some((resource, permission)) = split(scope) else {
            return Self::Unqualified;
        };
        let is_graph = |graph: &&str| graph.eq_ignore_ascii_case(resource);
        if GRAPH.iter().any(is_graph) {
            Self::Graph
        } else if permission.eq_ignore_ascii_case(".default") {
            Self::Default(resource)
        } else {
            Self::Named(resource, permission)
        }
    }

    /// Why this scope is wrong in itself.
    fn fault(&self, scope: &str, flow: &str, known: &Known) -> Option<Fault> {
        match self {
            Self::OpenId if scope == "offline_access" && is_app_only(flow) => Some(Fault::with(
                "client_credentials yields no refresh token",
                "leave offline_access out",
            )),
            Self::Unqualified => Some(Fault::with(
                format!(
                    "{} names no resource and so means Microsoft Graph, whose tokens no mail server accepts",
                    quote(scope)
                ),
                known.instead(flow),
            )),
            Self::Graph => Some(Fault::with(NOT_FOR_MAIL, known.instead(flow))),
            Self::Named(resource, _) if is_app_only(flow) => Some(Fault::with(
                "client_credentials takes a resource's `/.default` only",
                match known.scope(flow) {
                    Some(scope) => format!("write {}", quote(scope)),
                    None => format!("write {}", quote(&format!("{resource}/.default"))),
                },
            )),
            _ => None,
        }
    }

    fn resource(&self) -> Option<&'s str> {
        match self {
            Self::Default(resource) | Self::Named(resource, _) => Some(resource),
            _ => None,
        }
    }
}

/// The scopes the user wrote, each by itself and all together.
fn scopes(section: &Section<'_>, flow: &str, known: &Known, problems: &mut Problems) {
    let list = section.node("scopes").and_then(|node| node.list());
    let mut meanings = Vec::new();
    let mut lasting = false;
    for node in list.unwrap_or_default() {
        let Some(scope) = node.text() else { continue };
        let meaning = Meaning::of(scope);
        if let Some(fault) = meaning.fault(scope, flow, known) {
            report(section.key("scopes"), node.span.clone(), fault, problems);
        }
        lasting |= scope == "offline_access";
        meanings.push(meaning);
    }
    if meanings.is_empty() {
        return;
    }
    if let Some(fault) = together(&meanings, flow, known) {
        section.fault("scopes", fault, problems);
    }
    if !lasting && !is_app_only(flow) {
        let fault = Fault::with(
            format!(
                "without offline_access, {flow} yields no refresh token: someone would have to sign in again and again"
            ),
            "add \"offline_access\"",
        );
        section.fault("scopes", fault, problems);
    }
}

/// Why these scopes cannot be asked for together.
fn together(meanings: &[Meaning<'_>], flow: &str, known: &Known) -> Option<Fault> {
    let resources: BTreeSet<String> = meanings
        .iter()
        .filter_map(Meaning::resource)
        .map(str::to_ascii_lowercase)
        .collect();
    let any = |wanted: fn(&Meaning<'_>) -> bool| meanings.iter().any(wanted);
    if resources.len() > 1 {
        let list: Vec<String> = resources.iter().map(|resource| quote(resource)).collect();
        return Some(Fault::with(
            format!(
                "a token is for one resource, and these are for {}",
                list.join(" and ")
            ),
            "keep the mail service's",
        ));
    }
    let mixed =
        any(|m| matches!(m, Meaning::Default(_))) && any(|m| matches!(m, Meaning::Named(..)));
    if mixed && !is_app_only(flow) {
        return Some(Fault::with(
            "`.default` cannot be mixed with named scopes",
            known.instead(flow),
        ));
    }
    // What is wrong in itself was reported already.
    let reported = any(|m| matches!(m, Meaning::Graph | Meaning::Unqualified)) || mixed;
    let any_permission = is_app_only(flow) || known.delegated_scope.is_none();
    let sends = meanings.iter().any(|meaning| match meaning {
        Meaning::Default(_) => true,
        Meaning::Named(_, permission) => {
            any_permission || permission.eq_ignore_ascii_case("SMTP.Send")
        }
        _ => false,
    });
    (!sends && !reported)
        .then(|| Fault::with("nothing here lets the account send", known.instead(flow)))
}

/// Resource and permission of a scope: what stands before and after its last `/`.
///
/// A resource is a URI, or an application's id; `SMTP.Send` alone has none.
fn split(scope: &str) -> Option<(&str, &str)> {
    let (resource, permission) = scope.rsplit_once('/')?;
    let resource = resource.trim_end_matches('/');
    (!resource.is_empty() && !resource.ends_with(':')).then_some((resource, permission))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scopes_resource_is_what_stands_before_its_name() {
        for (scope, expected) in [
            (
                "https://outlook.office.com/SMTP.Send",
                Some(("https://outlook.office.com", "SMTP.Send")),
            ),
            (
                "https://outlook.office365.com//.default",
                Some(("https://outlook.office365.com", ".default")),
            ),
            ("api://0f1e/x", Some(("api://0f1e", "x"))),
            ("Mail.Send", None),
            ("https://SMTP.Send", None),
        ] {
            assert_eq!(split(scope), expected, "{scope}");
        }
    }
}
