//! Requests to web servers.

use crate::codes;
use crate::family::secret::SECRET;
use crate::item::Type::{Any, Boolean, Duration, Integer, Map, Number, OneOf, Text};
use crate::item::{ERR, Errors, Family, Field, Item, Kind, Record, Type, error, field, optional};

const TEXT_OR_SECRET: Type = OneOf(&[Text, Type::Handle(&SECRET)]);

const URL_PARAM: Field = field(
    "url",
    TEXT_OR_SECRET,
    "Where to. A secret is looked up and used, and the script does not see it.",
);
const HEADERS_FIELD: Field = optional("headers", Map(&TEXT_OR_SECRET), "Header fields, by name.");
const TIMEOUT_FIELD: Field = optional(
    "timeout",
    Duration,
    "How long it may take altogether; `\"30s\"` if absent.",
);
const MAX_OCTETS_FIELD: Field = optional(
    "max_octets",
    Integer,
    "The largest response body; 1 MiB if absent, 64 MiB at most.",
);
const CA_FILE_FIELD: Field = optional(
    "ca_file",
    Text,
    "A PEM file with authorities to trust in place of the platform's.",
);
const PLAINTEXT_FIELD: Field = optional(
    "danger_plaintext",
    Boolean,
    "Allows `http://` to other machines: whoever is on the way reads and changes it.",
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
    optional(
        "json",
        Any,
        "The body: a value, sent as `pr.json.encode` writes it.",
    ),
    optional(
        "form",
        Map(&OneOf(&[Text, Number, Boolean])),
        "The body: fields, as a web form sends them.",
    ),
    optional(
        "body",
        Text,
        "The body: octets; 1 MiB at most, as of all three.",
    ),
    HEADERS_FIELD,
    TIMEOUT_FIELD,
    MAX_OCTETS_FIELD,
    CA_FILE_FIELD,
    PLAINTEXT_FIELD,
];

const GET: Record = Record {
    class: "postrider.GetOptions",
    doc: "What `pr.http.get` takes.",
    fields: HTTP_GET_FIELDS,
};

const POST: Record = Record {
    class: "postrider.PostOptions",
    doc: "What `pr.http.post` takes.",
    fields: HTTP_POST_FIELDS,
};

const RESPONSE: Record = Record {
    class: "postrider.Response",
    doc: "What a web server answered.",
    fields: &[
        field("status", Integer, "Its status, such as 200."),
        field("ok", Boolean, "Whether that is 2xx."),
        field("headers", Map(&Text), "Header fields, by lower-case name."),
        field("body", Text, "The body, as octets."),
    ],
};

const RETURNS: &[Field] = &[
    optional(
        "response",
        Type::Record(&RESPONSE),
        "The answer, of whatever status.",
    ),
    ERR,
];

const ERRORS: Errors = Errors::Returned(&[
    &[
        error(
            "http.invalid",
            "the url or a header field is not fit to be sent",
        ),
        error("http.plaintext", "it would go to another machine in clear"),
        error("http.request_too_large", "the body is more than 1 MiB"),
        error(
            "http.response_too_large",
            "the response is more than `max_octets`",
        ),
        error(
            "config.outside_sandbox",
            "the sandbox reaches nothing outside",
        ),
        error("config.trust", "`ca_file` cannot be read"),
    ],
    codes::SECRET,
    codes::NETWORK,
]);

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "HTTP",
    intro: "",
    items: &[
        Item {
            name: "http.post",
            kind: Kind::Function {
                params: &[
                    URL_PARAM,
                    optional("options", Type::Record(&POST), "Options, as below."),
                ],
                returns: RETURNS,
                waits: true,
                errors: ERRORS,
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
                params: &[
                    URL_PARAM,
                    optional("options", Type::Record(&GET), "Options, as below."),
                ],
                returns: RETURNS,
                waits: true,
                errors: ERRORS,
            },
            doc: "Fetches something from a web server, by the same rules.",
            since: "0.1",
            example: r#"local response = assert(pr.http.get "https://status.example.org/disks.json")
local disks = assert(pr.json.decode(response.body))"#,
        },
    ],
};
