//! Auth plugins at work: loading them, driving their flows, keeping their tokens.
//!
//! A plugin is sans-IO: it says what to do next, and this crate does it or refuses. So the
//! network policy, the clock, the person and the secrets are all on this side, and a plugin
//! that hangs, lies or babbles costs its own account and nothing else.
//!
//! Not here: configuration files, SMTP, and how the vault keeps what it is given.
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
mod keeper;
mod load;
#[cfg(test)]
mod probe;
mod sasl;
mod scrub;
mod settings;
mod tally;

pub use clock::{Clock, SystemClock};
pub use credential::{Credential, Environment, Forgotten, PendingLogin};
pub use error::{AuthError, AuthErrorKind, Cause};
pub use flow::ReturnedBrowser;
pub use http::{Http, HttpError, HttpSettings, ProxySetting, environment_proxy};
pub use interaction::{Interaction, Unattended};
pub use keeper::{
    AccessToken, Event, EventSink, FailureStatus, GrantKey, GrantPolicy, GrantState, GrantStatus,
    GrantStore, Keeper, KeeperSettings, KeptGrant, KnownExpiry, MemoryStore, NoEvents, Parameters,
    Reason, RefreshTokenStatus, ReuseGrace, Rotation, RotationOutcome, Shelf, StoreError,
    StoreLock, VaultStore, days_left,
};
pub use load::{Found, LoadError, LoadedPlugin, Loader, LoaderSettings};
pub use postrider_plugin::wire::{
    Description, DeviceCode, Identity, IdentitySource, LoginMethod, Op, Prompt, Secret,
};
pub use sasl::SaslFlow;
pub use settings::{InstanceSettings, SecretSource, SettingsProblem};
pub use tally::{CallOutcome, NoTally, Tally};
