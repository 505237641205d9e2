//! Many messages on one session: which of them are in flight, and whose reply comes next.
//!
//! Commands leave in the order of the messages, and so replies come in that order; each message
//! begins when the one before it has said all it has to say. What that costs in round trips is
//! the server's offer:
//!
//! - `PIPELINING` and `CHUNKING`: whole messages behind each other, up to the window.
//! - `PIPELINING`: the next envelope with its `DATA` behind the previous body, in one group (RFC
//!   2920 §3.1).
//! - neither: one message after the other.
//!
//! A message that follows an unanswered one begins with `RSET`: should the server still be in a
//! transaction it refused, recipients and octets would become part of that one.
//!
//! When the session ends before its replies, what had wholly left is unknown and nothing else
//! is: with no more than a window in flight, no more than a window can be.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use crate::{
    Capabilities, Outgoing, Reply, SendError, SendErrorKind, SentAll, ServerSettings, Source,
    Stage, events,
    flight::{BodyError, Flight},
    session::{Session, failure},
    transaction::{Ended, OutOfStep, Owed, Transaction, kind_of},
    wire::{Cause, surplus},
};

/// What there is to send, and what has been taken of it. It may need more than one session.
pub(crate) struct Work<'s> {
    source: &'s mut dyn Source,
    window: usize,
    /// Messages the source has given.
    given: u64,
    /// Those of them that have not begun.
    hand: VecDeque<(u64, Outgoing)>,
    /// The source has no more.
    drained: bool,
}

/// Whether a session that was waiting turned out to be over before it took anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Every message that was taken has ended.
    All,
    /// Nothing has left: the messages wait for another session.
    Nothing,
}

impl<'s> Work<'s> {
    pub(crate) fn new(source: &'s mut dyn Source, window: usize) -> Self {
        Self {
            source,
            window: window.max(1),
            given: 0,
            hand: VecDeque::new(),
            drained: false,
        }
    }

    pub(crate) fn sent(&self) -> SentAll {
        SentAll {
            messages: self.given,
            drained: self.drained,
        }
    }
}

/// What was taken and has not begun will not leave any more.
impl Drop for Work<'_> {
    fn drop(&mut self) {
        for (number, _) in self.hand.drain(..) {
            self.source.unsent(number);
        }
    }
}

impl Session {
    /// Carries messages until there are no more, or the session ends. `more` is asked whether to
    /// go on once some have been carried. A session that `waited` may be over without a fault of
    /// the messages. Dropped in the middle, this leaves the session unclean.
    pub(crate) async fn carry(
        &mut self,
        work: &mut Work<'_>,
        waited: bool,
        more: &(dyn Fn(&Self) -> bool + Sync),
    ) -> Carried {
        let settings = Arc::clone(&self.settings);
        let offer = Arc::clone(&self.capabilities);
        let most = match (offer.pipelining, offer.chunking) {
            (true, true) => work.window,
            // One whose body travels, and the envelope behind it.
            (true, false) => work.window.min(2),
            (false, _) => 1,
        };
        let mut carriage = Carriage {
            session: self,
            work,
            settings: &settings,
            offer: &offer,
            more,
            most,
            flight: Flight::new(),
            underway: VecDeque::new(),
            owed: VecDeque::new(),
            answered: false,
            closing: None,
            broken: None,
        };
        let cause = carriage.run().await.err();
        if waited && carriage.is_over_before_anything(cause.as_ref()) {
            carriage.put_back();
            return Carried::Nothing;
        }
        carriage.conclude(cause);
        Carried::All
    }
}

