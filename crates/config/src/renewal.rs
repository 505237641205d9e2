//! When an application's own secret or certificate is replaced, and how.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::account::Auth;
use crate::check::Context;
use crate::duration;
use crate::grammar::Fault;
use crate::keys;
use crate::problem::Problems;
use crate::secret::SecretRef;
use crate::section::Section;

const DAY: Duration = Duration::from_hours(24);

/// As early as the first forecast of its end is told.
const BEFORE: Duration = DAY.saturating_mul(30);
/// Longer than any access token that the old one was used for.
const OVERLAP: Duration = DAY;
/// Half a year: short enough to be practised, long enough to survive a quarter without anybody.
const LIFETIME: Duration = DAY.saturating_mul(180);

/// The settings that a renewal replaces; an account has one of them.
const RENEWABLE: [&str; 2] = ["client_secret", "certificate"];

/// `[account.NAME.renewal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Renewal {
    /// So long before its end a secret is replaced.
    #[serde(serialize_with = "as_text")]
    pub before: Duration,
    /// So long the old one stays beside the new one.
    #[serde(serialize_with = "as_text")]
    pub overlap: Duration,
    /// So long the new one is to last.
    #[serde(serialize_with = "as_text")]
    pub lifetime: Duration,
}

/// What holds where nothing is said.
impl Default for Renewal {
    fn default() -> Self {
        Self {
            before: BEFORE,
            overlap: OVERLAP,
            lifetime: LIFETIME,
        }
    }
}

fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration::format(*duration))
}

/// Reads an account's `renewal`; without one nothing is replaced unasked.
pub(crate) fn check(
    account: &Section<'_>,
    auth: Option<&Auth>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Renewal> {
    let node = account.node("renewal")?;
    let place = account.place("renewal");
    let section = Section::open(node, place, &[keys::RENEWAL], context, problems)?;
    let default = Renewal::default();
    let wait = |name, default| section.duration(name).unwrap_or(default);
    let renewal = Renewal {
        before: wait("before", default.before),
        overlap: wait("overlap", default.overlap),
        lifetime: wait("lifetime", default.lifetime),
    };
    if renewal.before.saturating_add(renewal.overlap) >= renewal.lifetime {
        let fault = Fault::with(
            format!(
                "a secret that lasts {} would be replaced before the one before it is removed",
                duration::format(renewal.lifetime)
            ),
            "let lifetime be longer than before and overlap together",
        );
        section.fault("lifetime", fault, problems);
    }
    if let Some(auth) = auth
        && let Some(fault) = misplaced(auth)
    {
        section.missing(fault, problems);
    }
    Some(renewal)
}

/// Why there is nothing here that could be replaced.
fn misplaced(auth: &Auth) -> Option<Fault> {
    let renewable = RENEWABLE
        .iter()
        .find_map(|name| auth.secrets.get(*name).map(|secret| (*name, secret)));
    match renewable {
        _ if auth.plugin != "oauth" || !auth.settings.contains_key("authority") => {
            Some(Fault::with(
                "only an application's secret at Entra ID can be renewed",
                "remove the section",
            ))
        }
        None => Some(Fault::with(
            "this account has no client_secret and no certificate to renew",
            "remove the section",
        )),
        Some((_, SecretRef::Vault(_))) => None,
        Some((name, _)) => Some(Fault::with(
            format!("{name} lies where a renewal cannot replace it"),
            format!(
                "put it into the vault: postrider secret set NAME, and {name} = {{ vault = \"NAME\" }}"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::presets::Presets;
    use crate::{Account, Problem};

    fn account(secret: &Value, renewal: &Value) -> Result<Account, Vec<Problem>> {
        Account::from_value(
            "a",
            json!({
                "provider": "microsoft365",
                "username": "svc-mail@contoso.com",
                "renewal": renewal,
                "auth": {
                    "plugin": "oauth",
                    "flow": "client_credentials",
                    "tenant": "contoso.onmicrosoft.com",
                    "client_id": "0f1e2d3c-0000-0000-0000-000000000000",
                    "client_secret": secret,
                }
            }),
            &Presets::builtin(),
        )
    }

    #[test]
    fn an_empty_section_means_the_defaults_and_none_means_no_renewal() {
        let vault = json!({ "vault": "a/client_secret" });
        let renewal = account(&vault, &json!({})).unwrap().renewal;
        assert_eq!(renewal, Some(Renewal::default()));
        let default = Renewal::default();
        assert_eq!(
            [default.before, default.overlap, default.lifetime],
            [DAY * 30, DAY, DAY * 180]
        );

        let mut without = json!({
            "username": "a@example.org", "server": { "host": "smtp.example.org" },
            "auth": { "plugin": "basic", "password": { "env": "P" } },
        });
        let plain = Account::from_value("a", without.clone(), &Presets::builtin()).unwrap();
        assert_eq!(plain.renewal, None);
        without["renewal"] = json!({});
        assert!(Account::from_value("a", without, &Presets::builtin()).is_err());
    }

    #[test]
    fn a_secret_outside_the_vault_is_refused_with_the_way_into_it() {
        let errors = account(&json!({ "env": "OPS" }), &json!({})).unwrap_err();
        let said = format!("{errors:?}");
        assert!(
            said.contains("client_secret lies where a renewal cannot"),
            "{said}"
        );
    }

    #[test]
    fn a_lifetime_outlasts_both_waits() {
        let vault = json!({ "vault": "a/client_secret" });
        let renewal = |lifetime: &str| {
            let renewal = json!({ "before": "30d", "overlap": "1d", "lifetime": lifetime });
            account(&vault, &renewal)
        };
        assert!(renewal("31d").is_err());
        assert!(renewal("32d").is_ok());
    }
}
