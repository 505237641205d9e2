//! `postrider import`: another mailer's configuration, as accounts and gateways of this one.
//!
//! What will be written and what is left out is shown first. The configuration is written before
//! the vault, because it is checked; what is there under the same name is never replaced, and the
//! same import again changes nothing.

mod carry;
mod fit;
mod show;

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Args, Subcommand};
use postrider_config::{Config, Network, Presets};
use postrider_import::{Files, ImportError, ImportErrorKind, Imported, MAX_FILE_OCTETS, Options};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use self::carry::Carrier;
use super::output::Output;
use super::unseen;
use crate::app::{App, AppSettings, World, config_failure, setup};
use crate::failure::Failure;

/// Whose configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Email OAuth 2.0 Proxy: emailproxy.config
    #[command(after_help = "\
Examples:
  postrider import emailproxy emailproxy.config --dry-run
  postrider import emailproxy emailproxy.config        asks for the mail programs' password
  postrider import emailproxy emailproxy.config --yes --password-stdin < password

The tokens in the file are encrypted with the password that mail programs use. With it, accounts go
on with their sign-ins, and the mail programs keep their settings: host, port, user and password.
Stop the proxy first: some providers take a refresh token once.")]
    Emailproxy {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        listeners: Listeners,
        /// Where the proxy keeps its tokens, if it is started with --cache-store
        #[arg(long, value_name = "FILE")]
        cache_store: Option<PathBuf>,
        /// Read the mail programs' password from standard input
        #[arg(long, conflicts_with_all = ["password_file", "without_tokens"])]
        password_stdin: bool,
        /// Read the mail programs' password from a file
        #[arg(long, value_name = "FILE", conflicts_with = "without_tokens")]
        password_file: Option<PathBuf>,
        /// Leave the encrypted tokens; each account signs in again
        #[arg(long)]
        without_tokens: bool,
    },
    /// msmtp: ~/.msmtprc or /etc/msmtprc
    #[command(after_help = "\
Examples:
  postrider import msmtp ~/.msmtprc --dry-run
  postrider import msmtp /etc/msmtprc --account-prefix old-")]
    Msmtp {
        #[command(flatten)]
        common: Common,
    },
    /// sasl-xoauth2, the plugin of Postfix: /etc/sasl-xoauth2.conf
    #[command(after_help = "\
Examples:
  sudo postrider import sasl-xoauth2 /etc/sasl-xoauth2.conf
  postrider import sasl-xoauth2 sasl-xoauth2.conf --sasl-passwd sasl_passwd --dry-run

Token files hold refresh tokens in clear: accounts go on with their sign-ins. Stop Postfix first:
some providers take a refresh token once.")]
    SaslXoauth2 {
        #[command(flatten)]
        common: Common,
        /// Postfix's map that names the token files
        #[arg(long, value_name = "FILE", default_value = "/etc/postfix/sasl_passwd")]
        sasl_passwd: PathBuf,
    },
    /// Postfix as a relay client: /etc/postfix/main.cf
    #[command(after_help = "\
Examples:
  sudo postrider import postfix /etc/postfix/main.cf --dry-run
  sudo postrider import postfix /etc/postfix/main.cf --client 192.168.1.0/24
  sudo postrider import postfix /etc/postfix/main.cf --sender noreply@contoso.com
      where the relay's user is no mailbox, such as apikey

The text of its tables is read (sasl_passwd, not sasl_passwd.db), and the master.cf beside it.")]
    Postfix {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        listeners: Listeners,
    },
}

/// The options of every import.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The configuration to import
    file: PathBuf,
    /// What every name begins with: old- makes old-alerts
    #[arg(long, value_name = "TEXT", default_value = "")]
    account_prefix: String,
    /// Whom accounts send as whose user is no mail address, where the file does not say it
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Show what would be written, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask whether to go on
    #[arg(long, short)]
    yes: bool,
    /// Refused: it is here to say so without repeating what may be a password.
    #[arg(hide = true, num_args = 0..)]
    more: Vec<OsString>,
}

/// The option of those that listen.
#[derive(Debug, Args)]
pub(super) struct Listeners {
    /// A network whose devices may reach imported listeners; may be given several times
    #[arg(long = "client", value_name = "NETWORK")]
    clients: Vec<String>,
}

impl Command {
    /// Whose file it reads.
    fn program(&self) -> &'static str {
        match self {
            Self::Emailproxy { .. } => "Email OAuth 2.0 Proxy",
            Self::Msmtp { .. } => "msmtp",
            Self::SaslXoauth2 { .. } => "sasl-xoauth2",
            Self::Postfix { .. } => "Postfix",
        }
    }

    fn common(&self) -> &Common {
        let (Self::Emailproxy { common, .. }
        | Self::Msmtp { common }
        | Self::SaslXoauth2 { common, .. }
        | Self::Postfix { common, .. }) = self;
        common
    }

    /// Whom imported listeners are for.
    fn clients(&self) -> &[String] {
        match self {
            Self::Emailproxy { listeners, .. } | Self::Postfix { listeners, .. } => {
                &listeners.clients
            }
            Self::Msmtp { .. } | Self::SaslXoauth2 { .. } => &[],
        }
    }

    fn options(&self) -> Options {
        let common = self.common();
        Options {
            prefix: common.account_prefix.clone(),
            clients: self.clients().to_vec(),
            sender: common.sender.clone(),
        }
    }

    /// # Errors
    /// There is more on the command line than one file, or a client is no network.
    fn check(&self) -> Result<(), Failure> {
        for client in self.clients() {
            client.parse::<Network>().map_err(|error| {
                let failure = Failure::new("usage.client", format!("--client: {error}"));
                match error.suggestion() {
                    Some(suggestion) => failure.with_remedy(suggestion),
                    None => failure,
                }
            })?;
        }
        if self.common().more.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(
            "usage.secret_in_arguments",
            "one file is imported at a time, and a password is not taken from the command line: \
             other users see it in the list of processes, and the shell keeps it in its history",
        );
        Err(match self {
            Self::Emailproxy { .. } => failure.with_remedy(
                "--password-stdin asks for it, or reads it from standard input; if this one was \
                 real, clear it from the history",
            ),
            _ => failure.with_remedy("import one file after the other"),
        })
    }
}

