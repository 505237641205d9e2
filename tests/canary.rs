//! Secrets planted wherever there can be one, and looked for wherever they must not be: in what
//! any command prints or logs, at trace level too, in errors, in the list of processes, and in
//! every file of the state directory; plain, and as base64, hexadecimal or percent-encoding.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::browser::Browser;
use support::daemon::Daemon;
use support::home::{Home, Login, PATIENCE};
use support::needles::Needles;
use support::office::hurried;
use support::openid::OpenId;
use support::sandbox::{PERSON, Sandbox};
use support::{Ended, cargo, files, find_program, free_port, run, run_with, skip, write_private};

const CLIENT_SECRET: &str = "Canary+Client/Secret=1&2%3 4";
const WRONG_CLIENT_SECRET: &str = "Canary+Wrong/Client=Secret&5";
const PASSWORD: &str = "Canary Pass+word/6&7%8";
const WRONG_PASSWORD: &str = "Canary Wrong+Pass/word&9";
const ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOiJhc3NlcnRpb24ifQ.Q2FuYXJ5U2lnbmF0dXJl";
const VAULT_SECRET: &str = "Canary+Vault/Secret=10&11";
const PASSPHRASE: &str = "Canary vault/passphrase+12";
const NEW_PASSPHRASE: &str = "Canary another/passphrase+13";
const EXPORT_PASSPHRASE: &str = "Canary export/passphrase+14";
const PASTED_CODE: &str = "CanaryPastedCode-15_16~17";
const IN_ARGUMENTS: &str = "CanaryInTheArguments18";
const QUEUED_BODY: &str = "Canary body of a queued message 19";
const QUEUED_SUBJECT: &str = "Canary subject of a queued message 20";
const QUEUED_HEADER: &str = "Canary header of a queued message 21";

/// A user whose every command is overheard.
struct Overheard {
    home: Home,
    needles: Needles,
    /// What each command said, and which it was.
    said: Vec<(String, Vec<u8>)>,
}

impl Overheard {
    fn hear(&mut self, what: &str, text: &str) {
        self.said
            .push((what.to_owned(), text.as_bytes().to_owned()));
    }

    /// Runs a command as people would, and as programs would, with every word logged. What
    /// `stdin` holds is given to both.
    fn run(&mut self, arguments: &[&str], stdin: &str) -> [Ended; 2] {
        let verbose = ["--log", "trace"].as_slice();
        [verbose, &["--log", "trace", "--json"]].map(|more| {
            let mut command = self.home.postrider(arguments.iter().chain(more).copied());
            let ended = run_with(&mut command, stdin);
            self.overhear(&format!("{arguments:?} {more:?}"), &ended, &[]);
            ended
        })
    }

    /// Remembers what a command said, save for `but`, which it was asked for.
    fn overhear(&mut self, what: &str, ended: &Ended, but: &[&str]) {
        let mut stdout = ended.stdout.clone();
        for token in but {
            assert!(stdout.contains(token), "{what}");
            stdout = stdout.replace(token, "");
        }
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        self.hear(&format!("{what} on standard output"), &stdout);
        self.hear(&format!("{what} on standard error"), &ended.stderr);
    }

    /// The token of an account, which only standard output may hold.
    fn token(&mut self, account: &str) {
        let arguments = ["token", account, "--log", "trace"];
        let plain = self.home.run(arguments).expect_status(0);
        let token = plain.token().to_owned();
        self.needles
            .add(&format!("{account}'s access token"), &token);
        self.overhear("token", &plain, &[&token]);
        let json = self.home.run(arguments.into_iter().chain(["--json"]));
        assert_eq!(json.json()["access_token"], token.as_str());
        self.overhear("token --json", &json, &[&token]);
    }

