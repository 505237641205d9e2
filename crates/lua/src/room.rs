//! What calls under way hold of a script's text outside its state: copies of attachments, bodies
//! and files, which its limit on memory does not see.
//!
//! As much as that limit again may be out at one time. A call that would take more waits before
//! anything is copied, except in a hook: whoever holds the room may wait for that one.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use mlua::{Table, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is not worth counting: it takes up a coroutine of the state as well.
const SMALL: usize = 64 << 10;
/// How much one permit stands for.
const UNIT: usize = 1 << 10;
/// How deep text lies in what an API function gets: message, attachments, attachment.
const DEPTH: usize = 3;

/// Room for so much.
pub(crate) struct Room {
    permits: Arc<Semaphore>,
    all: u32,
}

impl Room {
    pub(crate) fn new(octets: usize) -> Self {
        let all = u32::try_from(octets / UNIT).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(all).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            all,
        }
    }

    /// Room for the text in `values`, as soon as there is any; none is needed for a little.
    pub(crate) fn take<'a>(
        &self,
        values: impl Iterator<Item = &'a Value>,
    ) -> Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>> {
        let octets: usize = values.map(|value| octets(value, DEPTH)).sum();
        if octets <= SMALL {
            return None;
        }
        let many = u32::try_from(octets / UNIT).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.permits).acquire_many_owned(many.min(self.all));
        Some(taken.map(Result::ok).boxed())
    }
}

/// The length of the text in `value`.
fn octets(value: &Value, depth: usize) -> usize {
    match value {
        Value::String(text) => text.as_bytes().len(),
        Value::Table(table) if depth > 0 => in_table(table, depth - 1),
        _ => 0,
    }
}

fn in_table(table: &Table, depth: usize) -> usize {
    let pairs = table.pairs::<Value, Value>();
    pairs
        .filter_map(Result::ok)
        .map(|(key, value)| octets(&key, 0) + octets(&value, depth))
        .fold(0, usize::saturating_add)
}
