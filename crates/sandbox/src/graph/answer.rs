//! Graph's answers: JSON, and errors in one shape (facts C3).

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::inbox::Delivery;
use crate::jwt::shown;
use crate::scenario::{Guid, ScenarioError};
use crate::state::State;

/// A good answer.
pub(super) enum Answer {
    /// 200
    Found(Value),
    /// 201
    Made(Value),
    /// 204
    Done,
    /// 202
    Accepted,
    /// To be delivered, then 202.
    Send(Box<Delivery>),
}

impl Answer {
    pub(super) fn into_response(self, state: &State, headers: &HeaderMap) -> Response {
        let ids = Ids::new(state, headers);
        match self {
            Self::Found(value) => ids.json(StatusCode::OK, &value),
            Self::Made(value) => ids.json(StatusCode::CREATED, &value),
            Self::Done => ids.on(StatusCode::NO_CONTENT.into_response()),
            Self::Accepted | Self::Send(_) => ids.on(StatusCode::ACCEPTED.into_response()),
        }
    }
}

/// Why a call is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// What the log says and the wire does not.
    why: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            why: None,
        }
    }

    /// The token does not let anybody in.
    pub(super) fn token(why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "InvalidAuthenticationToken",
                "Access token validation failure.",
            )
        }
    }

    /// The token lets somebody in who may not do this; facts C3.
    pub(super) fn denied(why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..Self::new(
                StatusCode::FORBIDDEN,
                "Authorization_RequestDenied",
                "Insufficient privileges to complete the operation.",
            )
        }
    }

    /// There is no such object, or not yet.
    pub(super) fn missing(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Request_ResourceNotFound",
            format!(
                "Resource '{}' does not exist or one of its queried reference-property objects are not present.",
                shown(id)
            ),
        )
    }

    /// The request makes no sense.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Request_BadRequest", message)
    }

    /// There is one already.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "Request_MultipleObjectsWithSameKeyValue",
            message,
        )
    }

    /// The tenant's policy for apps says no.
    pub(super) fn policy(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "CredentialTypeNotAllowedAsPerAppPolicy",
            message,
        )
    }

    /// A code of facts C3 about mail.
    pub(super) fn mail(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self::new(status, code, message)
    }

    /// With the reason that only the log tells.
    pub(super) fn because(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    pub(super) fn no_such_call() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "This sandbox does not serve the call.",
        )
    }

    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "The service is temporarily unavailable.",
            )
        }
    }

    pub(super) fn into_response(self, state: &State, headers: &HeaderMap) -> Response {
        let ids = Ids::new(state, headers);
        let body = json!({
            "error": {
                "code": self.code,
                "message": self.message,
                "innerError": {
                    "date": state.now().strftime("%Y-%m-%dT%H:%M:%S").to_string(),
                    "request-id": ids.request,
                    "client-request-id": ids.client,
                }
            }
        });
        let mut response = ids.json(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.code)?;
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => write!(f, ": {}", self.message),
        }
    }
}

impl From<ScenarioError> for Refusal {
    fn from(error: ScenarioError) -> Self {
        Self::bad(error.problems.join("; "))
    }
}

/// What every answer is known by.
struct Ids {
    request: Guid,
    client: Guid,
}

impl Ids {
    fn new(state: &State, headers: &HeaderMap) -> Self {
        let request = state.guid();
        let client = headers
            .get("client-request-id")
            .and_then(|value| value.to_str().ok())
            .and_then(Guid::parse);
        Self {
            client: client.unwrap_or_else(|| request.clone()),
            request,
        }
    }

    fn json(&self, status: StatusCode, value: &Value) -> Response {
        let kind = [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        )];
        self.on((status, kind, value.to_string()).into_response())
    }

    fn on(&self, mut response: Response) -> Response {
        for (name, id) in [
            ("request-id", &self.request),
            ("client-request-id", &self.client),
        ] {
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static(name), value);
            }
        }
        let fixed = [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        for (name, value) in fixed {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
