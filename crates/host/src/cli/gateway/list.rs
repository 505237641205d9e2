//! `postrider gateway list`, and `postrider gateway certificate`.

use std::process::ExitCode;

use postrider_config::{Gateway, GatewayTls};
use serde_json::json;

use super::credential::devices;
use super::{chosen, clients, joined, quirks};
use crate::app::gateway::certificate_of;
use crate::app::{App, AppSettings, Moment};
use crate::cli::output::Output;
use crate::failure::Failure;

pub(super) fn run(settings: &AppSettings, output: &Output) -> Result<ExitCode, Failure> {
    let app = App::open(settings)?;
    let credentials = devices(&app)?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for gateway in app.config().gateways.values() {
        let own = credentials.iter().filter(|(at, _)| *at == gateway.name);
        let devices: Vec<&str> = own.map(|(_, device)| device.as_str()).collect();
        rows.push(vec![
            gateway.name.clone(),
            joined(&gateway.listen),
            gateway.tls.to_string(),
            clients(gateway),
            gateway.defaults.account.clone(),
            mode(gateway),
            devices.len().to_string(),
        ]);
        values.push(json!({
            "name": gateway.name,
            "listen": gateway.listen,
            "tls": gateway.tls,
            "certificate": gateway.certificate.as_ref().map(|files| &files.certificate),
            "hostname": gateway.hostname,
            "clients": gateway.clients,
            "account": gateway.defaults.account,
            "observe_account": gateway.observe,
            "quirks": gateway.quirks,
            "rehearse": gateway.rehearse.as_ref().map(|rehearse| json!({
                "from": Moment(rehearse.from),
                "until": rehearse.until.map(Moment),
                "devices": rehearse.devices,
            })),
            "defaults": gateway.defaults,
            "devices": gateway.devices,
            "credentials": devices,
        }));
    }
    output.json(&values);
    output.table(
        &[
            "NAME",
            "LISTENS",
            "TLS",
            "CLIENTS",
            "ACCOUNT",
            "MODE",
            "PASSWORDS",
        ],
        &rows,
        "no gateways: postrider gateway add NAME",
    );
    for gateway in app
        .config()
        .gateways
        .values()
        .filter(|gateway| !gateway.quirks.is_empty())
    {
        output.line(format!(
            "{}: quirks {}",
            gateway.name,
            quirks(&gateway.quirks)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn mode(gateway: &Gateway) -> String {
    match &gateway.observe {
        Some(account) => format!("observe, through {account}"),
        None => "submit".to_owned(),
    }
}

/// Prints the certificate, and not its key, which may stand in the same file.
pub(super) fn certificate(
    name: Option<&str>,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let app = App::open(settings)?;
    let gateway = chosen(&app, name)?;
    if gateway.tls == GatewayTls::DangerPlaintext {
        return Err(Failure::new(
            "config.no_certificate",
            format!("gateway {:?} uses no TLS, and no certificate", gateway.name),
        ));
    }
    let facts = certificate_of(gateway, settings)?;
    let text = std::fs::read_to_string(&facts.file).map_err(|error| {
        let place = facts.file.display();
        Failure::new("file.unreadable", format!("{place}: {error}"))
    })?;
    let pem = certificates(&text);
    output.json(&json!({
        "gateway": gateway.name,
        "self_made": facts.self_made,
        "fingerprint": facts.fingerprint,
        "expires_at": facts.expires_at.to_string(),
        "pem": pem,
    }));
    output.line(pem.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// The certificates in PEM text (RFC 7468), and nothing else of it.
fn certificates(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut inside = false;
    let mut found = String::new();
    for line in text.lines().map(str::trim_end) {
        inside |= line == BEGIN;
        if inside {
            found.push_str(line);
            found.push('\n');
        }
        inside &= line != END;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_printed() {
        let text = "subject=x\n-----BEGIN CERTIFICATE-----\r\nAA\n-----END CERTIFICATE-----\n\
                    -----BEGIN PRIVATE KEY-----\nBB\n-----END PRIVATE KEY-----\n\
                    -----BEGIN CERTIFICATE-----\nCC\n-----END CERTIFICATE-----";
        let found = certificates(text);
        assert_eq!(
            found,
            "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n\
             -----BEGIN CERTIFICATE-----\nCC\n-----END CERTIFICATE-----\n"
        );
    }
}
