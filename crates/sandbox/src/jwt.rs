//! Signed tokens (RFC 7515 compact form): making them with the sandbox's key, and taking
//! apart those that clients present.
//!
//! Nothing is believed before its signature was checked: [`Jws::verify`] alone returns
//! claims. Which claims are good enough is for the callers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{self, RSA_PKCS1_SHA256, UnparsedPublicKey};
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Longest token taken apart. Entra's are a few thousand octets.
const MAX_OCTETS: usize = 64 * 1024;

/// The key Entra ID signs its tokens with: RSA, 2048 bits.
pub struct SigningKey {
    pair: RsaKeyPair,
    kid: String,
    modulus: String,
    exponent: String,
    certificate: String,
}

impl SigningKey {
    /// Makes a new key. Takes a moment of CPU: call it off the runtime's threads.
    ///
    /// # Errors
    /// The system's random source, or a library, failed.
    pub fn generate() -> Result<Self, KeyError> {
        let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048)
            .map_err(|e| KeyError::new("make an RSA key", e))?;
        let pkcs8 = private
            .to_pkcs8_der()
            .map_err(|e| KeyError::new("encode the RSA key", e))?;
        let pair = RsaKeyPair::from_pkcs8(pkcs8.as_bytes())
            .map_err(|e| KeyError::new("load the RSA key", e))?;

        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
            &rcgen::PKCS_RSA_SHA256,
        )
        .map_err(|e| KeyError::new("load the RSA key", e))?;
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "sandbox token signing");
        let certificate = params
            .self_signed(&signer)
            .map_err(|e| KeyError::new("certify the RSA key", e))?;

        Ok(Self {
            pair,
            kid: URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.der())),
            modulus: URL_SAFE_NO_PAD.encode(private.n().to_bytes_be()),
            exponent: URL_SAFE_NO_PAD.encode(private.e().to_bytes_be()),
            certificate: STANDARD.encode(certificate.der()),
        })
    }

    /// The key as an entry of the JSON Web Key set, with the fields Entra gives.
    pub(crate) fn jwk(&self, issuer: &str) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid,
            "n": self.modulus, "e": self.exponent, "x5c": [self.certificate], "issuer": issuer,
        })
    }

    /// Signs claims with RS256.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5t": self.kid, "kid": self.kid });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                token.as_bytes(),
                &mut signature,
            )
            .expect("a 2048-bit key signs SHA-256 into a buffer of its own length");
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }

    /// Checks that this sandbox signed the token, and returns its claims.
    pub(crate) fn verify(&self, token: &str) -> Result<Value, TokenProblem> {
        let jws = Jws::parse(token)?;
        if jws.alg() != Some("RS256") {
            return Err(TokenProblem::Algorithm(shown(jws.alg().unwrap_or("none"))));
        }
        if jws.header_text("kid") != Some(self.kid.as_str()) {
            return Err(TokenProblem::UnknownKey);
        }
        let key =
            UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, self.pair.public());
        jws.verify(&key)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Why no signing key could be made.
#[derive(Debug)]
pub struct KeyError {
    doing: &'static str,
    cause: String,
}

impl KeyError {
    #[allow(
        clippy::needless_pass_by_value,
        reason = "so that map_err reads plainly"
    )]
    fn new(doing: &'static str, cause: impl fmt::Display) -> Self {
        Self {
            doing,
            cause: cause.to_string(),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for KeyError {}

/// Why a token was not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenProblem {
    /// Not three parts of base64url JSON.
    Malformed,
    /// Signed with something other than RS256.
    Algorithm(String),
    /// Signed with a key this sandbox does not have; also another sandbox's token.
    UnknownKey,
    /// The signature does not fit the text.
    Signature,
    /// From another issuer.
    Issuer(String),
    /// Not valid before.
    NotYet(Timestamp),
    /// Expired.
    Expired(Timestamp),
    /// For another service.
    Audience {
        /// What the token is for.
        found: String,
        /// What it should be for.
        expected: String,
    },
    /// Revoked through the control API.
    Revoked,
}

impl fmt::Display for TokenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the token is no JWT"),
            Self::Algorithm(alg) => write!(f, "the token is signed with {alg}, not RS256"),
            Self::UnknownKey => f.write_str("the token's signing key is not this sandbox's"),
            Self::Signature => f.write_str("the token's signature is wrong"),
            Self::Issuer(issuer) => write!(f, "the token's issuer {issuer} is unknown"),
            Self::NotYet(from) => write!(f, "the token is not valid before {from}"),
            Self::Expired(at) => write!(f, "the token expired at {at}"),
            Self::Audience { found, expected } => {
                write!(f, "the token is for {found}, not {expected}")
            }
            Self::Revoked => f.write_str("the token was revoked"),
        }
    }
}

impl std::error::Error for TokenProblem {}

/// A piece of somebody else's text, short and printable enough for a log line.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .take(120)
        .flat_map(char::escape_debug)
        .collect()
}

