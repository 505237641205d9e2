//! Secrets looked for where devices are: what they type, rightly, wrongly and in the wrong place,
//! the hashes of it, the gateway's key, and what other programs' files hold; in what the commands
//! print and log, at trace level too, in what the daemon tells, and in every file but the message.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::daemon::Daemon;
use support::device::{Device, scan};
use support::home::{Home, Login};
use support::needles::Needles;
use support::office::{Office, TO};
use support::sandbox::PERSON;
use support::{Ended, files, free_port, read_to_string, root, run, run_with, skip, write_private};

const RIGHT: &str = "Canary-Device/Pass+word-31";
const WRONG: &str = "Canary-Wrong/Device+Pass-32";
const MISPLACED: &str = "CanaryMisplacedPassword33";
const IN_ARGUMENTS: &str = "CanaryInTheArguments34";
const SUBJECT: &str = "Canary subject of a scan 35";
const HEADER: &str = "Canary header of a scan 36";
const BODY: &str = "Canary body of a scan 37";
const PROXY_SECRET: &str = "Canary+Proxy/Client=Secret%38";
const PROXY_TOKEN: &str = "Canary.Proxy-Refresh_Token.39";
const PROXY_ACCESS: &str = "Canary.Proxy-Access_Token.40";
const PROXY_PASSWORD: &str = "Canary-Proxy/Pass+word-41";
const PROXY_WRONG: &str = "Canary-Proxy/Not+this-42";
const MSMTP_PASSWORD: &str = "Canary-Msmtp/Pass+word-43";
const POSTFIX_PASSWORD: &str = "Canary-Postfix/Pass+word-44";
const XOAUTH2_SECRET: &str = "Canary+Xoauth2/Client=Secret%45";
const XOAUTH2_TOKEN: &str = "Canary.Xoauth2-Refresh_Token.46";
const XOAUTH2_ACCESS: &str = "Canary.Xoauth2-Access_Token.47";
const DEVICE: &str = "printer-2";

/// What is kept instead of a password begins with it, whatever the password.
const HASH: &str = "$argon2id$v=19$m=";

/// Where the private number stands in a key of P-256 in PKCS #8 (RFC 5915 within RFC 5958).
const PRIVATE: std::ops::Range<usize> = 36..68;

/// A user whose every command is overheard.
struct Overheard {
    secrets: Needles,
    /// What stands in mail, and so in the queue.
    words: Needles,
    said: Vec<(String, Vec<u8>)>,
}

impl Overheard {
    fn new() -> Self {
        let mut secrets = Needles::default();
        for (name, secret) in [
            ("the device's password", RIGHT),
            ("a wrong password", WRONG),
            ("a password in the wrong place", MISPLACED),
            ("an argument", IN_ARGUMENTS),
            ("the proxy's client secret", PROXY_SECRET),
            ("the proxy's refresh token", PROXY_TOKEN),
            ("the proxy's access token", PROXY_ACCESS),
            ("the proxy's password", PROXY_PASSWORD),
            ("not the proxy's password", PROXY_WRONG),
            ("msmtp's password", MSMTP_PASSWORD),
            ("Postfix's password", POSTFIX_PASSWORD),
            ("sasl-xoauth2's client secret", XOAUTH2_SECRET),
            ("sasl-xoauth2's refresh token", XOAUTH2_TOKEN),
            ("sasl-xoauth2's access token", XOAUTH2_ACCESS),
            ("a hash", HASH),
        ] {
            secrets.add(name, secret);
        }
        let mut words = Needles::default();
        for (name, text) in [
            ("a subject", SUBJECT),
            ("a header", HEADER),
            ("a body", BODY),
        ] {
            words.add(name, text);
        }
        Self {
            secrets,
            words,
            said: Vec::new(),
        }
    }

    fn hear(&mut self, what: &str, text: impl AsRef<[u8]>) {
        self.said.push((what.to_owned(), text.as_ref().to_owned()));
    }

    /// Remembers what a command said, save for `but`, which it was asked for: once, on standard
    /// output.
    #[track_caller]
    fn overhear(&mut self, what: &str, ended: &Ended, but: &str) {
        let mut stdout = ended.stdout.clone();
        if !but.is_empty() {
            assert_eq!(stdout.matches(but).count(), 1, "{what}: {stdout}");
            stdout = stdout.replace(but, "");
        }
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        self.hear(&format!("{what} on standard output"), stdout);
        self.hear(&format!("{what} on standard error"), &ended.stderr);
    }

