//! What the offline Microsoft 365 knows: tenants, users, apps, permissions, limits, faults.
//!
//! A [`Scenario`] is plain data, read from TOML and changed while running as JSON. One
//! that passed [`Scenario::check`] names only things it holds: every user's domain belongs
//! to a tenant, every permission names a mailbox and somebody it is granted to.
//!
//! Not here: what happens because of it. Entra ID and Exchange ask, this answers.

mod check;
mod directory;
mod fault;
mod limits;
mod suggest;
mod values;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use directory::{
    APP_ROLES, Certificate, DirectoryRole, GRAPH_COMMAND_LINE_TOOLS, Offered, ProvisioningStatus,
    SCOPES, ServicePlan,
};
pub use fault::{AadError, Effect, Fault, FaultPoint, HttpAnswer};
pub use limits::{GraphRules, Limits, OverRate, Rotation, TokenPolicy};
pub use values::{Guid, Password, Permission, Resource, Span};

/// The scenario a sandbox starts with when it is given none, with its commentary.
pub const DEFAULT_TOML: &str = include_str!("../scenarios/default.toml");

/// Everything a sandbox knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The organisations.
    #[serde(rename = "tenant", default)]
    pub tenants: Vec<Tenant>,
    /// People and mailboxes; the domain of each one's name says which tenant it is in.
    #[serde(rename = "user", default)]
    pub users: Vec<User>,
    /// App registrations.
    #[serde(rename = "app", default)]
    pub apps: Vec<App>,
    /// Who may act for which mailbox.
    #[serde(rename = "permission", default)]
    pub permissions: Vec<MailboxPermission>,
    /// Exchange's limits.
    #[serde(default)]
    pub limits: Limits,
    /// How long tokens live, and how refresh tokens rotate.
    #[serde(default)]
    pub tokens: TokenPolicy,
    /// How Graph behaves.
    #[serde(default)]
    pub graph: GraphRules,
    /// What goes wrong on purpose.
    #[serde(rename = "fault", default)]
    pub faults: Vec<Fault>,
}

/// One organisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the portal"
)]
pub struct Tenant {
    /// The directory's id.
    pub id: Guid,
    /// The name shown on pages.
    #[serde(default)]
    pub name: String,
    /// Verified domains; the first is the initial one.
    pub domains: Vec<String>,
    /// Organisation or personal accounts.
    #[serde(default)]
    pub kind: TenantKind,
    /// Whether Exchange Online exists here; without it its tokens fail with `AADSTS500011`.
    #[serde(default = "yes")]
    pub exchange_online: bool,
    /// The organisation's switch `SmtpClientAuthenticationDisabled`; a mailbox overrides it.
    #[serde(default)]
    pub smtp_auth_disabled: bool,
    /// Security defaults: SMTP passwords and the device code flow are refused.
    #[serde(default)]
    pub security_defaults: bool,
    /// Whether SMTP still takes passwords.
    #[serde(default)]
    pub basic_auth: BasicAuth,
    /// `SendFromAliasEnabled`: a mailbox's aliases may stand in From.
    #[serde(default)]
    pub send_from_alias: bool,
    /// Whether users may consent to apps themselves; otherwise `AADSTS90094`.
    #[serde(default = "yes")]
    pub user_consent: bool,
    /// Conditional Access refuses the device code flow (`AADSTS53003`).
    #[serde(default)]
    pub block_device_code: bool,
    /// Whether people who are no administrators may register apps.
    #[serde(default = "yes")]
    pub user_app_registration: bool,
    /// Policy: client secrets end at most this long after they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_lifetime: Option<Span>,
    /// Policy: no client secrets are made.
    #[serde(default)]
    pub secrets_forbidden: bool,
}

/// Whose accounts a tenant holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantKind {
    /// Work or school accounts.
    #[default]
    Organization,
    /// Personal accounts: the path `consumers`, opaque access tokens.
    Consumers,
}

/// What becomes of a password presented over SMTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasicAuth {
    /// Checked, as before the retirement.
    #[default]
    Enabled,
    /// `535 5.7.139 … basic authentication is disabled.`
    Disabled,
    /// `550 5.7.30 Basic authentication is not supported for Client Submission.`
    Retired,
}

