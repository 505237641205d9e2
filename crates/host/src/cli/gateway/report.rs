//! `postrider gateway report`: what each device does, and whether it may go over to OAuth.

use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use jiff::Timestamp;
use postrider_gateway::Settings;
use postrider_gateway::ledger::{LedgerError, Reader};
use postrider_gateway::report::{
    Account, Counted, DeviceReport, Facts, RehearsalReport, RehearsalState, Report, Said,
};

use super::credential::devices;
use super::{joined, state_dir};
use crate::app::gateway::{ledger_file, readiness, settings as gateway_settings};
use crate::app::{App, AppSettings, Moment};
use crate::cli::host::Host;
use crate::cli::output::Output;
use crate::control::Client;
use crate::control::work::{Listed, ListedCredential};
use crate::failure::Failure;
use crate::when;

/// So many of a list are shown in a line.
const SHOWN: usize = 3;

/// What to report.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider gateway report
  postrider gateway report --gateway office --days 7
  postrider gateway report --device printer-2             all that is known of it
  postrider gateway report --json | jq -r '.devices[] | select(.ready | not) | .device'

READY means that the device's mail goes out with OAuth, or would: it has a password, its account is
signed in, and what it sent would be allowed. What is not ready is listed with the next step. Of
recipients, only their domains are kept.")]
pub(in crate::cli) struct Arguments {
    /// Of this gateway only
    #[arg(long, short, value_name = "NAME")]
    gateway: Option<String>,
    /// Of this device only, in full
    #[arg(long, short, value_name = "NAME")]
    device: Option<String>,
    /// How many days to look at, today included
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
}

