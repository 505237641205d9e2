//! `postrider doctor`: what stands between an account and a sent message, and between a device and
//! its gateway.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use postrider_auth::LoginMethod;
use postrider_config::Gateway;
use serde::Serialize;

use super::gateway::chosen;
use super::host::Host;
use super::output::Output;
use crate::app::doctor::{Around, Daemon, GatewayReport, accounts_behind};
use crate::app::{
    App, AppSettings, DoctorOptions, DoctorReport, DoctorStage, Finding, StageResult,
};
use crate::control::work::{self, CheckRequest};
use crate::control::{Client, Trouble};
use crate::failure::{Failure, exit};
use crate::terminal::{Person, Way};

/// Finds out why an account does not send or a device cannot, and who can put it right.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider doctor                       every account and gateway, the configuration and the vault
  postrider doctor alerts                one account, as far as MAIL FROM
  postrider doctor alerts --send-test    and a real message to its test_recipient
  postrider doctor alerts --admin        with an administrator's rights: licence, consent, secret
  postrider doctor --gateway office      why a device cannot send: one gateway, and its accounts
  postrider doctor --offline             only what needs no network
  postrider doctor alerts --json | jq -r '.accounts[].stages[] | select(.result == \"failed\")'

The first line names the cause. Below it stands every stage with what was seen; under one that
failed: why, what to do, who can do it, and whether waiting helps. Nothing is sent without
--send-test, and no token or secret is ever shown.

Exit status: 0 nothing is wrong, else that of the first failure: 69 a server is not there or refused,
75 later may do, 77 the credential was refused, 78 configuration.")]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(super) struct Arguments {
    /// The account's name [default: all, and the gateways]
    account: Option<String>,
    /// Only this gateway, and the accounts behind it
    #[arg(long, value_name = "NAME", conflicts_with = "account")]
    gateway: Option<String>,
    /// Send a test message when all is well
    #[arg(long, conflicts_with = "offline")]
    send_test: bool,
    /// Who gets it [default: the account's `test_recipient`]
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "send_test",
        requires = "account"
    )]
    to: Option<String>,
    /// Sign an administrator in, to look up licence, consent and secret
    #[arg(long, conflicts_with = "offline", requires = "account")]
    admin: bool,
    /// How the administrator signs in
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "browser",
        requires = "admin"
    )]
    admin_login: AdminLogin,
    /// A public client of the tenant's own for that, in place of Microsoft's command-line one
    #[arg(long, value_name = "ID", requires = "admin")]
    admin_client_id: Option<String>,
    /// Only what needs no network
    #[arg(long)]
    offline: bool,
}

/// How an administrator signs in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AdminLogin {
    /// In a browser on this machine
    Browser,
    /// With a code, in a browser anywhere
    DeviceCode,
    /// In a browser anywhere; its address is pasted here
    Paste,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Answer {
    ok: bool,
    /// The cause in one line, of the first account or gateway that has one.
    verdict: String,
    /// What concerns no account: configuration and vault.
    general: Vec<DoctorStage>,
    accounts: Vec<DoctorReport>,
    gateways: Vec<GatewayReport>,
}

pub(super) async fn run(
    arguments: Arguments,
    settings: AppSettings,
    alone: bool,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let config = match App::open(&settings) {
        Ok(app) => app,
        Err(failure) => return unreadable(&failure, output),
    };
    let gateways: Vec<&Gateway> = match (&arguments.account, &arguments.gateway) {
        (Some(_), _) => Vec::new(),
        (None, Some(name)) => vec![chosen(&config, Some(name))?],
        (None, None) => config.config().gateways.values().collect(),
    };
    let names: Vec<String> = match (&arguments.account, &arguments.gateway) {
        (Some(name), _) => vec![account(&config, name)?],
        (None, Some(_)) => {
            let behind = gateways.iter().copied().flat_map(accounts_behind);
            behind.map(str::to_owned).collect()
        }
        (None, None) => config
            .accounts()
            .iter()
            .map(|one| one.name.clone())
            .collect(),
    };
    let general = general(&config).await;
    let mut accounts = Vec::new();
    if arguments.admin {
        accounts.push(with_administrator(&arguments, &names[0], &settings).await?);
    } else {
        let host = Host::find(settings.clone(), alone).await;
        for name in &names {
            let looked = look(&arguments, name, &host).await;
            match looked {
                Ok(report) => accounts.push(report),
                Err(failure) => {
                    host.close().await;
                    return Err(failure);
                }
            }
        }
        host.close().await;
    }
    let mut reports = Vec::new();
    if !gateways.is_empty() {
        let around = Around {
            daemon: &daemon(&settings, alone).await,
            accounts: &accounts,
            offline: arguments.offline,
        };
        for gateway in gateways {
            reports.push(config.doctor_gateway(gateway, &around).await);
        }
    }
    config.close().await;
    Ok(tell(general, accounts, reports, output))
}

