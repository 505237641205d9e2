//! How many messages a device may send, a minute and a day.
//!
//! A message is counted when it is accepted. Whoever wants to send one reserves its place before:
//! many at once do not get past a limit, and what comes to nothing gives its place back. Any sixty
//! seconds, and any twenty-four hours, hold no more than the limit.
//!
//! Not here: the clock, which each call is told, and the limits themselves, which may be others at
//! each call. The day's counts outlive the process by the [ledger](crate::ledger).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, Unit};

use crate::Refusal;

/// Seconds that are counted together for the limit of a day: a place is free again at most so much
/// later than the day is over.
pub const DAY_STEP: i64 = 600;

/// Devices that sent nothing for a day are forgotten when there are more than so many.
const CROWD: usize = 256;

/// What devices have sent, and are about to send. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Limits(Arc<Mutex<HashMap<Key, Device>>>);

type Key = (String, String);

/// How much a device may send. `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Messages in any sixty seconds.
    pub per_minute: Option<u32>,
    /// Messages in any twenty-four hours.
    pub per_day: Option<u32>,
}

/// A span of time that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Sixty seconds.
    Minute,
    /// Twenty-four hours.
    Day,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Which limit.
    pub span: Span,
    /// How many messages it allows.
    pub limit: u32,
    /// When there is room again, as far as that depends on time: `None` if everything the limit
    /// allows is being sent this moment, or it allows nothing.
    pub again_at: Option<Timestamp>,
}

/// A place for one message. Dropped, it is given back.
#[derive(Debug)]
pub struct Reservation {
    limits: Limits,
    key: Key,
}

#[derive(Debug)]
struct Device {
    /// Places that are reserved.
    held: u32,
    minute: Window,
    day: Window,
}

/// What was sent within a span, by steps.
#[derive(Debug)]
struct Window {
    /// Seconds.
    step: i64,
    /// How many steps the span has.
    steps: i64,
    /// Number of the step, and messages in it; ascending.
    counts: VecDeque<(i64, u32)>,
}

impl Limits {
    /// Nobody has sent anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a place for one message of this device.
    ///
    /// # Errors
    /// One of the limits is reached.
    pub fn reserve(
        &self,
        gateway: &str,
        device: &str,
        quota: Quota,
        now: Timestamp,
    ) -> Result<Reservation, Full> {
        let key = (gateway.to_owned(), device.to_owned());
        let mut devices = self.lock();
        if devices.len() >= CROWD && !devices.contains_key(&key) {
            devices.retain(|_, device| !device.is_idle(now));
        }
        let found = devices.entry(key.clone()).or_insert_with(Device::new);
        for (span, window, limit) in [
            (Span::Minute, &mut found.minute, quota.per_minute),
            (Span::Day, &mut found.day, quota.per_day),
        ] {
            window.roll(now);
            if let Some(limit) = limit
                && window.total().saturating_add(found.held) >= limit
            {
                let again_at = window.room(limit, found.held);
                return Err(Full {
                    span,
                    limit,
                    again_at,
                });
            }
        }
        found.held += 1;
        Ok(Reservation {
            limits: self.clone(),
            key,
        })
    }

    /// Counts messages that were accepted before this process began.
    pub fn restore(&self, gateway: &str, device: &str, at: Timestamp, messages: u32) {
        let key = (gateway.to_owned(), device.to_owned());
        let mut devices = self.lock();
        let found = devices.entry(key).or_insert_with(Device::new);
        found.day.add(at, messages);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Device>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// The message was accepted.
    pub fn commit(self, now: Timestamp) {
        if let Some(device) = self.limits.lock().get_mut(&self.key) {
            device.minute.add(now, 1);
            device.day.add(now, 1);
        }
        // Its place is given back: the message stands in the windows now.
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(device) = self.limits.lock().get_mut(&self.key) {
            device.held = device.held.saturating_sub(1);
        }
    }
}

impl Full {
    /// What the device hears: to come again.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(450, "4.7.1", self.to_string())
    }

    /// What a device heard once, as far as its words say it.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("this device may send ")?;
        let (limit, rest) = rest.split_once(" messages ")?;
        let span = match rest.split_once(',')?.0 {
            "a minute" => Span::Minute,
            "a day" => Span::Day,
            _ => return None,
        };
        Some(Self {
            span,
            limit: limit.parse().ok()?,
            again_at: None,
        })
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = match self.span {
            Span::Minute => "a minute",
            Span::Day => "a day",
        };
        let limit = self.limit;
        write!(
            f,
            "this device may send {limit} messages {span}, and did; try again "
        )?;
        match self.again_at {
            Some(at) => write!(f, "at {}", at.round(Unit::Second).unwrap_or(at)),
            None => f.write_str("later"),
        }
    }
}

