//! The certificate that a server shows: looked at, and refused, unless it is the very one that
//! was to be seen, so that nothing is ever sent to who shows another.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_config::Account as Settings;
use postrider_smtp::{Authenticator, Pool, PoolLimits, SaslError, SaslExchange};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::claims::shown;
use super::report::{Finding, NETWORK, YOU};
use crate::app::account::{Account, IDLE, server_settings};

/// What a certificate says of itself.
pub(super) struct Presented {
    subject: String,
    issuer: String,
    expires: String,
}

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            issuer,
            expires,
        } = self;
        write!(
            f,
            "certificate {subject} issued by {issuer}, expires {expires}"
        )
    }
}

impl Presented {
    /// Nobody here trusts its issuer.
    pub(super) fn untrusted(&self, settings: &Settings) -> Finding {
        let server = format!("{}:{}", settings.server.host, settings.server.port);
        let issuer = &self.issuer;
        let public =
            settings.provider.starts_with("microsoft365") || settings.provider == "outlook";
        let (code, cause) = if public {
            (
                "tls.inspected",
                format!(
                    "something between here and {server} breaks TLS open: the certificate was \
                     issued by {issuer}, which is not Microsoft's and is not trusted here"
                ),
            )
        } else {
            (
                "tls.unknown_authority",
                format!(
                    "the certificate of {server} was issued by {issuer}, which is not trusted here"
                ),
            )
        };
        Finding::new(
            code,
            cause,
            format!(
                "have the inspection exempt {server}; or, if {issuer} is an authority of your own, \
                 name its certificate: account.{}.ca_file",
                settings.name
            ),
            if public { NETWORK } else { YOU },
        )
    }
}

/// The certificate that the account's mail server shows.
pub(super) async fn certificate(account: &Account) -> Option<Presented> {
    let seen = Arc::new(Looking::default());
    let config = seen.config()?;
    let settings = account.settings();
    let limits = PoolLimits {
        connections: 1,
        idle: IDLE,
    };
    let pool = Pool::new(
        server_settings(settings, Arc::new(config)).ok()?,
        Arc::new(Nobody),
        limits,
    );
    // It ends with the refusal below.
    drop(pool.check(&settings.sender.email).await);
    seen.take()
}

/// Looks at a certificate, and refuses any but the one that it was made for.
#[derive(Debug, Default)]
pub(super) struct Looking {
    only: Option<CertificateDer<'static>>,
    seen: Mutex<Option<CertificateDer<'static>>>,
}

impl Looking {
    pub(super) fn for_only(only: Option<CertificateDer<'static>>) -> Self {
        Self {
            only,
            seen: Mutex::default(),
        }
    }

    /// A client that has it look.
    pub(super) fn config(self: &Arc<Self>) -> Option<rustls::ClientConfig> {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as _)
            .with_no_client_auth();
        Some(config)
    }

    pub(super) fn take(&self) -> Option<Presented> {
        let seen = self.seen.lock();
        let der = seen.unwrap_or_else(PoisonError::into_inner).take()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        Some(Presented {
            subject: shown(&certificate.subject().to_string()),
            issuer: shown(&certificate.issuer().to_string()),
            expires: certificate.validity().not_after.to_string(),
        })
    }
}

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(end_entity.clone().into_owned());
        if self.only.as_ref() == Some(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// Has nothing to show to a server.
#[derive(Debug)]
pub(super) struct Nobody;

impl Authenticator for Nobody {
    fn begin<'a>(
        &'a self,
        _offered: &'a [String],
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        async { Err(SaslError::new("only the certificate is looked at")) }.boxed()
    }

    fn rejected(&self, _generation: u64) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
