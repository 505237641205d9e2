//! What to type into a device's settings page, in the words such pages use.

use std::net::{IpAddr, SocketAddr};

use postrider_config::{Gateway, GatewayTls};
use postrider_gateway::CertificateFacts;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{encryption, joined};
use crate::app::AppSettings;
use crate::app::gateway::certificate_of;
use crate::app::gateway::own_address;
use crate::failure::Failure;

/// The page of one device.
pub(super) struct Page<'a> {
    gateway: &'a Gateway,
    device: &'a str,
    /// Where it connects: the name or address to type, and the port.
    servers: Vec<(String, u16)>,
    /// Nothing without TLS.
    certificate: Option<Result<CertificateFacts, Failure>>,
}

impl<'a> Page<'a> {
    pub(super) fn of(gateway: &'a Gateway, device: &'a str, settings: &AppSettings) -> Self {
        let certificate =
            (gateway.tls != GatewayTls::DangerPlaintext).then(|| certificate_of(gateway, settings));
        let servers = gateway.listen.iter().map(|address| {
            let name = gateway
                .hostname
                .clone()
                .filter(|name| !name.starts_with('['));
            let host = name.unwrap_or_else(|| reachable(*address, gateway).to_string());
            (host, address.port())
        });
        Self {
            gateway,
            device,
            servers: servers.collect(),
            certificate,
        }
    }

    /// The page with its password; `None`: the device has it.
    pub(super) fn lines(&self, password: Option<&SecretString>) -> Vec<String> {
        let mut lines = vec![match password {
            Some(_) => format!(
                "Type this into the settings page of {}. The password is not shown again.\n",
                self.device
            ),
            None => format!("The settings page of {}:\n", self.device),
        }];
        for (host, port) in &self.servers {
            lines.push(format!("  server      {host}"));
            lines.push(match port {
                0 => "  port        the one that postrider status shows".to_owned(),
                port => format!("  port        {port}"),
            });
        }
        lines.push(format!("  encryption  {}", encryption(self.gateway)));
        lines.push(format!("  user name   {}", self.device));
        lines.push(match password {
            Some(password) => format!("  password    {}", password.expose_secret()),
            None => "  password    the one that it has".to_owned(),
        });
        lines.push(format!("  sender      {}", self.senders()));
        match &self.certificate {
            None => {}
            Some(Ok(facts)) if facts.self_made => lines.push(format!(
                "\nA device that checks certificates has to trust this gateway's, which it made \
                 itself:\n  SHA-256 {}\n  postrider gateway certificate {} > {}.pem",
                facts.fingerprint, self.gateway.name, self.gateway.name
            )),
            Some(Ok(facts)) => {
                lines.push(format!(
                    "\nThe gateway proves itself with {}.",
                    facts.file.display()
                ));
            }
            Some(Err(failure)) => lines.push(format!(
                "\nThe gateway cannot start yet: {}",
                failure.message
            )),
        }
        lines
    }

    /// The same for programs.
    pub(super) fn json(&self, password: Option<&SecretString>, replaced: bool) -> Value {
        let settings = self.gateway.device(self.device);
        let facts = self
            .certificate
            .as_ref()
            .and_then(|facts| facts.as_ref().ok());
        json!({
            "gateway": self.gateway.name,
            "device": self.device,
            "replaced": replaced,
            "servers": self.servers.iter()
                .map(|(host, port)| json!({ "host": host, "port": port }))
                .collect::<Vec<_>>(),
            "tls": self.gateway.tls,
            "username": self.device,
            "password": password.map(SecretString::expose_secret),
            "account": settings.account,
            "senders": settings.senders,
            "certificate": facts.map(|facts| json!({
                "file": facts.file,
                "self_made": facts.self_made,
                "fingerprint": facts.fingerprint,
                "expires_at": facts.expires_at.to_string(),
            })),
        })
    }

    fn senders(&self) -> String {
        let settings = self.gateway.device(self.device);
        let senders = &settings.senders;
        let domains = senders
            .domains
            .iter()
            .map(|domain| format!("any of @{domain}"));
        let all = joined(senders.addresses.iter().cloned().chain(domains));
        if settings.rewrite_from {
            format!("{all} (others are rewritten)")
        } else {
            all
        }
    }
}

/// The address under which clients reach a listener: for one that is on all of this machine's, the
/// one that this machine has in its first clients' network.
fn reachable(listener: SocketAddr, gateway: &Gateway) -> IpAddr {
    if !listener.ip().is_unspecified() {
        return listener.ip();
    }
    let mut networks = gateway.clients.iter();
    let near = networks.find_map(|network| own_address(network.address()));
    near.unwrap_or(listener.ip())
}
