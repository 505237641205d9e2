//! A certificate authority of the tests' own, and certificates good and bad.

use std::sync::Arc;

use postrider_smtp::tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::support::HOST;

pub(crate) struct Certificates {
    authority: CertificateDer<'static>,
    server: Arc<ServerConfig>,
    /// DER.
    pub(crate) server_certificate: Vec<u8>,
    /// PKCS #8, DER.
    pub(crate) server_key: Vec<u8>,
}

impl Certificates {
    pub(crate) fn good() -> Self {
        Self::signed(HOST, |_| {})
    }

    pub(crate) fn expired() -> Self {
        Self::signed(HOST, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    pub(crate) fn for_another_name() -> Self {
        Self::signed("other.example", |_| {})
    }

    /// Trusted by nobody but itself.
    pub(crate) fn self_signed() -> Self {
        let good = Self::good();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![HOST.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Self {
            server: server_config(certificate.der().clone(), &key),
            ..good
        }
    }

    /// A certificate that is its own authority, and trusted as one.
    pub(crate) fn authority_as_server() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            authority: certificate.der().clone(),
            server: server_config(certificate.der().clone(), &key),
            server_certificate: certificate.der().to_vec(),
            server_key: key.serialize_der(),
        }
    }

    fn signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let certificate = params.signed_by(&key, &authority).unwrap();
        Self {
            authority: authority.der().clone(),
            server: server_config(certificate.der().clone(), &key),
            server_certificate: certificate.der().to_vec(),
            server_key: key.serialize_der(),
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    pub(crate) fn client_config(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        Arc::new(tls::client_config_trusting(roots).unwrap())
    }
}

fn server_config(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}
