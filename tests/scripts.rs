//! The scripts of `scripts/`, as an operator runs them.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::home::{Home, Login};
use support::person::Person;
use support::sandbox::{PERSON, Sandbox};
use support::webhook::Webhook;
use support::{Ended, find_program, free_port, root, run, skip};

/// An account without tokens, which no script has to ask anything.
const PRINTER: &str = r#"
[account.printer]
username = "printer@example.org"
sender = "printer@example.org"
server = { host = "smtp.example.org", port = 587, tls = "starttls" }
auth = { plugin = "basic", password = { env = "PRINTER_PASSWORD" } }
"#;

/// A sandbox with a person signed in and an application, and the printer.
struct Office {
    sandbox: Sandbox,
    home: Home,
}

impl Office {
    fn open() -> Self {
        let sandbox = Sandbox::start();
        let mut home = Home::new(&format!("{}\n{PRINTER}", sandbox.config()));
        home.set(sandbox.client_secret());
        let mut person = Person::at(&sandbox);
        let login = ["login", "sandbox-person", "--no-browser"];
        let mut login = Login::begin(&mut home.postrider(login));
        let page = person.open(&login.url());
        let page = person.sign_in(page, PERSON.0, PERSON.1);
        person.open(page.landed().as_str());
        login.end().expect_status(0);
        Self { sandbox, home }
    }

    /// Whoever signed in no longer is, and only the provider knows.
    fn revoke_the_sign_in(&self) {
        let revoked = json!({ "user": PERSON.0, "access_tokens": true });
        self.sandbox.control("POST", "revoke", Some(&revoked));
    }

    fn script(&self, name: &str) -> Command {
        let script = root().join("scripts").join(name);
        self.home.postrider(["run", script.to_str().unwrap()])
    }

    fn rotate(&self, arguments: &[&str]) -> Ended {
        run(self.script("rotate.lua").args(arguments))
    }
}

/// What the script itself logged: level and message.
fn logged(ended: &Ended) -> Vec<(String, String)> {
    let lines = ended.stderr.lines();
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .filter(|line| line["target"] == "postrider::script")
        .map(|line| (text(&line, "level"), text(&line, "message")))
        .collect()
}

#[track_caller]
fn assert_logged(ended: &Ended, expected: &[(&str, &str)]) {
    let logged = logged(ended);
    let same = |((level, message), (wanted, begin)): (&(String, String), &(&str, &str))| {
        level == wanted && message.starts_with(begin)
    };
    assert!(
        logged.len() == expected.len() && logged.iter().zip(expected).all(same),
        "{logged:#?}\n{}",
        ended.stderr
    );
}

/// The results go to two programs nobody here wrote.
#[test]
fn every_script_passes_its_tests_and_tap_and_junit_say_so() {
    let place = tempfile::tempdir().unwrap();
    let (tap, junit) = (place.path().join("out.tap"), place.path().join("out.xml"));

    let ended = run(support::postrider()
        .current_dir(root())
        .args(["test", "--tap", "--junit"])
        .arg(&junit)
        .arg("scripts"));

    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let scripts = fs::read_dir(root().join("scripts")).unwrap();
    let names: Vec<_> = scripts
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in names.iter().filter(|name| !name.ends_with("_test.lua")) {
        let test = name.replace(".lua", "_test.lua");
        assert!(ended.stdout.contains(&test), "{name} has no test that ran");
    }
    fs::write(&tap, &ended.stdout).unwrap();
    match find_program("prove") {
        Some(prove) => {
            let read = run(Command::new(prove).args(["--exec", "cat"]).arg(&tap));
            assert_eq!(read.status, 0, "{}{}", read.stdout, read.stderr);
            assert!(read.stdout.contains("Result: PASS"), "{}", read.stdout);
        }
        None => skip("prove is not installed"),
    }
    let Some(python) = find_program("python3") else {
        return skip("python3 is not installed");
    };
    let count = "import sys, xml.etree.ElementTree as tree\n\
                 cases = tree.parse(sys.argv[1]).getroot().iter('testcase')\n\
                 print(sum(1 for case in cases if case.find('failure') is None))";
    let read = run(Command::new(python).args(["-c", count]).arg(&junit));
    let passed = ended.stdout.lines().filter(|line| line.starts_with("ok "));
    assert_eq!(read.stdout.trim(), passed.count().to_string());
}

