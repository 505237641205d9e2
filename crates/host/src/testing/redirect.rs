//! Every account becomes one of the sandbox's: whatever its provider, server and plugin are, it
//! signs in there and sends there, with made-up secrets.
//!
//! What stays is what a script can tell: names, senders, limits, who must sign in, which secrets
//! end when.

use std::collections::BTreeMap;

use postrider_config::{Account, SandboxAddress, SecretRef, TlsMode};
use postrider_sandbox::Scenario;
use postrider_sandbox::scenario::{
    App, Guid, Limits, Mailbox, MailboxPermission, Password, Permission, Resource, Right, Secret,
    Tenant, User,
};
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::failure::Failure;

/// The only tenant: it holds every domain.
const TENANT: &str = "7e57ab1e-0000-4000-8000-000000000001";
/// Where those live whose user name is no address.
const NOWHERE: &str = "mailboxes.test";

/// A world in which nobody has an account yet.
pub(super) fn empty() -> Scenario {
    let tenant = json!({ "id": TENANT, "name": "Test", "domains": [NOWHERE] });
    let mut scenario =
        Scenario::from_json(json!({ "tenant": [tenant] })).expect("a test reads this scenario");
    // What a provider refuses, the test says.
    scenario.limits = Limits {
        messages_per_minute: 0,
        connections: 0,
        recipients_per_message: 1000,
        recipients_per_day: u32::MAX,
        ..Limits::default()
    };
    scenario
}

/// Lets `account` sign in and send in the sandbox at `address`, and lets `scenario` know it.
/// `secrets` makes up the secrets. Answers the name of its mailbox there.
pub(super) fn account(
    account: &mut Account,
    address: &SandboxAddress,
    scenario: &mut Scenario,
    secrets: &dyn Fn(&SecretRef) -> SecretString,
) -> String {
    let mailbox = if is_address(&account.username) {
        account.username.clone()
    } else {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = account.username.chars().take(60).map(plain).collect();
        format!("{name}@{NOWHERE}")
    };
    account.username.clone_from(&mailbox);
    account.server.host.clone_from(&address.smtp_host);
    account.server.port = address.smtp_port;
    account.server.tls = TlsMode::Starttls;
    account.server.ca_file = None;
    account.ca_file = Some(address.ca_file.clone());
    account.auth.allow_hosts.clear();

    let password = Password::new(format!("password of {mailbox}"));
    let user = user(scenario, &mailbox);
    user.mailbox = Mailbox::Licensed;
    user.password = Some(password.clone());
    let sender: &str = account.sender.email.as_ref();
    let sender = sender.to_owned();
    if !sender.eq_ignore_ascii_case(&mailbox) {
        self::user(scenario, &sender);
        allow(scenario, &sender, &mailbox, Right::SendAs);
    }
    if account.auth.plugin == "oauth" {
        with_tokens(account, address, scenario, &mailbox, secrets);
    } else {
        // Whatever proves it elsewhere, here it is a password.
        "basic".clone_into(&mut account.auth.plugin);
        account.auth.settings.clear();
        account.auth.secrets = BTreeMap::from([(
            "password".to_owned(),
            SecretRef::Inline(password.reveal().into()),
        )]);
    }
    mailbox
}

fn with_tokens(
    account: &mut Account,
    address: &SandboxAddress,
    scenario: &mut Scenario,
    mailbox: &str,
    secrets: &dyn Fn(&SecretRef) -> SecretString,
) {
    let auth = &mut account.auth;
    let text = |name: &str| auth.settings.get(name).and_then(|value| value.as_str());
    let by_itself = text("flow") == Some("client_credentials");
    let client_id = client_id(text("client_id").unwrap_or_default());
    // Whether by secret, certificate, assertion or not at all: here it is by a secret.
    let secret = auth.secrets.values().next().map(secrets);
    let secret = secret.unwrap_or_else(|| "client secret".into());
    let (flow, scopes) = if by_itself {
        (
            "client_credentials",
            vec!["https://outlook.office365.com/.default"],
        )
    } else {
        let sign_in = ["openid", "profile", "offline_access"];
        let scopes = ["https://outlook.office.com/SMTP.Send"].into_iter();
        ("authorization_code", scopes.chain(sign_in).collect())
    };
    let settings = json!({
        "flow": flow,
        "authority": address.authority.as_str().trim_end_matches('/'),
        "tenant": TENANT,
        "client_id": client_id.as_str(),
        "scopes": scopes,
    });
    auth.settings = settings.as_object().cloned().unwrap_or_default();
    auth.secrets.clear();
    let app = app(scenario, &client_id);
    let known = |one: &Secret| one.value.is(secret.expose_secret());
    if !app.secrets.iter().any(known) {
        app.secrets.push(Secret::new(secret.expose_secret()));
    }
    auth.secrets
        .insert("client_secret".to_owned(), SecretRef::Inline(secret));
    allow(scenario, mailbox, client_id.as_str(), Right::FullAccess);
}

