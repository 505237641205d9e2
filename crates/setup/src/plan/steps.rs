//! From what there is to what is to be done, in the order it is to be done.

use postrider_graph::Application;

use super::{Can, Found, Origin, State, Step, StepId};
use crate::finding::Who;
use crate::journal::{KnownCredential, SecretName};
use crate::permission::{self, Need, Service, same};
use crate::shown::shown;
use crate::wanted::{AppChoice, CredentialKind, Wanted};

/// Where a browser returns to after the sign-in: this machine. Entra ignores the port.
pub(crate) const REDIRECT: &str = "http://localhost";

pub(super) fn of(wanted: &Wanted, found: &Found) -> Vec<Step> {
    let mut steps = vec![
        application(wanted, found),
        principal(found),
        permissions(found),
    ];
    for (service, id) in [
        (Service::Exchange, StepId::ConsentExchange),
        (Service::Graph, StepId::ConsentGraph),
    ] {
        steps.extend(consent(found, service, id));
    }
    for (service, id) in [
        (Service::Exchange, StepId::AppRoleExchange),
        (Service::Graph, StepId::AppRoleGraph),
    ] {
        steps.extend(app_role(found, service, id));
    }
    if wanted.own_renewal {
        steps.push(Step {
            id: StepId::Owner,
            what: "The application as an owner of itself".to_owned(),
            why: format!(
                "with {} it may change only what it owns: its own credential",
                permission::OWNED_BY
            ),
            state: exists_or_create(found.owned),
        });
    }
    steps.extend(credential(wanted, found));
    steps.extend(left_credentials(wanted, found));
    steps.extend(found.left_applications.iter().map(left_application));
    steps
}

fn application(wanted: &Wanted, found: &Found) -> Step {
    let named = |app: &Application| {
        format!(
            "Application \"{}\" (client id {})",
            shown(&app.display_name),
            app.app_id
        )
    };
    let (what, why, state) = match (&found.application, &wanted.app) {
        (Some(app), _) => {
            let how = match found.origin {
                Origin::Mark => "an interrupted run made it: it is taken over",
                Origin::Name => "it has the account's name",
                Origin::Id => "it is the one asked for",
                Origin::Record | Origin::Nowhere => "it is the account's",
            };
            match lacking(app, wanted) {
                None => (named(app), how.to_owned(), State::Exists),
                Some(lacking) => (named(app), format!("{how}; {lacking}"), State::Change),
            }
        }
        (None, AppChoice::Named(name)) => {
            let mut why = "mail servers of Microsoft 365 take tokens, and Entra issues them to \
                           applications that are registered in the tenant"
                .to_owned();
            if let Some(gone) = &found.known.application {
                why = format!(
                    "{why}; the one recorded earlier (client id {}) is gone",
                    gone.client_id
                );
            }
            (
                format!(
                    "Application \"{name}\", for this tenant alone{}",
                    shape(wanted)
                ),
                why,
                State::Create,
            )
        }
        (None, AppChoice::Existing(id)) => (
            format!("Application with the client id {id}"),
            "it was asked for".to_owned(),
            State::Create,
        ),
    };
    let state = match &found.application_cannot {
        Some(why) => State::Cannot {
            why: why.clone(),
            who: Who::You,
        },
        None => state,
    };
    Step {
        id: StepId::Application,
        what,
        why,
        state,
    }
}

/// What a new application will be like.
fn shape(wanted: &Wanted) -> &'static str {
    match (wanted.flow.is_delegated(), wanted.credential) {
        (true, CredentialKind::None) => {
            ", a public client that signs in at http://localhost or by device code"
        }
        (true, _) => ", with the redirect http://localhost",
        (false, _) => "",
    }
}

/// What an application that is there needs to be changed in.
fn lacking(app: &Application, wanted: &Wanted) -> Option<String> {
    let wishes = Registration::of(wanted);
    let mut lacking = Vec::new();
    if wishes.fallback && !app.fallback_public_client {
        lacking.push("public client flows have to be allowed");
    }
    if wishes.public && !app.public_redirects.iter().any(|uri| uri == REDIRECT) {
        lacking.push("the redirect http://localhost has to be added for installed programs");
    }
    if wishes.web && !app.web_redirects.iter().any(|uri| uri == REDIRECT) {
        lacking.push("the redirect http://localhost has to be added to the web platform");
    }
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

/// What a sign-in wants of an app registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration {
    /// Flows without a redirect go without a credential.
    pub(crate) fallback: bool,
    /// The loopback redirect among those of installed programs.
    pub(crate) public: bool,
    /// The loopback redirect among those of the web.
    pub(crate) web: bool,
}

