//! What a vault promises, on a real file system and with real processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

mod concurrency;
mod crash;
mod damage;
mod keys;
mod permissions;
mod records;
mod rekey;
mod secrecy;
mod space;
mod transfer;
