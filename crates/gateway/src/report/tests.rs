use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::ledger::{Ledger, Observation, Outcome};
use crate::limits::{Full, Span};
use crate::{Certificate, Policy, Quirks, Refusal, Rehearse, Sender, TlsMode};

const DAY: i64 = 24 * 3600;

/// Noon.
fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn before(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

fn policy(account: &str) -> Policy {
    Policy {
        account: account.to_owned(),
        senders: Vec::new(),
        rewrite_from: false,
        clients: Vec::new(),
        recipient_domains: Vec::new(),
        messages_per_minute: None,
        messages_per_day: None,
        max_message: 1 << 20,
        recipients_per_message: 100,
    }
}

fn gateway(name: &str, mode: Mode) -> Settings {
    Settings {
        name: name.to_owned(),
        listen: Vec::new(),
        tls: TlsMode::Starttls,
        certificate: Certificate::SelfMade {
            file: PathBuf::new(),
        },
        hostname: "mail.contoso.com".to_owned(),
        clients: Vec::new(),
        policy: policy("alerts"),
        devices: BTreeMap::new(),
        hide_client: false,
        quirks: Quirks::default(),
        connections: 10,
        connections_per_client: 10,
        idle_timeout: Duration::from_mins(1),
        session_timeout: Duration::from_mins(1),
        mode,
        rehearse: None,
    }
}

fn observe() -> Mode {
    Mode::Observe {
        account: "legacy".to_owned(),
    }
}

fn alerts() -> AccountSender {
    AccountSender {
        address: "alerts@contoso.com".parse().unwrap(),
        display_name: None,
        username: "svc@contoso.com".to_owned(),
    }
}

fn signed_in(account: &str) -> Account {
    match account {
        "alerts" => Account::OAuth {
            sender: alerts(),
            is_signed_in: true,
        },
        "basic" => Account::Password(alerts()),
        _ => Account::Absent,
    }
}

fn sent(device: &str, at: Timestamp) -> Observation {
    Observation {
        at,
        gateway: "office".to_owned(),
        device: device.to_owned(),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        sender: Some("alerts@contoso.com".to_owned()),
        mechanism: "LOGIN".to_owned(),
        tls: String::new(),
        outcome: Outcome::Accepted,
        refusal: None,
        octets: 1000,
        recipients: vec!["boss@contoso.com".to_owned(), "x@example.org".to_owned()],
    }
}

fn said(device: &str, at: Timestamp, outcome: Outcome, refusal: Refusal) -> Observation {
    Observation {
        outcome,
        refusal: Some(refusal),
        octets: 0,
        recipients: Vec::new(),
        ..sent(device, at)
    }
}

/// What is known, and what was seen.
struct Story {
    directory: TempDir,
    gateways: Vec<Settings>,
    credentials: Vec<(String, String)>,
    account: fn(&str) -> Account,
}

impl Story {
    fn new(seen: &[Observation]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&directory.path().join("ledger.db")).unwrap();
        for observation in seen {
            ledger.record(observation);
        }
        Self {
            directory,
            gateways: vec![gateway("office", observe())],
            credentials: vec![("office".to_owned(), "printer".to_owned())],
            account: signed_in,
        }
    }

    fn report(&self) -> Report {
        let reader = Reader::open(&self.directory.path().join("ledger.db")).unwrap();
        let facts = Facts {
            now: now(),
            days: 30,
            gateways: &self.gateways,
            credentials: &self.credentials,
            account: &self.account,
            trouble: None,
        };
        Report::new(reader.as_ref(), &facts).unwrap()
    }

    /// The printer's only obstacle, and the next step.
    fn obstacle(&self) -> (ObstacleCode, String) {
        let report = self.report();
        let printer = report.devices.iter().find(|one| one.device == "printer");
        let printer = printer.unwrap();
        assert!(!printer.ready);
        assert_eq!(printer.obstacles.len(), 1, "{:?}", printer.obstacles);
        (printer.obstacles[0].code, printer.next.clone())
    }
}

