//! Setting accounts up: an administrator who signs in for the length of a command, and the way
//! to Microsoft Graph.
//!
//! What an account needs in a tenant is `postrider-setup`'s to say; nothing here creates
//! anything by itself.

mod administrator;
mod refusal;
mod transport;

pub use administrator::{AdminSignIn, Administrator, GRAPH_COMMAND_LINE_TOOLS, Purpose};
pub(crate) use refusal::graph_failure;
pub use transport::GraphTransport;
