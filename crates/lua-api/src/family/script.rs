//! What a script knows of itself.

use crate::item::Type::{List, Text};
use crate::item::{Family, Item, Kind};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "The script itself",
    intro: "",
    items: &[
        Item {
            name: "args",
            kind: Kind::Value(List(&Text)),
            doc: "The arguments after the script's name; the script gets them as `...` too.",
            since: "0.1",
            example: r#"local account = pr.account(pr.args[1] or "alerts")"#,
        },
        Item {
            name: "version",
            kind: Kind::Value(Text),
            doc: "Postrider's version.",
            since: "0.1",
            example: r"print(pr.version)",
        },
    ],
};
