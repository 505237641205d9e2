//! From a checked message to one verdict per recipient, over one submission server.
//!
//! A [`Pool`] owns an account's sessions. A session connects, secures itself, authenticates
//! through an [`Authenticator`] and carries transactions, as many in one flight as the server
//! allows. The invariant: a session is used again only when every reply it was owed has been
//! read; one that was dropped in the middle is closed. Credentials leave only over verified
//! TLS, unless [`TlsMode::DangerPlaintext`] says otherwise by name.
//!
//! [`message`] builds what is sent; [`server`] is the other half of the dialogue, for tests and
//! the sandbox. Not here: queues, retries over time, tokens, what a refusal means.
#![forbid(unsafe_code)]

pub mod message;
pub mod server;
pub mod tls;

mod address;
mod body;
mod capabilities;
mod dsn;
mod error;
mod events;
mod flight;
mod outgoing;
mod pool;
mod reply;
mod sasl;
mod session;
mod settings;
mod source;
mod stream;
mod transaction;
mod window;
mod wire;

pub use address::{EhloName, InvalidEhloName};
pub use body::{BodyChecker, BodyFacts, BodySource};
pub use capabilities::Capabilities;
pub use dsn::{Dsn, Notify, RecipientDsn, Return, xtext_decoded};
pub use error::{SendError, SendErrorKind, Stage, TlsFailure};
pub use lettre::Address;
pub use outgoing::{Envelope, InvalidOutgoing, Outgoing, Receipt, Verdict};
pub use pool::{Pool, StageDetail, StageReport};
pub use reply::{Class, EnhancedStatus, Reply, ReplyError, ReplyParser};
pub use sasl::{Authenticator, SaslError, SaslExchange};
pub use settings::{PoolLimits, ServerSettings, Timeouts, TlsMode};
pub use source::{SentAll, Source};
pub use stream::{Connector, Stream, TcpConnector};
