//! The doctor against a sandbox with one thing broken at a time: the first line names that very
//! cause, and the remedy and who can apply it are the right ones.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::clock::Later;
use support::home::Home;
use support::person::Person;
use support::sandbox::{PERSON, Sandbox};
use support::{Ended, run, write_private};
use toml_edit::{DocumentMut, Item, value};

const APP: &str = "sandbox";
const PERSONAL: &str = "sandbox-person";
const USER: &str = PERSON.0;
const SHARED: &str = "alerts@contoso.com";
const DAEMON: &str = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f";
const PUBLIC: &str = "2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801";
const CONTOSO: &str = "8d5f1c52-60a9-4c2b-9e0a-3b1f7c4d2e60";

/// A sandbox, and somebody who uses it.
struct Site {
    home: Home,
    sandbox: Sandbox,
    config: DocumentMut,
    arguments: Vec<String>,
    later: Option<Later>,
    /// Held until the story ends.
    held: Vec<Box<dyn std::any::Any>>,
}

impl Site {
    fn new() -> Self {
        let sandbox = Sandbox::with(|scenario| {
            let app = scenario["app"].as_array_of_tables_mut().unwrap();
            let app = app.get_mut(1).unwrap();
            let grant = r#"[{ by = "everyone", permissions = ["https://outlook.office.com/SMTP.Send", "User.Read"] }]"#;
            app["consent"] = value(grant.parse::<toml_edit::Value>().unwrap());
        });
        let mut home = Home::new(sandbox.config());
        home.set(sandbox.client_secret());
        Self {
            config: sandbox.config().parse().unwrap(),
            home,
            sandbox,
            arguments: Vec::new(),
            later: None,
            held: Vec::new(),
        }
    }

    /// Signs the service account in.
    fn signed_in(&self) {
        self.signs_in(&["login", PERSONAL, "--no-browser"]);
    }

    fn signs_in(&self, arguments: &[&str]) {
        let mut person = Person::at(&self.sandbox);
        let mut login =
            support::home::Login::begin(&mut self.home.postrider(arguments.iter().copied()));
        let page = person.open(&login.url());
        let page = person.sign_in(page, PERSON.0, PERSON.1);
        person.open(page.landed().as_str());
        login.end().expect_status(0);
    }

    /// Changes one entry of the sandbox's scenario.
    fn scenario(&self, list: &str, which: &str, change: &Value) {
        let path = format!("scenario/{list}/{which}");
        self.sandbox.control("PATCH", &path, Some(change));
    }

    fn tenant(&self, change: &Value) {
        self.scenario("tenant", CONTOSO, change);
    }

    fn user(&self, change: &Value) {
        self.scenario("user", USER, change);
    }

    fn fault(&self, at: &str, effect: &Value) {
        let fault = json!({ "at": at, "effect": effect });
        self.sandbox.control("POST", "scenario/fault", Some(&fault));
    }

    /// Changes a key of an account: `auth.tenant`.
    fn set(&mut self, account: &str, key: &str, to: impl Into<toml_edit::Value>) {
        let mut item: &mut Item = &mut self.config["account"][account];
        for part in key.split('.') {
            item = &mut item[part];
        }
        *item = value(to.into());
        self.home.configure(&self.config.to_string());
    }

    /// The account as one that knows a password only.
    fn knows_a_password(&mut self, account: &str, password: &str) {
        let auth = r#"{ plugin = "basic", password = { env = "MAIL_PASSWORD" } }"#;
        self.home.set(("MAIL_PASSWORD", password));
        self.config["account"][account]["auth"] = value(auth.parse::<toml_edit::Value>().unwrap());
        self.home.configure(&self.config.to_string());
    }

    fn doctor(&self, account: &str, arguments: &[&str]) -> Ended {
        let mut command = self.home.postrider(["doctor", account]);
        command.args(arguments).args(&self.arguments);
        if let Some(later) = &self.later {
            later.tell(&mut command);
        }
        run(&mut command)
    }
}

/// What the doctor must find.
struct Case {
    account: &'static str,
    /// What is broken; a signed-in person is signed in before.
    broken: fn(&mut Site),
    /// The first stage that fails.
    stage: &'static str,
    code: &'static str,
    /// Parts of the first line.
    cause: &'static [&'static str],
    remedy: &'static [&'static str],
    who: &'static str,
    status: i32,
}

