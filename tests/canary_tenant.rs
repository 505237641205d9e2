//! Secrets looked for where an administrator works: in what setup, the doctor, a renewal and the
//! daemon that renews print and log, at trace level too, in what the system tells of their
//! processes, and in every file they leave but for the inside of the vault.
//!
//! New secrets, keys and tokens are made up while the story runs, so some are told by what they
//! are (a token by its head, a key by what each key of its kind begins with).
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use support::daemon::Daemon;
use support::home::{Home, Login};
use support::needles::Needles;
use support::person::Person;
use support::sandbox::{PERSON, Sandbox};
use support::{Ended, files, run_with};
use toml_edit::{Item, value};

const ADMIN: (&str, &str) = ("admin@contoso.com", "admin-password");
/// As long, and with the same mark, as Entra's.
const OLD: &str = "cAn8Q~Canary.client.secret.0123456789-_a";
const TOKEN: &str =
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJjYW5hcnkiOiJhIHRva2VuIn0.Q2FuYXJ5U2lnbg";
const PASSWORD: &str = "Canary-Pass+word/21&22%";
/// The application's service principal, which owns its registration.
const PRINCIPAL: &str = "11111111-2222-4333-8444-555555555555";
const OWNED_BY: &str = "https://graph.microsoft.com/Application.ReadWrite.OwnedBy";

/// The numbers that each private key in PKCS #8 begins with: RSA of 2048 bits and more, and P-256.
const KEYS: [&[u8]; 2] = [
    b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x82",
    b"\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
];

/// A tenant, and a machine whose every word is overheard.
struct Overheard {
    sandbox: Sandbox,
    home: Home,
    needles: Needles,
    said: Vec<(String, Vec<u8>)>,
}

impl Overheard {
    fn new(sandbox: Sandbox, home: Home) -> Self {
        let mut needles = Needles::default();
        for (name, secret) in [
            ("the client secret", OLD),
            ("a pasted token", TOKEN),
            ("a password", PASSWORD),
            ("a key in PEM", "-----BEGIN PRIVATE KEY-----"),
        ] {
            needles.add(name, secret);
        }
        for head in KEYS {
            needles.add("a private key", head);
        }
        Self {
            sandbox,
            home,
            needles,
            said: Vec::new(),
        }
    }

    fn hear(&mut self, what: &str, text: impl AsRef<[u8]>) {
        self.said.push((what.to_owned(), text.as_ref().to_owned()));
    }

    /// Runs a command with every word logged, plain and as JSON; how it ended.
    fn run(&mut self, arguments: &[&str], stdin: &str) -> [Ended; 2] {
        let verbose = ["--log", "trace"].as_slice();
        [verbose, &["--log", "trace", "--json"]].map(|more| {
            let mut command = self.home.postrider(arguments.iter().chain(more).copied());
            let ended = run_with(&mut command, stdin);
            self.overhear(&format!("{arguments:?} {more:?}"), &ended);
            ended
        })
    }

    fn overhear(&mut self, what: &str, ended: &Ended) {
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        self.hear(&format!("{what} on standard output"), &ended.stdout);
        self.hear(&format!("{what} on standard error"), &ended.stderr);
    }

    /// Runs a command that `people` sign in for, one after the other.
    fn run_with_sign_ins(&mut self, arguments: &[&str], people: &[(&str, &str)]) -> Ended {
        let verbose = ["--log", "trace"];
        let arguments = arguments.iter().copied().chain(verbose);
        let what = arguments.clone().collect::<Vec<_>>().join(" ");
        let mut login = Login::begin(&mut self.home.postrider(arguments));
        for who in people {
            let mut person = Person::at(&self.sandbox);
            let url = login.url();
            self.hear_of_process(&what, login.id());
            let page = person.open(&url);
            let page = person.sign_in(page, who.0, who.1);
            let landed = page.landed();
            let code = landed.query_pairs().find(|(name, _)| name == "code");
            self.needles.add("a code", code.unwrap().1.as_bytes());
            let page = person.open(landed.as_str());
            self.hear("the page at the end", page.html);
        }
        self.hear_of_process(&what, login.id());
        let ended = login.end();
        self.overhear(&what, &ended);
        ended
    }

