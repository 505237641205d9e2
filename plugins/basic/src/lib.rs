//! The `basic` plugin: a user name and a password, by SASL PLAIN, LOGIN or CRAM-MD5.
//!
//! The first mechanism of the account's list that the server offers is used; the list is
//! PLAIN, LOGIN unless the account says otherwise, so CRAM-MD5 only where it is named. What
//! goes out is exactly the name and the password, or nothing: characters that the mechanisms
//! or the wire use as separators are refused.
//!
//! Not here: whether the connection is private enough for a password. The host authenticates
//! under TLS alone.
#![forbid(unsafe_code)]

mod mechanism;

use mechanism::Mechanism;
use postrider_plugin::kit::SecretSetting;
use postrider_plugin::wire::{Config, Description, Octets, Op, SaslInput};
use postrider_plugin::{Error, ErrorKind, Io, Plugin};
use schemars::JsonSchema;
use serde::Deserialize;

/// The plugin, for one account.
#[derive(Debug)]
pub struct Basic {
    mechanisms: Vec<Mechanism>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The account's password, or app password.
    #[expect(dead_code, reason = "only its presence is checked; the host keeps it")]
    password: SecretSetting,
    /// Which mechanisms to use, best first.
    #[serde(default = "default_mechanisms")]
    #[schemars(length(min = 1))]
    mechanisms: Vec<Mechanism>,
}

/// PLAIN needs the fewest round trips. Not CRAM-MD5: it keeps the password from nobody who
/// could break TLS, and makes servers store it in the clear.
fn default_mechanisms() -> Vec<Mechanism> {
    vec![Mechanism::Plain, Mechanism::Login]
}

impl Plugin for Basic {
    fn describe() -> Description {
        Description {
            name: "basic".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "a user name and a password".into(),
            ops: vec![Op::Sasl],
            mechanisms: Mechanism::ALL
                .map(|mechanism| mechanism.name().to_owned())
                .to_vec(),
            config_schema: schemars::schema_for!(Settings),
            hosts: vec![],
        }
    }

    fn create(config: Config) -> Result<Self, Error> {
        let Settings { mechanisms, .. } = config.settings()?;
        Ok(Self { mechanisms })
    }

    async fn sasl(&self, io: Io, input: SaslInput) -> Result<(), Error> {
        let mechanism = self.choose(&input.offered)?;
        if mechanism != Mechanism::Plain && input.authzid.is_some() {
            let message = format!("{} cannot act for another user", mechanism.name());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let user = sendable("username", &input.authcid)?;
        let authzid = input
            .authzid
            .as_deref()
            .map(|id| sendable("authzid", id))
            .transpose()?;
        let password = io.secret("password").await?;
        let password = sendable("password", password.expose())?;

        let name = mechanism.name();
        match mechanism {
            Mechanism::Plain => {
                let message = Octets(mechanism::plain(authzid.unwrap_or(""), user, password));
                io.sasl_start(name, Some(&message.0)).await?;
            }
            // What the two prompts say is not standardised, their order is.
            Mechanism::Login => {
                io.sasl_start(name, None).await?;
                io.sasl_send(user.as_bytes()).await?;
                io.sasl_send(password.as_bytes()).await?;
            }
            Mechanism::CramMd5 => {
                let challenge = io.sasl_start(name, None).await?;
                let answer = mechanism::cram_md5(user, password, &challenge);
                io.sasl_send(answer.as_bytes()).await?;
            }
        }
        let message = format!("the server asks for more than {name} has");
        Err(Error::new(ErrorKind::Protocol, message))
    }
}

impl Basic {
    /// The first of ours that is offered.
    fn choose(&self, offered: &[String]) -> Result<Mechanism, Error> {
        let is_offered = |mechanism: &&Mechanism| {
            offered
                .iter()
                .any(|name| name.eq_ignore_ascii_case(mechanism.name()))
        };
        self.mechanisms
            .iter()
            .find(is_offered)
            .copied()
            .ok_or_else(|| {
                let ours: Vec<&str> = self.mechanisms.iter().map(|m| m.name()).collect();
                let theirs = match offered {
                    [] => "no mechanism".to_owned(),
                    names => names.join(", "),
                };
                let message = format!(
                    "the server offers {theirs}; this account uses {}",
                    ours.join(", ")
                );
                Error::new(ErrorKind::Unsupported, message)
            })
    }
}

/// The text, unless it is empty or a separator is in it: NUL ends a field of PLAIN, CR and LF
/// a line.
fn sendable<'a>(field: &str, text: &'a str) -> Result<&'a str, Error> {
    let what = match text {
        "" => "is empty",
        text if text.contains('\0') => "contains a NUL",
        text if text.contains(['\r', '\n']) => "contains a line break",
        text => return Ok(text),
    };
    Err(Error::new(ErrorKind::Config, format!("`{field}` {what}")))
}

postrider_plugin::export!(Basic);
