//! The queue: the ways into it, what becomes of mail there, and what an operator sees of it.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::clock::Later;
use support::crowd::all_at_once;
use support::curl::Curl;
use support::daemon::Daemon;
use support::office::{Office, TO, field, hurried, send, until};
use support::{read_to_string, run, says, skip, write_private};

/// A daemon whose only script says what it hears of the queue.
fn listening(office: &Office) -> Daemon {
    let events = r#"
local pr = require "postrider"
for _, name in ipairs { "accepted", "delivered", "deferred", "held", "failed", "unknown", "paused", "resumed" } do
  pr.on("queue." .. name, function(event) pr.log.warn("heard queue." .. name, event) end)
end
"#;
    fs::create_dir_all(office.home.path().join("scripts.d")).unwrap();
    write_private(&office.home.path().join("scripts.d/events.lua"), events);
    Daemon::start(&office.home)
}

const SCRIPTS: &str = "[scripts]\ndir = \"scripts.d\"\n[serve]\nwatch = false\n";

/// What the script heard of a message, or of the account where `id` is its name, in order.
fn heard(daemon: &Daemon, id: &str) -> Vec<String> {
    let lines = daemon.said("heard queue.").into_iter();
    let about = |line: &Value| {
        line["fields"]
            .as_str()
            .unwrap()
            .contains(&format!("\"{id}\""))
    };
    let lines = lines.filter(about);
    let events = lines.map(|line| line["message"].as_str().unwrap().to_owned());
    events
        .map(|event| event.replace("heard queue.", ""))
        .collect()
}

#[test]
fn mail_waits_without_a_daemon_until_somebody_flushes() {
    let office = Office::new();
    let queued = office.home.run(send(TO, "first")).expect_status(0);
    let note = "no daemon runs: `postrider serve` or `postrider queue flush` delivers it";
    says(&queued, &["queued  Q00001", "Message-ID <", note]);
    office.queue("second", &[]);

    let list = office.run(&["list"], 0);
    says(&list, &["Q00001", "Q00002", "queued", TO]);
    let list = office.home.json(["queue", "list"]);
    let first = &list[0];
    assert_eq!(first["id"], "Q00001", "{list}");
    assert_eq!(first["account"], "sandbox", "{list}");
    assert_eq!(first["from"], "alerts@contoso.com", "{list}");
    assert_eq!(first["states"], json!({ "queued": 1 }), "{list}");
    assert_eq!(first["attempts"], 0, "{list}");
    assert_eq!(first["origin"], "postrider send", "{list}");
    assert!(first["octets"].as_u64().unwrap() > 100, "{list}");
    let counted = office.home.json(["queue", "stats"]);
    let queued = &counted["accounts"]["sandbox"]["states"]["queued"];
    assert_eq!(*queued, 2, "{counted}");
    assert!(office.sandbox.mail(TO).is_empty());

    let status = office.home.run(["status"]).expect_status(69);
    says(&status, &["absent", "2 wait, the oldest queued"]);

    // What will be sent, octet by octet.
    let before = office.run(&["export", "Q00001"], 0).stdout;
    let flushed = office.run(&["flush"], 0);
    says(&flushed, &["recipients: 2 delivered"]);
    assert_eq!(office.subjects(), ["first", "second"]);
    let arrived = read_to_string(&office.sandbox.mail(TO)[0]);
    assert!(arrived.ends_with(&before), "{before} {arrived}");

    says(&office.run(&["list"], 0), &["nothing waits; --all shows"]);
    says(&office.run(&["flush"], 0), &["nothing was due"]);
    let (state, why) = office.state("Q00001");
    assert_eq!(state, "delivered");
    assert!(why.starts_with("250 2.0.0"), "{why}");
    let all = office.home.json(["queue", "list", "--all"]);
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    // And it can be looked at still, in a file of one's own.
    office.run(&["export", "Q00001", "--output", "copy.eml"], 0);
    let copy = read_to_string(&office.home.path().join("copy.eml"));
    assert_eq!(copy, before);
    let again = office
        .home
        .run(["queue", "export", "Q00001", "-o", "copy.eml"]);
    assert_ne!(again.status, 0, "{again:?}");
    says(&again, &["copy.eml", "exists"]);
}

