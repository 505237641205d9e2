//! Entra ID: discovery, keys, sign-in pages, consent, device codes and tokens, over HTTPS.
//!
//! Nothing is granted that a real directory would refuse for a reason this one models:
//! redirects, proof keys, client proofs, consent and lifetimes are really checked. Each
//! refusal goes to the log with the reason the wire does not carry.
//!
//! Not here: what a token is good for at Exchange.

mod aadsts;
mod answer;
mod authorize;
mod client;
mod device;
mod direct;
mod discovery;
mod form;
mod issue;
mod listener;
mod pages;
mod redirect;
mod scope;
mod sign_in;
mod store;
mod token;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::jwt::shown;
use crate::scenario::{Effect, FaultPoint, Guid, HttpAnswer, Scenario, TenantKind};
use crate::state::{Area, Outcome, State};

use aadsts::Aadsts;
use store::Store;

pub(crate) use listener::TlsListener;

/// Largest request body. A token request with an assertion is a few thousand octets.
const MAX_BODY_OCTETS: usize = 256 * 1024;

/// Entra ID; a cheap handle.
#[derive(Clone)]
pub(crate) struct Entra {
    pub(crate) state: State,
    store: Arc<Mutex<Store>>,
    /// Changes, or loses its sender, when the sandbox stops.
    stopping: watch::Receiver<()>,
}

/// What a fault of the scenario makes of a request.
pub(crate) enum Strike {
    /// Nothing, or nothing any more.
    None,
    /// This answer instead of the usual one.
    Answer(Response),
    /// Everything as usual, and then no answer.
    LoseReply,
}

impl Entra {
    /// Entra ID over this state, until `stopping` says so.
    pub(crate) fn new(state: State, stopping: watch::Receiver<()>) -> Self {
        Self {
            state,
            store: Arc::default(),
            stopping,
        }
    }

    /// Everything it serves.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route(
                "/{tenant}/v2.0/.well-known/openid-configuration",
                get(discovery::configuration),
            )
            .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys))
            .route(
                "/{tenant}/oauth2/v2.0/authorize",
                get(authorize::by_query).post(authorize::by_form),
            )
            .route("/{tenant}/v2.0/adminconsent", get(authorize::admin_consent))
            .route("/{tenant}/oauth2/v2.0/token", post(token::token))
            .route(
                "/{tenant}/oauth2/v2.0/devicecode",
                post(device::device_code),
            )
            .route("/{tenant}/oauth2/v2.0/logout", get(sign_in::logout))
            .route("/device", get(device::page).post(device::enter))
            .route("/sign-in", post(sign_in::next))
            .route(
                "/oidc/userinfo",
                get(discovery::userinfo).post(discovery::userinfo),
            )
            .route("/error", get(pages::about_error))
            .route("/", get(pages::front))
            .fallback(pages::not_found)
            .layer(DefaultBodyLimit::max(MAX_BODY_OCTETS))
            .with_state(self.clone())
    }

    /// The URL of a path below the authority.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.state.authority())
    }

    /// The issuer of ID tokens.
    pub(crate) fn issuer_v2(&self, tenant: &Guid) -> String {
        self.url(&format!("{tenant}/v2.0"))
    }

    /// Revokes what a user or an app holds: refresh tokens, and access tokens too if asked.
    /// Only those of public clients, as a change of password does, or all.
    pub(crate) fn revoke(&self, whose: &Revocation) -> usize {
        let mut store = self.store();
        let user = |id: &Guid| whose.user.as_ref().is_none_or(|u| u == id);
        let client = |id: &Guid| whose.client.as_ref().is_none_or(|c| c == id);
        let mut count = store.revoke(|r| {
            user(&r.grant.user)
                && client(&r.grant.client)
                && (r.public_client || !whose.public_clients_only)
        });
        if whose.access_tokens {
            let same = |guid: Option<&Guid>, text: &str| guid.is_none_or(|g| *g == *text);
            let ids: Vec<String> = store
                .issued
                .iter()
                .filter(|i| {
                    same(whose.user.as_ref(), &i.subject) && same(whose.client.as_ref(), &i.client)
                })
                .map(|i| i.uti.clone())
                .collect();
            count += ids.len();
            drop(store);
            self.state.revoke_access_tokens(ids);
        }
        count
    }

    /// Nobody has signed in and nothing is issued.
    pub(crate) fn forget(&self) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Store::default();
    }

    /// What Entra remembers, tidied.
    fn store(&self) -> MutexGuard<'_, Store> {
        let now = self.state.now();
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.tidy(now);
        store
    }

    /// Whether an assertion's audience is the token endpoint of this path's tenant, under
    /// whichever of its names.
    fn is_token_endpoint(&self, audience: &str, path: &TenantPath) -> bool {
        let scenario = self.state.scenario();
        audience
            .strip_prefix(self.state.authority().as_str())
            .and_then(|rest| rest.strip_suffix("/oauth2/v2.0/token"))
            .is_some_and(|segment| {
                TenantPath::resolve(&scenario, segment).is_ok_and(|p| p == *path)
            })
    }

    /// The answer a fault of the scenario gives instead of the usual one.
    async fn fault(
        &self,
        at: FaultPoint,
        client_id: &str,
        headers: &HeaderMap,
    ) -> Option<Response> {
        match self.strike(at, client_id, headers).await {
            Strike::Answer(response) => Some(response),
            Strike::None | Strike::LoseReply => None,
        }
    }

    /// What a fault of the scenario does to this request.
    pub(crate) async fn strike(
        &self,
        at: FaultPoint,
        client_id: &str,
        headers: &HeaderMap,
    ) -> Strike {
        let Some(effect) = self.state.take_fault(at, client_id) else {
            return Strike::None;
        };
        self.state.log(
            Area::Entra,
            format!("{at:?}"),
            shown(client_id),
            Outcome::Refused,
            format!("a fault of the scenario: {effect:?}"),
        );
        match effect {
            Effect::Delay(span) => {
                tokio::select! {
                    () = tokio::time::sleep(span.duration()) => Strike::None,
                    () = self.stopped() => Strike::Answer(nothing()),
                }
            }
            Effect::Hang => {
                self.stopped().await;
                Strike::Answer(nothing())
            }
            Effect::Aadsts(error) => {
                Strike::Answer(answer::error(self, headers, &Aadsts::of_fault(error)))
            }
            Effect::Http(answer) => Strike::Answer(bare(answer)),
            Effect::LoseReply => Strike::LoseReply,
            _ => Strike::Answer(nothing()),
        }
    }

    /// Waits for the end of the sandbox.
    async fn stopped(&self) {
        // A sender that is gone says it too.
        let _ = self.stopping.clone().changed().await;
    }

    fn log_refusal(&self, what: &str, client_id: &str, error: &Aadsts) {
        let why = match &error.why {
            Some(why) => format!("{error} ({why})"),
            None => error.to_string(),
        };
        self.state.log(
            Area::Entra,
            shown(what),
            shown(client_id),
            Outcome::Refused,
            why,
        );
    }
}

