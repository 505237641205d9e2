//! A server's octets: any are understood or refused, and how they are cut changes nothing.

use postrider_smtp::{Capabilities, Reply, ReplyError, ReplyParser};

pub(crate) fn run(data: &[u8]) {
    let whole = replies([data]);
    assert_eq!(
        whole,
        replies(data.chunks(1)),
        "cut into octets it reads differently"
    );
    for reply in whole.iter().flatten() {
        assert!((200..600).contains(&reply.code));
        let _ = Capabilities::from_reply(reply);
        let _ = reply.to_string();
    }
}

fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Reply, ReplyError>> {
    let mut parser = ReplyParser::default();
    let mut found = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next_reply() {
                Ok(Some(reply)) => found.push(Ok(reply)),
                Ok(None) => break,
                Err(error) => {
                    found.push(Err(error));
                    return found;
                }
            }
        }
    }
    found
}
