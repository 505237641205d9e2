//! Entra ID, Graph and the control API over real connections: each grant from its first request
//! to its token, each refusal with its code, and the pages a person clicks through.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod assertions;
mod client_credentials;
mod codes;
mod control;
mod devices;
mod discovery;
mod faults;
mod graph;
mod lifecycle;
mod plugin;
mod refresh;
mod sending;
mod sign_in;
mod site;
