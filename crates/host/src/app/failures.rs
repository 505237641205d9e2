//! Other crates' errors as [`Failure`]s: a stable code, and advice from the diagnosis.

use std::error::Error;

use postrider_auth::{AuthError, AuthErrorKind, Cause, SettingsProblem, StoreError};
use postrider_config::{
    Account, Config, ConfigErrors, Problem, SecretError, SecretErrorKind, edit::EditError,
};
use postrider_diagnose::{self as diagnose, Diagnosis, Subject, Trouble, Verdict as Meaning, Who};
use postrider_smtp::message::MessageError;
use postrider_smtp::{Reply, SendError, SendErrorKind, Stage, tls::TlsError};
use serde_json::{Value, json};

use crate::failure::{Failure, SmtpFailure, with_sources};

/// Every problem of a configuration file, as the config crate prints them.
pub(crate) fn config(errors: &ConfigErrors) -> Failure {
    let mut failure = problem_list("config.invalid", &errors.problems);
    failure.at = errors.path.as_ref().map(|path| path.display().to_string());
    failure.report = Some(errors.to_string());
    failure
}

fn problem_list(code: &str, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let mut failure = Failure::new(code, lines.join("; "));
    failure.details = problems
        .iter()
        .map(|problem| {
            json!({
                "key": problem.key,
                "message": problem.message,
                "suggestion": problem.suggestion,
                "line": problem.line(),
                "column": problem.column(),
            })
        })
        .collect();
    failure
}

/// Every problem of a table that a script gave.
pub(crate) fn problems(account: &str, problems: &[Problem]) -> Failure {
    problem_list("config.invalid", problems).with_account(account)
}

/// What a plugin's schema does not accept, with its place in the file if it stands in one.
pub(super) fn settings(
    config: &Config,
    account: &Account,
    problems: &[SettingsProblem],
) -> Failure {
    let advice = format!(
        "postrider plugin inspect {} lists its settings",
        account.auth.plugin
    );
    let located: Vec<Problem> = problems
        .iter()
        .map(|problem| {
            let key = format!("account.{}.auth.{}", account.name, problem.key);
            config.problem(key.trim_end_matches('.'), &problem.message, Some(&advice))
        })
        .collect();
    if located.iter().any(|problem| problem.location.is_some()) {
        return self::config(&ConfigErrors {
            path: config.path.clone(),
            problems: located,
        });
    }
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| {
            if problem.key.is_empty() {
                format!("auth: {}", problem.message)
            } else {
                format!("auth.{}: {}", problem.key, problem.message)
            }
        })
        .collect();
    Failure::new("config.invalid", lines.join("; "))
        .with_account(&account.name)
        .with_remedy(advice)
}

/// A change of the configuration that was not made.
pub(crate) fn edit(error: &EditError) -> Failure {
    let mut failure = Failure::new("config.not_changed", with_sources(error));
    if let EditError::Invalid(errors) = error {
        failure.details = problem_list("config.not_changed", &errors.problems).details;
    }
    failure
}

/// A trust store that cannot be used.
pub(super) fn tls(error: &TlsError) -> Failure {
    let failure = Failure::new("config.trust", with_sources(error));
    match error {
        TlsError::NoPlatformRoots { .. } => {
            failure.with_remedy("install ca-certificates, or name a ca_file")
        }
        _ => failure,
    }
}

/// A message that cannot be built.
pub(super) fn message(account: &Account, error: &MessageError) -> Failure {
    let mut failure =
        Failure::new("message.invalid", error.to_string()).with_account(&account.name);
    failure.details = json!({ "field": error.field });
    let one_each = ["to", "cc", "bcc", "reply_to"]
        .iter()
        .any(|list| error.field.starts_with(list));
    failure.remedy = if error.message.contains("recipients, more than") {
        Some("send it in several messages".to_owned())
    } else if error.message.contains("no recipients") {
        Some("name at least one recipient in to, cc or bcc".to_owned())
    } else if one_each {
        Some("give one address each: user@example.org or Name <user@example.org>".to_owned())
    } else {
        None
    };
    failure
}

/// A secret of an account that could not be had.
pub(super) fn secret(account: &Account, setting: &str, error: &SecretError) -> Failure {
    let mut failure = unresolved(error)
        .with_account(&account.name)
        .at(format!("account.{}.auth.{setting}", account.name));
    failure.message = format!("{setting} ({}): {}", error.reference, error.message);
    failure
}

