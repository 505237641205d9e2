//! What Microsoft Graph says of the user, the licence, the consent and the client secret: with
//! the account's own rights as far as they go, or an administrator's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_auth::{AuthError, SecretSource as _};
use postrider_config::SecretRef;
use postrider_graph::{self as graph, Graph, GraphError, GraphErrorKind, Mailbox, ids};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};
use url::Url;

use super::claims::{Claims, other_user, permission, shown};
use super::provider::Provider;
use super::report::{DoctorStage, ENTRA, Finding, MICROSOFT, YOU};
use crate::app::account::Account;
use crate::app::setup::{Administrator, GraphTransport, graph_failure};
use crate::when;

/// The stages here.
pub(super) const STAGES: [&str; 4] = [
    "graph_user",
    "graph_licence",
    "graph_consent",
    "graph_secret",
];

/// How long somebody who waits is kept waiting for each of them.
const PATIENCE: Duration = Duration::from_secs(30);
/// A secret that ends sooner is worth a word.
const SOON: Duration = Duration::from_hours(30 * 24);

/// A stage, and what it says where the mail server refuses although it looks well.
pub(super) struct Seen {
    pub(super) stage: DoctorStage,
    /// Explains a refusal, should there be one.
    pub(super) suspect: Option<Finding>,
}

impl From<DoctorStage> for Seen {
    fn from(stage: DoctorStage) -> Self {
        Self {
            stage,
            suspect: None,
        }
    }
}

/// Who asks.
struct Asking<'a> {
    account: &'a Account,
    graph: Graph,
    admin: bool,
    /// Of the person whose token it is, where it is one's.
    app_only: bool,
    claims: Option<&'a Claims>,
}

/// All four stages.
pub(super) async fn look(
    account: &Account,
    provider: Option<&Provider>,
    claims: Option<&Claims>,
    admin: Option<&Administrator>,
) -> Vec<Seen> {
    let skipped = |why: String| {
        STAGES
            .map(|name| Seen::from(DoctorStage::skipped(name, &*why)))
            .into()
    };
    if account.setting("authority").is_none() {
        return skipped("the account's provider has no Microsoft Graph".to_owned());
    }
    let Some(base) = provider
        .and_then(|provider| provider.graph.clone())
        .or_else(|| account.settings().graph())
    else {
        return skipped("the sign-in service names no Microsoft Graph".to_owned());
    };
    let (graph, admin) = match admin {
        Some(admin) => (admin.graph().await.map_err(|failure| failure.message), true),
        None => (own(account, base).await, false),
    };
    let asking = match graph {
        Ok(graph) => Asking {
            account,
            graph,
            admin,
            app_only: !account.needs_person(),
            claims,
        },
        Err(why) => {
            let known = [
                None,
                None,
                consent_by_token(account, claims),
                secret_by_note(account),
            ];
            let otherwise = skipped(format!("{why}; {}", how(account)));
            return known
                .into_iter()
                .zip(otherwise)
                .map(|(known, otherwise)| without(known, otherwise))
                .collect();
        }
    };
    let (user, licence, consent, secret) = tokio::join!(
        answered(STAGES[0], asking.user().boxed()),
        answered(STAGES[1], asking.licence().boxed()),
        answered(STAGES[2], asking.consent().boxed()),
        answered(STAGES[3], asking.secret().boxed()),
    );
    vec![user, licence, consent, secret]
}

/// What was seen within [`PATIENCE`].
async fn answered(name: &'static str, question: BoxFuture<'_, Seen>) -> Seen {
    let Ok(seen) = timeout(PATIENCE, question).await else {
        let why = format!(
            "Microsoft Graph did not answer within {} s",
            PATIENCE.as_secs()
        );
        return DoctorStage::skipped(name, why).into();
    };
    seen
}

fn without(known: Option<DoctorStage>, otherwise: Seen) -> Seen {
    known.map_or(otherwise, Seen::from)
}

/// How to have what the account's own right does not suffice for.
fn how(account: &Account) -> String {
    format!(
        "an administrator can look: postrider doctor {} --admin",
        account.settings().name
    )
}

