//! `postrider check`: configuration and scripts, without a connection, and without running one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use postrider_config::Scripts;
use postrider_lua_api::{Finding, Validators};
use postrider_schedule::{Cron, time_zone};
use serde_json::json;

use super::output::Output;
use super::settings::settings;
use crate::app::{App, AppSettings, gateway};
use crate::failure::Failure;
use crate::lua;

/// What to check.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is run: names, fields, events, durations and cron expressions are read off the script. A
line of Lua that is right all the same is left alone with a comment: -- postrider: ignore

Examples:
  postrider check                      the configuration with its plugins, and its scripts
  postrider check notify.lua           the configuration, and this script instead
  postrider check /etc/postrider       and every *.lua below this directory
  postrider --config new.toml check    before it replaces the old one

Exit status: 0 nothing is wrong, 65 a script has a mistake, 66 there is none, 78 the configuration
has a mistake.")]
pub(super) struct Arguments {
    /// Lua scripts, and directories with them [default: those of the configuration's [scripts]]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(
    arguments: &Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let app = App::open(settings)?;
    let accounts = app.accounts();
    let accounts = accounts.iter().map(|account| app.check_settings(account));
    let gateways = app.config().gateways.values();
    let gateways = gateways.map(|gateway| gateway::check(gateway, &app, settings));
    let problems: Vec<Failure> = accounts.chain(gateways).filter_map(Result::err).collect();
    let own = arguments.files.is_empty();
    let files = if own {
        configured(&app.config().scripts.scripts)?
    } else {
        let mut files = Vec::new();
        for file in &arguments.files {
            collect(file, &mut files)?;
        }
        if files.is_empty() {
            let places: Vec<String> = arguments
                .files
                .iter()
                .map(|place| place.display().to_string())
                .collect();
            let why = format!("there is no *.lua in {}", places.join(", "));
            return Err(Failure::new("file.unreadable", why));
        }
        files
    };
    // Other scripts may be for another machine, with other accounts.
    let accounts: Option<Vec<String>> = own.then(|| {
        app.accounts()
            .iter()
            .map(|account| account.name.clone())
            .collect()
    });
    let mut found = Vec::new();
    for file in &files {
        for finding in findings(file, accounts.as_deref())? {
            found.push((file, finding));
        }
    }

    output.json(&json!({
        "ok": problems.is_empty() && found.is_empty(),
        "config": app.config_path(),
        "accounts": app.accounts().len(),
        "gateways": app.config().gateways.len(),
        "scripts": files,
        "problems": problems,
        "findings": found.iter().map(|(file, finding)| json!({
            "file": file,
            "line": finding.line,
            "column": finding.column,
            "code": finding.code,
            "message": finding.message,
            "suggestion": finding.suggestion,
        })).collect::<Vec<_>>(),
    }));
    for problem in &problems {
        output.line(problem.to_string());
    }
    for (file, finding) in &found {
        output.line(format!("{}:{finding}", file.display()));
    }
    if let Some(worst) = problems.first() {
        return Ok(ExitCode::from(worst.exit_code()));
    }
    if let Some((_, finding)) = found.first() {
        return Ok(ExitCode::from(Failure::new(finding.code, "").exit_code()));
    }
    let Some(config) = app.config_path().map(|path| path.display().to_string()) else {
        output.line(match count(files.len(), "script") {
            Some(scripts) => format!("{scripts}: {}", output.good("no problems")),
            None => "no configuration file, and no script is named: nothing was checked".to_owned(),
        });
        return Ok(ExitCode::SUCCESS);
    };
    let seen = [
        count(app.accounts().len(), "account"),
        count(app.config().gateways.len(), "gateway"),
        count(files.len(), "script"),
        Some(output.good("no problems")),
    ];
    let seen: Vec<String> = seen.into_iter().flatten().collect();
    output.line(format!("{config}: {}", seen.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the script in `file`.
fn findings(file: &Path, accounts: Option<&[String]>) -> Result<Vec<Finding>, Failure> {
    let octets = fs::read(file).map_err(|error| unreadable(file, &error))?;
    let source = String::from_utf8_lossy(&octets);
    let zones: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect();
    let validators = Validators {
        duration: &|text| postrider_config::parse_duration(text).is_some(),
        cron: &|text| {
            Cron::parse(text)
                .map(drop)
                .map_err(|error| error.to_string())
        },
        zone: &|text| time_zone(text).is_ok(),
        zones: &zones,
        time: &|text| text.parse::<jiff::Timestamp>().is_ok(),
        accounts,
        settings: &settings(),
    };
    let mut findings = postrider_lua_api::check(&source, &validators);
    // Lua's own compiler has the last word on what is Lua: `goto` without its label, too many
    // locals.
    if !findings
        .iter()
        .any(|finding| finding.code == "script.syntax")
        && let Err(error) = lua::check(file)
    {
        findings.insert(0, compiler(&error.failure));
    }
    Ok(findings)
}

/// What Lua's compiler says: `file.lua:3: no visible label 'x' for goto`.
fn compiler(failure: &Failure) -> Finding {
    let line = failure
        .at
        .as_deref()
        .and_then(|at| at.rsplit(':').next())
        .and_then(|line| line.parse().ok());
    Finding {
        line: line.unwrap_or(1),
        column: 1,
        code: "script.syntax",
        message: failure.message.clone(),
        suggestion: None,
    }
}

/// The scripts that the configuration names.
fn configured(scripts: &Scripts) -> Result<Vec<PathBuf>, Failure> {
    match scripts {
        Scripts::None => Ok(Vec::new()),
        Scripts::Files(files) => Ok(files.clone()),
        Scripts::Dir(directory) => {
            let mut files = Vec::new();
            collect(directory, &mut files)?;
            Ok(files)
        }
    }
}

/// A file, or every `*.lua` below a directory, by name; not what is hidden, such as the
/// definitions for editors, nor what lies behind links to directories.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut left = vec![path.to_owned()];
    let mut found = Vec::new();
    while let Some(next) = left.pop() {
        let is_named = next == path;
        let kind = if is_named {
            fs::metadata(&next)
        } else {
            fs::symlink_metadata(&next)
        };
        if kind.map_err(|error| unreadable(&next, &error))?.is_dir() {
            for entry in fs::read_dir(&next).map_err(|error| unreadable(&next, &error))? {
                let entry = entry.map_err(|error| unreadable(&next, &error))?;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    left.push(entry.path());
                }
            }
        } else if is_named || next.extension().is_some_and(|extension| extension == "lua") {
            found.push(next);
        }
    }
    found.sort();
    files.append(&mut found);
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        "file.unreadable",
        format!("cannot read {}: {error}", path.display()),
    )
}

/// `2 accounts`; nothing for none.
fn count(number: usize, what: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    }
}
