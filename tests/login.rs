//! Signing in and what follows from it: `login`, `token`, `rotate`, `account list`, `logout`,
//! against the sandbox, by every way there is and past everything that may go wrong.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::home::{Home, Login};
use support::person::{Page, Person};
use support::sandbox::{PERSON, Sandbox};
use support::{Ended, write_private};

const ACCOUNT: &str = "sandbox-person";
const APP_ONLY: &str = "sandbox";
const USER: &str = PERSON.0;
const PASSWORD: &str = PERSON.1;
const ADMIN: &str = "admin@contoso.com";
/// Sends a message, or says in JSON why not.
const SEND: &[&str] = &[
    "--json",
    "send",
    "--account",
    ACCOUNT,
    "--to",
    ADMIN,
    "--text",
    "t",
];
const ADMIN_PASSWORD: &str = "admin-password";

/// A sandbox, a configuration that uses it, and a person who can sign in there.
struct Site {
    home: Home,
    person: Person,
    sandbox: Sandbox,
}

impl Site {
    fn start() -> Self {
        let sandbox = Sandbox::start();
        let mut home = Home::new(sandbox.config());
        home.set(sandbox.client_secret());
        Self {
            home,
            person: Person::at(&sandbox),
            sandbox,
        }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.home.run(arguments.iter().copied())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.home.json(arguments.iter().copied())
    }

    fn begin(&self, arguments: &[&str]) -> Login {
        Login::begin(&mut self.home.postrider(arguments.iter().copied()))
    }

    /// Signs in, and all goes well.
    fn signed_in(&mut self) {
        let mut login = self.begin(&["login", ACCOUNT, "--no-browser"]);
        let page = pass(&mut self.person, &login.url(), USER, PASSWORD);
        self.person.open(page.landed().as_str());
        login.end().expect_status(0);
    }

    /// Nobody is signed in.
    #[track_caller]
    fn holds_nothing(&self) {
        let ended = self.run(&["token", ACCOUNT]).expect_status(77);
        assert_eq!(ended.stdout, "");
        assert!(
            ended.stderr.contains(&format!("postrider login {ACCOUNT}")),
            "{}",
            ended.stderr
        );
    }

    fn standing(&self, account: &str) -> Value {
        let listed = self.json(&["account", "list"]);
        let accounts = listed.as_array().unwrap();
        let found = accounts.iter().find(|one| one["name"] == account);
        found.unwrap().clone()
    }

    /// How many tokens the sandbox gave.
    fn tokens_given(&self) -> usize {
        let outcomes = self.sandbox.token_outcomes();
        outcomes.iter().filter(|one| *one == "granted").count()
    }
}

/// Goes from the sign-in page to where it ends, as this person.
fn pass(person: &mut Person, url: &str, user: &str, password: &str) -> Page {
    let page = person.open(url);
    person.sign_in(page, user, password)
}

