//! A plan, its carrying out, and what is left for others, as a person reads it.

use postrider_config::edit::Change;
use postrider_setup::{
    Done, Finding, ManualStep, OrphanKind, Plan, Progress, Script, Severity, State, Step,
};
use serde_json::{Value, json};

use super::microsoft365::UNKNOWN_ID;
use crate::cli::output::Output;

/// The plan: where, what was found, what would be done.
pub(super) fn plan(plan: &Plan, output: &Output) {
    let tenant = &plan.tenant;
    let domain = tenant.domains.first().map_or("", String::as_str);
    output.line(format!(
        "Tenant {} ({domain}, {}), signed in as {}",
        tenant.name, tenant.id, plan.signed_in
    ));
    if !plan.findings.is_empty() {
        output.line("\nFound:");
    }
    for finding in &plan.findings {
        self::finding(finding, output);
    }
    output.line("\nIn the tenant:");
    for step in &plan.steps {
        self::step(step, output);
    }
}

fn finding(finding: &Finding, output: &Output) {
    let mark = match finding.severity {
        Severity::Ok => output.good("ok     "),
        Severity::Warn => "note   ".to_owned(),
        Severity::Blocks => output.bad("blocks "),
    };
    output.line(format!("  {mark} {}", finding.text));
    if let Some(cause) = &finding.cause {
        output.line(format!("          {cause}"));
    }
    if let Some(remedy) = &finding.remedy {
        let who = finding
            .who
            .map_or_else(String::new, |who| format!(" ({who})"));
        output.line(format!("          try: {remedy}{who}"));
    }
}

fn step(step: &Step, output: &Output) {
    let (mark, why) = match &step.state {
        State::Exists => (output.faint("exists "), None),
        State::Create => (output.good("create "), Some(step.why.clone())),
        State::Change => (output.good("change "), Some(step.why.clone())),
        State::Cannot { why, who } => (output.bad("cannot "), Some(format!("{why} ({who})"))),
    };
    output.line(format!("  {mark} {}", step.what));
    if let Some(why) = why {
        output.line(output.faint(&format!("          {why}")));
    }
}

/// What would change in the configuration.
pub(super) fn settings(path: &std::path::Path, changes: &[Change], output: &Output) {
    output.line(format!("\nIn {}:", path.display()));
    if changes.is_empty() {
        output.line(format!("  {} the account", output.faint("exists ")));
    }
    for change in changes {
        match change {
            Change::Set { key, value } => leaves(key, value, output),
            Change::Remove { key } => output.line(format!("  {} {key}", output.good("remove "))),
        }
    }
}

/// Each setting on a line. Of secrets there are references only.
fn leaves(key: &str, value: &Value, output: &Output) {
    match value {
        Value::Object(below) if !below.keys().any(|name| name == "vault") => {
            for (name, value) in below {
                leaves(&format!("{key}.{name}"), value, output);
            }
        }
        Value::Object(_) => {
            let name = value["vault"].as_str().unwrap_or_default();
            output.line(format!(
                "  {} {key}, in the vault as {name}",
                output.good("set    ")
            ));
        }
        value if value == UNKNOWN_ID => output.line(format!(
            "  {} {key}, as Entra ID chooses it",
            output.good("set    ")
        )),
        value => output.line(format!("  {} {key} = {value}", output.good("set    "))),
    }
}

/// One step of the plan, as it is taken.
pub(super) fn progress(progress: Progress<'_>, output: &Output) {
    if let Progress::Took(step) = progress {
        let what = match step.state {
            State::Create => "created",
            _ => "changed",
        };
        output.line(format!("  {}  {}", output.good(what), step.what));
    }
}

/// What earlier runs had left and this one removed.
pub(super) fn orphans(done: &Done, output: &Output) {
    for orphan in &done.orphans {
        let kind = match orphan.kind {
            OrphanKind::Application => "the application",
            OrphanKind::Secret => "the client secret",
            OrphanKind::Certificate => "the certificate",
        };
        output.line(format!(
            "  removed  {kind} \"{}\" ({}), which an interrupted run had left",
            orphan.name, orphan.id
        ));
    }
}

/// The lines for Exchange PowerShell.
pub(super) fn power_shell(script: &Script, output: &Output) {
    output.line(
        "\nMicrosoft Graph cannot do the rest: an Exchange administrator runs this, once, in \
         PowerShell.\n",
    );
    for line in &script.lines {
        output.line(output.faint(&format!("# {}", line.comment)));
        output.line(&line.command);
    }
}

/// The portal's steps.
pub(super) fn manual(steps: &[ManualStep], output: &Output) {
    for (index, step) in steps.iter().enumerate() {
        output.line(format!("{:>2}. {}", index + 1, step.title));
        output.line(format!("    {}", step.text));
        for value in &step.values {
            output.line(format!("      {}: {}", value.field, value.value));
        }
    }
}

/// The lines for programs.
pub(super) fn script_json(script: &Script) -> Value {
    let lines = script.lines.iter();
    lines
        .map(|line| json!({ "comment": line.comment, "command": line.command }))
        .collect()
}

/// The keys that change, without their values.
pub(super) fn changes_json(changes: &[Change]) -> Value {
    let keys = changes.iter().map(|change| match change {
        Change::Set { key, .. } => json!({ "set": key }),
        Change::Remove { key } => json!({ "remove": key }),
    });
    keys.collect()
}
