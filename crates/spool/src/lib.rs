//! A durable queue of outgoing mail: what it has accepted survives a crash.
#![forbid(unsafe_code)]
