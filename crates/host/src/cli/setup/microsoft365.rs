//! `postrider setup microsoft365`: what the portal's clicks do, through Microsoft Graph.
//!
//! Nothing changes before the plan was shown and somebody said yes. From then on every step is
//! in the journal before it is taken, so the same command again goes on where this one ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_config::edit::Change;
use postrider_setup::{
    self as setup, AppChoice, CredentialKind, Done, Granted, Known, Plan, Tenant, Wanted,
};
use postrider_vault::crash_point;
use serde_json::{Map, Value, json};
use url::Url;

use super::administrator::{self, AdminArguments};
use super::answers::{Answers, Credential, FlowName};
use super::finish::{Finish, finish};
use super::{ask, show};
use crate::app::setup::{
    AdminSignIn, Administrator, Journal, Place, Purpose, Remembered, discover, setup_failure,
};
use crate::app::{App, setup as app_setup};
use crate::cli::output::Output;
use crate::failure::{Failure, exit};
use crate::terminal::{Person, cancelled};

/// Stands for what Entra ID has yet to choose.
pub(super) const UNKNOWN_ID: &str = "00000000-0000-0000-0000-000000000000";

/// How far to go.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Manner {
    pub(super) dry_run: bool,
    pub(super) print_manual: bool,
    pub(super) powershell: Option<PathBuf>,
    pub(super) yes: bool,
    pub(super) no_send: bool,
    pub(super) sandbox: Option<Url>,
}

/// What one run knows.
pub(super) struct Microsoft365<'a> {
    pub(super) app: &'a App,
    pub(super) person: &'a Arc<Person>,
    pub(super) admin: &'a AdminArguments,
    pub(super) answers: &'a Answers,
    pub(super) manner: &'a Manner,
    pub(super) output: &'a Output,
    /// The file that the settings go to.
    pub(super) path: &'a Path,
}

