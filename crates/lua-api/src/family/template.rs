//! Bodies of messages from templates.

use crate::item::Type::{self, Any, Map, Text};
use crate::item::{ERR, Errors, Family, Field, Item, Kind, Record, error, field, optional};

const RENDERED: Record = Record {
    class: "postrider.Rendered",
    doc: "What the templates of one name came to.",
    fields: &[
        optional("subject", Text, "From `NAME.subject.txt`: one line."),
        optional("text", Text, "From `NAME.txt`."),
        optional("html", Text, "From `NAME.html`."),
    ],
};

const VARS: Field = optional(
    "variables",
    Map(&Any),
    "What the template may name: tables, text, numbers, booleans.",
);
const SOURCE: Field = field("template", Text, "The template itself.");

const ERRORS: Errors = Errors::Returned(&[&[
    error("template.missing", "there is no such template"),
    error(
        "template.invalid",
        "the template is wrong; `place` names the line",
    ),
    error(
        "template.failed",
        "a variable is missing or does not fit; `place` names the line",
    ),
    error("template.limit", "it takes too long or becomes too large"),
]]);

const INLINE: &[Field] = &[optional("rendered", Text, "What it came to."), ERR];

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Templates",
    intro: "[Jinja](https://docs.rs/minijinja/latest/minijinja/syntax/), in files under `templates/` beside the script, or in `[scripts] lib`; includes and parents come from there, too. HTML escapes every value; a variable that is not there is an error. Besides Jinja's own filters there are `{{ at|time(\"%d.%m.%Y %H:%M\", zone=\"Europe/Paris\") }}`, `{{ n|number(2) }}`, `{{ n|octets }}` and `{{ seconds|span }}`.",
    items: &[
        Item {
            name: "template.render",
            kind: Kind::Function {
                params: &[
                    field(
                        "name",
                        Text,
                        "The name without an ending: `\"report\"` is `templates/report.txt`, `report.html` and `report.subject.txt`, whichever there are.",
                    ),
                    VARS,
                ],
                returns: &[
                    optional("rendered", Type::Record(&RENDERED), "Subject and bodies."),
                    ERR,
                ],
                waits: true,
                errors: ERRORS,
            },
            doc: "Subject and bodies of a message, from files that are read once.",
            since: "0.1",
            example: r#"local report, err = pr.template.render("report", { disks = { "/", "/srv" } })
if report then
  assert(account:send { to = "ops@example.org", subject = report.subject or "Disks", text = report.text, html = report.html })
end"#,
        },
        Item {
            name: "template.text",
            kind: Kind::Function {
                params: &[SOURCE, VARS],
                returns: INLINE,
                waits: true,
                errors: ERRORS,
            },
            doc: "Text from a template that stands in the script.",
            since: "0.1",
            example: r#"local subject = assert(pr.template.text("{{ n }} disks are full", { n = 2 }))"#,
        },
        Item {
            name: "template.html",
            kind: Kind::Function {
                params: &[SOURCE, VARS],
                returns: INLINE,
                waits: true,
                errors: ERRORS,
            },
            doc: "HTML from a template that stands in the script; values are escaped.",
            since: "0.1",
            example: r#"local html = assert(pr.template.html("<p>{{ name }}</p>", { name = "Ada & Co" }))"#,
        },
    ],
};
