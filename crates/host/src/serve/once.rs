//! One schedule, run by hand where no daemon does.

use postrider_schedule::Scheduler;

use super::generation::{self, Origin, Watched};
use crate::app::AppSettings;
use crate::control::schedules::{self, RunReport};
use crate::failure::Failure;

/// Loads everything as [`run`](super::run) would, and runs the schedule `name` of it to its end;
/// no other schedule begins.
///
/// # Errors
/// A script or the configuration is wrong, or there is no such schedule.
pub(crate) async fn run_once(settings: &AppSettings, name: &str) -> Result<RunReport, Failure> {
    let app = super::open(settings)?;
    app.keep_fresh();
    let (prepared, _) = generation::prepare(Origin::First(&app), &Watched::default()).await;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(refused) => {
            app.close().await;
            return Err(refused.failure);
        }
    };
    let generation = prepared.take_effect(1, None);
    let ran = only(app.scheduler(), name).await;
    let patience = app.config().serve.shutdown_timeout;
    app.scheduler().drain(patience).await;
    generation.end_scripts(patience).await;
    app.close().await;
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