/// Graph with the account's own rights, or why not.
async fn own(account: &Account, base: Url) -> Result<Graph, String> {
    let scope = if account.needs_person() {
        // Without a resource's name it is Graph's, in every cloud (facts B1).
        "User.Read".to_owned()
    } else {
        let resource = account.settings().graph();
        let resource = resource
            .as_ref()
            .map_or("https://graph.microsoft.com", Url::as_str);
        format!("{}/.default", resource.trim_end_matches('/'))
    };
    let why = |error: &AuthError| {
        let text = error.oauth_description.as_deref().unwrap_or(&error.message);
        let text = text.split(" Trace ID").next().unwrap_or(text);
        format!(
            "no token for Microsoft Graph: {}",
            shown(text.trim_end_matches('.'))
        )
    };
    let token = match account.credential().token_aside(&[&scope]).await {
        Ok(Some(token)) => token,
        Ok(None) => return Err("the account has no tokens".to_owned()),
        Err(error) => return Err(why(&error)),
    };
    let tls = account.around.sign_in_tls.as_ref();
    let tls = tls.ok_or_else(|| "the account reaches no sign-in service".to_owned())?;
    let clock = Arc::clone(&account.around.clock);
    let transport =
        GraphTransport::new((**tls).clone(), &base, clock).map_err(|failure| failure.message)?;
    Graph::new(base, token.value().clone(), Arc::new(transport)).map_err(|error| error.to_string())
}

