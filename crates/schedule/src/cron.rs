//! Cron expressions: five fields, read by croner, matched against the wall clock of a zone.
//!
//! croner finds the wall-clock times; which moments those are on the days when clocks change is
//! decided here, by the hour field, and never by chance:
//!
//! - Bound to hours (`30 2 * * *`, `*/10 1-3 * * *`): every time of day comes once a day. One
//!   that the clocks skip comes at the first moment after the gap, together with any other that
//!   they skip; one that they show twice comes the first time.
//! - Every hour, or every few (`*/15 * * * *`, `0 */2 * * *`): whatever the wall clock shows. A
//!   time that is skipped does not come, one that is shown twice comes twice, so that `*/15`
//!   stays fifteen minutes.

use std::fmt;

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// Longer than any expression that means something.
const LENGTH: usize = 200;

/// A cron expression.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    pattern: Box<croner::Cron>,
    /// The hour field begins with `*`: follow the wall clock through each real hour.
    hourly: bool,
}

/// Why some text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError {
    text: String,
    reason: String,
}

impl CronError {
    /// The reason alone, without the expression.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, reason } = self;
        let shown: String = text.chars().take(60).collect();
        write!(f, "cron expression {shown:?}: {reason}")
    }
}

impl std::error::Error for CronError {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl Cron {
    /// Reads five fields, minute, hour, day of month, month and day of week, or a nickname such
    /// as `@daily`.
    ///
    /// Names of months and days, lists, ranges and steps are understood, and `L` (last), `W`
    /// (the nearest working day) and `#` (the n-th of a month). Where both day fields are
    /// restricted either of them suffices, as everywhere; `+mon` asks for both.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fail = |reason: String| CronError {
            text: text.to_owned(),
            reason,
        };
        if text.len() > LENGTH {
            return Err(fail(format!("is longer than {LENGTH} octets")));
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let spelled = match text.strip_prefix('@') {
            Some(nickname) => nickname_fields(nickname).map_err(fail)?,
            None => &text,
        };
        let fields = split(spelled).map_err(fail)?;
        let mut plain = Vec::with_capacity(FIELDS.len());
        for (field, written) in FIELDS.iter().zip(&fields) {
            plain.push(field.read(written).map_err(fail)?);
        }
        let pattern = parse(&plain.join(" ")).map_err(|error| fail(error.to_string()))?;
        if never(&plain) {
            return Err(fail("never comes: no such month has such a day".to_owned()));
        }
        Ok(Self {
            hourly: plain[1].starts_with('*'),
            text,
            pattern: Box::new(pattern),
        })
    }

    /// The first time after `after` by the wall clock of `zone`; `None` at the end of the
    /// calendar.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.hourly {
            self.next_shown(after, zone)
        } else {
            self.next_of_day(after, zone)
        }
    }

    /// Goes from one change of the clocks to the next: between two of them the wall clock just
    /// runs.
    fn next_shown(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut offset = zone.to_offset(after);
        let mut from = offset.to_datetime(after);
        let mut inclusive = false;
        let mut changes = zone.following(after);
        loop {
            let found = self.next_civil(from, inclusive)?;
            let found = offset.to_timestamp(found).ok()?;
            match changes.next() {
                Some(change) if change.timestamp() <= found => {
                    offset = change.offset();
                    from = offset.to_datetime(change.timestamp());
                    inclusive = true;
                }
                _ => return Some(found),
            }
        }
    }

    /// Each time of day means one moment, and a later time never an earlier moment.
    fn next_of_day(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = zone.to_offset(after).to_datetime(after);
        loop {
            from = self.next_civil(from, false)?;
            let found = moment(from, zone)?;
            if found > after {
                return Some(found);
            }
        }
    }

    fn next_civil(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        // With a fraction of a second the same second lies in the past.
        let inclusive = inclusive && from.subsec_nanosecond() == 0;
        self.pattern.find_next_occurrence(&from, inclusive).ok()
    }
}

/// The one moment that a time of day means: the first one, or the end of the gap it falls in.
fn moment(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let earlier = |offset: Offset| offset.to_timestamp(time).ok();
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => earlier(offset),
        AmbiguousOffset::Fold { before, .. } => earlier(before),
        // By the clock that comes after it, the time lies before the change.
        AmbiguousOffset::Gap { after, .. } => {
            let change = zone.following(earlier(after)?).next()?;
            Some(change.timestamp())
        }
    }
}

