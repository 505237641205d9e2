//! What must not be seen: typed at the terminal without echo, or given on standard input. Never
//! an argument, which other users see in the list of processes, and the shell in its history.

use std::io::{self, IsTerminal as _, Read as _};

use postrider_config::secret_text;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::failure::Failure;
use crate::hidden;
use crate::terminal::cancelled;

/// More than any secret has, so that one that is too long is noticed.
const LIMIT_OCTETS: usize = (64 << 10) + 3;

/// Whether the answer would be typed.
pub(super) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// Asks for `what`: at a terminal twice, unless it exists already and a slip of the finger would
/// show.
pub(super) fn ask(what: &str, exists: bool) -> Result<SecretString, Failure> {
    if is_typed() {
        typed(what, exists)
    } else {
        given(what, io::stdin().lock())
    }
}

/// The same where standard input is taken by something else: at the terminal or not at all.
pub(super) fn ask_at_terminal(what: &str) -> Result<SecretString, Failure> {
    typed(what, true)
}

fn typed(what: &str, exists: bool) -> Result<SecretString, Failure> {
    let first = prompt(&format!("{what}: "))?;
    if !exists && *first != *prompt(&format!("{what}, again: "))? {
        return Err(Failure::new(
            "usage.mistyped",
            "the two are not the same; nothing was changed",
        )
        .with_remedy("run the command again"));
    }
    text(what, first.as_bytes())
}

fn prompt(question: &str) -> Result<Zeroizing<String>, Failure> {
    hidden::ask(question).map_err(|problem| match problem.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => cancelled(),
        _ => Failure::new(
            "usage.no_terminal",
            format!("there is no terminal to ask at: {problem}"),
        ),
    })
}

/// All of `input`.
fn given(what: &str, input: impl io::Read) -> Result<SecretString, Failure> {
    // Room for all of it at once: a growing buffer leaves copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(LIMIT_OCTETS + 1));
    input
        .take(LIMIT_OCTETS as u64)
        .read_to_end(&mut octets)
        .map_err(|problem| Failure::new("file.unreadable", format!("standard input: {problem}")))?;
    text(what, &octets)
}

fn text(what: &str, octets: &[u8]) -> Result<SecretString, Failure> {
    secret_text(octets).map_err(|why| {
        Failure::new(
            "secret.malformed",
            format!("the {} {why}", what.to_lowercase()),
        )
        .with_remedy("give its text and nothing else, at the prompt or on standard input")
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn standard_input_loses_one_line_break() {
        for (octets, expected) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" a\nb \n\n", " a\nb \n"),
        ] {
            let secret = given("Value", octets.as_bytes()).unwrap();
            assert_eq!(secret.expose_secret(), expected);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_quoting_it() {
        let long = vec![b'x'; (64 << 10) + 1];
        for octets in [&b""[..], b"\n", b"hunter2\xff", b"hun\0ter2", &long] {
            let failure = given("Value", octets).unwrap_err();
            assert_eq!(failure.code, "secret.malformed");
            assert!(!failure.message.contains("hunter2"), "{failure}");
        }
        assert!(given("Value", &long[1..]).is_ok());
        assert!(given("Value", [&long[1..], b"\n"].concat().as_slice()).is_ok());
    }

    #[test]
    fn input_without_end_is_cut_off() {
        let failure = given("Value", io::repeat(b'x')).unwrap_err();
        assert_eq!(failure.message, "the value is longer than 64 KiB");
    }
}
