//! The configured variables of the environment.

use crate::item::Type::Text;
use crate::item::{Errors, Family, Item, Kind, error, field, optional};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Environment",
    intro: "",
    items: &[Item {
        name: "env",
        kind: Kind::Function {
            params: &[field("name", Text, "The variable.")],
            returns: &[optional(
                "value",
                Text,
                "What it holds; `nil` if it is not set.",
            )],
            waits: false,
            errors: Errors::Raised(&[&[error(
                "env.not_allowed",
                "`[scripts] env` does not name the variable",
            )]]),
        },
        doc: "A variable of the environment that `[scripts] env` names. It is not for secrets: `pr.secret.env` gives a script the use of one, not the text, and needs no permission.",
        since: "0.1",
        example: r#"local to = pr.env "REPORT_TO" or "ops@example.org""#,
    }],
};
