//! Settings: `postrider.toml`, or a table from a script, made into checked accounts and what
//! scripts, the daemon and its gateways go by.
//!
//! What leaves this crate has been checked: an [`Account`] holds addresses that parse, host
//! names that resolve by their form, scopes that the provider will take, and secrets only as
//! references ([`SecretRef`]). Everything wrong in a file is reported together, each
//! [`Problem`] with its place, and nothing that may be a secret is ever shown.
//!
//! Not here: whether a server answers, whether a plugin exists, what a third-party plugin's
//! own settings mean (its JSON Schema says that; [`Config::problem`] gives such findings
//! their place in the file).
#![forbid(unsafe_code)]

mod account;
mod auth;
mod check;
mod config;
mod duration;
pub mod edit;
mod expiry;
mod find;
mod gateway;
mod grammar;
mod keys;
mod mask;
mod memory;
mod microsoft;
mod network;
mod oauth;
mod presets;
mod problem;
mod program;
mod queue;
mod regular;
mod renewal;
mod replace;
mod rotation;
mod scripts;
mod secret;
mod section;
mod serve;
mod tree;
mod vault;

pub use account::{Account, Auth, Limits, Server, Timeouts, TlsMode};
pub use config::{Config, PluginSettings};
pub use duration::parse as parse_duration;
pub use expiry::{InvalidExpiry, parse_expiry};
pub use find::{Surroundings, candidates, find};
pub use gateway::{
    CertificateFiles, DeviceSettings, Gateway, GatewayTls, InvalidDevice, Quirk, Rehearse, Senders,
    check_device_name,
};
pub use keys::{KeyReference, reference};
pub use lettre::{Address, message::Mailbox};
pub use network::{InvalidNetwork, Network};
pub use presets::{Preset, Presets, SandboxAddress};
pub use problem::{ConfigErrors, Location, Problem};
pub use queue::{QueueSettings, SendmailSettings, Unknown};
pub use renewal::Renewal;
pub use rotation::{ReuseGrace, Rotation};
pub use scripts::{ScriptLimits, ScriptSettings, Scripts};
pub use secret::{NoVault, SecretError, SecretErrorKind, SecretRef, VaultLookup, secret_text};
pub use serve::ServeSettings;
pub use vault::{VaultSettings, secret_name};
