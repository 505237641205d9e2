//! OAuth 2.0 for mail accounts: Microsoft 365 and any other provider, with SASL XOAUTH2 and
//! OAUTHBEARER.
//!
//! Four operations. `login`: a person signs in, with a browser here or a code elsewhere.
//! `obtain`: an access token without a person, by refresh token or client credentials.
//! `sasl`: the token is shown to a mail server. `revoke`: the provider forgets a token.
//!
//! The plugin opens no socket and keeps nothing: it yields what it needs (see
//! [`postrider_plugin::kit`]), and the host decides when to refresh and where tokens live. No
//! error or `Debug` text of this crate holds a token or a secret.
#![forbid(unsafe_code)]

mod assertion;
mod browser;
mod client_auth;
mod device;
mod endpoint;
mod form;
mod http_date;
mod identity;
mod provider;
mod refusal;
mod sasl;
mod settings;
mod tokens;

use std::sync::OnceLock;

use oauth2::{RefreshToken, Scope};
use postrider_plugin::wire::{
    Config, Description, LoginInput, LoginMethod, ObtainInput, Op, RevokeInput, SaslInput, Secret,
    Tokens,
};
use postrider_plugin::{Error, ErrorKind, Io, Level, Plugin};

use endpoint::{Http, grant_error};
use form::Form;
use provider::{Endpoints, Provider};
use sasl::Mechanism;
use settings::{Account, Flow, Settings};

/// The plugin, for one account.
#[derive(Debug)]
pub struct OAuth {
    account: Account,
    /// Discovered endpoints, from the first flow that needed them.
    discovered: OnceLock<Endpoints>,
}

impl Plugin for OAuth {
    fn describe() -> Description {
        Description {
            name: "oauth".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "OAuth 2.0: Microsoft 365 and other providers".into(),
            ops: vec![Op::Login, Op::Obtain, Op::Sasl, Op::Revoke],
            mechanisms: Mechanism::PREFERENCE
                .map(|mechanism| mechanism.name().into())
                .into(),
            config_schema: schemars::schema_for!(Settings),
            hosts: [
                "{authority}",
                "{issuer}",
                "{authorization_endpoint}",
                "{token_endpoint}",
                "{device_authorization_endpoint}",
                "{revocation_endpoint}",
                "{userinfo_endpoint}",
            ]
            .map(Into::into)
            .into(),
        }
    }

    fn create(config: Config) -> Result<Self, Error> {
        Ok(Self {
            account: Account::from_config(config)?,
            discovered: OnceLock::new(),
        })
    }

    async fn login(&self, io: Io, input: LoginInput) -> Result<Tokens, Error> {
        if self.account.flow == Flow::ClientCredentials {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "flow is client_credentials: the application signs itself in, nobody needs to",
            ));
        }
        let http = self.http(&io).await?;
        let tokens = match input.method {
            LoginMethod::Browser => browser::login(&http).await,
            LoginMethod::DeviceCode => device::login(&http).await,
        }?;
        if tokens.refresh_token.is_none() {
            io.log(
                Level::Warn,
                "the provider gave no refresh token: this sign-in ends with its access token \
                 (Microsoft and OpenID providers want `offline_access` among the scopes)",
            );
        }
        Ok(tokens)
    }

    async fn obtain(&self, io: Io, input: ObtainInput) -> Result<Tokens, Error> {
        let elsewhere = self.elsewhere(input.scopes)?;
        match (self.account.flow, &input.refresh_token) {
            (Flow::ClientCredentials, _) => self.client_credentials(&io, elsewhere).await,
            (_, Some(refresh_token)) => self.refresh(&io, refresh_token, elsewhere).await,
            (_, None) => Err(Error::new(ErrorKind::NeedsUser, "no sign-in yet")),
        }
    }

    async fn sasl(&self, io: Io, input: SaslInput) -> Result<(), Error> {
        sasl::exchange(&io, &self.account.mechanisms, &input).await
    }

    async fn revoke(&self, io: Io, input: RevokeInput) -> Result<(), Error> {
        let http = self.http(&io).await?;
        let Some(endpoint) = &http.endpoints.revocation else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this provider names no revocation_endpoint",
            ));
        };
        // The refresh token first: it is what could make new access tokens.
        let tokens = [
            ("refresh_token", &input.refresh_token),
            ("access_token", &input.access_token),
        ];
        for (hint, token) in tokens {
            let Some(token) = token else { continue };
            let form = Form::new([
                ("token", token.expose()),
                ("token_type_hint", hint),
                ("client_id", &self.account.client_id),
            ]);
            match http.post(endpoint.url(), form).await {
                // Some revoke refresh tokens alone, and what was issued by them along with them
                // (RFC 7009 §2.1).
                Err(error)
                    if error.kind == ErrorKind::Unsupported
                        && input.refresh_token.is_some()
                        && hint == "access_token" => {}
                result => drop(result?),
            }
        }
        Ok(())
    }
}

impl OAuth {
    async fn http<'a>(&'a self, io: &'a Io) -> Result<Http<'a>, Error> {
        Ok(Http {
            io,
            account: &self.account,
            endpoints: self
                .account
                .provider
                .endpoints(io, &self.discovered)
                .await?,
        })
    }

    /// The scopes of another resource, if a token of one is wanted. Only Entra ID is known to
    /// give one out for a grant that was made for mail.
    fn elsewhere(&self, scopes: Vec<String>) -> Result<Option<Vec<Scope>>, Error> {
        if scopes.is_empty() {
            return Ok(None);
        }
        if !matches!(self.account.provider, Provider::Microsoft(_)) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this provider gives no tokens of another resource for the account's grant",
            ));
        }
        settings::scopes(scopes).map(Some)
    }

    /// RFC 6749 §4.4.
    async fn client_credentials(
        &self,
        io: &Io,
        elsewhere: Option<Vec<Scope>>,
    ) -> Result<Tokens, Error> {
        let http = self.http(io).await?;
        http.grants()
            .exchange_client_credentials()
            .add_scopes(elsewhere.unwrap_or_else(|| self.account.scopes.clone()))
            .request_async(&http)
            .await
            .map_err(grant_error)?
            .into_tokens()
    }

    /// RFC 6749 §6.
    async fn refresh(
        &self,
        io: &Io,
        refresh_token: &Secret,
        elsewhere: Option<Vec<Scope>>,
    ) -> Result<Tokens, Error> {
        let http = self.http(io).await?;
        let refresh_token = RefreshToken::new(refresh_token.expose().to_owned());
        let client = http.grants();
        let mut request = client.exchange_refresh_token(&refresh_token);
        // Entra ID's refresh tokens are not bound to a resource, so the scopes say which one
        // the access token is for. Elsewhere the scopes of the sign-in simply go on.
        if matches!(self.account.provider, Provider::Microsoft(_)) {
            request = request.add_scopes(elsewhere.unwrap_or_else(|| self.account.scopes.clone()));
        }
        request
            .request_async(&http)
            .await
            .map_err(grant_error)?
            .into_tokens()
    }
}

postrider_plugin::export!(OAuth);
