//! Many processes at once, each with what it took.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::Ended;

/// One process of a crowd.
#[derive(Debug)]
pub(crate) struct Member {
    /// How it ended and what it printed.
    pub(crate) ended: Ended,
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// When it ended.
    pub(crate) ended_at: SystemTime,
    /// The processor's time it took, in itself and in the system.
    pub(crate) cpu: Duration,
}

/// Starts all `commands` at the same moment, and waits for the end of each.
pub(crate) fn all_at_once(commands: Vec<Command>) -> Vec<Member> {
    let start = Barrier::new(commands.len());
    thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = commands
            .into_iter()
            .map(|command| {
                scope.spawn(move || {
                    start.wait();
                    measured(command)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn measured(mut command: Command) -> Member {
    let started = SystemTime::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut all = Vec::new();
        errors.read_to_end(&mut all).unwrap();
        all
    });
    let mut printed = Vec::new();
    let mut output = child.stdout.take().unwrap();
    output.read_to_end(&mut printed).unwrap();
    // A process that has ended but was not waited for still tells what it took.
    let pid = Pid::from_child(&child);
    waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )
    .unwrap();
    let ended_at = SystemTime::now();
    let cpu = cpu_time(child.id());
    let status = child.wait().unwrap();
    Member {
        ended: Ended::new(status, printed, errors.join().unwrap()),
        wall: ended_at.duration_since(started).unwrap_or_default(),
        ended_at,
        cpu,
    }
}

/// `utime` and `stime` of proc(5), in hundredths of a second.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}
