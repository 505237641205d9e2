//! Accounts, and what a message is.

use crate::codes;
use crate::item::Type::{
    AccountName, AccountSettings, Any, Boolean, Integer, List, Map, Number, OneOf, Table, Text,
    Words,
};
use crate::item::{
    ERR, Errors, Family, Field, Handle, Item, Kind, REPLY, Record, Type, error, field, optional,
};

/// One address, or several.
const ADDRESSES: Type = OneOf(&[Text, List(&Text)]);

/// What `account:send{…}` accepts.
pub const SEND_FIELDS: &[Field] = &[
    optional(
        "to",
        ADDRESSES,
        "Recipients: `\"a@example.org\"` or `\"Name <a@example.org>\"`.",
    ),
    optional("cc", ADDRESSES, "Recipients of copies."),
    optional("bcc", ADDRESSES, "Recipients whom no header names."),
    optional("subject", Text, "The subject, in any language."),
    optional(
        "text",
        Text,
        "The body as plain text. With `html` too, readers choose.",
    ),
    optional("html", Text, "The body as HTML."),
    optional(
        "attach",
        OneOf(&[Text, List(&OneOf(&[Text, Type::Record(&ATTACH)]))]),
        "Attachments: paths, or tables as below.",
    ),
    optional(
        "from",
        Text,
        "The author; the account's `sender` if absent.",
    ),
    optional("sender", Text, "Who sends on the author's behalf."),
    optional("reply_to", ADDRESSES, "Where answers go."),
    optional(
        "headers",
        Map(&ADDRESSES),
        "Further header fields, by name.",
    ),
    optional(
        "priority",
        Words(&["high", "normal", "low"]),
        "How urgent it is.",
    ),
    optional("in_reply_to", Text, "The Message-ID this answers."),
    optional("references", ADDRESSES, "The Message-IDs of the thread."),
    optional(
        "message_id",
        Text,
        "The Message-ID, in place of a generated one.",
    ),
    optional(
        "raw",
        Text,
        "A finished RFC 5322 message; only `from`, `to`, `cc` and `bcc` may go with it, and replace its envelope.",
    ),
    optional("raw_file", Text, "The path of such a message."),
    optional(
        "wait",
        Words(&["accepted", "queued"]),
        "`accepted`, if absent: until the server has answered. `queued`: until the message is safe on disk; then it is delivered as soon as it can be, and tried again for days.",
    ),
    optional(
        "idempotency_key",
        Text,
        "With `queued`: the same key again sends nothing, and answers the first receipt.",
    ),
    optional(
        "send_at",
        OneOf(&[Number, Text]),
        "With `queued`: not before this time, Unix seconds or `\"2026-03-01T08:00:00Z\"`.",
    ),
    optional(
        "expires_at",
        OneOf(&[Number, Text]),
        "With `queued`: what is not delivered by then has failed.",
    ),
];

/// What an item of `attach` may be.
pub const ATTACH_FIELDS: &[Field] = &[
    optional("path", Text, "A file, relative to the working directory."),
    optional("data", Text, "The octets themselves, in place of `path`."),
    optional(
        "name",
        Text,
        "The name the recipient sees; the path's own if absent.",
    ),
    optional(
        "type",
        Text,
        "The MIME type; guessed from the name if absent.",
    ),
    optional(
        "inline",
        Text,
        "A Content-ID, for a picture the HTML shows as `cid:…`.",
    ),
];

/// What `account:rotate` accepts.
pub const ROTATE_FIELDS: &[Field] = &[optional(
    "force",
    Boolean,
    "Also when nothing is due, such as after a secret was changed at the provider.",
)];

/// What `account:rotate_client_secret` accepts.
pub const ROTATE_CLIENT_SECRET_FIELDS: &[Field] = &[
    optional(
        "lifetime",
        Type::Duration,
        "How long the new one is to last. Default: `renewal.lifetime` of the account, else 180 days.",
    ),
    optional(
        "overlap",
        Type::Duration,
        "How long the old one is kept beside it. Default: `renewal.overlap` of the account, else a day.",
    ),
    optional(
        "finish",
        Boolean,
        "Remove the old one now, the overlap cut short; begins nothing.",
    ),
];

