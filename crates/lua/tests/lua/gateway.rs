//! Hooks of a gateway: what devices submit, as scripts see, change and refuse it.

use std::time::Duration;

use postrider_lua::{
    GatewayClient, GatewayHook as _, GatewayMail, GatewayMessage, GatewayPoint, GatewaySignIn,
    Limits, Objection, Queueing, SendRequest, Source,
};

use crate::live::Place;
use crate::logged::Log;

const RAW: &[u8] = b"From: ups@contoso.com\r\nSubject: =?utf-8?q?Strom_=C3=BCber_Batterie?=\r\n\
    X-Severity: 3\r\nMessage-ID: <1@ups>\r\n\r\nload 40 %\r\n";

fn by() -> GatewayClient {
    GatewayClient {
        gateway: "office".to_owned(),
        device: "ups-1".to_owned(),
        address: [192, 168, 1, 20].into(),
    }
}

fn sign_in(device: &str) -> GatewaySignIn {
    GatewaySignIn {
        by: GatewayClient {
            device: device.to_owned(),
            ..by()
        },
        tls: None,
        mechanism: "LOGIN".to_owned(),
    }
}

fn mail(sender: &str) -> GatewayMail {
    GatewayMail {
        by: by(),
        account: "alerts".to_owned(),
        sender: Some(sender.to_owned()),
        recipients: Vec::new(),
        changed_by: None,
    }
}

fn message(to: &str) -> GatewayMessage {
    GatewayMessage {
        by: by(),
        account: "alerts".to_owned(),
        message: SendRequest {
            from: Some("ups@contoso.com".to_owned()),
            to: vec![to.to_owned()],
            raw: Some(Source::Octets(RAW.to_vec())),
            queue: Some(Queueing::default()),
            ..SendRequest::default()
        },
    }
}

/// The reason, or the code and message of a failure, and the line.
fn told<T>(asked: Result<T, Objection>) -> String {
    match asked {
        Ok(_) => "passes".to_owned(),
        Err(Objection::Refused { reason, at }) => {
            format!("refused: {reason}, {}", file(at.as_deref()))
        }
        Err(Objection::Failed(failure)) => format!(
            "{}: {}, {}",
            failure.code,
            failure.message,
            file(failure.at.as_deref())
        ),
    }
}

fn file(at: Option<&str>) -> &str {
    at.and_then(|at| at.rsplit('/').next()).unwrap_or_default()
}

fn raw(message: &GatewayMessage) -> String {
    let Some(Source::Octets(raw)) = &message.message.raw else {
        panic!("no finished message: {message:?}");
    };
    String::from_utf8(raw.clone()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hook_sees_who_signs_in_and_may_keep_them_out() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("gateway.auth", function(t)
          print(t.gateway, t.device, t.client, t.tls, t.mechanism)
          if t.device == "old" then return false, "it was\r\nsold" end
          if t.device == "boom" then error "broken" end
          if t.device == "eager" then return { device = "ups-1" } end
          if t.device == "sure" then return true end
          if t.device == "slow" then pr.sleep "1h" end
        end)
        pr.on("gateway.auth", function(t) print(t.device .. " is in") end)
    "#,
    );
    let log = Log::start();
    let running = place.load(Limits::default()).await.unwrap().start();
    let hooks = &place.host.gateway_hooks;

    assert!(hooks.wants(GatewayPoint::Auth));
    assert!(!hooks.wants(GatewayPoint::Mail) && !hooks.wants(GatewayPoint::Message));
    let answers = "a hook of gateway.auth returns nothing, or false and a reason, not a";
    for (device, expected) in [
        ("ups-1", "passes".to_owned()),
        ("old", "refused: it was sold, script.lua:3".to_owned()),
        ("boom", "script.raised: broken, script.lua:6".to_owned()),
        (
            "eager",
            format!("script.raised: {answers} table, script.lua:3"),
        ),
        (
            "sure",
            format!("script.raised: {answers} boolean, script.lua:3"),
        ),
    ] {
        assert_eq!(told(hooks.auth(sign_in(device)).await), expected);
    }
    let slow = told(hooks.auth(sign_in("slow")).await);
    assert!(
        slow.starts_with("script.time_limit: the hook gateway.auth took longer than its 10s, "),
        "{slow}"
    );
    assert_eq!(place.lines()[0], "office\tups-1\t192.168.1.20\tnil\tLOGIN");
    assert_eq!(place.lines()[1], "ups-1 is in");
    assert_eq!(
        place.lines().len(),
        7,
        "who is kept out is asked about no further"
    );
    assert_eq!(log.of_scripts().len(), 4, "each failure is logged");

    running.stop(Duration::from_secs(1)).await;
    assert!(
        !hooks.wants(GatewayPoint::Auth),
        "hooks go with their script"
    );
    assert_eq!(told(hooks.auth(sign_in("old")).await), "passes");
}

