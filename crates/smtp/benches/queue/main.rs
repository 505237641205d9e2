//! The queue of `postrider serve` against Postfix, against this machine's disk, and against
//! senders of one message.
//!
//! Everything runs here and in turns: both daemons start anew for each run, in a directory of
//! their own, and hand over to one server that answers after an adjustable delay. Figures are
//! medians; what they are to be compared with was measured in the same minutes.
//!
//! `cargo xtask bench queue [--json|--markdown] [--rounds N] [--at-once N] [--quick] [PART…]`;
//! Postfix wants root, and what is not installed is left out. `TMPDIR` says which disk is measured. `--quick` has a
//! twentieth of the messages: it shows that everything runs, and its figures mean nothing.

mod accept;
mod daemon;
mod deliver;
mod gateway;
mod large;
mod limit;
mod markdown;
#[path = "../delivery/one_shot.rs"]
mod one_shot;
mod postfix;
mod process;
mod relay;
mod sendmail;
#[path = "../delivery/server.rs"]
mod server;
mod submit;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const MESSAGE_OCTETS: usize = 2_000;
const RECIPIENT: &str = "b@example.net";
const SENDER: &str = "a@example.org";
const PARTS: [&str; 7] = [
    "accept", "deliver", "relay", "gateway", "sendmail", "one-shot", "large",
];

struct Options {
    json: bool,
    markdown: bool,
    quick: bool,
    rounds: usize,
    /// Only so many at once, where several numbers are compared.
    at_once: Option<usize>,
    postrider: PathBuf,
    parts: Vec<String>,
}

impl Options {
    fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// To people; beside what programs read, where there is that.
    fn say(&self, line: &str) {
        if self.json || self.markdown {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// Of these numbers of submitters or sessions, those that are asked for.
    fn at_once(&self, all: &[usize]) -> Vec<usize> {
        let is_asked = |number: &usize| self.at_once.is_none_or(|only| only == *number);
        all.iter().copied().filter(is_asked).collect()
    }

    /// So many messages, or far fewer.
    fn count(&self, messages: u64) -> u64 {
        if self.quick {
            messages.div_ceil(20).max(50)
        } else {
            messages
        }
    }
}

fn main() {
    let options = options();
    let mut all = serde_json::Map::new();
    let mut part = |name: &str, measure: &dyn Fn(&Options) -> Value| {
        if options.has(name) {
            let measured = measure(&options);
            if options.markdown {
                // At once: what comes later may fail.
                println!("{}", markdown::table(name, &measured));
            }
            all.insert(name.to_owned(), measured);
        }
    };
    part("accept", &accept::compare);
    part("deliver", &deliver::compare);
    part("relay", &relay::compare);
    part("gateway", &gateway::compare);
    part("sendmail", &sendmail::compare);
    part("one-shot", &one_shot::compare);
    part("large", &large::measure);
    if options.json {
        println!(
            "{}",
            json!({"message_octets": MESSAGE_OCTETS, "parts": all})
        );
    }
}

fn options() -> Options {
    let postrider = std::env::var_os("POSTRIDER_BINARY").map(PathBuf::from);
    let mut options = Options {
        json: false,
        markdown: false,
        quick: false,
        rounds: 3,
        at_once: None,
        postrider: postrider
            .expect("POSTRIDER_BINARY says where `postrider` is (cargo xtask bench queue does)"),
        parts: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--markdown" => options.markdown = true,
            "--quick" => options.quick = true,
            "--rounds" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                options.rounds = number.filter(|n| *n > 0).expect("--rounds takes a number");
            }
            "--at-once" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                options.at_once = Some(number.expect("--at-once takes a number"));
            }
            // cargo's own
            "--bench" => {}
            part if PARTS.contains(&part) => options.parts.push(argument),
            other => panic!("neither an option nor one of {PARTS:?}: {other}"),
        }
    }
    options
}

fn message() -> Vec<u8> {
    message_of(MESSAGE_OCTETS)
}

fn message_of(octets: usize) -> Vec<u8> {
    let mut message =
        format!("From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: bench\r\n\r\n").into_bytes();
    while message.len() < octets {
        message.extend_from_slice(b"A line of a message that is like many others before it.\r\n");
    }
    message
}

fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().filter(|f| f.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Looks every millisecond; panics after ten minutes.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_mins(10),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A new one, where temporary files are or there.
fn directory(place: Option<&Path>) -> TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("postrider-bench-");
    match place {
        Some(place) => builder.tempdir_in(place),
        None => builder.tempdir(),
    }
    .expect("a directory")
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}
