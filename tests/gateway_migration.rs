//! Off passwords, one device after the other: observed as it sends today, rehearsed, moved.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;

use support::daemon::Daemon;
use support::device::{Device, scan};
use support::office::{Office, TO, hurried, until};
use support::sandbox::{PERSON, Sandbox};
use support::{skip, write_private};

const FROM: &str = "alerts@contoso.com";
const PASSWORD: &str = "correct-horse-battery-9";

/// An account with a password, as everything had until now.
fn old(sandbox: &Sandbox) -> String {
    format!(
        "[account.old]\nusername = \"{}\"\nsender = \"{FROM}\"\nca_file = \"{}\"\n\
         server = {{ host = \"localhost\", port = {}, tls = \"starttls\" }}\n\
         auth = {{ plugin = \"basic\", password = {{ env = \"OLD_PASSWORD\" }} }}\n",
        PERSON.0,
        sandbox.ca_file(),
        sandbox.smtp_port()
    )
}

fn config(sandbox: &Sandbox, more: &str) -> String {
    format!(
        "[gateway.office]\nlisten = \"127.0.0.1:0\"\naccount = \"sandbox\"\n\
         recipient_domains = [\"contoso.com\"]\n{more}\n{}\n{}",
        old(sandbox),
        hurried(sandbox.config())
    )
}

struct Site {
    office: Office,
    daemon: Daemon,
}

impl Site {
    /// With two devices, which have their passwords already.
    fn start(more: &str) -> Self {
        let mut office = Office::at(|sandbox| config(sandbox, more));
        office.home.set(("OLD_PASSWORD", PERSON.1));
        for device in ["printer-2", "scanner"] {
            office.admit("office", device, PASSWORD);
        }
        Self {
            daemon: Daemon::start(&office.home),
            office,
        }
    }

    /// The same with other settings.
    fn go_on_with(&self, more: &str) {
        let config = config(&self.office.sandbox, more);
        write_private(&self.office.home.path().join("postrider.toml"), config);
        self.daemon.hang_up();
    }

    /// Each device has an address of its own.
    fn connect(&self, device: &str) -> Option<Device> {
        let port = self.daemon.gateway_port("office");
        let from = if device == "scanner" {
            "127.0.0.2"
        } else {
            "127.0.0.1"
        };
        let mut device = Device::new()?;
        device.connect_from(from, port, "starttls").expect(220);
        Some(device)
    }

    /// One message, by a device that signs in for it.
    fn send(&self, device: &str, to: &str, subject: &str) -> Option<support::device::Reply> {
        let mut connection = self.connect(device)?;
        connection.auth("LOGIN", device, PASSWORD).expect(235);
        Some(connection.send(FROM, &[to], &scan(FROM, to, subject)))
    }

    /// The report, once it knows of as many messages of the device.
    fn report(&self, device: &str, messages: u64) -> Value {
        until(&format!("{device} is in the report"), || {
            let report = self.office.home.json(["gateway", "report"]);
            let of = of(&report, device);
            (of["volume"]["all"]["messages"] == messages).then_some(report)
        })
    }

    /// How accounts signed in at the mail server.
    fn sign_ins(&self) -> BTreeSet<String> {
        let log = self.office.sandbox.control("GET", "log", None);
        let entries = log["entries"].as_array().unwrap().iter();
        let what = entries.map(|entry| entry["what"].as_str().unwrap().to_owned());
        what.filter(|what| what.starts_with("AUTH")).collect()
    }
}

fn of(report: &Value, device: &str) -> Value {
    let devices = report["devices"].as_array().unwrap();
    let mut devices = devices.iter().filter(|one| one["device"] == device);
    devices.next().cloned().unwrap_or_default()
}

#[test]
fn a_device_is_observed_rehearsed_and_moved() {
    let site = Site::start("mode = \"observe\"\nobserve_account = \"old\"");

    // As today: with the password that is kept, to whomever it likes.
    let Some(reply) = site.send("printer-2", TO, "as today") else {
        return skip("python3 is not installed");
    };
    reply.expect(250);
    site.send("scanner", "partner@example.org", "outside")
        .unwrap()
        .expect(250);
    until("it arrives as today", || {
        (site.office.subjects() == ["as today"]).then_some(())
    });
    until("outside, too", || {
        (site.office.sandbox.mail("partner@example.org").len() == 1).then_some(())
    });
    assert_eq!(site.sign_ins(), BTreeSet::from(["AUTH LOGIN".to_owned()]));

    // Who could go over today, and who could not.
    site.report("scanner", 1);
    let report = site.report("printer-2", 1);
    let printer = of(&report, "printer-2");
    assert_eq!(printer["ready"], true, "{printer}");
    assert_eq!(printer["auth"][0]["mechanism"], "LOGIN", "{printer}");
    assert_eq!(printer["senders"][0]["value"], FROM, "{printer}");
    let domain = &printer["recipient_domains"][0]["domain"];
    assert_eq!(domain, "contoso.com", "{printer}");
    let scanner = of(&report, "scanner");
    assert_eq!(scanner["ready"], false, "{scanner}");
    assert_eq!(scanner["would_refuse"][0]["count"], 1, "{scanner}");
    assert!(scanner["next"].as_str().unwrap().len() > 10, "{scanner}");

    // What Exchange will say one day, said to one of them.
    site.go_on_with(
        "mode = \"observe\"\nobserve_account = \"old\"\n\
         rehearse = { from = \"2026-01-01T00:00:00Z\", devices = [\"scanner\"] }",
    );
    let mut scanner = site.connect("scanner").unwrap();
    let refusal = scanner.auth("LOGIN", "scanner", PASSWORD).expect(550);
    assert_eq!(
        refusal,
        "5.7.30 Basic authentication is not supported for Client Submission."
    );
    let status = site.daemon.status();
    assert_eq!(status["gateways"][0]["rehearses"], true, "{status}");
    site.send("printer-2", TO, "not chosen")
        .unwrap()
        .expect(250);
    let report = until("the rehearsal is in the report", || {
        let report = site.office.home.json(["gateway", "report"]);
        let refused = report["rehearsals"][0]["refused"].as_array();
        let is_told = refused.is_some_and(|refused| !refused.is_empty());
        is_told.then_some(report)
    });
    let would_break = report["rehearsals"][0]["would_break"].to_string();
    assert!(would_break.contains("scanner"), "{report}");
    assert!(!would_break.contains("printer-2"), "{report}");

    // Over to OAuth, where the rules hold.
    site.go_on_with("");
    site.send("printer-2", TO, "moved").unwrap().expect(250);
    let refusal = site.send("scanner", "partner@example.org", "no more");
    refusal.unwrap().expect(550);
    until("all have arrived", || {
        (site.office.subjects() == ["as today", "not chosen", "moved"]).then_some(())
    });
    assert!(site.sign_ins().contains("AUTH XOAUTH2"));
    assert_eq!(site.office.sandbox.mail("partner@example.org").len(), 1);
}
