//! What stands between an account and a sent message, stage by stage, without sending one.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use postrider_auth::{AccessToken, AuthError};
use postrider_smtp::{SendErrorKind, StageDetail, StageReport, tls};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::bridge::auth_error;
use super::failures;
use crate::failure::Failure;
use crate::when;

/// Which token [`Account::check`] goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// One that is fetched now: a kept one says nothing of a secret that was changed since.
    Now,
    /// Whichever serves, as for a send.
    Kept,
}

/// What [`Account::check`] found, stage by stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckReport {
    /// The account's name.
    pub account: String,
    /// Whether every stage passed.
    pub ok: bool,
    /// `connect`, `tls`, `ehlo`, `token`, `auth`, `mail_from`.
    pub stages: Vec<CheckStage>,
}

/// One stage of a check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckStage {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Whether it passed.
    pub ok: bool,
    /// Whether it was not tried, because an earlier one failed or it does not apply.
    pub skipped: bool,
    /// What was seen.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl CheckStage {
    fn skipped(name: &'static str, why: &str) -> Self {
        Self {
            name: name.into(),
            ok: true,
            skipped: true,
            detail: why.to_owned(),
            elapsed_ms: 0,
            failure: None,
        }
    }

    fn failed(name: &'static str, elapsed: Duration, failure: Failure) -> Self {
        Self {
            name: name.into(),
            ok: false,
            skipped: false,
            detail: String::new(),
            elapsed_ms: milliseconds(elapsed),
            failure: Some(failure),
        }
    }
}

impl CheckReport {
    /// The first failure.
    pub fn failure(&self) -> Option<&Failure> {
        self.stages.iter().find_map(|stage| stage.failure.as_ref())
    }
}

impl Account {
    /// Connects, secures, authenticates and asks whether the sender is welcome; sends nothing.
    pub async fn check(&self, freshness: Freshness) -> CheckReport {
        let renewed = match freshness {
            Freshness::Now => self.credential().rotate(true).await.map(drop),
            Freshness::Kept => Ok(()),
        };
        let seen = self.pool.check(&self.settings().sender.email).await;

        let mut stages: Vec<CheckStage> = Vec::new();
        let mut token = None;
        for report in &seen {
            match credential_error(report) {
                // AUTH failed for want of a token: said once, where it happened.
                Some(error) if self.uses_tokens() => {
                    let failure = self.auth_failure(error);
                    token = Some(CheckStage::failed("token", report.elapsed, failure));
                }
                _ => push_stage(&mut stages, self.stage(report)),
            }
        }
        if let Some(token) = token {
            stages.push(token);
            stages.push(CheckStage::skipped("auth", "there is no token"));
        } else {
            let token = self.token_stage(renewed).await;
            let auth = stages.iter().position(|stage| stage.name == "auth");
            stages.insert(auth.unwrap_or(stages.len()), token);
        }
        CheckReport {
            account: self.settings().name.clone(),
            ok: stages.iter().all(|stage| stage.failure.is_none()),
            stages,
        }
    }

    fn stage(&self, report: &StageReport) -> CheckStage {
        let sender = self.settings().sender.email.as_ref();
        let failure = report
            .outcome
            .as_ref()
            .err()
            .map(|error| self.send_failure(sender, error));
        CheckStage {
            name: failures::stage_name(report.stage).into(),
            ok: failure.is_none(),
            skipped: false,
            detail: report.outcome.as_ref().map(detail).unwrap_or_default(),
            elapsed_ms: milliseconds(report.elapsed),
            failure,
        }
    }

    /// The token as a stage of its own: the one that AUTH used, or, where AUTH was not
    /// reached, one to see whether it would be had.
    async fn token_stage(&self, renewed: Result<(), AuthError>) -> CheckStage {
        let started = tokio::time::Instant::now();
        let outcome = match renewed {
            Ok(()) => self.credential().access_token().await,
            Err(error) => Err(error),
        };
        match outcome.map_err(|error| self.auth_failure(&error)) {
            Ok(Some(token)) => CheckStage {
                name: "token".into(),
                ok: true,
                skipped: false,
                detail: self.token_detail(&token).await,
                elapsed_ms: milliseconds(started.elapsed()),
                failure: None,
            },
            Ok(None) => {
                let plugin = &self.settings().auth.plugin;
                CheckStage::skipped("token", &format!("plugin {plugin} uses none"))
            }
            Err(failure) => CheckStage::failed("token", started.elapsed(), failure),
        }
    }

    /// What there is to say of a token: how long it lives, how its grant stands, and what ends
    /// soon.
    async fn token_detail(&self, token: &AccessToken) -> String {
        let now = self.now();
        let minutes = |until: SystemTime| {
            until
                .duration_since(now)
                .map_or(0, |left| left.as_secs() / 60)
        };
        let mut detail = format!("valid for {} minutes", minutes(token.expires_at()));
        if let Ok(standing) = self.standing().await {
            if let Some(at) = standing.last_refreshed {
                let ago = now.duration_since(at.0).unwrap_or_default();
                let _ = write!(detail, ", fetched {} ago", when::span(ago));
            }
            let _ = write!(detail, ", {}", standing.state);
            if let Some(next) = standing.next_refresh {
                let _ = write!(detail, ", next in {} minutes", minutes(next.0));
            }
        }
        if let Some(scope) = token.scope() {
            let _ = write!(detail, ", scope {scope}");
        }
        for one in self.expiries().iter().filter(|one| one.is_near()) {
            let _ = write!(detail, "; {}", one.in_words(now));
        }
        detail
    }
}

/// The credential's own error, where a stage failed for that.
fn credential_error(report: &StageReport) -> Option<&AuthError> {
    match report.outcome.as_ref().err().map(|error| &*error.kind) {
        Some(SendErrorKind::Sasl(sasl)) => auth_error(sasl),
        _ => None,
    }
}

/// Adds a stage; one that the dialogue goes through twice (`EHLO` before and after TLS) or in
/// two steps (the connection and its greeting) is one stage, at its last place.
fn push_stage(stages: &mut Vec<CheckStage>, mut stage: CheckStage) {
    if let Some(index) = stages.iter().position(|earlier| earlier.name == stage.name) {
        let earlier = stages.remove(index);
        stage.elapsed_ms += earlier.elapsed_ms;
        if stage.name == "connect" {
            let details = [earlier.detail, stage.detail];
            stage.detail = details
                .into_iter()
                .filter(|detail| !detail.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
        }
    }
    stages.push(stage);
}

/// What a stage saw, in a line.
fn detail(seen: &StageDetail) -> String {
    match seen {
        StageDetail::Connected { peer } => peer.to_string(),
        StageDetail::Said(reply) => failures::reply_line(reply),
        StageDetail::Offers(capabilities) => capabilities.lines.join(", "),
        StageDetail::Secured(session) => secured(session),
        StageDetail::Authenticated { mechanism, reply } => {
            format!("{mechanism}: {}", failures::reply_line(reply))
        }
        _ => String::new(),
    }
}

fn secured(session: &tls::Session) -> String {
    let expires = session
        .expires
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
        .map_or_else(String::new, |at| format!(", expires {}", at.strftime("%F")));
    format!(
        "{}, {}, certificate {}{expires}",
        session.version, session.cipher, session.subject
    )
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
