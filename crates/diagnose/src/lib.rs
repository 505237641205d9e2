//! What a refusal means: an SMTP reply or an OAuth error in, cause and remedy out.
//!
//! The knowledge is data (`catalogue.toml`); this crate only looks it up. It always answers:
//! what the catalogue does not know falls back to the reply's class (RFC 5321 §4.2.1), so a
//! caller never has to invent a remedy.
//!
//! Not here: talking to servers, deciding when to retry.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a refusal means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Stable dotted name, such as `smtp.send_as_denied`.
    pub code: String,
    /// Why it happened, one lower-case line.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// Who can do it.
    pub who: Who,
    /// What the sender should do meanwhile.
    pub verdict: Verdict,
    /// What else meets the same refusal.
    #[serde(skip)]
    pub scope: Scope,
    /// The least that makes sense to wait before the same account tries again.
    #[serde(skip)]
    pub pause: Option<Duration>,
}

/// Who can apply a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Whoever runs Postrider.
    You,
    /// Whoever signs in as the mailbox.
    MailboxOwner,
    /// The Exchange administrator.
    ExchangeAdmin,
    /// The Entra administrator.
    EntraAdmin,
    /// The provider: waiting is all there is.
    Provider,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::You => "you",
            Self::MailboxOwner => "the mailbox's owner",
            Self::ExchangeAdmin => "an Exchange administrator",
            Self::EntraAdmin => "an Entra administrator",
            Self::Provider => "the provider",
        })
    }
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same again fails again.
    Permanent,
    /// Later may do.
    Retry,
    /// A person has to sign in.
    Reauthorize,
    /// A fresh token may do; the same one will not.
    Credential,
}

/// What a refusal concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This message or recipient.
    #[default]
    Message,
    /// Everything that the account sends now.
    Account,
}

impl Diagnosis {
    /// Whether doing the same again later may succeed.
    pub fn retryable(&self) -> bool {
        self.verdict == Verdict::Retry
    }
}

/// The names that a cause or remedy may mention.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The account's name.
    pub account: &'a str,
    /// Who signs in.
    pub username: &'a str,
    /// The address mail is sent from.
    pub sender: &'a str,
    /// The tenant, where there is one.
    pub tenant: &'a str,
    /// The OAuth client id, where there is one.
    pub client_id: &'a str,
}

impl Subject<'_> {
    fn fill(&self, template: &str) -> String {
        let named = [
            ("{account}", self.account, "(account)"),
            ("{username}", self.username, "(username)"),
            ("{sender}", self.sender, "(sender)"),
            ("{tenant}", self.tenant, "(tenant)"),
            ("{client_id}", self.client_id, "(client_id)"),
        ];
        named
            .iter()
            .fold(template.to_owned(), |text, (mark, name, unnamed)| {
                text.replace(mark, if name.is_empty() { unnamed } else { name })
            })
    }
}

/// What an SMTP reply of class 4 or 5 means.
///
/// `enhanced` is the status code of RFC 3463, such as `5.7.3`, where the server gave one.
pub fn smtp(reply: u16, enhanced: Option<&str>, text: &str, subject: Subject<'_>) -> Diagnosis {
    let subject = Subject {
        sender: refused_sender(text).unwrap_or(subject.sender),
        ..subject
    };
    let lower = text.to_lowercase();
    CATALOGUE
        .smtp
        .iter()
        .find(|entry| entry.matches(reply, enhanced, &lower))
        .map_or_else(|| by_class(reply), |entry| entry.meaning.diagnosis(subject))
}

/// The sender that Exchange names in a `SendAsDenied` (facts A3): the message's author, which
/// need not be the account's sender. It ends up in a command that somebody pastes, so nothing
/// but the plainest of addresses is taken from a server.
fn refused_sender(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("not allowed to send as ")?;
    let end = rest.find([';', ' ']).unwrap_or(rest.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+".contains(c);
    Some(&rest[..end]).filter(|sender| sender.contains('@') && sender.chars().all(plain))
}

/// What an OAuth error means (RFC 6749 §5.2, and Entra's `suberror` and AADSTS codes).
pub fn oauth(
    error: &str,
    suberror: Option<&str>,
    description: Option<&str>,
    subject: Subject<'_>,
) -> Diagnosis {
    let aadsts = description.and_then(aadsts_code);
    CATALOGUE
        .oauth
        .iter()
        .find(|entry| entry.matches(error, suberror, aadsts))
        .map_or_else(
            || Diagnosis {
                code: "auth.failed".to_owned(),
                cause: "the provider refused, for a reason this version does not know".to_owned(),
                remedy: subject.fill("check the auth settings of account {account}"),
                who: Who::You,
                verdict: Verdict::Permanent,
                scope: Scope::Message,
                pause: None,
            },
            |entry| entry.meaning.diagnosis(subject),
        )
}

/// The first `AADSTSn` in a text.
pub fn aadsts_code(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("AADSTS")?;
    let digits: &str = &rest[..rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len())];
    digits.parse().ok()
}

