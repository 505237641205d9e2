//! Project chores: `cargo xtask CHORE`.

mod header;
mod scripts;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask CHORE

  demo           build in release, send through the offline Microsoft 365, show what arrived
  check-header   the C header against the Rust side of the plugin ABI
  docs           write the generated reference pages under docs/
  bench [--json] round trips, messages per second and CPU against other senders; then the queue
  bench queue [--json|--markdown] [--rounds N] [--at-once N] [--quick] [PART…]
                 the queue against Postfix and this machine's disk: accept deliver relay gateway
                 sendmail one-shot large
  bench keeper   what 100,000 grants cost; another number if it follows
  bench scripts  what scripts cost: a daemon with 1 and with 100, a hook, calls into Lua";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let chore = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match chore.as_str() {
        "demo" => demo(),
        "check-header" => header::check(),
        "docs" => docs(),
        "bench" => match rest.split_first() {
            Some((what, rest)) if what == "keeper" => bench_keeper(rest),
            Some((what, _)) if what == "scripts" => bench_scripts(),
            Some((what, rest)) if what == "queue" => bench_smtp("queue", rest),
            _ => bench_smtp("delivery", &rest).and_then(|()| bench_smtp("queue", &rest)),
        },
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no chore \"{other}\"\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Builds host and plugins as they ship, then runs the script a newcomer reads first.
fn demo() -> Result<(), String> {
    println!("Building the host and its plugins in release (the first time takes a few minutes) …");
    build_release()?;
    let state = target_dir().join("demo");
    run(Command::new(release_binary())
        .current_dir(root())
        .args(["run", "--sandbox", "--state-dir"])
        .arg(&state)
        .arg("scripts/quickstart.lua"))
}

/// Rewrites the pages that are generated from tables in the code; tests compare them.
fn docs() -> Result<(), String> {
    run(cargo()
        .args([
            "test",
            "--quiet",
            "--package",
            "postrider",
            "--test",
            "docs",
        ])
        .env("POSTRIDER_WRITE_DOCS", "1"))
}

/// A bench of what is sent, with the host as it ships.
fn bench_smtp(bench: &str, arguments: &[String]) -> Result<(), String> {
    build_release()?;
    run(cargo()
        .args([
            "bench",
            "--package",
            "postrider-smtp",
            "--bench",
            bench,
            "--",
        ])
        .args(arguments)
        .env("POSTRIDER_BINARY", release_binary()))
}

/// The keeper's load tests with very many grants, each in a process of its own: what is
/// measured is the whole process.
fn bench_keeper(arguments: &[String]) -> Result<(), String> {
    let grants = arguments.first().map_or("100000", String::as_str);
    for test in [
        "four_providers_see_an_hour_of_grants_within_their_caps",
        "one_provider_gets_no_more_than_its_cap_however_much_is_due",
        "starting_looks_at_each_record_once",
    ] {
        run(cargo()
            .args([
                "test",
                "--quiet",
                "--release",
                "--package",
                "postrider-auth",
                "--lib",
                "--",
            ])
            .args(["--exact", "--nocapture"])
            .arg(format!("keeper::simulation::load::{test}"))
            .env("POSTRIDER_KEEPER_GRANTS", grants))?;
    }
    Ok(())
}

fn bench_scripts() -> Result<(), String> {
    build_release()?;
    run(cargo().args(["bench", "--package", "postrider-lua", "--bench", "calls"]))?;
    scripts::bench(&release_binary())
}

/// The host, then each plugin as a library of its own kind only: with an `rlib` beside it, Cargo
/// would leave out link-time optimisation.
fn build_release() -> Result<(), String> {
    run(cargo().args(["build", "--release", "--package", "postrider"]))?;
    for plugin in ["postrider-plugin-oauth", "postrider-plugin-basic"] {
        run(cargo()
            .args(["rustc", "--release", "--package", plugin])
            .args(["--lib", "--crate-type", "cdylib"]))?;
    }
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Else ring, whose build script looks at it, is compiled anew for this and the next cargo.
    command.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(problem) => Err(format!("{name} did not start: {problem}")),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn release_binary() -> PathBuf {
    target_dir().join("release").join("postrider")
}
