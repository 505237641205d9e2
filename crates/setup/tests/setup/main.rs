//! Plans and their carrying out, against a tenant in memory.

mod findings;
mod interrupted;
mod plans;
mod record;
mod tenant;