    /// Looks at everything that was said and kept.
    #[track_caller]
    fn nothing_leaked(&self) {
        let mut leaks = leaks(&self.said, &self.needles);
        let kept = files(&self.home.state(), "");
        assert!(!kept.is_empty());
        for path in kept {
            let found = self.needles.found_in(&fs::read(&path).unwrap());
            let path = path.display();
            leaks.extend(found.into_iter().map(|needle| format!("{path}: {needle}")));
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// Where in what was said a secret stands.
fn leaks(said: &[(String, Vec<u8>)], needles: &Needles) -> Vec<String> {
    let found = said.iter().flat_map(|(what, text)| {
        let found = needles.found_in(text).into_iter();
        found.map(move |needle| format!("{what}: {needle}"))
    });
    found.collect()
}

/// Everything that can hold a secret: accounts of each kind at both providers, and a vault that
/// a passphrase opens.
fn planted(provider: &OpenId, certificate: &Path, key: &Path) -> (Sandbox, Overheard) {
    let sandbox = Sandbox::with(|scenario| {
        let app = &mut scenario["app"][0];
        app["secrets"][0]["value"] = toml_edit::value(CLIENT_SECRET);
        let mut certificates = toml_edit::Array::new();
        certificates.push(fs::read_to_string(certificate).unwrap());
        app["certificates"] = toml_edit::value(certificates);
        let person = scenario["user"].as_array_of_tables_mut().unwrap();
        person.get_mut(0).unwrap()["password"] = toml_edit::value(PASSWORD);
    });
    let home = Home::new("");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        write_private(&path, text);
        format!("{{ file = \"{}\" }}", path.display())
    };
    let (_, account) = sandbox.config().split_once("[account.sandbox]").unwrap();
    let (app_only, _) = account.split_once("[account.sandbox-person]").unwrap();
    let proved_by = |name: &str, proof: &str| {
        let account = app_only.replace("account.sandbox.", &format!("account.{name}."));
        let reference = "client_secret = { env = \"SANDBOX_CLIENT_SECRET\" }";
        assert!(account.contains(reference), "{account}");
        format!("[account.{name}]{}\n", account.replace(reference, proof))
    };
    let password = |name: &str, reference: &str| {
        format!(
            "[account.{name}]\nusername = \"{user}\"\ntest_recipient = \"{user}\"\n\
             ca_file = \"{ca_file}\"\nserver = {{ host = \"localhost\", port = {port}, tls = \"starttls\" }}\n\
             auth = {{ plugin = \"basic\", password = {reference} }}\n",
            user = PERSON.0,
            ca_file = sandbox.ca_file(),
            port = sandbox.smtp_port(),
        )
    };
    let mut config = format!("[vault]\npassphrase = {}\n", file("passphrase", PASSPHRASE));
    let port = free_port();
    config += "[serve]\nwatch = false\n";
    let _ = writeln!(config, "metrics = \"127.0.0.1:{port}\"");
    config += "[scripts]\ndir = \"scripts.d\"\nrun = [\"/bin/cat\", \"/bin/false\", \"/bin/sleep\", \"/bin/true\"]\nfs = { write = [\".\"] }\n";
    let key = fs::read_to_string(key).unwrap();
    for account in [
        proved_by("secret", "client_secret = { vault = \"client\" }"),
        proved_by(
            "wrong-secret",
            &format!("client_secret = {}", file("wrong", WRONG_CLIENT_SECRET)),
        ),
        proved_by(
            "certificate",
            &format!(
                "certificate = {}\nprivate_key = {}",
                file("app.pem", &fs::read_to_string(certificate).unwrap()),
                file("app.key", &key)
            ),
        ),
        proved_by(
            "assertion",
            &format!("assertion = {}", file("assertion", ASSERTION)),
        ),
        password("password", "{ vault = \"password\" }"),
        password("wrong-password", &file("wrong-password", WRONG_PASSWORD)),
        provider.person("openid", PERSON.0, "authorization_code"),
        format!(
            "[account.basic]\nusername = \"{user}\"\nserver = {{ host = \"localhost\", port = 1 }}\n\
             ca_file = \"{ca_file}\"\n[account.basic.auth]\nplugin = \"oauth\"\n\
             flow = \"client_credentials\"\nissuer = \"{issuer}\"\nclient_id = \"{client}\"\n\
             client_secret = {secret}\nclient_auth = \"basic\"\nscopes = [\"smtp\"]\n",
            user = PERSON.0,
            ca_file = provider.ca_file().display(),
            issuer = provider.text("issuer"),
            client = OpenId::CLIENT.0,
            secret = file("basic", OpenId::CLIENT.1),
        ),
    ] {
        config += &account;
    }
    let (_, person) = sandbox
        .config()
        .split_once("[account.sandbox-person]")
        .unwrap();
    // Below it stand comments with the sandbox's passwords.
    let person = person.split_once("# export").unwrap().0;
    let person = person.replace("account.sandbox-person.", "account.person.");
    config += "[account.person]";
    config += &person;
    home.configure(&config);
    fs::create_dir(home.path().join("scripts.d")).unwrap();

    let overheard = Overheard {
        home,
        needles: needles(&key),
        said: Vec::new(),
    };
    (sandbox, overheard)
}

/// What is planted.
fn needles(key: &str) -> Needles {
    let mut needles = Needles::default();
    for (name, secret) in [
        ("the client secret", CLIENT_SECRET),
        ("a wrong client secret", WRONG_CLIENT_SECRET),
        ("the client secret of HTTP Basic", OpenId::CLIENT.1),
        ("the password", PASSWORD),
        ("a wrong password", WRONG_PASSWORD),
        ("the assertion", ASSERTION),
        ("the vault's secret", VAULT_SECRET),
        ("the passphrase", PASSPHRASE),
        ("the new passphrase", NEW_PASSPHRASE),
        ("the export's passphrase", EXPORT_PASSPHRASE),
        ("a pasted code", PASTED_CODE),
        ("an argument", IN_ARGUMENTS),
    ] {
        needles.add(name, secret);
    }
    let lines: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    // Line by line, past the public part, which the certificate shows too.
    for part in der[7 * 48..].chunks_exact(48) {
        needles.add("the private key", part);
    }
    needles
}

#[test]
fn no_secret_is_ever_said_or_kept_in_the_clear() {
    let (provider, mut browser) = match (OpenId::start(PERSON.0), Browser::start()) {
        (Ok(provider), Ok(browser)) => (provider, browser),
        (Err(reason), _) | (_, Err(reason)) => return skip(&reason),
    };
    let Some(openssl) = find_program("openssl") else {
        return skip("openssl is not installed");
    };
    let keys = tempfile::tempdir().unwrap();
    let (certificate, key) = (keys.path().join("app.pem"), keys.path().join("app.key"));
    run(Command::new(openssl)
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        ])
        .args(["-subj", "/CN=canary", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate))
    .expect_status(0);
    let (sandbox, mut user) = planted(&provider, &certificate, &key);

    secrets_are_stored(&mut user);
    people_sign_in(&mut user, &mut browser);
    everything_works(&mut user);
    everything_fails(&mut user, &sandbox, &provider);
    scripts_ask(&mut user);
    the_daemon_is_asked(&mut user, &sandbox);
    the_vault_is_moved(&mut user);
    user.run(&["logout", "openid"], "");

    for entry in provider.token_log() {
        for token in entry["issued"].as_array().unwrap() {
            user.needles
                .add("a token of oidc-provider", token.as_str().unwrap());
        }
    }
    assert!(user.needles.len() > 30, "{}", user.needles.len());
    assert!(user.said.len() > 100, "{}", user.said.len());
    user.nothing_leaked();
}

fn secrets_are_stored(user: &mut Overheard) {
    for (name, secret) in [
        ("client", CLIENT_SECRET),
        ("password", PASSWORD),
        ("other", VAULT_SECRET),
    ] {
        for ended in user.run(&["secret", "set", name], secret) {
            ended.expect_status(0);
        }
    }
    for ended in user.run(&["secret", "set", "other", IN_ARGUMENTS], "") {
        ended.expect_status(64);
    }
    user.run(&["secret", "list"], "");
}

fn people_sign_in(user: &mut Overheard, browser: &mut Browser) {
    for (account, person) in [
        ("person", (PERSON.0, PASSWORD)),
        ("person", ("admin@contoso.com", "admin-password")),
        ("openid", (PERSON.0, "anything")),
    ] {
        let arguments = ["login", account, "--no-browser", PATIENCE, "--log", "trace"];
        let mut login = Login::begin(&mut user.home.postrider(arguments));
        let url = login.url();
        let process = format!("/proc/{}", login.id());
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("{process}/{file}")).unwrap();
            user.said.push((format!("{file} of a login"), text));
        }
        let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
        let mut limits = limits.lines();
        let core = limits.find(|line| line.starts_with("Max core file size"));
        let mut sizes = core.unwrap().split_whitespace().skip(4);
        assert_eq!((sizes.next(), sizes.next()), (Some("0"), Some("0")));

