//! `postrider status` and `postrider reload`: the daemon, as somebody at a terminal sees it.

mod gateways;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use postrider_spool::StateKind;
use serde_json::json;

use super::output::Output;
use crate::app::queue::report::{Account, Stats};
use crate::app::{App, AppSettings, Moment, RenewalStanding};
use crate::control::{
    Client, LastReload, QueueStanding, Standing, Status, Trouble, UNREACHABLE, socket_path,
};
use crate::failure::{Failure, exit};
use crate::state;
use crate::when;

/// Nothing more to say.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider status
  postrider status --json | jq .last_reload

Exit status: 0 a daemon runs with these settings, 69 none does.")]
pub(super) struct StatusArguments {}

/// Nothing more to say.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  postrider reload && postrider status

The same as SIGHUP, but it waits, and says what is wrong: what was in force before then stays so.
Exit status: 0 all is loaded anew, 65 or 78 something is wrong with a script or the configuration, 69
no daemon runs with these settings.")]
pub(super) struct ReloadArguments {}

pub(super) async fn status(
    _: StatusArguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let standing = match Client::look(settings).await {
        Ok(client) => client.status().await.map_err(|trouble| match trouble {
            Trouble::NotDone(why) => Some(why),
            Trouble::Failed(failure) => Some(failure.message),
        }),
        Err(why) => Err(why),
    };
    match standing {
        Ok(standing) => {
            output.json(&standing);
            show(&standing, output);
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            without(why.as_deref(), settings, output).await?;
            Ok(ExitCode::from(exit::UNAVAILABLE))
        }
    }
}

