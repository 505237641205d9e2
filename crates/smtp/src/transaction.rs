//! One mail transaction, without I/O: what is said next, what each reply decides.
//!
//! - **fast**: `MAIL`, `RCPT`…, `BDAT n LAST` and the message in one flight (RFC 2920,
//!   RFC 3030 §4.2). The message travels even if the envelope is refused, so only up to 1 MiB.
//! - **strict**: the envelope first; then the message, in chunks, if it is wanted.
//! - `DATA` where there is no `CHUNKING`, its command pipelined behind the envelope.
//! - one command at a time where there is no `PIPELINING`.
//!
//! Nothing here knows a socket or another message: replies are given in, words are taken out.

use std::{io, time::Duration};

use lettre::Address;

use crate::{
    Capabilities, Class, Dsn, Outgoing, Receipt, Reply, SendErrorKind, Stage, Timeouts, Verdict,
    flight::{self, Form},
    wire::{self, Cause},
};

/// The largest message that travels before its envelope is accepted, and the size of a chunk.
pub(crate) const CHUNK_OCTETS: u64 = 1024 * 1024;

/// What a reply is an answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    Reset,
    Mail,
    Rcpt(usize),
    Data,
    Chunk,
    Message,
}

impl Owed {
    pub(crate) fn stage(self) -> Stage {
        match self {
            Self::Reset => Stage::Reset,
            Self::Mail => Stage::MailFrom,
            Self::Rcpt(_) => Stage::RcptTo,
            Self::Data => Stage::Data,
            Self::Chunk | Self::Message => Stage::Message,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Envelope,
    /// Without `PIPELINING`: this recipient.
    Recipient(usize),
    Message,
    Nothing,
}

/// What is said at once: commands, then perhaps the message; and the replies that makes due.
#[derive(Default)]
pub(crate) struct Words {
    pub(crate) commands: Vec<u8>,
    pub(crate) message: Option<Form>,
    pub(crate) owed: Vec<(Owed, Duration)>,
}

impl Words {
    fn say(&mut self, command: &str, owed: Owed, patience: Duration) {
        self.commands.extend_from_slice(command.as_bytes());
        self.owed.push((owed, patience));
    }
}

/// A reply came that no further one can be matched after; says what happened.
#[derive(Debug)]
pub(crate) struct OutOfStep(pub(crate) String);

pub(crate) struct Transaction<'a> {
    outgoing: Outgoing,
    offer: &'a Capabilities,
    timeouts: &'a Timeouts,
    next: Next,
    reset_first: bool,
    mail: Option<Reply>,
    rcpt: Vec<Option<Reply>>,
    data: Option<Reply>,
    message: Option<Reply>,
    /// A reply that makes no sense where it came.
    unexpected: Option<(Stage, Reply)>,
    /// A 421: the server is about to close, whatever it was asked.
    closing: Option<Reply>,
    /// It said so before it took the sender.
    turned_away: bool,
}

impl<'a> Transaction<'a> {
    /// Fails when the server lacks what this message needs: before anything is sent.
    pub(crate) fn new(
        outgoing: Outgoing,
        offer: &'a Capabilities,
        timeouts: &'a Timeouts,
        reset_first: bool,
    ) -> Result<Self, SendErrorKind> {
        if outgoing.needs_smtputf8() && !offer.smtputf8 {
            return Err(SendErrorKind::NotOffered("SMTPUTF8"));
        }
        if outgoing.needs_eight_bit() && !offer.eight_bit_mime {
            return Err(SendErrorKind::NotOffered("8BITMIME"));
        }
        let octets = outgoing.octets();
        if let Some(Some(limit)) = offer.size
            && octets > limit
        {
            return Err(SendErrorKind::TooLarge { octets, limit });
        }
        Ok(Self {
            rcpt: vec![None; outgoing.envelope().recipients.len()],
            outgoing,
            offer,
            timeouts,
            next: Next::Envelope,
            reset_first,
            mail: None,
            data: None,
            message: None,
            unexpected: None,
            closing: None,
            turned_away: false,
        })
    }

    pub(crate) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// The message, to be sent otherwise.
    pub(crate) fn into_outgoing(self) -> Outgoing {
        self.outgoing
    }

