//! `postrider import`: files as they lie on real machines, read by the programs that they are
//! for where these are installed; then accounts that send.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::device::{Device, scan};
use support::home::Home;
use support::office::until;
use support::person::Person;
use support::sandbox::{PERSON, Sandbox, read_mail};
use support::{Ended, find_program, free_port, root, run, run_with, skip, write_private};

/// The sandbox's application that people sign in to without a secret.
const PUBLIC_CLIENT: &str = "2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801";
/// What the mail programs of the story have as their password.
const PASSWORD: &str = "what-thunderbird-has";

/// A machine with nothing of Postrider's on it, and a file to import.
struct Machine {
    home: Home,
    config: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let (home, config) = Home::empty();
        Self { home, config }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        write_private(&path, text);
        path
    }

    fn import(&self, arguments: &[&str]) -> Ended {
        let mut all = vec!["import"];
        all.extend(arguments);
        self.home.run(all)
    }

    /// An import that succeeds, as JSON.
    #[track_caller]
    fn imported(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--yes", "--json"];
        all.splice(0..0, arguments.iter().copied());
        self.import(&all).expect_status(0).json()
    }

    fn written(&self) -> String {
        fs::read_to_string(&self.config).unwrap_or_default()
    }

    /// Everything of Postrider's that is there, by path and content.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.home.state(), &mut found);
        collect(&self.config, &mut found);
        found.sort();
        found
    }
}

fn collect(path: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(path) else {
        if let Ok(content) = fs::read(path) {
            found.push((path.to_owned(), content));
        }
        return;
    };
    for entry in entries {
        collect(&entry.unwrap().path(), found);
    }
}

/// What was left out, by what it was.
fn left<'v>(imported: &'v Value, what: &str) -> &'v Value {
    let all = imported["not_carried"].as_array().unwrap();
    let found = all
        .iter()
        .find(|left| left["what"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("{what} is not among {all:#?}"))
}

