//! `postrider login`: a person signs in, once.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use postrider_auth::LoginMethod;

use super::output::{Output, complain};
use crate::app::{Account, App, AppSettings, Connected, Verified};
use crate::failure::Failure;
use crate::terminal::{Person, Way, cancelled};
use crate::when;

/// The longest that is waited for a person; a device code lives for fifteen minutes.
const PATIENCE: Duration = Duration::from_mins(20);

/// Who signs in, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider login alerts                 opens your browser
  postrider login alerts --paste         the browser is on another machine than this one
  postrider login alerts --device-code   type a code on another device; some tenants forbid it
  postrider login shared --signed-in-as ann@contoso.com
                                         ann may use the shared mailbox that the account sends from

What comes back is verified before it is kept: the permissions granted, who signed in, and that it
lasts. If anything is amiss, an earlier sign-in stays as it was.")]
pub(super) struct Arguments {
    /// The account's name
    account: String,
    /// Show a code to be entered on another device
    #[arg(long, group = "way")]
    device_code: bool,
    /// Read the address that a browser on another machine ended at
    #[arg(long, group = "way")]
    paste: bool,
    /// Only print the address to open on this machine
    #[arg(long, group = "way")]
    no_browser: bool,
    /// Who is to sign in [default: the account's `username`]
    #[arg(long, value_name = "USER")]
    signed_in_as: Option<String>,
    /// How long to wait, at most 20m
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = patience)]
    timeout: Duration,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let person = Arc::new(Person::new(if arguments.paste {
        Way::Paste
    } else if arguments.no_browser {
        Way::Show
    } else {
        Way::Browser
    }));
    let app = App::open_for(settings, Arc::clone(&person) as _)?;
    let account = app.account(&arguments.account).await?;
    let grant = account.check_login()?;
    // Nobody signs in for nothing: what cannot be kept is said before.
    let vault = app.vault().clone();
    tokio::task::spawn_blocking(move || vault.check_room(grant.as_ref()))
        .await
        .map_err(|_| Failure::new("internal", "opening the vault was interrupted"))??;
    let method = if arguments.device_code {
        LoginMethod::DeviceCode
    } else if arguments.paste || arguments.no_browser {
        LoginMethod::Browser
    } else {
        account.login_method()
    };
    let meant = arguments.signed_in_as.as_deref();
    complain(&format!(
        "Account \"{}\": sign in as {}.\n",
        account.settings().name,
        meant.unwrap_or(&account.settings().username)
    ));

    let outcome = match sign_in(&account, &person, method, meant, arguments.timeout).await {
        // From here on nothing is broken off: what was verified is kept.
        Ok(verified) => verified.keep().await,
        Err(failure) => Err(failure),
    };
    match &outcome {
        Ok(connected) => {
            show(connected, &person, output);
            app.let_mail_go_on(&arguments.account).await;
        }
        Err(failure) => tell_failure(failure, &person),
    }
    drop(account);
    app.close().await;
    outcome.map(|_| ExitCode::SUCCESS)
}

/// Until somebody has signed in, the time is up, or Ctrl-C.
pub(super) async fn sign_in<'a>(
    account: &'a Account,
    person: &Person,
    method: LoginMethod,
    meant: Option<&str>,
    patience: Duration,
) -> Result<Verified<'a>, Failure> {
    let name = &account.settings().name;
    tokio::select! {
        outcome = account.login(method, meant) => {
            outcome.map_err(|failure| match person.take_trouble() {
                // The plugin only heard that the person did not answer.
                Some(trouble) => trouble.with_account(name),
                None => failure,
            })
        }
        () = tokio::time::sleep(patience) => {
            Err(account.login_timed_out(&format!("nobody signed in within {}", when::span(patience))))
        }
        _ = tokio::signal::ctrl_c() => Err(cancelled().with_account(name)),
    }
}

/// In the browser: it went well.
pub(super) fn tell(connected: &Connected, person: &Person) {
    let who = who(connected);
    person.tell(
        "Signed in",
        &[
            &format!("Account \"{}\" is connected as {who}.", connected.account),
            "You may close this window.",
        ],
    );
}

/// In the browser: it did not, and why.
pub(super) fn tell_failure(failure: &Failure, person: &Person) {
    let mut said = vec![sentence(&failure.message)];
    said.extend(
        failure
            .remedy
            .as_deref()
            .map(|remedy| sentence(&format!("to do: {remedy}"))),
    );
    said.push("You may close this window.".to_owned());
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    person.tell("Not signed in", &said);
}

fn who(connected: &Connected) -> &String {
    connected
        .signed_in
        .as_ref()
        .and_then(|person| person.usernames.first())
        .unwrap_or(&connected.username)
}

fn show(connected: &Connected, person: &Person, output: &Output) {
    let who = who(connected);
    tell(connected, person);
    output.json(connected);
    for warning in &connected.warnings {
        complain(&format!("warning: {warning}"));
    }
    output.line(format!(
        "Account \"{}\" is {}.",
        connected.account,
        output.good("connected")
    ));
    output.line(format!("  mailbox    {}", connected.username));
    if !connected.sender.contains(&connected.username) {
        output.line(format!("  sends as   {}", connected.sender));
    }
    if let Some(signed_in) = &connected.signed_in {
        let name = signed_in
            .name
            .as_ref()
            .map_or_else(String::new, |name| format!(" ({})", one_line(name)));
        output.line(format!("  signed in  {}{name}", one_line(who)));
    }
    let ids = connected
        .signed_in
        .as_ref()
        .and_then(|person| person.tenant.as_ref());
    match (&connected.tenant, ids) {
        (Some(tenant), Some(id)) if tenant != id => {
            output.line(format!("  tenant     {tenant} ({})", one_line(id)));
        }
        (Some(tenant), _) | (None, Some(tenant)) => {
            output.line(format!("  tenant     {}", one_line(tenant)));
        }
        (None, None) => {}
    }
    output.line(match connected.lapses_at {
        Some(at) => format!(
            "  lapses     {} if nothing uses it; `postrider rotate --all`, run daily, does",
            when::day(at)
        ),
        None => "  lapses     when the provider ends it: it does not say when".to_owned(),
    });
    output.line(format!(
        "\nNext: postrider account test {}",
        connected.account
    ));
}

/// Without what a terminal would obey.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

fn patience(text: &str) -> Result<Duration, String> {
    super::duration(text).and_then(|patience| {
        if (Duration::from_secs(1)..=PATIENCE).contains(&patience) {
            Ok(patience)
        } else {
            Err("between 1s and 20m".to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_has_bounds() {
        assert_eq!(patience("5m"), Ok(Duration::from_mins(5)));
        for wrong in ["0s", "21m", "soon", "5"] {
            assert!(patience(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sentence_begins_large_and_ends() {
        assert_eq!(sentence("état: done"), "État: done.");
        assert_eq!(sentence("so it ends."), "So it ends.");
    }
}
