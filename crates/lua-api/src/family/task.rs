//! Waiting, and doing several things at once.

use crate::item::Type::{self, Duration, List, OneOf, Table};
use crate::item::{Errors, Family, Item, Kind, field};

/// Something to do, whatever it answers.
const WORK: Type = Type::Function(&[], &[]);

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Waiting",
    intro: "",
    items: &[
        Item {
            name: "sleep",
            kind: Kind::Function {
                params: &[field("span", Duration, "`\"1s\"`, or seconds.")],
                returns: &[],
                waits: true,
                errors: Errors::Never,
            },
            doc: "Waits, while other tasks run.",
            since: "0.1",
            example: r#"pr.sleep "1s""#,
        },
        Item {
            name: "join",
            kind: Kind::Function {
                params: &[
                    field(
                        "functions",
                        OneOf(&[List(&WORK), WORK]),
                        "Functions, in one list or as arguments.",
                    ),
                    field(
                        "...",
                        WORK,
                        "Further functions, where they are not in a list.",
                    ),
                ],
                returns: &[field(
                    "results",
                    List(&Table),
                    "For each function, in order, its results as `table.pack` gives them.",
                )],
                waits: true,
                errors: Errors::Never,
            },
            doc: "Runs functions at the same time and waits for all of them. If one raises an error, the others still end, since a send that was begun must not be left half done; then the first error is raised.",
            since: "0.1",
            example: r#"local sends = {}
for i, address in ipairs { "a@example.org", "b@example.org" } do
  sends[i] = function() return account:send { to = address, subject = "hello", text = "…" } end
end
for _, result in ipairs(pr.join(sends)) do
  local receipt, err = result[1], result[2]
  print(receipt and receipt.message_id or err)
end"#,
        },
    ],
};
