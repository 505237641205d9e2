//! Exchange Online's words: names, trailers and replies, from `facts` A1 to A3.

use std::time::Duration;

use jiff::Timestamp;
use postrider_smtp::server::{Cue, Problem, ServerReply};

use crate::state::State;

/// Longest piece of a client's text repeated in a reply.
const QUOTED: usize = 250;

/// The names one connection goes by.
#[derive(Clone, Debug)]
pub(super) struct Names {
    machine: String,
    mailbox_machine: String,
    session: String,
}

impl Names {
    pub(super) fn new(state: &State) -> Self {
        Self {
            machine: format!("SB0PR01CA{:04}", state.random_below(10_000)),
            mailbox_machine: format!("SB0PR01MB{:04}", state.random_below(10_000)),
            session: format!("08DE{:012X}", state.random_below(1 << 48)),
        }
    }

    /// As the greeting and the answer to EHLO name the server.
    pub(super) fn host(&self) -> String {
        format!("{}.outlook.office365.com", self.machine)
    }

    /// As trailers name it.
    pub(super) fn server(&self) -> String {
        format!("{}.SBXPRD01.PROD.OUTLOOK.COM", self.machine)
    }

    /// The mailbox server, as replies to a message name it.
    pub(super) fn mailbox_server(&self) -> String {
        format!("{}.sbxprd01.prod.outlook.com", self.mailbox_machine)
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    pub(super) fn greeting(&self, now: Timestamp) -> ServerReply {
        ServerReply::new(
            220,
            format!(
                "{} Microsoft ESMTP MAIL Service ready at {} [{}]",
                self.host(),
                now.strftime("%a, %d %b %Y %H:%M:%S +0000"),
                self.session
            ),
        )
    }

    /// `⟨S⟩`: server, time, session.
    pub(super) fn trailer(&self, now: Timestamp) -> String {
        format!(
            "[{} {} {}]",
            self.server(),
            now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
            self.session
        )
    }

    /// What is wrong with a token stays untold.
    pub(super) fn unsuccessful(&self, now: Timestamp) -> ServerReply {
        ServerReply::new(
            535,
            format!("5.7.3 Authentication unsuccessful {}", self.trailer(now)),
        )
    }

    /// A refusal that gives its reason.
    pub(super) fn unsuccessful_because(&self, reason: &str, now: Timestamp) -> ServerReply {
        ServerReply::new(
            535,
            format!(
                "5.7.139 Authentication unsuccessful, {reason} {}",
                self.trailer(now)
            ),
        )
    }

    pub(super) fn unknown_mechanism(&self) -> ServerReply {
        ServerReply::new(
            504,
            format!("5.7.4 Unrecognized authentication type [{}]", self.server()),
        )
    }

    /// `MAIL` without `AUTH`. `earlier` is the reply to an `AUTH` that failed.
    pub(super) fn not_authenticated(&self, earlier: Option<&ServerReply>) -> ServerReply {
        let error =
            earlier.map(|reply| format!(" Error: {} {}", reply.code(), reply.text().join(" ")));
        let text = format!(
            "5.7.57 Client not authenticated to send mail. [{}]{}",
            self.server(),
            error.unwrap_or_default()
        );
        ServerReply::new(530, text)
    }

    /// Also the answer when the mailbox vanished from the scenario.
    pub(super) fn not_active(&self) -> ServerReply {
        ServerReply::new(421, format!("4.3.2 Service not active [{}]", self.server())).closing()
    }

    pub(super) fn accepted(&self, message_id: &str) -> ServerReply {
        ServerReply::new(
            250,
            format!("2.0.0 OK {message_id} [Hostname={}]", self.mailbox_server()),
        )
    }

    pub(super) fn send_as_denied(&self, user: &str, from: &str) -> ServerReply {
        let (user, from) = (quoted(user), quoted(from));
        self.store_refusal(&format!(
            "5.2.252 SendAsDenied; {user} not allowed to send as {from}; \
             STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied"
        ))
    }

    /// More recipients than a day allows.
    pub(super) fn quota_exceeded(&self) -> ServerReply {
        self.store_refusal("5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException")
    }

    /// The mailbox has no room for its own copy.
    pub(super) fn mailbox_full(&self) -> ServerReply {
        self.store_refusal(
            "5.2.2 mailbox full; \
             STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded",
        )
    }

    /// Larger than `MaxSendSize`. The code before the exception is unconfirmed.
    pub(super) fn too_large_for_mailbox(&self) -> ServerReply {
        self.store_refusal(
            "5.2.0 STOREDRV.Submission.Exception:\
             MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded",
        )
    }

    pub(super) fn too_many_senders(&self) -> ServerReply {
        ServerReply::new(
            432,
            format!(
                "4.3.2 Concurrent connections limit exceeded. \
                 Visit https://aka.ms/concurrent_sending for more information. [Hostname={}]",
                self.mailbox_server()
            ),
        )
    }

    fn store_refusal(&self, what: &str) -> ServerReply {
        ServerReply::new(
            554,
            format!(
                "{what}; Failed to process message due to a permanent exception with message \
                 [BeginDiagnosticData]Cannot submit message. [EndDiagnosticData] [Hostname={}]",
                self.mailbox_server()
            ),
        )
    }

    /// The words for what the server half refuses by itself.
    pub(super) fn refuse(
        &self,
        problem: &Problem,
        now: Timestamp,
        connected: Duration,
    ) -> ServerReply {
        let text = |code, text: &str| ServerReply::new(code, text);
        match problem {
            Problem::Unrecognized(word) => text(
                500,
                &format!("5.3.3 Unrecognized command '{word}' {}", self.trailer(now)),
            ),
            Problem::Arguments(_)
            | Problem::Parameter(..)
            | Problem::SpaceBehindColon(_)
            | Problem::NoBrackets(_)
            | Problem::Address(..) => text(501, "5.5.4 Invalid arguments"),
            Problem::HelloFirst => text(503, "5.5.2 Send hello first"),
            Problem::MailFirst => text(503, "5.5.2 Need mail command"),
            Problem::RcptFirst => text(503, "5.5.2 Need rcpt command"),
            Problem::AuthNeedsTls => self.unknown_mechanism(),
            Problem::AuthCancelled | Problem::AuthEncoding | Problem::AuthNul => {
                self.unsuccessful(now)
            }
            Problem::BodyBareLineFeed => bare_line_feed(),
            Problem::TooSlow | Problem::SessionTooLong => text(
                421,
                &format!(
                    "4.4.1 Connection timed out. Total session duration: {}",
                    duration(connected)
                ),
            ),
            // Unconfirmed: no source gives Exchange's words for the others.
            other => other.reply(),
        }
    }
}

/// The words where nothing is refused.
pub(super) fn confirm(cue: Cue) -> ServerReply {
    match cue {
        Cue::Starttls => ServerReply::new(220, "2.0.0 SMTP server ready"),
        Cue::Reset => ServerReply::new(250, "2.0.0 Resetting"),
        Cue::Quit => ServerReply::new(221, "2.0.0 Service closing transmission channel"),
        // `354` is the default's; the others are unconfirmed.
        other => other.reply(),
    }
}

/// After the end of passwords.
pub(super) fn basic_retired() -> ServerReply {
    ServerReply::new(
        550,
        "5.7.30 Basic authentication is not supported for Client Submission.",
    )
}

/// More than 200 recipients of one domain. Text and code are unconfirmed.
pub(super) fn too_many_of_one_domain() -> ServerReply {
    ServerReply::new(452, "4.5.3 Too many recipients")
}

/// Too many messages a minute. Exchange's family says this; Online's words are unconfirmed.
pub(super) fn too_fast() -> ServerReply {
    ServerReply::new(
        421,
        "4.4.2 Message submission rate for this client has exceeded the configured limit",
    )
    .closing()
}

/// A bare line feed in the message. Only the number is documented.
pub(super) fn bare_line_feed() -> ServerReply {
    ServerReply::new(550, "5.6.11 Message contains bare line feeds")
}

/// A client's text, bounded.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

/// `00:05:00.7054661`
fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    format!(
        "{:02}:{:02}:{:02}.{:07}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        span.subsec_nanos() / 100
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_seven_decimals() {
        let facts = Duration::new(300, 705_466_100);
        assert_eq!(duration(facts), "00:05:00.7054661");
    }
}
