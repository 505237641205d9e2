//! Messages that wait for a session.

use std::{
    collections::VecDeque,
    future::ready,
    sync::{Arc, Mutex},
};

use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{Outgoing, Receipt, SendError, SendErrorKind, SentAll, Source, TlsMode};

use crate::support::Dialogue;

/// Messages that are there from the start, and how they ended.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Outgoing>,
    /// How many were asked for, each time.
    pub(crate) rooms: Vec<usize>,
    pub(crate) ended: Vec<(u64, String)>,
    pub(crate) errors: Vec<SendError>,
    pub(crate) unsent: Vec<u64>,
    pub(crate) verdicts: Arc<Mutex<usize>>,
}

impl Queue {
    pub(crate) fn of(messages: impl IntoIterator<Item = Outgoing>) -> Self {
        Self {
            waiting: messages.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.ended
            .iter()
            .map(|(index, word)| format!("{index} {word}"))
            .collect()
    }
}

impl Source for Queue {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Vec<Outgoing>> {
        self.rooms.push(room);
        let room = room.min(self.waiting.len());
        ready(self.waiting.drain(..room).collect()).boxed()
    }

    fn ended(&mut self, index: u64, outcome: Result<Receipt, SendError>) {
        *self.verdicts.lock().unwrap() += 1;
        let word = match &outcome {
            Ok(receipt) if receipt.is_complete() => "sent".to_owned(),
            Ok(receipt) => format!("sent but {}", receipt.refused().count()),
            Err(error) => match &*error.kind {
                SendErrorKind::Refused(reply) => format!("refused {} {}", error.stage, reply.code),
                SendErrorKind::Unknown(_) => "unknown".to_owned(),
                SendErrorKind::Lost(_) => "lost".to_owned(),
                SendErrorKind::Body(_) => "body".to_owned(),
                SendErrorKind::NotOffered(what) => format!("needs {what}"),
                other => other.to_string(),
            },
        };
        self.ended.push((index, word));
        self.errors.extend(outcome.err());
    }

    fn unsent(&mut self, index: u64) {
        self.unsent.push(index);
    }
}

/// On one session, which is gone afterwards.
pub(crate) async fn send(server: &Arc<Dialogue>, queue: &mut Queue, window: usize) -> SentAll {
    let pool = server.pool(TlsMode::DangerPlaintext);
    pool.send_all(queue, window).await.unwrap()
}