        let page = browser.sign_in(&url, person);
        user.hear("the page in the browser", &page.to_string());
        let ended = login.end();
        let right = person.0 == PERSON.0;
        assert_eq!(ended.status == 0, right, "{ended:?}");
        user.overhear("login", &ended, &[]);
    }
    let pasted = format!("http://localhost:1/?code={PASTED_CODE}&state=another\n");
    for ended in user.run(&["login", "person", "--paste"], &pasted) {
        assert_ne!(ended.status, 0);
    }
}

/// The accounts that work.
const GOOD: [&str; 5] = ["secret", "certificate", "password", "person", "openid"];
/// Those whose secrets are refused.
const BAD: [&str; 3] = ["wrong-secret", "assertion", "wrong-password"];

fn everything_works(user: &mut Overheard) {
    for account in ["secret", "certificate", "person", "openid", "basic"] {
        user.token(account);
        for ended in user.run(&["rotate", account, "--force"], "") {
            ended.expect_status(0);
        }
        user.token(account);
    }
    for account in GOOD {
        user.run(&["account", "show", account], "");
        let test = user.run(&["account", "test", account], "");
        // There is no mail server beside the OpenID provider.
        for ended in test.into_iter().filter(|_| account != "openid") {
            ended.expect_status(0);
        }
    }
    user.run(&["account", "list"], "");
    user.run(&["check"], "");
    user.run(&["plugin", "list"], "");
    user.run(&["vault", "status"], "");
    user.run(&["rotate", "--all"], "");
}

