//! `postrider check` and `postrider types`: what a script's author asks before it runs.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;

use serde_json::Value;
use support::home::Home;
use support::{Ended, root, run};

const WRONG: &str = r#"local pr = require "postrider"
local alerts = pr.account "alerts"
alerts:send { to = "a@example.org", subjct = "x" }
pr.every("5 parsecs", function() end)
pr.cron("61 * * * *", function() end)
pr.on("token.refreshd", print)
pr.slep "1s"
"#;

fn home() -> Home {
    let home = Home::new("");
    fs::create_dir(home.path().join("scripts")).unwrap();
    for (name, text) in [
        ("scripts/good.lua", "print 'hello'\n"),
        ("scripts/wrong.lua", WRONG),
        ("scripts/notes.txt", "this is no Lua"),
    ] {
        fs::write(home.path().join(name), text).unwrap();
    }
    home
}

fn check(home: &Home, arguments: &[&str]) -> Ended {
    let all = ["check"].into_iter().chain(arguments.iter().copied());
    run(&mut home.postrider(all))
}

#[test]
fn each_mistake_is_told_with_its_line_and_what_was_meant() {
    let ended = check(&home(), &["scripts/wrong.lua"]).expect_status(65);

    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for (line, (at, word)) in lines.iter().zip([
        (":3:", "'subject'"),
        (":4:", "5 parsecs"),
        (":5:", "61"),
        (":6:", "'token.refreshed'"),
        (":7:", "'sleep'"),
    ]) {
        assert!(
            line.starts_with(&format!("scripts/wrong.lua{at}")),
            "{line}"
        );
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn a_directory_stands_for_every_script_below_it() {
    let home = home();

    let ended = check(&home, &["--json", "scripts"]).expect_status(65);

    let answer = ended.json();
    assert_eq!(answer["ok"], false);
    let scripts = answer["scripts"].as_array().unwrap();
    assert_eq!(scripts, &["scripts/good.lua", "scripts/wrong.lua"]);
    let findings = answer["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 5);
    assert_eq!(findings[0]["file"], "scripts/wrong.lua");
    assert_eq!(findings[0]["line"], 3);
    assert_eq!(findings[0]["suggestion"], "subject");
    assert!(findings[0]["code"].as_str().unwrap().starts_with("script."));
}

#[test]
fn what_is_right_is_said_to_be_and_nothing_runs() {
    let home = home();
    let ended = check(&home, &["scripts/good.lua"]).expect_status(0);
    assert!(ended.stdout.contains("no problems"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("hello"));
}

#[test]
fn a_script_that_is_not_there_is_no_finding() {
    let ended = check(&home(), &["scripts/gone.lua"]).expect_status(66);
    assert!(
        ended.stderr.contains("scripts/gone.lua"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_scripts_that_ship_have_no_findings() {
    let scripts = root().join("scripts");
    let ended = check(&home(), &["--json", scripts.to_str().unwrap()]).expect_status(0);
    assert_eq!(ended.json()["findings"], Value::Array(Vec::new()));
}

#[test]
fn an_editor_gets_definitions_and_settings() {
    let home = home();

    run(&mut home.postrider(["types"])).expect_status(0);

    let definitions = home.path().join(".postrider/types/postrider.lua");
    assert!(
        fs::read_to_string(definitions)
            .unwrap()
            .starts_with("---@meta")
    );
    let settings = fs::read(home.path().join(".luarc.json")).unwrap();
    let settings: Value = serde_json::from_slice(&settings).unwrap();
    assert_eq!(settings["workspace.library"][0], ".postrider/types");
    // Again, after an update.
    let again = run(&mut home.postrider(["--json", "types"])).expect_status(0);
    assert_eq!(again.json()["settings_state"], "fit");
}

#[test]
fn an_editor_s_settings_of_somebody_else_s_are_left_alone() {
    let home = home();
    let settings = home.path().join(".luarc.json");
    fs::write(&settings, "{ \"hint.enable\": true }").unwrap();

    let ended = run(&mut home.postrider(["types"])).expect_status(0);

    assert!(ended.stdout.contains("left as it is"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("workspace.library"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        fs::read_to_string(settings).unwrap(),
        "{ \"hint.enable\": true }"
    );
}
