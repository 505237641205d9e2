//! What scripts use, for as long as the process lives: a counter does not begin anew because its
//! script was loaded anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{NAMES, OTHER};
use crate::lua::Usage;

/// All scripts, and those that they took the place of. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Scripts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Of scripts that have ended, by name.
    ended: BTreeMap<String, Total>,
    live: BTreeMap<u64, Live>,
    next: u64,
}

struct Live {
    name: String,
    usage: Box<dyn Fn() -> Usage + Send + Sync>,
}

/// What all scripts of one name have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) cpu: Duration,
    pub(super) calls: u64,
    pub(super) errors: u64,
    /// What is held now.
    pub(super) memory_octets: usize,
}

/// A script that is counted; from when this is dropped on, it uses nothing more.
pub(crate) struct Counted {
    scripts: Scripts,
    number: u64,
}

impl Scripts {
    /// Counts a script called `name`.
    pub(super) fn count(
        &self,
        name: String,
        usage: impl Fn() -> Usage + Send + Sync + 'static,
    ) -> Counted {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let usage = Box::new(usage);
        state.live.insert(number, Live { name, usage });
        Counted {
            scripts: self.clone(),
            number,
        }
    }

    /// What the scripts of each name have used.
    pub(super) fn totals(&self) -> BTreeMap<String, Total> {
        let state = self.lock();
        let mut totals = state.ended.clone();
        for live in state.live.values() {
            add(&mut totals, &live.name, (live.usage)());
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.scripts.lock();
        if let Some(live) = state.live.remove(&self.number) {
            let usage = Usage {
                memory_octets: 0,
                ..(live.usage)()
            };
            add(&mut state.ended, &live.name, usage);
        }
    }
}

/// Files that stand in a directory: as many as somebody put there.
fn add(totals: &mut BTreeMap<String, Total>, name: &str, usage: Usage) {
    let has_room = totals.contains_key(name) || totals.len() < NAMES;
    let name = if has_room { name } else { OTHER };
    let total = totals.entry(name.to_owned()).or_default();
    total.cpu += usage.cpu;
    total.calls += usage.calls;
    total.errors += usage.errors;
    total.memory_octets += usage.memory_octets;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A script that was called so often.
    fn script(scripts: &Scripts, name: &str, calls: u64) -> (Arc<AtomicU64>, Counted) {
        let called = Arc::new(AtomicU64::new(calls));
        let usage = {
            let called = Arc::clone(&called);
            move || Usage {
                calls: called.load(Ordering::Relaxed),
                memory_octets: 100,
                ..Usage::default()
            }
        };
        (called, scripts.count(name.to_owned(), usage))
    }

    fn of(scripts: &Scripts, name: &str) -> (u64, usize) {
        let total = scripts.totals()[name];
        (total.calls, total.memory_octets)
    }

    #[test]
    fn what_a_script_used_counts_on_in_the_one_that_takes_its_place() {
        let scripts = Scripts::default();
        let (called, old) = script(&scripts, "a.lua", 3);
        assert_eq!(of(&scripts, "a.lua"), (3, 100));

        // Both are there while the old one's calls end.
        let (_, new) = script(&scripts, "a.lua", 0);
        called.store(5, Ordering::Relaxed);
        assert_eq!(of(&scripts, "a.lua"), (5, 200));

        drop(old);
        assert_eq!(of(&scripts, "a.lua"), (5, 100));
        drop(new);
        assert_eq!(of(&scripts, "a.lua"), (5, 0));
    }

    #[test]
    fn names_without_end_are_counted_together() {
        let scripts = Scripts::default();
        for number in 0..NAMES + 5 {
            drop(script(&scripts, &format!("{number}.lua"), 1));
        }
        assert_eq!(of(&scripts, OTHER), (5, 0));
        assert_eq!(scripts.totals().len(), NAMES + 1);
    }
}
