//! Devices that do not quite speak SMTP, as public threads recorded or described them: each is
//! served where its quirk is on, and hears why not where it is off.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use support::daemon::{Daemon, holds};
use support::gateway::{DEVICE, PASSWORD};
use support::office::{Office, field};
use support::talk::Talk;

/// What is said, and how the reply begins that is gone on after.
type Lines = &'static [(&'static str, &'static str)];

/// One dialogue, as far as the device goes on with it.
struct Dialogue {
    device: &'static str,
    /// The thread that tells of it.
    source: &'static str,
    /// What it needs, and how it is refused without that.
    quirk: Option<(&'static str, &'static str)>,
    /// What ends its lines.
    end: &'static str,
    says: &'static [Lines],
}

/// The user name in the line of `AUTH`.
const INLINE: Lines = &[
    ("AUTH LOGIN {user}", "334 UGFzc3dvcmQ6"),
    ("{password}", "235"),
];

/// Exchange's prompts.
const LOGIN: Lines = &[
    ("AUTH LOGIN", PROMPT),
    ("{user}", "334 UGFzc3dvcmQ6"),
    ("{password}", "235"),
];
const PROMPT: &str = "334 VXNlcm5hbWU6";

/// A message, as most hand it in.
const USUAL: Lines = &[
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
        says: &[&[("EHLO copier", "250")], INLINE, USUAL],
    },
    Dialogue {
        device: "Xerox printer",
        source: "JustinIven/smtp-oauth-relay#57: leaves at any prompts but Exchange's",
        quirk: None,
        end: "\r\n",
        says: &[&[("EHLO XC-B8C463", "250")], LOGIN, USUAL],
    },
    Dialogue {
        device: "client that says HELO once EHLO has succeeded",
        source: "qbittorrent/qBittorrent#1845; in small letters, with blanks at the end",
        quirk: None,
        end: "\r\n",
        says: &[&[
            ("ehlo FE80::1 ", "250"),
            ("helo FE80::1", "250"),
            ("ehlo itsme", "250"),
            ("auth login", PROMPT),
            ("{user}", "334 UGFzc3dvcmQ6"),
            ("{password}", "235"),
            ("mail from:<alerts@contoso.com> ", "250"),
            ("rcpt to:<admin@contoso.com>", "250"),
            ("data", "354"),
            (MESSAGE, "250"),
            ("quit", "221"),
        ]],
    },
    Dialogue {
        device: "program that calls itself by two words",
        source: "PHPMailer/PHPMailer#1136, toeverything/AFFiNE#14226",
        quirk: None,
        end: "\r\n",
        says: &[&[("EHLO PhpStorm 2017.2", "250")], LOGIN, USUAL],
    },
    Dialogue {
        device: "client of the draft's LOGIN",
        source: "draft-murchison-sasl-login-00 §2: prompts, and answers, ended by NUL",
        quirk: Some(("login_nul", "501 5.5.2")),
        end: "\r\n",
        says: &[
            &[
                ("EHLO device", "250"),
                ("AUTH LOGIN", "334"),
                ("{user0}", "334"),
                ("{password0}", "235"),
            ],
            USUAL,
        ],
    },
    Dialogue {
        device: "ESP32 camera",
        source: "s60sc/ESP32-CAM_MJPEG2SD#135, bluetiger9/SmtpClient-for-Qt#41: a space behind the colon",
        quirk: Some(("mail_from_space", "501 5.5.4")),
        end: "\r\n",
        says: &[
            &[("EHLO ESP-CAM_MJPEG", "250")],
            LOGIN,
            &[
                ("MAIL FROM: <alerts@contoso.com>", "250"),
                ("RCPT TO: <admin@contoso.com>", "250"),
                ("DATA", "354"),
                (MESSAGE, "250"),
                ("QUIT", "221"),
            ],
        ],
    },
    Dialogue {
        device: "LSI MegaRAID controller",
        source: "cosullivan/SmtpServer#219: no angle brackets; likewise SMTP2Graph/SMTP2Graph#24",
        quirk: Some(("no_brackets", "501 5.5.4")),
        end: "\r\n",
        says: &[
            &[("EHLO raid", "250")],
            LOGIN,
            &[
                ("MAIL FROM:alerts@contoso.com", "250"),
                ("RCPT TO:admin@contoso.com", "250"),
                ("DATA", "354"),
                (MESSAGE, "250"),
                ("QUIT", "221"),
            ],
        ],
    },
    Dialogue {
        device: "alarm of a host intrusion detector",
        source: "ossec/ossec-hids#231, mailhog/MailHog-MTA#1: lines ended by LF alone",
        quirk: Some(("bare_lf", "500 5.5.2")),
        end: "\n",
        says: &[&[("EHLO alarm", "250")], LOGIN, USUAL],
    },
    Dialogue {
        device: "HP multifunction printer that says HELO",
        source: "postalserver/postal#1245, simonrob/email-oauth2-proxy#232",
        quirk: Some(("helo_only", "503 5.5.1")),
        end: "\r\n",
        says: &[&[("HELO medea", "250")], LOGIN, USUAL],
    },
    Dialogue {
        device: "IP camera that says HELO behind EHLO",
        source: "kost/smtp2mqtt#1",
        quirk: Some(("helo_only", "503 5.5.1")),
        end: "\r\n",
        says: &[
            &[("EHLO localhost", "250"), ("HELO localhost", "250")],
            LOGIN,
            USUAL,
        ],
    },
    Dialogue {
        device: "program by Nim's library",
        source: "nim-lang/smtp#3: HELO, and a blank behind DATA",
        quirk: Some(("helo_only", "503 5.5.1")),
        end: "\r\n",
        says: &[
            &[("HELO mx1.my.tld", "250")],
            LOGIN,
            &[
                ("MAIL FROM:<alerts@contoso.com>", "250"),
                ("RCPT TO:<admin@contoso.com>", "250"),
                ("DATA ", "354"),
                (MESSAGE, "250"),
                ("QUIT", "221"),
            ],
        ],
    },
    Dialogue {
        device: "uninterruptible power supply without a name",
        source: "OpenSMTPD/OpenSMTPD#1054",
        quirk: Some(("helo_only", "501 5.5.4")),
        end: "\r\n",
        says: &[&[("HELO ", "250")], LOGIN, USUAL],
    },
    Dialogue {
        device: "HP multifunction printer without a clock",
        source: "docker-mailserver/docker-mailserver#1853: no Date, no Message-ID",
        quirk: Some(("missing_headers", "554 5.6.0")),
        end: "\r\n",
        says: &[
            &[("EHLO scanner", "250")],
            LOGIN,
            &[
                ("MAIL FROM:<alerts@contoso.com>", "250"),
                ("RCPT TO:<admin@contoso.com>", "250"),
                ("DATA", "354"),
                (TIMELESS, "250"),
                ("QUIT", "221"),
            ],
        ],
    },
];

