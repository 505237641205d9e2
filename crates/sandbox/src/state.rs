//! The state both halves share: the scenario, the clock, the signing key, what was
//! revoked, and the log of what was refused and why.
//!
//! One lock, never held across an await. A change of the scenario is checked before it
//! becomes visible, so readers only ever see one that holds together.

#[cfg(test)]
pub(crate) mod testing;

mod log;
mod settling;
mod tally;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::jwt::{SigningKey, TokenProblem, shown};
use crate::scenario::{Effect, FaultPoint, Guid, Resource, Scenario, ScenarioError, TenantKind};

use settling::Settling;

pub use log::{Area, LogEntry, Outcome};
pub use tally::{Tally, TokenRequests};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Where randomness comes from.
pub trait Random: Send + Sync {
    /// Fills the whole buffer.
    fn fill(&self, octets: &mut [u8]);
}

/// The system's random source.
#[derive(Clone, Debug)]
pub struct SystemRandomness(SystemRandom);

impl Default for SystemRandomness {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Random for SystemRandomness {
    fn fill(&self, octets: &mut [u8]) {
        self.0.fill(octets).expect("the system has a random source");
    }
}

/// The sandbox's shared state; a cheap handle.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    authority: Url,
    key: Arc<SigningKey>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    world: Mutex<World>,
}

struct World {
    scenario: Arc<Scenario>,
    advanced: Duration,
    revoked: HashSet<String>,
    opaque: HashMap<String, Value>,
    log: VecDeque<LogEntry>,
    logged: u64,
    token_requests: TokenRequests,
    graph_requests: BTreeMap<String, u64>,
    settling: HashMap<String, Settling>,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        Self {
            scenario: Arc::new(scenario),
            advanced: Duration::ZERO,
            revoked: HashSet::new(),
            opaque: HashMap::new(),
            log: VecDeque::new(),
            logged: 0,
            token_requests: TokenRequests::default(),
            graph_requests: BTreeMap::new(),
            settling: HashMap::new(),
        }
    }
}

impl State {
    /// A state with this scenario. `authority` is where Entra ID listens.
    pub fn new(
        scenario: Scenario,
        authority: Url,
        key: Arc<SigningKey>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let now = Timestamp::try_from(clock.now()).unwrap_or(Timestamp::MAX);
        let world = World::new(scenario.begun(now));
        Self {
            inner: Arc::new(Inner {
                authority,
                key,
                clock,
                random,
                world: Mutex::new(world),
            }),
        }
    }

    /// Where Entra ID listens, `https://localhost:PORT/`.
    pub fn authority(&self) -> &Url {
        &self.inner.authority
    }

    /// The scenario as it stands; a snapshot.
    pub fn scenario(&self) -> Arc<Scenario> {
        Arc::clone(&self.world().scenario)
    }

    /// Changes the scenario, wholly or not at all.
    ///
    /// # Errors
    /// What the changed scenario contradicts; the old one then stays.
    pub fn change(&self, change: impl FnOnce(&mut Scenario)) -> Result<(), ScenarioError> {
        self.try_change(|current| {
            let mut changed = current.clone();
            change(&mut changed);
            Ok(changed)
        })
        .map(|_| ())
    }

    /// The same with a change that may fail; the scenario before and after.
    pub(crate) fn try_change<E: From<ScenarioError>>(
        &self,
        change: impl FnOnce(&Scenario) -> Result<Scenario, E>,
    ) -> Result<(Arc<Scenario>, Arc<Scenario>), E> {
        let now = self.now();
        let mut world = self.world();
        let changed = Arc::new(change(&world.scenario)?.completed()?.begun(now));
        let before = std::mem::replace(&mut world.scenario, Arc::clone(&changed));
        Ok((before, changed))
    }

    /// Begins anew with this scenario.
    pub(crate) fn reset(&self, scenario: Scenario) -> Result<(), ScenarioError> {
        let scenario = scenario.completed()?;
        let now = Timestamp::try_from(self.inner.clock.now()).unwrap_or(Timestamp::MAX);
        *self.world() = World::new(scenario.begun(now));
        Ok(())
    }

    /// The time now: the clock's, moved by [`State::advance`].
    pub fn now(&self) -> Timestamp {
        let advanced = self.world().advanced;
        Timestamp::try_from(self.inner.clock.now() + advanced).unwrap_or(Timestamp::MAX)
    }

    /// Moves the sandbox's time forward.
    pub fn advance(&self, by: Duration) {
        let mut world = self.world();
        world.advanced = world.advanced.saturating_add(by).min(LONGEST_ADVANCE);
    }

