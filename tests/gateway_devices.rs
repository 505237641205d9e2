//! Devices that do not quite speak SMTP, as public threads recorded or described them: each is
//! served where its quirk is on, and hears why not where it is off.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use support::daemon::Daemon;
use support::office::{Office, until};
use support::run_with;
use support::sandbox::read_mail;

const DEVICE: &str = "printer-2";
const PASSWORD: &str = "correct-horse-battery-9";

/// One dialogue: what the device says, and how the reply begins that it goes on after.
struct Dialogue {
    device: &'static str,
    /// The thread that tells of it.
    source: &'static str,
    /// What it needs.
    quirk: Option<&'static str>,
    /// What ends its lines.
    end: &'static str,
    lines: &'static [(&'static str, &'static str)],
    /// What it goes on with.
    then: &'static [(&'static str, &'static str)],
    /// Where the quirk is off: the first reply that is not what it waits for.
    refusal: &'static str,
    /// Why, in words that name the remedy.
    because: &'static str,
}

/// A message, as most hand it in.
const USUAL: &[(&str, &str)] = &[
    ("MAIL FROM:<alerts@contoso.com>", "250"),
    ("RCPT TO:<admin@contoso.com>", "250"),
    ("DATA", "354"),
    (MESSAGE, "250"),
    ("QUIT", "221"),
];