fn everything_fails(user: &mut Overheard, sandbox: &Sandbox, provider: &OpenId) {
    for account in BAD {
        for command in [
            ["rotate", account, "--force"].as_slice(),
            &["token", account],
            &["account", "test", account],
        ] {
            for ended in user.run(command, "") {
                let fine = command[0] == "rotate" && account == "wrong-password";
                assert_eq!(ended.status == 0, fine, "{command:?} {ended:?}");
            }
        }
    }
    // What was sent comes back, in a page and in an error's words.
    for echo in ["page", "json"] {
        provider.fault(&json!({ "echo": echo, "status": 500 }));
        user.run(&["rotate", "openid", "--force"], "");
        user.run(&["rotate", "basic", "--force"], "");
        provider.fault(&json!({ "echo": echo, "status": 400 }));
        user.run(&["rotate", "basic", "--force"], "");
        user.run(&["rotate", "openid", "--force"], "");
    }
    provider.fault(&json!({}));
    let said = format!(
        "the secret was {CLIENT_SECRET} or {}",
        STANDARD.encode(CLIENT_SECRET)
    );
    for status in [400, 401, 500] {
        for body in [
            said.clone(),
            json!({ "error": "invalid_client", "error_description": said }).to_string(),
            json!({ "error": said, "suberror": said, "error_uri": said }).to_string(),
        ] {
            sandbox.break_tokens(json!({ "http": { "status": status, "body": body } }));
            user.run(&["rotate", "secret", "--force"], "");
        }
    }
    sandbox.mend_tokens();
    // The mail server repeats what it was shown.
    let plain = STANDARD.encode(format!("\0{}\0{PASSWORD}", PERSON.0));
    for words in [PASSWORD.to_owned(), STANDARD.encode(PASSWORD), plain] {
        let reply = json!({ "reply": format!("535 5.7.3 Not with {words}") });
        let fault = json!({ "at": "smtp_auth", "effect": reply });
        sandbox.control("POST", "scenario/fault", Some(&fault));
        let send = ["--to", "admin@contoso.com", "--subject", "x", "--text", "y"];
        let send: Vec<_> = ["send", "--account", "password"]
            .into_iter()
            .chain(send)
            .collect();
        user.run(&send, "");
        sandbox.mend_tokens();
    }
}