#[test]
fn a_daemon_delivers_what_comes_by_any_way_and_says_so() {
    if Curl::is_missing() {
        return;
    }
    let office = Office::with(SCRIPTS);
    let daemon = listening(&office);
    let curl = Curl::over(&office.home.state().join("control.sock"));

    let from_a_command = office.queue("by a command", &[]);
    let message = json!({
        "account": "sandbox", "to": TO, "subject": "by curl", "text": "x", "wait": "queued",
        "idempotency_key": "nightly-7",
    });
    let (status, queued) = curl.post("/v1/messages", &message);
    assert_eq!(
        (status, &queued["duplicate"]),
        (202, &json!(false)),
        "{queued}"
    );
    let (status, again) = curl.post("/v1/messages", &message);
    assert_eq!(
        (status, &again["duplicate"]),
        (202, &json!(true)),
        "{again}"
    );
    assert_eq!(again["id"], queued["id"]);
    assert_eq!(again["message_id"], queued["message_id"]);
    let from_curl = queued["id"].as_str().unwrap().to_owned();
    let script = "local pr = require 'postrider'
        local receipt = assert(pr.account('sandbox'):send{
            to = 'admin@contoso.com', subject = 'by Lua', text = 'x', wait = 'queued' })
        assert(receipt.duplicate == false and receipt.recipients == nil)
        print(receipt.id)\n";
    write_private(&office.home.path().join("mail.lua"), script);
    let ran = office.home.run(["run", "mail.lua"]).expect_status(0);
    let from_lua = ran.stdout.trim().to_owned();

    for (id, origin) in [
        (&from_a_command, "the control socket"),
        (&from_curl, "the control socket"),
        (&from_lua, "script"),
    ] {
        office.comes_to(id, "delivered");
        let shown = office.show(id);
        assert!(
            shown["origin"].as_str().unwrap().contains(origin),
            "{shown}"
        );
        until("it is heard of", || {
            heard(&daemon, id)
                .contains(&"delivered".to_owned())
                .then_some(())
        });
    }
    // Another process tells its own scripts of what it queued.
    assert_eq!(heard(&daemon, &from_lua), ["delivered"]);
    assert_eq!(heard(&daemon, &from_curl), ["accepted", "delivered"]);
    let mut subjects = office.subjects();
    subjects.sort();
    assert_eq!(subjects, ["by Lua", "by a command", "by curl"]);

    let status = office.home.run(["status"]).expect_status(0);
    says(&status, &["mail         nothing waits, last delivered"]);
    // Through a daemon nobody is told to start one.
    let queued = office.home.run(send(TO, "more")).expect_status(0);
    assert!(!queued.stderr.contains("daemon"), "{queued:?}");
    for (change, code) in [
        (json!({ "account": "nobody" }), "config.no_such_account"),
        (json!({ "to": "nobody at all" }), "message.invalid"),
        (json!({ "wait": "forever" }), "usage.request"),
        (json!({ "wait": "accepted" }), "usage.message"),
        (json!({ "send_at": "tomorrow" }), "usage.request"),
        (
            json!({ "expires_at": "2020-01-01T00:00:00Z" }),
            "message.invalid",
        ),
    ] {
        let mut message = message.clone();
        message
            .as_object_mut()
            .unwrap()
            .append(change.clone().as_object_mut().unwrap());
        let (status, answer) = curl.post("/v1/messages", &message);
        let found = answer["error"]["code"].as_str().unwrap_or_default();
        assert!(
            (400..500).contains(&status) && found == code,
            "{change}: {status} {answer}"
        );
    }
    daemon.terminate().expect_status(0);
}