impl std::error::Error for Full {}

impl Device {
    fn new() -> Self {
        Self {
            held: 0,
            minute: Window::new(1, 60),
            day: Window::new(DAY_STEP, 24 * 3600 / DAY_STEP),
        }
    }

    fn is_idle(&mut self, now: Timestamp) -> bool {
        self.minute.roll(now);
        self.day.roll(now);
        self.held == 0 && self.day.counts.is_empty() && self.minute.counts.is_empty()
    }
}

impl Window {
    fn new(step: i64, steps: i64) -> Self {
        Self {
            step,
            steps,
            counts: VecDeque::new(),
        }
    }

    fn number(&self, at: Timestamp) -> i64 {
        at.as_second().div_euclid(self.step)
    }

    /// Forgets what is past. A step counts until its last moment is a whole span ago.
    fn roll(&mut self, now: Timestamp) {
        let now = self.number(now);
        // The clock was set back: what is ahead of it counts as of now, or it would stay too long.
        let mut ahead = 0_u32;
        while let Some((number, count)) = self.counts.back().copied()
            && number > now
        {
            ahead = ahead.saturating_add(count);
            self.counts.pop_back();
        }
        self.put(now, ahead);
        while self
            .counts
            .front()
            .is_some_and(|(number, _)| now - number > self.steps)
        {
            self.counts.pop_front();
        }
    }

    fn add(&mut self, at: Timestamp, messages: u32) {
        let number = self.number(at);
        self.put(number, messages);
    }

    fn put(&mut self, number: i64, messages: u32) {
        if messages == 0 {
            return;
        }
        match self
            .counts
            .binary_search_by_key(&number, |(known, _)| *known)
        {
            Ok(place) => self.counts[place].1 = self.counts[place].1.saturating_add(messages),
            Err(place) => self.counts.insert(place, (number, messages)),
        }
    }

    fn total(&self) -> u32 {
        let counts = self.counts.iter().map(|(_, count)| *count);
        counts.fold(0, u32::saturating_add)
    }

