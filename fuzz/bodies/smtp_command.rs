//! A client's line, as the sandbox reads it: any octets are a command or a named mistake.

use postrider_smtp::server::Command;

pub(crate) fn run(data: &[u8]) {
    match Command::parse(data) {
        Ok(command) => {
            // What is accepted can be repeated in a line of a log or a header.
            let shown = format!("{command:?}");
            assert!(!shown.contains(['\r', '\n', '\0']), "{shown}");
        }
        Err(mistake) => {
            let _ = format!("{mistake:?}");
        }
    }
}
