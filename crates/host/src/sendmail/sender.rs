//! Whose mail it becomes: the account that a program's message goes through, and its `From`.
//!
//! Programs write as `root@host` or as nobody; a submission server takes mail only from those whom
//! the account may send as (Exchange Online answers `5.2.252` otherwise).

use postrider_config::{Account, Config};
use postrider_smtp::message::{self, Field, Header};

use crate::failure::Failure;

/// The account that was asked for; else the one that `sender` or `author` belongs to; else the
/// configured one; else the only one there is.
///
/// # Errors
/// There is none, or it is not clear which.
pub(super) fn account<'c>(
    config: &'c Config,
    asked_for: Option<&str>,
    sender: Option<&str>,
    author: Option<&str>,
) -> Result<&'c Account, Failure> {
    let named = |name: &str| {
        let account = config.accounts.get(name);
        account.ok_or_else(|| {
            Failure::new(
                "config.no_such_account",
                format!("there is no account {name:?}"),
            )
            .with_remedy("see `postrider account list`")
        })
    };
    if let Some(name) = asked_for {
        return named(name);
    }
    let standard = config.sendmail.account.as_deref();
    let owner = |address: &str| {
        // Where several accounts have one address, the configured one counts.
        let standard = standard.and_then(|name| config.accounts.get(name));
        let accounts = standard.into_iter().chain(config.accounts.values());
        let mut accounts = accounts.filter(|account| is_own(account, address));
        accounts.next()
    };
    let candidates = [sender, author];
    if let Some(account) = candidates.into_iter().flatten().find_map(owner) {
        return Ok(account);
    }
    if let Some(name) = standard {
        return named(name);
    }
    let mut accounts = config.accounts.values();
    match (accounts.next(), accounts.next()) {
        (Some(account), None) => Ok(account),
        (None, _) => Err(Failure::new(
            "config.no_account",
            "the configuration has no account to send through",
        )
        .with_remedy("add one: [account.NAME]")),
        (Some(_), Some(_)) => {
            let author = candidates
                .into_iter()
                .flatten()
                .find(|text| !text.is_empty());
            let author =
                author.map_or_else(String::new, |author| format!(" for mail from {author:?}"));
            Err(Failure::new(
                "config.account_unclear",
                format!("there are several accounts, and it is not clear which to use{author}"),
            )
            .with_remedy(
                "set account under [sendmail], or send as an account's sender with -f or From",
            ))
        }
    }
}

/// Whether the account sends as this address.
pub(super) fn is_own(account: &Account, address: &str) -> bool {
    let sender: &str = account.sender.email.as_ref();
    address.eq_ignore_ascii_case(sender) || address.eq_ignore_ascii_case(&account.username)
}

/// Makes the account's sender the author where somebody else is, and keeps who that was: in
/// `X-Original-From` for people, in `Reply-To` for answers, if any can arrive there.
pub(super) fn rewrite(header: &mut Header, account: &Account, host: &str) {
    if let Some(field) = header.find("Sender")
        && !field
            .addresses()
            .iter()
            .any(|address| is_own(account, address))
    {
        header.rename("Sender", "X-Original-Sender");
    }
    let Some(from) = header.find("From") else {
        return;
    };
    let is_ours = |address: &String| is_own(account, address);
    if from.addresses().iter().any(is_ours) {
        return;
    }
    message::replace_author(header, &account.sender, host);
}

