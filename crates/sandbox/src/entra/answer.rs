//! Answers of the token endpoint's kind: JSON, never cached.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::scenario::Guid;

use super::Entra;
use super::aadsts::Aadsts;

/// A good answer.
pub(crate) fn json(value: &Value) -> Response {
    with_status(StatusCode::OK, value)
}

/// An error, as Entra words it.
pub(crate) fn error(entra: &Entra, headers: &HeaderMap, error: &Aadsts) -> Response {
    let trailer = Trailer::new(entra, headers);
    let mut body = json!({
        "error": error.error,
        "error_description": trailer.describe(error),
        "error_codes": [error.code],
        "timestamp": trailer.timestamp,
        "trace_id": trailer.trace,
        "correlation_id": trailer.correlation,
        "error_uri": error_uri(entra, error),
    });
    if let Some(suberror) = &error.suberror {
        body["suberror"] = suberror.as_ref().into();
    }
    if let Some(claims) = &error.claims {
        body["claims"] = claims.as_ref().into();
    }
    with_status(
        StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST),
        &body,
    )
}

/// What every error ends with.
pub(crate) struct Trailer {
    pub(crate) trace: Guid,
    pub(crate) correlation: Guid,
    pub(crate) timestamp: String,
}

impl Trailer {
    /// A client's `client-request-id` becomes the correlation id.
    pub(crate) fn new(entra: &Entra, headers: &HeaderMap) -> Self {
        let given = headers
            .get("client-request-id")
            .and_then(|v| v.to_str().ok())
            .and_then(Guid::parse);
        Self {
            trace: entra.state.guid(),
            correlation: given.unwrap_or_else(|| entra.state.guid()),
            timestamp: entra.state.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        }
    }

    /// `AADSTSn: … Trace ID: … Correlation ID: … Timestamp: …`
    pub(crate) fn describe(&self, error: &Aadsts) -> String {
        format!(
            "{error} Trace ID: {} Correlation ID: {} Timestamp: {}",
            self.trace, self.correlation, self.timestamp
        )
    }
}

/// The page about an error's code.
pub(crate) fn error_uri(entra: &Entra, error: &Aadsts) -> String {
    entra.url(&format!("error?code={}", error.code))
}

fn with_status(status: StatusCode, value: &Value) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store, no-cache"),
        ),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (status, headers, value.to_string()).into_response()
}
