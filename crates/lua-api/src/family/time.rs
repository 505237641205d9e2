//! Points and spans of time.

use crate::item::Type::{Duration, Number, Text, Zone};
use crate::item::{ERR, Errors, Family, Item, Kind, error, field, optional};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Time",
    intro: "",
    items: &[
        Item {
            name: "time.now",
            kind: Kind::Function {
                params: &[],
                returns: &[field(
                    "time",
                    Number,
                    "Seconds since 1970, with a fraction.",
                )],
                waits: false,
                errors: Errors::Never,
            },
            doc: "The time.",
            since: "0.1",
            example: r"local started = pr.time.now()",
        },
        Item {
            name: "time.parse",
            kind: Kind::Function {
                params: &[field("text", Text, "A time of RFC 3339.")],
                returns: &[optional("time", Number, "Seconds since 1970."), ERR],
                waits: false,
                errors: Errors::Returned(&[&[error("time.invalid", "the text is no such time")]]),
            },
            doc: "A time from text.",
            since: "0.1",
            example: r#"local due = assert(pr.time.parse "2026-12-31T08:00:00+01:00")"#,
        },
        Item {
            name: "time.format",
            kind: Kind::Function {
                params: &[
                    field("time", Number, "Seconds since 1970."),
                    optional(
                        "zone",
                        Zone,
                        "A time zone such as `\"Europe/Paris\"`; UTC if absent.",
                    ),
                ],
                returns: &[field("text", Text, "RFC 3339.")],
                waits: false,
                errors: Errors::Never,
            },
            doc: "A time as text.",
            since: "0.1",
            example: r#"print(pr.time.format(pr.time.now(), "Europe/Paris"))"#,
        },
        Item {
            name: "time.duration",
            kind: Kind::Function {
                params: &[field(
                    "span",
                    Duration,
                    "`\"500ms\"`, `\"90s\"`, `\"1h30m\"`, `\"2d\"`, or seconds.",
                )],
                returns: &[field("seconds", Number, "The same in seconds.")],
                waits: false,
                errors: Errors::Never,
            },
            doc: "A span of time as seconds, read as everywhere in Postrider.",
            since: "0.1",
            example: r#"local limit = pr.time.now() + pr.time.duration "2h""#,
        },
    ],
};