    /// Whether all has been said, so that another transaction may follow.
    pub(crate) fn is_said(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Whether what comes next depends on replies that are due.
    pub(crate) fn waits(&self) -> bool {
        !(self.offer.pipelining && matches!(self.next, Next::Envelope))
    }

    /// What to say next; `None` when all has been said.
    pub(crate) fn next_words(&mut self) -> Option<Words> {
        let mut words = Words::default();
        match self.next {
            Next::Nothing => return None,
            Next::Envelope if self.reset_first => {
                self.reset_first = false;
                words.say("RSET\r\n", Owed::Reset, self.timeouts.command);
                if self.offer.pipelining {
                    self.envelope(&mut words);
                }
            }
            Next::Envelope => self.envelope(&mut words),
            Next::Recipient(_) if self.mail_refused() => return self.give_up(),
            Next::Recipient(index) => {
                self.recipient(index, &mut words);
                let more = index + 1 < self.rcpt.len();
                self.next = if more {
                    Next::Recipient(index + 1)
                } else {
                    Next::Message
                };
            }
            Next::Message if self.data_accepted() && !self.is_wanted() => {
                // DATA was accepted although nobody will get it: an empty message ends it
                // (RFC 2920 §3.1).
                words.say(".\r\n", Owed::Message, self.timeouts.data_end);
                self.next = Next::Nothing;
            }
            Next::Message if !self.is_wanted() => return self.give_up(),
            Next::Message => self.message(&mut words),
        }
        Some(words)
    }

    fn give_up<T>(&mut self) -> Option<T> {
        self.next = Next::Nothing;
        None
    }

    fn envelope(&mut self, words: &mut Words) {
        words.say(&self.mail_command(), Owed::Mail, self.timeouts.mail);
        if !self.offer.pipelining {
            self.next = Next::Recipient(0);
            return;
        }
        for index in 0..self.rcpt.len() {
            self.recipient(index, words);
        }
        self.next = Next::Message;
        let partial = self.rcpt.len() == 1 || !self.outgoing.is_all_or_nothing();
        let fast = self.outgoing.octets() <= CHUNK_OCTETS;
        if partial && (!self.offer.chunking || fast) {
            self.message(words);
        }
    }

    fn recipient(&self, index: usize, words: &mut Words) {
        let command = self.rcpt_command(index);
        words.say(&command, Owed::Rcpt(index), self.timeouts.rcpt);
    }

    /// The message in chunks, or `DATA`, or what follows its 354.
    fn message(&mut self, words: &mut Words) {
        let end = self.timeouts.data_end;
        if self.offer.chunking {
            let octets = self.outgoing.octets();
            // Without PIPELINING each chunk would cost a round trip.
            let chunk_octets = if self.offer.pipelining {
                CHUNK_OCTETS
            } else {
                octets.max(1)
            };
            words.message = Some(Form::Chunks(chunk_octets));
            for _ in 1..flight::chunks(octets, chunk_octets) {
                words.owed.push((Owed::Chunk, end));
            }
            words.owed.push((Owed::Message, end));
            self.next = Next::Nothing;
        } else if self.data_accepted() {
            words.message = Some(Form::Stuffed);
            words.owed.push((Owed::Message, end));
            self.next = Next::Nothing;
        } else {
            words.say("DATA\r\n", Owed::Data, self.timeouts.data_start);
        }
    }

    /// Takes the reply to something that was said.
    pub(crate) fn answered(&mut self, owed: Owed, reply: Reply) -> Result<(), OutOfStep> {
        if reply.code == 421 {
            // Replies to what is already in flight may still come, but nothing more is sent.
            self.closing = Some(reply.clone());
            self.turned_away |= matches!(owed, Owed::Reset | Owed::Mail);
            self.next = Next::Nothing;
        }
        // The exact code where one is fixed, the class where servers vary (250, 251, 252).
        let makes_sense = match (owed, reply.class()) {
            (Owed::Reset, _) => reply.code == 250 || reply.code == 421,
            (_, Class::Transient | Class::Permanent) => true,
            (Owed::Mail | Owed::Rcpt(_), class) => class == Class::Done,
            (Owed::Data, _) => reply.code == 354,
            (Owed::Chunk | Owed::Message, _) => reply.code == 250,
        };
        if !makes_sense {
            self.next = Next::Nothing;
            let stage = owed.stage();
            let why = format!("the server answered {stage} with {reply}");
            self.unexpected = Some((stage, reply));
            return Err(OutOfStep(why));
        }
        match owed {
            Owed::Reset => {}
            Owed::Mail => self.mail = Some(reply),
            Owed::Rcpt(index) => self.rcpt[index] = Some(reply),
            Owed::Data => {
                if reply.code != 354 {
                    self.next = Next::Nothing;
                }
                self.data = Some(reply);
            }
            Owed::Chunk if reply.is_positive() => {}
            // The first refusal decides.
            Owed::Chunk | Owed::Message => {
                self.message.get_or_insert(reply);
            }
        }
        Ok(())
    }

    /// Whether the server may still be in the middle of a transaction, so that the next one
    /// must begin with `RSET`.
    pub(crate) fn needs_reset(&self) -> bool {
        !is_positive(self.message.as_ref())
    }

    /// Whether the server closed before it took anything of this message.
    pub(crate) fn is_turned_away(&self) -> bool {
        self.turned_away && !self.took_anything()
    }

    /// Whether the server took the sender, or the message.
    pub(crate) fn took_anything(&self) -> bool {
        is_positive(self.mail.as_ref()) || is_positive(self.message.as_ref())
    }

    fn mail_refused(&self) -> bool {
        self.mail.as_ref().is_some_and(|reply| !reply.is_positive())
    }

    fn data_accepted(&self) -> bool {
        self.data.as_ref().is_some_and(|reply| reply.code == 354)
    }

    /// Whether the envelope, as far as it has been answered, lets the message go.
    pub(crate) fn is_wanted(&self) -> bool {
        let accepted = self
            .rcpt
            .iter()
            .filter(|reply| is_positive(reply.as_ref()))
            .count();
        let enough = if self.outgoing.is_all_or_nothing() {
            self.rcpt.len()
        } else {
            1
        };
        !self.mail_refused() && accepted >= enough
    }

    fn mail_command(&self) -> String {
        let envelope = self.outgoing.envelope();
        let path = envelope.reverse_path.as_ref().map_or("", AsRef::as_ref);
        let mut command = format!("MAIL FROM:<{path}>");
        if self.offer.size.is_some() {
            command.push_str(" SIZE=");
            command.push_str(&self.outgoing.octets().to_string());
        }
        let eight_bit = self.outgoing.needs_eight_bit() || self.outgoing.needs_smtputf8();
        if eight_bit && self.offer.eight_bit_mime {
            command += " BODY=8BITMIME";
        }
        if self.outgoing.needs_smtputf8() {
            command += " SMTPUTF8";
        }
        if let Some(dsn) = self.dsn() {
            dsn.write_mail(&mut command);
        }
        command + "\r\n"
    }

    fn rcpt_command(&self, index: usize) -> String {
        let path: &str = self.outgoing.envelope().recipients[index].as_ref();
        let mut command = format!("RCPT TO:<{path}>");
        if let Some(dsn) = self.dsn() {
            dsn.write_rcpt(index, path, &mut command);
        }
        command + "\r\n"
    }

    fn dsn(&self) -> Option<&Dsn> {
        self.outgoing.dsn().filter(|_| self.offer.dsn)
    }
}

/// What the transaction came to.
pub(crate) struct Failed {
    pub(crate) stage: Stage,
    pub(crate) kind: SendErrorKind,
    pub(crate) recipients: Vec<(Address, Verdict)>,
}

/// How the session ended before the last reply to a message.
pub(crate) struct Ended<'a> {
    /// The last octet of the message had left.
    pub(crate) left: bool,
    /// What was not answered first.
    pub(crate) stage: Stage,
    /// With a 421, whatever that answered: what comes behind it is not carried out (RFC 5321
    /// §3.8).
    pub(crate) closing: Option<&'a Reply>,
    pub(crate) cause: Cause,
}

impl Transaction<'_> {
    /// The result, once all that was said has been answered or the session has `ended`.
    pub(crate) fn conclude(self, ended: Option<Ended<'_>>) -> Result<Receipt, Failed> {
        if let Some(message) = self.message.as_ref().filter(|reply| reply.is_positive())
            && self.is_wanted()
        {
            let message = message.clone();
            return Ok(Receipt {
                message_id: self.outgoing.message_id().to_owned(),
                recipients: self.verdicts(|_| Some(Verdict::Accepted(message.clone()))),
                reply: message,
            });
        }
        let refused = |stage, reply: &Reply, recipients| {
            Err(Failed {
                stage,
                kind: SendErrorKind::Refused(reply.clone()),
                recipients,
            })
        };
        if let Some(mail) = self.mail.as_ref().filter(|reply| !reply.is_positive()) {
            let verdict = Verdict::refused(mail.clone());
            return refused(Stage::MailFrom, mail, self.all(&verdict));
        }
        if let Some(first) = self.first_refusal_that_decides() {
            let rest = Verdict::refused(first.clone());
            return refused(Stage::RcptTo, first, self.verdicts(|_| Some(rest.clone())));
        }
        let negative =
            |reply: &&Reply| matches!(reply.class(), Class::Transient | Class::Permanent);
        for (stage, reply) in [(Stage::Message, &self.message), (Stage::Data, &self.data)] {
            if let Some(reply) = reply.as_ref().filter(negative) {
                let rest = Verdict::refused(reply.clone());
                return refused(stage, reply, self.verdicts(|_| Some(rest.clone())));
            }
        }
        let left = ended.as_ref().is_some_and(|ended| ended.left);
        if let Some((stage, reply)) = &self.unexpected {
            // From here on replies and commands are out of step: the one that decides may be
            // on its way.
            if left {
                return self.unknown(format!("the server answered {stage} with {reply}"));
            }
            let (stage, reply) = (*stage, reply.clone());
            let recipients = self.verdicts(|_| None);
            return Err(Failed {
                stage,
                kind: SendErrorKind::Unexpected(reply),
                recipients,
            });
        }
        let own = self.closing.as_ref().map(|own| (self.stage_of_421(), own));
        let before = || Some((ended.as_ref()?.stage, ended.as_ref()?.closing?));
        if let Some((stage, closing)) = own.or_else(before) {
            let rest = Verdict::refused(closing.clone());
            return refused(stage, closing, self.verdicts(|_| Some(rest.clone())));
        }
        let (stage, cause) = match ended {
            Some(ended) if left => return self.unknown(explain(&ended.cause)),
            Some(ended) => (ended.stage, ended.cause),
            // Answered in full, and none of the above.
            None => (Stage::Message, Cause::Lost(wire::surplus())),
        };
        Err(Failed {
            stage,
            kind: kind_of(cause),
            recipients: self.verdicts(|_| None),
        })
    }

