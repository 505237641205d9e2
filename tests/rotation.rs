//! Tokens that look after themselves, whoever asks and however many: real processes, a clock
//! moved forward for them, and a provider that counts.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::clock::Later;
use support::crowd::{Member, all_at_once};
use support::home::Home;
use support::sandbox::{PERSON, Sandbox};
use support::worlds::{at_the_openid_provider, signed_in_at_the_sandbox};
use support::{run, skip};

/// How many ask at the same moment.
const PROCESSES: usize = 50;
/// How long the provider takes, so that everybody arrives while it does.
const REQUEST: Duration = Duration::from_secs(2);
/// All processes together have this machine's processors, and a debug build is slow: what is
/// measured is printed, and only what no machine excuses fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs `postrider token ACCOUNT` fifty times at once; gives the one token that all print.
fn everybody_asks(home: &Home, account: &str, later: &Later) -> (String, Vec<Member>) {
    let commands = (0..PROCESSES).map(|_| {
        let mut command = home.postrider(["token", account]);
        later.tell(&mut command);
        command
    });
    let crowd = all_at_once(commands.collect());
    for member in &crowd {
        assert_eq!(member.ended.status, 0, "{member:?}");
    }
    let tokens: BTreeSet<_> = crowd.iter().map(|member| member.ended.token()).collect();
    assert_eq!(tokens.len(), 1, "everybody has the same token");
    (tokens.first().unwrap().to_string(), crowd)
}

/// Prints what each process took beyond the one request, which was answered at `answered`.
fn report(name: &str, crowd: &[Member], answered: SystemTime) {
    let slowest = crowd.iter().map(|member| member.wall).max().unwrap();
    let mut cpu: Vec<_> = crowd.iter().map(|member| member.cpu).collect();
    cpu.sort();
    let after = |member: &Member| {
        let after = member.ended_at.duration_since(answered);
        after.unwrap_or_default().as_millis()
    };
    let mut after: Vec<_> = crowd.iter().map(after).collect();
    after.sort_unstable();
    let line = format!(
        "{name}: {} processes, one request of {} ms; the slowest process took {} ms; they ended \
         after the answer: first {} ms, median {} ms, last {} ms; processor time of each: median \
         {} ms, at most {} ms",
        crowd.len(),
        REQUEST.as_millis(),
        slowest.as_millis(),
        after[0],
        after[after.len() / 2],
        after[after.len() - 1],
        cpu[cpu.len() / 2].as_millis(),
        cpu[cpu.len() - 1].as_millis(),
    );
    let _ = writeln!(io::stderr(), "{line}");
    assert!(slowest < REQUEST + PATIENCE, "{line}");
    assert!(cpu[cpu.len() / 2] < Duration::from_secs(2), "{line}");
}

#[test]
fn fifty_processes_at_the_moment_of_expiry_cause_one_request() {
    let Some((sandbox, home, mut later)) = signed_in_at_the_sandbox() else {
        return;
    };
    let before = home.token("sandbox-person");
    later.pass(Duration::from_hours(1));
    sandbox.break_tokens(json!({ "delay": "2s" }));
    sandbox.count_from_zero();

    let (token, crowd) = everybody_asks(&home, "sandbox-person", &later);

    assert_ne!(token, before);
    assert_eq!(sandbox.token_requests(), 1, "{:?}", sandbox.token_log());
    let answered = sandbox.token_log().last().unwrap()["at"].clone();
    let answered: jiff::Timestamp = answered.as_str().unwrap().parse().unwrap();
    report("at the sandbox", &crowd, answered.into());

    // The mail server takes it, without another request.
    let mut send = home.postrider([
        "send",
        "--account",
        "sandbox-person",
        "--to",
        "admin@contoso.com",
        "--subject",
        "still here",
        "--text",
        "…",
    ]);
    run(later.tell(&mut send)).expect_status(0);
    assert_eq!(sandbox.mail("admin@contoso.com").len(), 1);
    assert_eq!(sandbox.token_requests(), 1);
}

