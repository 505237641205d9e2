//! A person signs in: the authorization code flow through the sandbox's pages, clicked by a
//! real browser while `postrider account test` waits at a (pseudo-)terminal.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Peer, find_program, postrider, root, skip, write_private};

#[test]
fn a_browser_signs_in_and_the_account_sends_as_that_person() {
    let Some(chromium) = find_program("chromium") else {
        return skip("chromium is not installed");
    };
    let (Some(node), Some(script)) = (find_program("node"), find_program("script")) else {
        return skip("node or script (bsdutils) is not installed");
    };
    if !root()
        .join("tests/peers/node_modules/playwright-core")
        .exists()
    {
        return skip("playwright-core is not installed (npm ci in tests/peers)");
    }
    let home = tempfile::tempdir().unwrap();
    let (_sandbox, announced) = Peer::announcing(postrider().current_dir(home.path()).args([
        "--state-dir",
        "state",
        "--json",
        "sandbox",
    ]));
    // The account that the sandbox prints for a person, its public client and its mailbox.
    let config = announced["config"].as_str().unwrap();
    write_private(&home.path().join("postrider.toml"), config);
    let (user, password) = ("svc-mail@contoso.com", "svc-mail-password");

    // `script` gives the command a terminal: without one nobody could be asked.
    let mut at_terminal = Command::new(script)
        .args(["--quiet", "--flush", "--return", "--command"])
        .arg(format!(
            "{} --state-dir state account test sandbox-person",
            postrider().get_program().to_string_lossy()
        ))
        .arg("/dev/null")
        .current_dir(home.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(at_terminal.stdout.take().unwrap());
    let mut said = String::new();
    let url = loop {
        let mut line = String::new();
        assert_ne!(
            output.read_line(&mut line).unwrap(),
            0,
            "no sign-in was asked for: {said}"
        );
        said += &line;
        if line.trim().starts_with("https://") {
            break line.trim().to_owned();
        }
    };

    let clicked = Command::new(node)
        .arg(root().join("tests/peers/sign_in.js"))
        .arg(chromium)
        .args([&url, user, password])
        .output()
        .unwrap();
    assert!(
        clicked.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&clicked.stdout),
        String::from_utf8_lossy(&clicked.stderr)
    );
    let page: Value = serde_json::from_slice(&clicked.stdout).unwrap();
    assert!(
        page["url"]
            .as_str()
            .unwrap()
            .starts_with("http://localhost:"),
        "{page}"
    );

    output.read_to_string(&mut said).unwrap();
    assert!(at_terminal.wait().unwrap().success(), "{said}");
    assert!(said.contains("accepted  svc-mail@contoso.com"), "{said}");
    assert!(!said.contains(password), "{said}");
}
