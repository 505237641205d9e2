//! Client assertions: a JWT signed with the application's own RSA key (RFC 7523 §2.2,
//! OpenID Connect Core §9 `private_key_jwt`).
//!
//! The salt of a PS256 signature comes from ring's system randomness, the one thing here that
//! does not come from the host: ring takes no other. Everything a server could compare or
//! replay (`jti`, the times) does.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use postrider_plugin::Error;
use postrider_plugin::wire::Secret;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::settings::misfit;

/// Seconds an assertion is good for: the upper end of what Microsoft recommends, so that a
/// clock a few minutes off does no harm.
const LIFETIME_SECONDS: u64 = 600;

/// Octets of randomness in `jti`.
pub(crate) const JTI_OCTETS: u32 = 16;

/// A JWS algorithm (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) enum Algorithm {
    /// RSASSA-PSS with SHA-256, which Microsoft asks for.
    #[default]
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::PS256 => "PS256",
            Self::RS256 => "RS256",
        }
    }

    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::PS256 => &RSA_PSS_SHA256,
            Self::RS256 => &RSA_PKCS1_SHA256,
        }
    }
}

/// An application's key, and the thumbprint of its certificate if there is one.
pub(crate) struct Signer {
    key: KeyPair,
    /// `x5t#S256` (RFC 7515 §4.1.8).
    thumbprint: Option<String>,
}

/// What an assertion says.
pub(crate) struct Claims<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) jti: &'a [u8],
    pub(crate) now_ms: u64,
}

impl Signer {
    /// Reads a PEM private key and, if given, the PEM certificate that belongs to it. Both
    /// may be the same file: each takes the first section of its kind.
    ///
    /// # Errors
    ///
    /// [`postrider_plugin::ErrorKind::Config`], naming the setting and quoting nothing of it.
    pub(crate) fn from_pem(key: &Secret, certificate: Option<&Secret>) -> Result<Self, Error> {
        let key = private_key(key)?;
        let thumbprint = certificate
            .map(|pem| {
                let certificate = CertificateDer::from_pem_slice(pem.expose().as_bytes())
                    .map_err(|error| unreadable("certificate", "a CERTIFICATE section", &error))?;
                if !certifies(&certificate, &key) {
                    return Err(misfit("certificate and private_key do not belong together"));
                }
                Ok(BASE64URL.encode(digest(&SHA256, &certificate)))
            })
            .transpose()?;
        Ok(Self { key, thumbprint })
    }

    /// A signed assertion, in compact form (RFC 7515 §3.1).
    pub(crate) fn sign(&self, algorithm: Algorithm, claims: &Claims<'_>) -> Result<Secret, Error> {
        let mut header = json!({ "alg": algorithm.name(), "typ": "JWT" });
        if let Some(thumbprint) = &self.thumbprint {
            header["x5t#S256"] = thumbprint.as_str().into();
        }
        let now = claims.now_ms / 1000;
        let payload = json!({
            "aud": claims.audience,
            "iss": claims.client_id,
            "sub": claims.client_id,
            "jti": BASE64URL.encode(claims.jti),
            "nbf": now,
            "iat": now,
            "exp": now.saturating_add(LIFETIME_SECONDS),
        });
        let mut jwt = BASE64URL.encode(header.to_string());
        jwt.push('.');
        BASE64URL.encode_string(payload.to_string(), &mut jwt);

        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                algorithm.encoding(),
                &SystemRandom::new(),
                jwt.as_bytes(),
                &mut signature,
            )
            .map_err(|_| misfit("private_key could not sign"))?;
        jwt.push('.');
        BASE64URL.encode_string(signature, &mut jwt);
        Ok(Secret::new(jwt))
    }
}

fn private_key(pem: &Secret) -> Result<KeyPair, Error> {
    if pem.expose().contains("BEGIN ENCRYPTED PRIVATE KEY")
        || pem.expose().contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(misfit(
            "private_key is encrypted: give it without a passphrase, from a place that keeps it safe",
        ));
    }
    let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|error| unreadable("private_key", "a PRIVATE KEY section", &error))?;
    let key = match &der {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(misfit("private_key is not an RSA key")),
    };
    key.map_err(|reason| {
        misfit(&format!(
            "private_key is not an RSA key of 2048 to 4096 bits ({reason})"
        ))
    })
}

fn unreadable(setting: &str, wanted: &str, error: &pem::Error) -> Error {
    // The library's own words quote the text, which for a key must not happen.
    match error {
        pem::Error::NoItemsFound => misfit(&format!("{setting} holds no PEM text with {wanted}")),
        _ => misfit(&format!("{setting} is damaged PEM text")),
    }
}

/// Whether the certificate is for this key. Its subjectPublicKey (RFC 5280 §4.1) holds
/// exactly the `RSAPublicKey` of RFC 8017 §A.1.1, and a modulus of 2048 bits does not occur
/// elsewhere by chance, so looking for those octets spares an X.509 parser.
fn certifies(certificate: &[u8], key: &KeyPair) -> bool {
    let public: &[u8] = key.public().as_ref();
    certificate.windows(public.len()).any(|part| part == public)
}
