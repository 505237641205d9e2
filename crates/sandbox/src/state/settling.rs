//! New objects that are not known everywhere yet, where the scenario says so.

use jiff::{SignedDuration, Timestamp};

use super::State;

/// Until when an object is looked for in vain, and how often still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    until: Option<Timestamp>,
    looks: u32,
}

impl State {
    /// An object with this id was made just now.
    pub(crate) fn settle(&self, id: &str) {
        let rules = self.scenario().graph.clone();
        if rules.propagation.is_none() && rules.propagation_requests.is_none() {
            return;
        }
        let now = self.now();
        let settling = Settling {
            until: rules.propagation.map(|span| {
                let span = SignedDuration::try_from(span.duration()).unwrap_or(SignedDuration::MAX);
                now.saturating_add(span).unwrap_or(Timestamp::MAX)
            }),
            looks: rules.propagation_requests.unwrap_or(0),
        };
        self.world()
            .settling
            .insert(id.to_ascii_lowercase(), settling);
    }

    /// Whether the object is not found yet. Counts as a look.
    pub(crate) fn is_settling(&self, id: &str) -> bool {
        let now = self.now();
        let mut world = self.world();
        let Some(settling) = world.settling.get_mut(&id.to_ascii_lowercase()) else {
            return false;
        };
        let waiting = settling.until.is_some_and(|until| now < until);
        let looks = settling.looks;
        settling.looks = looks.saturating_sub(1);
        waiting || looks > 0
    }
}
