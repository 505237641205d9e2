//! Who gets in, and for how long.

use std::sync::Arc;

use postrider_smtp::server::ServerReply;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::Session;
use crate::backend::{Decision, Refusal};
use crate::credential::Verdict;
use crate::event::Event;
use crate::rehearsal;
use crate::settings::Policy;
use crate::sign_in::{self, Attempt};
use crate::tarpit::FAILURES_PER_CONNECTION;

/// A device whose password was right.
pub(super) struct SignedIn {
    /// What it may.
    pub(super) policy: Arc<Policy>,
    /// The password's hash: it is signed in for as long as this is the one that is stored.
    pub(super) hash: SecretString,
}

impl Session {
    /// A name and a password: right, or as wrong as any other.
    pub(super) async fn sign_in(&mut self, attempt: Attempt) -> ServerReply {
        let came = Instant::now();
        let Attempt {
            name,
            password,
            mechanism,
        } = attempt;
        let house = Arc::clone(&self.house);
        let stored = match house.backend.credential(&house.name, &name).await {
            Ok(stored) => stored,
            Err(refusal) => return refusal.reply(),
        };
        // What nobody has may be anything, a password among others.
        let known = stored.is_some().then(|| name.clone());
        let verdict = house
            .verifier
            .verify(&house.name, &name, &password, stored.as_ref())
            .await;
        let hash = match (verdict, stored) {
            (Verdict::Right, Some(hash)) => hash,
            (Verdict::Right | Verdict::Wrong, _) => {
                return self.failed(came, known, mechanism, None).await;
            }
            (Verdict::Busy, _) => {
                let why = "too many passwords wait to be verified";
                return self.not_verified(known, mechanism, why);
            }
            (Verdict::Unusable, _) => {
                let why = "what is stored for it is no hash that is computed here: give it another";
                return self.not_verified(known, mechanism, why);
            }
        };
        let current = Arc::clone(&self.current);
        let policy = current.settings.policy(&name);
        if !policy.allows_client(self.arrival.client) {
            let why = "the device may not come from this address".to_owned();
            return self.failed(came, known, mechanism, Some(why)).await;
        }
        let mut arrival = self.arrival.clone();
        arrival.device = Some(name.clone());
        arrival.mechanism = mechanism;
        let rehearse = current.settings.rehearse.as_ref();
        if rehearse.is_some_and(|rehearse| rehearse.concerns(&name, house.backend.now())) {
            let refusal = rehearsal::refusal();
            let reply = refusal.reply();
            house.tell(Event::Rehearsed { arrival, refusal });
            return reply;
        }
        match house.backend.on_auth(&arrival).await {
            Ok(Decision::Refuse(why)) => {
                return self.failed(came, known, mechanism, Some(why)).await;
            }
            Ok(_) => {}
            Err(refusal) => return refusal.reply(),
        }
        let policy = Arc::new(policy.clone());
        self.signed_in = Some(SignedIn { policy, hash });
        self.arrival = arrival;
        self.failures = 0;
        house.tell(Event::SignedIn {
            arrival: self.arrival.clone(),
        });
        ServerReply::new(235, "2.7.0 authentication successful")
    }

    /// The answer to whoever may not come in, a while after it `came`: how long it was looked up,
    /// computed and decided, which could tell a name from none, does not show.
    pub(super) async fn failed(
        &mut self,
        came: Instant,
        device: Option<String>,
        mechanism: &'static str,
        why: Option<String>,
    ) -> ServerReply {
        self.failures += 1;
        let mut refusal = sign_in::wrong();
        if self.failures >= FAILURES_PER_CONNECTION {
            refusal = Refusal::new(421, "4.7.0", "too many failed sign-ins").closing();
        }
        self.tell_failed(device, mechanism, refusal.clone(), why);
        let (tarpit, client) = (&self.house.tarpit, self.arrival.client);
        let wait = tarpit.failed(client, Instant::now());
        tokio::time::sleep_until(came + wait).await;
        refusal.reply()
    }

    /// The answer to whoever's password nobody has looked at.
    fn not_verified(
        &self,
        device: Option<String>,
        mechanism: &'static str,
        why: &str,
    ) -> ServerReply {
        let text = "the password cannot be looked at now, try again later";
        let refusal = Refusal::new(454, "4.7.0", text);
        let reply = refusal.reply();
        self.tell_failed(device, mechanism, refusal, Some(why.to_owned()));
        reply
    }

    fn tell_failed(
        &self,
        device: Option<String>,
        mechanism: &'static str,
        refusal: Refusal,
        why: Option<String>,
    ) {
        let mut arrival = self.arrival.clone();
        (arrival.device, arrival.mechanism) = (device, mechanism);
        self.house.tell(Event::AuthFailed {
            arrival,
            refusal,
            why,
        });
    }

    /// Sends a device away whose password is no longer the one that it signed in with.
    pub(super) async fn check_stored(&self, hash: &SecretString) -> Result<(), Refusal> {
        let (gateway, device) = (&self.house.name, self.arrival.device());
        let stored = self.house.backend.credential(gateway, device).await?;
        if stored.is_some_and(|stored| stored.expose_secret() == hash.expose_secret()) {
            return Ok(());
        }
        let text = "your password was changed or taken away: sign in again";
        Err(Refusal::new(421, "4.7.0", text).closing())
    }
}