impl Case {
    fn run(&self) {
        let mut site = Site::new();
        if self.account == PERSONAL {
            site.signed_in();
        }
        (self.broken)(&mut site);

        let ended = site
            .doctor(self.account, &["--json"])
            .expect_status(self.status);
        let answer = ended.json();
        // A configuration that is not read has no accounts.
        let general =
            json!({ "ok": false, "verdict": answer["verdict"], "stages": answer["general"] });
        let report = answer["accounts"].get(0).unwrap_or(&general);
        let stages = report["stages"].as_array().unwrap();
        let first = stages.iter().find(|stage| stage["result"] == "failed");
        let first = first.unwrap_or_else(|| panic!("nothing failed: {answer:#}"));
        let finding = &first["failure"];
        let shown = format!("{answer:#}");
        assert_eq!(first["name"], self.stage, "{shown}");
        assert_eq!(finding["code"], self.code, "{shown}");
        assert_eq!(finding["who"], self.who, "{shown}");
        assert_eq!(
            (&answer["ok"], &report["ok"]),
            (&json!(false), &json!(false))
        );
        let cause = finding["cause"].as_str().unwrap();
        assert!(
            report["verdict"].as_str().unwrap().ends_with(cause),
            "{shown}"
        );
        for part in self.cause {
            assert!(cause.contains(part), "{part:?} in {cause}");
        }
        let remedy = finding["remedy"].as_str().unwrap();
        for part in self.remedy {
            assert!(remedy.contains(part), "{part:?} in {remedy}");
        }
        site.shows_no_secret(&ended);
    }
}

impl Site {
    /// Neither the client secret nor a token is shown to anybody.
    fn shows_no_secret(&self, ended: &Ended) {
        let (_, secret) = self.sandbox.client_secret();
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains(secret), "{text}");
            assert!(!text.contains("eyJ"), "a token: {text}");
        }
    }
}