impl Microsoft365<'_> {
    /// From the first look to the last check; the exit status.
    ///
    /// # Errors
    /// The first thing that stood in the way. What was made until then is remembered.
    pub(super) async fn run(&self) -> Result<u8, Failure> {
        let account = self.answers.account()?;
        let place = self.place(account).await?;
        let mut wanted = self.wanted()?;
        wanted
            .check()
            .map_err(|error| setup_failure(account, &error))?;
        // What the configuration would not take is found before anybody signs in.
        let draft = self.settings(&wanted, &place, &self.sign_in_tenant(), UNKNOWN_ID);
        app_setup::check(account, &draft, &postrider_config::Presets::builtin())?;
        if self.manner.print_manual {
            return self.print_manual(&wanted, &place).await;
        }
        let remembered = Journal::look(self.app.vault(), account)?;
        remember(&mut wanted, &remembered);

        let administrator = self.sign_in(&wanted, &place).await?;
        wanted.roles_in_token = administrator.role_templates().await;
        let graph = administrator.graph().await?;
        let failed = |error| setup_failure(account, &error);
        let plan = Plan::make(&graph, &wanted).await.map_err(failed)?;
        let tenant = tenant_name(&plan.tenant).to_owned();
        show::plan(&plan, self.output);
        if let Some(blocked) = plan.blocked() {
            return Err(with_plan(setup_failure(account, &blocked), &plan));
        }
        let draft = self.settings(&wanted, &place, &tenant, client_id(&wanted.known));
        let changes = app_setup::changes(self.path, account, &draft)?;
        show::settings(self.path, &changes, self.output);
        if self.manner.dry_run {
            return self.end_dry_run(&wanted, &plan, &changes);
        }
        let is_new = !plan.is_done() || !changes.is_empty();
        if is_new {
            confirm(self.manner).map_err(|failure| with_plan(failure, &plan))?;
        }

        let mut journal = Journal::open(self.app.vault(), account)?;
        // Another process may have been at it while the plan was read.
        let plan = if *journal.remembered() == remembered {
            plan
        } else {
            remember(&mut wanted, journal.remembered());
            Plan::make(&graph, &wanted).await.map_err(failed)?
        };
        self.output.line("");
        let done = interruptible(async {
            setup::apply(&graph, &plan, &mut journal, &mut |progress| {
                show::progress(progress, self.output);
            })
            .await
            .map_err(failed)
        })
        .await?;
        drop(journal);
        show::orphans(&done, self.output);
        let settings = self.settings(&wanted, &place, &tenant, &done.client_id);
        let changes = app_setup::changes(self.path, account, &settings)?;
        crash_point("setup.before_settings");
        app_setup::write(self.path, &changes)?;
        crash_point("setup.after_settings");
        if is_new {
            self.output
                .line(format!("  written  {}", self.path.display()));
        } else {
            self.output
                .line("Nothing to change: everything is as it should be.");
        }
        self.end(&wanted, &plan, &done, &changes, is_new).await
    }

    async fn place(&self, account: &str) -> Result<Place, Failure> {
        let cloud = self.answers.cloud();
        let mut place = if let Some(control) = &self.manner.sandbox {
            Place::of_sandbox(control, cloud).await?
        } else if let Some(place) = Place::of_account(self.app, account, cloud).await? {
            place
        } else {
            Place::of_cloud(cloud)?
        };
        if let Some(file) = self.answers.ca_file() {
            place.ca_file = Some(file.into());
        }
        if let Some(host) = &self.answers.server {
            place.server = Some((host.clone(), self.answers.port.unwrap_or(587)));
        }
        Ok(place)
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        let answers = self.answers;
        let account = answers.account()?;
        let flow = answers.flow.unwrap_or(FlowName::AuthorizationCode);
        let lifetime = answers.lifetime();
        let usual = if flow == FlowName::ClientCredentials {
            Credential::Secret
        } else {
            Credential::None
        };
        Ok(Wanted {
            account: account.to_owned(),
            username: answers.username()?.to_owned(),
            sender: answers.sender.clone(),
            on_behalf: answers.on_behalf,
            flow: flow.into(),
            credential: match answers.credential.unwrap_or(usual) {
                Credential::None => CredentialKind::None,
                Credential::Secret => CredentialKind::Secret { lifetime },
                Credential::Certificate => CredentialKind::Certificate { lifetime },
            },
            cloud: answers.cloud(),
            app: match &answers.app_id {
                Some(id) => AppChoice::Existing(id.clone()),
                None => AppChoice::of_account(account),
            },
            own_renewal: answers.own_renewal,
            roles_in_token: None,
            known: Known::default(),
            renewing: false,
            now: self.app.clock().now(),
        })
    }

    /// Where the administrator signs in: the tenant that was named, else the user's domain.
    fn sign_in_tenant(&self) -> String {
        let answers = self.answers;
        let domain = || {
            let name = answers.username.as_deref()?;
            name.rsplit_once('@').map(|(_, domain)| domain.to_owned())
        };
        answers
            .tenant
            .clone()
            .or_else(domain)
            .unwrap_or_else(|| "organizations".to_owned())
    }

    fn settings(&self, wanted: &Wanted, place: &Place, tenant: &str, client_id: &str) -> Value {
        let recipient = self.answers.test_recipient.as_deref();
        let scopes = &self.answers.scopes;
        app_setup::microsoft365(wanted, place, tenant, client_id, recipient, scopes)
    }

    async fn sign_in(&self, wanted: &Wanted, place: &Place) -> Result<Administrator, Failure> {
        let sign_in = AdminSignIn {
            authority: place.authority.clone(),
            tenant: self.sign_in_tenant(),
            graph: place.graph.clone(),
            client_id: self.admin.client_id(),
            ca_file: place.ca_file.clone(),
            login_hint: None,
            purpose: Purpose::SetUp {
                delegated: wanted.flow.is_delegated(),
                application: !wanted.flow.is_delegated() || wanted.own_renewal,
            },
            method: self.admin.method(),
        };
        administrator::sign_in(self.app, self.person, &sign_in).await
    }

    fn end_dry_run(&self, wanted: &Wanted, plan: &Plan, changes: &[Change]) -> Result<u8, Failure> {
        let script = setup::power_shell(wanted, None)
            .map_err(|error| setup_failure(&wanted.account, &error))?;
        self.output.json(&json!({
            "plan": plan,
            "settings": { "path": self.path, "changes": show::changes_json(changes) },
            "powershell": show::script_json(&script),
        }));
        self.output.line(if plan.is_done() && changes.is_empty() {
            "\nNothing to change."
        } else {
            "\nNothing was changed (--dry-run)."
        });
        Ok(0)
    }

    /// The steps for whoever may not use Graph: nobody signs in for it.
    async fn print_manual(&self, wanted: &Wanted, place: &Place) -> Result<u8, Failure> {
        let name = self.sign_in_tenant();
        let found = discover(&place.authority, &name, place.ca_file.clone()).await?;
        let tenant = found.tenant.map(|id| Tenant {
            id,
            name: name.clone(),
            domains: vec![name],
        });
        let steps = setup::manual(wanted, tenant.as_ref());
        let script = setup::power_shell(wanted, None)
            .map_err(|error| setup_failure(&wanted.account, &error))?;
        self.output.json(&json!({
            "steps": steps,
            "powershell": show::script_json(&script),
        }));
        show::manual(&steps, self.output);
        show::power_shell(&script, self.output);
        self.save(&script)?;
        self.output.line(format!(
            "\nThen: postrider setup {} --no-graph --account {} --username {} --tenant {} \
             --app-id CLIENT-ID --flow {}",
            place.provider,
            wanted.account,
            wanted.username,
            tenant.map_or_else(|| self.sign_in_tenant(), |tenant| tenant.id),
            wanted.flow.as_str(),
        ));
        Ok(0)
    }

    fn save(&self, script: &setup::Script) -> Result<(), Failure> {
        let Some(path) = &self.manner.powershell else {
            return Ok(());
        };
        std::fs::write(path, script.to_ps1()).map_err(|problem| {
            Failure::new("file.unwritable", format!("{}: {problem}", path.display()))
        })?;
        self.output
            .line(format!("\nThe same as a script: {}", path.display()));
        Ok(())
    }

    async fn end(
        &self,
        wanted: &Wanted,
        plan: &Plan,
        done: &Done,
        changes: &[Change],
        is_new: bool,
    ) -> Result<u8, Failure> {
        let granted = Granted {
            client_id: done.client_id.clone(),
            service_principal_id: done.service_principal_id.clone(),
        };
        let script = setup::power_shell(wanted, Some(&granted))
            .map_err(|error| setup_failure(&wanted.account, &error))?;
        if is_new {
            show::power_shell(&script, self.output);
        }
        self.save(&script)?;
        let app = self.app.next_generation()?;
        app.take_over_from(self.app);
        let finish = finish(
            &app,
            self.person,
            Finish {
                account: &wanted.account,
                method: Some(self.admin.method()).filter(|_| wanted.flow.is_delegated()),
                send_test: is_new && !self.manner.no_send,
            },
            self.output,
        );
        let finished = interruptible(Box::pin(finish)).await;
        let mut said = Map::new();
        said.insert("changed".to_owned(), is_new.into());
        said.insert("plan".to_owned(), json!(plan));
        said.insert("done".to_owned(), json!(done));
        let settings = json!({ "path": self.path, "changes": show::changes_json(changes) });
        said.insert("settings".to_owned(), settings);
        said.insert("powershell".to_owned(), show::script_json(&script));
        let status = match &finished {
            Ok(finished) => {
                said.insert("finish".to_owned(), json!(finished));
                finished.exit_code()
            }
            Err(failure) => {
                said.insert("error".to_owned(), json!(failure));
                failure.exit_code()
            }
        };
        self.output.json(&Value::Object(said));
        if let Err(failure) = &finished {
            self.output.note(&failure.to_string());
        }
        if status != 0 && status != exit::INTERRUPTED {
            self.output.line(format!(
                "\nThe account is set up, and cannot send yet. When that is mended: postrider \
                 account test {}",
                wanted.account
            ));
        }
        app.close().await;
        Ok(status)
    }
}

