//! What one attempt came to: a judgement for each recipient, and what the account makes of it.

use std::collections::HashMap;

use postrider_smtp::{Address, Receipt, Reply, SendError, Stage, Verdict};

use crate::judge::{Consequence, Judgement, judge_error, judge_reply};

/// An attempt, judged.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// In the order of the envelope.
    pub(crate) recipients: Vec<Judged>,
    /// What follows for the account, and why.
    pub(crate) consequence: Option<(Consequence, String)>,
}

/// One recipient's part of it.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) recipient: String,
    pub(crate) judgement: Judgement,
    /// The server's reply, or what went wrong, on one line.
    pub(crate) why: String,
    /// The reply, where there is one.
    pub(crate) reply: Option<Reply>,
    /// The server asked for less: the account waits, and this is among the first to go on with.
    pub(crate) slowed: bool,
}

impl Attempt {
    /// Judges what became of a message for these recipients, whose names are as they were queued.
    pub(crate) fn judge(
        recipients: Vec<(String, Address)>,
        outcome: &Result<Receipt, SendError>,
    ) -> Self {
        let (named, rest) = match outcome {
            Ok(receipt) => (&receipt.recipients, Err("the receipt does not name it")),
            Err(error) => (&error.recipients, Ok(error)),
        };
        let named: HashMap<_, _> = named
            .iter()
            .map(|(address, verdict)| (address, verdict))
            .collect();
        let mut attempt = Self {
            recipients: Vec::with_capacity(recipients.len()),
            consequence: None,
        };
        for (recipient, address) in recipients {
            let judged = match (named.get(&address), rest) {
                (Some(verdict), _) => attempt.by_verdict(recipient, verdict),
                (None, Ok(error)) => attempt.by_error(recipient, error),
                (None, Err(why)) => Judged {
                    recipient,
                    judgement: Judgement::Unknown,
                    why: why.to_owned(),
                    reply: None,
                    slowed: false,
                },
            };
            attempt.recipients.push(judged);
        }
        attempt
    }

    /// Whether the server took it for somebody.
    pub(crate) fn is_accepted(&self) -> bool {
        let mut all = self.recipients.iter();
        all.any(|judged| judged.judgement == Judgement::Delivered)
    }

    fn by_verdict(&mut self, recipient: String, verdict: &Verdict) -> Judged {
        let reply = match verdict {
            Verdict::Accepted(reply) | Verdict::Retry(reply) | Verdict::Rejected(reply) => reply,
            Verdict::Unknown(why) => {
                return Judged {
                    recipient,
                    judgement: Judgement::Unknown,
                    why: why.clone(),
                    reply: None,
                    slowed: false,
                };
            }
        };
        let (judgement, consequence) = match judge_reply(reply) {
            // The session knows better what a positive reply answered.
            (Judgement::Delivered, _) if !verdict.is_accepted() => (Judgement::Retry, None),
            _ if verdict.is_accepted() => (Judgement::Delivered, None),
            judged => judged,
        };
        self.concern(consequence, &reply.to_string());
        Judged {
            recipient,
            judgement,
            why: reply.to_string(),
            reply: Some(reply.clone()),
            slowed: asks_for_less(consequence),
        }
    }

    fn by_error(&mut self, recipient: String, error: &SendError) -> Judged {
        let (judgement, consequence) = judge_error(error);
        let why = explain(error);
        self.concern(consequence, &why);
        Judged {
            recipient,
            judgement,
            why,
            reply: error.reply().cloned(),
            slowed: asks_for_less(consequence),
        }
    }

    /// Keeps what is graver: a person's help over a pause over an absence.
    fn concern(&mut self, consequence: Option<Consequence>, why: &str) {
        let gravity = |consequence: Consequence| match consequence {
            Consequence::Park => (2, None),
            Consequence::SlowDown(least) => (1, Some(least)),
            Consequence::Away => (0, None),
        };
        let Some(new) = consequence else { return };
        let known = self.consequence.as_ref().map(|(known, _)| gravity(*known));
        if known.is_none_or(|known| known < gravity(new)) {
            self.consequence = Some((new, why.to_owned()));
        }
    }
}

fn asks_for_less(consequence: Option<Consequence>) -> bool {
    matches!(consequence, Some(Consequence::SlowDown(_)))
}

/// An error with what lies behind it, on one line: the reply alone where the server refused, as
/// that is what people search for.
pub(crate) fn explain(error: &SendError) -> String {
    let mut why = match error.reply() {
        Some(reply) if error.stage >= Stage::MailFrom => reply.to_string(),
        _ => error.to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    why.chars()
        .take(500)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
