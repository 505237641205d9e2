//! The way to Microsoft Graph: the host's HTTP with the trust anchors of one command.
//!
//! Certificates are always checked, nothing is followed, a Graph on this machine (a sandbox) is
//! the only place reached where one is named, and what a server says is bounded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use postrider_graph::{
    RESPONSE_OCTETS, Request, Response, Transport, TransportError, TransportErrorKind,
};
use postrider_schedule::Clock;
use postrider_vault::crash_point;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::ExposeSecret as _;
use url::Url;

use crate::failure::Failure;
use crate::http::{self, Method, Reach};

/// How long one request may take: creating an application takes Graph several seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// Carries requests to Microsoft Graph.
pub struct GraphTransport {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for GraphTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphTransport").finish_non_exhaustive()
    }
}

impl GraphTransport {
    /// One to the Graph at `base`, which `tls` tells whether to trust.
    ///
    /// # Errors
    /// The proxy that the environment names cannot be used.
    pub fn new(
        tls: rustls::ClientConfig,
        base: &Url,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let reach = if http::is_loopback(base) {
            Reach::Loopback
        } else {
            Reach::Anywhere
        };
        Ok(Self {
            client: http::client_over(tls, reach)?,
            clock,
        })
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        let peer = http::peer(&request.url);
        let broken = |error: reqwest::Error| {
            // Whatever goes wrong on a connection that stood, the request may have arrived.
            let kind = if error.is_connect() || error.is_builder() {
                TransportErrorKind::NotSent
            } else {
                TransportErrorKind::Interrupted
            };
            // What reqwest says of it may name the address, and in that an object of the tenant.
            let failure = http::failure(&error.without_url(), &peer, Method::Post);
            TransportError::new(kind, failure.message.clone()).caused_by(failure)
        };
        let changes = request.method != postrider_graph::Method::Get;
        let method = reqwest::Method::from_bytes(request.method.as_str().as_bytes());
        let method = method.map_err(|_| not_sent("no method of HTTP"))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &request.headers {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let mut sent = self
            .client
            .request(method, request.url)
            .headers(headers)
            // Marked as sensitive by reqwest itself.
            .bearer_auth(request.bearer.expose_secret());
        if let Some(body) = &request.body {
            let octets = serde_json::to_vec(body).map_err(|_| not_sent("no JSON"))?;
            sent = sent
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(octets);
        }
        if changes {
            crash_point("graph.before_request");
        }
        let mut response = sent.send().await.map_err(broken)?;
        if changes {
            crash_point("graph.after_response");
        }
        let field = |name: &str| response.headers().get(name)?.to_str().ok();
        let mut answer = Response {
            status: response.status().as_u16(),
            retry_after: field(RETRY_AFTER.as_str())
                .and_then(|text| retry_after(text, self.clock.now())),
            request_id: field("request-id").map(str::to_owned),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if chunk.len() > RESPONSE_OCTETS - answer.body.len() {
                return Err(TransportError::new(
                    TransportErrorKind::TooLarge,
                    format!("the answer of {peer} is larger than {RESPONSE_OCTETS} octets"),
                ));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

impl Transport for GraphTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        async move {
            let peer = http::peer(&request.url);
            let timed = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
            timed.unwrap_or_else(|_| {
                Err(TransportError::new(
                    TransportErrorKind::Interrupted,
                    format!("{peer} did not answer within {PATIENCE:?}"),
                ))
            })
        }
        .boxed()
    }

    fn pause(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(how_long).boxed()
    }
}

fn not_sent(message: &str) -> TransportError {
    TransportError::new(TransportErrorKind::NotSent, message)
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which `now` makes a time from now.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_asked_for_in_seconds_or_until_a_moment() {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();

        assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
        let at = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(at, now), Some(Duration::from_secs(37)));
        let past = "Sun, 06 Nov 1994 08:00:00 GMT";
        assert_eq!(retry_after(past, now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
