//! What a `*_test.lua` has besides: `pr.test.case`, and the `t` that each case gets.

use crate::item::{
    Error, Errors, Family, Field, Handle, Item, Kind, Record, Type, error, field, optional,
};

/// What a case gets.
pub(crate) const T: Handle = Handle {
    word: "t",
    class: "postrider.Test",
    doc: "The world of one case.",
};
/// The time in it.
pub(crate) const CLOCK: Handle = Handle {
    word: "t.clock",
    class: "postrider.TestClock",
    doc: "The only time there is: it stands until the case moves it.",
};
/// The submission server.
pub(crate) const SMTP: Handle = Handle {
    word: "t.smtp",
    class: "postrider.TestSmtp",
    doc: "The submission server behind every account.",
};
/// The token endpoint.
pub(crate) const OAUTH: Handle = Handle {
    word: "t.oauth",
    class: "postrider.TestOauth",
    doc: "The token endpoint behind every account.",
};
/// Web servers.
pub(crate) const HTTP: Handle = Handle {
    word: "t.http",
    class: "postrider.TestHttp",
    doc: "Whatever `pr.http` talks to.",
};
/// Programs.
pub(crate) const PROCESS: Handle = Handle {
    word: "t.process",
    class: "postrider.TestProcess",
    doc: "Whatever `pr.run` starts: nothing is started in a test.",
};
/// Devices.
pub(crate) const GATEWAY: Handle = Handle {
    word: "t.gateway",
    class: "postrider.TestGateway",
    doc: "The gateways of the configuration, as devices meet them.",
};
/// Files.
pub(crate) const FS: Handle = Handle {
    word: "t.fs",
    class: "postrider.TestFs",
    doc: "A directory for the case, which `pr.fs` may read and write.",
};

const WORLD: &[Error] = &[
    error(
        "test.restless",
        "something neither ends nor waits for the clock",
    ),
    error(
        "test.no_time_passes",
        "a script sleeps for no time, for ever",
    ),
    error("script.*", "a script of the case failed meanwhile"),
];

const SMTP_OPTIONS: Record = Record {
    class: "postrider.TestSmtpOptions",
    doc: "Where and how often a reply is given.",
    fields: &[
        optional(
            "at",
            Type::Words(&["connect", "auth", "mail", "rcpt", "data"]),
            "What it answers; the whole message if absent, or `AUTH` where the reply is one of its own.",
        ),
        optional("times", TIMES, "How often; once if absent."),
        optional(
            "only_for",
            Type::Text,
            "Only for this recipient (at `rcpt`) or user.",
        ),
    ],
};
const LOSE_OPTIONS: Record = Record {
    class: "postrider.TestLoseOptions",
    doc: "How often a reply is lost.",
    fields: &[
        optional("times", TIMES, "How often; once if absent."),
        optional("only_for", Type::Text, "Only for this user."),
    ],
};
const TIMES: Type = Type::OneOf(&[Type::Integer, Type::Words(&["always"])]);

const OAUTH_ANSWER: Record = Record {
    class: "postrider.TestOauthAnswer",
    doc: "What the token endpoint says.",
    fields: &[
        optional(
            "error",
            Type::Text,
            "OAuth's `error`, such as `invalid_grant`.",
        ),
        optional("description", Type::Text, "Its `error_description`."),
        optional(
            "status",
            Type::Integer,
            "The status; 400 with an error, else 503.",
        ),
        optional("retry_after", Type::Integer, "Seconds for `Retry-After`."),
        optional("times", TIMES, "How often; once if absent."),
    ],
};

const HTTP_ANSWER: Record = Record {
    class: "postrider.TestHttpAnswer",
    doc: "How requests are answered.",
    fields: &[
        optional(
            "url",
            Type::Text,
            "Which: this address, or all that begin so if it ends with `*`; all if absent.",
        ),
        optional(
            "method",
            Type::Words(&["GET", "POST"]),
            "Only such requests.",
        ),
        optional("status", Type::Integer, "The status; 200 if absent."),
        optional("headers", Type::Map(&Type::Text), "Header fields."),
        optional("json", Type::Any, "The body, as JSON."),
        optional("body", Type::Text, "The body as it is."),
        optional(
            "fails",
            Type::Text,
            "No answer, but a failure of this code: `network.timeout`.",
        ),
        optional("times", TIMES, "How often; always if absent."),
    ],
};

