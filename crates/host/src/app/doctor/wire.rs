//! The way to the mail server: name, connection, TLS, capabilities, sign-in, sender.

use std::time::Duration;

use postrider_smtp::{SendError, SendErrorKind, Stage, StageDetail, StageReport, TlsFailure, tls};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::inspect;
use super::report::{DoctorStage, Finding, NETWORK, StageResult, YOU};
use crate::app::account::Account;
use crate::app::bridge::auth_error;
use crate::app::failures;

/// How long a resolver may take.
const RESOLVING: Duration = Duration::from_secs(15);
/// A certificate that ends sooner is worth a word.
const SOON: Duration = Duration::from_hours(14 * 24);
/// The most addresses that are shown.
const SHOWN: usize = 4;

/// The stages of the dialogue, and which a SMTP session's are part of.
const STAGES: [&str; 6] = ["dns", "tcp", "tls", "ehlo", "auth", "sender"];

fn name(error: &SendError) -> &'static str {
    match (error.stage, &*error.kind) {
        (_, SendErrorKind::Dns(_)) => "dns",
        (Stage::Connect | Stage::Greeting, _) => "tcp",
        (Stage::StartTls | Stage::Tls, _) | (_, SendErrorKind::NotOffered("STARTTLS")) => "tls",
        (Stage::Ehlo, _) => "ehlo",
        (Stage::Auth, _) => "auth",
        _ => "sender",
    }
}

/// What the way to the server showed.
pub(super) struct Wire {
    pub(super) stages: Vec<DoctorStage>,
    /// Whether the server was reached and refused the credential that it was shown.
    pub(super) refused: bool,
}

/// Goes the whole way; sends nothing.
pub(super) async fn walk(account: &Account) -> Wire {
    let mut stages = vec![resolve(account).await];
    if stages[0].result == StageResult::Failed {
        let why = "the server's name has no address";
        stages.extend(
            STAGES[1..]
                .iter()
                .map(|name| DoctorStage::skipped(name, why)),
        );
        return Wire {
            stages,
            refused: false,
        };
    }
    let reports = account.pool.check(&account.settings().sender.email).await;
    let mut refused = false;
    for report in &reports {
        match &report.outcome {
            Ok(seen) => passed(account, &mut stages, report, seen),
            Err(error) => {
                refused = matches!(&*error.kind, SendErrorKind::Auth { .. });
                failed(account, &mut stages, report, error).await;
            }
        }
    }
    let last = stages
        .iter()
        .find(|stage| stage.result == StageResult::Failed);
    let why = last.map_or_else(
        || "the dialogue does not have it".to_owned(),
        |stage| format!("{} failed", stage.name),
    );
    for name in STAGES {
        if !stages.iter().any(|stage| stage.name == name) {
            stages.push(DoctorStage::skipped(name, &*why));
        }
    }
    Wire { stages, refused }
}

