//! Who a message is from, where somebody else has to be it.

use lettre::message::Mailbox;

use super::address_list::{address, written};
use super::header::{Field, Header};

/// Domains that lead nowhere from outside (RFC 6761, RFC 6762, RFC 9476 and custom).
const LOCAL: [&str; 8] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "lan",
    "home",
    "invalid",
    "test",
];

/// Makes `sender` the author, and keeps who that was: the name, if there is one; all of it in
/// `X-Original-From` for people; the addresses in `Reply-To` for answers, if any can arrive there
/// and nobody else is to get them. `host` is this machine's name, where none arrives.
///
/// Without a `From`, nothing happens.
pub fn replace_author(header: &mut Header, sender: &Mailbox, host: &str) {
    let Some(from) = header.find("From") else {
        return;
    };
    let addresses = from.addresses();
    let ours = match display_name(&from.text()) {
        Some(name) => format!("{name} <{}>", sender.email),
        None => written(sender),
    };
    let answers: Vec<&str> = addresses
        .iter()
        .map(String::as_str)
        .filter(|address| can_be_answered(address, host))
        .collect();
    let reply_to = Field::new("Reply-To", &answers.join(", "));
    let has_reply_to = header.find("Reply-To").is_some();
    header.rename("From", "X-Original-From");
    if !answers.is_empty() && !has_reply_to {
        header.put_first(reply_to);
    }
    header.put_first(Field::new("From", &ours));
}

/// The name that stands with one address, as it is written: before `<`, or in a comment behind.
fn display_name(from: &str) -> Option<String> {
    let Some((name, _)) = from.split_once('<') else {
        let (_, comment) = from.split_once('(')?;
        let comment = comment.strip_suffix(')')?.trim();
        let is_plain = !comment.contains(['(', ')', '"', '\\']) && !comment.is_empty();
        return is_plain.then(|| quoted(comment));
    };
    let name = name.trim();
    let quoted_string = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'));
    let is_one_name = match quoted_string {
        Some(inner) => !inner.contains(['"', '\\']) && !inner.is_empty(),
        // Several mailboxes, groups, comments: none of these is one name.
        None => !name.is_empty() && !name.contains(|c: char| "\"(),:;<>@[]\\.".contains(c)),
    };
    is_one_name.then(|| name.to_owned())
}

/// As a quoted string where it has to be one; an encoded word must not be.
fn quoted(name: &str) -> String {
    if name.starts_with("=?") {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

/// Whether an answer could arrive there: a mailbox of a domain, and not of this machine.
fn can_be_answered(text: &str, host: &str) -> bool {
    let Some(address) = address(text) else {
        return false;
    };
    let domain = address.domain().to_ascii_lowercase();
    let Some((_, top)) = domain.rsplit_once('.') else {
        return false;
    };
    !LOCAL.contains(&top) && domain != host.to_ascii_lowercase()
}