#[test]
fn a_person_signs_in_once_and_everything_follows() {
    let mut site = Site::start();
    let before = site.standing(ACCOUNT);
    assert_eq!(before["state"], "absent");
    assert_eq!(before["sign_in_needed"], true);
    assert!(
        !site.home.state().join("vault").exists(),
        "looking makes no vault"
    );
    site.holds_nothing();

    let mut login = site.begin(&["login", ACCOUNT, "--no-browser"]);
    let url = login.url();
    let landed = pass(&mut site.person, &url, USER, PASSWORD);
    let page = site.person.open(landed.landed().as_str());
    let ended = login.end().expect_status(0);

    assert!(page.html.contains("<h1>Signed in</h1>"), "{}", page.html);
    assert!(page.html.contains(USER), "{}", page.html);
    for expected in [
        "connected",
        USER,
        "Mail service",
        "contoso.onmicrosoft.com (8d5f1c52-60a9-4c2b-9e0a-3b1f7c4d2e60)",
        "lapses",
        "postrider account test sandbox-person",
    ] {
        assert!(
            ended.stdout.contains(expected),
            "{expected}: {}",
            ended.stdout
        );
    }

    // Another process has it, and asks nobody.
    let given = site.tokens_given();
    let first = site.run(&["token", ACCOUNT]).expect_status(0);
    let second = site.run(&["token", ACCOUNT]).expect_status(0);
    assert_eq!(first.stderr, "");
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(first.stdout.lines().count(), 1);
    assert_eq!(site.tokens_given(), given);
    let described = site.json(&["token", ACCOUNT]);
    assert_eq!(described["access_token"], first.stdout.trim_end());
    assert_eq!(described["token_type"], "Bearer");
    assert_eq!(described["username"], USER);
    assert!(
        described["expires_in"].as_u64().unwrap() > 3000,
        "{described}"
    );
    assert!(
        described["scope"].as_str().unwrap().contains("SMTP.Send"),
        "{described}"
    );

    let standing = site.standing(ACCOUNT);
    assert_eq!(standing["state"], "fresh", "{standing}");
    assert_eq!(standing["generation"], 1);
    assert_eq!(standing["signed_in"]["usernames"][0], USER);
    let table = site.run(&["account", "list"]).expect_status(0).stdout;
    assert!(table.contains("sign-in in 90 d"), "{table}");

    let tested = site.run(&["account", "test", ACCOUNT]).expect_status(0);
    assert!(
        tested.stdout.contains("accepted  svc-mail@contoso.com"),
        "{}",
        tested.stdout
    );

    let rotated = site.run(&["rotate", ACCOUNT]).expect_status(0);
    assert!(rotated.stdout.contains("still fresh"), "{}", rotated.stdout);
    let rotated = site.json(&["rotate", ACCOUNT, "--force"]);
    assert_eq!(rotated[0]["outcome"], "refreshed", "{rotated}");
    assert_eq!(
        site.standing(ACCOUNT)["generation"],
        3,
        "a test fetches one too"
    );
    let third = site.run(&["token", ACCOUNT]).expect_status(0);
    assert_ne!(third.stdout, first.stdout);

    let out = site.run(&["logout", ACCOUNT]).expect_status(0);
    assert!(out.stdout.contains("not revoked"), "{}", out.stdout);
    assert!(
        out.stdout
            .contains("Revoke-MgUserSignInSession -UserId svc-mail@contoso.com"),
        "{}",
        out.stdout
    );
    site.holds_nothing();
    let out = site.run(&["logout", ACCOUNT]).expect_status(0);
    assert!(
        out.stdout.contains("nobody was signed in"),
        "{}",
        out.stdout
    );
}

#[test]
fn a_browser_is_opened_with_the_address_and_nothing_else() {
    let mut site = Site::start();
    let (fifo, browser) = (
        site.home.path().join("opened"),
        site.home.path().join("browser"),
    );
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Shows what it was started with, each argument on a line of its own.
    fs::write(&browser, "#!/bin/sh\nprintf '%s\\n' \"$@\" > opened\n").unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();

    let mut command = site.home.postrider(["--json", "login", ACCOUNT]);
    let mut login = Login::begin(command.env("BROWSER", &browser));
    let url = login.url();
    login.says("Your browser was told");
    let opened = fs::read_to_string(&fifo).unwrap();
    assert_eq!(opened, format!("{url}\n"));
    let page = pass(&mut site.person, &url, USER, PASSWORD);
    site.person.open(page.landed().as_str());

    let ended = login.end().expect_status(0);
    let connected: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(connected["account"], ACCOUNT);
    assert_eq!(connected["signed_in"]["usernames"][0], USER);
    assert_eq!(connected["warnings"], json!([]));
    assert!(
        connected["lapses_at"].as_str().unwrap().ends_with('Z'),
        "{connected}"
    );
}

#[test]
fn without_a_browser_that_is_said_and_the_sign_in_still_works() {
    let mut site = Site::start();

    let mut login = site.begin(&["login", ACCOUNT]);
    let url = login.url();
    login.says("--paste or --device-code");
    let page = pass(&mut site.person, &url, USER, PASSWORD);
    site.person.open(page.landed().as_str());

    login.end().expect_status(0);
}