/// A refresh token of the sandbox, as a mailer that a person signed in to has it.
fn refresh_token(sandbox: &Sandbox) -> String {
    let scope = "https://outlook.office.com/SMTP.Send offline_access";
    let endpoint = format!("{}/contoso.onmicrosoft.com/oauth2/v2.0", authority(sandbox));
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", PUBLIC_CLIENT)
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", "http://localhost")
        .append_pair("scope", scope)
        .append_pair(
            "code_challenge",
            "a-challenge-of-at-least-forty-three-characters-0",
        )
        .append_pair("code_challenge_method", "plain")
        .finish();
    let mut person = Person::at(sandbox);
    let page = person.open(&format!("{endpoint}/authorize?{query}"));
    let page = person.sign_in(page, PERSON.0, PERSON.1);
    let landed = page.landed().clone();
    let code = landed.query_pairs().find(|(name, _)| name == "code");
    let code = code.unwrap().1.into_owned();
    let answer = run(Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
        .arg(sandbox.ca_file())
        .args(["--data-urlencode", &format!("code={code}")])
        .args(["--data-urlencode", &format!("client_id={PUBLIC_CLIENT}")])
        .args(["--data-urlencode", "grant_type=authorization_code"])
        .args(["--data-urlencode", "redirect_uri=http://localhost"])
        .args(["--data-urlencode", &format!("scope={scope}")])
        .args([
            "--data-urlencode",
            "code_verifier=a-challenge-of-at-least-forty-three-characters-0",
        ])
        .arg(format!("{endpoint}/token")))
    .expect_status(0)
    .json();
    answer["refresh_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

fn authority(sandbox: &Sandbox) -> &str {
    sandbox.authority().trim_end_matches('/')
}

/// What Email OAuth 2.0 Proxy itself writes for these values; none where it is not installed.
fn encrypted_by_the_proxy(values: &Value) -> Option<String> {
    let peers = root().join("tests/peers");
    let python = peers.join("venv/bin/python");
    let there =
        python.exists() && run(Command::new(&python).args(["-c", "import emailproxy"])).status == 0;
    if !there {
        skip("emailproxy is not installed (pip install -r tests/peers/requirements.txt)");
        return None;
    }
    let request = json!({
        "username": PERSON.0,
        "password": PASSWORD,
        "iterations": 100_000,
        "values": values,
    });
    let script = peers.join("emailproxy_config.py");
    let ended = run_with(Command::new(python).arg(script), &request.to_string());
    Some(ended.expect_status(0).stdout)
}

/// `emailproxy.config` of somebody whose provider is the sandbox.
fn proxy_config(sandbox: &Sandbox, port: u16, encrypted: &str) -> String {
    let endpoint = format!("{}/contoso.onmicrosoft.com/oauth2/v2.0", authority(sandbox));
    format!(
        "[Server setup]\ndocumentation = see the manual\n\n\
         [IMAP-1993]\nserver_address = localhost\nserver_port = 993\n\n\
         [SMTP-{port}]\nserver_address = localhost\nserver_port = {}\nserver_starttls = True\n\n\
         [{}]\npermission_url = {endpoint}/authorize\ntoken_url = {endpoint}/token\n\
         oauth2_scope = https://outlook.office.com/SMTP.Send offline_access\n\
         redirect_uri = http://localhost\nclient_id = {PUBLIC_CLIENT}\n{encrypted}\n\
         [emailproxy]\ndelete_account_token_on_password_error = True\n",
        sandbox.smtp_port(),
        PERSON.0,
    )
}

#[test]
fn a_mailbox_of_the_proxy_goes_on_with_its_sign_in_and_its_programs_with_their_password() {
    if find_program("curl").is_none() {
        return skip("curl is not installed");
    }
    let sandbox = Sandbox::start();
    let token = refresh_token(&sandbox);
    let values = json!({ "refresh_token": token, "access_token": "long-gone" });
    let Some(encrypted) = encrypted_by_the_proxy(&values) else {
        return;
    };
    let mut machine = Machine::new();
    machine.home.set(("SSL_CERT_FILE", sandbox.ca_file()));
    let port = free_port();
    let text = proxy_config(&sandbox, port, &encrypted);
    let file = machine.write("emailproxy.config", &text);
    let password = machine.write("password", &format!("{PASSWORD}\n"));
    let (file, password) = (file.to_str().unwrap(), password.to_str().unwrap());

    let arguments = ["emailproxy", file, "--password-file", password];
    let imported = machine.imported(&arguments);

    assert_eq!(imported["changed"], true);
    assert_eq!(imported["sign_ins"], json!(["svc-mail"]));
    assert_eq!(imported["passwords"], json!([]), "programs keep theirs");
    left(&imported, "[IMAP-1993]");
    let written = machine.written();
    assert!(
        written.contains(&format!("[gateway.smtp-{port}]")),
        "{written}"
    );
    assert!(!written.contains(&token) && !written.contains(PASSWORD));
    machine.home.run(["check"]).expect_status(0);

    machine
        .home
        .run([
            "send",
            "--account",
            "svc-mail",
            "--to",
            "admin@contoso.com",
            "--subject",
            "Carried over",
            "--text",
            "It works.",
        ])
        .expect_status(0);
    let mail = sandbox.mail("admin@contoso.com");
    assert!(read_mail(&mail[0]).contains("Subject: Carried over"));

    // Again: nothing changes, though the sandbox may have replaced the token meanwhile.
    let before = machine.everything();
    let again = machine.imported(&arguments);
    assert_eq!(
        (&again["changed"], &again["sign_ins"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(machine.everything(), before);

    // A program with the settings page that it had for the proxy.
    let Some(mut program) = Device::new() else {
        return skip("python3 is not installed");
    };
    let daemon = Daemon::start(&machine.home);
    program.connect(port, "none").expect(220);
    program.auth("PLAIN", PERSON.0, PASSWORD).expect(235);
    let message = scan(PERSON.0, "admin@contoso.com", "From a program");
    program
        .send(PERSON.0, &["admin@contoso.com"], &message)
        .expect(250);
    until("it arrives", || {
        (sandbox.mail("admin@contoso.com").len() == 2).then_some(())
    });
    daemon.terminate().expect_status(0);
}

#[test]
fn tokens_that_the_proxy_keeps_in_another_file_are_found_there() {
    let sandbox = Sandbox::start();
    let values = json!({ "refresh_token": "r" });
    let Some(encrypted) = encrypted_by_the_proxy(&values) else {
        return;
    };
    let machine = Machine::new();
    let kept = format!("[{}]\n{encrypted}\n", PERSON.0);
    let kept = machine.write("tokens.config", &kept);
    let config = machine.write("emailproxy.config", &proxy_config(&sandbox, 1589, ""));
    let password = machine.write("password", PASSWORD);
    let plan = machine
        .import(&[
            "emailproxy",
            config.to_str().unwrap(),
            "--cache-store",
            kept.to_str().unwrap(),
            "--password-file",
            password.to_str().unwrap(),
            "--dry-run",
        ])
        .expect_status(0);
    assert!(
        plan.stdout.contains("in the vault: its sign-in")
            && plan.stdout.contains("with the password that it has"),
        "{}",
        plan.stdout
    );
}

#[test]
fn tokens_need_the_right_password_and_an_import_without_says_what_to_do() {
    let sandbox = Sandbox::start();
    let values = json!({ "refresh_token": "r", "client_secret_encrypted": "daemon-client-secret" });
    let Some(encrypted) = encrypted_by_the_proxy(&values) else {
        return;
    };
    let machine = Machine::new();
    let text = proxy_config(&sandbox, 1588, &encrypted);
    let file = machine.write("emailproxy.config", &text);
    let file = file.to_str().unwrap();
    let wrong = machine.write("wrong", "not-this");

    let arguments = ["emailproxy", file, "--yes", "--password-file"];
    let refused = machine.import(&[&arguments[..], &[wrong.to_str().unwrap()]].concat());
    let refused = refused.expect_status(64);
    assert!(
        refused.stderr.contains("opens none of the tokens"),
        "{}",
        refused.stderr
    );
    assert!(machine.everything().is_empty(), "nothing was changed");

    let imported = machine.imported(&["emailproxy", file, "--without-tokens"]);
    assert_eq!(imported["sign_ins"], json!([]));
    let tokens = left(&imported, "the tokens");
    assert!(
        tokens["instead"]
            .as_str()
            .unwrap()
            .contains("postrider login svc-mail")
    );
    // Whoever signs in there has no password that is known, and gets one.
    let made = &imported["passwords"][0];
    assert_eq!(made["device"], PERSON.0);
    assert!(made["password"].as_str().unwrap().len() >= 20);
    machine.home.run(["check"]).expect_status(0);
}

/// `~/.msmtprc` of somebody with two accounts, one inheriting from the other.
const MSMTPRC: &str = "\
# Office first
defaults
tls on
auth on
logfile ~/.msmtp.log

account office
host smtp.office365.com
port 587
user svc-mail@contoso.com
from alerts@contoso.com
password office-password

account private : office
host mail.example.org
port 465
tls_starttls off
user joe@example.org
from joe@example.org
password \"private password\"

account default : office
";

#[test]
fn accounts_of_msmtp_are_what_msmtp_itself_understands() {
    let machine = Machine::new();
    let file = machine.write("msmtprc", MSMTPRC);
    let file = file.to_str().unwrap();

    let imported = machine.imported(&["msmtp", file]);

    machine.home.run(["check"]).expect_status(0);
    let ending = left(&imported, "the password of account \"office\"");
    assert!(
        ending["why"].as_str().unwrap().contains("December 2026"),
        "{ending}"
    );
    assert!(
        ending["instead"]
            .as_str()
            .unwrap()
            .contains("postrider setup")
    );
    let secrets = machine.home.json(["secret", "list"]);
    let names: Vec<_> = secrets["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["office/password", "private/password"]);
    let written = machine.written();
    assert!(!written.contains("office-password") && !written.contains("private password"));

    if find_program("msmtp").is_none() {
        return skip("msmtp is not installed");
    }
    for name in ["office", "private"] {
        let shown = run(Command::new("msmtp").args([
            "--pretend",
            &format!("--file={file}"),
            &format!("--account={name}"),
            "nobody@example.org",
        ]))
        .expect_status(0)
        .stdout;
        let said = |key: &str| {
            let line = shown
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{key} = ")));
            line.unwrap_or_else(|| panic!("{key} in {shown}"))
                .trim()
                .to_owned()
        };
        let account = machine.home.json(["account", "show", name]);
        let server = &account["server"];
        assert_eq!(server["host"], json!(said("host")), "{account}");
        assert_eq!(server["port"].to_string(), said("port"));
        let starttls = said("tls_starttls").starts_with("on");
        assert_eq!(
            server["tls"],
            if starttls { "starttls" } else { "implicit" }
        );
        assert_eq!(account["username"], json!(said("user")));
        assert!(
            account["sender"].to_string().contains(&said("from")),
            "{account}"
        );
    }
}

/// A relay of an office, with tables and a master.cf.
fn office_relay(machine: &Machine) -> PathBuf {
    let directory = machine.home.path().join("postfix");
    fs::create_dir(&directory).unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        write_private(&path, text);
        path
    };
    write(
        "master.cf",
        "smtp      inet  n       -       y       -       -       smtpd\n\
         submission inet n       -       y       -       -       smtpd\n  \
         -o syslog_name=postfix/submission\n  -o smtpd_sasl_auth_enable=yes\n",
    );
    write(
        "sasl_passwd",
        "# the relay\n[smtp.office365.com]:587    svc-mail@contoso.com:relay-password\n",
    );
    write(
        "main.cf",
        "compatibility_level = 3.6\n\
         relay_host_name = smtp.office365.com\n\
         inet_interfaces = all\n\
         mynetworks = 127.0.0.0/8,\n    192.168.1.0/24\n\
         relayhost = [$relay_host_name]:587\n\
         smtp_sasl_auth_enable = yes\n\
         smtp_sasl_password_maps = texthash:${config_directory}/sasl_passwd\n\
         smtp_tls_security_level = encrypt\n\
         smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject\n",
    )
}

#[test]
fn a_relay_of_postfix_becomes_an_account_and_gateways_that_want_a_password() {
    let machine = Machine::new();
    let file = office_relay(&machine);
    let name = file.to_str().unwrap();

    let plan = machine
        .import(&["postfix", name, "--dry-run"])
        .expect_status(0);
    assert!(
        plan.stdout.contains("Nothing was changed (--dry-run)"),
        "{}",
        plan.stdout
    );
    assert!(machine.everything().is_empty(), "a dry run changes nothing");

    let imported = machine.imported(&["postfix", name]);
    machine.home.run(["check"]).expect_status(0);
    let gateways = imported["gateways"].as_array().unwrap();
    let names: Vec<_> = gateways.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["postfix-smtp", "postfix-submission"]);
    let open = left(&imported, "permit_mynetworks");
    assert!(
        open["instead"]
            .as_str()
            .unwrap()
            .contains("postrider gateway credential add")
    );

    if find_program("postconf").is_none() {
        return skip("postfix is not installed");
    }
    let directory = file.parent().unwrap();
    let asked = |name: &str| {
        let ended = run(Command::new("postconf")
            .arg("-c")
            .arg(directory)
            .args(["-x", "-h", name]));
        ended.expect_status(0).stdout.trim().to_owned()
    };
    let account = machine.home.json(["account", "show", "svc-mail"]);
    let server = &account["server"];
    let host = server["host"].as_str().unwrap();
    assert_eq!(asked("relayhost"), format!("[{host}]:{}", server["port"]));
    let networks = asked("mynetworks");
    let networks: Vec<_> = networks
        .split([',', ' '])
        .filter(|it| !it.is_empty())
        .collect();
    assert_eq!(gateways[0]["settings"]["clients"], json!(networks));
    let map = asked("smtp_sasl_password_maps");
    assert_eq!(map, format!("texthash:{}/sasl_passwd", directory.display()));
}

#[test]
fn a_relay_with_a_certificate_is_imported_once_and_the_second_time_changes_nothing() {
    let machine = Machine::new();
    let main = office_relay(&machine);
    let directory = main.parent().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["relay.contoso.com".to_owned()]).unwrap();
    write_private(&directory.join("relay.pem"), pair.cert.pem());
    write_private(
        &directory.join("relay.key"),
        pair.signing_key.serialize_pem(),
    );
    let text = fs::read_to_string(&main).unwrap()
        + "smtpd_tls_cert_file = ${config_directory}/relay.pem\n\
           smtpd_tls_key_file = ${config_directory}/relay.key\n";
    write_private(&main, &text);
    let arguments = ["postfix", main.to_str().unwrap()];

    let imported = machine.imported(&arguments);
    let settings = &imported["gateways"][0]["settings"];
    let file = directory.join("relay.pem");
    assert_eq!(settings["certificate"], file.to_str().unwrap());
    let before = machine.everything();

    assert_eq!(machine.imported(&arguments)["changed"], false);
    assert_eq!(machine.everything(), before);
}

#[test]
fn what_an_import_cannot_do_is_refused_with_what_can_be_done() {
    let machine = Machine::new();
    let rc = machine.write("msmtprc", MSMTPRC);
    let rc = rc.to_str().unwrap();
    let relay = office_relay(&machine);
    let relay = relay.to_str().unwrap();
    let oauth = machine.write("sasl.conf", "{}");
    let oauth = oauth.to_str().unwrap();
    for (arguments, status, said) in [
        // What listens nowhere has no clients.
        (
            &["msmtp", rc, "--client", "192.168.1.0/24"][..],
            64,
            "--client",
        ),
        (
            &["sasl-xoauth2", oauth, "--client", "192.168.1.0/24"],
            64,
            "--client",
        ),
        (
            &["postfix", relay, "--client", "192.168.1.7/24"],
            64,
            "try: write \"192.168.1.0/24\"",
        ),
        (
            &["postfix", relay, "--client", "the-office"],
            64,
            "is not a network",
        ),
        (
            &["sasl-xoauth2", oauth, "--sasl-passwd", "nowhere"],
            66,
            "--sasl-passwd FILE",
        ),
        (
            &["msmtp", relay],
            78,
            "try: name the configuration of msmtp",
        ),
    ] {
        let refused = machine.import(arguments).expect_status(status);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert!(machine.everything().is_empty());
}

#[test]
fn what_to_do_next_is_about_the_file_that_was_written() {
    let machine = Machine::new();
    let rc = machine.write("msmtprc", MSMTPRC);
    let other = machine.home.path().join("another file.toml");
    let other = other.to_str().unwrap();

    let import = ["--config", other, "import", "msmtp", rc.to_str().unwrap()];
    let ended = machine.home.run(import.iter().copied().chain(["--yes"]));

    let next = ended.expect_status(0).stdout;
    let check = next.lines().find(|line| line.ends_with(" check")).unwrap();
    assert!(check.contains(&format!(" --config '{other}' ")), "{check}");
}

#[test]
fn token_files_of_sasl_xoauth2_go_on() {
    if find_program("curl").is_none() {
        return skip("curl is not installed");
    }
    let sandbox = Sandbox::start();
    let machine = Machine::new();
    let endpoint = format!(
        "{}/contoso.onmicrosoft.com/oauth2/v2.0",
        authority(&sandbox)
    );
    let token = machine.write(
        "token",
        &json!({
            "access_token": "long-gone",
            "expiry": "1700000000",
            "refresh_token": refresh_token(&sandbox),
            "scope": "https://outlook.office.com/SMTP.Send offline_access",
            "ca_bundle_file": sandbox.ca_file(),
        })
        .to_string(),
    );
    let config = machine.write(
        "sasl-xoauth2.conf",
        &json!({ "client_id": PUBLIC_CLIENT, "token_endpoint": format!("{endpoint}/token") })
            .to_string(),
    );
    let passwords = machine.write(
        "sasl_passwd",
        &format!(
            "[localhost]:{} {}:{}\n",
            sandbox.smtp_port(),
            PERSON.0,
            token.display()
        ),
    );

    let (config, passwords) = (config.to_str().unwrap(), passwords.to_str().unwrap());
    let arguments = ["sasl-xoauth2", config, "--sasl-passwd", passwords];
    let imported = machine.imported(&arguments);
    assert_eq!(imported["sign_ins"], json!(["svc-mail"]));
    assert!(
        left(&imported, "where people sign in")["why"]
            .as_str()
            .unwrap()
            .contains("/authorize")
    );

    let to = [
        "--to",
        "admin@contoso.com",
        "--subject",
        "Relayed",
        "--text",
        ".",
    ];
    let send = [&["send", "--account", "svc-mail"][..], &to].concat();
    machine.home.run(send).expect_status(0);
    assert_eq!(sandbox.mail("admin@contoso.com").len(), 1);
    assert_eq!(machine.imported(&arguments)["changed"], false);
}

#[test]
fn what_is_there_is_never_replaced() {
    let machine = Machine::new();
    let file = machine.write("msmtprc", MSMTPRC);
    let file = file.to_str().unwrap();
    machine.imported(&["msmtp", file]);
    let before = machine.everything();

    // The same name, another account.
    let other = machine.write("other", &MSMTPRC.replace("svc-mail@", "somebody@"));
    let other = other.to_str().unwrap();
    let refused = machine.import(&["msmtp", other, "--yes"]).expect_status(78);
    assert!(
        refused.stderr.contains("[account.office] is there already"),
        "{}",
        refused.stderr
    );
    assert_eq!(machine.everything(), before);

    let imported = machine.imported(&["msmtp", other, "--account-prefix", "old-"]);
    assert_eq!(imported["accounts"][0]["name"], "old-office");
    machine.home.run(["check"]).expect_status(0);
    let written = machine.written();
    assert!(
        written.contains("svc-mail@") && written.contains("somebody@"),
        "{written}"
    );
}

#[test]
fn a_file_that_is_broken_or_missing_changes_nothing() {
    let machine = Machine::new();
    let rc = machine.write("msmtprc", "account a\nhost h\nhunter2\n");
    let cf = machine.write("main.cf", "relayhost = x\nhunter2\n");
    let ini = machine.write("emailproxy.config", "[SMTP-1587]\nhunter2\n");
    let json = machine.write("sasl.conf", "{\"client_secret\": hunter2}");
    let relay = machine.write("sasl_passwd", "");
    for (kind, file, more) in [
        ("msmtp", &rc, None),
        ("postfix", &cf, None),
        ("emailproxy", &ini, None),
        (
            "sasl-xoauth2",
            &json,
            Some(["--sasl-passwd", relay.to_str().unwrap()]),
        ),
    ] {
        let mut arguments = vec![kind, file.to_str().unwrap(), "--yes"];
        arguments.extend(more.into_iter().flatten());
        let refused = machine.import(&arguments).expect_status(78);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains(&format!("{}:", file.display())),
            "{}",
            refused.stderr
        );
    }
    machine
        .import(&["msmtp", "nowhere", "--yes"])
        .expect_status(66);
    machine
        .import(&["msmtp", "/dev/zero", "--yes"])
        .expect_status(66);
    // Nobody is there to say yes.
    let good = machine.write("good", MSMTPRC);
    machine
        .import(&["msmtp", good.to_str().unwrap()])
        .expect_status(64);
    assert!(!machine.config.exists());
}

/// A proxy with a listener on each of `ports`, and a mailbox for it.
fn two_proxies(ports: [u16; 2]) -> String {
    let section = |port: u16, host: &str, tenant: &str| {
        format!(
            "[SMTP-{port}]\nserver_address = {host}\nserver_port = 587\nserver_starttls = True\n\n\
             [{tenant}@example.org]\n\
             permission_url = https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize\n\
             token_url = https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token\n\
             oauth2_scope = https://outlook.office.com/SMTP.Send offline_access\n\
             client_id = {PUBLIC_CLIENT}\n\n"
        )
    };
    let [one, other] = ports;
    section(one, "smtp.office365.com", "common")
        + &section(other, "smtp-mail.outlook.com", "consumers")
}

#[test]
fn a_gateway_that_would_be_refused_is_left_out_before_anything_is_shown() {
    let machine = Machine::new();
    let file = machine.write("emailproxy.config", &two_proxies([1587, 1588]));
    let file = file.to_str().unwrap();
    let there = "[account.mine]\nusername = \"me@example.org\"\nauth = { plugin = \"basic\", \
                 password = { env = \"X\" } }\nserver = { host = \"h.example\", port = 587, tls = \"starttls\" }\n\n\
                 [gateway.mine]\nlisten = \"127.0.0.1:1587\"\naccount = \"mine\"\n";
    write_private(&machine.config, there);

    let plan = machine
        .import(&["emailproxy", file, "--dry-run"])
        .expect_status(0)
        .stdout;
    assert!(
        plan.contains("[gateway.mine] listens on 127.0.0.1:1587 already"),
        "{plan}"
    );
    assert!(
        !plan.contains("set     [gateway.smtp-1587]")
            && plan.contains("set     [gateway.smtp-1588]"),
        "{plan}"
    );
    assert_eq!(machine.written(), there, "a dry run changes nothing");

    let imported = machine.imported(&["emailproxy", file]);
    let taken = left(&imported, "gateway smtp-1587");
    assert_eq!(taken["instead"], "give one of them another port");
    assert_eq!(imported["gateways"].as_array().unwrap().len(), 1);
    machine.home.run(["check"]).expect_status(0);
    assert_eq!(machine.imported(&["emailproxy", file])["changed"], false);
}

#[test]
fn a_certificate_that_devices_would_refuse_is_not_taken_over() {
    let machine = Machine::new();
    let broken = machine.write("relay.pem", "no certificate");
    let text = two_proxies([1587, 1588]).replacen(
        "server_address",
        &format!(
            "local_certificate_path = {0}\nlocal_key_path = {0}\nserver_address",
            broken.display()
        ),
        1,
    );
    let file = machine.write("emailproxy.config", &text);
    let file = file.to_str().unwrap();

    let imported = machine.imported(&["emailproxy", file]);

    left(&imported, "the certificate of gateway smtp-1587");
    assert_eq!(imported["gateways"].as_array().unwrap().len(), 2);
    assert!(!machine.written().contains("relay.pem"));
    machine.home.run(["check"]).expect_status(0);
    assert_eq!(machine.imported(&["emailproxy", file])["changed"], false);
}

#[test]
fn a_gateway_stays_for_the_mailboxes_that_are_right() {
    let machine = Machine::new();
    // The first mailbox's tenant is the text of somebody's instructions.
    let text = two_proxies([1587, 1588])
        .replace("/common/", "/TENANT_ID/")
        .replace("[consumers@", "[other@")
        .replace("/consumers/", "/common/")
        .replace("[SMTP-1588]\nserver_address = smtp-mail.outlook.com\nserver_port = 587\nserver_starttls = True\n", "");
    let file = machine.write("emailproxy.config", &text);

    let imported = machine.imported(&["emailproxy", file.to_str().unwrap()]);

    left(&imported, "account common");
    let gateway = &imported["gateways"][0];
    assert_eq!(gateway["settings"]["account"], "other");
    assert_eq!(gateway["devices"], json!(["other@example.org"]));
    machine.home.run(["check"]).expect_status(0);
}

#[test]
fn what_stands_behind_the_file_is_not_repeated() {
    let machine = Machine::new();
    let file = machine.write("emailproxy.config", &two_proxies([1587, 1588]));
    let file = file.to_str().unwrap();
    for kind in ["emailproxy", "msmtp", "postfix", "sasl-xoauth2"] {
        let refused = machine
            .import(&[kind, file, "hunter2", "--yes"])
            .expect_status(64);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("not taken from the command line"),
            "{}",
            refused.stderr
        );
    }
    assert!(machine.everything().is_empty());
}

#[test]
fn a_relay_whose_password_stands_in_main_cf_is_an_account_with_the_sender_of_everything() {
    let machine = Machine::new();
    let file = machine.write(
        "main.cf",
        "relayhost = [smtp.example.org]:587\nsmtp_sasl_auth_enable = yes\n\
         smtp_sasl_password_maps = inline:{ { smtp.example.org = apikey:hunter2 hunter2 } }\n\
         smtp_tls_security_level = encrypt\nmynetworks = 192.168.1.0/24\n\
         sender_canonical_maps = static:noreply@contoso.com\n",
    );
    let arguments = ["postfix", file.to_str().unwrap()];
    let plan = machine.import(&[&arguments[..], &["--dry-run"]].concat());
    let plan = plan.expect_status(0);
    assert!(!plan.stdout.contains("hunter2"), "{}", plan.stdout);

    machine.imported(&arguments);
    machine.home.run(["check"]).expect_status(0);
    let account = machine.home.json(["account", "show", "noreply"]);
    assert_eq!(account["username"], "apikey");
    assert!(
        account["sender"]
            .to_string()
            .contains("noreply@contoso.com")
    );
    let written = machine.written();
    assert!(written.contains("rewrite_from = true"), "{written}");
    assert!(!written.contains("hunter2"), "{written}");
}
