//! What happens at a gateway, for logs, counters and the ledger. Nothing here is a secret.

use std::net::IpAddr;
use std::sync::Arc;

use crate::{Arrival, Refusal};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client that may connect did.
    Connected {
        /// The gateway.
        gateway: Arc<str>,
        /// The client.
        client: IpAddr,
    },
    /// A connection ended, one that [`Connected`](Self::Connected) had told of.
    Disconnected {
        /// The gateway.
        gateway: Arc<str>,
        /// The client.
        client: IpAddr,
    },
    /// A client was sent away before anything was said.
    TurnedAway {
        /// The gateway.
        gateway: Arc<str>,
        /// The client.
        client: IpAddr,
        /// Why.
        why: TurnedAway,
    },
    /// A client and the gateway did not agree on encryption; what it heard of that, it cannot read.
    NotEncrypted {
        /// The gateway.
        gateway: Arc<str>,
        /// The client.
        client: IpAddr,
        /// Why, and what helps.
        problem: String,
    },
    /// A device signed in.
    SignedIn {
        /// Who and how.
        arrival: Arrival,
    },
    /// A sign-in failed. The arrival's device is the name that was tried, if a device has it;
    /// else it may be anything, a password among others, and is not told.
    AuthFailed {
        /// Who and how.
        arrival: Arrival,
        /// What it was told.
        refusal: Refusal,
        /// What it was not told: a script's reason, an address that the device is not to have, why
        /// nobody looked at the password.
        why: Option<String>,
    },
    /// A message is safe.
    Accepted {
        /// Who, from whom and for whom, as the device said it.
        arrival: Arrival,
        /// What became of it.
        accepted: Accepted,
    },
    /// A sender, a recipient or a message was refused.
    Refused {
        /// Who, and what was said so far, that which was refused included.
        arrival: Arrival,
        /// What it was told.
        refusal: Refusal,
    },
    /// A script changed a sender or an account to what the device may not have. The device was
    /// only told to come again.
    RuleBroken {
        /// Who, and what was said so far.
        arrival: Arrival,
        /// Which line of which script; empty where that is not known.
        by: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The device was told what Exchange will say.
    Rehearsed {
        /// Who.
        arrival: Arrival,
        /// What it was told.
        refusal: Refusal,
    },
    /// A gateway that only observes would have refused it.
    WouldRefuse {
        /// Who, and what was said so far.
        arrival: Arrival,
        /// What it would be told.
        refusal: Refusal,
    },
    /// A certificate is in use from now on.
    CertificateLoaded {
        /// The gateway.
        gateway: Arc<str>,
        /// SHA-256 of the certificate, hexadecimal with colons.
        fingerprint: String,
    },
    /// Changed certificate files cannot be used; the last good ones stay in use.
    CertificateFailed {
        /// The gateway.
        gateway: Arc<str>,
        /// What is wrong with them.
        problem: String,
    },
    /// The system gives no further connections, for lack of files or memory.
    AcceptFailed {
        /// The gateway.
        gateway: Arc<str>,
        /// What it said.
        problem: String,
    },
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By what it is found in the queue.
    pub id: String,
    /// Its `Message-ID`.
    pub message_id: String,
    /// The account it goes through.
    pub account: String,
    /// The reverse path it leaves with; `None` for `<>`.
    pub sender: Option<String>,
    /// Octets, as they arrived.
    pub octets: u64,
}

/// Why a client was sent away at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// Its address is not in the networks that may connect.
    Network,
    /// The gateway has as many connections as it takes.
    Full,
    /// Its address has as many connections as one may.
    FullForClient,
}
