//! How long somebody who gave a wrong password waits for the answer.
//!
//! Only failures wait: a device with the right password is served at once, whatever its neighbour,
//! or another behind the same address, tries.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Addresses that are remembered; the one that failed longest ago makes room.
const REMEMBERED: usize = 4096;
/// After so long without a failure, an address is as good as any.
const FORGIVEN_AFTER: Duration = Duration::from_mins(15);
/// The first wait; each failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: a person who mistypes, and a device's own patience, must outlast it.
const LONGEST: Duration = Duration::from_secs(16);
/// Failures that a connection survives, less one.
pub(crate) const FAILURES_PER_CONNECTION: u32 = 4;

/// What is known of addresses.
#[derive(Debug, Default)]
pub(crate) struct Tarpit(Mutex<HashMap<IpAddr, Row>>);

#[derive(Debug)]
struct Row {
    failures: u32,
    last: Instant,
}

impl Tarpit {
    /// One more failed; how long it waits.
    pub(crate) fn failed(&self, client: IpAddr, now: Instant) -> Duration {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= REMEMBERED && !rows.contains_key(&client) {
            let oldest = rows.iter().min_by_key(|(_, row)| row.last);
            if let Some(oldest) = oldest.map(|(client, _)| *client) {
                rows.remove(&oldest);
            }
        }
        let row = rows.entry(client).or_insert(Row {
            failures: 0,
            last: now,
        });
        if now.saturating_duration_since(row.last) > FORGIVEN_AFTER {
            row.failures = 0;
        }
        row.failures = row.failures.saturating_add(1);
        row.last = now;
        wait(row.failures)
    }
}

/// For so many failures.
fn wait(failures: u32) -> Duration {
    let doubled = failures.saturating_sub(1).min(16);
    FIRST.saturating_mul(1 << doubled).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_longer_up_to_a_bound_and_time_forgives() {
        let tarpit = Tarpit::default();
        let client = [192, 0, 2, 1].into();
        let mut now = Instant::now();
        let waits: Vec<u64> = (0..7)
            .map(|_| tarpit.failed(client, now).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(tarpit.failed([192, 0, 2, 2].into(), now), FIRST);
        now += FORGIVEN_AFTER + Duration::from_secs(1);
        assert_eq!(tarpit.failed(client, now), FIRST);
        assert_eq!(wait(u32::MAX), LONGEST);
    }

    #[test]
    fn a_crowd_of_addresses_takes_bounded_memory() {
        let tarpit = Tarpit::default();
        let start = Instant::now();
        for number in 0..10_000_u32 {
            let client = std::net::Ipv4Addr::from_bits(number).into();
            tarpit.failed(client, start + Duration::from_millis(number.into()));
        }
        let rows = tarpit.0.lock().unwrap();
        assert_eq!(rows.len(), REMEMBERED);
        assert!(rows.contains_key(&IpAddr::from(std::net::Ipv4Addr::from_bits(9_999))));
    }
}
