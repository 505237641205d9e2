//! Dying at a chosen step, so that a test can see what a crash there leaves behind.

/// Kills this process with SIGKILL if `$POSTRIDER_CRASH_AT` is `name`, or is `name:N` and this
/// is the Nth time it gets here. `$POSTRIDER_CRASH_LOG` names a file to which every step passed is
/// appended, one a line. Without debug assertions it does nothing.
#[doc(hidden)]
#[cfg(not(debug_assertions))]
#[inline]
pub fn crash_point(_name: &str) {}

/// Kills this process with SIGKILL if `$POSTRIDER_CRASH_AT` is `name`, or is `name:N` and this
/// is the Nth time it gets here. `$POSTRIDER_CRASH_LOG` names a file to which every step passed is
/// appended, one a line. Without debug assertions it does nothing.
#[doc(hidden)]
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    use std::io::Write;

    if let Some(log) = std::env::var_os("POSTRIDER_CRASH_LOG") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        if let Ok(mut file) = file {
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
    }
    let Some(at) = std::env::var_os("POSTRIDER_CRASH_AT") else {
        return;
    };
    let at = at.to_string_lossy();
    let (wanted, time) = match at.rsplit_once(':') {
        Some((wanted, time)) => (wanted, time.parse().unwrap_or(1)),
        None => (at.as_ref(), 1),
    };
    if wanted == name && passed(name) == time {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

/// How often this process got to `name`, this time included.
#[cfg(debug_assertions)]
fn passed(name: &str) -> u64 {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    // The one static of this crate: the environment that it counts for is the process's too.
    static COUNTS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(name.to_owned()).or_default();
    *count += 1;
    *count
}

/// The crash point `vault.WHAT.STEP`.
pub(crate) fn step(what: &str, step: &str) {
    if cfg!(debug_assertions) {
        crash_point(&format!("vault.{what}.{step}"));
    }
}
