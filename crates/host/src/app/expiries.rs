//! When an account's secrets stop being accepted, as far as that can be known here.
//!
//! A certificate says so itself. Of a client secret or a password only its provider knows, so
//! somebody has to write it down: beside the value in the vault, or in the configuration.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postrider_auth::KnownExpiry;
use postrider_config::{Account, SecretRef};
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::pem::Pem;

/// The setting that holds a certificate.
const CERTIFICATE: &str = "certificate";

/// The expiry of each secret of `settings` that has one, by setting.
///
/// What is certain goes before what somebody said, and what was said with the value before what
/// the configuration says. `resolve` fetches a secret, `in_vault` says what the vault knows of
/// the one with that name.
pub(super) fn known(
    settings: &Account,
    resolve: impl Fn(&SecretRef) -> Option<SecretString>,
    in_vault: impl Fn(&str) -> Option<SystemTime>,
) -> Vec<KnownExpiry> {
    let mut found: BTreeMap<&str, (SystemTime, &'static str)> = BTreeMap::new();
    for (setting, expires_at) in &settings.auth.expires {
        found.insert(setting, (*expires_at, "declared"));
    }
    for (setting, reference) in &settings.auth.secrets {
        if let SecretRef::Vault(name) = reference
            && let Some(expires_at) = in_vault(name)
        {
            found.insert(setting, (expires_at, "vault"));
        }
        // A program is not run just to look at what it prints.
        if setting == CERTIFICATE
            && !matches!(reference, SecretRef::Command(_))
            && let Some(expires_at) = resolve(reference).and_then(|pem| not_after(&pem))
        {
            found.insert(setting, (expires_at, "certificate"));
        }
    }
    found
        .into_iter()
        .map(|(setting, (expires_at, source))| KnownExpiry {
            secret: setting.to_owned(),
            expires_at,
            source,
        })
        .collect()
}

/// `notAfter` of the first certificate in a PEM file (RFC 5280 §4.1.2.5).
fn not_after(pem: &SecretString) -> Option<SystemTime> {
    let block = Pem::iter_from_buffer(pem.expose_secret().as_bytes())
        .filter_map(Result::ok)
        .find(|block| block.label == "CERTIFICATE")?;
    let certificate = block.parse_x509().ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use postrider_config::Presets;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use serde_json::json;

    use super::*;

    fn at(day: &str) -> SystemTime {
        postrider_config::parse_expiry(day).unwrap()
    }

    fn account(certificate: &str) -> Account {
        Account::from_value(
            "a",
            json!({
                "provider": "microsoft365",
                "username": "svc-mail@contoso.com",
                "auth": {
                    "plugin": "oauth",
                    "flow": "client_credentials",
                    "tenant": "contoso.onmicrosoft.com",
                    "client_id": "0f1e2d3c-0000-0000-0000-000000000000",
                    "private_key": { "vault": "a/key", "expires": "2027-05-01" },
                    "certificate": { "inline": certificate, "expires": "2027-04-01" },
                }
            }),
            &Presets::builtin(),
        )
        .unwrap()
    }

    fn certificate_until(year: i32) -> String {
        let mut params = CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 31);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    fn inline(reference: &SecretRef) -> Option<SecretString> {
        match reference {
            SecretRef::Inline(value) => Some(value.clone()),
            _ => None,
        }
    }

    #[test]
    fn a_certificate_knows_best_and_the_vault_better_than_the_settings() {
        let account = account(&certificate_until(2031));

        let found = known(&account, inline, |name| {
            (name == "a/key").then(|| at("2027-06-01"))
        });

        let found: Vec<_> = found
            .iter()
            .map(|one| (one.secret.as_str(), one.source, one.expires_at))
            .collect();
        assert_eq!(
            found,
            [
                ("certificate", "certificate", at("2031-01-31")),
                ("private_key", "vault", at("2027-06-01")),
            ]
        );
    }

    #[test]
    fn where_nothing_else_is_known_the_settings_count() {
        let account = account("no certificate");

        let found = known(&account, inline, |_| None);

        assert!(found.iter().all(|one| one.source == "declared"));
        assert_eq!(found[0].expires_at, at("2027-04-01"));
        assert_eq!(found[1].expires_at, at("2027-05-01"));
    }
}
