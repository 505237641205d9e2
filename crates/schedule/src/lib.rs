//! Schedules: when something is to run, what becomes of runs that were missed, and who runs it.
//!
//! A schedule's plan yields *slots*, the times it is to run at. A slot is begun at most once,
//! whatever happens: the store hands it to one process, and a run that was interrupted is not
//! begun again, as half of its messages may have gone out. Slots that nobody watched, because
//! the process was stopped, the machine asleep or its clock wrong, follow the schedule's policy
//! ([`Missed`]). How daylight saving is dealt with is told at [`Cron`]: a time that the clocks
//! skip is neither lost nor run twice.
//!
//! A clock that was set back is caught up with by plans that go by the wall clock, up to three
//! hours; beyond that the new time is believed, and only slots which the history knows are
//! not run again. Intervals count from then.
//!
//! Schedules without a name are gone when their generation of scripts is. Those with one are
//! kept in a [`Store`], and go on in the next generation, or after a restart, where they were. A
//! plan that runs once does so once for its name.
//!
//! Nothing is asked of the store on a caller's thread, and schedules without a name do not wait
//! for it. What is withdrawn while the store is asked for its run is given back: it was not begun.
//! A name that no script has had for [`KEPT`] is forgotten.
//!
//! A store that fails stops nothing: schedules go on from memory, which is written when the
//! store works again. Processes whose common store fails do not see each other meanwhile, and
//! what a process that crashes then had done is unknown to the next one.
//!
//! Not here: what a job does. This crate knows no Lua and nothing else of the host.
#![forbid(unsafe_code)]

mod clock;
mod cron;
mod draft;
mod drive;
mod entry;
mod error;
mod job;
mod keep;
mod options;
mod plan;
mod row;
mod scheduler;
mod sqlite;
mod standin;
mod standing;
mod store;
mod under_way;
mod zone;

pub use clock::{Clock, ManualClock, SystemClock};
pub use cron::{Cron, CronError};
pub use draft::{Draft, Handle};
pub use error::ScheduleError;
pub use job::{Job, JobError, LeftOut, Outcome, Reason, Run, Schedule, Sink, WhyLeftOut};
pub use options::{Missed, Options, Overlap, Retry};
pub use plan::{Plan, SHORTEST};
pub use row::{KEPT, PastRun, Row};
pub use scheduler::{Scheduler, SchedulerSettings};
pub use sqlite::SqliteStore;
pub use standing::Standing;
pub use store::{HISTORY, MemoryStore, Store, StoreError, StoreErrorKind};
pub use zone::{ZoneError, time_zone};
