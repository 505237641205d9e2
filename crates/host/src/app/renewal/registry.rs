//! An application's secrets and certificates at Entra ID, through Microsoft Graph: by the
//! application's own right, or by that of an administrator who signs in.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use postrider_auth::LoginMethod;
use postrider_config as config;
use postrider_graph::{Certificate, Graph, GraphError, GraphErrorKind, NewCertificate, Password};
use postrider_setup::certificate;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;
use url::Url;
use x509_parser::pem::Pem;

use super::apart::{Replaced, at_graph};
use super::journal::{New, Renewable};
use super::machine::{Listed, Registered, Registry};
use crate::app::App;
use crate::app::setup::{AdminSignIn, GraphTransport, Purpose, discover, graph_failure};
use crate::failure::Failure;

/// The registration of one account's application.
pub(super) struct GraphRegistry {
    pub(super) app: App,
    pub(super) settings: config::Account,
    pub(super) what: Renewable,
    /// How an administrator signs in; without, the application acts by itself.
    pub(super) administrator: Option<LoginMethod>,
    pub(super) opened: OnceCell<Opened>,
}

/// Graph, and where the application is in it.
pub(super) struct Opened {
    graph: Graph,
    object_id: String,
}

impl GraphRegistry {
    async fn open(&self) -> Result<&Opened, Failure> {
        self.opened
            .get_or_try_init(|| async {
                let graph = match self.administrator {
                    Some(method) => self.administrators(method).await?,
                    None => self.own().await?,
                };
                let client_id = self.setting("client_id")?;
                let found = graph.application(client_id).await;
                let found = found.map_err(|error| self.refused(&error))?;
                let application = found.ok_or_else(|| {
                    Failure::new(
                        "graph.not_found",
                        format!("the tenant has no app registration {client_id}"),
                    )
                    .with_account(&self.settings.name)
                    .with_remedy(
                        "it may be registered in another tenant: its secret is renewed there",
                    )
                })?;
                Ok(Opened {
                    graph,
                    object_id: application.id,
                })
            })
            .await
    }

    /// Graph as the application itself.
    async fn own(&self) -> Result<Graph, Failure> {
        let own = at_graph(&self.settings);
        let account = self.app.apart(own, Replaced::new(), false).await?;
        let token = account.credential().access_token().await;
        let token = token.map_err(|error| {
            let failure = account.auth_failure(&error);
            let remedy = failure.remedy.clone().unwrap_or_default();
            let with_admin = self.with_administrator();
            if failure.retryable {
                failure
            } else {
                failure.with_remedy(format!("{remedy}; or {with_admin}"))
            }
        })?;
        let token = token.ok_or_else(|| account.without_tokens())?;
        let base = self.graph().await?;
        let tls = self.app.tls(self.settings.ca_file.as_deref())?;
        let clock = Arc::clone(self.app.clock());
        let transport = GraphTransport::new((*tls).clone(), &base, clock)?;
        Graph::new(base, token.value().clone(), Arc::new(transport))
            .map_err(|error| self.refused(&error))
    }

    /// Graph as an administrator.
    async fn administrators(&self, method: LoginMethod) -> Result<Graph, Failure> {
        let sign_in = AdminSignIn {
            authority: self.authority()?,
            tenant: self.setting("tenant")?.to_owned(),
            graph: self.graph().await?,
            client_id: None,
            ca_file: self.settings.ca_file.clone(),
            login_hint: None,
            purpose: Purpose::Rotate,
            method,
        };
        self.app.administrator(&sign_in).await?.graph().await
    }

    /// Where Graph is: as the provider's preset says, else as its sign-in service does.
    async fn graph(&self) -> Result<Url, Failure> {
        if let Some(graph) = self.settings.graph() {
            return Ok(graph);
        }
        let (authority, tenant) = (self.authority()?, self.setting("tenant")?);
        let found = discover(&authority, tenant, self.settings.ca_file.clone()).await?;
        found.graph.ok_or_else(|| {
            Failure::new(
                "config.graph",
                format!("{authority} does not say where Microsoft Graph is"),
            )
            .with_account(&self.settings.name)
        })
    }

    fn authority(&self) -> Result<Url, Failure> {
        let text = self.setting("authority")?;
        Url::parse(text).map_err(|_| self.lacks("authority"))
    }

