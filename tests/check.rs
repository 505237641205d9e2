//! `postrider check` and `postrider types`: what a script's author asks before it runs.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
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

/// Each line with what is found in it.
const ACCOUNTS: &[(&str, &str)] = &[
    ("pr.account { name = \"a\", usernam = \"x\" }", "'username'"),
    (
        "pr.account { name = \"a\", server = { tls = \"startls\" } }",
        "'starttls'",
    ),
    (
        "pr.account { name = \"a\", timeouts = { connect = \"soon\" } }",
        "timeouts.connect",
    ),
    (
        "pr.account { name = \"a\", connections = \"many\" }",
        "a whole number",
    ),
    (
        "pr.account { name = \"a\", provider = \"microsft365\" }",
        "'microsoft365'",
    ),
    (
        "pr.account { name = \"a\", auth = { plugin = \"oauth\", tennant = \"x\" } }",
        "'tenant'",
    ),
    (
        "pr.account { name = \"a\", auth = { plugin = \"basic\", password = \"x\" } }",
        "pr.secret.env",
    ),
    ("local s = alerts:status() print(s.usernam)", "'usernam'"),
    (
        "local r = alerts:send {} print(r.mesage_id)",
        "'message_id'",
    ),
];

#[test]
fn an_account_that_a_script_describes_is_held_against_the_configuration_s_keys() {
    let home = home();
    let mut script =
        "local pr = require \"postrider\"; local alerts = pr.account \"alerts\"\n".to_owned();
    for (line, _) in ACCOUNTS {
        script += line;
        script += "\n";
    }
    fs::write(home.path().join("accounts.lua"), script).unwrap();

    let ended = check(&home, &["accounts.lua"]).expect_status(65);

    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), ACCOUNTS.len(), "{lines:#?}");
    for (number, (line, (_, word))) in (2..).zip(lines.iter().zip(ACCOUNTS)) {
        assert!(
            line.starts_with(&format!("accounts.lua:{number}:")),
            "{line}"
        );
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn a_gateways_certificate_is_shown_and_a_password_in_its_place_is_not() {
    let said = |home: &Home| {
        let ended = check(home, &[]);
        format!("{}{}", ended.stdout, ended.stderr)
    };
    let home = Home::new(
        "[account.a]\nusername = \"a@example.org\"\nserver = { host = \"smtp.example.org\" }\n\
         auth = { plugin = \"basic\", password = { env = \"X\" } }\n\
         [gateway.office]\ncertificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n",
    );
    let text = said(&home);
    assert!(text.contains("certificate = \"nowhere.pem\""), "{text}");

    let home = Home::new("[gateway.office]\npassword = \"hunter2\"\n");
    let text = said(&home);
    assert!(!text.contains("hunter2"), "{text}");
    let command = "postrider gateway credential add DEVICE --gateway office";
    assert!(text.contains(command), "{text}");
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
fn a_directory_without_scripts_is_said_to_be_one_and_what_is_hidden_is_passed_by() {
    let home = home();
    let hidden = home.path().join("empty/.postrider");
    fs::create_dir_all(&hidden).unwrap();
    fs::write(hidden.join("wrong.lua"), WRONG).unwrap();

    let ended = check(&home, &["empty"]).expect_status(66);
    assert_eq!(ended.stderr, "error: there is no *.lua in empty\n");

    fs::write(home.path().join("empty/right.lua"), "print 'hello'\n").unwrap();
    let ended = check(&home, &["--json", "empty"]).expect_status(0);
    assert_eq!(ended.json()["scripts"], json!(["empty/right.lua"]));
}

#[test]
fn where_nothing_is_nothing_is_said_to_be_right() {
    let home = Home::new("");
    fs::remove_file(home.path().join("postrider.toml")).unwrap();
    let ended = check(&home, &[]).expect_status(0);
    assert!(
        ended.stdout.contains("nothing was checked"),
        "{}",
        ended.stdout
    );
}

#[test]
fn the_scripts_that_ship_have_no_findings() {
    let scripts = root().join("scripts");
    let ended = check(&home(), &["--json", scripts.to_str().unwrap()]).expect_status(0);
    assert_eq!(ended.json()["findings"], Value::Array(Vec::new()));
}

/// Checks pieces of Lua, each a file of its own, and answers what is found and in which line.
fn found_in(pieces: &[(String, String)]) -> Vec<(String, String)> {
    let home = home();
    let directory = home.path().join("pieces");
    fs::create_dir(&directory).unwrap();
    for (name, source) in pieces {
        fs::write(directory.join(name), source).unwrap();
    }
    let answer = run(&mut home.postrider(["--json", "check", "pieces"])).json();
    let findings = answer["findings"].as_array().unwrap();
    let findings = findings.iter().map(|finding| {
        let file = Path::new(finding["file"].as_str().unwrap());
        let name = file.file_name().unwrap().to_str().unwrap();
        let (_, source) = pieces.iter().find(|(known, _)| known == name).unwrap();
        let number = finding["line"].as_u64().unwrap();
        let line = source.lines().nth(usize::try_from(number).unwrap() - 1);
        (
            line.unwrap_or_default().trim().to_owned(),
            format!("{name}:{number}: {}", finding["message"]),
        )
    });
    findings.collect()
}

#[test]
fn the_lua_of_the_book_has_no_findings() {
    let mut pieces = Vec::new();
    for page in support::files(&root().join("docs/src"), "md") {
        let name = page.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&page).unwrap();
        let blocks = text.split("```lua\n").skip(1);
        for (number, block) in blocks.enumerate() {
            let source = block.split("```").next().unwrap();
            // What an example of the book takes for granted.
            let given = if source.contains("require \"postrider\"") {
                ""
            } else {
                "local pr = require \"postrider\"; local account = pr.account \"alerts\"; local alerts = account; "
            };
            pieces.push((format!("{name}-{number}.lua"), format!("{given}{source}")));
        }
    }
    assert!(pieces.len() > 100, "only {}", pieces.len());

    assert_eq!(found_in(&pieces), []);
}

/// Lines of the engine's own tests that are wrong on purpose. A new one is marked
/// `-- postrider: ignore` there.
const MEANT: &[&str] = &[
    "print(receipt.message_id, #receipt.recipients, receipt.recipients[2], receipt.queued)",
    r#"other = pr.secret.credential "c", kept = pr.secret.vault "ops/x","#,
    "print(pcall(function() return secret.value end))",
    r#"check(coroutine.resume(coroutine.create(function() pr.sleep "soon" end)))"#,
    r#"check(pcall(coroutine.wrap(function() pr.sleep "soon" end)))"#,
    r#"print("first", event.account, event.generation, event.gone)"#,
    "shared = coroutine.create(function()",
    r#"if message.subject == "typo" then message.subjct = "x" return message end"#,
    r#"print(loads, pcall(require, "circle"))"#,
    "print(pcall(function() return hourly.nxt end))",
    r#"function() pr.every("1m", print) end,"#,
    r#"function() pr.cron("* * * * *", print) end,"#,
    r#"function() pr.after("1m", print, { name = "late" }) end,"#,
];

#[test]
fn the_lua_in_the_engine_s_own_tests_has_only_the_mistakes_it_is_about() {
    let mut pieces = Vec::new();
    for directory in ["lua", "modules"] {
        for file in support::files(&root().join("crates/lua/tests").join(directory), "rs") {
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&file).unwrap();
            for (number, (at, _)) in text.match_indices("r#\"").enumerate() {
                let source = text[at + 3..].split("\"#").next().unwrap();
                // What is put together while the test runs is no Lua yet.
                let is_whole = !text[..at].trim_end().ends_with("format!(");
                if source.contains("require \"postrider\"") && is_whole {
                    pieces.push((
                        format!("{directory}-{name}-{number}.lua"),
                        source.to_owned(),
                    ));
                }
            }
        }
    }
    assert!(pieces.len() > 40, "only {}", pieces.len());

    let found = found_in(&pieces);

    let stray: Vec<_> = found
        .iter()
        .filter(|(line, _)| !MEANT.contains(&line.as_str()))
        .collect();
    assert!(stray.is_empty(), "{stray:#?}");
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
fn definitions_are_for_a_directory_that_is_there() {
    let home = home();
    for place in ["nowhere", "scripts/good.lua"] {
        let ended = run(&mut home.postrider(["types", place])).expect_status(64);
        let told = format!("{place} is no directory");
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    }
    assert!(!home.path().join("nowhere").exists());
}

#[test]
fn an_editor_knows_the_keys_of_an_account() {
    let ended = run(&mut home().postrider(["types", "--stdout"])).expect_status(0);
    for line in [
        "---@field provider? ",
        "---@field server? postrider.AccountSettings.server",
        "---@field tls? \"starttls\"|\"implicit\"|\"danger_plaintext\"",
        "---@field client_secret? postrider.Secret|table",
    ] {
        assert!(ended.stdout.contains(line), "{line}");
    }
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