pub(super) async fn run(
    arguments: &Arguments,
    settings: &AppSettings,
    alone: bool,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let host = Host::find(settings.clone(), alone).await;
    let listed = host.accounts().await;
    host.close().await;
    let listed = listed?;
    let app = App::open(settings)?;
    let dir = state_dir(settings)?;
    let accounts = readiness(&app, &listed);
    let gateways: Vec<Settings> = app
        .config()
        .gateways
        .values()
        .map(|gateway| gateway_settings(gateway, &dir))
        .collect();
    let days = arguments.days;
    let trouble = trouble(settings, alone).await;
    let report = tokio::task::spawn_blocking(move || {
        let ledger = ledger_file(&dir);
        let reader = Reader::open(&ledger).map_err(|error| unreadable(&ledger, &error))?;
        let facts = Facts {
            now: app.clock().now(),
            days,
            gateways: &gateways,
            credentials: &devices(&app)?,
            account: &|name| accounts.get(name).cloned().unwrap_or(Account::Absent),
            trouble,
        };
        Report::new(reader.as_ref(), &facts).map_err(|error| unreadable(&ledger, &error))
    });
    let interrupted = |_| Err(Failure::new("internal", "the command was interrupted"));
    let mut report = report.await.unwrap_or_else(interrupted)?;
    let is_wanted = |gateway: &str| {
        arguments
            .gateway
            .as_ref()
            .is_none_or(|name| name == gateway)
    };
    report.devices.retain(|device| {
        let named = arguments.device.as_ref();
        is_wanted(&device.gateway) && named.is_none_or(|name| *name == device.device)
    });
    report
        .strangers
        .retain(|strangers| is_wanted(&strangers.gateway));
    report
        .rehearsals
        .retain(|rehearsal| is_wanted(&rehearsal.gateway));

    output.json(&report);
    if !output.is_json() {
        print(&report, &listed, arguments, output);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a daemon that runs says of its ledger.
async fn trouble(settings: &AppSettings, alone: bool) -> Option<String> {
    if alone {
        return None;
    }
    let client = Client::look(settings).await.ok()?;
    let standing = client.status().await.ok()?;
    standing.status.ledger?.trouble
}

fn unreadable(ledger: &Path, error: &LedgerError) -> Failure {
    let failure = Failure::new("file.unreadable", error.to_string());
    match File::open(ledger) {
        Err(problem) if problem.kind() == ErrorKind::PermissionDenied => {
            failure.with_remedy("run it as the user whose daemon writes it, or as root")
        }
        _ => failure,
    }
}

fn print(report: &Report, listed: &[Listed], arguments: &Arguments, output: &Output) {
    let rows: Vec<Vec<String>> = report
        .devices
        .iter()
        .map(|device| row(device, output))
        .collect();
    let none = match (&arguments.device, &arguments.gateway) {
        (Some(device), _) => format!("nothing is known of a device {device}"),
        (None, Some(gateway)) => format!("nothing is known of devices at a gateway {gateway}"),
        (None, None) => "no devices yet: postrider gateway credential add DEVICE".to_owned(),
    };
    output.table(
        &[
            "GATEWAY", "DEVICE", "MESSAGES", "FROM", "TO", "SIGNS IN", "LAST", "READY",
        ],
        &rows,
        &none,
    );
    for device in &report.devices {
        if arguments.device.is_some() {
            in_full(device, output);
        } else if !device.ready {
            unready(device, output);
        }
    }
    let in_use = |listed: &Listed| {
        let mut devices = report.devices.iter();
        devices.any(|device| device.account.as_deref() == Some(&*listed.name))
    };
    for account in listed.iter().filter(|listed| in_use(listed)) {
        if let ListedCredential::Unknown { problem, .. } = &account.credential {
            output.line(format!(
                "\naccount {}: nobody knows how it stands: {}",
                account.name, problem.message
            ));
        }
    }
    if arguments.device.is_none() {
        strangers(report, output);
    }
    for rehearsal in &report.rehearsals {
        rehearsed(rehearsal, output);
    }
    if let Some(trouble) = &report.ledger.trouble {
        output.line(format!(
            "\nThe latest is missing, for the ledger cannot be written: {trouble}"
        ));
    }
    if report.ledger.lost > 0 {
        output.line(format!(
            "\n{} observations are missing: the ledger could not be written",
            report.ledger.lost
        ));
    }
    if !report.ledger.exists && !report.devices.is_empty() {
        output.line("\nNothing was seen yet: postrider serve runs the gateways.");
    }
}

fn row(device: &DeviceReport, output: &Output) -> Vec<String> {
    let auth: Vec<String> = device
        .auth
        .iter()
        .map(|auth| match &auth.tls {
            Some(tls) => format!("{} over {tls}", auth.mechanism),
            None => format!("{} in clear", auth.mechanism),
        })
        .collect();
    vec![
        device.gateway.clone(),
        device.device.clone(),
        messages(device).to_string(),
        some(device.senders.iter().map(|sender| sender.value.clone())),
        some(
            device
                .recipient_domains
                .iter()
                .map(|domain| domain.domain.clone()),
        ),
        some(auth.into_iter()),
        device.last_seen_at.map_or_else(|| "never".to_owned(), ago),
        if device.ready {
            output.good("yes")
        } else {
            output.bad("no")
        },
    ]
}

/// Messages in the days that were asked for.
fn messages(device: &DeviceReport) -> u64 {
    device.senders.iter().map(|sender| sender.count).sum()
}

/// The first of them, and how many more there are.
fn some(values: impl ExactSizeIterator<Item = String>) -> String {
    let count = values.len();
    let mut text = joined(values.take(SHOWN));
    if count > SHOWN {
        let _ = write!(text, " and {} more", count - SHOWN);
    }
    if count == 0 { "-".to_owned() } else { text }
}

fn unready(device: &DeviceReport, output: &Output) {
    let why: Vec<_> = device
        .obstacles
        .iter()
        .map(|obstacle| &*obstacle.text)
        .collect();
    let why = why.join("; ");
    output.line(format!("\n{}/{}: {why}", device.gateway, device.device));
    output.line(format!("  next: {}", device.next));
}

fn in_full(device: &DeviceReport, output: &Output) {
    output.line("");
    let say = |label: &str, text: String| {
        if !text.is_empty() {
            output.line(format!("{label:<10} {text}"));
        }
    };
    say(
        "account",
        match (&device.account, &device.observe_account) {
            (Some(account), Some(observe)) => {
                format!("{account}; for now {observe}, as its gateway observes")
            }
            (Some(account), None) => account.clone(),
            (None, _) => "none: its gateway is not configured".to_owned(),
        },
    );
    let volume = &device.volume;
    say(
        "messages",
        format!(
            "{} today, {} in 7 days, {} in all",
            volume.last_day.messages, volume.last_7_days.messages, volume.all.messages
        ),
    );
    say(
        "first seen",
        device.first_seen_at.map_or_else(|| "never".to_owned(), ago),
    );
    say(
        "accepted",
        device
            .last_accepted_at
            .map_or_else(|| "never".to_owned(), ago),
    );
    counted("from", &device.clients, output);
    counted("sender", &device.senders, output);
    for domain in &device.recipient_domains {
        output.line(format!(
            "{:<10} {} ({} to {})",
            "to",
            domain.domain,
            times(domain.messages, "message"),
            times(domain.recipients, "recipient")
        ));
    }
    said("refused", &device.refusals, output);
    said("would be", &device.would_refuse, output);
    if device.rehearsed > 0 {
        output.line(format!(
            "{:<10} {}",
            "rehearsed",
            times(device.rehearsed, "refusal")
        ));
    }
    for obstacle in &device.obstacles {
        output.line(format!("{:<10} {}", "not ready", obstacle.text));
    }
    output.line(format!("{:<10} {}", "next", device.next));
}

fn counted(label: &str, all: &[Counted], output: &Output) {
    for one in all {
        output.line(format!(
            "{label:<10} {} ({}, last {})",
            one.value,
            one.count,
            ago(one.last_at)
        ));
    }
}

fn said(label: &str, all: &[Said], output: &Output) {
    for one in all {
        let times = times(one.count, "time");
        let last = ago(one.last_at);
        output.line(format!(
            "{label:<10} {} {} ({times}, last {last})",
            one.reply, one.text
        ));
    }
}

/// Who was there without a device's name.
fn strangers(report: &Report, output: &Output) {
    for strangers in &report.strangers {
        let mut what = Vec::new();
        if strangers.sign_in_failed > 0 {
            what.push(
                times(strangers.sign_in_failed, "sign-in") + " under names that no device has",
            );
        }
        if strangers.turned_away > 0 {
            what.push(times(strangers.turned_away, "connection") + " turned away");
        }
        if what.is_empty() {
            continue;
        }
        let from = some(strangers.clients.iter().map(|client| client.value.clone()));
        output.line(format!(
            "\n{}: {}, from {from}",
            strangers.gateway,
            what.join(", ")
        ));
        for one in strangers.refusals.iter().take(SHOWN) {
            output.line(format!(
                "  {} {} ({})",
                one.reply,
                one.text,
                times(one.count, "time")
            ));
        }
    }
}

fn rehearsed(rehearsal: &RehearsalReport, output: &Output) {
    let gateway = &rehearsal.gateway;
    let at = |moment: Option<Timestamp>| moment.map_or_else(String::new, |at| format!(" {at}"));
    output.line(format!(
        "\nrehearsal at {gateway}: {}",
        match rehearsal.state {
            RehearsalState::Coming => format!("begins{}", at(rehearsal.from)),
            RehearsalState::Running => format!("goes on since{}", at(rehearsal.from)),
            RehearsalState::Over => format!("is over since{}", at(rehearsal.until)),
            RehearsalState::Gone => "is not configured any more".to_owned(),
        }
    ));
    for one in &rehearsal.refused {
        let came = match &one.came_back_as {
            Some(other) => format!("its mail came as {other} then"),
            None => output.bad("its mail did not come another way"),
        };
        output.line(format!(
            "  {} was refused {}: {came}",
            one.device,
            times(one.times, "time")
        ));
    }
    if !rehearsal.not_seen.is_empty() {
        output.line(format!("  did not try: {}", rehearsal.not_seen.join(", ")));
    }
}

fn times(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn ago(at: Timestamp) -> String {
    when::relative(Moment(at.into()), SystemTime::now())
}
