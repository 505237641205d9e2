//! The sign-in service, asked without a credential: what time it is there, which tenant it
//! knows, and where that tenant's Graph is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::claims::shown;
use super::report::{DoctorStage, Finding, YOU};
use crate::app::account::Account;
use crate::failure::Failure;
use crate::http::{self, Method, Reach};
use crate::when;

/// How long the service may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The largest answer that is read.
const OCTETS: usize = 256 << 10;

/// Further off than this, tokens and signed assertions are refused: an assertion lives for five
/// to ten minutes (facts B1).
const TOO_FAR: SignedDuration = SignedDuration::from_mins(5);
/// Further off than this is worth a word.
const FAR: SignedDuration = SignedDuration::from_secs(60);

/// What the sign-in service says to anybody.
#[derive(Debug, Default)]
pub(super) struct Provider {
    /// Its host and port.
    peer: String,
    /// How far this machine's clock is ahead.
    ahead: Option<SignedDuration>,
    /// The tenant's id.
    pub(super) tenant_id: Option<String>,
    /// The tenant's Graph.
    pub(super) graph: Option<Url>,
    /// Why it said nothing.
    trouble: Option<Failure>,
    elapsed: Duration,
}

/// What matters of a discovery document (facts B1).
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    msgraph_host: Option<String>,
}

/// Where the service says something to everybody; `None` for an account that signs in nowhere.
fn address(account: &Account) -> Option<Url> {
    let openid = |base: &str| {
        let base = base.trim_end_matches('/');
        format!("{base}/.well-known/openid-configuration")
            .parse()
            .ok()
    };
    if let Some(authority) = account.setting("authority") {
        let tenant = account.setting("tenant")?;
        return openid(&format!(
            "{}/{tenant}/v2.0",
            authority.trim_end_matches('/')
        ));
    }
    if let Some(issuer) = account.setting("issuer") {
        return openid(issuer);
    }
    account.setting("token_endpoint")?.parse().ok()
}

impl Provider {
    /// Asks the account's, if it has one.
    pub(super) async fn ask(account: &Account) -> Option<Self> {
        let url = address(account)?;
        let tls = account.around.sign_in_tls.as_ref()?;
        let began = Instant::now();
        let mut provider = Self {
            peer: http::peer(&url),
            ..Self::default()
        };
        if let Err(failure) = provider.fetch(account, tls, url).await {
            provider.trouble = Some(failure);
        }
        provider.elapsed = began.elapsed();
        Some(provider)
    }

    async fn fetch(
        &mut self,
        account: &Account,
        tls: &Arc<rustls::ClientConfig>,
        url: Url,
    ) -> Result<(), Failure> {
        let reach = if http::is_loopback(&url) {
            Reach::Loopback
        } else {
            Reach::Anywhere
        };
        let client = http::client_over((**tls).clone(), reach)?;
        let told =
            |error: reqwest::Error| http::failure(&error.without_url(), &self.peer, Method::Get);
        let authority = url.clone();
        let mut response = client
            .get(url)
            .timeout(PATIENCE)
            .send()
            .await
            .map_err(told)?;
        let now = account.around.clock.now();
        let date = response.headers().get(reqwest::header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).and_then(http_date);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > OCTETS {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        self.ahead = date.map(|there| now.duration_since(there));
        let document: Document = serde_json::from_slice(&body).unwrap_or_default();
        if account.setting("authority").is_some() {
            self.tenant_id = document.issuer.as_deref().and_then(tenant_id);
            self.graph = account.settings().graph().or_else(|| {
                // A sandbox's is on the same machine, never elsewhere.
                let graph: Url = format!("https://{}", document.msgraph_host?).parse().ok()?;
                let here = http::is_loopback(&authority);
                (here == http::is_loopback(&graph)).then_some(graph)
            });
        }
        Ok(())
    }

    /// Why the service would show a person an error in place of its sign-in page, if so: an app
    /// that it does not know, or a redirect that is not registered, it refuses before anybody
    /// has signed in.
    pub(super) async fn refuses_people(account: &Account) -> Option<String> {
        let authority = account.setting("authority")?.trim_end_matches('/');
        let tenant = account.setting("tenant")?;
        let mut url: Url = format!("{authority}/{tenant}/oauth2/v2.0/authorize")
            .parse()
            .ok()?;
        url.query_pairs_mut()
            .append_pair("client_id", account.setting("client_id")?)
            .append_pair("response_type", "code")
            .append_pair(
                "redirect_uri",
                account
                    .setting("redirect_uri")
                    .unwrap_or("http://localhost"),
            )
            .append_pair("scope", "openid")
            .append_pair("prompt", "none");
        let reach = if http::is_loopback(&url) {
            Reach::Loopback
        } else {
            Reach::Anywhere
        };
        let tls = account.around.sign_in_tls.as_ref()?;
        let client = http::client_over((**tls).clone(), reach).ok()?;
        let mut response = client.get(url).timeout(PATIENCE).send().await.ok()?;
        if response.status().is_redirection() {
            return None;
        }
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > OCTETS {
                break;
            }
        }
        let page = String::from_utf8_lossy(&body);
        let text = &page[page.find("AADSTS")?..];
        let end = text.find(['<', '"', '\\', '\n']).unwrap_or(text.len());
        Some(shown(&text[..end]))
    }

