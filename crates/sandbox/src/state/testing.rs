//! A state for the crate's unit tests: the default scenario, a clock that stands still
//! unless advanced, one signing key for all.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use super::{Claims, Clock, State, SystemRandomness, issuer_v1};
use crate::scenario::{Scenario, TenantKind};

/// Stands at 2026-01-01T00:00:00Z.
pub(crate) struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> SystemTime {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().into()
    }
}

/// A state with this scenario.
pub(crate) fn state(scenario: Scenario) -> State {
    let authority = "https://localhost:4433/".parse().unwrap();
    State::new(
        scenario,
        authority,
        crate::jwt::tests::test_key(),
        Arc::new(StandingClock),
        Arc::new(SystemRandomness::default()),
    )
}

/// Claims that Exchange accepts for svc-mail, for an hour from now; change what the test is about.
pub(crate) fn delegated_claims(state: &State) -> Claims {
    let scenario = state.scenario();
    let tenant = &scenario.tenants[0];
    let user = scenario.user("svc-mail@contoso.com").unwrap();
    let now = state.now().as_second();
    Claims {
        aud: "https://outlook.office.com".to_owned(),
        iss: issuer_v1(&tenant.id),
        iat: now,
        nbf: now,
        exp: now + 3_600,
        appid: scenario.apps[1].client_id.to_string(),
        appidacr: "0".to_owned(),
        oid: user.object_id.to_string(),
        roles: Vec::new(),
        scp: Some("SMTP.Send".to_owned()),
        sub: "pairwise".to_owned(),
        tid: tenant.id.to_string(),
        unique_name: Some(user.upn.clone()),
        upn: Some(user.upn.clone()),
        uti: state.handle(),
        ver: "1.0".to_owned(),
        wids: Vec::new(),
    }
}

/// The same for the default scenario's daemon, with no user.
pub(crate) fn app_only_claims(state: &State) -> Claims {
    let app = state.scenario().apps[0].clone();
    Claims {
        aud: "https://outlook.office365.com".to_owned(),
        appid: app.client_id.to_string(),
        appidacr: "1".to_owned(),
        oid: app.object_id.to_string(),
        roles: vec!["SMTP.SendAsApp".to_owned()],
        scp: None,
        unique_name: None,
        upn: None,
        ..delegated_claims(state)
    }
}

/// Signs claims as Entra would.
pub(crate) fn token(state: &State, claims: &Claims) -> String {
    state.sign_access_token(claims, TenantKind::Organization)
}
