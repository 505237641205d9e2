//! In and out at once: messages a second, time on the processor, memory, start-up.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use postrider_smtp::TlsMode;
use serde_json::{Value, json};

use crate::{
    Options,
    daemon::Daemon,
    median, number,
    postfix::{self, Postfix, Then},
    process::{self, Watch},
    server::{Offer, Server},
    submit, wait_until,
};

const SUBMITTERS: [usize; 3] = [1, 10, 50];
const CONNECTIONS: usize = 10;

#[derive(Clone, Copy)]
pub(crate) struct Run {
    per_second: f64,
    cpu_per_thousand: f64,
    peak_mib: f64,
    idle_mib: f64,
    ready_ms: f64,
}

impl Run {
    pub(crate) const NAMES: [&'static str; 5] = [
        "messages_per_second",
        "cpu_seconds_per_1000",
        "peak_mib",
        "idle_mib",
        "ready_ms",
    ];

    fn figures(self) -> [f64; 5] {
        [
            self.per_second,
            self.cpu_per_thousand,
            self.peak_mib,
            self.idle_mib,
            self.ready_ms,
        ]
    }
}

pub(crate) fn compare(options: &Options) -> Value {
    let server = Server::start(TlsMode::Implicit);
    options.say("\naccepted and delivered, TLS and 10 connections out, no delay");
    options.say(&format!(
        "{:<12}{:<12}{:<12}{:>12}{:>14}{:>10}{:>10}{:>10}",
        "disk", "submitters", "", "messages/s", "CPU s/1,000", "peak MiB", "idle MiB", "ready ms"
    ));
    let mut rows = Vec::new();
    let mut disks = vec![("as TMPDIR", None)];
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        disks.push(("tmpfs", Some(memory)));
    }
    for (disk, path) in disks {
        for submitters in options.at_once(&SUBMITTERS) {
            let mut runs: [Vec<Run>; 3] = Default::default();
            for _ in 0..options.rounds {
                if postfix::missing().is_none() {
                    runs[0].push(postfix(options, &server, submitters, path));
                }
                for (runs, offer) in runs[1..]
                    .iter_mut()
                    .zip([Offer::Pipelining, Offer::Chunking])
                {
                    server.offer(offer);
                    runs.push(postrider(options, &server, submitters, path));
                }
            }
            for (name, runs) in ["Postfix", "DATA", "BDAT"].into_iter().zip(runs) {
                let Some(all) = medians(&runs) else { continue };
                let [rate, cpu, peak, idle, ready] = all;
                options.say(&format!(
                    "{disk:<12}{submitters:<12}{name:<12}{rate:>12.0}{cpu:>14.3}{peak:>10.1}{idle:>10.1}{ready:>10.1}"
                ));
                let mut row = json!({"disk": disk, "submitters": submitters, "sender": name});
                for (name, figure) in Run::NAMES.into_iter().zip(all) {
                    row[name] = figure.into();
                }
                rows.push(row);
            }
        }
    }
    Value::from(rows)
}

pub(crate) fn medians(runs: &[Run]) -> Option<[f64; 5]> {
    if runs.is_empty() {
        return None;
    }
    let nth = |index: usize| median(runs.iter().map(|run| run.figures()[index]));
    Some([nth(0), nth(1), nth(2), nth(3), nth(4)])
}

fn postfix(options: &Options, server: &Server, submitters: usize, disk: Option<&Path>) -> Run {
    server.forget();
    let postfix = Postfix::start_in(disk, &Then::Relay(server, CONNECTIONS));
    let submit = |messages| submit::to_postfix(postfix.smtpd, submitters, messages);
    let messages = options.count(3_000);
    observe(server, postfix.pid(), postfix.started_in, messages, &submit)
}

fn postrider(options: &Options, server: &Server, submitters: usize, disk: Option<&Path>) -> Run {
    server.forget();
    let daemon = Daemon::start_in(disk, &options.postrider, server, CONNECTIONS);
    let submit = |messages| submit::to_postrider(&daemon.socket(), submitters, messages);
    let messages = options.count(10_000);
    observe(server, daemon.pid(), daemon.started_in, messages, &submit)
}

pub(crate) fn observe(
    server: &Server,
    pid: u32,
    started_in: Duration,
    messages: u64,
    submit: &dyn Fn(u64) -> Duration,
) -> Run {
    // What start-up needed and nobody needs any more is given back.
    std::thread::sleep(Duration::from_secs(1));
    let idle = process::memory_kib(pid);
    let watch = Watch::of(pid);
    let (cpu, began) = (process::cpu_seconds(pid), Instant::now());
    submit(messages);
    wait_until("all is delivered", || server.taken().messages >= messages);
    let took = began.elapsed();
    // What is still to be written down belongs to it.
    std::thread::sleep(Duration::from_millis(100));
    let cpu = process::cpu_seconds(pid) - cpu;
    Run {
        per_second: number(messages) / took.as_secs_f64(),
        cpu_per_thousand: cpu * 1_000.0 / number(messages),
        peak_mib: number(watch.peak_kib().max(idle)) / 1_024.0,
        idle_mib: number(idle) / 1_024.0,
        ready_ms: started_in.as_secs_f64() * 1_000.0,
    }
}
