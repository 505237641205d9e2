//! Lookup tables: the text that `postmap` makes its files of, and what a key of `sasl_passwd`
//! names.

use zeroize::Zeroizing;

use super::main_cf::{list, logical_lines};
use crate::files::{self, Files};
use crate::left::{NotCarried, Place, shown};

/// Types whose source is a text file of this form, beside the file that is looked into.
const TEXT: [&str; 7] = ["hash", "btree", "texthash", "lmdb", "cdb", "dbm", "sdbm"];

/// A line of a table.
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) value: Zeroizing<String>,
    pub(crate) place: Place,
}

/// Whom a relay's password is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    Server {
        host: String,
        port: Option<u16>,
    },
    /// A sender, or `@domain`.
    Sender(String),
}

/// A line of `sasl_passwd`.
pub(crate) struct Credential {
    pub(crate) next: Next,
    pub(crate) user: String,
    /// A password, or for sasl-xoauth2 the path of a token file.
    pub(crate) secret: Zeroizing<String>,
    pub(crate) place: Place,
}

impl Next {
    /// `[host]:port`, `host:port`, `host`, or an address.
    pub(crate) fn parse(text: &str) -> Self {
        if text.contains('@') {
            return Self::Sender(text.to_owned());
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        Self::Server {
            host: host.to_ascii_lowercase(),
            port: port.and_then(super::port),
        }
    }
}

/// The rows of a table's text.
pub(crate) fn rows(file: &str, text: &str) -> Vec<Row> {
    let lines = logical_lines(text).into_iter();
    lines
        .filter_map(|line| {
            let (key, value) = line.text.split_once(char::is_whitespace)?;
            Some(Row {
                key: key.to_owned(),
                value: Zeroizing::new(value.trim().to_owned()),
                place: Place::line(file, line.line),
            })
        })
        .collect()
}

/// The users and passwords of a table's text.
pub(crate) fn credentials(file: &str, text: &str) -> Vec<Credential> {
    let rows = rows(file, text).into_iter();
    rows.filter_map(|row| {
        let (user, secret) = row.value.split_once(':')?;
        Some(Credential {
            next: Next::parse(&row.key),
            user: user.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
            place: row.place,
        })
    })
    .collect()
}

/// The texts of the tables that the parameter `name` lists, as `value`. What cannot be read is
/// left and said.
pub(crate) fn sources(
    files: &dyn Files,
    (name, value): (&str, &str),
    place: &Place,
    left: &mut Vec<NotCarried>,
) -> Vec<(String, Zeroizing<String>)> {
    let mut found = Vec::new();
    // These hold what others have in files: a password, perhaps.
    let holds = ["static:", "inline:"].iter().any(|it| value.contains(it));
    for item in list(value) {
        let (kind, path) = item.split_once(':').unwrap_or(("hash", item));
        let why = if TEXT.contains(&kind) {
            match files::named(files, path) {
                Ok(text) => {
                    found.push((path.to_owned(), text));
                    continue;
                }
                Err(why) => why,
            }
        } else {
            "tables of this type are not read".to_owned()
        };
        let item = if holds {
            "\u{2026}".to_owned()
        } else {
            shown(item)
        };
        left.push(
            NotCarried::new(place.clone(), &format!("{name} {item}"), why)
                .instead("add what it says by hand: postrider setup"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_servers_or_senders() {
        let server = |host: &str, port| Next::Server {
            host: host.to_owned(),
            port,
        };
        for (key, next) in [
            (
                "[smtp.Office365.com]:587",
                server("smtp.office365.com", Some(587)),
            ),
            (
                "smtp.example.org:submission",
                server("smtp.example.org", Some(587)),
            ),
            ("[::1]:25", server("::1", Some(25))),
            ("example.org", server("example.org", None)),
            ("a@contoso.com", Next::Sender("a@contoso.com".to_owned())),
        ] {
            assert_eq!(Next::parse(key), next, "{key}");
        }
    }

    #[test]
    fn a_password_may_hold_colons() {
        let found = credentials("f", "[h]:587  u@h:pa:ss word\n# c\nnonsense\n");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].user.as_str(), found[0].secret.as_str()),
            ("u@h", "pa:ss word")
        );
    }
}