/// One of the five fields.
struct Field {
    name: &'static str,
    lowest: u32,
    highest: u32,
    /// Names, the first of which means `first`.
    words: &'static [&'static str],
    first: u32,
    /// What else croner understands there.
    letters: &'static str,
    takes: &'static str,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        lowest: 0,
        highest: 59,
        words: &[],
        first: 0,
        letters: "",
        takes: "0-59",
    },
    Field {
        name: "hour",
        lowest: 0,
        highest: 23,
        words: &[],
        first: 0,
        letters: "",
        takes: "0-23",
    },
    Field {
        name: "day of month",
        lowest: 1,
        highest: 31,
        words: &[],
        first: 0,
        letters: "LW",
        takes: "1-31, L for the last day or 15W for the working day nearest to the 15th",
    },
    Field {
        name: "month",
        lowest: 1,
        highest: 12,
        words: &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
        first: 1,
        letters: "",
        takes: "1-12 or jan-dec",
    },
    Field {
        name: "day of week",
        lowest: 0,
        highest: 7,
        words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        first: 0,
        letters: "L",
        takes: "0-7 (0 and 7 are Sunday) or sun-sat, mon#2 for the second Monday or fri#L for the \
                last Friday",
    },
];

impl Field {
    /// `written` in numbers, if croner takes it.
    fn read(&self, written: &str) -> Result<String, String> {
        let plain = self.plain(&written.to_uppercase());
        let alone: Vec<&str> = FIELDS
            .iter()
            .map(|field| match &plain {
                Some(plain) if field.name == self.name => plain,
                _ => "*",
            })
            .collect();
        match plain {
            Some(ref plain) if parse(&alone.join(" ")).is_ok() => Ok(plain.clone()),
            _ => Err(format!(
                "{} {written:?} is not understood; it takes {}, lists (a,b), upward ranges (a-b) \
                 and steps (*/n, a-b/n, n at most {})",
                self.name, self.takes, self.highest
            )),
        }
    }

    /// Names as numbers; nothing where a word is not one of them, an item of a list is missing,
    /// or a step leaves the field at once (croner lets these pass).
    fn plain(&self, upper: &str) -> Option<String> {
        let mut plain = String::with_capacity(upper.len());
        let mut rest = upper;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let (before, word) = rest.split_at(start);
            let end = word
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            plain.push_str(before);
            if let Some(index) = self.words.iter().position(|known| *known == word) {
                // "fri-sun" runs upwards, too.
                let sunday_last = word == "SUN" && before.ends_with('-');
                let index = u32::try_from(index).unwrap_or_default();
                let number = if sunday_last { 7 } else { self.first + index };
                plain.push_str(&number.to_string());
            } else if word.chars().all(|letter| self.letters.contains(letter)) {
                plain.push_str(word);
            } else {
                return None;
            }
            rest = after;
        }
        plain.push_str(rest);
        plain
            .split(',')
            .all(|item| self.allows(item))
            .then_some(plain)
    }

    fn allows(&self, item: &str) -> bool {
        match item.split_once('/') {
            Some((_, step)) => step
                .parse()
                .is_ok_and(|step: u32| (1..=self.highest.max(self.lowest)).contains(&step)),
            None => !item.is_empty(),
        }
    }
}

fn split(text: &str) -> Result<Vec<&str>, String> {
    let fields: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
    let wanted =
        "a cron expression has five fields: minute, hour, day of month, month, day of week";
    match fields.len() {
        5 => Ok(fields),
        6 if fields[5].contains('/') || fields[5] == "UTC" => Err(format!(
            "{wanted}; the time zone is an option of its own, tz"
        )),
        6 => Err(format!("{wanted}; there are none for seconds or years")),
        count => Err(format!("{wanted}; this one has {count}")),
    }
}

fn nickname_fields(nickname: &str) -> Result<&'static str, String> {
    Ok(match nickname.to_ascii_lowercase().as_str() {
        "hourly" => "0 * * * *",
        "daily" | "midnight" => "0 0 * * *",
        "weekly" => "0 0 * * 0",
        "monthly" => "0 0 1 * *",
        "yearly" | "annually" => "0 0 1 1 *",
        _ => {
            return Err(
                "only @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually \
                        are known"
                    .to_owned(),
            );
        }
    })
}

