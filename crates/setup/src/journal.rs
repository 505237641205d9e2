//! What a run writes down, so that the next one knows what it left.
//!
//! Every creation is announced with a mark before it is asked for; the mark goes with the
//! request. Something that carries an announced mark, and is not what was recorded in the end,
//! is a killed run's: nobody else can have made it, and nobody knows its secret.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::error::RecordError;

/// Keeps what a run tells it. Each call returns when what it was given would survive a loss of
/// power.
pub trait Record: Send {
    /// Writes an event down; [`Known::note`] says what it changes.
    ///
    /// # Errors
    ///
    /// It could not be written. The run ends there.
    fn note(&mut self, event: &Event) -> Result<(), RecordError>;

    /// Keeps a secret, in place of what had this name.
    ///
    /// # Errors
    ///
    /// It could not be kept. The run ends there.
    fn store_secret(&mut self, secret: &NewSecret) -> Result<(), RecordError>;
}

/// What happened, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run begins in this tenant.
    Began {
        /// The tenant's id.
        tenant: String,
    },
    /// An application is about to be created with this mark.
    CreatingApplication {
        /// The tag it will have.
        mark: String,
    },
    /// The account's application is this one.
    Application(KnownApplication),
    /// A secret or key is about to be added to the application.
    CreatingCredential {
        /// The display name it will have.
        mark: String,
    },
    /// The account's credential is this one; its secret part has been kept.
    Credential(KnownCredential),
    /// The run came to its end.
    Finished,
}

/// What the events up to now amount to: kept by the host, given to the next run.
///
/// The host may know better than the journal which credential is in use, after a rotation; it
/// then sets `credential`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// The tenant of all that follows.
    pub tenant: Option<String>,
    /// The account's application.
    pub application: Option<KnownApplication>,
    /// The marks of all applications ever asked for.
    pub application_marks: Vec<String>,
    /// The account's credential.
    pub credential: Option<KnownCredential>,
    /// The marks of all credentials ever asked for.
    pub credential_marks: Vec<String>,
    /// Whether the last run came to its end.
    pub finished: bool,
}

/// An application registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownApplication {
    /// Its application (client) id.
    pub client_id: String,
    /// Its object id.
    pub object_id: String,
}

/// A client secret or certificate of which the secret part is kept here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCredential {
    /// Its key id at the application.
    pub key_id: String,
    /// What it is.
    pub kind: SecretName,
    /// When it stops being accepted.
    pub ends: Timestamp,
}

/// Which secret of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretName {
    /// The client secret.
    ClientSecret,
    /// The private key (PKCS #8, PEM); as the kind of a credential, a certificate.
    PrivateKey,
    /// The certificate (PEM), which is no secret but belongs to the key.
    Certificate,
}

impl SecretName {
    /// Its name among the account's settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecret => "client_secret",
            Self::PrivateKey => "private_key",
            Self::Certificate => "certificate",
        }
    }
}

/// A secret to be kept.
#[derive(Debug)]
pub struct NewSecret {
    /// Which.
    pub name: SecretName,
    /// Its value.
    pub value: SecretString,
    /// When it stops being accepted.
    pub ends: Timestamp,
}

/// The most marks that are remembered: more runs than that were not killed in between.
const MOST_MARKS: usize = 64;

impl Known {
    /// Takes an event into account.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Began { tenant } => {
                if self.tenant.as_ref() != Some(tenant) {
                    *self = Self {
                        tenant: Some(tenant.clone()),
                        ..Self::default()
                    };
                }
                self.finished = false;
            }
            Event::CreatingApplication { mark } => remember(&mut self.application_marks, mark),
            Event::Application(application) => {
                if self.application.as_ref() != Some(application) {
                    self.credential = None;
                }
                self.application = Some(application.clone());
            }
            Event::CreatingCredential { mark } => remember(&mut self.credential_marks, mark),
            Event::Credential(credential) => self.credential = Some(credential.clone()),
            Event::Finished => self.finished = true,
        }
    }

    /// What is known of this tenant: nothing, if it was another.
    pub(crate) fn of_tenant(&self, tenant: &str) -> Self {
        if self.tenant.as_deref() == Some(tenant) {
            self.clone()
        } else {
            Self::default()
        }
    }
}

fn remember(marks: &mut Vec<String>, mark: &str) {
    if marks.len() == MOST_MARKS {
        marks.remove(0);
    }
    marks.push(mark.to_owned());
}
