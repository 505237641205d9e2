//! Events, and what handles them.

use crate::item::Type::{EventHandler, EventName, Integer, Number, Text};
use crate::item::{Errors, Event, Family, Field, Handle, Item, Kind, Type, field, optional};

const ACCOUNT: Field = field("account", Text, "The account's name.");

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
        ],
    },
    Event {
        name: "token.refresh_failed",
        doc: "An access token could not be fetched, for a reason that may pass by itself; it will be tried again.",
        payload: &[
            ACCOUNT,
            field("code", Text, "Why, as in an error: stable."),
            field("message", Text, "What happened."),
            optional("remedy", Text, "What to do about it."),
            optional("retry_at", Number, "When it is tried again."),
            optional(
                "usable_until",
                Number,
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
                Text,
                "Stable, such as `revoked`, `expired` or `lost_rotation`.",
            ),
            field("message", Text, "What the provider said."),
            field("since", Number, "Since when."),
            field("remedy", Text, "The command to run."),
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
