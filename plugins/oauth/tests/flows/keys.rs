//! An RSA key with its certificate, made once per process.

use std::sync::OnceLock;

use ::rsa::RsaPrivateKey;
use ::rsa::pkcs1::EncodeRsaPrivateKey;
use ::rsa::pkcs8::{EncodePrivateKey, LineEnding};
use ::rsa::rand_core::OsRng;
use rcgen::{CertificateParams, PKCS_RSA_SHA256};
use ring::rsa;
use rustls_pki_types::PrivatePkcs8KeyDer;

pub(crate) struct Key {
    pub(crate) pkcs8_pem: String,
    pub(crate) pkcs1_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) certificate_der: Vec<u8>,
    /// The `RSAPublicKey` (RFC 8017 §A.1.1).
    pub(crate) public: Vec<u8>,
}

/// The key most tests use.
pub(crate) fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(make)
}

/// A key that has nothing to do with [`key`].
pub(crate) fn other_key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(make)
}

fn make() -> Key {
    let key = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    let pkcs8 = key.to_pkcs8_der().unwrap();
    let pair = rsa::KeyPair::from_pkcs8(pkcs8.as_bytes()).unwrap();
    let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
        &PKCS_RSA_SHA256,
    )
    .unwrap();
    let certificate = CertificateParams::new(vec!["mailer.contoso.com".to_owned()])
        .unwrap()
        .self_signed(&signer)
        .unwrap();
    Key {
        pkcs8_pem: key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        pkcs1_pem: key.to_pkcs1_pem(LineEnding::CRLF).unwrap().to_string(),
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        public: pair.public().as_ref().to_vec(),
    }
}