/// A message.
pub(crate) const MESSAGE: Record = Record {
    class: "postrider.Message",
    doc: "What `account:send` takes.",
    fields: SEND_FIELDS,
};

const ATTACH: Record = Record {
    class: "postrider.Attach",
    doc: "An attachment.",
    fields: ATTACH_FIELDS,
};

const ROTATE: Record = Record {
    class: "postrider.RotateOptions",
    doc: "What `account:rotate` takes.",
    fields: ROTATE_FIELDS,
};

const ROTATE_CLIENT_SECRET: Record = Record {
    class: "postrider.RotateClientSecretOptions",
    doc: "What `account:rotate_client_secret` takes.",
    fields: ROTATE_CLIENT_SECRET_FIELDS,
};

const RENEWED: Record = Record {
    class: "postrider.Renewed",
    doc: "Where the renewal of a client secret or certificate stands.",
    fields: &[
        field("account", Text, "The account's name."),
        field("setting", Text, "`client_secret` or `certificate`."),
        field(
            "state",
            Words(&["switched", "finished", "none"]),
            "`switched`: the new one is in use and the old one is kept; `finished`: the old one is removed; `none`: nothing was under way.",
        ),
        optional("key_id", Text, "The id of the new one at Entra ID."),
        optional("expires_at", Number, "When the new one ends."),
        optional("old_key_id", Text, "The id of the old one."),
        optional(
            "remove_after",
            Number,
            "From when the old one may be removed.",
        ),
        field(
            "orphans_removed",
            List(&Text),
            "Ids of what a broken-off renewal had left at Entra ID, and was removed.",
        ),
        field("notes", List(&Text), "What remains to be known or done."),
        optional("next", Text, "The next step."),
    ],
};

const RECEIPT: Record = Record {
    class: "postrider.Receipt",
    doc: "What the server made of a message.",
    fields: &[
        field("message_id", Text, "The Message-ID it goes out with."),
        field("account", Text, "The account's name."),
        optional("complete", Boolean, "Whether all recipients were accepted."),
        optional("reply", Text, "The server's answer."),
        field(
            "recipients",
            List(&Type::Record(&RECIPIENT)),
            "Each with what became of it; absent of a queued message.",
        ),
        optional(
            "id",
            Text,
            "Of a queued message: what `postrider queue` calls it.",
        ),
        optional(
            "duplicate",
            Boolean,
            "Of a queued message: whether its key had been used, and nothing was queued again.",
        ),
        optional(
            "queued_at",
            Number,
            "Of a queued message: when it was queued; of a duplicate, when the first one was.",
        ),
    ],
};

const RECIPIENT: Record = Record {
    class: "postrider.Recipient",
    doc: "A recipient of a message that was sent.",
    fields: &[
        field("address", Text, "The address."),
        field(
            "verdict",
            Words(&["accepted", "retry", "rejected", "unknown"]),
            "What became of it.",
        ),
        optional("reply", Text, "The server's answer about it."),
        optional("remedy", Text, "What to do, where it was refused."),
    ],
};

const REPORT: Record = Record {
    class: "postrider.Report",
    doc: "What `account:check` found.",
    fields: &[
        field("account", Text, "The account's name."),
        field("ok", Boolean, "Whether no stage failed."),
        field(
            "verdict",
            Text,
            "The cause, in one line; or that there is none.",
        ),
        field(
            "stages",
            List(&Type::Record(&STAGE)),
            "In order, each with how it went.",
        ),
    ],
};