    /// Runs a command with every word logged, plain and as JSON.
    fn run(&mut self, home: &Home, arguments: &[&str], stdin: &str) -> [Ended; 2] {
        [&["--log", "trace"][..], &["--log", "trace", "--json"]].map(|more| {
            let mut command = home.postrider(arguments.iter().chain(more).copied());
            let ended = run_with(&mut command, stdin);
            self.overhear(&format!("{arguments:?} {more:?}"), &ended, "");
            ended
        })
    }

    /// What anybody on the machine sees of a process, and what it was started with.
    fn hear_of_process(&mut self, what: &str, id: u32) {
        for file in ["cmdline", "comm", "environ"] {
            let text = fs::read(format!("/proc/{id}/{file}")).unwrap();
            self.hear(&format!("{file} of {what}"), text);
        }
    }

    /// Passwords that are made are shown, and looked for from then on.
    fn made_for(&mut self, home: &Home, gateway: &str) {
        for (device, json) in [("scanner", false), ("ups", true)] {
            let add = ["gateway", "credential", "add", device, "--gateway", gateway];
            let more = if json { &["--json"][..] } else { &[] };
            let arguments = add.iter().chain(&["--log", "trace"]).chain(more).copied();
            let ended = home.run(arguments).expect_status(0);
            let password = if json {
                ended.json()["password"].as_str().unwrap().to_owned()
            } else {
                let mut lines = ended.stdout.lines();
                let line = lines.find_map(|line| line.trim_start().strip_prefix("password "));
                line.unwrap().trim().to_owned()
            };
            self.secrets.add("a password that was made", &password);
            let bare = password.replace('-', "");
            self.secrets.add("the same without dashes", &bare);
            self.overhear(&format!("{add:?}"), &ended, &password);
        }
    }

