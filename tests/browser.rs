//! A person signs in: the authorization code and the device code flow, at the sandbox and at a
//! certified OpenID provider, each clicked through on the provider's own pages by a real browser
//! while `postrider login` waits.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};
use support::browser::Browser;
use support::home::{Home, Login, PATIENCE, device};
use support::sandbox::{PERSON, read_mail};
use support::worlds::{at_the_openid_provider, at_the_sandbox, one_time_refresh_tokens};
use support::{Ended, skip};

/// Runs `postrider login` for a device code, which the person types in elsewhere.
fn login_by_code(home: &Home, account: &str, browser: &mut Browser) -> (Ended, Value) {
    let mut login = Login::begin(&mut home.postrider(["login", account, PATIENCE]));
    let (url, code) = (login.url(), login.code());
    let page = browser.act(&device(&url, &code, PERSON));
    (login.end(), page)
}

/// The entry of `account` in `postrider account list --json`.
#[track_caller]
fn listed(home: &Home, account: &str) -> Value {
    let list = home.json(["account", "list"]);
    let mut entries = list.as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["name"] == account);
    entry.unwrap().clone()
}

/// What holds after every sign-in: it is said who is connected, a token comes without a request,
/// a forced rotation gives another one, and the account is listed as fresh.
#[track_caller]
fn expect_connected(home: &Home, account: &str, login: &Ended, requests: impl Fn() -> u64) {
    assert_eq!(login.status, 0, "{login:?}");
    assert!(login.stdout.contains(PERSON.0), "{login:?}");

    let before = requests();
    let token = home.token(account);
    assert_eq!(requests(), before, "the token of the sign-in is used");
    home.run(["rotate", account, "--force"]).expect_status(0);
    assert_eq!(requests(), before + 1);
    let rotated = home.token(account);
    assert_ne!(rotated, token);
    // The provider gave a refresh token for one use with it, and that one is good too.
    home.run(["rotate", account, "--force"]).expect_status(0);

    let listed = listed(home, account);
    assert_eq!(listed["state"], "fresh", "{listed}");
    for said in [&login.stdout, &login.stderr] {
        assert!(!said.contains(PERSON.1) && !said.contains(&token), "{said}");
    }
}

#[test]
fn a_browser_signs_in_at_the_sandbox_and_mail_is_sent_as_that_person() {
    let (sandbox, home, mut browser) =
        match at_the_sandbox("authorization_code", one_time_refresh_tokens) {
            Ok(all) => all,
            Err(reason) => return skip(&reason),
        };

    let (login, page) = home.login("sandbox-person", &mut browser, PERSON);

    assert_eq!(page["steps"], json!(["sign in", "accept"]));
    let url = page["url"].as_str().unwrap();
    assert!(url.starts_with("http://localhost:"), "{page}");
    expect_page_of_success(&page);
    expect_connected(&home, "sandbox-person", &login, || sandbox.token_requests());
    assert!(login.stdout.contains("contoso"), "the tenant: {login:?}");

    home.run([
        "send",
        "--account",
        "sandbox-person",
        "--to",
        "admin@contoso.com",
        "--subject",
        "signed in",
        "--text",
        "by browser",
    ])
    .expect_status(0);
    let arrived = sandbox.mail("admin@contoso.com");
    let mail = read_mail(&arrived[0]);
    assert!(mail.contains("Subject: signed in"), "{mail}");
}

#[test]
fn a_browser_signs_in_at_a_certified_provider() {
    let (provider, home, mut browser) = match at_the_openid_provider("authorization_code") {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };

    let (login, page) = home.login("openid", &mut browser, PERSON);

    assert_eq!(page["steps"], json!(["sign in", "accept"]));
    expect_page_of_success(&page);
    expect_connected(&home, "openid", &login, || provider.token_requests());
    let granted = |entry: &Value| entry["outcome"] == "granted";
    assert!(provider.token_log().iter().all(granted));
}

#[test]
fn a_device_code_typed_in_at_the_sandbox_signs_in() {
    let (sandbox, home, mut browser) = match at_the_sandbox("device_code", |_| {}) {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };

    let (login, page) = login_by_code(&home, "sandbox-person", &mut browser);

    assert_eq!(page["steps"], json!(["code", "sign in", "accept"]));
    expect_connected(&home, "sandbox-person", &login, || sandbox.token_requests());
}

