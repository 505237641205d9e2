//! Lookup tables: the text that `postmap` makes its files of, tables that stand in `main.cf`
//! itself, and patterns that mean one thing; and what a key of `sasl_passwd` names.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::main_cf::{list, logical_lines};
use super::pattern;
use crate::files::{self, Files};
use crate::left::{NotCarried, Place, shown};

/// Types whose source is a text file of this form, beside the file that is looked into.
const TEXT: [&str; 7] = ["hash", "btree", "texthash", "lmdb", "cdb", "dbm", "sdbm"];
/// Types whose lines are patterns.
const PATTERNS: [&str; 2] = ["regexp", "pcre"];
/// Types that ask somebody else; what follows names a file or a service, and no secret.
const ELSEWHERE: [&str; 14] = [
    "ldap",
    "mysql",
    "pgsql",
    "sqlite",
    "mongodb",
    "cidr",
    "nis",
    "nisplus",
    "netinfo",
    "memcache",
    "socketmap",
    "tcp",
    "unix",
    "environ",
];

/// The most rows of a parameter's tables.
pub(crate) const MAX_ROWS: usize = 2_000;

/// A line of a table.
pub(crate) struct Row {
    /// None: whatever is looked up.
    pub(crate) key: Option<String>,
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
    /// Every server.
    Any,
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

    /// Whether a password under this key is for the server `other`: Postfix looks for the host
    /// alone, too.
    pub(crate) fn is_for(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Server { host, port: None }, Self::Server { host: other, .. }) => host == other,
            _ => self == other,
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
                key: Some(key.to_owned()),
                value: Zeroizing::new(value.trim().to_owned()),
                place: Place::line(file, line.line),
            })
        })
        .collect()
}

/// The users and passwords of rows.
pub(crate) fn credentials(rows: Vec<Row>, left: &mut Vec<NotCarried>) -> Vec<Credential> {
    let mut found = Vec::new();
    for row in rows {
        // What has blanks is no user, and is not shown as one.
        let parts = row.value.split_once(':');
        match parts.filter(|(user, _)| !user.contains(char::is_whitespace)) {
            Some((user, secret)) => found.push(Credential {
                next: row.key.as_deref().map_or(Next::Any, Next::parse),
                user: user.to_owned(),
                secret: Zeroizing::new(secret.to_owned()),
                place: row.place,
            }),
            None => left.push(NotCarried::new(
                row.place,
                "a row",
                "it is no user:password",
            )),
        }
    }
    found
}

/// The rows of the tables that the parameter `name` lists, as `value`: of several with one key
/// the first, which is what Postfix finds. What cannot be read is left and said.
pub(crate) fn tables(
    files: &dyn Files,
    (name, value): (&str, &str),
    place: &Place,
    left: &mut Vec<NotCarried>,
) -> Vec<Row> {
    let mut found: Vec<Row> = Vec::new();
    for item in list(value) {
        // `proxy:` asks a process of Postfix, which reads the same table.
        let item = item.strip_prefix("proxy:").unwrap_or(item);
        let (kind, rest) = match item.split_once(':') {
            Some(typed) => typed,
            None if item.starts_with('/') => ("hash", item),
            None => ("", item),
        };
        match table(files, kind, rest, place, left) {
            Ok(rows) => found.extend(rows),
            Err(unread) => left.push(
                NotCarried::new(
                    place.clone(),
                    &format!("{name} {}", shown_item(kind, rest, item)),
                    unread.why,
                )
                .instead(unread.instead),
            ),
        }
    }
    let mut keys = BTreeSet::new();
    found.retain(|row| keys.insert(row.key.as_ref().map(|key| key.to_ascii_lowercase())));
    if found.len() > MAX_ROWS {
        found.truncate(MAX_ROWS);
        left.push(NotCarried::new(
            place.clone(),
            name,
            format!("only its first {MAX_ROWS} rows were read"),
        ));
    }
    found
}

/// Why a table was not read, and what to do.
struct Unread {
    why: String,
    instead: String,
}

