//! Where each recipient of a queued message stands.

use jiff::Timestamp;

/// Where a message stands for one of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its turn.
    Queued,
    /// Given to a session: it may be on its way.
    Sending,
    /// Was refused for now, or could not be tried.
    Deferred {
        /// When it is tried again.
        until: Timestamp,
        /// Why it was put off.
        why: String,
    },
    /// Waits for a person.
    Held {
        /// Why.
        why: String,
    },
    /// The server took it.
    Delivered {
        /// What the server said.
        reply: String,
    },
    /// Will not be delivered.
    Failed {
        /// Why.
        why: String,
    },
    /// It left, and nobody knows whether it arrived.
    Unknown {
        /// Why.
        why: String,
    },
}

impl State {
    /// Its kind.
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Queued => StateKind::Queued,
            Self::Sending => StateKind::Sending,
            Self::Deferred { .. } => StateKind::Deferred,
            Self::Held { .. } => StateKind::Held,
            Self::Delivered { .. } => StateKind::Delivered,
            Self::Failed { .. } => StateKind::Failed,
            Self::Unknown { .. } => StateKind::Unknown,
        }
    }

    /// What the server said, or why it stands where it stands.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Queued | Self::Sending => None,
            Self::Deferred { why, .. }
            | Self::Held { why }
            | Self::Failed { why }
            | Self::Unknown { why }
            | Self::Delivered { reply: why } => Some(why),
        }
    }
}

/// The kind of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// [`State::Queued`].
    Queued,
    /// [`State::Sending`].
    Sending,
    /// [`State::Deferred`].
    Deferred,
    /// [`State::Held`].
    Held,
    /// [`State::Delivered`].
    Delivered,
    /// [`State::Failed`].
    Failed,
    /// [`State::Unknown`].
    Unknown,
}

impl StateKind {
    /// All of them, in the order that a message passes through.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Sending,
        Self::Deferred,
        Self::Held,
        Self::Delivered,
        Self::Failed,
        Self::Unknown,
    ];

    /// `queued`, `sending`, `deferred`…
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The one called so.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether nothing is left to do: what is unknown waits for somebody to decide.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed)
    }
}
