//! One message's envelope, as a device may have it.

use std::sync::Arc;

use lettre::message::Mailbox;
use postrider_smtp::server::{MailCommand, RcptCommand, Ret};
use postrider_smtp::{Address, Dsn, Notify, RecipientDsn, Return, message};

use crate::author::shown;
use crate::backend::{AccountSender, Refusal};
use crate::settings::{Policy, Sender};

/// An accepted `MAIL`, and the recipients behind it.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) policy: Arc<Policy>,
    /// The account it goes through, by name.
    pub(crate) account: String,
    pub(crate) sender: AccountSender,
    /// That of the account that the device has, whatever a script says.
    pub(crate) own: AccountSender,
    /// As it leaves.
    pub(crate) reverse_path: Option<Address>,
    /// The line of the script that has changed it.
    pub(crate) rule: Option<String>,
    /// Nothing is refused for what the settings say, only noted.
    pub(crate) observes: bool,
    pub(crate) utf8: bool,
    pub(crate) recipients: Vec<Address>,
    dsn: Dsn,
    asks_dsn: bool,
}

impl Transaction {
    pub(crate) fn new(
        policy: Arc<Policy>,
        account: String,
        sender: AccountSender,
        mail: &MailCommand,
    ) -> Self {
        Self {
            policy,
            account,
            own: sender.clone(),
            sender,
            reverse_path: None,
            rule: None,
            observes: false,
            utf8: mail.smtputf8,
            recipients: Vec::new(),
            dsn: Dsn {
                recipients: Vec::new(),
                ret: mail.ret.map(|ret| match ret {
                    Ret::Full => Return::Full,
                    Ret::Headers => Return::Headers,
                }),
                envid: mail.envid.clone(),
            },
            asks_dsn: mail.ret.is_some() || mail.envid.is_some(),
        }
    }

    /// Adds a recipient, with what was asked about it.
    pub(crate) fn add(&mut self, recipient: Address, rcpt: &RcptCommand) {
        self.recipients.push(recipient);
        self.asks_dsn |= rcpt.notify.is_some() || rcpt.orcpt.is_some();
        let events = |notify: postrider_smtp::server::Notify| {
            let all = [
                (notify.success, Notify::Success),
                (notify.failure, Notify::Failure),
                (notify.delay, Notify::Delay),
            ];
            all.into_iter()
                .filter_map(|(is_asked, event)| is_asked.then_some(event))
                .collect()
        };
        self.dsn.recipients.push(RecipientDsn {
            notify: rcpt.notify.map(events),
            orcpt: rcpt.orcpt.clone(),
        });
    }

    /// The notifications, if any were asked for.
    pub(crate) fn dsn(&self) -> Option<Dsn> {
        self.asks_dsn.then(|| self.dsn.clone())
    }

    /// Whether the device may send as this address.
    pub(crate) fn may_send_as(&self, address: &str) -> bool {
        if self.rule.is_some() {
            return self.policy.allows_author(&self.sender, address);
        }
        may_send_as(&self.policy, &self.sender, address)
    }

    /// As whom it is sent where it may not go as it is, if it may go at all then.
    pub(crate) fn instead(&self) -> Option<Mailbox> {
        let sender = &self.sender;
        let mailbox = || Mailbox::new(sender.display_name.clone(), sender.address.clone());
        self.policy.rewrite_from.then(mailbox)
    }
}

/// Whether this address is one of those; the account's own, where none are named.
pub(crate) fn may_send_as(policy: &Policy, account: &AccountSender, address: &str) -> bool {
    // Two spellings of a domain are one; what is no address is nobody's.
    let Some(address) = message::address(address) else {
        return false;
    };
    let address: &str = address.as_ref();
    if policy.senders.is_empty() {
        return account.is_own(address);
    }
    policy.senders.iter().any(|sender| sender.matches(address))
}

impl Policy {
    /// Whether the device may send as this address through this account: as one of its senders, or,
    /// where none are named, as the account itself.
    pub fn allows_sender(&self, account: &AccountSender, address: &str) -> bool {
        may_send_as(self, account, address)
    }

    /// Whether a script may have the device send as this address through this account: as one of
    /// the device's senders, or as the account itself. Nobody is anybody else's author.
    pub fn allows_author(&self, account: &AccountSender, address: &str) -> bool {
        let own = message::address(address);
        own.is_some_and(|own| account.is_own(own.as_ref())) || may_send_as(self, account, address)
    }
}

/// What somebody who signed in hears of a sender that is not theirs.
pub(crate) fn no_sender(policy: &Policy, account: &AccountSender, address: &str) -> Refusal {
    let mut allowed: Vec<String> = policy.senders.iter().map(Sender::to_string).collect();
    if allowed.is_empty() {
        allowed.push(account.address.to_string());
    }
    let more = if allowed.len() > 3 { ", …" } else { "" };
    allowed.truncate(3);
    let (address, allowed) = (shown(address), allowed.join(", "));
    let text = format!("you may not send as {address}, but as {allowed}{more}");
    Refusal::new(550, "5.7.1", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountSender {
        AccountSender {
            address: "alerts@contoso.com".parse().unwrap(),
            display_name: None,
            username: "svc@contoso.com".to_owned(),
        }
    }

    fn policy(senders: &[&str]) -> Policy {
        Policy {
            account: "alerts".to_owned(),
            senders: senders.iter().map(|text| Sender::new(text)).collect(),
            rewrite_from: false,
            clients: Vec::new(),
            recipient_domains: Vec::new(),
            messages_per_minute: None,
            messages_per_day: None,
            max_message: 1000,
            recipients_per_message: 10,
        }
    }

    #[test]
    fn a_device_sends_as_those_that_are_named_or_as_its_account() {
        let own = policy(&[]);
        assert!(may_send_as(&own, &account(), "Alerts@Contoso.com"));
        assert!(may_send_as(&own, &account(), "svc@contoso.com"));
        assert!(!may_send_as(&own, &account(), "ceo@contoso.com"));
        let named = policy(&[
            "scans@contoso.com",
            "@b\u{fc}cher.example",
            "@xn--bcher-kva.example",
        ]);
        assert!(may_send_as(&named, &account(), "scans@contoso.com"));
        assert!(may_send_as(&named, &account(), "a@xn--bcher-kva.example"));
        assert!(may_send_as(&named, &account(), "a@b\u{fc}cher.example"));
        assert!(!may_send_as(&named, &account(), "alerts@contoso.com"));
        for none in [
            "",
            "scans",
            "scans@contoso.com>",
            "a b@contoso.com",
            "@contoso.com",
        ] {
            assert!(!may_send_as(&named, &account(), none), "{none}");
            assert!(!may_send_as(&own, &account(), none), "{none}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_allowed_and_little_of_what_was_not() {
        let refusal = no_sender(&policy(&["@a.example"]), &account(), &"x".repeat(5000));
        assert!(refusal.text.ends_with("but as @a.example"), "{refusal}");
        assert!(refusal.text.len() < 300);
        let refusal = no_sender(&policy(&[]), &account(), "ceo@contoso.com");
        assert_eq!(
            refusal.to_string(),
            "550 5.7.1 you may not send as <ceo@contoso.com>, but as alerts@contoso.com"
        );
    }
}
