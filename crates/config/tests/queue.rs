//! What `[queue]` and `[sendmail]` come to, and the limits that mail waits for.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_config::{Config, Presets, QueueSettings, Unknown};

const ACCOUNT: &str = "[account.alerts]
     provider = 'microsoft365'
     username = 'alerts@contoso.com'
     auth = { plugin = 'oauth', flow = 'client_credentials', tenant = 'contoso.com', client_id = '11111111-2222-3333-4444-555555555555', client_secret = { env = 'S' } }
";

fn parse(text: &str) -> Config {
    let path = Path::new("/etc/postrider/postrider.toml");
    Config::parse(text, Some(path), &Presets::builtin()).unwrap()
}

fn refused(text: &str) -> String {
    Config::parse(text, None, &Presets::builtin())
        .unwrap_err()
        .to_string()
}

#[test]
fn nothing_written_holds_what_is_unknown_and_tells_the_sender() {
    let config = parse("");
    assert_eq!(config.queue, QueueSettings::default());
    assert_eq!(config.queue.unknown, Unknown::Hold);
    assert!(config.queue.report_to_sender && config.queue.report_webhook.is_none());
    assert!(config.sendmail.rewrite_from && config.sendmail.account.is_none());
}

#[test]
fn what_is_written_counts() {
    let config = parse(&format!(
        "{ACCOUNT}
         [queue]
         max_age = '2d'
         unknown = 'retry'
         report = 'none'
         report_webhook = 'https://hooks.example.org/mail'
         retention = '30d'
         idempotency_window = '1h'
         max_message = '1MiB'
         [sendmail]
         account = 'alerts'
         rewrite_from = false
         local_to = 'Operations <ops@contoso.com>'
         socket = 'submit.sock'
         users = ['www-data']
         groups = ['mail']"
    ));
    let queue = config.queue;
    assert_eq!(queue.max_age, Duration::from_hours(48));
    assert_eq!(queue.unknown, Unknown::Retry);
    assert!(!queue.report_to_sender);
    let hook = queue.report_webhook.unwrap();
    assert_eq!(hook.as_str(), "https://hooks.example.org/mail");
    assert_eq!(queue.retention, Duration::from_hours(30 * 24));
    assert_eq!(queue.idempotency_window, Duration::from_hours(1));
    assert_eq!(queue.max_message_octets, 1 << 20);
    let sendmail = config.sendmail;
    assert_eq!(sendmail.account.as_deref(), Some("alerts"));
    assert!(!sendmail.rewrite_from);
    let local_to = sendmail.local_to.map(|mailbox| mailbox.email.to_string());
    assert_eq!(local_to.as_deref(), Some("ops@contoso.com"));
    let socket = PathBuf::from("/etc/postrider/submit.sock");
    assert_eq!(sendmail.socket, Some(socket));
    assert_eq!(sendmail.users, ["www-data"]);
    assert_eq!(sendmail.groups, ["mail"]);
    let limits = config.accounts["alerts"].limits;
    assert_eq!(limits.messages_per_minute, Some(30));
    assert_eq!(limits.recipients_per_day, Some(10_000));
}

#[test]
fn what_cannot_be_is_named_with_what_could() {
    let unknown = refused("[queue]\nunknown = 'retyr'");
    assert!(unknown.contains("did you mean \"retry\"?"), "{unknown}");
    let key = refused("[queue]\nmax_aeg = '5d'");
    assert!(key.contains("did you mean `max_age`?"), "{key}");
    let clear = refused("[queue]\nreport_webhook = 'http://hooks.example.org/'");
    assert!(clear.contains("https"), "{clear}");
    let account = refused(&format!("{ACCOUNT}[sendmail]\naccount = 'alert'"));
    assert!(account.contains("there is no account alert"), "{account}");
    assert!(account.contains("did you mean \"alerts\"?"), "{account}");
}