const SUBMISSION: Record = Record {
    class: "postrider.TestSubmission",
    doc: "A device's message.",
    fields: &[
        optional(
            "gateway",
            Type::Text,
            "Through which gateway; the only one if absent.",
        ),
        field("device", Type::Text, "The name it signs in with."),
        optional(
            "client",
            Type::Text,
            "The address it connects from; `127.0.0.1` if absent.",
        ),
        optional(
            "tls",
            Type::OneOf(&[Type::Text, Type::Boolean]),
            "The version of TLS, or `false` for none; `TLSv1.3` if absent.",
        ),
        optional(
            "mechanism",
            Type::Words(&["PLAIN", "LOGIN"]),
            "How it signs in; `PLAIN` if absent.",
        ),
        optional(
            "sender",
            Type::Text,
            "The envelope's sender; the account's if absent.",
        ),
        field(
            "recipients",
            Type::OneOf(&[Type::Text, Type::List(&Type::Text)]),
            "The envelope's recipients.",
        ),
        optional("raw", Type::Text, "The whole message."),
        optional("raw_file", Type::Text, "The path of a file with it."),
        optional("subject", Type::Text, "Or its subject,"),
        optional("text", Type::Text, "its plain text,"),
        optional("html", Type::Text, "its HTML,"),
        optional("headers", Type::Table, "further header fields,"),
        optional(
            "attach",
            Type::OneOf(&[Type::Text, Type::Table]),
            "what is attached, as for `account:send`,",
        ),
        optional(
            "reply_to",
            Type::OneOf(&[Type::Text, Type::List(&Type::Text)]),
            "where answers go,",
        ),
        optional("message_id", Type::Text, "and its Message-ID."),
    ],
};

const SUBMITTED: Record = Record {
    class: "postrider.TestSubmitted",
    doc: "What a device was answered.",
    fields: &[
        field("accepted", Type::Boolean, "Whether its message was taken."),
        field(
            "code",
            Type::Integer,
            "The reply's code: 250, 451, 535, 550 …",
        ),
        field("text", Type::Text, "The rest of the reply."),
        optional(
            "id",
            Type::Text,
            "What `postrider queue` calls the message.",
        ),
        optional("error", Type::Error, "Why not, as the log has it."),
    ],
};

const PROCESS_ANSWER: Record = Record {
    class: "postrider.TestProcessAnswer",
    doc: "How a program ends.",
    fields: &[
        field("program", Type::Text, "Its path, as `pr.run` is given it."),
        optional("status", Type::Integer, "The exit status; 0 if absent."),
        optional("stdout", Type::Text, "What it prints."),
        optional("stderr", Type::Text, "What it complains about."),
        optional("times", TIMES, "How often; always if absent."),
    ],
};

const MESSAGE: Record = Record {
    class: "postrider.TestMessage",
    doc: "A message that arrived.",
    fields: &[
        optional("account", Type::AccountName, "Which account sent it."),
        field("at", Type::Number, "When, in seconds since 1970."),
        optional("from", Type::Text, "`From`, for people."),
        field(
            "to",
            Type::List(&Type::Text),
            "Everybody who gets it, copies included.",
        ),
        optional("cc", Type::Text, "`Cc`, for people."),
        optional("reply_to", Type::Text, "`Reply-To`, for people."),
        field("subject", Type::Text, "The subject."),
        field(
            "text",
            Type::Text,
            "The plain text; absent if there is none.",
        ),
        field("html", Type::Text, "The HTML; absent if there is none."),
        field(
            "headers",
            Type::Map(&Type::Text),
            "Header fields, names in lower case.",
        ),
        field(
            "attachments",
            Type::List(&Type::Record(&ATTACHMENT)),
            "What is attached.",
        ),
        optional("message_id", Type::Text, "The Message-ID."),
    ],
};

