//! Certificates of gateways: read again when their files change, and told of before they end.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use postrider_auth::days_left;
use postrider_gateway::CertificateFacts;
use serde_json::json;

use super::Gateways;
use crate::app::App;

/// How often files are looked at where nobody connects, and the days counted.
const EVERY: Duration = Duration::from_mins(1);
/// It is told of when so many days are left, and when fewer of the next are.
const DAYS: [i64; 5] = [30, 14, 7, 3, 1];

/// What was told last of each gateway's certificate: its end, and the step of [`DAYS`].
type Told = HashMap<String, (Timestamp, i64)>;

/// Looks after them, until it is dropped.
pub(crate) async fn look_after(gateways: &Gateways, app: impl Fn() -> App) {
    let mut told = Told::new();
    loop {
        look(gateways, &app(), &mut told);
        tokio::time::sleep(EVERY).await;
    }
}

fn look(gateways: &Gateways, app: &App, told: &mut Told) {
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
        if told.get(name) != Some(&(ends, step)) {
            told.insert(name.to_owned(), (ends, step));
            tell(app, name, &facts, days);
        }
    }
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
        "expires_at": facts.expires_at.as_millisecond() / 1000,
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
