//! References to secrets.

use crate::item::Type::{List, Text};
use crate::item::{Errors, Family, Field, Handle, Item, Kind, Type, field};

/// A reference to a secret.
pub(crate) const SECRET: Handle = Handle {
    word: "secret",
    class: "postrider.Secret",
    doc: "A reference to a secret; no function tells the secret itself.",
};

const REFERENCE: &[Field] = &[field(
    "secret",
    Type::Handle(&SECRET),
    "A reference; no function tells the secret itself.",
)];

/// One of the ways to name a secret.
const fn reference(params: &'static [Field]) -> Kind {
    Kind::Function {
        params,
        returns: REFERENCE,
        waits: false,
        errors: Errors::Never,
    }
}

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Secrets",
    intro: "These only say where a secret is. It is looked up when it is needed, and what is wrong with it is an error there.",
    items: &[
        Item {
            name: "secret.env",
            kind: reference(&[field("name", Text, "The variable.")]),
            doc: "A secret in an environment variable. It is read when the account needs it.",
            since: "0.1",
            example: r#"local password = pr.secret.env "MAIL_PASSWORD""#,
        },
        Item {
            name: "secret.file",
            kind: reference(&[field("path", Text, "The file.")]),
            doc: "A secret that is a file's content.",
            since: "0.1",
            example: r#"local key = pr.secret.file "/etc/postrider/key.pem""#,
        },
        Item {
            name: "secret.command",
            kind: reference(&[field(
                "command",
                List(&Text),
                "A program and its arguments; no shell sees them.",
            )]),
            doc: "A secret that a program prints.",
            since: "0.1",
            example: r#"local password = pr.secret.command { "pass", "show", "mail" }"#,
        },
        Item {
            name: "secret.credential",
            kind: reference(&[field("name", Text, "The credential's name.")]),
            doc: "A secret that systemd passes as a credential (`LoadCredential=`).",
            since: "0.1",
            example: r#"local password = pr.secret.credential "mail-password""#,
        },
        Item {
            name: "secret.vault",
            kind: reference(&[field("name", Text, "The record's name.")]),
            doc: "A secret in the vault, where `postrider secret set` puts it.",
            since: "0.1",
            example: r#"local secret = pr.secret.vault "alerts/client_secret""#,
        },
    ],
};
