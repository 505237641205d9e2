//! One account's grant: fresh tokens, how long it lasts, and forgetting it.

use std::borrow::Cow;
use std::time::Duration;

use postrider_auth::{AccessToken, GrantKey, LoginMethod, Op, RotationOutcome};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::sign_in::may_be_pasted;
use super::standing::{Expiry, Moment, Standing, expiries};
use crate::failure::Failure;

/// An access token and what belongs to it.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub value: SecretString,
    /// How it is used: `Bearer`, as a rule.
    pub token_type: String,
    /// When it expires.
    pub expires_at: Moment,
    /// Scopes granted, separated by spaces, where the provider said.
    pub scope: Option<String>,
}

/// What [`Account::rotate`] did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rotated {
    /// `refreshed`, `fresh` (nothing was due) or `none` (there are no tokens here).
    pub outcome: Cow<'static, str>,
    /// Which token of its grant the newest is.
    pub generation: u64,
    /// When it expires.
    pub expires_at: Option<Moment>,
    /// When the next one is due.
    pub next_refresh: Option<Moment>,
}

/// What became of a grant.
#[derive(Clone, Debug, Serialize)]
pub struct LoggedOut {
    /// The account.
    pub account: String,
    /// Whether anybody was signed in.
    pub signed_in: bool,
    /// Who that was, as far as is known.
    pub username: String,
    /// Whether the provider was told, and took it.
    pub revoked: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_revoked: Option<String>,
}

impl Account {
    /// Whether this account has tokens.
    pub fn uses_tokens(&self) -> bool {
        self.has(Op::Obtain) || self.has(Op::Login)
    }

    /// Whether its tokens come from a person who signs in.
    pub fn needs_person(&self) -> bool {
        self.has(Op::Login) && self.flow() != Some("client_credentials")
    }

    /// How its settings say that a person signs in.
    pub fn login_method(&self) -> LoginMethod {
        match self.flow() {
            Some("device_code") => LoginMethod::DeviceCode,
            _ => LoginMethod::Browser,
        }
    }

    /// A usable access token with at least this much life left, where the provider gives
    /// tokens that long.
    ///
    /// # Errors
    /// It was not obtained, or the account uses none.
    pub async fn token(&self, at_least: Duration) -> Result<Token, Failure> {
        let mut token = self.access_token().await?;
        let enough = |token: &AccessToken| {
            let left = token.expires_at().duration_since(self.now());
            left.is_ok_and(|left| left >= at_least)
        };
        // First what is due anyway, which costs one request however many ask.
        if !enough(&token) {
            self.rotate(false).await?;
            token = self.access_token().await?;
        }
        // Then by force, unless a new one would not live so long either: somebody who asks for
        // more than the provider gives must not have a new one fetched each time.
        if !enough(&token) && self.lifetime_of(&token).await? >= at_least {
            self.rotate(true).await?;
            token = self.access_token().await?;
        }
        if !enough(&token) {
            tracing::warn!(
                account = self.settings().name,
                "the provider's tokens live for less than the {} s asked for",
                at_least.as_secs()
            );
        }
        Ok(Token {
            token_type: token.token_type().to_owned(),
            expires_at: Moment(token.expires_at()),
            scope: token.scope().map(str::to_owned),
            value: token.value().clone(),
        })
    }

    /// How long a token lives from the beginning, as far as this one tells.
    async fn lifetime_of(&self, token: &AccessToken) -> Result<Duration, Failure> {
        let came = self.standing().await?.last_refreshed;
        let lifetime = came.and_then(|came| token.expires_at().duration_since(came.0).ok());
        Ok(lifetime.unwrap_or(Duration::MAX))
    }

    async fn access_token(&self) -> Result<AccessToken, Failure> {
        self.credential()
            .access_token()
            .await
            .map_err(|error| self.auth_failure(&error))?
            .ok_or_else(|| self.without_tokens())
    }

    pub(super) fn without_tokens(&self) -> Failure {
        Failure::new(
            "usage.no_tokens",
            format!(
                "this account has no tokens: its plugin, {}, uses none",
                self.settings().auth.plugin
            ),
        )
        .with_account(&self.settings().name)
    }

