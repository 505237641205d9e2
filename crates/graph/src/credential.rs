//! Client secrets and certificates of an app registration.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::address::{guid, id, with_query};
use crate::client::{Call, Graph};
use crate::error::{GraphError, GraphErrorKind};
use crate::transport::Method;

/// A client secret as it shows afterwards: without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// Its id.
    pub key_id: String,
    /// The name people see.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The first three characters of the secret.
    #[serde(default)]
    pub hint: Option<String>,
    /// From when.
    #[serde(default, rename = "startDateTime", deserialize_with = "time")]
    pub starts: Option<Timestamp>,
    /// Until when.
    #[serde(default, rename = "endDateTime", deserialize_with = "time")]
    pub ends: Option<Timestamp>,
}

/// A client secret that was just made; Graph never tells the secret again.
pub struct NewPassword {
    /// Its id.
    pub key_id: String,
    /// The secret.
    pub secret_text: SecretString,
    /// The first three characters of the secret.
    pub hint: Option<String>,
    /// Until when. A policy of the tenant may have made it sooner than asked for.
    pub ends: Option<Timestamp>,
}

/// Without the secret and its hint.
impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPassword")
            .field("key_id", &self.key_id)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// A certificate of an app registration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Its id.
    pub key_id: String,
    /// The name people see.
    #[serde(default)]
    pub display_name: Option<String>,
    /// As a rule the thumbprint, in Graph's spelling.
    #[serde(default)]
    pub custom_key_identifier: Option<String>,
    /// From when.
    #[serde(default, rename = "startDateTime", deserialize_with = "time")]
    pub starts: Option<Timestamp>,
    /// Until when.
    #[serde(default, rename = "endDateTime", deserialize_with = "time")]
    pub ends: Option<Timestamp>,
}

/// A certificate to be added. Its private key stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCertificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The name people see.
    pub display_name: String,
    /// From when; Graph wants the certificate's own times or narrower ones.
    pub starts: Timestamp,
    /// Until when.
    pub ends: Timestamp,
}

impl Graph {
    /// Makes a client secret for the app with this object id.
    pub async fn add_password(
        &self,
        object_id: &str,
        display_name: &str,
        ends: Timestamp,
    ) -> Result<NewPassword, GraphError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            key_id: String,
            secret_text: String,
            #[serde(default)]
            hint: Option<String>,
            #[serde(default, deserialize_with = "time")]
            end_date_time: Option<Timestamp>,
        }
        const CALL: Call = Call::new("making a client secret")
            .needs("Application.ReadWrite.All")
            .creating();
        let url = self.at(CALL, &["applications", id(CALL, object_id)?, "addPassword"])?;
        let body = json!({
            "passwordCredential": {
                "displayName": display_name,
                "endDateTime": seconds(ends),
            }
        });
        let made: Made = self.make(CALL, url, body).await?;
        self.note_fresh(&[&made.key_id]);
        Ok(NewPassword {
            key_id: made.key_id,
            secret_text: SecretString::from(made.secret_text),
            hint: made.hint,
            ends: made.end_date_time,
        })
    }

    /// Removes a client secret. One that is not there is removed.
    pub async fn remove_password(&self, object_id: &str, key_id: &str) -> Result<(), GraphError> {
        const CALL: Call = Call::new("removing a client secret").needs("Application.ReadWrite.All");
        let url = self.at(
            CALL,
            &["applications", id(CALL, object_id)?, "removePassword"],
        )?;
        let body = json!({ "keyId": guid(CALL, key_id)? });
        let refused = match self.act(CALL, Method::Post, url, Some(body)).await {
            Err(error)
                if matches!(
                    error.kind,
                    GraphErrorKind::Rejected | GraphErrorKind::NotFound
                ) =>
            {
                error
            }
            other => return other,
        };
        // Of a secret that is not there Graph says so in prose only, with 400 or 404.
        let there = match self.application_object(object_id).await {
            Ok(app) => app
                .passwords
                .iter()
                .any(|password| password.key_id.eq_ignore_ascii_case(key_id)),
            Err(error) => error.kind != GraphErrorKind::NotFound,
        };
        if there { Err(refused) } else { Ok(()) }
    }

    /// Adds a certificate to the app with this object id and returns it as Graph shows it. The
    /// others stay; one that is there already is returned and nothing is sent.
    pub async fn add_certificate(
        &self,
        object_id: &str,
        new: &NewCertificate,
    ) -> Result<Certificate, GraphError> {
        const CALL: Call = Call::new("adding a certificate")
            .needs("Application.ReadWrite.All")
            .making();
        let key = STANDARD.encode(&new.der);
        let mut keys = self.keys(object_id).await?;
        if let Some(there) = keys.iter().find(|entry| holds(entry, &key)) {
            return certificate(CALL, there);
        }
        keys.push(json!({
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
            "displayName": new.display_name,
            "startDateTime": seconds(new.starts),
            "endDateTime": seconds(new.ends),
            "key": key,
        }));
        self.set_keys(CALL, object_id, keys).await?;
        // Which id it got only shows; and what was written may not be read at once.
        let mut pauses = self.until_it_shows();
        loop {
            let keys = self.keys(object_id).await?;
            if let Some(there) = keys.iter().find(|entry| holds(entry, &key)) {
                let added = certificate(CALL, there)?;
                self.certificates.note(object_id, &added.key_id, true);
                return Ok(added);
            }
            if !pauses.next().await {
                return Err(GraphError {
                    may_have_happened: true,
                    ..stale(CALL)
                });
            }
        }
    }

    /// Removes a certificate; the others stay. One that is not there is removed.
    pub async fn remove_certificate(
        &self,
        object_id: &str,
        key_id: &str,
    ) -> Result<(), GraphError> {
        const CALL: Call = Call::new("removing a certificate").needs("Application.ReadWrite.All");
        let key_id = guid(CALL, key_id)?;
        let mut keys = self.keys(object_id).await?;
        let had = keys.len();
        keys.retain(|entry| !is(entry, key_id));
        if keys.len() == had {
            return Ok(());
        }
        self.set_keys(CALL, object_id, keys).await?;
        self.certificates.note(object_id, key_id, false);
        Ok(())
    }

    /// The app's certificates as Graph has them, each with all its properties. `key` comes only
    /// when it is selected from a single object (Microsoft Learn, "keyCredential").
    ///
    /// Graph's reads lag behind its writes, and the list is written as a whole: written back as
    /// it was before our last change, it would undo that. So what this client added has to show,
    /// and what it removed must not.
    async fn keys(&self, object_id: &str) -> Result<Vec<Value>, GraphError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Keys {
            #[serde(default)]
            key_credentials: Vec<Value>,
        }
        const CALL: Call =
            Call::new("reading the certificates of an application").needs("Application.Read.All");
        let url = self.at(CALL, &["applications", id(CALL, object_id)?])?;
        let url = with_query(url, &[("$select", "keyCredentials")]);
        let mut pauses = self.until_it_shows();
        loop {
            let found: Keys = self.read(CALL, url.clone()).await?;
            if self.certificates.agree(object_id, &found.key_credentials) {
                return Ok(found.key_credentials);
            }
            if !pauses.next().await {
                return Err(stale(CALL));
            }
        }
    }

    async fn set_keys(
        &self,
        call: Call,
        object_id: &str,
        keys: Vec<Value>,
    ) -> Result<(), GraphError> {
        let url = self.at(call, &["applications", id(call, object_id)?])?;
        let body = json!({ "keyCredentials": keys });
        self.act(call, Method::Patch, url, Some(body)).await
    }
}

