//! A client secret or certificate replaced at Entra ID: by hand and by the daemon, and with
//! `kill -9` at every step.
//!
//! The steps are those that the binary itself passes (`POSTRIDER_CRASH_LOG`), so that none is
//! forgotten: those of the renewal, and those of each file that the vault writes between them.
//! After each of them the account still gets a token, and the same command again completes.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use postrider_setup::certificate;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use support::clock::Later;
use support::daemon::Daemon;
use support::home::{Home, Login};
use support::needles::Needles;
use support::person::Person;
use support::sandbox::Sandbox;
use support::{Ended, files, run, run_with, skip};
use toml_edit::{DocumentMut, Item, value};

const ACCOUNT: &str = "sandbox";
/// The application's service principal, which owns its registration.
const PRINCIPAL: &str = "11111111-2222-4333-8444-555555555555";
const OWNED_BY: &str = "https://graph.microsoft.com/Application.ReadWrite.OwnedBy";
const OLD: &str = "daemon-client-secret";

/// A sandbox whose daemon may renew its own secret, and a home with that secret in its vault.
struct Site {
    sandbox: Sandbox,
    home: Home,
}

impl Site {
    fn new(more: &str) -> Self {
        Self::with(more, may_renew)
    }

    /// The same where the daemon's registration is as `change` leaves it.
    fn with(more: &str, change: impl FnOnce(&mut toml_edit::Table)) -> Self {
        let site = Self::without_secret(more, change);
        site.put("client_secret", OLD, "2026-12-31");
        site
    }

