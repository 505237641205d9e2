//! Into the queue: the message as it comes, made fit for SMTP and completed, in little memory.

use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;
use jiff::tz::TimeZone;
use postrider_smtp::message::{HeaderTooLong, Intake};
use postrider_smtp::{Dsn, Envelope};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::peer::Peer;
use super::plan::{Circumstances, Plan, Request, plan};
use crate::app::{App, Entry, Queued, Ticket};
use crate::failure::Failure;
use crate::lua::Queueing;

/// Queues what `peer` hands in. It is on the disk when this answers.
///
/// # Errors
/// `octets` break off, are too many or no message; there is no account for it; the queue is not
/// to be had. Nothing of it is queued then.
pub(crate) async fn accept(
    app: &App,
    request: &Request,
    peer: &Peer,
    octets: impl Stream<Item = Result<Bytes, Failure>> + Send,
) -> Result<Queued, Failure> {
    let mut octets = std::pin::pin!(octets);
    let mut intake = Intake::default();
    let mut body = Vec::new();
    let mut begun: Option<Begun> = None;
    loop {
        let more = octets.next().await.transpose()?;
        match &more {
            Some(chunk) => intake.push(chunk, &mut body).map_err(too_long)?,
            // Without an end of the header, this is its end.
            None => intake.finish(&mut body).map_err(too_long)?,
        }
        if begun.is_none() && intake.is_in_body() {
            begun = Some(begin(app, request, &mut intake).await?);
        }
        if let Some(begun) = &mut begun {
            begun.entry.write(&body).await?;
            body.clear();
        }
        if more.is_none()
            && let Some(begun) = begun
        {
            let ticket = ticket(request, peer);
            let Begun {
                entry,
                envelope,
                message_id,
                dsn,
            } = begun;
            return entry.finish(envelope, message_id, dsn, ticket).await;
        }
    }
}

/// A message whose header is there.
struct Begun {
    entry: Entry,
    envelope: Envelope,
    message_id: String,
    dsn: Option<Dsn>,
}

async fn begin(app: &App, request: &Request, intake: &mut Intake) -> Result<Begun, Failure> {
    let circumstances = Circumstances {
        now: app.clock().now().to_zoned(TimeZone::system()),
        host: &host(),
        unique: &unique()?,
    };
    let Plan {
        account,
        envelope,
        message_id,
        dsn,
        header,
    } = plan(app.config(), request, intake.take_header(), &circumstances)?;
    let mut entry = app.entry(&account).await?;
    entry.write(&header).await?;
    Ok(Begun {
        entry,
        envelope,
        message_id,
        dsn,
    })
}

fn too_long(error: HeaderTooLong) -> Failure {
    Failure::new("message.invalid", error.to_string())
        .with_remedy("put an empty line between header and text")
}

fn ticket(request: &Request, peer: &Peer) -> Ticket {
    // Nobody meets another's message under a key of their own.
    let key = request.key.as_ref();
    let key = key.map(|key| format!("sendmail {} {key}", peer.uid()));
    Ticket {
        queueing: Queueing {
            idempotency_key: key,
            ..Queueing::default()
        },
        priority: None,
        origin: peer.to_string(),
    }
}

/// The machine's name.
fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// What makes a `Message-ID`, or a key, the only one of its kind.
pub(crate) fn unique() -> Result<String, Failure> {
    let mut octets = [0; 16];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| Failure::new("internal", "the system has no randomness"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}
