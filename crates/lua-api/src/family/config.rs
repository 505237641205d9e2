//! The configuration file.

use crate::item::Type::{Any, Text, True};
use crate::item::{ERR, Errors, Family, Item, Kind, error, field, optional};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Settings",
    intro: "",
    items: &[
        Item {
            name: "config.get",
            kind: Kind::Function {
                params: &[field(
                    "key",
                    Text,
                    "A dotted key of the configuration file.",
                )],
                returns: &[
                    field("value", Any, "The value; `nil` where it is not set."),
                    ERR,
                ],
                waits: false,
                errors: Errors::Returned(&[&[error(
                    "config.invalid",
                    "the key is none, or the file has become invalid",
                )]]),
            },
            doc: "Reads a setting.",
            since: "0.1",
            example: r#"local sender = pr.config.get "account.ops.sender""#,
        },
        Item {
            name: "config.set",
            kind: Kind::Function {
                params: &[
                    field("key", Text, "A dotted key."),
                    field(
                        "value",
                        Any,
                        "Its value; a `pr.secret` is written as a reference.",
                    ),
                ],
                returns: &[
                    optional("ok", True, "`true` once the file is replaced."),
                    ERR,
                ],
                waits: true,
                errors: Errors::Returned(&[&[
                    error("config.no_file", "there is no configuration file to change"),
                    error(
                        "config.not_changed",
                        "the file would become invalid, or cannot be written",
                    ),
                ]]),
            },
            doc: "Changes a setting in the configuration file. The whole file is checked first; comments and order stay.",
            since: "0.1",
            example: r#"assert(pr.config.set("account.alerts.sender", "noreply@contoso.com"))"#,
        },
    ],
};
