//! The exchange with a mail server.

use postrider_plugin::ErrorKind::{self, *};
use postrider_plugin::kit::testing::Flow;
use postrider_plugin::wire::{Action, Answer, Octets, SaslInput, Secret};
use serde_json::json;

use crate::host::*;

#[track_caller]
fn started(flow: &Flow) -> (&str, &[u8]) {
    match flow.action() {
        Action::SaslStart(start) => (
            &start.mechanism,
            &start.initial_response.as_ref().unwrap().0,
        ),
        other => panic!("{other:?}"),
    }
}

fn begin(mechanisms: Option<&[&str]>, change: impl FnOnce(&mut SaslInput)) -> Flow {
    let mut config = microsoft("authorization_code", &[]);
    if let Some(mechanisms) = mechanisms {
        config
            .settings
            .insert("mechanisms".into(), json!(mechanisms));
    }
    sasl(&driver(&config), change)
}

fn offer(input: &mut SaslInput, mechanisms: &[&str]) {
    input.offered = mechanisms.iter().map(|name| (*name).to_owned()).collect();
}

#[test]
fn the_octets_are_those_of_each_mechanism() {
    let flow = begin(None, |_| ());
    let (mechanism, initial) = started(&flow);
    assert_eq!(mechanism, "XOAUTH2");
    assert_eq!(
        initial,
        b"user=svc-mail@contoso.com\x01auth=Bearer eyJ0eXAi.eyJhdWQi.c2ln\x01\x01"
    );

    let flow = begin(None, |input| {
        offer(input, &["PLAIN", "OAUTHBEARER"]);
        input.authcid = "o=hm,\u{e4}@example.org".into();
        input.host = "smtp.example.org".into();
        input.port = 465;
    });
    let (mechanism, initial) = started(&flow);
    assert_eq!(mechanism, "OAUTHBEARER");
    assert_eq!(
        String::from_utf8_lossy(initial),
        "n,a=o=3Dhm=2C\u{e4}@example.org,\x01host=smtp.example.org\x01port=465\x01\
         auth=Bearer eyJ0eXAi.eyJhdWQi.c2ln\x01\x01"
    );
}

#[test]
fn the_first_preferred_mechanism_on_offer_is_used() {
    let both = ["OAUTHBEARER", "XOAUTH2"];
    for (setting, offered, expected) in [
        (None, &both[..], "XOAUTH2"),
        (None, &["xoauth2"], "XOAUTH2"),
        (None, &["OAUTHBEARER"], "OAUTHBEARER"),
        (Some(&both[..]), &["XOAUTH2", "OAUTHBEARER"], "OAUTHBEARER"),
        (Some(&["XOAUTH2"]), &both, "XOAUTH2"),
    ] {
        let flow = begin(setting, |input| offer(input, offered));
        assert_eq!(started(&flow).0, expected, "{setting:?} {offered:?}");
    }
}

#[test]
fn without_a_mechanism_in_common_nothing_is_sent() {
    for (setting, offered, words) in [
        (
            None,
            &["LOGIN", "PLAIN"][..],
            "offers LOGIN PLAIN, not XOAUTH2 or OAUTHBEARER",
        ),
        (None, &[], "offers no mechanism"),
        (
            Some(&["OAUTHBEARER"][..]),
            &["XOAUTH2"],
            "offers XOAUTH2, not OAUTHBEARER",
        ),
    ] {
        let flow = begin(setting, |input| offer(input, offered));
        assert_eq!(flow.error().kind, Unsupported);
        assert!(
            flow.error().detail.message.contains(words),
            "{}",
            flow.error()
        );
    }
}

#[test]
fn a_challenge_is_a_refusal_and_is_acknowledged() {
    let challenge = br#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#;
    for (mechanism, acknowledgement) in [("XOAUTH2", &b""[..]), ("OAUTHBEARER", b"\x01")] {
        let mut flow = begin(None, |input| offer(input, &[mechanism]));
        flow.answer(Answer::SaslChallenge(Octets(challenge.to_vec())));
        match flow.action() {
            Action::SaslSend(response) => assert_eq!(response.0, acknowledgement),
            other => panic!("{other:?}"),
        }
        // A server that asks on has lost the thread.
        flow.answer(Answer::SaslChallenge(Octets(Vec::new())));
        assert_eq!(flow.error().kind, Protocol);
    }
}

#[test]
fn nothing_that_would_break_the_octets_is_sent() {
    type Change = fn(&mut SaslInput);
    let rows: &[(Change, ErrorKind)] = &[
        (|input| input.authcid = String::new(), Config),
        (|input| input.authcid = "a\x01auth=Bearer b".into(), Config),
        (|input| input.authcid = "a\rb".into(), Config),
        (|input| input.authcid = "a\nb".into(), Config),
        (|input| input.authcid = "a\0b".into(), Config),
        (|input| input.authzid = Some("a\x01b".into()), Config),
        (|input| input.host = "a\x01b".into(), Config),
        (|input| input.access_token = None, Protocol),
        (|input| input.access_token = Some(Secret::new("")), Protocol),
        (
            |input| input.access_token = Some(Secret::new("==")),
            Protocol,
        ),
        (
            |input| input.access_token = Some(Secret::new("canary b")),
            Protocol,
        ),
        (
            |input| input.access_token = Some(Secret::new("canary\x01")),
            Protocol,
        ),
        (
            |input| input.access_token = Some(Secret::new("canary\r\nMAIL")),
            Protocol,
        ),
        (
            |input| input.access_token = Some(Secret::new("can=ary")),
            Protocol,
        ),
        (
            |input| input.access_token = Some(Secret::new("canarý")),
            Protocol,
        ),
    ];
    for (row, (change, kind)) in rows.iter().enumerate() {
        for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
            let flow = begin(Some(&[mechanism]), |input| {
                offer(input, &[mechanism]);
                change(input);
            });
            assert_eq!(flow.error().kind, *kind, "row {row}");
            assert!(
                !format!("{:?}", flow.error()).contains("canar"),
                "row {row}"
            );
        }
    }
}

#[test]
fn opaque_tokens_and_another_identity_are_fine() {
    let flow = begin(None, |input| {
        input.access_token = Some(Secret::new("EwB4A8l6BAAU-._~+/aZ=="));
        input.authzid = Some("shared@contoso.com".into());
    });
    assert_eq!(
        started(&flow).1,
        b"user=shared@contoso.com\x01auth=Bearer EwB4A8l6BAAU-._~+/aZ==\x01\x01"
    );
}
