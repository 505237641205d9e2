//! Filters that reports need besides Jinja's own: times, numbers, sizes, spans.
#![allow(
    clippy::needless_pass_by_value,
    reason = "minijinja hands a filter its arguments by value"
)]

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};

use crate::time::timestamp;

/// How a time is written, unless the template says otherwise.
const FORMAT: &str = "%Y-%m-%d %H:%M";
/// No format of a time is longer.
const FORMAT_OCTETS: usize = 200;
/// More decimals than a number has.
const DECIMALS: usize = 15;

/// Adds them.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("time", time);
    environment.add_filter("number", number);
    environment.add_filter("octets", octets);
    environment.add_filter("span", span);
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// `{{ at|time("%d.%m.%Y %H:%M", zone="Europe/Paris") }}`: Unix seconds or RFC 3339 as people
/// read it; UTC unless it says otherwise.
fn time(value: &Value, format: Option<String>, options: Kwargs) -> Result<String, Error> {
    let zone: Option<String> = options.get("zone")?;
    options.assert_all_used()?;
    let format = format.as_deref().unwrap_or(FORMAT);
    if format.len() > FORMAT_OCTETS {
        return Err(wrong("the format of a time is too long"));
    }
    let moment: Option<Timestamp> = match value.as_str() {
        Some(text) => text.parse().ok(),
        None => float(value).and_then(timestamp),
    };
    let moment = moment.ok_or_else(|| {
        wrong("time takes seconds since 1970, or text such as 2026-03-01T08:00:00Z")
    })?;
    let zone = match zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(&name)
            .map_err(|_| wrong(format!("no time zone is called '{name:.60}'")))?,
    };
    let moment: Zoned = moment.to_zoned(zone);
    jiff::fmt::strtime::format(format, &moment)
        .map_err(|_| wrong(format!("'{format:.60}' is no format of a time")))
}

/// `{{ 1234567.891|number(2) }}` is `1,234,567.89`; `sep` and `point` change the signs.
fn number(value: &Value, decimals: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let sep: Option<String> = options.get("sep")?;
    let point: Option<String> = options.get("point")?;
    options.assert_all_used()?;
    let sep = sep.as_deref().unwrap_or(",");
    if decimals.unwrap_or_default() > DECIMALS {
        return Err(wrong(format!("a number has at most {DECIMALS} decimals")));
    }
    let digits = if let (Ok(whole), None) = (i64::try_from(value.clone()), decimals) {
        whole.to_string()
    } else {
        let number = float(value).ok_or_else(|| wrong("number takes a number"))?;
        format!("{number:.*}", decimals.unwrap_or(2))
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let (sign, whole) = whole
        .strip_prefix('-')
        .map_or(("", whole), |whole| ("-", whole));
    let mut text = sign.to_owned();
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push_str(sep);
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push_str(point.as_deref().unwrap_or("."));
        text.push_str(fraction);
    }
    Ok(text)
}

/// `{{ 1610612736|octets }}` is `1.5 GiB`.
fn octets(value: &Value) -> Result<String, Error> {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = float(value).ok_or_else(|| wrong("octets takes a number"))?;
    let mut unit = "octets";
    for larger in UNITS {
        // What would be written as 1024.0 is written as 1.0 of the next.
        if amount.abs() < 1023.95 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    let decimals = usize::from(unit != "octets");
    Ok(format!("{amount:.decimals$} {unit}"))
}

/// `{{ 5400|span }}` is `1h 30m`: seconds, in the two largest units.
fn span(value: &Value) -> Result<String, Error> {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let seconds = float(value)
        .filter(|seconds| (0.0..1e15).contains(seconds))
        .ok_or_else(|| wrong("span takes a number of seconds"))?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range"
    )]
    let mut left = seconds.round() as u64;
    let mut parts = Vec::new();
    for (unit, length) in UNITS {
        if left >= length && parts.len() < 2 {
            parts.push(format!("{}{unit}", left / length));
            left %= length;
        }
    }
    Ok(if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    })
}

fn float(value: &Value) -> Option<f64> {
    f64::try_from(value.clone())
        .ok()
        .filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        add(&mut environment);
        environment.render_str(template, ())
    }

    #[test]
    fn times_numbers_sizes_and_spans_are_written_as_people_read_them() {
        for (template, text) in [
            ("{{ 0|time }}", "1970-01-01 00:00"),
            (
                "{{ '2026-07-01T06:00:00Z'|time('%d.%m.%Y %H:%M %Z', zone='Europe/Paris') }}",
                "01.07.2026 08:00 CEST",
            ),
            ("{{ 1782892800.5|time('%F') }}", "2026-07-01"),
            ("{{ 1234567|number }}", "1,234,567"),
            ("{{ -123|number }} {{ 12|number(1) }}", "-123 12.0"),
            ("{{ 1234.5|number }}", "1,234.50"),
            (
                "{{ 1234567.891|number(2, sep='.', point=',') }}",
                "1.234.567,89",
            ),
            ("{{ 0|octets }} {{ 1023|octets }}", "0 octets 1023 octets"),
            ("{{ 1048575|octets }}", "1.0 MiB"),
            ("{{ 1610612736|octets }}", "1.5 GiB"),
            ("{{ 0|span }} {{ 59.6|span }}", "0s 1m"),
            ("{{ 5400|span }} {{ 90061|span }}", "1h 30m 1d 1h"),
        ] {
            assert_eq!(render(template).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn what_is_no_number_and_no_time_is_refused() {
        for template in [
            "{{ 'soon'|time }}",
            "{{ 1e300|time }}",
            "{{ 0|time('%Q%') }}",
            "{{ 0|time(zone='Europe/Pariss') }}",
            "{{ 0|time(zoen='UTC') }}",
            "{{ 'x'|number }}",
            "{{ 1|number(1000000000) }}",
            "{{ []|octets }}",
            "{{ -1|span }}",
        ] {
            assert!(render(template).is_err(), "{template}");
        }
    }
}