    /// The effect of the first fault set for this point and subject (a user, address or
    /// client id), counted as having struck once.
    pub fn take_fault(&self, at: FaultPoint, subject: &str) -> Option<Effect> {
        let now = self.now();
        let mut world = self.world();
        let faults = &world.scenario.faults;
        let index = faults.iter().position(|f| f.strikes(at, subject, now))?;
        let fault = &mut Arc::make_mut(&mut world.scenario).faults[index];
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.effect.clone())
    }

    /// Checks an access token for a service: signature, issuer, times, audience, revocation.
    ///
    /// What its scopes and roles allow is for the service.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_token(&self, token: &str, resource: Resource) -> Result<Claims, TokenProblem> {
        let opaque = self.world().opaque.get(token).cloned();
        let claims = match opaque {
            Some(claims) => claims,
            None => self.inner.key.verify(token)?,
        };
        let claims: Claims = serde_json::from_value(claims).map_err(|_| TokenProblem::Malformed)?;
        let known = self
            .scenario()
            .tenants
            .iter()
            .any(|t| t.id == *claims.tid && claims.iss == issuer_v1(&t.id));
        if !known {
            return Err(TokenProblem::Issuer(shown(&claims.iss)));
        }
        let now = self.now().as_second();
        // Two machines' clocks differ a little; here it is one clock, so no leeway.
        if claims.nbf > now {
            return Err(TokenProblem::NotYet(
                Timestamp::from_second(claims.nbf).unwrap_or(Timestamp::MAX),
            ));
        }
        if claims.exp <= now {
            return Err(TokenProblem::Expired(
                Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MIN),
            ));
        }
        if Resource::identified(&claims.aud) != Some(resource) {
            let expected = resource.identifiers()[0].to_owned();
            return Err(TokenProblem::Audience {
                found: shown(&claims.aud),
                expected,
            });
        }
        if self.world().revoked.contains(&claims.uti) {
            return Err(TokenProblem::Revoked);
        }
        Ok(claims)
    }

    /// Octets from the random source.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        self.inner.random.fill(&mut octets);
        octets
    }

    /// A random number below `bound`, which is not 0. The bias is far below what a test sees.
    pub(crate) fn random_below(&self, bound: u64) -> u64 {
        u64::from_le_bytes(self.random()) % bound
    }

    /// An unguessable name in URL-safe characters.
    pub(crate) fn handle(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.random::<32>())
    }

    /// A random GUID.
    pub(crate) fn guid(&self) -> Guid {
        Guid::from_octets(self.random())
    }

    /// The key tokens are signed with.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.inner.key
    }

    /// Signs an access token; a personal account's becomes opaque.
    pub(crate) fn sign_access_token(&self, claims: &Claims, kind: TenantKind) -> String {
        let claims = serde_json::to_value(claims).expect("claims are texts and numbers");
        match kind {
            TenantKind::Organization => self.inner.key.sign(&claims),
            TenantKind::Consumers => {
                let token = format!("EwB{}{}", self.handle(), self.handle());
                self.world().opaque.insert(token.clone(), claims);
                token
            }
        }
    }

    /// Makes access tokens with these `uti` fail from now on.
    pub(crate) fn revoke_access_tokens(&self, ids: impl IntoIterator<Item = String>) {
        self.world().revoked.extend(ids);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.inner
            .world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twenty years: time moved further than any certificate or token lives proves nothing.
const LONGEST_ADVANCE: Duration = Duration::from_hours(20 * 366 * 24);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("authority", &self.inner.authority.as_str())
            .finish_non_exhaustive()
    }
}

/// The issuer of version 1 tokens, which Outlook's are.
pub(crate) fn issuer_v1(tenant: &Guid) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// The claims of an access token, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The service, as the client named it.
    pub aud: String,
    /// `https://sts.windows.net/{tid}/`
    pub iss: String,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Not valid before.
    pub nbf: i64,
    /// Expires.
    pub exp: i64,
    /// The client.
    pub appid: String,
    /// How the client proved itself: "0" public, "1" secret, "2" certificate.
    pub appidacr: String,
    /// The user; without one, the service principal.
    pub oid: String,
    /// Application permissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Delegated permissions, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scp: Option<String>,
    /// Subject: pairwise for users.
    pub sub: String,
    /// Tenant id.
    pub tid: String,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_name: Option<String>,
    /// The user's principal name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upn: Option<String>,
    /// The token's own id.
    pub uti: String,
    /// "1.0"
    pub ver: String,
    /// Templates of the user's directory roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wids: Vec<String>,
}

impl Claims {
    /// Whether a delegated permission was granted.
    pub fn has_scope(&self, name: &str) -> bool {
        self.scp
            .as_deref()
            .is_some_and(|scp| scp.split(' ').any(|s| s == name))
    }

