//! What went wrong, for people and for programs: one shape for the command line and for Lua.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An operation that did not succeed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Dotted and stable, such as `smtp.send_as_denied`: what a program matches.
    pub code: String,
    /// What happened and where, one lower-case line.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Who can do it, if not whoever reads this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Whether the same may succeed later.
    pub retryable: bool,
    /// The account, as the config or the script names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The server's reply, where one was the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpFailure>,
    /// Where in the dialogue or the file it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// More, by operation: for a send, each recipient's verdict.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// What the command line prints instead, where people are better served by more lines.
    #[serde(skip)]
    pub report: Option<String>,
}

/// A server's reply as part of a [`Failure`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SmtpFailure {
    /// The reply code (RFC 5321 §4.2).
    pub code: u16,
    /// The enhanced status (RFC 3463).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<String>,
    /// The text of all lines.
    pub text: String,
}

impl Failure {
    /// A failure of this code that will not pass by itself.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            remedy: None,
            who: None,
            retryable: false,
            account: None,
            smtp: None,
            at: None,
            details: Value::Null,
            report: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same, said of an account.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// The same, with where it happened.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.at = Some(place.into());
        self
    }

    /// The same, marked as worth another try later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The exit status of `sysexits.h` that fits.
    pub fn exit_code(&self) -> u8 {
        let family = self.code.split('.').next().unwrap_or_default();
        match family {
            _ if self.retryable => exit::TEMPFAIL,
            _ if matches!(&*self.code, "smtp.unknown" | "queue.unknown") => exit::PROTOCOL,
            "cancelled" => exit::INTERRUPTED,
            "usage" => exit::USAGE,
            "config" | "env" | "secret" | "plugin" => exit::CONFIG,
            "setup" if self.code == "setup.blocked" => exit::CONFIG,
            "vault" => match self.code.as_str() {
                "vault.read_only" | "vault.io" => exit::IOERR,
                "vault.truncated" | "vault.corrupt" | "vault.swapped" | "vault.rolled_back"
                | "vault.missing" | "vault.malformed" | "vault.transfer" => exit::DATAERR,
                _ => exit::CONFIG,
            },
            "queue" => match self.code.as_str() {
                "queue.not_found" => exit::NOINPUT,
                "queue.newer" => exit::CONFIG,
                "queue.too_large" => exit::DATAERR,
                "queue.corrupt" => exit::SOFTWARE,
                _ => exit::IOERR,
            },
            "schedule" if self.code == "schedule.unknown" => exit::NOINPUT,
            "csv" | "json" | "message" | "script" | "template" | "time" => exit::DATAERR,
            "file" if self.code == "file.unwritable" => exit::CANTCREAT,
            "file" => exit::NOINPUT,
            "auth" => exit::NOPERM,
            "graph" if matches!(&*self.code, "graph.denied" | "graph.unauthenticated") => {
                exit::NOPERM
            }
            "graph" | "http" | "network" | "tls" | "smtp" => exit::UNAVAILABLE,
            _ => exit::SOFTWARE,
        }
    }
}

/// An error and what lies behind it, on one line.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Exit statuses, as `sysexits.h` numbers them.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// The input is wrong: a message, a script, a damaged vault.
    pub const DATAERR: u8 = 65;
    /// A file that was named cannot be read.
    pub const NOINPUT: u8 = 66;
    /// A server refused for good or is not there.
    pub const UNAVAILABLE: u8 = 69;
    /// Something inside failed.
    pub const SOFTWARE: u8 = 70;
    /// A file that was named cannot be made or written.
    pub const CANTCREAT: u8 = 73;
    /// The answer, or the vault, could not be written.
    pub const IOERR: u8 = 74;
    /// Try again later.
    pub const TEMPFAIL: u8 = 75;
    /// The other side broke off: a message may have been delivered.
    pub const PROTOCOL: u8 = 76;
    /// Credentials were refused.
    pub const NOPERM: u8 = 77;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
    /// Ctrl-C, as shells number it: 128 and the signal.
    pub const INTERRUPTED: u8 = 130;
    /// `SIGTERM`, the same.
    pub const TERMINATED: u8 = 143;
}

/// The form in which the command line says it: what, where, what to do.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(report) = &self.report {
            return f.write_str(report);
        }
        f.write_str("error: ")?;
        if let Some(account) = &self.account {
            write!(f, "account \"{account}\": ")?;
        }
        f.write_str(&self.message)?;
        if let Some(at) = &self.at {
            write!(f, "\n   at: {at}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  try: {remedy}")?;
            if let Some(who) = &self.who {
                write!(f, "\n  who: {who}")?;
            }
        }
        Ok(())
    }
}

impl Error for Failure {}
