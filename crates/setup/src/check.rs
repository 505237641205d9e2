//! The prerequisites that are not made here: the user, the mailbox, roles, policies.

use postrider_graph::ids::directory_role::{
    APPLICATION_ADMINISTRATOR, CLOUD_APPLICATION_ADMINISTRATOR, EXCHANGE_ADMINISTRATOR,
    GLOBAL_ADMINISTRATOR, PRIVILEGED_ROLE_ADMINISTRATOR,
};
use postrider_graph::{Graph, GraphError, GraphErrorKind, Mailbox, User, mailbox_plan};

use crate::error::SetupError;
use crate::finding::{Finding, Topic, Who};
use crate::permission::same;
use crate::plan::{Can, Found, May, State, Step, StepId, Tenant};
use crate::wanted::{Flow, Wanted};

pub(crate) async fn user(
    graph: &Graph,
    wanted: &Wanted,
    tenant: &Tenant,
) -> Result<Vec<Finding>, SetupError> {
    let name = &wanted.username;
    let user = match graph.user(name).await {
        Ok(user) => user,
        Err(error) if error.kind == GraphErrorKind::NotFound => {
            return Ok(vec![no_user(name, tenant)]);
        }
        Err(error) => {
            return Ok(vec![unread(
                Topic::User,
                &format!("The user {name}"),
                error,
            )?]);
        }
    };
    let mut findings = vec![the_user(&user, wanted)];
    findings.push(match graph.license_details(Some(&user.id)).await {
        Ok(plans) => mailbox(&user, wanted, &mailbox_plan(&plans)),
        Err(error) => unread(
            Topic::Mailbox,
            &format!("Whether {name} has a licence with a mailbox"),
            error,
        )?,
    });
    Ok(findings)
}

fn no_user(name: &str, tenant: &Tenant) -> Finding {
    let domain = name.rsplit_once('@').map_or("", |(_, domain)| domain);
    let finding = Finding::blocks(
        Topic::User,
        format!("There is no user {name} in {}", tenant.name),
    );
    if tenant.domains.iter().any(|ours| same(ours, domain)) {
        finding
            .because("no user principal name is spelled like this; a mail address may be another")
            .remedied(
                Who::You,
                "give the name that the user signs in with (the portal says user principal \
                 name), or have the user or shared mailbox created",
            )
    } else {
        finding
            .because(format!(
                "{domain} is not a domain of this tenant ({}): this may be the wrong tenant, or \
                 the user a guest in it, whose mailbox is elsewhere",
                tenant.domains.join(", ")
            ))
            .remedied(
                Who::You,
                format!("sign in as an administrator of the tenant that {domain} belongs to"),
            )
    }
}

fn the_user(user: &User, wanted: &Wanted) -> Finding {
    let name = &user.user_principal_name;
    if name.to_ascii_uppercase().contains("#EXT#") {
        return Finding::blocks(Topic::User, format!("{name} is a guest in this tenant"))
            .because(
                "a guest's mailbox is in the tenant, or with the provider, that the guest is from",
            )
            .remedied(
                Who::You,
                "set the account up in the user's own tenant, or give it a mailbox of this one",
            );
    }
    if wanted.flow.is_delegated() && user.account_enabled == Some(false) {
        return Finding::blocks(Topic::User, format!("{name} may not sign in"))
            .because("signing in is blocked for this user, as it is for every shared mailbox")
            .remedied(
                Who::UserAdministrator,
                "allow the user to sign in; if this is a shared mailbox, give a user with the \
                 right to send as it as the one who signs in, and this address as the sender",
            );
    }
    let other_address = user
        .mail
        .as_deref()
        .filter(|mail| !same(mail, name))
        .map_or_else(String::new, |mail| {
            format!(", whose mail address is {mail}")
        });
    Finding::ok(
        Topic::User,
        format!("The user {name} exists{other_address}"),
    )
}

