//! What a daemon with all its processes needs, as Linux counts it.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// A process and all that came of it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok())
            && let Some(fields) = stat(pid)
        {
            parents.insert(pid, u32::try_from(fields[1]).unwrap_or(0));
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while next < family.len() {
        let of = family[next];
        family.extend(
            parents
                .iter()
                .filter(|(_, parent)| **parent == of)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    family
}

/// Fields of `/proc/PID/stat` from the state on: `[1]` is the parent.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields = rest.split_whitespace();
    Some(fields.map(|field| field.parse().unwrap_or(0)).collect())
}

/// Seconds on a processor of all of them, and of those that have ended.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    // utime, stime, cutime, cstime, in hundredths on every Linux.
    let ticks: u64 = family(pid)
        .into_iter()
        .filter_map(stat)
        .map(|fields| fields[11..15].iter().sum::<u64>())
        .sum();
    crate::number(ticks) / 100.0
}

/// Memory of all of them, what they share counted once.
pub(crate) fn memory_kib(pid: u32) -> u64 {
    family(pid)
        .into_iter()
        .map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
        .sum()
}

/// The most that was ever resident of one process.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The largest memory that is seen by looking often.
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn of(pid: u32) -> Self {
        let (peak, ended) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (seen, over) = (Arc::clone(&peak), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.fetch_max(memory_kib(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            peak,
            ended,
            thread: Some(thread),
        }
    }

    pub(crate) fn peak_kib(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.peak.load(Ordering::Relaxed)
    }
}

/// `program`, and each flush of it and its children is counted: by perf, which costs them nothing,
/// or by strace, where there is no perf or it may not.
pub(crate) fn counting_syncs(to: &Path, program: &Path) -> Command {
    static HAS_PERF: LazyLock<bool> = LazyLock::new(|| {
        let looked = Command::new("perf")
            .args(PERF)
            .args(["--", "true"])
            .output();
        looked.is_ok_and(|looked| looked.status.success())
    });
    let mut command = if *HAS_PERF {
        let mut perf = Command::new("perf");
        perf.args(PERF).args(["-x", ",", "-o"]);
        perf
    } else {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync"])
            .args(["-e", "signal=none", "-o"]);
        strace
    };
    command.arg(to).arg("--").arg(program);
    command
}

const PERF: [&str; 3] = [
    "stat",
    "-e",
    "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync",
];

/// Flushes that were counted.
pub(crate) fn syncs(counted: &Path) -> Option<u64> {
    let text = fs::read_to_string(counted).ok()?;
    let lines = || text.lines().filter(|line| line.contains("sync"));
    // perf has a line for each call, with its number first; strace one for each time.
    let numbers = lines().filter(|line| line.contains("sys_enter"));
    let numbers: Vec<&str> = numbers.filter_map(|line| line.split(',').next()).collect();
    if numbers.is_empty() {
        return Some(lines().filter(|line| line.contains("sync(")).count() as u64);
    }
    numbers
        .into_iter()
        .map(|number| number.parse::<u64>().ok())
        .sum()
}

pub(crate) fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Ends what counts run; they end then.
pub(crate) fn terminate_child_of(counter: u32) {
    match family(counter).get(1) {
        Some(child) => terminate(*child),
        None => terminate(counter),
    }
}
