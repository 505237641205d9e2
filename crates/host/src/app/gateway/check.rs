//! Whether a gateway could prove who it is, before anybody listens: for commands, which say where in
//! the configuration the fault is.

use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_config::{CertificateFiles, ConfigErrors, Gateway};
use postrider_gateway::{CertificateFacts, GatewayError};

use super::settings;
use crate::app::{App, AppSettings, Moment, config_failure};
use crate::failure::{Failure, with_sources};
use crate::{state, when};

/// What a certificate has to be.
const READABLE: &str = "name PEM files that this user can read: the certificate with its chain, and its key without a \
                        passphrase";

/// What a gateway proves itself with; one of its own making is made if it is not there.
///
/// # Errors
/// It cannot be used; `at` is the setting that names the file at fault.
pub(crate) fn certificate_of(
    gateway: &Gateway,
    settings: &AppSettings,
) -> Result<CertificateFacts, Failure> {
    let dir = state::directory(settings.state_dir.as_deref())?;
    if gateway.certificate.is_none() {
        state::prepare(&dir)?;
    }
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX);
    let facts = postrider_gateway::certificate(&settings::settings(gateway, &dir), now);
    facts.map_err(|error| unusable(gateway, &error))
}

fn unusable(gateway: &Gateway, error: &GatewayError) -> Failure {
    let failure = Failure::new("config.certificate", with_sources(error)).with_remedy(READABLE);
    match &gateway.certificate {
        Some(files) => failure.at(format!(
            "gateway.{}.{}",
            gateway.name,
            setting(files, error)
        )),
        None => failure,
    }
}

/// The setting that names the file which is at fault.
fn setting(files: &CertificateFiles, error: &GatewayError) -> &'static str {
    match error {
        GatewayError::File { path, .. } | GatewayError::Certificate { path, .. }
            if *path == files.key && *path != files.certificate =>
        {
            "key"
        }
        _ => "certificate",
    }
}

/// Whether the certificate that the configuration names can be used.
///
/// # Errors
/// Its files cannot be read, do not belong together, or it has ended: with its place in the
/// configuration.
pub(crate) fn check(gateway: &Gateway, app: &App, settings: &AppSettings) -> Result<(), Failure> {
    let Some(files) = &gateway.certificate else {
        return Ok(());
    };
    let problem = |key: &str, message: &str, remedy| {
        config_failure(&ConfigErrors {
            path: app.config_path().map(Path::to_owned),
            problems: vec![app.config().problem(key, message, Some(remedy))],
        })
    };
    let key = format!("gateway.{}.certificate", gateway.name);
    let facts = match certificate_of(gateway, settings) {
        Ok(facts) => facts,
        Err(failure) => {
            let key = failure.at.as_deref().unwrap_or(&key);
            return Err(problem(key, &failure.message, READABLE));
        }
    };
    if facts.expires_at <= app.clock().now() {
        let place = files.certificate.display();
        let ended = when::day(Moment(facts.expires_at.into()));
        let message = format!("{place} ended on {ended}: devices refuse it");
        return Err(problem(&key, &message, "put another in its place"));
    }
    Ok(())
}