#[test]
fn a_device_that_may_go_over_is_ready_and_its_gateways_mode_is_the_next_step() {
    let mut story = Story::new(&[
        sent("printer", before(60)),
        sent("printer", before(2 * DAY)),
        sent("printer", before(20 * DAY)),
        sent("printer", before(50 * DAY)),
    ]);
    let report = story.report();
    let printer = &report.devices[0];
    assert!(printer.ready, "{:?}", printer.obstacles);
    assert!(
        printer
            .next
            .starts_with("set mode = \"submit\" in [gateway.office]")
    );
    assert_eq!(printer.observe_account.as_deref(), Some("legacy"));
    let messages = |volume: Volume| (volume.messages, volume.recipients, volume.octets);
    assert_eq!(messages(printer.volume.last_day), (1, 2, 1000));
    assert_eq!(messages(printer.volume.last_7_days), (2, 4, 2000));
    assert_eq!(messages(printer.volume.last_30_days), (3, 6, 3000));
    assert_eq!(messages(printer.volume.all), (4, 8, 4000));
    assert_eq!(printer.first_seen_at, Some(before(50 * DAY)));
    assert_eq!(printer.last_accepted_at, Some(before(60)));
    assert_eq!(printer.clients[0].value, "192.0.2.7");
    assert_eq!(
        (printer.senders[0].value.as_str(), printer.senders[0].count),
        ("alerts@contoso.com", 3)
    );
    let domains = printer.recipient_domains.iter();
    let domains: Vec<_> = domains
        .map(|one| (one.domain.as_str(), one.messages))
        .collect();
    assert_eq!(domains, [("contoso.com", 3), ("example.org", 3)]);
    assert_eq!(
        (printer.auth[0].mechanism.as_str(), &printer.auth[0].tls),
        ("LOGIN", &None)
    );

    story.gateways[0].mode = Mode::Submit;
    let report = story.report();
    assert!(report.devices[0].ready);
    assert!(report.devices[0].next.starts_with("nothing"));
}

#[test]
fn a_device_that_never_connected_is_listed_and_so_is_traffic_without_a_credential() {
    let mut story = Story::new(&[sent("scanner", before(60))]);
    let own = story.gateways[0].policy.clone();
    story.gateways[0].devices.insert("ups".to_owned(), own);
    let report = story.report();
    let devices = report.devices.iter();
    let known: Vec<_> = devices
        .map(|one| {
            (
                one.device.as_str(),
                one.has_credential,
                one.obstacles[0].code,
            )
        })
        .collect();
    assert_eq!(
        known,
        [
            ("printer", true, ObstacleCode::NeverSeen),
            ("scanner", false, ObstacleCode::NoCredential),
            ("ups", false, ObstacleCode::NoCredential),
        ]
    );
    assert_eq!(
        report.devices[1].next,
        "postrider gateway credential add scanner --gateway office"
    );
}

#[test]
fn without_a_ledger_everything_that_is_configured_is_there() {
    let story = Story::new(&[]);
    let report = story.report();
    assert!(!report.ledger.exists);
    assert_eq!(report.devices.len(), 1);
    assert_eq!(story.obstacle().0, ObstacleCode::NeverSeen);
}

#[test]
fn the_account_has_to_exist_to_use_oauth_and_to_be_signed_in() {
    let mut story = Story::new(&[sent("printer", before(60))]);
    story.gateways[0].policy.account = "nobody".to_owned();
    assert_eq!(story.obstacle().0, ObstacleCode::NoAccount);
    story.gateways[0].policy.account = "basic".to_owned();
    assert_eq!(story.obstacle().0, ObstacleCode::PasswordAccount);
    story.account = |_| Account::OAuth {
        sender: alerts(),
        is_signed_in: false,
    };
    let (code, next) = story.obstacle();
    assert_eq!(
        (code, next.as_str()),
        (ObstacleCode::SignInNeeded, "postrider login basic")
    );
    story.gateways.clear();
    assert_eq!(story.obstacle().0, ObstacleCode::GatewayGone);
}

