//! How the application proves itself to the provider's endpoints.
//!
//! Every form that leaves for an endpoint passes [`ClientAuth::prove`], so that each request
//! asks the host for the secret anew (a rotated one is used at once) and each carries an
//! assertion of its own (a server may refuse a `jti` it has seen).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oauth2::url::form_urlencoded;
use postrider_plugin::wire::Secret;
use postrider_plugin::{Error, Io};

use crate::assertion::{Algorithm, Claims, JTI_OCTETS, Signer};
use crate::form::Form;

/// RFC 7523 §2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The application's way to prove itself. Names what to ask the host for; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// A public client: `client_id` alone.
    Public,
    /// `client_secret` in the body (RFC 6749 §2.3.1).
    Post,
    /// `client_secret` as HTTP Basic (RFC 6749 §2.3.1).
    Basic,
    /// An assertion signed with `private_key` (RFC 7523 §2.2).
    Key {
        /// Whether there is a certificate to name by its thumbprint.
        certificate: bool,
        algorithm: Algorithm,
        /// `aud`, if another than the token endpoint.
        audience: Option<String>,
    },
    /// An assertion of another issuer, sent as it is.
    Federated,
}

impl ClientAuth {
    /// Adds the proof to `form`, which holds `client_id` already; the answer is the value of
    /// the `Authorization` field, where the proof goes there.
    pub(crate) async fn prove(
        &self,
        io: &Io,
        client_id: &str,
        token_endpoint: &str,
        form: &mut Form,
    ) -> Result<Option<Secret>, Error> {
        match self {
            Self::Public => Ok(None),
            Self::Post => {
                form.set("client_secret", io.secret("client_secret").await?);
                Ok(None)
            }
            Self::Basic => {
                let secret = io.secret("client_secret").await?;
                // The body need not repeat who the header names.
                form.remove("client_id");
                let header = basic(client_id, &secret);
                form.accompany(secret);
                Ok(Some(header))
            }
            Self::Key {
                certificate,
                algorithm,
                audience,
            } => {
                let key = io.secret("private_key").await?;
                let certificate = match certificate {
                    true => Some(io.secret("certificate").await?),
                    false => None,
                };
                let jti = io.random(JTI_OCTETS).await?;
                let assertion = Signer::from_pem(&key, certificate.as_ref())?.sign(
                    *algorithm,
                    &Claims {
                        client_id,
                        audience: audience.as_deref().unwrap_or(token_endpoint),
                        jti: &jti,
                        now_ms: io.now_ms(),
                    },
                )?;
                present(form, assertion);
                Ok(None)
            }
            Self::Federated => {
                let assertion = io.secret("assertion").await?;
                // A token file usually ends in a line break.
                present(form, Secret::new(assertion.expose().trim()));
                Ok(None)
            }
        }
    }
}

fn present(form: &mut Form, assertion: Secret) {
    form.set("client_assertion_type", Secret::new(JWT_BEARER));
    form.set("client_assertion", assertion);
}

/// RFC 6749 §2.3.1: both parts are form-encoded before they become user and password.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    let encode =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = Secret::new(format!("{}:{}", encode(client_id), encode(secret.expose())));
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())))
}
