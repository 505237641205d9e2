//! `postrider types`: what an editor needs to know about the API.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::Output;
use super::settings::settings;
use crate::failure::Failure;

/// Where the definitions go, below the project; `.luarc.json` names it.
const LIBRARY: &str = ".postrider/types";

/// Where to write.
#[derive(Debug, Args)]
#[command(after_help = "\
The Lua language server (LuaLS, in VS Code, Neovim and others) then completes the API, shows its
documentation and marks mistakes; EmmyLua does, too. Write them again after an update of Postrider.

A .luarc.json that is there already is left as it is; what it lacks is printed.

Examples:
  postrider types                  for the scripts in this directory
  postrider types /etc/postrider   for those
  postrider types --stdout         only the definitions")]
pub(super) struct Arguments {
    /// The directory that the editor opens; .luarc.json goes there, the definitions below
    /// .postrider/types
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,

    /// Print the definitions, and write nothing
    #[arg(long)]
    stdout: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<ExitCode, Failure> {
    let stubs = postrider_lua_api::stubs(&settings());
    if arguments.stdout {
        io::stdout()
            .write_all(stubs.as_bytes())
            .map_err(|error| unwritten(Path::new("standard output"), &error))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.directory.is_dir() {
        let why = format!("{} is no directory", arguments.directory.display());
        return Err(
            Failure::new("usage.output", why).with_remedy("name the one that the editor opens")
        );
    }
    let library = arguments.directory.join(LIBRARY);
    let definitions = library.join("postrider.lua");
    fs::create_dir_all(&library).map_err(|error| unwritten(&library, &error))?;
    fs::write(&definitions, stubs).map_err(|error| unwritten(&definitions, &error))?;

    let settings = arguments.directory.join(".luarc.json");
    let wanted = postrider_lua_api::luarc(LIBRARY);
    let state = Settings::write(&settings, &wanted)?;
    output.json(&json!({
        "definitions": definitions,
        "settings": settings,
        "settings_state": state.word(),
        "wanted": serde_json::from_str::<serde_json::Value>(&wanted).ok(),
    }));
    output.line(format!("{}: written", definitions.display()));
    output.line(match state {
        Settings::Written => format!("{}: written", settings.display()),
        Settings::Fit => format!("{}: names them already", settings.display()),
        Settings::Foreign => format!(
            "{}: is not ours, and left as it is. Add to it:\n{}",
            settings.display(),
            wanted.trim_end()
        ),
    });
    Ok(ExitCode::SUCCESS)
}

/// What became of `.luarc.json`.
#[derive(Clone, Copy)]
enum Settings {
    Written,
    Fit,
    Foreign,
}

impl Settings {
    /// Writes the file where there is none, and never over another.
    fn write(path: &Path, wanted: &str) -> Result<Self, Failure> {
        match fs::File::create_new(path) {
            Ok(mut file) => file
                .write_all(wanted.as_bytes())
                .map(|()| Self::Written)
                .map_err(|error| unwritten(path, &error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = fs::read_to_string(path).unwrap_or_default();
                Ok(if there.contains(&format!("\"{LIBRARY}\"")) {
                    Self::Fit
                } else {
                    Self::Foreign
                })
            }
            Err(error) => Err(unwritten(path, &error)),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Fit => "fit",
            Self::Foreign => "foreign",
        }
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        "usage.output",
        format!("cannot write {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_there_are_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".luarc.json");
        let wanted = postrider_lua_api::luarc(LIBRARY);

        assert!(matches!(
            Settings::write(&path, &wanted),
            Ok(Settings::Written)
        ));
        assert!(matches!(Settings::write(&path, "other"), Ok(Settings::Fit)));
        fs::write(&path, "{ \"diagnostics.globals\": [] }").unwrap();
        assert!(matches!(
            Settings::write(&path, &wanted),
            Ok(Settings::Foreign)
        ));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{ \"diagnostics.globals\": [] }"
        );
    }

    #[test]
    fn the_settings_are_json() {
        let wanted = postrider_lua_api::luarc(LIBRARY);
        let settings: serde_json::Value = serde_json::from_str(&wanted).unwrap();
        assert_eq!(settings["workspace.library"][0], LIBRARY);
        assert_eq!(settings["runtime.version"], "Lua 5.4");
    }
}
