//! What the tests of several modules begin with.

use std::time::Duration;

use crate::journal::Known;
use crate::plan::Tenant;
use crate::wanted::{AppChoice, Cloud, CredentialKind, Flow, Wanted};

pub(crate) const SECRET: CredentialKind = CredentialKind::Secret {
    lifetime: Duration::from_hours(24 * 365),
};

pub(crate) fn wanted(flow: Flow, credential: CredentialKind) -> Wanted {
    Wanted {
        account: "alerts".to_owned(),
        username: "svc-mail@contoso.com".to_owned(),
        sender: None,
        on_behalf: false,
        flow,
        credential,
        cloud: Cloud::Global,
        app: AppChoice::of_account("alerts"),
        own_renewal: false,
        roles_in_token: None,
        known: Known::default(),
        renewing: false,
        now: "2026-11-23T10:00:00Z".parse().unwrap(),
    }
}

pub(crate) fn tenant() -> Tenant {
    Tenant {
        id: "5f0e1d2c-0000-4000-8000-000000000001".to_owned(),
        name: "Contoso".to_owned(),
        domains: vec!["contoso.com".to_owned()],
    }
}
