//! What the doctor found, as it is told to people, to programs and to scripts.

use std::borrow::Cow;
use std::time::Duration;

use postrider_diagnose::{Diagnosis, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::SendOutcome;
use crate::failure::{Failure, SmtpFailure};

/// What was found of one account, stage by stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorReport {
    /// The account's name.
    pub account: String,
    /// Whether no stage failed.
    pub ok: bool,
    /// The cause, in one line; or that there is none.
    pub verdict: String,
    /// The stages, in the order of [`STAGES`].
    pub stages: Vec<DoctorStage>,
}

/// The names of the stages, in order.
pub const STAGES: [&str; 17] = [
    "config",
    "secrets",
    "plugin",
    "clock",
    "dns",
    "tcp",
    "tls",
    "ehlo",
    "token",
    "claims",
    "graph_user",
    "graph_licence",
    "graph_consent",
    "graph_secret",
    "auth",
    "sender",
    "message",
];

/// One stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorStage {
    /// Its name, one of [`STAGES`].
    pub name: Cow<'static, str>,
    /// How it went.
    pub result: StageResult,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What was seen; of a stage that was skipped, why.
    pub evidence: String,
    /// What is wrong, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Finding>,
}

/// How a stage went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageResult {
    /// Well.
    Ok,
    /// Not well: mail is not sent, or will not be soon.
    Failed,
    /// Well enough for now.
    Warning,
    /// It was not tried.
    Skipped,
}

/// What is wrong, why, and who can put it right.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// Dotted and stable, such as `auth.token_audience`: what a program matches.
    pub code: String,
    /// Why, one line.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// Who can do it: `you` or somebody else.
    pub who: String,
    /// What follows: `retry`, `reauthorize`, `reconfigure`, `admin` or `permanent`.
    pub verdict: Cow<'static, str>,
    /// Whether waiting alone may help.
    pub retryable: bool,
    /// The server's reply, where one was the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpFailure>,
    /// What else it may be, the likelier first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Finding>,
}

/// Who can put something right.
pub(super) const YOU: &str = "you";
pub(super) const OWNER: &str = "the mailbox's owner";
pub(super) const EXCHANGE: &str = "an Exchange administrator";
pub(super) const ENTRA: &str = "an Entra administrator";
pub(super) const MICROSOFT: &str = "Microsoft";
pub(super) const NETWORK: &str = "whoever runs the network";

impl Finding {
    /// One that waiting does not help.
    pub(super) fn new(
        code: &str,
        cause: impl Into<String>,
        remedy: impl Into<String>,
        who: &str,
    ) -> Self {
        let verdict = match who {
            EXCHANGE | ENTRA => "admin",
            MICROSOFT => "permanent",
            OWNER => "reauthorize",
            _ => "reconfigure",
        };
        Self {
            code: code.to_owned(),
            cause: cause.into(),
            remedy: remedy.into(),
            who: who.to_owned(),
            verdict: verdict.into(),
            retryable: false,
            smtp: None,
            others: Vec::new(),
        }
    }

    /// The same, where time alone may do.
    pub(super) fn passing(mut self) -> Self {
        self.retryable = true;
        self.verdict = "retry".into();
        self
    }

    /// The exit status of `sysexits.h` that fits.
    pub fn exit_code(&self) -> u8 {
        let mut failure = Failure::new(&self.code, "");
        failure.retryable = self.retryable;
        failure.exit_code()
    }
}

impl From<Failure> for Finding {
    fn from(failure: Failure) -> Self {
        let who = failure.who.unwrap_or_else(|| YOU.to_owned());
        let family = failure.code.split('.').next().unwrap_or_default();
        let remedy = failure.remedy.unwrap_or_default();
        let verdict = if failure.retryable {
            "retry"
        } else if remedy.contains("postrider login") {
            "reauthorize"
        } else if who.contains("administrator") {
            "admin"
        } else if matches!(
            family,
            "config" | "secret" | "vault" | "plugin" | "network" | "tls"
        ) || who == YOU && family == "auth"
        {
            "reconfigure"
        } else {
            "permanent"
        };
        // In lists a configuration's report has its file and line.
        let cause = match failure.at {
            Some(at) if family == "config" || family == "secret" => {
                format!("{} (at {at})", failure.message)
            }
            _ => failure.message,
        };
        Self {
            code: failure.code,
            cause,
            remedy,
            who,
            verdict: verdict.into(),
            retryable: failure.retryable,
            smtp: failure.smtp,
            others: Vec::new(),
        }
    }
}

