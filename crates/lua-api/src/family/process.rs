//! The configured programs.

use crate::codes;
use crate::family::secret::SECRET;
use crate::item::Type::{self, Boolean, Duration, Integer, List, Map, OneOf, Text};
use crate::item::{ERR, Errors, Family, Field, Item, Kind, Record, error, field, optional};

const TEXT_OR_SECRET: Type = OneOf(&[Text, Type::Handle(&SECRET)]);

/// What `pr.run` accepts beside the program and its arguments.
pub const RUN_FIELDS: &[Field] = &[
    optional(
        "stdin",
        TEXT_OR_SECRET,
        "What it reads from its standard input; nothing if absent.",
    ),
    optional(
        "timeout",
        Duration,
        "How long it may take; `\"30s\"` if absent. Then it is killed with all that it started.",
    ),
    optional(
        "env",
        Map(&TEXT_OR_SECRET),
        "Its environment, besides `PATH`, `LANG` and `HOME`.",
    ),
    optional("cwd", Text, "The directory it begins in: an absolute path."),
    optional(
        "max_octets",
        Integer,
        "The most it may print on either stream; 1 MiB if absent, 16 MiB at most.",
    ),
];

const PROGRAM: Record = Record {
    class: "postrider.Program",
    doc: "A program, its arguments and how to run it.",
    fields: RUN_FIELDS,
};

const ENDED: Record = Record {
    class: "postrider.Ended",
    doc: "How a program ended.",
    fields: &[
        field("ok", Boolean, "Whether its status is 0."),
        optional("status", Integer, "Its exit status."),
        optional("signal", Integer, "The signal that ended it."),
        field("stdout", Text, "What it printed, as octets."),
        field("stderr", Text, "What it complained about, as octets."),
    ],
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Programs",
    intro: "",
    items: &[Item {
        name: "run",
        kind: Kind::Function {
            params: &[field(
                "program",
                OneOf(&[List(&Text), Type::Record(&PROGRAM)]),
                "A list, the program and its arguments, with the options below beside it.",
            )],
            returns: &[
                optional(
                    "ended",
                    Type::Record(&ENDED),
                    "How it ended, whatever its status.",
                ),
                ERR,
            ],
            waits: true,
            errors: Errors::Returned(&[
                &[
                    error(
                        "program.not_allowed",
                        "`[scripts] run` does not name the program",
                    ),
                    error("program.failed", "it cannot be started"),
                    error(
                        "program.outside_sandbox",
                        "in the sandbox no program is started",
                    ),
                    error("program.timeout", "it took too long and was killed"),
                    error(
                        "program.output_too_large",
                        "it printed more than `max_octets` and was killed",
                    ),
                ],
                codes::SECRET,
            ]),
        },
        doc: "Runs a program that `[scripts] run` names, by the same absolute path and without a shell. A secret may be its standard input or in its environment, and never an argument, which everybody on the machine can read. In the sandbox (`run --sandbox`, or `repl` without `--live`) no program is started. What a program may do is not restricted: to allow an interpreter is to allow everything. At the time-out, or when the script ends first, it is killed with all that it started, also in groups and sessions of their own; `POSTRIDER_RUN` in its environment tells whose they are, and who wipes it there as well may get away.",
        since: "0.1",
        example: r#"local df, err = pr.run { "/usr/bin/df", "-h", timeout = "10s" }
if df and df.ok then print(df.stdout) end"#,
    }],
};
