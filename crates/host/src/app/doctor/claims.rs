//! What an access token says of itself, read for a diagnosis and never for a decision: nothing
//! is verified, and nothing of the token is shown but these claims (facts D).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postrider_graph::ids;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::report::{ENTRA, Finding, OWNER, YOU};

/// Whom a token for SMTP is addressed to (facts D, A7).
const EXCHANGE_AUDIENCES: [&str; 5] = [
    "https://outlook.office.com",
    "https://outlook.office365.com",
    "https://outlook.office365.us",
    "https://partner.outlook.cn",
    ids::resource::EXCHANGE_ONLINE,
];

/// Hosts of Microsoft Graph (facts A7).
const GRAPH_AUDIENCES: [&str; 5] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
    ids::resource::GRAPH,
];

/// The most of one claim that is shown.
const SHOWN_CHARS: usize = 100;

/// The claims that say why a token is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "text")]
    pub(super) aud: Option<String>,
    #[serde(default, deserialize_with = "text")]
    scp: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    roles: Vec<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) tid: Option<String>,
    #[serde(default, deserialize_with = "text")]
    upn: Option<String>,
    #[serde(default, deserialize_with = "text")]
    unique_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) oid: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) appid: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    exp: Option<u64>,
}

/// What an account needs of a token.
pub(super) struct Needs<'a> {
    pub(super) account: &'a str,
    pub(super) username: &'a str,
    pub(super) app_only: bool,
    pub(super) tenant: &'a str,
    /// As the sign-in service names the tenant.
    pub(super) tenant_id: Option<&'a str>,
    pub(super) client_id: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) now: SystemTime,
}

/// What a token lacks.
pub(super) enum Lack {
    /// With this no mail is sent.
    Certain(Finding),
    /// It explains a refusal, should there be one.
    Suspect(Finding),
}

