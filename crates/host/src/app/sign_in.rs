//! A person signs in to an account: what came back is verified before anything is kept, and what
//! was there before stays until then.

use postrider_auth::{AuthErrorKind, GrantKey, Identity, LoginMethod, Op, PendingLogin};
use secrecy::SecretString;
use serde::Serialize;

use super::account::Account;
use super::standing::{Moment, SignedIn};
use crate::failure::Failure;

/// Scopes about the sign-in itself: a provider need not repeat them (OpenID Connect Core §5.4,
/// §11), and whether they were granted shows in what came.
const SIGN_IN_SCOPES: [&str; 6] = [
    "openid",
    "profile",
    "email",
    "address",
    "phone",
    "offline_access",
];

/// What a sign-in connected.
#[derive(Clone, Debug, Serialize)]
pub struct Connected {
    /// The account.
    pub account: String,
    /// The mailbox it signs in to.
    pub username: String,
    /// The `From` of its messages.
    pub sender: String,
    /// Who signed in, where the provider says.
    pub signed_in: Option<SignedIn>,
    /// The tenant, as the settings name it.
    pub tenant: Option<String>,
    /// Scopes granted, separated by spaces.
    pub scope: Option<String>,
    /// When the access token expires.
    pub expires_at: Moment,
    /// When the sign-in lapses if nothing uses it.
    pub lapses_at: Option<Moment>,
    /// What could not be verified.
    pub warnings: Vec<String>,
}

/// A sign-in that is what was wanted. Dropped, nothing has happened.
pub struct Verified<'a> {
    account: &'a Account,
    pending: PendingLogin,
    warnings: Vec<String>,
}

impl Account {
    /// Whether somebody can sign in here; the grant that it would be.
    ///
    /// # Errors
    /// Why it makes no sense to begin.
    pub fn check_login(&self) -> Result<Option<GrantKey>, Failure> {
        let name = &self.settings().name;
        let plugin = &self.settings().auth.plugin;
        if !self.has(Op::Login) {
            return Err(Failure::new(
                "usage.no_login",
                format!("nobody signs in to this account: its plugin, {plugin}, takes a password"),
            )
            .with_account(name)
            .with_remedy(format!("postrider account test {name}")));
        }
        if !self.needs_person() {
            return Err(Failure::new(
                "usage.no_login",
                "nobody signs in to this account: its flow is client_credentials, and the \
                 application signs itself in",
            )
            .with_account(name)
            .with_remedy(format!("postrider account test {name}")));
        }
        Ok(self.credential().grant_key())
    }

