//! Scripts read and write beneath the configured directories, and nowhere else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use postrider_lua::Permissions;

use crate::world::World;

#[tokio::test]
async fn files_are_read_written_and_listed() {
    let world = World::with(&[("in/a.txt", "a\0\u{fc}"), ("in/folder/b", "b")]);
    let lines = world
        .lines(
            r#"print(#pr.fs.read "a.txt", pr.fs.read "folder/b", pr.fs.read "./folder//b")
print(pr.fs.write("new.txt", "one"), pr.fs.read "new.txt")
print(pr.fs.write("new.txt", "two\0"), #pr.fs.read "new.txt")
for _, entry in ipairs(pr.fs.list ".") do print(entry.name, entry.kind, entry.octets, entry.modified > 1e9) end"#,
        )
        .await;
    assert_eq!(
        lines,
        [
            "4\tb\tb",
            "true\tone",
            "true\t4",
            "a.txt\tfile\t4\ttrue",
            &format!(
                "folder\tdirectory\t{}\ttrue",
                fs::metadata(world.path("in/folder")).unwrap().len()
            ),
        ]
    );
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("out/new.txt"), 0o600);
    // What replaces a file keeps its mode, and nothing unfinished stays behind.
    fs::set_permissions(world.path("out/new.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    world
        .lines(r#"assert(pr.fs.write("new.txt", "three"))"#)
        .await;
    assert_eq!(mode("out/new.txt"), 0o640);
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 1);
}

#[tokio::test]
async fn an_absolute_path_must_begin_with_a_directory() {
    let world = World::with(&[("in/a", "inside"), ("inside", "hunter2")]);
    let [whole, beside] = ["in/a", "inside"].map(|name| world.path(name).display().to_string());
    let lines = world
        .lines(&format!(
            r#"print(pr.fs.read "{whole}")
print(select(2, pr.fs.read "{beside}").code)
print(select(2, pr.fs.read "{}/../inside").code)"#,
            world.path("in").display()
        ))
        .await;
    assert_eq!(lines, ["inside", "file.not_allowed", "file.not_allowed"]);
}

#[tokio::test]
async fn nothing_leads_out() {
    let world = World::with(&[("secret", "hunter2"), ("in/a", ""), ("out/a", "")]);
    for directory in ["in", "out"] {
        let link = |to: &str, name: &str| {
            symlink(to, world.path(&format!("{directory}/{name}"))).unwrap();
        };
        link("../secret", "relative");
        link("/etc/hostname", "absolute");
        link("..", "up");
        link("/proc/self/root", "magic");
    }
    let lines = world
        .lines(
            r#"for _, path in ipairs { "../secret", "a/../../secret", "relative", "absolute", "up/secret", "magic/etc/hostname" } do
  local octets, err = pr.fs.read(path)
  print(octets, err.code)
  local done, err = pr.fs.write(path, "x")
  print(done, err.code)
end
print(pcall(pr.fs.read, "a\0b"))
print(pcall(pr.fs.read, ""))"#,
        )
        .await;
    for line in &lines[..12] {
        assert!(
            matches!(
                line.as_str(),
                "nil\tfile.not_allowed" | "nil\tfile.not_regular" | "nil\tfile.missing"
            ),
            "{lines:?}"
        );
    }
    assert!(
        lines[12].ends_with("fs.read: a path is not empty and holds no NUL"),
        "{lines:?}"
    );
    assert_eq!(fs::read(world.path("secret")).unwrap(), b"hunter2");
}

#[tokio::test]
async fn only_regular_files_are_files() {
    let world = World::with(&[("in/a", ""), ("out/a", "")]);
    fs::create_dir(world.path("out/folder")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .args([world.path("in/pipe"), world.path("out/pipe")])
        .status();
    assert!(made.unwrap().success());
    fs::File::create(world.path("in/large"))
        .unwrap()
        .set_len((64 << 20) + 1)
        .unwrap();
    let lines = world
        .lines(
            r#"print(select(2, pr.fs.read "pipe").code)
print(select(2, pr.fs.read ".").code)
print(select(2, pr.fs.read "large").code)
print(select(2, pr.fs.read "none").code)
print(select(2, pr.fs.write("pipe", "x")).code)
print(select(2, pr.fs.write("folder", "x")).code)
print(select(2, pr.fs.write("none/x", "x")).code)
print(select(2, pr.fs.list "a").code)"#,
        )
        .await;
    assert_eq!(
        lines,
        [
            "file.not_regular",
            "file.not_regular",
            "file.too_large",
            "file.missing",
            "file.not_regular",
            "file.not_regular",
            "file.missing",
            "file.missing",
        ]
    );
}

#[tokio::test]
async fn without_a_directory_the_setting_is_named() {
    let script = r#"for _, f in ipairs { pr.fs.read, pr.fs.list, pr.csv.read, function(p) return pr.fs.write(p, "") end } do
  local _, err = f "x"
  print(err.code, err.remedy)
end
local ok, err = pcall(pr.env, "HOME")
print(ok, err.code, err.remedy)"#;
    let printed = World::with(&[])
        .run_with(Permissions::default(), script)
        .await
        .unwrap();
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        [
            "file.not_allowed\tname a directory in the configuration: [scripts.fs] read = [\"/…\"]",
            "file.not_allowed\tname a directory in the configuration: [scripts.fs] read = [\"/…\"]",
            "file.not_allowed\tname a directory in the configuration: [scripts.fs] read = [\"/…\"]",
            "file.not_allowed\tname a directory in the configuration: [scripts.fs] write = [\"/…\"]",
            "false\tenv.not_allowed\tadd it to [scripts] env in the configuration; a secret is had by pr.secret.env instead",
        ]
    );
}

#[tokio::test]
async fn a_variable_is_read_if_it_is_listed() {
    let lines = World::with(&[])
        .lines(r#"print(#pr.env "PATH" > 0, pr.env "POSTRIDER_TEST_UNSET")"#)
        .await;
    assert_eq!(lines, ["true\tnil"]);
}

/// Somebody who swaps a directory for a link, over and over, gains nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_for_a_link_is_not_won() {
    let world = World::with(&[("in/d/secret", "public"), ("elsewhere/secret", "hunter2")]);
    symlink(world.path("elsewhere"), world.path("in/link")).unwrap();
    let (at, link, spare) = (
        world.path("in/d"),
        world.path("in/link"),
        world.path("in/spare"),
    );
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let swapping = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            for (from, to) in [(&at, &spare), (&link, &at), (&at, &link), (&spare, &at)] {
                fs::rename(from, to).unwrap();
            }
        }
    });
    let lines = world
        .lines(
            r#"local seen = {}
for _ = 1, 2000 do seen[pr.fs.read "d/secret" or "refused"] = true end
print(seen.hunter2)"#,
        )
        .await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().unwrap();
    assert_eq!(lines, ["nil"]);
}
