//! What is kept of a gateway's mail and said of it: the authors that hooks may not change, the
//! notifications that were asked for, the ledger, what was counted and what was told.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::device::{Device, scan};
use support::gateway::{DEVICE, PASSWORD};
use support::office::{Office, TO, until};
use support::sandbox::PERSON;
use support::{skip, write_private};

const NO_PYTHON: &str = "python3 is not installed";

/// One gateway for STARTTLS, on any free port.
const OFFICE: &str = "[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n";

/// An office with these gateways and this script, where the device may send through `office`.
fn office(gateways: &str, script: &str) -> Office {
    let office = Office::with(&format!("{gateways}[scripts]\nfiles = [\"rules.lua\"]\n"));
    let script = format!("local pr = require \"postrider\"\n{script}");
    write_private(&office.home.path().join("rules.lua"), script);
    office.admit("office", DEVICE, PASSWORD);
    office
}

/// The device at this gateway, signed in.
fn signed_in(daemon: &Daemon, gateway: &str) -> Option<Device> {
    let mut device = Device::new()?;
    let port = daemon.gateway_port(gateway);
    device.connect(port, "starttls").expect(220);
    device.auth("PLAIN", DEVICE, PASSWORD).expect(235);
    Some(device)
}

#[test]
fn a_hook_that_sees_all_mail_makes_no_author_of_a_devices_mail_either() {
    let office = office(
        OFFICE,
        r#"pr.on("message.before_send", function(message)
  if not message.raw then
    message.from = "ceo@contoso.com"
    return message
  end
  local what = message.raw:match "Subject: (%a+)"
  if what == "author" then
    message.raw = message.raw:gsub("From: [^\r]+", "From: ceo@contoso.com", 1)
  elseif what == "sender" then
    message.raw = "Sender: ceo@contoso.com\r\n" .. message.raw
  elseif what == "path" then
    message.from = "ceo@contoso.com"
  elseif what == "own" then
    return { from = "ceo@contoso.com", to = message.to, subject = "own", text = "x" }
  else
    message.raw = message.raw:gsub("Subject: ", "Subject: [seen] ", 1)
  end
  return message
end)
"#,
    );
    let daemon = Daemon::start(&office.home);
    let Some(mut device) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    for (subject, code) in [
        ("author", 451),
        ("sender", 451),
        ("path", 451),
        ("own", 451),
        ("page", 250),
    ] {
        let reply = device.send(PERSON.0, &[TO], &scan(PERSON.0, TO, subject));
        assert_eq!(reply.code, code, "{subject}: {reply:?}");
        assert!(!reply.text.contains("ceo"), "{reply:?}");
    }
    let line = daemon.says("a hook made of a device's mail what may not be sent");
    assert!(line.to_string().contains("rules.lua:2"), "{line}");
    office.arrived("[seen] page");
    assert_eq!(office.subjects(), ["[seen] page"]);
    // Where no device is concerned, that is for scripts to say.
    office.queue("by a person", &[]);
    daemon.terminate().expect_status(0);
}

#[test]
fn notifications_are_asked_for_recipient_by_recipient_whatever_a_hook_changed() {
    let office = office(
        &OFFICE.replace("\"sandbox\"", "\"sandbox-person\""),
        r#"pr.on("gateway.message", function(message)
  message.subject = "[" .. message.device .. "] " .. message.subject
  message.to = { "archive@contoso.com", message.to[2], message.to[1] }
  return message
end)
pr.on("message.before_send", function(message)
  message.raw = "X-Seen: yes\r\n" .. message.raw
  return message
end)
"#,
    );
    let daemon = Daemon::start(&office.home);
    let Some(mut device) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    let sender = PERSON.0;
    for (line, code) in [
        (format!("MAIL FROM:<{sender}> RET=HDRS ENVID=scan+2B7"), 250),
        (
            format!("RCPT TO:<{TO}> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;boss@example.org"),
            250,
        ),
        ("RCPT TO:<x@example.org> NOTIFY=NEVER".to_owned(), 250),
        ("DATA".to_owned(), 354),
    ] {
        device.say(&line).expect(code);
    }
    device.finish(&scan(sender, TO, "a page")).expect(250);

    let queued = office.home.json(["queue", "list"]);
    let id = queued[0]["id"].as_str().unwrap();
    let shown = office.show(id);
    let asked = |key: &str| shown["dsn"][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (asked("ret"), asked("envid")),
        ("headers".into(), "scan+7".into())
    );
    let recipients = shown["recipients"].as_array().unwrap().iter();
    let recipients: Vec<Value> = recipients
        .map(|one| json!([one["address"], one["notify"], one["orcpt"]]))
        .collect();
    assert_eq!(
        recipients,
        [
            json!(["archive@contoso.com", null, null]),
            json!(["x@example.org", [], null]),
            json!([TO, ["success", "delay"], "rfc822;boss@example.org"]),
        ],
        "{shown}"
    );
    let text = office.run(&["export", id], 0).stdout;
    assert!(text.contains("Subject: [printer-2] a page"), "{text}");
    assert!(text.contains("X-Seen: yes"), "{text}");
}