/// A secret that could not be had.
pub(super) fn unresolved(error: &SecretError) -> Failure {
    let (code, remedy) = match error.kind {
        SecretErrorKind::Missing => (
            "secret.missing",
            "put it there, or refer to another place: env, file, command or credential",
        ),
        SecretErrorKind::Unsafe => (
            "secret.unsafe",
            "let only the account that runs postrider own and read it: chmod 600",
        ),
        SecretErrorKind::Failed => (
            "secret.failed",
            "run the program by hand to see what it says",
        ),
        SecretErrorKind::Vault => (
            "vault.failed",
            "postrider vault status says what is wrong with it",
        ),
        _ => (
            "secret.malformed",
            "store the secret's text and nothing else",
        ),
    };
    let message = format!("{}: {}", error.reference, error.message);
    Failure::new(code, message).with_remedy(remedy)
}

/// A credential that was not obtained.
pub(super) fn auth(account: &Account, error: &AuthError) -> Failure {
    if let Some(failure) = error.cause.as_ref().and_then(of_vault) {
        return failure.with_account(&account.name);
    }
    let mut failure = if let Some(oauth_error) = &error.oauth_error {
        let found = diagnose::oauth(
            oauth_error,
            error.oauth_suberror.as_deref(),
            error.oauth_description.as_deref(),
            subject(account),
        );
        let message = format!("{}: {}", found.cause, error.message);
        let mut failure = diagnosed(Failure::new(&found.code, message), &found);
        let grant_lost = matches!(
            error.kind,
            AuthErrorKind::InvalidGrant | AuthErrorKind::NeedsUser
        );
        let by_a_person = found.verdict == Meaning::Reauthorize || grant_lost;
        if by_a_person && signs_in(account) {
            failure.remedy = Some(sign_in_remedy(account, &found.remedy));
        }
        failure
    } else {
        by_kind(error)
    };
    failure.account = Some(account.name.clone());
    // A page or junk in the provider's place passes too: the keeper then says when it asks again.
    failure.retryable = error.kind.is_transient() || error.retry_after.is_some();
    if error.oauth_error.is_some() || error.retry_after.is_some() || error.user_url.is_some() {
        failure.details = json!({
            "oauth_error": error.oauth_error,
            "oauth_suberror": error.oauth_suberror,
            // A service may repeat there what it was sent.
            "oauth_description": error.oauth_description.as_deref().map(diagnose::shown),
            "retry_after_seconds": error.retry_after.map(|wait| wait.as_secs()),
            "url": error.user_url,
        });
    }
    failure
}

/// The store of tokens failed.
pub(super) fn store(error: &StoreError) -> Failure {
    let said = error.cause.as_ref().and_then(of_vault);
    said.unwrap_or_else(|| Failure::new("vault.io", format!("the token store: {error}")))
}

/// The vault's own words, where it is what failed.
fn of_vault(cause: &Cause) -> Option<Failure> {
    let opening = cause.downcast_ref::<Failure>().cloned();
    opening.or_else(|| cause.downcast_ref().map(super::vault::failure))
}

/// Without a word from the provider, by what can be done.
pub(super) fn by_kind(error: &AuthError) -> Failure {
    let message = &error.message;
    match error.kind {
        AuthErrorKind::Config => Failure::new("config.auth", message),
        AuthErrorKind::NeedsUser => {
            Failure::new("auth.sign_in_needed", message).with_remedy(login(&error.account))
        }
        AuthErrorKind::InvalidGrant => {
            Failure::new("auth.revoked", message).with_remedy(login(&error.account))
        }
        AuthErrorKind::Transient => {
            let said = format!("the sign-in service is not available: {message}");
            let failure = Failure::new("auth.unavailable", said);
            match (on_the_way(message), error.retry_after) {
                (Some(found), _) => diagnosed(failure, &found),
                (None, Some(wait)) => {
                    failure.with_remedy(format!("try again in {} s", wait.as_secs().max(1)))
                }
                (None, None) => failure.with_remedy("try again later"),
            }
        }
        AuthErrorKind::Protocol => Failure::new("network.sign_in", message).with_remedy(
            "see whether a proxy or a captive portal answers in the provider's place \
             (HTTPS_PROXY), and whether the endpoint is right",
        ),
        AuthErrorKind::Denied => Failure::new("auth.denied", message),
        AuthErrorKind::Unsupported => Failure::new("auth.unsupported", message)
            .with_remedy("choose a plugin that suits what this server offers"),
        AuthErrorKind::Unresponsive => Failure::new("plugin.unresponsive", message)
            .with_remedy("report it to the plugin's author; other accounts are not affected"),
        _ => Failure::new("plugin.failed", message)
            .with_remedy("report it to the plugin's author; other accounts are not affected"),
    }
}

