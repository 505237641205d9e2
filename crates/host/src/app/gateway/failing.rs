//! Devices that fail, and how often that is worth a line in the log.
//!
//! Anybody on the network can fail as often as they like: what is remembered and said of it is
//! bounded.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::app::Moment;
use crate::control::FailingDevice;

/// So many are remembered for each gateway; the one that failed longest ago makes room.
const REMEMBERED: usize = 256;
/// One that goes on failing is told of this often.
pub(super) const AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// So often in that time anything is told of one gateway.
const TOLD: u32 = 30;

/// Who failed: a device, as far as it is known, at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) device: Option<String>,
    pub(super) client: IpAddr,
}

/// Those of one gateway.
#[derive(Debug, Default)]
pub(super) struct Failing {
    devices: HashMap<Who, Row>,
    told_since: Option<Timestamp>,
    told: u32,
}

/// Failures in a row.
#[derive(Debug)]
struct Row {
    last: Timestamp,
    why: String,
    count: u64,
    told_at: Option<Timestamp>,
    untold: u64,
}

impl Failing {
    /// One more, with what the device was told. If it is to be told of now: how many there were
    /// since that was done last.
    pub(super) fn note(&mut self, who: &Who, why: &str, now: Timestamp) -> Option<u64> {
        if !self.devices.contains_key(who) && self.devices.len() >= REMEMBERED {
            self.forget_the_oldest();
        }
        let row = self.devices.entry(who.clone()).or_insert_with(|| Row {
            last: now,
            why: String::new(),
            count: 0,
            told_at: None,
            untold: 0,
        });
        row.last = now;
        why.clone_into(&mut row.why);
        row.count += 1;
        row.untold += 1;
        if row.told_at.is_some_and(|at| now.duration_since(at) < AGAIN) {
            return None;
        }
        if self
            .told_since
            .is_none_or(|since| now.duration_since(since) >= AGAIN)
        {
            (self.told_since, self.told) = (Some(now), 0);
        }
        if self.told >= TOLD {
            return None;
        }
        self.told += 1;
        row.told_at = Some(now);
        Some(std::mem::take(&mut row.untold))
    }

    /// The device sent a message from there: whatever it failed at before is mended, wherever it
    /// stood, and so is what failed there before it said who it is.
    pub(super) fn mended(&mut self, device: &str, client: IpAddr) {
        if !self.devices.is_empty() {
            self.devices.retain(|who, _| match &who.device {
                Some(name) => name != device,
                None => who.client != client,
            });
        }
    }

    /// The latest first.
    pub(super) fn list(&self) -> Vec<FailingDevice> {
        let mut list: Vec<FailingDevice> = self
            .devices
            .iter()
            .map(|(who, row)| FailingDevice {
                device: who.device.clone(),
                client: who.client,
                at: Moment(row.last.into()),
                why: row.why.clone(),
                count: row.count,
            })
            .collect();
        list.sort_by(|one, other| (other.at, &one.device).cmp(&(one.at, &other.device)));
        list
    }

    fn forget_the_oldest(&mut self) {
        let oldest = self.devices.iter().min_by_key(|(_, row)| row.last);
        if let Some(who) = oldest.map(|(who, _)| who.clone()) {
            self.devices.remove(&who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(device: Option<&str>, last_octet: u8) -> Who {
        Who {
            device: device.map(str::to_owned),
            client: [192, 168, 1, last_octet].into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_failure_is_told_and_then_one_line_a_minute_counts_the_rest() {
        let mut failing = Failing::default();
        let printer = who(Some("printer-2"), 20);
        assert_eq!(failing.note(&printer, "535", at(0)), Some(1));
        for second in 1..60 {
            assert_eq!(failing.note(&printer, "535", at(second)), None);
        }
        assert_eq!(failing.note(&printer, "535", at(60)), Some(60));
        // Another one does not wait for that.
        assert_eq!(failing.note(&who(None, 21), "535", at(61)), Some(1));

        let list = failing.list();
        let counts: Vec<u64> = list.iter().map(|one| one.count).collect();
        assert_eq!(counts, [1, 61]);
        assert_eq!(list[1].why, "535");
    }

    #[test]
    fn a_device_that_sends_again_is_mended_wherever_it_stands() {
        let mut failing = Failing::default();
        failing.note(&who(Some("printer-2"), 20), "535", at(0));
        failing.note(&who(Some("printer-2"), 21), "535", at(0));
        failing.note(&who(Some("scanner"), 21), "535", at(0));
        failing.note(&who(None, 21), "535", at(0));
        failing.note(&who(None, 22), "535", at(0));
        failing.mended("printer-2", [192, 168, 1, 21].into());
        let left: Vec<_> = failing.list().into_iter().map(|one| one.device).collect();
        assert_eq!(left, [None, Some("scanner".to_owned())]);
    }

    #[test]
    fn a_crowd_of_strangers_fills_neither_memory_nor_log() {
        let mut failing = Failing::default();
        let mut told = 0;
        for number in 0..10_000_u32 {
            let stranger = Who {
                device: None,
                client: std::net::Ipv4Addr::from_bits(number).into(),
            };
            told += u32::from(failing.note(&stranger, "535", at(0)).is_some());
        }
        assert_eq!(told, TOLD);
        assert_eq!(failing.list().len(), REMEMBERED);
        assert_eq!(failing.note(&who(None, 1), "535", at(61)), Some(1));
    }
}
