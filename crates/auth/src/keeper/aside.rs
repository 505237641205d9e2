//! A token of another resource, asked for with the grant's refresh token and kept by nobody.
//!
//! The grant's own access token stays as it is. A refresh token that comes along takes the
//! place of the one that was used, as in a flight: under the grant's lock, after an intent,
//! and durable before anything is handed out. That the provider refuses says nothing of the
//! grant, for it may be that resource's policy: nobody is asked to sign in for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_plugin::wire::Secret;
use tokio::time::{sleep, timeout};

use super::grant::Grant;
use super::record::{Intent, Record, Refresh};
use super::token::{AccessToken, NotObtained, Obtained};
use crate::error::{AuthError, AuthErrorKind};

/// The longest pause between two attempts to write what the provider sent.
const WRITE_PAUSE: Duration = Duration::from_secs(30);

impl Grant {
    /// A token that `ask` fetches, given the refresh token if there is one.
    pub(crate) async fn aside(
        self: &Arc<Self>,
        ask: impl FnOnce(Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>>
        + Send
        + 'static,
    ) -> Result<AccessToken, AuthError> {
        let this = Arc::clone(self);
        // It goes on even if nobody waits: what comes must not be lost.
        let task = self.shared.tasks.spawn(async move {
            if this.identity.app_only {
                let obtained = this
                    .in_turn(ask(None))
                    .await
                    .map_err(|failed| failed.error)?;
                return this.handed_out(obtained);
            }
            let lock = this.acquire().await?;
            let record = this.load().await;
            let record = record.map_err(|error| this.store_failed(&error))?;
            let obtained = this.ask_aside(record, ask).await;
            drop(lock);
            this.handed_out(obtained?)
        });
        task.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// With the grant locked.
    async fn ask_aside(
        &self,
        mut record: Record,
        ask: impl FnOnce(Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>>,
    ) -> Result<Obtained, AuthError> {
        if let Some(retired) = &record.retired {
            return Err(retired.why.error(&self.identity.account, None));
        }
        let Some(refresh) = record.refresh.clone() else {
            let message = "there is no refresh token: somebody must sign in first";
            return Err(self.error(AuthErrorKind::NeedsUser, message));
        };
        let found = record
            .intent
            .take()
            .filter(|intent| intent.concerns(&record));
        let intent = Intent::new(record.generation, &refresh.token, self.shared.now());
        record.intent = found.clone().or(Some(intent));
        let written = self.save(&record).await;
        written.map_err(|error| self.store_failed(&error))?;

        let answer = self.in_turn(ask(Some(refresh.token.clone()))).await;
        match &answer {
            Ok(obtained) => self.exchange(&mut record, refresh, obtained),
            // Whether the refresh token still lives, the next flight finds out.
            Err(failed) if failed.unheard => return answer.map_err(|failed| failed.error),
            Err(_) => record.intent = found,
        }
        let mut pause = Duration::from_millis(500);
        while let Err(error) = self.save(&record).await {
            tracing::warn!(
                account = &*self.identity.account,
                "the refresh token that came cannot be kept yet: {error}"
            );
            sleep(pause).await;
            pause = (pause * 2).min(WRITE_PAUSE);
        }
        answer.map_err(|failed| failed.error)
    }

    /// Puts the refresh token that came, if one did, in the place of `used`.
    fn exchange(&self, record: &mut Record, used: Refresh, obtained: &Obtained) {
        let issued_at = obtained.requested_at;
        record.intent = None;
        let lapses_at = obtained
            .refresh_lifetime
            .filter(|lifetime| !lifetime.is_zero())
            .and_then(|lifetime| issued_at.checked_add(lifetime));
        match &obtained.refresh {
            Some(token) => {
                let grace = self.identity.policy.reuse_grace;
                record.previous_refresh =
                    Some(used.token).filter(|_| grace.permits(issued_at, issued_at));
                record.refresh = Some(Refresh {
                    token: token.clone(),
                    issued_at,
                    lapses_at,
                });
            }
            // RFC 6749 §6: without a new one the old one stays, and has been used.
            None => {
                record.refresh = Some(Refresh {
                    issued_at,
                    lapses_at: lapses_at.or(used.lapses_at),
                    ..used
                });
            }
        }
    }

    /// Asks when it is this request's turn at the provider.
    async fn in_turn(
        &self,
        asking: BoxFuture<'static, Result<Obtained, NotObtained>>,
    ) -> Result<Obtained, NotObtained> {
        let turn = self.issuer.turn().await;
        let limit = self.shared.parameters.attempt_timeout;
        let answer = timeout(limit, asking).await.unwrap_or_else(|_| {
            let message = format!("no token came within {} s", limit.as_secs());
            Err(NotObtained {
                error: self.error(AuthErrorKind::Transient, message),
                unheard: true,
            })
        });
        drop(turn);
        answer
    }

    fn handed_out(&self, obtained: Obtained) -> Result<AccessToken, AuthError> {
        let expires_at = obtained.requested_at.checked_add(obtained.lifetime);
        let expires_at = expires_at
            .filter(|at| *at > self.shared.now())
            .ok_or_else(|| self.dead_on_arrival())?;
        Ok(AccessToken {
            value: obtained.access,
            token_type: obtained.token_type.unwrap_or_else(|| "Bearer".to_owned()),
            expires_at,
            next_refresh: expires_at,
            scope: obtained.scope,
            generation: 0,
        })
    }
}