const ATTACHMENT: Record = Record {
    class: "postrider.TestAttachment",
    doc: "What was attached to a message that arrived.",
    fields: &[
        optional("name", Type::Text, "Its file name."),
        field("type", Type::Text, "Its MIME type."),
        field("octets", Type::Integer, "Its size."),
    ],
};

const EVENT: Record = Record {
    class: "postrider.TestEvent",
    doc: "An event that was raised.",
    fields: &[
        field("name", Type::Text, "Its name."),
        field("payload", Type::Table, "What handlers got."),
    ],
};

const SCHEDULE: Record = Record {
    class: "postrider.TestSchedule",
    doc: "How a schedule stands.",
    fields: &[
        field("name", Type::Text, "Its name."),
        field("plan", Type::Text, "When it runs, in words."),
        optional("tz", Type::Text, "The zone whose clock it goes by."),
        field("next", Type::Number, "When it runs next; absent if never."),
        field(
            "last",
            Type::Record(&PAST_RUN),
            "The latest run that has ended; absent before the first.",
        ),
        field("paused", Type::Boolean, "Whether it is paused."),
        field("running", Type::Integer, "Runs under way."),
        field("runs", Type::Integer, "Runs that have ended."),
        field("failures", Type::Integer, "How many of them failed."),
        field(
            "run_now",
            Type::Function(NONE, NONE),
            "Has it run, until all is at rest.",
        ),
    ],
};

const PAST_RUN: Record = Record {
    class: "postrider.TestRun",
    doc: "A run that has ended.",
    fields: &[
        field("at", Type::Number, "When it began."),
        field("took", Type::Number, "How long it took."),
        field("ok", Type::Boolean, "Whether it went well."),
        optional("error", Type::Error, "Why not: `code`, `message` and `at`."),
    ],
};

const NONE: &[Field] = &[];
const SINCE: &str = "0.1";

const fn function(params: &'static [Field], returns: &'static [Field]) -> Kind {
    Kind::Function {
        params,
        returns,
        waits: false,
        errors: Errors::Never,
    }
}

