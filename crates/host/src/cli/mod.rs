//! The command line: what can be asked, and how the answer is printed.
//!
//! Each command is one file with one `run`. What it prints for people goes through
//! [`Output`], so that `--json` and pipes get the same facts without the prose.

mod account;
mod check;
mod delivering;
mod doctor;
mod explain;
mod gateway;
mod host;
mod import;
mod login;
mod logout;
pub mod output;
mod plugin;
mod queue;
mod renew;
mod repl;
mod rotate;
mod run;
mod sandbox;
mod schedule;
mod secret;
mod send;
pub mod sendmail;
mod serve;
mod settings;
mod setup;
mod status;
mod test;
mod token;
mod types;
mod unseen;
mod vault;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum as _};
use clap_complete::Shell;

use crate::app::{App, AppSettings};
use crate::failure::Failure;
use crate::log::LogLevel;

use host::Host;
use output::Output;

const GLOBAL: &str = "Options of every command";

/// Mail that servers send, with OAuth, unattended.
#[derive(Debug, Parser)]
#[command(
    name = "postrider",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postrider sandbox                         an offline Microsoft 365 to try things on
  postrider run notify.lua                  run a script
  postrider login alerts                    sign in, once
  postrider doctor alerts                   why mail does not go out, and who can help
  postrider account test alerts             check every step, then send a test message
  echo 'disk full' | postrider send --account alerts --to ops@example.org --subject Disk

Exit status: 0 done, 1 the script raised an error, 64 usage, 65 bad message or script, 66 no
such file, 69 refused, 70 internal or over a limit, 73 a file cannot be made, 74 the output takes no writes, 75 try
again later, 76 the verdict was lost and the message may have arrived, 77 credentials refused or
nobody signed in, 78 configuration, 130 stopped with Ctrl-C."
)]
#[allow(
    clippy::doc_markdown,
    reason = "clap prints these comments as they stand"
)]
pub struct Cli {
    /// Configuration file [env: POSTRIDER_CONFIG] [default: ./postrider.toml, the user's, then
    /// /etc/postrider/postrider.toml]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where state is kept [env: POSTRIDER_STATE_DIR] [default: the platform's state directory]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// How much to log on standard error: error, warn, info, debug or trace [env: POSTRIDER_LOG]
    /// [default: warn, and info from scripts]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "LEVEL",
        hide_possible_values = true
    )]
    log: Option<LogLevel>,

    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,

    /// Do everything in this process, though a daemon runs
    #[arg(long, global = true, help_heading = GLOBAL)]
    no_daemon: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a Lua script to its end
    Run(run::Arguments),
    /// Lua a line at a time; nothing is sent unless you say so
    Repl(repl::Arguments),
    /// The daemon: scripts, their schedules, fresh tokens
    Serve(serve::Arguments),
    /// Send one message
    Send(Box<send::Arguments>),
    /// Queue mail of programs that know no accounts, as sendmail does
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Sendmail(sendmail::Arguments),
    /// Set an account up, from nothing to a delivered message
    Setup(Box<setup::Arguments>),
    /// Take over another mailer's configuration: emailproxy, msmtp, sasl-xoauth2, postfix
    #[command(subcommand)]
    Import(Box<import::Command>),
    /// List, show and test accounts
    #[command(subcommand)]
    Account(account::Command),
    /// Find out why an account does not send, and who can put it right
    Doctor(doctor::Arguments),
    /// Sign a person in, once: what follows is refreshed by itself
    Login(login::Arguments),
    /// Print a fresh access token, for msmtp, mutt and others
    Token(token::Arguments),
    /// Refresh tokens that are due, and say what ends soon
    Rotate(rotate::Arguments),
    /// Revoke a sign-in and forget it
    Logout(logout::Arguments),
    /// Put secrets into the vault, list and remove them
    #[command(subcommand)]
    Secret(secret::Command),
    /// The encrypted store of secrets and sign-ins: verify, rekey, export, import
    #[command(subcommand)]
    Vault(vault::Command),
    /// Check the configuration, and scripts, without connecting to anything
    Check(check::Arguments),
    /// What a refusal means: a server's reply, an AADSTS code, a line of a log, a bounce
    Explain(explain::Arguments),
    /// Write what an editor needs to complete and check scripts
    Types(types::Arguments),
    /// Run the tests of scripts, *_test.lua: a clock to move, the sandbox behind every account
    Test(test::Arguments),
    /// List and inspect auth plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Run the offline Microsoft 365: Entra ID, Exchange, an inbox to look into
    Sandbox(sandbox::Arguments),
    /// List the schedules of scripts, run, pause and resume them, and see how they went
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Mail that waits: list, show, retry, hold, release, remove, count, export
    #[command(subcommand)]
    Queue(queue::Command),
    /// Where printers and programs that only know a password submit their mail: add, list, passwords
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// What the daemon does, and how its last reload went
    Status(status::StatusArguments),
    /// Have the daemon load its configuration and scripts anew
    Reload(status::ReloadArguments),
    /// Write a completion script for a shell
    #[command(after_help = "Example:
  postrider completions bash > /etc/bash_completion.d/postrider")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// An environment variable; one that is set to nothing is not set, as service managers do it.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// `45m`, `1h30m`, as in the configuration.
