//! A queued message as a session sends it: read from the queue piece by piece.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use postrider_smtp::{
    Address, BodyFacts, BodySource, Dsn, Envelope, InvalidOutgoing, Notify, Outgoing, RecipientDsn,
    Return,
};
use postrider_spool::{Claim, Recipient, StoredBody};

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
    recipients: &[(&Recipient, Address)],
) -> Result<Outgoing, InvalidOutgoing> {
    let reverse_path = match &claim.reverse_path {
        None => None,
        Some(path) => {
            let parsed = path.parse();
            Some(parsed.map_err(|_| InvalidOutgoing::Address(path.clone()))?)
        }
    };
    let addresses = recipients.iter().map(|(_, address)| address.clone());
    let envelope = Envelope {
        reverse_path,
        recipients: addresses.collect(),
    };
    let facts = BodyFacts {
        octets: claim.body.len(),
        non_ascii_header: claim.facts.smtputf8,
        eight_bit: claim.facts.eight_bit,
        unended: false,
    };
    let body = Arc::new(Queued(claim.body.clone()));
    let outgoing = Outgoing::streamed(envelope, body, facts, claim.message_id.clone())?;
    let recipients = recipients.iter().map(|(recipient, _)| *recipient);
    Ok(match notifications(claim, recipients) {
        dsn if dsn == Dsn::default() => outgoing,
        dsn => outgoing.with_dsn(dsn),
    })
}

fn notifications<'a>(claim: &Claim, recipients: impl Iterator<Item = &'a Recipient>) -> Dsn {
    let mut asked: Vec<_> = recipients
        .map(|recipient| RecipientDsn {
            notify: recipient.notify.map(events),
            orcpt: recipient.orcpt.clone(),
        })
        .collect();
    if asked.iter().all(|one| *one == RecipientDsn::default()) {
        asked.clear();
    }
    Dsn {
        recipients: asked,
        ret: claim.dsn.ret.map(|ret| match ret {
            postrider_spool::Return::Full => Return::Full,
            postrider_spool::Return::Headers => Return::Headers,
        }),
        envid: claim.dsn.envid.clone(),
    }
}

fn events(notify: postrider_spool::Notify) -> BTreeSet<Notify> {
    [
        (notify.success, Notify::Success),
        (notify.failure, Notify::Failure),
        (notify.delay, Notify::Delay),
    ]
    .into_iter()
    .filter_map(|(wanted, event)| wanted.then_some(event))
    .collect()
}