fn parse(fields: &str) -> Result<croner::Cron, croner::errors::CronError> {
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(fields)
}

/// Whether it comes on no day of forty years, a whole round of weekdays and leap years.
fn never(fields: &[String]) -> bool {
    let bounded = format!("0 {} 2024-2064", fields.join(" "));
    let start = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);
    CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Required)
        .build()
        .parse(&bounded)
        .is_ok_and(|cron| cron.find_next_occurrence(&start, true).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next `count` times after `after`, by the clock of `zone`.
    fn times(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(text).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut time: Timestamp = after.parse().unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            time = cron.next(time, &zone).unwrap();
            times.push(
                time.to_zoned(zone.clone())
                    .strftime("%d %H:%M %:z")
                    .to_string(),
            );
        }
        times
    }

    #[test]
    fn a_time_of_day_in_a_gap_comes_once_when_the_gap_ends() {
        let paris = times("30 2 * * *", "Europe/Paris", "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            paris,
            ["28 02:30 +01:00", "29 03:00 +02:00", "30 02:30 +02:00"]
        );
        let york = times(
            "0,30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            2,
        );
        assert_eq!(york, ["08 03:00 -04:00", "09 02:00 -04:00"]);
        // Half an hour is left out here: 02:00 to 02:30.
        let howe = times(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            2,
        );
        assert_eq!(howe, ["04 02:30 +11:00", "05 02:15 +11:00"]);
    }

    #[test]
    fn a_time_of_day_that_is_shown_twice_comes_the_first_time_only() {
        let paris = times("30 2 * * *", "Europe/Paris", "2026-10-24T12:00:00Z", 2);
        assert_eq!(paris, ["25 02:30 +02:00", "26 02:30 +01:00"]);
        let york = times("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2);
        assert_eq!(york, ["01 01:30 -04:00", "02 01:30 -05:00"]);
        let howe = times(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-03T20:00:00Z",
            2,
        );
        assert_eq!(howe, ["05 01:45 +11:00", "06 01:45 +10:30"]);
    }

    #[test]
    fn every_hour_means_every_real_hour() {
        let paris = times("30 * * * *", "Europe/Paris", "2026-10-24T23:00:00Z", 4);
        assert_eq!(
            paris,
            [
                "25 01:30 +02:00",
                "25 02:30 +02:00",
                "25 02:30 +01:00",
                "25 03:30 +01:00"
            ]
        );
        let york = times("30 * * * *", "America/New_York", "2026-03-08T06:00:00Z", 2);
        assert_eq!(york, ["08 01:30 -05:00", "08 03:30 -04:00"]);
        let howe = times(
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:40:00Z",
            4,
        );
        assert_eq!(
            howe,
            [
                "05 01:45 +11:00",
                "05 01:30 +10:30",
                "05 01:45 +10:30",
                "05 02:00 +10:30"
            ]
        );
    }

    #[test]
    fn names_ranges_and_nicknames_are_understood() {
        let week = times("0 8 * * fri-sun", "UTC", "2026-11-23T00:00:00Z", 3);
        assert_eq!(
            week,
            ["27 08:00 +00:00", "28 08:00 +00:00", "29 08:00 +00:00"]
        );
        assert_eq!(
            times("@daily", "UTC", "2026-11-23T00:00:00Z", 1),
            ["24 00:00 +00:00"]
        );
        assert_eq!(
            times("0 0 L dec *", "UTC", "2026-11-23T00:00:00Z", 1),
            ["31 00:00 +00:00"]
        );
    }

    #[test]
    fn an_error_names_the_field_and_what_it_takes() {
        let reason = |text: &str| Cron::parse(text).unwrap_err().reason().to_owned();
        assert!(reason("60 * * * *").starts_with("minute \"60\" is not understood; it takes 0-59"));
        assert!(reason("0 8 * mon *").starts_with("month \"mon\" is not understood"));
        assert!(reason("*/90 * * * *").contains("n at most 59"));
        assert!(reason("0 8 * *").contains("five fields"));
        assert!(reason("0 8 * * * Europe/Paris").contains("an option of its own, tz"));
        assert!(reason("@reboot").contains("@daily"));
        assert!(reason("0 0 30 2 *").starts_with("never comes"));
    }
}