/// A token taken apart, its signature not yet checked.
#[derive(Clone)]
pub(crate) struct Jws<'a> {
    signed: &'a str,
    header: Value,
    claims: Value,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a compact serialisation apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenProblem> {
        if token.len() > MAX_OCTETS {
            return Err(TokenProblem::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenProblem::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenProblem::Malformed)?;
        Ok(Self {
            signed,
            header: json_part(header)?,
            claims: json_part(claims)?,
            signature: URL_SAFE_NO_PAD
                .decode(signature)
                .map_err(|_| TokenProblem::Malformed)?,
        })
    }

    /// The signature algorithm it says it has.
    pub(crate) fn alg(&self) -> Option<&str> {
        self.header_text("alg")
    }

    /// A text of the header, as it says, not as it is proven.
    pub(crate) fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// A text claim, as it says, not as it is proven: to find the key to check it with.
    pub(crate) fn unproven(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// Checks the signature and returns the claims.
    pub(crate) fn verify<B: AsRef<[u8]>>(
        self,
        key: &UnparsedPublicKey<B>,
    ) -> Result<Value, TokenProblem> {
        key.verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| TokenProblem::Signature)?;
        Ok(self.claims)
    }
}

fn json_part(part: &str) -> Result<Value, TokenProblem> {
    let octets = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenProblem::Malformed)?;
    let value: Value = serde_json::from_slice(&octets).map_err(|_| TokenProblem::Malformed)?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(TokenProblem::Malformed)
    }
}

/// An RSA public key that checks what clients sign, from a PEM certificate or public key.
pub(crate) struct VerifyingKey {
    rsa_public_key: Vec<u8>,
    thumbprint: Option<String>,
    expires: Option<Timestamp>,
}

impl VerifyingKey {
    /// Reads `CERTIFICATE` or `PUBLIC KEY` PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, String> {
        if let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) {
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|_| "it is no X.509 certificate")?;
            return Ok(Self {
                rsa_public_key: rsa_public_key(certificate.public_key())?,
                thumbprint: Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &der))),
                expires: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok(),
            });
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| "it is neither a CERTIFICATE nor a PUBLIC KEY in PEM")?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| "it is no public key")?;
        Ok(Self {
            rsa_public_key: rsa_public_key(&info)?,
            thumbprint: None,
            expires: None,
        })
    }

    /// SHA-256 over the certificate, as `x5t#S256` has it; `None` for a bare key.
    pub(crate) fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// Whether its certificate has expired.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end < now)
    }

    /// Checks the signature by the algorithm the token names: PS256 or RS256.
    pub(crate) fn verify(&self, jws: Jws<'_>) -> Result<Value, TokenProblem> {
        let algorithm = match jws.alg() {
            Some("PS256") => &signature::RSA_PSS_2048_8192_SHA256,
            Some("RS256") => &signature::RSA_PKCS1_2048_8192_SHA256,
            other => return Err(TokenProblem::Algorithm(shown(other.unwrap_or("none")))),
        };
        jws.verify(&UnparsedPublicKey::new(algorithm, &self.rsa_public_key))
    }
}

fn rsa_public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<Vec<u8>, String> {
    match info.parsed() {
        // The sizes that signatures can be checked with.
        Ok(PublicKey::RSA(key)) if (2048..=8192).contains(&key.key_size()) => {
            Ok(info.subject_public_key.data.to_vec())
        }
        Ok(PublicKey::RSA(_)) => Err("its key is not 2048 to 8192 bits long".to_owned()),
        _ => Err("its key is not RSA".to_owned()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, OnceLock};

    use super::*;

    /// One key for all tests of this program: making one takes a while.
    pub(crate) fn test_key() -> Arc<SigningKey> {
        static KEY: OnceLock<Arc<SigningKey>> = OnceLock::new();
        Arc::clone(KEY.get_or_init(|| Arc::new(SigningKey::generate().unwrap())))
    }

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let key = test_key();
        let claims = json!({ "sub": "x" });
        let token = key.sign(&claims);
        assert_eq!(key.verify(&token).unwrap(), claims);

        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(r#"{"sub":"y"}"#);
        assert_eq!(
            key.verify(&format!("{header}.{other}.{signature}")),
            Err(TokenProblem::Signature)
        );
        assert_eq!(
            key.verify(&format!("{signed}.")),
            Err(TokenProblem::Signature)
        );

        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert_eq!(
            key.verify(&format!("{none}.{other}.")),
            Err(TokenProblem::Algorithm("none".to_owned()))
        );
        let foreign = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"other"}"#);
        assert_eq!(
            key.verify(&format!("{foreign}.{other}.{signature}")),
            Err(TokenProblem::UnknownKey)
        );
    }

    #[test]
    fn the_published_key_checks_a_token() {
        let key = test_key();
        let jwk = key.jwk("https://issuer.example");
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let token = key.sign(&json!({ "sub": "x" }));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        signature::RsaPublicKeyComponents {
            n: part("n"),
            e: part("e"),
        }
        .verify(
            &signature::RSA_PKCS1_2048_8192_SHA256,
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,200}", a in "[A-Za-z0-9_-]{0,40}", b in "[A-Za-z0-9_-]{0,40}") {
            proptest::prop_assert!(test_key().verify(&text).is_err());
            proptest::prop_assert!(test_key().verify(&[a.as_str(), &b, &a].join(".")).is_err());
        }
    }
}
