//! Functions that run at their time: `pr.every`, `pr.cron`, `pr.at`, `pr.after`.

use crate::item::Type::{
    Any, Boolean, Cron, Duration, Function, Integer, Number, OneOf, Record as Keys, Text, Time,
    True, Words, Zone,
};
use crate::item::{
    ERR, Error, Errors, Family, Field, Handle, Item, Kind, Record, Type, error, field, optional,
};

/// What a schedule's function gets.
const CONTEXT: Record = Record {
    class: "postrider.Run",
    doc: "What a schedule's function is told of the run.",
    fields: &[
        optional("name", Text, "The schedule's name, if it has one."),
        field(
            "scheduled_at",
            Number,
            "The time it was to run at, which may be earlier than now.",
        ),
        field(
            "reason",
            Words(&["tick", "missed", "manual", "retry"]),
            "Why it runs: it is time; it was time while nobody watched; somebody asked for it; it failed before.",
        ),
        field(
            "attempt",
            Integer,
            "Counts from one; more than one after a failure.",
        ),
        field(
            "missed",
            Integer,
            "How many earlier times this run stands for.",
        ),
    ],
};
const RUN: Field = field("run", Keys(&CONTEXT), "The run.");
/// `return account:send {…}` is how most end.
const ANSWER: &[Field] = &[optional("ok", Any, "Whatever it is."), ERR];
const FUNCTION: Field = field(
    "run",
    Function(&[RUN], ANSWER),
    "What runs. An error that it raises, or returns as `nil, err`, is a failure of the run.",
);

/// What the table `retry` accepts.
pub const RETRY_FIELDS: &[Field] = &[
    field(
        "attempts",
        Integer,
        "How often after the first time; 100 at most.",
    ),
    optional(
        "backoff",
        Duration,
        "How long after the first failure, twice as long after each further one, and up to a quarter more by chance; `\"30s\"` if absent.",
    ),
    optional("longest", Duration, "The longest wait; `\"1h\"` if absent."),
];
const RETRY: Record = Record {
    class: "postrider.Retry",
    doc: "Whether a run that failed is tried again.",
    fields: RETRY_FIELDS,
};

const NAME: Field = optional(
    "name",
    Text,
    "What it is called. Only with a name does it survive a restart, and can be paused, and run by hand.",
);
const JITTER: Field = optional(
    "jitter",
    Duration,
    "It starts up to so much later, so that not everybody starts at once.",
);
const OVERLAP: Field = optional(
    "overlap",
    Words(&["skip", "queue", "allow"]),
    "What becomes of a time that comes while it still runs: it is left out, waits, or runs beside it; `\"skip\"` if absent.",
);
const MISSED: Field = optional(
    "missed",
    Words(&["skip", "once", "all"]),
    "What becomes of times that came while nothing ran: they are left out, one run stands for all, or each is run; `\"once\"` if absent.",
);
const TIMEOUT: Field = optional("timeout", Duration, "How long a run may take.");
const ON_ERROR: Field = optional(
    "on_error",
    Function(
        &[
            field("err", Type::Error, "Why the run failed."),
            field("run", Keys(&CONTEXT), "The run."),
        ],
        &[],
    ),
    "Called after each attempt that failed.",
);
const AGAIN: Field = optional(
    "retry",
    OneOf(&[Integer, Keys(&RETRY)]),
    "Whether a run that failed is tried again: how often, or a table; never if absent.",
);

/// What `pr.every`, `pr.at` and `pr.after` accept.
pub const SCHEDULE_FIELDS: &[Field] = &[NAME, JITTER, OVERLAP, MISSED, TIMEOUT, ON_ERROR, AGAIN];
const OPTIONS: Record = Record {
    class: "postrider.ScheduleOptions",
    doc: "How a schedule behaves.",
    fields: SCHEDULE_FIELDS,
};

/// What `pr.cron` accepts.
pub const CRON_FIELDS: &[Field] = &[
    optional(
        "tz",
        Zone,
        "Whose wall clock it goes by, as in `\"Europe/Paris\"`; the system's if absent.",
    ),
    NAME,
    JITTER,
    OVERLAP,
    MISSED,
    TIMEOUT,
    ON_ERROR,
    AGAIN,
];
const CRON_OPTIONS: Record = Record {
    class: "postrider.CronOptions",
    doc: "How a schedule behaves that goes by the wall clock.",
    fields: CRON_FIELDS,
};

const OPTIONS_PARAM: Field = optional("options", Keys(&OPTIONS), "How it behaves.");

/// What the four functions answer.
pub(crate) const SCHEDULE: Handle = Handle {
    word: "schedule",
    class: "postrider.Schedule",
    doc: "What `pr.every`, `pr.cron`, `pr.at` and `pr.after` answer.",
};
const HANDLE: Field = field(
    "schedule",
    Type::Handle(&SCHEDULE),
    "A handle, with `cancel`, `next`, `run_now`, `last`.",
);

/// A schedule that cannot be made.
const REFUSED: &[Error] = &[
    error(
        "script.timer_limit",
        "the script has as many timers as it may have",
    ),
    error("schedule.limit", "all scripts have too many of them"),
    error(
        "schedule.superseded",
        "the scripts were loaded anew, and this one is of the old ones",
    ),
    error("schedule.unavailable", "nothing runs schedules here"),
];

