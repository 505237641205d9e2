//! Says whether a password is a device's, at a cost that many guesses cannot raise.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use argon2::{Argon2, PasswordVerifier as _};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::cache::{Cache, Digest};
use super::{CredentialError, canonical, nobodys_hash, parse};

/// How many hashes are computed at a time: 19 MiB and one core each.
const AT_ONCE: usize = 2;

/// How many may wait for that: a building's devices, all at eight o'clock. At some fifty a second the
/// last waits for ten; a device waits for minutes.
const WAITING: usize = 512;

/// What a password is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the device's.
    Right,
    /// It is not, or there is no such device.
    Wrong,
    /// Too many are being verified: nobody looked, come again (454 4.7.0).
    Busy,
    /// It was not verified: what is stored is no hash that may be computed here (454 4.7.0).
    Unusable,
}

/// Verifies passwords. Clones are the same: its bounds are a process's if all gateways have one.
#[derive(Clone)]
pub struct Verifier(Arc<Shared>);

struct Shared {
    cache: Mutex<Cache>,
    /// What is being verified. Whoever asks the same meanwhile has the same answer.
    asked: Mutex<HashMap<Digest, Weak<OnceCell<Verdict>>>>,
    /// The hash of no password, for devices that do not exist.
    dummy: SecretString,
    /// Those who wait, and those whose turn it is.
    admitted: Arc<Semaphore>,
    computing: Arc<Semaphore>,
    computed: AtomicU64,
}

