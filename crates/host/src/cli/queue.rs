//! `postrider queue list|show|retry|hold|release|remove|flush|stats|export`.
//!
//! The queue is a directory that processes share, so these work on it themselves; a daemon sees
//! what they change.

mod list;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use postrider_delivery::Flush;
use postrider_spool::{Filter, QueueId, Select, StateKind, Store};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::duration;
use super::output::Output;
use crate::app::queue::{failure, report};
use crate::app::{App, Moment};
use crate::failure::{Failure, exit};
use crate::when;

/// What waits, for its turn or for a person.
const UNDONE: [StateKind; 5] = [
    StateKind::Queued,
    StateKind::Sending,
    StateKind::Deferred,
    StateKind::Held,
    StateKind::Unknown,
];

/// Messages that a list shows where nobody says how many.
const PAGE: usize = 100;

/// What to do with queued mail.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what is not done, the oldest first
    #[command(after_help = "\
Examples:
  postrider queue list
  postrider queue list --all
  postrider queue list --state unknown
  postrider queue list --account alerts --older-than 1h --json | jq -r '.[].id'")]
    List {
        #[command(flatten)]
        filter: FilterArguments,
        /// How many, at most
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = PAGE)]
        limit: usize,
        /// Also what was delivered, or failed
        #[arg(long, conflicts_with = "state")]
        all: bool,
    },
    /// Show one message: each recipient, and what the server said
    #[command(after_help = "\
Example:
  postrider queue show Q00F3K")]
    Show {
        /// The message, as `list` calls it
        id: QueueId,
    },
    /// Try again now what was put off, held, or failed, or what nobody knows of
    #[command(after_help = "\
Examples:
  postrider queue retry Q00F3K
  postrider queue retry --account alerts --state deferred

What is `unknown` may have arrived: retrying it may deliver it twice. With --state, a message's
recipients in other states are left as they are.")]
    Retry(Chosen),
    /// Keep messages from being sent
    #[command(after_help = "\
Example:
  postrider queue hold --recipient @example.org --why 'their server is being moved'")]
    Hold {
        #[command(flatten)]
        chosen: Chosen,
        /// Why, for whoever finds them
        #[arg(long, default_value = "held by hand")]
        why: String,
    },
    /// Let held messages go
    #[command(after_help = "\
Example:
  postrider queue release --recipient @example.org")]
    Release(Chosen),
    /// Forget messages; nobody is told
    #[command(after_help = "\
Examples:
  postrider queue remove Q00F3K
  postrider queue remove --account old --all")]
    Remove(Chosen),
    /// Deliver what is due now, without a daemon or beside it, and wait for it
    #[command(after_help = "\
Examples:
  postrider queue flush
  postrider queue flush --account alerts --now

Waits for turns within an account's messages_per_minute, not for what is due later.
Exit status: 0 nothing is left that could go now, 69 something failed, 75 something was put off or
waits, 76 nobody knows what became of something.")]
    Flush {
        /// Mail of this account only
        #[arg(long, short, value_name = "NAME")]
        account: Option<String>,
        /// Also what was put off, and accounts that pause
        #[arg(long)]
        now: bool,
    },
    /// Count what is where, and say what holds an account back
    #[command(after_help = "\
Example:
  postrider queue stats --json")]
    Stats,
    /// Write a message as it will be sent, or was
    #[command(after_help = "\
Examples:
  postrider queue export Q00F3K > message.eml
  postrider queue export Q00F3K --output message.eml")]
    Export {
        /// The message, as `list` calls it
        id: QueueId,
        /// The file [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which messages.
#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    /// Of this account
    #[arg(long, short, value_name = "NAME")]
    account: Option<String>,
    /// With a recipient in this state: queued, sending, deferred, held, delivered, failed, unknown
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<StateKind>,
    /// With a recipient whose address has this in it
    #[arg(long, value_name = "TEXT")]
    recipient: Option<String>,
    /// Queued longer ago than this, such as 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Queued under this idempotency key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// With this Message-ID
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
}

/// Messages by name, or all that match.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// The messages, as `list` calls them
    ids: Vec<QueueId>,
    #[command(flatten)]
    filter: FilterArguments,
    /// All there are
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(command: Command, app: App, output: &Output) -> Result<ExitCode, Failure> {
    let store = &*app.queue().await?.store;
    let now = app.clock().now();
    match command {
        Command::List { filter, limit, all } => {
            let states = match filter.state {
                None if !all => UNDONE.map(Some).to_vec(),
                state => vec![state],
            };
            list::run(store, &filter.filter(now), &states, limit, now, output).await
        }
        Command::Show { id } => show(store, id, now, output).await,
        Command::Retry(chosen) => {
            let changed = store.retry(chosen.select(now)?, now).await;
            changed_of(changed, "is tried again", "are tried again", output)
        }
        Command::Hold { chosen, why } => {
            let changed = store.hold(chosen.select(now)?, &why, now).await;
            changed_of(changed, "is held", "are held", output)
        }
        Command::Release(chosen) => {
            let changed = store.release(chosen.select(now)?, now).await;
            changed_of(changed, "is released", "are released", output)
        }
        Command::Remove(chosen) => {
            let changed = store.remove(chosen.select(now)?).await;
            changed_of(changed, "is removed", "are removed", output)
        }
        Command::Flush { account, now } => {
            let flushed = flush(&app, Flush { account, now }, output).await;
            app.close().await;
            flushed
        }
        Command::Stats => stats(&app, output).await,
        Command::Export { id, output: file } => export(store, id, file).await,
    }
}