#[tokio::test(start_paused = true)]
async fn a_hook_changes_the_sender_and_the_account_and_nothing_else() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("gateway.mail", function(t)
          if t.sender == "root@ups" then t.sender = "ups@contoso.com" return t end
          if t.sender == "no@ups" then return false, "not you" end
          if t.sender == "typo@ups" then return { acount = "printer" } end
          if t.sender == "odd@ups" then return { account = 7 } end
        end)
        pr.on("gateway.mail", function(t)
          if t.sender == "ups@contoso.com" then return { account = "printer" } end
        end)
    "#,
    );
    let running = place.load(Limits::default()).await.unwrap().start();
    let hooks = &place.host.gateway_hooks;

    let changed = hooks.mail(mail("root@ups")).await.unwrap();
    let by = changed.changed_by.clone().unwrap_or_default();
    assert!(by.ends_with("script.lua:9"), "{by}");
    assert_eq!(
        changed,
        GatewayMail {
            account: "printer".to_owned(),
            changed_by: changed.changed_by.clone(),
            ..mail("ups@contoso.com")
        },
        "the second sees what the first made of it"
    );
    assert_eq!(hooks.mail(mail("a@ups")).await.unwrap(), mail("a@ups"));
    let bounce = GatewayMail {
        sender: None,
        ..mail("")
    };
    assert_eq!(hooks.mail(bounce.clone()).await.unwrap(), bounce);
    assert_eq!(
        told(hooks.mail(mail("no@ups")).await),
        "refused: not you, script.lua:3"
    );
    assert_eq!(
        told(hooks.mail(mail("typo@ups")).await),
        "script.raised: unknown field 'acount' (did you mean 'account'?), script.lua:3"
    );
    assert_eq!(
        told(hooks.mail(mail("odd@ups")).await),
        "script.raised: field 'account' must be a string, got a number, script.lua:3"
    );
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_changes_a_finished_message_and_what_it_leaves_stays() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        pr.on("gateway.message", function(message)
          local to = message.to[1]
          if to == "seen@contoso.com" then
            print(message.subject, message.headers["x-severity"][1], message.from, message.account, message.device)
            assert(message.raw:find "load 40 %%")
            return message
          end
          if to == "no@contoso.com" then return false, "not now" end
          if to == "headers@contoso.com" then
            message.subject = message.subject .. ", 5 min"
            message.headers["X-Severity"] = nil
            message.headers["x-severity"] = nil
            message.headers["Reply-To"] = "ops@contoso.com"
            message.to = { "oncall@contoso.com", "ops@contoso.com" }
            return message
          end
          if to == "twice@contoso.com" then message.headers["SUBJECT"] = "x" return message end
          if to == "inject@contoso.com" then message.subject = "a\r\nBcc: b@example.org" return message end
          if to == "raw@contoso.com" then
            message.raw = message.raw:gsub("load", "LOAD")
            return message
          end
          if to == "own@contoso.com" then
            return { to = "oncall@contoso.com", subject = message.subject, text = "look at it", send_at = 1772352000, wait = "queued" }
          end
          if to == "plain@contoso.com" then message.raw = nil message.text = "just this" return message end
        end)
        pr.on("gateway.message", function(message) print(message.subject, #message.to) end)
    "#,
    );
    let running = place.load(Limits::default()).await.unwrap().start();
    let hooks = &place.host.gateway_hooks;
    let ask = |to: &str| hooks.message(message(&format!("{to}@contoso.com")));

    let seen = ask("seen").await.unwrap();
    assert_eq!(raw(&seen).as_bytes(), RAW);
    let by = seen.message.changed_by.clone();
    assert!(by.as_ref().is_some_and(|by| by.ends_with("script.lua:3")));
    let as_given = SendRequest {
        changed_by: by,
        ..message("seen@contoso.com").message
    };
    assert_eq!(seen.message, as_given);

    let headers = ask("headers").await.unwrap();
    assert_eq!(headers.message.to.len(), 2);
    let (header, body) = {
        let raw = raw(&headers);
        let (header, body) = raw.split_once("\r\n\r\n").unwrap();
        (header.to_owned(), body.to_owned())
    };
    assert_eq!(body, "load 40 %\r\n");
    assert!(
        header.starts_with("From: ups@contoso.com\r\nSubject: "),
        "{header}"
    );
    assert!(
        header.ends_with("\r\nMessage-ID: <1@ups>\r\nReply-To: ops@contoso.com"),
        "{header}"
    );
    assert!(
        header.is_ascii() && !header.contains("Severity"),
        "{header}"
    );

    assert!(raw(&ask("raw").await.unwrap()).ends_with("\r\n\r\nLOAD 40 %\r\n"));
    let own = ask("own").await.unwrap().message;
    assert_eq!((own.raw, own.from), (None, None));
    assert!(own.queue.unwrap().send_at.is_some());
    let plain = ask("plain").await.unwrap().message;
    assert_eq!(plain.subject.as_deref(), Some("Strom über Batterie"));
    assert_eq!((plain.raw, plain.headers.len()), (None, 0));
    assert!(
        plain.queue.is_some(),
        "a gateway's message is always queued"
    );

    assert_eq!(told(ask("no").await), "refused: not now, script.lua:3");
    assert_eq!(
        told(ask("inject").await),
        "script.raised: field 'headers.subject' has a control character, script.lua:3"
    );
    assert_eq!(
        told(ask("twice").await),
        "script.raised: field 'headers.subject' is there twice: names are the same in small letters and in capitals, script.lua:3"
    );
    let lines = place.lines();
    assert_eq!(
        lines[0],
        "Strom über Batterie\t3\tups@contoso.com\talerts\tups-1"
    );
    assert_eq!(lines[2], "Strom über Batterie, 5 min\t2");
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_asked_and_never_told() {
    let place = Place::new(
        r#"
        local pr = require "postrider"
        for _, name in ipairs { "gateway.auth", "gateway.mail", "gateway.message" } do
          pr.on(name, function() print(name) end)
        end
    "#,
    );
    let running = place.load(Limits::default()).await.unwrap().start();

    for name in ["gateway.auth", "gateway.mail", "gateway.message"] {
        assert!(!place.tell(name).await);
    }
    assert!(place.lines().is_empty());
    running.stop(Duration::from_secs(1)).await;
}