impl Verifier {
    /// One with nothing in its cache.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<Self, CredentialError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| CredentialError::Random)?;
        Ok(Self(Arc::new(Shared {
            cache: Mutex::new(Cache::new(key)),
            asked: Mutex::default(),
            dummy: nobodys_hash()?,
            admitted: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            computing: Arc::new(Semaphore::new(AT_ONCE)),
            computed: AtomicU64::new(0),
        })))
    }

    /// Whether this is the password of the device whose hash is `stored`; `None`: there is no such
    /// device, which costs as much as a wrong password and is answered alike.
    ///
    /// A password that was right within the last ten minutes costs no hash, unless the stored one
    /// changed, and many who ask the same at once cost one. Dropped half-way, what is being computed
    /// is computed to its end, within the bounds.
    pub async fn verify(
        &self,
        gateway: &str,
        device: &str,
        password: &SecretString,
        stored: Option<&SecretString>,
    ) -> Verdict {
        let password = canonical(password);
        let against = stored.unwrap_or(&self.0.dummy);
        let digest = self.cache().digest(gateway, device, against, &password);
        let answer = self.answer(digest);
        // If whoever computes goes away, the next begins anew.
        let verdict = answer.get_or_init(|| async {
            if self.cache().holds(&digest, Instant::now()) {
                return Verdict::Right;
            }
            let verdict = self.compute(password, against.clone()).await;
            if verdict == Verdict::Right {
                self.cache().insert(digest, Instant::now());
            }
            verdict
        });
        *verdict.await
    }

    /// How many hashes were computed for [`verify`](Self::verify) so far.
    pub fn computed(&self) -> u64 {
        self.0.computed.load(Ordering::Relaxed)
    }

    async fn compute(&self, password: Zeroizing<String>, against: SecretString) -> Verdict {
        let Ok(admitted) = Arc::clone(&self.0.admitted).try_acquire_owned() else {
            return Verdict::Busy;
        };
        let Ok(turn) = Arc::clone(&self.0.computing).acquire_owned().await else {
            return Verdict::Busy;
        };
        let shared = Arc::clone(&self.0);
        let compute = move || {
            // They are held by what is computed: its caller may be gone.
            let _bounds = (admitted, turn);
            let Some(hash) = parse(against.expose_secret()) else {
                return Verdict::Unusable;
            };
            shared.computed.fetch_add(1, Ordering::Relaxed);
            match Argon2::default().verify_password(password.as_bytes(), &hash) {
                Ok(()) => Verdict::Right,
                Err(_) => Verdict::Wrong,
            }
        };
        let computed = tokio::task::spawn_blocking(|| on_a_thread(compute)).await;
        // There was no thread to be had, or the runtime ends.
        computed.ok().flatten().unwrap_or(Verdict::Busy)
    }

    /// Where the answer to this will be, for all who ask now.
    fn answer(&self, digest: Digest) -> Arc<OnceCell<Verdict>> {
        let asked = self.0.asked.lock();
        let mut asked = asked.unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = asked.get(&digest).and_then(Weak::upgrade) {
            return answer;
        }
        asked.retain(|_, answer| answer.strong_count() > 0);
        let answer = Arc::default();
        asked.insert(digest, Arc::downgrade(&answer));
        answer
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes on a thread that ends with it; `None` where there is none to be had. The runtime's
/// threads keep what was allocated on them: as each of them came to compute a hash, each would hold
/// its memory for good.
fn on_a_thread<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = thread::Builder::new().name("password".to_owned());
    thread.spawn(compute).ok()?.join().ok()
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("computed", &self.computed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::super::hash;
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    async fn ask(verifier: &Verifier, password: &str, stored: Option<&SecretString>) -> Verdict {
        let password = secret(password);
        verifier
            .verify("office", "printer", &password, stored)
            .await
    }

    #[tokio::test]
    async fn a_right_password_is_right_and_is_hashed_once() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        for _ in 0..3 {
            assert_eq!(
                ask(&verifier, "a password", Some(&stored)).await,
                Verdict::Right
            );
        }
        assert_eq!(verifier.computed(), 1);
    }

    #[tokio::test]
    async fn many_who_ask_the_same_are_answered_by_one_hash() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        for (password, stored, verdict) in [
            ("a password", Some(&stored), Verdict::Right),
            ("wrong", Some(&stored), Verdict::Wrong),
            // An unknown device is not told by how long many take, either.
            ("wrong", None, Verdict::Wrong),
        ] {
            let before = verifier.computed();
            let answers = join_all((0..50).map(|_| ask(&verifier, password, stored))).await;
            assert!(answers.iter().all(|one| *one == verdict));
            assert_eq!(verifier.computed() - before, 1);
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_one_that_goes_away_is_answered() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        let mut first = Box::pin(ask(&verifier, "a password", Some(&stored)));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(ask(&verifier, "a password", Some(&stored)));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(second.await, Verdict::Right);
    }

    #[tokio::test]
    async fn what_is_answered_is_not_kept_but_for_what_was_right() {
        let verifier = Verifier::new().unwrap();
        for password in ["one", "other"] {
            assert_eq!(ask(&verifier, password, None).await, Verdict::Wrong);
        }
        let asked = verifier.0.asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        assert!(asked.values().all(|answer| answer.strong_count() == 0));
    }

    #[tokio::test]
    async fn an_unknown_device_and_a_wrong_password_cost_the_same_each_time() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        for asked in 1..=3 {
            assert_eq!(ask(&verifier, "wrong", Some(&stored)).await, Verdict::Wrong);
            assert_eq!(verifier.computed(), 2 * asked - 1);
            assert_eq!(ask(&verifier, "wrong", None).await, Verdict::Wrong);
            assert_eq!(verifier.computed(), 2 * asked);
        }
    }

    #[tokio::test]
    async fn a_success_is_void_when_the_hash_changes_or_the_device_is_gone() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        assert_eq!(
            ask(&verifier, "a password", Some(&stored)).await,
            Verdict::Right
        );
        let rotated = hash(&secret("another")).unwrap();
        assert_eq!(
            ask(&verifier, "a password", Some(&rotated)).await,
            Verdict::Wrong
        );
        assert_eq!(ask(&verifier, "a password", None).await, Verdict::Wrong);
        assert_eq!(verifier.computed(), 3);
    }

    #[tokio::test]
    async fn another_devices_success_opens_nothing() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        let other = hash(&secret("its own")).unwrap();
        ask(&verifier, "a password", Some(&stored)).await;
        let password = secret("a password");
        let verdict = verifier.verify("office", "scanner", &password, Some(&other));
        assert_eq!(verdict.await, Verdict::Wrong);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_is_forgotten_after_a_while() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        ask(&verifier, "a password", Some(&stored)).await;
        tokio::time::advance(Duration::from_mins(10)).await;
        assert_eq!(
            ask(&verifier, "a password", Some(&stored)).await,
            Verdict::Right
        );
        assert_eq!(verifier.computed(), 2);
    }

    #[tokio::test]
    async fn what_is_no_hash_is_not_a_wrong_password() {
        let verifier = Verifier::new().unwrap();
        let verdict = ask(&verifier, "a password", Some(&secret("nonsense"))).await;
        assert_eq!(verdict, Verdict::Unusable);
        assert_eq!(verifier.computed(), 0);
    }

    #[tokio::test]
    async fn when_too_many_wait_the_next_hears_busy_and_whoever_was_right_is_still_let_in() {
        let verifier = Verifier::new().unwrap();
        let stored = hash(&secret("a password")).unwrap();
        ask(&verifier, "a password", Some(&stored)).await;

        let wrong: Vec<_> = (0..AT_ONCE + WAITING)
            .map(|_| Arc::clone(&verifier.0.admitted).try_acquire_owned())
            .collect();
        assert!(wrong.iter().all(Result::is_ok));
        assert_eq!(ask(&verifier, "wrong", Some(&stored)).await, Verdict::Busy);
        assert_eq!(ask(&verifier, "wrong", None).await, Verdict::Busy);
        assert_eq!(
            ask(&verifier, "a password", Some(&stored)).await,
            Verdict::Right
        );
        assert_eq!(verifier.computed(), 1);

        drop(wrong);
        assert_eq!(ask(&verifier, "wrong", Some(&stored)).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_flood_is_answered_busy_beyond_the_bound_and_computes_no_more_than_that() {
        let verifier = Verifier::new().unwrap();
        // All but a few of the places are taken.
        let places = Arc::clone(&verifier.0.admitted);
        let taken = u32::try_from(WAITING - 20).unwrap();
        let _taken = places.try_acquire_many(taken).unwrap();
        let guesses: Vec<String> = (0..AT_ONCE + 20 + 10).map(|n| n.to_string()).collect();
        let answers = join_all(guesses.iter().map(|guess| ask(&verifier, guess, None))).await;
        let busy = answers.iter().filter(|one| **one == Verdict::Busy).count();
        assert_eq!(busy, 10);
        assert_eq!(verifier.computed(), (AT_ONCE + 20) as u64);
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_its_place_and_the_bound_holds() {
        let verifier = Verifier::new().unwrap();
        for _ in 0..10 {
            // Polled once: it is being computed, and nobody waits for it.
            assert!(ask(&verifier, "wrong", None).now_or_never().is_none());
        }
        let free = Arc::clone(&verifier.0.computing);
        let _all = free
            .acquire_many(u32::try_from(AT_ONCE).unwrap())
            .await
            .unwrap();
        assert!(verifier.computed() <= AT_ONCE as u64);
        assert_eq!(verifier.0.admitted.available_permits(), AT_ONCE + WAITING);
    }

    #[tokio::test]
    async fn debug_shows_no_hash() {
        let verifier = Verifier::new().unwrap();
        assert_eq!(format!("{verifier:?}"), "Verifier { computed: 0, .. }");
    }
}