/// `%` stands for what ends the device's lines.
const MESSAGE: &str = "From: alerts@contoso.com%To: admin@contoso.com%Subject: {subject}%\
    Date: Mon, 23 Nov 2026 08:00:00 +0000%Message-ID: <{id}@device.example>%%A page.%.";
const TIMELESS: &str =
    "From: alerts@contoso.com%To: admin@contoso.com%Subject: {subject}%%A page.%.";

/// Plays it to its end, or to the first reply that the device does not wait for.
fn play(dialogue: &Dialogue, port: u16) -> Result<(), String> {
    let mut connection = Talk::connect(port);
    connection.hears("220 ");
    let with_nul = |text: &str| STANDARD.encode(format!("{text}\0"));
    for (says, wants) in dialogue.says.concat() {
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
        let reply = connection.says(&format!("{said}{}", dialogue.end)).reply();
        if !reply.starts_with(wants) {
            return Err(reply);
        }
    }
    Ok(())
}

const QUIRKS: [&str; 6] = [
    "bare_lf",
    "helo_only",
    "login_nul",
    "mail_from_space",
    "missing_headers",
    "no_brackets",
];

/// Gateways for clients on this machine, which may do without TLS: `strict`, one for each quirk,
/// and `rewriting`.
struct Gateways {
    office: Office,
    daemon: Daemon,
}

impl Gateways {
    fn start() -> Self {
        let named = |name: &str, more: &str| {
            format!(
                "[gateway.{name}]\nlisten = \"127.0.0.1:0\"\ntls = \"offered\"\n\
                 account = \"sandbox\"\n{more}\n"
            )
        };
        let quirks = QUIRKS.map(|quirk| named(quirk, &format!("quirks = [\"{quirk}\"]")));
        let office = Office::with(&format!(
            "{}{}{}",
            named("strict", ""),
            named("rewriting", "rewrite_from = true"),
            quirks.concat()
        ));
        for gateway in QUIRKS.into_iter().chain(["strict", "rewriting"]) {
            office.admit(gateway, DEVICE, PASSWORD);
        }
        Self {
            daemon: Daemon::start(&office.home),
            office,
        }
    }

    fn play(&self, dialogue: &Dialogue, gateway: &str) -> Result<(), String> {
        play(dialogue, self.daemon.gateway_port(gateway))
    }

    /// A device that has signed in.
    fn signed_in(&self, gateway: &str) -> Talk {
        Talk::signed_in(self.daemon.gateway_port(gateway), DEVICE, PASSWORD)
    }
}

