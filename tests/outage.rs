//! Twelve hours of a provider that is out of order in every way, and nobody at the keyboard.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::clock::Later;
use support::worlds::{signed_in_at_the_sandbox, troubles};
use support::{Ended, run};

/// How often a timer runs `postrider rotate`.
const STEP: Duration = Duration::from_mins(10);
const OUTAGE: Duration = Duration::from_hours(12);
/// The longest that an attempt may take, by default.
const ATTEMPT: Duration = Duration::from_secs(30);
/// What `EX_TEMPFAIL` of sysexits(3) says: try again later.
const LATER: i32 = 75;

#[test]
fn a_login_outlives_twelve_hours_of_a_broken_provider_and_mail_resumes_by_itself() {
    let Some((sandbox, home, mut later)) = signed_in_at_the_sandbox() else {
        return;
    };
    let first = home.token("sandbox-person");
    let at = |later: &Later, arguments: &[&str]| -> Ended {
        run(later.tell(&mut home.postrider(arguments.iter().copied())))
    };
    let send = [
        "send",
        "--account",
        "sandbox-person",
        "--to",
        "admin@contoso.com",
        "--subject",
        "the disk",
        "--text",
        "is full",
    ];

    let mut trouble = troubles().into_iter().cycle();
    let mut refused = 0;
    while later.offset() < OUTAGE {
        let (name, effect) = trouble.next().unwrap();
        sandbox.break_tokens(effect);
        later.pass(STEP);

        let rotated = at(&later, &["rotate", "sandbox-person"]);
        let token = at(&later, &["token", "sandbox-person"]);
        if later.offset() < Duration::from_mins(59) {
            assert_eq!(token.status, 0, "{name}: {token:?}");
            assert_eq!(token.token(), first, "{name}");
        } else {
            // Of all these, only one could as well be the account's own mistake.
            let status = if name == "invalid_request" { 77 } else { LATER };
            assert_eq!(token.status, status, "{name}: {token:?}");
            assert_eq!(rotated.status, status, "{name}: {rotated:?}");
            assert!(token.stdout.is_empty(), "{name}: {token:?}");
            refused += 1;
        }
        for ended in [&rotated, &token] {
            let mut said = [&ended.stdout, &ended.stderr].into_iter();
            let calls_for_somebody = said.any(|said| said.contains("postrider login"));
            assert!(!calls_for_somebody, "{name}: {ended:?}");
        }
    }
    assert!(refused > 60);
    let mail = at(&later, &send);
    assert_ne!(mail.status, 0, "{mail:?}");
    assert!(sandbox.mail("admin@contoso.com").is_empty(), "{mail:?}");

    sandbox.mend_tokens();
    // The longest a provider may ask to be left alone, and the longest pause between attempts.
    later.pass(Duration::from_hours(1));

    at(&later, &send).expect_status(0);
    assert_eq!(sandbox.mail("admin@contoso.com").len(), 1);
    let decided = sandbox.token_log();
    let good = decided.iter().filter(|entry| entry["outcome"] == "done");
    assert_eq!(good.count(), 2, "the sign-in and one refresh: {decided:?}");
}

#[test]
fn a_provider_that_hangs_keeps_nobody_waiting_while_there_is_a_token() {
    let Some((sandbox, home, mut later)) = signed_in_at_the_sandbox() else {
        return;
    };
    let token = home.token("sandbox-person");
    // Due, with some minutes to live.
    later.pass(Duration::from_mins(50));
    sandbox.break_tokens("hang".into());

    let mut asking = home.postrider(["token", "sandbox-person"]);
    let began = Instant::now();
    let mut asking = later
        .tell(&mut asking)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut printed = BufReader::new(asking.stdout.take().unwrap());
    printed.read_line(&mut line).unwrap();

    assert_eq!(line.trim_end(), token);
    assert!(began.elapsed() < ATTEMPT / 2, "{:?}", began.elapsed());
    // The attempt that it began is not broken off: the provider may have heard it.
    assert!(asking.wait().unwrap().success());
    assert!(began.elapsed() < ATTEMPT * 2, "{:?}", began.elapsed());
}
