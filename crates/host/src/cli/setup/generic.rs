//! Accounts whose application, if they have one, somebody registered by hand: Gmail, Fastmail,
//! any OpenID issuer, any server with a password.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use postrider_config::Preset;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::answers::{Answers, AuthKind, Credential, FlowName, Tls, reference};
use super::finish::{Finish, finish};
use super::microsoft365::{Manner, confirm, interruptible};
use super::show;
use crate::app::App;
use crate::app::setup as app_setup;
use crate::app::vault::VaultSecret;
use crate::cli::output::Output;
use crate::cli::unseen;
use crate::failure::Failure;
use crate::terminal::Person;

/// What one run knows.
pub(super) struct Generic<'a> {
    pub(super) app: &'a App,
    pub(super) person: &'a Arc<Person>,
    pub(super) answers: &'a Answers,
    pub(super) preset: &'static Preset,
    pub(super) manner: &'a Manner,
    pub(super) output: &'a Output,
    /// The file that the settings go to.
    pub(super) path: &'a Path,
}

impl Generic<'_> {
    /// From the first look to the last check; the exit status.
    ///
    /// # Errors
    /// The first thing that stood in the way.
    pub(super) async fn run(&self) -> Result<u8, Failure> {
        self.refuse_what_is_for_graph()?;
        let name = self.answers.account()?;
        let settings = self.settings()?;
        app_setup::check(name, &settings, &postrider_config::Presets::builtin())?;
        let changes = app_setup::changes(self.path, name, &settings)?;
        show::settings(self.path, &changes, self.output);
        if self.manner.dry_run {
            self.output.json(&json!({
                "settings": { "path": self.path, "changes": show::changes_json(&changes) },
            }));
            self.output.line("\nNothing was changed (--dry-run).");
            return Ok(0);
        }
        let secret = match self.secret_setting() {
            Some(setting) => self.secret(&format!("{name}/{setting}"), setting)?,
            None => None,
        };
        let is_new = !changes.is_empty() || secret.is_some();
        if is_new {
            confirm(self.manner)?;
        }
        if let Some((name, value)) = secret {
            let kept = VaultSecret {
                value,
                expires: None,
                set_at: SystemTime::now(),
            };
            self.app.vault().put_secret(&name, &kept)?;
            self.output.line(format!("  stored   {name}, in the vault"));
        }
        app_setup::write(self.path, &changes)?;
        self.output.line(if is_new {
            format!("  written  {}", self.path.display())
        } else {
            "Nothing to change: everything is as it should be.".to_owned()
        });
        let app = self.app.next_generation()?;
        app.take_over_from(self.app);
        let finish = finish(
            &app,
            self.person,
            Finish {
                account: name,
                method: None,
                send_test: is_new && !self.manner.no_send,
            },
            self.output,
        );
        let finished = interruptible(Box::pin(finish)).await;
        app.close().await;
        let finished = finished?;
        self.output.json(&json!({
            "changed": is_new,
            "settings": { "path": self.path, "changes": show::changes_json(&changes) },
            "finish": finished,
        }));
        Ok(finished.exit_code())
    }

    fn refuse_what_is_for_graph(&self) -> Result<(), Failure> {
        let given = if self.manner.print_manual {
            "--print-manual"
        } else if self.manner.powershell.is_some() {
            "--powershell"
        } else if self.manner.sandbox.is_some() {
            "--sandbox"
        } else {
            return Ok(());
        };
        Err(Failure::new(
            "usage.provider",
            format!("{given} is for what Microsoft Graph sets up: postrider setup microsoft365"),
        ))
    }

    /// OAuth where the application is known, or the provider takes nothing else.
    fn auth(&self) -> AuthKind {
        let name = self.preset.name;
        let oauth = self.answers.app_id.is_some()
            || self.answers.issuer.is_some()
            || name.starts_with("microsoft365")
            || name == "outlook";
        self.answers.auth.unwrap_or(if oauth {
            AuthKind::Oauth
        } else {
            AuthKind::Basic
        })
    }

    fn flow(&self) -> FlowName {
        self.answers.flow.unwrap_or(FlowName::AuthorizationCode)
    }

    /// The setting whose secret the account cannot do without.
    fn secret_setting(&self) -> Option<&'static str> {
        let answers = self.answers;
        match self.auth() {
            AuthKind::Basic => Some("password"),
            AuthKind::Oauth
                if answers.credential == Some(Credential::Secret)
                    || answers.client_secret.is_some()
                    || self.flow() == FlowName::ClientCredentials =>
            {
                Some("client_secret")
            }
            AuthKind::Oauth => None,
        }
    }

    fn settings(&self) -> Result<Value, Failure> {
        let answers = self.answers;
        let mut account = Map::new();
        let mut set = |name: &str, value: Value| account.insert(name.to_owned(), value);
        if self.preset.name != "custom" {
            set("provider", self.preset.name.into());
        }
        set("username", answers.username()?.into());
        if let Some(sender) = &answers.sender {
            set("sender", sender.as_str().into());
        }
        if answers.on_behalf {
            set("on_behalf", true.into());
        }
        if let Some(recipient) = &answers.test_recipient {
            set("test_recipient", recipient.as_str().into());
        }
        if let Some(server) = self.server()? {
            set("server", server);
        }
        if let Some(file) = answers.ca_file() {
            set("ca_file", file.into());
        }
        set("auth", self.auth_settings()?);
        Ok(Value::Object(account))
    }

    fn server(&self) -> Result<Option<Value>, Failure> {
        let answers = self.answers;
        if answers.server.is_none() && answers.port.is_none() && answers.tls.is_none() {
            if self.preset.server.is_some() {
                return Ok(None);
            }
            return Err(Failure::new("usage.missing", "the server is not given")
                .with_remedy("say --server HOST, or run `postrider setup` to be asked"));
        }
        let mut server = Map::new();
        if let Some(host) = &answers.server {
            server.insert("host".to_owned(), host.as_str().into());
        }
        let tls = answers.tls.unwrap_or(match answers.port {
            Some(465) => Tls::Implicit,
            _ => Tls::Starttls,
        });
        let port = answers.port.unwrap_or(tls.port());
        server.insert("port".to_owned(), port.into());
        server.insert("tls".to_owned(), tls.word().into());
        Ok(Some(Value::Object(server)))
    }

    fn auth_settings(&self) -> Result<Value, Failure> {
        let answers = self.answers;
        let account = answers.account()?;
        let kept = |setting: &str| json!({ "vault": format!("{account}/{setting}") });
        if self.auth() == AuthKind::Basic {
            return Ok(json!({ "plugin": "basic", "password": kept("password") }));
        }
        let Some(app_id) = &answers.app_id else {
            return Err(Failure::new(
                "usage.missing",
                "the client id of the application is not given",
            )
            .with_remedy("register one with the provider, then say --app-id ID"));
        };
        let mut auth = Map::new();
        let mut set = |name: &str, value: Value| auth.insert(name.to_owned(), value);
        set("plugin", "oauth".into());
        set(
            "flow",
            postrider_setup::Flow::from(self.flow()).as_str().into(),
        );
        if let Some(tenant) = &answers.tenant {
            set("tenant", tenant.as_str().into());
        }
        if let Some(issuer) = &answers.issuer {
            set("issuer", issuer.as_str().into());
        }
        set("client_id", app_id.as_str().into());
        if !answers.scopes.is_empty() {
            set("scopes", answers.scopes.as_slice().into());
        }
        if let Some(setting) = self.secret_setting() {
            set(setting, kept(setting));
        }
        Ok(Value::Object(auth))
    }

    /// The secret to put into the vault under `name`; none where the vault has it.
    fn secret(&self, name: &str, setting: &str) -> Result<Option<(String, SecretString)>, Failure> {
        let given = match setting {
            "password" => self.answers.password.as_ref(),
            _ => self.answers.client_secret.as_ref(),
        };
        let there = match self.app.vault().existing()? {
            Some(_) => self.app.vault().secret(name)?,
            None => None,
        };
        let value = match given {
            Some(value) => {
                let base = self.path.parent().unwrap_or(Path::new("."));
                let reference = reference(setting, value)?;
                self.app.vault().resolve(&reference, base)?
            }
            None if there.is_some() => return Ok(None),
            None => {
                let what = match setting {
                    "password" => "Password",
                    _ => "Client secret",
                };
                unseen::ask(what, true)?
            }
        };
        let same = there.is_some_and(|kept| kept.value.expose_secret() == value.expose_secret());
        Ok((!same).then(|| (name.to_owned(), value)))
    }
}
