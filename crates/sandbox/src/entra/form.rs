//! Parameters of a request: `application/x-www-form-urlencoded`, from a body or a query.
//!
//! A parameter given twice makes the whole request malformed (RFC 6749 §3.1): which of the
//! two a server takes must never matter.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};

use super::aadsts::Aadsts;

/// The parameters of one request. An empty value counts as absent (RFC 6749 §3.1).
#[derive(Clone, Default)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a request's body.
    pub(crate) fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Self, Aadsts> {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Aadsts::malformed(
                "the body is not application/x-www-form-urlencoded",
            ));
        }
        Self::read(body)
    }

    /// Reads a request's query.
    pub(crate) fn from_query(query: Option<&str>) -> Result<Self, Aadsts> {
        Self::read(query.unwrap_or_default().as_bytes())
    }

    fn read(octets: &[u8]) -> Result<Self, Aadsts> {
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(octets) {
            if parameters
                .insert(name.to_string(), value.into_owned())
                .is_some()
            {
                return Err(Aadsts::malformed(format!(
                    "the parameter {} stands twice",
                    crate::jwt::shown(&name)
                )));
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter's value, unless it is absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter was given, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A parameter that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Aadsts> {
        self.get(name).ok_or_else(|| Aadsts::missing(name))
    }
}
