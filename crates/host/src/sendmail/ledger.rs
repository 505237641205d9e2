//! What each user may hand in, so that no program that ran away fills the disk or keeps the others
//! from being heard.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Failure;

/// Connections of one user at once. A client that finds no place tries again.
pub(crate) const AT_ONCE: usize = 16;
/// What is counted together.
const WINDOW: Duration = Duration::from_mins(10);
/// Messages of one user within a window: more than anything that is meant.
const MESSAGES: u32 = 3_000;
/// Octets of one user within a window.
const OCTETS: u64 = 4 << 30;

/// What everybody has handed in. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<HashMap<u32, Account>>>);

#[derive(Debug)]
struct Account {
    connections: usize,
    since: Instant,
    messages: u32,
    octets: u64,
    was_refused: bool,
}

/// A connection of a user; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    ledger: Ledger,
    uid: u32,
}

impl Ledger {
    /// A place for one more connection of this user, if there is one.
    pub(crate) fn place(&self, uid: u32) -> Option<Place> {
        let now = Instant::now();
        let mut users = self.lock();
        // Who has not been here for long is forgotten.
        users.retain(|_, user| user.connections > 0 || user.since + WINDOW > now);
        let user = users.entry(uid).or_insert(Account {
            connections: 0,
            since: now,
            messages: 0,
            octets: 0,
            was_refused: false,
        });
        if user.connections == AT_ONCE {
            return None;
        }
        user.connections += 1;
        Some(Place {
            ledger: self.clone(),
            uid,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts a message that begins.
    ///
    /// # Errors
    /// It is too many.
    pub(crate) fn begin_message(&self) -> Result<(), Failure> {
        self.count(1, 0)
    }

    /// Counts octets of it.
    ///
    /// # Errors
    /// They are too many.
    pub(crate) fn add_octets(&self, octets: usize) -> Result<(), Failure> {
        self.count(0, octets as u64)
    }

    /// Whether they are turned away for the first time in a while: the log is no place to fill
    /// either.
    pub(crate) fn is_first_refusal(&self) -> bool {
        let mut users = self.ledger.lock();
        let user = users.get_mut(&self.uid);
        user.is_some_and(|user| !std::mem::replace(&mut user.was_refused, true))
    }

    fn count(&self, messages: u32, octets: u64) -> Result<(), Failure> {
        let now = Instant::now();
        let mut users = self.ledger.lock();
        let Some(user) = users.get_mut(&self.uid) else {
            return Ok(());
        };
        if user.since + WINDOW <= now {
            user.since = now;
            user.messages = 0;
            user.octets = 0;
            user.was_refused = false;
        }
        let messages = user.messages.saturating_add(messages);
        let octets = user.octets.saturating_add(octets);
        if messages > MESSAGES || octets > OCTETS {
            let minutes = WINDOW.as_secs() / 60;
            return Err(Failure::new(
                "sendmail.too_much",
                format!("this user handed in too much mail within {minutes} minutes"),
            )
            .with_remedy("find the program that does, or wait")
            .retryable());
        }
        user.messages = messages;
        user.octets = octets;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(user) = self.ledger.lock().get_mut(&self.uid) {
            user.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_user_takes_no_place_of_another() {
        let ledger = Ledger::default();
        let mut places: Vec<Place> = (0..AT_ONCE).map(|_| ledger.place(33).unwrap()).collect();
        assert!(ledger.place(33).is_none());
        assert!(ledger.place(34).is_some());
        places.pop();
        assert!(ledger.place(33).is_some());
        drop(places);
        tokio::time::advance(WINDOW).await;
        let _other = ledger.place(34);
        assert_eq!(ledger.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn too_much_is_refused_for_a_while() {
        let ledger = Ledger::default();
        let place = ledger.place(33).unwrap();
        for _ in 0..MESSAGES {
            place.begin_message().unwrap();
        }
        let failure = place.begin_message().unwrap_err();
        assert_eq!(failure.exit_code(), 75);
        assert!(place.is_first_refusal() && !place.is_first_refusal());
        // A new connection is none the better.
        assert!(ledger.place(33).unwrap().begin_message().is_err());
        assert!(ledger.place(34).unwrap().begin_message().is_ok());
        tokio::time::advance(WINDOW).await;
        place.begin_message().unwrap();
        place.add_octets(usize::try_from(OCTETS).unwrap()).unwrap();
        assert!(place.add_octets(1).is_err());
    }
}
