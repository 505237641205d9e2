//! The looking: everything a plan is made of is read here, in one pass.

use postrider_graph::{Application, Graph, GraphError, GraphErrorKind, PermissionKind};

use super::{Can, Found, May, Origin, Plan, Tenant, steps};
use crate::check;
use crate::error::SetupError;
use crate::finding::{Finding, Topic, Who};
use crate::journal::Known;
use crate::permission::{self, OWNED_BY, Service, same};
use crate::plan::StepId;
use crate::remains;
use crate::shown::shown;
use crate::wanted::{AppChoice, Wanted};

pub(super) async fn at_tenant(graph: &Graph, wanted: &Wanted) -> Result<Plan, SetupError> {
    wanted.check()?;
    let failed = |error| SetupError::graph(None, error);
    let tenant = Tenant::from(graph.organization().await.map_err(failed)?);
    let me = graph.me().await.map_err(failed)?;
    let known = wanted.known.of_tenant(&tenant.id);
    if !known.finished
        && let Some(application) = &known.application
    {
        // It may have been made a moment ago.
        graph.note_fresh(&[&application.client_id, &application.object_id]);
    }

    let mut findings = Vec::new();
    if let Some(other) = &wanted.known.tenant
        && *other != tenant.id
    {
        findings.push(elsewhere(other, &wanted.known));
    }
    findings.extend(check::user(graph, wanted, &tenant).await?);
    findings.extend(check::sender(graph, wanted).await?);
    findings.extend(check::policies(graph, wanted).await?);
    let (may, roles) = check::roles(graph, wanted).await?;

    let mut found = Found {
        known,
        may,
        ..Found::default()
    };
    services(graph, wanted, &mut found, &mut findings).await?;
    application(graph, wanted, &mut found)
        .await
        .map_err(|error| SetupError::graph(StepId::Application, error))?;
    credential(graph, wanted, &mut found)
        .await
        .map_err(|error| SetupError::graph(StepId::Credential, error))?;
    if let Some(app) = found.application.clone() {
        of_application(graph, &app, wanted, &mut found).await?;
    }

    let steps = steps::of(wanted, &found);
    findings.extend(check::principal(wanted, &found));
    findings.extend(remains::findings(wanted, &found));
    findings.extend(roles.for_steps(&steps));
    findings.extend(check::exchange_roles(&roles));
    Ok(Plan {
        signed_in: shown(&me.user_principal_name),
        tenant,
        findings,
        steps,
        wanted: wanted.clone(),
        found,
    })
}

/// The services that permissions belong to, and the permissions themselves.
async fn services(
    graph: &Graph,
    wanted: &Wanted,
    found: &mut Found,
    findings: &mut Vec<Finding>,
) -> Result<(), SetupError> {
    let failed = |error| SetupError::graph(StepId::Permissions, error);
    found.exchange = graph
        .service_principal(Service::Exchange.client_id())
        .await
        .map_err(failed)?
        .map(|principal| principal.id);
    if found.exchange.is_none() {
        findings.push(
            Finding::blocks(Topic::Exchange, "This tenant has no Exchange Online")
                .because(
                    "its directory has no service principal for Exchange Online: no licence with \
                     a mailbox was ever bought here, or this is the wrong tenant",
                )
                .remedied(
                    Who::UserAdministrator,
                    "sign in to the tenant that the mailbox is in, or buy a licence with \
                     Exchange Online and try again an hour later",
                ),
        );
    }
    let mut owned_by = None;
    if wanted.own_renewal {
        let service = graph
            .resource(Service::Graph.client_id())
            .await
            .map_err(failed)?;
        if let Some(service) = service {
            owned_by = service
                .permission(PermissionKind::Role, OWNED_BY)
                .map(|permission| permission.id.clone());
            found.graph = Some(service.id);
        }
        if owned_by.is_none() {
            findings.push(
                Finding::blocks(
                    Topic::Roles,
                    format!("Microsoft Graph knows no permission {OWNED_BY} here"),
                )
                .because("the application could not renew its own credential without it")
                .remedied(Who::You, "set the account up without its own renewal"),
            );
        }
    } else if wanted.flow.is_delegated() {
        found.graph = graph
            .service_principal(Service::Graph.client_id())
            .await
            .map_err(failed)?
            .map(|principal| principal.id);
    }
    found.needs = permission::needs(wanted, owned_by.as_deref());
    Ok(())
}