const STAGE: Record = Record {
    class: "postrider.Stage",
    doc: "One step of `account:check`.",
    fields: &[
        field(
            "name",
            Text,
            "Which it is: `config`, `secrets`, `plugin`, `clock`, `dns`, `tcp`, `tls`, `ehlo`, `token`, `claims`, `graph_user`, `graph_licence`, `graph_consent`, `graph_secret`, `auth`, `sender`, `message`.",
        ),
        field(
            "result",
            Words(&["ok", "failed", "warning", "skipped"]),
            "How it went.",
        ),
        field("elapsed_ms", Number, "How long it took."),
        field(
            "evidence",
            Text,
            "What was seen; where it was not tried, why.",
        ),
        optional(
            "failure",
            Type::Record(&FINDING),
            "What is wrong, where something is.",
        ),
    ],
};

const FINDING: Record = Record {
    class: "postrider.Finding",
    doc: "What is wrong, why, and who can put it right.",
    fields: &[
        field("code", Text, "Dotted and stable: what a script matches."),
        field("cause", Text, "Why, in one line."),
        field("remedy", Text, "What to do."),
        field("who", Text, "Who can do it: `you`, or somebody else."),
        field(
            "verdict",
            Words(&["retry", "reauthorize", "reconfigure", "permanent", "admin"]),
            "What follows.",
        ),
        field("retryable", Boolean, "Whether waiting alone may help."),
        optional(
            "smtp",
            Type::Record(&REPLY),
            "The server's reply, where one was the reason.",
        ),
        optional(
            "others",
            List(&Type::Record(&ALTERNATIVE)),
            "What else it may be, the likelier first.",
        ),
    ],
};

const ALTERNATIVE: Record = Record {
    class: "postrider.Alternative",
    doc: "What else may be the cause.",
    fields: &[
        field("code", Text, "Dotted and stable."),
        field("cause", Text, "Why, in one line."),
        field("remedy", Text, "What to do."),
        field("who", Text, "Who can do it."),
        field(
            "verdict",
            Words(&["retry", "reauthorize", "reconfigure", "permanent", "admin"]),
            "What follows.",
        ),
        field("retryable", Boolean, "Whether waiting alone may help."),
    ],
};

const STATUS: Record = Record {
    class: "postrider.Status",
    doc: "How an account's credential stands.",
    fields: &[
        field(
            "state",
            Words(&[
                "fresh",
                "due",
                "refreshing",
                "degraded",
                "reauthorization_required",
                "absent",
                "none",
            ]),
            "`absent` before the first token, `none` where the plugin uses none.",
        ),
        field(
            "sign_in_needed",
            Boolean,
            "Whether a person has to sign in.",
        ),
        optional("remedy", Text, "The command for that."),
        optional("generation", Integer, "Which token of its grant it is."),
        optional("reason", Text, "Of `reauthorization_required`: why."),
        optional("message", Text, "What the provider said."),
        optional("since", Number, "Since when."),
        optional("expires_at", Number, "Until when the token is good."),
        optional("next_refresh", Number, "When it will be replaced."),
        optional("last_refreshed", Number, "When it was fetched."),
        optional("scope", Any, "What it is good for."),
        optional(
            "refresh_token",
            Type::Record(&REFRESH_TOKEN),
            "How the refresh token stands, where there is one.",
        ),
        optional(
            "last_failure",
            Type::Record(&LAST_FAILURE),
            "What went wrong since the last success.",
        ),
        optional(
            "signed_in",
            Type::Record(&SIGNED_IN),
            "Who signed in, where a person did.",
        ),
        field(
            "expires",
            List(&Type::Record(&EXPIRY)),
            "What of its secrets expires, and when.",
        ),
    ],
};

const REFRESH_TOKEN: Record = Record {
    class: "postrider.RefreshToken",
    doc: "How a refresh token stands.",
    fields: &[
        field("issued_at", Number, "When it came, or was last used."),
        optional("lapses_at", Number, "When it lapses if nothing uses it."),
    ],
};

const LAST_FAILURE: Record = Record {
    class: "postrider.LastFailure",
    doc: "What went wrong last.",
    fields: &[
        field("at", Number, "When."),
        field("message", Text, "What, in a line."),
        optional("retry_at", Number, "When it is tried again."),
    ],
};