#[test]
fn a_device_code_typed_in_at_a_certified_provider_signs_in() {
    let (provider, home, mut browser) = match at_the_openid_provider("device_code") {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };

    let (login, page) = login_by_code(&home, "openid", &mut browser);

    let text = page["text"].as_str().unwrap();
    assert!(text.contains("Sign-in Success"), "{page}");
    expect_connected(&home, "openid", &login, || provider.token_requests());
}

#[test]
fn somebody_else_signing_in_is_told_and_nothing_is_stored() {
    let (_sandbox, home, mut browser) = match at_the_sandbox("authorization_code", |_| {}) {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    let somebody_else = ("admin@contoso.com", "admin-password");

    let (login, page) = home.login("sandbox-person", &mut browser, somebody_else);

    assert_eq!(login.status, 77, "{login:?}");
    for name in [PERSON.0, somebody_else.0] {
        assert!(login.stderr.contains(name), "{login:?}");
    }
    expect_page_of_failure(&page);
    assert_eq!(listed(&home, "sandbox-person")["state"], "absent");
    let token = home.run(["token", "sandbox-person"]).expect_status(77);
    assert!(token.stdout.is_empty(), "{token:?}");
    let command = "postrider login sandbox-person";
    assert!(token.stderr.contains(command), "{token:?}");
}

#[test]
fn a_sign_in_cancelled_on_the_consent_page_says_so() {
    fn cancel(home: &Home, account: &str, browser: &mut Browser) {
        let mut login =
            Login::begin(&mut home.postrider(["login", account, "--no-browser", PATIENCE]));
        let page = browser.act(&json!({
            "url": login.url(), "user": PERSON.0, "password": PERSON.1, "cancel": true,
        }));
        let ended = login.end().expect_status(77);
        assert_eq!(page["steps"], json!(["sign in", "cancel"]));
        expect_page_of_failure(&page);
        assert!(ended.stderr.contains("access_denied"), "{ended:?}");
        assert_eq!(listed(home, account)["state"], "absent");
    }

    match at_the_sandbox("authorization_code", |_| {}) {
        Ok((_sandbox, home, mut browser)) => cancel(&home, "sandbox-person", &mut browser),
        Err(reason) => return skip(&reason),
    }
    match at_the_openid_provider("authorization_code") {
        Ok((_provider, home, mut browser)) => cancel(&home, "openid", &mut browser),
        Err(reason) => skip(&reason),
    }
}

#[test]
fn a_device_code_refused_in_the_browser_ends_the_login() {
    let (_sandbox, home, mut browser) = match at_the_sandbox("device_code", |_| {}) {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    let mut login = Login::begin(&mut home.postrider(["login", "sandbox-person", PATIENCE]));
    let (url, code) = (login.url(), login.code());
    let mut request = device(&url, &code, PERSON);
    request["cancel"] = true.into();

    browser.act(&request);

    let ended = login.end().expect_status(77);
    assert!(ended.stderr.contains("authorization_declined"), "{ended:?}");
    assert_eq!(listed(&home, "sandbox-person")["state"], "absent");
}

#[test]
fn the_default_browser_is_told_to_open_the_page() {
    let (_sandbox, home, mut browser) = match at_the_sandbox("authorization_code", |_| {}) {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    // A browser that passes on what it was told to open.
    let (program, told) = (home.path().join("browser"), home.path().join("told"));
    fs::write(
        &program,
        "#!/bin/sh\nprintf '%s\\n' \"$1\" >\"$HOME/told\"\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let pipe = Command::new("mkfifo").arg(&told).status().unwrap();
    assert!(pipe.success());

    let mut command = home.postrider(["login", "sandbox-person", PATIENCE]);
    let mut login = Login::begin(command.env("BROWSER", &program));
    let opened = fs::read_to_string(&told).unwrap();
    let page = browser.sign_in(opened.trim(), PERSON);

    assert_eq!(login.url(), opened.trim());
    login.end().expect_status(0);
    expect_page_of_success(&page);
    assert_eq!(listed(&home, "sandbox-person")["state"], "fresh");
}

#[track_caller]
fn expect_page_of_success(page: &Value) {
    let text = page["text"].as_str().unwrap();
    assert!(
        text.starts_with("Signed in") && text.contains(PERSON.0),
        "{page}"
    );
}

#[track_caller]
fn expect_page_of_failure(page: &Value) {
    let (url, text) = (
        page["url"].as_str().unwrap(),
        page["text"].as_str().unwrap(),
    );
    assert!(url.starts_with("http://localhost:"), "{page}");
    assert!(text.starts_with("Not signed in"), "{page}");
}