/// The server's addresses.
async fn resolve(account: &Account) -> DoctorStage {
    let server = &account.settings().server;
    let began = Instant::now();
    let looked = timeout(RESOLVING, lookup_host((server.host.as_str(), server.port))).await;
    let elapsed = began.elapsed();
    let why = match looked {
        Ok(Ok(addresses)) => {
            let all: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            if !all.is_empty() {
                let more = all.len().saturating_sub(SHOWN);
                let mut evidence =
                    format!("{} is {}", server.host, all[..all.len() - more].join(", "));
                if more > 0 {
                    evidence = format!("{evidence} and {more} more");
                }
                return DoctorStage::ok("dns", elapsed, evidence);
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!(
            "the resolver did not answer within {} s",
            RESOLVING.as_secs()
        ),
    };
    let finding = Finding::new(
        "network.dns",
        format!(
            "the mail server's name {} was not resolved: {why}",
            server.host
        ),
        format!(
            "check account.{}.server.host for a slip, and this machine's resolver: getent hosts {}",
            account.settings().name,
            server.host
        ),
        YOU,
    );
    DoctorStage::failed("dns", elapsed, why, finding.passing())
}

fn passed(
    account: &Account,
    stages: &mut Vec<DoctorStage>,
    report: &StageReport,
    seen: &StageDetail,
) {
    let elapsed = report.elapsed;
    let (name, evidence) = match (report.stage, seen) {
        (_, StageDetail::Connected { peer }) => ("tcp", peer.to_string()),
        (_, StageDetail::Offers(capabilities)) => ("ehlo", capabilities.lines.join(", ")),
        (_, StageDetail::Secured(session)) => {
            put(stages, secured(account, session, elapsed));
            return;
        }
        (_, StageDetail::Authenticated { mechanism, reply }) => (
            "auth",
            format!("{mechanism}: {}", failures::reply_line(reply)),
        ),
        (Stage::Greeting, StageDetail::Said(reply)) => ("tcp", failures::reply_line(reply)),
        (Stage::MailFrom, StageDetail::Said(reply)) => ("sender", failures::reply_line(reply)),
        _ => return,
    };
    put(stages, DoctorStage::ok(name, elapsed, evidence));
}

/// Adds a stage; one that the dialogue goes through twice (`EHLO` before and after TLS) or in
/// two steps (the connection and its greeting) is one stage.
fn put(stages: &mut Vec<DoctorStage>, mut stage: DoctorStage) {
    if let Some(index) = stages.iter().position(|earlier| earlier.name == stage.name) {
        let earlier = stages.remove(index);
        stage.elapsed_ms += earlier.elapsed_ms;
        if stage.name == "tcp" && !earlier.evidence.is_empty() {
            stage.evidence = format!("{}, {}", earlier.evidence, stage.evidence);
        }
    }
    stages.push(stage);
}

fn secured(account: &Account, session: &tls::Session, elapsed: Duration) -> DoctorStage {
    let day = session
        .expires
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
        .map_or_else(String::new, |at| format!(", expires {}", at.strftime("%F")));
    let evidence = format!(
        "{}, {}, certificate {} issued by {}{day}",
        session.version, session.cipher, session.subject, session.issuer
    );
    let left = session
        .expires
        .and_then(|at| at.duration_since(account.now()).ok());
    match left {
        Some(left) if left < SOON => {
            let finding = Finding::new(
                "tls.expires_soon",
                format!(
                    "the mail server's certificate expires in {}",
                    crate::when::span(left)
                ),
                "have it renewed",
                "the mail server's administrator",
            );
            DoctorStage::warning("tls", elapsed, evidence, finding)
        }
        _ => DoctorStage::ok("tls", elapsed, evidence),
    }
}

async fn failed(
    account: &Account,
    stages: &mut Vec<DoctorStage>,
    report: &StageReport,
    error: &SendError,
) {
    let stage = name(error);
    // Said by the stage of the token, where it happened.
    if let SendErrorKind::Sasl(sasl) = &*error.kind
        && auth_error(sasl).is_some()
        && account.uses_tokens()
    {
        stages.push(DoctorStage::skipped("auth", "there is no token"));
        return;
    }
    let sender = account.settings().sender.email.as_ref();
    let mut finding = Finding::from(account.send_failure(sender, error));
    let mut evidence = error.kind.to_string();
    if let SendErrorKind::Tls(
        reason @ (TlsFailure::UnknownAuthority
        | TlsFailure::WrongName { .. }
        | TlsFailure::Expired
        | TlsFailure::NotYetValid
        | TlsFailure::AuthorityAsServer),
    ) = &*error.kind
        && let Some(presented) = inspect::certificate(account).await
    {
        evidence = presented.to_string();
        if matches!(reason, TlsFailure::UnknownAuthority) {
            finding = presented.untrusted(account.settings());
        }
    }
    match (error.stage, &*error.kind) {
        (Stage::Connect, SendErrorKind::Timeout(_)) => finding = dropped(account),
        (Stage::Greeting, SendErrorKind::Timeout(after)) => finding = silent(account, *after),
        _ => {}
    }
    if let Some(reply) = error.reply() {
        evidence = failures::reply_line(reply);
    }
    if let Some(earlier) = stages.iter().position(|one| one.name == stage) {
        stages.remove(earlier);
    }
    stages.push(DoctorStage::failed(
        stage,
        report.elapsed,
        evidence,
        finding,
    ));
}

/// Who is not even refused meets a firewall, as a rule.
fn dropped(account: &Account) -> Finding {
    let server = &account.settings().server;
    let (host, port) = (&server.host, server.port);
    Finding::new(
        "network.blocked",
        format!(
            "nothing answers at {host}:{port}: connections to that port are dropped on the way"
        ),
        format!(
            "have outgoing TCP to {host} port {port} allowed in this machine's firewall and the \
             network's (some providers of servers open it on request only); check the port"
        ),
        NETWORK,
    )
}

/// Who is let in and hears nothing may be at the wrong port, or behind something that holds
/// connections; a server that is slow is the rarest.
fn silent(account: &Account, after: Duration) -> Finding {
    let server = &account.settings().server;
    let (host, port) = (&server.host, server.port);
    Finding::new(
        "network.timeout",
        format!(
            "{host}:{port} took the connection and sent no greeting within {} s",
            after.as_secs()
        ),
        "check the port (587 speaks starttls, 465 implicit TLS); see whether a firewall, a proxy \
         or an antivirus on the way holds the connection; otherwise try again later",
        NETWORK,
    )
    .passing()
}
