//! Every name a script may use, described once: what [`crate::reference()`] says, what `send{}`
//! accepts, and what a test holds against what is registered.

/// One name in the API.
pub struct Item {
    /// As a script writes it after `pr.`, or `account:send`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One paragraph.
    pub doc: &'static str,
    /// The version that brought it.
    pub since: &'static str,
    /// Lua that parses by itself; `pr` and `account` exist.
    pub example: &'static str,
}

/// What an [`Item`] is.
pub enum Kind {
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
pub struct Field {
    /// As it is written.
    pub name: &'static str,
    /// A type as LuaLS writes it; `?` at the end where it may be absent.
    pub lua_type: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

const fn field(name: &'static str, lua_type: &'static str, doc: &'static str) -> Field {
    Field {
        name,
        lua_type,
        doc,
    }
}

/// The names of fields.
pub fn names(fields: &'static [Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

/// What `account:send{…}` accepts.
pub const SEND_FIELDS: &[Field] = &[
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
pub const ATTACH_FIELDS: &[Field] = &[
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

/// What `account:rotate` accepts.
pub const ROTATE_FIELDS: &[Field] = &[field(
    "force",
    "boolean?",
    "Also when nothing is due, such as after a secret was changed at the provider.",
)];

const URL_PARAM: Field = field(
    "url",
    "string|postrider.Secret",
    "Where to. A secret is looked up and used, and the script does not see it.",
);
const HEADERS_FIELD: Field = field(
    "headers",
    "table<string, string|postrider.Secret>?",
    "Header fields, by name.",
);
const TIMEOUT_FIELD: Field = field(
    "timeout",
    "string|number?",
    "How long it may take altogether; `\"30s\"` if absent.",
);
const MAX_OCTETS_FIELD: Field = field(
    "max_octets",
    "integer?",
    "The largest response body; 1 MiB if absent, 64 MiB at most.",
);
const CA_FILE_FIELD: Field = field(
    "ca_file",
    "string?",
    "A PEM file with authorities to trust in place of the platform's.",
);
const PLAINTEXT_FIELD: Field = field(
    "danger_plaintext",
    "boolean?",
    "Allows `http://` to other machines: whoever is on the way reads and changes it.",
);
const RESPONSE: Field = field(
    "response",
    "table?",
    "`status`, `ok` (whether it is 2xx), `headers` by lower-case name, and `body`.",
);

/// What `pr.http.get` accepts.
pub const HTTP_GET_FIELDS: &[Field] = &[
    HEADERS_FIELD,
    TIMEOUT_FIELD,
    MAX_OCTETS_FIELD,
    CA_FILE_FIELD,
    PLAINTEXT_FIELD,
];

/// What `pr.http.post` accepts.
pub const HTTP_POST_FIELDS: &[Field] = &[
    field(
        "json",
        "any",
        "The body: a value, sent as `pr.json.encode` writes it.",
    ),
    field(
        "form",
        "table<string, string|number|boolean>?",
        "The body: fields, as a web form sends them.",
    ),
    field(
        "body",
        "string?",
        "The body: octets; 1 MiB at most, as of all three.",
    ),
    HEADERS_FIELD,
    TIMEOUT_FIELD,
    MAX_OCTETS_FIELD,
    CA_FILE_FIELD,
    PLAINTEXT_FIELD,
];

/// Something that `pr.on` can wait for.
pub struct Event {
    /// As `pr.on` takes it.
    pub name: &'static str,
    /// When it happens.
    pub doc: &'static str,
    /// What the handler gets, in one table.
    pub payload: &'static [Field],
}

const ACCOUNT: Field = field("account", "string", "The account's name.");

/// All there are.
pub const EVENTS: &[Event] = &[
    Event {
        name: "token.refreshed",
        doc: "An access token was fetched, and is stored.",
        payload: &[
            ACCOUNT,
            field("generation", "integer", "Which token of its grant it is."),
            field("expires_at", "number", "Until when it is good."),
            field("next_refresh", "number", "When it will be replaced."),
        ],
    },
    Event {
        name: "token.refresh_failed",
        doc: "An access token could not be fetched, for a reason that may pass by itself; it will be tried again.",
        payload: &[
            ACCOUNT,
            field("code", "string", "Why, as in an error: stable."),
            field("message", "string", "What happened."),
            field("remedy", "string?", "What to do about it."),
            field("retry_at", "number?", "When it is tried again."),
            field(
                "usable_until",
                "number?",
                "Until when mail still goes out, with the token there is; absent if there is none.",
            ),
        ],
    },
    Event {
        name: "token.reauthorization_required",
        doc: "The account sends no mail until a person acts. Told once; again only where no handler ran to its end.",
        payload: &[
            ACCOUNT,
            field(
                "reason",
                "string",
                "Stable, such as `revoked`, `expired` or `lost_rotation`.",
            ),
            field("message", "string", "What the provider said."),
            field("since", "number", "Since when."),
            field("remedy", "string", "The command to run."),
        ],
    },
    Event {
        name: "secret.expiring",
        doc: "A client secret or certificate expires soon. Told once each at 30, 14, 7, 3 days and 1 day before; again only where no handler ran to its end.",
        payload: &[
            ACCOUNT,
            field("secret", "string", "The setting, such as `client_secret`."),
            field("expires_at", "number", "When."),
            field(
                "days",
                "integer",
                "Days until then, a begun one counted: 1 in its last hours, 0 or less once it is over.",
            ),
        ],
    },
];

const LOG_PARAMS: &[Field] = &[
    field("message", "string", "One line."),
    field(
        "fields",
        "table?",
        "What belongs to it, as JSON; a secret says only that it is one.",
    ),
];

/// The API, in the order of the reference.
pub const ITEMS: &[Item] = &[
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
        name: "accounts",
        kind: Kind::Function {
            params: &[],
            fields: &[],
            returns: &[field(
                "accounts",
                "postrider.Account[]",
                "Handles, sorted by name.",
            )],
            waits: false,
        },
        doc: "All accounts of the configuration file. Each is set up when it is first used, so what is wrong with one is an error there, and nothing to the others.",
        since: "0.1",
        example: r"for _, account in ipairs(pr.accounts()) do print(account.name, account:check().ok) end",
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
        name: "account:status",
        kind: Kind::Function {
            params: &[],
            fields: &[],
            returns: &[
                field(
                    "status",
                    "table?",
                    "`state` (`fresh`, `due`, `refreshing`, `degraded`, `reauthorization_required`, `absent` before the first token, `none` where the plugin uses none), `sign_in_needed` and the `remedy` for it, `generation`, and where they are known `reason`, `message` and `since` (of `reauthorization_required`), `expires_at`, `next_refresh`, `last_refreshed`, `scope`, `refresh_token` (`issued_at`, `lapses_at`), `last_failure` (`at`, `message`, `retry_at`), `signed_in` (`usernames`, `name`, `tenant`); and `expires`, a list of `secret`, `expires_at`, `days` (as `secret.expiring` counts them), `source`.",
                ),
                ERR,
            ],
            waits: true,
        },
        doc: "How the account's credential stands, from what is stored: nobody is asked. Times are seconds since 1970.",
        since: "0.1",
        example: r"local status = assert(account:status())
if status.sign_in_needed then print(status.message, status.remedy) end
for _, secret in ipairs(status.expires) do print(secret.secret, secret.days) end",
    },
    Item {
        name: "account:rotate",
        kind: Kind::Function {
            params: &[field("options", "table?", "Options, as below.")],
            fields: ROTATE_FIELDS,
            returns: &[
                field(
                    "rotation",
                    "table?",
                    "`outcome` (`refreshed`; `fresh`, nothing was due; `none`, the plugin uses no tokens), `generation`, `expires_at`, `next_refresh`.",
                ),
                ERR,
            ],
            waits: true,
        },
        doc: "Fetches a new access token where one is due, and with it a new refresh token where the provider gives one; also where the refresh token would lapse for want of use.",
        since: "0.1",
        example: r"local rotation, err = account:rotate()
if rotation then print(rotation.outcome, pr.time.format(rotation.next_refresh or 0)) end
assert(account:rotate { force = true })",
    },
    Item {
        name: "account:token",
        kind: Kind::Function {
            params: &[],
            fields: &[],
            returns: &[
                field("token", "string?", "The access token itself."),
                field(
                    "details",
                    "table|postrider.Error",
                    "`expires_at`, `scope`, `token_type`; the error where there is no token.",
                ),
            ],
            waits: true,
        },
        doc: "The access token, for a program that speaks to the provider itself: the only way a script sees one. Whoever has it acts as the account until it expires: do not print or log it.",
        since: "0.1",
        example: r#"local token, details = account:token()
local me = assert(pr.http.get("https://graph.microsoft.com/v1.0/me", {
  headers = { Authorization = "Bearer " .. token },
}))"#,
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
        doc: "A secret in the vault, where `postrider secret set` puts it.",
        since: "0.1",
        example: r#"local secret = pr.secret.vault "alerts/client_secret""#,
    },
    Item {
        name: "on",
        kind: Kind::Function {
            params: &[
                field("event", "string", "Its name, one of those below."),
                field("handler", "function", "Gets one table, as below."),
            ],
            fields: &[],
            returns: &[field(
                "handler",
                "postrider.Handler",
                "A handle, with `off`.",
            )],
            waits: false,
        },
        doc: "Runs a function whenever something happens, while the script runs; at its end it waits, for 30 seconds at most, until what has happened is dealt with. Several handlers of one event begin in their order and run at the same time, each as a task of its own. What a handler raises is logged, and ends neither the others nor the script; one that takes longer than ten minutes is stopped. An event counts as heard if at least one handler ran to its end. A warning that came to light before there was a handler is told then.",
        since: "0.1",
        example: r#"pr.on("token.reauthorization_required", function(event)
  local hook = pr.secret.env "ALERT_WEBHOOK"
  local response = assert(pr.http.post(hook, { json = { text = event.account .. ": " .. event.remedy } }))
  assert(response.ok, "the webhook answered " .. response.status)
end)"#,
    },
    Item {
        name: "handler:off",
        kind: Kind::Function {
            params: &[],
            fields: &[],
            returns: &[],
            waits: false,
        },
        doc: "Takes a handler away. What it has begun it still ends.",
        since: "0.1",
        example: r#"local handler = pr.on("token.refreshed", function(event) print(event.account) end)
handler:off()"#,
    },
    Item {
        name: "http.post",
        kind: Kind::Function {
            params: &[URL_PARAM, field("options", "table?", "Options, as below.")],
            fields: HTTP_POST_FIELDS,
            returns: &[RESPONSE, ERR],
            waits: true,
        },
        doc: "Sends something to a web server, such as a warning to a webhook. An answer of any status is a response: look at `ok`. Redirects are not followed, nothing is tried again, and after `network.timeout` or `network.lost` it may have arrived. Plain `http://` goes to this machine only. `HTTPS_PROXY` and `NO_PROXY` are heeded. Errors name host and port, never the rest of the url.",
        since: "0.1",
        example: r#"local response, err = pr.http.post(pr.secret.env "ALERT_WEBHOOK", {
  json = { text = "Disk at 91 %" }, timeout = "10s",
})
if not response then pr.log.warn("not told", { why = err.code }) end"#,
    },
    Item {
        name: "http.get",
        kind: Kind::Function {
            params: &[URL_PARAM, field("options", "table?", "Options, as below.")],
            fields: HTTP_GET_FIELDS,
            returns: &[RESPONSE, ERR],
            waits: true,
        },
        doc: "Fetches something from a web server, by the same rules.",
        since: "0.1",
        example: r#"local response = assert(pr.http.get "https://status.example.org/disks.json")
local disks = assert(pr.json.decode(response.body))"#,
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
pub const STANDARD: &[(&str, &[&str])] = &[
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
