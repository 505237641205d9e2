//! Every name a script may use, described once: what [`super::reference()`] says, what `send{}`
//! accepts, and what a test holds against what is registered.

/// One name in the API.
pub(crate) struct Item {
    /// As a script writes it after `pr.`, or `account:send`.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) kind: Kind,
    /// One paragraph.
    pub(crate) doc: &'static str,
    /// The version that brought it.
    pub(crate) since: &'static str,
    /// Lua that parses by itself; `pr` and `account` exist.
    pub(crate) example: &'static str,
}

/// What an [`Item`] is.
pub(crate) enum Kind {
    /// Something to call.
    Function {
        /// What goes in, in order.
        params: &'static [Field],
        /// What the table among them may hold.
        fields: &'static [Field],
        /// What comes out, in order.
        returns: &'static [Field],
        /// Whether other tasks run meanwhile.
        waits: bool,
    },
    /// A value, of a LuaLS type.
    Value(&'static str),
}

/// A parameter, a field of a table, or a result.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// A type as LuaLS writes it; `?` at the end where it may be absent.
    pub(crate) lua_type: &'static str,
    pub(crate) doc: &'static str,
}

const fn field(name: &'static str, lua_type: &'static str, doc: &'static str) -> Field {
    Field {
        name,
        lua_type,
        doc,
    }
}

