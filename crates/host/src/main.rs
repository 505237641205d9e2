//! The `postrider` binary.

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::Parser as _;
use postrider_host::cli::Cli;
use postrider_host::cli::output::{self, Output};
use postrider_host::cli::sendmail::as_called;
use postrider_host::{failure::exit, log};
use rustix::fs::Mode;
#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, setrlimit, umask};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    harden();
    give_back_large_blocks();
    let cli = match Cli::try_parse_from(as_called(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(problem) => {
            let status = if problem.use_stderr() { exit::USAGE } else { 0 };
            let _ = problem.print();
            return ExitCode::from(status);
        }
    };
    std::panic::set_hook(Box::new(report_panic));
    let output = Output::new(cli.json());
    match cli.log_level() {
        Ok(level) => log::start(level),
        Err(failure) => {
            output.failure(&failure);
            return ExitCode::from(failure.exit_code());
        }
    }

    let mut builder = if cli.is_concurrent() {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            output::complain(&format!("error: cannot start: {problem}"));
            return ExitCode::from(exit::SOFTWARE);
        }
    };
    let outcome = runtime.block_on(cli.run());
    // A plugin that never returned must not keep the process alive.
    runtime.shutdown_background();

    match outcome {
        Ok(status) => status,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What this process writes is its user's alone, and what it holds in memory leaves it neither
/// in a core dump nor through a debugger of another of the user's programs. Where the system
/// refuses, the rest still holds.
fn harden() {
    umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Blocks of this size are the system's again as soon as they are free: verifying a password takes
/// 19 MiB, for a moment. Unless it is told so, glibc raises the limit with every large block that
/// it gets back, and keeps all below it, for each thread apart.
fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 1024 * 1024;
        // SAFETY: the allocator's own setting, before there is a second thread.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// A defect is said in two lines: no backtrace, and not the panic's own words, which may hold
/// what was being worked on.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    output::complain(&format!(
        "error: internal error{place}\n  try: report it, with this line and the command that led to it"
    ));
}
