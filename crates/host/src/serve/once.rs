//! One schedule, run by hand where no daemon does.

use std::time::Duration;

use postrider_schedule::Scheduler;

use super::generation::{self, Origin, Watched};
use crate::app::AppSettings;
use crate::control::schedules::{self, RunReport};
use crate::failure::Failure;
use crate::signals::{Signals, Stop};

/// What came of it.
#[derive(Debug)]
pub(crate) enum Once {
    /// It has ended, well or not.
    Ran(RunReport),
    /// Somebody did not want to wait for its end, or did not get that far.
    Stopped(Stop),
}

/// Loads everything as [`run`](super::run) would, and runs the schedule `name` of it to its end;
/// no other schedule begins.
///
/// The first signal to stop lets the run end, within `shutdown_timeout`; a second one does not
/// wait for it, and it is recorded as interrupted.
///
/// # Errors
/// A script or the configuration is wrong, there is no such schedule, or it runs already.
pub(crate) async fn run_once(settings: &AppSettings, name: &str) -> Result<Once, Failure> {
    let mut signals = Signals::to_stop()?;
    let app = super::open(settings)?;
    app.keep_fresh();
    let nothing = Watched::default();
    let prepared = tokio::select! {
        (prepared, _) = generation::prepare(Origin::First(&app), &nothing) => prepared,
        stop = signals.stop() => return Ok(Once::Stopped(stop)),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(refused) => {
            app.close().await;
            return Err(refused.failure);
        }
    };
    let generation = prepared.take_effect(1, None);
    let patience = app.config().serve.shutdown_timeout;
    let scheduler = app.scheduler();
    let ran = tokio::select! {
        ran = only(scheduler, name) => ran.map(Once::Ran),
        stop = signals.stop() => {
            let by = stop.name();
            tracing::warn!("{by}: waits for the end of {name}, {patience:?} at most; once more: not");
            Ok(Once::Stopped(stop))
        }
    };
    let end = async {
        scheduler.drain(patience).await;
        generation.end_scripts(patience).await;
        app.close().await;
    };
    tokio::select! {
        () = end => {}
        _ = signals.stop() => drop(scheduler.drain(Duration::ZERO).await),
    }
    ran
}

async fn only(scheduler: &Scheduler, name: &str) -> Result<RunReport, Failure> {
    // Nothing is driven yet: what is due of others is not begun.
    schedules::keep_only(scheduler, name)?;
    tokio::select! {
        ran = schedules::run(scheduler, name) => ran,
        () = scheduler.run() => Err(Failure::new("internal", "the scheduler has ended")),
    }
}
