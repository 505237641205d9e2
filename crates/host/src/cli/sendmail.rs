//! `postrider sendmail`: for programs that know nothing else. Also when called by one of its names.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use postrider_config::QueueSettings;
use postrider_delivery::Flush;
use postrider_spool::{Filter, Select, StateKind};

use super::output::{Output, complain};
use crate::app::{App, AppSettings, queue};
use crate::control::Client;
use crate::failure::{Failure, exit};
use crate::sendmail::client::{Manner, submit};
use crate::sendmail::gather::Gathered;
use crate::sendmail::options::{Options, Task};
use crate::sendmail::{mailq, smtp, unique};

/// `EX_NOUSER`: a recipient that mail cannot be sent to.
const NOUSER: u8 = 67;

/// More than any server takes; the daemon says what is too much.
const STDIN_CAP: u64 = 1 << 30;

/// The names that programs call it by.
pub const NAMES: [&str; 3] = ["sendmail", "mailq", "newaliases"];

const USAGE: &str = "\
Queue mail of programs that know no accounts: cron, PHP, git, mail

Usage: postrider sendmail [OPTIONS] [--] [RECIPIENT]...
       postrider sendmail -t [OPTIONS] < MESSAGE

  -t                take recipients from To, Cc and Bcc of the message, too
  -i, -oi           a line with a lone dot does not end the message
  -f ADDRESS        where failures go; <> for nowhere (also -r)
  -F NAME           the author's name, where the message has no From
  -N WHEN           notify of: never, or some of success,failure,delay
  -R full|hdrs      how much of the message comes back with a failure
  -V ID             what comes back as it is
  -bs               SMTP on standard input and output
  -bp               list the queue, as mailq does
  -q                try what waits now
  -odi              where no daemon runs, deliver before it ends
  --account NAME    the account to send through
  --config FILE     the configuration (also -C)

Everything is queued before it ends with status 0, and then it prints nothing. Other options of
sendmail are taken and ignored where mail arrives all the same. See the book's page on sendmail.";

/// The command line as it stands.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// As sendmail has them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    arguments: Vec<OsString>,
}

/// What the command line of `postrider` would be, where this was called by one of [`NAMES`].
pub fn as_called(arguments: Vec<OsString>) -> Vec<OsString> {
    let name = program(arguments.first());
    if !NAMES.contains(&name.as_str()) {
        return arguments;
    }
    let mut arguments = arguments.into_iter();
    let own = arguments.next().into_iter();
    // Behind -- clap leaves everything as it is.
    own.chain(["sendmail", "--"].map(OsString::from))
        .chain(arguments)
        .collect()
}

fn program(argument: Option<&OsString>) -> String {
    let path = argument.map(Path::new);
    let name = path.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

pub(super) async fn run(
    arguments: Arguments,
    settings: AppSettings,
    alone: bool,
    output: &Output,
) -> ExitCode {
    let program = program(std::env::args_os().next().as_ref());
    let done = async {
        let options = Options::parse(&program, arguments.arguments)?;
        // Of the daemon's size: it may speak SMTP.
        Box::pin(carry_out(options, settings, alone, output)).await
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if output.is_json() {
                output.failure(&failure);
            } else {
                complain(&in_one_line(&failure));
            }
            ExitCode::from(status(&failure))
        }
    }
}

async fn carry_out(
    mut options: Options,
    mut settings: AppSettings,
    alone: bool,
    output: &Output,
) -> Result<(), Failure> {
    if let Some(file) = options.config.take() {
        settings.config = Some(file);
    }
    let manner = Manner {
        alone,
        deliver: options.deliver,
    };
    match options.task {
        Task::Help => {
            output.line(USAGE);
            Ok(())
        }
        Task::Nothing => Ok(()),
        Task::List => mailq::list(&App::open(&settings)?, output).await,
        Task::Flush => flush(&settings, alone).await,
        Task::Smtp => {
            let max_message = QueueSettings::default().max_message_octets;
            let streams = standard_streams().map_err(|problem| interrupted(&problem))?;
            let account = options.account;
            smtp::speak(streams, settings, manner, account, max_message)
                .await
                .map_err(|problem| interrupted(&problem))
        }
        Task::Submit => {
            let dot_ends = options.dot_ends;
            let reading = tokio::task::spawn_blocking(move || {
                Gathered::from_reader(io::stdin().lock(), dot_ends, STDIN_CAP)
            });
            let message = reading
                .await
                .map_err(|_| Failure::new("internal", "reading the message was interrupted"))??;
            let mut request = crate::sendmail::plan::Request::from(options);
            request.key = Some(unique()?);
            submit(&settings, manner, &request, &message)
                .await
                .map(drop)
        }
    }
}

