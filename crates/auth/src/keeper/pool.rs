//! What grants have in common, shared for as long as it matters.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// So many entries are not worth looking through.
const FEW: usize = 32;

/// Values by key. One that nobody uses is forgotten once it has nothing to remember.
pub(crate) struct Pool<K, V> {
    entries: HashMap<K, Arc<V>>,
    /// With so many entries it is time to look for those.
    full: usize,
}

impl<K, V> Default for Pool<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            full: FEW,
        }
    }
}

impl<K: Eq + Hash, V> Pool<K, V> {
    /// The value under `key`, made if need be; `is_idle` tells which ones remember nothing.
    pub(crate) fn get(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
        is_idle: impl Fn(&V) -> bool,
    ) -> Arc<V> {
        if self.entries.len() >= self.full && !self.entries.contains_key(&key) {
            self.entries
                .retain(|_, value| Arc::strong_count(value) > 1 || !is_idle(value));
            self.full = FEW.max(self.entries.len() * 2);
        }
        let value = self.entries.entry(key).or_insert_with(|| Arc::new(make()));
        Arc::clone(value)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
