//! `postrider explain`: anything pasted, explained without asking anybody.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use serde_json::Value;
use support::home::Home;
use support::{run, run_with};

const REPLY: &str = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled \
                     for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.";

fn home() -> Home {
    Home::new(
        r#"
[account.alerts]
provider = "microsoft365"
username = "svc-mail@contoso.com"

[account.alerts.auth]
plugin = "oauth"
flow = "authorization_code"
tenant = "contoso.onmicrosoft.com"
client_id = "11111111-2222-3333-4444-555555555555"
"#,
    )
}

#[test]
fn a_reply_is_explained_with_the_accounts_own_names() {
    let home = home();
    let ended =
        run(&mut home.postrider(["explain", "--account", "alerts", REPLY])).expect_status(0);

    let command =
        "Set-CASMailbox -Identity svc-mail@contoso.com -SmtpClientAuthenticationDisabled $false";
    assert!(ended.stdout.contains(command), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("who: an Exchange administrator"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("auth.smtp_disabled_mailbox"),
        "{}",
        ended.stdout
    );
}

#[test]
fn words_need_no_quotes_and_no_configuration() {
    let home = Home::new("this is = no TOML at all [");
    let arguments = "explain 535 5.7.3 Authentication unsuccessful".split(' ');
    let ended = run(&mut home.postrider(arguments)).expect_status(0);

    assert!(
        ended.stdout.contains("auth.token_refused"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_bounce_comes_in_by_the_pipe_and_goes_out_as_json() {
    let bounce = "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 <x@example.org>: \
                  Recipient address rejected:\n    User unknown in virtual mailbox table\n";
    for arguments in [&["explain", "--json"][..], &["explain", "--json", "-"]] {
        let home = home();
        let ended =
            run_with(&mut home.postrider(arguments.iter().copied()), bounce).expect_status(0);
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();

        assert_eq!(answer["known"], true);
        assert_eq!(answer["found"].as_array().unwrap().len(), 1, "{answer}");
        let found = &answer["found"][0];
        assert_eq!(found["code"], "smtp.unknown_recipient");
        assert_eq!(found["kind"], "smtp");
        assert_eq!(found["verdict"], "permanent");
        assert!(found["source"].is_string());
    }
}

#[test]
fn what_is_not_known_is_shown_and_called_so() {
    let home = home();
    let said = "550 5.7.999 go\u{1b}[31m away, Bearer eyJhbGciOiJub25lIn0.eyJhIjoiYiJ9.c2ln";
    let ended = run(&mut home.postrider(["explain", said])).expect_status(1);

    assert!(
        ended.stdout.contains("not in the catalogue"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("550 5.7.999 go\\u{1b}[31m away"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("eyJ"), "{}", ended.stdout);

    let nothing = run(&mut home.postrider(["explain", "good morning"])).expect_status(1);
    assert!(
        nothing.stdout.contains("nothing in this text"),
        "{}",
        nothing.stdout
    );
}

#[test]
fn an_account_that_is_not_there_is_said() {
    let home = home();
    let ended =
        run(&mut home.postrider(["explain", "--account", "alert", REPLY])).expect_status(78);

    assert!(
        ended.stderr.contains("did you mean \"alerts\"?"),
        "{}",
        ended.stderr
    );
}
