//! What an account is to be, before anybody looked at the tenant.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::error::SetupError;
use crate::journal::Known;

/// The account that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name in the configuration.
    pub account: String,
    /// Who signs in; of an application on its own, whose mailbox it is.
    pub username: String,
    /// Who the messages are from, when that is somebody else.
    pub sender: Option<String>,
    /// Whether messages say "on behalf of", which is another right than sending as.
    pub on_behalf: bool,
    /// How it signs in.
    pub flow: Flow,
    /// What the application proves itself with.
    pub credential: CredentialKind,
    /// Which of Microsoft's clouds.
    pub cloud: Cloud,
    /// Which application.
    pub app: AppChoice,
    /// Whether the application may renew its own credential, so that nobody has to sign in for
    /// that again.
    pub own_renewal: bool,
    /// The roles (`wids`) in the token of the person signed in, for when Graph does not tell.
    pub roles_in_token: Option<Vec<String>>,
    /// What earlier runs wrote down.
    pub known: Known,
    /// Whether a renewal of the account's credential is under way: then no credential is made or
    /// removed.
    pub renewing: bool,
    /// The present.
    pub now: Timestamp,
}

/// How an account signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// A person, in a browser that this machine's loopback address can be reached from.
    AuthorizationCode,
    /// A person, in a browser anywhere.
    DeviceCode,
    /// Nobody: the application on its own.
    ClientCredentials,
}

impl Flow {
    /// Whether a person signs in.
    pub fn is_delegated(self) -> bool {
        self != Self::ClientCredentials
    }

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// What an application proves itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// Nothing: a public client.
    None,
    /// A secret that Entra makes.
    Secret {
        /// How long it is good for; the tenant may allow less.
        lifetime: Duration,
    },
    /// A key made here, and a certificate of it.
    Certificate {
        /// How long it is good for; the tenant may allow less.
        lifetime: Duration,
    },
}

/// One of Microsoft's clouds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cloud {
    /// The one for everybody, and for GCC.
    #[default]
    Global,
    /// GCC High.
    GccHigh,
    /// The United States' Department of Defense.
    Dod,
    /// China, run by 21Vianet.
    China,
}

/// Which application registration to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppChoice {
    /// The one of this name, or a new one.
    Named(String),
    /// This one and no other: its application (client) id.
    Existing(String),
}

impl AppChoice {
    /// The name that setup gives the application of an account.
    pub fn of_account(account: &str) -> Self {
        Self::Named(Self::name_for(account))
    }

    pub(crate) fn name_for(account: &str) -> String {
        format!("Postrider: {account}")
    }
}

/// The longest life of a credential that may be asked for.
const LONGEST: Duration = Duration::from_hours(24 * 3660);

/// The longest name or address, in octets: that of an address in SMTP (RFC 5321 §4.5.3.1.3).
const LONGEST_NAME: usize = 254;

/// The longest name of an application, in characters; Graph refuses longer ones.
const LONGEST_APP_NAME: usize = 120;

impl Wanted {
    /// Whether it can be at all.
    ///
    /// # Errors
    ///
    /// [`crate::SetupErrorKind::Wanted`], naming the first contradiction.
    pub fn check(&self) -> Result<(), SetupError> {
        plain("the account's name", &self.account)?;
        address("the user", &self.username)?;
        if let Some(sender) = &self.sender {
            address("the sender", sender)?;
        }
        match &self.app {
            AppChoice::Named(name) => {
                plain("the application's name", name)?;
                if name.chars().count() > LONGEST_APP_NAME {
                    return Err(SetupError::wanted(
                        "the application's name is longer than 120 characters",
                    ));
                }
            }
            AppChoice::Existing(id) => plain("the client id", id)?,
        }
        match self.credential {
            CredentialKind::None if self.flow == Flow::ClientCredentials => {
                return Err(SetupError::wanted(
                    "an application on its own needs a secret or a certificate",
                ));
            }
            CredentialKind::None if self.own_renewal => {
                return Err(SetupError::wanted(
                    "an application without a credential has none to renew",
                ));
            }
            CredentialKind::Secret { .. } | CredentialKind::Certificate { .. }
                if self.flow == Flow::DeviceCode =>
            {
                return Err(SetupError::wanted(
                    "signing in by device code is for applications without a credential",
                ));
            }
            CredentialKind::Secret { lifetime } | CredentialKind::Certificate { lifetime }
                if lifetime.is_zero() || lifetime > LONGEST =>
            {
                return Err(SetupError::wanted(
                    "the credential's lifetime is not between a moment and ten years",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// The sender, where it is not the user.
    pub fn other_sender(&self) -> Option<&str> {
        self.sender
            .as_deref()
            .filter(|sender| !sender.eq_ignore_ascii_case(&self.username))
    }
}

/// One line that is not empty.
fn plain(what: &str, text: &str) -> Result<(), SetupError> {
    let fault = if text.trim().is_empty() {
        "is empty"
    } else if text.len() > LONGEST_NAME {
        "is longer than 254 octets"
    } else if text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        "holds a control character or the end of a line"
    } else {
        return Ok(());
    };
    Err(SetupError::wanted(format!("{what} {fault}")))
}

fn address(what: &str, text: &str) -> Result<(), SetupError> {
    plain(what, text)?;
    match text.rsplit_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && !domain.is_empty()
                && !text.chars().any(char::is_whitespace) =>
        {
            Ok(())
        }
        _ => Err(SetupError::wanted(format!(
            "{what} is not a mail address such as svc-mail@contoso.com"
        ))),
    }
}