#[test]
fn a_device_is_served_where_its_quirk_is_on_and_told_why_not_where_it_is_off() {
    let gateways = Gateways::start();
    for dialogue in DIALOGUES {
        let Dialogue { device, source, .. } = dialogue;
        let gateway = dialogue.quirk.map_or("strict", |(quirk, _)| quirk);
        let played = gateways.play(dialogue, gateway);
        assert_eq!(played, Ok(()), "{device} ({source}) at {gateway}");
        let message = gateways.office.arrived(device);
        for field in ["Date: ", "Message-ID: <", "Received: "] {
            let is_there = message.lines().any(|line| line.starts_with(field));
            assert!(is_there, "{device}: {field} in {message}");
        }
        // Each way of ending a line has come to the same.
        assert!(
            message.contains("\r\n\r\nA page.\r\n"),
            "{device}: {message:?}"
        );

        let Some((quirk, refusal)) = dialogue.quirk else {
            continue;
        };
        for other in QUIRKS.into_iter().chain(["strict"]) {
            let leaves_at_prompts = other == "login_nul" && dialogue.says.contains(&LOGIN);
            if other == quirk || leaves_at_prompts {
                continue;
            }
            // No other quirk lets it in, and what is said names the one that does.
            let refused = gateways.play(dialogue, other).expect_err(device);
            let as_told = refused.starts_with(refusal) && refused.contains(quirk);
            assert!(as_told, "{device} ({source}) at {other}: {refused}");
        }
    }
    assert_eq!(gateways.office.subjects().len(), DIALOGUES.len());
}

/// HPE's iLO 4 and 5 end the local part of their sender in a dot (nodemailer/smtp-server#259);
/// others write a name without a domain (YelpArchive/elastalert#1448).
#[test]
fn a_sender_that_is_no_address_is_named_or_replaced_by_the_accounts() {
    let gateways = Gateways::start();
    for (sender, why) in [
        (
            "local.@ilo.contoso.com",
            "<local.@ilo.contoso.com> is no address",
        ),
        // It may be a password in the wrong field.
        ("ElastAlert", "what stands there has no @ and is no address"),
    ] {
        let mail = format!("MAIL FROM:<{sender}>\r\n");
        let refused = gateways.signed_in("strict").says(&mail).reply();
        assert_eq!(refused, format!("553 5.1.7 {why}"));

        let subject = format!("alert of {sender}");
        let mut device = gateways.signed_in("rewriting");
        device.says(&mail).hears("250");
        device.says("RCPT TO:<admin@contoso.com>\r\n").hears("250");
        device.says("DATA\r\n").hears("354");
        let message = format!(
            "From: {sender}\r\nReply-To: it@contoso.com\r\nTo: admin@contoso.com\r\n\
             Subject: {subject}\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n\
             Message-ID: <{sender}.1@ilo>\r\n\r\nA fan failed.\r\n.\r\n"
        );
        device.says(&message).hears("250");
        let arrived = gateways.office.arrived(&subject);
        assert_eq!(field(&arrived, "From"), "alerts@contoso.com");
        assert_eq!(field(&arrived, "X-Original-From"), sender);
        assert_eq!(field(&arrived, "Reply-To"), "it@contoso.com");
    }
}

/// As an old `dma` does (corecode/dma#73), and settings pages that take a list
/// (letscontrolit/ESPEasy#1692).
#[test]
fn several_recipients_in_one_line_are_refused_as_what_they_are() {
    let gateways = Gateways::start();
    let mut device = gateways.signed_in("strict");
    device
        .says("MAIL FROM:<alerts@contoso.com>\r\n")
        .hears("250");
    let refused = device.says("RCPT TO:<admin@contoso.com,user@contoso.com>\r\n");
    assert_eq!(
        refused.reply(),
        "501 5.1.3 <admin@contoso.com,user@contoso.com> is no address"
    );
    device.says("RCPT TO:<admin@contoso.com>\r\n").hears("250");
}

/// As an HP multifunction printer does that is set to SSL (postalserver/postal#2005).
#[test]
fn a_device_that_begins_with_tls_is_told_of_with_what_helps() {
    let gateways = Gateways::start();
    let mut device = Talk::connect(gateways.daemon.gateway_port("strict"));
    device.hears("220");
    device
        .writes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        .hears("500");
    let line = gateways.daemon.says("STARTTLS has to be chosen");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    let failing = &gateways.daemon.gateway("strict")["failing"];
    assert!(holds(failing, "STARTTLS has to be chosen"), "{failing}");
}

#[test]
fn prompts_end_in_nul_only_where_a_client_of_the_draft_wants_them_to() {
    let gateways = Gateways::start();
    for (gateway, prompts) in [
        ("strict", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"]),
        ("login_nul", ["334 VXNlciBOYW1lAA==", "334 UGFzc3dvcmQA"]),
    ] {
        let mut connection = Talk::connect(gateways.daemon.gateway_port(gateway));
        connection.hears("220");
        connection.says("EHLO device\r\n").hears("250");
        assert_eq!(connection.says("AUTH LOGIN\r\n").reply(), prompts[0]);
        let user = STANDARD.encode(DEVICE);
        assert_eq!(connection.says(&format!("{user}\r\n")).reply(), prompts[1]);
        let password = STANDARD.encode(PASSWORD);
        connection.says(&format!("{password}\r\n")).hears("235 ");
    }
}
