//! Certificates of gateways: read again when their files change, and told of before they end.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use postrider_auth::days_left;
use postrider_gateway::CertificateFacts;
use postrider_vault::Kind;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::Gateways;
use crate::app::{App, vault};
use crate::failure::Failure;

/// How often files are looked at where nobody connects, and the days counted.
const EVERY: Duration = Duration::from_mins(1);
/// It is told of when so many days are left, and when fewer of the next are.
const DAYS: [i64; 5] = [30, 14, 7, 3, 1];

/// What was told last of a gateway's certificate. It is kept in the vault: whoever starts the daemon
/// anew hears of it once, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Notice {
    ends: Timestamp,
    /// One of [`DAYS`].
    step: i64,
}

/// What this process told or knows to be told, by gateway.
type Told = HashMap<String, Notice>;

/// Looks after them, until it is dropped.
pub(crate) async fn look_after(gateways: &Gateways, app: impl Fn() -> App) {
    let mut told = Told::new();
    loop {
        look(gateways, &app(), &mut told).await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(gateways: &Gateways, app: &App, told: &mut Told) {
    let now = app.clock().now();
    for one in gateways.all() {
        one.gateway.look_at_certificate();
        let Some(facts) = one.gateway.certificate() else {
            continue;
        };
        let name = one.gateway.name();
        let ends = facts.expires_at;
        let days = days_left(ends.into(), now.into());
        let Some(step) = step(days) else {
            told.remove(name);
            continue;
        };
        let notice = Notice { ends, step };
        if told.insert(name.to_owned(), notice) == Some(notice) {
            continue;
        }
        if was_told(app, name).await == Some(notice) {
            continue;
        }
        tell(app, name, &facts, days);
        if let Err(failure) = remember(app, name, notice).await {
            tracing::warn!(gateway = name, "it may be told again: {}", failure.message);
        }
    }
}

/// The last one that any process told of; what cannot be read was not told.
async fn was_told(app: &App, gateway: &str) -> Option<Notice> {
    let (shared, name) = (app.vault().clone(), record(gateway));
    let reading = spawn_blocking(move || {
        let vault = shared.existing().ok()??;
        let record = vault.get(Kind::Notice, &name).ok()??;
        serde_json::from_slice(&record.value).ok()
    });
    reading.await.ok()?
}

async fn remember(app: &App, gateway: &str, notice: Notice) -> Result<(), Failure> {
    let (shared, name) = (app.vault().clone(), record(gateway));
    let writing = spawn_blocking(move || {
        // Without a vault nobody can send, and so nobody hears of it.
        let Some(vault) = shared.existing()? else {
            return Ok(());
        };
        let text = serde_json::to_vec(&notice);
        let text = text.map_err(|error| Failure::new("internal", error.to_string()))?;
        let put = vault.put(Kind::Notice, &name, &text);
        put.map(drop).map_err(|error| vault::failure(&error))
    });
    let interrupted = |_| Err(Failure::new("internal", "writing was interrupted"));
    writing.await.unwrap_or_else(interrupted)
}

/// The name of its notice in the vault.
fn record(gateway: &str) -> String {
    format!("gateway/{gateway}")
}

fn tell(app: &App, gateway: &str, facts: &CertificateFacts, days: i64) {
    let file = facts.file.display().to_string();
    tracing::warn!(
        gateway,
        file,
        expires_at = %facts.expires_at,
        days,
        "its certificate ends: put another in its place, which needs no restart"
    );
    let payload = json!({
        "gateway": gateway,
        "certificate": (!facts.self_made).then_some(file),
        "expires_at": facts.expires_at.as_second(),
        "days": days,
    });
    app.announce("gateway.certificate_expiring", payload);
}

/// The last of [`DAYS`] that so many days are within.
fn step(days: i64) -> Option<i64> {
    DAYS.into_iter().rfind(|step| days <= *step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_once_on_the_way_down() {
        let steps: Vec<_> = [31, 30, 29, 15, 14, 8, 7, 4, 3, 2, 1, 0, -5]
            .into_iter()
            .map(step)
            .collect();
        let told = |step| Some(step);
        assert_eq!(
            steps,
            [
                None,
                told(30),
                told(30),
                told(30),
                told(14),
                told(14),
                told(7),
                told(7),
                told(3),
                told(3),
                told(1),
                told(1),
                told(1)
            ]
        );
    }
}