/// The account that is meant. A gateway's name is none, but what was meant is clear.
fn account(app: &App, name: &str) -> Result<String, Failure> {
    let found = app.settings_of(name).map(|account| account.name.clone());
    found.map_err(|failure| {
        if app.config().gateways.contains_key(name) {
            failure.with_remedy(format!(
                "it is a gateway: postrider doctor --gateway {name}"
            ))
        } else {
            failure
        }
    })
}

/// Prints everything that was found; the exit status is that of the first failure.
fn tell(
    general: Vec<DoctorStage>,
    accounts: Vec<DoctorReport>,
    gateways: Vec<GatewayReport>,
    output: &Output,
) -> ExitCode {
    let broken = general.iter().find_map(|stage| stage.failure.clone());
    let ill = accounts.iter().find(|report| !report.ok);
    let closed = gateways.iter().find(|report| !report.ok);
    let answer = Answer {
        ok: broken.is_none() && ill.is_none() && closed.is_none(),
        verdict: match (&broken, ill, closed) {
            (Some(failure), ..) => failure.cause.clone(),
            (None, Some(report), _) => format!("{}: {}", report.account, report.verdict),
            (None, None, Some(report)) => format!("{}: {}", report.gateway, report.verdict),
            (None, None, None) if accounts.is_empty() => "there are no accounts".to_owned(),
            (None, None, None) => "nothing is wrong".to_owned(),
        },
        general,
        accounts,
        gateways,
    };
    output.json(&answer);
    // Whoever reads this wants the cause first.
    for stage in &answer.general {
        if stage.failure.is_some() {
            print_stage(stage, output);
        }
    }
    for (number, report) in answer.accounts.iter().enumerate() {
        if number > 0 {
            output.line("");
        }
        print(report, output);
    }
    if answer.accounts.is_empty() {
        output.line("no accounts: postrider setup makes one");
    }
    for report in &answer.gateways {
        output.line("");
        let title = format!("gateway {}", report.gateway);
        print_all(
            &title,
            &report.verdict,
            report.failure(),
            &report.stages,
            output,
        );
    }
    if let Some(failure) = broken {
        return ExitCode::from(failure.exit_code());
    }
    match answer.gateways.iter().find_map(GatewayReport::failure) {
        Some(failure) if answer.accounts.iter().all(|report| report.ok) => {
            ExitCode::from(failure.exit_code())
        }
        _ => exit_code(&answer.accounts),
    }
}

/// How the daemon stands.
async fn daemon(settings: &AppSettings, alone: bool) -> Daemon {
    if alone {
        return Daemon::NotAsked;
    }
    match Client::look(settings).await {
        Ok(client) => match client.status().await {
            Ok(standing) => Daemon::Runs(Box::new(standing.status)),
            Err(Trouble::NotDone(why)) => Daemon::Silent(why),
            Err(Trouble::Failed(failure)) => Daemon::Silent(failure.message),
        },
        Err(None) => Daemon::Absent,
        Err(Some(why)) => Daemon::Silent(why),
    }
}

/// A configuration that cannot be read is what is wrong.
fn unreadable(failure: &Failure, output: &Output) -> Result<ExitCode, Failure> {
    if !output.is_json() {
        return Err(failure.clone());
    }
    let finding = Finding::from(failure.clone());
    let verdict = format!("config failed: {}", finding.cause);
    let code = finding.exit_code();
    output.json(&Answer {
        ok: false,
        verdict,
        general: vec![DoctorStage {
            name: "config".into(),
            result: StageResult::Failed,
            elapsed_ms: 0,
            evidence: failure.at.clone().unwrap_or_default(),
            failure: Some(finding),
        }],
        accounts: Vec::new(),
        gateways: Vec::new(),
    });
    Ok(ExitCode::from(code))
}

/// Configuration and vault.
async fn general(app: &App) -> Vec<DoctorStage> {
    let file = app.config_path().map_or_else(
        || "no configuration file was found".to_owned(),
        |path| path.display().to_string(),
    );
    let began = Instant::now();
    let vault = work::vault_problem(app).await.map(Finding::from);
    let stage =
        |name: &'static str, elapsed: Duration, evidence: String, failure: Option<Finding>| {
            DoctorStage {
                name: name.into(),
                result: if failure.is_some() {
                    StageResult::Failed
                } else {
                    StageResult::Ok
                },
                elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                evidence,
                failure,
            }
        };
    let said = if vault.is_some() {
        ""
    } else {
        "readable, or not made yet"
    };
    vec![
        stage("config", Duration::ZERO, file, None),
        stage("vault", began.elapsed(), said.to_owned(), vault),
    ]
}

