//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::TurnedAway;

/// Counts connections. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    all: usize,
    clients: HashMap<IpAddr, usize>,
}

/// One connection; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    doors: Doors,
    client: IpAddr,
}

impl Doors {
    /// A seat, if there is one.
    pub(crate) fn enter(
        &self,
        client: IpAddr,
        at_most: usize,
        at_most_per_client: usize,
    ) -> Result<Seat, TurnedAway> {
        self.with(|count| {
            if count.all >= at_most {
                return Err(TurnedAway::Full);
            }
            let of_client = count.clients.get(&client).copied().unwrap_or_default();
            if of_client >= at_most_per_client {
                return Err(TurnedAway::FullForClient);
            }
            count.all += 1;
            count.clients.insert(client, of_client + 1);
            Ok(())
        })?;
        Ok(Seat {
            doors: self.clone(),
            client,
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.with(|count| count.all)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Count) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.doors.with(|count| {
            count.all -= 1;
            if let Some(left) = count.clients.get_mut(&self.client) {
                *left -= 1;
                if *left == 0 {
                    count.clients.remove(&self.client);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_in_all_and_for_each_address_and_given_back() {
        let doors = Doors::default();
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let first = doors.enter(one, 3, 2).unwrap();
        let _second = doors.enter(one, 3, 2).unwrap();
        assert_eq!(
            doors.enter(one, 3, 2).unwrap_err(),
            TurnedAway::FullForClient
        );
        let _third = doors.enter(other, 3, 2).unwrap();
        assert_eq!(doors.enter(other, 3, 2).unwrap_err(), TurnedAway::Full);
        drop(first);
        assert_eq!(doors.count(), 2);
        let _again = doors.enter(one, 3, 2).unwrap();
        assert_eq!(doors.count(), 3);
    }

    #[test]
    fn who_left_is_forgotten() {
        let doors = Doors::default();
        for last in 0..=255 {
            drop(doors.enter([192, 0, 2, last].into(), 1, 1).unwrap());
        }
        assert!(doors.with(|count| count.clients.is_empty()));
    }
}