    fn unknown(&self, why: String) -> Result<Receipt, Failed> {
        let recipients = self.verdicts(|_| Some(Verdict::Unknown(why.clone())));
        Err(Failed {
            stage: Stage::Message,
            kind: SendErrorKind::Unknown(why),
            recipients,
        })
    }

    /// The refusal of a recipient that leaves nobody to send to.
    fn first_refusal_that_decides(&self) -> Option<&Reply> {
        let mut refusals = self
            .rcpt
            .iter()
            .flatten()
            .filter(|reply| !reply.is_positive());
        let first = refusals.next()?;
        let all = refusals.count() + 1 == self.rcpt.len();
        (all || self.outgoing.is_all_or_nothing()).then_some(first)
    }

    fn stage_of_421(&self) -> Stage {
        let rcpt = self.rcpt.iter().flatten().any(|reply| reply.code == 421);
        if rcpt { Stage::RcptTo } else { Stage::Reset }
    }

    /// A recipient that was refused keeps its refusal; the others get what `otherwise` says.
    fn verdicts(&self, otherwise: impl Fn(usize) -> Option<Verdict>) -> Vec<(Address, Verdict)> {
        let recipients = self.outgoing.envelope().recipients.iter();
        let verdict = |(index, reply): (usize, &Option<Reply>)| match reply {
            Some(reply) if !reply.is_positive() => Some(Verdict::refused(reply.clone())),
            _ => otherwise(index),
        };
        let verdicts = self.rcpt.iter().enumerate().map(verdict);
        recipients
            .zip(verdicts)
            .filter_map(|(address, verdict)| Some((address.clone(), verdict?)))
            .collect()
    }

    fn all(&self, verdict: &Verdict) -> Vec<(Address, Verdict)> {
        let recipients = self.outgoing.envelope().recipients.iter();
        recipients
            .map(|address| (address.clone(), verdict.clone()))
            .collect()
    }
}

fn is_positive(reply: Option<&Reply>) -> bool {
    reply.is_some_and(Reply::is_positive)
}

fn explain(cause: &Cause) -> String {
    match cause {
        Cause::Lost(error) => error.to_string(),
        Cause::Timeout(waited) => format!("no answer within {} s", waited.as_secs_f32()),
        Cause::Protocol(error) => error.to_string(),
        Cause::OutOfStep(why) => why.clone(),
        Cause::Body(failed) => failed.error.to_string(),
    }
}

pub(crate) fn kind_of(cause: Cause) -> SendErrorKind {
    match cause {
        Cause::Lost(error) => SendErrorKind::Lost(error),
        Cause::Timeout(waited) => SendErrorKind::Timeout(waited),
        Cause::Protocol(error) => SendErrorKind::Protocol(error),
        Cause::OutOfStep(why) => SendErrorKind::Lost(io::Error::other(why)),
        Cause::Body(failed) => SendErrorKind::Body(failed.error),
    }
}
