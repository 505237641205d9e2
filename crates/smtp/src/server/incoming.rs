//! Messages on their way in: `DATA`, `BDAT`, and what becomes of a refused one.
//!
//! One read of the connection is held at a time, and its content; the sink takes that before
//! the next read. Once a message is refused, by this half or by its sink, the sink is gone
//! and the rest of the message is read only to be thrown away.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Decoder, Lines};
use super::command::BodyType;
use super::connection::{LineEnd, Pace};
use super::handler::{BodySink, Cue, EnvelopeSoFar, Handler, Problem, Submission};
use super::reply::ServerReply;
use super::serve::{Session, Step};

/// A message of which more is to come.
pub(super) struct Incoming<B> {
    sink: Result<B, Refusal>,
    decoder: Decoder,
    pace: Pace,
    octets: u64,
}

/// Why a message goes no further.
enum Refusal {
    /// This half's reason.
    Problem(Problem),
    /// The sink's reply.
    Sink(ServerReply),
}

impl<B: BodySink> Incoming<B> {
    /// Hands content to the sink, unless there is a reason not to.
    async fn store(&mut self, content: &[u8], most: usize) {
        let Ok(sink) = &mut self.sink else { return };
        self.octets += content.len() as u64;
        let refusal = if let Some(flaw) = self.decoder.flaw() {
            Refusal::Problem(flaw.clone())
        } else if self.octets > most as u64 {
            Refusal::Problem(Problem::MessageTooLarge)
        } else if content.is_empty() {
            return;
        } else {
            match sink.write(content).await {
                Ok(()) => return,
                Err(reply) => Refusal::Sink(reply),
            }
        };
        self.sink = Err(refusal);
    }
}