impl Registration {
    pub(crate) fn of(wanted: &Wanted) -> Self {
        let delegated = wanted.flow.is_delegated();
        let public = wanted.credential == CredentialKind::None;
        Self {
            // Either flow, so that the other can stand in when a policy refuses one.
            fallback: delegated && public,
            public: delegated && public,
            web: delegated && !public,
        }
    }
}

fn principal(found: &Found) -> Step {
    Step {
        id: StepId::ServicePrincipal,
        what: "Its service principal (enterprise application)".to_owned(),
        why: "consent and mailbox permissions are given to this, not to the registration"
            .to_owned(),
        state: exists_or_create(found.principal.is_some()),
    }
}

fn permissions(found: &Found) -> Step {
    let state = match &found.application {
        None => State::Create,
        Some(app) if permission::widened(&app.required, &found.needs).is_some() => State::Change,
        Some(_) => State::Exists,
    };
    Step {
        id: StepId::Permissions,
        what: format!("Permissions it asks for: {}", list(found.needs.iter())),
        why: "those, and no more; what others added stays".to_owned(),
        state,
    }
}

fn consent(found: &Found, service: Service, id: StepId) -> Option<Step> {
    let scopes = permission::scopes(&found.needs, service);
    if scopes.is_empty() {
        return None;
    }
    let grant = found
        .resource(service)
        .and_then(|resource| permission::grant_for_all(&found.grants, resource));
    let state = match grant {
        Some(grant) if grant.covers(None, scopes.iter().copied()) => State::Exists,
        Some(_) => State::Change,
        None => State::Create,
    };
    Some(Step {
        id,
        what: format!(
            "Consent for everybody in the tenant to {} of {}",
            scopes.join(", "),
            service.title()
        ),
        why: "so that nobody is asked when signing in; it lets the application act only for \
              people who do sign in"
            .to_owned(),
        state: permitted(state, found.may.consent, Who::ApplicationAdministrator),
    })
}

fn app_role(found: &Found, service: Service, id: StepId) -> Option<Step> {
    let roles: Vec<&Need> = permission::roles(&found.needs, service).collect();
    if roles.is_empty() {
        return None;
    }
    let there = found.resource(service).is_some_and(|resource| {
        roles
            .iter()
            .all(|role| permission::is_assigned(&found.assigned, resource, &role.id))
    });
    let (may, who) = match service {
        Service::Exchange => (found.may.consent, Who::ApplicationAdministrator),
        Service::Graph => (
            found.may.consent_to_graph_roles,
            Who::PrivilegedAdministrator,
        ),
    };
    let why = match service {
        Service::Exchange => {
            "without a person, an administrator's consent is what lets the application in; which \
             mailboxes it may use is decided in Exchange"
        }
        Service::Graph => "consent to the application's renewing its own credential",
    };
    Some(Step {
        id,
        what: format!(
            "Consent to the application permission {} of {}",
            list(roles.into_iter()),
            service.title()
        ),
        why: why.to_owned(),
        state: permitted(exists_or_create(there), may, who),
    })
}

fn credential(wanted: &Wanted, found: &Found) -> Option<Step> {
    let what = match wanted.credential {
        CredentialKind::None => return None,
        CredentialKind::Secret { .. } => "Client secret",
        CredentialKind::Certificate { .. } => {
            "Certificate, of a key that is made here and stays here"
        }
    };
    let until = |ends: jiff::Timestamp| ends.strftime("%F").to_string();
    let (what, why, state) = match (live(wanted, found), &found.known.credential) {
        (Some(live), _) => (
            format!("{what}, good until {}", until(live.ends)),
            if wanted.renewing {
                "a renewal of it is under way: it is left as it is".to_owned()
            } else {
                "its secret part is kept here".to_owned()
            },
            State::Exists,
        ),
        (None, _) if wanted.renewing => (
            what.to_owned(),
            "the application proves itself with it".to_owned(),
            State::Cannot {
                why: format!(
                    "a renewal is under way, which has to end first (postrider rotate \
                     --client-secret {} --finish, or --abort)",
                    wanted.account
                ),
                who: Who::You,
            },
        ),
        (None, recorded) => {
            let ends = ends(wanted)
                .map_or_else(String::new, |ends| format!(", good until {}", until(ends)));
            let why = match recorded {
                None => "the application proves itself with it",
                Some(old) if old.ends <= wanted.now => "the one recorded earlier has expired",
                Some(_) => "the one recorded earlier is gone, or of another kind",
            };
            (format!("{what}{ends}"), why.to_owned(), State::Create)
        }
    };
    Some(Step {
        id: StepId::Credential,
        what,
        why,
        state,
    })
}