fn by_class(reply: u16) -> Diagnosis {
    let (code, cause, remedy, verdict) = match reply / 100 {
        4 => (
            "smtp.temporary",
            "the server refused for now",
            "send again later",
            Verdict::Retry,
        ),
        5 => (
            "smtp.rejected",
            "the server refused for good",
            "read the server's reply: it names what it did not accept",
            Verdict::Permanent,
        ),
        _ => (
            "smtp.unexpected",
            "the server answered something that does not fit the command",
            "check that host and port lead to a submission server",
            Verdict::Permanent,
        ),
    };
    Diagnosis {
        code: code.to_owned(),
        cause: cause.to_owned(),
        remedy: remedy.to_owned(),
        who: Who::Provider,
        verdict,
        scope: Scope::Message,
        pause: None,
    }
}

#[derive(Deserialize)]
struct Catalogue {
    smtp: Vec<SmtpEntry>,
    oauth: Vec<OauthEntry>,
}

#[derive(Deserialize)]
struct Meaning {
    code: String,
    cause: String,
    remedy: String,
    who: Who,
    verdict: Verdict,
    #[serde(default)]
    scope: Scope,
    pause_minutes: Option<u64>,
}

impl Meaning {
    fn diagnosis(&self, subject: Subject<'_>) -> Diagnosis {
        Diagnosis {
            code: self.code.clone(),
            cause: subject.fill(&self.cause),
            remedy: subject.fill(&self.remedy),
            who: self.who,
            verdict: self.verdict,
            scope: self.scope,
            pause: self.pause_minutes.map(Duration::from_mins),
        }
    }
}

#[derive(Deserialize)]
struct SmtpEntry {
    reply: Option<u16>,
    enhanced: Option<String>,
    contains: Option<String>,
    #[serde(flatten)]
    meaning: Meaning,
}

impl SmtpEntry {
    fn matches(&self, reply: u16, enhanced: Option<&str>, lower_text: &str) -> bool {
        self.reply.is_none_or(|wanted| wanted == reply)
            && self
                .enhanced
                .as_deref()
                .is_none_or(|wanted| wanted.split(' ').any(|one| enhanced == Some(one)))
            && self
                .contains
                .as_deref()
                .is_none_or(|part| lower_text.contains(&part.to_lowercase()))
    }
}

#[derive(Deserialize)]
struct OauthEntry {
    error: Option<String>,
    suberror: Option<String>,
    aadsts: Option<u64>,
    #[serde(flatten)]
    meaning: Meaning,
}

