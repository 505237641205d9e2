//! `postrider gateway`: a gateway and its devices' passwords, from nothing, and what is refused.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use support::home::Home;
use support::{Ended, read_to_string, run, run_with, write_private};

const ACCOUNTS: &str = "# Kept as it is.
[account.alerts]
username = \"alerts@contoso.com\"
server = { host = \"smtp.contoso.com\" }
auth = { plugin = \"basic\", password = { env = \"P\" } }
";

fn home(more: &str) -> Home {
    Home::new(&format!("{ACCOUNTS}{more}"))
}

fn gateway(home: &Home, arguments: &[&str]) -> Ended {
    let all = ["gateway"].into_iter().chain(arguments.iter().copied());
    run(&mut home.postrider(all))
}

fn config(home: &Home) -> String {
    read_to_string(&home.path().join("postrider.toml"))
}

/// What follows `word` in the settings page.
#[track_caller]
fn typed(page: &Ended, word: &str) -> String {
    let mut lines = page.stdout.lines();
    let line = lines.find_map(|line| line.trim_start().strip_prefix(word));
    line.unwrap_or_else(|| panic!("{word}: {}", page.stdout))
        .trim()
        .to_owned()
}

/// Every file below, with its content.
fn octets_below(directory: &Path) -> Vec<u8> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(octets_below(&path));
        } else {
            found.extend(fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn two_commands_lead_from_an_account_to_a_settings_page() {
    let home = home("");

    let added = gateway(&home, &["add", "office"]).expect_status(0);
    assert!(
        added
            .stdout
            .contains("127.0.0.1:2525, for this machine alone"),
        "{}",
        added.stdout
    );
    assert!(
        added.stdout.contains("as alerts@contoso.com"),
        "{}",
        added.stdout
    );
    assert!(config(&home).starts_with(ACCOUNTS), "{}", config(&home));

    let page = gateway(&home, &["credential", "add", "printer-2"]).expect_status(0);
    assert_eq!(typed(&page, "server"), "127.0.0.1");
    assert_eq!(typed(&page, "port"), "2525");
    assert_eq!(typed(&page, "encryption"), "STARTTLS");
    assert_eq!(typed(&page, "user name"), "printer-2");
    assert_eq!(typed(&page, "sender"), "alerts@contoso.com");
    let password = typed(&page, "password");
    assert!(password.len() >= 24, "{password}");

    // The certificate to trust is the one that is said, and its key is not shown.
    let pem = gateway(&home, &["certificate"]).expect_status(0).stdout;
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    assert!(!pem.contains("PRIVATE"), "{pem}");
    let answer = home.json(["gateway", "certificate", "office"]);
    assert_eq!(answer["self_made"], true);
    assert!(
        page.stdout
            .contains(answer["fingerprint"].as_str().unwrap()),
        "{}",
        page.stdout
    );
    let kept = home.state().join("gateway/office.pem");
    let mode = fs::metadata(kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // It is shown once: not kept in clear, with dashes or without.
    let octets = octets_below(home.path());
    let bare = password.replace('-', "");
    for text in [password.as_str(), &bare] {
        let found = octets
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(!found, "the password is on the disk");
    }
    let listed = gateway(&home, &["credential", "list"])
        .expect_status(0)
        .stdout;
    assert!(
        listed.contains("printer-2") && !listed.contains(&password),
        "{listed}"
    );
}

#[test]
fn an_office_is_written_down_as_it_was_said() {
    let home = home("");
    let arguments = [
        "add",
        "office",
        "--listen",
        "127.0.0.1:2587",
        "--listen",
        "127.0.0.1:2588",
        "--account",
        "alerts",
        "--client",
        "127.0.0.0/8",
        "--tls",
        "offered",
        "--sender",
        "@contoso.com",
        "--rewrite-from",
        "--quirk",
        "login_nul",
        "--hostname",
        "mail.contoso.com",
    ];
    gateway(&home, &arguments).expect_status(0);

    let written = config(&home);
    for line in [
        "[gateway.office]",
        "listen = [\"127.0.0.1:2587\", \"127.0.0.1:2588\"]",
        "tls = \"offered\"",
        "clients = [\"127.0.0.0/8\"]",
        "account = \"alerts\"",
        "senders = [\"@contoso.com\"]",
        "rewrite_from = true",
        "quirks = [\"login_nul\"]",
        "hostname = \"mail.contoso.com\"",
    ] {
        assert!(
            written.lines().any(|written| written == line),
            "{line}: {written}"
        );
    }
    let all = home.json(["gateway", "list"]);
    assert_eq!(all[0]["name"], "office");
    assert_eq!(all[0]["tls"], "offered");
    assert_eq!(all[0]["defaults"]["senders"]["domains"][0], "contoso.com");
    let listed = gateway(&home, &["list"]).expect_status(0).stdout;
    assert!(listed.contains("quirks login_nul"), "{listed}");
    let checked = run(&mut home.postrider(["check"])).expect_status(0).stdout;
    assert!(checked.contains("1 account, 1 gateway"), "{checked}");
}

#[test]
fn what_would_be_open_to_others_is_not_written() {
    let home = home("");
    let before = config(&home);
    for (arguments, remedy) in [
        (&["--listen", "0.0.0.0:2525"][..], "clients"),
        (
            &["--listen", "127.0.0.1:1", "--client", "0.0.0.0/0"],
            "danger_clients_anywhere",
        ),
        (&["--tls", "danger_plaintext"], "clients"),
        (&["--sender", "*"], "rewrite_from"),
        (&["--account", "alert"], "alerts"),
        (&["--quirk", "bare_fl"], "bare_lf"),
    ] {
        let all: Vec<&str> = ["add", "office"].iter().chain(arguments).copied().collect();
        let refused = gateway(&home, &all).expect_status(78);
        assert!(refused.stderr.contains(remedy), "{}", refused.stderr);
        // It is a line of no file.
        assert!(!refused.stderr.contains("line "), "{}", refused.stderr);
        assert_eq!(config(&home), before);
    }
    // There is no option for it either.
    gateway(&home, &["add", "office", "--no-auth"]).expect_status(64);

    gateway(&home, &["add", "office"]).expect_status(0);
    let twice = gateway(&home, &["add", "office"]).expect_status(78);
    assert!(twice.stderr.contains("already"), "{}", twice.stderr);
    let beside = gateway(&home, &["add", "other"]).expect_status(78);
    assert!(
        beside.stderr.contains("listens on 127.0.0.1:2525 already"),
        "{}",
        beside.stderr
    );
}

#[test]
fn without_an_account_it_is_said_how_to_make_one() {
    let (missing, config) = Home::empty();
    let empty = Home::new("# Nothing yet.\n");
    for home in [missing, empty] {
        for account in [&[][..], &["--account", "alerts"]] {
            let all: Vec<&str> = ["add", "office"].iter().chain(account).copied().collect();
            let refused = gateway(&home, &all).expect_status(78);
            assert!(
                refused.stderr.contains("make one: postrider setup"),
                "{}",
                refused.stderr
            );
        }
    }
    assert!(!config.exists());
}

#[test]
fn an_account_that_is_not_there_is_no_line_of_a_file() {
    let home = home(
        "[account.scans]\nusername = \"scans@contoso.com\"\n\
                     server = { host = \"smtp.contoso.com\" }\n\
                     auth = { plugin = \"basic\", password = { env = \"P\" } }\n",
    );
    let before = config(&home);
    let refused = |arguments: &[&str], status: i32| {
        let refused = gateway(&home, arguments).expect_status(status).stderr;
        assert_eq!(config(&home), before);
        assert!(!refused.contains("toml:"), "{refused}");
        refused
    };
    let misspelt = refused(&["add", "office", "--account", "scan"], 78);
    assert!(misspelt.contains("did you mean \"scans\"?"), "{misspelt}");
    let unlike = refused(&["add", "office", "--account", "xyz"], 78);
    assert!(unlike.contains("it has: alerts, scans"), "{unlike}");
    let observed = ["add", "office", "--account", "alerts", "--observe", "xyz"];
    let observed = refused(&observed, 78);
    assert!(observed.contains("account \"xyz\""), "{observed}");
    let which = refused(&["add", "office"], 64);
    assert!(
        which.contains("alerts, scans") && which.contains("--account NAME"),
        "{which}"
    );
}

#[test]
fn a_device_may_have_settings_of_its_own() {
    let home = home("[gateway.office]\n[gateway.lab]\nlisten = \"127.0.0.1:2526\"\n");
    let which = gateway(&home, &["credential", "add", "ups"]).expect_status(64);
    assert!(which.stderr.contains("lab, office"), "{}", which.stderr);

    let arguments = [
        "credential",
        "add",
        "scanner@contoso.com",
        "--gateway",
        "office",
        "--sender",
        "scans@contoso.com",
        "--note",
        "2nd floor",
    ];
    let page = gateway(&home, &arguments).expect_status(0);
    assert_eq!(typed(&page, "sender"), "scans@contoso.com");
    let table =
        "[gateway.office.device.\"scanner@contoso.com\"]\nsenders = [\"scans@contoso.com\"]";
    assert!(config(&home).contains(table), "{}", config(&home));

    // What is not right is refused before there is a password.
    let arguments = [
        "credential",
        "add",
        "ups",
        "--gateway",
        "lab",
        "--account",
        "alert",
    ];
    gateway(&home, &arguments).expect_status(78);
    let listed = home.json(["gateway", "credential", "list"]);
    let credentials = listed["credentials"].as_array().unwrap();
    assert_eq!(credentials.len(), 1);
    assert_eq!(credentials[0]["device"], "scanner@contoso.com");
    assert_eq!(credentials[0]["note"], "2nd floor");
    gateway(&home, &["credential", "add", "a/b", "--gateway", "lab"]).expect_status(64);
}

#[test]
fn a_password_is_replaced_only_when_that_is_said() {
    let home = home("[gateway.office]\n");
    let add = |more: &[&str]| {
        let all = ["credential", "add", "printer-2"].iter().chain(more);
        gateway(&home, &all.copied().collect::<Vec<_>>())
    };
    let first = typed(&add(&["--note", "hall"]).expect_status(0), "password");
    let refused = add(&[]).expect_status(78);
    assert!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    let second = add(&["--replace", "--json"]).expect_status(0).json();
    assert_eq!(second["replaced"], true);
    assert_ne!(second["password"], Value::from(first));

    let listed = home.json(["gateway", "credential", "list"]);
    let one = &listed["credentials"][0];
    assert!(
        one["created_at"].is_string() && one["last_rotated_at"].is_string(),
        "{one}"
    );
    assert_eq!(one["note"], "hall");
}

#[test]
fn a_password_that_a_device_has_is_taken_and_not_repeated() {
    let home = home("[gateway.office]\n");
    let add = |password: &str| {
        let arguments = ["gateway", "credential", "add", "copier", "--password-stdin"];
        run_with(&mut home.postrider(arguments), password)
    };
    let short = add("hunter2\n").expect_status(78);
    assert!(
        short.stderr.contains("too short") && !short.stderr.contains("hunter2"),
        "{}",
        short.stderr
    );

    let taken = add("hunter2-hunter2\n").expect_status(0);
    assert_eq!(typed(&taken, "password"), "the one that it has");
    assert!(!taken.stdout.contains("hunter2"), "{}", taken.stdout);
}

#[test]
fn what_is_removed_is_asked_for_and_gone() {
    let home = home("[gateway.office]\n[gateway.office.device.ups]\n");
    for device in ["printer-2", "ups"] {
        gateway(&home, &["credential", "add", device]).expect_status(0);
    }
    let remove = |more: &[&str]| {
        let all = ["credential", "remove"].iter().chain(more);
        gateway(&home, &all.copied().collect::<Vec<_>>())
    };
    let unasked = remove(&["ups"]).expect_status(64);
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let misspelt = remove(&["printer-3", "--yes"]).expect_status(64);
    assert!(misspelt.stderr.contains("printer-2"), "{}", misspelt.stderr);
    remove(&["ups", "--yes"]).expect_status(0);
    let listed = gateway(&home, &["credential", "list"])
        .expect_status(0)
        .stdout;
    assert!(
        listed.contains("missing  ups has settings at gateway office"),
        "{listed}"
    );

    gateway(&home, &["remove", "office"]).expect_status(64);
    gateway(&home, &["remove", "office", "--yes"]).expect_status(0);
    assert_eq!(config(&home).trim_end(), ACCOUNTS.trim_end());
    let listed = home.json(["gateway", "credential", "list"]);
    assert_eq!(listed["credentials"].as_array().unwrap().len(), 0);
}

#[test]
fn a_gateway_with_certificate_files_can_be_removed() {
    let home = home(
        "[gateway.office]\ncertificate = \"gateway.pem\"\nkey = \"gateway.key\"\n\
         rewrite_from = true\nmessages_per_minute = 3\n",
    );
    gateway(&home, &["remove", "office", "--yes"]).expect_status(0);
    assert_eq!(config(&home).trim_end(), ACCOUNTS.trim_end());
}

#[test]
fn a_report_names_who_is_not_ready_and_the_next_step() {
    let home = home("[gateway.office]\n[gateway.office.device.ups]\n");
    gateway(&home, &["credential", "add", "printer-2"]).expect_status(0);

    let report = home.json(["gateway", "report"]);
    assert_eq!(report["ledger"]["exists"], false);
    let devices = report["devices"].as_array().unwrap();
    let named: Vec<&str> = devices
        .iter()
        .map(|one| one["device"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["printer-2", "ups"]);
    let codes = |device: &Value| -> Vec<String> {
        let obstacles = device["obstacles"].as_array().unwrap().iter();
        obstacles
            .map(|one| one["code"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(codes(&devices[0]), ["password_account", "never_seen"]);
    assert_eq!(codes(&devices[1])[0], "no_credential");

    let said = gateway(&home, &["report"]).expect_status(0).stdout;
    for part in [
        "office/printer-2: the account alerts signs in with a password",
        "next: postrider gateway credential add ups --gateway office",
        "Nothing was seen yet",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let one = gateway(&home, &["report", "--device", "printer-2"])
        .expect_status(0)
        .stdout;
    assert!(
        one.contains("first seen never") && !one.contains("ups"),
        "{one}"
    );
    let other = gateway(&home, &["report", "--device", "fax"])
        .expect_status(0)
        .stdout;
    assert!(
        other.contains("nothing is known of a device fax"),
        "{other}"
    );
    gateway(&home, &["report", "--days", "0"]).expect_status(64);
}

#[test]
fn check_names_certificates_that_cannot_be_used() {
    let home = home("[gateway.office]\ncertificate = \"office.pem\"\nkey = \"office.key\"\n");
    let check = || run(&mut home.postrider(["check"])).expect_status(78).stdout;
    let said = check();
    assert!(
        said.contains("office.pem") && said.contains(":7:"),
        "{said}"
    );

    let make = || rcgen::generate_simple_self_signed(["mail.contoso.com".to_owned()]).unwrap();
    let (one, other) = (make(), make());
    write_private(&home.path().join("office.pem"), one.cert.pem());
    write_private(
        &home.path().join("office.key"),
        other.signing_key.serialize_pem(),
    );
    let said = check();
    assert!(said.contains("the key is not this certificate's"), "{said}");
    assert!(
        said.contains("gateway.office.certificate") && said.contains(":7:"),
        "{said}"
    );

    // What is wrong with the key's file stands at the key.
    let key = home.path().join("office.key");
    for text in ["no key", ""] {
        write_private(&key, text);
        let said = check();
        assert!(
            said.contains("gateway.office.key") && said.contains(":8:"),
            "{said}"
        );
    }
    fs::remove_file(&key).unwrap();
    let said = check();
    assert!(
        said.contains("gateway.office.key") && said.contains(":8:"),
        "{said}"
    );

    let mut params = rcgen::CertificateParams::new(["mail.contoso.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let ended = params.self_signed(&one.signing_key).unwrap();
    write_private(&home.path().join("office.pem"), ended.pem());
    write_private(
        &home.path().join("office.key"),
        one.signing_key.serialize_pem(),
    );
    let said = check();
    assert!(said.contains("ended on 2020-01-01"), "{said}");

    write_private(&home.path().join("office.pem"), one.cert.pem());
    run(&mut home.postrider(["check"])).expect_status(0);
}
