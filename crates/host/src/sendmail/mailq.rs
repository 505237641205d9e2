//! The queue's list as `mailq` has printed it for forty years.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use postrider_spool::{Filter, Listed, QueueId, StateKind, Store};

use crate::app::{App, queue};
use crate::cli::output::Output;
use crate::failure::Failure;

const HEAD: &str = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------";

/// What is not at its end.
const WAITING: [StateKind; 5] = [
    StateKind::Queued,
    StateKind::Sending,
    StateKind::Deferred,
    StateKind::Held,
    StateKind::Unknown,
];

/// Prints what waits.
///
/// # Errors
/// The queue cannot be read.
pub(crate) async fn list(app: &App, output: &Output) -> Result<(), Failure> {
    let store = &app.queue().await?.store;
    let waiting = waiting(&**store).await?;
    for line in lines(&waiting, &TimeZone::system()) {
        output.line(line);
    }
    let json: Vec<_> = waiting
        .iter()
        .map(|listed| {
            serde_json::json!({
                "id": listed.id.to_string(),
                "account": listed.account,
                "octets": listed.octets,
                "queued_at": listed.accepted_at.to_string(),
                "sender": listed.reverse_path,
                "recipient": listed.recipient,
                "why": listed.why,
            })
        })
        .collect();
    output.json(&json);
    Ok(())
}

async fn waiting(store: &dyn Store) -> Result<Vec<Listed>, Failure> {
    let mut found: BTreeMap<QueueId, Listed> = BTreeMap::new();
    for state in WAITING {
        let mut filter = Filter {
            state: Some(state),
            ..Filter::default()
        };
        loop {
            let page = store.list(filter.clone()).await;
            let page = page.map_err(|error| queue::failure(&error))?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            found.extend(page.into_iter().map(|listed| (listed.id, listed)));
        }
    }
    Ok(found.into_values().collect())
}

fn lines(waiting: &[Listed], zone: &TimeZone) -> Vec<String> {
    if waiting.is_empty() {
        return vec!["Mail queue is empty".to_owned()];
    }
    let mut lines = vec![HEAD.to_owned()];
    for listed in waiting {
        let has = |state| listed.states.get(&state).is_some_and(|&count| count > 0);
        let mark = if has(StateKind::Sending) {
            "*"
        } else if has(StateKind::Held) || has(StateKind::Unknown) {
            "!"
        } else {
            ""
        };
        let id = format!("{}{mark}", listed.id);
        let at = listed.accepted_at.to_zoned(zone.clone());
        let at = at.strftime("%a %b %e %H:%M:%S").to_string();
        let sender = listed.reverse_path.as_deref().unwrap_or("<>");
        lines.push(format!("{id:<11} {:>8} {at:<20} {sender}", listed.octets));
        if let Some(why) = &listed.why {
            lines.push(format!("{:>12}({why})", ""));
        }
        let recipients: u64 = listed.states.values().sum();
        let others = match recipients {
            0 | 1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        lines.push(format!("{:>42}{}{others}", "", listed.recipient));
        lines.push(String::new());
    }
    let octets: u64 = waiting.iter().map(|listed| listed.octets).sum();
    let requests = match waiting.len() {
        1 => "1 Request".to_owned(),
        n => format!("{n} Requests"),
    };
    lines.push(format!(
        "-- {} Kbytes in {requests}.",
        octets.div_ceil(1024)
    ));
    lines
}

#[cfg(test)]
mod tests {
    use postrider_spool::{Priority, QueueId};

    use super::*;

    #[test]
    fn the_list_looks_as_it_always_has() {
        let listed = |number, state, recipients, why: Option<&str>| Listed {
            id: QueueId::new(number),
            account: "alerts".to_owned(),
            reverse_path: (number == 1).then(|| "alerts@contoso.com".to_owned()),
            message_id: "<a@b>".to_owned(),
            states: BTreeMap::from([(state, recipients)]),
            recipient: "ops@example.org".to_owned(),
            why: why.map(str::to_owned),
            attempts: 1,
            due_at: None,
            priority: Priority::Normal,
            accepted_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            expires_at: None,
            octets: 700,
            origin: String::new(),
        };
        assert_eq!(lines(&[], &TimeZone::UTC), ["Mail queue is empty"]);
        let waiting = [
            listed(1, StateKind::Sending, 1, None),
            listed(2, StateKind::Held, 3, Some("no token")),
        ];
        assert_eq!(
            lines(&waiting, &TimeZone::UTC).join("\n"),
            "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n\
             Q00001*          700 Tue Nov  3 12:00:00  alerts@contoso.com\n\
             \x20                                         ops@example.org\n\
             \n\
             Q00002!          700 Tue Nov  3 12:00:00  <>\n\
             \x20           (no token)\n\
             \x20                                         ops@example.org (and 2 more)\n\
             \n\
             -- 2 Kbytes in 2 Requests."
        );
    }
}
