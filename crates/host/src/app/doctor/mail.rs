//! Where a gateway's mail waits: the state directory's disk, and what a person has to look at in the
//! queue.

use std::path::Path;
use std::time::Duration;

use postrider_config::Gateway;
use postrider_spool::{SpoolSettings, StateKind};

use super::gateway::accounts_behind;
use super::report::{DoctorStage, Finding, YOU};
use crate::app::App;
use crate::app::queue::DIRECTORY;
use crate::app::queue::report::Account;
use crate::state;

/// The state directory's stage.
pub(super) const STATE: &str = "state";

/// Whether the state directory is private, and has room for new mail.
pub(super) fn state_stage(directory: &Path) -> DoctorStage {
    if let Err(failure) = state::check(directory) {
        return DoctorStage::failed(STATE, Duration::ZERO, "", failure);
    }
    let queue = directory.join(DIRECTORY);
    let found = rustix::fs::statvfs(&queue).or_else(|_| rustix::fs::statvfs(directory));
    let shown = directory.display();
    match found {
        Ok(found) => room_stage(
            &shown.to_string(),
            found.f_bavail.saturating_mul(found.f_frsize),
        ),
        Err(_) => DoctorStage::skipped(STATE, format!("{shown} is not made yet")),
    }
}

/// `free`: octets that new mail may still take, the queue's reserve among them.
fn room_stage(directory: &str, free: u64) -> DoctorStage {
    const MEBI: u64 = 1024 * 1024;
    let reserve = SpoolSettings::default().reserve;
    let evidence = format!("{directory}, {} MiB free", free / MEBI);
    if free >= reserve {
        return DoctorStage::ok(STATE, Duration::ZERO, evidence);
    }
    let finding = Finding::new(
        "queue.full",
        format!(
            "the disk of {directory} is full but for the queue's reserve of {} MiB: devices hear \
             452, and no new mail is taken",
            reserve / MEBI
        ),
        format!("make room there: df -h {directory}; mail is taken again at once"),
        YOU,
    );
    DoctorStage::failed(STATE, Duration::ZERO, evidence, finding)
}

/// Mail of the accounts behind a gateway that does not go on by itself.
pub(super) async fn queue_stages(app: &App, gateway: &Gateway) -> Vec<DoctorStage> {
    const NAME: &str = "queue";
    if !app.has_queue() {
        return vec![DoctorStage::skipped(NAME, "nothing was queued yet")];
    }
    let stats = match app.queue_stats().await {
        Ok(stats) => stats,
        Err(failure) => return vec![DoctorStage::failed(NAME, Duration::ZERO, "", failure)],
    };
    let mut stages = Vec::new();
    let mut waiting = 0;
    for name in accounts_behind(gateway) {
        let Some(account) = stats.accounts.get(name) else {
            continue;
        };
        waiting += account.waiting();
        for finding in troubles(name, account) {
            let evidence = format!("{name}: {} wait", account.waiting());
            stages.push(DoctorStage::warning(
                NAME,
                Duration::ZERO,
                evidence,
                finding,
            ));
        }
    }
    if stages.is_empty() {
        let evidence = match waiting {
            0 => "nothing waits".to_owned(),
            waiting => format!("{waiting} wait"),
        };
        stages.push(DoctorStage::ok(NAME, Duration::ZERO, evidence));
    }
    stages
}

fn troubles(name: &str, account: &Account) -> Vec<Finding> {
    let list = |state: &str| format!("postrider queue list --account {name} --state {state}");
    let mut found = Vec::new();
    if let Some(why) = &account.paused_why {
        let cause = format!("mail of {name} is taken and waits: {why}");
        let remedy = format!("postrider doctor {name}; postrider queue stats says until when");
        found.push(Finding::new("queue.paused", cause, remedy, YOU).passing());
    }
    for (state, what, then) in [
        (
            StateKind::Failed,
            "failed and is not tried again",
            "postrider queue retry ID tries one again",
        ),
        (
            StateKind::Unknown,
            "may have been sent or not",
            "postrider queue retry ID sends one again, remove ID forgets it",
        ),
        (
            StateKind::Held,
            "is held",
            "postrider queue release ID lets one go on",
        ),
    ] {
        let count = account.count(state);
        if count > 0 {
            let recipients = if count == 1 {
                "recipient"
            } else {
                "recipients"
            };
            found.push(Finding::new(
                &format!("queue.{}", state.name()),
                format!("mail of {name} to {count} {recipients} {what}"),
                format!("{} says why; {then}", list(state.name())),
                YOU,
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::report::StageResult;
    use super::*;

    #[test]
    fn a_disk_that_is_full_but_for_the_reserve_is_the_cause() {
        let reserve = SpoolSettings::default().reserve;
        let stage = room_stage("/var/lib/postrider", reserve);
        assert_eq!(stage.result, StageResult::Ok);
        let stage = room_stage("/var/lib/postrider", reserve - 1);
        assert_eq!(stage.result, StageResult::Failed);
        assert_eq!(stage.failure.unwrap().code, "queue.full");
    }
}
