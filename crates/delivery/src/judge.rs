//! What follows from a server's answer, or from the lack of one.
//!
//! A reply is judged by the catalogue of `postrider-diagnose`, which knows what a code means and
//! whether it concerns the message or everything the account sends; what it does not know, by
//! the reply's class. What went wrong before the first `MAIL` concerns the account in any case,
//! and nothing of a message has left by then.

use std::time::Duration;

use postrider_diagnose::{Scope, Subject, Verdict as Meaning, smtp};
use postrider_smtp::{Class, Reply, SendError, SendErrorKind, Stage};

/// What follows for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The server has it.
    Delivered,
    /// Another attempt, later.
    Retry,
    /// Another attempt soon, with fewer recipients in one envelope.
    Split,
    /// As it was before the attempt: nothing of it has left, and this was not its fault.
    Return,
    /// No further attempt.
    Fail,
    /// A person has to look at it: it cannot be read here.
    Hold,
    /// It may have been delivered or not.
    Unknown,
}

/// What follows for everything that the account sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The server asked for less: fewer sessions, and a pause of at least this.
    SlowDown(Duration),
    /// The server is away or in trouble.
    Away,
    /// A person has to act, or a token to be had. Mail waits, and does not grow old meanwhile.
    Park,
}

/// What a reply to `MAIL`, `RCPT`, `DATA` or the message means, for the recipient and for its
/// account.
pub fn judge_reply(reply: &Reply) -> (Judgement, Option<Consequence>) {
    if reply.is_positive() {
        return (Judgement::Delivered, None);
    }
    if reply.class() == Class::Continue {
        // Not an answer to anything that was asked: the server took no responsibility.
        return (Judgement::Retry, None);
    }
    let found = meaning(reply);
    match (found.verdict, found.scope) {
        (Meaning::Retry, Scope::Account) => {
            let pause = found.pause.unwrap_or_default();
            (Judgement::Retry, Some(Consequence::SlowDown(pause)))
        }
        (Meaning::Retry, Scope::Message) if found.code == "smtp.too_many_recipients" => {
            (Judgement::Split, None)
        }
        (Meaning::Retry, Scope::Message) => (Judgement::Retry, None),
        (_, Scope::Account) => (Judgement::Return, Some(Consequence::Park)),
        (_, Scope::Message) if reply.class() == Class::Transient => (Judgement::Retry, None),
        (_, Scope::Message) => (Judgement::Fail, None),
    }
}

/// What an error means for the recipients that it names no verdict on, and for the account.
pub fn judge_error(error: &SendError) -> (Judgement, Option<Consequence>) {
    match &*error.kind {
        SendErrorKind::Unknown(_) => (Judgement::Unknown, None),
        // The way out was replaced: the next session takes the new one.
        SendErrorKind::Closed => (Judgement::Return, None),
        SendErrorKind::Body(_) => (Judgement::Hold, None),
        SendErrorKind::NotOffered("STARTTLS" | "AUTH")
        | SendErrorKind::Tls(_)
        | SendErrorKind::InjectedBeforeTls
        | SendErrorKind::Sasl(_) => (Judgement::Return, Some(Consequence::Park)),
        SendErrorKind::NotOffered(_)
        | SendErrorKind::TooLarge { .. }
        | SendErrorKind::Invalid(_) => (Judgement::Fail, None),
        SendErrorKind::Auth { reply, .. } => (Judgement::Return, Some(at_the_door(reply))),
        SendErrorKind::Refused(reply) if error.stage < Stage::MailFrom => {
            (Judgement::Return, Some(at_the_door(reply)))
        }
        SendErrorKind::Refused(reply) => judge_reply(reply),
        _ if error.stage < Stage::MailFrom => (Judgement::Return, Some(Consequence::Away)),
        // Nobody got it, and it may be this very message that the server stumbles over: it waits
        // longer each time, and the others do not wait for it.
        _ => (Judgement::Retry, Some(Consequence::Away)),
    }
}

/// What a refusal before the first `MAIL` means for the account.
fn at_the_door(reply: &Reply) -> Consequence {
    let found = meaning(reply);
    match (found.verdict, found.scope) {
        (Meaning::Retry, Scope::Account) => Consequence::SlowDown(found.pause.unwrap_or_default()),
        (Meaning::Retry, Scope::Message) => Consequence::Away,
        _ => Consequence::Park,
    }
}

