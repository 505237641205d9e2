//! From a program's header and command line to what goes into the queue: account, envelope, and
//! the header as it is sent.

use std::collections::{BTreeSet, HashSet};

use jiff::Zoned;
use postrider_config::{Account, Config};
use postrider_smtp::message::{self, Field, Header};
use postrider_smtp::{Address, Dsn, Envelope, Notify, RecipientDsn, Return};
use serde::{Deserialize, Serialize};

use super::options::Options;
use super::sender;
use crate::failure::Failure;

/// RFC 3461 §4.4.
const MAX_ENVELOPE_ID: usize = 100;
/// More of a `Message-ID` is none.
const MAX_MESSAGE_ID: usize = 990;

/// Fields that a message is not sent with: `Bcc` would tell everybody what it is there to hide, the
/// others are a mailbox's. Postfix leaves out the same.
const LEFT_OUT: [&str; 4] = ["Bcc", "Resent-Bcc", "Return-Path", "Content-Length"];

/// What the command line said, besides the message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Request {
    /// Each may be a list, or have a name before the address.
    pub(crate) recipients: Vec<String>,
    /// Whether the header's recipients are some, too (`-t`).
    pub(crate) extract: bool,
    /// The envelope's sender (`-f`); empty is the null reverse-path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sender: Option<String>,
    /// The name for a `From` that has to be made (`-F`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full_name: Option<String>,
    /// The account, where it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
    /// When to notify: `never`, or some of `success,failure,delay` (`-N`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notify: Option<String>,
    /// What was asked for each of `recipients` (`-bs`); of the others it is `notify`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dsn: Vec<RecipientRequest>,
    /// How much comes back: `full` or `hdrs` (`-R`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ret: Option<String>,
    /// What comes back as it is (`-V`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) envelope_id: Option<String>,
    /// Under the same key, the same user's same message is queued once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

/// What was asked for one recipient (RFC 3461).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecipientRequest {
    /// As `-N` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notify: Option<String>,
    /// As `ORCPT` has it: `type;xtext`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) orcpt: Option<String>,
}

impl From<Options> for Request {
    fn from(options: Options) -> Self {
        Self {
            recipients: options.recipients,
            extract: options.extract,
            sender: options.sender,
            full_name: options.full_name,
            account: options.account,
            notify: options.notify,
            dsn: Vec::new(),
            ret: options.ret,
            envelope_id: options.envelope_id,
            key: None,
        }
    }
}

/// What goes into the queue, but for the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) account: String,
    pub(crate) envelope: Envelope,
    /// With its angle brackets.
    pub(crate) message_id: String,
    pub(crate) dsn: Option<Dsn>,
    /// As it is sent, with the empty line.
    pub(crate) header: Vec<u8>,
}

/// What is not in the message nor in the settings.
pub(crate) struct Circumstances<'a> {
    /// The time, in the machine's zone.
    pub(crate) now: Zoned,
    /// The machine's name.
    pub(crate) host: &'a str,
    /// Makes a `Message-ID` the only one of its kind.
    pub(crate) unique: &'a str,
}

/// Decides.
///
/// # Errors
/// No recipient, one that is none, no account, an option that is not understood.
pub(crate) fn plan(
    config: &Config,
    request: &Request,
    mut header: Header,
    circumstances: &Circumstances<'_>,
) -> Result<Plan, Failure> {
    let host = circumstances.host;
    let recipients = recipients(config, request, &header, host)?;
    let (recipients, named): (Vec<_>, Vec<_>) = recipients.into_iter().unzip();
    let dsn = dsn(request, &named)?;
    let sender = request.sender.as_deref().map(address_of);
    let author = header.find("From");
    let author = author.and_then(|from| from.addresses().into_iter().next());
    let account = sender::account(
        config,
        request.account.as_deref(),
        sender.as_deref(),
        author.as_deref(),
    )?;
    let reverse_path = reverse_path(config, account, sender)?;

    for name in LEFT_OUT {
        header.remove(name);
    }
    if config.sendmail.rewrite_from {
        sender::rewrite(&mut header, account, host);
    }
    let message_id = complete(&mut header, account, request, circumstances);
    if config.sendmail.rewrite_from {
        sender::on_behalf(&mut header, account);
    }
    let mut octets = Vec::new();
    header.write_to(&mut octets);
    octets.extend_from_slice(b"\r\n");
    Ok(Plan {
        account: account.name.clone(),
        envelope: Envelope {
            reverse_path,
            recipients,
        },
        message_id,
        dsn,
        header: octets,
    })
}