/// The credential in use, if the application still has it, it is of the kind that is wanted, and
/// it has not expired.
pub(crate) fn live<'a>(wanted: &Wanted, found: &'a Found) -> Option<&'a KnownCredential> {
    let known = usable(wanted, found)?;
    shows(found.application.as_ref()?, known).then_some(known)
}

/// The recorded credential, if it is of the kind that is wanted and has not expired.
pub(super) fn usable<'a>(wanted: &Wanted, found: &'a Found) -> Option<&'a KnownCredential> {
    let known = found.known.credential.as_ref()?;
    let is_wanted = match wanted.credential {
        CredentialKind::None => false,
        CredentialKind::Secret { .. } => known.kind == SecretName::ClientSecret,
        CredentialKind::Certificate { .. } => known.kind != SecretName::ClientSecret,
    };
    (is_wanted && known.ends > wanted.now).then_some(known)
}

/// Whether the application has the credential.
pub(crate) fn shows(app: &Application, credential: &KnownCredential) -> bool {
    let is = |key_id: &String| same(key_id, &credential.key_id);
    if credential.kind == SecretName::ClientSecret {
        app.passwords.iter().any(|password| is(&password.key_id))
    } else {
        app.certificates.iter().any(|one| is(&one.key_id))
    }
}

/// When a credential made now would end.
pub(crate) fn ends(wanted: &Wanted) -> Option<jiff::Timestamp> {
    let (CredentialKind::Secret { lifetime } | CredentialKind::Certificate { lifetime }) =
        wanted.credential
    else {
        return None;
    };
    wanted.now.checked_add(lifetime).ok()
}

/// A credential on the application that this account's runs asked for, and does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) key_id: String,
    pub(crate) name: String,
    pub(crate) certificate: bool,
}

/// Those among the credentials of `app` that carry one of our marks, except `keep`.
pub(crate) fn left(app: &Application, marks: &[String], keep: Option<&str>) -> Vec<Left> {
    let secrets = app
        .passwords
        .iter()
        .map(|p| (&p.key_id, &p.display_name, false));
    let certificates = app
        .certificates
        .iter()
        .map(|c| (&c.key_id, &c.display_name, true));
    secrets
        .chain(certificates)
        .filter_map(|(key_id, name, certificate)| {
            let name = name.as_ref().filter(|name| marks.contains(name))?;
            let kept = keep.is_some_and(|keep| same(keep, key_id));
            (!kept).then(|| Left {
                key_id: key_id.clone(),
                name: name.clone(),
                certificate,
            })
        })
        .collect()
}

fn left_credentials(wanted: &Wanted, found: &Found) -> Vec<Step> {
    let Some(app) = found.application.as_ref().filter(|_| !wanted.renewing) else {
        return Vec::new();
    };
    let keep = live(wanted, found).map(|live| live.key_id.as_str());
    left(app, &found.known.credential_marks, keep)
        .into_iter()
        .map(|left| Step {
            id: StepId::LeftOverCredential,
            what: format!(
                "{} \"{}\" (key id {}) removed",
                if left.certificate {
                    "Certificate"
                } else {
                    "Client secret"
                },
                left.name,
                left.key_id
            ),
            why: "an earlier run of this setup made it, and its secret part is not in use here"
                .to_owned(),
            state: State::Change,
        })
        .collect()
}

fn left_application(app: &Application) -> Step {
    Step {
        id: StepId::LeftOverApplication,
        what: format!(
            "Application \"{}\" (client id {}) removed",
            shown(&app.display_name),
            app.app_id
        ),
        why: "an interrupted run of this setup made it, and the account uses another".to_owned(),
        state: State::Change,
    }
}

fn exists_or_create(there: bool) -> State {
    if there { State::Exists } else { State::Create }
}

fn permitted(state: State, may: Can, who: Who) -> State {
    if state != State::Exists && may == Can::No {
        return State::Cannot {
            why: "the person signed in has no role that may give this consent".to_owned(),
            who,
        };
    }
    state
}

fn list<'a>(needs: impl Iterator<Item = &'a Need>) -> String {
    let names: Vec<String> = needs
        .map(|need| format!("{} ({})", need.name, need.why))
        .collect();
    names.join(", ")
}