#[test]
fn the_address_that_a_browser_elsewhere_ended_at_may_be_pasted() {
    let mut site = Site::start();

    let mut login = site.begin(&["login", ACCOUNT, "--paste"]);
    let url = login.url();
    let landed = pass(&mut site.person, &url, USER, PASSWORD);
    let landed = landed.landed().as_str();
    login.type_in("https://www.example.org/");
    login.says("does not begin with http://localhost:");
    login.type_in(landed);
    let ended = login.end().expect_status(0);

    assert!(ended.stdout.contains("connected"), "{}", ended.stdout);
    let (_, query) = landed.split_once("code=").unwrap();
    let code = query.split('&').next().unwrap();
    assert!(!ended.stderr.contains(code) && !ended.stdout.contains(code));
    site.run(&["token", ACCOUNT]).expect_status(0);
}

#[test]
fn what_is_pasted_and_is_no_redirect_changes_nothing() {
    let site = Site::start();

    let mut login = site.begin(&["login", ACCOUNT, "--paste"]);
    login.url();
    for _ in 0..3 {
        login.type_in("not an address");
    }
    let ended = login.end().expect_status(64);

    assert!(
        ended.stderr.contains("try: sign in again"),
        "{}",
        ended.stderr
    );
    let ended = site
        .begin(&["login", ACCOUNT, "--paste"])
        .end()
        .expect_status(64);
    assert!(
        ended.stderr.contains("no address was pasted"),
        "{}",
        ended.stderr
    );
    site.holds_nothing();
}

#[test]
fn a_code_is_entered_on_another_device() {
    let mut site = Site::start();
    let quick = json!({ "tokens": { "device_interval": "1s" } });
    site.sandbox.control("PATCH", "scenario", Some(&quick));

    let mut login = site.begin(&["login", ACCOUNT, "--device-code"]);
    let page = login.url();
    let code = login.code();
    assert!(page.ends_with("/device"), "{page}");
    let page = site.person.enter_code(&code);
    site.person.sign_in(page, USER, PASSWORD);

    let ended = login.end().expect_status(0);
    assert!(ended.stdout.contains("connected"), "{}", ended.stdout);
    site.run(&["token", ACCOUNT]).expect_status(0);
}

#[test]
fn a_declined_sign_in_changes_nothing() {
    let mut site = Site::start();

    let mut login = site.begin(&["--json", "login", ACCOUNT, "--no-browser"]);
    let page = site.person.open(&login.url());
    let consent = site
        .person
        .submit(&page, &[("login", USER), ("passwd", PASSWORD)]);
    let back = site.person.submit(&consent, &[("decision", "cancel")]);
    let page = site.person.open(back.landed().as_str());
    let ended = login.end().expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.consent_declined", "{failed}");
    assert!(
        page.html.contains("<h1>Not signed in</h1>"),
        "{}",
        page.html
    );
    assert!(page.html.contains("onsent was declined"), "{}", page.html);
    site.holds_nothing();
}

#[test]
fn a_missing_consent_names_who_can_give_it() {
    let mut site = Site::start();
    let strict = json!({ "user_consent": false });
    site.sandbox
        .control("PATCH", "scenario/tenant/contoso.com", Some(&strict));

    let mut login = site.begin(&["--json", "login", ACCOUNT, "--no-browser"]);
    let page = pass(&mut site.person, &login.url(), USER, PASSWORD);
    let page = site.person.open(page.landed().as_str());
    let ended = login.end().expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.admin_consent_required");
    assert_eq!(failed["error"]["who"], "an Entra administrator");
    assert!(page.html.contains("administrator"), "{}", page.html);
    site.holds_nothing();
}