fn meaning(reply: &Reply) -> postrider_diagnose::Diagnosis {
    let enhanced = reply.enhanced.map(|status| status.to_string());
    smtp(
        reply.code,
        enhanced.as_deref(),
        &reply.text(),
        Subject::default(),
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use postrider_smtp::{EnhancedStatus, InvalidOutgoing, SaslError, TlsFailure};

    use super::*;

    const SLOW: Option<Consequence> = Some(Consequence::SlowDown(Duration::ZERO));
    const HOUR: Option<Consequence> = Some(Consequence::SlowDown(Duration::from_hours(1)));
    const PARK: Option<Consequence> = Some(Consequence::Park);
    const AWAY: Option<Consequence> = Some(Consequence::Away);

    /// `554 5.2.252 SendAsDenied; …`.
    fn reply(line: &str) -> Reply {
        let (code, rest) = line.split_once(' ').unwrap();
        let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let numbers: Vec<u16> = status.split('.').flat_map(str::parse).collect();
        let (enhanced, text) = match *numbers {
            [class, subject, detail] => {
                let class = u8::try_from(class).unwrap();
                let status = EnhancedStatus {
                    class,
                    subject,
                    detail,
                };
                (Some(status), text)
            }
            _ => (None, rest),
        };
        Reply {
            code: code.parse().unwrap(),
            enhanced,
            lines: vec![text.to_owned()],
        }
    }

    fn error(stage: Stage, kind: SendErrorKind) -> SendError {
        SendError {
            stage,
            server: "smtp.example.net:587".to_owned(),
            kind: Box::new(kind),
            recipients: Vec::new(),
        }
    }

    /// Section A2 of the facts: refusals of `AUTH`.
    #[rustfmt::skip]
    const AT_AUTH: &[(&str, Option<Consequence>)] = &[
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.", PARK),
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.", PARK),
        ("535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.", PARK),
        ("535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", PARK),
        ("535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.", PARK),
        ("535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator.", PARK),
        ("535 5.7.3 Authentication unsuccessful", PARK),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", PARK),
        ("421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2.", PARK),
        ("501 5.5.124 Invalid XOAUTH2 auth data - User address provided is not valid", PARK),
        ("504 5.7.4 Unrecognized authentication type", PARK),
        // Service trouble, also during AUTH (A3).
        ("451 4.7.0 Temporary server error", AWAY),
        ("451 4.3.2 Temporary server error", AWAY),
        ("454 4.7.0 Temporary authentication failure", AWAY),
        ("421 4.3.2 Service not active", SLOW),
    ];

    /// Section A3: refusals of the sender, a recipient or the message.
    #[rustfmt::skip]
    const AT_SUBMISSION: &[(&str, Judgement, Option<Consequence>)] = &[
        ("250 2.0.0 OK", Judgement::Delivered, None),
        ("554 5.2.252 SendAsDenied; U not allowed to send as F; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied", Judgement::Fail, None),
        ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", Judgement::Fail, None),
        ("432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.", Judgement::Retry, SLOW),
        ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Judgement::Retry, SLOW),
        ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", Judgement::Retry, HOUR),
        ("550 5.1.90 ", Judgement::Retry, HOUR),
        ("554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded", Judgement::Fail, None),
        ("554 5.2.0 STOREDRV.Submission.Exception:MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded", Judgement::Fail, None),
        ("552 5.3.4 Header size exceeds fixed maximum size", Judgement::Fail, None),
        ("550 5.2.251 ", Judgement::Fail, None),
        ("550 5.2.252 ", Judgement::Fail, None),
        ("550 5.2.253 ", Judgement::Fail, None),
        ("550 5.2.254 ", Judgement::Fail, None),
        ("550 5.2.255 ", Judgement::Fail, None),
        ("550 5.1.8 Access denied, bad outbound sender", Judgement::Fail, None),
        ("550 5.7.501 ", Judgement::Fail, None),
        ("550 5.7.502 ", Judgement::Fail, None),
        ("550 5.7.503 ", Judgement::Fail, None),
        ("550 5.7.705 ", Judgement::Fail, None),
        ("550 5.7.708 ", Judgement::Fail, None),
        ("550 5.7.750 ", Judgement::Fail, None),
        ("452 4.5.3 Too many recipients", Judgement::Split, None),
        ("550 5.6.11 ", Judgement::Fail, None),
        ("451 4.7.0 Temporary server error", Judgement::Retry, None),
        ("451 4.3.2 Temporary server error", Judgement::Retry, None),
        ("421 4.3.2 Service not active", Judgement::Retry, SLOW),
        ("421 4.4.1 Connection timed out. Total session duration: 00:05:00.7054661", Judgement::Retry, SLOW),
        ("421 4.4.2 Message submission rate for this client has exceeded the configured limit", Judgement::Retry, SLOW),
        ("421 4.7.66 TLS 1.0 and 1.1 are not supported.", Judgement::Return, PARK),
        ("530 5.7.57 Client not authenticated to send mail.", Judgement::Return, PARK),
        // What the table does not know follows its class (RFC 5321 §4.2.1).
        ("450 greylisted", Judgement::Retry, None),
        ("550 5.1.1 no such user", Judgement::Fail, None),
        ("571 no", Judgement::Fail, None),
        ("504 5.5.2 recipient address rejected: need fully-qualified address", Judgement::Fail, None),
        ("354 go on", Judgement::Retry, None),
    ];

    #[test]
    fn no_refusal_of_auth_touches_a_message() {
        for (line, consequence) in AT_AUTH {
            let auth = SendErrorKind::Auth {
                reply: reply(line),
                mechanism: "XOAUTH2".to_owned(),
                challenge: None,
            };
            let found = judge_error(&error(Stage::Auth, auth));
            assert_eq!(found, (Judgement::Return, *consequence), "{line}");
        }
    }

    #[test]
    fn each_refusal_of_a_submission_has_its_judgement() {
        for (line, judgement, consequence) in AT_SUBMISSION {
            let reply = reply(line);
            let expected = (*judgement, *consequence);
            assert_eq!(judge_reply(&reply), expected, "{line}");
            if !reply.is_positive() && reply.code != 354 {
                let refused = error(Stage::Message, SendErrorKind::Refused(reply));
                assert_eq!(judge_error(&refused), expected, "{line}");
            }
        }
    }

    #[test]
    fn what_fails_before_the_sender_is_named_is_the_accounts() {
        let lost = || io::Error::from(io::ErrorKind::ConnectionReset);
        for (stage, kind, consequence) in [
            (Stage::Connect, SendErrorKind::Dns(lost()), AWAY),
            (Stage::Connect, SendErrorKind::Connect(lost()), AWAY),
            (Stage::Ehlo, SendErrorKind::Lost(lost()), AWAY),
            (
                Stage::Greeting,
                SendErrorKind::Timeout(Duration::ZERO),
                AWAY,
            ),
            (
                Stage::Greeting,
                SendErrorKind::Refused(reply("421 4.3.2 not now")),
                SLOW,
            ),
            (
                Stage::Greeting,
                SendErrorKind::Refused(reply("450 not now")),
                AWAY,
            ),
            (
                Stage::Greeting,
                SendErrorKind::Refused(reply("554 go away")),
                PARK,
            ),
            (Stage::Tls, SendErrorKind::Tls(TlsFailure::Expired), PARK),
            (Stage::StartTls, SendErrorKind::InjectedBeforeTls, PARK),
            (Stage::StartTls, SendErrorKind::NotOffered("STARTTLS"), PARK),
            (Stage::Auth, SendErrorKind::NotOffered("AUTH"), PARK),
            (
                Stage::Auth,
                SendErrorKind::Sasl(SaslError::new("no token")),
                PARK,
            ),
            (Stage::Connect, SendErrorKind::Closed, None),
        ] {
            let error = error(stage, kind);
            assert_eq!(
                judge_error(&error),
                (Judgement::Return, consequence),
                "{error}"
            );
        }
    }

    #[test]
    fn what_fails_later_is_the_messages_own() {
        let lost = io::Error::from(io::ErrorKind::ConnectionReset);
        for (kind, judgement, consequence) in [
            (
                SendErrorKind::Unknown("lost".to_owned()),
                Judgement::Unknown,
                None,
            ),
            (SendErrorKind::Lost(lost), Judgement::Retry, AWAY),
            (
                SendErrorKind::Timeout(Duration::ZERO),
                Judgement::Retry,
                AWAY,
            ),
            (
                SendErrorKind::Unexpected(reply("250 2.0.0 OK")),
                Judgement::Retry,
                AWAY,
            ),
            (
                SendErrorKind::TooLarge {
                    octets: 2,
                    limit: 1,
                },
                Judgement::Fail,
                None,
            ),
            (SendErrorKind::NotOffered("SMTPUTF8"), Judgement::Fail, None),
            (
                SendErrorKind::Invalid(InvalidOutgoing::NoRecipients),
                Judgement::Fail,
                None,
            ),
        ] {
            let error = error(Stage::MailFrom, kind);
            assert_eq!(judge_error(&error), (judgement, consequence), "{error}");
        }
    }
}
