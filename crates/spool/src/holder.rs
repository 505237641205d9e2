//! Processes at work, and what they hold.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::claim::{Ending, Transition};
use crate::id::QueueId;

/// A process at work on the queue. What it holds ends with the last clone.
#[derive(Clone)]
pub struct Holder {
    id: HolderId,
    _alive: Arc<dyn Any + Send + Sync>,
}

impl Holder {
    /// One that lives as long as `alive` does.
    pub fn new(id: HolderId, alive: Arc<dyn Any + Send + Sync>) -> Self {
        Self { id, _alive: alive }
    }

    /// Its name in the store.
    pub fn id(&self) -> HolderId {
        self.id
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({})", self.id.0)
    }
}

/// A [`Holder`]'s name in the store; no two ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub(crate) i64);

impl HolderId {
    /// The one that a store numbers so.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Its number in the store.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// Room for one session, free again when it is dropped or its holder ends.
pub struct Slot(pub(crate) Ending);

impl Slot {
    /// One whose end a store wants to hear of.
    pub fn new(freed: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(|_| freed())))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(freed) = self.0.take() {
            freed(None);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// A message that a dead holder was sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The message.
    pub id: QueueId,
    /// Its account.
    pub account: String,
    /// Its `Message-ID`.
    pub message_id: String,
    /// The holder's name.
    pub holder: String,
    /// The recipients, unknown now.
    pub transitions: Vec<Transition>,
}

/// Tells when the queue changed.
#[derive(Clone, Debug)]
pub struct Changes(pub(crate) watch::Receiver<u64>);

impl Changes {
    /// Changes as they are counted here.
    pub fn new(count: watch::Receiver<u64>) -> Self {
        Self(count)
    }

    /// Waits for the next change; one since the last wait is told at once. Never, if the store
    /// is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
