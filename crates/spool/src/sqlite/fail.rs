//! Dying at a chosen step, so that a test can see what a crash there leaves behind.

/// Kills this process with SIGKILL if this is the step that `$POSTRIDER_SPOOL_CRASH_AT` counts
/// to. Without debug assertions it does nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn step() {}

/// Kills this process with SIGKILL if this is the step that `$POSTRIDER_SPOOL_CRASH_AT` counts
/// to. Without debug assertions it does nothing.
#[cfg(debug_assertions)]
pub(crate) fn step() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    // The statics of this crate: the environment that they stand for is the process's too.
    static AT: LazyLock<Option<u64>> = LazyLock::new(|| {
        let at = std::env::var("POSTRIDER_SPOOL_CRASH_AT").ok()?;
        at.parse().ok()
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(at) = *AT else { return };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}