    fn setting(&self, name: &str) -> Result<&str, Failure> {
        let value = self.settings.auth.settings.get(name);
        value
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| self.lacks(name))
    }

    fn lacks(&self, name: &str) -> Failure {
        Failure::new(
            "config.invalid",
            format!("the account has no usable {name} to find its application by"),
        )
        .with_account(&self.settings.name)
    }

    /// The command with which somebody else does it.
    fn with_administrator(&self) -> String {
        format!(
            "have an Entra administrator run: postrider rotate --client-secret {} --admin",
            self.settings.name
        )
    }

    /// What Graph refused, and who may do it instead.
    fn refused(&self, error: &GraphError) -> Failure {
        let failure = graph_failure(error).with_account(&self.settings.name);
        let is_right = matches!(
            error.kind,
            GraphErrorKind::Denied { .. } | GraphErrorKind::Unauthenticated
        );
        if self.administrator.is_some() || !is_right {
            return failure;
        }
        let mut failure = failure.with_remedy(format!(
            "{}; or let the application renew its own: Application.ReadWrite.OwnedBy of Microsoft \
             Graph as an application permission, consented to, with the enterprise application as \
             an owner of the registration",
            self.with_administrator()
        ));
        failure.code = "secret.no_right".into();
        failure
    }

    async fn certificate(&self, mark: &str, pem: &SecretString) -> Result<New, Failure> {
        let opened = self.open().await?;
        let (der, starts, ends) = first_certificate(pem).ok_or_else(unreadable)?;
        let new = NewCertificate {
            der,
            display_name: mark.to_owned(),
            starts,
            ends,
        };
        let added = opened.graph.add_certificate(&opened.object_id, &new).await;
        let added = added.map_err(|error| self.refused(&error))?;
        Ok(New {
            key_id: Some(added.key_id),
            value: pem.clone(),
            ends,
        })
    }

    async fn password(&self, mark: &str, ends: Timestamp) -> Result<New, Failure> {
        let opened = self.open().await?;
        let made = opened
            .graph
            .add_password(&opened.object_id, mark, ends)
            .await;
        let made = made.map_err(|error| self.refused(&error))?;
        Ok(New {
            key_id: Some(made.key_id),
            value: made.secret_text,
            ends: made.ends.unwrap_or(ends),
        })
    }
}

impl Registry for GraphRegistry {
    fn list<'a>(&'a self, value: &'a SecretString) -> BoxFuture<'a, Result<Listed, Failure>> {
        async move {
            let opened = self.open().await?;
            let found = opened.graph.application_object(&opened.object_id).await;
            let found = found.map_err(|error| self.refused(&error))?;
            Ok(match self.what {
                Renewable::ClientSecret => passwords(found.passwords, value),
                Renewable::Certificate => certificates(found.certificates, value),
            })
        }
        .boxed()
    }

    fn prepare(
        &self,
        now: Timestamp,
        ends: Timestamp,
    ) -> BoxFuture<'_, Result<Option<SecretString>, Failure>> {
        let subject = format!("Postrider {}", self.settings.name);
        async move {
            if self.what == Renewable::ClientSecret {
                return Ok(None);
            }
            let lifetime = ends.duration_since(now).unsigned_abs();
            let made = certificate::make(&subject, lifetime, now)
                .map_err(|error| Failure::new("internal", crate::failure::with_sources(&error)))?;
            let key = made.private_key_pem.expose_secret();
            let both = format!("{}\n{key}", made.certificate_pem.trim_end());
            Ok(Some(SecretString::from(both)))
        }
        .boxed()
    }

    fn add<'a>(
        &'a self,
        mark: &'a str,
        ends: Timestamp,
        prepared: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<New, Failure>> {
        async move {
            match prepared {
                Some(pem) => self.certificate(mark, pem).await,
                None => self.password(mark, ends).await,
            }
        }
        .boxed()
    }

    fn remove<'a>(&'a self, key_id: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Opened { graph, object_id } = self.open().await?;
            let removed = match self.what {
                Renewable::ClientSecret => graph.remove_password(object_id, key_id).await,
                Renewable::Certificate => graph.remove_certificate(object_id, key_id).await,
            };
            removed.map_err(|error| self.refused(&error))
        }
        .boxed()
    }
}

