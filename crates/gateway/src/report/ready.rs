//! Whether a device may go over to OAuth, what stands in its way, and what to do about it.

use serde::Serialize;

use super::tally::{Refused, Tally};
use super::{Account, Refusee};
use crate::ledger::OTHER;
use crate::limits::{Full, Span};
use crate::transaction::may_send_as;
use crate::{AccountSender, Mode, Policy, Settings};

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Its stable name.
    pub code: ObstacleCode,
    /// In words.
    pub text: String,
}

/// The things that may stand in the way, the first to be removed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleCode {
    /// Its gateway is not in the configuration.
    GatewayGone,
    /// It has no password in the vault.
    NoCredential,
    /// Its account is not in the configuration.
    NoAccount,
    /// Its account signs in with a password.
    PasswordAccount,
    /// Somebody has to sign its account in.
    SignInNeeded,
    /// It was never seen.
    NeverSeen,
    /// It sends as somebody that it may not send as.
    Sender,
    /// It sends to a domain that it may not send to.
    RecipientDomain,
    /// Something else of what it sent last week would be refused.
    WouldRefuse,
    /// What it tried last was refused.
    Refused,
}

/// All that is known of a device.
pub(super) struct Standing<'a> {
    pub(super) gateway: &'a str,
    pub(super) device: &'a str,
    pub(super) has_credential: bool,
    pub(super) settings: Option<&'a Settings>,
    pub(super) tally: &'a Tally,
    pub(super) account: Account,
}