fn remember(wanted: &mut Wanted, remembered: &Remembered) {
    wanted.known = remembered.known.clone();
    wanted.renewing = remembered.renewing;
}

/// What the account is called by people: its first domain of Microsoft's, which cannot go away;
/// else its id.
fn tenant_name(tenant: &Tenant) -> &str {
    let initial = tenant
        .domains
        .iter()
        .find(|domain| domain.contains(".onmicrosoft.") || domain.contains(".partner.onmschina."));
    initial.unwrap_or(&tenant.id)
}

fn client_id(known: &Known) -> &str {
    let application = known.application.as_ref();
    application.map_or(UNKNOWN_ID, |application| &application.client_id)
}

/// The same, with the plan for whoever reads JSON.
fn with_plan(failure: Failure, plan: &Plan) -> Failure {
    Failure {
        details: json!({ "plan": plan }),
        ..failure
    }
}

/// Whether to go on, from whoever sits at the terminal.
///
/// # Errors
/// They said no, or nobody does.
pub(super) fn confirm(manner: &Manner) -> Result<(), Failure> {
    if manner.yes {
        return Ok(());
    }
    if !ask::is_attended() {
        return Err(Failure::new(
            "usage.not_confirmed",
            "nothing was changed: there is no terminal to ask at",
        )
        .with_remedy("look at the plan above, then run it again with --yes"));
    }
    if ask::yes("\nDo this?", false)? {
        return Ok(());
    }
    Err(cancelled())
}

/// Until it is done, or Ctrl-C.
///
/// # Errors
/// Those of `work`, or that it was stopped.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            "cancelled",
            "stopped; what was made is remembered",
        )
        .with_remedy("run the same command again: it goes on from there")),
    }
}