/// `advice` with the command that it comes down to.
fn sign_in_remedy(account: &Account, advice: &str) -> String {
    let Account { name, username, .. } = account;
    if advice == format!("sign in again as {username}")
        || advice == format!("sign in as {username}")
    {
        format!("{}, as {username}", login(name))
    } else {
        format!("{advice}; to sign in: {}", login(name))
    }
}

/// What the catalogue knows of the trouble on the way to the sign-in service; the words are the
/// system's and rustls's.
fn on_the_way(message: &str) -> Option<Diagnosis> {
    let mut found = diagnose::explain(message, Subject::default()).into_iter();
    let trouble = found.find(|one| one.kind == diagnose::Kind::Network);
    trouble.map(|one| one.diagnosis)
}

/// The one command that lets a person sign in.
fn login(account: &str) -> String {
    format!("postrider login {account}")
}

/// Whether a person signs in to this account.
fn signs_in(account: &Account) -> bool {
    let flow = account.auth.settings.get("flow").and_then(Value::as_str);
    flow != Some("client_credentials")
}

/// A message that was not sent, for a reason other than its credential.
pub(super) fn send(account: &Account, sender: &str, error: &SendError) -> Failure {
    let subject = Subject {
        sender,
        ..subject(account)
    };
    let mut failure = match error.reply() {
        Some(reply) => {
            let found = diagnose::smtp(
                reply.code,
                reply.enhanced.map(|status| status.to_string()).as_deref(),
                &reply.text(),
                subject,
            );
            let mut failure = diagnosed(Failure::new(&found.code, error.kind.to_string()), &found);
            failure.smtp = Some(smtp_failure(reply));
            failure.message = format!("{}: {}", found.cause, reply_line(reply));
            failure
        }
        None => without_reply(account, error),
    };
    failure.account = Some(account.name.clone());
    failure.at = Some(format!("{}, {}", error.stage, error.server));
    failure.retryable = failure.retryable || error.is_transient();
    if let SendErrorKind::Auth {
        challenge: Some(challenge),
        ..
    } = &*error.kind
    {
        failure.details = json!({ "challenge": challenge });
    }
    failure
}

/// What went wrong before the server could say anything about it.
fn without_reply(account: &Account, error: &SendError) -> Failure {
    let words = with_sources(&DisplayKind(error));
    let (code, remedy) = match &*error.kind {
        SendErrorKind::TooLarge { .. } => ("smtp.too_large", Some("send less in one message")),
        SendErrorKind::Unknown(_) => (
            "smtp.unknown",
            Some(
                "look in the sender's Sent Items or ask a recipient before sending it again: it may have arrived",
            ),
        ),
        SendErrorKind::Sasl(_) => ("auth.failed", None),
        SendErrorKind::Closed => ("internal.closed", None),
        kind => {
            let subject = Subject {
                server: &error.server,
                ..subject(account)
            };
            let found = diagnose::network(trouble(kind), &words, subject);
            return diagnosed(Failure::new(&found.code, words), &found);
        }
    };
    let failure = Failure::new(code, words);
    match remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    }
}

/// The catalogue's word for what went wrong.
fn trouble(kind: &SendErrorKind) -> Trouble {
    match kind {
        SendErrorKind::Dns(_) => Trouble::Dns,
        SendErrorKind::Connect(_) => Trouble::Connect,
        SendErrorKind::Timeout(_) => Trouble::Timeout,
        SendErrorKind::Lost(_) => Trouble::Lost,
        SendErrorKind::Tls(_) | SendErrorKind::InjectedBeforeTls => Trouble::Tls,
        _ => Trouble::Protocol,
    }
}

/// What a refusal of one recipient means.
pub(super) fn recipient_remedy(account: &Account, sender: &str, reply: &Reply) -> Diagnosis {
    diagnose::smtp(
        reply.code,
        reply.enhanced.map(|status| status.to_string()).as_deref(),
        &reply.text(),
        Subject {
            sender,
            ..subject(account)
        },
    )
}

/// `550 5.1.1 No such user`.
pub(super) fn reply_line(reply: &Reply) -> String {
    let text = reply.text().replace('\n', " ");
    match reply.enhanced {
        Some(status) => format!("{} {status} {text}", reply.code),
        None => format!("{} {text}", reply.code),
    }
}

