//! Who may sign in to submit: tokens and passwords against the scenario, `facts` A1, A2 and D.

use crate::scenario::{Account, BasicAuth, Resource, Right, Scenario, SmtpAuthSwitch, User};
use crate::state::{Claims, State};

const SECURITY_DEFAULTS: &str =
    "user is locked by your organization's security defaults policy. Contact your administrator.";
const BASIC_DISABLED: &str = "basic authentication is disabled.";
const WRONG_PASSWORD: &str = "the user credentials were incorrect.";
const CRITERIA: &str = "the request did not meet the criteria to be authenticated successfully. Contact your administrator.";
const TENANT_SWITCH: &str = "SmtpClientAuthentication is disabled for the Tenant. \
     Visit https://aka.ms/smtp_auth_disabled for more information.";
const MAILBOX_SWITCH: &str = "SmtpClientAuthentication is disabled for the Mailbox. \
     Visit https://aka.ms/smtp_auth_disabled for more information.";

/// Why somebody is turned away: what is said, and the truth for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) said: Said,
    pub(super) why: String,
}

/// What a refusal says on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// `535 5.7.3`, without a reason.
    Nothing,
    /// `535 5.7.139`, with this reason.
    Reason(&'static str),
    /// `550 5.7.30`
    Retired,
}

impl Denied {
    fn silently(why: impl Into<String>) -> Self {
        Self {
            said: Said::Nothing,
            why: why.into(),
        }
    }

    fn because(reason: &'static str, why: impl Into<String>) -> Self {
        Self {
            said: Said::Reason(reason),
            why: why.into(),
        }
    }
}

/// What a client proves itself with.
pub(super) enum Proof<'a> {
    /// XOAUTH2's access token.
    Token(&'a str),
    /// LOGIN's password.
    Password(&'a str),
}

/// The octets of XOAUTH2, taken apart: the user and the token.
pub(super) fn xoauth2(octets: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(octets).ok()?;
    let (user, rest) = text.strip_prefix("user=")?.split_once('\x01')?;
    let token = rest
        .strip_prefix("auth=Bearer ")?
        .strip_suffix("\x01\x01")?;
    let whole = !user.is_empty() && !token.is_empty() && !token.contains('\x01');
    whole.then_some((user, token))
}

/// The mailbox that `user` and the proof open: its principal name, and how.
pub(super) fn sign_in(
    state: &State,
    user: &str,
    proof: &Proof<'_>,
) -> Result<(String, String), Denied> {
    let scenario = state.scenario();
    let (mailbox, how) = match proof {
        Proof::Token(token) => {
            let claims = state
                .verify_token(token, Resource::Exchange)
                .map_err(|problem| Denied::silently(problem.to_string()))?;
            by_token(&scenario, user, &claims)?
        }
        Proof::Password(password) => by_password(&scenario, user, password)?,
    };
    if mailbox.blocked_by_conditional_access {
        return Err(Denied::because(
            CRITERIA,
            "Conditional Access blocks the user",
        ));
    }
    if !mailbox.has_mailbox() {
        return Err(Denied::silently(format!(
            "{} has no licensed mailbox",
            mailbox.upn
        )));
    }
    match scenario.smtp_auth_switch(mailbox) {
        SmtpAuthSwitch::Enabled => Ok((mailbox.upn.clone(), how)),
        SmtpAuthSwitch::DisabledForTenant => Err(Denied::because(
            TENANT_SWITCH,
            "the tenant's SmtpClientAuthenticationDisabled is on, and the mailbox does not override it",
        )),
        SmtpAuthSwitch::DisabledForMailbox => Err(Denied::because(
            MAILBOX_SWITCH,
            "the mailbox's SmtpClientAuthenticationDisabled is on",
        )),
    }
}

fn by_token<'s>(
    scenario: &'s Scenario,
    user: &str,
    claims: &Claims,
) -> Result<(&'s User, String), Denied> {
    let mailbox = scenario
        .user(user)
        .ok_or_else(|| Denied::silently(format!("user= names {user}, which is no mailbox here")))?;
    if scenario
        .tenant_of(&mailbox.upn)
        .is_none_or(|tenant| tenant.id != *claims.tid)
    {
        return Err(Denied::silently(format!(
            "the token is of tenant {}, where {user} is not",
            claims.tid
        )));
    }
    if claims.is_app_only() {
        return by_app(scenario, mailbox, claims);
    }
    let upn = claims.upn.as_deref().unwrap_or_default();
    if !claims.has_scope("SMTP.Send") {
        let found = claims.scp.as_deref().unwrap_or_default();
        return Err(Denied::silently(format!(
            "the token's scp is \"{found}\", without SMTP.Send"
        )));
    }
    // Documented for shared mailboxes, yet measured as refused: a delegate signs in with
    // their own name and writes the shared mailbox into From.
    if !upn.eq_ignore_ascii_case(&mailbox.upn) {
        return Err(Denied::silently(format!(
            "user= is {user}, but the token was issued to {upn}; sign in as {upn} and set From instead"
        )));
    }
    if mailbox.account != Account::Enabled {
        return Err(Denied::silently(format!(
            "the account {upn} does not sign in"
        )));
    }
    Ok((mailbox, format!("token of {upn}")))
}

