//! Keeps web pages of other sites away from the control API.
//!
//! A page can make its visitor's browser send requests here. It cannot choose the `Host` of
//! a request to this address, short of rebinding a name to it; nor send JSON across sites
//! without asking first, which is never answered; and its `Origin` names it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::account;

/// The names under which the API may be addressed.
#[derive(Clone)]
pub(crate) struct Guard {
    hosts: Arc<[String]>,
}

impl Guard {
    /// For an API that listens here.
    pub(crate) fn new(local: SocketAddr) -> Self {
        let hosts = [local.to_string(), format!("localhost:{}", local.port())];
        Self {
            hosts: hosts.into(),
        }
    }

    fn refusal(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<(StatusCode, &'static str)> {
        let text = |name| {
            headers
                .get(name)
                .map(|v: &header::HeaderValue| v.to_str().unwrap_or_default())
        };
        if !text(header::HOST)
            .is_some_and(|host| self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host)))
        {
            return Some((
                StatusCode::MISDIRECTED_REQUEST,
                "the Host header does not name this sandbox\n",
            ));
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let own = |origin: &str| {
            origin
                .strip_prefix("http://")
                .is_some_and(|o| self.hosts.iter().any(|h| h == o))
        };
        if text(header::ORIGIN).is_some_and(|origin| !own(origin)) {
            return Some((
                StatusCode::FORBIDDEN,
                "the request comes from another site\n",
            ));
        }
        let is = |wanted: &'static str| {
            move |kind: &str| {
                kind.split(';')
                    .next()
                    .is_some_and(|k| k.trim().eq_ignore_ascii_case(wanted))
            }
        };
        // A form's page is this sandbox's own: browsers say so, and only browsers send forms.
        let form = is("application/x-www-form-urlencoded");
        if path == account::PATH
            && text(header::ORIGIN).is_some()
            && text(header::CONTENT_TYPE).is_some_and(form)
        {
            return None;
        }
        let json = is("application/json");
        if *method != Method::DELETE && !text(header::CONTENT_TYPE).is_some_and(json) {
            return Some((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the Content-Type must be application/json\n",
            ));
        }
        None
    }
}

/// Refuses what the guard refuses; marks every answer as not to be sniffed.
pub(crate) async fn check(Shared(guard): Shared<Guard>, request: Request, next: Next) -> Response {
    let mut response =
        match guard.refusal(request.method(), request.uri().path(), request.headers()) {
            Some(refusal) => refusal.into_response(),
            None => next.run(request).await,
        };
    let nosniff = header::HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &Method, headers: &[(&'static str, &'static str)]) -> u16 {
        verdict_at("/v1/scenario", method, headers)
    }

    fn verdict_at(path: &str, method: &Method, headers: &[(&'static str, &'static str)]) -> u16 {
        let guard = Guard::new("127.0.0.1:8025".parse().unwrap());
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        guard
            .refusal(method, path, &headers)
            .map_or(200, |(status, _)| status.as_u16())
    }

    #[test]
    fn other_sites_are_kept_out() {
        let host = ("host", "127.0.0.1:8025");
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(verdict(&Method::GET, &[host]), 200);
        assert_eq!(verdict(&Method::GET, &[("host", "LOCALHOST:8025")]), 200);
        assert_eq!(verdict(&Method::POST, &[host, json]), 200);
        assert_eq!(verdict(&Method::DELETE, &[host]), 200);
        assert_eq!(
            verdict(
                &Method::PATCH,
                &[host, json, ("origin", "http://127.0.0.1:8025")]
            ),
            200
        );

        assert_eq!(verdict(&Method::GET, &[]), 421);
        assert_eq!(
            verdict(&Method::GET, &[("host", "rebound.example:8025")]),
            421
        );
        assert_eq!(
            verdict(&Method::POST, &[host, ("content-type", "text/plain")]),
            415
        );
        assert_eq!(verdict(&Method::POST, &[host]), 415);
        assert_eq!(
            verdict(
                &Method::POST,
                &[host, json, ("origin", "https://site.example")]
            ),
            403
        );
        assert_eq!(verdict(&Method::DELETE, &[host, ("origin", "null")]), 403);
    }

    #[test]
    fn a_form_is_taken_from_the_account_page_alone() {
        let host = ("host", "127.0.0.1:8025");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let own = ("origin", "http://127.0.0.1:8025");
        let post = |path, headers: &[_]| verdict_at(path, &Method::POST, headers);
        assert_eq!(post("/account", &[host, form, own]), 200);
        assert_eq!(post("/account", &[host, form]), 415);
        assert_eq!(post("/account", &[host, form, ("origin", "null")]), 403);
        assert_eq!(
            post(
                "/account",
                &[host, form, ("origin", "https://site.example")]
            ),
            403
        );
        assert_eq!(post("/v1/scenario/user", &[host, form, own]), 415);
    }
}
