//! A device at a gateway: what it says, from its sign-in to the end of its message, and what it is
//! answered.
//!
//! The scripts decide as they do in a daemon, and so do the settings about networks, senders and
//! recipients. Not here: passwords, limits, and the dialogue itself.

use std::path::Path;

use postrider_config as config;
use postrider_config::Mailbox;
use postrider_gateway::{AccountSender, Policy, Refusal, check_author};
use postrider_smtp::message::Intake;
use serde_json::{Value, json};

use super::world::World;
use crate::app::queue::Asked;
use crate::app::{App, NULL_PATH, Queued, gateway};
use crate::failure::Failure;
use crate::lua::{
    GatewayClient, GatewayMail, GatewayMessage, GatewaySignIn, Queueing, SendRequest, Source,
    Submitted,
};
use crate::suggest;

/// What a device is told instead of yes.
struct Refused {
    reply: Refusal,
    /// What is behind it, where that is more.
    why: Option<Failure>,
}

impl Refused {
    /// A wrong password is answered the same.
    fn signing_in(failure: Failure) -> Self {
        if failure.code != "hook.refused" {
            return failure.into();
        }
        Self {
            why: Some(failure),
            ..Refusal::new(535, "5.7.8", "authentication failed").into()
        }
    }
}

impl From<Refusal> for Refused {
    fn from(reply: Refusal) -> Self {
        Self { reply, why: None }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            reply: gateway::reply(&failure),
            why: Some(failure),
        }
    }
}

/// What the device is answered.
///
/// # Errors
/// There is no such gateway, or the message cannot be made.
pub(super) async fn submit(world: &World, submitted: Submitted) -> Result<Value, Failure> {
    let app = world.app();
    let gateway = named(&app, submitted.gateway.as_deref())?;
    // Whoever must sign in to the account has done so; and the message is there before it comes.
    let account = world.configured(&gateway.device(&submitted.device).account);
    let account = account.await?;
    let mut message = submitted.message.clone();
    if !matches!(message.raw, Some(Source::Octets(_))) {
        let outgoing = account.build(message.clone(), usize::MAX).await?;
        let octets = outgoing.message().map(|octets| octets.to_vec());
        message.raw = octets.map(Source::Octets);
    }
    let message = SendRequest {
        from: message.from,
        to: message.to,
        raw: message.raw,
        queue: Some(Queueing::default()),
        ..SendRequest::default()
    };
    let submitted = Submitted {
        message,
        ..submitted
    };
    let answered = dialogue(&app, gateway, account.settings(), submitted).await;
    world.rest().await?;
    Ok(match answered {
        Ok(queued) => json!({
            "accepted": true,
            "code": 250,
            "text": format!("2.0.0 queued as {}", queued.id),
            "id": queued.id,
        }),
        Err(refused) => json!({
            "accepted": false,
            "code": refused.reply.code,
            "text": format!("{} {}", refused.reply.enhanced, refused.reply.text),
            "error": refused.why,
        }),
    })
}

/// The gateway of that name, or the only one.
fn named<'a>(app: &'a App, name: Option<&str>) -> Result<&'a config::Gateway, Failure> {
    let all = &app.config().gateways;
    let known = || all.keys().map(String::as_str);
    let Some(name) = name else {
        let mut values = all.values();
        return match (values.next(), values.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(unknown("the configuration has no gateway")
                .with_remedy("give the case one of its own: t:config [[…]]")),
            _ => Err(
                unknown("the configuration has several gateways").with_remedy(format!(
                    "say which: gateway = \"…\", of {}",
                    known().collect::<Vec<_>>().join(", ")
                )),
            ),
        };
    };
    all.get(name).ok_or_else(|| {
        let failure = unknown(&format!("no gateway is called \"{name}\""));
        match suggest::nearest(name, known()) {
            Some(near) => failure.with_remedy(format!("did you mean \"{near}\"?")),
            None => failure,
        }
    })
}

fn unknown(message: &str) -> Failure {
    Failure::new("config.no_such_gateway", message)
}