    /// How this machine's clock stands.
    pub(super) fn stage(&self) -> DoctorStage {
        let elapsed = self.elapsed;
        let Some(ahead) = self.ahead else {
            let why = self
                .trouble
                .as_ref()
                .map_or("it did not say the time", |failure| &failure.message);
            return DoctorStage::skipped("clock", format!("{}: {why}", self.peer));
        };
        let off = Off(ahead, &self.peer).to_string();
        let finding = || {
            Finding::new(
                "env.clock",
                format!("this machine's clock is {off}"),
                "set the clock (timedatectl set-ntp true), then run the doctor again: what it \
                 says of certificates and tokens depends on the time",
                YOU,
            )
        };
        match ahead.abs() {
            apart if apart > TOO_FAR => {
                DoctorStage::failed("clock", elapsed, off.clone(), finding())
            }
            apart if apart > FAR => DoctorStage::warning("clock", elapsed, off.clone(), finding()),
            _ => DoctorStage::ok("clock", elapsed, off),
        }
    }

    /// Why the service cannot be reached, if so.
    pub(super) fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }
}

/// How far ahead of whom: `60 min ahead of HOST`, `3 s behind HOST`.
struct Off<'a>(SignedDuration, &'a str);

impl fmt::Display for Off<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(off, peer) = self;
        let span = when::span(off.unsigned_abs());
        if off.abs() < SignedDuration::from_secs(2) {
            write!(f, "right, compared with {peer}")
        } else if off.is_negative() {
            write!(f, "{span} behind {peer}")
        } else {
            write!(f, "{span} ahead of {peer}")
        }
    }
}

/// RFC 9110 §5.6.7, in the one form that is still sent.
fn http_date(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp())
}

/// The tenant's id in an issuer of Entra ID: `https://…/{id}/v2.0`.
fn tenant_id(issuer: &str) -> Option<String> {
    let url: Url = issuer.parse().ok()?;
    let id = url.path_segments()?.next()?.to_owned();
    let is_id = id.len() == 36
        && id
            .bytes()
            .all(|octet| octet.is_ascii_hexdigit() || octet == b'-');
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(ahead: SignedDuration) -> Provider {
        Provider {
            peer: "login.example.org:443".to_owned(),
            ahead: Some(ahead),
            ..Provider::default()
        }
    }

    #[test]
    fn a_clock_an_hour_off_is_named_with_its_direction() {
        use super::super::report::StageResult;

        for (ahead, result, words) in [
            (0, StageResult::Ok, "right"),
            (-1, StageResult::Ok, "right"),
            (90, StageResult::Warning, "ahead of"),
            (3600, StageResult::Failed, "ahead of login.example.org"),
            (-3600, StageResult::Failed, "behind login.example.org"),
        ] {
            let stage = provider(SignedDuration::from_secs(ahead)).stage();
            assert_eq!(stage.result, result, "{ahead}");
            let said = stage
                .failure
                .map_or(stage.evidence, |finding| finding.cause);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn the_tenants_id_stands_in_the_issuer() {
        let id = "8d5f1c52-60a9-4c2b-9e0a-3b1f7c4d2e60";
        assert_eq!(
            tenant_id(&format!("https://localhost:1/{id}/v2.0")).as_deref(),
            Some(id)
        );
        for other in [
            "https://localhost/{tenantid}/v2.0",
            "https://localhost",
            "x",
        ] {
            assert_eq!(tenant_id(other), None, "{other}");
        }
        assert!(http_date("Sun, 06 Nov 1994 08:49:37 GMT").is_some());
        assert!(http_date("yesterday").is_none());
    }
}