/// One person or mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the portal"
)]
pub struct User {
    /// User principal name; also the mailbox's primary address.
    pub upn: String,
    /// Object id; made from the name when absent.
    #[serde(default)]
    pub object_id: Guid,
    /// The name shown on pages.
    #[serde(default)]
    pub name: String,
    /// Signs in with this; absent: nobody can sign in (a shared mailbox).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Further addresses of the mailbox.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Whether there is a mailbox, and of what kind.
    #[serde(default)]
    pub mailbox: Mailbox,
    /// The mailbox's own switch; absent: the tenant's holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp_auth_disabled: Option<bool>,
    /// `MaxSendSize` in octets; absent: [`Limits::mailbox_message_octets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_send_octets: Option<u64>,
    /// The mailbox is full: nothing more fits into Sent Items.
    #[serde(default)]
    pub mailbox_full: bool,
    /// State of the account.
    #[serde(default)]
    pub account: Account,
    /// A second factor is asked for (`AADSTS50076` where nobody can give one).
    #[serde(default)]
    pub mfa: bool,
    /// Conditional Access refuses every token (`AADSTS53003`).
    #[serde(default)]
    pub blocked_by_conditional_access: bool,
    /// May consent for the whole organisation: a global administrator.
    #[serde(default)]
    pub admin: bool,
    /// Further roles in the directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<DirectoryRole>,
    /// Service plans of the user's licences; absent: those of the kind of mailbox. Without a
    /// provisioned mailbox plan among them a licensed mailbox is none (`535 5.7.3`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<Vec<ServicePlan>>,
}

/// What kind of mailbox a user has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mailbox {
    /// A licensed mailbox.
    #[default]
    Licensed,
    /// A shared mailbox: needs no licence, nobody signs in to it.
    Shared,
    /// A mailbox whose licence is gone: `535 5.7.3`.
    Unlicensed,
    /// None at all.
    None,
}

impl Mailbox {
    /// Whether mail can be submitted through it and kept in it.
    pub fn usable(self) -> bool {
        matches!(self, Self::Licensed | Self::Shared)
    }
}

/// State of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// Signs in.
    #[default]
    Enabled,
    /// `AADSTS50057`.
    Disabled,
    /// `AADSTS50053`.
    Locked,
    /// `AADSTS50055`.
    PasswordExpired,
}

/// One app registration, with its service principal in its own tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the portal"
)]
pub struct App {
    /// Application (client) id.
    pub client_id: Guid,
    /// Display name.
    pub name: String,
    /// A domain or the id of the tenant it is registered in.
    pub tenant: String,
    /// Object id of the *enterprise application*; made from the client id when absent.
    #[serde(default)]
    pub object_id: Guid,
    /// Object id of the *app registration*; made from the client id when absent.
    #[serde(default)]
    pub registration_id: Guid,
    /// Whether there is an enterprise application; without one the app is not installed
    /// (`AADSTS700016`).
    #[serde(default = "yes")]
    pub service_principal: bool,
    /// Notes of the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Tags of the registration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Object ids of its owners: users or service principals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Guid>,
    /// Users of other tenants may sign in, through `common` too.
    #[serde(default)]
    pub multi_tenant: bool,
    /// "Allow public client flows": it has no secret and must present none.
    #[serde(default)]
    pub public_client: bool,
    /// Where a sign-in may return to.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Redirects of the platform "mobile and desktop": whoever returns there proves nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_redirect_uris: Vec<String>,
    /// Redirects of a single-page app: refresh tokens end after 24 hours.
    #[serde(default)]
    pub spa_redirect_uris: Vec<String>,
    /// Client secrets.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Certificates (PEM) whose keys may sign client assertions.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Other issuers whose assertions stand for this app.
    #[serde(default)]
    pub federated: Vec<Federated>,
    /// Delegated permissions requested in the registration.
    #[serde(default)]
    pub delegated: Vec<Permission>,
    /// Application permissions requested in the registration.
    #[serde(default)]
    pub application: Vec<Permission>,
    /// Consent given to delegated permissions.
    #[serde(default)]
    pub consent: Vec<Consent>,
    /// Application permissions an administrator consented to.
    #[serde(default)]
    pub application_consent: Vec<Permission>,
    /// Users must be assigned to it; these are. Absent: everyone may use it (`AADSTS50105`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_users: Option<Vec<String>>,
    /// Whether Exchange knows its service principal (`New-ServicePrincipal` was run).
    #[serde(default)]
    pub exchange_service_principal: bool,
}

/// One client secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its value.
    pub value: Password,
    /// When it stops working; absent: never.
    #[serde(
        default,
        with = "values::rfc3339",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<Timestamp>,
    /// `keyId`: the *secret ID* of the portal; made from the app and the value when absent.
    #[serde(default)]
    pub key_id: Guid,
    /// `displayName`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was made.
    #[serde(
        default,
        with = "values::rfc3339",
        skip_serializing_if = "Option::is_none"
    )]
    pub starts: Option<Timestamp>,
}