    fn without_secret(more: &str, change: impl FnOnce(&mut toml_edit::Table)) -> Self {
        let sandbox = Sandbox::with(|scenario| change(daemon(scenario)));
        let in_vault = r#"{ vault = "sandbox/client_secret" }"#;
        let config = sandbox
            .config()
            .replace(r#"{ env = "SANDBOX_CLIENT_SECRET" }"#, in_vault);
        let home = Home::new(&format!("{config}\n{more}"));
        Self { sandbox, home }
    }

    fn put(&self, setting: &str, text: &str, expires: &str) {
        let name = format!("sandbox/{setting}");
        let set = ["secret", "set", &*name, "--expires", expires];
        run_with(&mut self.home.postrider(set), text).expect_status(0);
    }

    /// `postrider rotate --client-secret`.
    fn renew(&self, more: &[&str]) -> Ended {
        let words = ["rotate", "--client-secret", ACCOUNT];
        self.home.run(words.into_iter().chain(more.iter().copied()))
    }

    /// An administrator signs in and renews it.
    fn renewed_by_an_administrator(&self) -> Ended {
        let mut person = Person::at(&self.sandbox);
        let words = [
            "rotate",
            "--client-secret",
            ACCOUNT,
            "--admin",
            "--no-browser",
        ];
        let mut login = Login::begin(&mut self.home.postrider(words));
        let url = login.url();
        let page = person.open(&url);
        let landed = person.sign_in(page, "admin@contoso.com", "admin-password");
        person.open(landed.landed().as_str());
        login.end().expect_status(0)
    }

    /// What is registered at Entra ID: ids, and values of secrets.
    fn registered(&self, list: &str) -> BTreeMap<String, Value> {
        let scenario = self.sandbox.control("GET", "scenario", None);
        let all = scenario["app"][0][list].as_array().cloned();
        let all = all.unwrap_or_default().into_iter();
        // A certificate that the scenario began with is no more than its text.
        let id = |one: &Value| one["key_id"].as_str().or(one.as_str()).unwrap().to_owned();
        all.map(|one| (id(&one), one)).collect()
    }

    fn ids(&self, list: &str) -> BTreeSet<String> {
        self.registered(list).into_keys().collect()
    }

    /// The account gets a token with what is in the vault now.
    #[track_caller]
    fn works(&self) {
        let rotated = self.home.run(["rotate", ACCOUNT, "--force"]);
        assert_eq!(rotated.status, 0, "{rotated:?}");
    }

    /// The end that is forecast.
    fn ends(&self) -> String {
        let list = self.home.json(["account", "list"]);
        let all = list.as_array().unwrap();
        let entry = all.iter().find(|one| one["name"] == ACCOUNT).unwrap();
        entry["expires"][0]["expires_at"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn daemon(scenario: &mut DocumentMut) -> &mut toml_edit::Table {
    let apps = scenario["app"].as_array_of_tables_mut().unwrap();
    apps.get_mut(0).unwrap()
}

/// The daemon's application has the right to renew its own secret.
fn may_renew(app: &mut toml_edit::Table) {
    for list in ["application", "application_consent"] {
        app[list].as_array_mut().unwrap().push(OWNED_BY);
    }
    app["object_id"] = value(PRINCIPAL);
    app["owners"] = value(toml_edit::Array::from_iter([PRINCIPAL]));
}

fn id(report: &Value, key: &str) -> String {
    report[key].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_renewed_secret_is_in_use_at_once_and_the_old_one_goes_when_it_may() {
    let site = Site::new("");
    let before = site.ids("secrets");

    let renewed = site.renew(&["--json"]).expect_status(0).json();
    assert_eq!(renewed["state"], "switched", "{renewed}");
    let key_id = id(&renewed, "key_id");
    let both: BTreeSet<_> = before.iter().cloned().chain([key_id.clone()]).collect();
    assert_eq!(site.ids("secrets"), both);
    assert_eq!(before.first().unwrap(), &id(&renewed, "old_key_id"));
    assert_eq!(site.ends(), renewed["expires_at"]);
    site.works();

    // Before its time nothing more happens.
    let again = site.renew(&["--json"]).expect_status(0).json();
    assert_eq!(again["state"], "switched", "{again}");
    assert_eq!(site.ids("secrets"), both);

    let finished = site.renew(&["--finish"]).expect_status(0);
    assert!(
        finished.stdout.contains("the old one is removed"),
        "{finished:?}"
    );
    assert_eq!(site.ids("secrets"), BTreeSet::from([key_id]));
    site.works();
    let nothing = site.renew(&["--finish"]).expect_status(0);
    assert!(nothing.stdout.contains("nothing to finish"), "{nothing:?}");
}

#[test]
fn a_renewal_is_given_up_and_the_old_secret_is_in_use_again() {
    let site = Site::new("");
    let before = site.ids("secrets");
    site.renew(&[]).expect_status(0);
    assert_eq!(site.ids("secrets").len(), 2);

    let aborted = site.renew(&["--abort"]).expect_status(0);

    assert!(
        aborted.stdout.contains("the old client_secret is in use"),
        "{aborted:?}"
    );
    assert_eq!(site.ids("secrets"), before);
    assert!(site.ends().starts_with("2026-12-31"));
    site.works();
}

#[test]
fn a_new_secret_that_entra_does_not_know_yet_is_tried_again() {
    let site = Site::new("");
    let slow = serde_json::json!({ "graph": { "propagation_requests": 2 } });
    site.sandbox.control("PATCH", "scenario", Some(&slow));

    let renewed = site.renew(&[]).expect_status(0);

    assert!(
        renewed.stderr.contains("does not accept it yet"),
        "{renewed:?}"
    );
    site.works();
}

#[test]
fn a_certificate_and_its_key_are_renewed_together() {
    let now = Timestamp::now();
    let made = certificate::make("Postrider test", Duration::from_hours(24 * 20), now).unwrap();
    let site = Site::without_secret("", |app| {
        may_renew(app);
        let pem = Item::Value(toml_edit::Array::from_iter([&made.certificate_pem]).into());
        app["certificates"] = pem;
    });
    let config = fs::read_to_string(site.home.path().join("postrider.toml")).unwrap();
    site.home.configure(&config.replace(
        r#"client_secret = { vault = "sandbox/client_secret" }"#,
        "certificate = { vault = \"sandbox/certificate\" }\n\
         private_key = { vault = \"sandbox/private_key\" }",
    ));
    site.put("certificate", &made.certificate_pem, "2099-01-01");
    site.put(
        "private_key",
        made.private_key_pem.expose_secret(),
        "2099-01-01",
    );
    site.works();
    assert_eq!(site.ids("certificates").len(), 1);

    let renewed = site.renew(&["--json"]).expect_status(0).json();

    assert_eq!(renewed["setting"], "certificate");
    assert_ne!(id(&renewed, "old_key_id"), "");
    assert_eq!(site.ids("certificates").len(), 2);
    assert_eq!(site.ends(), renewed["expires_at"]);
    site.works();
    site.renew(&["--finish"]).expect_status(0);
    assert_eq!(
        site.ids("certificates"),
        BTreeSet::from([id(&renewed, "key_id")])
    );
    site.works();
}

#[test]
fn what_cannot_be_renewed_says_why_and_what_to_do() {
    let site = Site::with("", |_| {});
    let refused = site.renew(&[]).expect_status(78);
    for part in [
        "--client-secret sandbox --admin",
        "Application.ReadWrite.OwnedBy",
    ] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    site.works();

    site.home.configure(site.sandbox.config());
    let refused = site.renew(&[]).expect_status(78);
    for part in [
        "env=SANDBOX_CLIENT_SECRET",
        "postrider secret set sandbox/client_secret",
    ] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert_eq!(site.ids("secrets").len(), 1);
}

#[test]
fn an_administrator_renews_what_the_application_may_not() {
    let site = Site::with("", |_| {});
    let ended = site.renewed_by_an_administrator();

    assert!(
        ended.stdout.contains("a new client_secret is in use"),
        "{ended:?}"
    );
    assert_eq!(site.ids("secrets").len(), 2);
    site.works();
}

#[test]
fn a_script_renews_the_secret_and_says_when_the_old_one_goes() {
    let site = Site::new("");
    let before = site.ids("secrets");
    let script = site.home.path().join("renew.lua");
    fs::write(
        &script,
        r#"
        local pr = require "postrider"
        local account = pr.account "sandbox"
        local renewed = assert(account:rotate_client_secret { lifetime = "90d", overlap = "2d" })
        local in_days = function(time) return math.floor((time - pr.time.now()) / 86400 + 0.5) end
        print(renewed.account, renewed.setting, renewed.state, renewed.key_id, renewed.old_key_id)
        print(in_days(renewed.expires_at), in_days(renewed.remove_after), #renewed.orphans_removed)
        print(account:status().expires[1].expires_at == renewed.expires_at, account:check().verdict)
        local finished = assert(account:rotate_client_secret { finish = true })
        print(finished.state, finished.key_id == renewed.key_id, finished.remove_after)
        print(select(2, pcall(account.rotate_client_secret, account, { overlapp = "2d" })))
        "#,
    )
    .unwrap();

    let ended = site.home.run(["run", script.to_str().unwrap()]);

    assert_eq!(ended.status, 0, "{ended:?}");
    let after = site.ids("secrets");
    let (old, new) = (before.first().unwrap(), after.first().unwrap());
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let first = format!("{ACCOUNT}\tclient_secret\tswitched\t{new}\t{old}");
    assert_eq!(lines[..2], [&first, "90\t2\t0"], "{ended:?}");
    assert!(lines[2].starts_with("true\tnothing is wrong"), "{ended:?}");
    assert_eq!(lines[3], "finished\ttrue\tnil");
    assert!(lines[4].contains("overlap"), "{ended:?}");
    assert_eq!(after.len(), 1);
    site.works();
}

#[test]
fn a_script_that_may_not_renew_learns_what_is_missing() {
    let site = Site::with("", |_| {});
    let script = site.home.path().join("renew.lua");
    fs::write(
        &script,
        r#"
        local renewed, err = require "postrider".account "sandbox":rotate_client_secret()
        print(renewed, err.code, err.account, err.retryable, err.remedy)
        "#,
    )
    .unwrap();

    let ended = site.home.run(["run", script.to_str().unwrap()]);

    assert_eq!(ended.status, 0, "{ended:?}");
    let expected = "nil\tsecret.no_right\tsandbox\tfalse\t";
    assert!(ended.stdout.starts_with(expected), "{ended:?}");
    assert!(ended.stdout.contains("Application.ReadWrite.OwnedBy"));
    assert_eq!(site.ids("secrets").len(), 1);
}

#[test]
fn the_status_shows_a_renewal_that_failed_and_one_under_way() {
    let site = Site::with("[account.sandbox.renewal]\nbefore = \"60d\"\n", |_| {});
    let soon = Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    site.put("client_secret", OLD, &soon.to_string());
    let daemon = Daemon::start(&site.home);
    daemon.says("the secret was not renewed");

    let standing = site.home.json(["status"]);
    let renewal = &standing["renewals"][0];
    assert_eq!(renewal["account"], ACCOUNT, "{standing}");
    assert_eq!(renewal["setting"], "client_secret", "{standing}");
    assert_eq!(renewal["failure"]["code"], "secret.no_right", "{standing}");
    let shown = site.home.run(["status"]).expect_status(0).stdout;
    for part in [
        "renewal      sandbox: ",
        "failed ",
        "Application.ReadWrite.OwnedBy",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }

    // What somebody else does about it ends the failure.
    site.renewed_by_an_administrator();
    let standing = site.home.json(["status"]);
    let renewal = &standing["renewals"][0];
    assert_eq!(renewal["state"], "switched", "{standing}");
    assert!(renewal["failure"].is_null(), "{standing}");
    let shown = site.home.run(["status"]).expect_status(0).stdout;
    let line =
        "renewal      sandbox: a new client_secret is in use, the old one may be removed in ";
    assert!(shown.contains(line), "{shown}");
    assert!(!shown.contains("failed"), "{shown}");

    // It is under way, whether a daemon runs or not.
    daemon.terminate();
    let shown = site.home.run(["status"]).expect_status(69).stdout;
    assert!(shown.contains(line), "{shown}");
    let absent = site.home.run(["status", "--json"]).expect_status(69).json();
    assert_eq!(absent["renewals"], standing["renewals"], "{absent}");
}

#[test]
fn the_daemon_renews_in_time_and_removes_the_old_one_after_the_overlap() {
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(reason) => return skip(&reason),
    };
    let site = Site::new("[account.sandbox.renewal]\nbefore = \"60d\"\n");
    // What an accident of the calendar would make untrue: it is due now.
    let soon = Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    site.put("client_secret", OLD, &soon.to_string());
    let before = site.ids("secrets");

    let daemon = Daemon::start(&site.home);
    let line = daemon.says("renewal");
    assert_eq!(line["state"], "switched", "{line}");
    assert_eq!(site.ids("secrets").len(), 2);
    daemon.terminate();

    // A day later another one removes it.
    later.pass(Duration::from_hours(25));
    let mut serve = site.home.postrider(["serve"]);
    let daemon = Daemon::started_by(later.tell(&mut serve), &site.home);
    let line = daemon.says("renewal");
    assert_eq!(line["state"], "finished", "{line}");
    daemon.terminate();
    let left = site.ids("secrets");
    assert_eq!(left.len(), 1);
    assert_ne!(left, before);
    site.works();
}

#[test]
fn the_new_secret_is_in_no_output_no_log_and_no_file() {
    let site = Site::new("[account.sandbox.renewal]\nbefore = \"60d\"\n");
    let soon = Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    site.put("client_secret", OLD, &soon.to_string());
    let mut needles = Needles::default();
    let mut said = Vec::new();
    for more in [
        &["--log", "trace", "--json"][..],
        &["--log", "trace", "--finish"],
        &["--log", "trace"],
    ] {
        let ended = site.renew(more).expect_status(0);
        said.push(format!("{}{}", ended.stdout, ended.stderr));
        let registered = site.registered("secrets");
        let values = registered
            .values()
            .map(|one| one["value"].as_str().unwrap());
        // The old one stands in the sandbox's own hints, for people to copy.
        for new in values.filter(|value| *value != OLD) {
            needles.add("a new client secret", new);
        }
    }
    assert_eq!(needles.len(), 2);
    for text in said {
        assert_eq!(needles.found_in(text.as_bytes()), Vec::<String>::new());
    }
    for directory in [site.home.path().to_owned(), site.home.state()] {
        for file in all_files(&directory) {
            let found = needles.found_in(&fs::read(&file).unwrap());
            assert_eq!(found, Vec::<String>::new(), "{}", file.display());
        }
    }
}

fn all_files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_renewal_killed_at_any_step_is_completed_by_the_same_command() {
    kill_at(0);
}

#[test]
fn a_renewal_killed_at_another_step_is_completed_by_the_same_command() {
    kill_at(1);
}

#[test]
fn a_renewal_killed_at_a_third_step_is_completed_by_the_same_command() {
    kill_at(2);
}

#[test]
fn a_renewal_killed_at_a_fourth_step_is_completed_by_the_same_command() {
    kill_at(3);
}

/// Every fourth step: there are many, and together they would take minutes.
fn kill_at(part: usize) {
    let site = Site::new("");
    // The overlap is over at once: one command does everything.
    let words = [
        "rotate",
        "--client-secret",
        ACCOUNT,
        "--overlap",
        "0s",
        "--json",
    ];
    let steps = {
        // The first one makes directories that the others find.
        site.home.run(words).expect_status(0);
        let log = site.home.path().join("steps");
        let mut renew = site.home.postrider(words);
        run(renew.env("POSTRIDER_CRASH_LOG", &log)).expect_status(0);
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        let passed = fs::read_to_string(&log).unwrap();
        let steps = passed.lines().map(|name| {
            let time = times.entry(name.to_owned()).or_default();
            *time += 1;
            format!("{name}:{time}")
        });
        steps.collect::<Vec<_>>()
    };
    let own: Vec<_> = steps
        .iter()
        .filter(|step| step.starts_with("renewal."))
        .collect();
    let expected = [
        "intended", "added", "made", "seen", "proved", "replaced", "switched", "removed",
        "settled", "finished",
    ];
    assert_eq!(
        own,
        expected.map(|step| format!("renewal.{step}:1")).each_ref()
    );

    let mut orphans = 0;
    for step in steps.iter().skip(part).step_by(4) {
        let before = site.ids("secrets");
        let mut renew = site.home.postrider(words);
        let killed = run(renew.env("POSTRIDER_CRASH_AT", step));
        assert_eq!(killed.signal, Some(9), "{step}: {killed:?}");
        let between = site.ids("secrets");
        site.works();

        let ended = site.home.run(words);
        assert_eq!(ended.status, 0, "{step}: {ended:?}");
        let report = ended.json();
        assert_eq!(report["state"], "finished", "{step}: {report}");
        let after = site.ids("secrets");
        assert_eq!(after, BTreeSet::from([id(&report, "key_id")]), "{step}");

        let mentioned = report["orphans_removed"].as_array().unwrap();
        let earlier = orphans;
        for gone in between
            .difference(&after)
            .filter(|one| !before.contains(*one))
        {
            let was_used = *gone == id(&report, "old_key_id");
            let is_mentioned = mentioned.iter().any(|one| one == gone);
            assert!(was_used || is_mentioned, "{step}: {gone} of {report}");
            orphans += usize::from(is_mentioned);
        }
        // Made at Entra ID, and its text in no journal.
        assert!(step != "renewal.added:1" || orphans > earlier, "{report}");
    }
    let _ = writeln!(
        io::stderr(),
        "killed at a fourth of {} steps; {orphans} times a secret was left without its text, removed \
         and mentioned",
        steps.len()
    );
    assert!(files(&site.home.state(), "tmp").is_empty());
}