fn mailbox(user: &User, wanted: &Wanted, mailbox: &Mailbox) -> Finding {
    const BUY: &str = "assign a licence with an Exchange Online mailbox (Plan 1, Plan 2 or Kiosk, \
                       alone or within a suite) and wait until it is provided";
    let name = &user.user_principal_name;
    match mailbox {
        Mailbox::Provisioned(plan) => {
            Finding::ok(Topic::Mailbox, format!("{name} has a mailbox ({plan})"))
        }
        Mailbox::Pending(plan) => Finding::warn(
            Topic::Mailbox,
            format!("The mailbox of {name} is not provided yet ({plan})"),
        )
        .because("the licence was assigned lately; providing takes from minutes to a day")
        .remedied(Who::You, "go on, and wait before the first message is sent"),
        Mailbox::Failed(plan) => Finding::blocks(
            Topic::Mailbox,
            format!("The mailbox of {name} could not be provided ({plan})"),
        )
        .because("Microsoft reports an error for this part of the licence")
        .remedied(
            Who::UserAdministrator,
            "take the licence away, assign it again, and ask Microsoft's support if that fails too",
        ),
        Mailbox::Disabled(plan) => Finding::blocks(
            Topic::Mailbox,
            format!("{name} has no mailbox: {plan} is switched off in the licence"),
        )
        .because("somebody took Exchange Online out of the apps of this user's licence")
        .remedied(
            Who::UserAdministrator,
            "switch Exchange Online on again, under Licenses and apps of the user",
        ),
        Mailbox::Unknown(plan) => Finding::warn(
            Topic::Mailbox,
            format!("{name} has {plan}, which is not known here to be a mailbox"),
        )
        .because("the plan is newer than this program, or another part of Exchange")
        .remedied(
            Who::You,
            "go on; the doctor will tell whether there is a mailbox",
        ),
        Mailbox::NotAMailbox(plan) if wanted.flow.is_delegated() => Finding::blocks(
            Topic::Mailbox,
            format!("{name} has {plan}, which is no mailbox"),
        )
        .because(
            "that plan comes with many licences and looks like Exchange, but it holds a directory \
             entry or an archive only",
        )
        .remedied(Who::UserAdministrator, BUY),
        Mailbox::NotAMailbox(_) | Mailbox::None if !wanted.flow.is_delegated() => {
            let shared = Finding::warn(
                Topic::Mailbox,
                format!("{name} has no licence with a mailbox"),
            );
            if user.account_enabled == Some(false) {
                shared
                    .because("this looks like a shared mailbox, which needs none up to 50 GB")
                    .remedied(Who::You, "go on")
            } else {
                shared
                    .because("that is right for a shared mailbox up to 50 GB, and for nothing else")
                    .remedied(
                        Who::UserAdministrator,
                        format!("if this is not a shared mailbox, {BUY}"),
                    )
            }
        }
        Mailbox::NotAMailbox(_) | Mailbox::None => Finding::blocks(
            Topic::Mailbox,
            format!("{name} has no licence with a mailbox"),
        )
        .because("a user who signs in needs one; only shared mailboxes do without")
        .remedied(
            Who::UserAdministrator,
            format!(
                "{BUY}; if this is a shared mailbox, give a licensed user with the right to send \
                 as it as the one who signs in, and this address as the sender"
            ),
        ),
    }
}

pub(crate) async fn sender(graph: &Graph, wanted: &Wanted) -> Result<Vec<Finding>, SetupError> {
    let Some(sender) = wanted.other_sender() else {
        return Ok(Vec::new());
    };
    let right = if wanted.on_behalf {
        "Send on Behalf"
    } else {
        "Send As"
    };
    Ok(vec![match graph.user(sender).await {
        Ok(_) => Finding::warn(
            Topic::Sender,
            format!("{} needs the right {right} on {sender}", wanted.username),
        )
        .because("Graph can neither see nor give that right")
        .remedied(
            Who::ExchangeAdministrator,
            "run the lines of Exchange PowerShell that setup prints; it takes an hour or two",
        ),
        Err(error) if error.kind == GraphErrorKind::NotFound => Finding::warn(
            Topic::Sender,
            format!("There is no user or shared mailbox {sender}"),
        )
        .because("it may be a group, or another address of a mailbox, or misspelled")
        .remedied(
            Who::ExchangeAdministrator,
            format!(
                "make sure of the address, and that {} has the right {right} on it",
                wanted.username
            ),
        ),
        Err(error) => unread(Topic::Sender, &format!("The sender {sender}"), error)?,
    }])
}

