//! What one shard of the vault knows about its records: which there are, and how new.
//!
//! Entries stand one after the other, in the order of their ids:
//!
//! ```text
//! octets   0   16          24    25      27
//!          id  generation  sort  length  name
//! ```
//!
//! A removed record stays as its id and a generation, with sort 0 and no name: an old file put
//! back is then not taken for the record.

use zeroize::Zeroizing;

use crate::record::Kind;
use crate::seal::Id;

const FIXED_OCTETS: usize = 27;

/// One record as the ledger has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) id: Id,
    pub(crate) generation: u64,
    /// `None`: it was removed.
    pub(crate) name: Option<(Kind, &'a str)>,
}

/// A shard's ledger.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    text: Zeroizing<Vec<u8>>,
}

impl Ledger {
    /// Takes what [`Ledger::text`] gave; `None` if it is anything else.
    pub(crate) fn from_text(text: Zeroizing<Vec<u8>>) -> Option<Ledger> {
        let mut rest = text.as_slice();
        let mut last = None;
        while !rest.is_empty() {
            let (known, after) = split(rest)?;
            if last >= Some(known.id) {
                return None;
            }
            last = Some(known.id);
            rest = after;
        }
        Some(Ledger { text })
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Known<'_>> {
        let mut rest = self.text.as_slice();
        std::iter::from_fn(move || {
            let (known, after) = split(rest)?;
            rest = after;
            Some(known)
        })
    }

    pub(crate) fn find(&self, id: Id) -> Option<Known<'_>> {
        self.entries().find(|known| known.id == id)
    }

    /// For looking up many.
    pub(crate) fn index(&self) -> Index<'_> {
        Index(self.entries().collect())
    }

    /// This ledger with one entry replaced or added.
    pub(crate) fn with(&self, new: Known<'_>) -> Ledger {
        let name = new.name.map_or("", |(_, name)| name);
        // Room for all of it at once: a growing buffer leaves copies behind.
        let room = self.text.len() + FIXED_OCTETS + name.len();
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        let before = self.entries().take_while(|known| known.id < new.id);
        let after = self.entries().skip_while(|known| known.id <= new.id);
        for known in before.chain([new]).chain(after) {
            write(known, &mut text);
        }
        Ledger { text }
    }
}

/// A ledger's entries in the order of their ids.
pub(crate) struct Index<'a>(Vec<Known<'a>>);

impl<'a> Index<'a> {
    pub(crate) fn find(&self, id: Id) -> Option<Known<'a>> {
        let at = self.0.binary_search_by_key(&id, |known| known.id).ok()?;
        Some(self.0[at])
    }

    /// The ids to look at where `ids`, which is sorted, have files: these, and those of records
    /// that have lost theirs.
    pub(crate) fn with_lost(&self, ids: &[Id]) -> Vec<Id> {
        let live = self.0.iter().filter(|known| known.name.is_some());
        let lost = live
            .map(|known| known.id)
            .filter(|id| ids.binary_search(id).is_err());
        ids.iter().copied().chain(lost).collect()
    }
}

fn write(known: Known<'_>, text: &mut Vec<u8>) {
    let (sort, name) = known
        .name
        .map_or((0, ""), |(kind, name)| (kind.sort(), name));
    let length = u16::try_from(name.len()).expect("names are at most 1024 octets");
    text.extend_from_slice(&known.id.0);
    text.extend_from_slice(&known.generation.to_be_bytes());
    text.push(sort);
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(name.as_bytes());
}

fn split(text: &[u8]) -> Option<(Known<'_>, &[u8])> {
    let (fixed, rest) = text.split_at_checked(FIXED_OCTETS)?;
    let length = u16::from_be_bytes(fixed[25..27].try_into().ok()?);
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    let name = str::from_utf8(name).ok()?;
    let name = match fixed[24] {
        0 if name.is_empty() => None,
        sort => Some((Kind::from_sort(sort)?, name)),
    };
    let known = Known {
        id: Id(fixed[..16].try_into().ok()?),
        generation: u64::from_be_bytes(fixed[16..24].try_into().ok()?),
        name,
    };
    Some((known, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ledger_holds_the_last_of_each_id(
            changes in prop::collection::vec((0..20_u8, any::<u64>(), prop::option::of("[^\0]{0,20}")), 0..60)
        ) {
            let mut ledger = Ledger::default();
            let mut model = BTreeMap::new();
            for (id, generation, name) in &changes {
                let id = Id([*id; 16]);
                let name = name.as_deref().map(|name| (Kind::Grant, name));
                ledger = ledger.with(Known { id, generation: *generation, name });
                model.insert(id, (*generation, name));
            }

            let read = Ledger::from_text(Zeroizing::new(ledger.text().to_vec())).unwrap();
            let found: Vec<_> = read.entries().map(|known| (known.id, (known.generation, known.name))).collect();
            prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>) {
            if let Some(ledger) = Ledger::from_text(Zeroizing::new(text)) {
                prop_assert_eq!(ledger.entries().map(|known| FIXED_OCTETS + known.name.map_or(0, |(_, name)| name.len())).sum::<usize>(), ledger.text().len());
            }
        }
    }
}
