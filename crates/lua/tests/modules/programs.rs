//! Programs run as they are listed, alone, and no longer than they may.

use std::time::{Duration, Instant};

use crate::world::World;

async fn lines(script: &str) -> Vec<String> {
    World::with(&[]).lines(script).await
}

#[tokio::test]
async fn a_program_is_run_without_a_shell() {
    let printed = lines(
        r#"local ended = assert(pr.run { "/bin/sh", "-c", 'printf "%s" "$1"; echo no >&2; exit 3', "sh", "$(id) ; *", timeout = "1m" })
print(ended.ok, ended.status, ended.signal, ended.stdout, ended.stderr)
local ended = assert(pr.run { "/bin/sh", "-c", "kill -9 $$" })
print(ended.ok, ended.status, ended.signal)
print(assert(pr.run { "/bin/cat", stdin = "a\0b" }).stdout == "a\0b")
print(assert(pr.run { "/bin/sh", "-c", "exit 0", stdin = string.rep("x", 1000000) }).ok)
print(assert(pr.run { "/bin/sh", "-c", "pwd", cwd = "/" }).stdout)"#,
    )
    .await;
    assert_eq!(
        printed,
        [
            "false\t3\tnil\t$(id) ; *\tno",
            "",
            "false\tnil\t9",
            "true",
            "true",
            "/",
            ""
        ]
    );
}

