//! A webhook that nobody here wrote: Python's HTTP server, with TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use super::{Peer, find_program, root, write_private};

/// A server that takes warnings.
pub(crate) struct Webhook {
    directory: TempDir,
    port: u64,
    _peer: Peer,
}

impl Webhook {
    /// One that answers every POST with this status; or what is missing.
    pub(crate) fn answering(status: u16) -> Result<Self, String> {
        let python = find_program("python3").ok_or("python3 is not installed")?;
        let directory = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        write_private(
            &directory.path().join("ca.pem"),
            authority_certificate.pem(),
        );
        write_private(
            &directory.path().join("server.pem"),
            certificate.pem() + &key.serialize_pem(),
        );
        let (peer, announced) = Peer::announcing(
            Command::new(python)
                .arg(root().join("tests/support/webhook.py"))
                .arg(directory.path().join("server.pem"))
                .arg(directory.path().join("log"))
                .arg(status.to_string()),
        );
        Ok(Self {
            directory,
            port: announced["port"].as_u64().unwrap(),
            _peer: peer,
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/hooks/T0/key-4711", self.port)
    }

    /// The authority of its certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What it was told, in order.
    pub(crate) fn told(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}
