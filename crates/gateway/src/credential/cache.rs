//! Which passwords were right a moment ago, known by a keyed digest alone.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

/// How long a success spares the hash. A device that sends all day pays once in this time.
const LIFETIME: Duration = Duration::from_mins(10);

/// The most of them; the oldest goes first.
const ENTRIES: usize = 4096;

/// What stands for one password of one device with one hash.
pub(super) type Digest = [u8; 32];

/// Successes. The key is the process's own, so that the digests are worth nothing elsewhere.
pub(super) struct Cache {
    key: hmac::Key,
    until: HashMap<Digest, Instant>,
    /// In the order in which they end; one that was seen again stands here twice.
    order: VecDeque<(Digest, Instant)>,
}

impl Cache {
    pub(super) fn new(key: hmac::Key) -> Self {
        Self {
            key,
            until: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// That of this password of this device as long as it has this hash: with another hash, it is
    /// another digest.
    pub(super) fn digest(
        &self,
        gateway: &str,
        device: &str,
        stored: &SecretString,
        password: &str,
    ) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [gateway, device, stored.expose_secret(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    pub(super) fn holds(&self, digest: &Digest, now: Instant) -> bool {
        self.until.get(digest).is_some_and(|until| now < *until)
    }

    pub(super) fn insert(&mut self, digest: Digest, now: Instant) {
        while let Some((oldest, until)) = self.order.front()
            && (*until <= now || self.order.len() >= ENTRIES)
        {
            if self.until.get(oldest) == Some(until) {
                self.until.remove(oldest);
            }
            self.order.pop_front();
        }
        let until = now + LIFETIME;
        self.until.insert(digest, until);
        self.order.push_back((digest, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        Cache::new(hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]))
    }

    #[test]
    fn every_part_makes_another_digest_and_none_runs_into_the_next() {
        let cache = cache();
        let of = |gateway, device, hash: &str, password| {
            cache.digest(gateway, device, &SecretString::from(hash), password)
        };
        let one = of("office", "printer", "h", "p");
        assert_eq!(one, of("office", "printer", "h", "p"));
        for other in [
            of("officep", "rinter", "h", "p"),
            of("office", "printer", "hp", ""),
            of("office", "printer", "g", "p"),
            of("office", "printer", "h", "q"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_success_ends_and_the_oldest_makes_room() {
        let mut cache = cache();
        let began = Instant::now();
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
            digest
        };
        cache.insert(digest(0), began);
        assert!(cache.holds(&digest(0), began));
        assert!(!cache.holds(&digest(0), began + LIFETIME));

        for number in 1..=ENTRIES {
            cache.insert(digest(number), began);
        }
        assert!(!cache.holds(&digest(0), began));
        assert!(cache.holds(&digest(1), began));
        assert_eq!((cache.until.len(), cache.order.len()), (ENTRIES, ENTRIES));

        cache.insert(digest(0), began + LIFETIME);
        assert_eq!((cache.until.len(), cache.order.len()), (1, 1));
    }

    #[test]
    fn one_that_is_seen_again_stays_until_its_new_end() {
        let mut cache = cache();
        let began = Instant::now();
        cache.insert([1; 32], began);
        let again = began + LIFETIME / 2;
        cache.insert([1; 32], again);
        cache.insert([2; 32], began + LIFETIME);
        assert!(cache.holds(&[1; 32], began + LIFETIME));
        assert!(!cache.holds(&[1; 32], again + LIFETIME));
    }
}
