//! Lua in the host.
