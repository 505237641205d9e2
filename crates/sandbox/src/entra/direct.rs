//! A sign-in without a browser: for programs that need a person who agrees to everything.
//!
//! The same is checked as for a browser, in the same order; only the pages are skipped.

use axum::http::{HeaderMap, header};
use jiff::SignedDuration;
use url::Url;

use super::form::Form;
use super::store::{Purpose, SignIn};
use super::{Entra, authorize, sign_in};

/// More than a person needs who does not think about it.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

impl Entra {
    /// Where the browser of `upn` lands that opens `url`, an address of the authorization endpoint.
    ///
    /// # Errors
    /// What keeps the person from signing in, in Entra's words.
    pub(crate) fn sign_in(&self, url: &Url, upn: &str) -> Result<Url, String> {
        let tenant = url
            .path()
            .trim_start_matches('/')
            .strip_suffix("/oauth2/v2.0/authorize")
            .ok_or_else(|| format!("{} is no authorization endpoint", url.path()))?;
        let scenario = self.state.scenario();
        let request = Form::from_query(url.query())
            .and_then(|form| authorize::checked(&scenario, tenant, &form))
            .map_err(|error| error.to_string())?;
        let user = scenario
            .user(upn)
            .ok_or_else(|| format!("there is no user {upn}"))?;
        let now = self.state.now();
        let sign_in = SignIn {
            purpose: Purpose::Authorize(Box::new(request)),
            browser: self.state.handle(),
            user: Some(user.object_id.clone()),
            mfa: true,
            expires: now.saturating_add(PATIENCE).unwrap_or(now),
        };
        let response = sign_in::agreed(self, &HeaderMap::new(), &sign_in)
            .map_err(|error| error.to_string())?;
        let location = response.headers().get(header::LOCATION);
        location
            .and_then(|location| Url::parse(location.to_str().ok()?).ok())
            .ok_or_else(|| "the sign-in ended on a page".to_owned())
    }
}
