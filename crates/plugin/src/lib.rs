//! The contract between Postrider and its auth plugins, and the kit to write one in Rust.
//!
//! A plugin is a shared library with one symbol. It does no input or output: a flow *yields*
//! what it needs (an HTTP request, a pause, a line of SASL) and the host performs it. Three
//! layers, each usable without the one after it:
//!
//! - [`abi`]: the C ABI, mirrored from `include/postrider_auth.h`, which is the authority.
//! - [`wire`]: the JSON that travels in the ABI's byte strings.
//! - [`kit`]: a plugin as a Rust type with `async` methods, and [`export!`] to ship it.
//!
//! Not here: loading libraries and performing actions, which is the host's side.

pub mod abi;
pub mod kit;
pub mod wire;

pub use abi::ErrorKind;
pub use kit::{Error, Io, Level, Plugin};
