//! Why a schedule is refused.

use std::fmt;

use jiff::Timestamp;

use crate::store::StoreError;

/// Why a schedule is refused, or nothing is known of it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The name, the plan or an option makes no sense; the text says which and what is allowed.
    Invalid(String),
    /// Two schedules have one name.
    Duplicate {
        /// The name.
        name: String,
        /// The line that had it first.
        first: String,
        /// The line that wants it, too.
        second: String,
    },
    /// It was to run once, at a time that is over.
    Past(Timestamp),
    /// There are too many; this is how many there may be.
    TooMany(usize),
    /// No schedule is called so.
    Unknown(String),
    /// A run is under way, and it is not to be run beside itself.
    Running(String),
    /// A newer generation of the scripts is in force.
    Superseded,
    /// The host stops.
    Stopping,
    /// What is kept of schedules cannot be read or written.
    Store(StoreError),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::Duplicate {
                name,
                first,
                second,
            } => write!(f, "two schedules are called {name:?}: {first} and {second}"),
            Self::Past(at) => write!(f, "{at} is over"),
            Self::TooMany(most) => write!(f, "there are {most} schedules already"),
            Self::Unknown(name) => write!(f, "there is no schedule {name:?}"),
            Self::Running(name) => write!(f, "schedule {name:?} is running already"),
            Self::Superseded => f.write_str("a newer generation of the scripts is in force"),
            Self::Stopping => f.write_str("the host stops"),
            Self::Store(_) => f.write_str("what is kept of schedules is out of reach"),
        }
    }
}

impl std::error::Error for ScheduleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for ScheduleError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
