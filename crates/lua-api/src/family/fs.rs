//! Files in the configured directories.

use crate::item::Type::{self, Integer, List, Text, True, Words};
use crate::item::{ERR, Error, Errors, Family, Field, Item, Kind, Record, error, field, optional};

/// What reading a file may fail with.
pub(crate) const FILE: &[Error] = &[
    error(
        "file.not_allowed",
        "the path leads out of the configured directories",
    ),
    error("file.missing", "there is no such file or directory"),
    error(
        "file.not_regular",
        "it is a directory, a link, a pipe or a device",
    ),
    error("file.too_large", "it is longer than 64 MiB"),
    error("file.failed", "the system refused it"),
];

/// A path beneath one of the directories.
pub(crate) const PATH: Field = field(
    "path",
    Text,
    "The file: beneath one of the directories, or whole.",
);

const ENTRY: Record = Record {
    class: "postrider.FileEntry",
    doc: "A name in a directory.",
    fields: &[
        field("name", Text, "The name, without the directory."),
        field(
            "kind",
            Words(&["file", "directory", "link", "other"]),
            "What it is.",
        ),
        field("octets", Integer, "How long it is."),
        field(
            "modified",
            Integer,
            "When it was changed; seconds since 1970.",
        ),
    ],
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Files",
    intro: "`[scripts.fs]` names the directories in `read` and `write`; without it, there are none. A relative path is looked for beneath them, in their order. No `..`, no absolute path and no link leads out of them.",
    items: &[
        Item {
            name: "fs.read",
            kind: Kind::Function {
                params: &[PATH],
                returns: &[optional("octets", Text, "What is in it."), ERR],
                waits: true,
                errors: Errors::Returned(&[FILE]),
            },
            doc: "Reads a regular file of at most 64 MiB.",
            since: "0.1",
            example: r#"local text, err = pr.fs.read "disks.txt"
if not text then print(err.code) end"#,
        },
        Item {
            name: "fs.list",
            kind: Kind::Function {
                params: &[field(
                    "path",
                    Text,
                    "The directory; `\".\"` is the first of the configured ones.",
                )],
                returns: &[
                    optional(
                        "entries",
                        List(&Type::Record(&ENTRY)),
                        "What is in it, sorted by name.",
                    ),
                    ERR,
                ],
                waits: true,
                errors: Errors::Returned(&[FILE]),
            },
            doc: "Lists a directory that `[scripts.fs] read` covers; at most 10,000 names.",
            since: "0.1",
            example: r#"for _, entry in ipairs(pr.fs.list "." or {}) do
  print(entry.name, entry.octets)
end"#,
        },
        Item {
            name: "fs.write",
            kind: Kind::Function {
                params: &[PATH, field("octets", Text, "What is to be in it.")],
                returns: &[optional("done", True, "It is on the disk."), ERR],
                waits: true,
                errors: Errors::Returned(&[FILE]),
            },
            doc: "Writes a file as a whole: whoever reads it finds what was there before or what is there now. A new file has mode 0600, one that is replaced keeps its own. Its directory must be there.",
            since: "0.1",
            example: r#"local done, err = pr.fs.write("last-report.txt", "sent\n")
if not done then print(err.code) end"#,
        },
    ],
};
