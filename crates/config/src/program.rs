//! Running a program for what it prints: no shell, bounded time, bounded output.
//!
//! Its standard error is thrown away, for it may repeat the secret; its exit status is told.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// How often to look whether a program that closed its output has ended.
const POLL: Duration = Duration::from_millis(2);

/// Why there is no output to use.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound(String),
    NotStarted(io::Error),
    Read(io::Error),
    TooLong,
    TooSlow(Duration),
    Status(ExitStatus),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(why) => f.write_str(why),
            Self::NotStarted(error) => write!(f, "the program cannot be started: {error}"),
            Self::Read(error) => write!(f, "its output cannot be read: {error}"),
            Self::TooLong => f.write_str("the program printed more than a secret may hold"),
            Self::TooSlow(limit) => {
                write!(f, "the program was stopped after {} s", limit.as_secs_f64())
            }
            Self::Status(status) => {
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(f, "the program ended with status {code}")?,
                    (None, Some(signal)) => write!(f, "the program was ended by signal {signal}")?,
                    (None, None) => f.write_str("the program failed")?,
                }
                f.write_str("; run it by hand to see what it says")
            }
        }
    }
}

/// What `words` prints on standard output, at most `most` octets, within `limit`.
///
/// The program is an absolute path, or a name looked up in `$PATH`. It and all it started are
/// killed when the time is up.
pub(crate) fn output(
    words: &[String],
    limit: Duration,
    most: usize,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::NotFound("no program is named".to_owned()));
    };
    if program.contains('/') && !program.starts_with('/') {
        return Err(Failure::NotFound(
            "the program needs an absolute path, or a name found in $PATH".to_owned(),
        ));
    }
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::NotFound("there is no such program".to_owned()),
            _ => Failure::NotStarted(error),
        })?;
    let outcome = collect(&mut child, deadline, most).map_err(|failure| match failure {
        Failure::TooSlow(_) => Failure::TooSlow(limit),
        other => other,
    });
    // With a status, the program has ended; its id may be another's by now.
    if !matches!(outcome, Ok(_) | Err(Failure::Status(_))) {
        stop(&mut child);
    }
    outcome
}

fn collect(
    child: &mut Child,
    deadline: Instant,
    most: usize,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(stdout) = child.stdout.take() {
        // Not joined: a grandchild may hold the pipe open for as long as it likes.
        thread::spawn(move || {
            let mut octets = Zeroizing::new(Vec::with_capacity(most + 2));
            let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            let read = stdout.take(limit).read_to_end(&mut octets);
            // The receiver is gone when the time is up: nobody wants it any more.
            drop(sender.send(read.map(|_| octets)));
        });
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let octets = receiver
        .recv_timeout(left)
        .map_err(|_| Failure::TooSlow(Duration::ZERO))?
        .map_err(Failure::Read)?;
    if octets.len() > most {
        return Err(Failure::TooLong);
    }
    loop {
        match child.try_wait().map_err(Failure::Read)? {
            Some(status) if status.success() => return Ok(octets),
            Some(status) => return Err(Failure::Status(status)),
            None if Instant::now() >= deadline => return Err(Failure::TooSlow(Duration::ZERO)),
            None => thread::sleep(POLL),
        }
    }
}

/// Kills a program that has not been waited for, with all that it started.
fn stop(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself, which is as good.
        let _ended_already = kill_process_group(group, Signal::KILL);
    }
    drop(child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Result<Vec<u8>, Failure> {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        output(&words, limit, 1000).map(|octets| octets.to_vec())
    }

    const AMPLE: Duration = Duration::from_secs(30);

    #[test]
    fn prints_are_taken_and_arguments_are_not_expanded() {
        let words = ["printf", "%s", "$HOME;`id`"].map(str::to_owned);
        assert_eq!(
            output(&words, AMPLE, 1000).unwrap().as_slice(),
            b"$HOME;`id`"
        );
    }

    #[test]
    fn a_failure_tells_the_status_and_nothing_of_what_was_printed() {
        let failure = run("echo hunter2; echo hunter2 >&2; exit 3", AMPLE).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the program ended with status 3; run it by hand to see what it says"
        );
    }

    #[test]
    fn a_slow_program_is_stopped_with_its_children() {
        let before = Instant::now();
        let failure = run("sleep 600 & sleep 600", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(failure, Failure::TooSlow(_)), "{failure}");
        assert!(before.elapsed() < Duration::from_mins(1));
    }

    #[test]
    fn output_without_end_is_cut_off() {
        assert!(matches!(run("yes", AMPLE), Err(Failure::TooLong)));
    }

    #[test]
    fn a_program_is_absolute_or_found_in_path() {
        let missing = |program: &str| {
            output(&[program.to_owned()], AMPLE, 10)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(missing("/nonexistent/x"), "there is no such program");
        assert_eq!(
            missing("./x"),
            "the program needs an absolute path, or a name found in $PATH"
        );
    }
}