impl Asking<'_> {
    fn settings(&self) -> &postrider_config::Account {
        self.account.settings()
    }

    /// A stage whose question was not answered, which says nothing of the account.
    fn unanswered(&self, name: &'static str, error: &GraphError) -> Seen {
        let why = match error.kind {
            GraphErrorKind::Denied { .. } | GraphErrorKind::Unauthenticated if !self.admin => {
                format!(
                    "the account may not look: {}; {}",
                    shown(error.message.trim_end_matches('.')),
                    how(self.account)
                )
            }
            _ => graph_failure(error).message,
        };
        DoctorStage::skipped(name, why).into()
    }

    /// Whether the user is there, may sign in, and is the one who did.
    async fn user(&self) -> Seen {
        const NAME: &str = "graph_user";
        let began = Instant::now();
        let username = &self.settings().username;
        let own = !self.admin && !self.app_only;
        let found = if own {
            self.graph.me().await
        } else {
            self.graph.user(username).await
        };
        let elapsed = began.elapsed();
        let user = match found {
            Ok(user) => user,
            // Something else in Graph's place knows no codes.
            Err(error)
                if error.kind == GraphErrorKind::NotFound && error.code.is_some() && !own =>
            {
                let finding = Finding::new(
                    "graph.no_user",
                    format!("the tenant has no user {username}"),
                    format!(
                        "check account.{}.username for a slip: it is the mailbox's user principal \
                         name, of this tenant",
                        self.settings().name
                    ),
                    YOU,
                );
                return DoctorStage::failed(NAME, elapsed, error.to_string(), finding).into();
            }
            Err(error) => return self.unanswered(NAME, &error),
        };
        let mail = user.mail.as_deref().unwrap_or("none");
        let evidence = format!(
            "{}, mail {}, id {}",
            shown(&user.user_principal_name),
            shown(mail),
            shown(&user.id)
        );
        if user.account_enabled == Some(false) && !self.app_only {
            let finding = Finding::new(
                "auth.user_disabled",
                format!("signing in is blocked for {username}"),
                format!("Microsoft 365 admin center, Active users, {username}: unblock sign-in"),
                ENTRA,
            );
            return DoctorStage::failed(NAME, elapsed, evidence, finding).into();
        }
        let same = |name: &str| name.to_lowercase() == username.to_lowercase();
        let suspect = if same(&user.user_principal_name) {
            None
        } else if same(mail) {
            let upn = shown(&user.user_principal_name);
            Some(Finding::new(
                "auth.token_user",
                format!("{username} is the address of {upn}, which is the name to sign in with"),
                format!(
                    "set account.{}.username = \"{upn}\" (and sender = \"{username}\")",
                    self.settings().name
                ),
                YOU,
            ))
        } else {
            Some(other_user(
                &self.settings().name,
                username,
                &user.user_principal_name,
            ))
        };
        Seen {
            stage: DoctorStage::ok(NAME, elapsed, evidence),
            suspect,
        }
    }

    /// Whether the user's licences hold a mailbox (facts C2).
    async fn licence(&self) -> Seen {
        const NAME: &str = "graph_licence";
        let began = Instant::now();
        let username = &self.settings().username;
        let of_another = self
            .claims
            .and_then(Claims::user)
            .is_some_and(|user| user.to_lowercase() != username.to_lowercase());
        let found = if self.admin || self.app_only {
            self.graph.license_details(Some(username)).await
        } else if of_another {
            return DoctorStage::skipped(
                NAME,
                format!("somebody else signed in; {}", how(self.account)),
            )
            .into();
        } else {
            self.graph.license_details(None).await
        };
        let elapsed = began.elapsed();
        let plans = match found {
            Ok(plans) => plans,
            Err(error) => return self.unanswered(NAME, &error),
        };
        let assign = format!(
            "Microsoft 365 admin center, Active users, {username}, Licenses and apps: assign a \
             licence with Exchange Online (Plan 1 or 2), and wait for the mailbox"
        );
        let (evidence, suspect) = match graph::mailbox_plan(&plans) {
            Mailbox::Provisioned(plan) => {
                return DoctorStage::ok(NAME, elapsed, format!("{} is there", shown(&plan))).into();
            }
            Mailbox::Pending(plan) => (
                format!("{} is being provided", shown(&plan)),
                Finding::new(
                    "auth.licence_pending",
                    format!("the mailbox of {username} is still being made: the licence was assigned lately"),
                    "wait: it takes up to a day",
                    MICROSOFT,
                )
                .passing(),
            ),
            Mailbox::Failed(plan) => (
                format!("{} failed to be provided", shown(&plan)),
                Finding::new(
                    "auth.licence_failed",
                    format!("the mailbox of {username} could not be made: its licence is in error"),
                    format!("Microsoft 365 admin center, Active users, {username}, Licenses and apps: take the licence away, assign it again"),
                    ENTRA,
                ),
            ),
            Mailbox::Disabled(plan) => (
                format!("{} is switched off", shown(&plan)),
                Finding::new(
                    "auth.licence_disabled",
                    format!("Exchange Online is switched off in the licence of {username}"),
                    format!("Microsoft 365 admin center, Active users, {username}, Licenses and apps, Apps: switch Exchange Online on"),
                    ENTRA,
                ),
            ),
            Mailbox::NotAMailbox(plan) => {
                let plan = shown(&plan);
                (
                    format!("{plan} alone"),
                    Finding::new(
                        "auth.licence_no_mailbox",
                        format!("{username} has no mailbox: {plan} is part of its licences and is none"),
                        assign,
                        ENTRA,
                    ),
                )
            }
            Mailbox::Unknown(plan) => {
                let evidence = format!("{}, which this version does not know", shown(&plan));
                return DoctorStage::ok(NAME, elapsed, evidence).into();
            }
            Mailbox::None => (
                "no licence with Exchange Online; a shared mailbox needs none".to_owned(),
                Finding::new(
                    "auth.licence_missing",
                    format!("{username} has no licence with Exchange Online, and so no mailbox, unless it is a shared one"),
                    assign,
                    ENTRA,
                ),
            ),
        };
        Seen {
            stage: DoctorStage::ok(NAME, elapsed, evidence),
            suspect: Some(suspect),
        }
    }

    /// Whether the app is in the tenant and has its permission.
    async fn consent(&self) -> Seen {
        const NAME: &str = "graph_consent";
        let began = Instant::now();
        let client_id = self.account.setting("client_id").unwrap_or_default();
        let found = self.granted(client_id).await;
        let elapsed = began.elapsed();
        let wanted = permission(self.app_only);
        match found {
            Ok(Granted::Yes(by)) => {
                DoctorStage::ok(NAME, elapsed, format!("{wanted}, {by}")).into()
            }
            Ok(Granted::No) => {
                let finding = Finding::new(
                    "auth.consent_missing",
                    format!("nobody has consented that app {client_id} may {wanted}"),
                    format!(
                        "Entra admin center, App registrations, {client_id}, API permissions: add \
                         {wanted} of Office 365 Exchange Online and grant admin consent"
                    ),
                    ENTRA,
                );
                // What the token carries it was granted, by whatever way.
                if self
                    .claims
                    .is_some_and(|claims| claims.may_send(self.app_only))
                {
                    let evidence =
                        format!("the token carries {wanted}, though the grant is not listed");
                    return DoctorStage::ok(NAME, elapsed, evidence).into();
                }
                DoctorStage::failed(NAME, elapsed, "no grant", finding).into()
            }
            Ok(Granted::NoApp) => {
                let finding = Finding::new(
                    "auth.no_app",
                    format!("the tenant has no application {client_id}"),
                    format!(
                        "check account.{}.auth.client_id and tenant for a slip, or have it made: \
                         postrider setup microsoft365 --account {0}",
                        self.settings().name
                    ),
                    YOU,
                );
                DoctorStage::failed(NAME, elapsed, "no such service principal", finding).into()
            }
            Ok(Granted::Disabled) => {
                let finding = Finding::new(
                    "auth.app_disabled",
                    format!("signing in to application {client_id} is switched off in this tenant"),
                    "Entra admin center, Enterprise applications, Properties: Enabled for users to sign in",
                    ENTRA,
                );
                DoctorStage::failed(NAME, elapsed, "accountEnabled false", finding).into()
            }
            Err(error) => {
                let known = consent_by_token(self.account, self.claims);
                without(known, self.unanswered(NAME, &error))
            }
        }
    }

    async fn granted(&self, client_id: &str) -> Result<Granted, GraphError> {
        let Some(principal) = self.graph.service_principal(client_id).await? else {
            return Ok(Granted::NoApp);
        };
        if principal.account_enabled == Some(false) {
            return Ok(Granted::Disabled);
        }
        if self.app_only {
            let roles = self.graph.app_role_assignments(&principal.id).await?;
            let has = roles.iter().any(|role| {
                role.app_role_id
                    .eq_ignore_ascii_case(ids::role::EXCHANGE_SMTP_SEND_AS_APP)
            });
            return Ok(if has {
                Granted::Yes("by an administrator")
            } else {
                Granted::No
            });
        }
        let grants = self.graph.delegated_grants(&principal.id).await?;
        let wanted = permission(false);
        let has = |grant: &&graph::DelegatedGrant| {
            grant
                .scopes
                .iter()
                .any(|scope| scope.eq_ignore_ascii_case(wanted))
        };
        Ok(match grants.iter().find(has).map(|grant| &grant.consent) {
            Some(graph::Consent::AllPrincipals) => Granted::Yes("for everybody in the tenant"),
            Some(_) => Granted::Yes("for single people"),
            None => Granted::No,
        })
    }

    /// When the client secret or the certificate ends, and whether it is one of the app's.
    async fn secret(&self) -> Seen {
        const NAME: &str = "graph_secret";
        let began = Instant::now();
        let secrets = &self.settings().auth.secrets;
        if !["client_secret", "certificate", "assertion"]
            .iter()
            .any(|name| secrets.contains_key(*name))
        {
            return DoctorStage::skipped(NAME, "a public client has no secret").into();
        }
        let client_id = self.account.setting("client_id").unwrap_or_default();
        let app = match self.graph.application(client_id).await {
            Ok(Some(app)) => app,
            Ok(None) => {
                return DoctorStage::skipped(NAME, "the app is registered in another tenant")
                    .into();
            }
            Err(error) => {
                let known = secret_by_note(self.account);
                return without(known, self.unanswered(NAME, &error));
            }
        };
        let elapsed = began.elapsed();
        let now = self.account.now();
        let Some(hint) = hint(self.account) else {
            let ends: Vec<String> = app
                .certificates
                .iter()
                .filter_map(|one| Some(one.ends?.strftime("%F").to_string()))
                .collect();
            let evidence = format!("certificates of the app end {}", ends.join(", "));
            return DoctorStage::ok(NAME, elapsed, evidence).into();
        };
        let of_ours = app
            .passwords
            .iter()
            .filter(|password| password.hint.as_deref() == Some(&hint))
            .max_by_key(|password| password.ends);
        let Some(password) = of_ours else {
            let finding = Finding::new(
                "auth.client_secret_wrong",
                format!(
                    "the client secret is none of app {client_id}'s {}",
                    app.passwords.len()
                ),
                format!(
                    "make a new one, and store its value, not its id: postrider secret set, or \
                     postrider rotate --client-secret {}",
                    self.settings().name
                ),
                YOU,
            );
            return Seen {
                stage: DoctorStage::ok(NAME, elapsed, "no secret of the app begins like this one"),
                suspect: Some(finding),
            };
        };
        let Some(ends) = password.ends else {
            return DoctorStage::ok(NAME, elapsed, "without an end").into();
        };
        let evidence = format!(
            "secret {} ends {}",
            shown(&password.key_id),
            ends.strftime("%FT%TZ")
        );
        let ends = SystemTime::from(ends);
        let rotate = format!("postrider rotate --client-secret {}", self.settings().name);
        match ends.duration_since(now) {
            Err(past) => {
                let finding = Finding::new(
                    "auth.client_secret_expired",
                    format!(
                        "the client secret expired {} ago",
                        when::span(past.duration())
                    ),
                    rotate,
                    YOU,
                );
                DoctorStage::failed(NAME, elapsed, evidence, finding).into()
            }
            Ok(left) if left < SOON => {
                let finding = Finding::new(
                    "auth.client_secret_expires_soon",
                    format!("the client secret expires in {}", when::span(left)),
                    rotate,
                    YOU,
                );
                DoctorStage::warning(NAME, elapsed, evidence, finding).into()
            }
            Ok(_) => DoctorStage::ok(NAME, elapsed, evidence).into(),
        }
    }
}