#[test]
fn a_sender_it_may_not_have_is_an_obstacle_until_the_settings_allow_it() {
    let strange = Observation {
        sender: Some("root@printer.local".to_owned()),
        ..sent("printer", before(60))
    };
    let text = "you may not send as root@printer.local, but as alerts@contoso.com";
    let would = Observation {
        sender: strange.sender.clone(),
        ..said(
            "printer",
            before(60),
            Outcome::WouldRefuse,
            Refusal::new(550, "5.7.1", text),
        )
    };
    let mut story = Story::new(&[strange, would]);
    let report = story.report();
    let codes: Vec<_> = report.devices[0]
        .obstacles
        .iter()
        .map(|one| one.code)
        .collect();
    assert_eq!(codes, [ObstacleCode::Sender, ObstacleCode::WouldRefuse]);
    assert!(
        report.devices[0]
            .next
            .contains("\"root@printer.local\" to senders in [gateway.office]")
    );
    assert_eq!(report.devices[0].would_refuse[0].count, 1);

    let mut own = story.gateways[0].policy.clone();
    own.rewrite_from = true;
    story.gateways[0]
        .devices
        .insert("printer".to_owned(), own.clone());
    assert!(story.report().devices[0].ready);
    own.rewrite_from = false;
    own.senders = vec![Sender::new("@printer.local")];
    story.gateways[0].devices.insert("printer".to_owned(), own);
    assert!(story.report().devices[0].ready);
}

#[test]
fn a_domain_it_may_not_send_to_is_an_obstacle_until_the_settings_allow_it() {
    let mut story = Story::new(&[
        sent("printer", before(60)),
        said(
            "printer",
            before(60),
            Outcome::WouldRefuse,
            Refusal::new(550, "5.7.1", "you may not send to x@example.org"),
        ),
    ]);
    story.gateways[0].policy.recipient_domains = vec!["contoso.com".to_owned()];
    let (code, next) = story.obstacle();
    assert_eq!(code, ObstacleCode::RecipientDomain);
    assert_eq!(
        next,
        "add \"example.org\" to recipient_domains in [gateway.office]"
    );
    story.gateways[0]
        .policy
        .recipient_domains
        .push("example.org".to_owned());
    assert!(story.report().devices[0].ready);
}

#[test]
fn what_would_be_refused_is_an_obstacle_for_a_week() {
    let large = || Refusal::new(552, "5.3.4", "too large: 1048576 octets at most");
    let of = |age| {
        Story::new(&[
            said("printer", before(age), Outcome::WouldRefuse, large()),
            sent("printer", before(age - 60)),
        ])
    };
    assert_eq!(of(6 * DAY).obstacle().0, ObstacleCode::WouldRefuse);
    assert!(of(8 * DAY).report().devices[0].ready);
    assert_eq!(
        of(8 * DAY).report().devices[0].would_refuse[0].reply,
        "552 5.3.4"
    );
}

#[test]
fn a_refusal_is_an_obstacle_until_something_is_accepted() {
    let wrong = || Refusal::new(535, "5.7.8", "authentication failed");
    let failed = |at| said("printer", at, Outcome::SignInFailed, wrong());
    let story = Story::new(&[sent("printer", before(600)), failed(before(60))]);
    let (code, next) = story.obstacle();
    assert_eq!(code, ObstacleCode::Refused);
    assert!(
        next.contains("credential add printer --gateway office"),
        "{next}"
    );
    let story = Story::new(&[failed(before(600)), sent("printer", before(60))]);
    let report = story.report();
    assert!(report.devices[0].ready);
    assert_eq!(report.devices[0].refusals[0].reply, "535 5.7.8");
}