fn scripts_ask(user: &mut Overheard) {
    let script = r#"
local pr = require "postrider"
for _, account in ipairs(pr.accounts()) do
  print(account, account:status(), account:rotate())
  pr.log.info("status", { status = account:status() })
end
local secret = pr.secret.vault "client"
print(secret)
pr.log.info("secret", { secret = secret })
print(pcall(pr.template.text, "{{ secret }}", { secret = secret }))
print(pcall(pr.csv.encode, { { secret = secret } }))
print(pcall(pr.json.encode, { secret = secret }))
print(pcall(pr.fs.write, "secret", secret))
print(pcall(pr.run, { "/bin/cat", secret }))
print(pr.run { "/bin/true", stdin = secret, env = { SECRET = secret } })
print(pr.run { "/bin/sleep", "600", stdin = secret, env = { SECRET = secret }, timeout = "10ms" })
print(pr.run { "/bin/cat", stdin = secret, max_octets = 1 })
print(pr.run { "/bin/false", stdin = secret, cwd = "/nonexistent" })
error(secret)
"#;
    write_private(&user.home.path().join("ask.lua"), script);
    for ended in user.run(&["run", "ask.lua"], "") {
        ended.expect_status(1);
    }
}

fn the_daemon_is_asked(user: &mut Overheard, sandbox: &Sandbox) {
    let script = r#"
local pr = require "postrider"
local secret = pr.secret.vault "client"
pr.every("1h", function()
  print(secret)
  pr.log.warn("scheduled", { secret = secret, status = pr.account("secret"):status() })
  print(pr.account("wrong-secret"):rotate())
  error(secret)
end, { name = "leaky", on_error = function(failure) print(failure) end })
pr.on("token.refreshed", function(event) print(event.account); error(secret) end)
"#;
    write_private(&user.home.path().join("scripts.d/leaky.lua"), script);
    let mut command = user.home.postrider(["serve", "--log", "trace"]);
    let daemon = Daemon::started_by(&mut command, &user.home);

    for account in ["secret", "certificate", "person", "openid", "basic"] {
        for ended in user.run(&["rotate", account, "--force"], "") {
            ended.expect_status(0);
        }
        user.token(account);
    }
    for account in GOOD.into_iter().chain(BAD) {
        user.run(&["account", "show", account], "");
        user.run(&["account", "test", account], "");
        user.run(&["rotate", account, "--force"], "");
    }
    let said = format!("the secret was {CLIENT_SECRET}");
    for body in [
        &said,
        &json!({ "error": said, "error_description": said }).to_string(),
    ] {
        sandbox.break_tokens(json!({ "http": { "status": 400, "body": body } }));
        user.run(&["rotate", "secret", "--force"], "");
    }
    sandbox.mend_tokens();
    for ended in user.run(&["schedule", "run", "leaky"], "") {
        assert_ne!(ended.status, 0);
    }
    for command in [
        ["schedule", "list"].as_slice(),
        &["schedule", "history", "leaky"],
        &["account", "list"],
        &["status"],
        &["reload"],
    ] {
        for ended in user.run(command, "") {
            ended.expect_status(0);
        }
    }
    for (method, path) in [
        ("GET", "/v1/hello"),
        ("GET", "/v1/status"),
        ("GET", "/v1/accounts"),
        ("GET", "/v1/accounts/secret"),
        ("GET", "/v1/schedules"),
        ("GET", "/v1/schedules/leaky/history"),
        ("POST", "/v1/accounts/secret/rotate"),
        ("POST", "/v1/accounts/wrong-secret/rotate"),
        ("POST", "/v1/accounts/wrong-password/check"),
        ("POST", "/v1/schedules/leaky/pause"),
    ] {
        let (_, answer) = daemon.ask(method, path);
        assert!(!answer.is_null(), "{path}");
        user.hear(&format!("{method} {path}"), &answer.to_string());
    }
    let config = fs::read_to_string(user.home.path().join("postrider.toml")).unwrap();
    let (_, address) = config.split_once("metrics = \"").unwrap();
    let (address, _) = address.split_once('"').unwrap();
    for path in ["metrics", "healthz"] {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        user.hear(path, &answer);
    }
    let ended = daemon.terminate().expect_status(0);
    assert!(ended.stderr.contains("leaky"), "{ended:?}");
    user.overhear("serve", &ended, &[]);
}

