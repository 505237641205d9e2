//! A queued message as a session sends it: read from the queue piece by piece.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use postrider_smtp::{
    Address, BodyFacts, BodySource, Dsn, Envelope, InvalidOutgoing, Notify, Outgoing, Return,
};
use postrider_spool::{Claim, StoredBody};

struct Queued(StoredBody);

impl BodySource for Queued {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at<'a>(&'a self, offset: u64, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        self.0.read_at(offset, into)
    }
}

/// The message for these recipients of it.
pub(crate) fn outgoing(
    claim: &Claim,
    recipients: Vec<Address>,
) -> Result<Outgoing, InvalidOutgoing> {
    let reverse_path = match &claim.reverse_path {
        None => None,
        Some(path) => {
            let parsed = path.parse();
            Some(parsed.map_err(|_| InvalidOutgoing::Address(path.clone()))?)
        }
    };
    let envelope = Envelope {
        reverse_path,
        recipients,
    };
    let facts = BodyFacts {
        octets: claim.body.len(),
        non_ascii_header: claim.facts.smtputf8,
        eight_bit: claim.facts.eight_bit,
        unended: false,
    };
    let body = Arc::new(Queued(claim.body.clone()));
    let outgoing = Outgoing::streamed(envelope, body, facts, claim.message_id.clone())?;
    Ok(match &claim.dsn {
        Some(dsn) => outgoing.with_dsn(notifications(dsn)),
        None => outgoing,
    })
}

fn notifications(dsn: &postrider_spool::Dsn) -> Dsn {
    let wanted = [
        (dsn.on_success, Notify::Success),
        (dsn.on_failure, Notify::Failure),
        (dsn.on_delay, Notify::Delay),
    ];
    Dsn {
        notify: wanted
            .into_iter()
            .filter_map(|(wanted, event)| wanted.then_some(event))
            .collect(),
        ret: dsn.ret.map(|ret| match ret {
            postrider_spool::Return::Full => Return::Full,
            postrider_spool::Return::Headers => Return::Headers,
        }),
        envid: dsn.envid.clone(),
    }
}
