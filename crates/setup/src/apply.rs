//! The doing: each step of a plan, announced before and recorded after.
//!
//! Only what the plan shows is done, and what an interrupted run left is removed even where it
//! shows only now. What would be replaced as a whole is read again just before, so that nobody's
//! change of the meantime is lost.

use postrider_graph::{
    Application, ApplicationPatch, Consent, Graph, GraphError, GraphErrorKind, NewApplication,
    NewCertificate,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;

use crate::certificate;
use crate::error::{RecordError, SetupError, SetupErrorKind};
use crate::journal::{Event, KnownApplication, KnownCredential, NewSecret, Record, SecretName};
use crate::permission::{self, Service};
use crate::plan::{
    Plan, REDIRECT, Registration, State, Step, StepId, Tenant, ends, left, live, shows,
};
use crate::remains::OUR_PREFIX;
use crate::shown::shown;
use crate::wanted::{AppChoice, CredentialKind};

/// What an account has, now that its plan was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Where.
    pub tenant: Tenant,
    /// The application (client) id.
    pub client_id: String,
    /// Object id of the application.
    pub application_id: String,
    /// Object id of the service principal, which Exchange wants.
    pub service_principal_id: String,
    /// The credential in use.
    pub credential: Option<KnownCredential>,
    /// The steps that were taken; none on a second run.
    pub made: Vec<Step>,
    /// What earlier runs had left and was removed.
    pub orphans: Vec<Orphan>,
}

/// Something that an earlier run had left and this one removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// What it was.
    pub kind: OrphanKind,
    /// Its name.
    pub name: String,
    /// Its client id, or its key id.
    pub id: String,
}

/// What can be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanKind {
    /// An application registration.
    Application,
    /// A client secret.
    Secret,
    /// A certificate.
    Certificate,
}

