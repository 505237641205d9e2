//! The C header against the Rust side of the plugin ABI.
//!
//! A C compiler says what it makes of `postrider_auth.h`: every size, every offset, every
//! constant. All must be what `postrider_plugin::abi` says, and every constant of the header
//! must be among them, so that neither side can move alone. The header also has to compile
//! without a warning as C11, and as C++11 where a C++ compiler is found.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use postrider_plugin::abi::{self, AuthV1, Bytes, Host, Sink};
use postrider_plugin::kit::Level;
use postrider_plugin::wire::Op;

/// Compares; the error says what differs, or what is missing to compare.
pub(crate) fn check() -> Result<(), String> {
    let include = include_dir()?;
    let header = include.join("postrider_auth.h");
    let text = fs::read_to_string(&header).map_err(|e| format!("{}: {e}", header.display()))?;
    let facts = rust_facts();
    for constant in constants(&text) {
        if !facts.iter().any(|(name, _)| name == constant) {
            return Err(format!(
                "{constant} of the header is not compared with anything in Rust"
            ));
        }
    }

    let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let answers = ask_c(&facts, &include, dir.path())?;
    let differences: Vec<String> = facts
        .iter()
        .zip(answers.lines())
        .filter(|((_, rust), c)| rust.to_string() != *c)
        .map(|((name, rust), c)| format!("{name}: {c} in C, {rust} in Rust"))
        .collect();
    if answers.lines().count() != facts.len() {
        return Err("the C program answered another number of questions".to_owned());
    }
    if !differences.is_empty() {
        return Err(format!(
            "header and Rust differ:\n  {}",
            differences.join("\n  ")
        ));
    }
    compile_as_cxx(&include, dir.path())
}

/// What C calls it, and the number that Rust has for it.
fn rust_facts() -> Vec<(String, i64)> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: i64| facts.push((name.to_owned(), value));
    add("PR_MAGIC", abi::MAGIC.into());
    add("PR_MAJOR", abi::MAJOR.into());
    add("PR_MINOR", abi::MINOR.into());
    add("PR_THREADSAFE", abi::THREADSAFE.into());
    add("PR_OP_LOGIN", Op::Login as i64);
    add("PR_OP_OBTAIN", Op::Obtain as i64);
    add("PR_OP_SASL", Op::Sasl as i64);
    add("PR_OP_REVOKE", Op::Revoke as i64);
    add("PR_DONE", abi::DONE.into());
    add("PR_YIELD", abi::YIELD.into());
    add("PR_E_CONFIG", abi::E_CONFIG.into());
    add("PR_E_NEEDS_USER", abi::E_NEEDS_USER.into());
    add("PR_E_INVALID_GRANT", abi::E_INVALID_GRANT.into());
    add("PR_E_TRANSIENT", abi::E_TRANSIENT.into());
    add("PR_E_DENIED", abi::E_DENIED.into());
    add("PR_E_PROTOCOL", abi::E_PROTOCOL.into());
    add("PR_E_UNSUPPORTED", abi::E_UNSUPPORTED.into());
    add("PR_E_INTERNAL", abi::E_INTERNAL.into());
    add("PR_LOG_ERROR", Level::Error as i64);
    add("PR_LOG_WARN", Level::Warn as i64);
    add("PR_LOG_INFO", Level::Info as i64);
    add("PR_LOG_DEBUG", Level::Debug as i64);
    add("PR_LOG_TRACE", Level::Trace as i64);
    add("PR_SINK_CAP", number(abi::SINK_CAP));
    add(
        "PR_STEP_LIMIT_MS",
        i64::try_from(abi::STEP_LIMIT.as_millis()).expect("two seconds"),
    );

    /// Size of a struct, then offset and size of each field.
    macro_rules! layout {
        ($c:literal, $rust:ty, $($field:ident)+) => {
            add(concat!("sizeof(", $c, ")"), number(size_of::<$rust>()));
            $(
                let offset = offset_of!($rust, $field);
                let size = field_size(|whole: &$rust| &whole.$field);
                add(concat!("offsetof(", $c, ", ", stringify!($field), ")"), number(offset));
                add(concat!("sizeof(((", $c, " *)0)->", stringify!($field), ")"), number(size));
            )+
        };
    }
    layout!("pr_bytes", Bytes, ptr len);
    layout!("pr_sink", Sink, ctx put);
    layout!("pr_host", Host, size abi ctx log);
    layout!("pr_auth_v1", AuthV1,
        magic major minor size flags describe create destroy begin step end);
    facts
}

fn field_size<Whole, Field>(_: fn(&Whole) -> &Field) -> usize {
    size_of::<Field>()
}

fn number(size: usize) -> i64 {
    i64::try_from(size).expect("no struct is that large")
}

/// The header's constants; not its macros for compilers (`PR_EXPORT`) and its own use (`PR_I_`).
fn constants(header: &str) -> impl Iterator<Item = &str> {
    header
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .filter(|name| *name != "PR_EXPORT" && !name.starts_with("PR_I_"))
}

/// One number a line, in the order of `facts`.
fn ask_c(facts: &[(String, i64)], include: &Path, dir: &Path) -> Result<String, String> {
    let mut source =
        String::from("#include <stdio.h>\n#include \"postrider_auth.h\"\nint main(void) {\n");
    for (name, _) in facts {
        writeln!(source, "    printf(\"%lld\\n\", (long long)({name}));").expect("to a string");
    }
    source.push_str("    return 0;\n}\n");
    let program = dir.join("layout");
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    compile(
        &cc,
        "-std=c11",
        include,
        &write(dir, "layout.c", &source)?,
        &program,
    )?;
    let output = run(&mut Command::new(&program))?;
    String::from_utf8(output.stdout).map_err(|e| format!("the C program's answer: {e}"))
}

/// The header, used as a C++ plugin would.
fn compile_as_cxx(include: &Path, dir: &Path) -> Result<(), String> {
    let cxx = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if Command::new(&cxx).arg("--version").output().is_err() {
        println!(
            "no C++ compiler ({}): the header was not tried as C++",
            cxx.display()
        );
        return Ok(());
    }
    let source = "#include \"postrider_auth.h\"\n\
        int main() { return pr_event_status(pr_str(\"{}\")); }\n";
    compile(
        &cxx,
        "-std=c++11",
        include,
        &write(dir, "header.cc", source)?,
        &dir.join("header"),
    )
}

fn compile(
    compiler: &OsStr,
    standard: &str,
    include: &Path,
    source: &Path,
    program: &Path,
) -> Result<(), String> {
    let mut include_flag = OsString::from("-I");
    include_flag.push(include);
    let mut command = Command::new(compiler);
    command
        .args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic"])
        .arg(include_flag)
        .arg("-o")
        .args([program, source]);
    run(&mut command).map(drop)
}

fn run(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().display().to_string();
    match command.output() {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => Err(format!(
            "{name} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(e) => Err(format!(
            "{name} did not start: {e} (a C compiler is a prerequisite)"
        )),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = dir.join(name);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

/// The header's directory, from any crate of the workspace: this file is part of two.
fn include_dir() -> Result<PathBuf, String> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|root| root.join("crates/plugin/include"))
        .find(|include| include.is_dir())
        .ok_or_else(|| "crates/plugin/include is not above this crate".to_owned())
}