#[test]
fn a_limit_of_a_minute_is_no_obstacle_once_it_passed_and_one_of_a_day_is_until_it_is_raised() {
    let full = |span, limit| {
        let again_at = Some(before(0));
        Full {
            span,
            limit,
            again_at,
        }
    };
    let met = |outcome, full: Full| {
        Story::new(&[
            said("printer", before(600), outcome, full.refusal()),
            sent("printer", before(540)),
        ])
    };
    // Told to come again, and it came.
    let mut story = met(Outcome::Refused, full(Span::Minute, 5));
    story.gateways[0].mode = Mode::Submit;
    assert!(story.report().devices[0].ready);
    // Nobody knows yet whether it would.
    let mut story = met(Outcome::WouldRefuse, full(Span::Minute, 5));
    story.gateways[0].policy.messages_per_minute = Some(5);
    let printer = &story.report().devices[0];
    assert!(printer.ready, "{:?}", printer.obstacles);
    assert!(printer.next.starts_with("set mode = \"submit\""));
    let advice = "more than messages_per_minute = 5: raise that in [gateway.office]";
    assert!(printer.next.contains(advice), "{}", printer.next);
    story.gateways[0].policy.messages_per_minute = Some(20);
    let next = &story.report().devices[0].next;
    assert!(!next.contains("messages_per_minute"), "{next}");

    let mut story = met(Outcome::WouldRefuse, full(Span::Day, 100));
    story.gateways[0].policy.messages_per_day = Some(100);
    assert_eq!(story.obstacle().0, ObstacleCode::WouldRefuse);
    story.gateways[0].policy.messages_per_day = Some(500);
    assert!(story.report().devices[0].ready);

    let full = full(Span::Day, 100).refusal();
    let mut story = Story::new(&[said("printer", before(60), Outcome::Refused, full)]);
    story.gateways[0].mode = Mode::Submit;
    let (code, next) = story.obstacle();
    assert_eq!(code, ObstacleCode::Refused);
    assert!(next.contains("raise messages_per_day in"), "{next}");
}

#[test]
fn what_came_without_a_name_is_told_apart() {
    let stranger = |outcome| Observation {
        mechanism: String::new(),
        sender: None,
        ..said("", before(60), outcome, Refusal::new(535, "5.7.8", "no"))
    };
    let story = Story::new(&[
        stranger(Outcome::SignInFailed),
        stranger(Outcome::SignInFailed),
        stranger(Outcome::TurnedAway),
    ]);
    let report = story.report();
    assert_eq!(report.devices.len(), 1);
    let strangers = &report.strangers[0];
    assert_eq!((strangers.sign_in_failed, strangers.turned_away), (2, 1));
    assert_eq!(strangers.clients[0].count, 3);
}

#[test]
fn a_rehearsal_lists_who_would_break_and_who_came_another_way() {
    let refused = |device: &str, client: u8, at| Observation {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, client)),
        sender: None,
        ..said(device, at, Outcome::Rehearsed, crate::rehearsal::refusal())
    };
    let through = |gateway: &str, device: &str, client: u8, at| Observation {
        gateway: gateway.to_owned(),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, client)),
        ..sent(device, at)
    };
    let mut story = Story::new(&[
        refused("printer", 1, before(300)),
        refused("printer", 1, before(200)),
        // Before the refusal, and from elsewhere: no way round it.
        through("modern", "printer", 1, before(250)),
        through("modern", "other", 9, before(10)),
        refused("scanner", 2, before(300)),
        through("modern", "scanner", 2, before(100)),
        // The same, once the rehearsal was over: it will break.
        refused("ups", 3, before(300)),
        through("office", "ups", 3, before(100)),
    ]);
    for device in ["scanner", "ups", "camera"] {
        story
            .credentials
            .push(("office".to_owned(), device.to_owned()));
    }
    let mut rehearse = Rehearse {
        from: before(400),
        until: Some(before(150)),
        devices: Vec::new(),
    };
    story.gateways[0].rehearse = Some(rehearse.clone());
    let report = story.report();
    let rehearsal = &report.rehearsals[0];
    assert_eq!(rehearsal.state, RehearsalState::Over);
    assert_eq!(rehearsal.would_break, ["printer", "ups"]);
    assert_eq!(rehearsal.not_seen, ["camera"]);
    let scanner = &rehearsal.refused[1];
    assert_eq!(scanner.came_back_as.as_deref(), Some("modern/scanner"));
    assert_eq!(rehearsal.refused[0].times, 2);
    let printer = report
        .devices
        .iter()
        .find(|one| one.device == "printer" && one.gateway == "office");
    assert_eq!(printer.unwrap().rehearsed, 2);

    rehearse.until = None;
    rehearse.devices = vec!["printer".to_owned()];
    story.gateways[0].rehearse = Some(rehearse.clone());
    let report = story.report();
    assert_eq!(report.rehearsals[0].state, RehearsalState::Running);
    assert!(report.rehearsals[0].not_seen.is_empty());
    rehearse.from = before(-60);
    story.gateways[0].rehearse = Some(rehearse);
    assert_eq!(story.report().rehearsals[0].state, RehearsalState::Coming);
    story.gateways[0].rehearse = None;
    assert_eq!(story.report().rehearsals[0].state, RehearsalState::Gone);
}

