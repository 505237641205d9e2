//! What the `oauth` plugin's settings must be to make sense together, and what the preset
//! adds to them.
//!
//! The plugin would refuse most of this too, but one thing at a time and without a place.

use serde_json::{Map, Value};

use crate::grammar::Fault;
use crate::keys;
use crate::microsoft::{self, Known};
use crate::presets::{OAuth, Provider};
use crate::problem::{Problems, quote};
use crate::section::Section;

/// The endpoints a user may write out.
const ENDPOINTS: [&str; 5] = [
    "token_endpoint",
    "authorization_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
];

/// Checks `section` across its keys and adds to `settings` what `provider` knows.
pub(crate) fn complete(
    section: &Section<'_>,
    provider: &Provider<'_>,
    settings: &mut Map<String, Value>,
    problems: &mut Problems,
) {
    let flow = section.meant("flow");
    let flows = format!("one of: {}", keys::FLOWS.join(", "));
    require(section, "flow", &flows, problems);
    let origin = "the application's id, from where it is registered";
    require(section, "client_id", origin, problems);
    match proof(section, flow) {
        Some((name, fault)) if section.has(name) => section.fault(name, fault, problems),
        Some((_, fault)) => section.missing(fault, problems),
        None => {}
    }

    let preset = provider.preset;
    let has = |name: &&str| section.has(name);
    let endpoint = ENDPOINTS.into_iter().find(has);
    let issuer = ["issuer"].into_iter().find(has);
    let authority = ["authority"].into_iter().find(has);
    let named: Vec<&str> = [authority, issuer, endpoint]
        .into_iter()
        .flatten()
        .collect();
    if let [first, second, ..] = named[..] {
        let fault = Fault::with(
            format!("and `{first}` exclude each other: each names the provider"),
            "keep one of them",
        );
        section.fault(second, fault, problems);
        return;
    }

    let mut add = |name: &str, value: Value| {
        settings.entry(name).or_insert(value);
    };
    match preset.oauth {
        OAuth::Microsoft {
            authority: real,
            tenant,
            delegated_scope,
            app_scope,
            ..
        } => {
            if let Some(name) = issuer.or(endpoint) {
                let fault = Fault::with(
                    format!("{} has endpoints of its own", preset.name),
                    "remove it, or use provider = \"custom\"",
                );
                section.fault(name, fault, problems);
                return;
            }
            let known = Known {
                preset: preset.name,
                tenant,
                delegated_scope,
                app_scope,
            };
            add("authority", Value::from(provider.authority(real)));
            if let Some(tenant) = tenant {
                add("tenant", Value::from(tenant));
            }
            if let Some(scopes) = flow.and_then(|flow| known.scopes(flow)) {
                add("scopes", Value::from(scopes));
            }
            microsoft::check(section, &known, problems);
        }
        OAuth::Endpoints {
            authorization,
            token,
            scope,
        } => {
            if issuer.is_none() {
                add("authorization_endpoint", Value::from(authorization));
                add("token_endpoint", Value::from(token));
            }
            add("scopes", Value::from(vec![scope]));
            endpoints(section, settings, flow, problems);
        }
        OAuth::Unknown if authority.is_some() => {
            let known = Known {
                preset: preset.name,
                tenant: None,
                delegated_scope: None,
                app_scope: None,
            };
            microsoft::check(section, &known, problems);
        }
        OAuth::Unknown => endpoints(section, settings, flow, problems),
    }
}

/// Reports that `name` is missing, if it is.
pub(crate) fn require(
    section: &Section<'_>,
    name: &str,
    suggestion: &str,
    problems: &mut Problems,
) {
    if !section.has(name) {
        let fault = Fault::with(format!("`{name}` is missing"), suggestion);
        section.missing(fault, problems);
    }
}

/// How the application proves itself: why it cannot, and the setting to blame for it.
fn proof(section: &Section<'_>, flow: Option<&str>) -> Option<(&'static str, Fault)> {
    let has = |name: &&str| section.has(name);
    let secret = section.has("client_secret");
    let signing = ["private_key", "certificate", "assertion"];
    let signed = signing.into_iter().find(has);
    let method = match signed {
        _ if section.has("client_auth") => section.meant("client_auth")?,
        Some(_) => "private_key_jwt",
        None if secret => "post",
        None => "none",
    };
    match method {
        "none" => {
            let given = ["client_secret"].into_iter().chain(signing).find(has);
            if let Some(name) = given {
                let what = "is not used with client_auth = \"none\"";
                return Some((name, Fault::with(what, "remove one of the two")));
            }
            let fault = Fault::with(
                "client_credentials needs `client_secret`, or `certificate` and `private_key`, or `assertion`",
                format!("write client_secret = {}", keys::REFERENCE_FORMS),
            );
            (flow == Some("client_credentials")).then_some(("client_secret", fault))
        }
        "private_key_jwt" => {
            let own_key = ["private_key", "certificate"].into_iter().find(has);
            match own_key {
                _ if secret => {
                    let what = "is not used with a signed assertion";
                    let fault = Fault::with(what, "remove it, or what belongs to the assertion");
                    Some(("client_secret", fault))
                }
                Some(name) if section.has("assertion") => {
                    let what = "and `assertion` exclude each other";
                    Some((name, Fault::with(what, "keep one of them")))
                }
                _ if section.has("assertion") || section.has("private_key") => None,
                _ => {
                    let what = "a signed assertion needs `private_key`, or is an `assertion` of another issuer";
                    Some(("private_key", Fault::new(what)))
                }
            }
        }
        _ => match signed {
            Some(name) => {
                let what = "is used with client_auth = \"private_key_jwt\" only";
                Some((name, Fault::with(what, "remove one of the two")))
            }
            None if secret => None,
            None => {
                let what = format!("{} needs `client_secret`", quote(method));
                Some(("client_auth", Fault::new(what)))
            }
        },
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
    microsoft::refuse_graph(section, problems);
    if section.has("tenant") {
        let fault = Fault::with(
            "a tenant means nothing to this provider",
            "use provider = \"microsoft365\", or give `authority` too",
        );
        section.fault("tenant", fault, problems);
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
        section.missing(fault, problems);
    }
}