/// What a revocation strikes.
#[derive(Default)]
pub(crate) struct Revocation {
    pub(crate) user: Option<Guid>,
    pub(crate) client: Option<Guid>,
    pub(crate) access_tokens: bool,
    pub(crate) public_clients_only: bool,
}

/// No answer: a body that fails before its first octet, whereupon the server drops the
/// connection.
pub(crate) fn nothing() -> Response {
    Response::new(Body::from_stream(futures_util::stream::once(async {
        Err::<&[u8], _>(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
    })))
}

fn bare(answer: HttpAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(header::CONTENT_TYPE, answer.content_type)];
    let mut response = (status, kind, answer.body).into_response();
    if let Some(seconds) = answer.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The tenant a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TenantPath {
    /// One, by id or domain.
    Tenant(Guid),
    /// Any account.
    Common,
    /// Any work or school account.
    Organizations,
    /// Personal accounts.
    Consumers,
}

/// The tenant all personal accounts are in.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

impl TenantPath {
    /// What a path's first segment means.
    pub(crate) fn resolve(scenario: &Scenario, segment: &str) -> Result<Self, Aadsts> {
        match segment {
            "common" => Ok(Self::Common),
            "organizations" => Ok(Self::Organizations),
            "consumers" | CONSUMERS => Ok(Self::Consumers),
            _ => scenario
                .tenant(segment)
                .map(|tenant| Self::Tenant(tenant.id.clone()))
                .ok_or_else(|| Aadsts::new(90_002, &[segment])),
        }
    }

    /// Whether accounts of this tenant may sign in here.
    pub(crate) fn admits(&self, tenant: &crate::scenario::Tenant) -> bool {
        match self {
            Self::Tenant(id) => tenant.id == *id,
            Self::Common => true,
            Self::Organizations => tenant.kind == TenantKind::Organization,
            Self::Consumers => tenant.kind == TenantKind::Consumers,
        }
    }

    /// Its name in messages.
    pub(crate) fn display(&self, scenario: &Scenario) -> String {
        match self {
            Self::Tenant(id) => scenario
                .tenant(id.as_str())
                .map_or_else(|| id.to_string(), |t| t.name.clone()),
            Self::Common => "common".to_owned(),
            Self::Organizations => "organizations".to_owned(),
            Self::Consumers => "consumers".to_owned(),
        }
    }
}
