//! When something is to run.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cron::Cron;
use crate::zone::zone_name;

/// The shortest interval: what is due more often is no schedule.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// When something is to run.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Again and again at this interval, first when it has passed once.
    Every(Duration),
    /// When the wall clock of the zone says so.
    Cron(Cron, TimeZone),
    /// Once, then.
    At(Timestamp),
    /// Once, when so much time has passed.
    After(Duration),
}

impl Plan {
    /// The first slot after `after`, counted from `anchor`, which is when the plan was made. Slots
    /// lie on whole microseconds: a store keeps them exactly.
    pub fn next(&self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let anchor = anchor.as_microsecond();
        let once = |at: i64| {
            let at = Timestamp::from_microsecond(at).ok()?;
            (at > after).then_some(at)
        };
        match self {
            Self::Every(interval) => {
                let interval = i64::try_from(interval.as_micros()).ok()?.max(1);
                let passed = after.as_microsecond().saturating_sub(anchor);
                let intervals = passed.div_euclid(interval).max(0).checked_add(1)?;
                let since = interval.checked_mul(intervals)?;
                Timestamp::from_microsecond(anchor.checked_add(since)?).ok()
            }
            Self::Cron(cron, zone) => cron.next(after, zone),
            Self::At(at) => once(at.as_microsecond()),
            Self::After(span) => {
                let span = i64::try_from(span.as_micros()).ok()?;
                once(anchor.checked_add(span)?)
            }
        }
    }

    /// Whether it runs once only.
    pub fn is_once(&self) -> bool {
        matches!(self, Self::At(_) | Self::After(_))
    }

    /// The zone of its wall clock; none where no wall clock matters.
    pub fn zone(&self) -> Option<String> {
        match self {
            Self::Cron(_, zone) => Some(zone_name(zone)),
            _ => None,
        }
    }
}

/// As people say it: `every 5m`, `0 8 * * mon-fri`, `at 2026-11-23T08:00:00Z`, `after 30s`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}", Span(*interval)),
            Self::Cron(cron, _) => cron.fmt(f),
            Self::At(at) => write!(f, "at {at}"),
            Self::After(span) => write!(f, "after {}", Span(*span)),
        }
    }
}

/// `1h30m`, `500ms`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
        ] {
            if left >= length {
                write!(f, "{}{unit}", left / length)?;
                left %= length;
            }
        }
        if left > 0 {
            write!(f, "{left}ms")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_interval_counts_from_its_anchor_and_does_not_drift() {
        let plan = Plan::Every(Duration::from_mins(5));
        let anchor = at(1000);

        assert_eq!(plan.next(anchor, anchor), Some(at(1300)));
        assert_eq!(plan.next(at(1299), anchor), Some(at(1300)));
        assert_eq!(plan.next(at(1300), anchor), Some(at(1600)));
        // However late the last one was, and also before the anchor.
        assert_eq!(
            plan.next(at(1000 + 300 * 96 + 299), anchor),
            Some(at(1000 + 300 * 97))
        );
        assert_eq!(plan.next(at(0), anchor), Some(at(1300)));
    }

    #[test]
    fn what_comes_once_comes_once() {
        assert_eq!(Plan::At(at(50)).next(at(49), at(0)), Some(at(50)));
        assert_eq!(Plan::At(at(50)).next(at(50), at(0)), None);
        let after = Plan::After(Duration::from_secs(30));
        assert_eq!(after.next(at(100), at(100)), Some(at(130)));
        assert_eq!(after.next(at(130), at(100)), None);
    }

    #[test]
    fn what_a_store_would_round_comes_once() {
        let precise = Timestamp::from_nanosecond(50_000_000_123_456_789).unwrap();
        for plan in [
            Plan::At(precise),
            Plan::After(Duration::from_nanos(1_000_000_500)),
        ] {
            let slot = plan.next(at(0), at(0)).unwrap();
            let kept = Timestamp::from_microsecond(slot.as_microsecond()).unwrap();
            assert_eq!(plan.next(kept, at(0)), None, "{plan}");
        }
        let plan = Plan::Every(Duration::from_nanos(1_500_000_500));
        let slot = plan.next(at(0), at(0)).unwrap();
        let kept = Timestamp::from_microsecond(slot.as_microsecond()).unwrap();
        assert_eq!(
            plan.next(kept, at(0)),
            Timestamp::from_millisecond(3000).ok()
        );
    }

    #[test]
    fn a_plan_reads_as_people_say_it() {
        let said = |plan: Plan| plan.to_string();
        assert_eq!(said(Plan::Every(Duration::from_mins(90))), "every 1h30m");
        assert_eq!(
            said(Plan::Every(Duration::from_millis(86_401_500))),
            "every 1d1s500ms"
        );
        assert_eq!(said(Plan::At(at(0))), "at 1970-01-01T00:00:00Z");
        assert_eq!(said(Plan::After(Duration::ZERO)), "after 0s");
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let plan = Plan::Every(Duration::MAX);
        assert_eq!(plan.next(Timestamp::MAX, Timestamp::MIN), None);
        let plan = Plan::After(Duration::MAX);
        assert_eq!(plan.next(at(0), at(0)), None);
    }
}
