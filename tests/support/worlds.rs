//! A provider, a user with an account there, and that user's browser.

use serde_json::{Value, json};
use toml_edit::DocumentMut;

use super::browser::Browser;
use super::clock::Later;
use super::home::Home;
use super::openid::OpenId;
use super::sandbox::{PERSON, Sandbox};
use super::skip;

/// At the sandbox, where the account is called `sandbox-person`; its scenario may be changed.
pub(crate) fn at_the_sandbox(
    flow: &str,
    change: impl FnOnce(&mut DocumentMut),
) -> Result<(Sandbox, Home, Browser), String> {
    let browser = Browser::start()?;
    let sandbox = Sandbox::with(|scenario| {
        for (key, value) in [
            ("access_min", "60m"),
            ("access_max", "60m"),
            ("device_interval", "1s"),
        ] {
            scenario["tokens"][key] = toml_edit::value(value);
        }
        change(scenario);
    });
    let config = sandbox.config().replace("authorization_code", flow);
    let mut home = Home::new(&config);
    home.set(sandbox.client_secret());
    Ok((sandbox, home, browser))
}

/// The same by the clock of [`Later`], signed in, with refresh tokens for one use; nothing, which
/// is said, where that cannot be had.
pub(crate) fn signed_in_at_the_sandbox() -> Option<(Sandbox, Home, Later)> {
    let all = at_the_sandbox("authorization_code", one_time_refresh_tokens);
    let ((sandbox, home, mut browser), later) = match (all, Later::new()) {
        (Ok(all), Ok(later)) => (all, later),
        (Err(reason), _) | (_, Err(reason)) => {
            skip(&reason);
            return None;
        }
    };
    let (login, _) = home.login("sandbox-person", &mut browser, PERSON);
    login.expect_status(0);
    Some((sandbox, home, later))
}

/// At the OpenID provider, where the account is called `openid`.
pub(crate) fn at_the_openid_provider(flow: &str) -> Result<(OpenId, Home, Browser), String> {
    let browser = Browser::start()?;
    let provider = OpenId::start(PERSON.0)?;
    let home = Home::new(&provider.person("openid", PERSON.0, flow));
    Ok((provider, home, browser))
}

/// Makes the sandbox's refresh tokens good for one use, as `oidc-provider`'s are.
pub(crate) fn one_time_refresh_tokens(scenario: &mut DocumentMut) {
    scenario["tokens"]["rotation"] = toml_edit::value("strict");
}

/// The answers of a provider that is out of order, each as the effect of a sandbox's fault.
pub(crate) fn troubles() -> [(&'static str, Value); 6] {
    let html = "<!doctype html><title>Down</title>We are down for maintenance.";
    [
        (
            "invalid_request",
            json!({"aadsts": {"code": 90_014, "error": "invalid_request"}}),
        ),
        (
            "401 and junk",
            json!({"http": {"status": 401, "body": "\u{1}\u{2}]["}}),
        ),
        (
            "429",
            json!({"http": {"status": 429, "retry_after": 300, "body": ""}}),
        ),
        ("500", json!({"http": {"status": 500, "body": "{}"}})),
        (
            "a page",
            json!({"http": {"status": 200, "body": html, "content_type": "text/html"}}),
        ),
        ("nothing", json!("close")),
    ]
}