#[test]
fn neighbours_are_no_other_way_of_a_device_that_was_refused() {
    let from = |client: u8, seen: Observation| Observation {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, client)),
        ..seen
    };
    let through = |gateway: &str, device: &str, client, at| Observation {
        gateway: gateway.to_owned(),
        ..from(client, sent(device, at))
    };
    let refused = |device: &str, client| {
        let refusal = crate::rehearsal::refusal();
        from(
            client,
            said(device, before(300), Outcome::Rehearsed, refusal),
        )
    };
    let mut story = Story::new(&[
        // Behind one router, and it sends all day long.
        refused("printer", 1),
        through("office", "fax", 1, before(DAY)),
        through("office", "fax", 1, before(100)),
        // The other site has one of that name, too.
        refused("scanner", 2),
        through("annex", "scanner", 9, before(DAY)),
        through("annex", "scanner", 9, before(100)),
        // Its second entry, under a name that nobody had.
        refused("ups", 3),
        through("office", "ups-new", 3, before(100)),
        // Its own name elsewhere, from an address that it got since.
        refused("camera", 4),
        through("modern", "camera", 5, before(100)),
    ]);
    let rehearse = |until| {
        Some(Rehearse {
            from: before(400),
            until,
            devices: Vec::new(),
        })
    };
    story.gateways[0].rehearse = rehearse(None);
    let came = |story: &Story| {
        let refused = std::mem::take(&mut story.report().rehearsals[0].refused);
        let came = refused.into_iter().map(|one| {
            let came = one.came_back_as.unwrap_or_default();
            (one.device, came)
        });
        came.collect::<Vec<_>>()
    };
    let found = |camera: &str, ups: &str| {
        [
            ("camera", camera),
            ("printer", ""),
            ("scanner", ""),
            ("ups", ups),
        ]
        .map(|(device, came)| (device.to_owned(), came.to_owned()))
    };
    assert_eq!(came(&story), found("modern/camera", "office/ups-new"));
    // What was set up once it was over, or gone, tells nothing of it.
    story.gateways[0].rehearse = rehearse(Some(before(150)));
    assert_eq!(came(&story), found("", ""));
    story.gateways[0].rehearse = None;
    assert_eq!(came(&story), found("", ""));
}

#[test]
fn the_jsons_names_stay() {
    let story = Story::new(&[sent("printer", before(60))]);
    let report = serde_json::to_value(story.report()).unwrap();
    let names = |value: &Value| {
        let object = value.as_object().unwrap();
        object.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names(&report),
        "at days ledger devices strangers rehearsals"
    );
    assert_eq!(
        names(&report["devices"][0]),
        "gateway device has_credential has_settings account observe_account first_seen_at \
         last_seen_at last_accepted_at volume clients senders recipient_domains auth refusals \
         would_refuse rehearsed ready obstacles next"
    );
    assert_eq!(
        report["devices"][0]["volume"]["last_day"],
        json!({ "messages": 1, "recipients": 2, "octets": 1000 })
    );
    let obstacle = Obstacle {
        code: ObstacleCode::SignInNeeded,
        text: String::new(),
    };
    let obstacle = serde_json::to_value(obstacle).unwrap();
    assert_eq!(obstacle["code"], "sign_in_needed");
}

#[test]
fn names_that_a_shell_or_toml_would_stumble_over_are_quoted() {
    let seen = Observation {
        device: "o'neil; reboot".to_owned(),
        ..sent("x", before(60))
    };
    let report = Story::new(&[seen]).report();
    assert_eq!(
        report.devices[0].next,
        "postrider gateway credential add 'o'\\''neil; reboot' --gateway office"
    );
}
