//! Who sent what from where, in sums by day.
//!
//! Writing never waits for the disk and never fails a message: what happens is added up in memory,
//! and a thread writes the sums. A crash loses the last seconds of them. Memory and rows are
//! bounded: too many clients or senders of one device are counted together under [`OTHER`], and
//! what cannot even be counted so is counted as lost.
//!
//! Not here: subjects, contents, recipients' local parts; what it all means (the
//! [report](crate::report)).

mod file;
mod pending;
mod reader;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use crate::{Arrival, Event, Refusal};
use file::File;
use pending::Pending;

pub use pending::Sums;
pub use reader::{DomainRow, Marks, Reader, Recent, TrafficRow};

/// Stands for all clients, senders or domains that are too many to be told apart.
pub const OTHER: &str = "(other)";

/// How long sums may stay in memory: what a crash loses.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long to leave a file alone that could not be written.
const AFTER_TROUBLE: Duration = Duration::from_secs(30);

/// What is written down. Clones are the same; the last one writes what is left, and waits for it.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    wake: Condvar,
    file: Mutex<File>,
}

#[derive(Debug, Default)]
struct Memory {
    pending: Pending,
    is_closing: bool,
    trouble: Option<String>,
    written_at: Option<Timestamp>,
    lost: u64,
}

/// How a ledger stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it could not be written the last time it was tried.
    pub trouble: Option<String>,
    /// When it was written last by this process.
    pub written_at: Option<Timestamp>,
    /// How many sums wait to be written.
    pub waiting: usize,
    /// How many observations were not counted at all since the process began.
    pub lost: u64,
}

/// Something that is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub at: Timestamp,
    /// The gateway.
    pub gateway: String,
    /// The device; empty where nobody signed in, or under a name that no device has.
    pub device: String,
    /// The client.
    pub client: IpAddr,
    /// The reverse path; `None` if none was named, empty for `<>`.
    pub sender: Option<String>,
    /// `PLAIN` or `LOGIN`; empty before that.
    pub mechanism: String,
    /// The protocol's version; empty in clear.
    pub tls: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What was said to it; `None` for yes.
    pub refusal: Option<Refusal>,
    /// The message's octets.
    pub octets: u64,
    /// The recipients' addresses. Only their domains are kept.
    pub recipients: Vec<String>,
}

/// What came of something that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A device signed in.
    SignedIn,
    /// A sign-in failed.
    SignInFailed,
    /// A message was accepted.
    Accepted,
    /// A sender, a recipient or a message was refused.
    Refused,
    /// It would have been refused, but the gateway only observes: the message counts as accepted,
    /// too.
    WouldRefuse,
    /// A rehearsal refused it.
    Rehearsed,
    /// The client was sent away before anything was said.
    TurnedAway,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::SignedIn,
        Self::SignInFailed,
        Self::Accepted,
        Self::Refused,
        Self::WouldRefuse,
        Self::Rehearsed,
        Self::TurnedAway,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::SignInFailed => "sign_in_failed",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
            Self::Rehearsed => "rehearsed",
            Self::TurnedAway => "turned_away",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

impl Observation {
    /// What an event is to the ledger; `None`: nothing.
    pub fn of(event: &Event, at: Timestamp) -> Option<Self> {
        let seen = |arrival: &Arrival, outcome, refusal: Option<&Refusal>| Self {
            at,
            gateway: arrival.gateway.to_string(),
            device: arrival.device().to_owned(),
            client: arrival.client.to_canonical(),
            sender: arrival.sender.clone(),
            mechanism: arrival.mechanism.to_owned(),
            tls: arrival.tls.unwrap_or_default().to_owned(),
            outcome,
            refusal: refusal.cloned(),
            octets: 0,
            recipients: Vec::new(),
        };
        let observed = match event {
            Event::SignedIn { arrival } => seen(arrival, Outcome::SignedIn, None),
            Event::AuthFailed {
                arrival, refusal, ..
            } => seen(arrival, Outcome::SignInFailed, Some(refusal)),
            Event::Accepted { arrival, accepted } => Self {
                octets: accepted.octets,
                recipients: arrival.recipients.clone(),
                ..seen(arrival, Outcome::Accepted, None)
            },
            Event::Refused { arrival, refusal } => seen(arrival, Outcome::Refused, Some(refusal)),
            Event::Rehearsed { arrival, refusal } => {
                seen(arrival, Outcome::Rehearsed, Some(refusal))
            }
            Event::WouldRefuse { arrival, refusal } => {
                seen(arrival, Outcome::WouldRefuse, Some(refusal))
            }
            Event::TurnedAway {
                gateway, client, ..
            } => Self {
                at,
                gateway: gateway.to_string(),
                device: String::new(),
                client: client.to_canonical(),
                sender: None,
                mechanism: String::new(),
                tls: String::new(),
                outcome: Outcome::TurnedAway,
                refusal: None,
                octets: 0,
                recipients: Vec::new(),
            },
            _ => return None,
        };
        Some(observed)
    }
}

