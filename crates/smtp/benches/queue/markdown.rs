//! The figures as the tables of `docs/src/performance.md`.

use std::fmt::Write as _;

use serde_json::Value;

/// The table of one part.
pub(crate) fn table(part: &str, measured: &Value) -> String {
    match part {
        "accept" => rows(
            &[
                ("at once", "submitters", 0),
                ("messages/s", "postrider_per_second", 0),
                ("Postfix", "postfix_per_second", 0),
                (
                    "rows in SQLite, in groups of as many",
                    "sqlite_per_second",
                    0,
                ),
                ("appended and flushed, likewise", "append_per_second", 0),
                ("× Postfix", "times_postfix", 2),
                ("× SQLite", "times_sqlite", 2),
                ("flushes each", "syncs_per_message", 3),
                ("Postfix's", "postfix_syncs_per_message", 3),
            ],
            measured,
        ),
        "deliver" => rows(
            &[
                ("delay, ms", "delay_ms", 0),
                ("connections", "connections", 0),
                ("", "sender", 0),
                ("messages/s", "messages_per_second", 0),
                ("round trips", "round_trips_per_message", 2),
                ("× Postfix", "times_postfix", 1),
                ("× lettre", "times_lettre", 1),
            ],
            measured,
        ),
        "relay" => rows(
            &[
                ("disk", "disk", 0),
                ("at once", "submitters", 0),
                ("", "sender", 0),
                ("messages/s", "messages_per_second", 0),
                ("CPU s", "cpu_seconds_per_1000", 3),
                ("peak MiB", "peak_mib", 1),
                ("idle MiB", "idle_mib", 1),
                ("ready ms", "ready_ms", 1),
            ],
            measured,
        ),
        "gateway" => rows(
            &[
                ("disk", "disk", 0),
                ("sessions", "sessions", 0),
                ("", "relay", 0),
                ("messages/s", "messages_per_second", 0),
                ("CPU s", "cpu_seconds_per_1000", 3),
                ("peak MiB", "peak_mib", 1),
                ("idle MiB", "idle_mib", 1),
                ("ready ms", "ready_ms", 1),
                ("flushes each", "syncs_per_message", 3),
            ],
            measured,
        ),
        "one-shot" => rows(
            &[
                ("delay, ms", "delay_ms", 0),
                ("", "sender", 0),
                ("ms", "milliseconds", 1),
                ("round trips", "round_trips", 0),
                ("× msmtp", "times_msmtp", 2),
            ],
            measured,
        ),
        _ => single(measured, ""),
    }
}

/// A row for each measurement: the heading, the figure's name, and its decimals.
fn rows(columns: &[(&str, &str, usize)], measured: &Value) -> String {
    let mut table = String::from("|");
    for (heading, ..) in columns {
        let _ = write!(table, " {heading} |");
    }
    let _ = write!(table, "\n|{}\n", "---|".repeat(columns.len()));
    for row in measured.as_array().into_iter().flatten() {
        table.push('|');
        for (_, name, decimals) in columns {
            let _ = write!(table, " {} |", cell(&row[name], *decimals));
        }
        table.push('\n');
    }
    table
}

/// A row for each figure.
fn single(measured: &Value, of: &str) -> String {
    let mut table = String::new();
    if of.is_empty() {
        table.push_str("| | |\n|---|---|\n");
    }
    for (name, value) in measured.as_object().into_iter().flatten() {
        let name = format!("{of}{}", name.replace('_', " "));
        if value.is_object() {
            table.push_str(&single(value, &format!("{name}: ")));
        } else {
            let _ = writeln!(table, "| {name} | {} |", cell(value, 2));
        }
    }
    table
}

fn cell(value: &Value, decimals: usize) -> String {
    match (value, value.as_f64()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(figure)) if value.is_f64() => grouped(&format!("{figure:.decimals$}")),
        (_, Some(_)) => grouped(&value.to_string()),
        _ => "-".to_owned(),
    }
}

/// With commas between thousands.
fn grouped(figure: &str) -> String {
    let (whole, rest) = figure.split_at(figure.find('.').unwrap_or(figure.len()));
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}