fn table(
    files: &dyn Files,
    kind: &str,
    rest: &str,
    place: &Place,
    left: &mut Vec<NotCarried>,
) -> Result<Vec<Row>, Unread> {
    match kind {
        "static" => Ok(vec![Row {
            key: None,
            value: Zeroizing::new(braceless(rest).to_owned()),
            place: place.clone(),
        }]),
        "inline" => inline(rest, place).ok_or_else(|| Unread {
            why: "it is not inline:{ key=value, … }".to_owned(),
            instead: "mend it, and import again".to_owned(),
        }),
        _ if TEXT.contains(&kind) => text(files, kind, rest).map(|text| rows(rest, &text)),
        _ if PATTERNS.contains(&kind) => {
            text(files, kind, rest).map(|text| pattern::rows(rest, &text, left))
        }
        _ => Err(Unread {
            why: if ELSEWHERE.contains(&kind) {
                "what it says is in no text file".to_owned()
            } else {
                "tables of this type are not read".to_owned()
            },
            instead: "add what it says by hand (postmap -q KEY TABLE prints that): postrider setup"
                .to_owned(),
        }),
    }
}

fn text(files: &dyn Files, kind: &str, path: &str) -> Result<Zeroizing<String>, Unread> {
    let missing = |why: &str, instead: String| Unread {
        why: why.to_owned(),
        instead,
    };
    let of_postmap = TEXT.contains(&kind) && kind != "texthash";
    match files.read(path) {
        Ok(Some(text)) if text.len() > files::MAX_FILE_OCTETS => Err(missing(
            "is longer than 1 MiB",
            "import a copy with the rows that count".to_owned(),
        )),
        Ok(Some(text)) => Ok(text),
        Ok(None) if of_postmap => Err(missing(
            "the text that postmap made it of is not there",
            format!(
                "if the table is, write its text again: postmap -s {kind}:{path} > {path}",
                path = shown(path)
            ),
        )),
        Ok(None) => Err(missing(
            "there is no such file",
            "postrider setup makes an account without it".to_owned(),
        )),
        Err(why) => Err(missing(
            &why,
            "run the command as a user who can read it".to_owned(),
        )),
    }
}

/// `{ key=value, { key = value with blanks } }`.
fn inline(text: &str, place: &Place) -> Option<Vec<Row>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let rows = list(inner).into_iter().map(|item| {
        let (key, value) = braceless(item).split_once('=')?;
        Some(Row {
            key: Some(key.trim().to_owned()),
            value: Zeroizing::new(value.trim().to_owned()),
            place: place.clone(),
        })
    });
    // As in Postfix, the last of several is the one that is found.
    rows.rev().collect()
}

/// What stands in `{ … }`, or the text itself.
fn braceless(text: &str) -> &str {
    let inner = text.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    inner.map_or(text, str::trim)
}

/// A table as it may be shown: what stands in `main.cf` itself may be a password.
fn shown_item(kind: &str, rest: &str, item: &str) -> String {
    let is_path = TEXT.contains(&kind) && rest.starts_with('/');
    if is_path || PATTERNS.contains(&kind) || ELSEWHERE.contains(&kind) {
        shown(item)
    } else {
        "\u{2026}".to_owned()
    }
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
        let relay = Next::parse("[smtp.example.org]:587");
        assert!(Next::parse("smtp.example.org").is_for(&relay));
        assert!(!Next::parse("smtp.example.org:25").is_for(&relay));
        assert!(Next::Any.is_for(&relay));
    }

    #[test]
    fn a_password_may_hold_colons() {
        let mut left = Vec::new();
        let text = "[h]:587  u@h:pa:ss word\n# c\nnonsense\n[i] user\n[j] hunter2\n :\n";
        let found = credentials(rows("f", text), &mut left);
        assert_eq!((found.len(), left.len()), (1, 2));
        assert!(!format!("{left:?}").contains("hunter2"));
        assert_eq!(
            (found[0].user.as_str(), found[0].secret.as_str()),
            ("u@h", "pa:ss word")
        );
    }

    #[test]
    fn a_table_in_its_line_is_read_as_postfix_reads_it() {
        let place = Place::file("f");
        let read = |text: &str| -> Option<Vec<(Option<String>, String)>> {
            let rows = inline(text, &place)?.into_iter();
            Some(rows.map(|row| (row.key, row.value.to_string())).collect())
        };
        let row = |key: &str, value: &str| (Some(key.to_owned()), value.to_owned());
        assert_eq!(
            read("{ [h]:587=u@h:a=b, { k = v w } k=x }").unwrap(),
            [row("k", "x"), row("k", "v w"), row("[h]:587", "u@h:a=b")]
        );
        assert_eq!(read("{k}"), None);
        assert_eq!(read("k=v"), None);
        assert_eq!(braceless("{ a b }"), "a b");
        assert_eq!(braceless("u:p"), "u:p");
    }
}