async fn show(
    store: &dyn Store,
    id: QueueId,
    now: Timestamp,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let shown = store.show(id).await.map_err(|error| failure(&error))?;
    let mut shown = report::Shown::from(shown.ok_or_else(|| missing(id))?);
    list::say_pauses(store, [&mut shown.listed], now).await?;
    output.json(&shown);
    let message = &shown.listed;
    let time = |moment: Moment| {
        let timestamp = moment.timestamp();
        timestamp.map_or_else(String::new, |timestamp| timestamp.to_string())
    };
    let lines = [
        ("message", Some(message.id.clone())),
        ("Message-ID", Some(message.message_id.clone())),
        ("account", Some(message.account.clone())),
        (
            "from",
            Some(message.from.clone().unwrap_or_else(|| "<>".to_owned())),
        ),
        (
            "queued",
            Some(format!("{} by {}", time(message.queued_at), message.origin)),
        ),
        ("priority", Some(message.priority.to_owned())),
        ("octets", Some(message.octets.to_string())),
        ("not before", shown.send_at.map(time)),
        ("expires", message.expires_at.map(time)),
        ("key", shown.idempotency_key.clone()),
        (
            "waits",
            (message.paused_until.zip(message.paused_why.as_ref()))
                .map(|(until, why)| format!("until {}, with its account: {why}", time(until))),
        ),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            output.line(format!("{name:<11} {value}"));
        }
    }
    output.line("");
    let rows: Vec<Vec<String>> = (shown.recipients.iter())
        .map(|recipient| {
            vec![
                recipient.address.clone(),
                recipient.state.to_owned(),
                recipient.attempts.to_string(),
                recipient.next.map_or_else(String::new, time),
                recipient.why.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let head = ["RECIPIENT", "STATE", "TRIED", "NEXT", "WHY"];
    output.table(&head, &rows, "it has no recipients");
    Ok(ExitCode::SUCCESS)
}

async fn flush(app: &App, flush: Flush, output: &Output) -> Result<ExitCode, Failure> {
    if let Some(name) = &flush.account {
        app.settings_of(name)?;
    }
    let only = flush.account.clone();
    let flushed = app.delivery().await?.flush(flush).await;
    let flushed = flushed.map_err(|error| failure(&error))?;
    let mut all_waiting = later(app, only.as_deref()).await?;
    all_waiting.extend(flushed.waiting.clone());
    let counts = [
        ("delivered", flushed.delivered),
        ("failed", flushed.failed),
        ("deferred", flushed.deferred),
        ("held", flushed.held),
        ("unknown", flushed.unknown),
    ];
    let waiting: serde_json::Map<String, Value> = (all_waiting.iter())
        .map(|(account, (until, why))| {
            let waits = json!({ "until": until.to_string(), "why": why });
            (account.clone(), waits)
        })
        .collect();
    let mut report = json!({ "waiting": waiting });
    for (name, count) in counts {
        report[name] = count.into();
    }
    output.json(&report);
    let said: Vec<String> = (counts.iter())
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if said.is_empty() && flushed.waiting.is_empty() {
        output.line("nothing was due");
    } else if !said.is_empty() {
        output.line(format!("recipients: {}", said.join(", ")));
    }
    for (account, (until, why)) in &all_waiting {
        output.note(&format!("{account} waits until {until}: {why}"));
    }
    Ok(ExitCode::from(if flushed.unknown > 0 {
        exit::PROTOCOL
    } else if flushed.failed > 0 {
        exit::UNAVAILABLE
    } else if flushed.deferred + flushed.held > 0 || !flushed.waiting.is_empty() {
        exit::TEMPFAIL
    } else {
        0
    }))
}

/// The accounts whose mail is not due yet because it was tried: until when, and why.
async fn later(
    app: &App,
    only: Option<&str>,
) -> Result<BTreeMap<String, (Timestamp, String)>, Failure> {
    let store = &*app.queue().await?.store;
    let now = app.clock().now();
    let mut later = BTreeMap::new();
    let dues = store.next_due(now).await.map_err(|error| failure(&error))?;
    for due in dues {
        if due.at <= now || only.is_some_and(|only| only != due.account) {
            continue;
        }
        let deferred = Filter {
            account: Some(due.account.clone()),
            state: Some(StateKind::Deferred),
            ..Filter::default()
        };
        let tried = list::first(store, deferred, 1).await?;
        if let Some(why) = tried.into_iter().find_map(|message| message.why) {
            later.insert(due.account, (due.at, why));
        }
    }
    Ok(later)
}

async fn stats(app: &App, output: &Output) -> Result<ExitCode, Failure> {
    let stats = app.queue_stats().await?;
    output.json(&stats);
    let now = SystemTime::now();
    let rows: Vec<Vec<String>> = (stats.accounts.iter())
        .map(|(name, account)| {
            let count = |state| account.count(state).to_string();
            let paused = match (&account.paused_why, account.paused_until) {
                (Some(why), Some(until)) => {
                    format!("tried again {}: {why}", when::relative(until, now))
                }
                _ => String::new(),
            };
            vec![
                name.clone(),
                count(StateKind::Queued),
                count(StateKind::Sending),
                count(StateKind::Deferred),
                count(StateKind::Held),
                count(StateKind::Unknown),
                count(StateKind::Failed),
                count(StateKind::Delivered),
                account
                    .oldest
                    .map_or_else(String::new, |at| when::relative(at, now)),
                paused,
            ]
        })
        .collect();
    let head = [
        "ACCOUNT",
        "QUEUED",
        "SENDING",
        "DEFERRED",
        "HELD",
        "UNKNOWN",
        "FAILED",
        "DELIVERED",
        "OLDEST",
        "PAUSED",
    ];
    output.table(&head, &rows, "nothing is queued");
    output.line(output.faint(&format!(
        "{} messages, {} octets on disk",
        stats.messages, stats.on_disk
    )));
    Ok(ExitCode::SUCCESS)
}

async fn export(
    store: &dyn Store,
    id: QueueId,
    file: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    match file {
        None => {
            let cannot = |problem: io::Error| {
                Failure::new("file.unwritable", format!("standard output: {problem}"))
            };
            let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?;
            let mut stdout = tokio::fs::File::from_std(stdout.into());
            let exported = store.export(id, &mut stdout).await;
            exported.map_err(|error| failure(&error))?;
            stdout.flush().await.map_err(cannot)?;
        }
        Some(path) => {
            let cannot = |problem: io::Error| {
                let message = format!("{}: {problem}", path.display());
                Failure::new("file.unwritable", message)
            };
            let mut options = tokio::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(&path).await.map_err(cannot)?;
            let exported = store.export(id, &mut file).await;
            exported.map_err(|error| failure(&error))?;
            file.sync_all().await.map_err(cannot)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how many were changed; none is what an operator wants to hear of.
fn changed_of(
    changed: Result<u64, postrider_spool::SpoolError>,
    one: &str,
    many: &str,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let count = changed.map_err(|error| failure(&error))?;
    output.json(&json!({ "messages": count }));
    match count {
        0 => output.note("no message is changed: none matches, or none is in a state for it"),
        1 => output.line(format!("1 message {one}")),
        count => output.line(format!("{count} messages {many}")),
    }
    Ok(match count {
        0 => ExitCode::from(exit::NOINPUT),
        _ => ExitCode::SUCCESS,
    })
}

fn missing(id: QueueId) -> Failure {
    Failure::new("queue.not_found", format!("there is no message {id} in the queue"))
        .with_remedy("`postrider queue list` shows what there is; those that are done are kept for queue.retention")
}

impl FilterArguments {
    fn is_empty(&self) -> bool {
        self.account.is_none()
            && self.state.is_none()
            && self.recipient.is_none()
            && self.older_than.is_none()
            && self.key.is_none()
            && self.message_id.is_none()
    }

    fn filter(self, now: Timestamp) -> Filter {
        Filter {
            account: self.account,
            state: self.state,
            recipient: self.recipient,
            older_than: self
                .older_than
                .map(|age| now.saturating_sub(age).unwrap_or(now)),
            key: self.key,
            message_id: self.message_id,
            after: None,
            limit: None,
        }
    }
}

impl Chosen {
    /// Nobody changes the whole queue by leaving something out.
    fn select(self, now: Timestamp) -> Result<Select, Failure> {
        let usage = |message| Err(Failure::new("usage.queue", message));
        match (self.ids.is_empty(), self.filter.is_empty(), self.all) {
            (false, true, false) => Ok(Select::Ids(self.ids)),
            (false, ..) => usage("name messages or describe them, not both"),
            (true, true, false) => {
                usage("say which messages: by name, by --account and others, or --all")
            }
            (true, ..) => Ok(Select::Matching(self.filter.filter(now))),
        }
    }
}

fn state(name: &str) -> Result<StateKind, String> {
    StateKind::of(name).ok_or_else(|| {
        let names: Vec<_> = StateKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("one of: {}", names.join(", "))
    })
}