impl Secret {
    /// A secret that never ends.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: Password::new(value),
            expires: None,
            key_id: Guid::default(),
            name: None,
            starts: None,
        }
    }
}

/// One federated credential: whose assertions stand for the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federated {
    /// The assertion's `iss`, compared exactly.
    pub issuer: String,
    /// The assertion's `sub`, compared exactly.
    pub subject: String,
    /// The assertion's `aud`.
    #[serde(default = "token_exchange")]
    pub audience: String,
    /// The issuer's keys: PEM, each a public key or a certificate.
    pub keys: Vec<String>,
}

/// Consent to delegated permissions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// A user's name, or `everyone` when an administrator consented for the organisation.
    pub by: String,
    /// What was consented to.
    pub permissions: Vec<Permission>,
}

/// The value of [`Consent::by`] that covers every user.
pub const EVERYONE: &str = "everyone";

/// Somebody's right over a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxPermission {
    /// The mailbox it is about.
    pub mailbox: String,
    /// Who holds it: a user's name, or an app's client id for `full_access`.
    pub trustee: String,
    /// What is allowed.
    pub right: Right,
}

/// What a trustee may do with a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// `Add-RecipientPermission … -AccessRights SendAs`
    SendAs,
    /// `Set-Mailbox … -GrantSendOnBehalfTo`
    SendOnBehalf,
    /// `Add-MailboxPermission … -AccessRights FullAccess`
    FullAccess,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::from_toml(DEFAULT_TOML).expect("a test reads the default scenario")
    }
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// Text that is no TOML, keys it does not know, and everything [`Scenario::check`] finds.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|e| ScenarioError::one(suggest::of_serde(&e.to_string())))?;
        scenario.completed()
    }

    /// Reads and checks a scenario from JSON of the same shape.
    pub fn from_json(value: serde_json::Value) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_json::from_value(value)
            .map_err(|e| ScenarioError::one(suggest::of_serde(&e.to_string())))?;
        scenario.completed()
    }

    /// The same, taken on by a running sandbox: its faults begin to last.
    pub(crate) fn begun(mut self, now: Timestamp) -> Self {
        for fault in &mut self.faults {
            fault.begin(now);
        }
        self
    }

    /// The tenant a path segment names: its id or one of its domains.
    pub fn tenant(&self, id_or_domain: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|t| t.is_called(id_or_domain))
    }

    /// The tenant an address belongs to, by its domain.
    pub fn tenant_of(&self, address: &str) -> Option<&Tenant> {
        let (_, domain) = address.rsplit_once('@')?;
        self.tenants.iter().find(|t| t.has_domain(domain))
    }

    /// The user with this principal name. Case does not matter.
    pub fn user(&self, upn: &str) -> Option<&User> {
        self.users.iter().find(|u| u.upn.eq_ignore_ascii_case(upn))
    }

    /// The user with this object id.
    pub fn user_by_id(&self, object_id: &str) -> Option<&User> {
        self.users.iter().find(|u| u.object_id == *object_id)
    }

    /// The user whose mailbox has this address, as its name or as an alias.
    pub fn mailbox(&self, address: &str) -> Option<&User> {
        self.users.iter().find(|u| u.has_address(address))
    }

    /// The app with this object id of its registration.
    pub fn registration(&self, object_id: &str) -> Option<&App> {
        self.apps.iter().find(|a| a.registration_id == *object_id)
    }

    /// The app with this client id.
    pub fn app(&self, client_id: &str) -> Option<&App> {
        self.apps.iter().find(|a| a.client_id == *client_id)
    }

    /// Whether `trustee` (a user's name or an app's client id) holds this right over
    /// `mailbox` (its principal name).
    pub fn allows(&self, mailbox: &str, trustee: &str, right: Right) -> bool {
        self.permissions.iter().any(|p| {
            p.right == right
                && p.mailbox.eq_ignore_ascii_case(mailbox)
                && p.trustee.eq_ignore_ascii_case(trustee)
        })
    }

    /// Whether SMTP submission is switched off for this user, and by whom.
    pub fn smtp_auth_switch(&self, user: &User) -> SmtpAuthSwitch {
        match user.smtp_auth_disabled {
            Some(true) => SmtpAuthSwitch::DisabledForMailbox,
            None if self
                .tenant_of(&user.upn)
                .is_some_and(|t| t.smtp_auth_disabled) =>
            {
                SmtpAuthSwitch::DisabledForTenant
            }
            Some(false) | None => SmtpAuthSwitch::Enabled,
        }
    }
}

