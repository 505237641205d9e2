//! Gateways, as `postrider status` shows them.

use std::iter;
use std::time::SystemTime;

use super::number;
use crate::app::is_near;
use crate::cli::output::Output;
use crate::control::{GatewayStatus, LedgerStatus};
use crate::when;

/// So many devices that fail are named.
const NAMED: usize = 5;

/// Where each listens, what it took, and what a person has to look at.
pub(super) fn show(gateways: &[GatewayStatus], now: SystemTime, output: &Output) {
    for gateway in gateways {
        let labels = iter::once("gateway").chain(iter::repeat(""));
        for (label, line) in labels.zip(lines(gateway, now, output)) {
            output.line(format!("{label:<12} {line}"));
        }
    }
}

/// The ledger, where something is wrong with it.
pub(super) fn show_ledger(ledger: Option<&LedgerStatus>, output: &Output) {
    let Some(ledger) = ledger else { return };
    if let Some(trouble) = &ledger.trouble {
        let bad = output.bad("cannot be written");
        output.line(format!("ledger       {bad}: {trouble}; mail goes on"));
    }
    if ledger.lost > 0 {
        let lost = output.bad(&number_of(ledger.lost, "observation"));
        output.line(format!("ledger       {lost} lost since the daemon started"));
    }
}

fn lines(gateway: &GatewayStatus, now: SystemTime, output: &Output) -> Vec<String> {
    let listen: Vec<String> = gateway.listen.iter().map(ToString::to_string).collect();
    let observes = match &*gateway.mode {
        "observe" => ", observes",
        _ => "",
    };
    let rehearses = if gateway.rehearses { ", rehearses" } else { "" };
    let in_rehearsal = match gateway.rehearsed {
        0 => String::new(),
        count => format!(", {count} rehearsed"),
    };
    let mut lines = vec![format!(
        "{}: {} ({}{observes}{rehearses}), {}, {} taken, {} refused{in_rehearsal}",
        gateway.name,
        listen.join(", "),
        in_words(&gateway.tls),
        number_of(gateway.connections, "connection"),
        number_of(gateway.messages, "message"),
        gateway.refused,
    )];
    if let Some(ends) = gateway.certificate_expires_at {
        let when = when::relative(ends, now);
        let made = if gateway.certificate_is_self_made {
            "self-made certificate"
        } else {
            "certificate"
        };
        let ends = match ends.0 {
            end if end <= now => output.bad("ended"),
            end if is_near(end, now) => output.bad("ends"),
            _ => "ends".to_owned(),
        };
        lines.push(format!("its {made} {ends} {when}"));
    }
    if let Some(problem) = &gateway.certificate_problem {
        let bad = output.bad("cannot be used");
        lines.push(format!("its new certificate {bad}: {problem}"));
    }
    for device in gateway.failing.iter().take(NAMED) {
        let who = match &device.device {
            Some(name) => format!("{name} ({})", device.client),
            None => device.client.to_string(),
        };
        let times = match device.count {
            1 => String::new(),
            count => format!(" {count} times"),
        };
        lines.push(format!(
            "{who}: {}{times}, last {}: {}",
            output.bad("failed"),
            when::relative(device.at, now),
            device.why
        ));
    }
    if let Some(more) = gateway
        .failing
        .len()
        .checked_sub(NAMED)
        .filter(|more| *more > 0)
    {
        lines.push(format!("and {} that failed", number(more, "more device")));
    }
    for account in &gateway.waiting {
        let why = account.message.as_deref().unwrap_or("it needs a person");
        let bad = output.bad("mail is taken and waits");
        lines.push(format!("{bad} for {}: {why}", account.name));
        if let Some(remedy) = &account.remedy {
            lines.push(format!("  try: {remedy}"));
        }
    }
    lines
}

fn in_words(tls: &str) -> &str {
    match tls {
        "starttls" => "STARTTLS",
        "offered" => "STARTTLS offered",
        "implicit" => "TLS from the start",
        "danger_plaintext" => "no TLS",
        other => other,
    }
}

fn number_of(count: u64, what: &str) -> String {
    number(usize::try_from(count).unwrap_or(usize::MAX), what)
}