fn duration(text: &str) -> Result<Duration, String> {
    postrider_config::parse_duration(text)
        .ok_or_else(|| "write it like \"5m\" or \"1h30m\"".to_owned())
}

impl Cli {
    /// How much to log, if it was said on the command line or in the environment.
    ///
    /// # Errors
    /// `POSTRIDER_LOG` names no level.
    pub fn log_level(&self) -> Result<Option<LogLevel>, Failure> {
        match (self.log, variable("POSTRIDER_LOG")) {
            (Some(level), _) => Ok(Some(level)),
            // A daemon says what it does: nobody looks over its shoulder.
            (None, None) if matches!(self.command, Command::Serve(_)) => Ok(Some(LogLevel::Info)),
            (None, None) => Ok(None),
            (None, Some(name)) => {
                let name = name.to_string_lossy();
                LogLevel::from_str(&name, true).map(Some).map_err(|_| {
                    Failure::new(
                        "usage.log_level",
                        format!("POSTRIDER_LOG: \"{name}\" is not a level"),
                    )
                    .with_remedy("use error, warn, info, debug or trace")
                })
            }
        }
    }

    /// Whether the command does many things at a time; the others are done sooner on one
    /// thread.
    pub fn is_concurrent(&self) -> bool {
        matches!(
            self.command,
            Command::Run(_)
                | Command::Repl(_)
                | Command::Serve(_)
                | Command::Sandbox(_)
                | Command::Schedule(schedule::Command::Run { .. })
        )
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// What went wrong, ready to print; its exit code is [`Failure::exit_code`].
    pub async fn run(self) -> Result<ExitCode, Failure> {
        let output = Output::new(self.json);
        let settings = AppSettings {
            config: self.config,
            state_dir: self
                .state_dir
                .or_else(|| variable("POSTRIDER_STATE_DIR").map(PathBuf::from)),
        };
        let alone = self.no_daemon;
        match self.command {
            Command::Run(arguments) => run::run(arguments, &settings, &output).await,
            Command::Repl(arguments) => repl::run(arguments, &settings, &output).await,
            Command::Serve(arguments) => serve::run(arguments, &settings, &output).await,
            Command::Send(arguments) => {
                send::run(*arguments, &Host::find(settings, alone).await, &output).await
            }
            Command::Sendmail(arguments) => {
                Ok(sendmail::run(arguments, settings, alone, &output).await)
            }
            Command::Account(command) => {
                account::run(command, &Host::find(settings, alone).await, &output).await
            }
            Command::Doctor(arguments) => doctor::run(arguments, settings, alone, &output).await,
            Command::Setup(arguments) => Box::pin(setup::run(*arguments, &settings, &output)).await,
            Command::Import(command) => Box::pin(import::run(*command, &settings, &output)).await,
            Command::Login(arguments) => login::run(arguments, &settings, &output).await,
            Command::Token(arguments) => {
                token::run(arguments, &Host::find(settings, alone).await, &output).await
            }
            Command::Rotate(arguments) => {
                if let Some((how, accounts)) = arguments.renewal() {
                    return renew::run(how, accounts, &settings, &output).await;
                }
                rotate::run(arguments, &Host::find(settings, alone).await, &output).await
            }
            Command::Logout(arguments) => {
                logout::run(arguments, App::open(&settings)?, &output).await
            }
            Command::Secret(command) => secret::run(command, App::open(&settings)?, &output).await,
            Command::Vault(command) => vault::run(command, App::open(&settings)?, &output).await,
            Command::Check(arguments) => check::run(&arguments, &settings, &output),
            Command::Explain(arguments) => explain::run(&arguments, &settings, &output),
            Command::Types(arguments) => types::run(&arguments, &output),
            Command::Test(arguments) => test::run(arguments, &settings, &output).await,
            Command::Plugin(command) => plugin::run(command, &settings, &output),
            Command::Sandbox(arguments) => sandbox::run(arguments, &settings, &output).await,
            Command::Schedule(command) => {
                schedule::run(command, &Host::find(settings, alone).await, &output).await
            }
            Command::Queue(command) => queue::run(command, App::open(&settings)?, &output).await,
            Command::Gateway(command) => gateway::run(command, &settings, alone, &output).await,
            Command::Status(arguments) => status::status(arguments, &settings, &output).await,
            Command::Reload(arguments) => status::reload(arguments, &settings, &output).await,
            Command::Completions { shell } => {
                let mut command = <Self as clap::CommandFactory>::command();
                clap_complete::generate(shell, &mut command, "postrider", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
