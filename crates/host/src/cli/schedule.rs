//! `postrider schedule list|run|pause|resume|history`.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Subcommand;

use super::host::Host;
use super::output::Output;
use crate::app::Moment;
use crate::control::schedules::{RunError, RunReport, ScheduleStatus, Switch};
use crate::failure::Failure;
use crate::lua::ScriptError;
use crate::serve::Once;
use crate::when;

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the schedules: when they run, when they run next, and how the last run went
    #[command(after_help = "\
Examples:
  postrider schedule list
  postrider schedule list --json | jq '.[] | select(.last.ok == false) | .name'

Where no daemon runs, these are the schedules with a name that a daemon, or a script under
`postrider run`, has left behind.")]
    List,
    /// Run one now, beside its plan, and wait for its end
    #[command(after_help = "\
Examples:
  postrider schedule run report
  postrider schedule run report && echo sent

Where no daemon runs, the scripts of the configuration are loaded, and nothing but this schedule
runs. Ctrl-C then waits for its end, for serve.shutdown_timeout at most; a second one does not.
With a daemon, Ctrl-C ends the waiting and not the run.
Exit status: 0 it went well, 66 there is no such schedule, 75 it runs already, 130 or 143 it was
interrupted or terminated, else as for the error that it failed with.")]
    Run {
        /// The schedule's name
        name: String,
    },
    /// Run nothing of one until it is resumed; what falls due meanwhile is left out
    #[command(after_help = "\
Example:
  postrider schedule pause report

It stays paused through reloads and restarts.
Exit status: 0 it is paused, 66 there is no such schedule.")]
    Pause {
        /// The schedule's name
        name: String,
    },
    /// Let a paused one go on
    #[command(after_help = "\
Example:
  postrider schedule resume report

Exit status: 0 it goes on, 66 there is no such schedule.")]
    Resume {
        /// The schedule's name
        name: String,
    },
    /// Show the latest runs of one, the latest first
    #[command(after_help = "\
Examples:
  postrider schedule history report
  postrider schedule history report --limit 1 --json

Exit status: 0 there it is, 66 there is no such schedule.")]
    History {
        /// The schedule's name
        name: String,
        /// How many runs; 200 are kept
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
        limit: usize,
    },
}

pub(super) async fn run(
    command: Command,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        Command::List => list(host, output).await,
        Command::Run { name } => run_now(&name, host, output).await,
        Command::Pause { name } => switch(&name, Switch::Pause, host, output).await,
        Command::Resume { name } => switch(&name, Switch::Resume, host, output).await,
        Command::History { name, limit } => history(&name, limit, host, output).await,
    }
}

async fn list(host: &Host, output: &Output) -> Result<ExitCode, Failure> {
    let schedules = host.schedules().await?;
    let now = SystemTime::now();
    output.json(&schedules);
    let rows: Vec<Vec<String>> = schedules
        .iter()
        .map(|schedule| {
            vec![
                schedule.name.clone().unwrap_or_else(|| "—".to_owned()),
                schedule.script.clone(),
                plan(schedule),
                state(schedule).to_owned(),
                schedule
                    .next
                    .map_or_else(String::new, |at| when::relative(at, now)),
                schedule
                    .last
                    .as_ref()
                    .map_or_else(String::new, |run| last(run, now)),
                schedule.runs.to_string(),
                schedule.failures.to_string(),
            ]
        })
        .collect();
    output.table(
        &[
            "NAME", "SCRIPT", "PLAN", "STATE", "NEXT", "LAST", "RUNS", "FAILED",
        ],
        &rows,
        "no schedules: a script makes them with pr.every and pr.cron",
    );
    for schedule in &schedules {
        if let Some(error) = schedule.last.as_ref().and_then(|run| run.error.as_ref()) {
            let name = schedule.name.as_deref().unwrap_or(&schedule.plan);
            output.line(format!("\n{name}: {}", in_words(error)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_now(name: &str, host: &Host, output: &Output) -> Result<ExitCode, Failure> {
    let run = match host.run_schedule(name).await? {
        Once::Ran(run) => run,
        Once::Stopped(by) => {
            output.note(&format!("{}: {name} was not waited for", by.name()));
            return Ok(ExitCode::from(by.exit_code()));
        }
    };
    output.json(&run);
    let Some(error) = run.error else {
        let ok = output.good("ok");
        output.line(format!("{ok} {name} ran for {}", seconds(run.took)));
        return Ok(ExitCode::SUCCESS);
    };
    output.note(&format!(
        "{}: {name}: {}",
        output.bad("failed"),
        in_words(&error)
    ));
    let failure = ScriptError::from(Failure::new(error.code, error.message));
    Ok(ExitCode::from(failure.exit_code()))
}

async fn switch(
    name: &str,
    switch: Switch,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let schedule = host.switch_schedule(name, switch).await?;
    output.json(&schedule);
    let ok = output.good("ok");
    match (switch, schedule.next) {
        (Switch::Pause, _) => output.line(format!("{ok} {name} is paused")),
        (Switch::Resume, Some(at)) => output.line(format!(
            "{ok} {name} runs {}",
            when::relative(at, SystemTime::now())
        )),
        (Switch::Resume, None) => output.line(format!("{ok} {name} goes on")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn history(
    name: &str,
    limit: usize,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let runs = host.history(name, limit).await?;
    output.json(&runs);
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let result = match &run.error {
                None => output.good("ok"),
                Some(error) => format!("{}: {}", output.bad("failed"), in_words(error)),
            };
            vec![
                time(run.scheduled_at),
                time(run.started_at),
                seconds(run.took),
                run.reason.to_string(),
                run.attempt.to_string(),
                result,
            ]
        })
        .collect();
    output.table(
        &["FOR", "BEGAN", "TOOK", "REASON", "ATTEMPT", "RESULT"],
        &rows,
        "it has not run yet",
    );
    Ok(ExitCode::SUCCESS)
}

/// `0 8 * * mon-fri Europe/Paris`
fn plan(schedule: &ScheduleStatus) -> String {
    match &schedule.zone {
        Some(zone) => format!("{} {zone}", schedule.plan),
        None => schedule.plan.clone(),
    }
}

fn state(schedule: &ScheduleStatus) -> &'static str {
    match schedule {
        ScheduleStatus { paused: true, .. } => "paused",
        ScheduleStatus { running: 1.., .. } => "running",
        ScheduleStatus { next: None, .. } => "done",
        _ => "waiting",
    }
}

fn last(run: &RunReport, now: SystemTime) -> String {
    let word = if run.ok { "ok" } else { "failed" };
    format!("{word} {}", when::relative(run.ended_at, now))
}

fn in_words(error: &RunError) -> String {
    match &error.at {
        Some(at) if !error.message.starts_with(at.as_str()) => format!("{at}: {}", error.message),
        _ => error.message.clone(),
    }
}

fn time(moment: Moment) -> String {
    let timestamp = moment.timestamp();
    timestamp.map_or_else(String::new, |timestamp| timestamp.to_string())
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}