struct Carriage<'a, 's> {
    session: &'a mut Session,
    work: &'a mut Work<'s>,
    settings: &'a ServerSettings,
    offer: &'a Capabilities,
    more: &'a (dyn Fn(&Session) -> bool + Sync),
    /// Messages in flight at a time.
    most: usize,
    flight: Flight,
    /// Messages that have begun and not ended, with their numbers.
    underway: VecDeque<(u64, Transaction<'a>)>,
    /// The replies that are due, each with the message it is for.
    owed: VecDeque<(u64, Owed, Duration)>,
    /// Some message has ended with the server's verdict.
    answered: bool,
    /// A 421: nothing more is said.
    closing: Option<Reply>,
    /// This message cannot be read to its end: likewise.
    broken: Option<(u64, io::Error)>,
}

/// Only one that is dropped in the middle has messages under way still.
impl Drop for Carriage<'_, '_> {
    fn drop(&mut self) {
        for (number, _) in self.underway.drain(..) {
            if !self.flight.has_begun(number) {
                self.work.source.unsent(number);
            }
        }
    }
}

impl<'a> Carriage<'a, '_> {
    async fn run(&mut self) -> Result<(), Cause> {
        loop {
            while !self.owed.is_empty()
                && let Some(reply) = self.session.wire.reply_at_hand().await?
            {
                self.heard(reply)?;
            }
            self.ask().await;
            self.speak();
            if self.owed.is_empty() {
                if self.may_ask() {
                    continue;
                }
                break;
            }
            self.listen().await?;
        }
        if self.closing.is_none() {
            let block = self.settings.timeouts.data_block;
            self.session.wire.settle(&mut self.flight, block).await?;
        }
        Ok(())
    }

    /// Takes more messages where there is room for a good part of a window: half of it, so that
    /// a source that pays for each answer does not pay for each message.
    async fn ask(&mut self) {
        if !self.may_ask() {
            return;
        }
        let room = self.most - self.underway.len();
        let given = self.work.source.next(room).await;
        self.work.drained = given.is_empty();
        for outgoing in given {
            self.work.hand.push_back((self.work.given, outgoing));
            self.work.given += 1;
        }
    }

    fn may_ask(&self) -> bool {
        !self.work.drained
            && self.work.hand.is_empty()
            && !self.is_ending()
            && self.underway.len() <= self.most / 2
            // What cannot leave yet is better left with the source.
            && self.flight.is_made()
            && (!self.answered || (self.more)(self.session))
    }

    /// Nothing more is said on this session.
    fn is_ending(&self) -> bool {
        self.closing.is_some() || self.broken.is_some()
    }

