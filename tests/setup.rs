//! `postrider setup`: from an empty machine and a fresh tenant to a delivered message, again
//! without changing anything, killed at each step, without a terminal, and at one.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use support::home::{Home, Login};
use support::person::Person;
use support::sandbox::{PERSON, Sandbox};
use support::{Ended, find_program, root, run, run_with, skip};

const ADMIN: (&str, &str) = ("admin@contoso.com", "admin-password");
const ACCOUNT: &str = "alerts";

/// A tenant where nobody registered anything, and a machine with nothing on it.
struct Site {
    sandbox: Sandbox,
    home: Home,
    config: PathBuf,
}

impl Site {
    fn start() -> Self {
        let sandbox = Sandbox::of_a_new_tenant();
        let (home, config) = Home::empty();
        Self {
            sandbox,
            home,
            config,
        }
    }

    /// The arguments of a setup at this sandbox.
    fn setup<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![
            "setup",
            "microsoft365",
            "--sandbox",
            self.sandbox.address(),
            "--account",
            ACCOUNT,
            "--admin-login",
            "browser",
        ];
        arguments.extend(more);
        arguments
    }

    /// Runs it, with the administrator's sign-in; whoever else has to sign in is signed in, too.
    fn run(&self, more: &[&str], people: &[(&str, &str)]) -> Ended {
        self.run_with(more, people, &[])
    }

    fn run_with(
        &self,
        more: &[&str],
        people: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Ended {
        let mut command = self.home.postrider(self.setup(more));
        command.envs(environment.iter().copied());
        let mut setup = Login::begin(&mut command);
        for who in people {
            let mut person = Person::at(&self.sandbox);
            let page = person.open(&setup.url());
            let page = person.sign_in(page, who.0, who.1);
            person.open(page.landed().as_str());
        }
        setup.end()
    }

    /// The applications of the tenant that setup made.
    fn applications(&self) -> Vec<Value> {
        let scenario = self.sandbox.control("GET", "scenario", None);
        let apps = scenario["app"].as_array().cloned().unwrap_or_default();
        let ours = |app: &Value| app["name"] == format!("Postrider: {ACCOUNT}");
        apps.into_iter().filter(ours).collect()
    }

    /// The only one.
    #[track_caller]
    fn application(&self) -> Value {
        let mut all = self.applications();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }

    /// What the sandbox's Graph was asked to change since the log was cleared.
    fn changes(&self) -> Vec<String> {
        let log = self.sandbox.control("GET", "log", None);
        let entries = log["entries"].as_array().unwrap().iter();
        let graph = entries.filter(|entry| entry["area"] == "graph");
        let calls = graph.map(|entry| entry["what"].as_str().unwrap().to_owned());
        calls.filter(|call| !call.starts_with("GET")).collect()
    }
}

