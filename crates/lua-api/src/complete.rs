//! What may follow what was typed so far.

use std::collections::BTreeSet;

use crate::STANDARD;
use crate::family::items;

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// The word at the end of `line`, as far as completion takes one: where it begins, in octets.
pub fn word(line: &str) -> usize {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':');
    line.trim_end_matches(part).len()
}

/// All words that begin with `prefix`, sorted: `pr.sch…` is a name of the API, `x:se…` a method
/// of whatever has one, and a word alone one of Lua's. One step at a time: `pr.ht…` is `pr.http`.
pub fn complete(prefix: &str) -> Vec<String> {
    let found: BTreeSet<String> = if let Some((object, start)) = prefix.rsplit_once(':') {
        methods(start)
            .map(|word| format!("{object}:{word}"))
            .collect()
    } else if let Some(start) = prefix.strip_prefix("pr.") {
        let depth = start.matches('.').count();
        api()
            .filter(|name| name.starts_with(start))
            .map(|name| format!("pr.{}", steps(name, depth + 1)))
            .collect()
    } else {
        let depth = prefix.matches('.').count();
        standard()
            .filter(|name| name.starts_with(prefix))
            .map(|name| steps(&name, depth + 1).to_owned())
            .collect()
    };
    found.into_iter().collect()
}

/// The names behind `pr.`; those of objects are not.
fn api() -> impl Iterator<Item = &'static str> {
    let objects: BTreeSet<&str> = items()
        .filter_map(|item| item.name.split_once(':'))
        .map(|(object, _)| object)
        .collect();
    items().map(|item| item.name).filter(move |name| {
        !name.contains(':')
            && !name
                .split_once('.')
                .is_some_and(|(first, _)| objects.contains(first))
    })
}

fn methods(start: &str) -> impl Iterator<Item = &'static str> {
    let methods = items().filter_map(|item| item.name.split_once(':'));
    methods
        .map(|(_, word)| word)
        .filter(move |word| word.starts_with(start))
}

fn standard() -> impl Iterator<Item = String> {
    let libraries = STANDARD.iter().flat_map(|(library, names)| {
        names.iter().map(move |name| match *library {
            "_G" => (*name).to_owned(),
            library => format!("{library}.{name}"),
        })
    });
    let words = KEYWORDS
        .iter()
        .chain(&["pr"])
        .map(|word| (*word).to_owned());
    libraries.chain(words)
}

/// The first `count` steps of a dotted name.
fn steps(name: &str, count: usize) -> &str {
    let end = name.match_indices('.').nth(count - 1);
    &name[..end.map_or(name.len(), |(end, _)| end)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_a_step_at_a_time() {
        assert_eq!(complete("pr.acc"), ["pr.account", "pr.accounts"]);
        assert_eq!(complete("pr.htt"), ["pr.http"]);
        assert_eq!(complete("pr.http."), ["pr.http.get", "pr.http.post"]);
        assert_eq!(complete("pr.nothing"), [""; 0]);
    }

    #[test]
    fn methods_are_those_of_any_object() {
        assert_eq!(complete("ops:sen"), ["ops:send"]);
        assert!(complete("ops:").contains(&"ops:check".to_owned()));
    }

    #[test]
    fn words_of_lua_are_completed_too() {
        assert_eq!(complete("string.for"), ["string.format"]);
        assert_eq!(complete("rep"), ["repeat"]);
        assert_eq!(complete("coro"), ["coroutine"]);
        assert_eq!(complete("p"), ["pairs", "pcall", "pr", "print"]);
    }

    #[test]
    fn a_property_of_an_object_is_no_function_of_the_api() {
        assert!(!complete("pr.account.").contains(&"pr.account.name".to_owned()));
        assert!(complete("pr.").len() > 15);
    }

    #[test]
    fn a_word_begins_after_what_no_name_contains() {
        assert_eq!(word("x = pr.acc"), 4);
        assert_eq!(word("ops:"), 0);
        assert_eq!(word("(é"), 3);
    }
}
