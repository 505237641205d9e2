//! What was looked at and is not made here: each with what to do about it, and who can.

use std::fmt;

use serde::Serialize;

use crate::shown::shown;

/// One prerequisite, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub topic: Topic,
    /// How much it matters.
    pub severity: Severity,
    /// What was found, in a sentence.
    pub text: String,
    /// Why that is so, or why it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Who can do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Topic {
    /// Whether the tenant has Exchange Online.
    Exchange,
    /// The user of the account.
    User,
    /// The user's mailbox.
    Mailbox,
    /// The sender, where it is somebody else.
    Sender,
    /// What the person signed in may do.
    Roles,
    /// Security defaults and Conditional Access.
    Policies,
    /// What earlier runs, or somebody else, left.
    LeftOver,
    /// The credential's expiry.
    Expiry,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; it need not keep mail from being sent.
    Warn,
    /// The account would not work: [`crate::apply()`] refuses.
    Blocks,
}

/// Who can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Whoever runs this.
    You,
    /// An Application Administrator or Cloud Application Administrator.
    ApplicationAdministrator,
    /// A Privileged Role Administrator or Global Administrator.
    PrivilegedAdministrator,
    /// An Exchange Administrator.
    ExchangeAdministrator,
    /// Whoever manages users and licences.
    UserAdministrator,
    /// Whoever manages Conditional Access and security defaults.
    SecurityAdministrator,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::You => "you",
            Self::ApplicationAdministrator => "an Application Administrator",
            Self::PrivilegedAdministrator => {
                "a Privileged Role Administrator or Global Administrator"
            }
            Self::ExchangeAdministrator => "an Exchange Administrator",
            Self::UserAdministrator => "an administrator of users and licences",
            Self::SecurityAdministrator => "a Security or Conditional Access Administrator",
        })
    }
}

impl Finding {
    pub(crate) fn ok(topic: Topic, text: impl Into<String>) -> Self {
        Self::new(topic, Severity::Ok, text)
    }

    pub(crate) fn warn(topic: Topic, text: impl Into<String>) -> Self {
        Self::new(topic, Severity::Warn, text)
    }

    pub(crate) fn blocks(topic: Topic, text: impl Into<String>) -> Self {
        Self::new(topic, Severity::Blocks, text)
    }

    fn new(topic: Topic, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            topic,
            severity,
            text: shown(&text.into()),
            cause: None,
            remedy: None,
            who: None,
        }
    }

    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(shown(&cause.into()));
        self
    }

    pub(crate) fn remedied(mut self, who: Who, remedy: impl Into<String>) -> Self {
        self.who = Some(who);
        self.remedy = Some(shown(&remedy.into()));
        self
    }
}