    /// When enough of it is past.
    fn room(&self, limit: u32, held: u32) -> Option<Timestamp> {
        let mut left = self.total().saturating_add(held);
        for (number, count) in &self.counts {
            left = left.saturating_sub(*count);
            if left < limit {
                let second = (number + self.steps + 1).saturating_mul(self.step);
                return Timestamp::from_second(second).ok();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn quota(per_minute: u32, per_day: u32) -> Quota {
        Quota {
            per_minute: Some(per_minute),
            per_day: Some(per_day),
        }
    }

    fn send(limits: &Limits, quota: Quota, now: Timestamp) -> Result<(), Full> {
        limits.reserve("office", "printer", quota, now)?.commit(now);
        Ok(())
    }

    #[test]
    fn a_minute_slides_and_a_refusal_says_when_there_is_room() {
        let limits = Limits::new();
        send(&limits, quota(2, 100), at(0)).unwrap();
        send(&limits, quota(2, 100), at(30)).unwrap();
        let full = send(&limits, quota(2, 100), at(59)).unwrap_err();
        assert_eq!((full.span, full.again_at), (Span::Minute, Some(at(61))));
        let read = Full::read(&full.to_string()).unwrap();
        assert_eq!((read.span, read.limit), (Span::Minute, 2));
        assert!(send(&limits, quota(2, 100), at(60)).is_err());
        send(&limits, quota(2, 100), at(61)).unwrap();
        assert!(send(&limits, quota(2, 100), at(62)).is_err());
        assert_eq!(
            full.refusal().to_string(),
            "450 4.7.1 this device may send 2 messages a minute, and did; try again at \
             2027-01-15T08:01:01Z"
        );
    }

    #[test]
    fn many_at_once_do_not_get_past_a_limit_and_what_came_to_nothing_leaves_its_place() {
        let limits = Limits::new();
        let held: Vec<_> = (0..3)
            .map(|_| limits.reserve("office", "printer", quota(3, 100), at(0)))
            .collect::<Result<_, _>>()
            .unwrap();
        let full = send(&limits, quota(3, 100), at(0)).unwrap_err();
        assert_eq!(full.again_at, None);
        drop(held);
        for _ in 0..3 {
            send(&limits, quota(3, 100), at(0)).unwrap();
        }
        assert!(send(&limits, quota(3, 100), at(0)).is_err());
    }

    #[test]
    fn what_was_sent_before_a_restart_counts_for_the_day() {
        let limits = Limits::new();
        limits.restore("office", "printer", at(-3600), 9);
        limits.restore("office", "scanner", at(-3600), 50);
        send(&limits, quota(100, 10), at(0)).unwrap();
        let full = send(&limits, quota(100, 10), at(1)).unwrap_err();
        assert_eq!(full.span, Span::Day);
        let again = full.again_at.unwrap();
        assert!(send(&limits, quota(100, 10), again).is_ok());
    }

    #[test]
    fn devices_and_gateways_do_not_share_and_no_limit_is_none() {
        let limits = Limits::new();
        send(&limits, quota(1, 1), at(0)).unwrap();
        assert!(send(&limits, quota(1, 1), at(0)).is_err());
        assert!(
            limits
                .reserve("office", "scanner", quota(1, 1), at(0))
                .is_ok()
        );
        assert!(
            limits
                .reserve("plant", "printer", quota(1, 1), at(0))
                .is_ok()
        );
        for _ in 0..10_000 {
            send(&limits, Quota::default(), at(1)).unwrap();
        }
        assert!(send(&limits, quota(0, 1), at(90)).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_shuts_nobody_out_for_longer_than_the_span() {
        let limits = Limits::new();
        send(&limits, quota(1, 100), at(1_000_000)).unwrap();
        let full = send(&limits, quota(1, 100), at(0)).unwrap_err();
        assert_eq!(full.again_at, Some(at(61)));
        send(&limits, quota(1, 100), at(61)).unwrap();
    }

    #[test]
    fn devices_that_sent_nothing_for_a_day_are_forgotten() {
        let limits = Limits::new();
        for number in 0..2_000_i64 {
            let device = format!("device-{number}");
            let now = at(number * 3600);
            let place = limits.reserve("office", &device, quota(9, 9), now);
            place.unwrap().commit(now);
        }
        assert!(limits.lock().len() <= CROWD);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass(i64),
        Reserve,
        Commit(usize),
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_i64..40).prop_map(Step::Pass),
            1 => (0_i64..40_000).prop_map(Step::Pass),
            6 => Just(Step::Reserve),
            4 => any::<usize>().prop_map(Step::Commit),
            1 => any::<usize>().prop_map(Step::Drop),
        ]
    }

    proptest! {
        #[test]
        fn no_minute_and_no_day_holds_more_than_its_limit_and_nothing_is_refused_that_has_room(
            steps in prop::collection::vec(step(), 1..200),
            per_minute in 1_u32..6,
            per_day in 1_u32..30,
        ) {
            let limits = Limits::new();
            let quota = quota(per_minute, per_day);
            let mut held = Vec::new();
            let mut sent: Vec<i64> = Vec::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Pass(seconds) => now += seconds,
                    Step::Commit(which) if !held.is_empty() => {
                        let place: Reservation = held.swap_remove(which % held.len());
                        place.commit(at(now));
                        sent.push(now);
                    }
                    Step::Drop(which) if !held.is_empty() => {
                        drop(held.swap_remove(which % held.len()));
                    }
                    Step::Commit(_) | Step::Drop(_) => {}
                    Step::Reserve => {
                        // The naive model: every message by itself, with the rounding of its step.
                        let within = |span: i64, step: i64| {
                            let past = at(now).as_second().div_euclid(step) * step - span;
                            let counted = sent.iter().filter(|sent| {
                                (at(**sent).as_second().div_euclid(step) + 1) * step > past
                            });
                            u32::try_from(counted.count() + held.len()).unwrap()
                        };
                        let full_minute = within(60, 1) >= per_minute;
                        let full_day = within(86_400, DAY_STEP) >= per_day;
                        match limits.reserve("office", "printer", quota, at(now)) {
                            Ok(place) => {
                                prop_assert!(!full_minute && !full_day);
                                held.push(place);
                            }
                            Err(full) => {
                                prop_assert!(full_minute || full_day);
                                prop_assert_eq!(full.span == Span::Minute, full_minute);
                                prop_assert!(full.again_at.is_none_or(|again| again > at(now)));
                            }
                        }
                    }
                }
                for (span, limit) in [(60, per_minute), (86_400, per_day)] {
                    let within = sent.iter().filter(|sent| now - **sent < span).count();
                    prop_assert!(within + held.len() <= limit as usize);
                }
            }
            // With nothing under way, the moment that is named is the first with room.
            drop(held);
            while let Err(full) = limits.reserve("office", "printer", quota, at(now)) {
                let again = full.again_at.expect("nothing is under way").as_second() - at(0).as_second();
                let before = limits.reserve("office", "printer", quota, at(again - 1));
                prop_assert!(before.is_err());
                let freed = limits.reserve("office", "printer", quota, at(again));
                // The other limit may still be reached.
                prop_assert!(freed.err().is_none_or(|other| other.span != full.span));
                now = again;
            }
        }
    }
}