    /// Refreshes what is due or has not been used for long; with `force` in any case.
    ///
    /// # Errors
    /// The provider did not give a new token.
    pub async fn rotate(&self, force: bool) -> Result<Rotated, Failure> {
        let rotation = self
            .credential()
            .rotate(force)
            .await
            .map_err(|error| self.auth_failure(&error))?;
        Ok(Rotated {
            outcome: Cow::Borrowed(match rotation.outcome {
                RotationOutcome::Refreshed => "refreshed",
                RotationOutcome::Fresh => "fresh",
                RotationOutcome::NoTokens => "none",
            }),
            generation: rotation.generation,
            expires_at: rotation.expires_at.map(Moment),
            next_refresh: rotation.next_refresh.map(Moment),
        })
    }

    /// How its credential stands, as far as is known here: nobody is asked.
    ///
    /// # Errors
    /// What is kept of it cannot be read.
    pub async fn standing(&self) -> Result<Standing, Failure> {
        let status = self
            .credential()
            .status()
            .await
            .map_err(|error| self.auth_failure(&error))?;
        Ok(Standing::new(status, self.expiries(), self.needs_person()))
    }

    /// Forgets the sign-in and the tokens; tells the provider first, unless `local`.
    ///
    /// # Errors
    /// What is kept could not be removed.
    pub async fn logout(&self, local: bool) -> Result<LoggedOut, Failure> {
        if !self.uses_tokens() {
            return Err(self.without_tokens());
        }
        let mut gone = LoggedOut {
            account: self.settings().name.clone(),
            signed_in: false,
            username: self.settings().username.clone(),
            revoked: false,
            not_revoked: None,
        };
        match self.standing().await {
            Ok(standing) if standing.state == "absent" => return Ok(gone),
            Ok(standing) => {
                let names = standing.signed_in.map(|person| person.usernames);
                gone.username = names
                    .and_then(|names| names.into_iter().next())
                    .unwrap_or(gone.username);
            }
            // What is kept may be unreadable: all the more reason to forget it.
            Err(failure) => tracing::debug!(account = gone.account, "{}", failure.message),
        }
        let forgotten = if local {
            self.credential().forget().await
        } else {
            self.credential().logout().await
        };
        let forgotten = forgotten.map_err(|error| self.auth_failure(&error))?;
        gone.signed_in = forgotten.had_grant;
        match forgotten.revoked {
            _ if !gone.signed_in => {}
            Some(Ok(())) => gone.revoked = true,
            Some(Err(error)) => gone.not_revoked = Some(error.message),
            None if local => gone.not_revoked = Some("--local was given".to_owned()),
            None => gone.not_revoked = Some("there was nothing to revoke".to_owned()),
        }
        Ok(gone)
    }

    /// How to end, at the provider, what it could not be told to end.
    pub fn how_to_revoke(&self, username: &str) -> String {
        match self.setting("authority") {
            Some(_) if self.needs_person() && may_be_pasted(username) => format!(
                "an Entra administrator runs Revoke-MgUserSignInSession -UserId {username}, which \
                 ends all sign-ins of this user, in every application"
            ),
            Some(_) => "an Entra administrator revokes the user's sessions, or removes the \
                        application's secret"
                .to_owned(),
            None => "remove the application's access there".to_owned(),
        }
    }

    /// Its secrets whose end is known, the nearest first.
    pub fn expiries(&self) -> Vec<Expiry> {
        expiries(self.credential().expiries(), self.now())
    }

    /// What accounts have in common that share one grant; nothing where there are no tokens.
    pub fn grant_key(&self) -> Option<GrantKey> {
        self.credential().grant_key()
    }

    pub(super) fn flow(&self) -> Option<&str> {
        self.setting("flow")
    }

    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings().auth.settings.get(name)?.as_str()
    }

    pub(super) fn has(&self, op: Op) -> bool {
        self.credential().plugin().description().ops.contains(&op)
    }
}
