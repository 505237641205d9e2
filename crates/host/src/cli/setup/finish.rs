//! The end of setting an account up: a person signs in where one is needed, every step up to
//! the server is checked, and a test message is sent.

use std::time::Duration;

use postrider_auth::LoginMethod;
use serde::Serialize;

use crate::app::{Account, App, Connected, DoctorOptions, DoctorReport, SendOutcome};
use crate::cli::doctor::print as print_report;
use crate::cli::login;
use crate::cli::output::{Output, complain};
use crate::cli::send::print_receipt;
use crate::failure::{Failure, exit};
use crate::terminal::Person;

/// The longest that is waited for a person.
const PATIENCE: Duration = Duration::from_mins(20);

/// What is left to do once the settings are written.
pub(super) struct Finish<'a> {
    /// The account's name.
    pub(super) account: &'a str,
    /// How a person signs in, unless the account's flow says.
    pub(super) method: Option<LoginMethod>,
    /// Whether to send a test message, if anybody is to get it.
    pub(super) send_test: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Finished {
    /// Who signed in now; nobody where nobody had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_in: Option<Connected>,
    /// What was checked.
    check: DoctorReport,
    /// What became of the test message.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<SendOutcome>,
}

impl Finished {
    /// 0 if mail can be sent.
    pub(super) fn exit_code(&self) -> u8 {
        match (&self.receipt, self.check.failure()) {
            (Some(receipt), _) => receipt.exit_code(),
            (None, None) if self.check.ok => 0,
            (None, Some(failure)) => failure.exit_code(),
            (None, None) => exit::UNAVAILABLE,
        }
    }
}

/// Signs in, checks and sends, with the settings as they are now.
///
/// # Errors
/// The account cannot be set up, nobody signed in, or the test message was refused.
pub(super) async fn finish(
    app: &App,
    person: &Person,
    wanted: Finish<'_>,
    output: &Output,
) -> Result<Finished, Failure> {
    let account = app.account(wanted.account).await?;
    let signed_in = if must_sign_in(&account).await? {
        Some(sign_in(app, &account, person, wanted.method, output).await?)
    } else {
        None
    };
    output.line("");
    let check = account.doctor(&DoctorOptions::default()).await;
    print_report(&check, output);
    let recipient = account.settings().test_recipient.as_ref();
    let receipt = match recipient.filter(|_| check.ok && wanted.send_test) {
        Some(recipient) => {
            let receipt = account.send_test(recipient).await?;
            print_receipt(&receipt, output);
            Some(receipt)
        }
        None => None,
    };
    Ok(Finished {
        signed_in,
        check,
        receipt,
    })
}

async fn must_sign_in(account: &Account) -> Result<bool, Failure> {
    if !account.needs_person() {
        return Ok(false);
    }
    let standing = account.standing().await?;
    Ok(standing.sign_in_needed || standing.state == "absent")
}

async fn sign_in(
    app: &App,
    account: &Account,
    person: &Person,
    method: Option<LoginMethod>,
    output: &Output,
) -> Result<Connected, Failure> {
    let name = &account.settings().name;
    let grant = account.check_login()?;
    app.vault().check_room(grant.as_ref())?;
    let method = method.unwrap_or_else(|| account.login_method());
    complain(&format!(
        "\nAccount \"{name}\": sign in as {}.\n",
        account.settings().username
    ));
    let verified = login::sign_in(account, person, method, None, PATIENCE).await;
    let connected = match verified {
        Ok(verified) => verified.keep().await,
        Err(failure) => Err(failure),
    };
    match &connected {
        Ok(connected) => {
            login::tell(connected, person);
            for warning in &connected.warnings {
                complain(&format!("warning: {warning}"));
            }
            output.line(format!(
                "Account \"{name}\" is {}.",
                output.good("connected")
            ));
            app.let_mail_go_on(name).await;
        }
        Err(failure) => login::tell_failure(failure, person),
    }
    connected
}