pub(super) async fn run(
    command: Command,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    command.check()?;
    let mut imported = read(&command)?;
    let common = command.common();
    let path = setup::config_path(settings);
    let config = if path.exists() {
        Config::load(&path, &Presets::builtin()).map_err(|errors| config_failure(&errors))?
    } else {
        Config::default()
    };
    let given = settings;
    let settings = AppSettings {
        config: Some(path.clone()),
        state_dir: settings.state_dir.clone(),
    };
    let app = App::with_config(&settings, config, World::outside());
    let changes = fit::fit(&mut imported, &path, &app, &settings)?;
    let carrier = Carrier {
        app: &app,
        path: &path,
        file: &common.file,
        imported: &imported,
        changes: &changes,
        given,
        output,
    };
    let done = Box::pin(carrier.run(common.dry_run, common.yes)).await;
    app.close().await;
    done?;
    Ok(ExitCode::SUCCESS)
}

fn read(command: &Command) -> Result<Imported, Failure> {
    let options = command.options();
    let imported = match command {
        Command::Emailproxy {
            common,
            cache_store,
            password_stdin,
            password_file,
            without_tokens,
            ..
        } => {
            let path = named(&common.file)?;
            let cache = cache_store.as_deref().map(named).transpose()?;
            let cache = cache.as_deref();
            let password = match password_file {
                _ if *without_tokens => None,
                Some(file) => Some(of_file(file)?),
                None if *password_stdin => Some(unseen::ask("Password", true)?),
                // What is wrong with the file is said before anybody types.
                None => match postrider_import::needs_password(&path, cache, &Disk) {
                    Ok(true) if unseen::is_typed() => {
                        Some(unseen::ask_at_terminal("Password of the mail programs")?)
                    }
                    Ok(_) => None,
                    Err(error) => return Err(failure(&error, command)),
                },
            };
            postrider_import::emailproxy(&path, cache, &Disk, password.as_ref(), &options)
        }
        Command::Msmtp { common } => {
            postrider_import::msmtp(&named(&common.file)?, &Disk, &options)
        }
        Command::SaslXoauth2 {
            common,
            sasl_passwd,
        } => postrider_import::sasl_xoauth2(
            &named(&common.file)?,
            &named(sasl_passwd)?,
            &Disk,
            &options,
        ),
        Command::Postfix { common, .. } => {
            postrider_import::postfix(&named(&common.file)?, &Disk, &options)
        }
    };
    imported.map_err(|error| failure(&error, command))
}

/// The path from the root: what a file names beside itself is found from anywhere then.
fn named(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let unfit = |path: PathBuf| {
        let message = format!("{}: its name is not UTF-8", path.display());
        Failure::new("file.unreadable", message)
    };
    path.into_os_string()
        .into_string()
        .map_err(|path| unfit(path.into()))
}

fn failure(error: &ImportError, command: &Command) -> Failure {
    let place = error.place.to_string();
    match error.kind {
        ImportErrorKind::Unreadable => {
            let failure = Failure::new("file.unreadable", error.message.clone()).at(place);
            match command {
                Command::SaslXoauth2 { sasl_passwd, .. }
                    if named(sasl_passwd).is_ok_and(|path| path == error.place.file) =>
                {
                    failure.with_remedy(
                        "say where Postfix's map of users and token files is: --sasl-passwd FILE",
                    )
                }
                _ => failure,
            }
        }
        ImportErrorKind::Password => Failure::new("usage.import_password", error.message.clone())
            .at(place)
            .with_remedy(
                "give the password that mail programs use for these mailboxes, or say \
                 --without-tokens and sign in again",
            ),
        _ => Failure::new(
            "config.import",
            format!("{}; nothing was changed", error.message),
        )
        .at(place)
        .with_remedy(format!(
            "name the configuration of {}; if this is it, mend it there first",
            command.program()
        )),
    }
}

/// A password in a file of its own.
fn of_file(path: &Path) -> Result<SecretString, Failure> {
    let place = path.display().to_string();
    let text = Disk
        .read(&named(path)?)
        .map_err(|why| Failure::new("file.unreadable", why).at(&place))?
        .ok_or_else(|| Failure::new("file.unreadable", "there is no such file").at(&place))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::new("secret.malformed", "the password is empty").at(&place));
    }
    Ok(SecretString::from(line))
}

/// The machine's files.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Option<Zeroizing<String>>, String> {
        match read_text(path) {
            Ok(text) => Ok(Some(text)),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(match problem.kind() {
                io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
                io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
                _ => problem.to_string().to_lowercase(),
            }),
        }
    }
}

fn read_text(path: &str) -> io::Result<Zeroizing<String>> {
    // A pipe or a terminal would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    // Room for all of it at once: a growing buffer leaves copies behind.
    let file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut octets = Zeroizing::new(Vec::with_capacity(length.min(MAX_FILE_OCTETS) + 2));
    file.take(MAX_FILE_OCTETS as u64 + 1)
        .read_to_end(&mut octets)?;
    let text =
        std::str::from_utf8(&octets).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}