/// Makes scenario and sandbox agree.
pub(super) fn refused(error: &impl std::fmt::Display) -> Failure {
    Failure::new("test.world", format!("the sandbox: {error}"))
}

fn is_address(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    name.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && domain.chars().all(plain)
    })
}

fn client_id(text: &str) -> Guid {
    Guid::parse(text).unwrap_or_else(|| {
        let digest = digest(&SHA256, text.as_bytes());
        let mut octets = [0; 16];
        octets.copy_from_slice(&digest.as_ref()[..16]);
        Guid::from_octets(octets)
    })
}

/// The mailbox of that name, made if it is not there.
fn user<'s>(scenario: &'s mut Scenario, address: &str) -> &'s mut User {
    let domain = address
        .rsplit_once('@')
        .map_or(NOWHERE, |(_, domain)| domain);
    let tenant: &mut Tenant = &mut scenario.tenants[0];
    if !tenant.has_domain(domain) {
        tenant.domains.push(domain.to_ascii_lowercase());
    }
    let known = |user: &User| user.upn.eq_ignore_ascii_case(address);
    let index = scenario.users.iter().position(known).unwrap_or_else(|| {
        scenario.users.push(User {
            upn: address.to_owned(),
            object_id: Guid::default(),
            name: String::new(),
            password: None,
            aliases: Vec::new(),
            mailbox: Mailbox::Shared,
            smtp_auth_disabled: None,
            max_send_octets: None,
            mailbox_full: false,
            account: postrider_sandbox::scenario::Account::Enabled,
            mfa: false,
            blocked_by_conditional_access: false,
            admin: false,
            roles: Vec::new(),
            plans: None,
        });
        scenario.users.len() - 1
    });
    &mut scenario.users[index]
}

fn app<'s>(scenario: &'s mut Scenario, client_id: &Guid) -> &'s mut App {
    let known = |app: &App| app.client_id == *client_id;
    let index = scenario.apps.iter().position(known).unwrap_or_else(|| {
        let send = || vec![Permission::new(Resource::Exchange, "SMTP.Send")];
        let as_app = || vec![Permission::new(Resource::Exchange, "SMTP.SendAsApp")];
        scenario.apps.push(App {
            client_id: client_id.clone(),
            name: "Test".to_owned(),
            tenant: TENANT.to_owned(),
            object_id: Guid::default(),
            registration_id: Guid::default(),
            service_principal: true,
            notes: None,
            tags: Vec::new(),
            owners: Vec::new(),
            multi_tenant: false,
            public_client: false,
            redirect_uris: vec!["http://localhost".to_owned()],
            public_redirect_uris: Vec::new(),
            spa_redirect_uris: Vec::new(),
            secrets: Vec::new(),
            certificates: Vec::new(),
            federated: Vec::new(),
            delegated: send(),
            application: as_app(),
            consent: Vec::new(),
            application_consent: as_app(),
            assigned_users: None,
            exchange_service_principal: true,
        });
        scenario.apps.len() - 1
    });
    &mut scenario.apps[index]
}

fn allow(scenario: &mut Scenario, mailbox: &str, trustee: &str, right: Right) {
    let permission = MailboxPermission {
        mailbox: mailbox.to_owned(),
        trustee: trustee.to_owned(),
        right,
    };
    if !scenario.permissions.contains(&permission) {
        scenario.permissions.push(permission);
    }
}
