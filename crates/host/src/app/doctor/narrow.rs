//! From what every stage saw to the cause: a refusal that the server does not explain (`535
//! 5.7.3`, facts A2) is explained by what else is wrong, the likeliest first.

use postrider_auth::AuthError;

use super::claims::{Claims, permission, shown};
use super::directory;
use super::report::{DoctorStage, EXCHANGE, Finding, MICROSOFT, StageResult};
use super::wire::Wire;
use crate::app::account::Account;

/// What was seen.
pub(super) struct Seen<'a> {
    /// The stages so far; the others join them here.
    pub(super) stages: &'a mut Vec<DoctorStage>,
    /// What the token lacks, should it be refused.
    pub(super) lack: Option<Finding>,
    pub(super) graph: Vec<directory::Seen>,
    pub(super) wire: Wire,
    pub(super) claims: Option<&'a Claims>,
}

/// The reply that says nothing of its cause.
const SAYS_NOTHING: &str = "5.7.3";

/// Brings the stages together: what was only suspected is the cause if the server refuses, a
/// remark if it was not reached, and nothing if it is content.
pub(super) fn narrow(account: &Account, seen: Seen<'_>) {
    let Seen {
        stages,
        lack,
        graph,
        wire,
        claims,
    } = seen;
    let microsoft = account.setting("authority").is_some();
    let refused = wire.refused && microsoft && says_nothing(&wire.stages);
    let went = |stages: &[DoctorStage], name: &str, result| {
        stages
            .iter()
            .any(|stage| stage.name == name && stage.result == result)
    };
    let accepted = went(&wire.stages, "auth", StageResult::Ok);
    let no_token = went(stages, "token", StageResult::Failed);
    let claimed = stages.iter_mut().find(|stage| stage.name == "claims");
    if let (Some(finding), Some(stage)) = (lack, claimed)
        && !accepted
    {
        promote(stage, finding, refused);
    }
    for directory::Seen { mut stage, suspect } in graph {
        if let Some(finding) = suspect {
            if finding.code.starts_with("auth.client_secret") {
                if no_token {
                    promote(&mut stage, finding, true);
                }
            } else if !accepted {
                promote(&mut stage, finding, refused);
            }
        }
        stages.push(stage);
    }
    let mut walked = wire.stages;
    if refused && let Some(auth) = walked.iter_mut().find(|stage| stage.name == "auth") {
        explain(account, auth, stages, claims);
    }
    stages.extend(walked);
}

/// Says `finding` of the stage: as its failure, or as a remark.
fn promote(stage: &mut DoctorStage, finding: Finding, refused: bool) {
    stage.result = if refused {
        StageResult::Failed
    } else {
        StageResult::Warning
    };
    stage.failure = Some(finding);
}

fn says_nothing(stages: &[DoctorStage]) -> bool {
    let auth = stages.iter().find(|stage| stage.name == "auth");
    let smtp = auth.and_then(|stage| stage.failure.as_ref()?.smtp.as_ref());
    smtp.is_some_and(|smtp| smtp.code == 535 && smtp.enhanced.as_deref() == Some(SAYS_NOTHING))
}

/// Why the server refused a token, by what the other stages found and what is left.
fn explain(
    account: &Account,
    auth: &mut DoctorStage,
    stages: &[DoctorStage],
    claims: Option<&Claims>,
) {
    let found: Vec<&DoctorStage> = stages
        .iter()
        .filter(|stage| {
            stage.result == StageResult::Failed
                && (stage.name == "claims" || stage.name.starts_with("graph_"))
        })
        .collect();
    let smtp = auth.failure.take().and_then(|failure| failure.smtp);
    let mut left = left_over(account, claims, stages);
    let mut finding = match found.first().and_then(|stage| stage.failure.clone()) {
        Some(mut finding) => {
            finding.cause = format!("the server refused the token: {}", finding.cause);
            // What is certain leaves no room for guesses.
            left.clear();
            finding.others = found[1..]
                .iter()
                .filter_map(|stage| stage.failure.clone())
                .collect();
            finding
        }
        None if left.is_empty() => return,
        None => left.remove(0),
    };
    finding.others.append(&mut left);
    finding.smtp = smtp;
    auth.failure = Some(finding);
}

/// What remains where token and directory look right, the likelier first.
fn left_over(account: &Account, claims: Option<&Claims>, stages: &[DoctorStage]) -> Vec<Finding> {
    let settings = account.settings();
    let username = &settings.username;
    let client_id = account.setting("client_id").unwrap_or_default();
    let mut left = Vec::new();
    if account.needs_person() {
        left.push(Finding::new(
            "auth.mailbox_refuses",
            format!(
                "the token is right, and Exchange does not take it for {username}: the mailbox is \
                 new, without a licence, or not in Exchange Online"
            ),
            format!(
                "in Exchange Online PowerShell see whether it is there: Get-CASMailbox -Identity \
                 {username} | fl SmtpClientAuthenticationDisabled"
            ),
            EXCHANGE,
        ));
    } else {
        let object = claims.and_then(|claims| claims.oid.as_deref()).map_or_else(
            || "OBJECT-ID-OF-THE-ENTERPRISE-APPLICATION".to_owned(),
            shown,
        );
        let wanted = permission(true);
        left.push(Finding::new(
            "auth.app_not_in_exchange",
            format!(
                "the token is right and carries {wanted}: Exchange does not know the application, \
                 or has given it no right to the mailbox {username}"
            ),
            format!(
                "in Exchange Online PowerShell: New-ServicePrincipal -AppId {client_id} -ObjectId \
                 {object}; then Add-MailboxPermission -Identity {username} -User {object} \
                 -AccessRights FullAccess"
            ),
            EXCHANGE,
        ));
        let looked = stages
            .iter()
            .any(|stage| stage.name == "graph_licence" && stage.result != StageResult::Skipped);
        if !looked {
            left.push(Finding::new(
                "auth.licence_missing",
                format!("{username} may have no licence with Exchange Online, and so no mailbox"),
                format!(
                    "look with an administrator's rights: postrider doctor {} --admin",
                    settings.name
                ),
                super::report::ENTRA,
            ));
        }
    }
    left.push(
        Finding::new(
            "auth.not_yet",
            "what was granted or assigned lately has not reached the mail server yet",
            "wait up to two hours, then run the doctor again",
            MICROSOFT,
        )
        .passing(),
    );
    left
}

/// What the sign-in service said, in a line.
pub(super) fn one_line(error: &AuthError) -> String {
    let text = error.oauth_description.as_deref().unwrap_or(&error.message);
    let text = text.split(" Trace ID").next().unwrap_or(text);
    text.split(['\r', '\n'])
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}
