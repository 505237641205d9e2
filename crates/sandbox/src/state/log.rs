//! The log: what was granted and refused, and the reason the wire did not carry.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::State;

/// Log entries kept; older ones are dropped.
const LOG_KEPT: usize = 10_000;

/// Which half wrote a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Entra ID.
    Entra,
    /// Microsoft Graph.
    Graph,
    /// Exchange.
    Exchange,
    /// The control API.
    Control,
}

/// How what a log entry tells of ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Granted, accepted.
    Done,
    /// Refused; `why` says more than the wire did.
    Refused,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Counts up from 1.
    pub number: u64,
    /// When, by the sandbox's clock.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// Who tells it.
    pub area: Area,
    /// What was asked for: `token client_credentials`, `AUTH XOAUTH2`.
    pub what: String,
    /// For whom: a user, an address, a client id.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

impl State {
    /// Writes an entry of the log, and the same to the program's log.
    pub fn log(
        &self,
        area: Area,
        what: impl Into<String>,
        subject: impl Into<String>,
        outcome: Outcome,
        why: impl Into<String>,
    ) {
        let entry = LogEntry {
            number: 0,
            at: self.now(),
            area,
            what: bounded(what.into()),
            subject: bounded(subject.into()),
            outcome,
            why: bounded(why.into()),
        };
        tracing::debug!(area = ?entry.area, what = entry.what, subject = entry.subject, outcome = ?entry.outcome, why = entry.why, "sandbox");
        let mut world = self.world();
        world.logged += 1;
        let number = world.logged;
        world.log.push_back(LogEntry { number, ..entry });
        while world.log.len() > LOG_KEPT {
            world.log.pop_front();
        }
    }

    /// The log's entries numbered above `after`, oldest first.
    pub fn log_entries(&self, after: u64) -> Vec<LogEntry> {
        self.world()
            .log
            .iter()
            .filter(|e| e.number > after)
            .cloned()
            .collect()
    }

    /// Empties the log.
    pub(crate) fn clear_log(&self) {
        self.world().log.clear();
    }
}

/// A log entry's text may quote a client: it stays on its line, and short.
fn bounded(text: String) -> String {
    const KEPT: usize = 2_000;
    if text.len() <= KEPT && !text.contains(char::is_control) {
        return text;
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(KEPT)
        .collect()
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[cfg(test)]
mod tests {
    use super::super::testing::state;
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_log_keeps_the_newest_and_numbers_them() {
        let state = state(Scenario::default());
        for n in 1..=LOG_KEPT + 2 {
            state.log(
                Area::Exchange,
                "AUTH",
                n.to_string(),
                Outcome::Refused,
                "because",
            );
        }
        let entries = state.log_entries(0);
        assert_eq!((entries.len(), entries[0].number), (LOG_KEPT, 3));
        assert_eq!(state.log_entries(10_001).len(), 1);
    }
}
