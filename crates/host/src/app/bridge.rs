//! Where two crates that do not know each other meet: sessions ask, credentials answer.

use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_auth::{AuthError, Credential, SaslFlow};
use postrider_smtp::{Authenticator, SaslError, SaslExchange};

/// A [`Credential`] as an SMTP session sees it.
#[derive(Clone, Debug)]
pub(super) struct CredentialAuthenticator(pub(super) Arc<Credential>);

impl Authenticator for CredentialAuthenticator {
    fn begin<'a>(
        &'a self,
        offered: &'a [String],
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        async move {
            let flow = self
                .0
                .begin_sasl(offered, host, port)
                .await
                .map_err(SaslError::caused_by)?;
            Ok(Box::new(Exchange(flow)) as Box<dyn SaslExchange>)
        }
        .boxed()
    }

    fn rejected(&self, generation: u64) -> BoxFuture<'_, ()> {
        async move { self.0.invalidate(generation).await }.boxed()
    }
}

struct Exchange(SaslFlow);

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.0.mechanism())
    }
}

impl SaslExchange for Exchange {
    fn mechanism(&self) -> &str {
        self.0.mechanism()
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        self.0.initial_response().map(<[u8]>::to_vec)
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }

    fn mask(&self, text: &str) -> String {
        self.0.mask(text)
    }

    fn respond<'a>(&'a mut self, challenge: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        async move {
            self.0
                .respond(challenge)
                .await
                .map_err(SaslError::caused_by)
        }
        .boxed()
    }
}

/// The [`AuthError`] behind a [`SaslError`], if a credential was the cause.
pub(super) fn auth_error(error: &SaslError) -> Option<&AuthError> {
    error
        .source
        .as_deref()
        .and_then(|source| source.downcast_ref())
}