/// Whether an app was granted its permission.
enum Granted {
    Yes(&'static str),
    No,
    NoApp,
    Disabled,
}

/// What the token tells of consent.
fn consent_by_token(account: &Account, claims: Option<&Claims>) -> Option<DoctorStage> {
    let app_only = !account.needs_person();
    claims.filter(|claims| claims.may_send(app_only))?;
    let evidence = format!("given: the token carries {}", permission(app_only));
    Some(DoctorStage::ok("graph_consent", Duration::ZERO, evidence))
}

/// What is known here of the secret's end.
fn secret_by_note(account: &Account) -> Option<DoctorStage> {
    const NAME: &str = "graph_secret";
    let now = account.now();
    let expiries = account.expiries();
    let first = expiries.first()?;
    let evidence = format!("by what is noted here: {}", first.in_words(now));
    if !first.is_near() {
        return Some(DoctorStage::ok(NAME, Duration::ZERO, evidence));
    }
    let finding = Finding::new(
        "auth.client_secret_expires_soon",
        first.in_words(now),
        format!(
            "postrider rotate --client-secret {}",
            account.settings().name
        ),
        YOU,
    );
    Some(DoctorStage::warning(
        NAME,
        Duration::ZERO,
        evidence,
        finding,
    ))
}

/// The first three characters of the client secret, by which Graph tells secrets apart. A
/// program that prints it is not run for this.
fn hint(account: &Account) -> Option<String> {
    let reference = account.settings().auth.secrets.get("client_secret")?;
    if matches!(reference, SecretRef::Command(_)) {
        return None;
    }
    let secret = account.secrets.secret("client_secret").ok()?;
    Some(secret.expose_secret().chars().take(3).collect())
}