/// What is missing and must not be (RFC 5322 §3.6, RFC 6409 §8); the `Message-ID`.
fn complete(
    header: &mut Header,
    account: &Account,
    request: &Request,
    circumstances: &Circumstances<'_>,
) -> String {
    for name in ["From", "Date", "Message-ID"] {
        // An empty one says as little as none.
        if header
            .find(name)
            .is_some_and(|field| field.text().is_empty())
        {
            header.remove(name);
        }
    }
    if header.find("Date").is_none() {
        let date = circumstances.now.strftime("%a, %d %b %Y %H:%M:%S %z");
        header.put_first(Field::new("Date", &date.to_string()));
    }
    let found = header.find("Message-ID").map(Field::text);
    let message_id = found
        .filter(|id| id.len() <= MAX_MESSAGE_ID)
        .unwrap_or_else(|| {
            let id = format!(
                "<{}@{}>",
                circumstances.unique,
                account.sender.email.domain()
            );
            header.remove("Message-ID");
            header.put_first(Field::new("Message-ID", &id));
            id
        });
    if header.find("From").is_none() {
        let mut from = account.sender.clone();
        if let Some(name) = &request.full_name {
            let name: String = name.chars().filter(|c| !c.is_control()).collect();
            from.name = Some(name).filter(|name| !name.trim().is_empty());
        }
        header.put_first(Field::new("From", &message::written(&from)));
    }
    message_id
}

/// Those of the command line, and of the header where that was asked for: of its `Resent-` fields
/// alone, where it has some (RFC 5322 §3.6.6). Each once, with its place on the command line.
fn recipients(
    config: &Config,
    request: &Request,
    header: &Header,
    host: &str,
) -> Result<Vec<(Address, Option<usize>)>, Failure> {
    let mut written = Vec::new();
    for (index, argument) in request.recipients.iter().enumerate() {
        let addresses = message::addresses(argument);
        if addresses.is_empty() || argument.contains(char::is_control) {
            return Err(no_address(argument));
        }
        written.extend(addresses.into_iter().map(|address| (address, Some(index))));
    }
    if request.extract {
        let of = |names: [&str; 3]| {
            let fields = header.fields();
            let fields = fields.filter(move |field| names.iter().any(|name| field.is(name)));
            fields.flat_map(Field::addresses).collect::<Vec<_>>()
        };
        let resent = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
        let is_resent = |field: &Field| resent.iter().any(|name| field.is(name));
        let found = if header.fields().any(is_resent) {
            of(resent)
        } else {
            of(["To", "Cc", "Bcc"])
        };
        written.extend(found.into_iter().map(|address| (address, None)));
    }
    let mut seen = HashSet::new();
    let mut recipients = Vec::new();
    for (text, index) in written {
        let recipient = recipient(config, &text, host)?;
        if seen.insert(recipient.to_string().to_ascii_lowercase()) {
            recipients.push((recipient, index));
        }
    }
    if recipients.is_empty() {
        return Err(if request.extract {
            Failure::new(
                "usage.no_recipients",
                "there are no recipients in the message's header (To, Cc, Bcc)",
            )
            .with_remedy("name some there, or on the command line")
        } else {
            Failure::new("usage.no_recipients", "there are no recipients").with_remedy(
                "name them on the command line, or use -t to take them from the header",
            )
        });
    }
    Ok(recipients)
}

/// A recipient's address; a user of this machine has the one that was set for all of them.
fn recipient(config: &Config, text: &str, host: &str) -> Result<Address, Failure> {
    let domain = text.rsplit_once('@').map(|(_, domain)| domain);
    let is_here = |domain: &str| {
        domain.eq_ignore_ascii_case(host)
            || ["localhost", "localhost.localdomain"]
                .iter()
                .any(|local| domain.eq_ignore_ascii_case(local))
    };
    if domain.is_none_or(is_here) && is_login(text.split('@').next().unwrap_or_default()) {
        return match &config.sendmail.local_to {
            Some(mailbox) => Ok(mailbox.email.clone()),
            None => Err(Failure::new(
                "message.local_recipient",
                format!(
                    "mail for {:?}, a user of this machine, has nowhere to go",
                    shorten(text)
                ),
            )
            .with_remedy(
                "set local_to under [sendmail], or name an address (MAILTO in a crontab)",
            )),
        };
    }
    message::address(text).ok_or_else(|| no_address(text))
}

