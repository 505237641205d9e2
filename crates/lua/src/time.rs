//! `pr.time`: points in time as Unix seconds, spans as seconds or `"1h30m"`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mlua::{Lua, Value};

use super::call::{Args, Fields, Registrar, number};
use super::fault::Fault;
use crate::Failure;
use crate::backend::Backend;

/// Registers `pr.time`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let clock = backend.clock();
    registrar.add("time.now", move |_, args| {
        args.end()?;
        Ok(clock.now().as_duration().as_secs_f64())
    })?;
    registrar.add("time.parse", |_, mut args| {
        let text = args.text("text")?;
        args.end()?;
        let time: Timestamp = text.parse().map_err(|_| {
            let message =
                format!("not a time of RFC 3339, such as 2026-03-01T08:00:00Z: {text:.60}");
            Fault::failed(Failure::new("time.invalid", message))
        })?;
        Ok(seconds(time))
    })?;
    registrar.add("time.format", format)?;
    registrar.add("time.duration", |_, mut args| {
        let span = args.next();
        args.end()?;
        Ok(duration(&span).map_err(Fault::Misuse)?.as_secs_f64())
    })
}

fn format(_: &Lua, mut args: Args) -> Result<String, Fault> {
    let time = args.number("time")?;
    let zone = match args.next() {
        Value::Nil => TimeZone::UTC,
        Value::String(name) => {
            let name = name.to_string_lossy();
            TimeZone::get(&name)
                .map_err(|_| Fault::Misuse(format!("no time zone is called '{name:.60}'")))?
        }
        other => return Err(args.wrong("time zone", "a string such as \"Europe/Paris\"", &other)),
    };
    args.end()?;
    let timestamp = timestamp(time).ok_or_else(|| Fault::misuse("the time is out of range"))?;
    if zone == TimeZone::UTC {
        return Ok(timestamp.to_string());
    }
    Ok(timestamp
        .display_with_offset(zone.to_offset(timestamp))
        .to_string())
}

/// Milliseconds are kept, so that a time formatted and parsed again is the same.
pub(crate) fn timestamp(seconds: f64) -> Option<Timestamp> {
    let milliseconds = (seconds * 1000.0).round();
    #[allow(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (milliseconds.abs() < 1e15)
        .then(|| Timestamp::from_millisecond(milliseconds as i64).ok())
        .flatten()
}

/// Unix seconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds of any calendar date fit 53 bits"
)]
pub(crate) fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

/// A point in time: Unix seconds, or text as in RFC 3339.
pub(crate) fn point(value: &Value) -> Result<Timestamp, Fault> {
    if let Some(seconds) = number(value) {
        return timestamp(seconds)
            .ok_or_else(|| Fault::misuse(format!("{seconds} is no time: it is out of range")));
    }
    let Value::String(text) = value else {
        return Err(Fault::Misuse(format!(
            "a time is a number of seconds since 1970 or text such as \"2026-03-01T08:00:00+01:00\", got a {}",
            super::call::kind(value)
        )));
    };
    let text = text.to_string_lossy();
    text.parse().map_err(|_| {
        Fault::Misuse(format!(
            "'{text:.40}' is no time: write \"2026-03-01T08:00:00Z\" or \"2026-03-01T08:00:00+01:00\""
        ))
    })
}

/// A span of time: a number of seconds, or `"90s"`, `"1h30m"`.
pub(crate) fn duration(value: &Value) -> Result<Duration, String> {
    if let Some(seconds) = number(value) {
        return Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("a span of time cannot be {seconds} seconds"));
    }
    let Value::String(text) = value else {
        let kind = super::call::kind(value);
        return Err(format!(
            "a span of time is a number of seconds or text such as \"45m\", got a {kind}"
        ));
    };
    let text = text.to_string_lossy();
    parse_duration(&text).ok_or_else(|| {
        format!("'{text:.40}' is no span of time: write \"500ms\", \"90s\", \"45m\" or \"1h30m\"")
    })
}

/// The span of time in the field `key`, if it is there.
pub(crate) fn span(fields: &Fields<'_>, key: &str) -> Result<Option<Duration>, Fault> {
    match fields.value(key)? {
        Value::Nil => Ok(None),
        value => duration(&value)
            .map(Some)
            .map_err(|wrong| Fault::Misuse(format!("{key}: {wrong}"))),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u32 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_lowercase)
            .count()
            + digits;
        let unit = match &rest[digits..unit_end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            "d" => Duration::from_hours(24),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(count)?)?;
        rest = rest[unit_end..].trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse_duration("45m"), Some(Duration::from_mins(45)));
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(
            parse_duration("1h 500ms"),
            Some(Duration::from_millis(3_600_500))
        );
        for wrong in ["", "m", "5", "-5s", "5 minutes", "1.5h", "99999999999s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