    /// Looks at everything that was said, and at every file below `kept`.
    #[track_caller]
    fn nothing_leaked(&mut self, kept: &[&Path]) {
        let mut leaks = Vec::new();
        let all = kept.iter().flat_map(|directory| files(directory, ""));
        let all: Vec<_> = all.filter(|path| path.is_file()).collect();
        for path in all {
            let text = fs::read(&path).unwrap();
            let name = path.display().to_string();
            let mut found = self.secrets.found_in(&text);
            let in_queue = path.components().any(|part| part.as_os_str() == "queue");
            if !in_queue {
                found.extend(self.words.found_in(&text));
            }
            // A gateway's own file holds its own key, of course.
            if path.extension().is_some_and(|it| it == "pem") {
                found.retain(|needle| !needle.starts_with("the gateway's key"));
            }
            leaks.extend(found.iter().map(|needle| format!("{name}: {needle}")));
        }
        for (what, text) in &self.said {
            for needles in [&self.secrets, &self.words] {
                let found = needles.found_in(text);
                leaks.extend(found.iter().map(|needle| format!("{what}: {needle}")));
            }
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// An office with a gateway for each manner, and scripts whose hooks fail with what they see.
fn office(metrics: u16) -> Office {
    let office = Office::with(&format!(
        "[scripts]\ndir = \"scripts.d\"\n\
         [serve]\nmetrics = \"127.0.0.1:{metrics}\"\nwatch = false\n\
         [gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n\
         [gateway.clear]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\ntls = \"offered\"\n\
         quirks = [\"login_nul\", \"helo_only\"]\n\
         [gateway.odd]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\ntls = \"offered\"\n"
    ));
    fs::create_dir(office.home.path().join("scripts.d")).unwrap();
    let hooks = r#"
local pr = require "postrider"
local function seen(value)
  print(value)
  pr.log.warn("seen", { value = value })
end
pr.on("gateway.auth", function(try) seen(try) end)
pr.on("gateway.mail", function(mail) seen(mail) end)
pr.on("gateway.message", function(message)
  if message.gateway ~= "odd" then return end
  error(message.subject .. message.text .. message.headers["x-canary"])
end)
pr.on("gateway.auth_failed", function(event) seen(event); error(event.device or "nobody") end)
"#;
    write_private(&office.home.path().join("scripts.d/hooks.lua"), hooks);
    office
}

/// The private number of the certificate that a gateway made itself.
fn private_number(home: &Home, gateway: &str) -> Vec<u8> {
    let file = home.state().join(format!("gateway/{gateway}.pem"));
    let text = read_to_string(&file);
    let (_, key) = text.split_once("-----BEGIN PRIVATE KEY-----").unwrap();
    let (key, _) = key.split_once("-----END").unwrap();
    let der = STANDARD.decode(key.split_whitespace().collect::<String>());
    der.unwrap()[PRIVATE].to_owned()
}

#[track_caller]
fn port(daemon: &Daemon, gateway: &str) -> u16 {
    let status = daemon.status();
    let all = status["gateways"].as_array().unwrap();
    let one = all.iter().find(|one| one["name"] == gateway).unwrap();
    let address = one["listen"][0].as_str().unwrap();
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Octets of state are their owner's alone, and what the gateway keeps is in a directory of its own.
#[track_caller]
fn only_its_owner_reads(home: &Home) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.state().join("gateway")), 0o700);
    for path in files(&home.state(), "") {
        let found = mode(&path);
        assert_eq!(found & 0o077, 0, "{} {found:o}", path.display());
        if path.starts_with(home.state().join("gateway")) {
            assert_eq!(found, 0o600, "{}", path.display());
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_pem = path.extension().is_some_and(|it| it == "pem");
            let kept = is_pem || name.starts_with("ledger.db");
            assert!(kept, "{name} was left behind");
        }
    }
    assert_eq!(mode(&home.path().join("postrider.toml")), 0o600);
}

fn passwords_are_kept(user: &mut Overheard, home: &Home) {
    for gateway in ["office", "clear", "odd"] {
        let arguments = ["gateway", "credential", "add", DEVICE, "--gateway", gateway];
        let mut all = arguments.to_vec();
        all.extend(["--password-stdin", "--note", "rack 3", "--log", "trace"]);
        let mut add = Login::begin(&mut home.postrider(all));
        user.hear_of_process("credential add", add.id());
        add.type_in(RIGHT);
        let ended = add.end().expect_status(0);
        user.overhear("credential add", &ended, "");
        // There is one already.
        let add: Vec<_> = arguments
            .iter()
            .copied()
            .chain(["--password-stdin"])
            .collect();
        for ended in user.run(home, &add, RIGHT) {
            assert_ne!(ended.status, 0, "{ended:?}");
        }
    }
    let key = private_number(home, "office");
    user.secrets.add("the gateway's key", key);
    user.made_for(home, "office");
    for wrong in [
        &["gateway", "credential", "add", "x", IN_ARGUMENTS][..],
        &[
            "gateway",
            "credential",
            "add",
            "x",
            "--password",
            IN_ARGUMENTS,
        ],
        &[
            "gateway",
            "credential",
            "add",
            "x",
            &format!("--password={IN_ARGUMENTS}"),
        ],
        &["import", "emailproxy", "file", "--password", IN_ARGUMENTS],
    ] {
        for ended in user.run(home, wrong, "") {
            ended.expect_status(64);
        }
    }
    // Too short, or with what no settings page can hold.
    for refused in [format!("{WRONG}\u{1}"), WRONG.repeat(100)] {
        let add = [
            "gateway",
            "credential",
            "add",
            "y",
            "--gateway",
            "office",
            "--password-stdin",
        ];
        for ended in user.run(home, &add, &refused) {
            assert_ne!(ended.status, 0, "{ended:?}");
        }
    }
    let add = ["gateway", "add", "other", "--listen", "127.0.0.1:0"];
    user.run(home, &[&add[..], &["--account", "sandbox"]].concat(), "");
}

/// A device says everything it has, where it belongs and where it does not.
fn devices_talk(user: &mut Overheard, daemon: &Daemon) -> Option<()> {
    let mut source = (2..).map(|last| format!("127.0.0.{last}"));
    let mut connect = |gateway: &str, tls: &str| {
        let mut device = Device::new()?;
        let from = source.next().unwrap();
        device
            .connect_from(&from, port(daemon, gateway), tls)
            .expect(220);
        Some(device)
    };
    let message = scan(PERSON.0, TO, SUBJECT).replace(
        "\r\n\r\nA page.",
        &format!("\r\nX-Canary: {HEADER}\r\n\r\n{BODY}"),
    );
    assert!(message.contains(BODY));
    for (gateway, tls, mechanism) in [
        ("office", "starttls", "PLAIN"),
        ("office", "starttls", "LOGIN"),
        ("clear", "none", "PLAIN"),
        ("clear", "none", "LOGIN"),
    ] {
        let mut device = connect(gateway, tls)?;
        device.auth(mechanism, DEVICE, RIGHT).expect(235);
        device.send(PERSON.0, &[TO], &message).expect(250);
        // A sender that it may not use, and a recipient that is none.
        device.send("boss@contoso.com", &[TO], &message).expect(550);
        for (name, password) in [(DEVICE, WRONG), (MISPLACED, RIGHT), (MISPLACED, WRONG)] {
            let mut device = connect(gateway, tls)?;
            device.auth(mechanism, name, password).expect(535);
        }
    }
    let mut device = connect("odd", "none")?;
    device.auth("PLAIN", DEVICE, RIGHT).expect(235);
    device.send(PERSON.0, &[TO], &message).expect(451);

    let base64 = STANDARD.encode(RIGHT);
    let plain = STANDARD.encode(format!("\0{DEVICE}\0{RIGHT}"));
    let three = STANDARD.encode(format!("{DEVICE}\0{DEVICE}\0{RIGHT}\0{RIGHT}"));
    for lines in [
        vec![format!("EHLO {MISPLACED}")],
        vec![format!("HELO {MISPLACED}")],
        vec![format!("EHLO {RIGHT}")],
        vec![format!("MAIL FROM:<{MISPLACED}>")],
        vec![format!("MAIL FROM:<{RIGHT}>")],
        vec![format!("MAIL FROM:<a@contoso.com> AUTH={MISPLACED}")],
        vec![format!("MAIL FROM:<a@contoso.com> {RIGHT}")],
        vec![format!("MAIL FROM:{RIGHT}")],
        vec![format!("MAIL FROM: <{RIGHT}>")],
        vec![format!("RCPT TO:{RIGHT}")],
        vec![format!("PROXY {RIGHT}")],
        vec![RIGHT.to_owned()],
        vec![base64.clone()],
        vec![plain.clone()],
        vec![format!("PASS {RIGHT}")],
        vec![format!("VRFY {RIGHT}")],
        vec![format!("AUTH {RIGHT}")],
        vec![format!("AUTH {RIGHT} {plain}")],
        vec![format!("AUTH PLAIN {RIGHT}")],
        vec![format!("AUTH PLAIN {three}")],
        vec![format!("AUTH PLAIN {plain} {plain}")],
        vec![format!("AUTH CRAM-MD5 {base64}")],
        vec!["AUTH PLAIN".to_owned(), RIGHT.to_owned()],
        vec!["AUTH LOGIN".to_owned(), DEVICE.to_owned(), RIGHT.to_owned()],
        vec!["AUTH LOGIN".to_owned(), base64.clone(), base64],
        vec![format!("AUTH XOAUTH2 {plain}")],
    ] {
        for (gateway, tls) in [("office", "none"), ("office", "starttls"), ("odd", "none")] {
            let mut device = connect(gateway, tls)?;
            for line in &lines {
                let reply = device.say(line);
                user.hear("a reply", reply.text);
            }
            device.hang_up();
        }
        // And by one that signed in.
        let mut device = connect("clear", "none")?;
        device.auth("PLAIN", DEVICE, RIGHT).expect(235);
        for line in &lines {
            device.say(line);
        }
    }
    Some(())
}

fn operators_look(user: &mut Overheard, daemon: &Daemon, home: &Home, metrics: u16) {
    for arguments in [
        &["status"][..],
        &["check"],
        &["doctor"],
        &["doctor", "--gateway", "office"],
        &["doctor", "--gateway", "odd", "--offline"],
        &["gateway", "list"],
        &["gateway", "report"],
        &[
            "gateway",
            "report",
            "--gateway",
            "office",
            "--device",
            DEVICE,
        ],
        &["gateway", "credential", "list"],
        &["gateway", "certificate", "office"],
        &["queue", "list", "--all"],
        &["queue", "show", "Q00001"],
        &["queue", "stats"],
        &["secret", "list"],
        &["vault", "status"],
        &["account", "show", "sandbox"],
        &["reload"],
        &["gateway", "certificate", "nothing"],
        &["gateway", "report", "--device", "nothing"],
        &["gateway", "credential", "remove", "ups", "--yes"],
    ] {
        user.run(home, arguments, "");
    }
    for path in [
        "/v1/hello",
        "/v1/status",
        "/v1/accounts",
        "/v1/accounts/sandbox",
    ] {
        let (status, answer) = daemon.ask("GET", path);
        assert_eq!(status, 200, "{path}: {answer}");
        user.hear(path, answer.to_string());
    }
    let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("gateway"), "{text}");
    user.hear("metrics", text);
}