async fn dialogue(
    app: &App,
    gateway: &config::Gateway,
    account: &config::Account,
    submitted: Submitted,
) -> Result<Queued, Refused> {
    // Where certificates are kept makes no difference: there is no listener.
    let settings = gateway::settings(gateway, Path::new("."));
    let policy = settings.policy(&submitted.device);
    let by = GatewayClient {
        gateway: gateway.name.clone(),
        device: submitted.device,
        address: submitted.client,
    };
    let mut networks = settings.clients.iter();
    if !networks.any(|network| network.contains(by.address)) {
        return Err(Refusal::new(554, "5.7.1", "no service for your address").into());
    }
    if !policy.allows_client(by.address) {
        let why = "the device may not come from this address";
        return Err(Refused::signing_in(Failure::new("hook.refused", why)));
    }
    let sign_in = GatewaySignIn {
        by: by.clone(),
        tls: submitted.tls,
        mechanism: submitted.mechanism.to_owned(),
    };
    let signed_in = app.gateway_sign_in(sign_in).await;
    signed_in.map_err(Refused::signing_in)?;
    let mut message = submitted.message;
    let own = gateway::account_sender(account);
    let own_path = own.address.to_string();
    let said = message.from.take().unwrap_or_else(|| own_path.clone());
    let said = (said != NULL_PATH).then_some(said);
    let path = match said.clone() {
        Some(sender) if !policy.allows_sender(&own, &sender) => {
            if !policy.rewrite_from {
                let text = format!("you may not send as <{sender}>");
                return Err(Refusal::new(550, "5.7.1", text).into());
            }
            Some(own_path)
        }
        allowed => allowed,
    };
    // The hook is told what the device said.
    let mail = GatewayMail {
        by: by.clone(),
        account: policy.account.clone(),
        sender: said.clone(),
        recipients: Vec::new(),
        changed_by: None,
    };
    let mail = app.gateway_mail(mail).await?;
    let chosen = gateway::account_sender(app.settings_of(&mail.account)?);
    let is_given = mail.sender != said;
    let is_changed = is_given || mail.account != policy.account;
    let path = match if is_given { mail.sender } else { path } {
        Some(path) if is_changed && !policy.allows_author(&chosen, &path) => {
            if is_given || !policy.rewrite_from {
                let problem =
                    format!("a hook of gateway.mail: the device may not send as {path:?}");
                return Err(Failure::new("hook.failed", problem).into());
            }
            Some(chosen.address.to_string())
        }
        allowed => allowed,
    };
    message.from = Some(path.unwrap_or_else(|| NULL_PATH.to_owned()));
    let agreed = Agreed {
        policy,
        own,
        chosen,
        is_changed,
    };
    agreed.look_at(&mut message, &settings.hostname)?;
    for recipient in &message.to {
        if !policy.allows_recipient(recipient) {
            let text = format!("you may not send to <{recipient}>");
            return Err(Refusal::new(550, "5.7.1", text).into());
        }
    }
    let origin = format!("gateway {} {} {}", by.gateway, by.device, by.address);
    let message = GatewayMessage {
        by,
        account: mail.account,
        message,
    };
    let asked = Asked::default();
    Ok(gateway::scripts::queue(app, message, policy, &origin, &asked).await?)
}

/// An envelope that was agreed to.
struct Agreed<'a> {
    policy: &'a Policy,
    /// That of the account that the device has.
    own: AccountSender,
    /// That of the account that it goes through.
    chosen: AccountSender,
    /// A hook made it another one.
    is_changed: bool,
}

impl Agreed<'_> {
    /// Checks as whom the message itself says it is sent, or rewrites that; its lines end in CRLF
    /// then.
    fn look_at(&self, message: &mut SendRequest, host: &str) -> Result<(), Refused> {
        let Some(Source::Octets(octets)) = &mut message.raw else {
            return Ok(());
        };
        let (mut intake, mut body) = (Intake::default(), Vec::new());
        let read = intake.push(octets, &mut body);
        read.and_then(|()| intake.finish(&mut body))
            .map_err(|error| Refusal::new(552, "5.3.4", error.to_string()))?;
        let mut header = intake.take_header();
        let (policy, own, chosen) = (self.policy, &self.own, &self.chosen);
        let allowed = |address: &str| {
            if self.is_changed {
                policy.allows_author(chosen, address)
            } else {
                policy.allows_sender(own, address)
            }
        };
        let mailbox = || Mailbox::new(chosen.display_name.clone(), chosen.address.clone());
        let instead = policy.rewrite_from.then(mailbox);
        match check_author(&mut header, allowed, instead.as_ref(), host) {
            Ok(true) if message.from.as_deref() != Some(NULL_PATH) => {
                message.from = Some(chosen.address.to_string());
            }
            Ok(_) => {}
            Err(refusal) => {
                let own = |address: &str| policy.allows_sender(own, address);
                if self.is_changed && check_author(&mut header, own, None, host).is_ok() {
                    let problem = format!("a hook of gateway.mail: {}", refusal.text);
                    return Err(Failure::new("hook.failed", problem).into());
                }
                return Err(refusal.into());
            }
        }
        octets.clear();
        header.write_to(octets);
        octets.extend_from_slice(b"\r\n");
        octets.append(&mut body);
        Ok(())
    }
}