    /// What anybody on the machine sees of a process, and what it was started with.
    fn hear_of_process(&mut self, what: &str, id: u32) {
        for file in ["cmdline", "comm", "environ"] {
            // It may have ended.
            let text = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
            self.hear(&format!("{file} of {what}"), text);
        }
    }

    /// What is registered now is looked for, too: it was made since.
    fn learn(&mut self) {
        let scenario = self.sandbox.control("GET", "scenario", None);
        for app in scenario["app"].as_array().unwrap() {
            for secret in app["secrets"].as_array().into_iter().flatten() {
                let text = secret["value"].as_str().unwrap();
                self.needles.add("a client secret", text);
            }
        }
    }

    /// Looks at everything that was said and kept.
    #[track_caller]
    fn nothing_leaked(&mut self) {
        self.learn();
        let kept = files(self.home.path(), "");
        assert!(!kept.is_empty());
        for path in kept.iter().filter(|path| path.is_file()) {
            let name = path.display().to_string();
            if path.starts_with(self.home.state()) {
                let mode = fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0, "{name} {mode:o}");
            }
            self.hear(&name, fs::read(path).unwrap());
        }
        let mut leaks = Vec::new();
        for (what, text) in &self.said {
            let found = self.needles.found_in(text);
            leaks.extend(found.iter().map(|needle| format!("{what}: {needle}")));
            if let Some(token) = token_in(&String::from_utf8_lossy(text)) {
                let around = String::from_utf8_lossy(text);
                leaks.push(format!("{what}: the token {token} in {around}"));
            }
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// The first JSON Web Token in a text: its head and body are base64 of `{"…`.
fn token_in(text: &str) -> Option<&str> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut words = text.split(|c| !is_token(c));
    words.find(|word| word.starts_with("eyJ") && word.contains(".eyJ"))
}

/// A tenant where nobody registered anything, and an empty machine.
fn fresh() -> Overheard {
    let sandbox = Sandbox::of_a_new_tenant();
    let (home, _) = Home::empty();
    Overheard::new(sandbox, home)
}

/// An application whose secret is in the vault and runs out soon, and which may renew it.
fn about_to_renew() -> Overheard {
    let sandbox = Sandbox::with(|scenario| {
        let apps = scenario["app"].as_array_of_tables_mut().unwrap();
        let app = apps.get_mut(0).unwrap();
        app["secrets"][0]["value"] = value(OLD);
        for list in ["application", "application_consent"] {
            app[list].as_array_mut().unwrap().push(OWNED_BY);
        }
        app["object_id"] = value(PRINCIPAL);
        let owners = toml_edit::Array::from_iter([PRINCIPAL]);
        app["owners"] = Item::Value(owners.into());
    });
    let (config, _) = sandbox.config().split_once("# export").unwrap();
    let config = config.replace(
        r#"{ env = "SANDBOX_CLIENT_SECRET" }"#,
        r#"{ vault = "sandbox/client_secret" }"#,
    );
    let home = Home::new(&format!(
        "{config}\n[account.sandbox.renewal]\nbefore = \"60d\"\n"
    ));
    let mut user = Overheard::new(sandbox, home);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    let soon = soon.to_string();
    let set = ["secret", "set", "sandbox/client_secret", "--expires", &soon];
    for ended in user.run(&set, OLD) {
        ended.expect_status(0);
    }
    user
}

#[test]
fn setup_and_doctor_say_and_keep_no_secret() {
    for credential in ["secret", "certificate"] {
        let mut user = fresh();
        let script = user.home.path().join("rest.ps1");
        let address = user.sandbox.address().to_owned();
        let setup = [
            "setup",
            "microsoft365",
            "--sandbox",
            &address,
            "--account",
            "alerts",
            "--admin-login",
            "browser",
            "--username",
            PERSON.0,
            "--flow",
            "client_credentials",
            "--credential",
            credential,
            "--powershell",
            script.to_str().unwrap(),
            "--yes",
        ];
        // Exchange's part is not done, so that all it has to say is said; then nothing is new.
        user.run_with_sign_ins(&setup, &[ADMIN]);
        let setup: Vec<_> = setup.into_iter().chain(["--json"]).collect();
        user.run_with_sign_ins(&setup, &[ADMIN]);
        assert!(script.exists());
        user.learn();

        let doctor = ["doctor", "alerts"];
        for ended in user.run(&doctor, "") {
            assert_ne!(ended.status, 0, "{ended:?}");
        }
        for more in [&["--json"][..], &[]] {
            let words = ["doctor", "alerts", "--admin", "--admin-login", "browser"];
            let words: Vec<_> = words.iter().chain(more).copied().collect();
            user.run_with_sign_ins(&words, &[ADMIN]);
        }
        user.run(&["account", "show", "alerts"], "");
        user.run(&["account", "list"], "");
        user.nothing_leaked();
    }
}

#[test]
fn what_is_pasted_to_be_explained_is_not_repeated() {
    let sandbox = Sandbox::start();
    let home = Home::new("");
    let mut user = Overheard::new(sandbox, home);
    let xoauth2 = format!("user={}\u{1}auth=Bearer {TOKEN}\u{1}\u{1}", PERSON.0);
    let plain = format!("\0{}\0{PASSWORD}", PERSON.0);
    for text in [
        TOKEN.to_owned(),
        format!("535 5.7.3 Authentication unsuccessful with {TOKEN}"),
        format!("Authorization: Bearer {TOKEN}\nAADSTS7000215: Invalid client secret provided."),
        format!("AADSTS7000215: not '{OLD}'"),
        OLD.to_owned(),
        format!("client_id=a&client_secret={OLD}&grant_type=client_credentials: AADSTS7000215"),
        json!({
            "error": "invalid_client", "error_description": format!("AADSTS7000215: {OLD}"),
            "client_secret": OLD, "access_token": TOKEN, "refresh_token": PASSWORD,
        })
        .to_string(),
        json!({
            "error": { "code": "Authorization_RequestDenied", "message": format!("Bearer {TOKEN}") },
        })
        .to_string(),
        format!("C: AUTH XOAUTH2 {}\nS: 535 5.7.3 Authentication unsuccessful", STANDARD.encode(xoauth2)),
        format!("C: AUTH PLAIN {}\nS: 535 5.7.3 Authentication unsuccessful", STANDARD.encode(plain)),
        format!("password = \"{PASSWORD}\" 535 5.7.3 Authentication unsuccessful"),
        format!("{{\"password\":\"{PASSWORD}\",\"error\":\"535 5.7.3 Authentication unsuccessful\"}}"),
        format!("assertion {} 535 5.7.3 no", URL_SAFE_NO_PAD.encode(OLD.repeat(2))),
    ] {
        user.run(&["explain"], &text);
    }
    user.nothing_leaked();
}

#[test]
fn a_renewal_that_fails_says_and_keeps_no_secret() {
    let mut user = about_to_renew();
    let renew = ["rotate", "--client-secret", "sandbox"];
    let said = format!("the secret was {OLD}, the token Bearer {TOKEN}");
    let strike = |user: &Overheard, at: &str, only: Option<&str>, body: &str, status: u16| {
        user.sandbox.mend_tokens();
        let effect = json!({ "http": { "status": status, "body": body } });
        let mut fault = json!({ "at": at, "effect": effect });
        if let Some(only) = only {
            fault["only_for"] = only.into();
        }
        user.sandbox.control("POST", "scenario/fault", Some(&fault));
    };
    for (status, body) in [
        (
            403,
            json!({ "error": { "code": "Authorization_RequestDenied", "message": said } }),
        ),
        (
            400,
            json!({ "error": { "code": said, "message": said, "innerError": { "request-id": said } } }),
        ),
        (
            200,
            json!({ "secretText": OLD, "keyId": null, "hint": TOKEN }),
        ),
        (200, json!(said)),
    ] {
        for call in [None, Some("POST applications/{id}/addPassword")] {
            strike(&user, "graph", call, &body.to_string(), status);
            for ended in user.run(&renew, "") {
                assert_ne!(ended.status, 0, "{ended:?}");
            }
            user.learn();
        }
    }
    // Made, but Entra ID does not take it; and what it says repeats what it was shown.
    for body in [
        said.clone(),
        json!({ "error": "invalid_client", "error_description": format!("AADSTS7000222: {said}") })
            .to_string(),
    ] {
        strike(&user, "token", None, &body, 401);
        for ended in user.run(&renew, "") {
            assert_ne!(ended.status, 0, "{ended:?}");
        }
        user.learn();
    }
    user.sandbox.mend_tokens();
    // Nobody may, then an administrator whose sign-in is of no use, then one who renews.
    let admin = ["--admin", "--no-browser"];
    let words: Vec<_> = renew.iter().chain(&admin).copied().collect();
    strike(
        &user,
        "graph",
        Some("POST applications/{id}/addPassword"),
        &json!({ "error": { "code": "Authorization_RequestDenied", "message": said } }).to_string(),
        403,
    );
    let ended = user.run_with_sign_ins(&words, &[ADMIN]);
    assert_ne!(ended.status, 0, "{ended:?}");
    user.sandbox.mend_tokens();
    user.run_with_sign_ins(&words, &[ADMIN]).expect_status(0);
    user.learn();
    for ended in user.run(&["rotate", "--client-secret", "sandbox", "--abort"], "") {
        assert_eq!(ended.status, 0, "{ended:?}");
    }
    user.nothing_leaked();
}

#[test]
fn a_daemon_that_renews_logs_no_secret() {
    let mut user = about_to_renew();
    let mut serve = user.home.postrider(["serve", "--log", "trace"]);
    let daemon = Daemon::started_by(&mut serve, &user.home);
    let line = daemon.says("\"state\":\"switched\"");
    user.hear("the line of the renewal", line.to_string());
    user.learn();
    user.hear_of_process("serve", daemon.id());
    for path in ["/v1/status", "/v1/accounts", "/v1/accounts/sandbox"] {
        let (status, answer) = daemon.ask("GET", path);
        assert_eq!(status, 200, "{path}: {answer}");
        user.hear(path, answer.to_string());
    }
    for arguments in [
        &["rotate", "sandbox", "--force"][..],
        &["account", "show", "sandbox"],
        &["status"],
        &["doctor", "sandbox"],
    ] {
        for ended in user.run(arguments, "") {
            assert!(!ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
        }
    }
    let ended = daemon.terminate().expect_status(0);
    user.overhear("serve", &ended);
    let registered = user.sandbox.control("GET", "scenario", None);
    let secrets = registered["app"][0]["secrets"].as_array();
    assert_eq!(secrets.map(Vec::len), Some(2), "{registered}");
    user.nothing_leaked();
}

#[test]
fn a_token_and_a_key_are_known_by_what_they_are() {
    let user = Overheard::new(Sandbox::start(), Home::new(""));
    let made = postrider_setup::certificate::make(
        "Canary",
        std::time::Duration::from_hours(24),
        jiff::Timestamp::now(),
    )
    .unwrap();
    let key: &str = secrecy::ExposeSecret::expose_secret(&made.private_key_pem);
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    for text in [key, &body, &json!({ "key": key }).to_string()] {
        assert!(!user.needles.found_in(text.as_bytes()).is_empty(), "{text}");
    }
    for text in [format!("a {TOKEN}"), json!({ "token": TOKEN }).to_string()] {
        assert_eq!(token_in(&text), Some(TOKEN));
    }
    assert_eq!(token_in("eyJust.a.name"), None);
}