macro_rules! cases {
    ($($name:ident: $case:expr,)*) => {
        $(#[test] fn $name() { $case.run(); })*
    };
}

const ENTRA: &str = "an Entra administrator";
const EXCHANGE: &str = "an Exchange administrator";
const OWNER: &str = "the mailbox's owner";

cases! {
    licence_missing: Case {
        account: PERSONAL,
        broken: |site| site.user(&json!({ "plans": [] })),
        stage: "graph_licence",
        code: "auth.licence_missing",
        cause: &[USER, "no licence with Exchange Online"],
        remedy: &["assign a licence", USER],
        who: ENTRA,
        status: 77,
    },
    foundation_plan_only: Case {
        account: PERSONAL,
        broken: |site| site.user(&json!({ "plans": [{ "name": "EXCHANGE_S_FOUNDATION" }] })),
        stage: "graph_licence",
        code: "auth.licence_no_mailbox",
        cause: &["EXCHANGE_S_FOUNDATION", "no mailbox"],
        remedy: &["assign a licence with Exchange Online"],
        who: ENTRA,
        status: 77,
    },
    exchange_switched_off_in_the_licence: Case {
        account: PERSONAL,
        broken: |site| site.user(&json!({
            "plans": [{ "name": "EXCHANGE_S_STANDARD", "status": "Disabled" }],
        })),
        stage: "graph_licence",
        code: "auth.licence_disabled",
        cause: &["switched off in the licence"],
        remedy: &["switch Exchange Online on"],
        who: ENTRA,
        status: 77,
    },
    mailbox_still_being_made: Case {
        account: PERSONAL,
        broken: |site| site.user(&json!({
            "plans": [{ "name": "EXCHANGE_S_STANDARD", "status": "PendingProvisioning" }],
        })),
        stage: "graph_licence",
        code: "auth.licence_pending",
        cause: &["still being made"],
        remedy: &["wait"],
        who: "Microsoft",
        status: 75,
    },
    smtp_auth_off_for_the_tenant: Case {
        account: PERSONAL,
        broken: |site| site.tenant(&json!({ "smtp_auth_disabled": true })),
        stage: "auth",
        code: "auth.smtp_disabled_tenant",
        cause: &["535 5.7.139"],
        remedy: &["SmtpClientAuthenticationDisabled $false"],
        who: EXCHANGE,
        status: 77,
    },
    smtp_auth_off_for_the_mailbox: Case {
        account: APP,
        broken: |site| site.user(&json!({ "smtp_auth_disabled": true })),
        stage: "auth",
        code: "auth.smtp_disabled_mailbox",
        cause: &["this mailbox"],
        remedy: &["Set-CASMailbox -Identity svc-mail@contoso.com"],
        who: EXCHANGE,
        status: 77,
    },
    security_defaults: Case {
        account: APP,
        broken: |site| {
            site.knows_a_password(APP, PERSON.1);
            site.tenant(&json!({ "security_defaults": true }));
        },
        stage: "auth",
        code: "auth.security_defaults",
        cause: &["security defaults"],
        remedy: &["OAuth"],
        who: ENTRA,
        status: 77,
    },
    conditional_access: Case {
        account: PERSONAL,
        broken: |site| site.user(&json!({ "blocked_by_conditional_access": true })),
        stage: "token",
        code: "auth.conditional_access",
        cause: &["Conditional Access"],
        remedy: &["sign-in log"],
        who: ENTRA,
        status: 77,
    },
    consent_missing: Case {
        account: PERSONAL,
        broken: |site| site.scenario("app", PUBLIC, &json!({ "consent": [] })),
        stage: "token",
        code: "auth.consent_required",
        cause: &["consented"],
        remedy: &["consent", PUBLIC],
        who: ENTRA,
        status: 77,
    },
    application_permission_missing: Case {
        account: APP,
        broken: |site| site.scenario("app", DAEMON, &json!({ "application_consent": [] })),
        stage: "claims",
        code: "auth.token_permission",
        cause: &["SMTP.SendAsApp"],
        remedy: &["admin consent", DAEMON],
        who: ENTRA,
        status: 77,
    },
    wrong_tenant: Case {
        account: APP,
        broken: |site| site.set(APP, "auth.tenant", "fabrikam.example"),
        stage: "token",
        code: "auth.tenant_unknown",
        cause: &["tenant"],
        remedy: &["tenant"],
        who: "you",
        status: 77,
    },
    wrong_cloud: Case {
        account: APP,
        broken: |site| site.fault("token", &json!({ "aadsts": { "code": 900_439 } })),
        stage: "token",
        code: "auth.cloud",
        cause: &["public endpoint"],
        remedy: &["microsoft365-gcchigh"],
        who: "you",
        status: 77,
    },
    graph_scope_on_smtp: Case {
        account: APP,
        broken: |site| {
            let mut scopes = toml_edit::Array::new();
            scopes.push("https://graph.microsoft.com/.default");
            site.set(APP, "auth.scopes", scopes);
        },
        stage: "config",
        code: "config.invalid",
        cause: &["account.sandbox.auth.scopes", "refuses tokens for Microsoft Graph", "https://outlook.office365.com/.default"],
        remedy: &[],
        who: "you",
        status: 78,
    },
    secret_expired: Case {
        account: APP,
        broken: |site| {
            let (_, secret) = site.sandbox.client_secret();
            let ended = json!({ "value": secret, "expires": "2020-01-31T00:00:00Z" });
            site.scenario("app", DAEMON, &json!({ "secrets": [ended] }));
        },
        stage: "token",
        code: "auth.client_secret_expired",
        cause: &["expired"],
        remedy: &["new client secret"],
        who: ENTRA,
        status: 77,
    },
    secret_wrong: Case {
        account: APP,
        broken: |site| site.home.set(("SANDBOX_CLIENT_SECRET", "not~this~one")),
        stage: "token",
        code: "auth.client_secret_wrong",
        cause: &["secret"],
        remedy: &[],
        who: ENTRA,
        status: 77,
    },
    secret_id_in_place_of_its_value: Case {
        account: APP,
        broken: |site| {
            site.home.set(("SANDBOX_CLIENT_SECRET", "b0a7c1de-93f2-4c1e-8d55-6f0e1a2b3c4d"));
        },
        stage: "token",
        code: "auth.client_secret_id",
        cause: &["the secret's id, not its value"],
        remedy: &["store its Value", "SANDBOX_CLIENT_SECRET"],
        who: "you",
        status: 77,
    },
    secret_not_there: Case {
        account: APP,
        broken: |site| site.set(APP, "auth.client_secret.env", "NOBODY_SETS_THIS"),
        stage: "secrets",
        code: "secret.missing",
        cause: &["NOBODY_SETS_THIS"],
        remedy: &[],
        who: "you",
        status: 78,
    },
    app_unknown: Case {
        account: APP,
        broken: |site| site.set(APP, "auth.client_id", "11111111-2222-4333-8444-555555555555"),
        stage: "token",
        code: "auth.client_unknown",
        cause: &["app"],
        remedy: &["client_id"],
        who: "you",
        status: 77,
    },
    exchange_not_in_the_tenant: Case {
        account: APP,
        broken: |site| site.tenant(&json!({ "exchange_online": false })),
        stage: "token",
        code: "auth.no_exchange",
        cause: &["tenant"],
        remedy: &[],
        who: "you",
        status: 77,
    },
    redirect_mismatch: Case {
        account: APP,
        broken: |site| {
            site.set(APP, "auth.flow", "authorization_code");
            site.scenario("app", DAEMON, &json!({ "redirect_uris": ["https://app.example/cb"] }));
        },
        stage: "token",
        code: "auth.redirect_uri",
        cause: &["redirect URI"],
        remedy: &["http://localhost", DAEMON],
        who: ENTRA,
        status: 77,
    },
    nobody_signed_in: Case {
        account: APP,
        broken: |site| site.set(APP, "auth.flow", "authorization_code"),
        stage: "token",
        code: "auth.sign_in_needed",
        cause: &["sign"],
        remedy: &["postrider login sandbox"],
        who: "you",
        status: 77,
    },
    user_is_not_the_username: Case {
        account: PERSONAL,
        broken: |site| {
            site.set(PERSONAL, "username", SHARED);
            site.signs_in(&["login", PERSONAL, "--no-browser", "--signed-in-as", USER]);
        },
        stage: "claims",
        code: "auth.token_user",
        cause: &[USER, SHARED, "delegate"],
        remedy: &[
            "Add-RecipientPermission alerts@contoso.com -Trustee svc-mail@contoso.com -AccessRights SendAs",
            "postrider login sandbox-person",
        ],
        who: OWNER,
        status: 77,
    },
    app_only_service_principal_missing: Case {
        account: APP,
        broken: |site| {
            site.scenario("app", DAEMON, &json!({ "exchange_service_principal": false }));
        },
        stage: "auth",
        code: "auth.app_not_in_exchange",
        cause: &["Exchange does not know the application", USER],
        remedy: &[
            "New-ServicePrincipal -AppId 0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f -ObjectId ",
            "Add-MailboxPermission -Identity svc-mail@contoso.com -User ",
        ],
        who: EXCHANGE,
        status: 77,
    },
    app_only_without_a_right_to_the_mailbox: Case {
        account: APP,
        broken: |site| {
            site.sandbox.control("DELETE", "scenario/permission/all", None);
        },
        stage: "auth",
        code: "auth.app_not_in_exchange",
        cause: &["no right to the mailbox svc-mail@contoso.com"],
        remedy: &["-AccessRights FullAccess"],
        who: EXCHANGE,
        status: 77,
    },
    no_send_as_right: Case {
        account: PERSONAL,
        broken: |site| {
            site.set(PERSONAL, "sender", "ceo@contoso.com");
            site.arguments.push("--send-test".to_owned());
        },
        stage: "message",
        code: "smtp.send_as_denied",
        cause: &["ceo@contoso.com"],
        remedy: &["Add-RecipientPermission ceo@contoso.com -Trustee svc-mail@contoso.com -AccessRights SendAs"],
        who: EXCHANGE,
        status: 69,
    },
    mailbox_full: Case {
        account: PERSONAL,
        broken: |site| {
            site.user(&json!({ "mailbox_full": true }));
            site.arguments.push("--send-test".to_owned());
        },
        stage: "message",
        code: "smtp.mailbox_full",
        cause: &["mailbox is full"],
        remedy: &["Sent Items"],
        who: OWNER,
        status: 69,
    },
    sender_refused_at_once: Case {
        account: APP,
        broken: |site| {
            let reply = "550 5.7.60 SMTP; Client does not have permissions to send as this sender";
            site.fault("smtp_mail", &json!({ "reply": reply }));
        },
        stage: "sender",
        code: "smtp.send_as_denied",
        cause: &["5.7.60"],
        remedy: &["SendAs"],
        who: EXCHANGE,
        status: 69,
    },
    tls_inspected: Case {
        account: APP,
        broken: |site| {
            let other = rcgen::generate_simple_self_signed(vec!["proxy.example".to_owned()]).unwrap();
            let file = site.home.path().join("other.pem");
            write_private(&file, other.cert.pem());
            site.set(APP, "server.ca_file", file.to_str().unwrap());
        },
        stage: "tls",
        code: "tls.inspected",
        cause: &["localhost:", "issued by CN=Postrider sandbox", "not Microsoft's"],
        remedy: &["exempt localhost:", "account.sandbox.ca_file"],
        who: "whoever runs the network",
        status: 69,
    },
    starttls_removed_on_the_way: Case {
        account: APP,
        broken: |site| site.fault("smtp_ehlo", &json!("hide_starttls")),
        stage: "tls",
        code: "tls.not_offered",
        cause: &["STARTTLS"],
        remedy: &[],
        who: "you",
        status: 69,
    },
    port_closed: Case {
        account: APP,
        broken: |site| {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            site.set(APP, "server.port", i64::from(port));
        },
        stage: "tcp",
        code: "network.connect",
        cause: &["refused"],
        remedy: &["firewall"],
        who: "you",
        status: 75,
    },
    port_silently_dropped: Case {
        account: APP,
        broken: |site| {
            let (port, full) = support::deaf::listener();
            site.held.push(Box::new(full));
            site.set(APP, "server.port", i64::from(port));
            site.set(APP, "timeouts.connect", "1s");
        },
        stage: "tcp",
        code: "network.blocked",
        cause: &["nothing answers at localhost:", "dropped"],
        remedy: &["outgoing TCP to localhost port"],
        who: "whoever runs the network",
        status: 69,
    },
    server_says_nothing: Case {
        account: APP,
        broken: |site| {
            site.fault("smtp_connect", &json!("hang"));
            site.set(APP, "timeouts.greeting", "1s");
        },
        stage: "tcp",
        code: "network.timeout",
        cause: &["took the connection and sent no greeting within 1 s"],
        remedy: &["check the port", "firewall"],
        who: "whoever runs the network",
        status: 75,
    },
    name_wrong: Case {
        account: APP,
        broken: |site| site.set(APP, "server.host", "smtp.office365.invalid"),
        stage: "dns",
        code: "network.dns",
        cause: &["smtp.office365.invalid was not resolved"],
        remedy: &["account.sandbox.server.host", "getent hosts"],
        who: "you",
        status: 75,
    },
    clock_an_hour_fast: Case {
        account: APP,
        broken: |site| {
            let mut later = Later::new().unwrap();
            later.pass(Duration::from_hours(1));
            site.later = Some(later);
        },
        stage: "clock",
        code: "env.clock",
        cause: &["this machine's clock is 60 min ahead of localhost:"],
        remedy: &["timedatectl"],
        who: "you",
        status: 78,
    },
    user_disabled: Case {
        account: PERSONAL,
        broken: |site| site.user(&json!({ "account": "disabled" })),
        stage: "token",
        code: "auth.user_disabled",
        cause: &["disabled"],
        remedy: &["enabled"],
        who: ENTRA,
        status: 77,
    },
    password_in_place_of_oauth: Case {
        account: APP,
        broken: |site| {
            site.knows_a_password(APP, PERSON.1);
            site.tenant(&json!({ "basic_auth": "retired" }));
        },
        stage: "auth",
        code: "auth.basic_retired",
        cause: &["5.7.30"],
        remedy: &["oauth"],
        who: "you",
        status: 77,
    },
    password_wrong: Case {
        account: APP,
        broken: |site| site.knows_a_password(APP, "another"),
        stage: "auth",
        code: "auth.wrong_password",
        cause: &["535 5.7.139"],
        remedy: &["password"],
        who: "you",
        status: 77,
    },
    sign_in_service_down: Case {
        account: APP,
        broken: |site| site.fault("token", &json!({ "http": { "status": 503 } })),
        stage: "token",
        code: "auth.unavailable",
        cause: &["503"],
        remedy: &["try again"],
        who: "you",
        status: 75,
    },
    plugin_missing: Case {
        account: APP,
        broken: |site| site.set(APP, "auth.plugin", "oath"),
        stage: "plugin",
        code: "plugin.not_loaded",
        cause: &["oath"],
        remedy: &[],
        who: "you",
        status: 78,
    },
}

#[test]
fn where_nothing_is_wrong_every_stage_says_what_it_saw() {
    let site = Site::new();
    site.signed_in();
    let ended = site
        .doctor(PERSONAL, &["--json", "--send-test"])
        .expect_status(0);
    let answer = ended.json();
    let report = &answer["accounts"][0];
    assert_eq!(
        (&answer["ok"], &answer["verdict"]),
        (&json!(true), &json!("nothing is wrong"))
    );
    let stages = report["stages"].as_array().unwrap();
    let seen = |name: &str| {
        let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
        assert_eq!(stage["result"], "ok", "{stage}");
        stage["evidence"].as_str().unwrap().to_owned()
    };
    for (name, part) in [
        ("config", "microsoft365"),
        ("secrets", "none"),
        ("plugin", "oauth"),
        ("clock", "right"),
        ("dns", "127.0.0.1"),
        ("tcp", "220 "),
        ("tls", "issued by CN=Postrider sandbox"),
        ("ehlo", "AUTH LOGIN XOAUTH2"),
        ("token", "valid for"),
        ("claims", "scp SMTP.Send"),
        ("graph_user", USER),
        ("graph_licence", "EXCHANGE_S"),
        ("graph_consent", "SMTP.Send"),
        ("auth", "235 2.7.0"),
        ("sender", "250 2.1.0"),
        ("message", USER),
    ] {
        let evidence = seen(name);
        assert!(evidence.contains(part), "{name}: {evidence}");
    }
    assert_eq!(site.sandbox.mail(USER).len(), 1);
    site.shows_no_secret(&ended);

    // Asking Graph has cost the account nothing.
    site.home
        .run(["rotate", "--force", PERSONAL])
        .expect_status(0);
}

#[test]
fn people_read_the_cause_first() {
    let site = Site::new();
    site.scenario(
        "app",
        DAEMON,
        &json!({ "exchange_service_principal": false }),
    );

    let ended = site.doctor(APP, &[]).expect_status(77);

    let mut lines = ended.stdout.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("sandbox: failed: auth failed: the token is right"),
        "{first}"
    );
    let rest: Vec<&str> = lines.take(2).collect();
    assert!(
        rest[0]
            .trim()
            .starts_with("try: in Exchange Online PowerShell: New-ServicePrincipal")
    );
    assert_eq!(
        rest[1].trim(),
        "who: an Exchange administrator; waiting does not help"
    );
    // Every guess is there, the likelier first, and the server's own words.
    assert!(ended.stdout.contains("535 5.7.3"), "{}", ended.stdout);
    assert!(ended.stdout.contains("or: "), "{}", ended.stdout);
}

