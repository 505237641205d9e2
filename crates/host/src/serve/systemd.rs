//! What the service manager is told, if one listens (`$NOTIFY_SOCKET`): `sd_notify(3)`.

use std::time::Duration;

use sd_notify::NotifyState;

/// It is up; `status` is for `systemctl status`.
pub(super) fn ready(status: &str) {
    let status = line(status);
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// A reload begins; [`ready`] ends it, however it went.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // Without the time a reload of `Type=notify-reload` fails.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(problem) => tracing::debug!("no monotonic time: {problem}"),
    }
}

/// It shuts down, which takes this long at most.
pub(super) fn stopping(at_most: Duration) {
    let at_most = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(at_most),
        NotifyState::Status("shutting down"),
    ]);
}

/// It is alive.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be said, if anybody wants to hear it: half the time after which the
/// service manager gives up.
pub(super) fn heartbeat() -> Option<Duration> {
    let patience = sd_notify::watchdog_enabled()?;
    (!patience.is_zero()).then(|| patience / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(problem) = sd_notify::notify(states) {
        tracing::debug!("the service manager was not told: {problem}");
    }
}

/// One line of bounded length: a line break would begin another assignment.
fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_and_no_second_assignment() {
        assert_eq!(line("a\nWATCHDOG=trigger"), "a WATCHDOG=trigger");
        assert_eq!(line(&"ä".repeat(1000)).chars().count(), 200);
    }
}