const LAST: Record = Record {
    class: "postrider.LastRun",
    doc: "The latest run of a schedule that has ended.",
    fields: &[
        field("at", Number, "When it began."),
        field("took", Number, "Seconds."),
        field("ok", Boolean, "Whether it ran to its end without an error."),
        optional("error", Type::Error, "Why not: `code`, `message`, `at`."),
    ],
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Schedules",
    intro: "",
    items: &[
        Item {
            name: "every",
            kind: Kind::Function {
                params: &[
                    field("interval", Duration, "How often: a second or more."),
                    FUNCTION,
                    OPTIONS_PARAM,
                ],
                returns: &[HANDLE],
                waits: false,
                errors: Errors::Raised(&[REFUSED]),
            },
            doc: r"Runs a function again and again, first when the interval has passed once. Only while the script loads, from its own top level.

A run is a call of its own, with limits of its own. What it raises is logged and told as `schedule.failed`; the schedule goes on. Intervals do not drift: they count from when the schedule was first made, and with a `name` also across restarts.",
            since: "0.1",
            example: r#"local ops = pr.account "alerts"
pr.every("5m", function(run)
  if run.missed > 0 then pr.log.warn("late by " .. run.missed) end
  assert(ops:check().ok, "the account fails its check")
end, { name = "health", timeout = "1m", retry = 2 })"#,
        },
        Item {
            name: "cron",
            kind: Kind::Function {
                params: &[
                    field(
                        "cron",
                        Cron,
                        "Minute, hour, day of the month, month, day of the week: `0 8 * * mon-fri`.",
                    ),
                    FUNCTION,
                    optional("options", Keys(&CRON_OPTIONS), "How it behaves."),
                ],
                returns: &[HANDLE],
                waits: false,
                errors: Errors::Raised(&[REFUSED]),
            },
            doc: r"Runs a function when the wall clock says so. Only while the script loads, from its own top level.

A time that the clocks skip when they are set forward is run when they have been; one that comes twice when they are set back is run the first time only. Where hours are `*` or a step, it runs as often as it says, by the time that passes.",
            since: "0.1",
            example: r#"local ops = pr.account "alerts"
pr.cron("0 8 * * mon-fri", function()
  assert(ops:send { to = "team@example.org", subject = "Good morning", text = "Coffee is ready." })
end, { name = "morning", tz = "Europe/Paris", retry = { attempts = 3, backoff = "1m" } })"#,
        },
        Item {
            name: "at",
            kind: Kind::Function {
                params: &[
                    field(
                        "time",
                        Time,
                        "When: seconds since 1970, or text as RFC 3339 has it.",
                    ),
                    FUNCTION,
                    OPTIONS_PARAM,
                ],
                returns: &[
                    optional("schedule", Type::Handle(&SCHEDULE), "A handle."),
                    ERR,
                ],
                waits: false,
                errors: Errors::Returned(&[
                    &[error("schedule.past", "that time is over")],
                    REFUSED,
                ]),
            },
            doc: "Runs a function once, then. With a `name` only while the script loads, and once for that name and time also across restarts; without one at any time.",
            since: "0.1",
            example: r#"local schedule, err = pr.at("2026-12-24T18:00:00+01:00", function() print "Merry Christmas" end)
if not schedule then print(err.code) end"#,
        },
        Item {
            name: "after",
            kind: Kind::Function {
                params: &[
                    field("span", Duration, "When: so much later than now."),
                    FUNCTION,
                    OPTIONS_PARAM,
                ],
                returns: &[HANDLE],
                waits: false,
                errors: Errors::Raised(&[REFUSED]),
            },
            doc: "Runs a function once, when so much time has passed. With a `name` only while the script loads; without one at any time.",
            since: "0.1",
            example: r#"pr.on("send.failed", function(event)
  if event.retryable then
    pr.after("10m", function() print("look after " .. event.account) end)
  end
end)"#,
        },
        Item {
            name: "schedule.name",
            kind: Kind::Value(Text),
            doc: "Its name, or `nil`.",
            since: "0.1",
            example: r#"local schedule = pr.every("1h", function() end, { name = "hourly" })
print(schedule.name) -- hourly"#,
        },
        Item {
            name: "schedule:cancel",
            kind: Kind::Function {
                params: &[],
                returns: &[field(
                    "cancelled",
                    Boolean,
                    "`false` if it had ended before.",
                )],
                waits: false,
                errors: Errors::Never,
            },
            doc: "Ends it. A run under way goes on.",
            since: "0.1",
            example: r#"local reminder = pr.after("1h", function() print "still waiting" end)
reminder:cancel()"#,
        },
        Item {
            name: "schedule:next",
            kind: Kind::Function {
                params: &[],
                returns: &[optional(
                    "at",
                    Number,
                    "Seconds since 1970; `nil` if never.",
                )],
                waits: false,
                errors: Errors::Never,
            },
            doc: "When it runs next.",
            since: "0.1",
            example: r#"local schedule = pr.every("1h", function() end)
print(pr.time.format(schedule:next()))"#,
        },
        Item {
            name: "schedule:run_now",
            kind: Kind::Function {
                params: &[],
                returns: &[optional("ok", True, "It is about to run."), ERR],
                waits: false,
                errors: Errors::Returned(&[&[
                    error("schedule.running", "it runs, and not beside itself"),
                    error("schedule.ended", "it has ended, or was cancelled"),
                ]]),
            },
            doc: "Runs it at once, beside its plan, and does not wait for the end.",
            since: "0.1",
            example: r#"local schedule = pr.every("1h", function(run) print(run.reason) end)
assert(schedule:run_now()) -- manual"#,
        },
        Item {
            name: "schedule:last",
            kind: Kind::Function {
                params: &[],
                returns: &[optional(
                    "last",
                    Keys(&LAST),
                    "`nil` as long as no run has ended.",
                )],
                waits: false,
                errors: Errors::Never,
            },
            doc: "How the latest run ended.",
            since: "0.1",
            example: r#"local schedule = pr.every("1h", function() end)
local last = schedule:last()
if last and not last.ok then print(last.error) end"#,
        },
    ],
};