#[test]
fn somebody_else_is_not_taken_for_the_mailbox() {
    let mut site = Site::start();
    site.signed_in();

    let mut login = site.begin(&["--json", "login", ACCOUNT, "--no-browser"]);
    let url = login.url();
    site.person = site.person.another();
    let page = pass(&mut site.person, &url, ADMIN, ADMIN_PASSWORD);
    let page = site.person.open(page.landed().as_str());
    let ended = login.end().expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.wrong_user");
    let remedy = failed["error"]["remedy"].as_str().unwrap();
    assert!(
        remedy.contains(&format!("--signed-in-as {ADMIN}")),
        "{remedy}"
    );
    assert!(
        page.html.contains("Not signed in") && page.html.contains(ADMIN),
        "{}",
        page.html
    );
    let standing = site.standing(ACCOUNT);
    assert_eq!(
        standing["generation"], 1,
        "the earlier sign-in stays: {standing}"
    );
    assert_eq!(standing["signed_in"]["usernames"][0], USER);

    // Unless they are the one who is meant.
    let mut login = site.begin(&["login", ACCOUNT, "--no-browser", "--signed-in-as", ADMIN]);
    let page = pass(&mut site.person, &login.url(), ADMIN, ADMIN_PASSWORD);
    site.person.open(page.landed().as_str());
    login.end().expect_status(0);
    let standing = site.standing(ACCOUNT);
    assert_eq!(standing["generation"], 2);
    assert_eq!(standing["signed_in"]["usernames"][0], ADMIN);
}

#[test]
fn another_windows_redirect_does_not_end_the_wait() {
    let mut site = Site::start();

    let mut login = site.begin(&["login", ACCOUNT, "--no-browser"]);
    let page = pass(&mut site.person, &login.url(), USER, PASSWORD);
    let right = page.landed();
    let mut wrong = right.clone();
    wrong.set_query(Some("code=evil&state=another"));
    let page = site.person.open(wrong.as_str());
    assert_eq!(page.status, 400);
    assert!(
        page.html.contains("<h1>Another sign-in</h1>"),
        "{}",
        page.html
    );
    login.says("another sign-in");
    let page = site.person.open(right.as_str());

    assert!(page.html.contains("<h1>Signed in</h1>"), "{}", page.html);
    login.end().expect_status(0);
}

#[test]
fn patience_ends_and_nothing_has_changed() {
    let mut site = Site::start();
    site.signed_in();

    let ended = site
        .run(&[
            "--json",
            "login",
            ACCOUNT,
            "--no-browser",
            "--timeout",
            "1s",
        ])
        .expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.login_timeout");
    assert_eq!(site.standing(ACCOUNT)["generation"], 1);
}

#[test]
fn ctrl_c_stops_it_and_nothing_has_changed() {
    let site = Site::start();

    let mut login = site.begin(&["login", ACCOUNT, "--no-browser"]);
    login.url();
    login.interrupt();
    let ended = login.end().expect_status(130);

    assert!(
        ended.stderr.contains("nothing was changed"),
        "{}",
        ended.stderr
    );
    site.holds_nothing();
}

/// The sandbox as a provider that nothing is known of but its endpoints.
fn unknown_provider(config: &str, scopes: &str) -> String {
    let (_, person) = config.split_once("[account.sandbox-person]").unwrap();
    let value = |key: &str| {
        let line = person.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_once(" = ")
            .unwrap()
            .1
            .trim_matches('"')
            .to_owned()
    };
    let base = format!("{}/{}/oauth2/v2.0", value("authority"), value("tenant"));
    format!(
        "[account.sandbox-person]\nusername = \"{USER}\"\nserver = {}\nca_file = \"{}\"\n\
         [account.sandbox-person.auth]\nplugin = \"oauth\"\nflow = \"authorization_code\"\n\
         client_id = \"{}\"\nauthorization_endpoint = \"{base}/authorize\"\n\
         token_endpoint = \"{base}/token\"\nscopes = {scopes}\n",
        value("server"),
        value("ca_file"),
        value("client_id"),
    )
}

#[test]
fn a_sign_in_that_would_not_last_is_refused() {
    let mut site = Site::start();
    let scopes = "[\"https://outlook.office.com/SMTP.Send\", \"openid\", \"profile\"]";
    site.home
        .configure(&unknown_provider(site.sandbox.config(), scopes));

    let mut login = site.begin(&["--json", "login", ACCOUNT, "--no-browser"]);
    let page = pass(&mut site.person, &login.url(), USER, PASSWORD);
    site.person.open(page.landed().as_str());
    let ended = login.end().expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.no_refresh_token", "{failed}");
    let remedy = failed["error"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("offline_access"), "{remedy}");
    site.holds_nothing();
}