impl<S, H> Session<'_, S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    pub(super) async fn data(&mut self) -> io::Result<Step> {
        let problem = match &self.transaction {
            Some(open) if open.chunks.is_some() => Some(Problem::ChunksOpen),
            Some(open) if open.mail.body == BodyType::BinaryMime => Some(Problem::BinaryNeedsBdat),
            _ => self.body_out_of_order(),
        };
        if let Some(problem) = problem {
            return Ok(self.refuse(&problem));
        }
        let mut incoming = match self.begin(false).await {
            Ok(incoming) => incoming,
            Err(reply) => return Ok(self.say(&reply)),
        };
        let reply = self.handler.confirm(Cue::Data);
        match self.say(&reply) {
            Step::Next if reply.code() == 354 => {}
            step => return Ok(step),
        }
        if self.receive(&mut incoming, None).await? {
            Ok(self.conclude(incoming, false).await)
        } else {
            Ok(self.give_up(incoming))
        }
    }

    pub(super) async fn bdat(&mut self, octets: u64, last: bool) -> io::Result<Step> {
        let so_far = |session: &Self| {
            let open = session.transaction.as_ref();
            open.and_then(|open| open.chunks.as_ref())
                .map_or(0, |chunks| chunks.octets)
        };
        let room = (self.limits.message_octets as u64).saturating_sub(so_far(self));
        let problem = match self.body_out_of_order() {
            None if octets > room => Some(Problem::MessageTooLarge),
            problem => problem,
        };
        if let Some(problem) = problem {
            if problem == Problem::MessageTooLarge {
                self.forget();
            }
            // The octets follow whatever is answered (RFC 3030 §2).
            let gone = self.discard(octets).await?;
            let step = self.refuse(&problem);
            return Ok(if gone { step } else { Step::Close });
        }
        let begun = self.transaction.as_mut().and_then(|t| t.chunks.take());
        let begun = match begun {
            Some(incoming) => Ok(incoming),
            None => self.begin(true).await,
        };
        let mut incoming = match begun {
            Ok(incoming) => incoming,
            Err(reply) => {
                self.forget();
                let gone = self.discard(octets).await?;
                return Ok(self.say(&if gone { reply } else { reply.closing() }));
            }
        };
        if !self.receive(&mut incoming, Some(octets)).await? {
            return Ok(self.give_up(incoming));
        }
        match (&mut self.transaction, &incoming.sink) {
            (Some(open), Ok(_)) if !last => {
                open.chunks = Some(incoming);
                Ok(self.confirm(Cue::Chunk(octets)))
            }
            // Without this chunk there is no message, so a refusal need not wait for the last.
            _ => Ok(self.conclude(incoming, true).await),
        }
    }

    /// Asks the handler where the message is to go.
    async fn begin(&mut self, chunked: bool) -> Result<Incoming<H::Body>, ServerReply> {
        let Some(open) = &self.transaction else {
            return Err(self.handler.refuse(&Problem::MailFirst));
        };
        let lines = match self.io.line_end() {
            _ if open.mail.body == BodyType::BinaryMime => Lines::Binary,
            LineEnd::Strict => Lines::Crlf,
            LineEnd::Crlf | LineEnd::Undecided => Lines::Normalized,
            LineEnd::LineFeed => Lines::LineFeed,
        };
        let envelope = EnvelopeSoFar {
            mail: &open.mail,
            recipients: &open.recipients,
            chunked,
        };
        Ok(Incoming {
            sink: Ok(self.handler.body(&envelope).await?),
            decoder: if chunked {
                Decoder::chunks(lines)
            } else {
                Decoder::data(lines)
            },
            pace: Pace::default(),
            octets: 0,
        })
    }

    /// Reads up to the end of data, or so many octets. `false`: the message is refused, and
    /// too much of it was thrown away already.
    async fn receive(
        &mut self,
        incoming: &mut Incoming<H::Body>,
        octets: Option<u64>,
    ) -> io::Result<bool> {
        let mut left = octets.unwrap_or(u64::MAX);
        let mut content = Vec::new();
        while left > 0 {
            let there = self.io.some(&mut incoming.pace).await?;
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let there = &there[..there.len().min(most)];
            content.clear();
            let end = incoming.decoder.push(there, &mut content);
            let used = end.unwrap_or(there.len());
            self.io.consume(used);
            if octets.is_some() {
                left -= used as u64;
            }
            incoming.store(&content, self.limits.message_octets).await;
            let too_much = incoming.sink.is_err() && !self.may_discard(used as u64);
            if end.is_some() {
                break;
            }
            if too_much {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The message has arrived.
    async fn conclude(&mut self, mut incoming: Incoming<H::Body>, chunked: bool) -> Step {
        if incoming.sink.is_ok() {
            incoming.decoder.finish();
            if let Some(flaw) = incoming.decoder.flaw() {
                incoming.sink = Err(Refusal::Problem(flaw.clone()));
            }
        }
        let body = match incoming.sink {
            Ok(body) => body,
            Err(Refusal::Problem(problem)) => {
                self.forget();
                return self.refuse(&problem);
            }
            Err(Refusal::Sink(reply)) => {
                self.forget();
                return self.say(&reply);
            }
        };
        let Some(open) = self.transaction.take() else {
            return self.refuse(&Problem::MailFirst);
        };
        let submission = Submission {
            mail: open.mail,
            recipients: open.recipients,
            body,
            octets: incoming.octets,
            chunked,
        };
        let reply = self.handler.message(submission).await;
        if reply.is_positive() {
            self.commands = 0;
            self.bad_commands = 0;
            self.discarded = 0;
        }
        self.say(&reply)
    }

    /// Says why a message is refused, and closes although it has not ended.
    fn give_up(&mut self, incoming: Incoming<H::Body>) -> Step {
        self.forget();
        match incoming.sink {
            Err(Refusal::Sink(reply)) => self.say(&reply.closing()),
            Err(Refusal::Problem(problem)) => match self.refuse(&problem) {
                Step::Vanish => Step::Vanish,
                _ => Step::Close,
            },
            Ok(_) => Step::Close,
        }
    }

    /// Reads octets nobody wants. `false`: there would be too many of them.
    pub(super) async fn discard(&mut self, mut octets: u64) -> io::Result<bool> {
        if !self.may_discard(octets) {
            return Ok(false);
        }
        let mut pace = Pace::default();
        while octets > 0 {
            let there = self.io.some(&mut pace).await?.len();
            let part = there.min(usize::try_from(octets).unwrap_or(usize::MAX));
            self.io.consume(part);
            octets -= part as u64;
        }
        Ok(true)
    }

    fn may_discard(&mut self, octets: u64) -> bool {
        self.discarded = self.discarded.saturating_add(octets);
        self.discarded <= self.limits.discard_octets as u64
    }
}