impl From<Diagnosis> for Finding {
    fn from(found: Diagnosis) -> Self {
        Self {
            verdict: match found.verdict {
                Verdict::Retry => "retry",
                Verdict::Reauthorize => "reauthorize",
                Verdict::Reconfigure => "reconfigure",
                Verdict::Admin => "admin",
                Verdict::Permanent => "permanent",
            }
            .into(),
            retryable: found.retryable(),
            code: found.code,
            cause: found.cause,
            remedy: found.remedy,
            who: found.who.to_string(),
            smtp: None,
            others: Vec::new(),
        }
    }
}

impl DoctorStage {
    pub(super) fn new(
        name: &'static str,
        result: StageResult,
        elapsed: Duration,
        evidence: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            result,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            evidence: evidence.into(),
            failure: None,
        }
    }

    pub(super) fn ok(name: &'static str, elapsed: Duration, evidence: impl Into<String>) -> Self {
        Self::new(name, StageResult::Ok, elapsed, evidence)
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, StageResult::Skipped, Duration::ZERO, why)
    }

    pub(super) fn failed(
        name: &'static str,
        elapsed: Duration,
        evidence: impl Into<String>,
        failure: impl Into<Finding>,
    ) -> Self {
        Self {
            failure: Some(failure.into()),
            ..Self::new(name, StageResult::Failed, elapsed, evidence)
        }
    }

    pub(super) fn warning(
        name: &'static str,
        elapsed: Duration,
        evidence: impl Into<String>,
        failure: impl Into<Finding>,
    ) -> Self {
        Self {
            failure: Some(failure.into()),
            ..Self::new(name, StageResult::Warning, elapsed, evidence)
        }
    }
}

/// Whether nothing failed, and the cause in one line: the first stage that did.
pub(super) fn verdict(stages: &[DoctorStage]) -> (bool, String) {
    let failed = |stage: &&DoctorStage| stage.result == StageResult::Failed;
    let first = stages.iter().find(failed);
    let cause = first.and_then(|stage| Some((stage, stage.failure.as_ref()?)));
    let warnings = stages
        .iter()
        .filter(|stage| stage.result == StageResult::Warning)
        .count();
    let verdict = match (cause, warnings) {
        (Some((stage, failure)), _) => format!("{} failed: {}", stage.name, failure.cause),
        (None, 0) => "nothing is wrong".to_owned(),
        (None, 1) => "nothing is wrong; one thing to look at".to_owned(),
        (None, n) => format!("nothing is wrong; {n} things to look at"),
    };
    (first.is_none(), verdict)
}

impl DoctorReport {
    pub(super) fn new(account: &str, mut stages: Vec<DoctorStage>) -> Self {
        let place = |stage: &DoctorStage| STAGES.iter().position(|name| *name == stage.name);
        stages.sort_by_key(|stage| place(stage).unwrap_or(STAGES.len()));
        let (ok, verdict) = verdict(&stages);
        Self {
            account: account.to_owned(),
            ok,
            verdict,
            stages,
        }
    }

    /// The report of an account that is in no configuration any more.
    pub(in crate::app) fn without_account(account: &str, failure: Failure) -> Self {
        let stage = DoctorStage::failed("config", Duration::ZERO, "", failure);
        Self::new(account, vec![stage])
    }

    /// The same with what became of a test message.
    #[must_use]
    pub fn with_message(
        self,
        recipient: &str,
        outcome: Result<&SendOutcome, &Failure>,
        elapsed: Duration,
    ) -> Self {
        const NAME: &str = "message";
        let stage = match outcome {
            Ok(sent) if sent.complete => {
                let evidence = format!("{} to {recipient}: {}", sent.message_id, sent.reply);
                DoctorStage::ok(NAME, elapsed, evidence)
            }
            Ok(sent) => {
                let refused = sent.recipients.iter().find(|one| one.verdict != "accepted");
                let reply = refused.map_or("", |one| one.reply.as_str());
                let remedy = refused.and_then(|one| one.remedy.clone());
                let finding = Finding::new(
                    "smtp.recipient_refused",
                    format!("the server refused {recipient}: {reply}"),
                    remedy.unwrap_or_default(),
                    YOU,
                );
                DoctorStage::failed(NAME, elapsed, reply, finding)
            }
            Err(failure) => {
                let evidence = failure.at.clone().unwrap_or_default();
                DoctorStage::failed(NAME, elapsed, evidence, failure.clone())
            }
        };
        let others = self.stages.into_iter().filter(|one| one.name != NAME);
        Self::new(&self.account, others.chain([stage]).collect())
    }

    /// The first thing that is wrong: the cause.
    pub fn failure(&self) -> Option<&Finding> {
        let failed = |stage: &&DoctorStage| stage.result == StageResult::Failed;
        self.stages.iter().find(failed)?.failure.as_ref()
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&DoctorStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The report as a script gets it.
    pub(in crate::app) fn for_scripts(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
