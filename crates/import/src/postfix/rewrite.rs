//! The one sender that all mail leaves with, where Postfix rewrites every sender to it.

use super::main_cf::{MainCf, list};
use super::pattern::{Pattern, patterns};
use super::table::tables;
use crate::files::{self, Files};

/// Parameters that replace `From` by a pattern.
const HEADERS: [&str; 2] = ["smtp_header_checks", "header_checks"];
/// The one that replaces senders, and where: as a rule in the envelope and in the header.
const SENDERS: &str = "sender_canonical_maps";
const CLASSES: &str = "sender_canonical_classes";

/// What the tables come to.
#[derive(Default)]
pub(super) struct Rewrite {
    /// An address, with a name in front where there is one.
    pub(super) sender: Option<String>,
    /// The parameters that say nothing else.
    pub(super) carried: Vec<&'static str>,
}

/// Looks for it. What the tables say besides is left to who lists what was not carried over.
pub(super) fn rewrite(main: &MainCf, files: &dyn Files) -> Rewrite {
    let mut found = Rewrite::default();
    for name in HEADERS {
        if let Some(from) = main.get(name).and_then(|value| of_header(&value, files)) {
            found.carried.push(name);
            found.sender.get_or_insert(from);
        }
    }
    let everywhere = main
        .get(CLASSES)
        .is_none_or(|classes| classes.contains("header_sender"));
    let senders = main.get(SENDERS).filter(|_| everywhere);
    if let Some(address) = senders.and_then(|value| of_senders(&value, main, files)) {
        found.carried.extend([SENDERS, CLASSES]);
        found.sender.get_or_insert(address);
    }
    found
}

/// The address of a table that has one row, for everything.
fn of_senders(value: &str, main: &MainCf, files: &dyn Files) -> Option<String> {
    let mut left = Vec::new();
    let rows = tables(files, (SENDERS, value), &main.place(SENDERS), &mut left);
    let [row] = &rows[..] else {
        return None;
    };
    (left.is_empty() && row.key.is_none() && is_mailbox(&row.value)).then(|| row.value.to_string())
}

/// What a table replaces every `From` by, and nothing else.
fn of_header(value: &str, files: &dyn Files) -> Option<String> {
    let [item] = list(value)[..] else {
        return None;
    };
    let (kind, path) = item.split_once(':')?;
    if !matches!(kind, "regexp" | "pcre") {
        return None;
    }
    let text = files::named(files, path).ok()?;
    let patterns = patterns(path, &text);
    let [only] = &patterns[..] else {
        return None;
    };
    let from = replaced_from(only)?;
    is_mailbox(from).then(|| from.to_owned())
}

/// `/^From:.*/ REPLACE From: Name <address>`.
fn replaced_from(pattern: &Pattern) -> Option<&str> {
    let header = pattern.text.trim_start_matches(['^', '(']);
    let (name, rest) = header.split_at_checked("From:".len())?;
    let vague = rest.replace("[[:space:]]", "").replace("\\s", "");
    let takes_all = vague.chars().all(|c| ".*+()$ ".contains(c));
    if !pattern.is_plain() || !name.eq_ignore_ascii_case("From:") || !takes_all {
        return None;
    }
    let (word, replacement) = pattern.result.split_once(char::is_whitespace)?;
    let (name, from) = replacement.trim().split_at_checked("From:".len())?;
    let is_from = word.eq_ignore_ascii_case("REPLACE") && name.eq_ignore_ascii_case("From:");
    is_from.then(|| from.trim())
}

/// `address`, or `Name <address>`; its grammar is the configuration's to check.
fn is_mailbox(text: &str) -> bool {
    let address = text.rsplit_once('<').map_or(text, |(_, address)| address);
    let (local, domain) = address.split_once('@').unwrap_or_default();
    !local.is_empty() && !domain.is_empty() && !text.contains(['$', ','])
}
