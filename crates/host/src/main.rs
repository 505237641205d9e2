//! The `postrider` binary.

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::Parser as _;
use postrider_host::cli::{Cli, Output};
use postrider_host::{failure::exit, log};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => {
            let status = if problem.use_stderr() { exit::USAGE } else { 0 };
            let _ = problem.print();
            return ExitCode::from(status);
        }
    };
    log::start(cli.log_level());
    std::panic::set_hook(Box::new(report_panic));
    let output = Output::new(cli.json());

    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("error: cannot start: {problem}");
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

/// A defect is said in two lines: no backtrace, and not the panic's own words, which may hold
/// what was being worked on.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    eprintln!(
        "error: internal error{place}\n  try: report it, with this line and the command that led to it"
    );
}