fn the_vault_is_moved(user: &mut Overheard) {
    let passphrase = EXPORT_PASSPHRASE;
    for (number, file) in ["one.age", "two.age"].into_iter().enumerate() {
        let export = ["vault", "export", "--passphrase", "--output", file];
        let more = [["--log", "trace"].as_slice(), &["--log", "trace", "--json"]][number];
        let mut command = user.home.postrider(export.iter().chain(more).copied());
        let ended = run_with(&mut command, passphrase).expect_status(0);
        user.overhear("vault export", &ended, &[]);
        let exported = fs::read(user.home.path().join(file)).unwrap();
        user.said.push((file.to_owned(), exported));
    }
    user.run(&["vault", "import", "one.age"], passphrase);
    user.run(&["vault", "import", "one.age"], "Canary not this one 19");
    user.run(&["vault", "rekey"], "");
    user.run(&["vault", "rekey", "--passphrase"], NEW_PASSPHRASE);
    user.run(&["vault", "status"], "");
    write_private(&user.home.path().join("passphrase"), NEW_PASSPHRASE);
    user.run(&["vault", "status"], "");
    user.run(&["secret", "remove", "other"], "");
}

/// Somebody who queues mail, with all of it planted.
fn who_queues(sandbox: &Sandbox, port: u16) -> Overheard {
    let mut home = Home::new("");
    write_private(&home.path().join("password"), PASSWORD);
    home.configure(&format!(
        "[scripts]\ndir = \"scripts.d\"\n[serve]\nmetrics = \"127.0.0.1:{port}\"\nwatch = false\n\
         {accounts}\n[account.password]\nusername = \"{user}\"\nca_file = \"{ca_file}\"\n\
         server = {{ host = \"localhost\", port = {smtp}, tls = \"starttls\" }}\n\
         auth = {{ plugin = \"basic\", password = {{ file = \"password\" }} }}\n",
        accounts = hurried(sandbox.config().split_once("# export").unwrap().0),
        user = PERSON.0,
        ca_file = sandbox.ca_file(),
        smtp = sandbox.smtp_port(),
    ));
    home.set(sandbox.client_secret());
    let events = r#"
local pr = require "postrider"
for _, name in ipairs { "accepted", "delivered", "deferred", "held", "failed", "unknown", "paused", "resumed" } do
  pr.on("queue." .. name, function(event) print(event); pr.log.warn(name, event) end)
end
"#;
    fs::create_dir(home.path().join("scripts.d")).unwrap();
    write_private(&home.path().join("scripts.d/events.lua"), events);
    let mut needles = Needles::default();
    for (name, secret) in [
        ("the client secret", CLIENT_SECRET),
        ("the password", PASSWORD),
        ("a body", QUEUED_BODY),
        ("a subject", QUEUED_SUBJECT),
        ("a header", QUEUED_HEADER),
    ] {
        needles.add(name, secret);
    }
    Overheard {
        home,
        needles,
        said: Vec::new(),
    }
}

