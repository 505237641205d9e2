//! The doctor at a gateway: why a device cannot send, and the next step.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::device::Device;
use support::office::{Office, hurried, until};
use support::sandbox::PERSON;
use support::{Ended, read_to_string, skip, write_private};

const DEVICE: &str = "printer-2";
const PASSWORD: &str = "correct-horse-battery-9";

/// A gateway for programs on this machine.
const OFFICE: &str = "[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n";

/// An office with these gateways, where the device may send through `office`.
fn office(gateways: &str) -> Office {
    let office = Office::with(gateways);
    office.admit("office", DEVICE, PASSWORD);
    office
}

fn doctor(office: &Office, more: &[&str]) -> Ended {
    let arguments = ["doctor", "--gateway", "office"];
    office.home.run(arguments.iter().chain(more).copied())
}

/// What was found of the gateway, and the exit status that came with it.
#[track_caller]
fn report(office: &Office, more: &[&str], status: i32) -> Value {
    let arguments: Vec<&str> = ["--json"].iter().chain(more).copied().collect();
    let answer = doctor(office, &arguments).expect_status(status).json();
    let report = answer["gateways"][0].clone();
    assert_eq!(report["gateway"], "office", "{answer:#}");
    assert_eq!(report["ok"], status == 0, "{answer:#}");
    let shown = report.to_string();
    assert!(!shown.contains(PASSWORD), "{shown}");
    report
}

