//! One process, one connection, one message: `postrider send` against msmtp.
//!
//! Both go through `STARTTLS` and `AUTH PLAIN` and read settings, password and trust anchor from
//! files. Times are a process's, from its start to its end. Where one of the two is missing the
//! comparison is left out, and says so.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use postrider_smtp::TlsMode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Options, RECIPIENT, SENDER, message,
    server::{Offer, Server},
};

const DELAYS_MS: [u64; 3] = [0, 20, 100];

#[derive(Clone, Copy, Debug)]
struct Run {
    milliseconds: f64,
    round_trips: u64,
}

/// Rows of the comparison, or why there are none.
pub(crate) fn compare(options: &Options) -> Value {
    match Senders::find() {
        Ok(senders) => senders.measure(options),
        Err(reason) => {
            options.say(&format!("\none-shot senders: skipped, {reason}"));
            json!({ "skipped": reason })
        }
    }
}

struct Senders {
    server: Server,
    directory: TempDir,
    postrider: PathBuf,
    msmtp: PathBuf,
}

impl Senders {
    fn find() -> Result<Self, String> {
        let postrider = std::env::var_os("POSTRIDER_BINARY")
            .map(PathBuf::from)
            .ok_or("POSTRIDER_BINARY does not say where `postrider` is (cargo xtask bench does)")?;
        if !postrider.is_file() {
            return Err(format!("there is no {}", postrider.display()));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let msmtp = std::env::split_paths(&path)
            .map(|directory| directory.join("msmtp"))
            .find(|program| program.is_file())
            .ok_or("msmtp is not installed")?;
        let server = Server::start(TlsMode::Starttls);
        server.offer(Offer::Chunking);
        let senders = Self {
            directory: files(&server).map_err(|problem| problem.to_string())?,
            server,
            postrider,
            msmtp,
        };
        // Both must work, and both get their files into memory.
        senders.run(senders.postrider())?;
        senders.run(senders.msmtp())?;
        Ok(senders)
    }

    fn measure(&self, options: &Options) -> Value {
        options.say("\none-shot: a process, a connection, STARTTLS, AUTH PLAIN, one message");
        options.say(&format!(
            "{:<18}{:>12}{:>12}{:>14}{:>12}",
            "", "delay ms", "ms", "round trips", "× msmtp"
        ));
        let mut rows = Vec::new();
        for delay_ms in DELAYS_MS {
            self.server.delay(Duration::from_millis(delay_ms));
            let mut runs: [Vec<Run>; 2] = Default::default();
            // A process is quick to start: more of them than of the long runs.
            for _ in 0..options.rounds * 3 {
                for (runs, sender) in runs.iter_mut().zip([self.msmtp(), self.postrider()]) {
                    runs.push(self.run(sender).expect("it worked before"));
                }
            }
            let [msmtp, postrider] = runs.map(median);
            for (name, run) in [("msmtp", msmtp), ("postrider send", postrider)] {
                let times_msmtp = run.milliseconds / msmtp.milliseconds;
                options.say(&format!(
                    "{name:<18}{delay_ms:>12}{:>12.1}{:>14}{times_msmtp:>12.2}",
                    run.milliseconds, run.round_trips
                ));
                rows.push(json!({
                    "delay_ms": delay_ms, "sender": name, "milliseconds": run.milliseconds,
                    "round_trips": run.round_trips, "times_msmtp": times_msmtp,
                }));
            }
        }
        Value::from(rows)
    }

    fn postrider(&self) -> Command {
        let mut command = Command::new(&self.postrider);
        command.arg("--config").arg(self.file("postrider.toml"));
        command.arg("--state-dir").arg(self.file("state"));
        command.args(["send", "--account", "bench", "--raw", "-"]);
        command
    }

    fn msmtp(&self) -> Command {
        let mut command = Command::new(&self.msmtp);
        command.arg("--file").arg(self.file("msmtprc"));
        command.args(["--from", SENDER, RECIPIENT]);
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs it with the message as its standard input.
    fn run(&self, mut sender: Command) -> Result<Run, String> {
        let message = fs::File::open(self.file("message.eml")).expect("the message");
        sender.stdin(message);
        let (answers, start) = (self.server.answers(), Instant::now());
        let output = sender.output().map_err(|problem| problem.to_string())?;
        let elapsed = start.elapsed();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let program = sender.get_program().to_string_lossy();
            return Err(format!("{program} failed: {}", said.trim()));
        }
        Ok(Run {
            milliseconds: elapsed.as_secs_f64() * 1e3,
            round_trips: self.server.answers() - answers,
        })
    }
}

/// A directory with all that the two read.
fn files(server: &Server) -> io::Result<TempDir> {
    let directory = TempDir::with_prefix("postrider-bench-")?;
    let home = directory.path().display();
    let port = server.address.port();
    let postrider = format!(
        r#"[account.bench]
username = "{SENDER}"
sender = "{SENDER}"
ca_file = "{home}/ca.pem"
server = {{ host = "localhost", port = {port}, tls = "starttls" }}
auth = {{ plugin = "basic", password = {{ file = "password" }} }}
"#
    );
    let msmtp = format!(
        "account default\nhost localhost\nport {port}\ntls on\ntls_starttls on\n\
         tls_trust_file {home}/ca.pem\nauth plain\nuser {SENDER}\n\
         passwordeval cat {home}/password\n"
    );
    for (name, content) in [
        ("ca.pem", server.certificate_pem.as_bytes()),
        ("message.eml", &message()),
        ("msmtprc", msmtp.as_bytes()),
        ("password", b"secret\n"),
        ("postrider.toml", postrider.as_bytes()),
    ] {
        // Both refuse secrets that others may read.
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(directory.path().join(name))?;
        file.write_all(content)?;
    }
    Ok(directory)
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.milliseconds.total_cmp(&b.milliseconds));
    runs[runs.len() / 2]
}