impl Ledger {
    /// The ledger in this file. It is made when there is something to write, and its directory, too;
    /// only their owner may read them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let shared = Arc::new(Shared {
            memory: Mutex::default(),
            wake: Condvar::new(),
            file: Mutex::new(File::new(path)),
        });
        let of_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || of_writer.keep_writing())
            .map_err(|error| LedgerError::new(path, &error.to_string()))?;
        Ok(Self(Arc::new(Handle {
            shared,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// Counts it. Never waits for the disk.
    pub fn record(&self, observation: &Observation) {
        let mut memory = self.0.shared.memory();
        if memory.pending.add(observation) {
            if memory.pending.is_much() {
                self.0.shared.wake.notify_one();
            }
        } else {
            memory.lost += 1;
        }
    }

    /// Writes what waits, now. It blocks.
    ///
    /// # Errors
    /// The file cannot be written. Nothing is lost by that: it is tried again.
    pub fn flush(&self) -> Result<(), LedgerError> {
        self.0.shared.write()
    }

    /// How it stands.
    pub fn health(&self) -> Health {
        let memory = self.0.shared.memory();
        Health {
            trouble: memory.trouble.clone(),
            written_at: memory.written_at,
            waiting: memory.pending.len(),
            lost: memory.lost,
        }
    }

    /// Writes what waits and ends the thread. It blocks. What is recorded later is lost.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.memory().is_closing = true;
        self.shared.wake.notify_one();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.take() {
            // It ends by itself; what it died of was printed.
            let _ = writer.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_writing(&self) {
        let mut pause = INTERVAL;
        loop {
            let memory = self.memory();
            let wait = |memory: &mut Memory| {
                let is_urgent = memory.pending.is_much() && memory.trouble.is_none();
                !memory.is_closing && !is_urgent
            };
            let waited = self.wake.wait_timeout_while(memory, pause, wait);
            let is_closing = waited.unwrap_or_else(PoisonError::into_inner).0.is_closing;
            let written = self.write();
            if is_closing {
                if let Err(error) = written {
                    tracing::warn!("the last of the gateways' ledger is lost: {error}");
                }
                return;
            }
            pause = if written.is_ok() {
                INTERVAL
            } else {
                AFTER_TROUBLE
            };
        }
    }

    fn write(&self) -> Result<(), LedgerError> {
        // Held throughout: two writers would put sums back in the wrong order otherwise.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (pending, lost) = {
            let mut memory = self.memory();
            (std::mem::take(&mut memory.pending), memory.lost)
        };
        if pending.is_empty() {
            return Ok(());
        }
        let written = file.write(&pending, lost);
        let mut memory = self.memory();
        match &written {
            Ok(()) => {
                memory.written_at = Some(pending.last_at());
                if memory.trouble.take().is_some() {
                    tracing::info!("the gateways' ledger is written again");
                }
            }
            Err(error) => {
                memory.lost += memory.pending.put_back(pending);
                if memory.trouble.is_none() {
                    tracing::warn!(
                        "the gateways' ledger cannot be written; mail goes on, and what is \
                         counted is kept in memory: {error}"
                    );
                }
                memory.trouble = Some(error.to_string());
            }
        }
        written
    }
}

/// Why a ledger cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerError {
    message: String,
}

impl LedgerError {
    fn new(path: &Path, what: &str) -> Self {
        let what: String = what.chars().take(200).collect();
        let what = what.replace(|c: char| c.is_control(), " ");
        Self {
            message: format!("{}: {what}", path.display()),
        }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LedgerError {}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