#[test]
fn one_key_is_one_message_whoever_uses_it() {
    let office = Office::new();
    let keyed = |key: &'static str| {
        let mut arguments = send(TO, key);
        arguments.extend(["--idempotency-key", key]);
        arguments
    };
    let first = office.home.json(keyed("k1"));
    let again = office.home.json(keyed("k1"));
    assert_eq!(first["duplicate"], false, "{first}");
    assert_eq!(again["duplicate"], true, "{again}");
    for same in ["id", "message_id", "queued_at"] {
        assert_eq!(first[same], again[same]);
    }
    let told = office.home.run(keyed("k1")).expect_status(0);
    says(&told, &["queued already"]);

    // Eight processes that know nothing of each other, then eight through a daemon.
    for (key, daemon) in [("k2", false), ("k3", true)] {
        let daemon = daemon.then(|| Daemon::start(&office.home));
        let crowd = (0..8).map(|_| {
            office
                .home
                .postrider(keyed(key).into_iter().chain(["--json"]))
        });
        let members = all_at_once(crowd.collect());
        let receipts = members
            .into_iter()
            .map(|one| one.ended.expect_status(0).json());
        let receipts: Vec<Value> = receipts.collect();
        let firsts = receipts.iter().filter(|one| one["duplicate"] == false);
        assert_eq!(firsts.count(), 1, "{receipts:?}");
        let ids: BTreeSet<_> = receipts.iter().map(|one| one["id"].to_string()).collect();
        assert_eq!(ids.len(), 1, "{receipts:?}");
        if let Some(daemon) = daemon {
            office.comes_to(receipts[0]["id"].as_str().unwrap(), "delivered");
            daemon.terminate().expect_status(0);
        }
    }
    office.run(&["flush"], 0);
    let mut subjects = office.subjects();
    subjects.sort();
    assert_eq!(subjects, ["k1", "k2", "k3"]);
    // What was delivered is not queued again, either.
    assert_eq!(office.home.json(keyed("k1"))["duplicate"], true);
    let found = office.home.json(["queue", "list", "--all", "--key", "k2"]);
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
}

#[test]
fn what_is_for_later_waits_and_what_comes_too_late_is_reported() {
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(missing) => return skip(&missing),
    };
    let office = Office::new();
    let in_time = |seconds: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        time.to_string()
    };
    let tomorrow = office.queue("tomorrow", &["--send-at", &in_time(20 * 3600)]);
    let offer = office.queue("offer", &["--expires-at", &in_time(3600)]);
    office.fault(
        "smtp_message",
        &json!({ "reply": "451 4.7.0 Temporary server error" }),
    );
    // Not even somebody in a hurry sends it before its time.
    for hurry in [&["flush"][..], &["flush", "--now"]] {
        let flushed = office
            .home
            .run(["queue"].into_iter().chain(hurry.iter().copied()));
        assert!([0, 75].contains(&flushed.status), "{flushed:?}");
        assert_eq!(office.state(&tomorrow).0, "queued");
    }
    assert_eq!(office.subjects(), ["offer"]);
    assert_eq!(office.state(&offer).0, "delivered");
    let late = office.queue("late", &["--expires-at", &in_time(3600)]);
    says(&office.run(&["show", &late], 0), &["expires"]);
    says(&office.run(&["show", &tomorrow], 0), &["not before"]);

    later.pass(Duration::from_hours(21));
    let mut flush = office.home.postrider(["queue", "flush"]);
    let flushed = run(later.tell(&mut flush)).expect_status(69);
    says(&flushed, &["delivered", "1 failed"]);
    assert_eq!(office.subjects(), ["offer", "tomorrow"]);
    let (state, why) = office.state(&late);
    assert_eq!(state, "failed", "{why}");
    assert!(why.contains("expire"), "{why}");
    let reports = office.sandbox.mail("alerts@contoso.com");
    assert_eq!(reports.len(), 1);
    assert!(read_to_string(&reports[0]).contains(&why), "{why}");
}

#[test]
fn what_is_urgent_goes_first_and_nothing_starves() {
    let office = Office::at(|sandbox| {
        hurried(sandbox.config()).replace(
            "messages_per_minute",
            "connections = 1\nmessages_per_minute",
        )
    });
    office.queue("low", &["--priority", "low"]);
    office.queue("normal", &["--priority", "normal"]);
    for _ in 0..12 {
        office.queue("high", &["--priority", "high"]);
    }

    says(&office.run(&["flush"], 0), &["14 delivered"]);

    let order = office.subjects();
    let place = |subject: &str| order.iter().position(|one| one == subject).unwrap() + 1;
    assert_eq!(place("high"), 1, "{order:?}");
    // One start in eight belongs to what has waited longest.
    assert_eq!(place("low"), 8, "{order:?}");
    assert_eq!(place("normal"), 14, "{order:?}");
}