/// The names of fields.
pub(crate) fn names(fields: &'static [Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

/// What `account:send{…}` accepts.
pub(crate) const SEND_FIELDS: &[Field] = &[
    field(
        "to",
        "string|string[]?",
        "Recipients: `\"a@example.org\"` or `\"Name <a@example.org>\"`.",
    ),
    field("cc", "string|string[]?", "Recipients of copies."),
    field(
        "bcc",
        "string|string[]?",
        "Recipients whom no header names.",
    ),
    field("subject", "string?", "The subject, in any language."),
    field(
        "text",
        "string?",
        "The body as plain text. With `html` too, readers choose.",
    ),
    field("html", "string?", "The body as HTML."),
    field(
        "attach",
        "string|(string|postrider.Attach)[]?",
        "Attachments: paths, or tables as below.",
    ),
    field(
        "from",
        "string?",
        "The author; the account's `sender` if absent.",
    ),
    field("sender", "string?", "Who sends on the author's behalf."),
    field("reply_to", "string|string[]?", "Where answers go."),
    field(
        "headers",
        "table<string, string|string[]>?",
        "Further header fields, by name.",
    ),
    field(
        "priority",
        "\"high\"|\"normal\"|\"low\"?",
        "How urgent it is.",
    ),
    field("in_reply_to", "string?", "The Message-ID this answers."),
    field(
        "references",
        "string|string[]?",
        "The Message-IDs of the thread.",
    ),
    field(
        "message_id",
        "string?",
        "The Message-ID, in place of a generated one.",
    ),
    field(
        "raw",
        "string?",
        "A finished RFC 5322 message; only `from`, `to`, `cc` and `bcc` may go with it, and replace its envelope.",
    ),
    field("raw_file", "string?", "The path of such a message."),
];

/// What an item of `attach` may be.
pub(crate) const ATTACH_FIELDS: &[Field] = &[
    field(
        "path",
        "string?",
        "A file, relative to the working directory.",
    ),
    field(
        "data",
        "string?",
        "The octets themselves, in place of `path`.",
    ),
    field(
        "name",
        "string?",
        "The name the recipient sees; the path's own if absent.",
    ),
    field(
        "type",
        "string?",
        "The MIME type; guessed from the name if absent.",
    ),
    field(
        "inline",
        "string?",
        "A Content-ID, for a picture the HTML shows as `cid:…`.",
    ),
];

const ERR: Field = field(
    "err",
    "postrider.Error?",
    "Why not, where the first result is `nil`.",
);

const LOG_PARAMS: &[Field] = &[
    field("message", "string", "One line."),
    field(
        "fields",
        "table?",
        "What belongs to it, as JSON; a secret says only that it is one.",
    ),
];

/// The API, in the order of the reference.
pub(crate) const ITEMS: &[Item] = &[
    Item {
        name: "account",
        kind: Kind::Function {
            params: &[field(
                "account",
                "string|table",
                "A name from the configuration file, or a table with a `name` and the keys of `[account.NAME]`.",
            )],
            fields: &[],
            returns: &[field(
                "account",
                "postrider.Account",
                "A handle; printing it shows its name only.",
            )],
            waits: true,
        },
        doc: "An account to send with. A script cannot go on without it, so what is wrong with it is raised, as an error table, at the line that asked.",
        since: "0.1",
        example: r#"local alerts = pr.account "alerts"
local ops = pr.account {
  name = "ops", provider = "microsoft365",
  username = "svc-mail@contoso.com", sender = "alerts@contoso.com",
  auth = { plugin = "oauth", flow = "client_credentials", tenant = "contoso.onmicrosoft.com",
           client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
           client_secret = pr.secret.env "OPS_SECRET" },
}"#,
    },
    Item {
        name: "account:send",
        kind: Kind::Function {
            params: &[field(
                "message",
                "postrider.Message",
                "The message, as below.",
            )],
            fields: SEND_FIELDS,
            returns: &[
                field(
                    "receipt",
                    "table?",
                    "`message_id`, whether it is `complete`, the server's `reply`, and for each of `recipients` its `address`, `verdict` (`accepted`, `retry`, `rejected`, `unknown`) and `reply`.",
                ),
                ERR,
            ],
            waits: true,
        },
        doc: "Sends one message and waits for the server's answer. A field nobody knows raises an error with the nearest name; a message that cannot be sent answers `nil, err`. One that was taken for some recipients only answers both: `receipt, err`, where `err.code` is `smtp.partial`.",
        since: "0.1",
        example: r#"local receipt, err = account:send {
  to = { "ops@example.net", "Night shift <night@example.net>" },
  subject = "Disk at 91 %", text = "df is attached.",
  attach = { "df.txt", { data = "a,b\n1,2\n", name = "table.csv" } },
}
if not receipt then pr.log.warn("not sent", { why = err.code, fix = err.remedy }) end"#,
    },
    Item {
        name: "account:check",
        kind: Kind::Function {
            params: &[],
            fields: &[],
            returns: &[field(
                "report",
                "table",
                "`ok`, and the `stages` in order, each with `name`, `ok`, `skipped`, `detail`, `elapsed_ms` and, where it failed, `failure`.",
            )],
            waits: true,
        },
        doc: "Connects, signs in and offers the sender, then leaves without sending: what would go wrong, stage by stage.",
        since: "0.1",
        example: r"local report = account:check()
for _, stage in ipairs(report.stages) do print(stage.name, stage.ok, stage.detail) end",
    },
    Item {
        name: "account.name",
        kind: Kind::Value("string"),
        doc: "The account's name.",
        since: "0.1",
        example: r"print(account.name)",
    },
    Item {
        name: "secret.env",
        kind: Kind::Function {
            params: &[field("name", "string", "The variable.")],
            fields: &[],
            returns: &[field(
                "secret",
                "postrider.Secret",
                "A reference; no function tells the secret itself.",
            )],
            waits: false,
        },
        doc: "A secret in an environment variable. It is read when the account needs it.",
        since: "0.1",
        example: r#"local password = pr.secret.env "MAIL_PASSWORD""#,
    },
    Item {
        name: "secret.file",
        kind: Kind::Function {
            params: &[field("path", "string", "The file.")],
            fields: &[],
            returns: &[field("secret", "postrider.Secret", "A reference.")],
            waits: false,
        },
        doc: "A secret that is a file's content.",
        since: "0.1",
        example: r#"local key = pr.secret.file "/etc/postrider/key.pem""#,
    },
    Item {
        name: "secret.command",
        kind: Kind::Function {
            params: &[field(
                "command",
                "string[]",
                "A program and its arguments; no shell sees them.",
            )],
            fields: &[],
            returns: &[field("secret", "postrider.Secret", "A reference.")],
            waits: false,
        },
        doc: "A secret that a program prints.",
        since: "0.1",
        example: r#"local password = pr.secret.command { "pass", "show", "mail" }"#,
    },
    Item {
        name: "secret.credential",
        kind: Kind::Function {
            params: &[field("name", "string", "The credential's name.")],
            fields: &[],
            returns: &[field("secret", "postrider.Secret", "A reference.")],
            waits: false,
        },
        doc: "A secret that systemd passes as a credential (`LoadCredential=`).",
        since: "0.1",
        example: r#"local password = pr.secret.credential "mail-password""#,
    },
    Item {
        name: "secret.vault",
        kind: Kind::Function {
            params: &[field("name", "string", "The record's name.")],
            fields: &[],
            returns: &[field("secret", "postrider.Secret", "A reference.")],
            waits: false,
        },
        doc: "A secret in a vault, which this version does not have: it is accepted, and fetching it fails.",
        since: "0.1",
        example: r#"local secret = pr.secret.vault "alerts/client_secret""#,
    },
    Item {
        name: "config.get",
        kind: Kind::Function {
            params: &[field(
                "key",
                "string",
                "A dotted key of the configuration file.",
            )],
            fields: &[],
            returns: &[
                field("value", "any", "The value; `nil` where it is not set."),
                ERR,
            ],
            waits: false,
        },
        doc: "Reads a setting.",
        since: "0.1",
        example: r#"local sender = pr.config.get "account.ops.sender""#,
    },
    Item {
        name: "config.set",
        kind: Kind::Function {
            params: &[
                field("key", "string", "A dotted key."),
                field(
                    "value",
                    "any",
                    "Its value; a `pr.secret` is written as a reference.",
                ),
            ],
            fields: &[],
            returns: &[
                field("ok", "true?", "`true` once the file is replaced."),
                ERR,
            ],
            waits: true,
        },
        doc: "Changes a setting in the configuration file. The whole file is checked first; comments and order stay.",
        since: "0.1",
        example: r#"assert(pr.config.set("account.ops.sender", "noreply@contoso.com"))"#,
    },
    Item {
        name: "log.debug",
        kind: Kind::Function {
            params: LOG_PARAMS,
            fields: &[],
            returns: &[],
            waits: false,
        },
        doc: "A line in the log, for whoever looks for a fault.",
        since: "0.1",
        example: r#"pr.log.debug("looked", { found = 3 })"#,
    },
    Item {
        name: "log.info",
        kind: Kind::Function {
            params: LOG_PARAMS,
            fields: &[],
            returns: &[],
            waits: false,
        },
        doc: "A line in the log that is as expected.",
        since: "0.1",
        example: r#"pr.log.info("sent", { to = "ops@example.net" })"#,
    },
    Item {
        name: "log.warn",
        kind: Kind::Function {
            params: LOG_PARAMS,
            fields: &[],
            returns: &[],
            waits: false,
        },
        doc: "A line in the log that somebody should see.",
        since: "0.1",
        example: r#"pr.log.warn "the disk is nearly full""#,
    },
    Item {
        name: "log.error",
        kind: Kind::Function {
            params: LOG_PARAMS,
            fields: &[],
            returns: &[],
            waits: false,
        },
        doc: "A line in the log that somebody must act on.",
        since: "0.1",
        example: r#"pr.log.error "no mail goes out""#,
    },
    Item {
        name: "json.encode",
        kind: Kind::Function {
            params: &[field(
                "value",
                "any",
                "Tables, text (UTF-8), numbers, booleans, `pr.json.null`.",
            )],
            fields: &[],
            returns: &[field("text", "string", "JSON, its keys sorted.")],
            waits: false,
        },
        doc: "A value as JSON. A table with the keys 1 to n is an array, any other an object, and so is an empty one unless `pr.json.array` marked it. What JSON cannot say raises an error that names where it stands.",
        since: "0.1",
        example: r"print(pr.json.encode { to = pr.json.array {}, size = 3 })",
    },
    Item {
        name: "json.decode",
        kind: Kind::Function {
            params: &[field("text", "string", "JSON.")],
            fields: &[],
            returns: &[
                field("value", "any", "The value; a null is `pr.json.null`."),
                ERR,
            ],
            waits: false,
        },
        doc: "A value from JSON.",
        since: "0.1",
        example: r#"local status = assert(pr.json.decode '{"disk": 91}')"#,
    },
    Item {
        name: "json.array",
        kind: Kind::Function {
            params: &[field("list", "table?", "A list; a new one if absent.")],
            fields: &[],
            returns: &[field("list", "table", "The same, marked.")],
            waits: false,
        },
        doc: "Marks a list as an array, so that it is `[]` when empty.",
        since: "0.1",
        example: r"local none = pr.json.array()",
    },
    Item {
        name: "json.null",
        kind: Kind::Value("userdata"),
        doc: "JSON's null, which a table can hold and `nil` cannot be.",
        since: "0.1",
        example: r"local patch = { phone = pr.json.null }",
    },
    Item {
        name: "time.now",
        kind: Kind::Function {
            params: &[],
            fields: &[],
            returns: &[field(
                "time",
                "number",
                "Seconds since 1970, with a fraction.",
            )],
            waits: false,
        },
        doc: "The time.",
        since: "0.1",
        example: r"local started = pr.time.now()",
    },
    Item {
        name: "time.parse",
        kind: Kind::Function {
            params: &[field("text", "string", "A time of RFC 3339.")],
            fields: &[],
            returns: &[field("time", "number?", "Seconds since 1970."), ERR],
            waits: false,
        },
        doc: "A time from text.",
        since: "0.1",
        example: r#"local due = assert(pr.time.parse "2026-12-31T08:00:00+01:00")"#,
    },
    Item {
        name: "time.format",
        kind: Kind::Function {
            params: &[
                field("time", "number", "Seconds since 1970."),
                field(
                    "zone",
                    "string?",
                    "A time zone such as `\"Europe/Paris\"`; UTC if absent.",
                ),
            ],
            fields: &[],
            returns: &[field("text", "string", "RFC 3339.")],
            waits: false,
        },
        doc: "A time as text.",
        since: "0.1",
        example: r#"print(pr.time.format(pr.time.now(), "Europe/Paris"))"#,
    },
    Item {
        name: "time.duration",
        kind: Kind::Function {
            params: &[field(
                "span",
                "string|number",
                "`\"500ms\"`, `\"90s\"`, `\"1h30m\"`, `\"2d\"`, or seconds.",
            )],
            fields: &[],
            returns: &[field("seconds", "number", "The same in seconds.")],
            waits: false,
        },
        doc: "A span of time as seconds, read as everywhere in Postrider.",
        since: "0.1",
        example: r#"local limit = pr.time.now() + pr.time.duration "2h""#,
    },
    Item {
        name: "sleep",
        kind: Kind::Function {
            params: &[field("span", "string|number", "`\"1s\"`, or seconds.")],
            fields: &[],
            returns: &[],
            waits: true,
        },
        doc: "Waits, while other tasks run.",
        since: "0.1",
        example: r#"pr.sleep "1s""#,
    },
    Item {
        name: "join",
        kind: Kind::Function {
            params: &[field(
                "functions",
                "function[]",
                "Functions, in one list or as arguments.",
            )],
            fields: &[],
            returns: &[field(
                "results",
                "table[]",
                "For each function, in order, its results as `table.pack` gives them.",
            )],
            waits: true,
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
    Item {
        name: "args",
        kind: Kind::Value("string[]"),
        doc: "The arguments after the script's name; the script gets them as `...` too.",
        since: "0.1",
        example: r#"local account = pr.account(pr.args[1] or "alerts")"#,
    },
    Item {
        name: "version",
        kind: Kind::Value("string"),
        doc: "Postrider's version.",
        since: "0.1",
        example: r"print(pr.version)",
    },
];

/// What of Lua's own libraries a script has.
pub(crate) const STANDARD: &[(&str, &[&str])] = &[
    (
        "_G",
        &[
            "_G",
            "_VERSION",
            "assert",
            "collectgarbage",
            "error",
            "getmetatable",
            "ipairs",
            "load",
            "next",
            "pairs",
            "pcall",
            "print",
            "rawequal",
            "rawget",
            "rawlen",
            "rawset",
            "require",
            "select",
            "setmetatable",
            "tonumber",
            "tostring",
            "type",
            "xpcall",
        ],
    ),
    (
        "coroutine",
        &[
            "close",
            "create",
            "isyieldable",
            "resume",
            "running",
            "status",
            "wrap",
            "yield",
        ],
    ),
    ("debug", &["traceback"]),
    (
        "math",
        &[
            "abs",
            "acos",
            "asin",
            "atan",
            "ceil",
            "cos",
            "deg",
            "exp",
            "floor",
            "fmod",
            "huge",
            "log",
            "max",
            "maxinteger",
            "min",
            "mininteger",
            "modf",
            "pi",
            "rad",
            "random",
            "randomseed",
            "sin",
            "sqrt",
            "tan",
            "tointeger",
            "type",
            "ult",
        ],
    ),
    ("os", &["clock", "date", "difftime", "time"]),
    (
        "string",
        &[
            "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "pack",
            "packsize", "rep", "reverse", "sub", "unpack", "upper",
        ],
    ),
    (
        "table",
        &[
            "concat", "insert", "move", "pack", "remove", "sort", "unpack",
        ],
    ),
    (
        "utf8",
        &["char", "charpattern", "codepoint", "codes", "len", "offset"],
    ),
];
