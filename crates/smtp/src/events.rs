//! The dialogue as debug events, for whoever reads the log of a night.
//!
//! Commands and replies only: the lines of `AUTH`, its challenges and the message's octets
//! have no function here that would take them.

use tracing::{Level, debug, enabled};

use crate::{
    Reply,
    flight::{Form, chunks},
};

/// How a message of so many octets goes over the wire, without its octets.
pub(crate) fn message(octets: u64, form: Form) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    match form {
        Form::Chunks(chunk_octets) => {
            let count = chunks(octets, chunk_octets);
            for chunk in 0..count {
                let octets = chunk_octets.min(octets - chunk * chunk_octets);
                let last = if chunk + 1 == count { " LAST" } else { "" };
                debug!(line = format!("BDAT {octets}{last}"), "client");
            }
        }
        Form::Stuffed => debug!(line = format!("(the message, {octets} octets)"), "client"),
    }
}

/// Commands, each with its line end.
pub(crate) fn commands(octets: &[u8]) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    for line in String::from_utf8_lossy(octets).lines() {
        debug!(line, "client");
    }
}

/// Each line of a reply, which is not one to `AUTH`.
pub(crate) fn reply(reply: &Reply) {
    let status = reply.enhanced.map(tracing::field::display);
    for line in &reply.lines {
        debug!(code = reply.code, status, line, "server");
    }
}