#[test]
fn an_empty_machine_and_a_fresh_tenant_end_with_a_delivered_message_after_one_sign_in() {
    let site = Site::start();
    let arguments = ["--username", ADMIN.0, "--test-recipient", ADMIN.0, "--yes"];
    let mut setup = Login::begin(&mut site.home.postrider(site.setup(&arguments)));
    let mut person = Person::at(&site.sandbox);

    // The one sign-in.
    let page = person.open(&setup.url());
    let page = person.sign_in(page, ADMIN.0, ADMIN.1);
    person.open(page.landed().as_str());
    // The administrator is the mailbox's user: the browser knows them, and asks nothing.
    let page = person.open(&setup.url());
    let page = person.open(page.landed().as_str());
    let ended = setup.end().expect_status(0);

    assert!(page.html.contains("<h1>Signed in</h1>"), "{}", page.html);
    assert!(ended.stdout.contains("create"), "{}", ended.stdout);
    assert!(
        ended
            .stdout
            .contains("Set-CASMailbox -Identity 'admin@contoso.com'"),
        "{}",
        ended.stdout
    );
    assert_eq!(site.sandbox.mail(ADMIN.0).len(), 1, "{}", ended.stdout);
    let application = site.application();
    assert!(
        application.to_string().contains("http://localhost"),
        "{application}"
    );
    let config = fs::read_to_string(&site.config).unwrap();
    assert!(
        config.contains(application["client_id"].as_str().unwrap()),
        "{config}"
    );
    assert!(config.contains("contoso.onmicrosoft.com"), "{config}");

    // Everything works without setup, too.
    site.home.run(["check"]).expect_status(0);
    assert!(!site.home.token(ACCOUNT).is_empty());

    // The second time nothing changes, and nobody but the administrator signs in.
    site.sandbox.control("DELETE", "log", None);
    let ended = site.run(&arguments, &[ADMIN]).expect_status(0);
    assert!(
        ended.stdout.contains("Nothing to change"),
        "{}",
        ended.stdout
    );
    assert_eq!(site.changes(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(&site.config).unwrap(), config);
    assert_eq!(site.sandbox.mail(ADMIN.0).len(), 1);
}

#[test]
fn an_application_of_its_own_needs_one_sign_in_and_the_exchange_administrators_lines() {
    for credential in ["secret", "certificate"] {
        let site = Site::start();
        let script = site.home.path().join("rest.ps1");
        let arguments = [
            "--username",
            PERSON.0,
            "--sender",
            "alerts@contoso.com",
            "--test-recipient",
            PERSON.0,
            "--flow",
            "client_credentials",
            "--credential",
            credential,
            "--powershell",
            script.to_str().unwrap(),
            "--yes",
        ];

        let ended = site.run(&arguments, &[ADMIN]);

        // Exchange does not know the application yet, and doctor says so.
        assert_ne!(ended.status, 0, "{}", ended.stdout);
        let application = site.application();
        let client_id = application["client_id"].as_str().unwrap();
        let object_id = application["object_id"].as_str().unwrap();
        let line = format!("New-ServicePrincipal -AppId '{client_id}' -ObjectId '{object_id}'");
        assert!(ended.stdout.contains(&line), "{line}\n{}", ended.stdout);
        let script = fs::read_to_string(&script).unwrap();
        assert!(script.contains(&line), "{script}");
        assert!(
            script.contains("Add-RecipientPermission 'alerts@contoso.com'"),
            "{script}"
        );
        let config = fs::read_to_string(&site.config).unwrap();
        for part in ["client_secret", "certificate"] {
            let wanted = part == "client_secret" && credential == "secret"
                || part == "certificate" && credential == "certificate";
            assert_eq!(config.contains(part), wanted, "{config}");
        }
        for text in [&ended.stdout, &ended.stderr, &config] {
            assert!(!text.contains("PRIVATE KEY"), "{text}");
        }

        // The Exchange administrator does their part.
        let path = format!("scenario/app/{client_id}");
        let registered = json!({ "exchange_service_principal": true });
        site.sandbox.control("PATCH", &path, Some(&registered));
        let right = json!({ "mailbox": PERSON.0, "trustee": client_id, "right": "full_access" });
        site.sandbox
            .control("POST", "scenario/permission", Some(&right));

        let tested = site.home.run(["account", "test", ACCOUNT]).expect_status(0);
        assert!(tested.stdout.contains("accepted"), "{}", tested.stdout);
        let before = fs::read_to_string(&site.config).unwrap();
        site.sandbox.control("DELETE", "log", None);
        let again = site.run(&arguments, &[ADMIN]).expect_status(0);
        assert!(
            again.stdout.contains("Nothing to change"),
            "{}",
            again.stdout
        );
        assert_eq!(site.changes(), Vec::<String>::new());
        assert_eq!(fs::read_to_string(&site.config).unwrap(), before);
    }
}

#[test]
fn what_a_renewal_has_put_in_use_is_known_to_the_next_setup() {
    for credential in ["secret", "certificate"] {
        let site = Site::start();
        let arguments = [
            "--username",
            PERSON.0,
            "--flow",
            "client_credentials",
            "--credential",
            credential,
            "--own-renewal",
            "--no-send",
            "--yes",
        ];
        site.run(&arguments, &[ADMIN]);
        let application = site.application();
        let client_id = application["client_id"].as_str().unwrap();
        let path = format!("scenario/app/{client_id}");
        let registered = json!({ "exchange_service_principal": true });
        site.sandbox.control("PATCH", &path, Some(&registered));
        let right = json!({ "mailbox": PERSON.0, "trustee": client_id, "right": "full_access" });
        site.sandbox
            .control("POST", "scenario/permission", Some(&right));

        // While the old one is kept beside it, and when it is gone.
        for (rotate, is_under_way) in [("--json", true), ("--finish", false)] {
            let words = ["rotate", "--client-secret", ACCOUNT, rotate];
            site.home.run(words).expect_status(0);
            site.sandbox.control("DELETE", "log", None);
            let registered = site.application();

            let again = site.run(&arguments, &[ADMIN]).expect_status(0);

            let said = &again.stdout;
            assert!(said.contains("Nothing to change"), "{credential}: {said}");
            assert_eq!(said.contains("renewal"), is_under_way, "{said}");
            assert_eq!(site.changes(), Vec::<String>::new());
            assert_eq!(site.application(), registered);
            site.home
                .run(["rotate", ACCOUNT, "--force"])
                .expect_status(0);
        }
        assert_ne!(site.application(), application);
    }
}

#[test]
fn a_dry_run_shows_the_plan_and_leaves_no_trace() {
    let site = Site::start();

    let ended = site
        .run(&["--username", PERSON.0, "--dry-run"], &[ADMIN])
        .expect_status(0);

    assert!(ended.stdout.contains("create"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("account.alerts.username"),
        "{}",
        ended.stdout
    );
    assert!(site.applications().is_empty());
    assert_eq!(site.changes(), Vec::<String>::new());
    assert!(!site.config.exists());
    assert!(!site.home.state().join("vault").exists());
}

#[test]
fn an_administrator_without_a_browser_here_signs_in_all_the_same() {
    let site = Site::start();
    site.sandbox.control(
        "PATCH",
        "scenario",
        Some(&json!({ "tokens": { "device_interval": "1s" } })),
    );
    let begin = |way| {
        let mut arguments = site.setup(&["--username", PERSON.0, "--dry-run"]);
        arguments.retain(|argument| *argument != "browser");
        let at = arguments.iter().position(|one| *one == "--admin-login");
        arguments.insert(at.unwrap() + 1, way);
        Login::begin(&mut site.home.postrider(arguments))
    };

    let mut setup = begin("paste");
    let mut person = Person::at(&site.sandbox);
    let page = person.open(&setup.url());
    let page = person.sign_in(page, ADMIN.0, ADMIN.1);
    setup.type_in(page.landed().as_str());
    setup.end().expect_status(0);

    let mut setup = begin("device-code");
    let mut person = Person::at(&site.sandbox);
    let page = person.enter_code(&setup.code());
    let page = person.submit(&page, &[("login", ADMIN.0), ("passwd", ADMIN.1)]);
    if page.title() == "Permissions requested" {
        person.submit(&page, &[("decision", "accept")]);
    }
    let ended = setup.end().expect_status(0);
    assert!(ended.stdout.contains(ADMIN.0), "{}", ended.stdout);

    // A user who is no administrator is told what they may not do, and by whom it can be done.
    let mut setup = begin("paste");
    let mut person = Person::at(&site.sandbox);
    let page = person.open(&setup.url());
    let page = person.submit(&page, &[("login", PERSON.0), ("passwd", PERSON.1)]);
    match page.landed {
        Some(landed) => setup.type_in(landed.as_str()),
        None => setup.interrupt(),
    }
    let ended = setup.end();
    assert_ne!(ended.status, 0, "{}", ended.stdout);
    assert!(site.applications().is_empty());
    assert!(!site.home.state().join("vault").exists());
}

#[test]
fn without_a_terminal_nothing_is_changed_unless_yes_was_said() {
    let site = Site::start();

    let ended = site
        .run(&["--username", PERSON.0], &[ADMIN])
        .expect_status(64);

    assert!(
        ended.stderr.contains("nothing was changed"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("--yes"), "{}", ended.stderr);
    assert!(ended.stdout.contains("create"), "{}", ended.stdout);
    assert!(site.applications().is_empty());
    assert!(!site.config.exists());

    let ended = site.home.run(["setup"]).expect_status(64);
    assert!(ended.stderr.contains("--answers FILE"), "{}", ended.stderr);
}

#[test]
fn the_manual_way_has_this_tenants_values_and_needs_no_sign_in() {
    let site = Site::start();
    let more = [
        "--username",
        PERSON.0,
        "--flow",
        "client_credentials",
        "--print-manual",
    ];

    let ended = site.home.run(site.setup(&more)).expect_status(0);

    for part in [
        "8d5f1c52-60a9-4c2b-9e0a-3b1f7c4d2e60",
        "Postrider: alerts",
        "SMTP.SendAsApp",
        "Set-CASMailbox -Identity 'svc-mail@contoso.com'",
        "--no-graph",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(site.applications().is_empty());
    assert!(!site.config.exists());
}

#[test]
fn killed_at_any_step_it_completes_the_next_time_and_leaves_nothing_behind() {
    let own = ["--flow", "client_credentials", "--no-send"];
    let removed = killed(&own, &[ADMIN], "secrets", 5);
    assert!(
        removed > 0,
        "no run was killed between a secret's making and its keeping"
    );
}

#[test]
fn killed_with_a_certificate_it_completes_the_next_time() {
    let more = [
        "--flow",
        "client_credentials",
        "--credential",
        "certificate",
        "--no-send",
    ];
    killed(&more, &[ADMIN], "certificates", 6);
}

#[test]
fn killed_where_a_person_is_to_sign_in_it_completes_the_next_time() {
    killed(&["--no-send"], &[ADMIN, PERSON], "", 5);
}

/// Kills a setup at one in `every` of its steps, each on a machine and in a tenant of its own,
/// and has it completed; how many credentials had to be removed. Every step there is has its turn
/// in the tests of `postrider-setup`, without processes.
fn killed(more: &[&str], people: &[(&str, &str)], credentials: &str, every: usize) -> usize {
    let arguments = [&["--username", PERSON.0, "--yes"], more].concat();
    let site = Site::start();
    let log = site.home.path().join("steps");
    let environment = [("POSTRIDER_CRASH_LOG", log.to_str().unwrap())];
    site.run_with(&arguments, people, &environment);
    let steps = steps(&fs::read_to_string(&log).unwrap());
    assert!(steps.len() > 10, "{steps:?}");

    let registered = |app: &Value| app[credentials].as_array().cloned().unwrap_or_default();
    let mut removed = 0;
    for step in steps.iter().rev().step_by(every) {
        let site = Site::start();
        let killed = site.run_with(&arguments, &[ADMIN], &[("POSTRIDER_CRASH_AT", step)]);
        assert_eq!(killed.signal, Some(9), "{step}: {killed:?}");
        let left: Vec<Value> = site.applications().iter().flat_map(registered).collect();

        let ended = site.run(&arguments, people);

        let application = site.application();
        let now = registered(&application);
        let expected = usize::from(!credentials.is_empty());
        assert_eq!(now.len(), expected, "{step}: {now:#?}\n{}", ended.stdout);
        // What the killed run had left is in use, or it was removed and said.
        for one in &left {
            let id = one["key_id"].as_str().unwrap();
            let in_use = now[0]["key_id"] == id;
            let said = ended.stdout.contains(&format!("({id})"));
            assert!(in_use || said, "{step}: {id}\n{}", ended.stdout);
            removed += usize::from(!in_use);
        }
        let config = fs::read_to_string(&site.config).unwrap();
        let client_id = application["client_id"].as_str().unwrap();
        assert!(config.contains(client_id), "{step}: {config}");
        // What is in the vault is what is registered.
        site.home.run(["token", ACCOUNT]).expect_status(0);
    }
    removed
}

/// Each request that changes something, each word of the journal, and the settings. What the
/// vault does for one word of it is its own story, and so is the person's sign-in that follows.
fn steps(passed: &str) -> Vec<String> {
    let mut times = BTreeMap::<&str, u32>::new();
    let mut steps = Vec::new();
    for name in passed.lines() {
        if name.starts_with("setup.")
            || name.starts_with("graph.")
            || name == "vault.put.record.durable"
        {
            let time = times.entry(name).or_default();
            *time += 1;
            steps.push(format!("{name}:{time}"));
        }
        if name == "setup.after_settings" {
            break;
        }
    }
    steps
}

#[test]
fn a_server_with_a_password_is_set_up_from_a_file_of_answers() {
    let site = Site::start();
    let answers = site.home.path().join("answers.toml");
    let text = format!(
        "provider = \"custom\"\naccount = \"printer\"\nusername = \"{}\"\nserver = \
         \"localhost\"\nport = {}\nca_file = {:?}\ntest_recipient = \"{}\"\nauth = \
         \"basic\"\npassword = {{ env = \"SMTP_PASSWORD\" }}\n",
        PERSON.0,
        site.sandbox.smtp_port(),
        site.sandbox.ca_file(),
        ADMIN.0,
    );
    fs::write(&answers, &text).unwrap();
    let setup = || {
        let mut command = site
            .home
            .postrider(["setup", "--answers", "answers.toml", "--yes"]);
        command.env("SMTP_PASSWORD", PERSON.1);
        run(&mut command)
    };

    setup().expect_status(0);

    assert_eq!(site.sandbox.mail(ADMIN.0).len(), 1);
    let config = fs::read_to_string(&site.config).unwrap();
    assert!(
        config.contains("password = { vault = \"printer/password\" }"),
        "{config}"
    );
    assert!(!config.contains(PERSON.1), "{config}");

    let again = setup().expect_status(0);
    assert!(
        again.stdout.contains("Nothing to change"),
        "{}",
        again.stdout
    );
    assert_eq!(site.sandbox.mail(ADMIN.0).len(), 1);
    assert_eq!(fs::read_to_string(&site.config).unwrap(), config);

    fs::write(&answers, text.replace("username", "usrname")).unwrap();
    let ended = setup().expect_status(78);
    assert!(ended.stderr.contains("usrname"), "{}", ended.stderr);
}

#[test]
fn a_password_may_come_on_standard_input() {
    let site = Site::start();
    let mut command = site.home.postrider([
        "setup",
        "custom",
        "--account",
        "printer",
        "--username",
        PERSON.0,
        "--server",
        "localhost",
        "--port",
        site.sandbox.smtp_port(),
        "--ca-file",
        site.sandbox.ca_file(),
        "--yes",
    ]);

    run_with(&mut command, &format!("{}\n", PERSON.1)).expect_status(0);

    let secrets = site.home.json(["secret", "list"]);
    assert_eq!(
        secrets["secrets"][0]["name"], "printer/password",
        "{secrets}"
    );
}

/// Runs `postrider setup` for a person at a terminal; what it showed.
fn at_a_terminal(site: &Site, term: &str, steps: &Value) -> Option<Value> {
    let python = find_program("python3")?;
    let mut command = std::process::Command::new(python);
    let postrider = site.home.postrider([]);
    command
        .arg(root().join("tests/peers/terminal.py"))
        .arg(steps.to_string())
        .arg(postrider.get_program())
        .arg("setup")
        .current_dir(site.home.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TERM", term)
        .env("NO_COLOR", "1");
    for (name, value) in postrider.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let ended = run(&mut command).expect_status(0);
    Some(ended.json())
}

#[test]
fn the_wizard_asks_the_fields_of_a_settings_page_and_sends_a_test_message() {
    // A terminal that can be written over, and one that cannot.
    for term in ["xterm", "dumb"] {
        let site = Site::start();
        // What is wrong is said, and asked for again.
        let name = if term == "dumb" {
            json!([
                ["Name of the account", "my printer\r"],
                ["letters, digits", "printer\r"]
            ])
        } else {
            // Said before Enter, and taken back.
            json!([
                ["Name of the account", "my p"],
                ["letters, digits", "\u{7f}\u{7f}-printer\r"]
            ])
        };
        let mut steps = vec![json!(["Number or word", "cust\r"])];
        steps.extend(name.as_array().unwrap().iter().cloned());
        steps.extend([
            json!(["User who signs in", format!("{}\r", PERSON.0)]),
            json!(["Sender", "\r"]),
            json!(["test message", format!("{}\r", ADMIN.0)]),
            json!(["Server:", "localhost\r"]),
            json!(["Number or word", "starttls\r"]),
            json!(["Port", format!("{}\r", site.sandbox.smtp_port())]),
            json!(["private one", format!("{}\r", site.sandbox.ca_file())]),
            json!(["Number or word", "basic\r"]),
            json!(["Password", format!("{}\r", PERSON.1)]),
            json!(["Do this?", "y\r"]),
        ]);

        let Some(seen) = at_a_terminal(&site, term, &json!(steps)) else {
            return skip("python3 is not installed");
        };

        let shown = seen["shown"].as_str().unwrap();
        assert_eq!(seen["unsaid"], json!([]), "{term}: {shown}");
        assert_eq!(seen["status"], 0, "{term}: {shown}");
        assert!(!shown.contains(PERSON.1), "{term}: {shown}");
        assert_eq!(site.sandbox.mail(ADMIN.0).len(), 1, "{term}: {shown}");
        let config = fs::read_to_string(&site.config).unwrap();
        let account = if term == "dumb" {
            "printer"
        } else {
            "my-printer"
        };
        assert!(config.contains(&format!("[account.{account}]")), "{config}");
    }
}

#[test]
fn a_wizard_that_is_stopped_has_changed_nothing() {
    let site = Site::start();
    let steps = json!([
        ["Number or word", "gmail\r"],
        ["Name of the account", "\u{3}"]
    ]);

    let Some(seen) = at_a_terminal(&site, "xterm", &steps) else {
        return skip("python3 is not installed");
    };

    assert_eq!(seen["status"], 130, "{seen}");
    assert!(!site.config.exists());
    assert!(!site.home.state().join("vault").exists());
}