pub(crate) async fn policies(graph: &Graph, wanted: &Wanted) -> Result<Vec<Finding>, SetupError> {
    const INSTEAD: &str = "sign in with a browser on this machine instead \
                           (flow authorization_code), or exempt this user and application";
    let device = wanted.flow == Flow::DeviceCode;
    Ok(vec![match graph.security_defaults().await {
        Ok(true) if device => Finding::warn(
            Topic::Policies,
            "Security defaults are on, and signing in is to be by device code",
        )
        .because("security defaults refuse device codes in more and more tenants (AADSTS530035)")
        .remedied(Who::SecurityAdministrator, INSTEAD),
        Ok(false) if device => Finding::warn(
            Topic::Policies,
            "Conditional Access may refuse signing in by device code",
        )
        .because("Microsoft switches such a policy on in more and more tenants (AADSTS53003)")
        .remedied(Who::SecurityAdministrator, INSTEAD),
        Ok(true) => Finding::ok(
            Topic::Policies,
            "Security defaults are on: passwords are refused at SMTP, tokens are what this \
             account uses",
        ),
        Ok(false) => Finding::ok(Topic::Policies, "Security defaults are off"),
        Err(error) => unread(Topic::Policies, "Whether security defaults are on", error)?,
    }])
}

/// The directory roles of the person signed in.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    /// By their template; none if they could not be read.
    templates: Option<Vec<String>>,
}

pub(crate) async fn roles(graph: &Graph, wanted: &Wanted) -> Result<(May, Roles), SetupError> {
    let read = match graph.my_directory_roles().await {
        Ok(roles) => roles
            .into_iter()
            .map(|role| role.role_template_id)
            .collect::<Option<Vec<String>>>(),
        Err(error) if is_denied(&error) => None,
        Err(error) => return Err(SetupError::graph(None, error)),
    };
    let roles = Roles {
        templates: read.or_else(|| wanted.roles_in_token.clone()),
    };
    Ok((roles.may(), roles))
}

impl Roles {
    fn has(&self, template: &str) -> bool {
        self.templates
            .iter()
            .flatten()
            .any(|held| same(held, template))
    }

    /// Whether they allow application registrations.
    fn registers(&self) -> bool {
        self.has(GLOBAL_ADMINISTRATOR)
            || self.has(APPLICATION_ADMINISTRATOR)
            || self.has(CLOUD_APPLICATION_ADMINISTRATOR)
    }

    fn may(&self) -> May {
        let privileged = self.has(GLOBAL_ADMINISTRATOR) || self.has(PRIVILEGED_ROLE_ADMINISTRATOR);
        if privileged {
            return May::everything();
        }
        // One that is not known here may be the organisation's own, made for just this.
        let unknown = match &self.templates {
            None => true,
            Some(held) => held.iter().any(|held| {
                ![
                    APPLICATION_ADMINISTRATOR,
                    CLOUD_APPLICATION_ADMINISTRATOR,
                    EXCHANGE_ADMINISTRATOR,
                    DEFAULT_USER,
                ]
                .iter()
                .any(|known| same(known, held))
            }),
        };
        let otherwise = if unknown { Can::Perhaps } else { Can::No };
        May {
            consent: if self.registers() {
                Can::Yes
            } else {
                otherwise
            },
            consent_to_graph_roles: otherwise,
        }
    }

