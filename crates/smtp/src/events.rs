//! The dialogue as debug events, for whoever reads the log of a night.
//!
//! Commands and replies only: the lines of `AUTH`, its challenges and the message's octets
//! have no function here that would take them.

use tracing::{Level, debug, enabled};

use crate::{Reply, flight::Flight};

/// The commands of a flight, and how much message follows.
pub(crate) fn flight(flight: &Flight<'_>) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    commands(&flight.head);
    for line in flight.message_commands() {
        debug!(line, "client");
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
