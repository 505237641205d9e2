//! Events, and what handles them.

use crate::item::Type::{
    Any, AppEventName, Boolean, EventHandler, EventName, Integer, List, Number, Table, Text, Words,
};
use crate::item::{
    ERR, Errors, Event, Family, Field, Handle, Item, Kind, Type, error, field, optional,
};

const ACCOUNT: Field = field("account", Text, "The account's name.");
const QUEUE_ID: Field = field("id", Text, "What `postrider queue` calls the message.");
const MESSAGE_ID: Field = field("message_id", Text, "The Message-ID.");
const AT: Field = field("at", Number, "When it happened.");
const RECIPIENTS: Type = List(&Table);
/// Why something failed, in three fields.
const CODE: Field = field("code", Text, "Why, as in an error: stable.");
const MESSAGE: Field = field("message", Text, "What happened.");
const REMEDY: Field = optional("remedy", Text, "What to do about it.");
const SCHEDULE: Field = optional("name", Text, "The schedule's name, if it has one.");
const SCRIPT: Field = field("script", Text, "The script it is of.");
const SCHEDULED_AT: Field = field("scheduled_at", Number, "The time it was to run at.");
const GATEWAY: Field = field("gateway", Text, "The gateway's name.");
const DEVICE: Field = field("device", Text, "The device: the name it signed in with.");
const CLIENT: Field = field("client", Text, "Its address.");

