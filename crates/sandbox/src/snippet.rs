//! What to put into `postrider.toml` to use a sandbox, made from its scenario.

use std::fmt::Write as _;
use std::path::Path;

use url::Url;

use crate::scenario::{App, Mailbox, Permission, Resource, Right, Scenario};

/// The environment variable the snippet takes the client secret from.
const SECRET: &str = "SANDBOX_CLIENT_SECRET";

/// The lines: an account without a person, an account of a person, and who can sign in.
pub(crate) fn snippet(
    scenario: &Scenario,
    smtp_port: u16,
    authority: &Url,
    ca_file: &Path,
) -> String {
    let mut text = String::new();
    let mut account = |name: &str, username: &str, app: &App, flow: &str, secret: bool| {
        let sender = scenario
            .permissions
            .iter()
            .find(|p| p.right == Right::SendAs && p.trustee.eq_ignore_ascii_case(username));
        let _ = writeln!(
            text,
            "[account.{name}]\nprovider = \"microsoft365\"\nusername = {}",
            quoted(username)
        );
        if let Some(permission) = sender {
            let _ = writeln!(text, "sender = {}", quoted(&permission.mailbox));
        }
        let _ = writeln!(
            text,
            "test_recipient = {}\nserver = {{ host = \"localhost\", port = {smtp_port}, tls = \"starttls\" }}\nca_file = {}\n",
            quoted(username),
            quoted(&ca_file.to_string_lossy()),
        );
        let _ = writeln!(
            text,
            "[account.{name}.auth]\nplugin = \"oauth\"\nflow = \"{flow}\"\nauthority = {}\ntenant = {}\nclient_id = \"{}\"",
            quoted(authority.as_str().trim_end_matches('/')),
            quoted(&app.tenant),
            app.client_id,
        );
        if secret {
            let _ = writeln!(text, "client_secret = {{ env = \"{SECRET}\" }}");
        }
        text.push('\n');
    };

    if let Some((app, mailbox)) = daemon(scenario) {
        account("sandbox", mailbox, app, "client_credentials", true);
    }
    let person = scenario
        .users
        .iter()
        .find(|u| u.password.is_some() && u.mailbox == Mailbox::Licensed);
    let public = scenario
        .apps
        .iter()
        .find(|a| a.public_client && !a.redirect_uris.is_empty());
    if let (Some(user), Some(app)) = (person, public) {
        account(
            "sandbox-person",
            &user.upn,
            app,
            "authorization_code",
            false,
        );
    }

    if let Some(secret) = daemon(scenario).and_then(|(app, _)| app.secrets.first()) {
        let _ = writeln!(text, "# export {SECRET}={}", comment(secret.value.reveal()));
    }
    for user in &scenario.users {
        let Some(password) = &user.password else {
            continue;
        };
        let _ = writeln!(
            text,
            "# {} signs in with the password {}",
            comment(&user.upn),
            comment(password.reveal())
        );
    }
    text
}

/// The environment variables that the lines refer to, with their values.
pub(crate) fn environment(scenario: &Scenario) -> Vec<(&'static str, String)> {
    daemon(scenario)
        .and_then(|(app, _)| app.secrets.first())
        .map(|secret| (SECRET, secret.value.reveal().to_owned()))
        .into_iter()
        .collect()
}

/// An app that may send alone, with a mailbox it may send as.
fn daemon(scenario: &Scenario) -> Option<(&App, &str)> {
    let send = Permission::new(Resource::Exchange, "SMTP.SendAsApp");
    let mut apps = scenario
        .apps
        .iter()
        .filter(|a| !a.secrets.is_empty() && a.application_consent.contains(&send));
    apps.find_map(|app| {
        let granted = |p: &&crate::scenario::MailboxPermission| {
            p.right == Right::FullAccess && app.client_id == *p.trustee
        };
        Some((
            app,
            scenario.permissions.iter().find(granted)?.mailbox.as_str(),
        ))
    })
}

/// A basic TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Text that stays on its line.
fn comment(text: &str) -> String {
    text.escape_debug().to_string()
}