/// Whether a user may be called so.
fn is_login(name: &str) -> bool {
    let mut octets = name.bytes();
    octets
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && octets.all(|octet| octet.is_ascii_alphanumeric() || b"_.-+".contains(&octet))
}

fn no_address(text: &str) -> Failure {
    Failure::new(
        "message.invalid",
        format!("{:?} is not a mail address", shorten(text)),
    )
    .with_remedy("write it like user@example.org")
}

/// Where failures go. The account's sender stands for those that it may not send as.
fn reverse_path(
    config: &Config,
    account: &Account,
    sender: Option<String>,
) -> Result<Option<Address>, Failure> {
    let own = || {
        let user = account.sender_field(&account.sender.email);
        let user = user.and_then(message::address);
        user.unwrap_or_else(|| account.sender.email.clone())
    };
    match sender {
        None => Ok(Some(own())),
        Some(sender) if sender.is_empty() => Ok(None),
        Some(sender) if config.sendmail.rewrite_from && !sender::is_own(account, &sender) => {
            Ok(Some(own()))
        }
        Some(sender) => {
            let address = message::address(&sender);
            address.map(Some).ok_or_else(|| no_address(&sender))
        }
    }
}

/// `-f` may have a name, or angle brackets; `<>` is the null reverse-path.
fn address_of(sender: &str) -> String {
    let first = message::addresses(sender).into_iter().next();
    first.unwrap_or_default()
}

/// The notifications asked for, of recipients with these places on the command line.
fn dsn(request: &Request, named: &[Option<usize>]) -> Result<Option<Dsn>, Failure> {
    let Request {
        ret, envelope_id, ..
    } = request;
    let for_all = events(request.notify.as_deref())?;
    let recipients = named.iter().map(|index| {
        let own = index.and_then(|index| request.dsn.get(index));
        Ok(match own {
            Some(own) => RecipientDsn {
                notify: events(own.notify.as_deref())?,
                orcpt: own.orcpt.clone(),
            },
            None => RecipientDsn {
                notify: for_all.clone(),
                orcpt: None,
            },
        })
    });
    let recipients = recipients.collect::<Result<Vec<_>, Failure>>()?;
    let ret = match ret.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("full") => Some(Return::Full),
        Some("hdrs") => Some(Return::Headers),
        Some(_) => return Err(wrong("-R is followed by full or hdrs")),
    };
    if let Some(id) = envelope_id
        && (id.is_empty()
            || id.len() > MAX_ENVELOPE_ID
            || !id.bytes().all(|octet| (b' '..=b'~').contains(&octet)))
    {
        return Err(wrong(
            "-V is followed by at most 100 characters of printable ASCII",
        ));
    }
    let is_asked = recipients.iter().any(|one| *one != RecipientDsn::default());
    let dsn = Dsn {
        recipients: if is_asked { recipients } else { Vec::new() },
        ret,
        envid: envelope_id.clone(),
    };
    Ok(Some(dsn).filter(|dsn| *dsn != Dsn::default()))
}

/// When to notify, as `-N` has it; `None`, where it says nothing.
fn events(words: Option<&str>) -> Result<Option<BTreeSet<Notify>>, Failure> {
    let Some(words) = words else { return Ok(None) };
    let mut events = BTreeSet::new();
    if words.eq_ignore_ascii_case("never") {
        return Ok(Some(events));
    }
    for word in words.split(',') {
        events.insert(match word.trim().to_ascii_lowercase().as_str() {
            "success" => Notify::Success,
            "failure" => Notify::Failure,
            "delay" => Notify::Delay,
            _ => {
                return Err(wrong(
                    "-N is followed by never, or by some of success,failure,delay",
                ));
            }
        });
    }
    Ok(Some(events))
}

fn wrong(message: &str) -> Failure {
    Failure::new("usage.sendmail", message)
}

