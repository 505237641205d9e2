//! The watchdog is told of life only while there is some: the main loop answers, the scheduler
//! answers, and what falls due is run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postrider_schedule::{Clock, Scheduler};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::systemd;

/// A schedule that has been due for so long without being run means that the scheduler stands
/// still. It notices a clock that jumped in a third of this.
const PATIENCE: Duration = Duration::from_mins(1);

/// A question to the main loop, which answers with it.
pub(super) type Beat = oneshot::Sender<()>;

/// Tells the service manager, as long as all goes on.
pub(super) async fn keep(
    every: Duration,
    main_loop: mpsc::Sender<Beat>,
    scheduler: Scheduler,
    clock: Arc<dyn Clock>,
) {
    let mut overdue = Overdue::default();
    loop {
        let (ask, answer) = oneshot::channel();
        let (of, now) = (scheduler.clone(), clock.now());
        let due = tokio::task::spawn_blocking(move || due(&of, now));
        let all = async {
            let answered = main_loop.send(ask).await.is_ok() && answer.await.is_ok();
            scheduler.answers().await;
            (answered, due.await)
        };
        if let Ok((true, Ok(due))) = timeout(every, all).await {
            match overdue.look(due, Instant::now()) {
                None => systemd::alive(),
                Some(name) => tracing::error!(
                    schedule = name,
                    "it is long due and does not run: the scheduler stands still"
                ),
            }
        } else {
            tracing::error!("the daemon does not answer itself: its main loop or its scheduler");
        }
        sleep(every).await;
    }
}

/// What should be running by now, and is not.
fn due(scheduler: &Scheduler, now: Timestamp) -> Vec<(String, Timestamp)> {
    let waiting = scheduler.list().into_iter();
    let waiting = waiting.filter(|one| !one.paused && one.running == 0);
    let due = waiting.filter_map(|one| {
        let next = one.next.filter(|next| *next < now)?;
        Some((one.name.or(one.at).unwrap_or(one.script), next))
    });
    due.collect()
}

/// Since when each has been due.
#[derive(Debug, Default)]
struct Overdue(HashMap<(String, Timestamp), Instant>);

impl Overdue {
    /// Takes note of what is `due`, and says what has been for too long.
    fn look(&mut self, due: Vec<(String, Timestamp)>, now: Instant) -> Option<String> {
        let mut still = HashMap::with_capacity(due.len());
        for run in due {
            let since = self.0.get(&run).copied().unwrap_or(now);
            still.insert(run, since);
        }
        self.0 = still;
        let mut runs = self.0.iter();
        runs.find(|(_, since)| now.saturating_duration_since(**since) >= PATIENCE)
            .map(|((name, _), _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(name: &str, at: i64) -> Vec<(String, Timestamp)> {
        vec![(name.to_owned(), Timestamp::from_second(at).unwrap())]
    }

    #[test]
    fn a_run_that_stays_due_is_noticed_and_one_that_was_run_is_not() {
        let mut overdue = Overdue::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);

        assert_eq!(overdue.look(due("daily", 100), start), None);
        assert_eq!(overdue.look(due("daily", 100), after(59)), None);
        assert_eq!(
            overdue.look(due("daily", 100), after(60)),
            Some("daily".to_owned())
        );

        // It ran, and is due again: it has its time again.
        assert_eq!(overdue.look(due("daily", 160), after(61)), None);
        assert_eq!(overdue.look(due("daily", 220), after(121)), None);
        assert_eq!(overdue.look(Vec::new(), after(180)), None);
        assert_eq!(overdue.look(due("daily", 220), after(181)), None);
    }
}