/// The outcome of the two `SmtpClientAuthenticationDisabled` switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpAuthSwitch {
    /// Neither switch is set, or the mailbox overrides the tenant's.
    Enabled,
    /// The mailbox's own.
    DisabledForMailbox,
    /// The tenant's, inherited.
    DisabledForTenant,
}

impl Tenant {
    /// Whether this path segment means this tenant.
    pub fn is_called(&self, id_or_domain: &str) -> bool {
        self.id == *id_or_domain || self.has_domain(id_or_domain)
    }

    /// Whether this is one of its domains.
    pub fn has_domain(&self, domain: &str) -> bool {
        self.domains.iter().any(|d| d.eq_ignore_ascii_case(domain))
    }
}

impl User {
    /// Whether mail can be submitted through the mailbox and kept in it.
    pub fn has_mailbox(&self) -> bool {
        match self.mailbox {
            Mailbox::Licensed => self.service_plans().iter().any(ServicePlan::is_mailbox),
            other => other.usable(),
        }
    }

    /// The service plans of the user's licences.
    pub fn service_plans(&self) -> Vec<ServicePlan> {
        match (&self.plans, self.mailbox) {
            (Some(plans), _) => plans.clone(),
            (None, Mailbox::Licensed) => vec![ServicePlan::new("EXCHANGE_S_STANDARD")],
            (None, _) => Vec::new(),
        }
    }

    /// Whether the user has one of these roles.
    pub fn has_role(&self, among: &[DirectoryRole]) -> bool {
        self.directory_roles().iter().any(|r| among.contains(r))
    }

    /// The user's roles in the directory.
    pub fn directory_roles(&self) -> Vec<DirectoryRole> {
        let mut roles: Vec<_> = self
            .admin
            .then_some(DirectoryRole::GlobalAdministrator)
            .into_iter()
            .collect();
        for role in &self.roles {
            if !roles.contains(role) {
                roles.push(*role);
            }
        }
        roles
    }

    /// Whether the user may consent to this for everyone.
    pub fn consents_for_everyone(&self) -> bool {
        self.has_role(&[
            DirectoryRole::GlobalAdministrator,
            DirectoryRole::PrivilegedRoleAdministrator,
            DirectoryRole::ApplicationAdministrator,
            DirectoryRole::CloudApplicationAdministrator,
        ])
    }

    /// Whether this is the mailbox's name or one of its aliases.
    pub fn has_address(&self, address: &str) -> bool {
        self.upn.eq_ignore_ascii_case(address)
            || self.aliases.iter().any(|a| a.eq_ignore_ascii_case(address))
    }
}

impl App {
    /// A registration with its service principal and nothing else.
    pub fn new(client_id: Guid, name: impl Into<String>, tenant: impl Into<String>) -> Self {
        Self {
            client_id,
            name: name.into(),
            tenant: tenant.into(),
            object_id: Guid::default(),
            registration_id: Guid::default(),
            service_principal: true,
            notes: None,
            tags: Vec::new(),
            owners: Vec::new(),
            multi_tenant: false,
            public_client: false,
            redirect_uris: Vec::new(),
            public_redirect_uris: Vec::new(),
            spa_redirect_uris: Vec::new(),
            secrets: Vec::new(),
            certificates: Vec::new(),
            federated: Vec::new(),
            delegated: Vec::new(),
            application: Vec::new(),
            consent: Vec::new(),
            application_consent: Vec::new(),
            assigned_users: None,
            exchange_service_principal: false,
        }
    }

    /// Whether it has anything to prove itself with.
    pub fn has_credentials(&self) -> bool {
        !(self.secrets.is_empty() && self.certificates.is_empty() && self.federated.is_empty())
    }

    /// Whether the user or an administrator for everyone consented to this.
    pub fn consented(&self, upn: &str, permission: &Permission) -> bool {
        self.consent
            .iter()
            .filter(|c| c.by == EVERYONE || c.by.eq_ignore_ascii_case(upn))
            .any(|c| c.permissions.iter().any(|p| p.covers(permission)))
    }
}

/// Why a scenario cannot be used: every problem found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// What is wrong, each with where.
    pub problems: Vec<String>,
}

impl ScenarioError {
    pub(crate) fn one(problem: impl Into<String>) -> Self {
        Self {
            problems: vec![problem.into()],
        }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the scenario cannot be used: {}",
            self.problems.join("; ")
        )
    }
}

impl std::error::Error for ScenarioError {}

fn yes() -> bool {
    true
}

fn token_exchange() -> String {
    "api://AzureADTokenExchange".to_owned()
}
