//! Auth plugins at work: loading them, driving their flows, keeping their tokens.
//!
//! A plugin is sans-IO: it says what to do next, and this crate does it or refuses. So the
//! network policy, the clock, the person and the secrets are all on this side, and a plugin
//! that hangs, lies or babbles costs its own account and nothing else.
//!
//! Not here: configuration files, SMTP, and keeping tokens beyond this process.
#![deny(unsafe_code)]
#![allow(
    clippy::result_large_err,
    reason = "an AuthError is made once for a send that fails; its fields are worth more than its size"
)]

#[allow(unsafe_code, reason = "calls across the ABI")]
mod call;
mod clock;
mod credential;
mod error;
mod flow;
mod http;
mod interaction;
mod load;
#[cfg(test)]
mod probe;
mod sasl;
mod scrub;
mod settings;
mod token;

pub use clock::{Clock, SystemClock};
pub use credential::{Credential, Environment};
pub use error::{AuthError, AuthErrorKind};
pub use flow::ReturnedBrowser;
pub use http::{Http, HttpError, HttpSettings, ProxySetting};
pub use interaction::{Interaction, Unattended};
pub use load::{Found, LoadError, LoadedPlugin, Loader, LoaderSettings};
pub use postrider_plugin::wire::{Description, DeviceCode, LoginMethod, Op, Prompt, Secret};
pub use sasl::SaslFlow;
pub use settings::{InstanceSettings, SecretSource, SettingsProblem};
pub use token::{AccessToken, TokenStore};