    /// What the roles mean for the steps that have to be taken.
    pub(crate) fn for_steps(&self, steps: &[Step]) -> Option<Finding> {
        let any = |ids: &[StepId]| {
            steps
                .iter()
                .any(|step| ids.contains(&step.id) && step.state != State::Exists)
        };
        let graph_role = any(&[StepId::AppRoleGraph]);
        let something = steps.iter().any(|step| step.state != State::Exists);
        let may = self.may();
        let enough = if graph_role {
            may.consent_to_graph_roles
        } else {
            may.consent
        };
        let needed = if graph_role {
            Who::PrivilegedAdministrator
        } else {
            Who::ApplicationAdministrator
        };
        let activate = format!(
            "have {needed} run this; a role that has to be activated first counts once it is \
             active and you have signed in again"
        );
        match enough {
            _ if !something => None,
            Can::Yes if self.registers() => Some(Finding::ok(
                Topic::Roles,
                "Your roles allow everything that is to be made",
            )),
            Can::Yes => Some(
                Finding::warn(
                    Topic::Roles,
                    "Your roles allow consent, and leave application registrations to others",
                )
                .because("every member may register applications where that was not switched off")
                .remedied(
                    Who::ApplicationAdministrator,
                    "go on; if Graph refuses, sign in as an Application Administrator too",
                ),
            ),
            Can::Perhaps if self.templates.is_none() => Some(
                Finding::warn(Topic::Roles, "Your directory roles could not be read")
                    .because("the sign-in does not let this program see them")
                    .remedied(needed, format!("go on; if Graph refuses, {activate}")),
            ),
            Can::Perhaps => Some(
                Finding::warn(
                    Topic::Roles,
                    "None of your directory roles is known to allow everything that is to be made",
                )
                .because("one made by your organisation may")
                .remedied(needed, format!("go on; if Graph refuses, {activate}")),
            ),
            Can::No => Some(
                Finding::blocks(
                    Topic::Roles,
                    "Your directory roles do not allow everything that is to be made",
                )
                .because(format!("consent has to be given by {needed}"))
                .remedied(needed, activate),
            ),
        }
    }
}

/// The role of every member, which `wids` names too (Microsoft Learn, "Configure optional claims").
const DEFAULT_USER: &str = "b79fbf4d-3ef9-4689-8143-76b194e85509";

/// Whether the person signed in can run what Exchange needs.
pub(crate) fn exchange_roles(roles: &Roles) -> Option<Finding> {
    if roles.templates.is_none()
        || roles.has(EXCHANGE_ADMINISTRATOR)
        || roles.has(GLOBAL_ADMINISTRATOR)
    {
        return None;
    }
    Some(
        Finding::warn(
            Topic::Roles,
            "You are no Exchange Administrator: somebody else has to run the Exchange PowerShell \
             lines",
        )
        .because("Graph cannot switch Authenticated SMTP on, nor give rights on mailboxes")
        .remedied(
            Who::ExchangeAdministrator,
            "hand the lines, or the .ps1 file, to an Exchange Administrator",
        ),
    )
}

/// Who may sign in to the application that is there.
pub(crate) fn principal(wanted: &Wanted, found: &Found) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(principal) = &found.principal {
        if principal.account_enabled == Some(false) {
            findings.push(
                Finding::blocks(
                    Topic::Policies,
                    "Signing in to the application is switched off",
                )
                .because("its enterprise application is disabled for users to sign in")
                .remedied(
                    Who::ApplicationAdministrator,
                    "set \"Enabled for users to sign-in\" to Yes on the enterprise \
                     application's Properties",
                ),
            );
        }
        if principal.app_role_assignment_required == Some(true) && wanted.flow.is_delegated() {
            findings.push(
                Finding::warn(
                    Topic::Policies,
                    "Only users who are assigned to the application may sign in to it",
                )
                .because("\"Assignment required\" is set on its enterprise application")
                .remedied(
                    Who::ApplicationAdministrator,
                    format!("assign {} to it", wanted.username),
                ),
            );
        }
    }
    findings
}

fn is_denied(error: &GraphError) -> bool {
    matches!(
        error.kind,
        GraphErrorKind::Denied { .. } | GraphErrorKind::Rejected | GraphErrorKind::NotFound
    )
}

/// A finding that something could not be looked at, where that need not be the end.
fn unread(topic: Topic, what: &str, error: GraphError) -> Result<Finding, SetupError> {
    if !is_denied(&error) {
        return Err(SetupError::graph(None, error));
    }
    let finding = Finding::warn(topic, format!("{what} could not be looked at"));
    Ok(match error.kind {
        GraphErrorKind::Denied { needs: Some(needs) } => {
            finding.because(format!("the sign-in lacks the permission {needs} of Graph"))
        }
        _ => finding.because(error.to_string()),
    }
    .remedied(Who::You, "go on; the doctor looks at it in another way"))
}
