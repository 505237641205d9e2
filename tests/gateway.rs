//! The gateway, as devices meet it: a password of its own in, OAuth out, and nothing lost between.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::device::{Device, scan};
use support::office::{Office, TO, field, until};
use support::sandbox::PERSON;
use support::{read_to_string, run_with, skip, write_private};

/// What the devices type.
const PASSWORD: &str = "kbzw-4fhm-q7tx-93vr-dpnc";
/// The sender of the account `sandbox`.
const SENDER: &str = "alerts@contoso.com";
/// Another device's.
const OTHER_PASSWORD: &str = "h6jd-w2ms-zr8k-t5yb-xq3f";

/// One gateway for STARTTLS, on any free port.
const OFFICE: &str = "[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n";

/// An office with these gateways, where `printer-2` may send through `office`.
fn office(gateways: &str) -> Office {
    let office = Office::with(gateways);
    office.admit("office", "printer-2", PASSWORD);
    office
}

/// A device that is connected, or nothing where there is no Python.
fn connected(daemon: &Daemon, gateway: &str, tls: &str) -> Option<Device> {
    let mut device = Device::new()?;
    device
        .connect(daemon.gateway_port(gateway), tls)
        .expect(220);
    Some(device)
}

/// The same, and signed in as `printer-2`.
fn signed_in(daemon: &Daemon, gateway: &str) -> Option<Device> {
    let mut device = connected(daemon, gateway, "starttls")?;
    device.auth("PLAIN", "printer-2", PASSWORD).expect(235);
    Some(device)
}

const NO_PYTHON: &str = "python3 is not installed";

#[test]
fn a_password_of_the_gateways_own_goes_in_and_oauth_goes_out() {
    let office = office(&format!(
        "{OFFICE}[gateway.secure]\nlisten = \"127.0.0.1:0\"\ntls = \"implicit\"\naccount = \"sandbox\"\n"
    ));
    office.admit("secure", "scanner", OTHER_PASSWORD);
    let daemon = Daemon::start(&office.home);

    for (gateway, tls, mechanism, device, password) in [
        ("office", "starttls", "PLAIN", "printer-2", PASSWORD),
        ("office", "starttls", "LOGIN", "printer-2", PASSWORD),
        ("secure", "implicit", "PLAIN", "scanner", OTHER_PASSWORD),
        ("secure", "implicit", "LOGIN", "scanner", OTHER_PASSWORD),
    ] {
        let Some(mut client) = connected(&daemon, gateway, tls) else {
            return skip(NO_PYTHON);
        };
        client.auth(mechanism, device, password).expect(235);
        let subject = format!("by {tls} and {mechanism}");
        let message = scan(PERSON.0, TO, &subject);
        client.send(PERSON.0, &[TO], &message).expect(250);

        let text = office.arrived(&subject);
        assert_eq!(field(&text, "From"), PERSON.0);
        assert!(text.contains("\r\nReceived: from "), "{text}");
        assert!(text.contains(" with ESMTPSA "), "{text}");
        assert!(!text.contains(password), "{text}");
    }
    // OAuth, and no password of a device, is what the provider saw.
    let log = office.sandbox.control("GET", "log", None).to_string();
    assert!(office.sandbox.token_requests() >= 1);
    for password in [PASSWORD, OTHER_PASSWORD] {
        assert!(!log.contains(password));
    }
    // A credential is for its own gateway.
    let mut stranger = connected(&daemon, "secure", "implicit").unwrap();
    stranger.auth("PLAIN", "printer-2", PASSWORD).expect(535);

    let queued = office.home.json(["queue", "list", "--all"]);
    let origins: Vec<&str> = queued
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["origin"].as_str().unwrap())
        .collect();
    assert!(
        origins.contains(&"gateway office printer-2 127.0.0.1"),
        "{origins:?}"
    );
    let line = daemon.says("accepted from a device");
    for (key, value) in [
        ("gateway", "secure"),
        ("device", "scanner"),
        ("client", "127.0.0.1"),
        ("sender", PERSON.0),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn a_wrong_password_and_an_unknown_device_are_told_the_same() {
    let office = office(OFFICE);
    let daemon = Daemon::start(&office.home);
    let mut replies = Vec::new();
    // An address that fails again and again waits longer each time.
    let mut addresses = (1..).map(|last| format!("127.0.0.{last}"));
    for (device, password) in [
        ("printer-2", OTHER_PASSWORD),
        ("nobody-here", PASSWORD),
        ("nobody-here", OTHER_PASSWORD),
    ] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let Some(mut client) = Device::new() else {
                return skip(NO_PYTHON);
            };
            let (from, to) = (addresses.next().unwrap(), daemon.gateway_port("office"));
            client.connect_from(&from, to, "starttls").expect(220);
            let reply = client.auth(mechanism, device, password);
            assert_eq!(reply.code, 535, "{reply:?}");
            replies.push(reply.text);
            let message = scan(PERSON.0, TO, "never");
            let refused = client.send(PERSON.0, &[TO], &message);
            assert_eq!(refused.code, 530, "{refused:?}");
        }
    }
    replies.dedup();
    assert_eq!(replies.len(), 1, "{replies:?}");

    let said = daemon.says("a sign-in failed");
    assert_eq!(said["level"], "WARN", "{said}");
    let shown = daemon.gateway("office");
    let failing = shown["failing"].as_array().unwrap();
    let device = |name: Value| failing.iter().find(|one| one["device"] == name);
    let printer = device(json!("printer-2")).unwrap();
    assert!(["127.0.0.1", "127.0.0.2"].contains(&printer["client"].as_str().unwrap()));
    // What was typed as a name may be a password.
    assert!(device(Value::Null).is_some(), "{failing:?}");
    let ended = daemon.terminate();
    assert!(!ended.stderr.contains("nobody-here"), "{}", ended.stderr);
}

