//! Times as people read them.

use std::time::{Duration, SystemTime};

use postrider_auth::days_left;

use crate::app::Moment;

/// `in 41 min`, `now`, `3 d ago`.
pub(crate) fn relative(moment: Moment, now: SystemTime) -> String {
    match moment.0.duration_since(now) {
        Ok(left) if left < Duration::from_secs(1) => "now".to_owned(),
        Ok(left) => format!("in {}", span(left)),
        Err(over) => format!("{} ago", span(over.duration())),
    }
}

/// When something ends, in the days that warnings of it count: `in 5 d`; in hours when it is near.
pub(crate) fn end(moment: Moment, now: SystemTime) -> String {
    match days_left(moment.0, now) {
        days @ 3.. => format!("in {days} d"),
        _ => relative(moment, now),
    }
}

/// `2027-02-21`.
pub(crate) fn day(moment: Moment) -> String {
    moment.timestamp().map_or_else(String::new, |timestamp| {
        timestamp.strftime("%F").to_string()
    })
}

/// The longest unit that is there at least once and a half, or nearly: `90 min`, `36 h`, `89 d`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", seconds / 60),
        6_000..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_length() {
        for (seconds, text) in [
            (0, "0 s"),
            (99, "99 s"),
            (100, "1 min"),
            (5_400, "90 min"),
            (7_200, "2 h"),
            (129_600, "36 h"),
            (7_689_600, "89 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_was_and_what_will_be_are_told_apart() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
        let at = |moment| relative(Moment(moment), now);

        assert_eq!(at(now + Duration::from_mins(41)), "in 41 min");
        assert_eq!(at(now - Duration::from_hours(72)), "3 d ago");
        assert_eq!(at(now), "now");
        assert_eq!(day(Moment(SystemTime::UNIX_EPOCH)), "1970-01-01");
    }

    #[test]
    fn an_end_is_as_far_as_its_warning_says() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
        let at = |hours| end(Moment(now + Duration::from_hours(hours)), now);

        assert_eq!(at(5 * 24 - 1), "in 5 d");
        assert_eq!(at(49), "in 3 d");
        assert_eq!(at(47), "in 47 h");
        assert_eq!(end(Moment(now - Duration::from_hours(72)), now), "3 d ago");
    }
}