#[test]
fn fifty_processes_share_a_refresh_token_for_one_use_at_a_certified_provider() {
    let all = at_the_openid_provider("authorization_code");
    let ((provider, home, mut browser), mut later) = match (all, Later::new()) {
        (Ok(all), Ok(later)) => (all, later),
        (Err(reason), _) | (_, Err(reason)) => return skip(&reason),
    };
    home.login("openid", &mut browser, PERSON)
        .0
        .expect_status(0);
    later.pass(Duration::from_mins(10));
    provider.fault(&json!({ "delay_ms": REQUEST.as_millis() }));
    let before = provider.token_requests();

    let (token, crowd) = everybody_asks(&home, "openid", &later);

    let log = provider.token_log();
    assert_eq!(provider.token_requests(), before + 1, "{log:?}");
    let last = log.last().unwrap();
    assert_eq!(last["outcome"], "granted");
    assert_eq!(last["issued"][0], token.as_str());
    let answered = Duration::from_millis(last["at"].as_u64().unwrap());
    report("at oidc-provider", &crowd, UNIX_EPOCH + answered);
}

/// `number` mailboxes of one tenant, which one application sends for.
fn mailboxes(sandbox: &Sandbox, number: usize) -> (Home, Vec<String>) {
    let (_, account) = sandbox.config().split_once("[account.sandbox]").unwrap();
    let (account, _) = account.split_once("[account.sandbox-person]").unwrap();
    let mut config = String::new();
    let names: Vec<_> = (0..number).map(|n| format!("mailbox-{n}")).collect();
    for name in &names {
        let account = account
            .replace("account.sandbox.", &format!("account.{name}."))
            .replace("svc-mail@", &format!("{name}@"));
        let _ = writeln!(config, "[account.{name}]{account}");
    }
    let mut home = Home::new(&config);
    home.set(sandbox.client_secret());
    (home, names)
}

#[test]
fn all_mailboxes_of_a_tenant_cost_one_token_request() {
    let sandbox = Sandbox::start();
    let (home, names) = mailboxes(&sandbox, 200);

    let rotated = home.json(["rotate", "--all"]);
    assert_eq!(sandbox.token_requests(), 1, "{:?}", sandbox.token_log());
    for name in &names {
        assert!(rotated.to_string().contains(name.as_str()), "{rotated}");
    }
    home.run(["rotate", "--all"]).expect_status(0);
    assert_eq!(sandbox.token_requests(), 1, "nothing was due");
    home.run(["rotate", "--all", "--force"]).expect_status(0);
    assert_eq!(sandbox.token_requests(), 2, "{:?}", sandbox.token_log());

    let list = home.json(["account", "list"]);
    let fresh = |entry: &&Value| entry["state"] == "fresh";
    let fresh = list.as_array().unwrap().iter().filter(fresh);
    assert_eq!(fresh.count(), names.len());
}

#[test]
fn processes_for_different_mailboxes_of_a_tenant_cause_one_request() {
    let mut later = match Later::new() {
        Ok(later) => later,
        Err(reason) => return skip(&reason),
    };
    let sandbox = Sandbox::start();
    let (home, names) = mailboxes(&sandbox, 20);
    home.run(["token", &names[0]]).expect_status(0);
    // Past the longest life of an access token.
    later.pass(Duration::from_mins(90));
    sandbox.break_tokens(json!({ "delay": "1s" }));
    sandbox.count_from_zero();

    let commands = names.iter().map(|name| {
        let mut command = home.postrider(["token", name]);
        later.tell(&mut command);
        command
    });
    let crowd = all_at_once(commands.collect());

    let tokens: BTreeSet<_> = crowd.iter().map(|member| member.ended.token()).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(sandbox.token_requests(), 1, "{:?}", sandbox.token_log());
}
