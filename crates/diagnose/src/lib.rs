//! What a refusal means: an SMTP reply, an OAuth or Graph error, a broken connection in; cause,
//! remedy and who can apply it out.
//!
//! The knowledge is data (`catalogue.toml`, checked against `catalogue.schema.json`); this crate
//! only looks it up. It always answers: what the catalogue does not know falls back to the reply's
//! class (RFC 5321 §4.2.1) and says so, so a caller never has to invent a remedy.
//!
//! Not here: talking to servers, deciding when to retry.
#![forbid(unsafe_code)]

mod catalogue;
mod explain;
mod meaning;

pub use explain::{Explained, Kind, explain, shown};
pub use meaning::{Diagnosis, Scope, Subject, Trouble, Verdict, Who};

use catalogue::CATALOGUE;

/// What an SMTP reply of class 4 or 5 means.
///
/// `enhanced` is the status code of RFC 3463, such as `5.7.3`, where the server gave one.
pub fn smtp(reply: u16, enhanced: Option<&str>, text: &str, subject: Subject<'_>) -> Diagnosis {
    let subject = about(text, subject);
    let lower = text.to_lowercase();
    CATALOGUE
        .smtp
        .iter()
        .find(|entry| entry.matches(reply, enhanced, &lower))
        .map_or_else(
            || by_class(reply, enhanced),
            |entry| entry.meaning.diagnosis(subject),
        )
}

/// What an OAuth error means (RFC 6749 §5.2, and Entra's `suberror` and AADSTS codes).
pub fn oauth(
    error: &str,
    suberror: Option<&str>,
    description: Option<&str>,
    subject: Subject<'_>,
) -> Diagnosis {
    let aadsts = description.and_then(aadsts_code);
    let lower = description.unwrap_or_default().to_lowercase();
    CATALOGUE
        .oauth
        .iter()
        .find(|entry| entry.matches(error, suberror, aadsts, &lower))
        .map_or_else(
            || Diagnosis {
                remedy: subject.fill("check the auth settings of account {account}"),
                who: Who::You,
                verdict: Verdict::Permanent,
                ..unknown(
                    "auth.failed",
                    "the provider refused, for a reason this version does not know",
                    "RFC 6749 §5.2",
                )
            },
            |entry| entry.meaning.diagnosis(subject),
        )
}

/// What an error of Microsoft Graph means: HTTP status, `error.code` and `error.message`.
pub fn graph(status: u16, code: Option<&str>, message: &str, subject: Subject<'_>) -> Diagnosis {
    let lower = message.to_lowercase();
    CATALOGUE
        .graph
        .iter()
        .find(|entry| entry.matches(status, code.unwrap_or_default(), &lower))
        .map_or_else(
            || {
                let passes = matches!(status, 408 | 429 | 500..);
                Diagnosis {
                    verdict: if passes {
                        Verdict::Retry
                    } else {
                        Verdict::Permanent
                    },
                    ..unknown(
                        "graph.failed",
                        "Microsoft Graph refused, for a reason this version does not know",
                        "learn.microsoft.com/graph/errors",
                    )
                }
            },
            |entry| entry.meaning.diagnosis(subject),
        )
}

/// What goes wrong before a server can refuse anything means; `text` is what the resolver, the
/// system or the TLS library said, and the port is that of `subject.server`.
pub fn network(trouble: Trouble, text: &str, subject: Subject<'_>) -> Diagnosis {
    let lower = text.to_lowercase();
    CATALOGUE
        .network
        .iter()
        .find(|entry| entry.matches(trouble, subject.port(), &lower))
        .map_or_else(
            || {
                let (code, cause, verdict) = match trouble {
                    Trouble::Dns => ("network.dns", "the name was not resolved", Verdict::Retry),
                    Trouble::Connect => (
                        "network.connect",
                        "the server was not reached",
                        Verdict::Retry,
                    ),
                    Trouble::Timeout => {
                        ("network.timeout", "no answer came in time", Verdict::Retry)
                    }
                    Trouble::Lost => ("network.lost", "the connection broke", Verdict::Retry),
                    Trouble::Tls => ("tls.failed", "there is no TLS", Verdict::Permanent),
                    Trouble::Protocol => (
                        "smtp.protocol",
                        "what answers does not speak SMTP as a submission server does",
                        Verdict::Reconfigure,
                    ),
                };
                Diagnosis {
                    remedy: "check host and port, and the network in between".to_owned(),
                    who: Who::You,
                    verdict,
                    ..unknown(code, cause, "the system's own words")
                }
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

/// `subject` with the sender that Exchange names in a `SendAsDenied` (facts A3): the message's
/// author, which need not be the account's sender. It ends up in a command that somebody pastes,
/// so nothing but the plainest of addresses is taken from a server.
fn about<'a>(text: &'a str, subject: Subject<'a>) -> Subject<'a> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+".contains(c);
    let refused = text
        .split_once("not allowed to send as ")
        .map(|(_, rest)| &rest[..rest.find([';', ' ']).unwrap_or(rest.len())])
        .filter(|sender| sender.contains('@') && sender.chars().all(plain));
    Subject {
        sender: refused.unwrap_or(subject.sender),
        ..subject
    }
}

/// What the class of a reply says (RFC 5321 §4.2.1), and the subject of its enhanced status.
fn by_class(reply: u16, enhanced: Option<&str>) -> Diagnosis {
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
    let about = enhanced
        .and_then(|status| status.split('.').nth(1)?.parse().ok())
        .and_then(|subject: u16| {
            let entries = &CATALOGUE.status;
            entries.iter().find(|entry| entry.subject == subject)
        });
    let found = Diagnosis {
        remedy: remedy.to_owned(),
        verdict,
        ..unknown(code, cause, "RFC 5321 §4.2.1")
    };
    match about {
        Some(about) => Diagnosis {
            cause: format!("{cause}: {}", about.cause),
            remedy: if verdict == Verdict::Permanent {
                about.remedy.clone()
            } else {
                found.remedy
            },
            who: about.who,
            source: about.source.clone(),
            ..found
        },
        None => found,
    }
}

/// What is said where no entry fits.
fn unknown(code: &str, cause: &str, source: &str) -> Diagnosis {
    Diagnosis {
        code: code.to_owned(),
        known: false,
        cause: cause.to_owned(),
        remedy: "read what the server said: it is all there is".to_owned(),
        who: Who::Provider,
        verdict: Verdict::Permanent,
        fresh_token: false,
        source: source.to_owned(),
        scope: Scope::Message,
        pause: None,
    }
}

#[cfg(test)]
mod tests;