/// Which application is the account's, and which are left over from interrupted runs.
async fn application(graph: &Graph, wanted: &Wanted, found: &mut Found) -> Result<(), GraphError> {
    let known = &found.known;
    let named = match &wanted.app {
        AppChoice::Named(name) => {
            let interrupted = !known.finished && !known.application_marks.is_empty();
            if interrupted && known.application.is_none() {
                graph.applications_named_soon(name).await?
            } else {
                graph.applications_named(name).await?
            }
        }
        AppChoice::Existing(_) if known.application_marks.is_empty() => Vec::new(),
        // Before this one was chosen, a run may have been interrupted that made another.
        AppChoice::Existing(_) => {
            let name = AppChoice::name_for(&wanted.account);
            graph.applications_named(&name).await?
        }
    };

    match &wanted.app {
        AppChoice::Existing(client_id) => match graph.application(client_id).await {
            Ok(Some(app)) => (found.application, found.origin) = (Some(app), Origin::Id),
            Ok(None) => {
                found.application_cannot = Some(format!(
                    "there is no application with the client id {client_id} in this tenant"
                ));
            }
            Err(error) if error.kind == GraphErrorKind::Invalid => {
                found.application_cannot =
                    Some("what was given as its client id is not one".to_owned());
            }
            Err(error) => return Err(error),
        },
        AppChoice::Named(_) => {
            let recorded = match &known.application {
                Some(recorded) => graph.application(&recorded.client_id).await?,
                None => None,
            };
            let marked = named.iter().find(|app| is_marked(app, known));
            if let Some(app) = recorded {
                (found.application, found.origin) = (Some(app), Origin::Record);
            } else if let Some(app) = marked {
                (found.application, found.origin) = (Some(app.clone()), Origin::Mark);
            } else if let [app] = named.as_slice() {
                (found.application, found.origin) = (Some(app.clone()), Origin::Name);
            } else if !named.is_empty() {
                let ids: Vec<&str> = named.iter().map(|app| app.app_id.as_str()).collect();
                found.application_cannot = Some(format!(
                    "there are {} applications of this name ({}): say which one by its client id, \
                     or choose another name",
                    ids.len(),
                    ids.join(", ")
                ));
            }
        }
    }

    let chosen = found.application.as_ref().map(|app| &app.id);
    let recorded = known.application.as_ref().map(|app| &app.object_id);
    found.left_applications = named
        .into_iter()
        .filter(|app| is_marked(app, known))
        .filter(|app| chosen != Some(&app.id) && recorded != Some(&app.id))
        .collect();
    Ok(())
}

/// Gives the recorded credential time to show: it may be of a moment ago, and taking it for gone
/// would replace one that works.
async fn credential(graph: &Graph, wanted: &Wanted, found: &mut Found) -> Result<(), GraphError> {
    let (Some(app), Some(credential)) = (&found.application, steps::usable(wanted, found)) else {
        return Ok(());
    };
    let recorded = found.known.application.as_ref();
    let is_its_own = recorded.is_some_and(|recorded| same(&recorded.object_id, &app.id));
    if is_its_own && !steps::shows(app, credential) {
        let now = graph
            .application_showing(&app.id, |app| steps::shows(app, credential))
            .await?;
        found.application = Some(now);
    }
    Ok(())
}

/// What an application that is there has in the tenant.
async fn of_application(
    graph: &Graph,
    app: &Application,
    wanted: &Wanted,
    found: &mut Found,
) -> Result<(), SetupError> {
    let failed = |step| move |error| SetupError::graph(step, error);
    found.principal = graph
        .service_principal(&app.app_id)
        .await
        .map_err(failed(StepId::ServicePrincipal))?;
    let Some(principal) = &found.principal else {
        return Ok(());
    };
    if wanted.flow.is_delegated() {
        found.grants = graph
            .delegated_grants(&principal.id)
            .await
            .map_err(failed(StepId::ConsentExchange))?;
    }
    if found
        .needs
        .iter()
        .any(|need| need.kind == PermissionKind::Role)
    {
        found.assigned = graph
            .app_role_assignments(&principal.id)
            .await
            .map_err(failed(StepId::AppRoleExchange))?;
    }
    if wanted.own_renewal {
        found.owned = graph
            .owners(&app.id)
            .await
            .map_err(failed(StepId::Owner))?
            .iter()
            .any(|owner| same(&owner.id, &principal.id));
    }
    Ok(())
}

fn is_marked(app: &Application, known: &Known) -> bool {
    app.tags
        .iter()
        .any(|tag| known.application_marks.contains(tag))
}

fn elsewhere(tenant: &str, known: &Known) -> Finding {
    let text = format!("An earlier setup of this account was in another tenant ({tenant})");
    let left = match &known.application {
        Some(app) => format!("its application there has the client id {}", app.client_id),
        None if known.application_marks.is_empty() => "it had made nothing there yet".to_owned(),
        None => "it was interrupted and may have left an application there".to_owned(),
    };
    Finding::warn(Topic::LeftOver, text).because(left).remedied(
        Who::ApplicationAdministrator,
        "delete that application if nothing uses it any more",
    )
}

impl May {
    pub(crate) fn everything() -> Self {
        Self {
            consent: Can::Yes,
            consent_to_graph_roles: Can::Yes,
        }
    }
}