#[test]
fn offline_nothing_is_connected() {
    let mut site = Site::new();
    site.set(APP, "server.port", 1);
    site.set(APP, "auth.authority", "https://127.0.0.1:1");

    let answer = site
        .doctor(APP, &["--offline", "--json"])
        .expect_status(0)
        .json();

    let stages = answer["accounts"][0]["stages"].as_array().unwrap();
    let results: Vec<&str> = stages
        .iter()
        .map(|one| one["result"].as_str().unwrap())
        .collect();
    assert_eq!(results[..3], ["ok"; 3], "{answer:#}");
    assert!(
        results[3..].iter().all(|result| *result == "skipped"),
        "{answer:#}"
    );
    assert_eq!(site.sandbox.token_requests(), 0);
}

#[test]
fn a_name_that_is_not_resolved_keeps_nobody_from_the_token() {
    let mut site = Site::new();
    site.set(APP, "server.host", "smtp.office365.invalid");
    let answer = site.doctor(APP, &["--json"]).expect_status(75).json();
    let stages = answer["accounts"][0]["stages"].as_array().unwrap();
    let result =
        |name: &str| stages.iter().find(|one| one["name"] == name).unwrap()["result"].clone();
    assert_eq!(
        (result("dns"), result("auth")),
        (json!("failed"), json!("skipped"))
    );
    assert_eq!(
        (result("token"), result("claims")),
        (json!("ok"), json!("ok"))
    );
}