#[test]
fn what_devices_type_is_neither_said_nor_kept() {
    let metrics = free_port();
    let office = office(metrics);
    let home = &office.home;
    let mut user = Overheard::new();

    passwords_are_kept(&mut user, home);
    only_its_owner_reads(home);
    let mut serve = home.postrider(["serve", "--log", "trace"]);
    let daemon = Daemon::started_by(&mut serve, home);
    user.hear_of_process("serve", daemon.id());
    if devices_talk(&mut user, &daemon).is_none() {
        return skip("python3 is not installed");
    }
    operators_look(&mut user, &daemon, home, metrics);
    only_its_owner_reads(home);
    let ended = daemon.terminate().expect_status(0);
    assert!(ended.stderr.contains("\"seen\""), "the hooks were asked");
    user.overhear("serve", &ended, "");

    only_its_owner_reads(home);
    user.run(home, &["gateway", "report"], "");
    assert!(home.state().join("gateway/ledger.db").exists());
    assert!(user.said.len() > 200, "{}", user.said.len());
    user.nothing_leaked(&[home.path()]);
}

/// What Email OAuth 2.0 Proxy itself writes for these values; none where it is not installed.
fn of_the_proxy() -> Option<String> {
    let peers = root().join("tests/peers");
    let python = peers.join("venv/bin/python");
    if !python.exists() || run(Command::new(&python).args(["-c", "import emailproxy"])).status != 0
    {
        return None;
    }
    let wanted = json!({
        "username": PERSON.0, "password": PROXY_PASSWORD, "iterations": 100_000,
        "values": { "refresh_token": PROXY_TOKEN, "access_token": PROXY_ACCESS },
    });
    let mut script = Command::new(python);
    script.arg(peers.join("emailproxy_config.py"));
    Some(
        run_with(&mut script, &wanted.to_string())
            .expect_status(0)
            .stdout,
    )
}

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "most of it is the files, which are read best beside what is done with them"
)]
fn what_other_programs_kept_is_carried_over_in_silence() {
    let Some(encrypted) = of_the_proxy() else {
        return skip("emailproxy is not installed (pip install -r tests/peers/requirements.txt)");
    };
    let sources = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = sources.path().join(name);
        write_private(&path, text);
        path.to_str().unwrap().to_owned()
    };
    let endpoint = "https://login.microsoftonline.com/common/oauth2/v2.0";
    let proxy = format!(
        "[SMTP-1588]\nserver_address = smtp.office365.com\nserver_port = 587\n\
         server_starttls = True\n[{}]\npermission_url = {endpoint}/authorize\n\
         token_url = {endpoint}/token\noauth2_scope = https://outlook.office.com/SMTP.Send\n\
         redirect_uri = http://localhost\nclient_id = 2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801\n\
         client_secret = {PROXY_SECRET}\n{encrypted}\n",
        PERSON.0
    );
    let msmtp = format!(
        "account office\nhost mail.example.org\ntls on\nauth on\nuser joe@example.org\n\
         from joe@example.org\npassword \"{MSMTP_PASSWORD}\"\n"
    );
    let relay = "mail.example.org";
    let main = format!(
        "relayhost = [{relay}]:587\nsmtp_sasl_auth_enable = yes\n\
         smtp_sasl_password_maps = static:joe@example.org:{POSTFIX_PASSWORD}\n\
         smtp_tls_security_level = encrypt\n"
    );
    let table = file(
        "table",
        &format!("[{relay}]:587 joe@example.org:{POSTFIX_PASSWORD}\n"),
    );
    let mapped = main.replace(
        &format!("static:joe@example.org:{POSTFIX_PASSWORD}"),
        &format!("texthash:{table}"),
    );
    let token = file(
        "token",
        &json!({
            "access_token": XOAUTH2_ACCESS, "expiry": "1700000000", "refresh_token": XOAUTH2_TOKEN,
            "user": PERSON.0,
        })
        .to_string(),
    );
    let xoauth2 = json!({ "client_id": "x", "client_secret": XOAUTH2_SECRET }).to_string();
    let relays = file(
        "relays",
        &format!("[smtp.office365.com]:587 {}:{token}\n", PERSON.0),
    );
    let cut = file(
        "cut",
        &format!("[smtp.office365.com]:587 {}:{POSTFIX_PASSWORD}\n", PERSON.0),
    );
    let password = file("password", &format!("{PROXY_PASSWORD}\n"));
    let wrong = file("wrong", PROXY_WRONG);
    let proxy = (
        file("proxy", &proxy),
        file(
            "proxy-broken",
            &proxy.replace("client_secret =", "client_secret"),
        ),
    );
    let broken_msmtp = msmtp
        .replace("password \"", "passwort \"")
        .replace("host ", "host host ");
    let msmtp = (
        file("msmtprc", &msmtp),
        file("msmtprc-broken", &broken_msmtp),
        file("msmtprc-cut", &msmtp.replace("43\"", "43")),
    );
    let postfix = (
        file("main.cf", &main),
        file("mapped.cf", &mapped),
        file(
            "broken.cf",
            &main.replace("smtp_sasl_password_maps =", "smtp_sasl_password_maps"),
        ),
    );
    let xoauth2 = (
        file("xoauth2", &xoauth2),
        file("xoauth2-broken", &xoauth2.replace(':', " ")),
    );

    let mut user = Overheard::new();
    for arguments in [
        vec!["emailproxy", &proxy.0, "--password-file", &wrong],
        vec!["emailproxy", &proxy.1, "--password-file", &password],
        vec!["emailproxy", &proxy.0, "--without-tokens"],
        vec!["emailproxy", &proxy.0, "--password-file", &password],
        vec!["msmtp", &msmtp.0],
        vec!["msmtp", &msmtp.1],
        vec!["msmtp", &msmtp.2],
        vec!["postfix", &postfix.0],
        vec!["postfix", &postfix.1],
        vec!["postfix", &postfix.2],
        vec!["sasl-xoauth2", &xoauth2.0, "--sasl-passwd", &relays],
        vec!["sasl-xoauth2", &xoauth2.1, "--sasl-passwd", &relays],
        vec!["sasl-xoauth2", &xoauth2.0, "--sasl-passwd", &cut],
        // Not what they are said to be.
        vec!["msmtp", &token],
        vec!["msmtp", &table],
        vec!["postfix", &msmtp.0],
        vec!["postfix", &table],
        vec!["emailproxy", &xoauth2.0, "--without-tokens"],
        vec!["emailproxy", &table, "--without-tokens"],
        vec!["sasl-xoauth2", &msmtp.0, "--sasl-passwd", &table],
        vec!["sasl-xoauth2", &token, "--sasl-passwd", &msmtp.0],
    ] {
        let (home, config) = Home::empty();
        for more in [&["--dry-run"][..], &["--yes"], &["--yes"]] {
            let all = [&["import"][..], &arguments, more].concat();
            for arguments in [all.clone(), [&all[..], &["--json"]].concat()] {
                let logged = arguments.iter().chain(&["--log", "trace"]).copied();
                let ended = home.run(logged);
                for made in made_in(&ended) {
                    user.secrets.add("a password that was made", &made);
                }
                user.overhear(&format!("{arguments:?}"), &ended, &made_in(&ended).concat());
            }
        }
        if config.exists() {
            let mode = fs::metadata(&config).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{mode:o}");
            for command in [
                &["check"][..],
                &["account", "list"],
                &["gateway", "list"],
                &["secret", "list"],
                &["gateway", "credential", "list"],
            ] {
                user.run(&home, command, "");
            }
        }
        user.nothing_leaked(&[home.path()]);
    }
}

/// The passwords that an import made for programs whose own nobody knows.
fn made_in(ended: &Ended) -> Vec<String> {
    let Ok(answer) = serde_json::from_str::<serde_json::Value>(&ended.stdout) else {
        let groups =
            |word: &&str| word.len() >= 24 && word.split('-').all(|group| group.len() == 4);
        let words = ended.stdout.split_whitespace().filter(groups);
        return words.map(str::to_owned).collect();
    };
    let all = answer["passwords"].as_array().into_iter().flatten();
    all.filter_map(|one| one["password"].as_str().map(str::to_owned))
        .collect()
}
