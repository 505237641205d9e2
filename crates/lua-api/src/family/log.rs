//! The log.

use crate::item::Type::{Table, Text};
use crate::item::{Errors, Family, Item, Kind, field, optional};

const LINE: Kind = Kind::Function {
    params: &[
        field("message", Text, "One line."),
        optional(
            "fields",
            Table,
            "What belongs to it, as JSON; a secret says only that it is one.",
        ),
    ],
    returns: &[],
    waits: false,
    errors: Errors::Never,
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Log",
    intro: "",
    items: &[
        Item {
            name: "log.debug",
            kind: LINE,
            doc: "A line in the log, for whoever looks for a fault.",
            since: "0.1",
            example: r#"pr.log.debug("looked", { found = 3 })"#,
        },
        Item {
            name: "log.info",
            kind: LINE,
            doc: "A line in the log that is as expected.",
            since: "0.1",
            example: r#"pr.log.info("sent", { to = "ops@example.net" })"#,
        },
        Item {
            name: "log.warn",
            kind: LINE,
            doc: "A line in the log that somebody should see.",
            since: "0.1",
            example: r#"pr.log.warn "the disk is nearly full""#,
        },
        Item {
            name: "log.error",
            kind: LINE,
            doc: "A line in the log that somebody must act on.",
            since: "0.1",
            example: r#"pr.log.error "no mail goes out""#,
        },
    ],
};
