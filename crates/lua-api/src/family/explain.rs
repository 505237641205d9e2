//! What a refusal means.

use crate::item::Type::{Boolean, List, Text, Words};
use crate::item::{Errors, Family, Item, Kind, Record, Type, field};

const EXPLAINED: Record = Record {
    class: "postrider.Explained",
    doc: "A refusal that was found in a text.",
    fields: &[
        field(
            "kind",
            Words(&["smtp", "oauth", "graph", "network", "postrider", "unknown"]),
            "Who refuses so; `unknown` where nothing in the text was recognised.",
        ),
        field(
            "original",
            Text,
            "The refusal as it stands in the text, on one line, secrets masked.",
        ),
        field("code", Text, "Dotted and stable: what a script matches."),
        field(
            "known",
            Boolean,
            "Whether the catalogue knows this very refusal; if not, no more than its class.",
        ),
        field("cause", Text, "Why, in one line."),
        field("remedy", Text, "What to do."),
        field("who", Text, "Who can do it: `you`, or somebody else."),
        field(
            "verdict",
            Words(&["retry", "reauthorize", "reconfigure", "permanent", "admin"]),
            "What follows.",
        ),
        field("retryable", Boolean, "Whether waiting alone may help."),
        field(
            "fresh_token",
            Boolean,
            "Whether another access token may do where this one did not.",
        ),
        field("source", Text, "Where this is known from."),
    ],
};

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Refusals",
    intro: "",
    items: &[Item {
        name: "explain",
        kind: Kind::Function {
            params: &[field(
                "text",
                Text,
                "A reply, an error body, a line of a log, a whole bounce; its first 64 KiB are read.",
            )],
            returns: &[field(
                "found",
                List(&Type::Record(&EXPLAINED)),
                "Every refusal in it, in the order of the text, at most 16; never none.",
            )],
            waits: false,
            errors: Errors::Never,
        },
        doc: "What a refusal means, and what to do about it, as `postrider explain` says it. Nobody is asked. Of a text that holds none, the only item has `kind` `unknown`.",
        since: "0.1",
        example: r#"for _, one in ipairs(pr.explain "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.") do
  print(one.code, one.cause, one.remedy, one.who)
end"#,
    }],
};