#[test]
fn only_its_senders_are_taken_unless_they_are_to_be_rewritten() {
    let office = office(&format!(
        "{OFFICE}[gateway.rewriting]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\nrewrite_from = true\n"
    ));
    office.admit("rewriting", "printer-2", PASSWORD);
    let daemon = Daemon::start(&office.home);
    let Some(mut strict) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    let foreign = scan("ceo@contoso.com", TO, "as somebody else");

    // Neither on the envelope nor in the header.
    let refused = strict.send("ceo@contoso.com", &[TO], &foreign);
    assert_eq!(refused.code, 550, "{refused:?}");
    let refused = strict.send(PERSON.0, &[TO], &foreign);
    assert_eq!(refused.code, 550, "{refused:?}");

    let mut lenient = signed_in(&daemon, "rewriting").unwrap();
    lenient.send("ceo@contoso.com", &[TO], &foreign).expect(250);
    let text = office.arrived("as somebody else");
    assert!(field(&text, "From").contains(SENDER), "{text}");
    assert!(
        field(&text, "Reply-To").contains("ceo@contoso.com"),
        "{text}"
    );
    assert_eq!(office.subjects(), ["as somebody else"]);
}

#[test]
fn what_was_answered_250_is_in_the_queue_whatever_happens_next() {
    let office = office(OFFICE);
    // The provider is away.
    office.faults("smtp_connect", &json!("close"), None);
    let daemon = Daemon::start(&office.home);
    let Some(mut client) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    for number in 0..5 {
        let message = scan(PERSON.0, TO, &format!("number {number}"));
        client.send(PERSON.0, &[TO], &message).expect(250);
    }
    daemon.kill();

    let queued = office.home.json(["queue", "list"]);
    assert_eq!(queued.as_array().unwrap().len(), 5, "{queued}");
    office.sandbox.mend_tokens();
    office.run(&["flush", "--now"], 0);
    let mut subjects = office.subjects();
    subjects.sort();
    let all: Vec<String> = (0..5).map(|number| format!("number {number}")).collect();
    assert_eq!(subjects, all);
}

#[test]
fn what_a_device_sent_today_counts_after_a_restart() {
    let office = office(&format!("{OFFICE}messages_per_day = 2\n"));
    let daemon = Daemon::start(&office.home);
    let Some(mut client) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    for subject in ["one", "two"] {
        let message = scan(PERSON.0, TO, subject);
        client.send(PERSON.0, &[TO], &message).expect(250);
    }
    daemon.terminate().expect_status(0);

    let daemon = Daemon::start(&office.home);
    let mut client = signed_in(&daemon, "office").unwrap();
    let refused = client.send(PERSON.0, &[TO], &scan(PERSON.0, TO, "three"));
    assert_eq!(refused.code / 100, 4, "{refused:?}");
    daemon.terminate().expect_status(0);
}