fn by_app<'s>(
    scenario: &'s Scenario,
    mailbox: &'s User,
    claims: &Claims,
) -> Result<(&'s User, String), Denied> {
    let app = scenario.app(&claims.appid).ok_or_else(|| {
        Denied::silently(format!("the app {} does not exist any more", claims.appid))
    })?;
    if !claims.has_role("SMTP.SendAsApp") {
        let found = claims.roles.join(" ");
        return Err(Denied::silently(format!(
            "the token's roles are \"{found}\", without SMTP.SendAsApp"
        )));
    }
    if !app.exchange_service_principal {
        return Err(Denied::silently(format!(
            "Exchange has no service principal of {}: New-ServicePrincipal -AppId {} -ObjectId {}",
            app.name, app.client_id, app.object_id
        )));
    }
    if app.object_id != *claims.oid {
        return Err(Denied::silently(format!(
            "Exchange's service principal of {} has another object id than the token's {}",
            app.name, claims.oid
        )));
    }
    if !scenario.allows(&mailbox.upn, app.client_id.as_str(), Right::FullAccess) {
        return Err(Denied::silently(format!(
            "the service principal of {} has no right to {}: Add-MailboxPermission -Identity {} -User {} -AccessRights FullAccess",
            app.name, mailbox.upn, mailbox.upn, app.object_id
        )));
    }
    Ok((mailbox, format!("app-only token of {}", app.name)))
}

fn by_password<'s>(
    scenario: &'s Scenario,
    user: &str,
    password: &str,
) -> Result<(&'s User, String), Denied> {
    let incorrect = |why: String| Denied::because(WRONG_PASSWORD, why);
    let tenant = scenario
        .tenant_of(user)
        .ok_or_else(|| incorrect(format!("{user} is in no tenant here")))?;
    if tenant.basic_auth == BasicAuth::Retired {
        return Err(Denied {
            said: Said::Retired,
            why: "the tenant's passwords are retired for SMTP".to_owned(),
        });
    }
    if tenant.security_defaults {
        return Err(Denied::because(
            SECURITY_DEFAULTS,
            "security defaults are on",
        ));
    }
    if tenant.basic_auth == BasicAuth::Disabled {
        return Err(Denied::because(
            BASIC_DISABLED,
            "the tenant's basic authentication is off",
        ));
    }
    let found = scenario
        .user(user)
        .ok_or_else(|| incorrect(format!("there is no user {user}")))?;
    match &found.password {
        None => {
            return Err(incorrect(format!(
                "{user} has no password: a shared mailbox"
            )));
        }
        Some(known) if !known.is(password) => {
            return Err(incorrect("the password is wrong".to_owned()));
        }
        Some(_) => {}
    }
    if found.account != Account::Enabled {
        return Err(incorrect(format!("the account {user} does not sign in")));
    }
    Ok((found, "password".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoauth2_is_read_exactly() {
        let good = b"user=a@b\x01auth=Bearer t.t\x01\x01";
        assert_eq!(xoauth2(good), Some(("a@b", "t.t")));
        let bad: [&[u8]; 8] = [
            b"",
            b"user=a@b\x01auth=Bearer t\x01",
            b"user=a@b\x01auth=Bearer \x01\x01",
            b"user=\x01auth=Bearer t\x01\x01",
            b"user=a@b\x01auth=bearer t\x01\x01",
            b"n,a=a@b\x01auth=Bearer t\x01\x01",
            b"user=a@b\x01auth=Bearer t\x01x\x01\x01",
            b"user=a@\xff\x01auth=Bearer t\x01\x01",
        ];
        for octets in bad {
            assert_eq!(xoauth2(octets), None, "{}", octets.escape_ascii());
        }
    }
}