#[test]
fn a_script_is_tested_against_what_the_daemon_would_answer() {
    let rewriting = OFFICE.replace("office", "rewriting") + "rewrite_from = true\n";
    let office = office(&format!("{OFFICE}{rewriting}"), "");
    let test = office.home.path().join("rules_test.lua");
    write_private(
        &test,
        r#"local pr = require "postrider"
local function submits(t, hook)
  t.fs:write("own.lua", 'require "postrider".on(' .. hook .. ")")
  t:load(t.fs.dir .. "/own.lua")
  return t.gateway:submit {
    gateway = "office", device = "printer-2", recipients = "a@contoso.com", subject = "Scan", text = "x",
  }
end

for name, hook in pairs {
  header = '"gateway.message", function(m) m.headers.from = "ceo@contoso.com" return m end',
  path = '"gateway.message", function(m) m.from = "ceo@contoso.com" return m end',
  later = '"message.before_send", function(m) m.from = "ceo@contoso.com" return m end',
} do
  pr.test.case("nobody else by " .. name, function(t)
    local answer = submits(t, hook)
    t.eq(answer.code, 451)
    t.match(answer.error.message, "may not send as .*ceo@contoso%.com")
    t.match(answer.error.at, "own%.lua:1")
    t.eq(#t.outbox, 0)
  end)
end

pr.test.case("nor by itself", function(t)
  local answer = t.gateway:submit {
    gateway = "office", device = "printer-2", recipients = "a@contoso.com",
    raw = "From: ceo@contoso.com\nSubject: x\n\nx\n",
  }
  t.eq(answer.code, 550)
  t.match(answer.text, "may not send as <ceo@contoso%.com> %(From%)")
end)

pr.test.case("unless it is to be rewritten", function(t)
  local answer = t.gateway:submit {
    gateway = "rewriting", device = "printer-2", recipients = "a@contoso.com", sender = "ceo@contoso.com",
    raw = "From: ceo@contoso.com\nSubject: x\n\nx\n",
  }
  t.ok(answer.accepted)
  t.eq(t.outbox[1].headers.from, "alerts@contoso.com")
  t.eq(t.outbox[1].headers["reply-to"], "ceo@contoso.com")
end)

pr.test.case("what changes no author goes out", function(t)
  local answer = submits(t, '"gateway.message", function(m) m.subject = "seen" return m end')
  t.ok(answer.accepted)
  t.eq(t.outbox[1].subject, "seen")
end)
"#,
    );
    let ended = office.home.run(["test", "rules_test.lua"]).expect_status(0);
    assert!(ended.stdout.contains("6 passed"), "{}", ended.stdout);
}

#[test]
fn a_ledger_that_cannot_be_written_keeps_no_mail_and_is_written_once_it_can_be() {
    let office = office(OFFICE, "");
    let accounts = fs::read_to_string(office.home.path().join("postrider.toml")).unwrap();
    // Not even root writes a file where a directory is.
    let ledger = office.home.state().join("gateway/ledger.db");
    fs::create_dir_all(&ledger).unwrap();
    let daemon = Daemon::start(&office.home);
    let Some(mut device) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    let message = scan(PERSON.0, TO, "unwritten");
    device.send(PERSON.0, &[TO], &message).expect(250);
    office.arrived("unwritten");

    daemon.says("the gateways' ledger cannot be written; mail goes on");
    let trouble = daemon.status()["ledger"]["trouble"].to_string();
    assert!(trouble.contains("ledger.db: it is not a file"), "{trouble}");
    let text = office.home.run(["status"]).expect_status(0).stdout;
    assert!(text.contains("it is not a file; mail goes on"), "{text}");

    fs::remove_dir(&ledger).unwrap();
    // A further gateway asks the ledger what its devices sent, so it is written before its time.
    let annex = OFFICE.replace("office", "annex");
    office.home.configure(&format!("{annex}{accounts}"));
    daemon.hang_up();
    daemon.says("the gateways' ledger is written again");
    let ledger = &daemon.status()["ledger"];
    assert!(
        ledger["trouble"].is_null() && ledger["lost"] == 0,
        "{ledger}"
    );
    let report = office.home.json(["gateway", "report", "--device", DEVICE]);
    let of_office = &report["devices"][0];
    assert_eq!(of_office["volume"]["all"]["messages"], 1, "{report}");
    daemon.terminate().expect_status(0);
}

#[test]
fn a_message_that_a_device_is_sending_when_the_daemon_stops_is_taken() {
    let office = office(OFFICE, "");
    let daemon = Daemon::start(&office.home);
    let (Some(mut busy), Some(mut idle)) =
        (signed_in(&daemon, "office"), signed_in(&daemon, "office"))
    else {
        return skip(NO_PYTHON);
    };
    busy.begin(PERSON.0, &[TO]).expect(354);
    daemon.signal(Signal::TERM);
    let farewell = until("it is sent away", || {
        let reply = idle.say("NOOP");
        (reply.code != 250).then_some(reply)
    });
    let farewell = farewell.expect(421);
    assert!(farewell.starts_with("4.3.2 "), "{farewell}");
    busy.finish(&scan(PERSON.0, TO, "at the end")).expect(250);
    drop((busy, idle));
    daemon.end().expect_status(0);
    let queued = office.home.json(["queue", "list", "--all"]);
    assert_eq!(queued.as_array().unwrap().len(), 1, "{queued}");
}

#[test]
fn what_a_rehearsal_refuses_is_counted_apart() {
    let rehearse = "rehearse = { from = \"2026-01-01T00:00:00Z\" }";
    let office = office(&format!("{OFFICE}{rehearse}\n"), "");
    let daemon = Daemon::start(&office.home);
    let Some(mut device) = Device::new() else {
        return skip(NO_PYTHON);
    };
    device
        .connect(daemon.gateway_port("office"), "starttls")
        .expect(220);
    for _ in 0..2 {
        device.auth("PLAIN", DEVICE, PASSWORD).expect(550);
    }
    let shown = daemon.gateway("office");
    assert_eq!(
        (&shown["refused"], &shown["rehearsed"]),
        (&json!(0), &json!(2))
    );
    let text = office.home.run(["status"]).expect_status(0).stdout;
    assert!(text.contains("0 refused, 2 rehearsed"), "{text}");
}

/// A certificate and its key that end in five days, for one gateway each.
fn certificate(directory: &Path) {
    let mut params = rcgen::CertificateParams::new(vec!["mail.example.org".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + Duration::from_hours(5 * 24)).into();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    write_private(&directory.join("gateway.pem"), made.pem());
    write_private(&directory.join("gateway.key"), key.serialize_pem());
}

#[test]
fn that_a_certificate_ends_is_not_told_again_after_a_restart() {
    let named = format!("{OFFICE}certificate = \"gateway.pem\"\nkey = \"gateway.key\"\n");
    let office = office(&named, "");
    certificate(office.home.path());
    let accounts = fs::read_to_string(office.home.path().join("postrider.toml")).unwrap();
    let daemon = Daemon::start(&office.home);
    daemon.says("its certificate ends");
    until("that is kept", || {
        let vault = office.home.json(["vault", "status"]);
        (vault["records"]["notice"] == 1).then_some(())
    });
    daemon.terminate().expect_status(0);

    // Those of one are looked at after those of the other.
    let zoo = named.replace("office", "zoo");
    office.home.configure(&format!("{zoo}{accounts}"));
    let daemon = Daemon::start(&office.home);
    let told = until("one is told", || {
        let told = daemon.said("its certificate ends");
        (!told.is_empty()).then_some(told)
    });
    let gateways: Vec<&Value> = told.iter().map(|line| &line["gateway"]).collect();
    assert_eq!(gateways, [&json!("zoo")]);
    daemon.terminate().expect_status(0);
}
