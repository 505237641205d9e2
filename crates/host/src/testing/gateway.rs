//! A device at a gateway: what it says, from its sign-in to the end of its message, and what it is
//! answered.
//!
//! The settings and the scripts decide as they do in a daemon. Not here: passwords, limits, and
//! the dialogue itself.

use postrider_config as config;
use postrider_gateway::Refusal;
use serde_json::{Value, json};

use super::world::World;
use crate::app::{App, Queued, gateway};
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
    let device = gateway.device(&submitted.device);
    let by = GatewayClient {
        gateway: gateway.name.clone(),
        device: submitted.device,
        address: submitted.client,
    };
    let within = |networks: &[config::Network]| {
        let mut networks = networks.iter();
        networks.any(|network| network.contains(by.address))
    };
    if !within(&gateway.clients) {
        return Err(Refusal::new(554, "5.7.1", "no service for your address").into());
    }
    if !within(&device.clients) {
        let why = format!("{} is not to come from {}", by.device, by.address);
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
    let own = account.sender.email.to_string();
    let mail = GatewayMail {
        by: by.clone(),
        account: device.account.clone(),
        sender: match message.from.take() {
            None => Some(own.clone()),
            Some(from) => Some(from).filter(|from| from != "<>"),
        },
        recipients: Vec::new(),
    };
    let mail = app.gateway_mail(mail).await?;
    message.from = Some(match mail.sender {
        None => "<>".to_owned(),
        Some(sender) if device.senders.allow(&sender) => sender,
        Some(_) if device.rewrite_from => own,
        Some(sender) => {
            let text = format!("{} may not send as {sender}", by.device);
            return Err(Refusal::new(550, "5.7.1", text).into());
        }
    });
    for recipient in &message.to {
        let domain = recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
        let domain = domain.to_ascii_lowercase();
        let allowed = device.recipient_domains.as_ref();
        if allowed.is_some_and(|allowed| !allowed.contains(&domain)) {
            let text = format!("{} may not send to {recipient}", by.device);
            return Err(Refusal::new(550, "5.7.1", text).into());
        }
    }
    let origin = format!("gateway {} {} {}", by.gateway, by.device, by.address);
    let message = GatewayMessage {
        by,
        account: mail.account,
        message,
    };
    let GatewayMessage {
        account, message, ..
    } = app.gateway_message(message).await?;
    Ok(app.enqueue(&account, message, &origin).await?)
}