const SIGNED_IN: Record = Record {
    class: "postrider.SignedIn",
    doc: "Who signed in.",
    fields: &[
        field(
            "usernames",
            List(&Text),
            "Every name the provider gave this person.",
        ),
        optional("name", Text, "The name for people."),
        optional("tenant", Text, "Microsoft's tenant."),
    ],
};

const EXPIRY: Record = Record {
    class: "postrider.Expiry",
    doc: "A secret that expires.",
    fields: &[
        field("secret", Text, "The setting, such as `client_secret`."),
        field("expires_at", Number, "When."),
        field(
            "days",
            Integer,
            "Days until then, as `secret.expiring` counts them.",
        ),
        field("source", Text, "Who says so."),
    ],
};

const ROTATION: Record = Record {
    class: "postrider.Rotation",
    doc: "What `account:rotate` did.",
    fields: &[
        field(
            "outcome",
            Words(&["refreshed", "fresh", "none"]),
            "`fresh`: nothing was due; `none`: the plugin uses no tokens.",
        ),
        optional("generation", Integer, "Which token of its grant it is."),
        optional("expires_at", Number, "Until when it is good."),
        optional("next_refresh", Number, "When it will be replaced."),
    ],
};

/// An account in a script's hands.
pub(crate) const ACCOUNT: Handle = Handle {
    word: "account",
    class: "postrider.Account",
    doc: "An account to send with. Printing it shows its name only.",
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Accounts",
    intro: "",
    items: &[
        Item {
            name: "account",
            kind: Kind::Function {
                params: &[field(
                    "account",
                    OneOf(&[AccountName, AccountSettings]),
                    "A name from the configuration file, or a table with a `name` and the keys of `[account.NAME]`.",
                )],
                returns: &[field(
                    "account",
                    Type::Handle(&ACCOUNT),
                    "A handle; printing it shows its name only.",
                )],
                waits: true,
                errors: Errors::Raised(&[codes::ACCOUNT, codes::SECRET]),
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
                returns: &[field(
                    "accounts",
                    List(&Type::Handle(&ACCOUNT)),
                    "Handles, sorted by name.",
                )],
                waits: false,
                errors: Errors::Never,
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
                    Type::Record(&MESSAGE),
                    "The message, as below.",
                )],
                returns: &[
                    optional(
                        "receipt",
                        Type::Record(&RECEIPT),
                        "What the server made of it, as below.",
                    ),
                    ERR,
                ],
                waits: true,
                errors: Errors::Returned(&[
                    &[
                        error(
                            "message.invalid",
                            "a field of the message is wrong; `details.field` names it",
                        ),
                        error("message.too_large", "more than can be read or sent"),
                        error("file.unreadable", "a file that was named cannot be read"),
                        error("smtp.partial", "some recipients were refused"),
                        error("queue.*", "with `queued`: it could not be queued"),
                        error(
                            "smtp.unknown",
                            "the answer to the message was lost; it may have arrived",
                        ),
                    ],
                    codes::SMTP,
                    codes::CREDENTIAL,
                    codes::SECRET,
                    codes::NETWORK,
                    codes::ACCOUNT,
                ]),
            },
            doc: "Sends one message and waits for the server's answer; with `wait = \"queued\"`, until it is safe in the queue, which delivers it. A field nobody knows raises an error with the nearest name; a message that cannot be sent answers `nil, err`. One that was taken for some recipients only answers both: `receipt, err`, where `err.code` is `smtp.partial`.",
            since: "0.1",
            example: r#"local receipt, err = account:send {
  to = { "ops@example.net", "Night shift <night@example.net>" },
  subject = "Disk at 91 %", text = "df is attached.",
  attach = { { data = "a,b\n1,2\n", name = "table.csv" } },
}
if not receipt then pr.log.warn("not sent", { why = err.code, fix = err.remedy }) end"#,
        },
        Item {
            name: "account:check",
            kind: Kind::Function {
                params: &[],
                returns: &[field(
                    "report",
                    Type::Record(&REPORT),
                    "What was found, as below.",
                )],
                waits: true,
                errors: Errors::Never,
            },
            doc: "Connects, signs in and offers the sender, then leaves without sending: what would go wrong, stage by stage, as `postrider doctor` says it, by the token at hand. An account that cannot be set up is a report, too.",
            since: "0.1",
            example: r"local report = account:check()
print(report.verdict)
for _, stage in ipairs(report.stages) do
  local why = stage.failure
  print(stage.name, stage.result, stage.evidence)
  if why then print(why.code, why.cause, why.remedy, why.who, why.retryable) end
end",
        },
        Item {
            name: "account:status",
            kind: Kind::Function {
                params: &[],
                returns: &[
                    optional(
                        "status",
                        Type::Record(&STATUS),
                        "How it stands, as below; what is not known is absent.",
                    ),
                    ERR,
                ],
                waits: true,
                errors: Errors::Returned(&[codes::ACCOUNT, codes::SECRET]),
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
                params: &[optional(
                    "options",
                    Type::Record(&ROTATE),
                    "Options, as below.",
                )],
                returns: &[
                    optional(
                        "rotation",
                        Type::Record(&ROTATION),
                        "What was done, as below.",
                    ),
                    ERR,
                ],
                waits: true,
                errors: Errors::Returned(&[
                    codes::CREDENTIAL,
                    codes::SECRET,
                    codes::NETWORK,
                    codes::ACCOUNT,
                ]),
            },
            doc: "Fetches a new access token where one is due, and with it a new refresh token where the provider gives one; also where the refresh token would lapse for want of use.",
            since: "0.1",
            example: r"local rotation, err = account:rotate()
if rotation then print(rotation.outcome, pr.time.format(rotation.next_refresh or 0)) end
assert(account:rotate { force = true })",
        },
        Item {
            name: "account:rotate_client_secret",
            kind: Kind::Function {
                params: &[optional(
                    "options",
                    Type::Record(&ROTATE_CLIENT_SECRET),
                    "Options, as below.",
                )],
                returns: &[
                    optional(
                        "renewed",
                        Type::Record(&RENEWED),
                        "Where it stands, as below.",
                    ),
                    ERR,
                ],
                waits: true,
                errors: Errors::Returned(&[
                    &[
                        error("secret.not_in_vault", "it lies where it cannot be replaced"),
                        error("secret.no_right", "the application may not renew its own"),
                        error(
                            "secret.not_accepted",
                            "Entra ID does not accept the new one yet",
                        ),
                        error("secret.changed", "somebody else has changed it meanwhile"),
                        error("secret.busy", "another process is renewing it"),
                        error("graph.*", "Microsoft Graph did not do it"),
                    ],
                    codes::CREDENTIAL,
                    codes::SECRET,
                    codes::NETWORK,
                    codes::ACCOUNT,
                ]),
            },
            doc: "Replaces the client secret or certificate of an account of the configuration file: makes a new one at Entra ID, by the application's own right, sees it work, puts it into the vault, and removes the old one after the overlap. Called again it goes on with what was begun; the same as `postrider rotate --client-secret`.",
            since: "0.1",
            example: r"local renewed, err = account:rotate_client_secret { overlap = '2d' }
if renewed then print(renewed.state, renewed.next) else print(err.message, err.remedy) end",
        },
        Item {
            name: "account:token",
            kind: Kind::Function {
                params: &[],
                returns: &[
                    optional("token", Text, "The access token itself."),
                    field(
                        "details",
                        OneOf(&[Table, Type::Error]),
                        "`expires_at`, `scope`, `token_type`; the error where there is no token.",
                    ),
                ],
                waits: true,
                errors: Errors::Returned(&[
                    codes::CREDENTIAL,
                    codes::SECRET,
                    codes::NETWORK,
                    codes::ACCOUNT,
                ]),
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
            kind: Kind::Value(Text),
            doc: "The account's name.",
            since: "0.1",
            example: r"print(account.name)",
        },
    ],
};