    /// Has a person sign in and verifies what came; keeps nothing yet. `meant` is who should
    /// have signed in, in place of the account's `username`.
    ///
    /// # Errors
    /// What kept the person from signing in, or why the sign-in is not the one wanted.
    pub async fn login(
        &self,
        method: LoginMethod,
        meant: Option<&str>,
    ) -> Result<Verified<'_>, Failure> {
        let pending = self
            .credential()
            .login(method)
            .await
            .map_err(|error| match error.kind {
                // Neither the provider nor the person said anything.
                AuthErrorKind::NeedsUser if error.oauth_error.is_none() => {
                    self.login_timed_out(&error.message)
                }
                _ => self.auth_failure(&error),
            })?;
        let mut warnings = Vec::new();
        self.verify_scopes(&pending)?;
        self.verify_person(pending.identity(), meant, &mut warnings)?;
        self.verify_lasting(&pending)?;
        Ok(Verified {
            account: self,
            pending,
            warnings,
        })
    }

    /// Goes on with a sign-in that was made for another program; whether it is kept. One that
    /// is or was here already stays.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn take_in(&self, refresh_token: &SecretString) -> Result<bool, Failure> {
        let taken = self.credential().take_in(refresh_token).await;
        taken.map_err(|error| self.auth_failure(&error))
    }

    /// Nobody signed in.
    pub fn login_timed_out(&self, how: &str) -> Failure {
        Failure::new("auth.login_timeout", how)
            .with_account(&self.settings().name)
            .with_remedy(format!(
                "start again: postrider login {}; --timeout gives more time",
                self.settings().name
            ))
    }

    /// A refresh token without the permission to send is of no use.
    fn verify_scopes(&self, pending: &PendingLogin) -> Result<(), Failure> {
        // A provider that says nothing granted what was asked for (RFC 6749 §5.1).
        let Some(granted) = pending.scope() else {
            return Ok(());
        };
        let requested = pending.requested_scopes();
        let missing = missing_scopes(&requested, granted);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            "auth.scope_missing",
            format!(
                "the provider granted \"{granted}\", and not {}",
                missing.join(" ")
            ),
        )
        .with_account(&self.settings().name)
        .with_remedy(format!(
            "have the permission added to app {} and consented to, then sign in again: postrider \
             login {}",
            self.setting("client_id").unwrap_or("(client_id)"),
            self.settings().name
        )))
    }

    /// Mail goes out of the mailbox that `username` names: somebody else's token would be
    /// refused, or worse, accepted.
    fn verify_person(
        &self,
        identity: Option<&Identity>,
        meant: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let settings = self.settings();
        let wanted = meant.unwrap_or(&settings.username);
        let usernames = identity.map_or(&[][..], |identity| &identity.usernames);
        if usernames.is_empty() {
            let unsaid = "the provider does not say who signed in";
            // Whoever names a person wants them checked. Otherwise the mail server will: it
            // takes the token together with the username.
            if meant.is_some() {
                return Err(Failure::new(
                    "auth.unknown_person",
                    format!("{unsaid}, so it cannot be checked that it was {wanted}"),
                )
                .with_account(&settings.name)
                .with_remedy("add openid and profile to scopes, or leave --signed-in-as out"));
            }
            warnings.push(format!(
                "{unsaid}; that it was {wanted} could not be checked. openid and profile among \
                 the scopes make most providers say it"
            ));
            return Ok(());
        }
        if usernames.iter().any(|one| is_same_user(one, wanted)) {
            return Ok(());
        }
        let who = &usernames[0];
        let name = &settings.name;
        Err(Failure::new(
            "auth.wrong_user",
            format!("{who} signed in, and {wanted} was to"),
        )
        .with_account(name)
        .with_remedy(if may_be_pasted(who) {
            format!(
                "sign in as {wanted}, in a private window if the browser does not ask; or, if \
                 {who} may send as {}: postrider login {name} --signed-in-as {who}",
                settings.username
            )
        } else {
            format!("sign in as {wanted}, in a private window if the browser does not ask")
        }))
    }

    /// Without a refresh token the sign-in would end with its first access token.
    fn verify_lasting(&self, pending: &PendingLogin) -> Result<(), Failure> {
        if pending.has_refresh_token() {
            return Ok(());
        }
        let asked = pending
            .requested_scopes()
            .iter()
            .any(|scope| scope == "offline_access");
        Err(Failure::new(
            "auth.no_refresh_token",
            "the provider gave no refresh token, so this sign-in would end within the hour",
        )
        .with_account(&self.settings().name)
        .with_remedy(if asked {
            "let the app have offline access at the provider (its grant type refresh_token), then \
             sign in again"
        } else {
            "add offline_access to scopes, then sign in again; some providers want another \
             setting for it"
        }))
    }
}

impl Verified<'_> {
    /// Keeps the sign-in, in the place of an earlier one.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn keep(self) -> Result<Connected, Failure> {
        let Self {
            account,
            pending,
            warnings,
        } = self;
        let settings = account.settings();
        let signed_in = pending.identity().map(SignedIn::from);
        let scope = pending.scope().map(str::to_owned);
        let token = pending
            .keep()
            .await
            .map_err(|error| account.auth_failure(&error))?;
        // It is kept: what cannot be said of it now is no failure.
        let standing = account.standing().await.ok();
        Ok(Connected {
            account: settings.name.clone(),
            username: settings.username.clone(),
            sender: settings.sender.to_string(),
            signed_in,
            tenant: account.setting("tenant").map(str::to_owned),
            scope,
            expires_at: Moment(token.expires_at()),
            lapses_at: standing
                .and_then(|standing| standing.refresh_token)
                .and_then(|token| token.lapses_at),
            warnings,
        })
    }
}

