//! The steps of a refresh, by name: where a test ends the process.

use super::store::{GrantKey, Shelf};

/// What is about to happen, or just has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "only a test's gate looks at what a step is")
)]
pub(crate) enum Step {
    /// The store is about to be called.
    Store(StoreCall, Shelf),
    AfterLock,
    AfterReread,
    AfterIntent,
    BeforeRequest,
    AfterResponse,
    AfterPersist,
    AfterPublish,
    BeforeUnlock,
}

/// A call into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StoreCall {
    Load,
    Save,
    Remove,
    TryLock,
}

impl Step {
    /// The name under which the process can be killed here.
    fn crash_point(self) -> Option<&'static str> {
        Some(match self {
            Self::Store(..) => return None,
            Self::AfterLock => "keeper.after_lock",
            Self::AfterReread => "keeper.after_reread",
            Self::AfterIntent => "keeper.after_intent",
            Self::BeforeRequest => "keeper.before_request",
            Self::AfterResponse => "keeper.after_response",
            Self::AfterPersist => "keeper.after_persist",
            Self::AfterPublish => "keeper.after_publish",
            Self::BeforeUnlock => "keeper.before_unlock",
        })
    }
}

/// What every step passes through.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    #[cfg(test)]
    pub(crate) keeper: Option<std::sync::Arc<dyn GateKeeper>>,
}

/// Stands at the gate in a test: what it returns is awaited, and need never end.
#[cfg(test)]
pub(crate) trait GateKeeper: Send + Sync {
    fn pass(&self, step: Step, key: GrantKey) -> futures_util::future::BoxFuture<'_, ()>;
}

impl Gate {
    #[cfg_attr(not(test), allow(clippy::unused_async, reason = "a test's gate waits"))]
    pub(crate) async fn pass(&self, step: Step, key: GrantKey) {
        #[cfg(test)]
        if let Some(keeper) = &self.keeper {
            keeper.pass(step, key).await;
        }
        let _ = key;
        if let Some(name) = step.crash_point() {
            postrider_vault::crash_point(name);
        }
    }
}
