//! `sendmail` as programs call it: a process, and the message is safe when it ends.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use postrider_smtp::TlsMode;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    Options, RECIPIENT, SENDER,
    daemon::Daemon,
    median, message,
    postfix::{self, Postfix, Then},
    server::Server,
};

/// A process is quick to start: more of them than of the long runs.
const TIMES: u64 = 30;

pub(crate) fn compare(options: &Options) -> Value {
    let server = Server::start(TlsMode::Implicit);
    server.shut(true);
    let letter = NamedTempFile::new().expect("a file");
    std::fs::write(letter.path(), message()).expect("room");
    let daemon = Daemon::start(&options.postrider, &server, 1);
    let postfix = postfix::missing()
        .is_none()
        .then(|| Postfix::start(&Then::Hold));
    let (mut ours, mut theirs, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    let times = if options.quick { 5 } else { TIMES };
    for _ in 0..options.rounds as u64 * times {
        let mut command = daemon.command(&options.postrider);
        command.args(["sendmail", "-i", "-f", SENDER, RECIPIENT]);
        ours.push(run(command, letter.path()));
        let mut command = Command::new(&options.postrider);
        command.arg("--version");
        nothing.push(run(command, letter.path()));
        if let Some(postfix) = &postfix {
            let mut command = postfix.sendmail();
            command.args(["-i", "-f", SENDER, RECIPIENT]);
            theirs.push(run(command, letter.path()));
            // Its daemons fetch the message now, which is not what is measured.
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    let [ours, theirs, nothing] = [ours, theirs, nothing].map(median);
    options.say("\nsendmail: a process until the message is safe in the daemon's queue, ms");
    for (name, figure) in [
        ("Postfix", theirs),
        ("postrider", ours),
        ("postrider --version", nothing),
    ] {
        options.say(&format!(
            "{name:<22}{figure:>8.2}{:>8.2} x Postfix",
            figure / theirs
        ));
    }
    json!({
        "postfix_ms": theirs, "postrider_ms": ours, "postrider_version_ms": nothing,
        "times_postfix": ours / theirs,
    })
}

fn run(mut command: Command, letter: &Path) -> f64 {
    command
        .stdin(File::open(letter).expect("the message"))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    let began = Instant::now();
    let ran = command.status().expect("it starts");
    let took = began.elapsed();
    assert!(ran.success(), "{command:?}: {ran}");
    took.as_secs_f64() * 1_000.0
}