#[test]
fn without_an_account_all_are_looked_at_and_the_file_too() {
    let mut site = Site::new();
    let all = run(&mut site.home.postrider(["doctor", "--json"]))
        .expect_status(77)
        .json();
    let names: Vec<&Value> = all["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["account"])
        .collect();
    assert_eq!(names, [APP, PERSONAL]);
    assert_eq!(all["accounts"][0]["ok"], true, "{all:#}");
    assert_eq!(all["accounts"][1]["ok"], false, "nobody signed in: {all:#}");
    assert_eq!(all["general"][0]["name"], "config");

    site.set(APP, "usernme", "x");
    let ended = run(&mut site.home.postrider(["doctor", "--json"])).expect_status(78);
    let answer = ended.json();
    assert_eq!(
        answer["general"][0]["failure"]["code"], "config.invalid",
        "{answer:#}"
    );
    assert!(
        answer["verdict"].as_str().unwrap().contains("usernme"),
        "{answer:#}"
    );
}

#[test]
fn a_missing_consent_is_seen_at_graph_by_an_administrator_only() {
    let site = Site::new();
    site.scenario("app", DAEMON, &json!({ "application_consent": [] }));

    let alone = site.doctor(APP, &["--json"]).expect_status(77).json();
    let skipped = stage(&alone, "graph_consent");
    assert_eq!(skipped["result"], "skipped", "{alone:#}");
    let evidence = skipped["evidence"].as_str().unwrap();
    assert!(
        evidence.ends_with("an administrator can look: postrider doctor sandbox --admin"),
        "{evidence}"
    );

    let ended = site.doctor_with_administrator(APP).expect_status(77);
    let answer = ended.json();
    let seen = stage(&answer, "graph_consent");
    assert_eq!(seen["result"], "failed", "{answer:#}");
    let finding = &seen["failure"];
    assert_eq!(finding["code"], "auth.consent_missing", "{seen}");
    assert_eq!(finding["who"], ENTRA, "{seen}");
    assert_eq!(finding["retryable"], false, "{seen}");
    for (key, parts) in [
        ("cause", [DAEMON, "SMTP.SendAsApp"]),
        ("remedy", ["API permissions", "grant admin consent"]),
    ] {
        let text = finding[key].as_str().unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    site.shows_no_secret(&ended);
}

#[test]
fn a_secret_that_ends_soon_is_seen_at_graph_by_an_administrator_only() {
    let site = Site::new();
    let (_, secret) = site.sandbox.client_secret();
    let soon = Timestamp::now() + SignedDuration::from_hours(10 * 24 + 1);
    let ends = soon.strftime("%FT%TZ").to_string();
    let one = json!({ "value": secret, "expires": ends });
    site.scenario("app", DAEMON, &json!({ "secrets": [one] }));

    // Nothing here says when it ends.
    let alone = site.doctor(APP, &["--json"]).expect_status(0).json();
    let skipped = stage(&alone, "graph_secret");
    assert_eq!(skipped["result"], "skipped", "{alone:#}");
    let evidence = skipped["evidence"].as_str().unwrap();
    assert!(
        evidence.ends_with("an administrator can look: postrider doctor sandbox --admin"),
        "{evidence}"
    );

    let ended = site.doctor_with_administrator(APP).expect_status(0);
    let answer = ended.json();
    let report = &answer["accounts"][0];
    assert_eq!(report["verdict"], "nothing is wrong; one thing to look at");
    let seen = stage(&answer, "graph_secret");
    assert_eq!(seen["result"], "warning", "{answer:#}");
    assert!(
        seen["evidence"].as_str().unwrap().ends_with(&ends),
        "{seen}"
    );
    let finding = &seen["failure"];
    assert_eq!(finding["code"], "auth.client_secret_expires_soon", "{seen}");
    assert_eq!(
        finding["cause"], "the client secret expires in 10 d",
        "{seen}"
    );
    assert_eq!(
        finding["remedy"], "postrider rotate --client-secret sandbox",
        "{seen}"
    );
    site.shows_no_secret(&ended);
}

#[test]
fn a_script_reads_what_the_doctor_says() {
    let mut site = Site::new();
    let script = site.home.path().join("check.lua");
    fs::write(
        &script,
        r#"
        local pr = require "postrider"
        for _, account in ipairs(pr.accounts()) do
          local report = account:check()
          local first
          for _, stage in ipairs(report.stages) do
            if not first and stage.result == "failed" then first = stage end
          end
          local why = first.failure
          print(pr.json.encode {
            account = report.account, ok = report.ok, verdict = report.verdict,
            stages = #report.stages, first = first.name,
            code = why.code, cause = why.cause, remedy = why.remedy,
            who = why.who, retryable = why.retryable, others = why.others and #why.others,
          })
          print(pr.explain(first.evidence)[1].code)
        end
        "#,
    )
    .unwrap();
    let script = script.to_str().unwrap().to_owned();
    let reads = |site: &Site| {
        let ended = site.home.run(["run", &script]);
        assert_eq!(ended.status, 0, "{ended:?}");
        site.shows_no_secret(&ended);
        let mut lines = ended.stdout.lines();
        let read: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        (read, lines.next().unwrap().to_owned())
    };
    let lacking = json!({ "exchange_service_principal": false });
    site.scenario("app", DAEMON, &lacking);

    let (read, explained) = reads(&site);
    let answer = site.doctor(APP, &["--json"]).expect_status(77).json();
    let report = &answer["accounts"][0];
    let finding = &stage(&answer, "auth")["failure"];
    for (key, same) in [
        ("account", &report["account"]),
        ("ok", &report["ok"]),
        ("verdict", &report["verdict"]),
        ("first", &json!("auth")),
        ("stages", &json!(17)),
        ("code", &finding["code"]),
        ("cause", &finding["cause"]),
        ("remedy", &finding["remedy"]),
        ("who", &finding["who"]),
        ("retryable", &finding["retryable"]),
    ] {
        assert_eq!(&read[key], same, "{key}: {read:#}");
    }
    assert_eq!(read["code"], "auth.app_not_in_exchange", "{read:#}");
    assert_eq!(read["who"], EXCHANGE, "{read:#}");
    assert!(read["others"].as_u64() > Some(0), "{read:#}");
    assert!(
        explained.starts_with("smtp.") || explained.starts_with("auth."),
        "{explained}"
    );

    // One that cannot be set up is a report of the same form.
    site.set(APP, "auth.plugin", "oath");
    let (read, _) = reads(&site);
    assert_eq!(
        (&read["first"], &read["code"], &read["who"], &read["stages"]),
        (
            &json!("plugin"),
            &json!("plugin.not_loaded"),
            &json!("you"),
            &json!(17)
        ),
        "{read:#}"
    );
}

/// A stage of the first account.
fn stage<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let stages = answer["accounts"][0]["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["name"] == name).unwrap()
}

impl Site {
    fn doctor_with_administrator(&self, account: &str) -> Ended {
        let admin = ("admin@contoso.com", "admin-password");
        let look = [
            "doctor",
            account,
            "--json",
            "--admin",
            "--admin-login",
            "paste",
        ];
        let mut login = support::home::Login::begin(&mut self.home.postrider(look));
        let mut person = Person::at(&self.sandbox);
        let page = person.open(&login.url());
        let page = person.sign_in(page, admin.0, admin.1);
        login.type_in(page.landed().as_str());
        login.end()
    }
}

#[test]
fn an_administrator_sees_what_an_application_may_not() {
    let site = Site::new();
    let ended = site.doctor_with_administrator(APP).expect_status(0);

    let answer = ended.json();
    let stages = answer["accounts"][0]["stages"].as_array().unwrap();
    for (name, part) in [
        ("graph_user", USER),
        ("graph_licence", "EXCHANGE_S"),
        ("graph_consent", "SMTP.SendAsApp"),
    ] {
        let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
        assert_eq!(stage["result"], "ok", "{answer:#}");
        assert!(
            stage["evidence"].as_str().unwrap().contains(part),
            "{stage}"
        );
    }
    site.shows_no_secret(&ended);
}
