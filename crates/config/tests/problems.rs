//! The words a person reads when a settings file is wrong, letter by letter.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::fs;
use std::path::Path;

use postrider_config::{Config, Presets, edit};

/// `UPDATE_SNAPSHOTS=1` writes what is said now into the file it is compared with.
fn assert_said(settings: &str, snapshot: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let text = fs::read_to_string(directory.join(settings)).unwrap();
    let errors = Config::parse(&text, Some(Path::new(settings)), &Presets::builtin()).unwrap_err();
    let said = format!("{errors}\n");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!format!("{errors:?}").contains("hunter2"));
    let snapshot = directory.join(snapshot);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&snapshot, &said).unwrap();
    }
    let expected = fs::read_to_string(&snapshot).unwrap();
    assert!(said == expected, "{settings} says now:\n{said}");
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    assert_said("mistakes.toml", "mistakes.txt");
}

#[test]
fn every_mistake_about_scripts_and_the_daemon_is_reported_at_once() {
    assert_said("serving.toml", "serving.txt");
}

#[test]
fn every_line_that_is_no_toml_is_reported() {
    assert_said("broken.toml", "broken.txt");
}

fn said(octets: &[u8]) -> String {
    Config::parse_octets(octets.to_vec(), None, &Presets::builtin())
        .unwrap_err()
        .to_string()
}

#[test]
fn files_that_cannot_be_settings_are_refused_with_the_reason() {
    assert_eq!(
        said(b"[account.x]\nusername = \"a\xff\"\n"),
        "error: the settings file is not UTF-8: octet 25 of the file, in line 2\n   at: settings\n  try: save the file as UTF-8"
    );
    assert_eq!(
        said(&vec![b'#'; 1024 * 1024 + 1]),
        "error: the settings file is longer than 1 MiB\n   at: settings"
    );
    let load = |path: &Path| {
        let errors = Config::load(path, &Presets::builtin()).unwrap_err();
        errors.problems[0].message.clone()
    };
    let dir = tempfile::tempdir().unwrap();
    let not_regular = "the settings file is not a regular file";
    assert_eq!(load(dir.path()), not_regular);
    // A pipe that nobody writes to must not keep anybody waiting.
    let pipe = dir.path().join("pipe.toml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    assert_eq!(load(&pipe), not_regular);
    let refused = edit::get(&pipe, "account").unwrap_err().to_string();
    assert!(refused.ends_with("is not a regular file"), "{refused}");
    let missing = load(&dir.path().join("none.toml"));
    assert!(
        missing.starts_with("the settings file cannot be read: No such file"),
        "{missing}"
    );
}

#[test]
fn an_empty_file_has_no_accounts_and_no_problems() {
    for text in ["", "# nothing yet\n", "\u{feff}", "[account]\n[plugins]\n"] {
        let config = Config::parse(text, None, &Presets::builtin()).unwrap();
        assert!(config.accounts.is_empty());
    }
}

#[test]
fn key_given_twice_is_shown_where_it_is_repeated() {
    assert_eq!(
        said(b"[account.x]\nusername = \"a\"\r\nusername = \"b\"\n"),
        "error: duplicate key\n   at: settings:3:1\n  3 | username = \"b\"\n    | ^^^^^^^^"
    );
}

#[test]
fn a_thousand_mistakes_are_counted_and_a_hundred_shown() {
    let keys: Vec<String> = (0..1000).map(|n| format!("key{n} = 1")).collect();
    let text = keys.join("\n");
    let errors = Config::parse(&text, None, &Presets::builtin()).unwrap_err();
    assert_eq!(errors.problems.len(), 101);
    assert_eq!(
        errors.problems[100].message,
        "900 more problems are not listed"
    );
}

#[test]
fn deep_nesting_is_refused_before_it_hurts() {
    let deep = 20_000;
    for text in [
        format!("x = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("{}x = 1", "x.".repeat(deep)),
        format!("[{}x]", "x.".repeat(deep)),
        format!("x = {}", "{x=".repeat(deep)),
    ] {
        assert!(said(text.as_bytes()).contains("recurs"), "{}", &text[..20]);
    }
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    for value in [
        "token_endpoint = \"https://u:hunter2@id.example.org/token\"",
        "issuer = \"http://hunter2@id.example.org\"",
        "redirect_uri = \"x://u:hunter2@localhost\"",
        "allow_hosts = [\"https://u:hunter2@id.example.org\"]",
        "flow = \"https://u:hunter2@id.example.org",
    ] {
        let text = format!("[account.a.auth]\nplugin = \"oauth\"\n{value}\n");
        let errors = Config::parse(&text, None, &Presets::builtin()).unwrap_err();
        let shown = format!("{errors} {errors:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