fn queue_canary(user: &mut Overheard, account: &str, status: i32) {
    let header = format!("X-Canary: {QUEUED_HEADER}");
    let to = ["--to", "admin@contoso.com", "--subject", QUEUED_SUBJECT];
    let mut send = vec!["send", "--queue", "--account", account, "--header", &header];
    send.extend(to);
    for ended in user.run(&send, QUEUED_BODY) {
        ended.expect_status(status);
    }
}

fn operators_look(user: &mut Overheard, daemon: &Daemon, port: u16) {
    for command in [
        ["queue", "list", "--all"].as_slice(),
        &["queue", "show", "Q00001"],
        &["queue", "stats"],
        &["queue", "hold", "--all"],
        &["queue", "release", "--all"],
        &["queue", "retry", "--state", "unknown"],
        &["status"],
    ] {
        user.run(command, "");
    }
    for wrong in [
        json!({ "account": "nobody" }),
        json!({ "to": QUEUED_SUBJECT }),
        json!({ "attach": 5 }),
        json!({ "priority": "highest" }),
        json!({ "expires_at": "2020-01-01T00:00:00Z" }),
    ] {
        let mut message = json!({
            "account": "sandbox", "to": "admin@contoso.com", "subject": QUEUED_SUBJECT,
            "text": QUEUED_BODY, "headers": [["X-Canary", QUEUED_HEADER]], "wait": "queued",
        });
        for (key, value) in wrong.as_object().unwrap() {
            message[key] = value.clone();
        }
        let (status, answer) = daemon.tell("/v1/messages", &message);
        assert!(status >= 400, "{wrong}: {answer}");
        if wrong["to"].is_null() {
            user.hear(&format!("the refusal of {wrong}"), &answer.to_string());
        }
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("queue"), "{metrics}");
    user.hear("metrics", &metrics);
}

#[test]
fn nothing_of_queued_mail_is_said_but_its_envelope() {
    let sandbox = Sandbox::with(|scenario| {
        scenario["limits"]["messages_per_minute"] = toml_edit::value(100_000);
        scenario["app"][0]["secrets"][0]["value"] = toml_edit::value(CLIENT_SECRET);
        let person = scenario["user"].as_array_of_tables_mut().unwrap();
        person.get_mut(0).unwrap()["password"] = toml_edit::value(PASSWORD);
    });
    let port = free_port();
    let mut user = who_queues(&sandbox, port);
    let strike = |at: &str, effect: &Value| {
        let fault = json!({ "at": at, "effect": effect, "times": 2 });
        sandbox.control("POST", "scenario/fault", Some(&fault));
    };
    let verdicts = [
        (json!({ "reply": "250 2.0.0 OK" }), "delivered"),
        (
            json!({ "reply": "451 4.7.0 Temporary server error" }),
            "deferred",
        ),
        (json!({ "reply": "554 5.2.252 SendAsDenied" }), "failed"),
        (json!("lose_reply"), "unknown"),
        (json!("close"), "unknown"),
        (
            json!({ "reply": "432 4.3.2 Concurrent connections limit exceeded." }),
            "paused",
        ),
    ];

    // Alone, and with a daemon.
    for (verdict, _) in &verdicts {
        queue_canary(&mut user, "sandbox", 0);
        strike("smtp_message", verdict);
        user.run(&["queue", "flush", "--now"], "");
        sandbox.mend_tokens();
    }
    queue_canary(&mut user, "nobody", 78);
    let mut serve = user.home.postrider(["serve", "--log", "trace"]);
    let daemon = Daemon::started_by(&mut serve, &user.home);
    for (verdict, event) in &verdicts {
        strike("smtp_message", verdict);
        queue_canary(&mut user, "sandbox", 0);
        // As the script says it, too.
        daemon.says(&format!("\"message\":\"{event}\""));
        sandbox.mend_tokens();
    }
    // The server repeats what it was shown, and that is why mail waits.
    let plain = STANDARD.encode(format!("\0{}\0{PASSWORD}", PERSON.0));
    for words in [PASSWORD.to_owned(), STANDARD.encode(PASSWORD), plain] {
        let reply = json!({ "reply": format!("535 5.7.3 Not with {words}") });
        strike("smtp_auth", &reply);
        queue_canary(&mut user, "password", 0);
        daemon.says("parked");
        user.run(&["queue", "flush", "--account", "password", "--now"], "");
        for command in ["list", "stats"] {
            user.run(&["queue", command], "");
        }
        user.run(&["status"], "");
        sandbox.mend_tokens();
    }
    operators_look(&mut user, &daemon, port);
    let ended = daemon.terminate().expect_status(0);
    user.overhear("serve", &ended, &[]);

    let found = leaks(&user.said, &user.needles);
    assert!(found.is_empty(), "{found:#?}");
    // It is in the queue, of course, and nowhere beside it; and others may not read it.
    let queue = user.home.state().join("queue");
    let kept = files(&user.home.state(), "");
    for path in kept {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
        if !path.starts_with(&queue) {
            let found = user.needles.found_in(&fs::read(&path).unwrap());
            assert!(found.is_empty(), "{} {found:?}", path.display());
        }
    }
}