pub(super) fn smtp_failure(reply: &Reply) -> SmtpFailure {
    SmtpFailure {
        code: reply.code,
        enhanced: reply.enhanced.map(|status| status.to_string()),
        text: reply.text(),
    }
}

fn diagnosed(failure: Failure, found: &Diagnosis) -> Failure {
    let mut failure = failure.with_remedy(&found.remedy);
    failure.retryable = found.verdict == Meaning::Retry;
    if found.who != Who::You {
        failure.who = Some(found.who.to_string());
    }
    failure
}

pub(crate) fn subject(account: &Account) -> Subject<'_> {
    let setting = |key: &str| {
        account
            .auth
            .settings
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    Subject {
        account: &account.name,
        username: &account.username,
        sender: account.sender.email.as_ref(),
        tenant: setting("tenant"),
        client_id: setting("client_id"),
        server: "",
    }
}

/// A [`SendError`] without its place, which is said elsewhere.
struct DisplayKind<'a>(&'a SendError);

impl std::fmt::Display for DisplayKind<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl std::fmt::Debug for DisplayKind<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.0, f)
    }
}

impl Error for DisplayKind<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The name of a stage in reports.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect | Stage::Greeting => "connect",
        Stage::StartTls | Stage::Tls => "tls",
        Stage::Ehlo => "ehlo",
        Stage::Auth => "auth",
        Stage::MailFrom | Stage::Reset => "mail_from",
        _ => "send",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use postrider_smtp::TlsFailure;

    use super::*;

    /// The code of what the catalogue says of it, at `server`.
    fn code(kind: SendErrorKind, server: &str) -> String {
        let error = SendError {
            stage: Stage::Connect,
            server: server.to_owned(),
            kind: Box::new(kind),
            recipients: Vec::new(),
        };
        let subject = Subject {
            server: &error.server,
            ..Subject::default()
        };
        let words = with_sources(&DisplayKind(&error));
        diagnose::network(trouble(&error.kind), &words, subject).code
    }

    #[test]
    fn each_failure_of_tls_has_its_own_code() {
        for (failure, expected) in [
            (TlsFailure::Expired, "tls.expired"),
            (TlsFailure::NotYetValid, "tls.not_yet_valid"),
            (
                TlsFailure::WrongName {
                    expected: "smtp.example.org".to_owned(),
                    presented: vec!["expired.example.org".to_owned()],
                },
                "tls.wrong_name",
            ),
            (TlsFailure::UnknownAuthority, "tls.unknown_authority"),
            (TlsFailure::AuthorityAsServer, "tls.authority_as_server"),
            (TlsFailure::OldVersion, "tls.server_too_old"),
            (TlsFailure::BadHost("a b".to_owned()), "tls.bad_host"),
            (
                TlsFailure::Aborted("connection reset by peer".to_owned()),
                "tls.aborted",
            ),
            (
                TlsFailure::Other("received corrupt message of type X".to_owned()),
                "tls.not_tls",
            ),
            (TlsFailure::Other("of a new kind".to_owned()), "tls.failed"),
        ] {
            let said = failure.to_string();
            let found = code(SendErrorKind::Tls(failure), "smtp.example.org:587");
            assert_eq!(found, expected, "{said}");
        }
    }

    #[test]
    fn what_fails_before_tls_keeps_its_code() {
        let other = || io::Error::other("of a new kind");
        for (kind, expected) in [
            (SendErrorKind::Dns(other()), "network.dns"),
            (SendErrorKind::Connect(other()), "network.connect"),
            (
                SendErrorKind::Connect(io::Error::from(io::ErrorKind::TimedOut)),
                "network.connect",
            ),
            (SendErrorKind::Lost(other()), "network.lost"),
            (
                SendErrorKind::Timeout(Duration::from_secs(30)),
                "network.timeout",
            ),
            (SendErrorKind::InjectedBeforeTls, "tls.injection"),
            (SendErrorKind::NotOffered("STARTTLS"), "tls.not_offered"),
            (SendErrorKind::NotOffered("AUTH"), "smtp.no_auth"),
            (SendErrorKind::NotOffered("SMTPUTF8"), "smtp.no_smtputf8"),
            (SendErrorKind::NotOffered("8BITMIME"), "smtp.protocol"),
        ] {
            let said = kind.to_string();
            assert_eq!(code(kind, "smtp.example.org:587"), expected, "{said}");
        }
    }
}
