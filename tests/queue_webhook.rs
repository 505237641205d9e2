//! Failures of queued mail, told to a webhook.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use serde_json::json;
use support::daemon::Daemon;
use support::office::{Office, until};
use support::skip;
use support::webhook::Webhook;

const REFUSAL: &str = "554 5.2.252 SendAsDenied; not allowed to send as this sender";

/// An office whose failures go to this webhook.
fn office(webhook: &Webhook) -> Office {
    let settings = format!(
        "[queue]\nreport = \"none\"\nreport_webhook = \"{}\"\n",
        webhook.url()
    );
    let mut office = Office::with(&settings);
    let ca = webhook.ca_file();
    office.home.set(("SSL_CERT_FILE", ca.to_str().unwrap()));
    office
}

#[test]
fn a_webhook_hears_of_what_is_refused_for_good_with_a_daemon_and_without() {
    let webhook = match Webhook::answering(204) {
        Ok(webhook) => webhook,
        Err(missing) => return skip(&missing),
    };
    let office = office(&webhook);
    office.fault("smtp_message", &json!({ "reply": REFUSAL }));
    let first = office.queue("Report of today", &[]);
    office.run(&["flush"], 69);

    let [told] = &webhook.told()[..] else {
        panic!("{:?}", webhook.told());
    };
    assert_eq!(told["type"], "application/json");
    let body = &told["body"];
    let message_id = &office.show(&first)["message_id"];
    for (key, value) in [
        ("event", &json!("queue.failed")),
        ("account", &json!("sandbox")),
        ("id", &json!(first)),
        ("recipient", &json!("admin@contoso.com")),
        ("message_id", message_id),
        ("why", &json!(REFUSAL)),
    ] {
        assert_eq!(body[key], *value, "{key} in {body}");
    }

    let daemon = Daemon::start(&office.home);
    office.fault("smtp_message", &json!({ "reply": REFUSAL }));
    let second = office.queue("another", &[]);
    office.comes_to(&second, "failed");
    until("the webhook has heard of it", || {
        (webhook.told().len() == 2).then_some(())
    });
    assert_eq!(webhook.told()[1]["body"]["id"], json!(second));
    daemon.terminate().expect_status(0);
}

#[test]
fn a_webhook_that_refuses_changes_nothing_and_is_complained_of_without_its_secret() {
    let webhook = match Webhook::answering(500) {
        Ok(webhook) => webhook,
        Err(missing) => return skip(&missing),
    };
    let office = office(&webhook);
    office.fault("smtp_message", &json!({ "reply": REFUSAL }));
    let id = office.queue("Report of today", &[]);

    let flushed = office.run(&["flush"], 69);

    assert!(
        flushed
            .stderr
            .contains("was not taken by the webhook: status 500"),
        "{}",
        flushed.stderr
    );
    assert!(!flushed.stderr.contains("key-4711"), "{}", flushed.stderr);
    assert_eq!(office.state(&id).0, "failed");
}