/// `{user}` and `{password}` stand for base64, `{user0}` and `{password0}` with a NUL behind;
/// `{subject}` for the device.
const DIALOGUES: &[Dialogue] = &[
    Dialogue {
        device: "Konica Minolta copier",
        source: "mjl-/mox#387: the user name in the line of AUTH",
        quirk: None,
        end: "\r\n",
        lines: &[
            ("EHLO copier", "250"),
            ("AUTH LOGIN {user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
        ],
        then: USUAL,
        refusal: "",
        because: "",
    },
    Dialogue {
        device: "Xerox printer",
        source: "JustinIven/smtp-oauth-relay#57: leaves at any prompts but Exchange's",
        quirk: None,
        end: "\r\n",
        lines: &[
            ("EHLO XC-B8C463", "250"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
        ],
        then: USUAL,
        refusal: "",
        because: "",
    },
    Dialogue {
        device: "client that says HELO once EHLO has succeeded",
        source: "qbittorrent/qBittorrent#1845; in small letters, with blanks at the end",
        quirk: None,
        end: "\r\n",
        lines: &[
            ("ehlo FE80::1 ", "250"),
            ("helo FE80::1", "250"),
            ("ehlo itsme", "250"),
            ("auth login", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
            ("mail from:<alerts@contoso.com> ", "250"),
            ("rcpt to:<admin@contoso.com>", "250"),
            ("data", "354"),
            (MESSAGE, "250"),
            ("quit", "221"),
        ],
        then: &[],
        refusal: "",
        because: "",
    },
    Dialogue {
        device: "client of the draft's LOGIN",
        source: "draft-murchison-sasl-login-00 §2: prompts, and answers, ended by NUL",
        quirk: Some("login_nul"),
        end: "\r\n",
        lines: &[
            ("EHLO device", "250"),
            ("AUTH LOGIN", "334"),
            ("{user0}", "334"),
            ("{password0}", "235"),
        ],
        then: USUAL,
        refusal: "501 5.5.",
        because: "NUL",
    },
    Dialogue {
        device: "ESP32 camera",
        source: "s60sc/ESP32-CAM_MJPEG2SD#135, bluetiger9/SmtpClient-for-Qt#41: a space behind the colon",
        quirk: Some("mail_from_space"),
        end: "\r\n",
        lines: &[
            ("EHLO ESP-CAM_MJPEG", "250"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
            ("MAIL FROM: <alerts@contoso.com>", "250"),
            ("RCPT TO: <admin@contoso.com>", "250"),
            ("DATA", "354"),
            (MESSAGE, "250"),
            ("QUIT", "221"),
        ],
        then: &[],
        refusal: "501 5.5.4",
        because: "space",
    },
    Dialogue {
        device: "alarm of a host intrusion detector",
        source: "ossec/ossec-hids#231, mailhog/MailHog-MTA#1: lines ended by LF alone",
        quirk: Some("bare_lf"),
        end: "\n",
        lines: &[
            ("EHLO alarm", "250"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
        ],
        then: USUAL,
        refusal: "500 5.5.2",
        because: "CRLF",
    },
    Dialogue {
        device: "HP multifunction printer that says HELO",
        source: "postalserver/postal#1245, simonrob/email-oauth2-proxy#232",
        quirk: Some("helo_only"),
        end: "\r\n",
        lines: &[
            ("HELO medea", "250"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
        ],
        then: USUAL,
        refusal: "503 5.5.1",
        because: "EHLO",
    },
    Dialogue {
        device: "uninterruptible power supply without a name",
        source: "OpenSMTPD/OpenSMTPD#1054",
        quirk: Some("helo_only"),
        end: "\r\n",
        lines: &[
            ("HELO ", "250"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
        ],
        then: USUAL,
        refusal: "501 5.5.4",
        because: "HELO",
    },
    Dialogue {
        device: "HP multifunction printer without a clock",
        source: "docker-mailserver/docker-mailserver#1853: no Date, no Message-ID",
        quirk: Some("missing_headers"),
        end: "\r\n",
        lines: &[
            ("EHLO scanner", "250"),
            ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
            ("MAIL FROM:<alerts@contoso.com>", "250"),
            ("RCPT TO:<admin@contoso.com>", "250"),
            ("DATA", "354"),
            (TIMELESS, "250"),
            ("QUIT", "221"),
        ],
        then: &[],
        refusal: "554 5.6.0",
        because: "missing_headers",
    },
];

/// Exchange's first prompt of LOGIN.
const PROMPT: &str = "334 VXNlcm5hbWU6";

/// `%` stands for what ends the device's lines.
const MESSAGE: &str = "From: alerts@contoso.com%To: admin@contoso.com%Subject: {subject}%\
    Date: Mon, 23 Nov 2026 08:00:00 +0000%Message-ID: <{id}@device.example>%%A page.%.";
const TIMELESS: &str =
    "From: alerts@contoso.com%To: admin@contoso.com%Subject: {subject}%%A page.%.";

/// A connection that speaks as the dialogue has it.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        let mut connection = Self(BufReader::new(stream));
        assert!(connection.reply().starts_with("220 "));
        connection
    }

    /// The last line of the next reply; nothing once it is closed.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    fn say(&mut self, octets: &str) -> String {
        self.0.get_mut().write_all(octets.as_bytes()).unwrap();
        self.reply()
    }
}

/// Plays it to its end, or to the first reply that the device does not wait for.
fn play(dialogue: &Dialogue, port: u16) -> Result<(), String> {
    let mut connection = Connection::open(port);
    let with_nul = |text: &str| STANDARD.encode(format!("{text}\0"));
    for (says, wants) in dialogue.lines.iter().chain(dialogue.then) {
        let said = says
            .replace("{user}", &STANDARD.encode(DEVICE))
            .replace("{password}", &STANDARD.encode(PASSWORD))
            .replace("{user0}", &with_nul(DEVICE))
            .replace("{password0}", &with_nul(PASSWORD))
            .replace("{subject}", dialogue.device)
            .replace(
                "{id}",
                &format!("{port}.{}", dialogue.device.replace(' ', ".")),
            )
            .replace('%', dialogue.end);
        let reply = connection.say(&format!("{said}{}", dialogue.end));
        if !reply.starts_with(wants) {
            return Err(reply);
        }
    }
    Ok(())
}

const QUIRKS: [&str; 5] = [
    "bare_lf",
    "helo_only",
    "login_nul",
    "mail_from_space",
    "missing_headers",
];

/// Gateways for clients on this machine, which may do without TLS: `strict`, and one for each
/// quirk.
struct Gateways {
    office: Office,
    _daemon: Daemon,
    ports: BTreeMap<String, u16>,
}

impl Gateways {
    fn start() -> Self {
        let names: Vec<&str> = QUIRKS.into_iter().chain(["strict"]).collect();
        let gateways = names.iter().map(|name| {
            let quirks = if *name == "strict" {
                String::new()
            } else {
                format!("\"{name}\"")
            };
            format!(
                "[gateway.{name}]\nlisten = \"127.0.0.1:0\"\ntls = \"offered\"\n\
                 account = \"sandbox\"\nquirks = [{quirks}]\n"
            )
        });
        let office = Office::with(&gateways.collect::<Vec<_>>().concat());
        for gateway in names {
            let mut add = office.home.postrider([
                "gateway",
                "credential",
                "add",
                DEVICE,
                "--gateway",
                gateway,
                "--password-stdin",
            ]);
            run_with(&mut add, &format!("{PASSWORD}\n")).expect_status(0);
        }
        let daemon = Daemon::start(&office.home);
        let status = daemon.status();
        let port = |gateway: &Value| {
            let name = gateway["name"].as_str().unwrap().to_owned();
            let address = gateway["listen"][0].as_str().unwrap();
            (name, address.rsplit_once(':').unwrap().1.parse().unwrap())
        };
        let ports = status["gateways"].as_array().unwrap().iter().map(port);
        Self {
            ports: ports.collect(),
            _daemon: daemon,
            office,
        }
    }

    fn play(&self, dialogue: &Dialogue, gateway: &str) -> Result<(), String> {
        play(dialogue, self.ports[gateway])
    }

    /// The one message with this subject, once it has arrived.
    fn arrived(&self, subject: &str) -> String {
        until(subject, || {
            let mail = self.office.sandbox.mail("admin@contoso.com");
            let mut mail = mail.iter().map(|path| read_mail(path));
            let line = format!("Subject: {subject}");
            mail.find(|message| message.lines().any(|one| one == line))
        })
    }
}

#[test]
fn a_device_is_served_where_its_quirk_is_on_and_told_why_not_where_it_is_off() {
    let gateways = Gateways::start();
    for dialogue in DIALOGUES {
        let Dialogue { device, source, .. } = dialogue;
        let gateway = dialogue.quirk.unwrap_or("strict");
        let played = gateways.play(dialogue, gateway);
        assert_eq!(played, Ok(()), "{device} ({source}) at {gateway}");
        let message = gateways.arrived(device);
        for field in ["Date: ", "Message-ID: <", "Received: "] {
            let is_there = message.lines().any(|line| line.starts_with(field));
            assert!(is_there, "{device}: {field} in {message}");
        }
        // Each way of ending a line has come to the same.
        assert!(
            message.contains("\r\n\r\nA page.\r\n"),
            "{device}: {message:?}"
        );

        for other in QUIRKS.into_iter().chain(["strict"]) {
            if dialogue.quirk.is_none() || Some(other) == dialogue.quirk {
                continue;
            }
            if other == "login_nul" && dialogue.lines.iter().any(|(_, wants)| wants == &PROMPT) {
                // It leaves at the prompts there.
                continue;
            }
            // No other quirk lets it in.
            let refused = gateways.play(dialogue, other).expect_err(device);
            let as_told =
                refused.starts_with(dialogue.refusal) && refused.contains(dialogue.because);
            assert!(as_told, "{device} ({source}) at {other}: {refused}");
        }
    }
    assert_eq!(gateways.office.subjects().len(), DIALOGUES.len());
}

#[test]
fn prompts_end_in_nul_only_where_a_client_of_the_draft_wants_them_to() {
    let gateways = Gateways::start();
    for (gateway, prompts) in [
        ("strict", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"]),
        ("login_nul", ["334 VXNlciBOYW1lAA==", "334 UGFzc3dvcmQA"]),
    ] {
        let mut connection = Connection::open(gateways.ports[gateway]);
        connection.say("EHLO device\r\n");
        assert_eq!(connection.say("AUTH LOGIN\r\n"), prompts[0]);
        let user = STANDARD.encode(DEVICE);
        assert_eq!(connection.say(&format!("{user}\r\n")), prompts[1]);
        let password = STANDARD.encode(PASSWORD);
        let reply = connection.say(&format!("{password}\r\n"));
        assert!(reply.starts_with("235 "), "{reply}");
    }
}
