//! What programs hand in that know no accounts: `sendmail` for cron, PHP, git and all others.
#![allow(dead_code, reason = "being built")]

mod dot;
mod header;
mod intake;
pub(crate) mod options;
