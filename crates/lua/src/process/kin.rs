//! A program and all that it started, to be killed together.
//!
//! They are its process group. One that left the group, as `setsid` does, is known by the mark
//! that each inherits in its environment, whoever is its parent by now. Who leaves the group
//! and wipes its environment, or runs as somebody else, gets away.
//!
//! Not by other means: a subreaper would adopt what other children of this process leave
//! behind, and the signal for the death of a parent is one for the death of a parent's thread,
//! of which tokio has many.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;

/// The variable that holds the mark.
pub(super) const VARIABLE: &str = "POSTRIDER_RUN";

/// How often to look for more of them: whoever was found stands still and starts nobody.
const LOOKS: usize = 20;

/// A mark that no other program has, of whatever host and time.
pub(super) fn mark() -> String {
    static HOST: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let host = HOST.get_or_init(|| RandomState::new().build_hasher().finish());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{host:016x}-{count}")
}

/// A program that has not been waited for, and its kin; killed when dropped.
pub(super) struct Kin {
    group: Option<Pid>,
    mark: String,
}

impl Kin {
    /// Those of `child`, which got `mark`.
    pub(super) fn of(child: &Child, mark: String) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            group: id.and_then(Pid::from_raw),
            mark,
        }
    }

    /// It ended by itself: what it left running may go on.
    pub(super) fn release(&mut self) {
        self.group = None;
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        let Some(group) = self.group else {
            return;
        };
        // Whoever has ended by itself cannot be told anything, which is as good.
        let _ = kill_process_group(group, Signal::STOP);
        let mut found = BTreeSet::new();
        for _ in 0..LOOKS {
            let before = found.len();
            for pid in marked(&self.mark) {
                if found.insert(pid.as_raw_nonzero()) {
                    let _ = kill_process(pid, Signal::STOP);
                }
            }
            if found.len() == before {
                break;
            }
        }
        for pid in found.into_iter().filter_map(|pid| Pid::from_raw(pid.get())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The processes with this mark: none where the system does not show environments.
fn marked(mark: &str) -> impl Iterator<Item = Pid> + use<> {
    let entry = format!("{VARIABLE}={mark}").into_bytes();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        let environ = std::fs::read(process.path().join(OsStr::new("environ"))).ok()?;
        environ
            .split(|&octet| octet == 0)
            .any(|variable| variable == entry)
            .then(|| Pid::from_raw(number))
            .flatten()
    })
}