/// Tries now what was put off: the daemon does, and is not waited for; else this process.
async fn flush(settings: &AppSettings, alone: bool) -> Result<(), Failure> {
    let has_daemon = !alone && Client::find(settings).await.is_some();
    let app = App::open(settings)?;
    let flushed = if has_daemon {
        let deferred = Filter {
            state: Some(StateKind::Deferred),
            ..Filter::default()
        };
        let store = &app.queue().await?.store;
        let again = store.retry(Select::Matching(deferred), app.clock().now());
        again.await.map(drop)
    } else {
        let all = Flush {
            account: None,
            now: true,
        };
        app.delivery().await?.flush(all).await.map(drop)
    };
    app.close().await;
    flushed.map_err(|error| queue::failure(&error))
}

/// Standard input and output as one stream.
fn standard_streams() -> io::Result<tokio::io::Join<tokio::fs::File, tokio::fs::File>> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    Ok(tokio::io::join(
        tokio::fs::File::from_std(input),
        tokio::fs::File::from_std(output),
    ))
}

fn interrupted(problem: &io::Error) -> Failure {
    Failure::new("io.input", format!("the dialogue broke off: {problem}"))
}

/// What programs show or log is one line.
fn in_one_line(failure: &Failure) -> String {
    let account = failure.account.as_ref();
    let parts = [
        account.map(|account| format!("account \"{account}\": ")),
        Some(failure.message.clone()),
        failure.at.as_ref().map(|at| format!(" ({at})")),
        failure
            .remedy
            .as_ref()
            .map(|remedy| format!("; try: {remedy}")),
    ];
    let line: String = parts.into_iter().flatten().collect();
    format!("sendmail: {line}").replace(|c: char| c.is_control(), " ")
}

/// As `sysexits.h` has it for a mail program.
fn status(failure: &Failure) -> u8 {
    match failure.code.as_str() {
        _ if failure.retryable => exit::TEMPFAIL,
        "message.local_recipient" => NOUSER,
        "sendmail.denied" => exit::NOPERM,
        "io.input" | "queue.io" | "queue.read_only" => exit::IOERR,
        "queue.newer" => exit::CONFIG,
        _ => failure.exit_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_its_names_wherever_it_lies() {
        let called = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            let called: Vec<String> = as_called(words)
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            called.join(" ")
        };
        for (line, expected) in [
            (
                "/usr/sbin/sendmail -t -i",
                "/usr/sbin/sendmail sendmail -- -t -i",
            ),
            ("sendmail -- -x", "sendmail sendmail -- -- -x"),
            ("mailq", "mailq sendmail --"),
            ("/usr/bin/newaliases", "/usr/bin/newaliases sendmail --"),
            ("postrider sendmail -t", "postrider sendmail -t"),
            (
                "/opt/sendmail/postrider send",
                "/opt/sendmail/postrider send",
            ),
        ] {
            assert_eq!(called(line), expected);
        }
    }

    #[test]
    fn a_failure_is_one_line_with_the_way_out_and_the_status_that_programs_know() {
        let failure = Failure::new(
            "message.local_recipient",
            "mail for \"a\nb\" has nowhere to go",
        )
        .with_account("alerts")
        .with_remedy("set local_to");
        assert_eq!(
            in_one_line(&failure),
            "sendmail: account \"alerts\": mail for \"a b\" has nowhere to go; try: set local_to"
        );
        for (code, expected) in [
            ("usage.sendmail", 64),
            ("message.invalid", 65),
            ("message.local_recipient", 67),
            ("internal", 70),
            ("io.input", 74),
            ("queue.read_only", 74),
            ("queue.corrupt", 70),
            ("sendmail.denied", 77),
            ("config.account_unclear", 78),
        ] {
            assert_eq!(status(&Failure::new(code, "x")), expected, "{code}");
        }
        assert_eq!(status(&Failure::new("queue.full", "x").retryable()), 75);
    }
}