impl Claims {
    /// The claims of `token`, if it is a JWT; some are opaque.
    pub(super) fn read(token: &SecretString) -> Option<Self> {
        let mut parts = token.expose_secret().split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        let octets = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&octets).ok()
    }

    /// Who the token is for: a person, by name.
    pub(super) fn user(&self) -> Option<&str> {
        self.upn.as_deref().or(self.unique_name.as_deref())
    }

    /// The permissions it carries.
    pub(super) fn permissions(&self) -> Vec<&str> {
        match &self.scp {
            Some(scp) => scp.split_ascii_whitespace().collect(),
            None => self.roles.iter().map(String::as_str).collect(),
        }
    }

    /// Whether it carries the permission that SMTP wants.
    pub(super) fn may_send(&self, app_only: bool) -> bool {
        let wanted = permission(app_only);
        let has = |one: &&str| one.eq_ignore_ascii_case(wanted);
        self.permissions().iter().any(has)
    }

    /// The claims in a line.
    pub(super) fn in_words(&self) -> String {
        let kind = if self.scp.is_some() { "scp" } else { "roles" };
        let permissions = self.permissions().join(" ");
        let exp = self.exp.and_then(|seconds| {
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
            let at = jiff::Timestamp::try_from(at).ok()?;
            Some(at.strftime("%FT%TZ").to_string())
        });
        [
            ("aud", self.aud.as_deref()),
            (kind, Some(permissions.as_str())),
            ("tid", self.tid.as_deref()),
            ("upn", self.user()),
            ("appid", self.appid.as_deref()),
            ("oid", self.oid.as_deref()),
            ("exp", exp.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty());
            Some(format!("{name} {}", value.map(shown)?))
        })
        .collect::<Vec<_>>()
        .join(", ")
    }

    /// The first thing that the token lacks, of what `needs` asks for.
    pub(super) fn lack(&self, needs: &Needs<'_>) -> Option<Lack> {
        self.wrong_audience(needs)
            .or_else(|| self.wrong_permission(needs))
            .or_else(|| self.expired(needs))
            .or_else(|| self.wrong_tenant(needs))
            .or_else(|| self.wrong_user(needs))
            .or_else(|| self.wrong_client(needs))
    }

    fn wrong_audience(&self, needs: &Needs<'_>) -> Option<Lack> {
        let aud = self.aud.as_deref()?.trim_end_matches('/');
        let is_one_of = |list: &[&str]| list.iter().any(|one| one.eq_ignore_ascii_case(aud));
        if is_one_of(&EXCHANGE_AUDIENCES) {
            return None;
        }
        let (what, code) = if is_one_of(&GRAPH_AUDIENCES) {
            ("Microsoft Graph".to_owned(), "auth.token_for_graph")
        } else {
            (shown(aud), "auth.token_audience")
        };
        let scope = if needs.app_only {
            "https://outlook.office365.com/.default"
        } else {
            "https://outlook.office.com/SMTP.Send"
        };
        let asked = needs.scopes.join(" ");
        Some(Lack::Certain(Finding::new(
            code,
            format!(
                "the access token is for {what}, not for Exchange Online, which takes no other \
                 (scopes asked for: {asked})"
            ),
            format!(
                "remove account.{}.auth.scopes, or set it to \"{scope}\"{}",
                needs.account,
                if needs.app_only {
                    String::new()
                } else {
                    format!(
                        " and \"offline_access\"; then sign in again: postrider login {}",
                        needs.account
                    )
                }
            ),
            YOU,
        )))
    }

    fn wrong_permission(&self, needs: &Needs<'_>) -> Option<Lack> {
        if self.may_send(needs.app_only) {
            return None;
        }
        let wanted = permission(needs.app_only);
        let app = needs.client_id;
        if needs.app_only {
            let finding = Finding::new(
                "auth.token_permission",
                format!(
                    "the access token carries no {wanted}: the application lacks that permission \
                     of Office 365 Exchange Online, or an administrator's consent to it"
                ),
                format!(
                    "Entra admin center, App registrations, {app}, API permissions: add the \
                     application permission {wanted} of Office 365 Exchange Online and grant \
                     admin consent; then postrider rotate --force {}",
                    needs.account
                ),
                ENTRA,
            );
            // Under Exchange's own role-based access there is no claim (facts C4, D).
            return Some(Lack::Suspect(finding));
        }
        let has = self.permissions().join(" ");
        Some(Lack::Certain(Finding::new(
            "auth.token_permission",
            format!(
                "the access token may not send by SMTP: it carries {}, not {wanted}",
                if has.is_empty() {
                    "no permission".to_owned()
                } else {
                    shown(&has)
                }
            ),
            format!(
                "add the delegated permission {wanted} of Office 365 Exchange Online to app {app} \
                 and \"https://outlook.office.com/{wanted}\" to account.{}.auth.scopes, then sign \
                 in again: postrider login {0}",
                needs.account
            ),
            ENTRA,
        )))
    }

    fn expired(&self, needs: &Needs<'_>) -> Option<Lack> {
        let ends = UNIX_EPOCH.checked_add(Duration::from_secs(self.exp?))?;
        let ago = needs.now.duration_since(ends).ok()?;
        Some(Lack::Certain(Finding::new(
            "auth.token_expired",
            format!(
                "the access token expired {} ago by this machine's clock",
                crate::when::span(ago)
            ),
            format!(
                "look at this machine's clock; then postrider rotate --force {}",
                needs.account
            ),
            YOU,
        )))
    }

    fn wrong_tenant(&self, needs: &Needs<'_>) -> Option<Lack> {
        let tid = self.tid.as_deref()?;
        let wanted = needs.tenant_id?;
        if tid.eq_ignore_ascii_case(wanted) {
            return None;
        }
        Some(Lack::Certain(Finding::new(
            "auth.token_tenant",
            format!(
                "the access token is of tenant {}, and account {} is set to {} ({wanted})",
                shown(tid),
                needs.account,
                needs.tenant
            ),
            format!(
                "set account.{}.auth.tenant to the tenant of the mailbox, or sign in as a user of \
                 {}: postrider login {0}",
                needs.account, needs.tenant
            ),
            YOU,
        )))
    }

    fn wrong_user(&self, needs: &Needs<'_>) -> Option<Lack> {
        if needs.app_only {
            return None;
        }
        let user = self.user()?;
        if user.to_lowercase() == needs.username.to_lowercase() {
            return None;
        }
        Some(Lack::Suspect(other_user(
            needs.account,
            needs.username,
            user,
        )))
    }

    fn wrong_client(&self, needs: &Needs<'_>) -> Option<Lack> {
        let appid = self.appid.as_deref()?;
        if appid.eq_ignore_ascii_case(needs.client_id) {
            return None;
        }
        Some(Lack::Suspect(Finding::new(
            "auth.token_client",
            format!(
                "the access token was issued to app {}, and the account names {}",
                shown(appid),
                needs.client_id
            ),
            format!("sign in again: postrider login {}", needs.account),
            OWNER,
        )))
    }
}

/// `user` signed in, and the account says `username`.
pub(super) fn other_user(account: &str, username: &str, user: &str) -> Finding {
    let user = shown(user);
    Finding::new(
        "auth.token_user",
        format!(
            "{user} signed in, and account {account} shows the token as {username}'s: Exchange \
             refuses a token of somebody else, also a delegate's for a shared mailbox"
        ),
        format!(
            "sign in as {username} (postrider login {account}); or, where {username} is a shared \
             mailbox, set username = \"{user}\" and sender = \"{username}\" and have this run in \
             Exchange Online PowerShell: Add-RecipientPermission {username} -Trustee {user} \
             -AccessRights SendAs"
        ),
        OWNER,
    )
}

