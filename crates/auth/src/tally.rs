//! How calls of plugins end, for whoever counts them.

use crate::error::AuthErrorKind;

/// How a call of a plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The plugin did what was asked of it. What a mail server says to that is another matter.
    Ok,
    /// It did not.
    Failed(AuthErrorKind),
    /// Nobody waited for its end any more: a time was over, or the program stops.
    Abandoned,
}

impl CallOutcome {
    /// Its name: `ok`, `abandoned`, or the [kind's](AuthErrorKind::name).
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(kind) => kind.name(),
            Self::Abandoned => "abandoned",
        }
    }
}

/// Hears how calls of plugins end. It is told in the middle of things, and must not block.
pub trait Tally: Send + Sync {
    /// `plugin` made an instance (`create`), or saw a flow to its end (`login`, `obtain`, `sasl`,
    /// `revoke`), or did not.
    fn called(&self, plugin: &str, operation: &'static str, outcome: CallOutcome);
}

/// Nobody counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTally;

impl Tally for NoTally {
    fn called(&self, _plugin: &str, _operation: &'static str, _outcome: CallOutcome) {}
}
