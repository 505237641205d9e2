//! Client secrets and certificates of a registration.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::scenario::{App, Certificate, Guid, Secret};
use crate::state::State;

use super::Call;
use super::answer::{Answer, Refusal};

/// How long a secret lives when nobody says: two years (facts C3).
const LIFETIME: SignedDuration = SignedDuration::from_hours(730 * 24);

impl Call<'_> {
    pub(super) fn add_password(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let app = self.find_application(id)?;
        self.caller.may_manage(app)?;
        let tenant = self.caller.tenant()?;
        if tenant.secrets_forbidden {
            return Err(Refusal::policy(
                "Credential type not allowed as per assigned policy.",
            ));
        }
        let body = if self.octets.is_empty() {
            Value::Null
        } else {
            self.json()?
        };
        let asked = &body["passwordCredential"];
        let now = self.graph.state.now();
        let starts = time(&asked["startDateTime"])?.unwrap_or(now);
        let after = |span| now.saturating_add(span).unwrap_or(Timestamp::MAX);
        let mut ends = time(&asked["endDateTime"])?.unwrap_or_else(|| after(LIFETIME));
        if ends <= starts || ends <= now {
            return Err(Refusal::bad("The credential's end date is in the past."));
        }
        if let Some(longest) = tenant.secret_lifetime {
            let longest =
                SignedDuration::try_from(longest.duration()).unwrap_or(SignedDuration::MAX);
            ends = ends.min(after(longest));
        }
        let handle = self.graph.state.handle();
        let secret = Secret {
            expires: Some(ends),
            key_id: self.graph.state.guid(),
            name: asked["displayName"].as_str().map(str::to_owned),
            starts: Some(starts),
            ..Secret::new(format!("{}~{}", &handle[..6], &handle[6..39]))
        };
        self.change_app(&app.registration_id, |app| {
            app.secrets.push(secret.clone());
            Ok(())
        })?;
        self.graph.state.settle(secret.key_id.as_str());
        let mut made = password_json(&secret);
        // Told once, here.
        made["secretText"] = secret.value.reveal().into();
        Ok(Answer::Found(made))
    }

    pub(super) fn remove_password(&self, id: &str) -> Result<Answer, Refusal> {
        self.caller.may_write_applications()?;
        let app = self.find_application(id)?;
        self.caller.may_manage(app)?;
        let body = self.json()?;
        let key_id = body["keyId"]
            .as_str()
            .and_then(Guid::parse)
            .ok_or_else(|| Refusal::bad("keyId is no GUID."))?;
        if !app.secrets.iter().any(|secret| secret.key_id == key_id) {
            return Err(Refusal::bad(format!(
                "No password credential found with keyId {key_id}."
            )));
        }
        self.change_app(&app.registration_id, |app| {
            app.secrets.retain(|secret| secret.key_id != key_id);
            Ok(())
        })
    }
}

pub(super) fn password_json(secret: &Secret) -> Value {
    let hint: String = secret.value.reveal().chars().take(3).collect();
    json!({
        "keyId": secret.key_id, "displayName": secret.name, "hint": hint, "secretText": null,
        "customKeyIdentifier": null,
        "startDateTime": secret.starts.map(|t| t.to_string()),
        "endDateTime": secret.expires.map(|t| t.to_string()),
    })
}

pub(super) fn key_json(certificate: &Certificate, with_key: bool) -> Value {
    let Ok(der) = CertificateDer::from_pem_slice(certificate.pem.as_bytes()) else {
        return Value::Null;
    };
    let (starts, ends) = validity(&der).unwrap_or((Timestamp::MIN, Timestamp::MAX));
    json!({
        "keyId": certificate.key_id, "displayName": certificate.name,
        "type": "AsymmetricX509Cert", "usage": "Verify",
        "customKeyIdentifier": URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)),
        "startDateTime": starts.to_string(), "endDateTime": ends.to_string(),
        "key": with_key.then(|| STANDARD.encode(&der)),
    })
}

/// The whole list is replaced. An entry without its key must be one that is there.
pub(super) fn set_keys(app: &mut App, value: &Value, state: &State) -> Result<(), Refusal> {
    let invalid = |why: &str| {
        Refusal::bad(format!(
            "Key credential end date or value is invalid: {why}."
        ))
    };
    let entries = value.as_array().ok_or_else(|| invalid("no list"))?;
    let mut keys: Vec<Certificate> = Vec::new();
    for entry in entries {
        let known = entry["keyId"]
            .as_str()
            .and_then(|id| app.certificates.iter().find(|c| c.key_id == *id));
        if let Some(known) = known {
            keys.push(known.clone());
            continue;
        }
        let der = entry["key"]
            .as_str()
            .and_then(|key| STANDARD.decode(key).ok())
            .ok_or_else(|| invalid("a new entry has no key"))?;
        // The key may be the certificate in DER, or its PEM.
        let pem = String::from_utf8(der.clone())
            .ok()
            .filter(|text| text.contains("-----BEGIN CERTIFICATE-----"))
            .unwrap_or_else(|| pem_of(&der));
        crate::jwt::VerifyingKey::from_pem(&pem).map_err(|why| invalid(&why))?;
        keys.push(Certificate {
            pem,
            key_id: entry["keyId"]
                .as_str()
                .and_then(Guid::parse)
                .unwrap_or_else(|| state.guid()),
            name: entry["displayName"].as_str().map(str::to_owned),
        });
    }
    app.certificates = keys;
    Ok(())
}

fn pem_of(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some((
        Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    ))
}

/// An RFC 3339 time, if there is one.
fn time(value: &Value) -> Result<Option<Timestamp>, Refusal> {
    match value {
        Value::Null => Ok(None),
        value => value
            .as_str()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| Refusal::bad("Cannot convert a literal to Edm.DateTimeOffset.")),
    }
}