/// The permission that SMTP wants (facts C1).
pub(super) fn permission(app_only: bool) -> &'static str {
    if app_only {
        "SMTP.SendAsApp"
    } else {
        "SMTP.Send"
    }
}

/// Text out of a token, fit for a terminal and for a command that somebody pastes.
pub(super) fn shown(text: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || " .,:;/@_-+()#=".contains(c);
    let mut line: String = text
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if safe(c) { c } else { '?' })
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        line.push('…');
    }
    line
}

fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn texts<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    })
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(from)?.as_u64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TENANT: &str = "8d5f1c52-60a9-4c2b-9e0a-3b1f7c4d2e60";

    fn token(claims: &Value) -> SecretString {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"typ": "JWT"})), part(claims)).into()
    }

    fn delegated() -> Value {
        json!({
            "aud": "https://outlook.office.com", "scp": "SMTP.Send User.Read", "tid": TENANT,
            "upn": "svc-mail@contoso.com", "appid": "0f1e", "exp": 4_000_000_000_u64,
        })
    }

    fn lack(claims: &Value, app_only: bool) -> Option<(String, bool)> {
        let scopes = ["https://outlook.office.com/SMTP.Send".to_owned()];
        let needs = Needs {
            account: "alerts",
            username: "svc-mail@contoso.com",
            app_only,
            tenant: "contoso.com",
            tenant_id: Some(TENANT),
            client_id: "0f1e",
            scopes: &scopes,
            now: UNIX_EPOCH + Duration::from_hours(500_000),
        };
        match Claims::read(&token(claims)).unwrap().lack(&needs)? {
            Lack::Certain(finding) => Some((finding.code, true)),
            Lack::Suspect(finding) => Some((finding.code, false)),
        }
    }

    #[test]
    fn a_token_that_fits_lacks_nothing() {
        assert_eq!(lack(&delegated(), false), None);
        let app = json!({
            "aud": "https://outlook.office365.com/", "roles": ["SMTP.SendAsApp"], "tid": TENANT,
            "oid": "x", "appid": "0f1e", "exp": 4_000_000_000_u64,
        });
        assert_eq!(lack(&app, true), None);
    }

    #[test]
    fn what_a_token_lacks_is_named() {
        let graph = ids::resource::GRAPH;
        for (claim, value, code, certain) in [
            (
                "aud",
                json!("https://graph.microsoft.com"),
                "auth.token_for_graph",
                true,
            ),
            ("aud", json!(graph), "auth.token_for_graph", true),
            ("aud", json!("api://mine"), "auth.token_audience", true),
            ("scp", json!("User.Read"), "auth.token_permission", true),
            ("exp", json!(1_700_000_000), "auth.token_expired", true),
            ("tid", json!("another"), "auth.token_tenant", true),
            (
                "upn",
                json!("delegate@contoso.com"),
                "auth.token_user",
                false,
            ),
            ("appid", json!("another"), "auth.token_client", false),
        ] {
            let mut claims = delegated();
            claims[claim] = value;
            let found = lack(&claims, false);
            assert_eq!(found, Some((code.to_owned(), certain)), "{claim}");
        }
    }

    #[test]
    fn an_applications_token_without_roles_may_be_right() {
        let app = json!({
            "aud": "https://outlook.office365.com", "tid": TENANT, "appid": "0f1e",
        });
        assert_eq!(
            lack(&app, true),
            Some(("auth.token_permission".to_owned(), false))
        );
    }

    #[test]
    fn what_is_no_jwt_is_opaque_and_hostile_claims_stay_harmless() {
        for opaque in [
            "EwBgA8l6BAAU",
            "a.b",
            "a.!!.c",
            "a.eyJhIjox.c",
            "a.b.c.d",
            "",
        ] {
            assert_eq!(Claims::read(&opaque.into()), None, "{opaque}");
        }
        let odd = json!({"aud": 1, "scp": [], "roles": "x", "exp": "soon", "upn": null});
        assert_eq!(Claims::read(&token(&odd)), Some(Claims::default()));
        let hostile = json!({"upn": "a@b$(calc)`x`\u{1b}[31m", "scp": "x".repeat(5000)});
        let words = Claims::read(&token(&hostile)).unwrap().in_words();
        assert!(
            words.contains("a@b?(calc)?x??") && words.len() < 400,
            "{words}"
        );
    }
}
