//! What scripts reach besides mail: modules, templates, tables, files, programs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod csv;
mod files;
mod programs;
mod require;
mod template;
mod world;
