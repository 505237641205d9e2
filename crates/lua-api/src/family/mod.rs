//! The families, in the order of the reference.

mod account;
mod config;
mod csv;
mod env;
mod event;
mod explain;
mod fs;
mod http;
mod json;
mod log;
mod process;
mod schedule;
mod script;
mod secret;
mod task;
mod template;
mod test;
mod time;

pub use account::{ATTACH_FIELDS, ROTATE_CLIENT_SECRET_FIELDS, ROTATE_FIELDS, SEND_FIELDS};
pub use csv::{CSV_ENCODE_FIELDS, CSV_READ_FIELDS};
pub use event::EVENTS;
pub use http::{HTTP_GET_FIELDS, HTTP_POST_FIELDS};
pub use process::RUN_FIELDS;
pub use schedule::{CRON_FIELDS, RETRY_FIELDS, SCHEDULE_FIELDS};
pub(crate) use secret::SECRET;

use crate::item::{Family, Handle, Item};

/// All names, by family.
pub const FAMILIES: &[Family] = &[
    account::FAMILY,
    explain::FAMILY,
    secret::FAMILY,
    schedule::FAMILY,
    event::FAMILY,
    http::FAMILY,
    template::FAMILY,
    csv::FAMILY,
    json::FAMILY,
    fs::FAMILY,
    env::FAMILY,
    process::FAMILY,
    config::FAMILY,
    log::FAMILY,
    time::FAMILY,
    task::FAMILY,
    script::FAMILY,
    test::FAMILY,
];

/// All objects that have methods.
pub const HANDLES: &[&Handle] = &[
    &account::ACCOUNT,
    &event::HANDLER,
    &schedule::SCHEDULE,
    &secret::SECRET,
    &test::T,
    &test::CLOCK,
    &test::SMTP,
    &test::OAUTH,
    &test::HTTP,
    &test::PROCESS,
    &test::GATEWAY,
    &test::FS,
];

/// What works only while a script loads.
pub(crate) const AT_LOAD: &[&str] = &["on", "every", "cron"];

/// What calls the functions it is given later, when the script has loaded.
pub(crate) const CALLS_LATER: &[&str] = &["on", "every", "cron", "at", "after"];

/// What expects the function it is given to go wrong.
pub(crate) const EXPECTS_MISTAKES: &[&str] = &["t.raises"];

/// All names, in the order of the reference.
pub fn items() -> impl Iterator<Item = &'static Item> {
    FAMILIES.iter().flat_map(|family| family.items)
}

/// What is described as `account:send` or `http.get`.
pub fn item(name: &str) -> Option<&'static Item> {
    items().find(|item| item.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::item::{Errors, Field, Kind, Type, records};

    #[test]
    fn everything_has_a_description_an_example_and_a_version() {
        for item in items() {
            assert!(
                item.doc.ends_with(['.', '`']),
                "{}: the description",
                item.name
            );
            assert!(
                !item.example.trim().is_empty(),
                "{}: the example",
                item.name
            );
            assert!(!item.since.is_empty(), "{}: the version", item.name);
        }
        for event in EVENTS {
            assert!(event.doc.ends_with('.'), "{}", event.name);
        }
    }

    #[test]
    fn an_example_shows_what_it_is_an_example_of() {
        for item in items() {
            let word = item.name.rsplit(['.', ':']).next().unwrap();
            assert!(item.example.contains(word), "{}", item.name);
        }
    }

    #[test]
    fn what_answers_an_error_lists_its_codes_and_nothing_else_does() {
        for item in items() {
            let Kind::Function {
                returns, errors, ..
            } = item.kind
            else {
                continue;
            };
            let answers = returns.iter().any(|field| is_error(field.what));
            assert_eq!(
                matches!(errors, Errors::Returned(_)),
                answers,
                "{}",
                item.name
            );
            let mut codes = BTreeSet::new();
            for error in errors.codes() {
                assert!(
                    codes.insert(error.code),
                    "{}: {} twice",
                    item.name,
                    error.code
                );
                assert!(!error.when.is_empty(), "{}: {}", item.name, error.code);
            }
            assert_eq!(
                codes.is_empty(),
                matches!(errors, Errors::Never),
                "{}",
                item.name
            );
        }
    }

    fn is_error(what: Type) -> bool {
        match what {
            Type::Error => true,
            Type::OneOf(types) => types.iter().any(|what| is_error(*what)),
            _ => false,
        }
    }

    #[test]
    fn no_name_and_no_key_is_there_twice_or_undescribed() {
        let mut seen = BTreeSet::new();
        for item in items() {
            assert!(seen.insert(item.name), "{}", item.name);
            if let Kind::Function {
                params, returns, ..
            } = item.kind
            {
                for fields in [params, returns] {
                    keys(item.name, fields);
                    for record in records(fields) {
                        keys(record.class, record.fields);
                    }
                }
            }
        }
        for event in EVENTS {
            assert!(seen.insert(event.name), "{}", event.name);
            keys(event.name, event.payload);
        }
    }

    #[track_caller]
    fn keys(of: &str, fields: &[Field]) {
        let mut seen = BTreeSet::new();
        for field in fields {
            assert!(seen.insert(field.name), "{of}: {} twice", field.name);
            assert!(!field.doc.is_empty(), "{of}: {}", field.name);
        }
    }

    #[test]
    fn what_may_be_left_out_comes_last() {
        for item in items() {
            if let Kind::Function { params, .. } = item.kind {
                let first = params
                    .iter()
                    .position(|param| param.optional || param.name == "...");
                let rest = &params[first.unwrap_or(params.len())..];
                assert!(
                    rest.iter()
                        .all(|param| param.optional || param.name == "..."),
                    "{}",
                    item.name
                );
            }
        }
    }

    #[test]
    fn every_method_has_its_handle() {
        for item in items().filter(|item| item.name.contains(':')) {
            assert!(
                HANDLES.iter().any(|handle| item.belongs_to(handle)),
                "{}",
                item.name
            );
        }
    }
}