#[tokio::test]
async fn its_environment_is_what_it_is_given() {
    let printed = lines(
        r#"local ended = assert(pr.run { "/usr/bin/env", env = { A = "1", TOKEN = pr.secret.env "X", LANG = "C" } })
for line in ended.stdout:gmatch "[^\n]+" do
  if not line:match "^PATH=" and not line:match "^HOME=" then print(line) end
end"#,
    )
    .await;
    let mut printed = printed;
    printed.sort();
    assert_eq!(printed[..2], ["A=1", "LANG=C"]);
    assert!(printed[2].starts_with("POSTRIDER_RUN="), "{printed:?}");
    assert_eq!(printed[3..], ["TOKEN=hunter2"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_inherits_nothing_that_is_open() {
    use std::os::fd::AsRawFd as _;
    // Without close-on-exec, as a library in C may leave it.
    let open = std::fs::File::open("/dev/null").unwrap();
    let leaked = rustix::io::dup(&open).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let number = leaked.as_raw_fd();
    let printed = lines(&format!(
        r#"print(assert(pr.run {{ "/bin/sh", "-c", "test -e /proc/$$/fd/{number}; echo $?; ls /proc/$$/fd | wc -l" }}).stdout)"#
    ))
    .await;
    assert_eq!(printed[0], "1", "{printed:?}");
}

#[tokio::test]
async fn it_is_killed_with_all_that_it_started() {
    let world = World::with(&[]);
    let [pids, began] = [world.path("in/pids"), world.path("in/began")];
    std::fs::create_dir_all(world.path("in")).unwrap();
    let before = Instant::now();
    let script = format!(
        r#"local _, err = pr.run {{ "/bin/sh", "-c", "sleep 600 & echo $! $$ > {}; touch {}; sleep 600", timeout = "500ms" }}
print(err.code)
local _, err = pr.run {{ "/bin/sh", "-c", "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaa; done", max_octets = 1000 }}
print(err.code)"#,
        pids.display(),
        began.display()
    );
    assert_eq!(
        world.lines(&script).await,
        ["program.timeout", "program.output_too_large"]
    );
    assert!(before.elapsed() < Duration::from_mins(1));
    assert!(began.exists());
    for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
        ended(pid).await;
    }
}

/// The first of two leaves the group, the second its parent as well.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_leaves_its_group_is_killed_too_and_another_program_is_not() {
    let world = World::with(&[]);
    std::fs::create_dir_all(world.path("in")).unwrap();
    let folder = world.path("in");
    let folder = folder.display();
    let script = format!(
        r#"local function run(script, timeout)
  return pr.run {{ "/bin/sh", "-c", script, cwd = "{folder}", timeout = timeout }}
end
-- It ends by itself: what it leaves running may.
assert(run("setsid sleep 600 >/dev/null 2>&1 & echo $! > left"))
local _, err = run([[
  setsid sh -c 'echo $$ > moved; sleep 600' &
  (setsid sh -c 'echo $$ > orphan; sleep 600' &)
  while ! test -s moved || ! test -s orphan; do :; done
  touch began; sleep 600]], "1m")"#
    );
    let began = async {
        while !world.path("in/began").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = world.run(&script) => panic!("{ended:?}"),
        () = began => {}
    }

    let pid = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    ended(pid("in/moved").trim()).await;
    ended(pid("in/orphan").trim()).await;
    let left = pid("in/left");
    let status = std::fs::read_to_string(format!("/proc/{}/stat", left.trim())).unwrap_or_default();
    assert!(status.contains(") S "), "what was left running: {status}");
    let left = rustix::process::Pid::from_raw(left.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

/// Until the process is gone, or only waits to be buried.
async fn ended(pid: &str) {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = status.rsplit(") ").next().unwrap_or_default();
        if state.is_empty() || state.starts_with(['Z', 'X']) {
            return;
        }
        assert!(Instant::now() < limit, "{pid} lives: {status}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_the_program_along() {
    let world = World::with(&[]);
    std::fs::create_dir_all(world.path("in")).unwrap();
    let pid = world.path("in/pid");
    let script = format!(
        r#"pr.run {{ "/bin/sh", "-c", "echo $$ > {0}.new; mv {0}.new {0}; sleep 600" }}"#,
        pid.display()
    );
    let written = async {
        while !pid.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = world.run(&script) => panic!("{ended:?}"),
        () = written => {}
    }
    ended(std::fs::read_to_string(&pid).unwrap().trim()).await;
}

#[tokio::test]
async fn what_is_not_listed_is_not_run_and_misuse_is_told() {
    let world = World::with(&[]);
    let printed = world
        .lines(
            r#"local function failed(...) local _, err = pr.run(...) print(err.code, err.remedy) end
failed { "/bin/../bin/sh" }
failed { "sh", "-c", "id" }
failed { "/usr/bin/id" }
failed { "/nonexistent/x" }
failed { "/bin/sh", cwd = "/nonexistent" }
failed { "/bin/sh", stdin = pr.secret.vault "none" }
local function refused(...) print((select(2, pcall(pr.run, ...)):gsub("^[^ ]* ", ""))) end
refused {}
refused { "/bin/sh", 1 }
refused { "/bin/sh", "a\0" }
refused { "/bin/sh", pr.secret.env "X" }
refused { "/bin/sh", tiemout = 1 }
refused { "/bin/sh", cwd = "x" }
refused { "/bin/sh", env = { LD_PRELOAD = "/tmp/x.so" } }
refused { "/bin/sh", env = { ["A=B"] = "x" } }
refused { "/bin/sh", env = { A = 1 } }
refused { "/bin/sh", max_octets = 16777217 }"#,
        )
        .await;
    assert_eq!(
        printed,
        [
            "program.not_allowed\twrite /bin/sh, as the configuration has it",
            "program.not_allowed\twrite /bin/sh, as the configuration has it",
            "program.not_allowed\tallow it in the configuration: [scripts] run = [\"/usr/bin/id\"]",
            "program.failed\tnil",
            "program.failed\tnil",
            "secret.missing\tnil",
            "run: no program is named: write pr.run { \"/usr/bin/df\", \"-h\" }",
            "run: word 2 must be a string, got a number",
            "run: word 2 holds a NUL",
            "run: word 2 is a secret, and everybody on this machine can read what a program is started with: give it by 'stdin' or 'env'",
            "run: unknown field 'tiemout' (did you mean 'timeout'?)",
            "run: field 'cwd' must be an absolute path",
            "run: field 'env' may not set LD_PRELOAD, which changes what a program is",
            "run: field 'env' has 'A=B', which is no name of a variable",
            "run: field 'env.A' must be text without a NUL, or a pr.secret, got a number",
            "run: field 'max_octets' must be a number up to 16777216",
        ]
    );
}