#[test]
fn the_words_of_a_panic_are_repeated_nowhere() {
    // It panics with "the password hunter2 panicked at …".
    let built = cargo()
        .args(["build", "--package", "postrider-plugin", "--example"])
        .args(["panics", "--message-format", "json", "--quiet"])
        .output()
        .unwrap();
    let library = String::from_utf8(built.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "panics")
        .find_map(|message| message["filenames"][0].as_str().map(str::to_owned))
        .unwrap();
    let octets = fs::read(library).unwrap();
    let mut pin = String::new();
    for octet in Sha256::digest(&octets) {
        let _ = write!(pin, "{octet:02x}");
    }

    for at in ["create", "begin", "step", "end"] {
        let home = Home::new(&format!(
            "[plugins]\ndirs = [\"plugins\"]\npins = {{ panics = \"{pin}\" }}\n\
             [account.a]\nusername = \"a@example.org\"\n\
             server = {{ host = \"localhost\", port = 9, tls = \"starttls\" }}\n\
             auth = {{ plugin = \"panics\", at = \"{at}\" }}\n"
        ));
        let plugins = home.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        fs::set_permissions(&plugins, fs::Permissions::from_mode(0o700)).unwrap();
        write_private(&plugins.join("libpanics.so"), &octets);

        let ended = home.run(["--log", "trace", "token", "a"]);

        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!said.contains("hunter2"), "{said}");
        if at != "end" {
            assert_eq!(ended.status, 78, "{said}");
            assert!(said.contains("plugin"), "{said}");
        }
    }
}

#[test]
fn a_secret_is_found_in_every_form_and_at_every_place() {
    let secret = "Canary+/=&% secret \"1\"";
    let mut needles = Needles::default();
    needles.add("it", secret);
    let mut hex = String::new();
    for octet in secret.bytes() {
        let _ = write!(hex, "{octet:02X}");
    }
    let mut texts = vec![
        secret.to_owned(),
        hex.to_lowercase(),
        hex,
        json!({ "said": secret }).to_string(),
        "x=Canary%2B%2F%3D%26%25+secret+%221%22&y".to_owned(),
        "x=Canary%2b%2f%3d%26%25%20secret%20%221%22".to_owned(),
    ];
    for before in ["", "a", "ab", "abc"] {
        let longer = format!("{before}{secret}:and more");
        texts.push(STANDARD_NO_PAD.encode(&longer));
        texts.push(URL_SAFE_NO_PAD.encode(&longer));
    }
    for text in &texts {
        assert_eq!(needles.found_in(text.as_bytes()).len(), 1, "{text}");
    }
    assert!(needles.found_in(b"Canary but not this one").is_empty());
}