impl OauthEntry {
    fn matches(&self, error: &str, suberror: Option<&str>, aadsts: Option<u64>) -> bool {
        self.error.as_deref().is_none_or(|wanted| wanted == error)
            && self
                .suberror
                .as_deref()
                .is_none_or(|wanted| suberror == Some(wanted))
            && self.aadsts.is_none_or(|wanted| aadsts == Some(wanted))
    }
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    toml::from_str(include_str!("catalogue.toml"))
        .expect("the catalogue is part of the build, and a test reads it")
});

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        account: "alerts",
        username: "svc-mail@contoso.com",
        sender: "ceo@contoso.com",
        tenant: "contoso.onmicrosoft.com",
        client_id: "0f1e",
    };

    #[test]
    fn every_entry_has_a_condition_and_can_be_reached() {
        for (index, entry) in CATALOGUE.smtp.iter().enumerate() {
            assert!(
                entry.reply.is_some() || entry.enhanced.is_some() || entry.contains.is_some(),
                "no condition: {}",
                entry.meaning.code
            );
            let reply = entry.reply.unwrap_or(550);
            let enhanced = entry.enhanced.clone();
            let enhanced = enhanced.map(|e| e.split(' ').next().unwrap_or_default().to_owned());
            let text = entry.contains.clone().unwrap_or_default().to_lowercase();
            let first = CATALOGUE
                .smtp
                .iter()
                .position(|other| other.matches(reply, enhanced.as_deref(), &text));
            assert_eq!(first, Some(index), "shadowed: {}", entry.meaning.code);
        }
        for (index, entry) in CATALOGUE.oauth.iter().enumerate() {
            assert!(
                entry.error.is_some() || entry.suberror.is_some() || entry.aadsts.is_some(),
                "no condition: {}",
                entry.meaning.code
            );
            let error = entry.error.as_deref().unwrap_or("x");
            let first = CATALOGUE
                .oauth
                .iter()
                .position(|other| other.matches(error, entry.suberror.as_deref(), entry.aadsts));
            assert_eq!(first, Some(index), "shadowed: {}", entry.meaning.code);
        }
    }

    #[test]
    fn every_key_of_an_entry_is_one_that_is_read() {
        let conditions = [
            (
                "smtp",
                &["reply", "enhanced", "contains", "scope", "pause_minutes"][..],
            ),
            ("oauth", &["error", "suberror", "aadsts"][..]),
        ];
        let table: toml::Table = toml::from_str(include_str!("catalogue.toml")).unwrap();
        for (kind, keys) in conditions {
            for entry in table[kind].as_array().unwrap() {
                for key in entry.as_table().unwrap().keys() {
                    let common = ["code", "cause", "remedy", "who", "verdict"];
                    let known = common.contains(&key.as_str()) || keys.contains(&key.as_str());
                    assert!(known, "{key} in {entry}");
                }
            }
        }
    }

    #[test]
    fn only_what_concerns_an_account_and_passes_has_a_pause() {
        for Meaning {
            code,
            scope,
            verdict,
            pause_minutes,
            ..
        } in CATALOGUE.smtp.iter().map(|entry| &entry.meaning)
        {
            let slows_down = (*scope, *verdict) == (Scope::Account, Verdict::Retry);
            assert!(pause_minutes.is_none() || slows_down, "{code}");
        }
    }

    #[test]
    fn send_as_denied_names_both_addresses() {
        let found = smtp(
            554,
            Some("5.2.252"),
            "SendAsDenied; svc-mail@contoso.com not allowed to send as ceo@contoso.com; …",
            SUBJECT,
        );

        assert_eq!(found.code, "smtp.send_as_denied");
        assert!(found.remedy.contains(
            "Add-RecipientPermission ceo@contoso.com -Trustee svc-mail@contoso.com -AccessRights SendAs"
        ));
        assert!(!found.retryable());
    }

    #[test]
    fn the_sender_that_the_server_names_goes_before_the_accounts() {
        let text = "SendAsDenied; svc-mail@contoso.com not allowed to send as boss@contoso.com; x";

        let found = smtp(554, Some("5.2.252"), text, SUBJECT);

        assert!(
            found
                .remedy
                .contains("Add-RecipientPermission boss@contoso.com -Trustee svc-mail@contoso.com"),
            "{}",
            found.remedy
        );

        let hostile = "not allowed to send as a@b$(calc);";
        let found = smtp(554, Some("5.2.252"), hostile, SUBJECT);
        assert!(found.remedy.contains("ceo@contoso.com"), "{}", found.remedy);
    }

    #[test]
    fn the_tenant_switch_is_told_from_the_mailbox_switch() {
        let text = "Authentication unsuccessful, SmtpClientAuthentication is disabled for the ";
        let tenant = smtp(535, Some("5.7.139"), &format!("{text}Tenant."), SUBJECT);
        let mailbox = smtp(535, Some("5.7.139"), &format!("{text}Mailbox."), SUBJECT);

        assert_eq!(tenant.code, "auth.smtp_disabled_tenant");
        assert_eq!(mailbox.code, "auth.smtp_disabled_mailbox");
    }

    #[test]
    fn what_the_catalogue_does_not_know_follows_its_class() {
        assert_eq!(
            smtp(450, None, "greylisted", SUBJECT).verdict,
            Verdict::Retry
        );
        assert_eq!(smtp(571, None, "no", SUBJECT).verdict, Verdict::Permanent);
        assert_eq!(smtp(250, None, "ok", SUBJECT).code, "smtp.unexpected");
    }

    #[test]
    fn an_aadsts_code_says_more_than_the_error() {
        let expired = oauth(
            "invalid_client",
            None,
            Some("AADSTS7000222: The provided client secret keys for app '0f1e' are expired."),
            SUBJECT,
        );
        let plain = oauth("invalid_client", None, None, SUBJECT);

        assert_eq!(expired.code, "auth.client_secret_expired");
        assert_eq!(plain.code, "auth.client_rejected");
        assert_eq!(oauth("teapot", None, None, SUBJECT).code, "auth.failed");
    }

    #[test]
    fn a_name_that_is_not_known_is_said_by_its_kind() {
        let found = smtp(535, Some("5.7.8"), "no", Subject::default());

        assert!(
            found.remedy.contains("account (account)"),
            "{}",
            found.remedy
        );
    }

    #[test]
    fn aadsts_codes_are_found_anywhere() {
        assert_eq!(aadsts_code("x AADSTS50011: y"), Some(50011));
        assert_eq!(aadsts_code("AADSTS: none"), None);
        assert_eq!(aadsts_code(""), None);
    }
}