async fn look(arguments: &Arguments, name: &str, host: &Host) -> Result<DoctorReport, Failure> {
    let request = CheckRequest {
        send: arguments.send_test,
        to: arguments.to.clone(),
        offline: arguments.offline,
    };
    let answer = host.check(name, &request).await?;
    let Some(recipient) = answer.recipient.filter(|_| answer.check.ok) else {
        return Ok(answer.check);
    };
    let began = Instant::now();
    let sent = host.send_test(name, &recipient).await;
    Ok(answer
        .check
        .with_message(&recipient, sent.as_ref(), began.elapsed()))
}

/// In this process alone: a daemon has nobody who could sign in.
async fn with_administrator(
    arguments: &Arguments,
    name: &str,
    settings: &AppSettings,
) -> Result<DoctorReport, Failure> {
    let person = Person::new(match arguments.admin_login {
        AdminLogin::Paste => Way::Paste,
        AdminLogin::Browser | AdminLogin::DeviceCode => Way::Browser,
    });
    let app = App::open_for(settings, Arc::new(person))?;
    let method = match arguments.admin_login {
        AdminLogin::DeviceCode => LoginMethod::DeviceCode,
        AdminLogin::Browser | AdminLogin::Paste => LoginMethod::Browser,
    };
    let looked = async {
        let client_id = arguments.admin_client_id.as_deref();
        let admin = app.doctors_administrator(name, method, client_id).await?;
        let options = DoctorOptions {
            admin: Some(&admin),
            ..DoctorOptions::default()
        };
        let report = app.doctor(name, &options).await?;
        if !arguments.send_test || !report.ok {
            return Ok(report);
        }
        let account = app.account(name).await?;
        let recipient = account.test_recipient(arguments.to.as_deref())?;
        let began = Instant::now();
        let sent = account.send_test(&recipient).await;
        Ok(report.with_message(&recipient.to_string(), sent.as_ref(), began.elapsed()))
    }
    .await;
    app.close().await;
    looked
}

/// The report for people: the cause first, then every stage.
pub(super) fn print(report: &DoctorReport, output: &Output) {
    let (account, verdict) = (&report.account, &report.verdict);
    print_all(account, verdict, report.failure(), &report.stages, output);
}

fn print_all(
    title: &str,
    verdict: &str,
    failure: Option<&Finding>,
    stages: &[DoctorStage],
    output: &Output,
) {
    let mark = match failure {
        Some(_) => output.bad("failed"),
        None => output.good("ok"),
    };
    output.line(format!("{title}: {mark}: {verdict}"));
    if let Some(failure) = failure {
        print_advice(failure, "  ", output);
    }
    output.line("");
    for stage in stages {
        print_stage(stage, output);
    }
}

fn print_stage(stage: &DoctorStage, output: &Output) {
    let mark = match stage.result {
        StageResult::Ok => output.good("ok     "),
        StageResult::Failed => output.bad("failed "),
        StageResult::Warning => output.bad("warning"),
        StageResult::Skipped => output.faint("—      "),
    };
    let line = format!("{mark} {:<13} {}", stage.name, stage.evidence);
    output.line(line.trim_end());
    let Some(failure) = &stage.failure else {
        return;
    };
    output.line(format!("        why: {}", failure.cause));
    print_advice(failure, "        ", output);
    for other in &failure.others {
        output.line(format!("        or: {}", other.cause));
        print_advice(other, "          ", output);
    }
}

fn print_advice(failure: &Finding, indent: &str, output: &Output) {
    if !failure.remedy.is_empty() {
        output.line(format!("{indent}try: {}", failure.remedy));
    }
    let waiting = if failure.retryable {
        "waiting may help"
    } else {
        "waiting does not help"
    };
    output.line(format!("{indent}who: {}; {waiting}", failure.who));
}

/// The exit status of these reports: that of the first failure.
pub(super) fn exit_code<'a>(reports: impl IntoIterator<Item = &'a DoctorReport>) -> ExitCode {
    let ill = reports.into_iter().find(|report| !report.ok);
    ill.map_or(ExitCode::SUCCESS, |report| {
        let code = report
            .failure()
            .map_or(exit::UNAVAILABLE, Finding::exit_code);
        ExitCode::from(code)
    })
}