/// Names who sends on the author's behalf, where the account does that and nobody is named yet.
pub(super) fn on_behalf(header: &mut Header, account: &Account) {
    if header.find("Sender").is_some() {
        return;
    }
    let authors = header.find("From").map(Field::addresses);
    let author = authors.and_then(|authors| message::address(authors.first()?));
    if let Some(sender) = author.and_then(|author| account.sender_field(&author)) {
        header.put_first(Field::new("Sender", sender));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postrider_config::Presets;
    use postrider_smtp::message::Intake;

    use super::*;

    fn config(text: &str) -> Config {
        let auth = "auth = { plugin = 'basic', password = { env = 'P' } }\n";
        let server = "server = { host = 'smtp.example.org' }\n";
        let text = text.replace("##\n", &format!("{server}{auth}"));
        Config::parse(&text, Some(Path::new("/etc/p.toml")), &Presets::default())
            .unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn two() -> Config {
        config(
            "[account.alerts]\nusername = 'svc@contoso.com'\nsender = 'Alerts <alerts@contoso.com>'\n##\n\
             [account.web]\nusername = 'web@contoso.com'\n##\n",
        )
    }

    fn header(text: &str) -> Header {
        let mut intake = Intake::default();
        intake.push(text.as_bytes(), &mut Vec::new()).unwrap();
        intake.finish(&mut Vec::new()).unwrap();
        intake.take_header()
    }

    fn rewritten(text: &str) -> String {
        let config = two();
        let mut header = header(text);
        rewrite(&mut header, &config.accounts["alerts"], "web1.contoso.com");
        let mut out = Vec::new();
        header.write_to(&mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn the_account_is_the_one_that_the_mail_comes_from() {
        let mut config = two();
        let chosen = |config: &Config, asked, sender, author| {
            let found = account(config, asked, sender, author);
            found
                .map(|account| account.name.clone())
                .map_err(|failure| failure.code)
        };
        let unclear = Err("config.account_unclear".to_owned());
        let is = |name: &str| Ok(name.to_owned());
        for (asked, sender, author, expected) in [
            (None, None, Some("Web@Contoso.com"), is("web")),
            (None, None, Some("svc@contoso.com"), is("alerts")),
            (
                None,
                Some("alerts@contoso.com"),
                Some("web@contoso.com"),
                is("alerts"),
            ),
            (None, Some("root@host"), Some("web@contoso.com"), is("web")),
            (Some("web"), Some("alerts@contoso.com"), None, is("web")),
            (
                Some("wbe"),
                None,
                None,
                Err("config.no_such_account".to_owned()),
            ),
            (None, Some("root"), Some("root"), unclear.clone()),
            (None, None, None, unclear),
        ] {
            assert_eq!(chosen(&config, asked, sender, author), expected);
        }
        config.sendmail.account = Some("web".to_owned());
        assert_eq!(chosen(&config, None, Some("root"), None), is("web"));
        assert_eq!(
            chosen(&config, None, None, Some("alerts@contoso.com")),
            is("alerts")
        );
        config.sendmail.account = None;
        config.accounts.remove("web");
        assert_eq!(chosen(&config, None, Some("root"), None), is("alerts"));
        config.accounts.clear();
        let none = Err("config.no_account".to_owned());
        assert_eq!(chosen(&config, None, None, None), none);
    }

    #[test]
    fn somebody_elses_from_becomes_the_accounts_and_is_kept() {
        for (from, expected) in [
            // cron
            (
                "From: root (Cron Daemon)\n",
                "From: \"Cron Daemon\" <alerts@contoso.com>\nX-Original-From: root (Cron Daemon)\n",
            ),
            // mailutils; the machine's own name leads nowhere
            (
                "From: root <root@web1.contoso.com>\n",
                "From: root <alerts@contoso.com>\nX-Original-From: root <root@web1.contoso.com>\n",
            ),
            (
                "From: shop@example.org\n",
                "From: Alerts <alerts@contoso.com>\nReply-To: shop@example.org\n\
                 X-Original-From: shop@example.org\n",
            ),
            (
                "Reply-To: x@example.org\nFrom: \"Doe, Jane\" <jane@example.org>\n",
                "From: \"Doe, Jane\" <alerts@contoso.com>\nReply-To: x@example.org\n\
                 X-Original-From: \"Doe, Jane\" <jane@example.org>\n",
            ),
            (
                "From: =?utf-8?q?J=C3=B6rg?= <j@example.org>\n",
                "From: =?utf-8?q?J=C3=B6rg?= <alerts@contoso.com>\nReply-To: j@example.org\n\
                 X-Original-From: =?utf-8?q?J=C3=B6rg?= <j@example.org>\n",
            ),
            (
                "From: a@example.org, B <b@example.org>\n",
                "From: Alerts <alerts@contoso.com>\nReply-To: a@example.org, b@example.org\n\
                 X-Original-From: a@example.org, B <b@example.org>\n",
            ),
            (
                "From: evil\" <x@y>, <a@b.invalid>\n",
                "From: Alerts <alerts@contoso.com>\nX-Original-From: evil\" <x@y>, <a@b.invalid>\n",
            ),
            (
                "Sender: root@web1\nFrom: web <svc@contoso.com>\n",
                "X-Original-Sender: root@web1\nFrom: web <svc@contoso.com>\n",
            ),
        ] {
            assert_eq!(rewritten(from), expected);
        }
        for own in [
            "From: alerts@contoso.com\n",
            "From: Me <ALERTS@contoso.com>\nSender: svc@contoso.com\n",
            "Subject: none\n",
        ] {
            assert_eq!(rewritten(own), own);
        }
    }

    #[test]
    fn who_sends_on_behalf_of_the_author_is_named() {
        let mut config = two();
        config.accounts.get_mut("alerts").unwrap().on_behalf = true;
        for (written, expected) in [
            (
                "From: alerts@contoso.com\n",
                "Sender: svc@contoso.com\nFrom: alerts@contoso.com\n",
            ),
            ("From: svc@contoso.com\n", "From: svc@contoso.com\n"),
            (
                "Sender: alerts@contoso.com\nFrom: alerts@contoso.com\n",
                "Sender: alerts@contoso.com\nFrom: alerts@contoso.com\n",
            ),
        ] {
            let mut header = header(written);
            on_behalf(&mut header, &config.accounts["alerts"]);
            let mut out = Vec::new();
            header.write_to(&mut out);
            assert_eq!(
                String::from_utf8(out).unwrap().replace("\r\n", "\n"),
                expected
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_rewritten_from_is_one_mailbox_of_the_accounts(text in "[ -~äß]{0,60}") {
            let out = rewritten(&format!("From: {text}\n"));
            let from = out.lines().find(|line| line.starts_with("From:")).unwrap();
            let addresses = message::addresses(&from[5..]);
            let config = two();
            proptest::prop_assert!(
                addresses.iter().any(|address| is_own(&config.accounts["alerts"], address)),
                "{out}"
            );
            if out.contains("X-Original-From") {
                proptest::prop_assert_eq!(addresses.len(), 1, "{}", out);
            }
        }
    }
}