#[test]
fn where_the_provider_does_not_say_who_signed_in_that_is_a_warning() {
    let mut site = Site::start();
    let scopes = "[\"https://outlook.office.com/SMTP.Send\", \"offline_access\"]";
    site.home
        .configure(&unknown_provider(site.sandbox.config(), scopes));

    // Whoever asks for a check does not go without it.
    let mut login = site.begin(&[
        "--json",
        "login",
        ACCOUNT,
        "--no-browser",
        "--signed-in-as",
        USER,
    ]);
    let page = pass(&mut site.person, &login.url(), USER, PASSWORD);
    site.person.open(page.landed().as_str());
    let ended = login.end().expect_status(77);
    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.unknown_person", "{failed}");
    site.holds_nothing();

    let mut login = site.begin(&["login", ACCOUNT, "--no-browser"]);
    let page = pass(&mut site.person, &login.url(), USER, PASSWORD);
    site.person.open(page.landed().as_str());
    let ended = login.end().expect_status(0);
    assert!(
        ended
            .stderr
            .contains("warning: the provider does not say who signed in"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_token_without_the_permission_to_send_is_refused() {
    let mut site = Site::start();
    let tokens = json!({
        "access_token": "granted-for-something-else",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "refreshes-something-else",
        "scope": "https://outlook.office.com/IMAP.AccessAsUser.All",
    });
    let answer = json!({ "status": 200, "body": tokens.to_string() });
    site.sandbox.break_tokens(json!({ "http": answer }));

    let mut login = site.begin(&["--json", "login", ACCOUNT, "--no-browser"]);
    let page = pass(&mut site.person, &login.url(), USER, PASSWORD);
    site.person.open(page.landed().as_str());
    let ended = login.end().expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.scope_missing", "{failed}");
    assert!(!ended.stdout.contains("something-else"), "{}", ended.stdout);
    site.sandbox.mend_tokens();
    site.holds_nothing();
}

#[test]
fn where_nobody_signs_in_that_is_said() {
    let site = Site::start();
    let password = "\n[account.printer]\nusername = \"printer@example.org\"\n\
                    server = { host = \"smtp.example.org\", port = 587, tls = \"starttls\" }\n\
                    auth = { plugin = \"basic\", password = { env = \"PRINTER_PASSWORD\" } }\n";
    site.home
        .configure(&format!("{}{password}", site.sandbox.config()));

    for (account, why) in [(APP_ONLY, "client_credentials"), ("printer", "basic")] {
        let ended = site.run(&["login", account]).expect_status(64);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("try: postrider account test"),
            "{}",
            ended.stderr
        );
    }
    let ended = site.run(&["token", "printer"]).expect_status(64);
    assert!(ended.stderr.contains("no tokens"), "{}", ended.stderr);
    assert_eq!(site.standing("printer")["state"], "none");
}

#[test]
fn accounts_of_one_application_cost_one_request() {
    let site = Site::start();
    let (app_only, _) = site
        .sandbox
        .config()
        .split_once("[account.sandbox-person]")
        .unwrap();
    let second = app_only.replace("account.sandbox", "account.second");
    site.home
        .configure(&format!("{}\n{second}", site.sandbox.config()));

    let given = site.tokens_given();
    let rotated = site
        .run(&["rotate", APP_ONLY, "second", "--force"])
        .expect_status(0);

    assert_eq!(site.tokens_given(), given + 1);
    assert!(
        rotated.stdout.contains("shares the grant of"),
        "{}",
        rotated.stdout
    );
    let tokens = [APP_ONLY, "second"].map(|name| site.run(&["token", name]).stdout);
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(site.tokens_given(), given + 1);
}

#[test]
fn rotating_everything_says_what_is_worst() {
    let mut site = Site::start();

    let ended = site.run(&["--json", "rotate", "--all"]).expect_status(77);
    let reports: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(reports[0]["account"], APP_ONLY);
    assert_eq!(reports[0]["outcome"], "refreshed", "{reports}");
    assert_eq!(
        reports[1]["error"]["code"], "auth.sign_in_needed",
        "{reports}"
    );

    site.signed_in();
    site.run(&["rotate", "--all"]).expect_status(0);
    site.sandbox
        .break_tokens(json!({ "http": { "status": 503 } }));
    let ended = site.run(&["rotate", "--all", "--force"]).expect_status(75);
    // Seen even where cron's line ends in `> /dev/null`.
    assert!(ended.stderr.contains("failed"), "{}", ended.stderr);
    let table = site.run(&["account", "list"]).expect_status(0).stdout;
    // In a moment, or now: the first pause is short.
    assert!(table.contains("the next attempt is due"), "{table}");
    // What is there still serves.
    site.run(&["token", ACCOUNT]).expect_status(0);
    site.run(&["rotate"]).expect_status(64);
}

#[test]
fn what_ends_soon_is_said_wherever_somebody_looks() {
    let site = Site::start();
    let day = |days: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days - 1);
        then.to_string()
    };
    let secret = "client_secret = { env = \"SANDBOX_CLIENT_SECRET\" }";
    assert!(site.sandbox.config().contains(secret));
    for (days, marked) in [
        (12, "client_secret in 12 d!"),
        (200, "client_secret in 200 d"),
    ] {
        let expiring = format!(
            "client_secret = {{ env = \"SANDBOX_CLIENT_SECRET\", expires = \"{}\" }}",
            day(days)
        );
        site.home
            .configure(&site.sandbox.config().replace(secret, &expiring));
        let table = site.run(&["account", "list"]).expect_status(0).stdout;
        assert!(table.contains(marked), "{table}");
        assert_eq!(table.contains('!'), days < 30, "{table}");
        let rotated = site.run(&["rotate", APP_ONLY]).expect_status(0).stdout;
        assert_eq!(
            rotated.contains("warning: client_secret expires in 12 d"),
            days == 12,
            "{rotated}"
        );
        let tested = site
            .run(&["account", "test", APP_ONLY, "--no-send"])
            .expect_status(0);
        assert_eq!(
            tested.stdout.contains("client_secret expires in 12 d"),
            days == 12,
            "{}",
            tested.stdout
        );
    }
}