#[test]
fn a_gateway_with_another_name_keeps_its_port() {
    let port = support::free_port();
    let config = OFFICE.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let office = Office::with(&config);
    let accounts = read_to_string(&office.home.path().join("postrider.toml"));
    office.admit("office", "printer-2", PASSWORD);
    let daemon = Daemon::start(&office.home);

    let renamed = accounts.replace("gateway.office", "gateway.main");
    office.home.configure(&renamed);
    daemon.hang_up();
    let status = daemon.status();
    assert_eq!(status["last_reload"]["ok"], true, "{status}");
    assert_eq!(
        daemon.gateway("main")["listen"][0],
        format!("127.0.0.1:{port}")
    );

    // Where the new configuration cannot be had, the port goes back to whose it was.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    office.home.configure(&format!(
        "{}{accounts}",
        OFFICE
            .replace("office", "zoo")
            .replace("127.0.0.1:0", &taken.to_string())
    ));
    daemon.hang_up();
    let status = daemon.status();
    assert_eq!(status["last_reload"]["ok"], false, "{status}");
    assert_eq!(
        daemon.gateway("main")["listen"][0],
        format!("127.0.0.1:{port}")
    );
    if let Some(mut client) = Device::new() {
        client.connect(port, "starttls").expect(220);
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn scripts_keep_devices_out_and_change_what_they_send() {
    let office = office(&format!("{OFFICE}[scripts]\nfiles = [\"rules.lua\"]\n"));
    let script = office.home.path().join("rules.lua");
    write_private(
        &script,
        r#"local pr = require "postrider"
pr.on("gateway.auth", function(at)
  assert(at.password == nil)
  if at.device == "scanner" then return false, "not on Mondays" end
end)
pr.on("gateway.mail", function(mail)
  if mail.sender == "ceo@contoso.com" then return false, "not from there" end
end)
pr.on("gateway.message", function(message)
  if message.subject == "refuse me" then return false, "a rule says no" end
  if message.subject == "break me" then error("oops") end
  if message.subject == "promote me" then
    message.headers.from = "ceo@contoso.com"
    return message
  end
  message.subject = "[" .. message.device .. "] " .. message.subject
  return message
end)
"#,
    );
    office.admit("office", "scanner", OTHER_PASSWORD);
    let daemon = Daemon::start(&office.home);
    let Some(mut scanner) = connected(&daemon, "office", "starttls") else {
        return skip(NO_PYTHON);
    };
    let refused = scanner.auth("PLAIN", "scanner", OTHER_PASSWORD);
    assert_eq!(refused.code, 535, "{refused:?}");
    assert!(!refused.text.contains("Mondays"), "{refused:?}");
    daemon.says("not on Mondays");

    let mut printer = signed_in(&daemon, "office").unwrap();
    for (subject, code, words) in [
        ("refuse me", 550, "a rule says no"),
        ("break me", 451, "a rule could not be applied"),
        ("promote me", 451, "a rule could not be applied"),
        ("a page", 250, ""),
    ] {
        let reply = printer.send(PERSON.0, &[TO], &scan(PERSON.0, TO, subject));
        assert_eq!(reply.code, code, "{reply:?}");
        assert!(reply.text.contains(words), "{reply:?}");
        assert!(!reply.text.contains("oops"), "{reply:?}");
    }
    // Whose mistake that is, and where.
    daemon.says("the device may not send as");
    office.arrived("[printer-2] a page");
    assert_eq!(office.subjects(), ["[printer-2] a page"]);
    daemon.terminate().expect_status(0);
}

#[test]
fn a_reload_adds_and_removes_gateways_and_sessions_under_way_go_on() {
    let office = office(OFFICE);
    let accounts = read_to_string(&office.home.path().join("postrider.toml"));
    let daemon = Daemon::start(&office.home);
    let Some(mut client) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    let first = daemon.gateway_port("office");

    let second = OFFICE.replace("office", "annex");
    office.home.configure(&format!("{second}{accounts}"));
    daemon.hang_up();
    // What did not change stays where it is.
    assert_eq!(daemon.gateway_port("office"), first);
    office.admit("annex", "scanner", OTHER_PASSWORD);
    let mut scanner = connected(&daemon, "annex", "starttls").unwrap();
    scanner.auth("LOGIN", "scanner", OTHER_PASSWORD).expect(235);
    let message = scan(PERSON.0, TO, "from the annex");
    scanner.send(PERSON.0, &[TO], &message).expect(250);

    client.begin(PERSON.0, &[TO]).expect(354);
    let only_annex = accounts.replace(OFFICE, &second);
    assert!(!only_annex.contains("[gateway.office]"));
    office.home.configure(&only_annex);
    daemon.hang_up();
    let status = daemon.status();
    assert_eq!(status["gateways"].as_array().unwrap().len(), 1, "{status}");
    // Nobody new comes in, and who is about something ends it.
    let refused = Device::new().unwrap().connect(first, "none");
    assert_eq!(refused.code, 0, "{refused:?}");
    client
        .finish(&scan(PERSON.0, TO, "from before"))
        .expect(250);
    for subject in ["from the annex", "from before"] {
        office.arrived(subject);
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn a_reload_whose_port_is_taken_changes_nothing() {
    let office = office(OFFICE);
    let accounts = read_to_string(&office.home.path().join("postrider.toml"));
    let daemon = Daemon::start(&office.home);
    let first = daemon.gateway_port("office");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();

    let more = OFFICE
        .replace("office", "annex")
        .replace("127.0.0.1:0", &taken.to_string());
    office.home.configure(&format!("{more}{accounts}"));
    daemon.hang_up();

    let status = daemon.status();
    assert_eq!(status["last_reload"]["ok"], false, "{status}");
    let why = status["last_reload"]["message"].as_str().unwrap();
    assert!(why.contains(&taken.to_string()), "{why}");
    assert_eq!(status["gateways"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(daemon.gateway_port("office"), first);
    if let Some(mut client) = signed_in(&daemon, "office") {
        let message = scan(PERSON.0, TO, "as before");
        client.send(PERSON.0, &[TO], &message).expect(250);
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn a_daemon_whose_port_is_taken_does_not_start_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let office = Office::with(&OFFICE.replace("127.0.0.1:0", &taken.to_string()));
    let ended = office.home.run(["serve"]);
    assert_ne!(ended.status, 0);
    for part in [
        "gateway \\\"office\\\"",
        &taken.to_string(),
        "gateway.office.listen",
    ] {
        let part = part.replace('\\', "");
        assert!(ended.stderr.contains(&part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_credential_that_is_removed_opens_nothing_any_more() {
    let office = office(OFFICE);
    let daemon = Daemon::start(&office.home);
    let Some(mut before) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    office.admit("office", "scanner", OTHER_PASSWORD);
    let mut scanner = connected(&daemon, "office", "starttls").unwrap();
    scanner.auth("PLAIN", "scanner", OTHER_PASSWORD).expect(235);
    let first = scan(PERSON.0, TO, "while it may");
    before.send(PERSON.0, &[TO], &first).expect(250);

    let remove = ["gateway", "credential", "remove", "printer-2", "--yes"];
    office.home.run(remove).expect_status(0);
    // Nor does it send in a session that stood.
    let second = scan(PERSON.0, TO, "while it may not");
    let refused = before.send(PERSON.0, &[TO], &second).expect(421);
    assert!(refused.contains("4.7.0 your password was"), "{refused}");
    before.say("NOOP").expect(0);
    let other = scan(PERSON.0, TO, "of another");
    scanner.send(PERSON.0, &[TO], &other).expect(250);

    let mut after = connected(&daemon, "office", "starttls").unwrap();
    after.auth("PLAIN", "printer-2", PASSWORD).expect(535);

    office.admit("office", "printer-2", OTHER_PASSWORD);
    let mut again = connected(&daemon, "office", "starttls").unwrap();
    again.auth("PLAIN", "printer-2", PASSWORD).expect(535);
    let mut again = connected(&daemon, "office", "starttls").unwrap();
    again.auth("PLAIN", "printer-2", OTHER_PASSWORD).expect(235);

    // One that is replaced is one that is gone.
    let replace = ["--gateway", "office", "--replace", "--password-stdin"];
    let replace = [&["gateway", "credential", "add", "printer-2"][..], &replace].concat();
    run_with(&mut office.home.postrider(replace), PASSWORD).expect_status(0);
    again.send(PERSON.0, &[TO], &second).expect(421);
    let mut new = connected(&daemon, "office", "starttls").unwrap();
    new.auth("PLAIN", "printer-2", PASSWORD).expect(235);
    let third = scan(PERSON.0, TO, "with the new one");
    new.send(PERSON.0, &[TO], &third).expect(250);
}

#[test]
fn mail_is_taken_for_an_account_that_needs_a_person_and_the_status_says_so() {
    let office =
        Office::with("[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox-person\"\n");
    office.admit("office", "printer-2", PASSWORD);
    let daemon = Daemon::start(&office.home);
    let Some(mut client) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    let message = scan(PERSON.0, TO, "waits");
    client.send(PERSON.0, &[TO], &message).expect(250);

    let shown = until("the status shows it", || {
        let shown = daemon.gateway("office");
        (shown["waiting"] != Value::Null).then_some(shown)
    });
    assert_eq!(shown["waiting"][0]["name"], "sandbox-person", "{shown}");
    let remedy = shown["waiting"][0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("postrider login sandbox-person"), "{shown}");
    // While delivery asks for a token once more, nobody is waited for.
    let text = until("the status says so", || {
        let text = office.home.run(["status"]).expect_status(0).stdout;
        text.contains("mail is taken and waits").then_some(text)
    });
    assert!(text.contains("postrider login sandbox-person"), "{text}");
    assert_eq!(
        office
            .home
            .json(["queue", "list"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn the_status_shows_where_gateways_listen_and_what_they_took() {
    let office = office(OFFICE);
    let daemon = Daemon::start(&office.home);
    let Some(mut client) = signed_in(&daemon, "office") else {
        return skip(NO_PYTHON);
    };
    let message = scan(PERSON.0, TO, "counted");
    client.send(PERSON.0, &[TO], &message).expect(250);
    let refused = client.send("ceo@contoso.com", &[TO], &message);
    assert_eq!(refused.code, 550, "{refused:?}");

    let ledger = daemon.status()["ledger"].clone();
    assert!(
        ledger["trouble"].is_null() && ledger["lost"] == 0,
        "{ledger}"
    );
    let shown = daemon.gateway("office");
    for (key, value) in [
        ("tls", json!("starttls")),
        ("mode", json!("submit")),
        ("account", json!("sandbox")),
        ("connections", json!(1)),
        ("messages", json!(1)),
        ("refused", json!(1)),
        ("certificate_is_self_made", json!(true)),
    ] {
        assert_eq!(shown[key], value, "{key}: {shown}");
    }
    assert!(shown["certificate_expires_at"].is_string(), "{shown}");
    assert_eq!(shown["failing"][0]["device"], "printer-2", "{shown}");
    let text = office.home.run(["status"]).expect_status(0).stdout;
    let port = daemon.gateway_port("office");
    for part in [
        &format!(
            "gateway      office: 127.0.0.1:{port} (STARTTLS), 1 connection, 1 message taken, 1 refused"
        ),
        "self-made certificate ends in ",
        "printer-2 (127.0.0.1): failed, last ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn three_commands_take_a_printer_from_nothing_to_a_delivered_message() {
    let office = Office::new();
    let free = support::free_port();
    let add = [
        "gateway",
        "add",
        "office",
        "--account",
        "sandbox",
        "--listen",
    ];
    let listen = format!("127.0.0.1:{free}");
    let add = add.iter().copied().chain([&*listen]);
    office.home.run(add).expect_status(0);
    let credential = office
        .home
        .json(["gateway", "credential", "add", "printer-2"]);
    let password = credential["password"].as_str().unwrap();
    let daemon = Daemon::start(&office.home);

    let Some(mut client) = Device::new() else {
        return skip(NO_PYTHON);
    };
    client.connect(free, "starttls").expect(220);
    client.auth("LOGIN", "printer-2", password).expect(235);
    let message = scan(PERSON.0, TO, "three commands");
    client.send(PERSON.0, &[TO], &message).expect(250);
    office.arrived("three commands");
    daemon.terminate().expect_status(0);
    // Nothing but its hash was kept.
    let state = office.home.state();
    for file in support::files(&state, "") {
        let octets = std::fs::read(&file).unwrap();
        let found = octets
            .windows(password.len())
            .any(|window| window == password.as_bytes());
        assert!(!found, "{}", file.display());
    }
}

/// A certificate and its key for 127.0.0.1, in PEM.
fn certificate(directory: &Path, days: i64) -> String {
    let mut params =
        rcgen::CertificateParams::new(vec!["printer-relay.example.org".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    let end = now + std::time::Duration::from_secs(u64::try_from(days).unwrap() * 86_400);
    params.not_after = end.into();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    write_private(&directory.join("gateway.pem"), made.pem());
    write_private(&directory.join("gateway.key"), key.serialize_pem());
    made.pem()
}

#[test]
fn a_certificate_that_is_replaced_is_used_without_a_restart_and_its_end_is_told() {
    let office = Office::with(
        "[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n\
         certificate = \"gateway.pem\"\nkey = \"gateway.key\"\n",
    );
    certificate(office.home.path(), 5);
    office.admit("office", "printer-2", PASSWORD);
    let daemon = Daemon::start(&office.home);
    daemon.says("certificate ends");
    let first = daemon.gateway("office")["certificate_expires_at"].clone();

    certificate(office.home.path(), 300);
    daemon.hang_up();
    until("the new certificate is in use", || {
        let now = daemon.gateway("office")["certificate_expires_at"].clone();
        (now != first).then_some(())
    });
    if let Some(mut client) = signed_in(&daemon, "office") {
        client.say("NOOP").expect(250);
    }
}
