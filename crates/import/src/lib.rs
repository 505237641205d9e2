//! Configurations of other mailers, as accounts and gateways of Postrider.
//!
//! Nothing is lost in silence: what could not be carried over is listed with the reason.
//!
//! Not here: writing `postrider.toml` and the vault.
#![forbid(unsafe_code)]
