//! Tables as CSV.

use crate::family::fs::{FILE, PATH};
use crate::item::Type::{self, Boolean, List, Table, Text};
use crate::item::{Error, Errors, Family, Field, Item, Kind, Record, error, field, optional};

const DELIMITER: Field = optional(
    "delimiter",
    Text,
    "What stands between fields: one character; `\",\"` if absent.",
);

/// What `pr.csv.decode` and `pr.csv.read` accept.
pub const CSV_READ_FIELDS: &[Field] = &[
    optional(
        "header",
        Boolean,
        "Whether the first line names the columns; `true` if absent. Else rows are lists.",
    ),
    DELIMITER,
];

/// What `pr.csv.encode` accepts.
pub const CSV_ENCODE_FIELDS: &[Field] = &[
    optional(
        "columns",
        List(&Text),
        "Which columns, in this order; all of them, sorted, if absent.",
    ),
    optional(
        "header",
        Boolean,
        "Whether the first line names the columns; `true` if absent.",
    ),
    DELIMITER,
    optional(
        "safe",
        Boolean,
        "Puts a `'` before text that a spreadsheet would take for a formula.",
    ),
];

const READ: Record = Record {
    class: "postrider.CsvReadOptions",
    doc: "What `pr.csv.decode` and `pr.csv.read` take.",
    fields: CSV_READ_FIELDS,
};

const ENCODE: Record = Record {
    class: "postrider.CsvEncodeOptions",
    doc: "What `pr.csv.encode` takes.",
    fields: CSV_ENCODE_FIELDS,
};

const INVALID: &[Error] = &[
    error("csv.invalid", "it is not CSV; `place` names the line"),
    error(
        "csv.too_large",
        "it is longer than 16 MiB, or has more than 500,000 cells",
    ),
];

const RETURNS: &[Field] = &[
    optional(
        "rows",
        List(&Table),
        "The rows: by the names of the columns, or lists.",
    ),
    optional(
        "columns",
        Type::OneOf(&[List(&Text), Type::Error]),
        "The names of the columns, in their order; or why not, where the first result is `nil`.",
    ),
];

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "CSV",
    intro: "RFC 4180. What is ambiguous is an error that names the line: a quote that is never closed, a row of another length, two columns of one name, text that is not UTF-8.",
    items: &[
        Item {
            name: "csv.decode",
            kind: Kind::Function {
                params: &[
                    field("text", Text, "CSV, as UTF-8."),
                    optional("options", Type::Record(&READ), "Options, as below."),
                ],
                returns: RETURNS,
                waits: false,
                errors: Errors::Returned(&[INVALID]),
            },
            doc: "Rows from CSV. Every cell is text. Names of columns lose the spaces around them; a column without a name is left out, and must be empty.",
            since: "0.1",
            example: r#"local rows = assert(pr.csv.decode "name,mail\nAda,ada@example.org\n")
print(rows[1].mail)"#,
        },
        Item {
            name: "csv.read",
            kind: Kind::Function {
                params: &[
                    PATH,
                    optional("options", Type::Record(&READ), "Options, as below."),
                ],
                returns: RETURNS,
                waits: true,
                errors: Errors::Returned(&[INVALID, FILE]),
            },
            doc: "The same from a file that `pr.fs.read` may read.",
            since: "0.1",
            example: r#"local people, err = pr.csv.read("people.csv", { delimiter = ";" })
if not people then print(err.code) end"#,
        },
        Item {
            name: "csv.encode",
            kind: Kind::Function {
                params: &[
                    field("rows", List(&Table), "Rows: all by name, or all lists."),
                    optional("options", Type::Record(&ENCODE), "Options, as below."),
                ],
                returns: &[field("text", Text, "CSV; its lines end with CR LF.")],
                waits: false,
                errors: Errors::Never,
            },
            doc: "Rows as CSV, for an attachment above all. A cell is text, a number, a boolean, or nothing.",
            since: "0.1",
            example: r#"local text = pr.csv.encode({ { disk = "/", used = 91 } }, { columns = { "disk", "used" }, safe = true })"#,
        },
    ],
};
