//! `postrider plugin list|inspect`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use crate::app::AppSettings;
use crate::app::plugins::{self, Plugins};
use crate::failure::Failure;

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the plugins that were found, and where
    List,
    /// Load a plugin and show what it says of itself
    #[command(after_help = "\
Examples:
  postrider plugin inspect oauth
  postrider plugin inspect /opt/plugins/libpostrider_metadata.so --json

Loading a file runs its code. A path is only loaded when its SHA-256 is pinned under
[plugins.pins]; the message names the line to add.")]
    Inspect {
        /// A plugin's name, or the path of its file
        plugin: PathBuf,
    },
}

pub(super) fn run(
    command: Command,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let plugins = Plugins::open(settings)?;
    match command {
        Command::List => {
            let found = plugins.list();
            output.json(
                &found
                    .iter()
                    .map(|plugin| {
                        json!({
                            "name": plugin.name,
                            "path": plugin.path,
                            "shipped": plugin.shipped,
                        })
                    })
                    .collect::<Vec<_>>(),
            );
            let rows: Vec<Vec<String>> = found
                .iter()
                .map(|plugin| {
                    vec![
                        plugin.name.clone(),
                        if plugin.shipped { "shipped" } else { "added" }.to_owned(),
                        plugin.path.display().to_string(),
                    ]
                })
                .collect();
            output.table(
                &["NAME", "ORIGIN", "FILE"],
                &rows,
                "no plugins found: they lie beside the program, or in [plugins] dirs",
            );
        }
        Command::Inspect { plugin } => {
            let loaded = plugins.inspect(&plugin)?;
            let description = loaded.description();
            output.json(&json!({
                "path": loaded.path(),
                "sha256": loaded.sha256(),
                "shipped": loaded.shipped(),
                "description": description,
            }));
            output.line(format!(
                "{} {}  {}",
                description.name, description.version, description.summary
            ));
            output.line(format!("file        {}", loaded.path().display()));
            output.line(format!("sha256      {}", loaded.sha256()));
            output.line(format!("mechanisms  {}", description.mechanisms.join(", ")));
            output.line(format!("hosts       {}", description.hosts.join(", ")));
            output.line("settings");
            for setting in plugins::settings_of(description) {
                output.line(format!(
                    "  {:<30} {}",
                    setting.name,
                    if setting.secret {
                        format!("(secret) {}", setting.doc)
                    } else {
                        setting.doc
                    }
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