/// The certificates that this client added or removed.
#[derive(Default)]
pub(crate) struct Certificates(Mutex<Vec<Written>>);

struct Written {
    object_id: String,
    key_id: String,
    there: bool,
}

impl Certificates {
    fn note(&self, object_id: &str, key_id: &str, there: bool) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|known| !known.key_id.eq_ignore_ascii_case(key_id));
        written.push(Written {
            object_id: object_id.to_owned(),
            key_id: key_id.to_owned(),
            there,
        });
    }

    /// Whether `keys` of the app show what was written to it.
    fn agree(&self, object_id: &str, keys: &[Value]) -> bool {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written
            .iter()
            .filter(|known| known.object_id.eq_ignore_ascii_case(object_id))
            .all(|known| keys.iter().any(|entry| is(entry, &known.key_id)) == known.there)
    }
}

fn stale(call: Call) -> GraphError {
    GraphError::ours(
        GraphErrorKind::Unavailable,
        call.doing,
        "the directory does not show its certificates as they were last written",
    )
}

fn is(entry: &Value, key_id: &str) -> bool {
    entry["keyId"]
        .as_str()
        .is_some_and(|id| id.eq_ignore_ascii_case(key_id))
}

fn holds(entry: &Value, key: &str) -> bool {
    entry["key"].as_str() == Some(key)
}

fn certificate(call: Call, entry: &Value) -> Result<Certificate, GraphError> {
    Certificate::deserialize(entry).map_err(|_| call.malformed("a certificate without an id"))
}

/// A time as Graph tells it. One without a zone, which Graph has been seen to tell
/// (microsoftgraph/msgraph-sdk-java#1815), is UTC; one that is none is none, so that the rest of
/// the application can be read.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().or_else(|_| format!("{text}Z").parse()).ok()))
}

/// In whole seconds, as Graph's examples have times.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_none_does_not_hide_the_secret() {
        for (told, understood) in [
            (r#""2028-11-23T16:00:00Z""#, Some("2028-11-23T16:00:00Z")),
            (
                r#""2028-11-23T16:00:00.1234567Z""#,
                Some("2028-11-23T16:00:00.1234567Z"),
            ),
            (r#""2028-11-23T16:00:00""#, Some("2028-11-23T16:00:00Z")),
            (r#""9999-12-31T23:59:59.9999999Z""#, None),
            (r#""soon""#, None),
            ("null", None),
        ] {
            let json = format!(r#"{{"keyId":"k","endDateTime":{told}}}"#);
            let password: Password = serde_json::from_str(&json).unwrap();
            assert_eq!(
                password.ends,
                understood.map(|time| time.parse().unwrap()),
                "{told}"
            );
        }
    }
}