impl Standing<'_> {
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        let mut add = |code, text: String| obstacles.push(Obstacle { code, text });
        let Some(policy) = self.policy() else {
            let text = format!("there is no gateway {} any more", self.gateway);
            add(ObstacleCode::GatewayGone, text);
            return obstacles;
        };
        if !self.has_credential {
            let text = "it has no password here: its sign-ins fail".to_owned();
            add(ObstacleCode::NoCredential, text);
        }
        let account = &policy.account;
        match &self.account {
            Account::Absent => add(
                ObstacleCode::NoAccount,
                format!("there is no account {account}"),
            ),
            Account::Password(_) => add(
                ObstacleCode::PasswordAccount,
                format!("the account {account} signs in with a password"),
            ),
            Account::OAuth {
                is_signed_in: false,
                ..
            } => add(
                ObstacleCode::SignInNeeded,
                format!("somebody has to sign in for the account {account}"),
            ),
            Account::OAuth { .. } => {}
        }
        if self.tally.last_at.is_none() {
            let text = "it has not been seen yet".to_owned();
            add(ObstacleCode::NeverSeen, text);
        }
        let senders = self.strange_senders(policy);
        if !senders.is_empty() {
            let text = format!("it sends as {}, and may not", list(&senders));
            add(ObstacleCode::Sender, text);
        }
        let domains = self.strange_domains(policy);
        if !domains.is_empty() {
            let text = format!("it sends to {}, and may not", list(&domains));
            add(ObstacleCode::RecipientDomain, text);
        }
        if let Some(doubt) = self.doubt(policy) {
            let text = format!("some of its mail would be refused: {doubt}");
            add(ObstacleCode::WouldRefuse, text);
        }
        if let Some(Refused { reply, text, .. }) = self.last_refusal() {
            let text = format!("what it tried last was refused: {reply} {text}");
            add(ObstacleCode::Refused, text);
        }
        obstacles
    }

    /// The next step: a command, or a setting.
    pub(super) fn next(&self, obstacles: &[Obstacle]) -> String {
        let (gateway, device) = (self.gateway, self.device);
        let Some(settings) = self.settings else {
            return format!(
                "point the device at a gateway that there is, or: postrider gateway add {gateway}"
            );
        };
        let policy = settings.policy(device);
        let account = &policy.account;
        let refusee = Refusee {
            gateway,
            device: Some(device),
            has_settings: settings.devices.contains_key(device),
        };
        let table = refusee.table();
        let Some(first) = obstacles.first() else {
            let Mode::Observe { .. } = settings.mode else {
                return "nothing: its mail goes out with OAuth".to_owned();
            };
            let submit = format!(
                "set mode = \"submit\" in [gateway.{gateway}]: its mail goes through {account} then"
            );
            let Some(limit) = self.limit_met(policy) else {
                return submit;
            };
            return format!(
                "{submit}. It sent more than messages_per_minute = {limit}: raise that in {table}, \
                 unless the device comes again when it is told to"
            );
        };
        match first.code {
            ObstacleCode::GatewayGone => format!("postrider gateway add {gateway}"),
            ObstacleCode::NoCredential => format!(
                "postrider gateway credential add {} --gateway {gateway}",
                word(device)
            ),
            ObstacleCode::NoAccount => {
                format!("name an account that there is in {table}, or: postrider setup")
            }
            ObstacleCode::PasswordAccount => format!(
                "postrider setup, and account = \"THE NEW ONE\" in {table}: {account} has a \
                 password"
            ),
            ObstacleCode::SignInNeeded => format!("postrider login {account}"),
            ObstacleCode::NeverSeen => format!(
                "enter {device} and its password into the device's settings, and send a test from \
                 it"
            ),
            ObstacleCode::Sender => {
                let senders = self.strange_senders(policy);
                let sender = senders.first().map_or("", String::as_str);
                format!(
                    "add \"{sender}\" to senders in {table} if {account} may send as it, or set \
                     rewrite_from = true there"
                )
            }
            ObstacleCode::RecipientDomain => {
                let domains = self.strange_domains(policy);
                let domain = domains.first().map_or("", String::as_str);
                format!("add \"{domain}\" to recipient_domains in {table}")
            }
            ObstacleCode::WouldRefuse => {
                format!("change the device, or the limit or quirk that it meets in {table}")
            }
            ObstacleCode::Refused => self.after_refusal(refusee),
        }
    }

    /// The next step of one that what it tried last was refused.
    fn after_refusal(&self, whose: Refusee<'_>) -> String {
        let refused = self.last_refusal();
        let said = refused.map(|refused| format!("{} {}", refused.reply, refused.text));
        said.and_then(|said| whose.next_step(&said))
            .unwrap_or_else(|| {
                "no setting here mends that: change what the device sends".to_owned()
            })
    }

    fn policy(&self) -> Option<&Policy> {
        self.settings.map(|settings| settings.policy(self.device))
    }

    fn sender(&self) -> Option<&AccountSender> {
        match &self.account {
            Account::Absent => None,
            Account::Password(sender) | Account::OAuth { sender, .. } => Some(sender),
        }
    }

    /// As whom its accepted messages were, and may not be from now on.
    fn strange_senders(&self, policy: &Policy) -> Vec<String> {
        let Some(account) = self.sender() else {
            return Vec::new();
        };
        if policy.rewrite_from {
            return Vec::new();
        }
        let senders = super::tally::most(&self.tally.senders).into_iter();
        senders
            .map(|seen| seen.value)
            .filter(|sender| !matches!(sender.as_str(), "" | "<>" | OTHER))
            .filter(|sender| !may_send_as(policy, account, sender))
            .collect()
    }

    fn strange_domains(&self, policy: &Policy) -> Vec<String> {
        let domains = self.tally.recipient_domains().into_iter();
        domains
            .map(|seen| seen.domain)
            .filter(|domain| domain != OTHER)
            .filter(|domain| !policy.allows_recipient(&format!("x@{domain}")))
            .collect()
    }

    /// What else would be refused. Senders, domains and limits are judged by the settings of now,
    /// which may be others than those it was refused under. A minute's limit is no obstacle: what it
    /// puts off may come a minute later.
    fn doubt(&self, policy: &Policy) -> Option<String> {
        let is_settled = |text: &str| {
            if let Some(full) = Full::read(text) {
                return full.span == Span::Minute || !is_in_force(full, policy);
            }
            let address = text.strip_prefix("you may not send as ");
            let address = address.and_then(|rest| rest.split(", but ").next());
            let is_own = |address| {
                let account = self.sender();
                account.is_some_and(|account| may_send_as(policy, account, address))
            };
            text.starts_with("you may not send to ")
                || address.is_some_and(|address| policy.rewrite_from || is_own(address))
        };
        let doubts = self.tally.doubts.iter();
        doubts
            .filter(|((_, text), _)| !is_settled(text))
            .max_by_key(|(_, last_at)| **last_at)
            .map(|((reply, text), _)| format!("{reply} {text}"))
    }

    /// The limit of a minute that is in force, and that it met within the last week.
    fn limit_met(&self, policy: &Policy) -> Option<u32> {
        let mut met = self
            .tally
            .doubts
            .keys()
            .filter_map(|(_, text)| Full::read(text));
        let is_met = met.any(|full| full.span == Span::Minute && is_in_force(full, policy));
        policy.messages_per_minute.filter(|_| is_met)
    }

    /// The refusal that nothing accepted followed.
    fn last_refusal(&self) -> Option<&Refused> {
        let refused = self.tally.refused.as_ref();
        let accepted_at = self.tally.accepted_at;
        refused.filter(|refused| accepted_at.is_none_or(|accepted| accepted < refused.at))
    }
}

/// The setting of a limit.
pub(super) fn limit_key(span: Span) -> &'static str {
    match span {
        Span::Minute => "messages_per_minute",
        Span::Day => "messages_per_day",
    }
}

/// Whether so many messages are still too many.
fn is_in_force(full: Full, policy: &Policy) -> bool {
    let limit = match full.span {
        Span::Minute => policy.messages_per_minute,
        Span::Day => policy.messages_per_day,
    };
    limit.is_some_and(|limit| limit <= full.limit)
}

/// The first three.
fn list(names: &[String]) -> String {
    let mut list = names[..names.len().min(3)].join(", ");
    if names.len() > 3 {
        list.push_str(", …");
    }
    list
}

/// As a key in TOML.
pub(super) fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

/// As one word of a shell's.
pub(super) fn word(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}