/// All that `pr.on` can wait for, besides `app.` and a word.
pub const EVENTS: &[Event] = &[
    Event {
        name: "token.refreshed",
        doc: "An access token was fetched, and is stored.",
        payload: &[
            ACCOUNT,
            field("generation", Integer, "Which token of its grant it is."),
            field("expires_at", Number, "Until when it is good."),
            field("next_refresh", Number, "When it will be replaced."),
            AT,
        ],
    },
    Event {
        name: "token.refresh_failed",
        doc: "An access token could not be fetched, for a reason that may pass by itself; it will be tried again.",
        payload: &[
            ACCOUNT,
            CODE,
            MESSAGE,
            REMEDY,
            optional("retry_at", Number, "When it is tried again."),
            optional(
                "usable_until",
                Number,
                "Until when mail still goes out, with the token there is; absent if there is none.",
            ),
            AT,
        ],
    },
    Event {
        name: "token.reauthorization_required",
        doc: "The account sends no mail until a person acts. Told once; again only where no handler ran to its end.",
        payload: &[
            ACCOUNT,
            field(
                "reason",
                Text,
                "Stable, such as `revoked`, `expired` or `lost_rotation`.",
            ),
            field("message", Text, "What the provider said."),
            field("since", Number, "Since when."),
            field("remedy", Text, "The command to run."),
            AT,
        ],
    },
    Event {
        name: "secret.expiring",
        doc: "A client secret or certificate expires soon. Told once each at 30, 14, 7, 3 days and 1 day before; again only where no handler ran to its end.",
        payload: &[
            ACCOUNT,
            field("secret", Text, "The setting, such as `client_secret`."),
            field("expires_at", Number, "When."),
            field(
                "days",
                Integer,
                "Days until then, a begun one counted: 1 in its last hours, 0 or less once it is over.",
            ),
            AT,
        ],
    },
    Event {
        name: "secret.renewed",
        doc: "A new client secret or certificate is in use. The one before it still works for the overlap.",
        payload: &[
            ACCOUNT,
            field("secret", Text, "The setting, such as `client_secret`."),
            optional("expires_at", Number, "When the new one ends."),
            optional(
                "remove_after",
                Number,
                "From when the old one may be removed; absent once it is.",
            ),
            AT,
        ],
    },
    Event {
        name: "secret.renewal_failed",
        doc: "A client secret or certificate was to be replaced, or the old one to be removed, and was not. What is in use works as before; it is tried again.",
        payload: &[
            ACCOUNT,
            CODE,
            MESSAGE,
            REMEDY,
            field("retryable", Boolean, "Whether the same may succeed later."),
            AT,
        ],
    },
    Event {
        name: "send.accepted",
        doc: "A server took a message, for all its recipients or for some of them.",
        payload: &[
            ACCOUNT,
            field("message_id", Text, "The Message-ID."),
            field(
                "recipients",
                RECIPIENTS,
                "What became of each, as in a receipt.",
            ),
            field("complete", Boolean, "Whether it was taken for all of them."),
            field("reply", Text, "What the server answered."),
            AT,
        ],
    },
    Event {
        name: "send.failed",
        doc: "A message was taken for nobody.",
        payload: &[
            ACCOUNT,
            optional(
                "message_id",
                Text,
                "The Message-ID, if it came to have one.",
            ),
            CODE,
            MESSAGE,
            REMEDY,
            field("retryable", Boolean, "Whether the same may succeed later."),
            optional("recipients", RECIPIENTS, "What became of each."),
            AT,
        ],
    },
    Event {
        name: "queue.accepted",
        doc: "A message is safe in the queue.",
        payload: &[
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            field("recipients", Integer, "How many get it."),
            field("origin", Text, "Who queued it."),
            AT,
        ],
    },
    Event {
        name: "queue.delivered",
        doc: "A server took a queued message for a recipient.",
        payload: &[
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            field("recipient", Text, "The recipient."),
            field("reply", Text, "What the server answered."),
            field("attempts", Integer, "How often it was tried."),
            AT,
        ],
    },
    Event {
        name: "queue.deferred",
        doc: "A queued message was not taken for a recipient yet, and is tried again.",
        payload: &[
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            field("recipient", Text, "The recipient."),
            field("why", Text, "What the server answered, or what went wrong."),
            field("attempts", Integer, "How often it was tried."),
            field("next", Number, "When it is tried again."),
            AT,
        ],
    },
    Event {
        name: "queue.held",
        doc: "A queued message waits for a person: `postrider queue release` sends it on.",
        payload: &[
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            field("recipient", Text, "The recipient."),
            field("why", Text, "Why."),
            AT,
        ],
    },
    Event {
        name: "queue.failed",
        doc: "A queued message will not be delivered to a recipient.",
        payload: &[
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            field("recipient", Text, "The recipient."),
            field(
                "why",
                Text,
                "What the server answered, or why it was given up.",
            ),
            field("attempts", Integer, "How often it was tried."),
            AT,
        ],
    },
    Event {
        name: "queue.unknown",
        doc: "A queued message left for a recipient, and nobody knows whether it arrived: the answer was lost.",
        payload: &[
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            field("recipient", Text, "The recipient."),
            field("why", Text, "How the answer was lost."),
            field("attempts", Integer, "How often it was tried."),
            AT,
        ],
    },
    Event {
        name: "queue.paused",
        doc: "Nothing of an account's queue is sent for a while, or until somebody does something.",
        payload: &[
            ACCOUNT,
            field("why", Text, "What the server or the provider said."),
            field("until", Number, "When it is tried again at the latest."),
            field(
                "kind",
                Words(&["slow", "away", "parked"]),
                "`slow`: the server asked for less. `away`: it cannot be reached. `parked`: the account waits for a token, or for a person.",
            ),
            AT,
        ],
    },
    Event {
        name: "queue.resumed",
        doc: "An account's queue moves again.",
        payload: &[ACCOUNT, AT],
    },
    Event {
        name: "gateway.accepted",
        doc: "A device's message is safe in the queue.",
        payload: &[
            GATEWAY,
            DEVICE,
            CLIENT,
            ACCOUNT,
            QUEUE_ID,
            MESSAGE_ID,
            optional(
                "sender",
                Text,
                "The envelope's sender as it left; absent for `<>`.",
            ),
            field("recipients", Integer, "How many get it."),
            AT,
        ],
    },
    Event {
        name: "gateway.refused",
        doc: "A device's message was refused. Told at once for the first of its kind, and then once a minute at most.",
        payload: &[
            GATEWAY,
            optional("device", Text, "The device; absent before it signed in."),
            CLIENT,
            field("code", Integer, "The reply's code, such as 550."),
            field("message", Text, "What the device was told."),
            optional("sender", Text, "The envelope's sender, if it came so far."),
            field(
                "count",
                Integer,
                "How many there were of the kind since it was told of last.",
            ),
            AT,
        ],
    },
    Event {
        name: "gateway.auth_failed",
        doc: "A sign-in at a gateway failed. Told at once for the first, and then once a minute at most.",
        payload: &[
            GATEWAY,
            optional(
                "device",
                Text,
                "The name, if it is the name of a credential; what else was typed there is not told.",
            ),
            CLIENT,
            field(
                "count",
                Integer,
                "How many there were since it was told of last.",
            ),
            AT,
        ],
    },
    Event {
        name: "gateway.certificate_expiring",
        doc: "A gateway's certificate ends soon. Told once each at 30, 14, 7, 3 days and 1 day before.",
        payload: &[
            GATEWAY,
            optional("certificate", Text, "Its file; absent for a self-made one."),
            field("expires_at", Number, "When it ends."),
            field("days", Integer, "How many days are left."),
            AT,
        ],
    },
    Event {
        name: "account.changed",
        doc: "The configuration was read anew, and an account is another, or new, or gone.",
        payload: &[
            ACCOUNT,
            field(
                "change",
                Words(&["added", "changed", "removed"]),
                "What came of it.",
            ),
            AT,
        ],
    },
    Event {
        name: "schedule.finished",
        doc: "A schedule ran to its end.",
        payload: &[
            SCHEDULE,
            SCRIPT,
            SCHEDULED_AT,
            field("took", Number, "Seconds."),
            field(
                "reason",
                Words(&["tick", "missed", "manual", "retry"]),
                "Why it ran.",
            ),
            AT,
        ],
    },
    Event {
        name: "schedule.failed",
        doc: "A schedule's function raised an error, or a limit stopped it. The schedule goes on.",
        payload: &[
            SCHEDULE,
            SCRIPT,
            SCHEDULED_AT,
            field("attempt", Integer, "Which attempt it was; counts from one."),
            CODE,
            MESSAGE,
            optional("at_line", Text, "The line of the script."),
            optional("retry_at", Number, "When it is tried again."),
            AT,
        ],
    },
    Event {
        name: "schedule.missed",
        doc: "A schedule was due while nothing ran, or while it still ran itself, and was not run for each time.",
        payload: &[
            SCHEDULE,
            SCRIPT,
            field("count", Integer, "How often."),
            field("policy", Text, "Why, by which option of it."),
            AT,
        ],
    },
    Event {
        name: "plugin.failed",
        doc: "An account could not be set up because of its plugin.",
        payload: &[
            ACCOUNT,
            field("plugin", Text, "The plugin's name."),
            CODE,
            MESSAGE,
            AT,
        ],
    },
    Event {
        name: "reload.done",
        doc: "The configuration and all scripts were loaded anew, and are in force.",
        payload: &[
            field("generation", Integer, "Counts from one."),
            field("scripts", Integer, "How many there are."),
            field("took", Number, "Seconds."),
            AT,
        ],
    },
    Event {
        name: "reload.failed",
        doc: "The configuration or a script is wrong, so that the old ones go on.",
        payload: &[
            MESSAGE,
            field(
                "files",
                List(&Text),
                "The files that are wrong, where that is known.",
            ),
            AT,
        ],
    },
    Event {
        name: "host.started",
        doc: "The daemon is ready.",
        payload: &[field("pid", Integer, "Its process."), AT],
    },
    Event {
        name: "host.stopping",
        doc: "The daemon ends. What handlers begin now has the time that is left.",
        payload: &[AT],
    },
    Event {
        name: "gateway.auth",
        doc: "A device signed in at a gateway with the right password. This one is asked: its function may keep the device out.",
        payload: &[
            GATEWAY,
            DEVICE,
            CLIENT,
            optional(
                "tls",
                Text,
                "The version of TLS, such as `TLSv1.3`; absent in clear.",
            ),
            field("mechanism", Words(&["PLAIN", "LOGIN"]), "How it signed in."),
        ],
    },
    Event {
        name: "gateway.mail",
        doc: "A device named the sender of a message. This one is asked: its function may change the sender or the account, or refuse it.",
        payload: &[
            GATEWAY,
            DEVICE,
            CLIENT,
            field("account", Text, "The account it will go through."),
            optional("sender", Text, "The envelope's sender; absent for `<>`."),
        ],
    },
    Event {
        name: "gateway.message",
        doc: "A device's message is complete. This one is asked: its function may change the message, or refuse it.",
        payload: &[
            GATEWAY,
            DEVICE,
            CLIENT,
            ACCOUNT,
            field("from", Text, "The envelope's sender; `<>` for none."),
            field("to", List(&Text), "The envelope's recipients."),
            optional("subject", Text, "The subject."),
            field(
                "headers",
                Table,
                "The header: by name in small letters, a list of values each, without folds and encodings.",
            ),
            field("raw", Text, "The whole message, as it came."),
            field(
                "...",
                Any,
                "The fields of `account:send`, for a message in its place.",
            ),
        ],
    },
    Event {
        name: "message.before_send",
        doc: "A message is about to be sent, by whomever. This one is asked: its function may change the message, or refuse it.",
        payload: &[
            ACCOUNT,
            field(
                "...",
                Any,
                "The fields of `account:send`: lists of recipients are lists also where they were text.",
            ),
        ],
    },
];