pub(super) async fn reload(
    _: ReloadArguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let client = Client::look(settings).await.map_err(|why| match why {
        Some(why) => unreachable(&why),
        None => {
            Failure::new("network.no_daemon", NO_DAEMON).with_remedy("start one: postrider serve")
        }
    })?;
    let reloaded = client.reload().await.map_err(|trouble| match trouble {
        Trouble::NotDone(why) => unreachable(&why),
        Trouble::Failed(failure) => *failure,
    })?;
    output.json(&reloaded);
    output.line(format!(
        "{} generation {} is in force: {}, loaded in {:.1} s",
        output.good("ok"),
        reloaded.generation,
        number(reloaded.scripts, "script"),
        reloaded.took,
    ));
    for key in &reloaded.restart_needed {
        output.note(&format!(
            "note: {key} has changed and takes a restart of the daemon"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

const NO_DAEMON: &str = "no daemon runs with these settings";

/// Something is there, and does not do what is asked.
fn unreachable(why: &str) -> Failure {
    Failure::new(
        "network.no_daemon",
        format!("the daemon cannot be asked: {why}"),
    )
    .with_remedy(UNREACHABLE)
}

fn show(standing: &Standing, output: &Output) {
    let Standing {
        status,
        tokens,
        next_runs,
        queue,
        renewals,
    } = standing;
    let now = SystemTime::now();
    let lived = now.duration_since(status.started_at.0).unwrap_or_default();
    output.line(format!(
        "daemon       {}, pid {}, Postrider {}, for {}",
        output.good(&status.state),
        status.pid,
        status.version,
        when::span(lived),
    ));
    output.line(format!(
        "generation   {}, loaded {}",
        status.generation,
        when::relative(status.loaded_at, now),
    ));
    if let Some(config) = &status.config {
        output.line(format!("settings     {config}"));
    }
    output.line(format!("state        {}", status.state_dir));
    if let Some(last) = &status.last_reload {
        show_reload(last, now, output);
    }
    for key in &status.restart_needed {
        output.line(format!("restart      needed: {key} has changed"));
    }
    output.line(format!("accounts     {}", accounts(status, tokens)));
    show_queue(queue, now, output);
    gateways::show(&status.gateways, now, output);
    gateways::show_ledger(status.ledger.as_ref(), output);
    for renewal in renewals {
        show_renewal(renewal, now, output);
    }
    output.line(format!("schedules    {}", schedules(status)));
    for (run, label) in next_runs.iter().zip(["next", "", "", "", ""]) {
        output.line(format!(
            "{label:<12} {} {}",
            run.schedule,
            when::relative(run.at, now)
        ));
    }
    output.line("");
    show_scripts(status, output);
    for account in status.accounts.iter().filter(|one| one.message.is_some()) {
        let why = account.message.as_deref().unwrap_or_default();
        let state = account.state.replace('_', " ");
        output.line(format!("\n{}: {}: {why}", account.name, output.bad(&state)));
        if let Some(remedy) = &account.remedy {
            output.line(format!("  try: {remedy}"));
        }
    }
}

/// Whether mail flows, what waits, and what a person has to look at.
fn show_queue(queue: &QueueStanding, now: SystemTime, output: &Output) {
    if let Some(problem) = &queue.problem {
        let bad = output.bad("cannot be read");
        output.line(format!("mail         the queue {bad}: {}", problem.message));
        return;
    }
    let accounts = &queue.stats.accounts;
    let sum = |count: fn(&Account) -> u64| accounts.values().map(count).sum::<u64>();
    let mut parts = Vec::new();
    match sum(Account::waiting) {
        0 => parts.push("nothing waits".to_owned()),
        waiting => {
            let oldest = accounts.values().filter_map(|account| account.oldest).min();
            let since = oldest.map_or_else(String::new, |at| when::relative(at, now));
            parts.push(format!("{waiting} wait, the oldest queued {since}"));
        }
    }
    let held = sum(|account| account.count(StateKind::Held));
    let unknown = sum(|account| account.count(StateKind::Unknown));
    let failed = sum(|account| account.count(StateKind::Failed));
    for (count, what) in [(held, "held"), (unknown, "unknown"), (failed, "failed")] {
        if count > 0 {
            parts.push(output.bad(&format!("{count} {what}")));
        }
    }
    let last = accounts
        .values()
        .filter_map(|account| account.last_delivered)
        .max();
    if let Some(last) = last {
        parts.push(format!("last delivered {}", when::relative(last, now)));
    }
    output.line(format!("mail         {}", parts.join(", ")));
    for (name, account) in accounts {
        if let (Some(until), Some(why)) = (account.paused_until, &account.paused_why) {
            let waiting = account.waiting();
            let until = when::relative(until, now);
            let paused = output.bad("paused");
            output.line(format!(
                "             {name}: {paused}, {waiting} wait, tried again {until}: {why}"
            ));
        }
    }
    if held + unknown > 0 {
        output.line("             `postrider queue list` shows them");
    }
    if failed > 0 {
        output.line("             `postrider queue list --state failed` shows what failed");
    }
}

/// A secret between two, or one that should be renewed and is not.
fn show_renewal(renewal: &RenewalStanding, now: SystemTime, output: &Output) {
    let (account, secret) = (&renewal.account, renewal.setting.as_deref());
    let secret = secret.unwrap_or("secret");
    let at = |moment: Option<Moment>| moment.map_or_else(String::new, |at| when::relative(at, now));
    let stands = match &*renewal.state {
        "switched" => format!(
            "a new {secret} is in use, the old one may be removed {}",
            at(renewal.remove_after)
        ),
        "reverting" => format!("the new {secret} is being given up"),
        "begun" => format!(
            "a new {secret} was begun {} and is not in use yet",
            at(renewal.began)
        ),
        _ => format!("its {secret} is not renewed"),
    };
    output.line(format!("renewal      {account}: {stands}"));
    if let Some(failure) = &renewal.failure {
        let bad = output.bad("failed");
        let since = at(renewal.failed_at);
        let since = if since.is_empty() {
            since
        } else {
            format!(" {since}")
        };
        output.line(format!("             {bad}{since}: {}", failure.message));
        if let Some(remedy) = &failure.remedy {
            output.line(format!("             try: {remedy}"));
        }
    }
}

fn show_reload(last: &LastReload, now: SystemTime, output: &Output) {
    let when = when::relative(last.at, now);
    if last.ok {
        output.line(format!("last reload  {when}: {}", last.message));
        return;
    }
    let mut lines = last.message.lines();
    let first = lines.next().unwrap_or_default();
    output.line(format!(
        "last reload  {} {when}: {first}",
        output.bad("failed")
    ));
    for line in lines {
        output.line(format!("             {line}"));
    }
    if let Some(remedy) = &last.remedy {
        output.line(format!(
            "             try: {remedy}; then: postrider reload"
        ));
    }
}

fn show_scripts(status: &Status, output: &Output) {
    let rows: Vec<Vec<String>> = status
        .scripts
        .iter()
        .map(|script| {
            vec![
                script.name.clone(),
                format!("{:.1} s", script.cpu),
                octets(script.memory),
                script.calls.to_string(),
                script.errors.to_string(),
            ]
        })
        .collect();
    output.table(
        &["SCRIPT", "CPU", "MEMORY", "CALLS", "ERRORS"],
        &rows,
        "no scripts: name them under [scripts] in postrider.toml",
    );
}

/// `12: 10 fresh, 2 sign in`
fn accounts(status: &Status, tokens: &BTreeMap<String, usize>) -> String {
    let total = status.accounts.len();
    let in_each: Vec<String> = tokens
        .iter()
        .map(|(state, count)| format!("{count} {}", in_words(state)))
        .collect();
    if in_each.is_empty() {
        total.to_string()
    } else {
        format!("{total}: {}", in_each.join(", "))
    }
}

/// As `postrider account list` puts it.
fn in_words(state: &str) -> &str {
    match state {
        "sign_in_needed" => "sign in",
        "absent" => "no token yet",
        "none" => "password",
        state => state,
    }
}

fn schedules(status: &Status) -> String {
    let counts = status.schedules;
    let mut text = counts.total.to_string();
    let more: Vec<String> = [(counts.running, "running"), (counts.paused, "paused")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !more.is_empty() {
        text = format!("{text}: {}", more.join(", "));
    }
    text
}

/// What the state directory tells where no daemon runs; or why the one there cannot be asked.
async fn without(
    why: Option<&str>,
    settings: &AppSettings,
    output: &Output,
) -> Result<(), Failure> {
    let directory = state::directory(settings.state_dir.as_deref())?;
    let socket = socket_path(settings)?;
    let (queue, renewals) = left_behind(settings).await;
    output.json(&json!({
        "state": if why.is_some() { "unreachable" } else { "absent" },
        "reason": why.unwrap_or(NO_DAEMON),
        "socket": socket,
        "state_dir": directory,
        "queue": queue,
        "renewals": renewals,
    }));
    match why {
        None => output.line(format!(
            "daemon       {}: {NO_DAEMON}",
            output.bad("absent")
        )),
        Some(why) => {
            let bad = output.bad("cannot be asked");
            output.line(format!("daemon       {bad}: {why}"));
            output.line(format!("             try: {UNREACHABLE}"));
        }
    }
    output.line(format!("socket       {}", socket.display()));
    output.line(format!("state        {}", directory.display()));
    let now = SystemTime::now();
    if let Some(queue) = &queue {
        show_queue(queue, now, output);
    }
    for renewal in &renewals {
        show_renewal(renewal, now, output);
    }
    Ok(())
}

/// What waits for a daemon: mail, if there is a queue, and renewals that are under way.
async fn left_behind(settings: &AppSettings) -> (Option<QueueStanding>, Vec<RenewalStanding>) {
    let Ok(app) = App::open(settings) else {
        return (None, Vec::new());
    };
    let renewals = app.renewals().await;
    if !app.has_queue() {
        return (None, renewals);
    }
    let queue = match app.queue_stats().await {
        Ok(stats) => QueueStanding {
            stats,
            problem: None,
        },
        Err(failure) => QueueStanding {
            stats: Stats::default(),
            problem: Some(Box::new(failure)),
        },
    };
    (Some(queue), renewals)
}

fn number(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// `1.4 MiB`
fn octets(count: u64) -> String {
    let tenths = |unit: u64| count * 10 / unit;
    let (value, unit) = match count {
        0..1024 => return format!("{count} B"),
        1024..1_048_576 => (tenths(1024), "KiB"),
        _ => (tenths(1_048_576), "MiB"),
    };
    format!("{}.{} {unit}", value / 10, value % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_read_at_a_glance() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1_048_576, "1.0 MiB"),
            (268_435_456, "256.0 MiB"),
        ] {
            assert_eq!(octets(count), text);
        }
    }
}
