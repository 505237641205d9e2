//! Setting accounts up: an administrator who signs in for the length of a command, the way to
//! Microsoft Graph, the journal, and the settings that come of it.
//!
//! What an account needs in a tenant is `postrider-setup`'s to say; nothing here creates
//! anything there by itself.

mod administrator;
mod journal;
mod place;
mod refusal;
mod settings;
mod transport;

pub use administrator::{AdminSignIn, Administrator, GRAPH_COMMAND_LINE_TOOLS, Purpose};
pub use journal::{Journal, Remembered};
pub use place::{Discovered, Place, discover, provider};
pub(crate) use refusal::{graph_failure, setup_failure};
pub use settings::{changes, check, config_path, microsoft365, write};
pub use transport::GraphTransport;
