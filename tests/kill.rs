//! `kill -9` at every step of a refresh, and what the next process finds.
//!
//! The steps are those that the binary itself passes (`POSTRIDER_CRASH_LOG`), so that none is
//! forgotten: those of the keeper, and those of each file that the vault writes between them.
//! Only one thing can be lost: with refresh tokens for one use, the answer that had not reached
//! the disk. That is said for what it is, and nothing more is asked of the provider until
//! somebody signs in.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::Value;
use support::browser::Browser;
use support::clock::Later;
use support::home::Home;
use support::sandbox::PERSON;
use support::worlds::{at_the_openid_provider, at_the_sandbox, one_time_refresh_tokens};
use support::{run, skip};

/// What the next process finds after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A grant that works.
    Fresh,
    /// That the answer was lost, and that somebody has to sign in.
    LostRotation,
}
use Found::{Fresh, LostRotation};

/// After a crash at this step of the keeper: how many requests the provider has seen, and what
/// the next process finds if refresh tokens are for one use. If they are not, all is fresh.
const STEPS: [(&str, usize, Found); 8] = [
    ("keeper.after_lock", 0, Fresh),
    ("keeper.after_reread", 0, Fresh),
    ("keeper.after_intent", 0, Fresh),
    ("keeper.before_request", 0, Fresh),
    ("keeper.after_response", 1, LostRotation),
    ("keeper.after_persist", 1, Fresh),
    ("keeper.after_publish", 1, Fresh),
    ("keeper.before_unlock", 1, Fresh),
];

/// A provider, as far as it counts here.
struct Provider<'a> {
    /// Whether its refresh tokens are for one use.
    one_use: bool,
    /// The outcome of each token request so far: "granted" or another.
    outcomes: &'a dyn Fn() -> Vec<String>,
}

/// Kills a forced rotation at each of its steps.
fn kill_at_every_step(home: &Home, account: &str, browser: &mut Browser, provider: &Provider) {
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(reason) => return skip(&reason),
    };
    // Longer than an access token lives.
    later.pass(Duration::from_hours(1));
    let sign_in = |browser: &mut Browser| {
        let (login, _) = home.login(account, browser, PERSON);
        login.expect_status(0);
    };
    sign_in(browser);
    let steps = steps_of_a_rotation(home, account);
    let mut lost = 0;

    for (step, requests, found) in expectations(&steps) {
        let found = if provider.one_use { found } else { Fresh };
        let before = (provider.outcomes)().len();

        let mut rotate = home.postrider(["rotate", account, "--force"]);
        let killed = run(rotate.env("POSTRIDER_CRASH_AT", &step));
        assert_eq!(killed.signal, Some(9), "{step}: {killed:?}");
        let seen = (provider.outcomes)().len() - before;
        assert_eq!(seen, requests, "{step}: requests before the crash");

        match found {
            Fresh => {
                let token = home.token(account);
                assert!(!token.is_empty(), "{step}");
                let rotated = home.run(["rotate", account, "--force"]);
                assert_eq!(rotated.status, 0, "{step}: {rotated:?}");
                assert_eq!(standing(home, account)["state"], "fresh", "{step}");
                let outcomes = (provider.outcomes)();
                let granted = outcomes[before..].iter().all(|one| one == "granted");
                assert!(granted, "{step}: {outcomes:?}");
            }
            LostRotation => {
                let rotated = home.run(["rotate", account, "--force"]);
                assert_eq!(rotated.status, 77, "{step}: {rotated:?}");
                let now = standing(home, account);
                assert_eq!(now["state"], "reauthorization_required", "{step}: {now}");
                assert_eq!(now["reason"], "lost_rotation", "{step}: {now}");
                // The superseded refresh token was shown once, and never again.
                let asked = (provider.outcomes)().len();
                assert_eq!(asked, before + 2, "{step}");
                let command = format!("postrider login {account}");
                for part in [&command, "a refresh was cut short"] {
                    assert!(rotated.stderr.contains(part), "{step}: {rotated:?}");
                }
                assert!(!rotated.stderr.contains("revoked"), "{step}: {rotated:?}");
                // The old access token serves while it lives; then somebody is called for.
                home.token(account);
                let said = run(later.tell(&mut home.postrider(["token", account])));
                assert_eq!(said.status, 77, "{step}: {said:?}");
                assert!(said.stderr.contains(&command), "{step}: {said:?}");
                assert_eq!((provider.outcomes)().len(), asked, "{step}");
                sign_in(browser);
                assert_eq!(standing(home, account)["state"], "fresh", "{step}");
            }
        }
        lost += usize::from(found == LostRotation);
    }
    let _ = writeln!(
        io::stderr(),
        "killed at each of {} steps, refresh tokens for one use: {}; fresh {}, lost {lost}",
        steps.len(),
        provider.one_use,
        steps.len() - lost,
    );
}

