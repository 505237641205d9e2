//! How many token requests there were: for tests of clients that must not ask too often.

use std::collections::BTreeMap;

use serde::Serialize;

use super::State;

/// Token requests by grant type, since the start or the last [`State::clear_token_requests`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenRequests {
    /// Codes redeemed after a sign-in in a browser.
    pub authorization_code: Tally,
    /// Refresh tokens redeemed.
    pub refresh_token: Tally,
    /// Applications on their own.
    pub client_credentials: Tally,
    /// Polls of devices.
    pub device_code: Tally,
    /// Any other grant type, and none.
    pub other: Tally,
}

/// How many requests, and what became of them. Those still without an answer are in
/// `requests` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All that arrived.
    pub requests: u64,
    /// Tokens were issued.
    pub granted: u64,
    /// Refused for a reason of the request's own.
    pub refused: u64,
    /// Answered or cut off by a fault of the scenario. One that loses the reply counts here,
    /// and as granted or refused too.
    pub faults: u64,
}

impl State {
    /// How many requests Graph had, by call: `POST applications/{id}/addPassword`.
    pub fn graph_requests(&self) -> BTreeMap<String, u64> {
        self.world().graph_requests.clone()
    }

    /// Counts them from zero again.
    pub fn clear_graph_requests(&self) {
        self.world().graph_requests.clear();
    }

    /// Counts one request to Graph.
    pub(crate) fn tally_graph(&self, call: &str) {
        *self
            .world()
            .graph_requests
            .entry(call.to_owned())
            .or_default() += 1;
    }

    /// How many token requests there were.
    pub fn token_requests(&self) -> TokenRequests {
        self.world().token_requests
    }

    /// Counts them from zero again.
    pub fn clear_token_requests(&self) {
        self.world().token_requests = TokenRequests::default();
    }

    /// Counts something about a request of this grant type.
    pub(crate) fn tally(&self, grant_type: &str, count: impl FnOnce(&mut Tally)) {
        count(self.world().token_requests.of(grant_type));
    }
}

impl TokenRequests {
    /// The tally of a grant type, as a client names it.
    fn of(&mut self, grant_type: &str) -> &mut Tally {
        match grant_type {
            "authorization_code" => &mut self.authorization_code,
            "refresh_token" => &mut self.refresh_token,
            "client_credentials" => &mut self.client_credentials,
            "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => &mut self.device_code,
            _ => &mut self.other,
        }
    }
}
