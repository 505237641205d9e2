//! What a mail account needs in a Microsoft 365 tenant: looked up, shown as a plan, and made.
//!
//! [`Plan::make`] only reads. [`apply()`] does what the plan says and nothing else, and tells its
//! [`Record`] before and after everything it creates: whatever a killed run left behind carries
//! a mark that the record knows, and the next run takes it over or removes it. A second run
//! finds everything as it should be and changes nothing.
//!
//! What Graph cannot do is [`power_shell`] for an Exchange administrator to run; [`manual()`] is
//! the whole of it as steps in the portal. Not here: signing in, asking, and where secrets and
//! settings are kept.
#![forbid(unsafe_code)]

pub mod certificate;

mod apply;
mod check;
mod error;
mod finding;
mod journal;
mod manual;
mod permission;
mod plan;
mod powershell;
mod remains;
mod shown;
#[cfg(test)]
mod testing;
mod wanted;

pub use apply::{Done, Orphan, OrphanKind, Progress, apply};
pub use error::{RecordError, SetupError, SetupErrorKind};
pub use finding::{Finding, Severity, Topic, Who};
pub use journal::{Event, Known, KnownApplication, KnownCredential, NewSecret, Record, SecretName};
pub use manual::{ManualStep, Value, manual};
pub use plan::{Plan, State, Step, StepId, Tenant};
pub use powershell::{Granted, Script, ScriptLine, power_shell, quote};
pub use wanted::{AppChoice, Cloud, CredentialKind, Flow, Wanted};