    /// Whether an application permission was granted.
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|r| r == name)
    }

    /// Whether the token stands for an app alone, with no user.
    pub fn is_app_only(&self) -> bool {
        self.scp.is_none() && self.upn.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::scenario::{Fault, Span};

    #[test]
    fn a_token_is_good_for_its_service_until_it_expires_or_is_revoked() {
        let state = state(Scenario::default());
        let claims = delegated_claims(&state);
        let token = token(&state, &claims);

        assert_eq!(
            state.verify_token(&token, Resource::Exchange),
            Ok(claims.clone())
        );
        assert!(
            claims.has_scope("SMTP.Send") && !claims.has_scope("SMTP") && !claims.is_app_only()
        );
        assert!(matches!(
            state.verify_token(&token, Resource::Graph),
            Err(TokenProblem::Audience { .. })
        ));

        state.advance(Duration::from_secs(3_599));
        assert!(state.verify_token(&token, Resource::Exchange).is_ok());
        state.advance(Duration::from_secs(1));
        assert!(matches!(
            state.verify_token(&token, Resource::Exchange),
            Err(TokenProblem::Expired(_))
        ));
    }

    #[test]
    fn revoked_foreign_and_future_tokens_are_refused() {
        let state = state(Scenario::default());
        let good = delegated_claims(&state);
        let verdict =
            |claims: &Claims| state.verify_token(&token(&state, claims), Resource::Exchange);

        let early = Claims {
            nbf: good.nbf + 1,
            ..good.clone()
        };
        assert!(matches!(verdict(&early), Err(TokenProblem::NotYet(_))));
        let foreign = Claims {
            iss: "https://issuer.example/".to_owned(),
            ..good.clone()
        };
        assert!(matches!(verdict(&foreign), Err(TokenProblem::Issuer(_))));
        state.revoke_access_tokens([good.uti.clone()]);
        assert_eq!(verdict(&good), Err(TokenProblem::Revoked));
    }

    #[test]
    fn a_personal_accounts_token_is_opaque_and_works() {
        let state = state(Scenario::default());
        let claims = delegated_claims(&state);
        let token = state.sign_access_token(&claims, TenantKind::Consumers);
        assert!(token.starts_with("EwB") && !token.contains('.'));
        assert_eq!(state.verify_token(&token, Resource::Exchange), Ok(claims));
    }

    #[test]
    fn a_change_that_contradicts_itself_leaves_everything_as_it_was() {
        let state = state(Scenario::default());
        let before = state.scenario();
        let refused = state.change(|s| {
            s.users.clear();
            s.limits.connections = 9;
        });
        assert!(refused.is_err());
        assert_eq!(state.scenario(), before);
        state.change(|s| s.limits.connections = 9).unwrap();
        assert_eq!(state.scenario().limits.connections, 9);
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says_and_only_whom_it_names() {
        let state = state(Scenario::default());
        let fault = |only_for: Option<&str>, times| Fault {
            only_for: only_for.map(str::to_owned),
            times,
            ..Fault::new(FaultPoint::SmtpAuth, Effect::Close)
        };
        state
            .change(|s| s.faults = vec![fault(Some("A@contoso.com"), None), fault(None, Some(1))])
            .unwrap();

        assert_eq!(
            state.take_fault(FaultPoint::SmtpMail, "b@contoso.com"),
            None
        );
        assert_eq!(
            state.take_fault(FaultPoint::SmtpAuth, "b@contoso.com"),
            Some(Effect::Close)
        );
        assert_eq!(
            state.take_fault(FaultPoint::SmtpAuth, "b@contoso.com"),
            None
        );
        for _ in 0..3 {
            assert_eq!(
                state.take_fault(FaultPoint::SmtpAuth, "a@contoso.com"),
                Some(Effect::Close)
            );
        }
    }

    #[test]
    fn a_fault_lasts_from_when_it_is_taken_on() {
        let brief = || Fault {
            lasts: Some(Span::minutes(10)),
            ..Fault::new(FaultPoint::Token, Effect::Close)
        };
        let state = state(Scenario {
            faults: vec![brief()],
            ..Scenario::default()
        });
        let strikes = || state.take_fault(FaultPoint::Token, "").is_some();
        let minutes = |n| state.advance(Duration::from_mins(n));
        assert!(strikes());
        minutes(9);
        assert!(strikes());
        // Another change does not begin it anew, and what is saved says when it ends.
        state.change(|s| s.limits.connections = 9).unwrap();
        assert_eq!(
            state.scenario().faults[0].until.unwrap().to_string(),
            "2026-01-01T00:10:00Z"
        );
        minutes(1);
        assert!(!strikes());

        state.change(|s| s.faults.push(brief())).unwrap();
        assert!(strikes());
        minutes(10);
        assert!(!strikes());
    }
}
