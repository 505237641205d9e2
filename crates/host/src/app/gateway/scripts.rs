//! A device's message, past all scripts that have a say about it, into the queue.
//!
//! Whatever they make of it keeps to what the device may: a script chooses who gets a message, and
//! not who it is from.

use postrider_gateway::Policy;
use postrider_smtp::Outgoing;

use super::account_sender;
use super::authors::Authors;
use super::book::rule_broken;
use crate::app::queue::{Asked, Queued};
use crate::app::{App, NULL_PATH};
use crate::failure::Failure;
use crate::lua::{GatewayMessage, Source};

/// Queues it as scripts leave it, with what was `asked` for recipients that they leave in.
///
/// # Errors
/// A script refuses it, or wants what the device may not have; or it is not queued.
pub(crate) async fn queue(
    app: &App,
    given: GatewayMessage,
    policy: &Policy,
    origin: &str,
    asked: &Asked,
) -> Result<Queued, Failure> {
    let before = match &given.message.raw {
        Some(Source::Octets(octets)) => {
            let path = given.message.from.as_deref();
            Some(Authors::of(path.filter(|path| *path != NULL_PATH), octets))
        }
        _ => None,
    };
    let by = given.by.clone();
    let GatewayMessage {
        account, message, ..
    } = app.gateway_message(given).await?;
    let sender = account_sender(app.settings_of(&account)?);
    let check = |built: &Outgoing, changed_by: Option<&str>| {
        let octets = built.message().map_or(&[][..], |octets| octets);
        let path = built.envelope().reverse_path.as_ref();
        let now = Authors::of(path.map(AsRef::as_ref), octets);
        if before.as_ref().is_some_and(|before| now.are(before)) {
            return Ok(());
        }
        let checked = now.check(|address| policy.allows_author(&sender, address));
        checked.map_err(|problem| {
            rule_broken(&by.gateway, &by.device, changed_by, &problem);
            let failed = Failure::new("hook.failed", problem).retryable();
            match changed_by {
                Some(line) => failed.at(line),
                None => failed,
            }
        })
    };
    app.enqueue_with(&account, message, origin, asked, &check)
        .await
}