    /// Says what can be said without waiting for a reply.
    fn speak(&mut self) {
        while !self.is_ending() {
            if let Some((number, last)) = self.underway.back_mut()
                && !last.is_said()
            {
                if !self.owed.is_empty() && last.waits() {
                    return;
                }
                let number = *number;
                match last.next_words() {
                    Some(words) => {
                        events::commands(&words.commands);
                        self.flight.add_commands(words.commands);
                        if let Some(form) = words.message {
                            let body = last.outgoing().body().clone();
                            events::message(body.len(), form);
                            self.flight.add_message(number, body, form);
                        }
                        let owed = words.owed.into_iter();
                        self.owed
                            .extend(owed.map(|(owed, patience)| (number, owed, patience)));
                    }
                    None => self.end_answered(),
                }
            } else if self.underway.len() < self.most
                && let Some((number, outgoing)) = self.work.hand.pop_front()
            {
                self.begin(number, outgoing);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, number: u64, outgoing: Outgoing) {
        let reset_first = self.session.needs_reset || !self.underway.is_empty();
        let timeouts = &self.settings.timeouts;
        match Transaction::new(outgoing, self.offer, timeouts, reset_first) {
            Ok(transaction) => self.underway.push_back((number, transaction)),
            Err(kind) => {
                let error = failure(self.settings, Stage::MailFrom, kind);
                self.work.source.ended(number, Err(error));
            }
        }
    }

    /// Waits for the next reply.
    async fn listen(&mut self) -> Result<(), Cause> {
        let Some(&(number, owed, patience)) = self.owed.front() else {
            return Ok(());
        };
        if let Some((broken, _)) = self.broken
            && number == broken
            && matches!(owed, Owed::Chunk | Owed::Message)
        {
            return Err(Cause::OutOfStep("the message before it was cut off".into()));
        }
        let timeouts = &self.settings.timeouts;
        let patience = match self.closing {
            Some(_) => timeouts.quit,
            None => patience,
        };
        let wire = &mut self.session.wire;
        match wire
            .next_reply(&mut self.flight, timeouts.data_block, patience)
            .await
        {
            Ok(reply) => self.heard(reply),
            Err(Cause::Body(failed)) => {
                // Those ahead of it have left: their replies are worth waiting for.
                self.broken = Some((failed.message, failed.error));
                Ok(())
            }
            Err(cause) => Err(cause),
        }
    }

    fn heard(&mut self, reply: Reply) -> Result<(), Cause> {
        events::reply(&reply);
        let Some((number, owed, _)) = self.owed.pop_front() else {
            return Err(Cause::Lost(surplus()));
        };
        let mut underway = self.underway.iter_mut();
        let Some((_, transaction)) = underway.find(|(of, _)| *of == number) else {
            return Err(Cause::Lost(surplus()));
        };
        let cut = matches!(owed, Owed::Chunk | Owed::Message) && self.flight.holds(number);
        let taken = owed == Owed::Message && reply.is_positive() && transaction.is_wanted();
        if taken && !self.flight.has_left_whole(number) {
            // Answered before it was said: whatever this reply is for, it is not this message.
            return Err(Cause::Lost(surplus()));
        }
        if reply.code == 421 {
            self.closing = Some(reply.clone());
            self.flight.cut();
        }
        let refused = !reply.is_positive();
        transaction
            .answered(owed, reply)
            .map_err(|OutOfStep(why)| Cause::OutOfStep(why))?;
        if cut && refused && self.closing.is_none() {
            // The rest of it is not worth its octets, and without them nothing can follow.
            let why = "the message before it was refused before its end";
            return Err(Cause::OutOfStep(why.to_owned()));
        }
        self.end_answered();
        Ok(())
    }

    /// Tells the verdicts that are complete. Behind a 421 there is little more to come, and what
    /// it means for the first message shows in the others.
    fn end_answered(&mut self) {
        while self.closing.is_none()
            && let Some((number, transaction)) = self.underway.front()
        {
            let due = self.owed.front().is_some_and(|(of, ..)| of == number);
            if due || !transaction.is_said() {
                return;
            }
            if let Some((number, transaction)) = self.underway.pop_front() {
                self.answered = true;
                self.end(number, transaction, None);
            }
        }
    }

    fn end(&mut self, number: u64, transaction: Transaction<'a>, ended: Option<Ended<'_>>) {
        self.session.needs_reset = transaction.needs_reset();
        let outcome = transaction.conclude(ended).map_err(|failed| SendError {
            recipients: failed.recipients,
            ..failure(self.settings, failed.stage, failed.kind)
        });
        self.work.source.ended(number, outcome);
    }

    /// Lost before any octet of a message had left, or turned away with 421: nothing was taken,
    /// and another session may take it.
    fn is_over_before_anything(&self, cause: Option<&Cause>) -> bool {
        let Some((number, first)) = self.underway.front() else {
            return false;
        };
        let lost = matches!(cause, Some(Cause::Lost(_))) && !self.flight.has_begun(*number);
        let turned_away =
            first.is_turned_away() && !self.underway.iter().any(|(_, other)| other.took_anything());
        !self.answered && (lost || turned_away)
    }

    fn put_back(&mut self) {
        self.session.closing = true;
        while let Some((number, transaction)) = self.underway.pop_back() {
            let outgoing = transaction.into_outgoing();
            self.work.hand.push_front((number, outgoing));
        }
    }

    /// Ends what has not ended yet; `cause` is why the session did.
    fn conclude(mut self, cause: Option<Cause>) {
        self.session.closing |= self.closing.is_some();
        let closing = self.closing.take();
        let mut cause = cause.unwrap_or_else(|| Cause::Lost(surplus()));
        while let Some((number, transaction)) = self.underway.pop_front() {
            let due = self.owed.iter().find(|(of, ..)| *of == number);
            let stage = due.map_or(Stage::Message, |(_, owed, _)| owed.stage());
            let following = cause.again();
            let this = match self.broken.take_if(|(broken, _)| *broken == number) {
                Some((message, error)) => Cause::Body(BodyError { message, error }),
                None => std::mem::replace(&mut cause, following),
            };
            let ended = Ended {
                left: self.flight.has_left_whole(number),
                stage,
                closing: closing.as_ref(),
                cause: this,
            };
            self.end(number, transaction, Some(ended));
        }
        // These have not begun, so nothing is known of them but that the session is gone.
        for (number, _) in std::mem::take(&mut self.work.hand) {
            let kind = match &closing {
                Some(reply) => SendErrorKind::Refused(reply.clone()),
                None => kind_of(cause.again()),
            };
            let error = failure(self.settings, Stage::MailFrom, kind);
            self.work.source.ended(number, Err(error));
        }
    }
}
