//! Messages that are read while they are sent.

use std::{io, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};
use postrider_smtp::{BodyChecker, BodySource, Outgoing, SendError};

use crate::{
    queue::{Queue, send},
    support::{Dialogue, message, session},
};

const BDAT: &str = "PIPELINING CHUNKING";
const FIRST: &str = "C: MAIL *\nC: RCPT *\nC: BDAT *\n";
const FURTHER: &str = "C: RSET\nC: MAIL *\nC: RCPT *\nC: BDAT *\n";

/// Gives its octets, as far as it has them.
pub(crate) struct Stored(pub(crate) Vec<u8>, pub(crate) u64);

impl BodySource for Stored {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_at<'a>(&'a self, offset: u64, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            // As a disk has it: not at once.
            tokio::task::yield_now().await;
            let rest = &self.0[usize::try_from(offset).unwrap()..];
            if rest.is_empty() && self.1 > offset {
                return Err(io::Error::other("bad sector"));
            }
            let octets = into.len().min(rest.len());
            into[..octets].copy_from_slice(&rest[..octets]);
            Ok(octets)
        }
        .boxed()
    }
}

fn streamed(text: &[u8], stored: usize) -> Outgoing {
    let mut checker = BodyChecker::default();
    checker.push(text).unwrap();
    let facts = checker.finish().unwrap();
    let source = Stored(text[..stored].to_vec(), text.len() as u64);
    let envelope = message().envelope().clone();
    Outgoing::streamed(envelope, Arc::new(source), facts, "<1@example.org>").unwrap()
}

#[tokio::test]
async fn a_streamed_message_arrives_as_it_was_stored() {
    let text = b"a: b\r\n\r\n.\r\n..\r\nline\r\n".repeat(20_000);
    let all = streamed(&text, text.len());
    let server = Dialogue::new(
        &(session(BDAT)
            + FIRST
            + FURTHER
            + &"S: 250 ok\n".repeat(7)
            + "---\n"
            + &session("PIPELINING")
            + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: [message]\nS: 250 ok"),
    );

    let mut queue = Queue::of([all.clone(), all.clone()]);
    send(&server, &mut queue, 10).await;
    assert_eq!(queue.words(), ["0 sent", "1 sent"]);
    let mut queue = Queue::of([all]);
    send(&server, &mut queue, 10).await;
    assert_eq!(queue.words(), ["0 sent"]);

    let heard = server.finish().await;
    let messages = heard.iter().flat_map(|connection| &connection.messages);
    assert_eq!(messages.filter(|&message| *message == text).count(), 3);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_to_its_end_is_not_ended_and_nothing_follows_it() {
    let text = b"a line\r\n".repeat(30_000);
    let broken = || streamed(&text, 200_000);
    let server = Dialogue::new(
        &(session(BDAT)
            + FIRST
            // The replies to what went before are waited for.
            + "C: RSET\nC: MAIL *\nC: RCPT *\nR: 100000\n"
            + &"S: 250 ok\n".repeat(6)
            + "R: 90000\nX:\n---\n"
            + &session("PIPELINING")
            + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nR: 190000\nX:"),
    );
    let mut queue = Queue::of([message(), broken(), message()]);

    send(&server, &mut queue, 10).await;

    assert_eq!(queue.words(), ["0 sent", "1 body", "2 lost"]);
    assert!(queue.errors.iter().all(SendError::is_transient));
    let mut queue = Queue::of([broken(), message()]);
    send(&server, &mut queue, 10).await;
    assert_eq!(queue.words(), ["0 body", "1 lost"]);
    let heard = server.finish().await;
    assert!(!heard[0].octets.ends_with(b"RSET\r\n"));
    assert!(heard[1].octets.ends_with(b"a line\r\n"), "no lone dot");
}