/// A `postrider test --watch` under way.
struct Watched {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watched {
    fn begin(home: &Home) -> Self {
        let mut process = home
            .postrider(["test", "--watch"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// What it says until it waits for a change.
    #[track_caller]
    fn round(&mut self) -> String {
        let said: Vec<String> = (&mut self.lines)
            .map(Result::unwrap)
            .take_while(|line| !line.starts_with("waiting for a change"))
            .collect();
        said.join("\n")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A story that failed halfway leaves nobody watching.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_tests_run_again_when_a_test_a_script_or_the_configuration_has_changed() {
    let test = "local pr = require 'postrider'\n\
                pr.test.case('the level', function(t) t.eq(require 'level', 91) end)\n\
                pr.test.case('the account', function() pr.account 'printer' end)\n";
    let home = Home::new(PRINTER);
    let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
    write("level.lua", "return 91\n");
    write("level_test.lua", test);
    let mut watched = Watched::begin(&home);
    assert!(watched.round().contains("2 passed"));

    write("level.lua", "return 90 + 0\n");
    let round = watched.round();
    assert!(round.starts_with("./level.lua has changed"), "{round}");
    assert!(round.contains("1 passed, 1 failed"), "{round}");

    write("level_test.lua", &test.replace("91", "90 "));
    assert!(watched.round().contains("2 passed"));

    home.configure("");
    assert!(watched.round().contains("1 passed, 1 failed"));

    // The only test goes, and comes back with a mistake in it.
    fs::remove_file(home.path().join("level_test.lua")).unwrap();
    let round = watched.round();
    assert!(round.contains("level_test.lua has changed"), "{round}");
    write("level_test.lua", "pr.test.case(");
    let round = watched.round();
    assert!(round.contains("BROKEN"), "{round}");

    kill_process(Pid::from_child(&watched.process), Signal::INT).unwrap();
    assert_eq!(watched.process.wait().unwrap().code(), Some(130));
}

#[test]
fn the_book_lists_every_script() {
    let page = fs::read_to_string(root().join("docs/src/scripting.md")).unwrap();
    for script in support::files(&root().join("scripts"), "lua") {
        let name = script.file_name().unwrap().to_str().unwrap();
        let listed = page.contains(&format!("| `scripts/{name}` |"));
        assert_eq!(listed, !name.ends_with("_test.lua"), "{name}");
    }
}

#[test]
fn rotate_keeps_every_account_fresh_and_says_who_needs_a_person() {
    let office = Office::open();

    // The application had no token yet, and the person's is new.
    let ended = office.rotate(&[]).expect_status(0);
    assert_logged(
        &ended,
        &[
            ("INFO", "printer: none"),
            ("INFO", "sandbox: refreshed"),
            ("INFO", "sandbox-person: fresh"),
        ],
    );
    let ended = office.rotate(&[]).expect_status(0);
    assert_logged(
        &ended,
        &[
            ("INFO", "printer: none"),
            ("INFO", "sandbox: fresh"),
            ("INFO", "sandbox-person: fresh"),
        ],
    );
    let ended = office
        .rotate(&["--force", "sandbox-person"])
        .expect_status(0);
    assert_logged(&ended, &[("INFO", "sandbox-person: refreshed")]);

    // A provider in trouble may come round.
    office
        .sandbox
        .break_tokens(json!({"http": {"status": 500, "body": "{}"}}));
    let ended = office
        .rotate(&["--force", "sandbox-person"])
        .expect_status(75);
    assert_logged(&ended, &[("WARN", "sandbox-person: ")]);
    office.sandbox.mend_tokens();

    // A grant that was withdrawn does not; the others are refreshed all the same.
    office.revoke_the_sign_in();
    office.home.run(["logout", "sandbox"]).expect_status(0);
    let ended = office.rotate(&[]).expect_status(0);
    assert_logged(
        &ended,
        &[
            ("INFO", "printer: none"),
            ("INFO", "sandbox: refreshed"),
            // Nothing is due, so nobody asked.
            ("INFO", "sandbox-person: fresh"),
        ],
    );
    let ended = office
        .rotate(&["sandbox-person", "sandbox", "--force"])
        .expect_status(77);
    assert_logged(
        &ended,
        &[
            ("ERROR", "sandbox-person: "),
            ("INFO", "sandbox: refreshed"),
        ],
    );
    assert!(
        ended.stderr.contains("postrider login sandbox-person"),
        "{}",
        ended.stderr
    );
    // It stays so, and asks the provider no more.
    office.sandbox.count_from_zero();
    office.rotate(&["sandbox-person"]).expect_status(77);
    assert_eq!(office.sandbox.token_requests(), 0);
}

/// The office with a client secret that ends in five days.
fn open_with_an_ending_secret() -> Office {
    let office = Office::open();
    let ends = SystemTime::now() + Duration::from_hours(5 * 24 - 1);
    let ends = Timestamp::try_from(ends).unwrap().strftime("%FT%TZ");
    let secret = "{ env = \"SANDBOX_CLIENT_SECRET\"";
    let config = office.sandbox.config();
    assert!(config.contains(secret), "{config}");
    let config = config.replace(secret, &format!("{secret}, expires = \"{ends}\""));
    office.home.configure(&format!("{config}\n{PRINTER}"));
    office
}

impl Office {
    /// Looks for what a person has to know of, and tells this webhook.
    fn alert(&self, url: &str, arguments: &[&str]) -> Ended {
        let mut command = self.script("alert-on-expiry.lua");
        run(command.env("ALERT_WEBHOOK", url).args(arguments))
    }
}

#[test]
fn a_warning_reaches_the_webhook_once_and_is_not_lost_while_it_is_down() {
    let (webhook, refusing) = match (Webhook::answering(204), Webhook::answering(503)) {
        (Ok(webhook), Ok(refusing)) => (webhook, refusing),
        (Err(reason), _) | (_, Err(reason)) => return skip(&reason),
    };
    let (ca, refusing_ca) = (webhook.ca_file(), refusing.ca_file());
    let (ca, refusing_ca) = (ca.to_str().unwrap(), refusing_ca.to_str().unwrap());
    let office = open_with_an_ending_secret();

    // Down, refusing, or not to be trusted: nobody heard it, and the log says so.
    let down = format!("https://localhost:{}/hooks/key-4711", free_port());
    for (url, arguments, why) in [
        (down.as_str(), &[ca][..], "cannot connect to localhost:"),
        (&refusing.url(), &[refusing_ca], "the webhook answered 503"),
        (&webhook.url(), &[], "not from an authority that is trusted"),
        (
            &webhook.url().replace("https", "ftp"),
            &[ca],
            "neither https",
        ),
        ("", &[ca], "ALERT_WEBHOOK"),
    ] {
        let ended = office.alert(url, arguments).expect_status(0);
        let failed = logged(&ended);
        let failed: Vec<_> = failed
            .iter()
            .filter(|(level, _)| level == "ERROR")
            .collect();
        assert_eq!(failed.len(), 1, "{url}: {}", ended.stderr);
        assert!(failed[0].1.contains(why), "{url}: {failed:?}");
        assert!(!ended.stderr.contains("4711"), "{}", ended.stderr);
    }
    assert_eq!(refusing.told().len(), 1);
    assert_eq!(webhook.told(), [] as [Value; 0]);

    let ended = office.alert(&webhook.url(), &[ca]).expect_status(0);
    let told = webhook.told();
    assert_eq!(told.len(), 1, "{}", ended.stderr);
    assert_eq!(told[0]["path"], "/hooks/T0/key-4711");
    assert_eq!(told[0]["type"], "application/json");
    let body = &told[0]["body"];
    assert_eq!(body["event"], "secret.expiring");
    assert_eq!(body["account"], "sandbox");
    assert_eq!(body["secret"], "client_secret");
    assert_eq!(body["days"], 5);
    assert_eq!(
        body["text"],
        "Postrider: client_secret of account sandbox ends in 5 days"
    );
    assert!(!ended.stderr.contains("4711"), "{}", ended.stderr);
    office.alert(&webhook.url(), &[ca]).expect_status(0);
    assert_eq!(webhook.told().len(), 1, "told once");

    // Somebody must sign in again: another process finds it out, with nobody there to hear it.
    office.revoke_the_sign_in();
    office
        .rotate(&["--force", "sandbox-person"])
        .expect_status(77);
    let ended = office.alert(&down, &[ca]).expect_status(1);
    assert!(
        ended.stderr.contains("somebody has to act: sandbox-person"),
        "{}",
        ended.stderr
    );
    office.alert(&webhook.url(), &[ca]).expect_status(1);
    office.alert(&webhook.url(), &[ca]).expect_status(1);
    let told = webhook.told();
    assert_eq!(told.len(), 2, "{told:#?}");
    let body = &told[1]["body"];
    assert_eq!(body["event"], "token.reauthorization_required");
    assert_eq!(body["account"], "sandbox-person");
    assert_eq!(body["reason"], "revoked");
    assert_eq!(body["remedy"], "postrider login sandbox-person");
    assert!(
        body["text"].as_str().unwrap().contains("postrider login"),
        "{body}"
    );
    for time in [&body["since"], &told[0]["body"]["expires_at"]] {
        time.as_str().unwrap().parse::<Timestamp>().unwrap();
    }
}

#[test]
fn a_handler_hears_what_came_to_light_before_it_was_there() {
    let office = open_with_an_ending_secret();
    office.revoke_the_sign_in();
    fs::write(
        office.home.path().join("late.lua"),
        "local pr = require 'postrider'\n\
         assert(pr.account 'sandbox':rotate { force = true })\n\
         print(pr.account 'sandbox-person':rotate { force = true })\n\
         pr.account 'sandbox':status()\n\
         pr.on('secret.expiring', function(event) print(event.account, event.days) end)\n\
         pr.on('token.reauthorization_required', function(event) print(event.account, event.reason) end)",
    )
    .unwrap();

    let ended = office.home.run(["run", "late.lua"]).expect_status(0);

    let mut told: Vec<_> = ended.stdout.lines().skip(1).collect();
    told.sort_unstable();
    assert_eq!(told, ["sandbox\t5", "sandbox-person\trevoked"]);
    // Looked at several times, and said once.
    let said = ended.stderr.matches("a secret comes to its end").count();
    assert_eq!(said, 1, "{}", ended.stderr);
}

#[test]
fn only_a_script_that_asks_has_the_token_and_no_log_shows_it() {
    let office = Office::open();
    fs::write(
        office.home.path().join("token.lua"),
        "local pr = require 'postrider'\n\
         local token, details = pr.account 'sandbox-person':token()\n\
         pr.log.info(tostring(#token), details)\n\
         print(token)",
    )
    .unwrap();

    let ended = office
        .home
        .run(["--log", "trace", "run", "token.lua"])
        .expect_status(0);

    let token = office.home.token("sandbox-person");
    assert_eq!(ended.stdout.trim_end(), token);
    assert!(!ended.stderr.contains(&token), "{}", ended.stderr);
    let lines = ended.stderr.lines();
    let line = lines.last().unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let details: Value = serde_json::from_str(line["fields"].as_str().unwrap()).unwrap();
    assert_eq!(line["message"], token.len().to_string());
    assert_eq!(details["token_type"], "Bearer");
    let ends = details["expires_at"].as_f64().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let left = ends - now.unwrap().as_secs_f64();
    assert!((0.0..7200.0).contains(&left), "{details}");
}

#[test]
fn the_address_of_a_webhook_may_lie_in_the_vault() {
    let webhook = match Webhook::answering(200) {
        Ok(webhook) => webhook,
        Err(reason) => return skip(&reason),
    };
    let home = Home::new("");
    let mut set = home
        .postrider(["secret", "set", "hook"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = set.stdin.take().unwrap();
    stdin.write_all(webhook.url().as_bytes()).unwrap();
    drop(stdin);
    assert!(set.wait().unwrap().success());
    fs::write(
        home.path().join("script.lua"),
        "local pr = require 'postrider'\n\
         local options = { json = { n = 1 }, ca_file = pr.args[1] }\n\
         print(assert(pr.http.post(pr.secret.vault 'hook', options)).ok)\n\
         print(select(2, pr.http.post(pr.secret.vault 'none', options)).code)",
    )
    .unwrap();

    let ca = webhook.ca_file();
    let ended = home
        .run(["run", "script.lua", ca.to_str().unwrap()])
        .expect_status(0);

    assert_eq!(ended.stdout, "true\nsecret.missing\n");
    assert_eq!(webhook.told()[0]["body"]["n"], 1);
    assert!(!ended.stderr.contains("4711"), "{}", ended.stderr);
}

#[test]
fn a_test_of_the_webhook_says_at_once_whether_it_works() {
    let webhook = match Webhook::answering(200) {
        Ok(webhook) => webhook,
        Err(reason) => return skip(&reason),
    };
    let ca = webhook.ca_file();
    let home = Home::new("");
    let test = |arguments: &[&str]| {
        let script = root().join("scripts/alert-on-expiry.lua");
        let mut command = home.postrider(["run", script.to_str().unwrap(), "--test"]);
        run(command.args(arguments))
    };

    test(&[&webhook.url(), ca.to_str().unwrap()]).expect_status(0);
    assert_eq!(webhook.told()[0]["body"]["event"], "test");

    let nowhere = test(&[]).expect_status(78);
    assert!(
        nowhere.stderr.contains("ALERT_WEBHOOK"),
        "{}",
        nowhere.stderr
    );
    let untrusted = test(&[&webhook.url()]).expect_status(69);
    assert!(untrusted.stderr.contains("ca_file"), "{}", untrusted.stderr);
    assert!(!untrusted.stderr.contains("4711"), "{}", untrusted.stderr);
    assert_eq!(webhook.told().len(), 1);
}

/// The proxy of the environment, which nothing on the way may keep a webhook from.
#[test]
fn requests_of_scripts_go_through_the_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let asked = lines.next().unwrap().unwrap();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap();
        asked
    });
    let home = Home::new("");
    fs::write(
        home.path().join("script.lua"),
        "local response, err = require('postrider').http.get('https://key:4711@hooks.example.org/4711')\n\
         print(response, err.code)",
    )
    .unwrap();

    let ended = run(home
        .postrider(["run", "script.lua"])
        .env("HTTPS_PROXY", format!("http://proxy-user:4712@{address}")))
    .expect_status(0);

    assert_eq!(
        asked.join().unwrap(),
        "CONNECT hooks.example.org:443 HTTP/1.1"
    );
    assert_eq!(ended.stdout, "nil\tnetwork.connect\n");
}

#[test]
fn with_sandbox_no_request_goes_to_the_outside() {
    let home = Home::new("");
    fs::write(
        home.path().join("script.lua"),
        "local pr = require 'postrider'\n\
         print(select(2, pr.http.post('https://hooks.example.org/', { json = { a = 1 } })).code)",
    )
    .unwrap();

    let ended = home
        .run(["run", "--sandbox", "script.lua"])
        .expect_status(0);

    assert!(
        ended.stdout.starts_with("config.outside_sandbox\n"),
        "{}",
        ended.stdout
    );
}