/// How far [`apply()`] is.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A step begins.
    Begins(&'a Step),
    /// A step was taken.
    Took(&'a Step),
}

/// Carries `plan` out. On one that [is done](Plan::is_done) it changes nothing.
///
/// Making a certificate takes a moment of CPU on the calling thread.
///
/// # Errors
///
/// [`SetupErrorKind::Blocked`] before anything is done, or the first thing that failed. What was
/// done until then is recorded: make a new plan with what is known now, and go on.
pub async fn apply(
    graph: &Graph,
    plan: &Plan,
    record: &mut dyn Record,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Done, SetupError> {
    if let Some(blocked) = plan.blocked() {
        return Err(blocked);
    }
    Run {
        graph,
        plan,
        record,
        application: plan.found.application.clone(),
        principal: plan.found.principal.as_ref().map(|p| p.id.clone()),
        credential: live(&plan.wanted, &plan.found).cloned(),
        marks: plan.found.known.credential_marks.clone(),
        orphans: Vec::new(),
    }
    .carry_out(progress)
    .await
}

struct Run<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    record: &'a mut dyn Record,
    application: Option<Application>,
    principal: Option<String>,
    credential: Option<KnownCredential>,
    /// The credentials that runs up to now asked for.
    marks: Vec<String>,
    orphans: Vec<Orphan>,
}

impl Run<'_> {
    async fn carry_out(
        mut self,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Done, SetupError> {
        let plan = self.plan;
        let mut made = Vec::new();
        let quiet = plan.is_done() && plan.found.known.finished;
        if !quiet {
            self.note(
                StepId::Application,
                &Event::Began {
                    tenant: plan.tenant.id.clone(),
                },
            )?;
            // One that was found by its name or mark is recorded before it is built upon.
            if let Some(app) = &self.application {
                let event = Event::Application(known(app));
                self.note(StepId::Application, &event)?;
            }
        }
        for step in &plan.steps {
            if step.state == State::Exists {
                continue;
            }
            progress(Progress::Begins(step));
            self.take(step.id).await?;
            made.push(step.clone());
            progress(Progress::Took(step));
        }
        let interrupted =
            !plan.found.known.finished && !plan.found.known.credential_marks.is_empty();
        let proved = made.iter().any(|step| step.id == StepId::Credential);
        if interrupted && proved && plan.state(StepId::LeftOverCredential).is_none() {
            // What that run asked for may show by the time what this one made does.
            self.remove_credentials().await?;
        }
        if !quiet {
            self.note(StepId::Credential, &Event::Finished)?;
        }
        let app = self.app(StepId::Application)?;
        Ok(Done {
            tenant: plan.tenant.clone(),
            client_id: app.app_id.clone(),
            application_id: app.id.clone(),
            service_principal_id: self.principal(StepId::ServicePrincipal)?.to_owned(),
            credential: self.credential,
            made,
            orphans: self.orphans,
        })
    }

    async fn take(&mut self, step: StepId) -> Result<(), SetupError> {
        match step {
            StepId::Application => self.register().await,
            StepId::ServicePrincipal => self.make_principal().await,
            StepId::Permissions => self.widen_permissions().await,
            StepId::ConsentExchange => self.consent(step, Service::Exchange).await,
            StepId::ConsentGraph => self.consent(step, Service::Graph).await,
            StepId::AppRoleExchange => self.assign(step, Service::Exchange).await,
            StepId::AppRoleGraph => self.assign(step, Service::Graph).await,
            StepId::Owner => self.own().await,
            StepId::Credential => self.prove().await,
            StepId::LeftOverCredential => self.remove_credentials().await,
            StepId::LeftOverApplication => self.remove_applications().await,
        }
    }

    /// Creates the application, or changes the one there is.
    async fn register(&mut self) -> Result<(), SetupError> {
        let step = StepId::Application;
        let registration = Registration::of(&self.plan.wanted);
        let redirects = |wanted: bool| {
            if wanted {
                vec![REDIRECT.to_owned()]
            } else {
                vec![]
            }
        };
        if let Some(app) = &self.application {
            let now = self.reread(step, app).await?;
            let patch = ApplicationPatch {
                fallback_public_client: (registration.fallback && !now.fallback_public_client)
                    .then_some(true),
                public_redirects: with_redirect(registration.public, &now.public_redirects),
                web_redirects: with_redirect(registration.web, &now.web_redirects),
                ..ApplicationPatch::default()
            };
            if patch != ApplicationPatch::default() {
                self.graph
                    .update_application(&now.id, &patch)
                    .await
                    .map_err(at(step))?;
            }
            return Ok(());
        }
        let AppChoice::Named(name) = &self.plan.wanted.app else {
            return Err(missing(step));
        };
        let mark = format!("postrider-setup-{}", nonce(step)?);
        self.note(step, &Event::CreatingApplication { mark: mark.clone() })?;
        let made = self
            .graph
            .create_application(&NewApplication {
                display_name: name.clone(),
                notes: Some(format!(
                    "Made by postrider setup for its mail account \"{}\".",
                    self.plan.wanted.account
                )),
                tags: vec![mark],
                fallback_public_client: registration.fallback,
                public_redirects: redirects(registration.public),
                web_redirects: redirects(registration.web),
                required: permission::widened(&[], &self.plan.found.needs).unwrap_or_default(),
            })
            .await
            .map_err(at(step))?;
        self.note(step, &Event::Application(known(&made)))?;
        self.application = Some(made);
        Ok(())
    }

    async fn make_principal(&mut self) -> Result<(), SetupError> {
        let step = StepId::ServicePrincipal;
        let client_id = self.app(step)?.app_id.clone();
        let principal = match self.graph.create_service_principal(&client_id).await {
            Ok(made) => made,
            // Somebody, or a run whose answer was lost, was quicker than the directory shows.
            Err(error) if error.kind == GraphErrorKind::Conflict => self
                .graph
                .service_principal(&client_id)
                .await
                .map_err(at(step))?
                .ok_or_else(|| SetupError::graph(step, error))?,
            Err(error) => return Err(SetupError::graph(step, error)),
        };
        self.principal = Some(principal.id);
        Ok(())
    }

    async fn widen_permissions(&mut self) -> Result<(), SetupError> {
        let step = StepId::Permissions;
        // A new application was created with them.
        if self.plan.state(StepId::Application) == Some(&State::Create) {
            return Ok(());
        }
        let now = self.reread(step, self.app(step)?).await?;
        let Some(required) = permission::widened(&now.required, &self.plan.found.needs) else {
            return Ok(());
        };
        let patch = ApplicationPatch {
            required: Some(required),
            ..ApplicationPatch::default()
        };
        self.graph
            .update_application(&now.id, &patch)
            .await
            .map_err(at(step))
    }

    async fn consent(&mut self, step: StepId, service: Service) -> Result<(), SetupError> {
        let scopes = permission::scopes(&self.plan.found.needs, service);
        let resource = self.resource(step, service)?;
        let client = self.principal(step)?;
        let now = self
            .graph
            .delegated_grants(client)
            .await
            .map_err(at(step))?;
        if let Some(grant) = permission::grant_for_all(&now, resource) {
            return self
                .graph
                .widen_grant(grant, &scopes)
                .await
                .map_err(at(step));
        }
        let granted = self
            .graph
            .grant_delegated(client, resource, &Consent::AllPrincipals, &scopes)
            .await;
        match granted {
            Ok(_) => Ok(()),
            Err(error) if error.kind == GraphErrorKind::Conflict => {
                let now = self
                    .graph
                    .delegated_grants(client)
                    .await
                    .map_err(at(step))?;
                match permission::grant_for_all(&now, resource) {
                    Some(grant) => self
                        .graph
                        .widen_grant(grant, &scopes)
                        .await
                        .map_err(at(step)),
                    None => Err(SetupError::graph(step, error)),
                }
            }
            Err(error) => Err(SetupError::graph(step, error)),
        }
    }

    async fn assign(&mut self, step: StepId, service: Service) -> Result<(), SetupError> {
        let resource = self.resource(step, service)?;
        let principal = self.principal(step)?;
        let now = self
            .graph
            .app_role_assignments(principal)
            .await
            .map_err(at(step))?;
        for role in permission::roles(&self.plan.found.needs, service) {
            if permission::is_assigned(&now, resource, &role.id) {
                continue;
            }
            match self
                .graph
                .assign_app_role(principal, resource, &role.id)
                .await
            {
                Ok(_) => {}
                Err(error) if error.kind == GraphErrorKind::Conflict => {}
                Err(error) => return Err(SetupError::graph(step, error)),
            }
        }
        Ok(())
    }

    async fn own(&mut self) -> Result<(), SetupError> {
        let step = StepId::Owner;
        let principal = self.principal(step)?;
        match self.graph.add_owner(&self.app(step)?.id, principal).await {
            Err(error) if error.kind != GraphErrorKind::Conflict => {
                Err(SetupError::graph(step, error))
            }
            _ => Ok(()),
        }
    }

    /// Gives the application a credential of which the secret part is kept here.
    async fn prove(&mut self) -> Result<(), SetupError> {
        let step = StepId::Credential;
        let wanted = &self.plan.wanted;
        let ends = ends(wanted).ok_or_else(|| {
            SetupError::wanted("the credential's lifetime reaches beyond the calendar")
        })?;
        let mark = format!("{OUR_PREFIX}{} {}", wanted.account, nonce(step)?);
        let object_id = self.app(step)?.id.clone();
        self.note(step, &Event::CreatingCredential { mark: mark.clone() })?;
        let made = match wanted.credential {
            CredentialKind::None => return Ok(()),
            CredentialKind::Secret { .. } => {
                let made = self
                    .graph
                    .add_password(&object_id, &mark, ends)
                    .await
                    .map_err(at(step))?;
                // A policy of the tenant may have made it shorter.
                let ends = made.ends.unwrap_or(ends);
                self.keep(step, SecretName::ClientSecret, made.secret_text, ends)?;
                KnownCredential {
                    key_id: made.key_id,
                    kind: SecretName::ClientSecret,
                    ends,
                }
            }
            CredentialKind::Certificate { lifetime } => {
                let made = certificate::make(&wanted.account, lifetime, wanted.now)?;
                self.keep(
                    step,
                    SecretName::PrivateKey,
                    made.private_key_pem,
                    made.ends,
                )?;
                self.keep(
                    step,
                    SecretName::Certificate,
                    made.certificate_pem.into(),
                    made.ends,
                )?;
                let added = self
                    .graph
                    .add_certificate(
                        &object_id,
                        &NewCertificate {
                            der: made.certificate_der,
                            display_name: mark.clone(),
                            starts: made.starts,
                            ends: made.ends,
                        },
                    )
                    .await
                    .map_err(at(step))?;
                KnownCredential {
                    key_id: added.key_id,
                    kind: SecretName::PrivateKey,
                    ends: made.ends,
                }
            }
        };
        self.note(step, &Event::Credential(made.clone()))?;
        self.marks.push(mark);
        self.credential = Some(made);
        Ok(())
    }

    /// Removes what carries a mark of ours and is not in use: all of it at the first step of
    /// this kind.
    async fn remove_credentials(&mut self) -> Result<(), SetupError> {
        let step = StepId::LeftOverCredential;
        let object_id = &self.app(step)?.id;
        let live = self.credential.as_ref();
        let now = self
            .graph
            .application_showing(object_id, |app| live.is_none_or(|live| shows(app, live)))
            .await
            .map_err(at(step))?;
        let keep = live.map(|live| live.key_id.as_str());
        for left in left(&now, &self.marks, keep) {
            let kind = if left.certificate {
                self.graph
                    .remove_certificate(&now.id, &left.key_id)
                    .await
                    .map_err(at(step))?;
                OrphanKind::Certificate
            } else {
                self.graph
                    .remove_password(&now.id, &left.key_id)
                    .await
                    .map_err(at(step))?;
                OrphanKind::Secret
            };
            self.orphans.push(Orphan {
                kind,
                name: left.name,
                id: left.key_id,
            });
        }
        Ok(())
    }

    async fn remove_applications(&mut self) -> Result<(), SetupError> {
        for app in &self.plan.found.left_applications {
            if self.orphans.iter().any(|orphan| orphan.id == app.app_id) {
                continue;
            }
            self.graph
                .delete_application(&app.id)
                .await
                .map_err(at(StepId::LeftOverApplication))?;
            self.orphans.push(Orphan {
                kind: OrphanKind::Application,
                name: shown(&app.display_name),
                id: app.app_id.clone(),
            });
        }
        Ok(())
    }

    async fn reread(&self, step: StepId, app: &Application) -> Result<Application, SetupError> {
        self.graph
            .application_object(&app.id)
            .await
            .map_err(at(step))
    }

    fn app(&self, step: StepId) -> Result<&Application, SetupError> {
        self.application.as_ref().ok_or_else(|| missing(step))
    }

    fn principal(&self, step: StepId) -> Result<&str, SetupError> {
        self.principal.as_deref().ok_or_else(|| missing(step))
    }

    fn resource(&self, step: StepId, service: Service) -> Result<&str, SetupError> {
        self.plan
            .found
            .resource(service)
            .ok_or_else(|| missing(step))
    }

    fn note(&mut self, step: StepId, event: &Event) -> Result<(), SetupError> {
        self.record.note(event).map_err(unrecorded(step))
    }

    fn keep(
        &mut self,
        step: StepId,
        name: SecretName,
        value: secrecy::SecretString,
        ends: jiff::Timestamp,
    ) -> Result<(), SetupError> {
        self.record
            .store_secret(&NewSecret { name, value, ends })
            .map_err(unrecorded(step))
    }
}

fn known(app: &Application) -> KnownApplication {
    KnownApplication {
        client_id: app.app_id.clone(),
        object_id: app.id.clone(),
    }
}

/// `have` with the loopback redirect, where it is wanted and not there.
fn with_redirect(wanted: bool, have: &[String]) -> Option<Vec<String>> {
    if !wanted || have.iter().any(|uri| uri == REDIRECT) {
        return None;
    }
    let mut all = have.to_vec();
    all.push(REDIRECT.to_owned());
    Some(all)
}

/// What nobody else would call something: 96 random bits.
fn nonce(step: StepId) -> Result<String, SetupError> {
    let mut octets = [0; 12];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| SetupError {
            step: Some(step),
            kind: SetupErrorKind::Record("the system's random source failed".into()),
        })?;
    Ok(certificate::hexadecimal(&octets))
}

fn at(step: StepId) -> impl Fn(GraphError) -> SetupError {
    move |error| SetupError::graph(step, error)
}

fn unrecorded(step: StepId) -> impl Fn(RecordError) -> SetupError {
    move |error| SetupError::record(step, error)
}

/// A step that builds on one which the plan says is there, and which is not.
fn missing(step: StepId) -> SetupError {
    SetupError {
        step: Some(step),
        kind: SetupErrorKind::Blocked {
            what: "what this builds on is not there any more: make a new plan".to_owned(),
            who: crate::finding::Who::You,
        },
    }
}
