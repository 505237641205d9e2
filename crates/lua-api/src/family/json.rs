//! JSON.

use crate::item::Type::{Any, Table, Text, Userdata};
use crate::item::{ERR, Errors, Family, Item, Kind, error, field, optional};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "JSON",
    intro: "",
    items: &[
        Item {
            name: "json.encode",
            kind: Kind::Function {
                params: &[field(
                    "value",
                    Any,
                    "Tables, text (UTF-8), numbers, booleans, `pr.json.null`.",
                )],
                returns: &[field("text", Text, "JSON, its keys sorted.")],
                waits: false,
                errors: Errors::Never,
            },
            doc: "A value as JSON. A table with the keys 1 to n is an array, any other an object, and so is an empty one unless `pr.json.array` marked it. What JSON cannot say raises an error that names where it stands.",
            since: "0.1",
            example: r"print(pr.json.encode { to = pr.json.array {}, size = 3 })",
        },
        Item {
            name: "json.decode",
            kind: Kind::Function {
                params: &[field("text", Text, "JSON.")],
                returns: &[
                    field("value", Any, "The value; a null is `pr.json.null`."),
                    ERR,
                ],
                waits: false,
                errors: Errors::Returned(&[&[error("json.invalid", "the text is not JSON")]]),
            },
            doc: "A value from JSON.",
            since: "0.1",
            example: r#"local status = assert(pr.json.decode '{"disk": 91}')"#,
        },
        Item {
            name: "json.array",
            kind: Kind::Function {
                params: &[optional("list", Table, "A list; a new one if absent.")],
                returns: &[field("list", Table, "The same, marked.")],
                waits: false,
                errors: Errors::Never,
            },
            doc: "Marks a list as an array, so that it is `[]` when empty.",
            since: "0.1",
            example: r"local none = pr.json.array()",
        },
        Item {
            name: "json.null",
            kind: Kind::Value(Userdata),
            doc: "JSON's null, which a table can hold and `nil` cannot be.",
            since: "0.1",
            example: r"local patch = { phone = pr.json.null }",
        },
    ],
};