#[test]
fn a_vault_that_cannot_be_read_hides_no_account() {
    let mut site = Site::start();
    site.signed_in();
    let vault = site.home.state().join("vault/vault.json");
    spoil(&vault);

    let table = site.run(&["account", "list"]).expect_status(0).stdout;

    for expected in [APP_ONLY, ACCOUNT, USER, "unknown", "vault"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let listed = site.standing(ACCOUNT);
    assert_eq!(listed["state"], "unknown");
    assert!(listed["problem"]["message"].is_string(), "{listed}");
    // Nobody is asked to sign in for nothing.
    let ended = site.run(&["login", ACCOUNT, "--no-browser"]);
    assert_ne!(ended.status, 0);
    assert!(!ended.stderr.contains("https://"), "{}", ended.stderr);
}

#[test]
fn signing_in_again_mends_a_damaged_sign_in() {
    let mut site = Site::start();
    let records = site.home.state().join("vault/records");
    site.signed_in();
    let record = || {
        let shards = fs::read_dir(&records).unwrap();
        let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
        let mut files = files.map(|file| file.unwrap().path());
        files.find(|path| path.file_name().unwrap().len() > "ledger".len())
    };
    let damages: [fn(&Path); 2] = [spoil, |path| fs::remove_file(path).unwrap()];

    for damage in damages {
        damage(&record().unwrap());
        let ended = site.run(&["token", ACCOUNT]);
        assert_ne!(ended.status, 0);
        site.signed_in();
        assert_eq!(site.standing(ACCOUNT)["state"], "fresh");
    }

    // The ledger goes for other records, too.
    let ledger = record().unwrap().with_file_name("ledger");
    spoil(&ledger);
    let ended = site
        .run(&["login", ACCOUNT, "--no-browser"])
        .expect_status(65);
    assert!(ended.stderr.contains("vault rekey"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("https://"), "{}", ended.stderr);
}

#[test]
fn what_is_wrong_with_the_vault_is_said_in_its_own_words_wherever_it_shows() {
    let mut site = Site::start();
    site.signed_in();
    let key = site.home.state().join("vault.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();

    let said = site.run(&["--json", "vault", "status"]).expect_status(78);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    for arguments in [
        &["--json", "token", ACCOUNT][..],
        &["--json", "logout", ACCOUNT],
        SEND,
    ] {
        let ended = site.run(arguments).expect_status(78);
        let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
        for part in ["code", "message", "remedy", "at"] {
            assert_eq!(failed["error"][part], said["error"][part], "{failed}");
        }
        assert_eq!(failed["error"]["account"], ACCOUNT, "{failed}");
    }
}

#[test]
fn a_clock_that_is_wrong_is_looked_at_before_the_provider() {
    let mut later = match support::clock::Later::new() {
        Ok(later) => later,
        Err(missing) => return support::skip(&missing),
    };
    let site = Site::start();
    later.pass(std::time::Duration::from_hours(20 * 365 * 24));
    let mut command = site.home.postrider(["token", APP_ONLY]);
    later.tell(&mut command);

    let ended = support::run(&mut command).expect_status(75);

    assert!(ended.stderr.contains("clock"), "{}", ended.stderr);
}

#[test]
fn sending_without_a_sign_in_names_the_one_command() {
    let site = Site::start();

    let ended = site.run(SEND).expect_status(77);

    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["error"]["code"], "auth.sign_in_needed", "{failed}");
    assert_eq!(
        failed["error"]["remedy"],
        format!("postrider login {ACCOUNT}")
    );
}

#[test]
fn a_revoked_sign_in_says_so_and_how_to_mend_it() {
    let mut site = Site::start();
    site.signed_in();
    site.sandbox.control("POST", "revoke", Some(&json!({})));

    let ended = site
        .run(&["--json", "rotate", ACCOUNT, "--force"])
        .expect_status(77);

    let reports: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(reports[0]["error"]["code"], "auth.revoked", "{reports}");
    let standing = site.standing(ACCOUNT);
    assert_eq!(standing["state"], "reauthorization_required", "{standing}");
    assert_eq!(standing["reason"], "revoked");
    let table = site.run(&["account", "list"]).expect_status(0).stdout;
    assert!(table.contains("sign in"), "{table}");
    let remedy = format!("try: postrider login {ACCOUNT}");
    assert!(table.contains(&remedy), "{table}");

    site.signed_in();
    assert_eq!(site.standing(ACCOUNT)["state"], "fresh");
}

#[test]
fn a_test_of_an_account_is_not_content_with_a_kept_token() {
    let mut site = Site::start();
    site.run(&["token", APP_ONLY]).expect_status(0);
    site.home
        .set(("SANDBOX_CLIENT_SECRET", "no longer this one"));
    site.run(&["token", APP_ONLY]).expect_status(0);

    let ended = site
        .run(&["--json", "account", "test", APP_ONLY, "--no-send"])
        .expect_status(77);

    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let stages = report["check"]["stages"].as_array().unwrap();
    let token = stages
        .iter()
        .find(|stage| stage["name"] == "token")
        .unwrap();
    assert_eq!(token["result"], "failed", "{report}");
    assert_eq!(
        token["failure"]["code"], "auth.client_secret_wrong",
        "{report}"
    );
}

#[test]
fn forgetting_here_leaves_the_sign_in_alone_elsewhere() {
    let mut site = Site::start();
    site.signed_in();

    let ended = site.run(&["logout", ACCOUNT, "--local"]).expect_status(0);

    assert!(
        ended.stdout.contains("the provider was not told"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("Revoke"), "{}", ended.stdout);
    assert_eq!(site.standing(ACCOUNT)["state"], "absent");
}

/// Cuts a file in half.
fn spoil(path: &Path) {
    let octets = fs::read(path).unwrap();
    write_private(path, &octets[..octets.len() / 2]);
}