/// The secrets of an application. Which one a value is, its first three characters tell, if no
/// other begins with them (facts C3: `hint`).
fn passwords(found: Vec<Password>, value: &SecretString) -> Listed {
    let begins: String = value.expose_secret().chars().take(3).collect();
    let known = only(
        found.iter(),
        |one: &Password| one.hint.as_deref() == Some(&*begins),
        |one| &one.key_id,
    );
    let all = found.into_iter().map(|one| Registered {
        key_id: one.key_id,
        mark: one.display_name,
    });
    Listed {
        all: all.collect(),
        known,
    }
}

/// The certificates of an application. Which one a value is, its thumbprint tells; where Graph
/// shows none, its end, if no other ends then.
fn certificates(found: Vec<Certificate>, value: &SecretString) -> Listed {
    let known = first_certificate(value).and_then(|(der, _, ends)| {
        let thumbprints = thumbprints(&der);
        let by_thumbprint = only(
            found.iter(),
            |one: &Certificate| {
                let shown = one.custom_key_identifier.as_deref();
                shown.is_some_and(|shown| {
                    thumbprints
                        .iter()
                        .any(|own| own.eq_ignore_ascii_case(shown))
                })
            },
            |one| &one.key_id,
        );
        by_thumbprint.or_else(|| {
            only(
                found.iter(),
                |one| one.ends == Some(ends),
                |one| &one.key_id,
            )
        })
    });
    let all = found.into_iter().map(|one| Registered {
        key_id: one.key_id,
        mark: one.display_name,
    });
    Listed {
        all: all.collect(),
        known,
    }
}

/// The id of the one that fits, if it is the only one.
fn only<'a, T: 'a>(
    all: impl Iterator<Item = &'a T>,
    fits: impl Fn(&T) -> bool,
    id: impl Fn(&'a T) -> &'a String,
) -> Option<String> {
    let mut fitting = all.filter(|one| fits(one));
    let first = fitting.next()?;
    fitting.next().is_none().then(|| id(first).clone())
}

/// As a certificate's identifier may be spelt: SHA-1 or SHA-256, Base64 or hexadecimal.
fn thumbprints(der: &[u8]) -> Vec<String> {
    let algorithms = [&SHA1_FOR_LEGACY_USE_ONLY, &SHA256];
    let spellings = algorithms.map(|algorithm| {
        let digest = digest(algorithm, der);
        let hex = digest
            .as_ref()
            .iter()
            .fold(String::new(), |mut text, octet| {
                let _ = write!(text, "{octet:02x}");
                text
            });
        [
            BASE64_STANDARD.encode(digest),
            BASE64_URL.encode(digest),
            hex,
        ]
    });
    spellings.concat()
}

/// The first certificate in a PEM file: DER, and its times.
fn first_certificate(pem: &SecretString) -> Option<(Vec<u8>, Timestamp, Timestamp)> {
    let block = Pem::iter_from_buffer(pem.expose_secret().as_bytes())
        .filter_map(Result::ok)
        .find(|block| block.label == "CERTIFICATE")?;
    let (starts, ends) = {
        let certificate = block.parse_x509().ok()?;
        let validity = certificate.validity();
        (
            Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        )
    };
    Some((block.contents, starts, ends))
}

fn unreadable() -> Failure {
    Failure::new("internal", "the certificate that was made cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_by_its_hint_only_where_no_other_has_it() {
        let value = SecretString::from("abC8Q~rest");
        let one = |id: &str, hint: &str| Password {
            key_id: id.to_owned(),
            display_name: None,
            hint: Some(hint.to_owned()),
            starts: None,
            ends: None,
        };
        let known = |list| passwords(list, &value).known;

        assert_eq!(
            known(vec![one("k1", "abC"), one("k2", "xyz")]).as_deref(),
            Some("k1")
        );
        assert_eq!(known(vec![one("k1", "abC"), one("k2", "abC")]), None);
        assert_eq!(known(vec![one("k1", "abc")]), None);
    }

    #[test]
    fn a_certificate_that_was_made_is_read_again() {
        let now: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        let lifetime = std::time::Duration::from_hours(24 * 180);
        let made = certificate::make("Postrider ops", lifetime, now).unwrap();
        let both = format!(
            "{}\n{}",
            made.certificate_pem,
            made.private_key_pem.expose_secret()
        );

        let (der, starts, ends) = first_certificate(&SecretString::from(both)).unwrap();

        assert_eq!(der, made.certificate_der);
        assert_eq!((starts, ends), (made.starts, made.ends));
        assert!(thumbprints(&der).contains(&made.thumbprint_sha256));
    }
}