#[test]
fn a_person_holds_releases_retries_and_removes() {
    let office = Office::new();
    let ids: Vec<String> = ["one", "two", "three"]
        .map(|subject| office.queue(subject, &[]))
        .into();
    let held = office.run(
        &["hold", &ids[0], &ids[1], "--why", "their server moves"],
        0,
    );
    says(&held, &["2 messages are held"]);
    says(&office.run(&["list"], 0), &["held", "their server moves"]);
    says(&office.run(&["flush"], 0), &["1 delivered"]);
    assert_eq!(office.subjects(), ["three"]);
    let listed = office.home.json(["queue", "list", "--state", "held"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");

    let released = office.run(&["release", "--recipient", "@contoso.com", "--json"], 0);
    assert_eq!(released.json(), json!({ "messages": 2 }));
    office.run(&["hold", &ids[1]], 0);
    assert_eq!(office.state(&ids[1]).1, "held by hand");
    office.run(&["flush"], 0);
    assert_eq!(office.subjects(), ["three", "one"]);
    // It is held, and trying it again is a person's word, too.
    says(
        &office.run(&["retry", &ids[1]], 0),
        &["1 message is tried again"],
    );
    office.run(&["hold", "--all"], 0);
    says(
        &office.run(&["remove", &ids[1]], 0),
        &["1 message is removed"],
    );
    office.run(&["flush"], 0);
    assert_eq!(office.subjects(), ["three", "one"]);

    // What is done is done, and what is gone is gone.
    for command in ["retry", "hold", "release"] {
        let nothing = office.run(&[command, "--all"], 66);
        says(&nothing, &["no message is changed"]);
    }
    let gone = office.run(&["show", &ids[1]], 66);
    says(
        &gone,
        &["there is no message Q00002 in the queue", "queue list"],
    );
}

#[test]
fn what_cannot_be_meant_is_said_to_be_wrong() {
    let office = Office::new();
    let id = office.queue("it", &[]);
    // Nobody changes all there is by leaving something out.
    for command in ["retry", "hold", "release", "remove"] {
        says(
            &office.run(&[command], 64),
            &["say which messages", "--all"],
        );
    }
    for (arguments, status, parts) in [
        (&["remove", &id, "--all"][..], 64, &["not both"][..]),
        (&["show", "nonsense"], 64, &["nonsense", "Q00F3K"]),
        (&["show", "Q00ZZZ"], 66, &["there is no message Q00ZZZ"]),
        (
            &["export", "Q00ZZZ"],
            66,
            &["there is no", "Q00ZZZ", "queue list"],
        ),
        (
            &["list", "--state", "lost"],
            64,
            &["lost", "queued, sending, deferred"],
        ),
        (&["list", "--older-than", "soon"], 64, &["soon"]),
        (
            &["list", "--all", "--state", "held"],
            64,
            &["cannot be used with"],
        ),
        (
            &["flush", "--account", "sandbxo"],
            78,
            &["sandbxo", "sandbox"],
        ),
        (
            &["export", &id, "--output", "no/such/file"],
            73,
            &["no/such/file"],
        ),
    ] {
        says(&office.run(arguments, status), parts);
    }
    let sends: &[(&[&str], i32, &[&str])] = &[
        (&["--send-at", "tomorrow"], 64, &["2026-03-01T08:00:00Z"]),
        (
            &["--expires-at", "2020-01-01T00:00:00Z"],
            65,
            &["expires at 2020-01-01T00:00:00Z", "before it may be sent"],
        ),
        (&["--to", "nobody at all"], 65, &["to[2]", "nobody at all"]),
    ];
    for (more, status, parts) in sends {
        let ended = office
            .home
            .run(send(TO, "x").into_iter().chain(more.iter().copied()));
        says(&ended.expect_status(*status), parts);
    }
    let keyless = [
        "send",
        "-a",
        "sandbox",
        "--to",
        TO,
        "--text",
        "x",
        "--idempotency-key",
        "k",
    ];
    says(&office.home.run(keyless).expect_status(64), &["--queue"]);
    let list = office.home.json(["queue", "list", "--all"]);
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn what_a_server_puts_off_is_tried_again() {
    let office = Office::new();
    for (reply, slow) in [
        ("451 4.7.0 Temporary server error", false),
        ("452 4.3.1 Insufficient system resources", false),
        ("432 4.3.2 Concurrent connections limit exceeded.", true),
        ("421 4.3.2 Service not active", true),
    ] {
        let id = office.queue(reply, &[]);
        office.fault("smtp_message", &json!({ "reply": reply }));
        let flushed = office.run(&["flush"], 75);
        says(&flushed, &["1 deferred"]);
        let shown = office.show(&id);
        let recipient = &shown["recipients"][0];
        assert_eq!(recipient["state"], "deferred", "{shown}");
        assert_eq!(recipient["attempts"], 1, "{shown}");
        assert_eq!(recipient["why"], reply, "{shown}");
        assert!(recipient["next"].is_string(), "{shown}");
        // Only what concerns all its mail slows an account down.
        let stats = office.run(&["stats"], 0);
        assert_eq!(
            stats.stdout.contains(&format!("slow: {reply}")),
            slow,
            "{stats:?}"
        );
        // Too early, and then by a person's word.
        let early = office.home.run(["queue", "flush"]);
        let waits = ["nothing was due", "sandbox waits until", reply];
        says(&early.expect_status(0), &waits);
        assert_eq!(office.state(&id).0, "deferred");
        says(&office.run(&["flush", "--now"], 0), &["1 delivered"]);
        assert_eq!(office.subjects().last().unwrap(), reply);
        let shown = office.show(&id);
        assert_eq!(shown["recipients"][0]["attempts"], 2, "{shown}");
    }
    assert!(office.arrivals().values().all(|times| *times == 1));
}

#[test]
fn what_was_put_off_goes_by_itself_when_its_time_comes() {
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(missing) => return skip(&missing),
    };
    let office = Office::new();
    let id = office.queue("greylisted", &[]);
    office.fault(
        "smtp_message",
        &json!({ "reply": "451 4.7.0 Temporary server error" }),
    );
    office.run(&["flush"], 75);
    later.pass(Duration::from_mins(2));
    let daemon = Daemon::started_by(
        later.tell(&mut office.home.postrider(["serve"])),
        &office.home,
    );
    office.comes_to(&id, "delivered");
    daemon.terminate().expect_status(0);
}

#[test]
fn what_a_server_refuses_for_good_comes_back_to_its_sender() {
    let office = Office::with(SCRIPTS);
    let daemon = listening(&office);
    let refusal = "554 5.2.252 SendAsDenied; not allowed to send as this sender";
    office.fault("smtp_message", &json!({ "reply": refusal }));
    let id = office.queue("Report of today", &[]);
    let why = office.comes_to(&id, "failed");
    assert_eq!(why, refusal);

    let sender = "alerts@contoso.com";
    let report = until("the report arrives", || {
        office
            .sandbox
            .mail(sender)
            .first()
            .map(|path| read_to_string(path))
    });
    let message_id = office.show(&id)["message_id"].as_str().unwrap().to_owned();
    for part in [
        "Not delivered to admin@contoso.com",
        "Content-Type: multipart/report; report-type=delivery-status",
        refusal,
        "Status: 5.2.252",
        "Final-Recipient: rfc822;admin@contoso.com",
        "Subject: Report of today",
        &format!("References: {message_id}"),
        "Return-Path: <>",
    ] {
        let folded = report.replace("rfc822; ", "rfc822;");
        assert!(folded.contains(part), "{part} is not in {report}");
    }
    until("it is heard of", || {
        (heard(&daemon, &id) == ["accepted", "failed"]).then_some(())
    });
    // No report about a report.
    office.faults("smtp_message", &json!({ "reply": refusal }), Some(2));
    office.comes_to(&office.queue("another", &[]), "failed");
    let stats = until("both have failed", || {
        let stats = office.home.json(["queue", "stats"]);
        (stats["accounts"]["sandbox"]["states"]["failed"] == 3).then_some(stats)
    });
    assert_eq!(
        stats["accounts"]["sandbox"]["states"].get("queued"),
        None,
        "{stats}"
    );
    assert_eq!(office.sandbox.mail(sender).len(), 1);
    daemon.terminate().expect_status(0);

    // Unless nobody wants any.
    office.home.configure(&format!(
        "[queue]\nreport = 'none'\n{}",
        hurried(office.sandbox.config())
    ));
    office.fault("smtp_message", &json!({ "reply": refusal }));
    office.queue("a third", &[]);
    says(&office.run(&["flush"], 69), &["1 failed"]);
    says(&office.run(&["flush"], 0), &["nothing was due"]);
    assert_eq!(office.sandbox.mail(sender).len(), 1);
    // A person may think better of it.
    office.run(&["retry", "--state", "failed"], 0);
    office.run(&["flush"], 0);
    assert_eq!(office.sandbox.mail(TO).len(), 3);
}

#[test]
fn what_nobody_knows_of_waits_for_a_person_or_is_sent_again_as_configured() {
    let office = Office::with(SCRIPTS);
    let daemon = listening(&office);
    // The server has it, and cannot say so.
    office.fault("smtp_message", &json!("lose_reply"));
    let kept = office.queue("kept", &[]);
    office.comes_to(&kept, "unknown");
    // It does not have it, which looks the same from here.
    office.fault("smtp_message", &json!("close"));
    let lost = office.queue("lost", &[]);
    let why = office.comes_to(&lost, "unknown");
    assert!(why.contains("closed the connection"), "{why}");
    assert_eq!(office.subjects(), ["kept"]);
    until("it is heard of", || {
        (heard(&daemon, &kept) == ["accepted", "unknown"]).then_some(())
    });
    let status = office.home.run(["status"]).expect_status(0);
    says(
        &status,
        &["nothing waits, 2 unknown", "`postrider queue list`"],
    );
    says(
        &office.run(&["list"], 0),
        &[&kept, &lost, "unknown", "closed the connection"],
    );
    daemon.terminate().expect_status(0);
    says(&office.run(&["flush", "--now"], 0), &["nothing was due"]);

    // Whoever has looked into the mailbox knows which one to send again.
    let message_id = office.show(&lost)["message_id"]
        .as_str()
        .unwrap()
        .to_owned();
    office.run(&["retry", &lost], 0);
    office.run(&["remove", &kept], 0);
    office.run(&["flush"], 0);
    assert_eq!(office.subjects(), ["kept", "lost"]);
    assert_eq!(office.arrivals()[&message_id], 1);

    // Who would rather have it twice than not at all.
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(missing) => return skip(&missing),
    };
    office.home.configure(&format!(
        "[queue]\nunknown = 'retry'\n{}",
        hurried(office.sandbox.config())
    ));
    office.fault("smtp_message", &json!("lose_reply"));
    let twice = office.queue("twice", &[]);
    says(&office.run(&["flush"], 75), &["1 deferred"]);
    later.pass(Duration::from_mins(2));
    let mut flush = office.home.postrider(["queue", "flush"]);
    says(
        &run(later.tell(&mut flush)).expect_status(0),
        &["1 delivered"],
    );
    let message_id = office.show(&twice)["message_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        office.arrivals()[&message_id],
        2,
        "the same Message-ID both times"
    );
}

#[test]
fn trouble_with_a_token_parks_an_account_and_bounces_nothing() {
    let office = Office::at(|sandbox| {
        let config = hurried(sandbox.config());
        format!("{SCRIPTS}{config}").replace(
            "{ env = \"SANDBOX_CLIENT_SECRET\" }",
            "{ file = \"secret\" }",
        )
    });
    let secret = office.home.path().join("secret");
    write_private(&secret, "wrong-client-secret");
    let daemon = listening(&office);
    let ids: Vec<String> = ["one", "two", "three"]
        .map(|subject| office.queue(subject, &[]))
        .into();
    let paused = until("the account is parked", || {
        let stats = office.home.json(["queue", "stats"]);
        let account = stats["accounts"]["sandbox"].clone();
        account["paused_until"].is_string().then_some(account)
    });
    let why = paused["paused_why"].as_str().unwrap();
    assert!(why.starts_with("parked: "), "{why}");
    assert!(why.contains("client secret is wrong"), "{why}");
    let status = office.home.run(["status"]).expect_status(0);
    says(
        &status,
        &[
            "3 wait, the oldest queued",
            "sandbox: paused, 3 wait, tried again in ",
            ": parked: ",
            "client secret is wrong",
        ],
    );
    for id in &ids {
        assert_eq!(office.state(id).0, "queued");
    }
    // So does whoever looks at the messages.
    let listed = office.run(&["list"], 0);
    says(
        &listed,
        &[
            "in ",
            "the account waits: parked: ",
            "client secret is wrong",
        ],
    );
    assert!(!listed.stdout.contains("  now  "), "{}", listed.stdout);
    let shown = office.run(&["show", &ids[0]], 0);
    says(&shown, &["waits       until ", "client secret is wrong"]);
    let listed = office.home.json(["queue", "list"]);
    assert_eq!(listed[0]["paused_until"], paused["paused_until"]);
    // Somebody who flushes learns the same, without waiting for it.
    let flushed = office.run(&["flush"], 75);
    says(
        &flushed,
        &["sandbox waits until", "parked", "client secret is wrong"],
    );
    assert!(office.sandbox.mail("alerts@contoso.com").is_empty());

    write_private(&secret, office.sandbox.client_secret().1);
    office.home.run(["reload"]).expect_status(0);
    for id in &ids {
        office.comes_to(id, "delivered");
    }
    assert_eq!(office.arrivals().len(), 3);
    assert!(office.arrivals().values().all(|times| *times == 1));
    until("it is heard of", || {
        let heard = heard(&daemon, "sandbox");
        let has = |event: &str| heard.iter().any(|one| one == event);
        (has("paused") && has("resumed") && !has("failed")).then_some(())
    });
    let status = office.home.run(["status"]).expect_status(0);
    says(&status, &["mail         nothing waits, last delivered"]);
    daemon.terminate().expect_status(0);
}

#[test]
fn status_tells_what_an_operator_asks_first() {
    let office = Office::with(SCRIPTS);
    let daemon = listening(&office);
    let line = || {
        let status = office.home.run(["status"]).expect_status(0);
        let (_, mail) = status.stdout.split_once("mail         ").unwrap();
        mail.split_once("schedules").unwrap().0.to_owned()
    };
    assert_eq!(line(), "nothing waits\n");

    office.faults(
        "smtp_message",
        &json!({ "reply": "451 4.7.0 Temporary server error" }),
        None,
    );
    let deferred = office.queue("deferred", &[]);
    office.comes_to(&deferred, "deferred");
    assert!(
        line().starts_with("1 wait, the oldest queued "),
        "{}",
        line()
    );
    office.sandbox.mend_tokens();

    office.faults(
        "smtp_message",
        &json!({ "reply": "432 4.3.2 Concurrent connections limit exceeded." }),
        None,
    );
    office.comes_to(&office.queue("slow", &[]), "deferred");
    let slow = line();
    for part in [
        "2 wait",
        "sandbox: paused, 2 wait, tried again in ",
        "slow: 432 4.3.2",
    ] {
        assert!(slow.contains(part), "{part}: {slow}");
    }
    office.sandbox.mend_tokens();
    let held = office.queue("held", &[]);
    office.run(&["hold", &held], 0);
    assert!(
        line().contains("2 wait") && line().contains("1 held"),
        "{}",
        line()
    );

    // The server goes away altogether.
    office.faults("smtp_connect", &json!("close"), None);
    let flushed = office.run(&["flush", "--now"], 75);
    says(&flushed, &["sandbox waits until", "away: "]);
    let away = line();
    for part in [
        "2 wait",
        "1 held",
        "sandbox: paused, 2 wait, tried again in ",
        "away: ",
    ] {
        assert!(away.contains(part), "{part}: {away}");
    }
    office.sandbox.mend_tokens();
    says(&office.run(&["flush", "--now"], 0), &["2 delivered"]);
    until("the pause is over", || {
        line().starts_with("nothing waits, 1 held").then_some(())
    });
    let asked = office.home.json(["status"]);
    let states = &asked["queue"]["accounts"]["sandbox"]["states"];
    assert_eq!(states["held"], 1, "{asked}");
    // What waits no more because it was given up is no good news.
    office.fault("smtp_message", &json!({ "reply": "554 5.6.0 No" }));
    office.comes_to(&office.queue("refused", &[]), "failed");
    let failed = line();
    for part in ["1 held, 1 failed", "queue list --state failed` shows"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    let list = office.home.run(["queue", "list"]).expect_status(0);
    assert!(list.stderr.contains("1 failed: --state failed"), "{list:?}");
    daemon.terminate().expect_status(0);
}

#[test]
fn mail_of_an_account_that_is_gone_waits_for_a_person() {
    let office = Office::new();
    let id = office.queue("orphan", &[]);
    let config = hurried(office.sandbox.config()).replace("account.sandbox.", "account.moved.");
    office
        .home
        .configure(&config.replace("[account.sandbox]", "[account.moved]"));
    says(&office.run(&["flush"], 75), &["1 held"]);
    assert_eq!(
        office.state(&id),
        (
            "held".to_owned(),
            "there is no account \"sandbox\"".to_owned()
        )
    );
    assert!(office.sandbox.mail(TO).is_empty());
    office.home.configure(&hurried(office.sandbox.config()));
    office.run(&["release", &id], 0);
    office.run(&["flush"], 0);
    assert_eq!(office.subjects(), ["orphan"]);
}

#[test]
fn each_recipient_has_a_fate_of_its_own() {
    let office = Office::new();
    let others = ["b@contoso.com", "c@contoso.com"];
    let more = ["--to", others[0], "--cc", others[1]];
    let refused = json!({
        "at": "smtp_rcpt", "only_for": others[0], "effect": { "reply": "550 5.1.1 no such mailbox" }, "times": 1,
    });
    let greylisted = json!({
        "at": "smtp_rcpt", "only_for": others[1], "effect": { "reply": "450 4.7.1 come back later" }, "times": 1,
    });
    for fault in [refused, greylisted] {
        office
            .sandbox
            .control("POST", "scenario/fault", Some(&fault));
    }
    let id = office.queue("to all", &more);
    let flushed = office.run(&["flush"], 69);
    says(&flushed, &["delivered", "1 failed", "1 deferred"]);
    let shown = office.show(&id);
    let states = |shown: &Value| {
        let recipients = shown["recipients"].as_array().unwrap().iter();
        let state = |one: &Value| one["state"].as_str().unwrap().to_owned();
        recipients.map(state).collect::<Vec<_>>()
    };
    assert_eq!(
        states(&shown),
        ["delivered", "failed", "deferred"],
        "{shown}"
    );
    says(
        &office.run(&["list"], 0),
        &["1 deferred, 1 delivered, 1 failed", "+2", "450 4.7.1"],
    );
    office.run(&["flush", "--now"], 0);
    assert_eq!(
        states(&office.show(&id)),
        ["delivered", "failed", "delivered"]
    );
    for (mailbox, messages) in [(TO, 1), (others[0], 0), (others[1], 1)] {
        assert_eq!(office.sandbox.mail(mailbox).len(), messages, "{mailbox}");
    }
}

#[test]
fn many_at_work_on_one_queue_send_nothing_twice() {
    let office = Office::new();
    for number in 0..40 {
        office.queue(&format!("message {number}"), &[]);
    }
    let daemon = Daemon::begin(&mut office.home.postrider(["serve"]), &office.home);
    let flushes = (0..4).map(|_| office.home.postrider(["queue", "flush"]));
    for member in all_at_once(flushes.collect()) {
        // Whoever finds all places taken may leave without having sent anything.
        let status = member.ended.status;
        assert!([0, 75].contains(&status), "{:?}", member.ended);
    }
    until("all is done", || {
        let list = office.home.json(["queue", "list"]);
        list.as_array().unwrap().is_empty().then_some(())
    });
    daemon.told("READY=1");
    daemon.terminate().expect_status(0);
    let arrivals = office.arrivals();
    assert_eq!(arrivals.len(), 40);
    assert!(arrivals.values().all(|times| *times == 1), "{arrivals:?}");
    // Nor did the server see a fourth session of theirs at once.
    let log = office.sandbox.control("GET", "log", None);
    let entries = log["entries"].as_array().unwrap().iter();
    let refused: Vec<_> = entries
        .filter(|entry| entry["outcome"] == "refused")
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    // And each is one message with one field of that name.
    let mail = office.sandbox.mail(TO);
    let subjects: BTreeSet<_> = mail
        .iter()
        .map(|path| field(&read_to_string(path), "Subject"))
        .collect();
    assert_eq!(subjects.len(), 40);
}
