//! The body of a request to an endpoint: `application/x-www-form-urlencoded` pairs.

use oauth2::url::form_urlencoded;
use postrider_plugin::wire::{Octets, Secret};

/// Parameters that are no secret; the value of any other is scrubbed from whatever an
/// endpoint answers.
const PUBLIC: [&str; 6] = [
    "client_assertion_type",
    "client_id",
    "grant_type",
    "redirect_uri",
    "scope",
    "token_type_hint",
];

/// Shorter values are left alone when scrubbing: they say nothing, and stand in ordinary words.
const SCRUBBED_OCTETS: usize = 6;

/// Pairs in order, each name once.
#[derive(Debug)]
pub(crate) struct Form {
    pairs: Vec<(String, Secret)>,
    /// What travels beside the form, in the `Authorization` field.
    beside: Option<Secret>,
}

impl Form {
    /// The form with these pairs.
    pub(crate) fn new<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self::from_pairs(pairs.into_iter())
    }

    /// Reads an encoded form.
    pub(crate) fn decode(body: &[u8]) -> Self {
        Self::from_pairs(form_urlencoded::parse(body))
    }

    fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl Iterator<Item = (N, V)>) -> Self {
        Self {
            pairs: pairs
                .map(|(name, value)| (name.into(), Secret::new(value)))
                .collect(),
            beside: None,
        }
    }

    /// Adds the pair, or replaces its value.
    pub(crate) fn set(&mut self, name: &str, value: Secret) {
        self.remove(name);
        self.pairs.push((name.to_owned(), value));
    }

    /// Says that this secret travels beside the form.
    pub(crate) fn accompany(&mut self, secret: Secret) {
        self.beside = Some(secret);
    }

    /// Takes the pair out, if it is there.
    pub(crate) fn remove(&mut self, name: &str) {
        self.pairs.retain(|(known, _)| known != name);
    }

    /// The encoded form.
    pub(crate) fn encode(&self) -> Octets {
        let pairs = self
            .pairs
            .iter()
            .map(|(name, value)| (name, value.expose()));
        let text = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        Octets(text.into_bytes())
    }

    /// Replaces what is secret in or beside this form wherever it occurs in `text`.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.pairs
            .iter()
            .filter(|(name, _)| !PUBLIC.contains(&name.as_str()))
            .map(|(_, value)| value)
            .chain(&self.beside)
            .filter(|value| value.expose().len() >= SCRUBBED_OCTETS)
            .fold(text.to_owned(), |text, value| {
                text.replace(value.expose(), "…")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_survives_encoding() {
        for value in ["", "a b", "a+b", "ä=&%\r\n\0", "~-._*", "'\"()"] {
            let form = Form::new([("name", value), ("other", "x")]);
            let encoded = form.encode();
            assert!(encoded.0.iter().all(u8::is_ascii_graphic), "{value:?}");
            let back = Form::decode(&encoded.0);
            assert_eq!(back.pairs[0].1.expose(), value);
            assert_eq!(back.pairs[1].1.expose(), "x");
        }
    }

    #[test]
    fn encoding_follows_the_rules_of_html_forms() {
        let form = Form::new([
            ("scope", "https://a.example/.default x"),
            ("code", "0.A+/="),
        ]);
        assert_eq!(
            form.encode().0,
            b"scope=https%3A%2F%2Fa.example%2F.default+x&code=0.A%2B%2F%3D"
        );
    }

    #[test]
    fn setting_twice_keeps_the_last_value() {
        let mut form = Form::new([("client_secret", "old")]);
        form.set("client_secret", Secret::new("new"));
        assert_eq!(form.encode().0, b"client_secret=new");
    }

    #[test]
    fn what_a_server_echoes_is_scrubbed_of_secrets_only() {
        let mut form = Form::new([
            ("grant_type", "refresh_token"),
            ("refresh_token", "0.AXkA-canary"),
            ("code", "abc"),
        ]);
        form.accompany(Secret::new("s3cret~"));
        assert_eq!(
            form.scrub("refresh_token 0.AXkA-canary of s3cret~ is not abc"),
            "refresh_token … of … is not abc"
        );
    }
}