/// Whether two names are one user: names of mailboxes do not differ by case.
fn is_same_user(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Whether a name that a provider gave may stand in a command that somebody pastes.
pub(super) fn may_be_pasted(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+".contains(c);
    !name.starts_with('-') && name.chars().all(plain)
}

/// Those of `requested` that `granted` does not cover.
pub(super) fn missing_scopes<'a>(requested: &'a [String], granted: &str) -> Vec<&'a str> {
    let granted: Vec<&str> = granted
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .collect();
    requested
        .iter()
        .map(String::as_str)
        .filter(|wanted| !SIGN_IN_SCOPES.contains(wanted))
        .filter(|wanted| !granted.iter().any(|scope| covers(scope, wanted)))
        .collect()
}

/// Whether `granted` is what `wanted` asks for. Microsoft answers with the resource before the
/// permission, whichever way it was asked, and spells both as it likes (facts B1).
fn covers(granted: &str, wanted: &str) -> bool {
    let parts = |scope: &str| {
        let scope = scope.to_ascii_lowercase();
        match scope.rsplit_once('/') {
            Some((resource, permission)) => (
                Some(resource.trim_end_matches('/').to_owned()),
                permission.to_owned(),
            ),
            None => (None, scope),
        }
    };
    let (resource, permission) = parts(granted);
    let (wanted_resource, wanted_permission) = parts(wanted);
    let same_resource = match (resource, wanted_resource) {
        (Some(resource), Some(wanted)) => resource == wanted,
        _ => true,
    };
    same_resource && (permission == wanted_permission || wanted_permission == ".default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(requested: &[&str], granted: &str) -> Vec<String> {
        let requested: Vec<String> = requested.iter().map(ToString::to_string).collect();
        missing_scopes(&requested, granted)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_scope_is_granted_however_the_provider_spells_it() {
        let send = "https://outlook.office.com/SMTP.Send";
        for granted in [
            "https://outlook.office.com/SMTP.Send",
            "https://outlook.office.com/smtp.send https://outlook.office.com/Mail.Read",
            "HTTPS://OUTLOOK.OFFICE.COM/SMTP.Send",
            "SMTP.Send",
        ] {
            let requested = [send, "offline_access", "openid", "profile"];
            assert!(missing(&requested, granted).is_empty(), "{granted}");
        }
        assert!(missing(&["User.Read"], "https://graph.microsoft.com/User.Read").is_empty());
        assert!(
            missing(
                &["https://outlook.office365.com/.default"],
                "https://outlook.office365.com/SMTP.Send"
            )
            .is_empty()
        );
    }

    #[test]
    fn a_scope_of_another_resource_or_name_is_missing() {
        let send = "https://outlook.office.com/SMTP.Send";
        for granted in [
            "",
            "openid profile",
            "https://outlook.office.com/IMAP.AccessAsUser.All",
            "https://graph.microsoft.com/SMTP.Send",
            "https://outlook.office.com/SMTP.SendAsApp",
        ] {
            assert_eq!(missing(&[send], granted), [send], "{granted}");
        }
        assert_eq!(missing(&["mail", "openid"], "other"), ["mail"]);
    }

    #[test]
    fn only_plain_names_end_up_in_a_command() {
        assert!(may_be_pasted("svc-mail+x@contoso.com"));
        for name in ["a@b$(calc)", "a b", "-x@contoso.com", "a;b", "a\u{202e}b"] {
            assert!(!may_be_pasted(name), "{name}");
        }
    }

    #[test]
    fn names_of_one_user_differ_by_case_alone() {
        assert!(is_same_user("Svc-Mail@Contoso.com", "svc-mail@contoso.com"));
        assert!(is_same_user("JÖRG@example.org", "jörg@example.org"));
        assert!(!is_same_user(
            "svc-mail@contoso.com",
            "svc-mail@contoso.com.evil"
        ));
    }
}
