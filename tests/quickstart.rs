//! The main job, end to end and offline: a script, the OAuth plugin, our session, the sandbox.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;

use support::{files, postrider, root, run, write_private};

#[test]
fn the_quickstart_ends_with_a_message_in_the_inbox_and_one_refusal_explained() {
    let state = tempfile::tempdir().unwrap();

    let ended = run(postrider()
        .current_dir(root())
        .arg("--state-dir")
        .arg(state.path())
        .args(["run", "--sandbox", "scripts/quickstart.lua"]))
    .expect_status(0);

    let arrived = files(&state.path().join("run-sandbox"), "eml");
    assert!(!arrived.is_empty(), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("Add-RecipientPermission"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains(".eml"), "{}", ended.stdout);
    if let Some(message) = support::parse_with_python(&arrived[0]) {
        assert_eq!(message["defects"], serde_json::json!([]));
        assert_eq!(message["from"], "alerts@contoso.com");
        assert_eq!(message["attachments"].as_array().unwrap().len(), 1);
        assert_eq!(message["bcc"], false);
    }
}

/// Sends from a script, through the embedded sandbox, and returns what arrived as Python's
/// `email` package reads it, once per message.
fn arrivals(script: &str, files_beside: &[(&str, &[u8])]) -> Option<Vec<serde_json::Value>> {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    for (name, octets) in files_beside {
        fs::write(home.join(name), octets).unwrap();
    }
    fs::write(home.join("script.lua"), format!("{ACCOUNT}\n{script}")).unwrap();
    run(postrider().current_dir(home).args([
        "--state-dir",
        "state",
        "run",
        "--sandbox",
        "script.lua",
    ]))
    .expect_status(0);
    files(&home.join("state/run-sandbox"), "eml")
        .iter()
        .map(|path| support::parse_with_python(path))
        .collect()
}

const ACCOUNT: &str = r#"
local pr = require "postrider"
local ops = pr.account {
  name = "ops", provider = "microsoft365", messages_per_minute = 100000,
  username = "svc-mail@contoso.com", sender = "alerts@contoso.com",
  auth = { plugin = "oauth", flow = "client_credentials",
           tenant = "contoso.onmicrosoft.com",
           client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
           client_secret = pr.secret.env "SANDBOX_CLIENT_SECRET" },
}
"#;

#[test]
fn every_octet_of_a_difficult_message_arrives() {
    let attachment: Vec<u8> = (0..20 * 1024 * 1024_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let Some(arrived) = arrivals(
        r#"
        local lines = { ".", "..", ".leading dot", ("x"):rep(998), ("ü"):rep(700), "tab\there", "end" }
        assert(ops:send {
          to = { "jörg@contoso.com", "Jane Doe <jane@contoso.com>" },
          cc = "copy@contoso.com", bcc = "hidden@contoso.com",
          subject = "Störung am Gerät №5 – " .. ("lang "):rep(30),
          text = table.concat(lines, "\n"),
          html = "<p>Größe</p>",
          attach = { { path = "big.bin" }, { data = ".\r\n..\r\n\0\255", name = "tiny.bin" } },
        })
        "#,
        &[("big.bin", &attachment)],
    ) else {
        return support::skip("python3 is not installed");
    };

    let message = &arrived[0];
    assert_eq!(message["defects"], serde_json::json!([]));
    assert!(
        message["subject"]
            .as_str()
            .unwrap()
            .starts_with("Störung am Gerät №5 – lang lang")
    );
    assert_eq!(
        message["to"],
        serde_json::json!(["jörg@contoso.com", "jane@contoso.com"])
    );
    assert_eq!(message["bcc"], false, "Bcc is never a header");
    let text = message["text"].as_str().unwrap().replace("\r\n", "\n");
    let expected = [
        ".".to_owned(),
        "..".to_owned(),
        ".leading dot".to_owned(),
        "x".repeat(998),
        "ü".repeat(700),
        "tab\there".to_owned(),
        "end".to_owned(),
    ]
    .join("\n");
    assert_eq!(text.trim_end_matches('\n'), expected);
    let attachments = message["attachments"].as_array().unwrap();
    assert_eq!(attachments[0]["octets"], attachment.len());
    assert_eq!(attachments[0]["sha256"], hex_sha256(&attachment));
    assert_eq!(attachments[1]["sha256"], hex_sha256(b".\r\n..\r\n\0\xff"));
}

#[test]
fn nothing_that_breaks_a_line_reaches_the_wire() {
    for (field, table) in [
        ("subject", r#"subject = "a\r\nBcc: x@contoso.com""#),
        ("subject", r#"subject = "a\0b""#),
        ("to", r#"to = "a@contoso.com>\r\nRCPT TO:<x@contoso.com""#),
        ("cc", r#"cc = { "a@contoso.com\n" }"#),
        ("bcc", r#"bcc = "a\r@contoso.com""#),
        ("from", r#"from = "a@contoso.com\r\n""#),
        ("reply_to", r#"reply_to = "a@contoso.com\r\nX: y""#),
        ("sender", r#"sender = "a@contoso.com\0""#),
        ("headers", r#"headers = { ["X-A\r\nBcc"] = "b" }"#),
        (
            "headers",
            r#"headers = { ["X-A"] = "b\r\nBcc: x@contoso.com" }"#,
        ),
        ("headers", r#"headers = { ["Bcc"] = "x@contoso.com" }"#),
        ("in_reply_to", r#"in_reply_to = "<a@b>\r\nX: y""#),
        ("message_id", r#"message_id = "<a@b>\r\nX: y""#),
        ("attach", r#"attach = { { data = "x", name = "a\r\nb" } }"#),
        (
            "attach",
            r#"attach = { { data = "x", name = "a", type = "text/plain\r\nX: y" } }"#,
        ),
        ("subject", r#"subject = ("x"):rep(100000)"#),
        ("to", r#"to = ("x"):rep(400) .. "@contoso.com""#),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        let script = format!(
            r#"{ACCOUNT}
            local message = {{ to = "admin@contoso.com", subject = "s", text = "t" }}
            for key, value in pairs {{ {table} }} do message[key] = value end
            local ok, err = pcall(function() return assert(ops:send(message)) end)
            assert(not ok, "it was sent")
            print(tostring(err))"#
        );
        fs::write(home.join("script.lua"), script).unwrap();

        let ended = run(postrider().current_dir(home).args([
            "--state-dir",
            "state",
            "run",
            "--sandbox",
            "script.lua",
        ]))
        .expect_status(0);

        assert!(ended.stdout.contains(field), "{table}: {}", ended.stdout);
        assert_eq!(
            files(&home.join("state/run-sandbox"), "eml").len(),
            0,
            "{table}"
        );
    }
}

#[test]
fn a_thousand_sends_at_once_all_arrive() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let scenario =
        fs::read_to_string(root().join("crates/sandbox/scenarios/default.toml")).unwrap();
    let mut scenario: toml_edit::DocumentMut = scenario.parse().unwrap();
    scenario["limits"]["messages_per_minute"] = toml_edit::value(100_000);
    fs::write(home.join("scenario.toml"), scenario.to_string()).unwrap();
    fs::write(
        home.join("script.lua"),
        format!(
            r#"{ACCOUNT}
            local sends = {{}}
            for number = 1, 1000 do
              sends[number] = function()
                return assert(ops:send {{ to = "admin@contoso.com", subject = "n" .. number, text = "t" }})
              end
            end
            pr.join(sends)"#
        ),
    )
    .unwrap();

    run(postrider()
        .current_dir(home)
        .args(["--state-dir", "state", "run", "--sandbox"])
        .args(["--scenario", "scenario.toml", "script.lua"]))
    .expect_status(0);

    let mut subjects: Vec<String> = files(&home.join("state/run-sandbox"), "eml")
        .iter()
        .map(|path| subject(path))
        .collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 1000);
}

#[test]
fn no_secret_reaches_a_log_or_an_error() {
    const CANARY: &str = "canary-7f3b1d-secret";
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let script = ACCOUNT.replace("SANDBOX_CLIENT_SECRET", "CANARY");
    fs::write(
        home.join("script.lua"),
        format!(
            r#"{script}
            print(tostring(ops), pr.json.encode(ops:check()))
            local receipt, err = ops:send {{ to = "admin@contoso.com", subject = "s", text = "t" }}
            print(receipt, tostring(err), pr.json.encode(err))
            print(pcall(pr.account, {{ name = "x", client_secret = "{CANARY}" }}))
            error("{}")"#,
            "done"
        ),
    )
    .unwrap();
    write_private(&home.join("empty.toml"), "");
    write_private(
        &home.join("postrider.toml"),
        format!("[account.a]\nclient_secret = \"{CANARY}\"\n"),
    );

    // The sandbox refuses the canary as a client secret, so every error path sees it.
    let script = run(postrider()
        .current_dir(home)
        .env("CANARY", CANARY)
        .args([
            "--config",
            "empty.toml",
            "--log",
            "trace",
            "--state-dir",
            "state",
        ])
        .args(["run", "--sandbox", "script.lua"]));
    let check = run(postrider()
        .current_dir(home)
        .args(["--log", "trace", "check"]));

    assert!(
        script.stdout.contains("7000215"),
        "{}\n{}",
        script.stdout,
        script.stderr
    );
    for (what, said) in [("script", &script), ("check", &check)] {
        assert_ne!(said.status, 0, "{what}");
        assert!(!said.stdout.contains(CANARY), "{what}: {}", said.stdout);
        assert!(!said.stderr.contains(CANARY), "{what}: {}", said.stderr);
    }
}

#[test]
fn no_token_reaches_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    fs::write(
        home.join("script.lua"),
        format!("{ACCOUNT} assert(ops:send {{ to = 'admin@contoso.com', subject = 's', text = 'tell nobody' }})"),
    )
    .unwrap();

    let ended = run(postrider().current_dir(home).args([
        "--log",
        "trace",
        "--state-dir",
        "state",
        "run",
        "--sandbox",
        "script.lua",
    ]))
    .expect_status(0);

    // Every JSON Web Token begins like this, and so does its Base64 in an AUTH command.
    for trace in ["eyJ", "dXNlcj1", "tell nobody", "daemon-client-secret"] {
        assert!(!ended.stderr.contains(trace), "{trace}: {}", ended.stderr);
        assert!(!ended.stdout.contains(trace), "{trace}: {}", ended.stdout);
    }
}

fn subject(message: &Path) -> String {
    fs::read_to_string(message)
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned))
        .unwrap()
}

fn hex_sha256(octets: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    format!("{:x}", Sha256::digest(octets))
}

/// Runs a script that queues, and says what the command printed.
fn run_script(script: &str, sandboxed: bool) -> support::Ended {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    write_private(&home.join("postrider.toml"), CONFIG);
    fs::write(home.join("script.lua"), script).unwrap();
    let sandbox: &[&str] = if sandboxed { &["--sandbox"] } else { &[] };
    let mut command = postrider();
    command
        .current_dir(home)
        .args(["--state-dir", "state", "run"])
        .args(sandbox)
        .arg("script.lua");
    run(&mut command).expect_status(0)
}

const CONFIG: &str = r#"
[account.ops]
provider = "microsoft365"
username = "svc-mail@contoso.com"
sender = "alerts@contoso.com"

[account.ops.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.onmicrosoft.com"
client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f"
client_secret = { env = "SANDBOX_CLIENT_SECRET" }
"#;

#[test]
fn what_a_script_queues_in_the_sandbox_has_arrived_when_its_end_is_told() {
    let described = ACCOUNT.replace("\"ops\"", "\"described\"");
    let ended = run_script(
        &format!(
            r#"{described}
            for _, account in ipairs {{ ops, pr.account "ops" }} do
              for i = 1, 5 do
                local message = {{ to = "ops@contoso.com", subject = "no. " .. i, wait = "queued" }}
                assert(account:send(message))
              end
            end
            assert(ops:send {{
              to = "late@contoso.com", subject = "later", text = "…",
              wait = "queued", send_at = os.time() + 3600,
            }})
            "#
        ),
        true,
    );

    let said = &ended.stdout;
    assert!(said.contains("The sandbox received 10 messages"), "{said}");
    let late = "late@contoso.com queued, not due before 20";
    assert!(said.contains(late), "{said}");
    assert_eq!(said.matches("@contoso.com queued").count(), 1, "{said}");
}

#[test]
fn a_script_in_the_sandbox_hears_what_became_of_what_it_queued() {
    let ended = run_script(
        r#"
        local pr = require "postrider"
        local delivered
        pr.on("queue.delivered", function(event) delivered = event.id end)
        local receipt = assert(pr.account "ops":send {
          to = "ops@contoso.com", subject = "Disk", text = "Full.", wait = "queued",
        })
        while not delivered do pr.sleep "20ms" end
        print(receipt.id == delivered)
        "#,
        true,
    );

    assert!(ended.stdout.contains("true"), "{}", ended.stdout);
}

#[test]
fn what_a_script_queues_outside_waits_for_a_daemon_and_the_command_says_so() {
    let ended = run_script(
        r#"
        local pr = require "postrider"
        assert(pr.account "ops":send {
          to = "ops@contoso.com", subject = "Disk", text = "Full.", wait = "queued",
        })
        "#,
        false,
    );

    let note =
        "1 message was queued and no daemon runs: `postrider serve` or `postrider queue flush`";
    assert!(ended.stderr.contains(note), "{}", ended.stderr);
}