const fn moving(params: &'static [Field]) -> Kind {
    Kind::Function {
        params,
        returns: NONE,
        waits: true,
        errors: Errors::Raised(&[WORLD]),
    }
}

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Tests",
    intro: "`postrider test` runs the cases of `*_test.lua` files, each in a world of its own: a \
clock that stands until the case moves it, the sandbox behind every account of the configuration, \
made-up secrets, and nothing that leaves the machine. The configuration is the nearest \
`postrider.toml` beside the test or above it; without one there is an account `alerts`, and a \
gateway `office` through it. A failed \
assertion ends its case, and the next one runs.",
    items: &[
        Item {
            name: "test.case",
            kind: function(
                &[
                    field("name", Type::Text, "What it shows."),
                    field(
                        "case",
                        Type::Function(&[field("t", Type::Handle(&T), "The world.")], &[]),
                        "The case itself.",
                    ),
                ],
                NONE,
            ),
            doc: "One case of a test file. Each runs in a Lua state of its own, after the file's own lines, at nine o'clock UTC on Monday, 5 January 2026.",
            since: SINCE,
            example: "pr.test.case(\"somebody is told\", function(t)\n  pr.account(\"alerts\"):send { to = \"ops@example.org\", subject = \"Disk\", text = \"Full.\" }\n  t.eq(t.outbox[1].subject, \"Disk\")\nend)",
        },
        Item {
            name: "t.clock",
            kind: Kind::Value(Type::Handle(&CLOCK)),
            doc: "The time.",
            since: SINCE,
            example: "pr.test.case(\"it is Monday\", function(t) t.eq(os.date(\"!%A\", t.clock:now() // 1), \"Monday\") end)",
        },
        Item {
            name: "t.clock:advance",
            kind: moving(&[field("span", Type::Duration, "How far.")]),
            doc: "Moves the clock on, from one moment that something waits for to the next; each time everything that runs goes on until it ends or waits again.",
            since: SINCE,
            example: "pr.test.case(\"an hour later\", function(t)\n  local before = pr.time.now()\n  t.clock:advance \"1h\"\n  t.eq(pr.time.now() - before, 3600.0)\nend)",
        },
        Item {
            name: "t.clock:set",
            kind: moving(&[field("time", Type::Time, "When it is to be.")]),
            doc: "The same up to a point in time. Back, it jumps.",
            since: SINCE,
            example: "pr.test.case(\"at eight in Paris\", function(t)\n  t.clock:set \"2026-03-02T08:00:00+01:00\"\n  t.eq(pr.time.format(pr.time.now()), \"2026-03-02T07:00:00Z\")\nend)",
        },
        Item {
            name: "t.clock:now",
            kind: function(NONE, &[field("time", Type::Number, "Seconds since 1970.")]),
            doc: "What the clock says.",
            since: SINCE,
            example: "pr.test.case(\"one time for all\", function(t) t.eq(t.clock:now(), pr.time.now()) end)",
        },
        Item {
            name: "t:load",
            kind: moving(&[
                field(
                    "script",
                    Type::Text,
                    "Its path, from the test file's directory.",
                ),
                optional(
                    "arguments",
                    Type::List(&Type::Text),
                    "What it finds in `pr.args`.",
                ),
            ]),
            doc: "Runs a script as `postrider serve` does, until it has ended or waits; then its handlers, hooks and schedules are live for the rest of the case. Raises what the script raises.",
            since: SINCE,
            example: "pr.test.case(\"it can be loaded\", function(t)\n  t.fs:write(\"hello.lua\", \"print 'hello'\")\n  t:load(t.fs.dir .. \"/hello.lua\")\n  t.match(t.log[1], \"hello\")\nend)",
        },
        Item {
            name: "t:run",
            kind: moving(&[
                field(
                    "script",
                    Type::Text,
                    "Its path, from the test file's directory.",
                ),
                optional(
                    "arguments",
                    Type::List(&Type::Text),
                    "What it finds in `pr.args`.",
                ),
            ]),
            doc: "Runs a script as `postrider run` does, until it has ended or waits for the clock. Raises what the script raises.",
            since: SINCE,
            example: "pr.test.case(\"it fails\", function(t)\n  t.fs:write(\"bad.lua\", \"error 'no disk'\")\n  t.raises(function() t:run(t.fs.dir .. \"/bad.lua\") end, \"no disk\")\nend)",
        },
        Item {
            name: "t:config",
            kind: moving(&[field("text", Type::Text, "TOML, as in `postrider.toml`.")]),
            doc: "Gives the case a configuration of its own. Its accounts work as they are: in the sandbox, with made-up secrets.",
            since: SINCE,
            example: "pr.test.case(\"a printer sends\", function(t)\n  t:config [[\n    [account.printer]\n    username = \"printer@example.org\"\n    server = { host = \"smtp.example.org\", port = 587, tls = \"starttls\" }\n    auth = { plugin = \"basic\", password = { env = \"PRINTER\" } }\n  ]]\n  t.ok(pr.account(\"printer\"):send { to = \"a@example.org\", subject = \"Toner\", text = \"Low.\" })\nend)",
        },
        Item {
            name: "t:emit",
            kind: moving(&[
                field("event", Type::EventName, "The event."),
                optional("payload", Type::Table, "What handlers get."),
            ]),
            doc: "Raises an event as if the host had.",
            since: SINCE,
            example: "pr.test.case(\"an event\", function(t)\n  t:emit(\"app.door\", { open = true })\nend)",
        },
        Item {
            name: "t:env",
            kind: function(
                &[field("variables", Type::Map(&Type::Text), "By name.")],
                NONE,
            ),
            doc: "Sets variables: for `pr.env`, which may read them, and for secrets that are kept in one.",
            since: SINCE,
            example: "pr.test.case(\"a variable\", function(t) t:env { REPORT_TO = \"ops@example.org\" } end)",
        },
        Item {
            name: "t:secret",
            kind: function(
                &[
                    field(
                        "name",
                        Type::Text,
                        "As the reference names it, whatever its form.",
                    ),
                    field("value", Type::Text, "What it is here."),
                ],
                NONE,
            ),
            doc: "Sets a secret that scripts refer to. Without it a secret is made up: `https://secret.test/NAME`.",
            since: SINCE,
            example: "pr.test.case(\"a secret\", function(t) t:secret(\"ops/webhook\", \"https://hooks.example.org/x\") end)",
        },
        Item {
            name: "t.schedule",
            kind: Kind::Value(Type::Function(
                &[field("name", Type::Text, "The schedule's name.")],
                &[field("standing", Type::Record(&SCHEDULE), "How it stands.")],
            )),
            doc: "How a schedule stands, a table: `name`, `next`, `last` and more, and `run_now()`, which has it run until all is at rest.",
            since: SINCE,
            example: "pr.test.case(\"there is none\", function(t) t.raises(function() t.schedule(\"daily\") end) end)",
        },
        Item {
            name: "t.smtp",
            kind: Kind::Value(Type::Handle(&SMTP)),
            doc: "The submission server.",
            since: SINCE,
            example: "pr.test.case(\"refused\", function(t) t.smtp:reply(550, \"5.1.1\", \"no such user\", { at = \"rcpt\" }) end)",
        },
        Item {
            name: "t.smtp:reply",
            kind: function(
                &[
                    field("code", Type::Integer, "The reply code."),
                    optional("enhanced", Type::Text, "The enhanced status: `4.3.2`."),
                    optional("text", Type::Text, "The words."),
                    optional(
                        "options",
                        Type::Record(&SMTP_OPTIONS),
                        "Where, and how often.",
                    ),
                ],
                NONE,
            ),
            doc: "The server's next reply, in place of its own.",
            since: SINCE,
            example: "pr.test.case(\"too many at once\", function(t)\n  t.smtp:reply(432, \"4.3.2\", \"Concurrent connections limit exceeded\")\n  local sent, err = pr.account(\"alerts\"):send { to = \"a@example.org\", text = \"x\" }\n  t.ok(not sent and err.retryable)\nend)",
        },
        Item {
            name: "t.smtp:lose",
            kind: function(
                &[optional(
                    "options",
                    Type::Record(&LOSE_OPTIONS),
                    "How often, and for whom.",
                )],
                NONE,
            ),
            doc: "The server takes the next message, and the connection ends before its reply: the sender learns `smtp.unknown`.",
            since: SINCE,
            example: "pr.test.case(\"nobody knows\", function(t)\n  t.smtp:lose()\n  local sent, err = pr.account(\"alerts\"):send { to = \"a@example.org\", text = \"x\" }\n  t.eq(not sent and err.code, \"smtp.unknown\")\n  t.eq(#t.outbox, 1)\nend)",
        },
        Item {
            name: "t.oauth",
            kind: Kind::Value(Type::Handle(&OAUTH)),
            doc: "The token endpoint.",
            since: SINCE,
            example: "pr.test.case(\"revoked\", function(t) t.oauth:reply { error = \"invalid_grant\" } end)",
        },
        Item {
            name: "t.oauth:reply",
            kind: function(
                &[field(
                    "answer",
                    Type::Record(&OAUTH_ANSWER),
                    "What it says.",
                )],
                NONE,
            ),
            doc: "The token endpoint's next answer, in place of a token.",
            since: SINCE,
            example: "pr.test.case(\"busy\", function(t) t.oauth:reply { status = 429, retry_after = 60 } end)",
        },
        Item {
            name: "t.http",
            kind: Kind::Value(Type::Handle(&HTTP)),
            doc: "Web servers.",
            since: SINCE,
            example: "pr.test.case(\"nobody asked\", function(t) t.eq(#t.http.requests, 0) end)",
        },
        Item {
            name: "t.http:reply",
            kind: function(&[field("answer", Type::Record(&HTTP_ANSWER), "How.")], NONE),
            doc: "How requests are answered from now on. A request that nothing fits fails, and so does the case.",
            since: SINCE,
            example: "pr.test.case(\"a webhook\", function(t)\n  t.http:reply { url = \"https://hooks.example.org/*\", status = 204 }\n  t.eq(pr.http.post(\"https://hooks.example.org/x\", { json = { a = 1 } }).status, 204)\n  t.eq(t.http.requests[1].json, { a = 1 })\nend)",
        },
        Item {
            name: "t.http.requests",
            kind: Kind::Value(Type::List(&Type::Table)),
            doc: "The requests so far: `url`, `method`, `headers`, `body`, and `json` where it is that.",
            since: SINCE,
            example: "pr.test.case(\"none yet\", function(t) t.eq(t.http.requests, {}) end)",
        },
        Item {
            name: "t.process",
            kind: Kind::Value(Type::Handle(&PROCESS)),
            doc: "Programs.",
            since: SINCE,
            example: "pr.test.case(\"none ran\", function(t) t.eq(t.process.runs, {}) end)",
        },
        Item {
            name: "t.process:reply",
            kind: function(
                &[field("answer", Type::Record(&PROCESS_ANSWER), "How.")],
                NONE,
            ),
            doc: "How a program ends from now on. One that nothing is said of fails, and so does the case.",
            since: SINCE,
            example: "pr.test.case(\"the disk\", function(t)\n  t.process:reply { program = \"/usr/bin/df\", stdout = \"91%\\n\" }\nend)",
        },
        Item {
            name: "t.process.runs",
            kind: Kind::Value(Type::List(&Type::Table)),
            doc: "The programs so far: `program`, `args`, `stdin`.",
            since: SINCE,
            example: "pr.test.case(\"none yet\", function(t) t.eq(#t.process.runs, 0) end)",
        },
        Item {
            name: "t.gateway",
            kind: Kind::Value(Type::Handle(&GATEWAY)),
            doc: "Gateways.",
            since: SINCE,
            example: "pr.test.case(\"from a printer\", function(t)\n  t.ok(t.gateway:submit { device = \"printer-2\", recipients = \"a@example.org\", text = \"x\" }.accepted)\nend)",
        },
        Item {
            name: "t.gateway:submit",
            kind: Kind::Function {
                params: &[field(
                    "message",
                    Type::Record(&SUBMISSION),
                    "Who submits what.",
                )],
                returns: &[field(
                    "answer",
                    Type::Record(&SUBMITTED),
                    "What the device hears.",
                )],
                waits: true,
                errors: Errors::Raised(&[
                    WORLD,
                    &[error(
                        "config.no_such_gateway",
                        "there is none of that name",
                    )],
                ]),
            },
            doc: "Has a device submit a message, and waits until all is at rest: it passes the hooks `gateway.auth`, `gateway.mail` and `gateway.message` of the scripts that are loaded, goes into the queue, and from there to `t.outbox`. Its password is right. Of the gateway's settings, those about networks, senders and the recipients' domains count; limits, quirks and rehearsals do not.",
            since: SINCE,
            example: "local pr = require \"postrider\"\npr.test.case(\"a scan for somebody outside\", function(t)\n  t.fs:write(\"own.lua\", [[require \"postrider\".on(\"gateway.message\", function(m)\n    if not m.to[1]:find \"@contoso%.com$\" then return false, \"scans stay here\" end\n  end)]])\n  t:load(t.fs.dir .. \"/own.lua\")\n  local answer = t.gateway:submit { device = \"scanner\", recipients = \"a@example.org\", subject = \"Scan\", text = \"x\" }\n  t.eq(answer.code, 550)\n  t.match(answer.text, \"scans stay here\")\nend)",
        },
        Item {
            name: "t.fs",
            kind: Kind::Value(Type::Handle(&FS)),
            doc: "The case's directory.",
            since: SINCE,
            example: "pr.test.case(\"a file\", function(t) t.fs:write(\"a.csv\", \"a,b\\n\") end)",
        },
        Item {
            name: "t.fs.dir",
            kind: Kind::Value(Type::Text),
            doc: "Its path; gone after the case.",
            since: SINCE,
            example: "pr.test.case(\"it is there\", function(t) t.match(t.fs.dir, \"^/\") end)",
        },
        Item {
            name: "t.fs:write",
            kind: function(
                &[
                    field("name", Type::Text, "A path within the directory."),
                    field("content", Type::Text, "What is to be in it."),
                ],
                &[field("path", Type::Text, "The whole path.")],
            ),
            doc: "Writes a file there, and the directories above it.",
            since: SINCE,
            example: "pr.test.case(\"a report\", function(t) t.fs:write(\"in/report.csv\", \"disk,used\\n/,91\\n\") end)",
        },
        Item {
            name: "t.fs:read",
            kind: Kind::Function {
                params: &[field("name", Type::Text, "A path within the directory.")],
                returns: &[field("content", Type::Text, "What is in it.")],
                waits: false,
                errors: Errors::Raised(&[&[error("file.failed", "it cannot be read")]]),
            },
            doc: "Reads a file there.",
            since: SINCE,
            example: "pr.test.case(\"back again\", function(t)\n  t.fs:write(\"a.txt\", \"x\")\n  t.eq(t.fs:read \"a.txt\", \"x\")\nend)",
        },
        Item {
            name: "t.outbox",
            kind: Kind::Value(Type::List(&Type::Record(&MESSAGE))),
            doc: "The messages that arrived, oldest first.",
            since: SINCE,
            example: "pr.test.case(\"who got it\", function(t)\n  pr.account(\"alerts\"):send { to = { \"a@example.org\", \"b@example.org\" }, text = \"x\" }\n  t.eq(t.outbox[1].to, { \"a@example.org\", \"b@example.org\" })\nend)",
        },
        Item {
            name: "t.events",
            kind: Kind::Value(Type::List(&Type::Record(&EVENT))),
            doc: "The events that were raised, oldest first.",
            since: SINCE,
            example: "pr.test.case(\"nothing happened\", function(t) t.eq(t.events, {}) end)",
        },
        Item {
            name: "t.log",
            kind: Kind::Value(Type::List(&Type::Text)),
            doc: "What was logged and printed, a line each.",
            since: SINCE,
            example: "pr.test.case(\"it says so\", function(t)\n  print \"hello\"\n  t.match(t.log[1], \"hello\")\nend)",
        },
        Item {
            name: "t.eq",
            kind: Kind::Value(Type::Function(
                &[
                    field("got", Type::Any, "What it is."),
                    field("expected", Type::Any, "What it should be."),
                    optional("note", Type::Text, "What it is about."),
                ],
                NONE,
            )),
            doc: "Both are equal; tables are, when everything in them is.",
            since: SINCE,
            example: "pr.test.case(\"equal\", function(t) t.eq({ 1, a = { 2 } }, { 1, a = { 2 } }) end)",
        },
        Item {
            name: "t.ok",
            kind: Kind::Value(Type::Function(
                &[
                    field(
                        "value",
                        Type::Any,
                        "What should be neither `false` nor `nil`.",
                    ),
                    optional(
                        "note",
                        Type::Any,
                        "What it is about, or the `err` beside it.",
                    ),
                ],
                &[field("value", Type::Any, "The value.")],
            )),
            doc: "The value counts as true. It is returned.",
            since: SINCE,
            example: "pr.test.case(\"it was sent\", function(t)\n  t.ok(pr.account(\"alerts\"):send { to = \"a@example.org\", text = \"x\" })\nend)",
        },
        Item {
            name: "t.match",
            kind: Kind::Value(Type::Function(
                &[
                    field(
                        "text",
                        Type::Any,
                        "The text; anything else matches nothing.",
                    ),
                    field("pattern", Type::Text, "A pattern of Lua's."),
                    optional("note", Type::Text, "What it is about."),
                ],
                NONE,
            )),
            doc: "The text matches the pattern.",
            since: SINCE,
            example: "pr.test.case(\"a match\", function(t) t.match(\"disk 91 %\", \"(%d+) %%\") end)",
        },
        Item {
            name: "t.raises",
            kind: Kind::Value(Type::Function(
                &[
                    field("f", Type::Function(&[], &[]), "What should raise an error."),
                    optional("pattern", Type::Text, "What its text holds, or matches."),
                ],
                &[field("error", Type::Any, "What it raised.")],
            )),
            doc: "The function raises an error, which is returned.",
            since: SINCE,
            example: "pr.test.case(\"a misspelt field\", function(t)\n  t.raises(function() pr.account(\"alerts\"):send { subjekt = \"x\" } end, \"did you mean 'subject'\")\nend)",
        },
    ],
};