/// The steps that a forced rotation passes, in order, each with the how-manieth of its name.
fn steps_of_a_rotation(home: &Home, account: &str) -> Vec<String> {
    let log = home.path().join("steps");
    let mut rotate = home.postrider(["rotate", account, "--force"]);
    run(rotate.env("POSTRIDER_CRASH_LOG", &log)).expect_status(0);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let passed = fs::read_to_string(&log).unwrap();
    let steps = passed.lines().map(|name| {
        let time = times.entry(name.to_owned()).or_default();
        *time += 1;
        format!("{name}:{time}")
    });
    steps.collect()
}

/// What is expected after a crash at each step: at the keeper's own as [`STEPS`] says; at the
/// vault's as at the keeper's last step, save that an answer is safe as soon as the record that
/// holds it stands in its place.
fn expectations(steps: &[String]) -> Vec<(String, usize, Found)> {
    let mut keepers = STEPS.iter();
    let mut last = (0, Fresh);
    let mut expected = Vec::new();
    for step in steps {
        let (name, _) = step.rsplit_once(':').unwrap();
        if name.starts_with("keeper.") {
            let (known, requests, found) = keepers.next().expect("a step that is not known");
            assert_eq!(name, *known, "{steps:?}");
            last = (*requests, *found);
        } else if name == "vault.put.record.placed" {
            last.1 = Fresh;
        }
        expected.push((step.clone(), last.0, last.1));
    }
    assert!(keepers.next().is_none(), "a step is missing: {steps:?}");
    expected
}

/// The account's entry in `postrider account list`.
fn standing(home: &Home, account: &str) -> Value {
    let list = home.json(["account", "list"]);
    let mut entries = list.as_array().unwrap().iter();
    let entry = entries.find(|entry| entry["name"] == account);
    entry.unwrap().clone()
}

#[test]
fn a_refresh_killed_at_any_step_ends_fresh_or_lost_where_refresh_tokens_are_for_one_use() {
    let all = at_the_sandbox("authorization_code", one_time_refresh_tokens);
    let (sandbox, home, mut browser) = match all {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    // Unlike Microsoft 365, whose refresh tokens stay good.
    let rotation = "[account.sandbox-person.rotation]\nreuse_grace = \"0s\"\n";
    home.configure(&format!("{}\n{rotation}", sandbox.config()));
    let provider = Provider {
        one_use: true,
        outcomes: &|| sandbox.token_outcomes(),
    };

    kill_at_every_step(&home, "sandbox-person", &mut browser, &provider);
}

#[test]
fn a_refresh_killed_at_any_step_ends_fresh_where_refresh_tokens_stay_good() {
    let all = at_the_sandbox("authorization_code", |_| {});
    let (sandbox, home, mut browser) = match all {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    let provider = Provider {
        one_use: false,
        outcomes: &|| sandbox.token_outcomes(),
    };

    kill_at_every_step(&home, "sandbox-person", &mut browser, &provider);
}

#[test]
fn a_refresh_killed_at_any_step_ends_fresh_or_lost_at_a_certified_provider() {
    let (provider, home, mut browser) = match at_the_openid_provider("authorization_code") {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    let provider = Provider {
        one_use: true,
        outcomes: &|| provider.token_outcomes(),
    };

    kill_at_every_step(&home, "openid", &mut browser, &provider);
}

#[test]
fn an_answer_lost_on_the_way_is_asked_for_once_more() {
    let all = at_the_sandbox("authorization_code", |_| {});
    let (sandbox, home, mut browser) = match all {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    let account = "sandbox-person";
    let rotate = || home.run(["rotate", account, "--force"]);
    let (login, _) = home.login(account, &mut browser, PERSON);
    login.expect_status(0);

    // Where refresh tokens stay good, nothing is lost.
    sandbox.break_tokens("lose_reply".into());
    rotate().expect_status(75);
    sandbox.mend_tokens();
    rotate().expect_status(0);
    assert_eq!(standing(&home, account)["state"], "fresh");

    // Where they are for one use, that answer was the only one.
    let patch = serde_json::json!({ "tokens": { "rotation": "strict" } });
    sandbox.control("PATCH", "scenario", Some(&patch));
    let rotation = "[account.sandbox-person.rotation]\nreuse_grace = \"0s\"\n";
    home.configure(&format!("{}\n{rotation}", sandbox.config()));
    rotate().expect_status(0);
    sandbox.break_tokens("lose_reply".into());
    rotate().expect_status(75);
    sandbox.mend_tokens();
    rotate().expect_status(77);
    assert_eq!(standing(&home, account)["reason"], "lost_rotation");
}