/// Enough of it to be recognised.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postrider_config::Presets;

    use super::*;
    use postrider_smtp::message::Intake;

    const ACCOUNT: &str = "[account.alerts]\nusername = 'svc@contoso.com'\n\
        sender = 'Alerts <alerts@contoso.com>'\nserver = { host = 'smtp.contoso.com' }\n\
        auth = { plugin = 'basic', password = { env = 'P' } }\n";

    fn config(more: &str) -> Config {
        let text = format!("{ACCOUNT}[sendmail]\n{more}\n");
        Config::parse(&text, Some(Path::new("/etc/p.toml")), &Presets::default())
            .unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn planned(config: &Config, request: &Request, message: &str) -> Result<Plan, Failure> {
        let mut intake = Intake::default();
        intake.push(message.as_bytes(), &mut Vec::new()).unwrap();
        intake.finish(&mut Vec::new()).unwrap();
        let circumstances = Circumstances {
            now: "2026-11-23T12:00:00+01:00[Europe/Paris]".parse().unwrap(),
            host: "web1",
            unique: "u1",
        };
        plan(config, request, intake.take_header(), &circumstances)
    }

    fn recipients_of(plan: &Plan) -> Vec<String> {
        let recipients = plan.envelope.recipients.iter();
        recipients.map(ToString::to_string).collect()
    }

    fn reverse_path_of(plan: &Plan) -> Option<String> {
        plan.envelope.reverse_path.as_ref().map(ToString::to_string)
    }

    fn to(recipients: &[&str]) -> Request {
        Request {
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            ..Request::default()
        }
    }

    #[test]
    fn what_is_missing_is_added_and_what_hides_goes() {
        let request = Request {
            full_name: Some("Cron\nDaemon".to_owned()),
            ..to(&["ops@example.org"])
        };
        let plan = planned(
            &config(""),
            &request,
            "Subject: x\nBcc: hidden@example.org,\n more@example.org\nReturn-Path: <x@y>\n\
             Content-Length: 3\nResent-Bcc: z@example.org\n\nhi\n",
        )
        .unwrap();
        assert_eq!(plan.account, "alerts");
        assert_eq!(
            reverse_path_of(&plan).as_deref(),
            Some("alerts@contoso.com")
        );
        assert_eq!(recipients_of(&plan), ["ops@example.org"]);
        assert_eq!(plan.message_id, "<u1@contoso.com>");
        assert_eq!(
            String::from_utf8(plan.header).unwrap(),
            "From: CronDaemon <alerts@contoso.com>\r\nMessage-ID: <u1@contoso.com>\r\n\
             Date: Mon, 23 Nov 2026 12:00:00 +0100\r\nSubject: x\r\n\r\n"
        );
    }

    #[test]
    fn what_is_there_stays() {
        let message = "From: svc@contoso.com\nDate: x\nMessage-ID: <a@b>\nTo: c@d.example\n\n";
        let plan = planned(&config(""), &to(&["c@d.example"]), message).unwrap();
        assert_eq!(plan.message_id, "<a@b>");
        assert_eq!(
            String::from_utf8(plan.header).unwrap(),
            message.replace('\n', "\r\n")
        );
    }

    #[test]
    fn recipients_are_those_of_the_command_line_and_with_t_the_headers_too() {
        let message = "From: x@y.example\nTo: A <a@d.example>, b@d.example\nCc: grp: c@d.example;\n\
            bcc: e@d.example\nTo: B@d.example\n\n";
        let resent = format!("Resent-To: r@d.example\n{message}");
        let extract = |request: Request| Request {
            extract: true,
            ..request
        };
        let all = ["a@d.example", "b@d.example", "c@d.example", "e@d.example"];
        for (request, message, expected) in [
            (
                to(&["q@d.example, Z <z@d.example>"]),
                message,
                &["q@d.example", "z@d.example"][..],
            ),
            (extract(to(&[])), message, &all[..]),
            (
                extract(to(&["q@d.example", "a@d.example"])),
                message,
                &[
                    "q@d.example",
                    "a@d.example",
                    "b@d.example",
                    "c@d.example",
                    "e@d.example",
                ],
            ),
            (
                extract(to(&["q@d.example"])),
                &resent,
                &["q@d.example", "r@d.example"],
            ),
        ] {
            assert_eq!(
                recipients_of(&planned(&config(""), &request, message).unwrap()),
                expected
            );
        }
        for (request, message, status) in [
            (to(&[]), message, 64),
            (extract(to(&[])), "From: a@b.example\n\n", 64),
            (to(&["a b@c"]), message, 65),
            (to(&[""]), message, 65),
            (to(&["a@b.example\r\nRCPT TO:<x@y>"]), message, 65),
        ] {
            assert_eq!(
                planned(&config(""), &request, message)
                    .unwrap_err()
                    .exit_code(),
                status
            );
        }
    }

    #[test]
    fn users_of_this_machine_have_the_address_that_was_set_for_them() {
        let config_of_some = config("local_to = 'ops@contoso.com'");
        let plan = planned(
            &config_of_some,
            &to(&["root", "www-data@WEB1", "x@localhost", "a@b.example"]),
            "\n",
        );
        assert_eq!(
            recipients_of(&plan.unwrap()),
            ["ops@contoso.com", "a@b.example"]
        );
        let failure = planned(&config(""), &to(&["root"]), "\n").unwrap_err();
        assert_eq!(failure.code, "message.local_recipient");
    }

    #[test]
    fn the_envelopes_sender_is_the_accounts_unless_it_may_be_another() {
        let path = |config: &Config, sender: Option<&str>| {
            let request = Request {
                sender: sender.map(str::to_owned),
                ..to(&["a@b.example"])
            };
            reverse_path_of(&planned(config, &request, "\n").unwrap())
        };
        let own = Some("alerts@contoso.com".to_owned());
        for (sender, expected) in [
            (None, own.clone()),
            (Some("root"), own.clone()),
            (Some("www-data@web1"), own),
            (Some("svc@contoso.com"), Some("svc@contoso.com".to_owned())),
            (
                Some("S <svc@contoso.com>"),
                Some("svc@contoso.com".to_owned()),
            ),
            (Some(""), None),
            (Some("<>"), None),
        ] {
            assert_eq!(path(&config(""), sender), expected, "{sender:?}");
        }
        let faithful = config("rewrite_from = false");
        assert_eq!(
            path(&faithful, Some("x@y.example")).as_deref(),
            Some("x@y.example")
        );
    }

    #[test]
    fn notifications_are_asked_for_as_it_was_said() {
        let dsn = |notify: Option<&str>, ret: Option<&str>, id: Option<&str>| {
            let request = Request {
                notify: notify.map(str::to_owned),
                ret: ret.map(str::to_owned),
                envelope_id: id.map(str::to_owned),
                ..Request::default()
            };
            super::dsn(&request, &[Some(0), None])
        };
        assert_eq!(dsn(None, None, None).unwrap(), None);
        let all = dsn(Some("Success,failure, delay"), Some("HDRS"), Some("QQ 3"))
            .unwrap()
            .unwrap();
        let events = |dsn: &Dsn| {
            dsn.recipients
                .iter()
                .map(|one| one.notify.as_ref().map(BTreeSet::len))
                .collect::<Vec<_>>()
        };
        assert_eq!(events(&all), [Some(3), Some(3)]);
        assert_eq!(all.ret, Some(Return::Headers));
        assert_eq!(all.envid.as_deref(), Some("QQ 3"));
        let never = dsn(Some("never"), None, None).unwrap().unwrap();
        assert_eq!(events(&never), [Some(0), Some(0)]);
        let full = dsn(None, Some("full"), None).unwrap().unwrap();
        assert!(full.recipients.is_empty(), "{full:?}");
        for (notify, ret, id) in [
            (Some("sometimes"), None, None),
            (Some("never,success"), None, None),
            (None, Some("half"), None),
            (None, None, Some("a\nb")),
            (None, None, Some("")),
        ] {
            assert_eq!(dsn(notify, ret, id).unwrap_err().exit_code(), 64);
        }
    }

    #[test]
    fn each_recipient_keeps_what_was_asked_of_it_wherever_it_stands() {
        let one = |notify: &str, orcpt: Option<&str>| RecipientRequest {
            notify: Some(notify.to_owned()),
            orcpt: orcpt.map(str::to_owned),
        };
        let request = Request {
            recipients: [
                "b@example.net",
                "B@example.net",
                "c@example.net",
                "d@example.net",
            ]
            .map(str::to_owned)
            .to_vec(),
            notify: Some("delay".to_owned()),
            dsn: vec![
                one("never", None),
                one("success", None),
                one("failure", Some("rfc822;x@example.net")),
            ],
            ..Request::default()
        };
        let plan = planned(&config(""), &request, "Subject: x\n\nbody\n").unwrap();
        assert_eq!(plan.envelope.recipients.len(), 3);
        let dsn = plan.dsn.unwrap();
        let asked: Vec<_> = dsn
            .recipients
            .into_iter()
            .map(|one| (one.notify.unwrap(), one.orcpt))
            .collect();
        let expected = [
            (BTreeSet::new(), None),
            (
                [Notify::Failure].into(),
                Some("rfc822;x@example.net".to_owned()),
            ),
            ([Notify::Delay].into(), None),
        ];
        assert_eq!(asked, expected);
    }
}