/// What `pr.on` answers.
pub(crate) const HANDLER: Handle = Handle {
    word: "handler",
    class: "postrider.Handler",
    doc: "What `pr.on` answers.",
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Events",
    intro: "",
    items: &[
        Item {
            name: "on",
            kind: Kind::Function {
                params: &[
                    field("event", EventName, "Its name, one of those below."),
                    field("handler", EventHandler, "Gets one table, as below."),
                ],
                returns: &[field(
                    "handler",
                    Type::Handle(&HANDLER),
                    "A handle, with `off`.",
                )],
                waits: false,
                errors: Errors::Never,
            },
            doc: r"Runs a function whenever something happens, for as long as the script lives. Only while the script loads, from its own top level: never from a handler or a schedule.

Several handlers of one event begin in their order and run at the same time, each as a call of its own with limits of its own. What a handler raises is logged and counted, and ends neither the others nor the script; one that takes longer than ten minutes is stopped. An event counts as heard if at least one handler ran to its end. A warning that came to light before there was a handler is told then. A script that ends of itself waits, for 30 seconds at most, until what has happened is dealt with.

A handler of `message.before_send` is asked about every message before it is sent, and its sender waits for it. It returns nothing, and the message stays as it is; or a message, which is sent instead, with the fields of `account:send` and no others; or `false` and a reason, and the message is refused with the code `hook.refused`. Where there are several, each sees what the one before made of the message. One that raises, or takes longer than 30 seconds, refuses it with `hook.failed`, which may be tried again. What a hook itself sends passes by the hooks.

The handlers of `gateway.auth`, `gateway.mail` and `gateway.message` are asked the same way about what devices submit to a gateway, after the gateway itself has found it in order. Each may return nothing, or `false` and a reason. Of `gateway.auth` the device hears no reason, and the same as for a wrong password; it is never asked about a wrong one, and sees none. Of the others the device hears `550 5.7.1` and the reason, on one line of up to 200 characters. `gateway.mail` may return a table with another `sender` or `account`, and `gateway.message` a message: the one it got, with other recipients, another `subject` or other `headers` (`message.headers.sensitivity = nil`; what it does not touch stays as it was, octet by octet), with another `raw`, or one of its own with the fields of `account:send`. What it changes, or what a handler of `message.before_send` changes of a device's message, is checked again: the envelope's sender, `From` and `Sender` have to be among the device's `senders`, or the own address or user name of the account it goes through; recipients are the hook's to choose. A hook that wants more, or raises, or takes longer than it may, lets nothing through: the device hears `451 4.3.0` and tries again later. Those of `gateway.auth` and `gateway.mail` have 10 seconds, for the device waits; those of `gateway.message` have 30. Messages are in memory as a whole only where a script has a handler of `gateway.message` or `message.before_send`.",
            since: "0.1",
            example: r#"pr.on("token.reauthorization_required", function(event)
  local hook = pr.secret.env "ALERT_WEBHOOK"
  local response = assert(pr.http.post(hook, { json = { text = event.account .. ": " .. event.remedy } }))
  assert(response.ok, "the webhook answered " .. response.status)
end)"#,
        },
        Item {
            name: "emit",
            kind: Kind::Function {
                params: &[
                    field(
                        "event",
                        AppEventName,
                        "Its name: `app.` and lower-case words, with dots between them.",
                    ),
                    optional(
                        "payload",
                        Table,
                        "What handlers get: what JSON can say, up to a MiB of it.",
                    ),
                ],
                returns: &[optional("ok", Type::True, "It is on its way."), ERR],
                waits: false,
                errors: Errors::Returned(&[&[error(
                    "event.chain_limit",
                    "handlers raise each other's events, for the 17th time in a row",
                )]]),
            },
            doc: "Raises an event of your own. The handlers of all scripts hear it, this one's too; nobody waits for them. A payload without `at` gets the time.",
            since: "0.1",
            example: r#"pr.on("app.order.shipped", function(event) print(event.order) end)
pr.emit("app.order.shipped", { order = 4711 })"#,
        },
        Item {
            name: "handler:off",
            kind: Kind::Function {
                params: &[],
                returns: &[],
                waits: false,
                errors: Errors::Never,
            },
            doc: "Takes a handler away. What it has begun it still ends.",
            since: "0.1",
            example: r#"local handler = pr.on("token.refreshed", function(event) print(event.account) end)
handler:off()"#,
        },
    ],
};
