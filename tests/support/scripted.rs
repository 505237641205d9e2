//! A user whose daemon runs scripts, and looks at files when it is told to.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::daemon::Daemon;
use super::home::Home;
use super::write_private;

/// Their home; the scripts are in `scripts.d`.
pub(crate) fn home(more: &str) -> Home {
    let home = Home::new(&config("watch = false", more));
    fs::create_dir(home.path().join("scripts.d")).unwrap();
    home
}

/// Its `postrider.toml`, with these lines under `[serve]` and more behind.
pub(crate) fn config(serve: &str, more: &str) -> String {
    format!("[scripts]\ndir = \"scripts.d\"\n\n[serve]\n{serve}\n\n{more}\n")
}

/// Writes a script where the daemon runs it.
pub(crate) fn script(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join("scripts.d").join(name);
    write_private(&path, text);
    path
}

/// Runs a schedule, and does not wait for its end.
#[track_caller]
pub(crate) fn run_now(daemon: &Daemon, schedule: &str) {
    let (status, answer) = daemon.ask("POST", &format!("/v1/schedules/{schedule}/run"));
    assert!((200..300).contains(&status), "{status} {answer}");
}

/// The same, and waits until the run has ended.
#[track_caller]
pub(crate) fn run_to_its_end(daemon: &Daemon, schedule: &str) {
    let path = format!("/v1/schedules/{schedule}/run");
    let (status, answer) = daemon.tell(&path, &json!({ "wait": true }));
    assert_eq!((status, &answer["ok"]), (200, &true.into()), "{answer}");
}

/// The names of the schedules, as the daemon lists them.
#[track_caller]
pub(crate) fn schedules(daemon: &Daemon) -> Vec<String> {
    let (status, answer) = daemon.ask("GET", "/v1/schedules");
    assert_eq!(status, 200, "{answer}");
    let list = answer.as_array().or(answer["schedules"].as_array());
    let names = list
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}