/// A stage of the report.
#[track_caller]
fn stage<'r>(report: &'r Value, name: &str) -> &'r Value {
    let mut stages = report["stages"].as_array().unwrap().iter();
    let found = stages.find(|stage| stage["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// The stage stands as it is to stand, and these are parts of what it says.
#[track_caller]
fn says(report: &Value, name: &str, result: &str, parts: &[&str]) {
    let stage = stage(report, name);
    assert_eq!(stage["result"], result, "{report:#}");
    let shown = stage.to_string();
    for part in parts {
        assert!(shown.contains(part), "{part:?} is not in {stage:#}");
    }
}

/// The device at the gateway's only listener; nothing where there is no Python.
fn device(daemon: &Daemon) -> Option<Device> {
    let mut device = Device::new()?;
    let port = daemon.gateway_port("office");
    device.connect(port, "starttls").expect(220);
    Some(device)
}

#[test]
fn where_all_is_well_each_stage_says_what_it_saw() {
    let secure =
        "[gateway.secure]\nlisten = \"127.0.0.1:0\"\ntls = \"implicit\"\naccount = \"sandbox\"\n";
    let office = office(&format!("{OFFICE}{secure}"));
    let daemon = Daemon::start(&office.home);

    let found = report(&office, &[], 0);
    assert_eq!(found["verdict"], "nothing is wrong");
    for (name, parts) in [
        ("config", &["tls starttls", "sends through sandbox"][..]),
        ("daemon", &["pid ", "messages taken 0, refused 0"]),
        ("certificate", &["self-made", "gateway/office.pem, ends 20"]),
        ("listener", &["127.0.0.1:", "220 "]),
        ("tls", &["TLS 1.3", "certificate CN="]),
        ("clients", &["127.0.0.0/8"]),
        ("credentials", &["1 device has a password: printer-2"]),
        ("account", &["sandbox: nothing is wrong"]),
    ] {
        says(&found, name, "ok", parts);
    }
    says(&found, "rehearsal", "skipped", &["none is configured"]);

    // Only the accounts behind it were looked at, and the doctor is no device that fails.
    let answer = doctor(&office, &["--json"]).json();
    assert_eq!(answer["accounts"].as_array().unwrap().len(), 1);
    let status = daemon.gateway("office");
    assert_eq!(status["failing"], json!([]), "{status:#}");

    // By default there are all of them, and no device for one is a reason to look.
    let all = office.home.run(["doctor", "--json"]).json();
    let gateways = all["gateways"].as_array().unwrap();
    assert_eq!(gateways.len(), 2);
    says(&gateways[1], "tls", "ok", &["TLS 1.3"]);
    says(
        &gateways[1],
        "credentials",
        "failed",
        &[
            "no device has a password",
            "credential add DEVICE --gateway secure",
        ],
    );
    // One account alone is only that.
    let one = office.home.run(["doctor", "sandbox", "--json"]).json();
    assert_eq!(one["gateways"], json!([]));
}

#[test]
fn without_a_daemon_the_cause_is_that_nobody_listens() {
    let office = office(OFFICE);

    let found = report(&office, &[], 69);
    says(
        &found,
        "daemon",
        "failed",
        &["network.no_daemon", "nobody listens", "postrider serve"],
    );
    says(&found, "listener", "skipped", &["no daemon runs"]);
    says(&found, "certificate", "ok", &["self-made"]);
    says(&found, "credentials", "ok", &[]);
    says(&found, "account", "ok", &[]);

    // People read the cause first, and the same offline.
    for more in [&[][..], &["--offline"]] {
        let said = doctor(&office, more).expect_status(69).stdout;
        let line = "gateway office: failed: daemon failed: no daemon runs with these settings, so \
                    nobody listens on 127.0.0.1:0\n  try: start it: systemctl start postrider, or \
                    postrider serve\n  who: you; waiting does not help\n";
        assert!(said.contains(line), "{said}");
    }
    // Who forgets what it is the name of hears how to ask.
    let said = office.home.run(["doctor", "office"]).expect_status(78);
    assert!(
        said.stderr.contains("postrider doctor --gateway office"),
        "{said:?}"
    );
    // Nor is it asked where that is not wanted.
    let alone = report(&office, &["--no-daemon"], 0);
    says(&alone, "daemon", "skipped", &["--no-daemon"]);
}

#[test]
fn whoever_has_the_port_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let office = office(&OFFICE.replace(":0", &format!(":{port}")));
    let own = format!("pid {} listens there", std::process::id());
    let found = report(&office, &[], 78);
    says(&found, "listener", "failed", &[&own, "another port"]);
    // To start it would not help: the cause comes first.
    let cause = format!("listener failed: gateway \"office\" cannot listen on 127.0.0.1:{port}");
    let verdict = found["verdict"].as_str().unwrap();
    assert!(verdict.starts_with(&cause), "{found:#}");
    says(
        &found,
        "daemon",
        "failed",
        &["when that is put right, start it"],
    );
}

#[test]
fn what_keeps_a_daemon_from_starting_is_the_cause() {
    let office = office(OFFICE);
    let private = fs::metadata(office.home.state()).unwrap().permissions();
    fs::set_permissions(office.home.state(), Permissions::from_mode(0o1777)).unwrap();
    let answer = doctor(&office, &["--json"]).expect_status(78).json();
    fs::set_permissions(office.home.state(), private).unwrap();
    let found = &answer["gateways"][0];
    says(
        found,
        "state",
        "failed",
        &["config.state_dir_unsafe", "chmod 700"],
    );
    let verdict = found["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("state failed: "), "{answer:#}");

    let files = "certificate = \"office.pem\"\nkey = \"office.key\"\n";
    let office = self::office(&format!("{OFFICE}{files}"));
    let found = report(&office, &[], 78);
    let verdict = found["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("certificate failed: "), "{found:#}");
}

#[test]
fn mail_that_does_not_go_on_by_itself_is_a_thing_to_look_at() {
    let office = office(OFFICE);
    says(&report(&office, &[], 69), "queue", "ok", &["nothing waits"]);
    let daemon = Daemon::start(&office.home);
    office.fault("smtp_message", &json!({ "reply": "554 5.6.0 No" }));
    office.comes_to(&office.queue("refused", &[]), "failed");

    let found = report(&office, &[], 0);
    assert_eq!(found["verdict"], "nothing is wrong; one thing to look at");
    says(&found, "state", "ok", &["MiB free"]);
    says(
        &found,
        "queue",
        "warning",
        &[
            "queue.failed",
            "mail of sandbox to 1 recipient failed",
            "queue list --account sandbox --state failed",
        ],
    );
    daemon.terminate().expect_status(0);
}

#[test]
fn clients_that_cannot_come_to_a_listener_are_the_cause() {
    let listens = "[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n";
    let printers = office(&format!("{listens}clients = [\"192.168.1.0/24\"]\n"));
    let _daemon = Daemon::start(&printers.home);
    let found = report(&printers, &[], 78);
    says(
        &found,
        "clients",
        "failed",
        &[
            "nobody in 192.168.1.0/24 can reach 127.0.0.1:0",
            "set gateway.office.listen",
        ],
    );
    // Who would be turned away does not try.
    says(&found, "listener", "skipped", &["none of `clients`"]);

    let both = "clients = [\"127.0.0.0/8\", \"192.168.1.0/24\"]\n";
    let both = office(&format!("{listens}{both}"));
    let _daemon = Daemon::start(&both.home);
    let found = report(&both, &[], 0);
    says(&found, "clients", "warning", &["nobody in 192.168.1.0/24"]);
    says(&found, "listener", "ok", &["220 "]);
}

#[test]
fn a_listener_on_all_addresses_is_met_where_clients_meet_it() {
    let settings = "[gateway.office]\nlisten = \"0.0.0.0:0\"\naccount = \"sandbox\"\n\
                    clients = [\"127.0.0.0/8\"]\n";
    let office = office(settings);
    let _daemon = Daemon::start(&office.home);
    let found = report(&office, &[], 0);
    says(&found, "listener", "ok", &["0.0.0.0:", "220 "]);
    says(&found, "clients", "ok", &[]);
}

#[test]
fn a_certificate_that_has_ended_or_is_none_is_named() {
    let files = "certificate = \"office.pem\"\nkey = \"office.key\"\n";
    let office = office(&format!("{OFFICE}{files}"));
    let write = |name: &str, text: &str| write_private(&office.home.path().join(name), text);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |year| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&key).unwrap().pem()
    };
    write("office.pem", &certificate(2020));
    write("office.key", &key.serialize_pem());
    let daemon = Daemon::start(&office.home);
    let found = report(&office, &[], 69);
    says(
        &found,
        "certificate",
        "failed",
        &["tls.expired", "ended on 2020-01-01", "without a restart"],
    );
    // It is shown, all the same.
    says(&found, "tls", "ok", &["expires 2020-01-01"]);

    write("office.pem", &certificate(2100));
    daemon.hang_up();
    let found = report(&office, &[], 0);
    says(&found, "certificate", "ok", &["ends 2100-01-01"]);
    says(&found, "tls", "ok", &["expires 2100-01-01"]);

    write("office.key", "no key");
    let found = report(&office, &[], 78);
    says(&found, "certificate", "failed", &["office.key", "PEM"]);
    says(&found, "tls", "skipped", &["cannot be read here"]);
}

#[test]
fn an_account_that_cannot_send_is_the_cause() {
    let office = office(OFFICE);
    let _daemon = Daemon::start(&office.home);
    office
        .sandbox
        .break_tokens(json!({ "http": { "status": 503 } }));
    let found = report(&office, &[], 75);
    says(
        &found,
        "account",
        "failed",
        &["sandbox: ", "503", "auth.unavailable"],
    );
    let verdict = found["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("account failed: sandbox: "),
        "{verdict}"
    );
}

#[test]
fn an_account_that_takes_over_later_is_a_thing_to_look_at() {
    let mut office = Office::at(|sandbox| {
        format!(
            "{OFFICE}mode = \"observe\"\nobserve_account = \"old\"\n\
             [account.old]\nusername = \"{}\"\nsender = \"{}\"\nca_file = \"{}\"\n\
             server = {{ host = \"localhost\", port = {}, tls = \"starttls\" }}\n\
             auth = {{ plugin = \"basic\", password = {{ env = \"OLD_PASSWORD\" }} }}\n{}",
            PERSON.0,
            PERSON.0,
            sandbox.ca_file(),
            sandbox.smtp_port(),
            hurried(sandbox.config())
        )
    });
    office.home.set(("OLD_PASSWORD", PERSON.1));
    office.admit("office", DEVICE, PASSWORD);
    let _daemon = Daemon::start(&office.home);
    office
        .sandbox
        .break_tokens(json!({ "http": { "status": 503 } }));
    // The doctor's exit status is the account's; the gateway takes mail and sends it.
    let answer = doctor(&office, &["--json"]).expect_status(75).json();
    let found = &answer["gateways"][0];
    assert_eq!(found["ok"], true, "{found:#}");
    says(
        found,
        "config",
        "ok",
        &["sends through old, later through sandbox"],
    );
    says(found, "account", "ok", &["old: nothing is wrong"]);
    let accounts = found["stages"].as_array().unwrap().iter();
    let mut later = accounts.filter(|stage| stage["name"] == "account").skip(1);
    assert_eq!(later.next().unwrap()["result"], "warning", "{found:#}");
}

#[test]
fn settings_that_are_not_in_force_are_told() {
    let office = office(OFFICE);
    let daemon = Daemon::start(&office.home);
    let path = office.home.path().join("postrider.toml");
    let before = read_to_string(&path);
    // What is to be loaded cannot be: somebody has the second gateway's port.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let second = format!("[gateway.second]\nlisten = \"{taken}\"\naccount = \"sandbox\"\n");
    write_private(&path, format!("{second}{before}"));
    office.home.run(["reload"]);

    let found = report(&office, &[], 0);
    says(
        &found,
        "daemon",
        "warning",
        &[
            "goes by older settings",
            "postrider reload",
            "listens there",
        ],
    );
    let other = office.home.run(["doctor", "--gateway", "second", "--json"]);
    let other = other.expect_status(78).json()["gateways"][0].clone();
    says(
        &other,
        "daemon",
        "failed",
        &["does not have this gateway yet"],
    );
    let own = format!("pid {} listens there", std::process::id());
    says(&other, "listener", "failed", &[&own]);
    let verdict = other["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("listener failed: "), "{other:#}");
    let status = office.home.run(["status"]).expect_status(0).stdout;
    assert!(status.contains(&own), "{status}");
    // The port is free again: what is left to do is said.
    drop(holder);
    let other = office.home.run(["doctor", "--gateway", "second", "--json"]);
    let other = other.expect_status(78).json()["gateways"][0].clone();
    says(&other, "listener", "skipped", &["does not have it"]);
    daemon.terminate().expect_status(0);
}

#[test]
fn devices_that_fail_and_a_rehearsal_are_things_to_look_at() {
    let rehearse = "rehearse = { from = \"2020-01-01\", devices = [\"scanner\"] }\n";
    let office = office(&format!(
        "{OFFICE}{rehearse}clients = [\"127.0.0.1\", \"127.0.0.2\"]\n[gateway.office.device.scanner]\n"
    ));
    let daemon = Daemon::start(&office.home);
    let Some(mut printer) = device(&daemon) else {
        return skip("python3 is not installed");
    };
    printer
        .auth("PLAIN", DEVICE, "another password")
        .expect(535);
    until("it is counted", || {
        let failing = &daemon.gateway("office")["failing"];
        (failing.as_array().unwrap().len() == 1).then_some(())
    });

    let found = report(&office, &[], 0);
    assert_eq!(found["verdict"], "nothing is wrong; 3 things to look at");
    says(
        &found,
        "device",
        "warning",
        &[
            "printer-2 (127.0.0.1): failed once, last ",
            "535 5.7.8",
            "credential add printer-2 --gateway office --replace",
        ],
    );
    says(
        &found,
        "rehearsal",
        "warning",
        &[
            "refuses scanner with 550 5.7.30",
            "0 refused so far",
            "take rehearse out",
        ],
    );
    says(
        &found,
        "credentials",
        "warning",
        &["scanner has settings and no password"],
    );
    daemon.terminate().expect_status(0);
}
